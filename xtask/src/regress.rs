//! The extension under Postgres' own test drivers: `pg_regress` (scripts and the output they must give) and
//! `pg_isolation_regress` (sessions interleaved step by step).

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::{Cluster, ClusterError, Options, Tree};
use crate::postgres::{Installation, PostgresError, Version};
use crate::process::{self, ProcessError};
use crate::workspace::{self, EXTENSION};

/// The tests did not pass, or could not run.
#[derive(Debug, thiserror::Error)]
pub enum RegressError {
    /// The server to test against could not be had.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The Postgres version could not be had.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// Tests failed; the driver has told which.
    #[error("{failed} {suite} tests failed on postgres {version}; the differences:\n{differences}")]
    Failed {
        /// `regress` or `isolation`.
        suite: &'static str,
        /// The Postgres version.
        version: Version,
        /// How many passed.
        passed: usize,
        /// How many did not.
        failed: usize,
        /// What was expected against what came, as far as it is readable at once.
        differences: String,
        /// How the driver ended.
        #[source]
        source: ProcessError,
    },
    /// A test has no expected output.
    #[error(
        "the {suite} test `{test}` has no expected output; run `cargo xtask {suite} --accept {test}` and read what it wrote"
    )]
    NoExpectation {
        /// `regress` or `isolation`.
        suite: &'static str,
        /// The test.
        test: String,
    },
    /// The test's files could not be read.
    #[error("could not access `{}`", path.display())]
    Access {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// One of the two kinds of tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// `tests/regress/{sql,expected}`, run in the order of their names.
    Regress,
    /// `tests/isolation/{specs,expected}`, run in the order of their names.
    Isolation,
}

impl Suite {
    /// What it is, for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Regress => "regress tests",
            Self::Isolation => "isolation tests",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Regress => "regress",
            Self::Isolation => "isolation",
        }
    }

    fn driver(self) -> &'static str {
        match self {
            Self::Regress => "regress/pg_regress",
            Self::Isolation => "isolation/pg_isolation_regress",
        }
    }

    /// The folder below the suite's own, and the ending, of its test files.
    fn files(self) -> (&'static str, &'static str) {
        match self {
            Self::Regress => ("sql", "sql"),
            Self::Isolation => ("specs", "spec"),
        }
    }

    /// Where its tests lie.
    pub fn folder(self) -> PathBuf {
        workspace::root().join("tests").join(self.name())
    }

    /// What a test must give.
    fn expected(self, test: &str) -> PathBuf {
        self.folder().join("expected").join(format!("{test}.out"))
    }

    /// The names of its tests, sorted.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read; a missing folder has no tests.
    pub fn tests(self) -> Result<Vec<String>, RegressError> {
        let (below, ending) = self.files();
        let folder = self.folder().join(below);
        match names_with_ending(&folder, ending) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map_err(access(&folder)),
        }
    }
}

/// Runs tests of a suite, all when none is named, on a private server with the extension created. Returns how many
/// passed.
///
/// # Errors
///
/// When a test fails or has no expected output yet, or the server cannot be had.
pub fn run(suite: Suite, version: Version, named: &[String]) -> Result<usize, RegressError> {
    let tests = chosen(suite, named)?;
    if let Some(test) = tests.iter().find(|test| !suite.expected(test).exists()) {
        return Err(RegressError::NoExpectation { suite: suite.name(), test: test.clone() });
    }
    if !tests.is_empty() {
        run_on_private_server(suite, version, &tests)?;
    }
    Ok(tests.len())
}

/// Runs tests of a suite and takes what they give as what they must give. Returns the files written, for a person to
/// read before they are committed.
///
/// # Errors
///
/// When the server cannot be had, a test gives nothing, or a file cannot be written.
pub fn accept(suite: Suite, version: Version, named: &[String]) -> Result<Vec<PathBuf>, RegressError> {
    let tests = chosen(suite, named)?;
    let folder = suite.folder().join("expected");
    fs::create_dir_all(&folder).map_err(access(&folder))?;
    for place in tests.iter().map(|test| suite.expected(test)).filter(|place| !place.exists()) {
        // The driver stops at a test without an expected file.
        fs::write(&place, "").map_err(access(&place))?;
    }
    match run_on_private_server(suite, version, &tests) {
        Ok(()) | Err(RegressError::Failed { .. }) => take_results(suite, version, &tests),
        Err(error) => Err(error),
    }
}

fn take_results(suite: Suite, version: Version, tests: &[String]) -> Result<Vec<PathBuf>, RegressError> {
    let results = output_path(suite, version).join("results");
    let copy = |test: &String| {
        let (result, place) = (results.join(format!("{test}.out")), suite.expected(test));
        fs::copy(&result, &place).map_err(access(&result))?;
        Ok(place)
    };
    tests.iter().map(copy).collect()
}

fn chosen(suite: Suite, named: &[String]) -> Result<Vec<String>, RegressError> {
    if named.is_empty() { suite.tests() } else { Ok(named.to_vec()) }
}

