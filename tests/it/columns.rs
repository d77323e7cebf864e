//! Columns that a role may not read: whatever becomes of the table, they reach nobody by another's name, and nothing
//! that may be read is lost for them.

use realtime_tests::{Client, Frame, Stack};
use serde_json::json;

use crate::fixtures::ADA;

/// A table of which signed-in people may read two columns of three.
const SECRETS: &str = "
    create table sw (id int primary key, pub text, secret text);
    select realtime.enable_realtime('sw');
    grant select (id, pub) on sw to authenticated;
";

/// The two columns change places, by names; who may read what goes by the columns.
const SWAP: &str = "
    alter table sw rename pub to tmp;
    alter table sw rename secret to pub;
    alter table sw rename tmp to pub_old;
";

async fn next_event(client: &mut Client) -> Frame {
    loop {
        let frame = client.next().await;
        match frame.kind() {
            "broadcast" => return frame,
            // The seed's errors have no code.
            "error" => assert!(
                frame["final"].is_null()
                    && ["", "SCHEMA_CHANGED"].contains(&frame["code"].as_str().unwrap_or_default()),
                "{frame}"
            ),
            _ => panic!("an event is lost: {frame}"),
        }
    }
}

#[tokio::test]
async fn columns_that_change_places_in_the_transaction_of_an_event_show_nothing_hidden() {
    let stack = Stack::with(SECRETS).await;
    let (mut client, mut seed) = (stack.native_as(ADA).await, stack.seed_as(ADA).await);
    client.subscribe("table:sw").await;
    seed.subscribe("table:sw").await;
    stack.exec(&format!("begin; {SWAP} insert into sw values (1, 'public', 'TOPSECRET'); commit")).await;
    stack.exec("update sw set pub_old = 'later'").await;
    for client in [&mut client, &mut seed] {
        assert_eq!(next_event(client).await.record(), &json!({"id": 1, "pub_old": "public"}));
        let update = next_event(client).await;
        assert_eq!(update.old_record(), &json!({"id": 1, "pub_old": "public"}));
        assert_eq!(update.record(), &json!({"id": 1, "pub_old": "later"}));
    }
}

#[tokio::test]
async fn a_column_that_is_made_again_under_its_name_is_another_one() {
    let stack = Stack::with(
        "create table again (id int primary key, v int, unseen int);
         select realtime.enable_realtime('again'); grant select (id, v) on again to anon;",
    )
    .await;
    let mut client = stack.native().await;
    client.subscribe("table:again").await;
    // Nothing that it may know.
    stack.exec("alter table again drop column unseen; alter table again add column unseen int").await;
    stack.exec("begin; alter table again drop column v; alter table again add column v int; grant select (v) on again to anon; commit").await;
    assert_eq!(client.expect("error").await.code(), "SCHEMA_CHANGED");
    stack.exec("insert into again values (1, 2, 3)").await;
    assert_eq!(next_event(&mut client).await["payload"]["record"]["id"], 1);
}

#[tokio::test]
async fn events_from_before_columns_changed_places_are_replayed_by_the_names_of_today() {
    let stack = Stack::with(SECRETS).await;
    let mut client = stack.native_as(ADA).await;
    let start = client.subscribe("table:sw").await.offset();
    stack.exec("insert into sw values (1, 'public', 'TOPSECRET')").await;
    // It is in memory now, under the names of then.
    assert_eq!(client.event().await.record(), &json!({"id": 1, "pub": "public"}));
    stack.exec(SWAP).await;
    assert_eq!(client.expect("error").await.code(), "SCHEMA_CHANGED");
    let mut again = stack.native_as(ADA).await;
    let ack = again.resume("table:sw", start).await;
    assert_eq!(ack["recovered"], true);
    assert_eq!(next_event(&mut again).await.record(), &json!({"id": 1, "pub_old": "public"}));
    stack.exec("insert into sw values (2, 'more', 'TOPSECRET')").await;
    for client in [&mut client, &mut again] {
        assert_eq!(next_event(client).await.record(), &json!({"id": 2, "pub_old": "more"}));
    }
}

