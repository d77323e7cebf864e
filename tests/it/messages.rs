//! Messages: published by clients and by SQL, stored once, delivered to everybody on the channel.

use realtime_tests::Stack;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixtures::{ADA, GRACE, ROOMS, TABLE};

#[tokio::test]
async fn the_ack_comes_after_the_commit_and_everybody_gets_the_message() {
    let stack = Stack::with(ROOMS).await;
    let (mut ada, mut grace) = (stack.native_as(ADA).await, stack.native_as(GRACE).await);
    let ack = ada.subscribe("room:1").await;
    assert!(ack["columns"].is_null() && ack["key"].is_null(), "{ack}");
    grace.subscribe("room:1").await;
    let ack = ada.publish("room:1", "said", json!({"text": "hi"})).await;
    assert_eq!(ack.kind(), "ack", "{ack}");
    let id = ack["message_id"].as_str().unwrap();
    assert_eq!(stack.text(&format!("select payload ->> 'text' from realtime.messages where id = '{id}'")).await, "hi");
    let (mine, hers) = (ada.event().await, grace.event().await);
    assert_eq!(mine, hers);
    assert_eq!((&mine["payload"]["event"], &mine["payload"]["payload"]), (&json!("said"), &json!({"text": "hi"})));
    assert_eq!(mine["payload"]["meta"]["messageId"], id);
}

#[tokio::test]
async fn the_same_id_makes_no_second_message() {
    let stack = Stack::with(ROOMS).await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("room:1").await;
    let id = Uuid::new_v4().to_string();
    let frame = json!({"type": "publish", "channel": "room:1", "event": "e", "payload": 1, "message_id": id});
    let first = ada.ask(frame.clone()).await;
    assert_eq!((&first["message_id"], &first["duplicate"]), (&json!(id), &Value::Null));
    let second = ada.ask(frame.clone()).await;
    assert_eq!((&second["message_id"], &second["duplicate"]), (&json!(id), &json!(true)));
    ada.publish("room:1", "last", json!(2)).await;
    let events: Vec<_> = ada.events(2).await.iter().map(|event| event["payload"]["payload"].clone()).collect();
    assert_eq!(events, [1, 2]);
    // The same id for something else is a mistake, and somebody else's id is not a way to learn of it.
    let mut other = frame.clone();
    other["event"] = json!("different");
    assert_eq!(ada.ask(other).await.kind(), "error");
    let mut grace = stack.native_as(GRACE).await;
    grace.subscribe("room:1").await;
    assert_eq!(grace.ask(frame).await.kind(), "error");
    assert_eq!(stack.text("select count(*) from realtime.messages").await, "2");
}

/// A token need not say who somebody is, and a lost ack can meet anybody.
#[tokio::test]
async fn who_has_no_name_may_repeat_a_publish_too() {
    let stack = Stack::builder()
        .sql(ROOMS)
        .sql("create policy shout on realtime.messages for insert to anon with check (true);")
        .start()
        .await;
    let mut stranger = stack.native().await;
    stranger.subscribe("room:1").await;
    let id = Uuid::new_v4().to_string();
    let frame = json!({"type": "publish", "channel": "room:1", "event": "e", "payload": 1, "message_id": id});
    assert_eq!(stranger.ask(frame.clone()).await["duplicate"], Value::Null);
    assert_eq!(stranger.ask(frame.clone()).await["duplicate"], true);
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("room:1").await;
    assert_eq!(ada.ask(frame).await.kind(), "error", "it is a stranger's, not hers");
    assert_eq!(stack.text("select count(*) from realtime.messages").await, "1");
}

#[tokio::test]
async fn publishing_needs_a_subscription() {
    let stack = Stack::with(ROOMS).await;
    let mut ada = stack.native_as(ADA).await;
    let answer = ada.publish("room:1", "e", json!({})).await;
    assert_eq!((answer.code(), &answer["channel"]), ("NOT_SUBSCRIBED", &json!("room:1")));
    ada.subscribe("room:1").await;
    ada.unsubscribe("room:1").await;
    assert_eq!(ada.publish("room:1", "e", json!({})).await.code(), "NOT_SUBSCRIBED");
    assert_eq!(stack.text("select count(*) from realtime.messages").await, "0");
}

