//! Everybody was cut off, and comes back at once to go on from where it was.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use realtime_tests::server::{self, Server};
use realtime_tests::{Stack, eventually, within};
use tokio::sync::Barrier;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::interval;

use crate::figures::{resident_bytes, sidecar_statements, take_all_descriptors};
use crate::line::Line;

/// Everybody must be live again after this time.
const LIVE_MAX: Duration = Duration::from_secs(30);
/// What was written while they were away.
const MISSED: i64 = 20;

#[derive(Default)]
struct Counts {
    /// Clients that have what they missed.
    back: AtomicUsize,
    /// Connections that the server had no time for.
    refused: AtomicUsize,
}

/// Lets so many clients listen, kills the sidecar under them, and lets them all resume as soon as it is there again.
pub(crate) async fn run(clients: usize) {
    take_all_descriptors();
    let mut stack = start(clients).await;
    let lines = open_all(&stack, clients).await;
    let address = stack.sidecar.address();
    stack.sidecar.kill();
    let cursors: Vec<_> = lines.into_iter().map(|line| line.cursor).collect();
    for id in 1..=MISSED {
        stack.exec(&format!("insert into t values ({id})")).await;
    }
    stack.sidecar.start_again();
    stack.sidecar.ready().await;
    let before = sidecar_statements(&stack).len();
    let began = Instant::now();
    let (everybody, counts) = (Arc::new(Barrier::new(clients)), Arc::new(Counts::default()));
    let mut returning = JoinSet::new();
    for cursor in cursors {
        let (everybody, counts) = (Arc::clone(&everybody), Arc::clone(&counts));
        returning.spawn(async move {
            everybody.wait().await;
            let mut line = come_back(address, cursor, &counts).await;
            for id in 1..=MISSED {
                assert_eq!(line.row().await.unwrap(), id);
            }
            counts.back.fetch_add(1, Ordering::Relaxed);
            // What is new comes to everybody who is back.
            assert_eq!(line.row().await.unwrap(), 0);
        });
    }
    let mut looks = interval(Duration::from_millis(50));
    while counts.back.load(Ordering::Relaxed) < clients && began.elapsed() < LIVE_MAX * 4 {
        looks.tick().await;
    }
    let back = began.elapsed();
    stack.exec("insert into t values (0)").await;
    within(LIVE_MAX * 4, "everybody hears what is new", returning.join_all()).await;
    let live = began.elapsed();
    let statements = sidecar_statements(&stack).split_off(before);
    let count = statements.len();
    println!("storm_connections_refused {}", counts.refused.load(Ordering::Relaxed));
    println!("storm_clients {clients}\nstorm_back_s {:.1}\nstorm_live_s {:.1}", back.as_secs_f64(), live.as_secs_f64());
    println!("storm_events {}\nstorm_statements {count}", clients * (usize::try_from(MISSED).unwrap() + 1));
    println!("storm_sidecar_mib {}", resident_bytes(stack.sidecar.pid().unwrap()) >> 20);
    assert!(live < LIVE_MAX, "everybody was live after {live:?}");
    // They have one identity and one channel, and what they missed is in memory: nobody's number counts.
    assert!(count <= 100, "{count} statements, such as {:?}", &statements[..statements.len().min(20)]);
}

/// Connects as a client does: again, when the server had no time for it within its deadline. Once subscribed it stays.
async fn come_back(address: SocketAddr, cursor: i64, counts: &Counts) -> Line {
    loop {
        match Line::open(address, "table:t", cursor).await {
            Ok(line) => return line,
            Err(_) => drop(counts.refused.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

async fn start(clients: usize) -> Stack {
    let options = server::options().set("log_statement", "all");
    let server = spawn_blocking(move || Server::start(&options)).await.unwrap();
    let limit = (clients * 2).to_string();
    let builder = Stack::builder().server(&server).set("REALTIME_LIMITS_CONNECTIONS_PER_ADDRESS_MAX", &limit);
    let builder = builder.set("REALTIME_LIMITS_CONNECTIONS_MAX", &limit);
    let table = "create table t (id int); select realtime.enable_realtime('t'); grant select on t to anon;";
    builder.sql(table).start().await
}

/// Connects them all, not faster than they are served, and lets each have one event, so that it has a cursor.
async fn open_all(stack: &Stack, clients: usize) -> Vec<Line> {
    let head = stack.text("select head from realtime.status()").await.parse().unwrap();
    let address = stack.sidecar.address();
    let mut lines = Vec::new();
    while lines.len() < clients {
        let mut opening = JoinSet::new();
        for _ in 0..200.min(clients - lines.len()) {
            opening.spawn(async move { Line::open(address, "table:t", head).await.unwrap() });
        }
        lines.extend(opening.join_all().await);
    }
    stack.exec("insert into t values (-1)").await;
    for line in &mut lines {
        assert_eq!(line.row().await.unwrap(), -1);
    }
    eventually("all are counted", async || (stack.sidecar.stats().await["connections"] == clients).then_some(())).await;
    lines
}
