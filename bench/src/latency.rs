//! From commit to client, when nothing else is going on.

use std::time::{Duration, Instant};

use realtime_tests::{Dialect, PlainClient, Sidecar};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Statement};

use crate::disk::Probe;
use crate::server::Server;
use crate::size;
use crate::statistics::Sample;

const WRITES: i64 = 500;
/// Long enough that each write finds everybody asleep.
const PAUSE: Duration = Duration::from_millis(15);
const PATIENCE: Duration = Duration::from_secs(10);

/// Single updates, one at a time: each is awaited at a client before the next is sent. Memory before and after.
pub(crate) fn of_single_writes(runtime: &Runtime) {
    let server = Server::start();
    runtime.block_on(async {
        let sidecar = Sidecar::start(&server.sidecar_settings());
        sidecar.ready().await;
        size::of_memory("idle", &sidecar).await;
        measure(&server, &sidecar).await;
        size::of_memory("after_500_writes", &sidecar).await;
    });
}

async fn measure(server: &Server, sidecar: &Sidecar) {
    let mut arrivals = subscribe(sidecar, "latency").await;
    let database = server.session().await;
    let update = database.prepare("update latency set token = $1 where id = 1").await.unwrap();
    let mut probe = Probe::create(server.folder());
    let (mut writes, mut after_commit, mut whole, mut flushes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for token in 1..=WRITES {
        let (sent, committed) = write(&database, &update, token).await;
        let (arrived_token, arrived) = timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
        assert_eq!(arrived_token, token, "every write arrives once");
        writes.push(milliseconds(sent, committed));
        after_commit.push(milliseconds(committed, arrived));
        whole.push(milliseconds(sent, arrived));
        flushes.push(probe.flush_ms());
        sleep(PAUSE).await;
    }
    // One flush makes the tick durable; the other is what waiting in the same queue may cost.
    println!("commit_to_client_bar_ms {:.2}", 2.0 * Sample::new(flushes.clone()).at(50) + 1.0);
    let samples =
        [("flush", flushes), ("write", writes), ("commit_to_client", after_commit), ("write_to_client", whole)];
    for (name, values) in samples {
        let sample = Sample::new(values);
        println!("{name}_ms_p50 {:.2}", sample.at(50));
        println!("{name}_ms_p99 {:.2}", sample.at(99));
    }
}

/// Sends one update and returns when it was sent and when its commit had returned.
async fn write(database: &Client, update: &Statement, token: i64) -> (Instant, Instant) {
    let sent = Instant::now();
    database.execute(update, &[&token]).await.unwrap();
    (sent, Instant::now())
}

/// A client of a table that tells which `token` arrived when.
pub(crate) async fn subscribe(sidecar: &Sidecar, table: &str) -> mpsc::UnboundedReceiver<(i64, Instant)> {
    let mut client = PlainClient::connect(sidecar.address(), Dialect::Native).await.unwrap();
    client.send(&json!({"type": "subscribe", "ref": 1, "channel": format!("table:{table}")})).await.unwrap();
    while client.next().await.unwrap()["type"] != "ack" {}
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok(frame) = client.next().await {
            let arrived = Instant::now();
            if let Some(token) = token(&frame)
                && sender.send((token, arrived)).is_err()
            {
                return;
            }
        }
    });
    receiver
}

fn token(frame: &Value) -> Option<i64> {
    frame["payload"]["record"]["token"].as_i64()
}

/// Negative when the second moment came first: an event may arrive before its own commit has returned.
pub(crate) fn milliseconds(from: Instant, to: Instant) -> f64 {
    if to >= from { (to - from).as_secs_f64() * 1e3 } else { -(from - to).as_secs_f64() * 1e3 }
}
