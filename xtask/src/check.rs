//! `make test`: everything that must hold before a change lands, in the order in which it fails soonest.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::build::{self, BuildError, Profile};
use crate::postgres::Version;
use crate::process::{self, ProcessError};
use crate::regress::{self, RegressError, Suite};
use crate::script::{self, ScriptError};
use crate::workspace;

/// Something that must hold does not.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The extension's script is not in order.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// A part does not build, or clippy complains.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A tool complained; it has told why.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The output of the tests could not be read.
    #[error("could not follow the tests")]
    Follow(#[from] io::Error),
    /// Tests ran and some failed.
    #[error("{passed} passed, {failed} failed")]
    Failed {
        /// How many passed.
        passed: usize,
        /// How many did not.
        failed: usize,
    },
}

/// How long the longest run of the ledger takes here, in seconds; all of them together take less than ten minutes.
const LEDGER_SECONDS: &str = "240";

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Checks, builds and tests everything on one Postgres version, and the SQL tests on the others too when it is the
/// default one. Returns how many tests passed.
///
/// A fault of form or a build that fails ends it at once. A failed test does not, so that one run shows them all.
///
/// # Errors
///
/// When anything does not hold.
pub fn run(version: Version) -> Result<usize, CheckError> {
    step("the script of the extension", || Ok(script::check().map(drop)?))?;
    step("format", || Ok(process::run(&mut cargo(&["fmt", "--all", "--check"]))?))?;
    step("lints", lint)?;
    step("build: everything but the extension", || {
        Ok(process::run(&mut workspace_cargo("build", &["--all-targets"]))?)
    })?;
    step("lints: extension", || Ok(build::lint_extension(version)?))?;
    let mut tally = Tally::default();
    for each in sql_versions(version) {
        step(&format!("build: extension for {each}"), || Ok(build::extension(each, Profile::Dev).map(drop)?))?;
        for suite in [Suite::Regress, Suite::Isolation] {
            tally.add(step(&format!("{} on {each}", suite.title()), || Ok(regress_tally(suite, each)))?);
        }
    }
    tally.add(step("model of the hub's threads", || counted(models()))?);
    tally.add(step("unit tests and end to end", || counted(cargo_tests(version)))?);
    if tally.failed == 0 {
        Ok(tally.passed)
    } else {
        Err(CheckError::Failed { passed: tally.passed, failed: tally.failed })
    }
}

/// What the SQL and concurrency tests run on: they take seconds, so the default is every version that is tested.
fn sql_versions(version: Version) -> Vec<Version> {
    if version == Version::V15 { Version::TESTED.to_vec() } else { vec![version] }
}

fn step<T>(name: &str, work: impl FnOnce() -> Result<T, CheckError>) -> Result<T, CheckError> {
    println!("== {name}");
    let start = Instant::now();
    let result = work();
    println!(
        "== {name}: {} in {:.1} s",
        if result.is_ok() { "done" } else { "stopped" },
        start.elapsed().as_secs_f64()
    );
    result
}

fn lint() -> Result<(), CheckError> {
    Ok(process::run(&mut workspace_cargo("clippy", &["--all-targets", "--", "--deny", "warnings"]))?)
}

fn regress_tally(suite: Suite, version: Version) -> Tally {
    match regress::run(suite, version, &[]) {
        Ok(passed) => Tally { passed, failed: 0 },
        Err(error) => {
            eprintln!("error: {error}");
            match error {
                RegressError::Failed { passed, failed, .. } => Tally { passed, failed },
                _ => Tally { passed: 0, failed: 1 },
            }
        }
    }
}

/// All tests that cargo knows.
fn cargo_tests(version: Version) -> Command {
    let mut command = workspace_cargo("test", &["--no-fail-fast"]);
    // Which server the end-to-end tests start.
    command.env("REALTIME_TEST_PG", version.to_string());
    if env::var_os("LEDGER_SECONDS").is_none() {
        command.env("LEDGER_SECONDS", LEDGER_SECONDS);
    }
    command
}

/// Tests whose threads a model checker schedules: it takes the place of the hub's locks, so they are a build of their own.
fn models() -> Command {
    cargo(&["test", "--package", "realtime-sidecar", "--features", "shuttle", "--lib", "flow_threads"])
}

/// Runs tests, showing their output as it comes and counting them.
fn counted(mut command: Command) -> Result<Tally, CheckError> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|source| process::not_started(&command, source))?;
    let mut tally = Tally::default();
    if let Some(output) = child.stdout.take() {
        tally = follow(BufReader::new(output), &mut io::stdout())?;
    }
    let status = child.wait()?;
    if status.success() || tally.failed > 0 {
        return Ok(tally);
    }
    Err(ProcessError::Failed { command: "cargo test".to_owned(), status, output: String::new() }.into())
}

/// Copies the output of tests and adds up their summaries.
fn follow(output: impl BufRead, shown: &mut impl Write) -> io::Result<Tally> {
    let mut tally = Tally::default();
    for line in output.lines() {
        let line = line?;
        writeln!(shown, "{line}")?;
        tally.add(summary(&line).unwrap_or_default());
    }
    Ok(tally)
}

/// Reads `test result: ok. 3 passed; 0 failed; …`.
fn summary(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?;
    let count = |word: &str| {
        let before = counts.split(word).next()?.trim_end();
        before.rsplit(' ').next()?.parse::<usize>().ok()
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")? })
}

fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root()).args(words);
    command
}

/// A cargo command over every package but the extension, which is built for one Postgres version at a time. Always the
/// same packages, so that cargo builds each dependency once.
fn workspace_cargo(word: &str, options: &[&str]) -> Command {
    let mut command = cargo(&[word, "--workspace", "--exclude", "realtime-extension"]);
    command.args(options);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_added_up_and_the_rest_is_shown() {
        let output = "running 2 tests\n\
            test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        let mut shown = Vec::new();
        let tally = follow(output.as_bytes(), &mut shown).unwrap();
        assert_eq!(tally, Tally { passed: 15, failed: 2 });
        assert_eq!(shown, output.as_bytes());
    }

    #[test]
    fn a_line_that_is_no_summary_counts_nothing() {
        assert_eq!(summary("test a::b ... ok"), None);
        assert_eq!(summary("test result: unreadable"), None);
    }
}
