//! Tables whose policies decide: everybody gets what their own SELECT would show them, live, after coming back and in
//! snapshots, and nothing else.

use realtime_tests::{Client, Frame, Stack, eventually, token};
use serde_json::{Value, json};

use crate::fixtures::{ADA, GRACE};

/// Notes that belong to somebody; a public one is everybody's.
pub(crate) const NOTES: &str = "
    create table notes (id int primary key, owner uuid, body text, public bool not null default false);
    alter table notes enable row level security;
    create policy mine on notes for select to authenticated using (owner = auth.uid() or public);
    select realtime.enable_realtime('notes');
    grant select on notes to authenticated, service_role;
";

/// What a frame says of a row: its operation, and the old and the new row.
pub(crate) fn told(frame: &Frame) -> Value {
    let payload = &frame["payload"];
    json!([payload["type"], payload.get("old_record"), payload.get("record")])
}

async fn tell(client: &mut Client, count: usize) -> Vec<Value> {
    client.events(count).await.iter().map(told).collect()
}

/// Two users, and a third who is bound by no policy, all listening.
async fn three(stack: &Stack) -> [Client; 3] {
    let service = stack.signer.sign(&json!({"role": "service_role", "exp": token::in_seconds(600)}));
    let mut clients =
        [stack.native_as(ADA).await, stack.native_as(GRACE).await, stack.connect().token(&service).open().await];
    for client in &mut clients {
        client.subscribe("table:notes").await;
    }
    clients
}

#[tokio::test]
async fn fb_25_each_user_gets_the_rows_that_are_theirs() {
    let stack = Stack::with(NOTES).await;
    let [mut ada, mut grace, mut service] = three(&stack).await;
    stack
        .exec(&format!(
            "insert into notes values (1, '{ADA}', 'a', false), (2, '{GRACE}', 'g', false), (3, null, 'nobody', false), (4, null, 'all', true);
             update notes set body = 'b' where id < 4"
        ))
        .await;
    let ids = |events: Vec<Frame>| events.iter().map(|it| it.record()["id"].as_i64().unwrap()).collect::<Vec<_>>();
    assert_eq!(ids(ada.events(3).await), [1, 4, 1]);
    assert_eq!(ids(grace.events(3).await), [2, 4, 2]);
    assert_eq!(ids(service.events(7).await), [1, 2, 3, 4, 1, 2, 3]);
}

#[tokio::test]
async fn fb_26_policies_read_the_claims_of_the_user() {
    let stack = Stack::with(
        "create table tasks (id int primary key, team text);
         alter table tasks enable row level security;
         create policy team on tasks for select to authenticated
           using (team = current_setting('request.jwt.claims', true)::json ->> 'team');
         select realtime.enable_realtime('tasks'); grant select on tasks to authenticated;",
    )
    .await;
    let claims =
        |team: &str| json!({"sub": team, "team": team, "role": "authenticated", "exp": token::in_seconds(600)});
    let mut red = stack.connect().token(&stack.signer.sign(&claims("red"))).open().await;
    let mut blue = stack.connect().token(&stack.signer.sign(&claims("blue"))).open().await;
    red.subscribe("table:tasks").await;
    blue.subscribe("table:tasks").await;
    stack.exec("insert into tasks values (1, 'red'), (2, 'blue'), (3, 'red')").await;
    assert_eq!(tell(&mut red, 2).await[1][2], json!({"id": 3, "team": "red"}));
    assert_eq!(tell(&mut blue, 1).await[0][2], json!({"id": 2, "team": "blue"}));
}

#[tokio::test]
async fn fb_30_a_delete_reaches_those_who_saw_the_row_and_nobody_else() {
    let stack = Stack::with(NOTES).await;
    let [mut ada, mut grace, _] = three(&stack).await;
    stack.exec(&format!("insert into notes values (1, '{ADA}', 'a'), (2, '{GRACE}', 'g')")).await;
    stack.exec("delete from notes").await;
    let row = |id: i64, owner: &str, body: &str| json!({"id": id, "owner": owner, "body": body, "public": false});
    assert_eq!(tell(&mut ada, 2).await[1], json!(["DELETE", row(1, ADA, "a"), null]));
    assert_eq!(tell(&mut grace, 2).await[1], json!(["DELETE", row(2, GRACE, "g"), null]));
}

