//! One server of a tree: its start, its end, and questions to it.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::guard::Guard;
use super::options::{access_rules, configuration};
use super::{ClusterError, Options, Storage, Tree, access, files, port, template};
use crate::process;

/// Recovery after a crash counts as starting.
const START_MAX: Duration = Duration::from_secs(120);
const STOP_MAX: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How a server is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended, everything is written: what an administrator does.
    Fast,
    /// At once, as if it had crashed; the next start recovers.
    Immediate,
}

/// A private server. It ends when this is dropped, and, whatever happens to us, when our process ends.
#[derive(Debug)]
pub struct Cluster {
    tree: Tree,
    folder: PathBuf,
    data: PathBuf,
    sockets: PathBuf,
    port: u16,
    storage: Storage,
    environment: Vec<(String, String)>,
    server: Option<Child>,
    guard: Guard,
}

impl Cluster {
    /// Starts a server and waits until it answers. Kept data is used when it is there, else made.
    ///
    /// # Errors
    ///
    /// When a folder cannot be written or the server does not start; the error carries the end of its log.
    pub fn start(tree: &Tree, options: &Options) -> Result<Self, ClusterError> {
        for _ in 0..2 {
            match Self::start_once(tree, options) {
                // Somebody took the free port between the look and the use.
                Err(ClusterError::NotStarted { tail, .. })
                    if options.port.is_none() && tail.contains("could not bind") => {}
                result => return result,
            }
        }
        Self::start_once(tree, options)
    }

    fn start_once(tree: &Tree, options: &Options) -> Result<Self, ClusterError> {
        let cluster = Self::start_with(tree, options, |cluster| template::copy_to(tree, &cluster.data))?;
        cluster.set_password(options)?;
        Ok(cluster)
    }

    /// Starts a server; `make_data` makes its data folder when there is none.
    pub(super) fn start_with(
        tree: &Tree,
        options: &Options,
        make_data: impl FnOnce(&Self) -> Result<(), ClusterError>,
    ) -> Result<Self, ClusterError> {
        let folder = folder(tree, &options.storage)?;
        let data = folder.join("data");
        let port = options.port.or_else(port::free).ok_or(ClusterError::NoPort)?;
        let sockets = socket_folder(tree, &folder)?;
        let guard = start_guard(tree, &options.storage, &folder, &sockets)?;
        let (storage, environment) = (options.storage.clone(), options.environment.clone());
        let tree = tree.clone();
        let mut cluster = Self { tree, folder, data, sockets, port, storage, environment, server: None, guard };
        if !cluster.data.join("PG_VERSION").exists() {
            make_data(&cluster)?;
        }
        cluster.configure(options)?;
        cluster.start_again()?;
        Ok(cluster)
    }

    fn configure(&self, options: &Options) -> Result<(), ClusterError> {
        let text = configuration(options, self.port, &self.sockets.to_string_lossy());
        for (name, text) in [(template::CONFIGURATION, text), ("pg_hba.conf", access_rules(options))] {
            let path = self.data.join(name);
            fs::write(&path, text).map_err(access(&path))?;
            self.tree.account.own(&path).map_err(access(&path))?;
        }
        Ok(())
    }

    fn set_password(&self, options: &Options) -> Result<(), ClusterError> {
        let Some(password) = &options.password else {
            return Ok(());
        };
        self.sql("postgres", &format!("alter role postgres password '{}'", password.replace('\'', "''")))?;
        Ok(())
    }

