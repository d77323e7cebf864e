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
    #[error("{suite} tests failed on postgres {version}; the differences:\n{differences}")]
    Failed {
        /// `regress` or `isolation`.
        suite: &'static str,
        /// The Postgres version.
        version: Version,
        /// What was expected against what came, as far as it is readable at once.
        differences: String,
        /// How the driver ended.
        #[source]
        source: ProcessError,
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
            other => other.map_err(|source| RegressError::Access { path: folder, source }),
        }
    }
}

/// Runs tests of a suite, all when none is named, on a private server with the extension created. Returns how many
/// passed. What they gave is left in the target folder, to be copied to `expected/` once a person has read it.
///
/// # Errors
///
/// When a test fails or the server cannot be had.
pub fn run(suite: Suite, version: Version, named: &[String]) -> Result<usize, RegressError> {
    let tests = if named.is_empty() { suite.tests()? } else { named.to_vec() };
    if tests.is_empty() {
        return Ok(0);
    }
    let tree = Tree::prepare(version)?;
    let cluster = Cluster::start(&tree, &Options::default())?;
    let output = output_folder(suite, version)?;
    let mut command = driver(suite, version, &version.installation()?)?;
    command.arg(format!("--bindir={}", tree.bin.display()));
    command.arg(format!("--host={}", cluster.socket_folder().display()));
    command.arg(format!("--port={}", cluster.port())).arg("--user=postgres");
    finish(suite, version, command.args(&tests), &output)?;
    Ok(tests.len())
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
    let mut command = driver(suite, version, server)?;
    command.arg(format!("--bindir={}", server.bin.display()));
    for (option, variable) in [("host", "PGHOST"), ("port", "PGPORT"), ("user", "PGUSER")] {
        if let Some(value) = env::var_os(variable) {
            command.arg(format!("--{option}={}", value.to_string_lossy()));
        }
    }
    finish(suite, version, command.args(&tests), &output)?;
    Ok(tests.len())
}

fn driver(suite: Suite, version: Version, server: &Installation) -> Result<Command, RegressError> {
    let program = server.test_drivers().join(suite.driver());
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
    if version >= Version::V16 {
        command.arg(format!("--expecteddir={}", suite.folder().display()));
    }
    Ok(command)
}

fn finish(suite: Suite, version: Version, command: &mut Command, output: &Path) -> Result<(), RegressError> {
    process::run(command).map_err(|source| {
        let text = fs::read_to_string(output.join("regression.diffs")).unwrap_or_default();
        let shown: Vec<&str> = text.lines().take(200).collect();
        RegressError::Failed { suite: suite.name(), version, differences: shown.join("\n"), source }
    })
}

fn output_path(suite: Suite, version: Version) -> PathBuf {
    workspace::target().join(format!("{}-{version}", suite.name()))
}

/// The driver makes its folders itself, but an old run's differences would be taken for this one's.
fn output_folder(suite: Suite, version: Version) -> Result<PathBuf, RegressError> {
    let folder = output_path(suite, version);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|source| RegressError::Access { path: folder.clone(), source })?;
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
