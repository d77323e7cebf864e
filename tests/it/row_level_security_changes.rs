//! Policies that change, fail or have no end: each costs its own subscriber, and what cannot be told is said.

use std::{collections::BTreeMap, time::Duration};

use realtime_tests::{Client, Frame, Stack, Stop, eventually, token, within};
use serde_json::{Value, json};

use crate::{
    fixtures::{ADA, GRACE},
    row_level_security::{NOTES, told},
};

/// Rows that everybody sees, unless the policy fails (`fails`) or has no end (`hangs`) for who is called so.
const BRAKE: &str = "
    create table brake (on_now bool); insert into brake values (false); grant select on brake to authenticated;
    create function verdict(id int) returns bool language plpgsql stable as $$
    begin
      if auth.jwt() ->> 'sub' = 'fails' and id = 5 then raise 'no verdict'; end if;
      if auth.jwt() ->> 'sub' = 'hangs' and (select on_now from brake) then
        begin perform pg_sleep(60); exception when query_canceled then perform pg_sleep(60); end;
      end if;
      return true;
    end $$;
    create table items (id int primary key, n int not null default 0);
    alter table items enable row level security;
    create policy see on items for select to authenticated using (verdict(id));
    select realtime.enable_realtime('items'); grant select on items to authenticated;
";

const HANGING: &str =
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";

async fn hanging(stack: &Stack, expected: &str) {
    eventually("as many policies hang as should", async || (stack.text(HANGING).await == expected).then_some(())).await;
}

#[tokio::test]
async fn a_policy_that_fails_for_one_user_costs_that_user_alone() {
    let stack = Stack::with(BRAKE).await;
    let (mut ada, mut fails) = (stack.native_as(ADA).await, stack.native_as("fails").await);
    ada.subscribe("table:items").await;
    fails.subscribe("table:items").await;
    stack.exec("insert into items select i from generate_series(4, 6) i").await;
    stack.exec("update items set n = 1 where id = 5").await;
    stack.exec("update items set n = 1 where id = 6").await;
    let events = ada.events(5).await;
    let seen = fails.events(2).await;
    assert_eq!((&seen[0].record()["id"], &seen[1].record()["id"]), (&json!(4), &json!(6)), "no verdict means no");
    let gap = fails.expect("gap").await;
    let at = events[3].offset();
    assert_eq!((&gap["reason"], &gap["from"], &gap["to"]), (&json!("unjudged"), &json!(at), &json!(at)));
    assert_eq!(told(&fails.event().await)[0], "UPDATE");
}

