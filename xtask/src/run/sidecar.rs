//! The sidecar of `make run`.

use std::env;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::database::{Database, SIDECAR_ROLE};
use super::{RunError, access, provision, secret};
use crate::process;

/// The sidecar's default.
const PORT: u16 = 4000;
const START_MAX: Duration = Duration::from_secs(30);
/// Longer than the sidecar gives its own connections.
const STOP_MAX: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A running sidecar. It ends when this is dropped, or when our process ends.
#[derive(Debug)]
pub(super) struct Sidecar {
    process: Child,
    program: PathBuf,
    listen: SocketAddr,
    log: PathBuf,
}

impl Sidecar {
    /// Starts a sidecar as a role of its own with fresh secrets, and waits until it answers.
    pub(super) fn start(program: &Path, database: &Database, log: &Path) -> Result<Self, RunError> {
        let password = secret::generate()?;
        make_role(database, &password)?;
        let (listen, admin) = (address("REALTIME_LISTEN", PORT), address("REALTIME_ADMIN_LISTEN", PORT + 1));
        let mut command = with_owner(program);
        command.args(["serve", "--demo"]).process_group(0);
        command.env("REALTIME_DATABASE_URL", database.sidecar_url(&password));
        command.env("REALTIME_DEMO_PSQL", database.psql_words());
        command.env("REALTIME_LISTEN", listen.to_string()).env("REALTIME_ADMIN_LISTEN", admin.to_string());
        if env::var_os("REALTIME_JWT_SECRET").is_none() {
            command.env("REALTIME_JWT_SECRET", secret::generate()?);
        }
        let output = File::create(log).map_err(access(log))?;
        command.stdin(Stdio::null()).stderr(output.try_clone().map_err(access(log))?).stdout(output);
        let process = command.spawn().map_err(|source| process::not_started(&command, source))?;
        let mut sidecar = Self { process, program: program.to_owned(), listen, log: log.to_owned() };
        sidecar.wait_until_ready()?;
        Ok(sidecar)
    }

    fn wait_until_ready(&mut self) -> Result<(), RunError> {
        let deadline = Instant::now() + START_MAX;
        while !answers(self.listen) {
            self.check()?;
            if Instant::now() > deadline {
                return Err(self.ended("it did not answer in time"));
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// An error when it has ended.
    pub(super) fn check(&mut self) -> Result<(), RunError> {
        match self.process.try_wait().map_err(access(&self.log))? {
            Some(status) => Err(self.ended(&status.to_string())),
            None => Ok(()),
        }
    }

    fn ended(&self, status: &str) -> RunError {
        RunError::Ended { status: status.to_owned(), tail: process::tail(&self.log, 20), log: self.log.clone() }
    }

    /// Asks it to end, waits, and ends it when it does not.
    pub(super) fn stop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            // The child has not been waited for, so its pid cannot be anybody else's.
            let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        }
        let deadline = Instant::now() + STOP_MAX;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(LOOK_AGAIN);
        }
        // Both do nothing to a process that has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Where people look.
    pub(super) fn address(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Where it writes.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// A command line that follows a channel.
    pub(super) fn try_tail(&self) -> String {
        let is_default = self.listen == SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        let url = if is_default { String::new() } else { format!(" --url ws://{}/realtime", self.listen) };
        format!("{} tail{url} '{}'", self.program.display(), provision::try_channel())
    }

    /// A command line that asks how it is.
    pub(super) fn try_curl(&self) -> String {
        format!("curl {}/health", self.address())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.stop();
    }
}

fn make_role(database: &Database, password: &str) -> Result<(), RunError> {
    let exists = database.sql(&format!("select 1 from pg_roles where rolname = '{SIDECAR_ROLE}'"))?;
    let word = if exists.is_empty() { "create" } else { "alter" };
    // Not in the server's log: it would hold the password.
    database.sql(&format!(
        "set log_statement = 'none'; set log_min_duration_statement = -1; set log_min_error_statement = 'panic';
         {word} role {SIDECAR_ROLE} login noinherit password '{password}';
         select realtime.grant_sidecar('{SIDECAR_ROLE}');"
    ))?;
    Ok(())
}

/// A command that ends when we end, however we end.
fn with_owner(program: &Path) -> Command {
    match process::find("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "TERM", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// The address that the environment names; else loopback with a port, or one soon after when somebody has it.
fn address(variable: &str, port: u16) -> SocketAddr {
    if let Some(named) = env::var(variable).ok().and_then(|text| text.parse().ok()) {
        return named;
    }
    let candidates = (port..port + 100).step_by(10).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    candidates.into_iter().find(|place| TcpListener::bind(place).is_ok()).unwrap_or((Ipv4Addr::LOCALHOST, port).into())
}

fn answers(listen: SocketAddr) -> bool {
    ask(listen).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn ask(listen: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&listen, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(format!("GET /health HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