#[tokio::test]
async fn a_row_that_changes_hands_leaves_the_one_and_comes_to_the_other() {
    let stack = Stack::with(NOTES).await;
    let [mut ada, mut grace, mut service] = three(&stack).await;
    stack.exec(&format!("insert into notes values (1, '{ADA}', 'a')")).await;
    stack.exec(&format!("update notes set owner = '{GRACE}', id = 7, body = 'secret now'")).await;
    stack.exec("update notes set body = 'hers'").await;
    stack.exec(&format!("insert into notes values (2, '{ADA}', 'fence')")).await;
    let row = |id: i64, owner: &str, body: &str| json!({"id": id, "owner": owner, "body": body, "public": false});
    assert_eq!(
        tell(&mut ada, 3).await,
        [
            json!(["INSERT", null, row(1, ADA, "a")]),
            json!(["DELETE", {"id": 1}, null]),
            json!(["INSERT", null, row(2, ADA, "fence")]),
        ]
    );
    assert_eq!(
        tell(&mut grace, 2).await,
        [
            json!(["INSERT", null, row(7, GRACE, "secret now")]),
            json!(["UPDATE", row(7, GRACE, "secret now"), row(7, GRACE, "hers")]),
        ]
    );
    let updates = tell(&mut service, 3).await;
    assert_eq!(updates[1], json!(["UPDATE", row(1, ADA, "a"), row(7, GRACE, "secret now")]));
}

#[tokio::test]
async fn events_that_are_picked_are_those_that_the_client_would_see() {
    let stack = Stack::with(NOTES).await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe_with(json!({"channel": "table:notes", "events": ["INSERT"]})).await;
    stack.exec("insert into notes values (1, null, 'a')").await;
    stack.exec(&format!("update notes set owner = '{ADA}'; update notes set body = 'b'")).await;
    stack.exec(&format!("update notes set owner = '{GRACE}'; insert into notes values (2, '{ADA}', 'c')")).await;
    let seen = tell(&mut ada, 2).await;
    assert_eq!((&seen[0][0], &seen[0][2]["id"]), (&json!("INSERT"), &json!(1)));
    assert_eq!((&seen[1][0], &seen[1][2]["id"]), (&json!("INSERT"), &json!(2)));
}

#[tokio::test]
async fn a_truncate_is_everybody_s() {
    let stack = Stack::with(NOTES).await;
    let [mut ada, mut grace, _] = three(&stack).await;
    stack.exec("truncate notes").await;
    assert_eq!(tell(&mut ada, 1).await[0][0], "TRUNCATE");
    assert_eq!(tell(&mut grace, 1).await[0][0], "TRUNCATE");
}

