//! Row changes reach the subscribers of their table: all that committed, in the order of commits, and nothing else.

use realtime_tests::{Client, Stack};
use serde_json::json;

use crate::fixtures::TABLE;

/// Asserts that nothing came before a row that is inserted now.
async fn assert_quiet(stack: &Stack, client: &mut Client) {
    stack.exec("insert into t values (424242)").await;
    let event = client.event().await;
    assert_eq!(event.record()["id"], 424_242, "something came before the fence: {event}");
}

#[tokio::test]
async fn the_first_frame_says_who_and_where() {
    let stack = Stack::with(TABLE).await;
    let client = stack.native_as("ada").await;
    let hello = client.hello();
    assert_eq!((&hello["role"], &hello["user"]), (&json!("authenticated"), &json!("ada")));
    assert_eq!(hello.offset().to_string(), stack.text("select head from realtime.status()").await);
    assert_eq!(hello["limits"]["subscriptions"], 100);
    assert!(hello["expires_at"].is_string());
    assert_eq!(stack.native().await.hello()["role"], "anon");
}

#[tokio::test]
async fn each_operation_has_its_form() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    let ack = client.subscribe("table:t").await;
    assert_eq!((&ack["key"], &ack["recovered"]), (&json!(["id"]), &json!(true)));
    assert_eq!(ack["columns"], json!([{"name": "id", "type": "integer"}, {"name": "name", "type": "text"}]));
    stack.exec("insert into t values (1, 'one')").await;
    stack.exec("update t set name = 'eins' where id = 1").await;
    stack.exec("delete from t where id = 1").await;
    stack.exec("truncate t").await;
    let events = client.events(4).await;
    for (event, expected) in events.iter().zip([
        json!({"type": "INSERT", "record": {"id": 1, "name": "one"}}),
        json!({"type": "UPDATE", "record": {"id": 1, "name": "eins"}, "old_record": {"id": 1, "name": "one"}}),
        json!({"type": "DELETE", "old_record": {"id": 1, "name": "eins"}}),
        json!({"type": "TRUNCATE"}),
    ]) {
        let mut payload = event["payload"].clone();
        let members = payload.as_object_mut().unwrap();
        assert!(members.remove("timestamp").is_some());
        assert_eq!((members.remove("schema"), members.remove("table")), (Some(json!("public")), Some(json!("t"))));
        assert_eq!(payload, expected);
        assert_eq!(event["txn"], event["offset"]);
    }
}

#[tokio::test]
async fn a_changed_key_shows_both_keys() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("insert into t values (1, 'one'); update t set id = 2").await;
    let event = client.events(2).await.remove(1);
    assert_eq!((&event.old_record()["id"], &event.record()["id"]), (&json!(1), &json!(2)));
}

#[tokio::test]
async fn a_transaction_comes_whole_and_in_its_order() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("begin; insert into t values (1, 'a'); insert into t values (2, 'b'); update t set name = 'c' where id = 1; delete from t where id = 2; commit").await;
    let events = client.events(4).await;
    let kinds: Vec<_> = events.iter().map(|event| event["payload"]["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["INSERT", "INSERT", "UPDATE", "DELETE"]);
    let last = events[3].offset();
    assert!(events.iter().all(|event| event["txn"] == last), "{events:?}");
    assert_eq!(events[0].offset() + 3, last, "contiguous");
}

#[tokio::test]
async fn what_is_rolled_back_never_comes() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("begin; insert into t values (1); rollback").await;
    stack
        .exec("begin; insert into t values (2); savepoint s; insert into t values (3); rollback to s; insert into t values (4); commit")
        .await;
    let ids: Vec<_> = client.events(2).await.iter().map(|event| event.record()["id"].clone()).collect();
    assert_eq!(ids, [2, 4]);
    assert!(stack.try_exec("insert into t values (5); select 1/0").await.is_err());
    assert_quiet(&stack, &mut client).await;
}

