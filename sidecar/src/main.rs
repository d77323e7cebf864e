//! Arguments, settings, logging, then one command and its exit code.

mod cli;

use std::{process::ExitCode, time::SystemTime};

use clap::Parser;
use realtime_sidecar::{
    app::App,
    auth::{self, Authenticator},
    check::{self, AccessQuestion, Report, Severity},
    config::{Config, Faults, Sources},
    postgres::{self, Database},
    tail::{TailOptions, tail},
    telemetry,
};
use secrecy::SecretString;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use cli::{CheckArgs, Cli, Command, TailArgs, TokenArgs};

/// Something else went wrong.
const FAILURE: u8 = 1;
/// The command line cannot be read (EX_USAGE).
const USAGE: u8 = 64;
/// The database cannot be reached (EX_UNAVAILABLE).
const UNAVAILABLE: u8 = 69;
/// Whoever was asked about may not (EX_NOPERM).
const DENIED: u8 = 77;
/// Settings, rights or versions have to be mended first (EX_CONFIG).
const CONFIG: u8 = 78;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // The text goes to where it can be read: help to stdout, errors to stderr. If neither takes it, nobody asks.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let sources = cli.settings.sources();
    let code = match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => in_runtime(|| serve(sources)),
        Command::Check(args) => in_runtime(|| check(sources, args)),
        Command::Token(args) => token(&sources, args),
        Command::Tail(args) => in_runtime(|| follow(args)),
    };
    ExitCode::from(code)
}

fn in_runtime<F: Future<Output = u8>>(command: impl FnOnce() -> F) -> u8 {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command()),
        Err(error) => complain(&format!("the runtime cannot start: {error}"), FAILURE),
    }
}

/// Tells a person on stderr; for what happens before or without logging.
fn complain(text: &str, code: u8) -> u8 {
    eprintln!("realtime-sidecar: {text}");
    code
}

fn complain_all(faults: &Faults) -> u8 {
    for fault in &faults.0 {
        complain(&fault.to_string(), CONFIG);
    }
    CONFIG
}

async fn serve(sources: Sources) -> u8 {
    let config = match Config::load(&sources) {
        Ok(config) => config,
        Err(faults) => return complain_all(&faults),
    };
    if let Err(error) = telemetry::start(&config.log) {
        return complain(&format!("logging cannot start: {error}"), FAILURE);
    }
    config.warnings.iter().for_each(|warning| warn!("{warning}"));
    // Boxed, because everything that is awaited below lies in it.
    match Box::pin(run(config)).await {
        Ok(()) => 0,
        Err((text, code)) => {
            error!("{text}");
            code
        }
    }
}

/// Serves, and refuses to go on as soon as the database turns out to be wrong.
async fn run(config: Config) -> Result<(), (String, u8)> {
    let examined = Database::new(&config.database).map_err(|error| (error.chain(), CONFIG))?;
    let app = App::build(config.clone()).await.map_err(|error| (chain(&error), CONFIG))?;
    let stop = CancellationToken::new();
    let guard = async {
        let judged = check::guard(&config, &examined, stop.clone()).await;
        if judged.is_err() {
            stop.cancel();
        }
        judged
    };
    let signals = Signals::catch().map_err(|error| (format!("signals cannot be caught: {error}"), FAILURE))?;
    let ((), judged) = tokio::select! {
        ended = async { tokio::join!(app.run(stop.clone()), guard) } => ended,
        () = signals.stop(&stop) => return Err(("stopped at once, by a second signal".to_owned(), FAILURE)),
    };
    judged.map_err(|refusal| (refusal.to_string(), CONFIG))?;
    info!("stopped");
    Ok(())
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }

    /// The first signal asks to stop; returns at the second, which does not ask.
    async fn stop(mut self, stop: &CancellationToken) {
        self.next().await;
        info!("stopping; a second signal stops at once");
        stop.cancel();
        self.next().await;
    }
}

