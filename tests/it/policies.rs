//! Policies that hang, fail or meddle hurt their own subscriber alone.

use std::time::Duration;

use realtime_tests::{Stack, eventually, within};
use serde_json::json;

use crate::fixtures::{ADA, GRACE};

const HANGING: &str =
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";

const SLOW: &str = "
    insert into realtime.channels (pattern) values ('slow'), ('ok');
    create policy p on realtime.channels for select to authenticated
      using (pattern = 'ok' or (pg_sleep(case when (auth.jwt() ->> 'sub') like 'slow%' then 60 else 0 end) is not null));
";

#[tokio::test]
async fn a_policy_that_hangs_delays_nobody_else() {
    let stack = Stack::with(SLOW).await;
    let mut slow = stack.native_as("slow").await;
    slow.send(json!({"type": "subscribe", "channel": "slow", "ref": "slow"})).await;
    let mut ok = stack.native_as(ADA).await;
    ok.subscribe("ok").await;
    stack.exec("select realtime.publish('ok', 'e', '{}')").await;
    assert_eq!(ok.event().await["payload"]["event"], "e");
    let answer = slow.find("the answer", |frame| frame["ref"] == "slow").await;
    assert_eq!(answer.kind(), "error", "no verdict means no: {answer}");
}

/// Somebody else's revocation is noticed, however long a policy takes; and what hangs does not pile up on the server.
#[tokio::test]
async fn a_policy_that_begins_to_hang_keeps_nobody_s_revocation_from_happening() {
    let stack = Stack::with(
        "create table brake (on_now bool); insert into brake values (false); grant select on brake to authenticated;
         insert into realtime.channels (pattern) values ('slow'), ('ok');
         create policy p on realtime.channels for select to authenticated
           using (pattern = 'ok' or not (select on_now from brake) or pg_sleep(60) is not null);",
    )
    .await;
    let (mut slow, mut ok) = (stack.native_as(GRACE).await, stack.native_as(ADA).await);
    slow.subscribe("slow").await;
    ok.subscribe("ok").await;
    stack.exec("update brake set on_now = true").await;
    eventually("the policy hangs", async || (stack.text(HANGING).await != "0").then_some(())).await;
    stack.exec("update realtime.channels set enabled = false where pattern = 'ok'").await;
    let end = ok.expect("error").await;
    assert_eq!((&end["final"], &end["channel"]), (&json!(true), &json!("ok")), "{end}");
    eventually("hanging sessions do not pile up", async || {
        let count: usize = stack.text(HANGING).await.parse().unwrap();
        assert!(count <= 2, "{count} sessions hang");
        (slow.ask(json!({"type": "ping"})).await.kind() == "pong" && count == 0).then_some(())
    })
    .await;
}

/// However many hang, and although they leave while they hang: the next one is judged, and nobody gets their sessions.
#[tokio::test]
async fn many_policies_that_hang_hold_up_nobody() {
    let stack = Stack::with(SLOW).await;
    let mut leaving = Vec::new();
    for n in 0..12 {
        let mut slow = stack.native_as(&format!("slow {n}")).await;
        slow.send(json!({"type": "subscribe", "channel": "slow"})).await;
        leaving.push(slow);
    }
    leaving.truncate(6);
    let mut ok = stack.native_as(ADA).await;
    within(Duration::from_secs(5), "a verdict for somebody else", ok.subscribe("ok")).await;
    drop(leaving);
    for _ in 0..5 {
        let mut next = stack.native_as(GRACE).await;
        within(Duration::from_secs(5), "a verdict for somebody else", next.subscribe("ok")).await;
        assert_eq!(next.publish("ok", "e", json!(1)).await.code(), "UNAUTHORIZED", "and it is a verdict");
    }
    eventually("no session hangs", async || (stack.text(HANGING).await == "0").then_some(())).await;
}