#[tokio::test]
async fn commits_give_the_order_and_nobody_waits_for_an_open_transaction() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    let slow = stack.session().await;
    slow.batch_execute("begin; insert into t values (1)").await.unwrap();
    stack.exec("insert into t values (2)").await;
    assert_eq!(client.event().await.record()["id"], 2);
    slow.batch_execute("commit").await.unwrap();
    assert_eq!(client.event().await.record()["id"], 1);
}

#[tokio::test]
async fn a_prepared_transaction_comes_when_it_is_committed() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    let name = stack.name().to_owned();
    stack.exec(&format!("begin; insert into t values (1); prepare transaction '{name}-1'")).await;
    stack.exec(&format!("begin; insert into t values (2); prepare transaction '{name}-2'")).await;
    stack.exec("insert into t values (3)").await;
    assert_eq!(client.event().await.record()["id"], 3);
    stack.exec(&format!("rollback prepared '{name}-2'")).await;
    stack.exec(&format!("commit prepared '{name}-1'")).await;
    assert_eq!(client.event().await.record()["id"], 1);
    assert_quiet(&stack, &mut client).await;
}

#[tokio::test]
async fn every_way_of_writing_is_captured() {
    let stack = Stack::with(
        "create table t (id int primary key, name text, parent int references t on delete cascade);
         create function upcase() returns trigger language plpgsql as 'begin new.name := upper(new.name); return new; end';
         create trigger a before insert or update on t for each row execute function upcase();
         select realtime.enable_realtime('t'); grant select on t to anon;",
    )
    .await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("insert into t select i, 'n' || i, case when i > 1 then 1 end from generate_series(1, 3) i").await;
    stack.exec("insert into t values (1, 'again') on conflict (id) do update set name = excluded.name").await;
    stack
        .exec("merge into t using (values (2)) v(id) on t.id = v.id when matched then update set name = 'merged'")
        .await;
    stack.exec("delete from t where id = 1").await;
    let events = client.events(8).await;
    let seen: Vec<String> = events
        .iter()
        .map(|event| {
            let row = if event.record().is_null() { event.old_record() } else { event.record() };
            format!("{} {} {}", event["payload"]["type"].as_str().unwrap(), row["id"], row["name"].as_str().unwrap())
        })
        .collect();
    assert_eq!(seen[..5], ["INSERT 1 N1", "INSERT 2 N2", "INSERT 3 N3", "UPDATE 1 AGAIN", "UPDATE 2 MERGED"]);
    let mut deleted = seen[5..].to_vec();
    deleted.sort_unstable();
    assert_eq!(deleted, ["DELETE 1 AGAIN", "DELETE 2 MERGED", "DELETE 3 N3"]);
}

#[tokio::test]
async fn everybody_gets_the_same_offsets() {
    let stack = Stack::with(TABLE).await;
    let (mut one, mut two) = (stack.native().await, stack.native_as("ada").await);
    one.subscribe("table:t").await;
    two.subscribe("table:public.t").await;
    stack.exec("insert into t select i from generate_series(1, 50) i").await;
    stack.exec("update t set name = 'x'").await;
    let (one, two) = (one.events(100).await, two.events(100).await);
    for (one, two) in one.iter().zip(&two) {
        assert_eq!((&one["offset"], &one["txn"], &one["payload"]), (&two["offset"], &two["txn"], &two["payload"]));
        assert_eq!((&one["channel"], &two["channel"]), (&json!("table:t"), &json!("table:public.t")));
    }
}

#[tokio::test]
async fn columns_without_the_privilege_are_absent() {
    let stack = Stack::with(
        "create table t (id int primary key, name text, secret text);
         select realtime.enable_realtime('t'); grant select (id, name) on t to anon;",
    )
    .await;
    let mut client = stack.native().await;
    let ack = client.subscribe("table:t").await;
    assert_eq!(ack["columns"].as_array().unwrap().len(), 2);
    stack.exec("insert into t values (1, 'one', 'hush')").await;
    assert_eq!(client.event().await.record(), &json!({"id": 1, "name": "one"}));
    // An update of what the role may not see must not even show that it happened.
    stack.exec("update t set secret = 'psst'").await;
    stack.exec("update t set name = 'eins', secret = 'hush'").await;
    let event = client.event().await;
    assert_eq!(event.record(), &json!({"id": 1, "name": "eins"}));
    assert_eq!(event.old_record(), &json!({"id": 1, "name": "one"}));
    assert!(!event.text().contains("hush"));
}

