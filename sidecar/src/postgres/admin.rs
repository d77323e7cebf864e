//! What administrators ask: channels, messages, policies, retention.

use std::time::{Duration, SystemTime};

use serde_json::value::RawValue;
use tokio_postgres::{Row, error::SqlState, types::Type};

use super::{Database, Error, Session, call::Parameter};
use crate::model::{ChannelRecord, EventCount, MessageCounts, MessageRecord, PolicyRecord, Timestamp};

/// A statement that takes longer is ended.
const DEADLINE: Duration = Duration::from_secs(10);
/// Messages deleted in one transaction.
const BATCH: i32 = 1000;

const CHANNEL: &str = "select id::text, pattern, description, webhook_urls, enabled, created_at, updated_at from";

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// There is one of that name.
    #[error("there is one already")]
    Duplicate,
    /// The database does not take the values.
    #[error("the database does not take these values")]
    Invalid,
    /// The answer would be too large.
    #[error("the answer would be too large")]
    TooLarge,
    /// There is no answer.
    #[error(transparent)]
    Unavailable(Error),
}

/// What a channel is to be; `None` leaves it as it is, or as is usual.
#[derive(Clone, Debug, Default)]
pub struct ChannelChange {
    /// The pattern.
    pub pattern: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Where its messages are posted.
    pub webhook_urls: Option<Vec<String>>,
    /// Whether anybody may enter it.
    pub enabled: Option<bool>,
}

/// Which messages.
#[derive(Clone, Debug, Default)]
pub struct MessageQuery {
    /// Those of the channel with this uuid.
    pub channel: Option<String>,
    /// Those of this event.
    pub event: Option<String>,
    /// So many at most.
    pub limit: i32,
    /// After so many others.
    pub offset: i64,
    /// An answer with more bytes of payloads is an error.
    pub bytes_max: i64,
}

/// Calls of one administrator, over one session.
pub struct Admin<'a>(Session<'a>);

