//! What it costs and how fast it is: one figure a line, as `name value`. `make bench` builds what is measured and runs
//! this; `make bench ROWS="latency wal"` runs only these rows. `BENCH_ROUNDS` and `BENCH_SECONDS` change how long the
//! comparisons take, `BENCH_HOLD_SECONDS` how long a transaction is held open.
//!
//! A figure alone says little on a machine that does other things as well: read ratios, and the ranges beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step is a failed measurement")]
#![forbid(unsafe_code)]

mod bulk;
mod cpu;
mod disk;
mod fold;
mod held;
mod judge;
mod kind;
mod latency;
mod server;
mod size;
mod statistics;
mod throughput;
mod wal;
mod worker;

use std::env;
use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

/// One thing that is measured. It starts what it needs and leaves nothing behind.
struct Row {
    name: &'static str,
    measure: fn(&Runtime),
}

/// All rows, in the order in which they run.
const ROWS: [Row; 10] = [
    Row { name: "size", measure: size::of_programs },
    Row { name: "latency", measure: latency::of_single_writes },
    Row { name: "throughput", measure: throughput::on_this_disk },
    Row { name: "slow_disk", measure: throughput::on_a_slow_disk },
    Row { name: "bulk", measure: bulk::of_one_statement },
    Row { name: "wal", measure: wal::per_event },
    Row { name: "worker", measure: worker::own_cost },
    Row { name: "held", measure: held::an_open_transaction },
    Row { name: "judge", measure: judge::of_verdicts },
    Row { name: "pgbench", measure: fold::pgbench },
];

fn main() -> ExitCode {
    let wanted: Vec<String> = env::args().skip(1).collect();
    if let Some(unknown) = wanted.iter().find(|name| ROWS.iter().all(|row| row.name != **name)) {
        let known = ROWS.map(|row| row.name).join(", ");
        eprintln!("there is no row `{unknown}`; there are {known}");
        return ExitCode::from(64);
    }
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    for row in ROWS.iter().filter(|row| wanted.is_empty() || wanted.iter().any(|name| name == row.name)) {
        eprintln!("measuring: {}", row.name);
        (row.measure)(&runtime);
    }
    ExitCode::SUCCESS
}
