//! pgbench's own load, folded from events: four subscribers who come and go must end with the tables that the database
//! has, and with every commit once.
//!
//! `PGBENCH_SECONDS` says how long pgbench writes. `REALTIME_TEST_PROFILE=release` takes the extension as users run it;
//! `REALTIME_TEST_SIDECAR` names a sidecar.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod clock;
mod fold;
mod load;
mod subscriber;

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use realtime_tests::Sidecar;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use xtask::cluster::Cluster;

use fold::{Fold, Table};
use load::DATABASE;
use subscriber::Subscriber;

/// Subscribers that have not got everything after this time never will.
const CATCH_UP_MAX: Duration = Duration::from_secs(120);

#[test]
fn pgbench_is_folded_from_its_events() {
    let seconds = env::var("PGBENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let cluster = load::start_cluster();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let faults = runtime.block_on(run(cluster, seconds));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

async fn run(cluster: Cluster, seconds: u64) -> Vec<String> {
    let sidecar = Sidecar::start(&load::sidecar_settings(&cluster));
    sidecar.ready().await;
    let oldest = number(&cluster, "select head from realtime.status()");
    let last = Arc::new(AtomicI64::new(0));
    let subscribers: Vec<JoinHandle<Fold>> = Table::ALL
        .into_iter()
        .map(|table| tokio::spawn(Subscriber::new(table, sidecar.address(), oldest, Arc::clone(&last)).run()))
        .collect();
    let (cluster, done) = tokio::task::spawn_blocking(move || {
        let done = load::run(&cluster, seconds);
        (cluster, done)
    })
    .await
    .unwrap();
    let ended = Instant::now();
    last.store(load::head_of_all(&cluster), Ordering::Release);
    let mut folds = Vec::new();
    for subscriber in subscribers {
        folds.push(timeout(CATCH_UP_MAX, subscriber).await.expect("a subscriber did not catch up").unwrap());
    }
    let behind = ended.elapsed();
    print(&folds, &done, behind);
    drop(sidecar);
    let mut faults = compare(&cluster, &folds, &done);
    // A sidecar that keeps pace is done within moments; one that does not falls behind further every second.
    if behind > Duration::from_secs(seconds) {
        faults.push(format!("the last event came {:.1} s after the load had ended", behind.as_secs_f64()));
    }
    faults
}

fn print(folds: &[Fold], done: &load::Done, behind: Duration) {
    let mut lags: Vec<i64> = folds.iter().flat_map(|fold| fold.lags_us.iter().copied()).collect();
    lags.sort_unstable();
    let at = |share: usize| lags.get(lags.len() * share / 1_000).map_or(0.0, |us| *us as f64 / 1_000.0);
    println!("transactions {}", done.transactions);
    println!("events {}", lags.len());
    println!("seconds {}", done.seconds);
    println!("transactions_per_second {:.0}", done.transactions as f64 / done.seconds as f64);
    println!("resumed {}", folds.iter().map(|fold| fold.connections - 1).sum::<u64>());
    println!("behind_at_end_ms {}", behind.as_millis());
    println!("lag_ms_p50 {:.1}", at(500));
    println!("lag_ms_p99 {:.1}", at(990));
    println!("lag_ms_p999 {:.1}", at(999));
}

/// Everything in which events and tables differ.
fn compare(cluster: &Cluster, folds: &[Fold], done: &load::Done) -> Vec<String> {
    let mut faults: Vec<String> = folds.iter().flat_map(|fold| fold.faults.iter().cloned()).collect();
    for fold in folds {
        let name = fold.table.name();
        if fold.transactions.len() != done.transactions {
            faults.push(format!("{name}: {} of {} commits", fold.transactions.len(), done.transactions));
        }
        if fold.transactions != folds[0].transactions {
            faults.push(format!("{name}: other commits than {}", folds[0].table.name()));
        }
        let there = cluster.sql(DATABASE, &fold.table.contents()).unwrap();
        let there: Vec<&str> = there.lines().collect();
        let folded = fold.contents();
        if let Some((one, other)) = folded.iter().zip(&there).find(|(one, other)| one != *other) {
            faults.push(format!("{name}: folded {one}, there is {other}"));
        }
        if folded.len() != there.len() {
            faults.push(format!("{name}: folded {} rows, there are {}", folded.len(), there.len()));
        }
    }
    faults
}

fn number(cluster: &Cluster, text: &str) -> i64 {
    cluster.sql(DATABASE, text).unwrap().parse().unwrap()
}
