//! `make clean`: removes what was built, and every private server with its data.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cluster::{self, ClusterError};
use crate::workspace;

/// Something could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// The place of the private servers could not be found.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A private server runs.
    #[error("a private server (process {0}) runs; stop `make run` or the tests first")]
    Running(u32),
    /// A folder could not be removed.
    #[error("could not remove `{}`", path.display())]
    Remove {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Removes the target folder and the folder of this clone's private servers.
///
/// # Errors
///
/// When a private server runs or something cannot be removed.
pub fn clean() -> Result<(), CleanError> {
    if let Some(pid) = cluster::running().first() {
        return Err(CleanError::Running(*pid));
    }
    for folder in cluster::possible_folders().into_iter().chain([workspace::target()]) {
        remove(&folder)?;
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<(), CleanError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| CleanError::Remove { path: folder.to_owned(), source }),
    }
}
