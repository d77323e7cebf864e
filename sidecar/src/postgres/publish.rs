//! Publishing on behalf of a client.

use std::time::Duration;

use tokio_postgres::{error::SqlState, types::Type};

use super::{Database, Error, Session};
use crate::model::{ChannelName, Identity, Refusal};

/// A policy that takes longer denies. The write may still happen: its `message_id` makes trying again safe.
const DEADLINE: Duration = Duration::from_secs(10);

const PUBLISH: &str = "select message_id::text, duplicate from realtime.publish_as($1, $2, $3, $4, $5, $6::text::uuid)";

/// A committed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its uuid.
    pub message_id: String,
    /// It had been committed before.
    pub duplicate: bool,
}

/// Why a message was not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The caller's policies do not allow it, or there is no such channel.
    #[error("not allowed to publish on this channel")]
    Forbidden(Refusal),
    /// The channel's or the event's name breaks a rule.
    #[error("the channel or event name is not accepted")]
    BadName,
    /// The payload is no JSON that the database can store.
    #[error("the payload cannot be stored as JSON")]
    BadPayload,
    /// The payload is larger than an event may be.
    #[error("the payload is larger than realtime.max_event_bytes")]
    TooLarge,
    /// The message's uuid names another message, or is none.
    #[error("the message id names another message")]
    BadId,
    /// A policy or trigger failed.
    #[error("a policy or trigger failed")]
    Failed(#[source] Error),
    /// There is no answer.
    #[error(transparent)]
    Unavailable(Error),
}

impl PublishError {
    /// What was refused, if that is what it is.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Forbidden(refusal) => Some(refusal.clone()),
            Self::Failed(error) => Some(Refusal::PolicyFailed(error.sqlstate()?.code().into())),
            _ => None,
        }
    }
}

/// Publishes as this identity, and returns after the commit.
///
/// # Errors
///
/// Why it was not published.
pub async fn publish_as(
    database: &Database,
    identity: &Identity,
    channel: &ChannelName,
    event: &str,
    payload: &str,
    message_id: Option<&str>,
) -> Result<Published, PublishError> {
    let (role, claims, channel) = (&*identity.role, &*identity.claims, channel.as_str());
    let parameters: [super::call::Parameter<'_>; 6] = [
        (&role, Type::TEXT),
        (&claims, Type::TEXT),
        (&channel, Type::TEXT),
        (&event, Type::TEXT),
        (&payload, Type::TEXT),
        (&message_id, Type::TEXT),
    ];
    let session = Session::open(database).await.map_err(PublishError::Unavailable)?;
    let rows = session.query_within(DEADLINE, PUBLISH, &parameters).await.map_err(publish_error)?;
    let row = rows.first().ok_or(PublishError::Unavailable(Error::Malformed))?;
    let read = || Ok(Published { message_id: row.try_get(0)?, duplicate: row.try_get(1)? });
    read().map_err(|error: tokio_postgres::Error| PublishError::Unavailable(error.into()))
}

fn publish_error(error: Error) -> PublishError {
    let Some(state) = error.sqlstate().cloned() else {
        return PublishError::Unavailable(error);
    };
    match state {
        SqlState::INSUFFICIENT_PRIVILEGE => PublishError::Forbidden(refusal(&error)),
        SqlState::UNDEFINED_OBJECT if error.is_of_function("realtime.publish_as") => {
            PublishError::Forbidden(Refusal::NoRole)
        }
        SqlState::INVALID_PARAMETER_VALUE => PublishError::BadName,
        SqlState::PROGRAM_LIMIT_EXCEEDED => PublishError::TooLarge,
        SqlState::UNIQUE_VIOLATION => PublishError::BadId,
        SqlState::INVALID_TEXT_REPRESENTATION
        | SqlState::UNTRANSLATABLE_CHARACTER
        | SqlState::CHARACTER_NOT_IN_REPERTOIRE
        | SqlState::DUPLICATE_JSON_OBJECT_KEY_VALUE
        | SqlState::STATEMENT_TOO_COMPLEX => PublishError::BadPayload,
        // Not connected, out of resources, told to stop, or broken: the caller may try again.
        state
            if ["08", "53", "57", "58", "XX", "25", "40", "55"].iter().any(|class| state.code().starts_with(class)) =>
        {
            PublishError::Unavailable(error)
        }
        _ => PublishError::Failed(error),
    }
}

/// Why there is no right: the server uses one code for all of it, and says elsewhere where it was missed.
fn refusal(error: &Error) -> Refusal {
    match error.routine() {
        Some("ExecWithCheckOptions") => Refusal::Policies,
        Some("aclcheck_error") => Refusal::NoPrivilege,
        // Ours: no channel has this name. A policy's function raises in the same place, and says as little.
        Some("exec_stmt_raise") if error.is_of_function("realtime.publish_as") => Refusal::NoChannel,
        Some("exec_stmt_raise") => Refusal::PolicyFailed(SqlState::INSUFFICIENT_PRIVILEGE.code().into()),
        _ => Refusal::Forbidden,
    }
}
