//! From commit to client, when nothing else is going on.

use std::time::{Duration, Instant};

use realtime_tests::{Dialect, PlainClient, Sidecar};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

use crate::server::Server;
use crate::statistics::Sample;

const WRITES: i64 = 500;
/// Long enough that each write finds everybody asleep.
const PAUSE: Duration = Duration::from_millis(15);
const PATIENCE: Duration = Duration::from_secs(10);

/// Single updates, one at a time: each is awaited at a client before the next is sent.
pub(crate) async fn of_single_writes(server: &Server, sidecar: &Sidecar) {
    let mut arrivals = listen(sidecar).await;
    let (database, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let (mut writes, mut after_commit, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for token in 1..=WRITES {
        let (sent, committed) = write(&database, token).await;
        let (arrived_token, arrived) = timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
        assert_eq!(arrived_token, token, "every write arrives once");
        writes.push(milliseconds(sent, committed));
        after_commit.push(milliseconds(committed, arrived));
        whole.push(milliseconds(sent, arrived));
        sleep(PAUSE).await;
    }
    for (name, values) in [("write", writes), ("commit_to_client", after_commit), ("write_to_client", whole)] {
        let sample = Sample::new(values);
        println!("{name}_ms_p50 {:.2}", sample.at(50));
        println!("{name}_ms_p99 {:.2}", sample.at(99));
    }
}

/// Sends one update and returns when it was sent and when its commit had returned.
async fn write(database: &Client, token: i64) -> (Instant, Instant) {
    let statement = "update latency set token = $1 where id = 1";
    let sent = Instant::now();
    database.execute(statement, &[&token]).await.unwrap();
    (sent, Instant::now())
}

/// A client that tells when which write arrived.
async fn listen(sidecar: &Sidecar) -> mpsc::Receiver<(i64, Instant)> {
    let mut client = PlainClient::connect(sidecar.address(), Dialect::Native).await.unwrap();
    client.send(&json!({"type": "subscribe", "ref": 1, "channel": "table:latency"})).await.unwrap();
    while client.next().await.unwrap()["type"] != "ack" {}
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok(frame) = client.next().await {
            let arrived = Instant::now();
            if let Some(token) = token(&frame)
                && sender.send((token, arrived)).await.is_err()
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
fn milliseconds(from: Instant, to: Instant) -> f64 {
    if to >= from { (to - from).as_secs_f64() * 1e3 } else { -(from - to).as_secs_f64() * 1e3 }
}
