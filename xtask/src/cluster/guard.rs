//! Ends a server whose owner died without ending it: a killed test run leaves no server behind.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};

use super::Account;

/// Waits until the pipe from its owner closes, which the system does however the owner ends; then ends the server, if
/// it still runs, and removes what is temporary. A pid alone may be somebody else's by then: only a process that works
/// in the data folder is the server.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
data=$1 signal=$2
shift 2
read -r _
server() { pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null) && [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$data" ]; }
server && kill -s "$signal" "$pid" 2>/dev/null
while server; do sleep 0.1; done
if [ $# -gt 0 ]; then rm -rf -- "$@"; fi
"#;

/// A process that outlives ours for a moment.
#[derive(Debug)]
pub(super) struct Guard {
    process: Child,
}

impl Guard {
    /// Starts a guard that ends the server in `data` by a signal, and then removes folders.
    pub(super) fn start(account: Account, data: &Path, signal: &str, removed: &[&Path]) -> io::Result<Self> {
        let mut command = account.command("/bin/sh");
        command.args(["-c", SCRIPT, "postgres-guard"]).arg(data).arg(signal).args(removed);
        // Out of the terminal's group, so that Ctrl-C reaches the owner alone.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(Self { process: command.spawn()? })
    }

    /// Lets the guard do its work now, and waits for it.
    pub(super) fn release(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
