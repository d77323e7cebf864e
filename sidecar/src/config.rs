//! The settings: a typed tree made from defaults, file, environment and flags.
//!
//! `config.default.toml` is the list of what exists: a key is known when it stands there, and the type of its default
//! is its type. Every fault is found in one run and comes with its remedy.

mod auth;
mod database;
mod dsn;
mod environment;
mod fault;
mod keys;
mod layer;
mod seeds;
mod sources;
mod token_key;
mod values;
mod webhooks;

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, time::Duration};

pub use auth::{AuthSettings, JwksSource};
pub use database::DatabaseSettings;
pub use dsn::{Dsn, DsnError, TlsMode, TlsSettings, process_name};
pub use fault::{Fault, Faults};
pub use keys::KeySetting;
pub use layer::Origin;
pub use sources::Sources;
pub use token_key::{TokenKey, TokenKeyPair};
pub use webhooks::{Retry, SigningKey, WebhookSettings};

use values::Values;

/// All settings and their defaults as TOML with comments, for people and for the key list.
pub const DEFAULTS: &str = include_str!("config.default.toml");

/// Every environment variable that is a setting, with the setting's name in the file.
#[must_use]
pub fn environment_names() -> Vec<(String, String)> {
    environment::names(&values::defaults())
}

/// Everything that can be set, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Public address.
    pub listen: SocketAddr,
    /// Address of `/metrics`.
    pub admin_listen: SocketAddr,
    /// Origins that browsers may come from, exactly. `*` alone means all.
    pub origins: Vec<String>,
    /// Whether the demonstration page is served.
    pub demo: bool,
    /// The way into the database that the page shows.
    pub demo_psql: String,
    /// Whether events are read from the log and delivered.
    pub deliver: bool,
    /// How the database is reached.
    pub database: DatabaseSettings,
    /// Who is let in.
    pub auth: AuthSettings,
    /// What differs between servers of InsForge's protocol.
    pub insforge: InsforgeSettings,
    /// Sizes and counts.
    pub limits: Limits,
    /// Times.
    pub timing: Timing,
    /// Whether and how webhooks are sent.
    pub webhooks: WebhookSettings,
    /// Whether and how deliveries are counted.
    pub counters: CounterSettings,
    /// What is logged and how.
    pub log: LogSettings,
    /// What the operator should know although it is no fault; to be logged once at start.
    pub warnings: Vec<String>,
}

/// What differs between servers of InsForge's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InsforgeSettings {
    /// Codes of errors are those of the live system.
    pub live_codes: bool,
    /// `meta.channel` begins with `realtime:`.
    pub prefixes_channel: bool,
}

/// Sizes are bytes, the rest are counts. `config.default.toml` says what each is for.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is explained beside its default in config.default.toml")]
pub struct Limits {
    pub frame_bytes_max: usize,
    pub anonymous_frame_bytes_max: usize,
    pub event_bytes_max: usize,
    pub handshake_bytes_max: usize,
    pub handshake_headers_max: usize,
    pub connections_max: usize,
    pub connections_per_user_max: usize,
    pub connections_per_address_max: usize,
    pub subscriptions_max: usize,
    pub presence_members_max: usize,
    pub presence_state_bytes_max: usize,
    pub snapshots_max: usize,
    pub messages_per_second_max: usize,
    pub messages_burst_max: usize,
    pub bad_frames_max: usize,
    pub queue_frames_max: usize,
    pub queue_bytes_max: usize,
    pub recent_bytes_max: usize,
    pub shared_bytes_max: usize,
}

/// All in milliseconds. `config.default.toml` says what each is for.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is explained beside its default in config.default.toml")]
pub struct Timing {
    pub heartbeat_ms: u64,
    pub ping_ms: u64,
    pub dead_ms: u64,
    pub engine_ping_ms: u64,
    pub engine_pong_ms: u64,
    pub engine_upgrade_ms: u64,
    pub engine_post_ms: u64,
    pub handshake_ms: u64,
    pub connect_ms: u64,
    pub poll_ms: u64,
    pub busy_tick_ms: u64,
    pub house_ms: u64,
    pub recheck_ms: u64,
    pub refusal_ms: u64,
    pub no_progress_ms: u64,
    pub snapshot_ms: u64,
    pub judge_ms: u64,
    pub drain_ms: u64,
}