#[tokio::test]
async fn every_json_value_is_a_payload() {
    let stack = Stack::with(ROOMS).await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("room:1").await;
    for payload in
        ["null", "true", "9007199254740993", "1.10", "-0.5", "\"tex\\\"t 🎉\"", "[1, [2]]", "{\"a\": {\"b\": []}}"]
    {
        let frame = format!(r#"{{"type":"publish","channel":"room:1","event":"e","payload":{payload}}}"#);
        ada.send_text(&frame).await;
        assert!(ada.find("the ack", |frame| frame.kind() == "ack").await["message_id"].is_string());
        assert_eq!(ada.event().await.raw(&["payload", "payload"]), payload);
    }
    // What jsonb cannot hold is refused, and the connection stays.
    ada.send_text(r#"{"type":"publish","channel":"room:1","event":"e","payload":"\u0000"}"#).await;
    assert_eq!(ada.expect("error").await.code(), "INVALID_MESSAGE");
    assert_eq!(ada.publish("room:1", "e", json!(1)).await.kind(), "ack");
}

#[tokio::test]
async fn a_client_chooses_event_names() {
    let stack = Stack::with(ROOMS).await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe_with(json!({"channel": "room:1", "events": ["wanted"]})).await;
    stack.exec("select realtime.publish('room:1', e, '{}') from unnest(array['other', 'wanted', 'Wanted']) e").await;
    stack.exec("select realtime.publish('room:1', 'wanted', '{\"last\": true}')").await;
    let events = client.events(2).await;
    assert_eq!(events[1]["payload"]["payload"]["last"], true);
}

#[tokio::test]
async fn bad_names_are_refused_with_the_reason() {
    let stack = Stack::with(ROOMS).await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("room:1").await;
    assert_eq!(ada.publish("room:1", "", json!({})).await.code(), "INVALID_MESSAGE");
    assert_eq!(ada.publish("room:1", &"e".repeat(256), json!({})).await.code(), "INVALID_MESSAGE");
    let answer = ada
        .ask(json!({"type": "publish", "channel": "room:1", "event": "e", "payload": {}, "message_id": "not a uuid"}))
        .await;
    assert_eq!(answer.code(), "INVALID_MESSAGE");
    assert!(answer["error"].as_str().unwrap().contains("message_id"), "{answer}");
    assert_eq!(stack.text("select count(*) from realtime.messages").await, "0");
}

#[tokio::test]
async fn nobody_publishes_to_a_table() {
    let stack = Stack::with(TABLE).await;
    stack
        .exec(
            "insert into realtime.channels (pattern) values ('%');
             create policy enter on realtime.channels for select using (true);
             create policy speak on realtime.messages for insert with check (true);",
        )
        .await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("table:t").await;
    assert_eq!(ada.publish("table:t", "INSERT", json!({})).await.code(), "INVALID_CHANNEL");
    assert_eq!(stack.text("select realtime.publish('table:t', 'INSERT', '{}')").await, "");
    // No pattern matches a table's channel either.
    stack.exec("select realtime.disable_realtime('t')").await;
    // Whoever listens is told within a second; until then the verdict stands for others too.
    ada.find("the end of the subscription", |frame| frame["final"] == true).await;
    let answer = stack.native_as(GRACE).await.try_subscribe(json!({"channel": "table:t"})).await;
    assert_eq!(answer.code(), "UNAUTHORIZED");
}

#[tokio::test]
async fn messages_and_rows_of_a_transaction_come_together_in_their_order() {
    let stack = Stack::with(&format!("{ROOMS}{TABLE}")).await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("room:1").await;
    client.subscribe("table:t").await;
    stack
        .exec(
            "begin; insert into t values (1); select realtime.publish('room:1', 'between', '{}');
             insert into t values (2); commit",
        )
        .await;
    let events = client.events(3).await;
    let channels: Vec<_> = events.iter().map(|event| event["channel"].as_str().unwrap()).collect();
    assert_eq!(channels, ["table:t", "room:1", "table:t"]);
    assert!(events.iter().all(|event| event["txn"] == events[2]["offset"]));
}

#[tokio::test]
async fn a_deleted_message_is_skipped() {
    let stack = Stack::with(ROOMS).await;
    let start = stack.text("select head from realtime.status()").await.parse::<i64>().unwrap();
    stack.exec("select realtime.publish('room:1', e, '{}') from unnest(array['a', 'b', 'c']) e").await;
    stack.exec("delete from realtime.messages where event_name = 'b'").await;
    stack.sidecar.ready().await;
    let mut stack = stack;
    // Not from the sidecar's memory, which may have read it before.
    stack.sidecar.stop().await;
    stack.sidecar.start_again();
    stack.sidecar.ready().await;
    let mut client = stack.native_as(ADA).await;
    let ack = client.resume("room:1", start).await;
    assert_eq!(ack["recovered"], true);
    let events: Vec<_> = client.events(2).await.iter().map(|event| event["payload"]["event"].clone()).collect();
    assert_eq!(events, ["a", "c"]);
}

#[tokio::test]
async fn cg_13_notifications_carry_no_data() {
    let stack = Stack::with(&format!("{ROOMS}{TABLE}")).await;
    let url = stack.server().url("postgres", stack.name());
    let (listener, mut connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let (heard, mut notifications) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let tokio_postgres::AsyncMessage::Notification(it) = message {
                let _ = heard.send((it.channel().to_owned(), it.payload().to_owned()));
            }
        }
    });
    listener.batch_execute("listen realtime; listen fluxbase_changes; listen realtime_message").await.unwrap();
    let mut client = stack.native_as(ADA).await;
    client.subscribe("table:t").await;
    stack.exec("insert into t values (1, 'canary'); select realtime.publish('room:1', 'e', '{\"canary\": 1}')").await;
    client.event().await;
    let heard = realtime_tests::within(realtime_tests::PATIENCE, "a bell", notifications.recv()).await.unwrap();
    assert_eq!(heard, ("realtime".to_owned(), String::new()));
    while let Ok((channel, payload)) = notifications.try_recv() {
        assert_eq!((channel.as_str(), payload.as_str()), ("realtime", ""));
    }
}

