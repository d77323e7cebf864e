//! What can go wrong between us and the database.

use std::{fmt, time::Duration};

use tokio_postgres::error::{DbError, Severity, SqlState};

use super::TlsError;

/// Why there is no connection, or why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Certificates cannot be used.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// Nothing answered in time.
    #[error("the database did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// A statement was given up: it took too long.
    #[error("the database took longer than {} ms", .0.as_millis())]
    Deadline(Duration),
    /// A judgement was given up: the policies took too long for the identity with this number.
    #[error("the policies of a table have no end for one identity")]
    Hanging(i32),
    /// The server's session ended while a statement ran: the server stopped, somebody ended it from outside, or a policy
    /// did from inside.
    #[error("the server ended the session")]
    Ended(#[source] tokio_postgres::Error),
    /// The pool was closed: the sidecar is stopping.
    #[error("the sidecar is stopping")]
    Closed,
    /// The role that logs in could do more than it may.
    #[error("the login role is refused: {0}")]
    Role(RoleFault),
    /// An answer lacks its row, or holds what cannot be.
    #[error("the database's answer is not as it must be: is the extension's version the right one?")]
    Malformed,
    /// The driver's or the server's own error.
    #[error("the database refused or was lost")]
    Postgres(#[from] tokio_postgres::Error),
}

impl Error {
    /// What a statement failed with on a session that had been opened.
    pub(super) fn of_statement(error: tokio_postgres::Error) -> Self {
        let is_fatal = |refusal: &DbError| matches!(refusal.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
        if error.is_closed() || error.as_db_error().is_some_and(is_fatal) {
            return Self::Ended(error);
        }
        Self::Postgres(error)
    }

    /// The server's code, when it was the server that refused.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&SqlState> {
        match self {
            Self::Postgres(error) | Self::Ended(error) => error.code(),
            _ => None,
        }
    }

    /// The server's function that refused.
    pub(super) fn routine(&self) -> Option<&str> {
        self.refusal()?.routine()
    }

    /// Whether one of our functions refused, and none that it called.
    pub(super) fn is_of_function(&self, name: &str) -> bool {
        let place = self.refusal().and_then(DbError::where_).unwrap_or_default();
        place.strip_prefix("PL/pgSQL function ").is_some_and(|rest| rest.starts_with(name))
    }

    fn refusal(&self) -> Option<&DbError> {
        match self {
            Self::Postgres(error) => error.as_db_error(),
            _ => None,
        }
    }

    /// Whether waiting cannot help: somebody has to change settings or rights.
    #[must_use]
    pub fn is_definite(&self) -> bool {
        const DEFINITE: [&SqlState; 5] = [
            &SqlState::INVALID_PASSWORD,
            &SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            &SqlState::INVALID_CATALOG_NAME,
            &SqlState::INSUFFICIENT_PRIVILEGE,
            &SqlState::UNDEFINED_FUNCTION,
        ];
        match self {
            Self::Tls(_) | Self::Role(_) => true,
            Self::Postgres(_) => self.sqlstate().is_some_and(|state| DEFINITE.contains(&state)),
            Self::Timeout(_)
            | Self::Deadline(_)
            | Self::Hanging(_)
            | Self::Ended(_)
            | Self::Closed
            | Self::Malformed => false,
        }
    }

    /// This error and its causes in one line, for logs. Never holds parameters, and no words that a row may be in.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = match error.downcast_ref::<DbError>() {
                Some(refusal) => format!("{text}: {}", words(refusal)),
                // It repeats what its cause says.
                None if error.source().is_some_and(<dyn std::error::Error>::is::<DbError>) => text,
                None => format!("{text}: {error}"),
            };
            cause = error.source();
        }
        text
    }
}

/// What the server said. A policy's functions and conversions put values into their messages, so words are shown only
/// when they are our own functions', or of a kind that has names in it and no values.
fn words(refusal: &DbError) -> String {
    const WITHOUT_VALUES: [&str; 9] = ["08", "25", "28", "3D", "42", "53", "55", "57", "58"];
    let code = refusal.code().code();
    let is_ours = refusal.where_().is_some_and(|place| place.starts_with("PL/pgSQL function realtime."));
    let is_raised = refusal.routine() == Some("exec_stmt_raise");
    let is_shown = if is_raised { is_ours } else { WITHOUT_VALUES.iter().any(|class| code.starts_with(class)) };
    if is_shown {
        format!("{} ({code})", refusal.message())
    } else {
        format!("error {code}, whose words are in the server's log")
    }
}

/// A right that the login role must not have: policies are written by people, and a function in one of them runs
/// with whatever the login role can become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleFault {
    /// It is a superuser.
    pub superuser: bool,
    /// It ignores row level security.
    pub bypass_rls: bool,
    /// It uses the rights of the roles that it is a member of without assuming them.
    pub inherit: bool,
}

impl RoleFault {
    /// `None` when the role is as it must be.
    #[must_use]
    pub fn of(superuser: bool, bypass_rls: bool, inherit: bool) -> Option<Self> {
        (superuser || bypass_rls || inherit).then_some(Self { superuser, bypass_rls, inherit })
    }
}

impl RoleFault {
    /// The attributes, for people.
    #[must_use]
    pub fn names(&self) -> String {
        self.attributes("", " and ")
    }

    /// The words of ALTER ROLE that take them away.
    #[must_use]
    pub fn remedy(&self) -> String {
        self.attributes("no", " ")
    }

    fn attributes(&self, prefix: &str, separator: &str) -> String {
        let all = [(self.superuser, "superuser"), (self.bypass_rls, "bypassrls"), (self.inherit, "inherit")];
        let bad: Vec<String> = all.iter().filter(|(has, _)| *has).map(|(_, name)| format!("{prefix}{name}")).collect();
        bad.join(separator)
    }
}

impl fmt::Display for RoleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it has {}; run: alter role … {}", self.names(), self.remedy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_fault_names_its_remedy() {
        let fault = RoleFault::of(true, false, true).unwrap();
        assert_eq!(fault.to_string(), "it has superuser and inherit; run: alter role … nosuperuser noinherit");
        assert_eq!(RoleFault::of(false, false, false), None);
    }
}
