//! `make bench`: what is measured is what users run.

use std::env;
use std::process::Command;

use crate::build::{self, BuildError, Profile};
use crate::postgres::Version;
use crate::process::{self, ProcessError};
use crate::workspace;

/// Builds extension and sidecar as users run them, then runs the package `realtime-bench`, which prints its figures:
/// those of the named rows, or all.
///
/// # Errors
///
/// When something cannot be built, or a measurement fails.
pub fn run(rows: &[String]) -> Result<(), BenchError> {
    let (_, sidecar) = build::both(Version::V15, Profile::Release)?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace::root()).args(["run", "--quiet", "--package", "realtime-bench", "--"]);
    cargo.args(rows);
    cargo.env("REALTIME_TEST_SIDECAR", sidecar);
    Ok(process::run(&mut cargo)?)
}

/// The measurements could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// What is to be measured could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A measurement failed; it has told why.
    #[error(transparent)]
    Measure(#[from] ProcessError),
}
