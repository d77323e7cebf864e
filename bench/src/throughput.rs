//! Transactions a second with and without capture, in turns.

use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::server::Server;
use crate::statistics::Sample;

const SCRIPT: &str = "\\set aid random(1, 100000)
\\set delta random(-5000, 5000)
update pgbench_accounts set abalance = abalance + :delta where aid = :aid;
";

/// One update a transaction, 32 clients, worker running. Both kinds take turns, so that what else the machine does hits
/// both; whichever was first in one round is second in the next.
pub(crate) fn compare(server: &Server) {
    let script = Script::write();
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..number("BENCH_ROUNDS", 5) {
        let order = if round % 2 == 0 { [false, true] } else { [true, false] };
        let mut pair = [0.0; 2];
        for captured in order {
            pair[usize::from(captured)] = measure(server, &script.path, captured);
        }
        eprintln!("round {round}: {:.0} without capture, {:.0} with", pair[0], pair[1]);
        without.push(pair[0]);
        with.push(pair[1]);
        ratios.push(pair[1] / pair[0]);
    }
    Sample::new(without).print("tps_without_capture", 0);
    Sample::new(with).print("tps_with_capture", 0);
    Sample::new(ratios).print("tps_ratio", 3);
}

fn measure(server: &Server, script: &Path, captured: bool) -> f64 {
    let word = if captured { "enable" } else { "disable" };
    server.sql(&format!("select realtime.{word}_realtime('public', 'pgbench_accounts')"));
    // Each turn begins with the same table and no checkpoint due.
    server.sql("vacuum full pgbench_accounts");
    server.sql("checkpoint");
    let (seconds, path) = (number("BENCH_SECONDS", 10).to_string(), script.to_string_lossy());
    let output = server.pgbench(&["-M", "prepared", "-c", "32", "-j", "2", "-n", "-T", &seconds, "-f", &path]);
    let line = output.lines().find_map(|line| line.strip_prefix("tps = ")).unwrap_or_else(|| panic!("{output}"));
    line.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// pgbench's script in a file of its own.
struct Script {
    path: PathBuf,
}

impl Script {
    fn write() -> Self {
        let path = env::temp_dir().join(format!("realtime-bench-{}.sql", std::process::id()));
        fs::write(&path, SCRIPT).unwrap();
        Self { path }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // Left behind it would be three lines in the temporary folder.
        let _ = fs::remove_file(&self.path);
    }
}
