//! The server runs out of something: no user's write fails or waits on our account.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use realtime_tests::server::{self, Server};
use realtime_tests::{Client, Stack, eventually};
use rustix::process::Signal;
use tokio::task::{JoinHandle, spawn_blocking};
use xtask::cluster::Options;
use xtask::postgres::Version;

use crate::fixtures::TABLE;

/// How long a sidecar stands still, in seconds; `ABUSE_SECONDS` changes it.
const STANDSTILL_SECONDS: u64 = 5;

/// Users who write one row after the other, each in a transaction of its own. A write that waits for a lock, or for
/// anything for long, fails; a write that fails ends the test.
struct Users {
    tasks: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicI32>,
}

impl Users {
    async fn start(stack: &Stack) -> Self {
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI32::new(1)));
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let session = stack.session().await;
            session.batch_execute("set lock_timeout = '1s'; set statement_timeout = '10s'").await.unwrap();
            let (stop, next) = (Arc::clone(&stop), Arc::clone(&next));
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    let written = session.execute("insert into t values ($1, repeat('x', 200))", &[&id]).await;
                    written.unwrap_or_else(|error| panic!("row {id}: {error:?}"));
                }
            }));
        }
        Self { tasks, stop, next }
    }

    /// How many rows have been begun.
    fn rows(&self) -> i32 {
        self.next.load(Ordering::Relaxed) - 1
    }

    /// Waits until they have written so many more rows.
    async fn write(&self, more: i32) {
        let goal = self.rows() + more;
        eventually("users write", async || (self.rows() >= goal).then_some(())).await;
    }

    /// Lets them finish; returns how many rows there are.
    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        usize::try_from(self.next.load(Ordering::Relaxed) - 1).unwrap()
    }
}

/// Takes events until each of so many rows has come, each once and nothing else.
async fn expect_all(client: &mut Client, rows: usize) {
    let mut seen = vec![false; rows + 1];
    for event in client.events(rows).await {
        let id = usize::try_from(event.record()["id"].as_i64().unwrap()).unwrap();
        assert!(!std::mem::replace(&mut seen[id], true), "row {id} came twice");
    }
}

async fn own_server(version: Version, options: Options) -> Arc<Server> {
    spawn_blocking(move || Server::start_from(&server::tree_of(version), &options)).await.unwrap()
}

/// A server whose NOTIFY queue has 64 pages, and somebody who listens and never leaves his transaction: the queue is
/// full. Only 17 and later have the setting, so this is always 18.
async fn stack_with_full_queue(settings: &str) -> (Stack, tokio_postgres::Client) {
    let options = server::options().set("max_notify_queue_pages", "64");
    let server = own_server(Version::V18, options).await;
    let stack = Stack::builder().server(&server).sql(settings).sql(TABLE).start().await;
    let stuck = stack.session().await;
    stuck.batch_execute("listen gossip").await.unwrap();
    stuck.batch_execute("begin; select 1").await.unwrap();
    fill_queue(&stack).await;
    (stack, stuck)
}

/// Notifies until the server refuses, which it does only while somebody keeps it from giving back what was read.
async fn fill_queue(stack: &Stack) {
    let gossip = "select pg_notify('gossip', i || repeat('x', 7900)) from generate_series(1, 8) i";
    let refusal = eventually("the queue is full", async || stack.try_exec(gossip).await.err()).await;
    assert_eq!(refusal.as_db_error().unwrap().message(), "too many notifications in the NOTIFY queue");
    // To the last byte: a bell is shorter than gossip.
    while stack.try_exec("notify gossip").await.is_ok() {}
}

/// What a user hears who notifies himself is not our affair; what he writes into an enabled table is.
async fn a_full_queue_stops_nobody(settings: &str) {
    let (stack, stuck) = stack_with_full_queue(settings).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    let users = Users::start(&stack).await;
    users.write(100).await;
    fill_queue(&stack).await;
    users.write(100).await;
    let rows = users.stop().await;
    expect_all(&mut client, rows).await;
    fill_queue(&stack).await;
    // The queue is emptied, the bell rings again.
    stuck.batch_execute("rollback").await.unwrap();
    let mut id = 0;
    eventually("the bell rings", async || {
        id -= 1;
        stack.exec(&format!("insert into t values ({id})")).await;
        assert_eq!(client.event().await.record()["id"], id);
        stack.try_exec("select realtime.ring()").await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_stuck_listener_and_a_full_notify_queue_stop_nobody() {
    a_full_queue_stops_nobody("").await;
}

/// Then it is the sidecar that ticks, and cannot ring either.
#[tokio::test]
async fn a_full_notify_queue_stops_no_sidecar_that_ticks() {
    a_full_queue_stops_nobody(
        "do $$ begin execute format('alter database %I set realtime.worker = off', current_database()); end $$;
         set realtime.worker = off;",
    )
    .await;
}

/// The one slot there is belongs to the server's own launcher.
#[tokio::test]
async fn without_a_free_worker_slot_the_sidecar_ticks() {
    let server = own_server(server::version(), server::options().set("max_worker_processes", "1")).await;
    let stack = Stack::builder().server(&server).sql(TABLE).start().await;
    assert_eq!(stack.text("select mode from realtime.status()").await, "poll");
    assert_eq!(stack.text("select realtime.start_worker()").await, "f");
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    let users = Users::start(&stack).await;
    users.write(500).await;
    let rows = users.stop().await;
    expect_all(&mut client, rows).await;
    assert_eq!(stack.text("select mode from realtime.status()").await, "poll");
}

/// Somebody reads the log for a long time, as a dump of everything does: no segment can be given back.
#[tokio::test]
async fn without_a_free_segment_writes_go_on_and_nothing_is_lost() {
    let stack = Stack::with(TABLE).await;
    stack.exec("update realtime.settings set value = '1 second' where name = 'log_retention'").await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    let oldest = stack.text("select oldest from realtime.status()").await;
    let reader = stack.session().await;
    reader.batch_execute("begin; select count(*) from realtime.log").await.unwrap();
    let users = Users::start(&stack).await;
    eventually("no segment is free", async || {
        users.write(20).await;
        (stack.text("select realtime.rotate()").await == "no free segment").then_some(())
    })
    .await;
    users.write(100).await;
    // Retention grows, and what is older than it is still there.
    assert_eq!(stack.text("select oldest from realtime.status()").await, oldest);
    reader.batch_execute("commit").await.unwrap();
    eventually("segments are given back", async || {
        users.write(20).await;
        stack.text("select realtime.rotate()").await.contains("truncated").then_some(())
    })
    .await;
    let rows = users.stop().await;
    expect_all(&mut client, rows).await;
}

/// Stopped, not ended: its sessions stay open, and nobody takes what the server sends them.
#[tokio::test]
async fn a_sidecar_that_stands_still_holds_up_nobody() {
    let seconds = std::env::var("ABUSE_SECONDS").map_or(STANDSTILL_SECONDS, |text| text.parse().unwrap());
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    let users = Users::start(&stack).await;
    users.write(100).await;
    stack.sidecar.signal(Signal::STOP);
    let stopped = Instant::now();
    while stopped.elapsed() < Duration::from_secs(seconds) {
        users.write(100).await;
    }
    let segment = "select segment from realtime.state";
    let before = stack.text(segment).await;
    stack.exec("update realtime.state set switched_at = '-infinity'").await;
    assert!(stack.text("select realtime.rotate()").await.contains("switched"), "it keeps no lock");
    assert_ne!(stack.text(segment).await, before);
    stack.sidecar.signal(Signal::CONT);
    let rows = users.stop().await;
    expect_all(&mut client, rows).await;
}
