//! Servers that take another one's place: a standby that follows it, and its next major version.

use std::fs;
use std::path::Path;

use super::{Cluster, ClusterError, Options, Tree, port, template};
use crate::postgres::Version;
use crate::process;

impl Cluster {
    /// Starts a standby of this server, from the same tree: it follows by streaming and can be read.
    ///
    /// # Errors
    ///
    /// When the data cannot be copied or the standby does not start.
    pub fn start_standby(&self, options: &Options) -> Result<Self, ClusterError> {
        let tree = self.tree();
        Self::start_with(tree, options, |standby| {
            let mut backup = tree.account.command(tree.bin.join("pg_basebackup"));
            backup.args(["--username", "postgres", "--checkpoint", "fast", "--no-sync", "--write-recovery-conf"]);
            backup.arg("--host").arg(self.socket_folder()).arg("--port").arg(self.port().to_string());
            process::capture(backup.arg("--pgdata").arg(standby.data_folder()))?;
            Ok(())
        })
    }

    /// Makes a server of another version out of this stopped one's data, by pg_upgrade, and starts it. The old data stays
    /// as it is.
    ///
    /// # Errors
    ///
    /// When this server runs, pg_upgrade refuses, or the new server does not start.
    pub fn upgrade(&mut self, tree: &Tree, options: &Options) -> Result<Self, ClusterError> {
        if self.is_running() {
            return Err(ClusterError::State("running: stop it before it is upgraded"));
        }
        Self::start_with(tree, options, |new| {
            // Servers of ours have no checksums, and pg_upgrade wants both sides alike. From 18 on they are the default.
            let unlike_default: &[&str] = if tree.version >= Version::V18 { &["--no-data-checksums"] } else { &[] };
            template::make(tree, new.data_folder(), unlike_default)?;
            let mut upgrade = tree.account.command(tree.bin.join("pg_upgrade"));
            upgrade.current_dir(new.socket_folder()).args(["--username", "postgres"]);
            upgrade.arg("--old-bindir").arg(&self.tree().bin).arg("--new-bindir").arg(&tree.bin);
            upgrade.arg("--old-datadir").arg(self.data_folder()).arg("--new-datadir").arg(new.data_folder());
            upgrade.arg("--socketdir").arg(new.socket_folder());
            for side in ["--old-port", "--new-port"] {
                upgrade.arg(side).arg(port::free().ok_or(ClusterError::NoPort)?.to_string());
            }
            let done = process::capture(&mut upgrade).map(drop);
            done.map_err(|source| ClusterError::NotUpgraded { logs: upgrade_logs(new.data_folder()), source })
        })
    }
}

/// The ends of what pg_upgrade logged, one log for each database and some more.
fn upgrade_logs(data: &Path) -> String {
    let runs = fs::read_dir(data.join("pg_upgrade_output.d")).into_iter().flatten().flatten();
    let logs = runs.filter_map(|run| fs::read_dir(run.path().join("log")).ok()).flatten().flatten();
    logs.map(|log| process::tail(&log.path(), 12) + "\n").collect()
}
