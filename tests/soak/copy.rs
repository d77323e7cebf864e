//! One transaction with very many rows, and subscribers who read as fast as they can.

use std::time::{Duration, Instant};

use realtime_tests::{Stack, eventually};
use tokio::task::JoinSet;

use crate::figures::{resident_bytes, take_all_descriptors};
use crate::line::Line;

/// Copies so many rows under so many subscribers: each gets every row, in order, over the connection that it has.
pub(crate) async fn run(rows: i64, subscribers: usize) {
    take_all_descriptors();
    let limit = (subscribers * 2).to_string();
    let builder = Stack::builder().set("REALTIME_LIMITS_CONNECTIONS_PER_ADDRESS_MAX", &limit);
    let table = "create table t (id int primary key); select realtime.enable_realtime('t'); grant select on t to anon;";
    let stack = builder.sql(table).start().await;
    let head = stack.text("select head from realtime.status()").await.parse().unwrap();
    let sidecar = stack.sidecar.pid().unwrap();
    let mut reading = JoinSet::new();
    for _ in 0..subscribers {
        let mut line = Line::open(stack.sidecar.address(), "table:t", head).await.unwrap();
        reading.spawn(async move {
            for id in 1..=rows {
                assert_eq!(line.row().await.unwrap(), id);
            }
            line
        });
    }
    let before = resident_bytes(sidecar);
    let began = Instant::now();
    stack.exec(&format!("copy t from program 'seq {rows}'")).await;
    let copied = began.elapsed();
    let mut most = before;
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    let lines = async { reading.join_all().await };
    tokio::pin!(lines);
    let lines = loop {
        tokio::select! {
            lines = &mut lines => break lines,
            _ = looks.tick() => most = most.max(resident_bytes(sidecar)),
        }
    };
    println!("copy_rows {rows}\ncopy_subscribers {subscribers}\ncopy_s {:.1}", copied.as_secs_f64());
    println!("copy_delivered_s {:.1}\ncopy_sidecar_mib_more {}", began.elapsed().as_secs_f64(), (most - before) >> 20);
    eventually("nobody was closed", async || (stack.sidecar.stats().await["connections"] == subscribers).then_some(()))
        .await;
    drop(lines);
    // Newest events in memory, a queue each, and pages of those who are served from the log.
    let bound = (64 << 20) + subscribers as u64 * (4 << 20);
    assert!(most - before < bound, "{} MiB more", (most - before) >> 20);
}
