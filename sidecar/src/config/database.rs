//! How the database is reached.

use std::time::Duration;

use secrecy::ExposeSecret;

use super::{dsn::Dsn, values::Values};

/// The `[database]` section.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// For everything but LISTEN; may lead through a pooler.
    pub pool: Dsn,
    /// For LISTEN; must not lead through a transaction pooler.
    pub direct: Dsn,
    /// Connections in the pool.
    pub pool_size_max: usize,
    /// Age at which a pooled connection is replaced.
    pub connection_age_max: Duration,
    /// Time to connect and log in, over all hosts.
    pub connect_timeout: Duration,
    /// Shortest wait between two attempts to reach the database, in milliseconds.
    pub reconnect_ms: u64,
    /// Longest wait between two attempts, in milliseconds.
    pub reconnect_max_ms: u64,
}

impl DatabaseSettings {
    pub(super) fn build(values: &mut Values) -> Option<Self> {
        let pool = url(values);
        let direct = dsn(values, "database.direct_url");
        let (reconnect_ms, reconnect_max_ms) = reconnect(values);
        let settings = Self {
            pool_size_max: values.count("database.pool_size_max", 1, 1000),
            connection_age_max: Duration::from_secs(values.number("database.connection_age_max_s", 1, 86_400 * 7)),
            connect_timeout: Duration::from_millis(values.number("database.connect_timeout_ms", 50, 300_000)),
            reconnect_ms,
            reconnect_max_ms,
            direct: direct.or_else(|| pool.clone())?,
            pool: pool?,
        };
        Some(settings)
    }
}

fn url(values: &mut Values) -> Option<Dsn> {
    const REMEDY: &str = "set database.url or REALTIME_DATABASE_URL to postgres://user:password@host:5432/database";
    if values.text("database.url").is_empty() && values.path("database.url_file").is_none() {
        values.fault("database.url", "it is not set", REMEDY);
    }
    dsn(values, "database.url")
}

fn dsn(values: &mut Values, key: &str) -> Option<Dsn> {
    let text = values.secret(key)?;
    match Dsn::parse(text.expose_secret()) {
        Ok(dsn) => Some(dsn),
        Err(error) => {
            values.fault(key, error.to_string(), error.remedy());
            None
        }
    }
}

fn reconnect(values: &mut Values) -> (u64, u64) {
    let min = values.number("database.reconnect_ms", 1, 3_600_000);
    let max = values.number("database.reconnect_max_ms", 1, 3_600_000);
    if min > max && values.is_given("database.reconnect_max_ms") {
        values.fault("database.reconnect_max_ms", "it is below database.reconnect_ms", "make it at least as long");
    }
    // Who only makes the shortest wait longer means the longest to follow.
    (min, max.max(min))
}