/// How the counters of messages are kept.
#[derive(Clone, Debug)]
pub struct CounterSettings {
    /// How often they are written.
    pub flush: Duration,
    /// Messages whose counts may wait; 0: nothing is counted.
    pub messages_max: usize,
}

/// What is logged and how.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// A `tracing` filter.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
    /// Denials logged in ten seconds.
    pub denials_max: usize,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Reads all layers and checks every setting.
    ///
    /// # Errors
    ///
    /// All faults at once, each with its remedy.
    pub fn load(sources: &Sources) -> Result<Self, Faults> {
        let mut values = Values::gather(sources);
        let config = Self::build(&mut values);
        values.finish(config)
    }

    /// Reads only the `[auth]` section: minting a token needs no database.
    ///
    /// # Errors
    ///
    /// As [`Config::load`], for that section.
    pub fn load_auth(sources: &Sources) -> Result<AuthSettings, Faults> {
        let mut values = Values::gather(sources);
        let auth = AuthSettings::build(&mut values);
        values.finish(auth)
    }

    /// Reads only the `[log]` section, so that logging can start before the rest is judged.
    ///
    /// # Errors
    ///
    /// As [`Config::load`], for that section.
    pub fn load_log(sources: &Sources) -> Result<LogSettings, Faults> {
        let mut values = Values::gather(sources);
        let log = log(&mut values);
        values.finish(log)
    }

    fn build(values: &mut Values) -> Option<Self> {
        // Each part is asked before any is missed, so that one run names every fault.
        let listen = values.address("listen");
        let admin_listen = values.address("admin_listen");
        let origins = origins(values);
        let (demo, deliver) = (values.flag("demo"), values.flag("deliver"));
        let demo_psql = values.text("demo_psql");
        let database = DatabaseSettings::build(values);
        let auth = AuthSettings::build(values);
        let insforge = insforge(values);
        let (limits, timing) = (limits(values), timing(values));
        let (webhooks, counters) = (WebhookSettings::build(values), counters(values));
        let log = log(values);
        Some(Self {
            listen: listen?,
            admin_listen: admin_listen?,
            origins,
            demo,
            demo_psql,
            deliver,
            database: database?,
            auth: auth?,
            insforge,
            limits,
            timing,
            webhooks: webhooks?,
            counters,
            log: log?,
            warnings: values.take_warnings(),
        })
    }
}

fn insforge(values: &mut Values) -> InsforgeSettings {
    InsforgeSettings {
        live_codes: values.one_of("insforge.error_codes", ["seed", "live"]) == 1,
        prefixes_channel: values.one_of("insforge.meta_channel", ["plain", "prefixed"]) == 1,
    }
}

fn limits(values: &mut Values) -> Limits {
    Limits {
        frame_bytes_max: values.count("limits.frame_bytes_max", 1024, 64 << 20),
        anonymous_frame_bytes_max: values.count("limits.anonymous_frame_bytes_max", 1024, 64 << 20),
        event_bytes_max: values.count("limits.event_bytes_max", 1024, 64 << 20),
        handshake_bytes_max: values.count("limits.handshake_bytes_max", 8192, 1 << 20),
        handshake_headers_max: values.count("limits.handshake_headers_max", 8, 1000),
        connections_max: values.count("limits.connections_max", 1, 10_000_000),
        connections_per_user_max: values.count("limits.connections_per_user_max", 1, 10_000_000),
        connections_per_address_max: values.count("limits.connections_per_address_max", 1, 10_000_000),
        subscriptions_max: values.count("limits.subscriptions_max", 1, 1_000_000),
        presence_members_max: values.count("limits.presence_members_max", 0, 1_000_000),
        presence_state_bytes_max: values.count("limits.presence_state_bytes_max", 16, 1 << 20),
        snapshots_max: values.count("limits.snapshots_max", 1, 1000),
        messages_per_second_max: values.count("limits.messages_per_second_max", 1, 1_000_000),
        messages_burst_max: values.count("limits.messages_burst_max", 1, 1_000_000),
        bad_frames_max: values.count("limits.bad_frames_max", 1, 1_000_000),
        queue_frames_max: values.count("limits.queue_frames_max", 1, 10_000_000),
        queue_bytes_max: values.count("limits.queue_bytes_max", 1024, 1 << 32),
        recent_bytes_max: values.count("limits.recent_bytes_max", 0, 1 << 40),
        shared_bytes_max: values.count("limits.shared_bytes_max", 0, 1 << 40),
    }
}