#[tokio::test]
async fn renaming_again_and_again_under_load_shows_nothing_hidden() {
    let stack = Stack::with(SECRETS).await;
    let (mut client, mut seed) = (stack.native_as(ADA).await, stack.seed_as(ADA).await);
    client.subscribe("table:sw").await;
    seed.subscribe("table:sw").await;
    for round in 0..20 {
        stack
            .exec(&format!(
                "begin; alter table sw rename pub to tmp; alter table sw rename secret to pub; alter table sw rename tmp to secret;
                 insert into sw (id, pub, secret) select {round}, case when {round} % 2 = 0 then 'TOPSECRET' else 'public' end,
                   case when {round} % 2 = 0 then 'public' else 'TOPSECRET' end; commit"
            ))
            .await;
    }
    stack.exec("insert into sw (id) values (99)").await;
    for client in [&mut client, &mut seed] {
        loop {
            let frame = client.next().await;
            assert!(!frame.text().contains("TOPSECRET"), "{frame}");
            // A gap is allowed here, when the columns change faster than they can be judged.
            if frame.kind() == "broadcast" && frame.record()["id"] == 99 {
                break;
            }
        }
    }
}

#[tokio::test]
async fn who_may_read_the_whole_table_gets_new_columns_at_once() {
    let stack = Stack::with(
        "create table w (id int primary key); select realtime.enable_realtime('w'); grant select on w to authenticated",
    )
    .await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("table:w").await;
    stack.exec("begin; alter table w add column name text; insert into w values (1, 'new'); commit").await;
    assert_eq!(next_event(&mut client).await.record(), &json!({"id": 1, "name": "new"}));
}

#[tokio::test]
async fn a_column_picked_by_name_stays_what_it_is() {
    let stack = Stack::with(SECRETS).await;
    stack.exec("grant select on sw to authenticated").await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe_with(json!({"channel": "table:sw", "columns": ["id", "pub"]})).await;
    stack.exec("begin; alter table sw drop column secret; alter table sw add column later text; insert into sw values (1, 'a', 'b'); commit").await;
    assert_eq!(next_event(&mut client).await.record(), &json!({"id": 1, "pub": "a"}));
}

#[tokio::test]
async fn a_partition_that_was_taken_out_shows_nothing_hidden_to_its_old_parent() {
    let stack = Stack::with(
        "create table par (id int primary key, pub text, secret text) partition by range (id);
         create table p1 partition of par for values from (0) to (100);
         create table p2 partition of par for values from (100) to (200);
         select realtime.enable_realtime('par'); grant select (id, pub) on par to authenticated;
         insert into par values (1, 'public', 'TOPSECRET'), (101, 'public', 'TOPSECRET');
         alter table par detach partition p1;
         alter table p1 rename pub to tmp; alter table p1 rename secret to pub; alter table p1 rename tmp to secret",
    )
    .await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe_with(json!({"channel": "table:par", "since": "oldest"})).await;
    let gap = client.expect("gap").await;
    assert_eq!(gap["reason"], "unjudged");
    assert_eq!(client.event().await.record(), &json!({"id": 101, "pub": "public"}));
}

#[tokio::test]
async fn a_change_that_is_too_large_is_told_to_who_may_not_read_its_key() {
    let stack = Stack::with(
        "create table ok (id int primary key, title text, body text); select realtime.enable_realtime('ok'); grant select (title) on ok to authenticated;
         create table ov (a text, b text); select realtime.enable_realtime('ov'); grant select on ov to authenticated;
         insert into ok values (1, 'OLD', ''); insert into ov values ('x', 'y')",
    )
    .await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("table:ok").await;
    stack.exec("update ok set title = 'NEW', body = repeat('x', 1900000); update ok set body = ''; update ok set title = 'END'").await;
    let events = client.events(3).await;
    assert!(events[..2].iter().all(|event| event["payload"]["oversize"] == true), "{events:?}");
    assert_eq!((events[2].old_record(), events[2].record()), (&json!({"title": "NEW"}), &json!({"title": "END"})));
    client.subscribe("table:ov").await;
    stack
        .exec("update ov set a = repeat('x', 1900000); update ov set a = 'small again'; update ov set a = 'end'")
        .await;
    let events = client.events(3).await;
    assert!(events[..2].iter().all(|event| event["payload"]["oversize"] == true), "{events:?}");
    assert_eq!(events[2].record()["a"], "end");
}
