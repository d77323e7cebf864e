//! Transactions a second without capture, with it, and with a trigger that notifies, in turns.

use std::env;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::disk::SlowDisk;
use crate::kind::{Kind, Measured, pairs};
use crate::server::{Server, UPDATES, number};
use crate::statistics::Sample;

/// What a flush of a typical cloud volume takes longer than a local disk's.
const ADDED: Duration = Duration::from_millis(1);

/// One update a transaction, 32 clients, on the disk that is there.
pub(crate) fn on_this_disk(runtime: &Runtime) {
    compare(&Server::start(), runtime, "");
}

/// The same on a disk whose flushes take a millisecond longer.
pub(crate) fn on_a_slow_disk(runtime: &Runtime) {
    let disk = SlowDisk::build(ADDED);
    compare(&Server::start_with(disk.environment()), runtime, "slow_disk_");
}

fn compare(server: &Server, runtime: &Runtime, prefix: &str) {
    // Somebody listens, as in life; for ours it is the sidecar's one session.
    let _listener = runtime.block_on(server.listen(&["naive", "realtime"]));
    let measured = Measured::of(number("BENCH_ROUNDS", 5), |kind| tps(server, kind));
    let ratio = |right: &[f64]| Sample::new(pairs(&measured.captured, right, |ours, theirs| ours / theirs));
    let tps = |values: &[f64]| Sample::new(values.to_vec());
    tps(&measured.plain).print(&format!("{prefix}tps_without_capture"), 0);
    tps(&measured.captured).print(&format!("{prefix}tps_with_capture"), 0);
    tps(&measured.naive).print(&format!("{prefix}tps_with_notify_trigger"), 0);
    ratio(&measured.plain).print(&format!("{prefix}tps_ratio"), 3);
    ratio(&measured.naive).print(&format!("{prefix}tps_against_notify_trigger"), 2);
}

fn tps(server: &Server, kind: Kind) -> f64 {
    kind.apply(server, "pgbench_accounts");
    let seconds = env::var("BENCH_SECONDS").unwrap_or_else(|_| "10".to_owned());
    let output = server.pgbench_script(UPDATES, &["-c", "32", "-j", "2", "-T", &seconds]);
    let line = output.lines().find_map(|line| line.strip_prefix("tps = ")).unwrap_or_else(|| panic!("{output}"));
    line.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}
