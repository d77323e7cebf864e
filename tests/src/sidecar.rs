//! The sidecar's process.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{eventually, http, port};

/// A sidecar's process with its addresses. It is killed when this is dropped, or when our process ends.
#[derive(Debug)]
pub struct Sidecar {
    settings: Vec<(String, String)>,
    address: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
    process: Option<Running>,
}

/// The process, and one that kills it when ours ends without doing so.
#[derive(Debug)]
struct Running {
    sidecar: Child,
    guard: Child,
}

impl Sidecar {
    /// Starts a sidecar with settings from the environment, on free ports, and does not wait for anything.
    pub fn start(settings: &[(String, String)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("realtime-sidecar-{}-{}.log", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let log = std::env::temp_dir().join(name);
        let _ = fs::remove_file(&log);
        let (address, admin) = (port::free(), port::free());
        let mut sidecar = Self { settings: settings.to_vec(), address, admin, log, process: None };
        sidecar.start_again();
        sidecar
    }

    /// Starts it again with the same settings and addresses; its log goes on.
    ///
    /// # Panics
    ///
    /// When it runs.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the sidecar runs");
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = self.command(&[]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let sidecar = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program().display()));
        self.process = Some(Running { guard: guard(sidecar.id(), &self.log), sidecar });
    }

    /// Changes a setting for the next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// A command for the same program with the same settings, such as `check`.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        // Neither a realtime.toml nor variables of whoever runs the tests.
        command.args(words).current_dir("/").env_clear();
        command.env("REALTIME_LISTEN", self.address.to_string());
        command.env("REALTIME_ADMIN_LISTEN", self.admin.to_string());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Waits until it serves events.
    pub async fn ready(&self) {
        eventually("the sidecar is ready", async || (self.status("/ready").await == Some(200)).then_some(())).await;
    }

    /// Waits until it answers at all.
    pub async fn answers(&self) {
        eventually("the sidecar answers", async || (self.status("/ping").await == Some(200)).then_some(())).await;
    }

    async fn status(&self, path: &str) -> Option<u16> {
        http::get(self.address, path).await.map(|answer| answer.status)
    }

    /// What `/health` says.
    pub async fn health(&self) -> Value {
        http::get(self.address, "/health").await.map_or(Value::Null, |answer| answer.json())
    }

    /// What `/api/realtime/stats` says.
    pub async fn stats(&self) -> Value {
        http::get(self.address, "/api/realtime/stats").await.map_or(Value::Null, |answer| answer.json())
    }

    /// The sum of a metric over its labels; 0 when it has no sample.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = http::get(self.admin, "/metrics").await.map(|answer| answer.body).unwrap_or_default();
        let samples = page.lines().filter_map(|line| line.strip_prefix(name));
        let samples = samples.filter(|rest| rest.starts_with([' ', '{']));
        samples.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The public address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The admin address.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|running| running.sidecar.id())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        let running = self.process.as_ref().expect("the sidecar runs");
        // The child has not been waited for, so its pid cannot be anybody else's.
        kill_process(Pid::from_child(&running.sidecar), signal).unwrap();
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exit().await
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    ///
    /// When it does not run, or does not end.
    pub async fn exit(&mut self) -> ExitStatus {
        let mut running = self.process.take().expect("the sidecar runs");
        let status = eventually("the sidecar has ended", async || running.sidecar.try_wait().unwrap()).await;
        running.end();
        status
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.process.take() {
            running.end();
        }
    }
}

impl Running {
    fn end(&mut self) {
        // The guard first: it would look for a pid that may soon be somebody else's.
        for process in [&mut self.guard, &mut self.sidecar] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.kill();
        let log = self.log();
        let _ = fs::remove_file(&self.log);
        if std::thread::panicking() {
            eprintln!("--- the sidecar's log ({}):\n{}---", self.address, tail(&log));
        } else if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
            panic!("the sidecar panicked: {line}");
        }
    }
}

fn tail(log: &str) -> String {
    const LINES: usize = 60;
    let skipped = log.lines().count().saturating_sub(LINES);
    log.lines().skip(skipped).map(|line| format!("{line:.400}\n")).collect()
}

/// A process that kills the sidecar and removes its log when its own input closes, which the system does however we end.
fn guard(pid: u32, log: &Path) -> Child {
    const SCRIPT: &str = r#"
        read -r _
        case "$(cat "/proc/$1/comm" 2>/dev/null)" in realtime-sideca*) kill -s KILL "$1";; esac
        rm -f -- "$2""#;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT, "sidecar-guard", &pid.to_string()]).arg(log);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The sidecar as the sources have it now; `REALTIME_TEST_SIDECAR` names another one.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("REALTIME_TEST_SIDECAR") {
        Some(path) => path.into(),
        None => build(),
    })
}

/// The packages are those of `make test`, so that cargo builds nothing a second time.
fn build() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(xtask::workspace::root());
    cargo.args(["build", "--quiet", "--workspace", "--exclude", "realtime-extension", "--bins"]);
    xtask::process::run(&mut cargo).unwrap_or_else(|error| panic!("{error}"));
    xtask::build::sidecar_program(xtask::build::Profile::Dev)
}
