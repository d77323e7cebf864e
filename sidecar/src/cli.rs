//! The command line: words to settings and commands.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use realtime_sidecar::{auth::MintRequest, config::Sources, tail::Since};

/// Delivers every committed change of a Postgres database to the sockets that may see it.
#[derive(Parser)]
#[command(name = "realtime-sidecar", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Settings that are often given by hand; every other one by --set.
#[derive(Args)]
pub(crate) struct Settings {
    /// Settings file [default: realtime.toml here or in /etc/realtime]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The database, as postgres://user@host/database
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// A way to the database around its pooler, for LISTEN
    #[arg(long, global = true, value_name = "URL")]
    direct_url: Option<String>,
    /// Public address
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address of /metrics
    #[arg(long, global = true, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// What is logged: error, warn, info, debug, trace or target=level pairs
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// text or json
    #[arg(long, global = true, value_name = "FORM")]
    log_format: Option<String>,
    /// Serve the demonstration page
    #[arg(long, global = true)]
    demo: bool,
    /// Any setting, as section.name=value
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
}

impl Settings {
    /// These flags over the environment of the process and the settings file.
    pub(crate) fn sources(self) -> Sources {
        let named = [
            ("database.url", self.database_url),
            ("database.direct_url", self.direct_url),
            ("listen", self.listen),
            ("admin_listen", self.admin_listen),
            ("log.level", self.log),
            ("log.format", self.log_format),
            ("demo", self.demo.then(|| "true".to_owned())),
        ];
        let named = named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Sources::of_process(self.config, named.chain(self.set).collect())
    }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Deliver events until stopped (the default)
    Serve,
    /// Examine settings, database, rights and versions, and say what to mend; with --as, who may see what and why
    Check(CheckArgs),
    /// Sign a token for development with the configured secret
    Token(TokenArgs),
    /// Print the events of a channel, one JSON line each
    Tail(TailArgs),
}

#[derive(Args)]
pub(crate) struct TokenArgs {
    /// Who the token is for
    #[arg(long)]
    sub: Option<String>,
    /// The database role
    #[arg(long, default_value = "authenticated")]
    role: String,
    /// For how long: seconds, or a number with s, m, h or d
    #[arg(long, default_value = "1h", value_parser = duration)]
    ttl: Duration,
    /// A further claim; JSON where it is JSON, else text
    #[arg(long = "claim", value_name = "KEY=VALUE", value_parser = pair)]
    claims: Vec<(String, String)>,
}

impl From<TokenArgs> for MintRequest {
    fn from(args: TokenArgs) -> Self {
        let json = |text: String| serde_json::from_str(&text).unwrap_or_else(|_| text.into());
        let claims = args.claims.into_iter().map(|(name, text)| (name, json(text))).collect();
        Self { sub: args.sub, role: args.role, ttl: args.ttl, claims }
    }
}

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// Whether somebody with these claims may listen to CHANNEL: JSON, @FILE, or - for standard input, where others on
    /// this machine do not see them
    #[arg(long = "as", value_name = "CLAIMS", requires = "channel")]
    pub(crate) claims: Option<String>,
    /// A channel, or table:schema.table
    #[arg(requires = "claims")]
    pub(crate) channel: Option<String>,
    /// Whether they see the row with these values of its key, as JSON
    #[arg(long, requires = "claims")]
    pub(crate) key: Option<String>,
    /// Say it as JSON
    #[arg(long, requires = "claims")]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct TailArgs {
    /// A channel, or table:schema.table
    pub(crate) channel: String,
    /// The sidecar's WebSocket
    #[arg(long, default_value = "ws://127.0.0.1:4000/realtime")]
    pub(crate) url: String,
    /// Who asks; better given as REALTIME_TOKEN, where other users do not see it
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// Begin after this offset, or with the oldest event
    #[arg(long, value_name = "OFFSET|oldest")]
    pub(crate) since: Option<Since>,
    /// End after so many events
    #[arg(long, value_name = "EVENTS")]
    pub(crate) count: Option<u64>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("give key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn duration(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(['s', 'm', 'h', 'd']);
    let unit_s = match &text[number.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("give seconds, or a number with s, m, h or d".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "give seconds, or a number with s, m, h or d".to_owned())?;
    Ok(Duration::from_secs(number.saturating_mul(unit_s)))
}