async fn check(sources: Sources, args: CheckArgs) -> u8 {
    let config = match Config::load(&sources) {
        Ok(config) => config,
        Err(faults) => return complain_all(&faults),
    };
    let database = match Database::new(&config.database) {
        Ok(database) => database,
        Err(error) => return complain(&error.chain(), CONFIG),
    };
    if let (Some(claims), Some(channel)) = (&args.claims, &args.channel) {
        return check_access(&config, &database, claims, channel, &args).await;
    }
    let keys = Authenticator::new(&config.auth);
    let report = check::examine(&config, &database).await;
    tell(&config, &report);
    if let Err(error) = keys {
        println!("fault: {}", chain(&error));
        return CONFIG;
    }
    match report.worst() {
        None | Some(Severity::Warning) => 0,
        Some(Severity::Unreachable) => UNAVAILABLE,
        Some(Severity::Fault) => CONFIG,
    }
}

async fn check_access(config: &Config, database: &Database, claims: &str, channel: &str, args: &CheckArgs) -> u8 {
    let claims = match given(claims) {
        Ok(claims) => claims,
        Err(error) => return complain(&format!("the claims cannot be read: {error}"), USAGE),
    };
    let question = match AccessQuestion::parse(config, &claims, channel, args.key.as_deref()) {
        Ok(question) => question,
        Err(error) => return complain(&error.to_string(), USAGE),
    };
    match question.ask(config, database).await {
        Ok(access) => {
            print!("{}", if args.json { access.to_json() + "\n" } else { access.to_text() });
            if access.is_allowed() { 0 } else { DENIED }
        }
        Err(error @ postgres::Error::Deadline(_)) => {
            complain(&format!("no verdict, which means no: {}; find the policy that has no end", error.chain()), DENIED)
        }
        Err(error) => {
            let finding = check::unexplained(&error);
            complain(&finding.to_string(), if finding.severity == Severity::Fault { CONFIG } else { UNAVAILABLE })
        }
    }
}

/// What an argument stands for: itself, what the file behind an @ holds, or for - what comes on standard input.
fn given(argument: &str) -> std::io::Result<String> {
    match argument.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path),
        None if argument == "-" => std::io::read_to_string(std::io::stdin()),
        None => Ok(argument.to_owned()),
    }
}

fn tell(config: &Config, report: &Report) {
    println!("ok: settings are complete");
    config.warnings.iter().for_each(|warning| println!("warning: {warning}"));
    report.good.iter().for_each(|good| println!("ok: {good}"));
    report.findings.iter().for_each(|finding| println!("{finding}"));
}

fn token(sources: &Sources, args: TokenArgs) -> u8 {
    let settings = match Config::load_auth(sources) {
        Ok(settings) => settings,
        Err(faults) => return complain_all(&faults),
    };
    match auth::mint(&settings, args.into(), SystemTime::now()) {
        Ok(token) => {
            println!("{token}");
            0
        }
        Err(error) => complain(&chain(&error), CONFIG),
    }
}

async fn follow(args: TailArgs) -> u8 {
    let token = args.token.or_else(|| std::env::var("REALTIME_TOKEN").ok()).filter(|token| !token.is_empty());
    let options = TailOptions {
        url: args.url,
        channel: args.channel,
        token: token.map(SecretString::from),
        since: args.since,
        count: args.count,
    };
    let signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => return complain(&format!("signals cannot be caught: {error}"), FAILURE),
    };
    let (stop, mut out) = (CancellationToken::new(), std::io::stdout());
    let followed = tokio::select! {
        followed = tail(&options, &mut out, stop.clone()) => followed,
        () = signals.stop(&stop) => Ok(()),
    };
    match followed {
        Ok(()) => 0,
        Err(error) => complain(&chain(&error), FAILURE),
    }
}

/// An error and its causes in one line; a cause that the text already tells is not told twice.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let told = inner.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = inner.source();
    }
    text
}
