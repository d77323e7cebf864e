//! Delivery under load while an unrelated transaction stays open.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use realtime_tests::Sidecar;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::Client;

use crate::latency::{milliseconds, subscribe};
use crate::server::{Server, number};
use crate::statistics::Sample;

const WRITERS: i64 = 4;
/// Each writer's pause: 200 transactions a second in all, which keeps the machine from being what is measured.
const PAUSE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(10);

type Arrivals = mpsc::UnboundedReceiver<(i64, Instant)>;

/// Phases in turn, without and with a transaction that holds an xid: the ratio of the delivery times' 99th hundredth.
pub(crate) fn an_open_transaction(runtime: &Runtime) {
    let server = Server::start();
    let phase = Duration::from_secs(number("BENCH_HOLD_SECONDS", 60));
    let (mut free, mut held, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    runtime.block_on(async {
        let sidecar = Sidecar::start(&server.sidecar_settings());
        sidecar.ready().await;
        let mut arrivals = subscribe(&sidecar, "arrivals").await;
        let mut load = Load::new(&server).await;
        load.phase(&mut arrivals, phase / 10).await;
        for round in 0..number("BENCH_ROUNDS", 5) {
            let without = load.phase(&mut arrivals, phase).await;
            let holder = hold(&server).await;
            let with = load.phase(&mut arrivals, phase).await;
            holder.batch_execute("commit").await.unwrap();
            eprintln!("round {round}: p99 {:.2} ms without, {:.2} ms with", without.at(99), with.at(99));
            ratios.push(with.at(99) / without.at(99));
            free.push(without.at(99));
            held.push(with.at(99));
        }
    });
    Sample::new(free).print("delivery_ms_p99", 2);
    Sample::new(held).print("delivery_ms_p99_beside_an_open_transaction", 2);
    Sample::new(ratios).print("open_transaction_p99_ratio", 2);
}

/// A session whose transaction has an xid and ends only when it is told to.
async fn hold(server: &Server) -> Client {
    let session = server.session().await;
    session.batch_execute("begin; select pg_current_xact_id()").await.unwrap();
    session
}

struct Load {
    next: i64,
    writers: Vec<Arc<Client>>,
}

impl Load {
    async fn new(server: &Server) -> Self {
        let mut writers = Vec::new();
        for _ in 0..WRITERS {
            writers.push(Arc::new(server.session().await));
        }
        Self { next: 0, writers }
    }

    /// Writes for so long and returns the times from commit to client, in milliseconds.
    async fn phase(&mut self, arrivals: &mut Arrivals, length: Duration) -> Sample {
        let until = Instant::now() + length;
        let firsts = self.next..;
        let writing: JoinSet<_> =
            self.writers.iter().zip(firsts).map(|(writer, first)| write(Arc::clone(writer), first, until)).collect();
        let committed: HashMap<i64, Instant> = writing.join_all().await.into_iter().flatten().collect();
        self.next = committed.keys().max().map_or(self.next, |last| last + WRITERS);
        let mut times = Vec::new();
        while times.len() < committed.len() {
            let (token, arrived) = timeout(PATIENCE, arrivals.recv()).await.expect("every event arrives").unwrap();
            times.push(milliseconds(committed[&token], arrived));
        }
        Sample::new(times)
    }
}

/// Inserts at a steady pace and returns when each commit had returned. Rows are inserted, never updated: an open
/// transaction makes updates of one row slow by itself, whoever captures them.
async fn write(session: Arc<Client>, first: i64, until: Instant) -> Vec<(i64, Instant)> {
    let insert = session.prepare("insert into arrivals values ($1, repeat('x', 80))").await.unwrap();
    let mut pace = interval(PAUSE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut committed = Vec::new();
    for token in (first..).step_by(WRITERS as usize) {
        pace.tick().await;
        if Instant::now() >= until {
            break;
        }
        session.execute(&insert, &[&token]).await.unwrap();
        committed.push((token, Instant::now()));
    }
    committed
}
