//! Policies that end the session they are judged in, or hide whose they are: that costs their own subscriber alone.

use std::time::Duration;

use realtime_tests::{Client, Stack, eventually, within};
use serde_json::json;

use crate::fixtures::ADA;

/// Rows that everybody sees. While the brake is on, the policy does what `HARM` says for who is called `bad`. A superuser
/// made it: nobody else's function may end a session.
const WORLD: &str = "
    create table brake (on_now bool); insert into brake values (false); grant select on brake to authenticated;
    create function harm() returns bool language plpgsql volatile security definer as $$
    begin
      if auth.jwt() ->> 'sub' = 'bad' and (select on_now from brake) then
        begin HARM exception when query_canceled then perform pg_sleep(60); end;
      end if;
      return true;
    end $$;
    create table items (id int primary key);
    alter table items enable row level security;
    create policy see on items for select to authenticated using (harm());
    select realtime.enable_realtime('items'); grant select on items to authenticated;
    insert into realtime.channels (pattern) values ('harm'), ('ok');
    create policy see on realtime.channels for select to authenticated using (pattern = 'ok' or harm());
";

const ITS_OWN_END: &str = "perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(60);";
const ITS_TIME: &str = "perform set_config('transaction_timeout', '20', false); perform pg_sleep(60);";
const ITS_NAME: &str = "perform set_config('application_name', '', false); perform pg_sleep(60);";
const ANOTHER_S_NAME: &str = "perform set_config('application_name', 'x judging 1', false); perform pg_sleep(60);";

/// How many others there are.
const OTHERS: usize = 49;

async fn stack(harm: &str) -> Stack {
    let sql = WORLD.replace("HARM", harm);
    Stack::builder().sql(&sql).set("REALTIME_TIMING_JUDGE_MS", "400").start().await
}

async fn others(stack: &Stack) -> Vec<Client> {
    let mut clients = Vec::new();
    for n in 0..OTHERS {
        let mut client = stack.native_as(&format!("user {n}")).await;
        client.subscribe("table:items").await;
        clients.push(client);
    }
    clients
}

async fn write(stack: &Stack, ids: std::ops::RangeInclusive<i64>) {
    for id in ids {
        stack.exec(&format!("insert into items values ({id})")).await;
    }
}

/// Each gets these rows, in order and once; gives the offset of the last.
async fn get(clients: &mut [Client], ids: std::ops::RangeInclusive<i64>) -> i64 {
    let expected: Vec<i64> = ids.collect();
    let mut last = 0;
    for client in clients {
        let events = within(Duration::from_secs(15), "events for the others", client.events(expected.len())).await;
        assert_eq!(events.iter().map(|it| it.record()["id"].as_i64().unwrap()).collect::<Vec<_>>(), expected);
        last = events.last().unwrap().offset();
    }
    last
}

/// One of fifty does harm. The others get everything once, those who come back too, and it is over for that one alone.
async fn costs_its_own_subscriber_alone(harm: &str) {
    let stack = stack(harm).await;
    let mut bad = stack.native_as("bad").await;
    bad.subscribe("table:items").await;
    let mut others = others(&stack).await;
    write(&stack, 1..=1).await;
    let first = get(&mut others, 1..=1).await;
    get(std::slice::from_mut(&mut bad), 1..=1).await;
    stack.exec("update brake set on_now = true").await;
    write(&stack, 2..=6).await;
    get(&mut others, 2..=6).await;
    let end = within(Duration::from_secs(15), "the end of the one", bad.expect("error")).await;
    assert_eq!((end.code(), &end["final"]), ("UNAVAILABLE", &json!(true)), "{end}");
    let again = bad.try_subscribe(json!({"channel": "table:items"})).await;
    assert!(again["retry_after_ms"].as_i64().unwrap() > 1000, "{again}");
    come_back(&stack, first).await;
    write(&stack, 7..=7).await;
    get(&mut others, 7..=7).await;
    assert!(stack.sidecar.metric("realtime_judgements_ended_total").await >= 2.0);
}

async fn come_back(stack: &Stack, since: i64) {
    let mut clients = Vec::new();
    for n in 0..5 {
        let mut client = stack.native_as(&format!("user {n}")).await;
        client.resume("table:items", since).await;
        clients.push(client);
    }
    get(&mut clients, 2..=6).await;
}

#[tokio::test]
async fn a_policy_that_ends_its_session_costs_its_own_subscriber_alone() {
    costs_its_own_subscriber_alone(ITS_OWN_END).await;
}

/// Where Postgres has no such setting the policy fails, and that is a verdict.
#[tokio::test]
async fn a_policy_that_limits_its_transaction_costs_its_own_subscriber_alone() {
    if realtime_tests::server::version().major() < 17 {
        return;
    }
    costs_its_own_subscriber_alone(ITS_TIME).await;
}

#[tokio::test]
async fn a_policy_that_hides_whose_it_is_costs_its_own_subscriber_alone() {
    costs_its_own_subscriber_alone(ITS_NAME).await;
}

#[tokio::test]
async fn a_policy_that_says_it_is_another_s_costs_its_own_subscriber_alone() {
    costs_its_own_subscriber_alone(ANOTHER_S_NAME).await;
}

/// Those who come back are judged together, and found out together.
#[tokio::test]
async fn who_comes_back_with_a_policy_that_ends_sessions_holds_up_nobody() {
    let stack = stack(ITS_OWN_END).await;
    let mut first = stack.native_as(ADA).await;
    first.subscribe("table:items").await;
    write(&stack, 1..=6).await;
    let since = first.event().await.offset();
    stack.exec("update brake set on_now = true").await;
    let mut bad = stack.native_as("bad").await;
    bad.resume("table:items", since).await;
    come_back(&stack, since).await;
    let end = within(Duration::from_secs(15), "the end of the one", bad.expect("error")).await;
    assert_eq!(end.code(), "UNAVAILABLE", "{end}");
}

/// Rights are looked at together too: no verdict means no, for that one alone, and others' rights end in time.
#[tokio::test]
async fn a_channel_policy_that_ends_its_session_keeps_nobody_s_revocation_from_happening() {
    let stack = stack(ITS_OWN_END).await;
    let (mut bad, mut ok) = (stack.native_as("bad").await, stack.native_as(ADA).await);
    bad.subscribe("harm").await;
    ok.subscribe("harm").await;
    ok.subscribe("ok").await;
    stack.exec("update brake set on_now = true").await;
    let end = bad.expect("error").await;
    assert_eq!((end.code(), &end["final"]), ("UNAUTHORIZED", &json!(true)), "no verdict means no: {end}");
    assert_eq!(bad.try_subscribe(json!({"channel": "harm"})).await.kind(), "error");
    stack.exec("update realtime.channels set enabled = false where pattern = 'ok'").await;
    let end = within(Duration::from_secs(3), "the end of a right", ok.expect("error")).await;
    assert_eq!(end["channel"], "ok", "{end}");
    stack.exec("select realtime.publish('harm', 'e', '{}')").await;
    assert_eq!(ok.event().await["channel"], "harm");
    eventually("no session is left behind", async || {
        let count = stack.text("select count(*) from pg_stat_activity where wait_event = 'PgSleep'").await;
        (count == "0").then_some(())
    })
    .await;
}