#[tokio::test]
async fn whoever_comes_back_gets_what_was_theirs_meanwhile() {
    let stack = Stack::with(NOTES).await;
    let mut ada = stack.native_as(ADA).await;
    let start = ada.subscribe("table:notes").await.offset();
    ada.close().await;
    stack
        .exec(&format!(
            "insert into notes select i, case when i % 3 = 0 then '{ADA}'::uuid end, 'n' from generate_series(1, 1000) i"
        ))
        .await;
    stack.exec(&format!("update notes set owner = '{GRACE}' where id = 3")).await;
    for _ in 0..2 {
        let mut ada = stack.native_as(ADA).await;
        let ack = ada.resume("table:notes", start).await;
        assert_eq!(ack["recovered"], true);
        let events = ada.events(334).await;
        let ids: Vec<_> = events[..333].iter().map(|it| it.record()["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, (1..=333).map(|n| n * 3).collect::<Vec<_>>());
        assert_eq!(told(&events[333]), json!(["DELETE", {"id": 3}, null]));
        let mut grace = stack.native_as(GRACE).await;
        grace.resume("table:notes", start).await;
        assert_eq!(told(&grace.event().await)[0], "INSERT", "it came into her sight");
        // Once from memory, once from the log.
        stack.exec("insert into realtime.channels (pattern) values ('x') on conflict do nothing").await;
    }
}

#[tokio::test]
async fn a_snapshot_has_the_rows_of_the_user_and_the_changes_after_it() {
    let stack = Stack::with(NOTES).await;
    stack.exec(&format!("insert into notes values (1, '{ADA}', 'a'), (2, '{GRACE}', 'g'), (3, '{ADA}', 'b')")).await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe_with(json!({"channel": "table:notes", "snapshot": true})).await;
    let snapshot = ada.expect("snapshot").await;
    let ids: Vec<_> = snapshot["rows"].as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [1, 3]);
    stack
        .exec(&format!(
            "update notes set owner = '{GRACE}' where id = 1; update notes set owner = '{ADA}' where id = 2"
        ))
        .await;
    let seen = tell(&mut ada, 2).await;
    assert_eq!(seen[0], json!(["DELETE", {"id": 1}, null]));
    assert_eq!((&seen[1][0], &seen[1][2]["id"]), (&json!("INSERT"), &json!(2)));
}

#[tokio::test]
async fn without_the_key_s_column_nobody_hears_of_a_row_that_leaves() {
    let stack = Stack::with(NOTES).await;
    stack.exec("revoke select on notes from authenticated; grant select (owner, body) on notes to authenticated").await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("table:notes").await;
    stack.exec(&format!("insert into notes values (1, '{ADA}', 'a'); update notes set owner = null")).await;
    stack.exec(&format!("insert into notes values (2, '{ADA}', 'b')")).await;
    let seen = tell(&mut ada, 2).await;
    assert_eq!(seen[0][2], json!({"owner": ADA, "body": "a"}));
    assert_eq!(seen[1][2], json!({"owner": ADA, "body": "b"}));
}

#[tokio::test]
async fn the_parent_s_policies_judge_for_the_parent_s_channel() {
    let stack = Stack::with(
        "create table logs (id int, owner uuid, primary key (id, owner)) partition by hash (owner);
         create table logs_0 partition of logs for values with (modulus 2, remainder 0);
         create table logs_1 partition of logs for values with (modulus 2, remainder 1);
         alter table logs enable row level security;
         create policy mine on logs for select to authenticated using (owner = auth.uid());
         select realtime.enable_realtime('logs'); grant select on logs to authenticated;",
    )
    .await;
    let (mut ada, mut grace) = (stack.native_as(ADA).await, stack.native_as(GRACE).await);
    ada.subscribe("table:logs").await;
    grace.subscribe("table:logs").await;
    stack.exec(&format!("insert into logs values (1, '{ADA}'), (2, '{GRACE}')")).await;
    // The row may move to another partition: then it is a delete and an insert, which fold to the same.
    stack.exec(&format!("update logs set owner = '{GRACE}' where id = 1")).await;
    let seen = tell(&mut ada, 2).await;
    assert_eq!((&seen[0][0], &seen[1][0], &seen[1][1]["id"]), (&json!("INSERT"), &json!("DELETE"), &json!(1)));
    let seen = tell(&mut grace, 2).await;
    assert_eq!((&seen[0][2]["id"], &seen[1][0], &seen[1][2]["id"]), (&json!(2), &json!("INSERT"), &json!(1)));
}

#[tokio::test]
async fn one_connection_listens_to_judged_and_open_tables_and_its_cursor_is_safe_for_both() {
    let stack = Stack::with(NOTES).await;
    stack.exec("create table t (id int primary key); select realtime.enable_realtime('t'); grant select on t to authenticated").await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("table:notes").await;
    ada.subscribe("table:t").await;
    stack
        .exec(&format!(
            "insert into t select i from generate_series(1, 50) i;
             insert into notes select i, '{ADA}', 'n' from generate_series(1, 50) i;"
        ))
        .await;
    let events = ada.events(100).await;
    let last = events.iter().map(Frame::offset).max().unwrap();
    eventually("the cursor passes everything", async || {
        let pong = ada.ask(json!({"type": "ping"})).await;
        (pong.offset() >= last).then_some(())
    })
    .await;
}
