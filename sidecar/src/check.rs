//! Looks at database, rights and versions before anything depends on them: every fault with its remedy, all at once.

mod access;
mod facts;
mod guard;
mod judge;
mod sessions;

use std::fmt;

pub use access::{Access, AccessError, AccessQuestion};
pub use guard::{Refusal, guard};

use crate::{
    config::Config,
    postgres::{Database, Error},
};
use facts::Facts;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The sidecar works, but the operator should know.
    Warning,
    /// Waiting may help: the database cannot be reached now.
    Unreachable,
    /// Somebody has to change something; the sidecar does not serve like this.
    Fault,
}

impl Finding {
    fn fault(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Fault, what: what.into(), remedy: remedy.into() }
    }

    fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Unreachable => "unreachable",
            Severity::Fault => "fault",
        };
        write!(f, "{severity}: {}; {}", self.what, self.remedy)
    }
}

/// What an examination found, and what was found good.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Worst things are not first; the order is that of the examination.
    pub findings: Vec<Finding>,
    /// One line for each thing that is as it should be.
    pub good: Vec<String>,
}

impl Report {
    /// The worst severity, `None` when all is well.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max_by_key(|severity| *severity as u8)
    }

    fn good(&mut self, line: impl Into<String>) {
        self.good.push(line.into());
    }
}

/// Examines the database as the sidecar would use it.
pub async fn examine(config: &Config, database: &Database) -> Report {
    let mut report = Report::default();
    let facts = match Facts::gather(config, database).await {
        Ok(facts) => facts,
        Err(error) => {
            report.findings.push(connecting(&error, &config.database.pool.to_string()));
            return report;
        }
    };
    report.good(format!("reached {} (PostgreSQL {})", config.database.pool, facts.server_version));
    judge::judge(&facts, config, &mut report);
    sessions::examine(config, database, &facts, &mut report).await;
    report
}

/// What to do about a pooler that gives every transaction another session.
const LOST_STATEMENTS: &str = "let the pooler keep prepared statements (PgBouncer 1.21 or newer, \
                               max_prepared_statements), or point database.url at the server itself";

/// What to do when the database did not say why somebody may see something.
#[must_use]
pub fn unexplained(error: &Error) -> Finding {
    let what = format!("the database gave no answer: {}", error.chain());
    let severity = if error.sqlstate().is_some() { Severity::Fault } else { Severity::Unreachable };
    let remedy = match error.sqlstate().map(tokio_postgres::error::SqlState::code) {
        Some("22023") => "give a key whose columns the table has",
        Some("42883" | "3F000") => {
            "update the extension: alter extension realtime update; then realtime.grant_sidecar('role')"
        }
        _ => remedy(error),
    };
    Finding { severity, what, remedy: remedy.to_owned() }
}

/// What it means that no connection could be made or used.
fn connecting(error: &Error, target: &str) -> Finding {
    let is_pooler = remedy(error) == LOST_STATEMENTS;
    let severity = if error.is_definite() || is_pooler { Severity::Fault } else { Severity::Unreachable };
    let what = format!("{target} cannot be used: {}", error.chain());
    Finding { severity, what, remedy: remedy(error).to_owned() }
}

fn remedy(error: &Error) -> &'static str {
    match error.sqlstate().map(tokio_postgres::error::SqlState::code) {
        Some("28P01") => "give the role's password in database.url",
        Some("28000") => "let the role log in from here: pg_hba.conf, or alter role … login",
        Some("3D000") => "create the database or name another one in database.url",
        Some("42501") => "run as owner of the extension: select realtime.grant_sidecar('role')",
        Some("53300") => "raise max_connections or lower database.pool_size_max",
        Some("57P03") => "wait until the server has started",
        Some("42P05" | "26000") => LOST_STATEMENTS,
        // The driver does not say so in another way.
        _ if error.chain().contains("TLS") => "set sslmode and sslrootcert to fit the server",
        _ => "check host, port, firewall and whether the server runs",
    }
}
