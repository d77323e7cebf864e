//! pgbench's own load, folded from its events: the test of that name, for longer and on what users run.

use std::env;
use std::process::Command;

use tokio::runtime::Runtime;
use xtask::process;
use xtask::workspace;

const SECONDS: &str = "20";

/// Runs the test and prints its figures.
pub(crate) fn pgbench(_: &Runtime) {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace::root());
    cargo.args(["test", "--quiet", "--package", "realtime-tests", "--test", "pgbench", "--", "--nocapture"]);
    cargo.env("PGBENCH_SECONDS", env::var("PGBENCH_SECONDS").as_deref().unwrap_or(SECONDS));
    cargo.env("REALTIME_TEST_PROFILE", "release");
    let output = process::capture(&mut cargo).unwrap_or_else(|error| panic!("{error}"));
    for (name, value) in output.lines().filter_map(named) {
        if value.parse::<f64>().is_ok() {
            println!("pgbench_{name} {value}");
        }
    }
}

/// A line that is a name and a value. The test runner's sign of progress may stand before the first.
fn named(line: &str) -> Option<(&str, &str)> {
    line.trim_start_matches('.').split_once(' ')
}
