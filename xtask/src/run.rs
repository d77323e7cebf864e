//! `make run`: a private database (or an existing one), the demo in it, the sidecar before it, until Ctrl-C.

mod database;
mod provision;
mod secret;
mod sidecar;

use std::env;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::database::Database;
use self::sidecar::Sidecar;
use crate::build::{self, BuildError, Profile};
use crate::cluster::ClusterError;
use crate::postgres::Version;
use crate::process::ProcessError;
use crate::workspace;

/// What users run is what `make run` runs.
const PROFILE: Profile = Profile::Release;

/// The product could not be started or kept running.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The private database could not be had.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A program that was needed failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The same clone runs it already.
    #[error("`make run` runs in this clone already; stop it there first")]
    Running,
    /// The address of an existing database could not be understood.
    #[error("DATABASE_URL must look like postgres://user:password@host:5432/database")]
    Address,
    /// The existing database has no extension to create.
    #[error(
        "the database could not be prepared; its server needs the extension (run `make install` there), its user must be a superuser"
    )]
    Prepare(#[source] Box<RunError>),
    /// The sidecar ended by itself.
    #[error("the sidecar ended ({status}); the end of {}:\n{tail}", log.display())]
    Ended {
        /// How it ended.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A file could not be read or written, or a signal could not be waited for.
    #[error("could not access `{}`", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Builds and starts everything, prints an address, and waits for Ctrl-C. Leaves no process behind.
///
/// # Errors
///
/// When something cannot be built or started, or the sidecar ends by itself.
pub fn run() -> Result<(), RunError> {
    let url = env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
    // An address with a fault is told before anything is built for it.
    let existing = url.as_deref().map(Database::existing).transpose()?;
    let folder = log_folder()?;
    let _only = only_one(&folder)?;
    println!("building (the first time takes some minutes) ...");
    let program = match existing {
        Some(_) => build::sidecar(PROFILE)?,
        None => build::both(Version::V15, PROFILE)?.1,
    };
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD]).map_err(access(&folder))?;
    let database = open(existing)?;
    let sidecar = Sidecar::start(&program, &database, &folder.join("sidecar.log"))?;
    print!("{}", greeting(&database, &sidecar));
    let result = wait(&mut signals, sidecar);
    println!("\nstopping ...");
    drop(database);
    result
}

fn open(existing: Option<Database>) -> Result<Database, RunError> {
    let Some(database) = existing else {
        let database = Database::private(PROFILE)?;
        provision::prepare(&database)?;
        return Ok(database);
    };
    println!("preparing your database: extension, roles, demo schema ...");
    provision::prepare(&database).map_err(|error| RunError::Prepare(Box::new(error)))?;
    Ok(database)
}

/// Waits until a signal says stop or the sidecar ends, and stops the sidecar.
fn wait(signals: &mut Signals, mut sidecar: Sidecar) -> Result<(), RunError> {
    for signal in signals.forever() {
        if signal != SIGCHLD {
            break;
        }
        // Any child may have ended; only the sidecar's end matters.
        sidecar.check()?;
    }
    sidecar.stop();
    Ok(())
}

fn greeting(database: &Database, sidecar: &Sidecar) -> String {
    let page = format!("\nrealtime is running: {}\n\ntry, in another terminal:\n", sidecar.address());
    let tries = [provision::try_psql(database), sidecar.try_tail(), sidecar.try_curl()];
    let lines = tries.iter().map(|line| format!("  {line}\n")).collect::<String>();
    format!("{page}{lines}\nCtrl-C stops everything. The sidecar's log is {}\n", sidecar.log().display())
}

fn log_folder() -> Result<PathBuf, RunError> {
    let folder = workspace::target().join("run");
    fs::create_dir_all(&folder).map_err(access(&folder))?;
    Ok(folder)
}

/// Two of them would fight over one data folder.
fn only_one(folder: &Path) -> Result<File, RunError> {
    let place = folder.join("lock");
    let file = File::create(&place).map_err(access(&place))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RunError::Running),
        Err(TryLockError::Error(source)) => Err(RunError::Access { path: place, source }),
    }
}

fn access(path: &Path) -> impl FnOnce(io::Error) -> RunError {
    let path = path.to_owned();
    move |source| RunError::Access { path, source }
}