impl<'a> Admin<'a> {
    /// Takes a session.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub async fn open(database: &'a Database) -> Result<Self, AdminError> {
        Session::open(database).await.map(Self).map_err(AdminError::Unavailable)
    }

    /// The channels, newest first, at most so many.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn channels(&self, max: i32) -> Result<Vec<ChannelRecord>, AdminError> {
        let statement = format!("{CHANNEL} realtime.admin_channels(null, $1)");
        self.ask(&statement, &[(&max, Type::INT4)]).await?.iter().map(channel).collect()
    }

    /// The channel with this uuid.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn channel(&self, id: &str) -> Result<Option<ChannelRecord>, AdminError> {
        let statement = format!("{CHANNEL} realtime.admin_channels($1::text::uuid)");
        self.ask(&statement, &[(&id, Type::TEXT)]).await?.first().map(channel).transpose()
    }

    /// Makes a channel.
    ///
    /// # Errors
    ///
    /// When there is one of that pattern, or no answer.
    pub async fn create_channel(&self, pattern: &str, it: &ChannelChange) -> Result<ChannelRecord, AdminError> {
        let statement = format!("{CHANNEL} realtime.admin_create_channel($1, $2, $3, $4)");
        let enabled = it.enabled.unwrap_or(true);
        let parameters: [Parameter<'_>; 4] = [
            (&pattern, Type::TEXT),
            (&it.description, Type::TEXT),
            (&it.webhook_urls, Type::TEXT_ARRAY),
            (&enabled, Type::BOOL),
        ];
        channel(&self.one(&statement, &parameters).await?)
    }

    /// Changes a channel; `None` when there is none with this uuid.
    ///
    /// # Errors
    ///
    /// When another one has the pattern, or no answer.
    pub async fn update_channel(&self, id: &str, it: &ChannelChange) -> Result<Option<ChannelRecord>, AdminError> {
        let statement = format!("{CHANNEL} realtime.admin_update_channel($1::text::uuid, $2, $3, $4, $5)");
        let parameters: [Parameter<'_>; 5] = [
            (&id, Type::TEXT),
            (&it.pattern, Type::TEXT),
            (&it.description, Type::TEXT),
            (&it.webhook_urls, Type::TEXT_ARRAY),
            (&it.enabled, Type::BOOL),
        ];
        self.ask(&statement, &parameters).await?.first().map(channel).transpose()
    }

    /// Deletes a channel, and gives whether there was one with this uuid.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn delete_channel(&self, id: &str) -> Result<bool, AdminError> {
        get(&self.one("select realtime.admin_delete_channel($1::text::uuid)", &[(&id, Type::TEXT)]).await?, 0)
    }

    /// Messages, newest first.
    ///
    /// # Errors
    ///
    /// When the answer would be too large, or there is none.
    pub async fn messages(&self, it: &MessageQuery) -> Result<Vec<MessageRecord>, AdminError> {
        const MESSAGES: &str = "select id::text, event_name, channel_id::text, channel_name, payload, sender_type, sender_id::text, \
             ws_audience_count, wh_audience_count, wh_delivered_count, created_at \
             from realtime.admin_messages($1::text::uuid, $2, $3, $4, $5)";
        let parameters: [Parameter<'_>; 5] = [
            (&it.channel, Type::TEXT),
            (&it.event, Type::TEXT),
            (&it.limit, Type::INT4),
            (&it.offset, Type::INT8),
            (&it.bytes_max, Type::INT8),
        ];
        self.ask(MESSAGES, &parameters).await?.iter().map(message).collect()
    }

    /// Deletes a batch of messages up to a moment, beginning behind the message with this uuid. Gives how many, and where
    /// to go on; `None` at the end.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn clear_messages(
        &self,
        cutoff: SystemTime,
        after: Option<&str>,
    ) -> Result<(u64, Option<String>), AdminError> {
        const CLEAR: &str = "select deleted, last_id::text from realtime.admin_clear_messages($1, $2::text::uuid, $3)";
        let parameters: [Parameter<'_>; 3] = [(&cutoff, Type::TIMESTAMPTZ), (&after, Type::TEXT), (&BATCH, Type::INT4)];
        let row = self.one(CLEAR, &parameters).await?;
        Ok((u64::try_from(get::<i32>(&row, 0)?).unwrap_or_default(), get(&row, 1)?))
    }

    /// The database's time.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn now(&self) -> Result<SystemTime, AdminError> {
        get(&self.one("select pg_catalog.clock_timestamp()", &[]).await?, 0)
    }

    /// How many messages there are of a channel, since a moment.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn message_counts(
        &self,
        channel: Option<&str>,
        since: Option<Timestamp>,
    ) -> Result<MessageCounts, AdminError> {
        const COUNTS: &str = "select messages, wh_audience, wh_delivered, event_names, event_counts \
             from realtime.admin_message_stats($1::text::uuid, $2)";
        let row = self.one(COUNTS, &[(&channel, Type::TEXT), (&since.map(|it| it.0), Type::TIMESTAMPTZ)]).await?;
        let (names, counts): (Vec<String>, Vec<i64>) = (get(&row, 3)?, get(&row, 4)?);
        let count = |(event_name, count)| EventCount { event_name, count };
        Ok(MessageCounts {
            messages: get(&row, 0)?,
            webhooks: get(&row, 1)?,
            delivered: get(&row, 2)?,
            top_events: names.into_iter().zip(counts).map(count).collect(),
        })
    }

    /// The policies of channels and messages.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn policies(&self) -> Result<Vec<PolicyRecord>, AdminError> {
        const POLICIES: &str = "select name, table_name, command, roles, using_expression, check_expression from realtime.admin_policies()";
        self.ask(POLICIES, &[]).await?.iter().map(policy).collect()
    }

    /// For how many days messages are kept; `None`: for ever.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn retention_days(&self) -> Result<Option<i32>, AdminError> {
        get(&self.one("select realtime.admin_retention_days()", &[]).await?, 0)
    }

    /// Keeps messages for so many days; `None`: for ever.
    ///
    /// # Errors
    ///
    /// When the log is kept for longer, or there is no answer.
    pub async fn keep_messages(&self, days: Option<i32>) -> Result<(), AdminError> {
        self.ask("select realtime.admin_keep_messages($1)", &[(&days, Type::INT4)]).await.map(drop)
    }

    async fn ask(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, AdminError> {
        self.0.query_within(DEADLINE, statement, parameters).await.map_err(admin_error)
    }

    async fn one(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Row, AdminError> {
        self.ask(statement, parameters).await?.pop().ok_or(AdminError::Unavailable(Error::Malformed))
    }
}

fn admin_error(error: Error) -> AdminError {
    match error.sqlstate() {
        Some(state) if *state == SqlState::UNIQUE_VIOLATION => AdminError::Duplicate,
        Some(state) if *state == SqlState::PROGRAM_LIMIT_EXCEEDED => AdminError::TooLarge,
        // Values that break a rule, such as a time that there is not, or a text that the database's encoding has not.
        Some(state) if state.code().starts_with("22") || state.code().starts_with("23") => AdminError::Invalid,
        _ => AdminError::Unavailable(error),
    }
}

fn get<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, AdminError> {
    row.try_get(index).map_err(|error| AdminError::Unavailable(error.into()))
}

fn channel(row: &Row) -> Result<ChannelRecord, AdminError> {
    Ok(ChannelRecord {
        id: get(row, 0)?,
        pattern: get(row, 1)?,
        description: get(row, 2)?,
        webhook_urls: get(row, 3)?,
        enabled: get(row, 4)?,
        created_at: Timestamp(get(row, 5)?),
        updated_at: Timestamp(get(row, 6)?),
    })
}

fn message(row: &Row) -> Result<MessageRecord, AdminError> {
    // What Postgres writes as JSON is JSON.
    let payload = RawValue::from_string(get(row, 4)?).map_err(|_| AdminError::Unavailable(Error::Malformed))?;
    Ok(MessageRecord {
        id: get(row, 0)?,
        event_name: get(row, 1)?,
        channel_id: get(row, 2)?,
        channel_name: get(row, 3)?,
        payload,
        sender_type: get(row, 5)?,
        sender_id: get(row, 6)?,
        ws_audience_count: get(row, 7)?,
        wh_audience_count: get(row, 8)?,
        wh_delivered_count: get(row, 9)?,
        created_at: Timestamp(get(row, 10)?),
    })
}

fn policy(row: &Row) -> Result<PolicyRecord, AdminError> {
    Ok(PolicyRecord {
        policy_name: get(row, 0)?,
        table_name: get(row, 1)?,
        command: get(row, 2)?,
        roles: get(row, 3)?,
        using: get(row, 4)?,
        with_check: get(row, 5)?,
    })
}
