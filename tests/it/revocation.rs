//! Rights that are taken away while writes go on: how long events go on coming that should not.

use std::time::{Duration, Instant};

use realtime_tests::{Client, Stack, token};
use serde_json::json;
use tokio::sync::oneshot;

use crate::fixtures::ADA;

/// Beside what is promised: a machine that does other things too.
const ALLOWANCE: Duration = Duration::from_millis(500);
/// Writes before and after, one every ten milliseconds.
const WRITES_BEFORE: u32 = 30;
const WRITES_AFTER: u32 = 350;

/// A cause, and how long it may take to hold.
struct Cause {
    name: &'static str,
    prepare: &'static str,
    revoke: &'static str,
    within: Duration,
}

const fn cause(name: &'static str, prepare: &'static str, revoke: &'static str, seconds: u64) -> Cause {
    Cause { name, prepare, revoke, within: Duration::from_secs(seconds) }
}

const CAUSES: [Cause; 10] = [
    cause("policy", "", "alter policy p on t using (false)", 1),
    cause("policy dropped", "", "drop policy p on t", 1),
    cause("grant", "", "revoke select on t from authenticated", 1),
    cause(
        "schema",
        "create schema s; alter table t set schema s; grant usage on schema s to authenticated",
        "revoke usage on schema s from authenticated",
        1,
    ),
    cause(
        "row security on",
        "alter table t disable row level security; alter policy p on t using (false)",
        "alter table t enable row level security",
        1,
    ),
    cause(
        "function of a policy",
        "create function may() returns boolean language sql stable as 'select true'; alter policy p on t using (may())",
        "create or replace function may() returns boolean language sql stable as 'select false'",
        1,
    ),
    cause("not enabled any more", "", "select realtime.disable_realtime('t')", 1),
    cause(
        "column grant",
        "revoke select on t from authenticated; grant select (n) on t to authenticated",
        "revoke select (n) on t from authenticated",
        1,
    ),
    cause(
        "membership",
        "create role staff; grant staff to authenticated; alter policy p on t using (pg_has_role(current_user, 'staff', 'member'))",
        "revoke staff from authenticated",
        2,
    ),
    cause(
        "bypass",
        "alter role authenticated bypassrls; alter policy p on t using (false)",
        "alter role authenticated nobypassrls",
        2,
    ),
];

const TABLE: &str = "
    create table t (n bigint primary key); alter table t enable row level security;
    create policy p on t for select to authenticated using (true);
    select realtime.enable_realtime('t'); grant select on t to authenticated;
";

/// Takes events until it is told to stop; when each came, with its number.
async fn listen(mut client: Client, mut stop: oneshot::Receiver<()>) -> Vec<(u32, Instant)> {
    let mut came = Vec::new();
    loop {
        let frame = tokio::select! {
            frame = client.next_or_close() => frame,
            _ = &mut stop => return came,
        };
        let Ok(frame) = frame else { return came };
        let number = frame.record()["n"].as_u64().or(frame["payload"]["payload"].as_u64());
        if let (true, Some(number)) = (frame.kind() == "broadcast", number) {
            came.push((u32::try_from(number).unwrap(), Instant::now()));
        }
    }
}

/// Writes, revokes, goes on writing; returns how long after the revocation the last event came that should not have.
async fn measure(stack: &Stack, client: Client, write: &str, revoke: &str) -> Duration {
    let (stop, stopped) = oneshot::channel();
    let listening = tokio::spawn(listen(client, stopped));
    let writer = stack.session().await;
    let mut revoked = None;
    for n in 1..=WRITES_BEFORE + WRITES_AFTER {
        if n == WRITES_BEFORE + 1 {
            stack.exec(revoke).await;
            revoked = Some(Instant::now());
        }
        writer.batch_execute(&format!("{}; select pg_sleep(0.01)", write.replace('$', &n.to_string()))).await.unwrap();
    }
    let _ = stop.send(());
    let came = listening.await.unwrap();
    let revoked = revoked.unwrap();
    assert!(came.iter().any(|(n, _)| *n <= WRITES_BEFORE), "nothing came before");
    let wrong = came.iter().filter(|(n, _)| *n > WRITES_BEFORE);
    wrong.map(|(_, at)| at.duration_since(revoked)).max().unwrap_or_default()
}

fn judge(name: &str, took: Duration, within: Duration) {
    println!("revocation {name} seconds {:.3} of {}", took.as_secs_f64(), within.as_secs());
    assert!(took <= within + ALLOWANCE, "{name}: events came for {} ms", took.as_millis());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_are_taken_away_under_load_hold_in_time() {
    for Cause { name, prepare, revoke, within } in CAUSES {
        // Roles are the whole server's.
        let stack = Stack::builder().own_server().sql(TABLE).sql(prepare).start().await;
        let mut client = stack.native_as(ADA).await;
        let (channel, table) = if name == "schema" { ("table:s.t", "s.t") } else { ("table:t", "t") };
        client.subscribe(channel).await;
        let write = format!("insert into {table} values ($)");
        let took = measure(&stack, client, &write, revoke).await;
        judge(name, took, within);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_and_tokens_end_in_time_under_load() {
    const ROOM: &str = "
        insert into realtime.channels (pattern) values ('room');
        create policy p on realtime.channels for select to authenticated using (true);";
    for (name, revoke) in [
        ("channel not enabled", "update realtime.channels set enabled = false"),
        ("channel policy", "alter policy p on realtime.channels using (false)"),
        ("channel deleted", "delete from realtime.channels"),
    ] {
        let stack = Stack::with(ROOM).await;
        let mut client = stack.native_as(ADA).await;
        client.subscribe("room").await;
        let took = measure(&stack, client, "select realtime.publish('room', 'e', '$')", revoke).await;
        judge(name, took, Duration::from_secs(1));
    }
    token_ends().await;
}

async fn token_ends() {
    let stack = Stack::builder().sql(TABLE).set("REALTIME_AUTH_LEEWAY_S", "0").start().await;
    let token = stack.signer.sign(&json!({"sub": ADA, "role": "authenticated", "exp": token::in_seconds(2)}));
    let mut client = stack.connect().token(&token).open().await;
    client.subscribe("table:t").await;
    // The revocation is the token's own end, between one and two seconds after the start.
    let ends = Instant::now() + Duration::from_secs(2);
    let (stop, stopped) = oneshot::channel();
    let listening = tokio::spawn(listen(client, stopped));
    let writer = stack.session().await;
    for n in 1..=WRITES_AFTER {
        writer.batch_execute(&format!("insert into t values ({n}); select pg_sleep(0.01)")).await.unwrap();
    }
    let _ = stop.send(());
    let came = listening.await.unwrap();
    assert!(!came.is_empty());
    let took = came.iter().map(|(_, at)| at.saturating_duration_since(ends)).max().unwrap_or_default();
    judge("token", took, Duration::from_secs(1));
}
