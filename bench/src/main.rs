//! What it costs and how fast it is: one figure a line, as `name value`. `make bench` builds what is measured and runs
//! this; `BENCH_ROUNDS` and `BENCH_SECONDS` change how long the comparison of throughputs takes.
//!
//! A figure alone says little on a machine that does other things as well: read ratios, and the ranges beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step is a failed measurement")]
#![forbid(unsafe_code)]

mod fold;
mod latency;
mod server;
mod size;
mod statistics;
mod throughput;

use realtime_tests::Sidecar;
use server::Server;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    size::of_programs();
    let server = Server::start();
    runtime.block_on(with_sidecar(&server));
    throughput::compare(&server);
    drop(server);
    fold::pgbench();
}

/// What is measured on a sidecar that has nothing else to do.
async fn with_sidecar(server: &Server) {
    let sidecar = Sidecar::start(&server.sidecar_settings());
    sidecar.ready().await;
    size::of_memory("idle", &sidecar).await;
    latency::of_single_writes(server, &sidecar).await;
    size::of_memory("after_500_writes", &sidecar).await;
}