#[tokio::test]
async fn a_key_that_the_role_may_not_read_is_no_key() {
    let stack = Stack::with(
        "create table t (id int primary key, name text);
         select realtime.enable_realtime('t'); grant select (name) on t to anon;",
    )
    .await;
    let mut client = stack.native().await;
    assert!(client.subscribe("table:t").await["key"].is_null());
    stack.exec("insert into t values (1, 'one')").await;
    assert_eq!(client.event().await.record(), &json!({"name": "one"}));
}

#[tokio::test]
async fn a_client_chooses_operations_and_columns() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client
        .subscribe_with(json!({"channel": "table:t", "id": "some", "events": ["insert", "DELETE"], "columns": ["id"]}))
        .await;
    stack.exec("insert into t values (1, 'one')").await;
    stack.exec("update t set name = 'two'").await;
    stack.exec("delete from t").await;
    let (insert, delete) = (client.event().await, client.event().await);
    assert_eq!((&insert["id"], &insert["channel"]), (&json!("some"), &json!("table:t")));
    assert_eq!(insert.record(), &json!({"id": 1}));
    assert_eq!(delete.old_record(), &json!({"id": 1}));
    let refused = client.try_subscribe(json!({"channel": "table:t", "columns": ["nothing"]})).await;
    assert_eq!((refused.kind(), refused.code()), ("error", "INVALID_MESSAGE"));
    let refused = client.try_subscribe(json!({"channel": "table:t", "events": ["LOOK"]})).await;
    assert_eq!(refused.code(), "INVALID_MESSAGE");
}

#[tokio::test]
async fn two_subscriptions_of_one_table_stand_beside_each_other() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe_with(json!({"channel": "table:t", "id": "a"})).await;
    client.subscribe_with(json!({"channel": "table:t", "id": "b", "events": "INSERT"})).await;
    stack.exec("insert into t values (1)").await;
    let events = client.events(2).await;
    let mut ids: Vec<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["a", "b"]);
    client.ask(json!({"type": "unsubscribe", "id": "a"})).await;
    stack.exec("insert into t values (2)").await;
    assert_eq!(client.event().await["id"], "b");
    assert_quiet(&stack, &mut client).await;
}

#[tokio::test]
async fn subscribing_again_replaces_and_loses_nothing() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    for round in 0..20 {
        stack.exec(&format!("insert into t values ({round})")).await;
        client.send(json!({"type": "subscribe", "channel": "table:t", "ref": round})).await;
    }
    let (mut seen, mut acks) = (Vec::new(), 0);
    while seen.len() < 20 || acks < 20 {
        let frame = client.next().await;
        match frame.kind() {
            "broadcast" => seen.push(frame.record()["id"].as_i64().unwrap()),
            "ack" => acks += 1,
            _ => panic!("{frame}"),
        }
    }
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
    assert_quiet(&stack, &mut client).await;
}

#[tokio::test]
async fn numbers_come_as_strings_when_asked_for() {
    let stack = Stack::with(
        "create table t (id bigint primary key, n numeric, i int, a numeric[]);
         select realtime.enable_realtime('t'); grant select on t to anon;",
    )
    .await;
    let mut client = stack.connect().query("numbers=string").open().await;
    client.subscribe("table:t").await;
    stack.exec("insert into t values (9007199254740993, 1.10, 7, '{1.10}')").await;
    let event = client.event().await;
    let record = event.raw(&["payload", "record"]);
    assert_eq!((event.record()["id"].as_str(), event.record()["n"].as_str()), (Some("9007199254740993"), Some("1.10")));
    assert!(record.contains("\"i\":7"), "{record}");
}