/// The worker looks for old ones every ten seconds, between two ticks.
#[tokio::test]
async fn neither_retention_nor_a_list_reads_all_messages() {
    let stack = Stack::with(ROOMS).await;
    // Not events of the log: this is about their table.
    let messages = "insert into realtime.messages (channel_name, event_name, created_at)
                    select 'room:' || n % 100, 'said', now() - n * interval '1 second' from generate_series(1, 20000) n";
    let deliveries = "insert into realtime.webhook_deliveries (message_id, url, host, state, created_at)
                      select id, 'https://example.com/', 'example.com', 'delivered', created_at from realtime.messages";
    stack.exec(&format!("set session_replication_role = replica; {messages}; {deliveries}")).await;
    stack.exec("reset session_replication_role").await;
    stack.exec("vacuum analyze realtime.messages, realtime.webhook_deliveries").await;
    for (look, table) in [
        ("realtime.cleanup_messages(10000)", "messages"),
        ("realtime.admin_messages(null, null, 100, 0, 1000000)", "messages"),
        ("realtime.cleanup_webhook_deliveries(10000)", "webhook_deliveries"),
    ] {
        let read = stack.rows_read(&format!("select count(*) from {look}"), &format!("relname = '{table}'")).await;
        assert!(read < 200, "{look}: {read} rows");
    }
}