fn run_on_private_server(suite: Suite, version: Version, tests: &[String]) -> Result<(), RegressError> {
    let tree = Tree::prepare(version)?;
    let cluster = Cluster::start(&tree, &Options::default())?;
    let output = output_folder(suite, version)?;
    // The Python package's own drivers for 18 do not start; they are plain clients, and Debian's 15 knows every server.
    let mut command = driver(suite, version, Version::V15, &Version::V15.installation()?)?;
    command.arg(format!("--bindir={}", tree.bin.display()));
    command.arg(format!("--host={}", cluster.socket_folder().display()));
    command.arg(format!("--port={}", cluster.port())).arg("--user=postgres");
    finish(suite, version, command.args(tests), &output)
}

/// Runs all tests of a suite on a server that runs already, as `make installcheck` does. Where it is comes from the
/// environment (`PGHOST`, `PGPORT`, `PGUSER`), as for every Postgres program. Returns how many passed.
///
/// # Errors
///
/// When a test fails or the server cannot be reached.
pub fn run_installed(suite: Suite, server: &Installation) -> Result<usize, RegressError> {
    let tests = suite.tests()?;
    if tests.is_empty() {
        return Ok(0);
    }
    let version = server.version()?;
    let output = output_folder(suite, version)?;
    let mut command = driver(suite, version, version, server)?;
    command.arg(format!("--bindir={}", server.bin.display()));
    for (option, variable) in [("host", "PGHOST"), ("port", "PGPORT"), ("user", "PGUSER")] {
        if let Some(value) = env::var_os(variable) {
            command.arg(format!("--{option}={}", value.to_string_lossy()));
        }
    }
    finish(suite, version, command.args(&tests), &output)?;
    Ok(tests.len())
}

/// The command that runs a suite against a server of `version` with the drivers of another one.
fn driver(
    suite: Suite,
    version: Version,
    drivers: Version,
    installation: &Installation,
) -> Result<Command, RegressError> {
    let program = installation.test_drivers().join(suite.driver());
    if !program.exists() {
        return Err(PostgresError::Missing(program).into());
    }
    let mut command = Command::new(program);
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        // The driver reads the rest from its options; a stray PGDATABASE or PGOPTIONS would change results.
        if name != "PGPASSWORD" && name != "PGPASSFILE" {
            command.env_remove(name);
        }
    }
    command.arg(format!("--inputdir={}", suite.folder().display()));
    command.arg(format!("--outputdir={}", output_path(suite, version).display()));
    command.arg(format!("--dbname={EXTENSION}_{}", suite.name())).arg(format!("--load-extension={EXTENSION}"));
    if drivers >= Version::V16 {
        command.arg(format!("--expecteddir={}", suite.folder().display()));
    }
    Ok(command)
}

fn finish(suite: Suite, version: Version, command: &mut Command, output: &Path) -> Result<(), RegressError> {
    process::run(command).map_err(|source| {
        let text = fs::read_to_string(output.join("regression.diffs")).unwrap_or_default();
        let shown: Vec<&str> = text.lines().take(200).collect();
        let (passed, failed) = outcome(&fs::read_to_string(output.join("regression.out")).unwrap_or_default());
        RegressError::Failed { suite: suite.name(), version, passed, failed, differences: shown.join("\n"), source }
    })
}

/// How many tests passed and failed by the driver's own record, which is in TAP form since Postgres 16.
fn outcome(record: &str) -> (usize, usize) {
    let count = |is_kind: fn(&str) -> bool| record.lines().filter(|line| is_kind(line)).count();
    let passed = count(|line| line.starts_with("ok ") || line.starts_with("test ") && line.contains(" ... ok "));
    let failed = count(|line| line.starts_with("not ok ") || line.starts_with("test ") && line.contains(" ... FAILED"));
    (passed, failed.max(1))
}

fn output_path(suite: Suite, version: Version) -> PathBuf {
    workspace::target().join(format!("{}-{version}", suite.name()))
}

/// The driver makes its folders itself, but an old run's differences would be taken for this one's.
fn output_folder(suite: Suite, version: Version) -> Result<PathBuf, RegressError> {
    let folder = output_path(suite, version);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(access(&folder))?;
    Ok(folder)
}

fn names_with_ending(folder: &Path, ending: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == ending) {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn access(path: &Path) -> impl FnOnce(io::Error) -> RegressError {
    let path = path.to_owned();
    move |source| RegressError::Access { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_drivers_record_are_counted() {
        let old = "test log                          ... ok           22 ms\ntest zz  ... FAILED       11 ms\n 1 of 2 tests failed.\n";
        let new = "ok 1         - log                    22 ms\nnot ok 2     - zz                     11 ms\n# 1 of 2 tests failed.\n";
        assert_eq!(outcome(old), (1, 1));
        assert_eq!(outcome(new), (1, 1));
    }

    #[test]
    fn a_driver_that_recorded_nothing_counts_as_one_failure() {
        assert_eq!(outcome(""), (0, 1));
    }
}