#[tokio::test]
async fn options_of_a_table_are_kept() {
    let stack = Stack::with(
        r#"create table t (id int primary key, name text, password text);
           select realtime.enable_realtime('t', options => '{"exclude": ["password"], "old": "key", "events": ["insert", "update"]}');
           grant select on t to anon;"#,
    )
    .await;
    let mut client = stack.native().await;
    let ack = client.subscribe("table:t").await;
    assert_eq!(ack["columns"].as_array().unwrap().len(), 2);
    stack.exec("insert into t values (1, 'one', 'x'), (2, 'two', 'y')").await;
    stack.exec("delete from t where id = 2").await;
    stack.exec("update t set name = 'eins', password = 'z' where id = 1").await;
    let events = client.events(3).await;
    assert_eq!(events[0].record(), &json!({"id": 1, "name": "one"}));
    assert_eq!(events[2].record(), &json!({"id": 1, "name": "eins"}));
    assert_eq!(events[2].old_record(), &json!({"id": 1}));
}

#[tokio::test]
async fn partitions_speak_through_their_parent() {
    let stack = Stack::with(
        "create table t (id int primary key, name text) partition by range (id);
         create table low partition of t for values from (0) to (10);
         create table high partition of t for values from (10) to (20);
         select realtime.enable_realtime('t'); grant select on t to anon;",
    )
    .await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("insert into t values (1, 'a'), (11, 'b')").await;
    stack.exec("update high set name = 'c'").await;
    stack.exec("update t set id = 12 where id = 1").await;
    stack.exec("create table top partition of t for values from (20) to (30); insert into t values (21, 'd')").await;
    let mut rows = std::collections::BTreeMap::new();
    for event in client.events(6).await {
        assert_eq!(event["payload"]["table"], "t");
        if let Some(old) = event.old_record()["id"].as_i64() {
            rows.remove(&old);
        }
        if let Some(new) = event.record()["id"].as_i64() {
            rows.insert(new, event.record()["name"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(rows.into_iter().collect::<Vec<_>>(), [(11, "c".into()), (12, "a".into()), (21, "d".into())]);
}

#[tokio::test]
async fn a_table_without_a_key_says_so_and_comes_whole() {
    let stack = Stack::with(
        "create table t (id int, name text); select realtime.enable_realtime('t'); grant select on t to anon;",
    )
    .await;
    let mut client = stack.native().await;
    assert!(client.subscribe("table:t").await["key"].is_null());
    stack.exec("insert into t values (1, 'one'); update t set name = 'two'; delete from t").await;
    let events = client.events(3).await;
    assert_eq!(events[1].old_record(), &json!({"id": 1, "name": "one"}));
    assert_eq!(events[2].old_record(), &json!({"id": 1, "name": "two"}));
}

#[tokio::test]
async fn without_a_worker_the_sidecar_ticks_itself() {
    let stack = Stack::builder()
        .sql("do $$ begin execute format('alter database %I set realtime.worker = off', current_database()); end $$; set realtime.worker = off;")
        .sql(TABLE)
        .start()
        .await;
    stack.exec("select 1").await;
    assert_eq!(stack.text("select mode from realtime.status()").await, "poll");
    let (mut one, mut two) = (stack.native().await, stack.seed().await);
    one.subscribe("table:t").await;
    two.subscribe("table:t").await;
    for id in 0..20 {
        stack.exec(&format!("insert into t values ({id})")).await;
        assert_eq!(one.event().await.record()["id"], id);
        assert_eq!(two.event().await.record()["id"], id);
    }
}

#[tokio::test]
async fn two_sidecars_agree_on_every_offset() {
    let stack = Stack::with(TABLE).await;
    let settings = [
        ("REALTIME_DATABASE_URL".to_owned(), stack.sidecar_url(stack.server().port())),
        ("REALTIME_JWT_SECRET".to_owned(), stack.signer.secret().to_owned()),
    ];
    let other = realtime_tests::Sidecar::start(&settings);
    other.ready().await;
    let mut one = stack.native().await;
    let mut two = stack.connect().through(other.address()).open().await;
    one.subscribe("table:t").await;
    two.subscribe("table:t").await;
    for id in 0..30 {
        stack.exec(&format!("insert into t values ({id})")).await;
    }
    assert_eq!(one.events(30).await, two.events(30).await);
}
