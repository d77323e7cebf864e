//! The account that servers run as: Postgres refuses to run as root.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::ClusterError;
use crate::process;

/// The account that servers run as: our own, or `postgres` when we are root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// `None` when it is our own.
    other: Option<Ids>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ids {
    user: u32,
    group: u32,
}

impl Account {
    /// The account for servers that this process starts.
    ///
    /// # Errors
    ///
    /// When we are root and there is no user `postgres`.
    pub fn for_servers() -> Result<Self, ClusterError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { other: None });
        }
        let ids = Ids { user: ask_id("-u")?, group: ask_id("-g")? };
        Ok(Self { other: Some(ids) })
    }

    /// A command that will run as this account, in a folder that it can enter, knowing nothing of the caller's own
    /// Postgres settings.
    pub fn command(self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        forget_postgres_settings(&mut command);
        command.current_dir("/");
        if let Some(ids) = self.other {
            // Setting the user as root also drops root's other groups.
            command.uid(ids.user).gid(ids.group).env("HOME", "/nonexistent").env("USER", "postgres");
        }
        command
    }

    /// Gives a file or folder to this account.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn own(self, path: &Path) -> io::Result<()> {
        match self.other {
            Some(ids) => chown(path, Some(ids.user), Some(ids.group)),
            None => Ok(()),
        }
    }

    /// Whether this account can enter and read a folder: folders above it count, so only trying tells.
    pub(super) fn can_enter(self, folder: &Path) -> bool {
        let mut command = self.command("/bin/ls");
        let status = command.arg(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }
}

/// Takes away the variables by which a caller's shell would steer Postgres' programs elsewhere.
pub(super) fn forget_postgres_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
    // A server that inherits these would put the library's stack traces into its error details.
    command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
}

fn ask_id(option: &str) -> Result<u32, ClusterError> {
    let answer = process::capture(Command::new("id").args([option, "postgres"]));
    answer.ok().and_then(|text| text.parse().ok()).ok_or(ClusterError::NoAccount)
}
