//! Transactions a second without capture, with it, and with a trigger that notifies, in turns.

use std::env;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::disk::SlowDisk;
use crate::kind::{Measured, pairs};
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
    let mut cpu = Measured::default();
    let measured = Measured::of(number("BENCH_ROUNDS", 5), |kind| {
        kind.apply(server, "pgbench_accounts");
        let began = server.cpu_s();
        let run = run(server);
        cpu.of_kind(kind).push((server.cpu_s() - began) * 1e6 / run.transactions);
        run.tps
    });
    let ratio = |right: &[f64]| Sample::new(pairs(&measured.captured, right, |ours, theirs| ours / theirs));
    measured.print(&format!("{prefix}tps"));
    ratio(&measured.plain).print(&format!("{prefix}tps_ratio"), 3);
    ratio(&measured.naive).print(&format!("{prefix}tps_against_notify_trigger"), 2);
    // Of all the server's processes, the worker among them: says more than a rate where others use the machine too.
    cpu.print(&format!("{prefix}cpu_us_per_transaction"));
    let cpu_ratio = pairs(&cpu.plain, &cpu.captured, |without, with| without / with);
    Sample::new(cpu_ratio).print(&format!("{prefix}cpu_ratio"), 3);
}

/// What one run of pgbench did.
struct Run {
    tps: f64,
    transactions: f64,
}

fn run(server: &Server) -> Run {
    let seconds = env::var("BENCH_SECONDS").unwrap_or_else(|_| "10".to_owned());
    let output = server.pgbench_script(UPDATES, &["-c", "32", "-j", "2", "-T", &seconds]);
    let figure = |name: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{output}"));
        line.split([' ', '/']).next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    Run { tps: figure("tps = "), transactions: figure("number of transactions actually processed: ") }
}