fn timing(values: &mut Values) -> Timing {
    const HOUR_MS: u64 = 3_600_000;
    Timing {
        heartbeat_ms: values.number("timing.heartbeat_ms", 100, HOUR_MS),
        ping_ms: values.number("timing.ping_ms", 100, HOUR_MS),
        dead_ms: values.number("timing.dead_ms", 100, HOUR_MS),
        engine_ping_ms: values.number("timing.engine_ping_ms", 100, HOUR_MS),
        engine_pong_ms: values.number("timing.engine_pong_ms", 100, HOUR_MS),
        engine_upgrade_ms: values.number("timing.engine_upgrade_ms", 100, HOUR_MS),
        engine_post_ms: values.number("timing.engine_post_ms", 100, HOUR_MS),
        connect_ms: values.number("timing.connect_ms", 100, HOUR_MS),
        handshake_ms: values.number("timing.handshake_ms", 10, HOUR_MS),
        poll_ms: values.number("timing.poll_ms", 10, 60_000),
        busy_tick_ms: values.number("timing.busy_tick_ms", 1, 60_000),
        house_ms: values.number("timing.house_ms", 100, HOUR_MS),
        recheck_ms: values.number("timing.recheck_ms", 50, HOUR_MS),
        refusal_ms: values.number("timing.refusal_ms", 0, 60_000),
        no_progress_ms: values.number("timing.no_progress_ms", 100, HOUR_MS),
        snapshot_ms: values.number("timing.snapshot_ms", 1000, HOUR_MS),
        judge_ms: values.number("timing.judge_ms", 100, 60_000),
        drain_ms: values.number("timing.drain_ms", 0, HOUR_MS),
    }
}

fn counters(values: &mut Values) -> CounterSettings {
    let messages_max = values.count("counters.messages_max", 1, 10_000_000);
    CounterSettings {
        flush: Duration::from_millis(values.number("counters.flush_ms", 10, 3_600_000)),
        messages_max: if values.flag("counters.enabled") { messages_max } else { 0 },
    }
}

fn log(values: &mut Values) -> Option<LogSettings> {
    let level = values.text("log.level");
    if level.parse::<tracing_subscriber::filter::Targets>().is_err() {
        values.fault("log.level", "it is not a filter", "give error, warn, info, debug, trace or target=level pairs");
    }
    let format = match values.text("log.format").as_str() {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => {
            values.fault("log.format", "it is not a form of log lines", "give text or json");
            None
        }
    };
    let denials_max = values.count("log.denials_max", 0, 1_000_000);
    Some(LogSettings { level, format: format?, denials_max })
}

fn origins(values: &mut Values) -> Vec<String> {
    let origins = values.list("origins");
    for origin in &origins {
        if !is_origin(origin) {
            let what = format!("`{origin}` is not an origin");
            values.fault(
                "origins",
                what,
                "give scheme://host[:port] in lower case without path or trailing slash, or *",
            );
        }
    }
    origins
}

/// Whether a browser could send this as `Origin`. Anything else would never match and so hides a mistake.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else {
        return text == "*";
    };
    let scheme_ok = !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_lowercase() || "+-.".contains(c));
    let host_ok =
        !host.is_empty() && !host.contains(['/', '?', '#', '@', '*', ' ']) && !host.contains(char::is_uppercase);
    scheme_ok && host_ok
}
