//! InsForge's protocol on the wire: what its SDKs send and expect, packet by packet. Each test names the requirement that
//! it covers.

use realtime_tests::token::{claims, in_seconds};
use realtime_tests::{PacketClient, Stack};
use serde_json::{Value, json};

use crate::fixtures::{ADA, GRACE, ROOMS, TABLE};

const ANON_KEY: &str = "anon_0123456789abcdef0123456789abcdef";
const API_KEY: &str = "ik_0123456789abcdef0123456789abcdef";

/// Rooms, and a key for pages and one for servers.
async fn rooms() -> Stack {
    let keys = format!("anon={ANON_KEY},service_role={API_KEY}");
    Stack::builder().sql(ROOMS).set("REALTIME_AUTH_KEYS", &keys).start().await
}

/// X-04, X-05, IF-37.
#[tokio::test]
async fn x_04_who_somebody_is_comes_with_the_connect_packet() {
    let stack = rooms().await;
    let token = stack.signer.user(ADA);
    for auth in [json!({ "token": token }), json!({ "token": ANON_KEY }), json!({ "apiKey": API_KEY })] {
        PacketClient::connect(stack.sidecar.address(), &auth).await;
    }
    let refused = [
        ("40", "No authentication provided"),
        ("40{}", "No authentication provided"),
        (r#"40{"token":null}"#, "No authentication provided"),
        (r#"40{"token":"a.b.c"}"#, "Invalid token"),
        (r#"40{"token":"anon_wrong"}"#, "Invalid anon key"),
        (r#"40{"apiKey":"ik_wrong"}"#, "Invalid API key"),
    ];
    for (packet, words) in refused {
        let mut client = PacketClient::open(stack.sidecar.address()).await;
        client.send(packet).await;
        let answer = client.packet().await;
        let told: Value = serde_json::from_str(answer.strip_prefix("44").expect(&answer)).unwrap();
        assert!(told["message"].as_str().unwrap().starts_with(words), "{packet}: {answer}");
    }
    // A wrong key is not made good by a token.
    let mut client = PacketClient::open(stack.sidecar.address()).await;
    client.send(&format!("40{}", json!({ "apiKey": "ik_wrong", "token": token }))).await;
    assert_eq!(client.packet().await, r#"44{"message":"Invalid API key"}"#);
    // Who was refused may try again.
    client.send(&format!("40{}", json!({ "token": token }))).await;
    assert!(client.packet().await.starts_with("40{"));
}

/// IF-15, IF-16, X-01.
#[tokio::test]
async fn if_15_a_subscription_is_answered_with_who_is_there() {
    let stack = rooms().await;
    let mut client = stack.packets_as(ADA).await;
    let answer = client.subscribe("room:1").await;
    assert_eq!((&answer["ok"], &answer["channel"]), (&json!(true), &json!("room:1")), "{answer}");
    assert!(answer["presence"]["members"].is_array(), "{answer}");
    let denied = client.subscribe("nowhere").await;
    assert_eq!((&denied["ok"], &denied["channel"]), (&json!(false), &json!("nowhere")), "{denied}");
    assert_eq!(denied["error"]["code"], "UNAUTHORIZED");
    assert!(denied["error"]["message"].is_string());
}

/// IF-18, IF-19, IF-25, IF-26, X-03, X-07.
#[tokio::test]
async fn if_19_a_publish_reaches_everybody_with_a_meta_that_nobody_forges() {
    let stack = rooms().await;
    let (mut ada, mut grace) = (stack.packets_as(ADA).await, stack.packets_as(GRACE).await);
    ada.publish("room:1", "said", &json!({})).await;
    let error = ada.event_named("realtime:error").await;
    assert_eq!((&error["channel"], &error["code"]), (&json!("room:1"), &json!("NOT_SUBSCRIBED")), "{error}");
    ada.subscribe("room:1").await;
    // As SDKs up to 1.4.3 do after a reconnect.
    grace.emit("realtime:subscribe", &json!({ "channel": "room:1" })).await;
    grace.subscribe("room:2").await;
    let forged = json!({ "text": "hi", "meta": { "senderId": GRACE, "senderType": "system" } });
    ada.publish("room:1", "said", &forged).await;
    for client in [&mut ada, &mut grace] {
        let said = client.event_named("said").await;
        assert_eq!(said["text"], "hi");
        let meta = &said["meta"];
        assert_eq!(
            (&meta["channel"], &meta["senderType"], &meta["senderId"]),
            (&json!("room:1"), &json!("user"), &json!(ADA))
        );
        assert!(meta["messageId"].is_string() && meta["timestamp"].is_string() && meta["offset"].is_i64(), "{meta}");
    }
    stack.exec("select realtime.publish('room:1', 'list', '[1, 2]')").await;
    let list = grace.event_named("list").await;
    assert_eq!((&list["value"], &list["meta"]["senderType"]), (&json!([1, 2]), &json!("system")));
    assert!(list["meta"].get("senderId").is_none());
    grace.emit("realtime:unsubscribe", &json!({ "channel": "room:1" })).await;
    grace.subscribe("room:3").await;
    stack.exec("select realtime.publish('room:1', 'e', '{}'), realtime.publish('room:3', 'last', '{}')").await;
    assert_eq!(grace.event().await.0, "last", "IF-17: nothing comes after unsubscribe");
}

/// Missed events come again for those who ask, and for nobody else (IF-35).
#[tokio::test]
async fn if_35_nothing_is_repeated_unless_since_asks_for_it() {
    let stack = rooms().await;
    let mut client = stack.packets_as(ADA).await;
    let offset = client.subscribe("room:1").await["offset"].clone();
    drop(client);
    stack.exec("select realtime.publish('room:1', 'missed', '{\"n\": 1}')").await;
    let mut plain = stack.packets_as(ADA).await;
    plain.subscribe("room:1").await;
    let mut back = stack.packets_as(ADA).await;
    let answer = back.ask("realtime:subscribe", &json!({ "channel": "room:1", "since": offset })).await;
    assert_eq!((&answer["ok"], &answer["recovered"]), (&json!(true), &json!(true)), "{answer}");
    assert_eq!(back.event_named("missed").await["n"], 1);
    stack.exec("select realtime.publish('room:1', 'next', '{}')").await;
    assert_eq!(plain.event_named("next").await["meta"]["channel"], "room:1");
    let mut lost = stack.packets_as(ADA).await;
    let answer = lost.ask("realtime:subscribe", &json!({ "channel": "room:1", "since": 1 })).await;
    assert_eq!(answer["recovered"], false, "{answer}");
    assert_eq!(lost.event_named("realtime:gap").await["channel"], "room:1");
}

#[tokio::test]
async fn rows_come_as_events_with_their_columns() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.packets_as(ADA).await;
    assert_eq!(client.subscribe("table:t").await["ok"], true);
    stack.exec("insert into t values (1, 'a'); update t set name = 'b'; delete from t").await;
    let insert = client.event_named("INSERT").await;
    assert_eq!(
        (&insert["id"], &insert["name"], &insert["meta"]["channel"]),
        (&json!(1), &json!("a"), &json!("table:t"))
    );
    let update = client.event_named("UPDATE").await;
    assert_eq!((&update["name"], &update["old_record"]["name"]), (&json!("b"), &json!("a")));
    assert_eq!(client.event_named("DELETE").await["old_record"]["id"], 1);
}

/// X-06: whoever is told to go by a packet does not come back by itself.
#[tokio::test]
async fn x_06_the_end_of_a_token_and_of_the_server_close_the_transport() {
    let mut stack = rooms().await;
    let mut short = claims(ADA);
    short["exp"] = json!(in_seconds(-8));
    let auth = json!({ "token": stack.signer.sign(&short) });
    let mut expiring = PacketClient::connect(stack.sidecar.address(), &auth).await;
    expiring.subscribe("room:1").await;
    let (packets, closed) = expiring.closed().await;
    assert!(packets.iter().all(|packet| !packet.starts_with("41")), "{packets:?}");
    assert_eq!(closed.code, 4401);
    let mut client = stack.packets_as(ADA).await;
    client.subscribe("room:1").await;
    let mut visitor = PacketClient::open(stack.sidecar.address()).await;
    stack.sidecar.stop().await;
    for client in [&mut client, &mut visitor] {
        let (packets, closed) = client.closed().await;
        assert_eq!((packets, closed.code), (Vec::new(), 1012));
    }
}

#[tokio::test]
async fn packets_that_are_none_end_the_connection() {
    let stack = rooms().await;
    for packet in ["42[]", "42[\"connect\"]", "40{}", "4x", "44", "42/other,[\"a\"]", "hello"] {
        let mut client = stack.packets_as(ADA).await;
        client.send(packet).await;
        let (told, closed) = client.closed().await;
        assert_eq!((told, closed.code), (Vec::new(), 4400), "{packet}");
    }
    let mut client = stack.packets_as(ADA).await;
    client.send_bytes(&[1, 2, 3]).await;
    assert_eq!(client.closed().await.1.code, 4400, "bytes that belong to no packet");
    let mut first = PacketClient::open(stack.sidecar.address()).await;
    first.send(r#"42["realtime:subscribe",{"channel":"room:1"}]"#).await;
    assert_eq!(first.closed().await.1.code, 4400, "nothing is heard before the CONNECT packet");
    let mut client = stack.packets_as(ADA).await;
    client.send("40/admin,").await;
    assert_eq!(client.packet().await, r#"44/admin,{"message":"Invalid namespace"}"#);
    client.send(r#"452-["realtime:publish",{"_placeholder":true,"num":0}]"#).await;
    client.send_bytes(&[1, 2, 3]).await;
    client.send_bytes(&[]).await;
    let error = client.event_named("realtime:error").await;
    assert_eq!(
        (&error["code"], error["message"].as_str().unwrap().starts_with("binary")),
        (&json!("INVALID_MESSAGE"), true)
    );
    assert_eq!(client.subscribe("room:1").await["ok"], true, "it goes on");
}

#[tokio::test]
async fn whoever_never_says_who_it_is_has_to_go() {
    let stack = Stack::builder().set("REALTIME_TIMING_CONNECT_MS", "300").start().await;
    let mut client = PacketClient::open(stack.sidecar.address()).await;
    client.send("40/other,").await;
    let (told, closed) = client.closed().await;
    assert_eq!((told.len(), closed.code), (1, 4400), "another namespace is no greeting");
}

/// K10 and K11.
#[tokio::test]
async fn codes_and_channels_can_be_those_of_the_live_system() {
    let stack = Stack::builder()
        .sql(ROOMS)
        .set("REALTIME_INSFORGE_ERROR_CODES", "live")
        .set("REALTIME_INSFORGE_META_CHANNEL", "prefixed")
        .start()
        .await;
    let mut client = stack.packets_as(ADA).await;
    assert_eq!(client.subscribe("nowhere").await["error"]["code"], "REALTIME_UNAUTHORIZED");
    client.publish("room:1", "said", &json!({})).await;
    assert_eq!(client.event_named("realtime:error").await["code"], "REALTIME_NOT_SUBSCRIBED");
    client.subscribe("room:1").await;
    client.publish("room:1", "said", &json!({})).await;
    assert_eq!(client.event_named("said").await["meta"]["channel"], "realtime:room:1");
}

/// X-17.
#[tokio::test]
async fn x_17_names_that_clients_keep_for_themselves_are_refused() {
    let stack = rooms().await;
    let mut client = stack.packets_as(ADA).await;
    client.subscribe("room:1").await;
    for event in ["connect", "disconnect", "newListener", "presence:join", "realtime:error"] {
        client.publish("room:1", event, &json!({})).await;
        let error = client.event_named("realtime:error").await;
        assert_eq!(
            (&error["channel"], &error["code"]),
            (&json!("room:1"), &json!("INVALID_MESSAGE")),
            "{event}: {error}"
        );
    }
    // The write survives, and nothing is sent.
    stack.exec("create table w (id int); insert into w select 1 where realtime.publish('room:1', 'disconnect', '{}') is null").await;
    assert_eq!(stack.text("select count(*) from w").await, "1");
    assert_eq!(stack.text("select count(*) from realtime.messages").await, "0");
}

fn member(kind: &str, id: &str) -> Value {
    json!({ "type": kind, "presenceId": id })
}

/// Members without the moment at which they joined, which must be there.
fn members(answer: &Value) -> Vec<Value> {
    let without_moment = |it: &Value| {
        assert!(it["joinedAt"].is_string(), "{it}");
        member(it["type"].as_str().unwrap(), it["presenceId"].as_str().unwrap())
    };
    answer["presence"]["members"].as_array().unwrap().iter().map(without_moment).collect()
}

/// X-01, X-02.
#[tokio::test]
async fn x_02_users_come_once_and_go_once() {
    let stack = rooms().await;
    let mut ada = stack.packets_as(ADA).await;
    assert_eq!(members(&ada.subscribe("room:1").await), [member("user", ADA)], "oneself is there");
    let mut grace = stack.packets_as(GRACE).await;
    assert_eq!(members(&grace.subscribe("room:1").await), [member("user", ADA), member("user", GRACE)]);
    let joined = ada.event_named("presence:join").await;
    assert_eq!((&joined["member"]["presenceId"], &joined["meta"]["channel"]), (&json!(GRACE), &json!("room:1")));
    assert_eq!(joined["meta"]["senderType"], "system");
    assert!(joined["meta"]["messageId"].is_string() && joined["meta"]["timestamp"].is_string(), "{joined}");
    // A second window of the same user is nobody new, and neither is subscribing again.
    let mut window = stack.packets_as(GRACE).await;
    window.subscribe("room:1").await;
    window.subscribe("room:1").await;
    drop(window);
    // Who shows no token is a member for each connection.
    let nameless = json!({ "token": ANON_KEY });
    let mut page = PacketClient::connect(stack.sidecar.address(), &nameless).await;
    let there = members(&page.subscribe("room:1").await);
    assert_eq!((there.len(), &there[2]["type"]), (3, &json!("anonymous")));
    let joined = ada.event_named("presence:join").await;
    assert_eq!(joined["member"]["presenceId"], there[2]["presenceId"], "nothing was told of the second window");
    page.emit("realtime:unsubscribe", &json!({ "channel": "room:1" })).await;
    assert_eq!(ada.event_named("presence:leave").await["member"], joined["member"]);
    assert_eq!(stack.sidecar.metric("realtime_presence_members").await, 2.0);
    drop(grace);
    assert_eq!(ada.event_named("presence:leave").await["member"]["presenceId"], GRACE);
    assert_eq!(members(&ada.subscribe("room:1").await), [member("user", ADA)]);
}

/// Who is there is told to those who may listen, and to nobody else; both protocols have one store.
#[tokio::test]
async fn presence_is_shared_by_the_protocols_and_ends_with_the_right() {
    let stack = rooms().await;
    let (mut ada, mut grace) = (stack.packets_as(ADA).await, stack.native_as(GRACE).await);
    ada.subscribe("room:1").await;
    let refused = grace.ask(json!({ "type": "presence", "channel": "room:1", "state": {} })).await;
    assert_eq!(refused.code(), "NOT_SUBSCRIBED", "{refused}");
    grace.subscribe("room:1").await;
    let answer = grace.ask(json!({ "type": "presence", "channel": "room:1", "state": { "busy": true } })).await;
    assert_eq!(answer.kind(), "ack", "{answer}");
    let sync = grace.expect("presence").await;
    assert_eq!((&sync["event"], sync["members"].as_array().unwrap().len()), (&json!("sync"), 2), "{sync}");
    assert_eq!((&sync["members"][1]["id"], &sync["members"][1]["state"]["busy"]), (&json!(GRACE), &json!(true)));
    let joined = ada.event_named("presence:join").await;
    assert_eq!(joined["member"]["presenceId"], GRACE);
    assert!(joined["member"].get("state").is_none(), "{joined}");
    grace.ask(json!({ "type": "presence", "channel": "room:1", "state": null })).await;
    grace.expect("presence").await;
    assert_eq!(ada.event_named("presence:leave").await["member"]["presenceId"], GRACE);
    // She still hears who comes.
    let mut other = PacketClient::connect(stack.sidecar.address(), &json!({ "token": ANON_KEY })).await;
    other.subscribe("room:1").await;
    let joined = grace.expect("presence").await;
    assert_eq!((&joined["event"], &joined["members"][0]["type"]), (&json!("join"), &json!("anonymous")), "{joined}");
    stack.exec("drop policy enter on realtime.channels; create policy enter on realtime.channels for select using (auth.uid() is not null)").await;
    assert_eq!(other.event_named("realtime:error").await["code"], "UNAUTHORIZED");
    let left = grace.expect("presence").await;
    assert_eq!((&left["event"], &left["members"][0]["id"]), (&json!("leave"), &joined["members"][0]["id"]), "{left}");
}