    /// Starts a stopped server again, with the same data, port and settings, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it runs already or does not start.
    pub fn start_again(&mut self) -> Result<(), ClusterError> {
        if self.is_running() {
            return Err(ClusterError::State("already running"));
        }
        let log = self.log_file();
        let open = || File::options().create(true).append(true).open(&log);
        let mut command = self.tree.account.command(self.tree.bin.join("postgres"));
        command.arg("-D").arg(&self.data).envs(self.environment.iter().cloned()).stdin(Stdio::null());
        command.stdout(open().map_err(access(&log))?).stderr(open().map_err(access(&log))?);
        // Out of the terminal's group: Ctrl-C is for us, and we stop the server when it is its turn.
        let server = command.process_group(0).spawn().map_err(|source| process::not_started(&command, source))?;
        self.server = Some(server);
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<(), ClusterError> {
        let deadline = Instant::now() + START_MAX;
        while !self.is_ready() {
            if !self.is_running() {
                return Err(self.not_started("it ended"));
            }
            if Instant::now() > deadline {
                return Err(self.not_started("it was not ready in time"));
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// The server writes its state into the eighth line of its pid file; the file of a predecessor does not count. A standby
    /// that can be read is as ready as it will be.
    fn is_ready(&self) -> bool {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines();
        let ours = lines.next().and_then(|line| line.trim().parse().ok()) == self.pid();
        ours && lines.nth(6).is_some_and(|state| ["ready", "standby"].contains(&state.trim()))
    }

    fn not_started(&self, reason: &str) -> ClusterError {
        let log = self.log_file();
        ClusterError::NotStarted { reason: reason.to_owned(), tail: process::tail(&log, 20), log }
    }

    /// Stops the server and waits until it has ended.
    ///
    /// # Errors
    ///
    /// When it does not run, or does not end within a minute.
    pub fn stop(&mut self, how: Stop) -> Result<(), ClusterError> {
        self.signal(match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        })?;
        self.wait_until_ended()
    }

    /// Stops the server and starts it again.
    ///
    /// # Errors
    ///
    /// As [`Cluster::stop`] and [`Cluster::start_again`].
    pub fn restart(&mut self, how: Stop) -> Result<(), ClusterError> {
        self.stop(how)?;
        self.start_again()
    }

    /// Kills the server's first process (SIGKILL) and waits until all of its processes are gone, as a crash leaves it.
    ///
    /// # Errors
    ///
    /// When it does not run, or its processes do not end.
    pub fn kill(&mut self) -> Result<(), ClusterError> {
        self.signal(Signal::KILL)?;
        self.wait_until_ended()
    }

    fn signal(&mut self, signal: Signal) -> Result<(), ClusterError> {
        if !self.is_running() {
            return Err(ClusterError::State("not running"));
        }
        let server = self.server.as_ref().ok_or(ClusterError::State("not running"))?;
        // The child has not been waited for, so its pid cannot be anybody else's.
        let _ = kill_process(Pid::from_child(server), signal);
        Ok(())
    }

    /// Waits for the first process, then for those that outlive it after a crash: a new server could not start beside
    /// them.
    fn wait_until_ended(&mut self) -> Result<(), ClusterError> {
        let deadline = Instant::now() + STOP_MAX;
        let pid = self.pid().unwrap_or(0);
        while self.is_running() || !files::server_processes(&self.data).is_empty() {
            if Instant::now() > deadline {
                return Err(ClusterError::NotStopped { pid, seconds: STOP_MAX.as_secs(), log: self.log_file() });
            }
            thread::sleep(LOOK_AGAIN);
        }
        self.server = None;
        Ok(())
    }

    /// Whether the server's first process runs.
    pub fn is_running(&mut self) -> bool {
        self.server.as_mut().is_some_and(|server| matches!(server.try_wait(), Ok(None)))
    }

    /// The server's first process, while it has not been stopped.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// The port on 127.0.0.1, the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the server's socket, to be used as a host name.
    pub fn socket_folder(&self) -> &Path {
        &self.sockets
    }

    /// The data folder.
    pub fn data_folder(&self) -> &Path {
        &self.data
    }

    /// The server's log.
    pub fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The tree that the server was started from.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// An address for the superuser over TCP. When a password was set, callers add it.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", database)
    }

    /// An address for a role over TCP.
    pub fn url_as(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs SQL as the superuser, statement by statement, and returns the rows: fields separated by `|`, one row a line.
    ///
    /// # Errors
    ///
    /// When a statement fails; the error carries what the server said.
    pub fn sql(&self, database: &str, text: &str) -> Result<String, ClusterError> {
        let mut psql = self.tree.program("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-p"]);
        psql.arg(self.port.to_string()).arg("-h").arg(&self.sockets);
        Ok(process::capture_with_input(&mut psql, text)?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let how = if self.storage == Storage::Temporary { Stop::Immediate } else { Stop::Fast };
        if self.is_running() {
            let _ = self.stop(how);
        }
        self.guard.release();
    }
}

/// The folder of a server: data, log and socket.
fn folder(tree: &Tree, storage: &Storage) -> Result<PathBuf, ClusterError> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let servers = tree.base.join("servers");
    let folder = match storage {
        Storage::Temporary => {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            servers.join(format!("{}-{count}", std::process::id()))
        }
        Storage::Kept(name) => tree.kept_folder(name),
        Storage::At(folder) => folder.clone(),
    };
    if *storage == Storage::Temporary {
        // Left by a process of the same number that was killed together with its guard.
        template::remove(tree, &folder)?;
    }
    make_folder(tree, &servers, 0o755)?;
    make_folder(tree, &folder, 0o700)?;
    folder.canonicalize().map_err(access(&folder))
}

fn start_guard(tree: &Tree, storage: &Storage, folder: &Path, sockets: &Path) -> Result<Guard, ClusterError> {
    let temporary = *storage == Storage::Temporary;
    let own_sockets = sockets != folder;
    let removed = [temporary.then_some(folder), own_sockets.then_some(sockets)];
    let removed: Vec<&Path> = removed.into_iter().flatten().collect();
    let signal = if temporary { "QUIT" } else { "INT" };
    Guard::start(tree.account, &folder.join("data"), signal, &removed).map_err(access(folder))
}

/// Socket paths may have 107 bytes. A folder that is too deep gets its socket in the temporary folder.
fn socket_folder(tree: &Tree, folder: &Path) -> Result<PathBuf, ClusterError> {
    if folder.as_os_str().len() + ".s.PGSQL.65535.lock".len() < 100 {
        return Ok(folder.to_owned());
    }
    let name = format!("realtime-socket-{}-{}", std::process::id(), port::free().ok_or(ClusterError::NoPort)?);
    let sockets = std::env::temp_dir().join(name);
    make_folder(tree, &sockets, 0o700)?;
    Ok(sockets)
}

fn make_folder(tree: &Tree, folder: &Path, mode: u32) -> Result<(), ClusterError> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(folder);
    made.and_then(|()| tree.account.own(folder)).map_err(access(folder))
}
