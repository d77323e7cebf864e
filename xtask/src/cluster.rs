//! A private Postgres, for run, tests and benches: a [`Tree`] of binaries with the extension in it, and [`Cluster`]s
//! started from it. Nothing is written under the system's folders, and two clones never meet.
//!
//! ```no_run
//! use xtask::cluster::{Cluster, Options, Stop, Tree};
//! use xtask::postgres::Version;
//!
//! let tree = Tree::prepare(Version::V15)?;
//! let mut cluster = Cluster::start(&tree, &Options::default())?;
//! cluster.sql("postgres", "create extension realtime")?;
//! cluster.restart(Stop::Immediate)?;
//! println!("{}", cluster.url("postgres"));
//! # Ok::<(), xtask::cluster::ClusterError>(())
//! ```
//!
//! Everything here blocks; inside an async program call it from a blocking task.

mod account;
mod files;
mod guard;
mod options;
mod place;
mod port;
mod server;
mod successor;
mod template;
mod tree;

use std::io;
use std::path::{Path, PathBuf};

pub use account::Account;
pub use options::{Options, Storage};
pub use server::{Cluster, Stop};
pub use tree::Tree;

use crate::postgres::PostgresError;
use crate::process::ProcessError;
use crate::script::ScriptError;

/// A private Postgres could not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The version is not to be had.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// A program that was needed failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The extension's script could not be joined.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The extension has not been built for this version.
    #[error("there is no `{}`; build it with `cargo xtask build-extension --pg {version}`", path.display())]
    NotBuilt {
        /// The library that was looked for.
        path: PathBuf,
        /// The Postgres version.
        version: u32,
    },
    /// Postgres refuses to run as root, and the account it would run as is not there.
    #[error("there is no user `postgres` to run Postgres as; run `make setup`, or work as another user than root")]
    NoAccount,
    /// A folder that others may write to has something of somebody else at our place.
    #[error("`{}` belongs to somebody else; take it away or set TMPDIR", .0.display())]
    Taken(PathBuf),
    /// No free port was found.
    #[error("no free port was found between {} and {}", port::RANGE.start, port::RANGE.end)]
    NoPort,
    /// The server did not start.
    #[error("postgres did not start: {reason}; the end of {}:\n{tail}", log.display())]
    NotStarted {
        /// What was seen.
        reason: String,
        /// The server's log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The server did not stop in time.
    #[error("postgres (process {pid}) did not stop within {seconds} s; its log is {}", log.display())]
    NotStopped {
        /// The server's process.
        pid: u32,
        /// How long was waited.
        seconds: u64,
        /// The server's log.
        log: PathBuf,
    },
    /// pg_upgrade did not go through; what it logged says why.
    #[error("pg_upgrade failed; the ends of its logs:\n{logs}")]
    NotUpgraded {
        /// The last lines of each of its logs.
        logs: String,
        /// How it ended.
        #[source]
        source: ProcessError,
    },
    /// A server was told to start that runs, or to stop that does not.
    #[error("postgres is {0}")]
    State(&'static str),
    /// A file could not be read or written.
    #[error("could not access `{}`", path.display())]
    Access {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The folders that private servers of this clone may lie in, whether they are there or not.
pub fn possible_folders() -> [PathBuf; 2] {
    place::candidates()
}

/// The first processes of this clone's private servers.
pub fn running() -> Vec<u32> {
    let folders = possible_folders().into_iter().filter_map(|folder| std::fs::read_dir(folder.join("servers")).ok());
    let servers = folders.flatten().flatten().filter_map(|entry| entry.path().canonicalize().ok());
    servers.flat_map(|server| files::server_processes(&server.join("data"))).collect()
}

fn access(path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    let path = path.to_owned();
    move |source| ClusterError::Access { path, source }
}