/// Twice in a row, once among the others and once alone: then it is over for that user.
#[tokio::test]
async fn a_policy_without_end_for_one_user_is_ended_and_the_others_go_on() {
    let stack = Stack::builder().sql(BRAKE).set("REALTIME_TIMING_JUDGE_MS", "400").start().await;
    let (mut ada, mut hangs) = (stack.native_as(ADA).await, stack.native_as("hangs").await);
    ada.subscribe("table:items").await;
    hangs.subscribe("table:items").await;
    stack.exec("update brake set on_now = true; insert into items values (1)").await;
    let event = within(Duration::from_secs(5), "an event for the other", ada.event()).await;
    assert_eq!(event.record()["id"], 1);
    let end = hangs.expect("error").await;
    assert_eq!((end.code(), &end["final"]), ("UNAVAILABLE", &json!(true)), "{end}");
    let again = hangs.try_subscribe(json!({"channel": "table:items"})).await;
    assert_eq!(again.code(), "UNAVAILABLE");
    assert!(again["retry_after_ms"].as_i64().unwrap() > 1000, "{again}");
    hanging(&stack, "0").await;
    stack.exec("insert into items values (2)").await;
    assert_eq!(ada.event().await.record()["id"], 2);
    assert!(stack.sidecar.metric("realtime_judgements_ended_total").await >= 2.0);
    let log = stack.sidecar.log();
    let line = log.lines().find(|line| line.contains("take too long")).unwrap_or_default();
    assert!(line.contains(r#"subject="hangs""#) && !line.contains('{'), "who it is, and no other claim: {line}");
}

#[tokio::test]
async fn a_policy_that_had_no_end_once_loses_nothing() {
    let stack = Stack::builder().sql(BRAKE).set("REALTIME_TIMING_JUDGE_MS", "1500").start().await;
    let mut hangs = stack.native_as("hangs").await;
    hangs.subscribe("table:items").await;
    stack.exec("update brake set on_now = true; insert into items values (1)").await;
    hanging(&stack, "1").await;
    stack.exec("update brake set on_now = false; insert into items values (2)").await;
    let events = hangs.events(2).await;
    assert_eq!((&events[0].record()["id"], &events[1].record()["id"]), (&json!(1), &json!(2)));
    stack.exec("insert into items values (3)").await;
    assert_eq!(hangs.event().await.record()["id"], 3);
}

#[tokio::test]
async fn what_policies_say_anew_holds_within_a_second_and_is_told() {
    let stack = Stack::with(NOTES).await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("table:notes").await;
    let writer = stack.session().await;
    stack.exec("insert into notes values (1, null, 'before', true)").await;
    assert_eq!(ada.event().await.record()["id"], 1);
    stack.exec("alter policy mine on notes using (owner = auth.uid())").await;
    // Writes go on meanwhile.
    for n in 2..50 {
        writer.batch_execute(&format!("insert into notes values ({n}, null, 'public', true)")).await.unwrap();
    }
    let gap = within(Duration::from_secs(2), "news of the policy", ada.expect("gap")).await;
    assert_eq!(gap["reason"], "unjudged");
    stack.exec(&format!("insert into notes values (50, '{ADA}', 'mine', false)")).await;
    assert_eq!(ada.event().await.record()["id"], 50, "what is hidden now does not come");
    stack.exec("alter policy mine on notes using (true)").await;
    within(Duration::from_secs(2), "news of the policy", ada.expect("gap")).await;
    stack.exec("insert into notes values (51, null, 'all', false)").await;
    assert_eq!(ada.event().await.record()["id"], 51);
}

#[tokio::test]
async fn what_a_role_may_holds_within_two_seconds_and_is_told() {
    // Roles are the whole server's.
    let stack = Stack::builder().own_server().sql(NOTES).start().await;
    stack
        .exec("create role staff; create policy staff on notes using (pg_has_role(current_user, 'staff', 'member'))")
        .await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("table:notes").await;
    stack.exec("grant staff to authenticated").await;
    within(Duration::from_secs(3), "news of the membership", ada.expect("gap")).await;
    stack.exec("insert into notes values (1, null, 'staff')").await;
    assert_eq!(ada.event().await.record()["id"], 1);
    stack.exec("revoke staff from authenticated").await;
    within(Duration::from_secs(3), "news of the membership", ada.expect("gap")).await;
    stack
        .exec(&format!("insert into notes values (2, null, 'staff'); insert into notes values (3, '{ADA}', 'hers')"))
        .await;
    assert_eq!(ada.event().await.record()["id"], 3);
}

#[tokio::test]
async fn a_renewed_token_is_another_pair_of_eyes() {
    let stack = Stack::with(NOTES).await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("table:notes").await;
    stack.exec(&format!("insert into notes values (1, '{ADA}', 'a')")).await;
    assert_eq!(client.event().await.record()["id"], 1);
    let ack = client.ask(json!({"type": "access_token", "token": stack.signer.user(GRACE)})).await;
    assert_eq!(ack["user"], GRACE);
    assert_eq!(client.expect("gap").await["reason"], "unjudged");
    stack.exec(&format!("insert into notes values (2, '{ADA}', 'a'), (3, '{GRACE}', 'g')")).await;
    assert_eq!(client.event().await.record()["id"], 3);
}

/// Folds what a client is told.
fn fold(rows: &mut BTreeMap<i64, Value>, frame: &Frame) {
    let payload = &frame["payload"];
    if let Some(old) = payload.get("old_record") {
        rows.remove(&old["id"].as_i64().unwrap());
    }
    if let Some(new) = payload.get("record") {
        rows.insert(new["id"].as_i64().unwrap(), new.clone());
    }
}

/// Sixty-four at once, of eight users, with and without snapshots: each ends with what a SELECT would show.
#[tokio::test]
async fn many_users_at_once_each_see_their_own() {
    const USERS: usize = 8;
    let stack = Stack::with(
        "create table tasks (id int primary key, who text, n int not null default 0);
         alter table tasks enable row level security;
         create policy mine on tasks for select to authenticated using (who = auth.jwt() ->> 'sub');
         select realtime.enable_realtime('tasks'); grant select on tasks to authenticated;",
    )
    .await;
    stack.exec("insert into tasks select i, 'u' || i % 8 from generate_series(1, 80) i").await;
    let mut clients: Vec<(Client, BTreeMap<i64, Value>)> = Vec::new();
    for n in 0..64 {
        let mut client = stack.native_as(&format!("u{}", n % USERS)).await;
        client.subscribe_with(json!({"channel": "table:tasks", "snapshot": true})).await;
        let snapshot = client.expect("snapshot").await;
        assert_eq!(snapshot["last"], true);
        let rows = snapshot["rows"].as_array().unwrap().iter();
        clients.push((client, rows.map(|row| (row["id"].as_i64().unwrap(), row.clone())).collect()));
        stack
            .exec(&format!("update tasks set who = 'u' || (id * {n} + {n}) % 8, n = {n} where id % 7 = {n} % 7"))
            .await;
    }
    stack.exec("delete from tasks where id % 5 = 0; update tasks set id = id + 1000 where id % 11 = 0").await;
    stack.exec("insert into tasks select 5000 + i, 'u' || i, -1 from generate_series(0, 7) i").await;
    for (n, (client, rows)) in clients.iter_mut().enumerate() {
        let user = format!("u{}", n % USERS);
        while !rows.values().any(|row| row["n"] == -1) {
            let event = client.event().await;
            assert!(event["payload"].get("record").is_none_or(|row| row["who"] == *user), "{event}");
            fold(rows, &event);
        }
        let expected =
            stack.text(&format!("select json_agg(t order by id)::text from tasks t where who = '{user}'")).await;
        let expected: Vec<Value> = serde_json::from_str(&expected).unwrap();
        assert_eq!(rows.values().cloned().collect::<Vec<_>>(), expected, "{user}");
    }
}

/// What waits for a judgement is bounded: beyond that everybody is served from the log.
#[tokio::test]
async fn a_hundred_thousand_rows_reach_those_who_see_some_of_them() {
    let stack = Stack::with(NOTES).await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("table:notes").await;
    stack
        .exec(&format!(
            "insert into notes select i, case when i % 1000 = 0 then '{ADA}'::uuid end, 'n' from generate_series(1, 100000) i"
        ))
        .await;
    let events = ada.events(100).await;
    let ids: Vec<_> = events.iter().map(|it| it.record()["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (1..=100).map(|n| n * 1000).collect::<Vec<_>>());
    let token = stack.signer.sign(&json!({"sub": ADA, "role": "authenticated", "exp": token::in_seconds(600)}));
    let mut again = stack.connect().token(&token).open().await;
    again.resume("table:notes", events[49].offset()).await;
    let ids: Vec<_> = again.events(50).await.iter().map(|it| it.record()["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (51..=100).map(|n| n * 1000).collect::<Vec<_>>());
}

/// Snapshots wait for their turn, but not for a policy without end.
#[tokio::test]
async fn a_policy_without_end_keeps_nobody_else_from_a_snapshot() {
    let stack = Stack::builder().sql(BRAKE).set("REALTIME_LIMITS_SNAPSHOTS_MAX", "1").start().await;
    stack.exec("insert into items values (1); update brake set on_now = true").await;
    let mut stuck = Vec::new();
    for _ in 0..2 {
        let mut hangs = stack.native_as("hangs").await;
        hangs.subscribe_with(json!({"channel": "table:items", "snapshot": true})).await;
        stuck.push(hangs);
    }
    hanging(&stack, "1").await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe_with(json!({"channel": "table:items", "snapshot": true})).await;
    let snapshot = within(Duration::from_secs(15), "a snapshot for the other", ada.expect("snapshot")).await;
    assert_eq!(snapshot["rows"], json!([{"id": 1, "n": 0}]));
}

#[tokio::test]
async fn an_outage_of_the_database_loses_nothing_of_what_is_judged() {
    let stack = Stack::builder().own_server().sql(NOTES).start().await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("table:notes").await;
    stack.exec(&format!("insert into notes values (1, '{ADA}', 'a'), (2, '{GRACE}', 'g')")).await;
    assert_eq!(ada.event().await.record()["id"], 1);
    let server = std::sync::Arc::clone(stack.server());
    let restart = move || {
        server.stop(Stop::Immediate);
        server.start_again();
    };
    tokio::task::spawn_blocking(restart).await.unwrap();
    stack.exec(&format!("insert into notes values (3, '{ADA}', 'a'), (4, '{GRACE}', 'g'), (5, '{ADA}', 'a')")).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let frame = ada.next().await;
        match frame.kind() {
            "broadcast" => seen.push(frame.record()["id"].clone()),
            kind => assert_eq!(kind, "status", "{frame}"),
        }
    }
    assert_eq!(seen, [3, 5]);
}
