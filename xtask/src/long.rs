//! `make chaos` and `make soak`: the long forms of tests that `make test` runs in a short one.

use std::env;
use std::process::Command;

use crate::build::{self, BuildError, Profile};
use crate::postgres::Version;
use crate::process::{self, ProcessError};
use crate::workspace;

/// A test in its long form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Long {
    /// The ledger until 200,000 transactions were committed and 100 of each process were killed.
    Chaos,
    /// Ten thousand clients, a million rows, an hour.
    Soak,
}

impl Long {
    /// What comes after `cargo test`.
    fn words(self) -> [&'static str; 2] {
        match self {
            Self::Chaos => ["ledger", "a_hundred_faults_of_each_kind_cost_no_event"],
            Self::Soak => ["soak", "long_form"],
        }
    }
}

/// Builds the extension and runs the long form of a test. It prints one figure a line.
///
/// # Errors
///
/// When something cannot be built, a count is not what it must be, or less was done than the counts are for.
pub fn run(long: Long, version: Version) -> Result<(), LongError> {
    build::extension(version, Profile::Dev)?;
    let [target, name] = long.words();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace::root());
    cargo.args(["test", "--package", "realtime-tests", "--test", target]);
    if long == Long::Soak {
        // Ten thousand clients, and the sidecar that serves them, share this machine: both as they are shipped.
        let (_, sidecar) = build::both(version, Profile::Release)?;
        cargo.arg("--release").env("REALTIME_TEST_SIDECAR", sidecar);
    }
    cargo.args(["--", "--ignored", "--nocapture"]);
    // One after the other: each has the machine for itself.
    cargo.args(["--test-threads", "1", name]).env("REALTIME_TEST_PG", version.to_string());
    Ok(process::run(&mut cargo)?)
}

/// A long form did not pass.
#[derive(Debug, thiserror::Error)]
pub enum LongError {
    /// What is to be tested could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// It failed; it has told why.
    #[error(transparent)]
    Test(#[from] ProcessError),
}
