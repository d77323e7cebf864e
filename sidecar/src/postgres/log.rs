//! Reading the log and keeping it going: one SQL call each.

use tokio_postgres::{Row, error::SqlState, types::Type};

use super::{
    Database, Error, Session,
    call::{Parameter, Prepared},
    row::EventReader,
};
use crate::model::{Event, Gap, GapReason, Offset, Topic};

/// The contract with the extension that this sidecar was written for.
pub const CONTRACT_VERSION: i32 = 1;

/// The contract's versions that this sidecar speaks: its own and the one before, so that sidecars can be replaced before
/// the extension is, or after. There was none before the first.
pub const CONTRACT_VERSIONS: std::ops::RangeInclusive<i32> =
    if CONTRACT_VERSION > 1 { CONTRACT_VERSION - 1 } else { 1 }..=CONTRACT_VERSION;

const READ: &str = "select kind, \"offset\", until, reason, op, relations, schemas, tables, key, record, old_record, \
     oversize, at, channel, event, payload, message_id::text, sender_type, sender_id::text, sender, shapes \
     from realtime.read($1, $2, $3, $4, $5)";

/// What to read.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The cursor.
    pub after: Offset,
    /// Events at most.
    pub events_max: usize,
    /// Bytes at most; one event is always read, however large.
    pub bytes_max: usize,
    /// Only the events of this topic.
    pub topic: Option<&'a Topic>,
}

/// What was read.
#[derive(Debug)]
pub struct Read {
    /// What cannot be had, before the events.
    pub gap: Option<Gap>,
    /// The events, offsets growing.
    pub events: Vec<Event>,
    /// The next cursor.
    pub until: Offset,
    /// The end of the log.
    pub head: Offset,
}

/// Why the log could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Retention moved under the reader: ask again.
    #[error("retention moved under the reader")]
    Moved,
    /// What was read is not what was announced. Never skipped.
    #[error("the log is not what it announced: {0}")]
    Broken(String),
    /// There is no answer.
    #[error(transparent)]
    Postgres(#[from] Error),
}

/// How the log is kept going.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status {
    /// A worker ticks; otherwise the sidecar does.
    pub has_worker: bool,
    /// How long the oldest event has waited to become readable.
    pub lag_ms: f64,
    /// Bytes of the log on disk.
    pub log_bytes: i64,
}

/// The version of the contract that the database speaks.
///
/// # Errors
///
/// When there is no answer; the extension may be missing.
pub async fn contract_version(session: &Session<'_>) -> Result<i32, Error> {
    Ok(one(session, "select realtime.contract_version()").await?.try_get(0)?)
}

/// Makes what has committed readable, and gives whether there was anything.
///
/// # Errors
///
/// When there is no answer.
pub async fn tick(session: &Session<'_>) -> Result<bool, Error> {
    Ok(!session.query("select tick_id from realtime.tick()", &[]).await?.is_empty())
}

/// Says in the log that events could not be written, where that happened. To be called before a tick, by who ticks.
///
/// # Errors
///
/// When there is no answer.
pub async fn mark_lost(session: &Session<'_>) -> Result<(), Error> {
    session.query("select realtime.mark_lost()", &[]).await.map(drop)
}

/// Keeps the retention of log and messages. To be called now and then, by who ticks.
///
/// # Errors
///
/// When there is no answer, or it could not be done.
pub async fn keep_house(session: &Session<'_>) -> Result<(), Error> {
    session.query("select realtime.keep_house()", &[]).await.map(drop)
}

/// Wakes every sidecar. To be called after a tick that had something.
///
/// # Errors
///
/// When there is no answer.
pub async fn ring(session: &Session<'_>) -> Result<(), Error> {
    session.query("select realtime.ring()", &[]).await.map(drop)
}

/// Gives back the room of notifications that everybody has read. The server does so only when somebody rings, which a
/// full queue does not let anybody do: once full, it would stay so.
///
/// # Errors
///
/// When there is no answer.
pub async fn empty_bells(session: &Session<'_>) -> Result<(), Error> {
    session.query("select pg_notification_queue_usage()", &[]).await.map(drop)
}

/// Gives whether a worker runs now, starting one when there is room for it.
///
/// # Errors
///
/// When there is no answer.
pub async fn start_worker(session: &Session<'_>) -> Result<bool, Error> {
    Ok(one(session, "select realtime.start_worker()").await?.try_get(0)?)
}

/// How the log is kept going.
///
/// # Errors
///
/// When there is no answer.
pub async fn status(session: &Session<'_>) -> Result<Status, Error> {
    let row = one(session, "select mode, lag_ms, log_bytes from realtime.status()").await?;
    Ok(Status {
        has_worker: row.try_get::<_, &str>(0)? == "worker",
        lag_ms: row.try_get::<_, Option<f64>>(1)?.unwrap_or_default(),
        log_bytes: row.try_get::<_, Option<i64>>(2)?.unwrap_or_default(),
    })
}

/// The end of the log.
///
/// # Errors
///
/// As [`read`].
pub async fn head(session: &Session<'_>) -> Result<Offset, ReadError> {
    let rows = session.query(READ, &parameters(&None, &0, &0, &None, &None)).await.map_err(read_error)?;
    Ok(collect(&rows, Offset::ZERO)?.head)
}

/// A session that reads on for long.
pub struct Reading<'a> {
    session: &'a Session<'a>,
    /// Parsed once: that is a quarter of what reading an event takes.
    statement: Option<Prepared>,
}

impl<'a> Reading<'a> {
    /// Over a session that any pooler may give to others between two reads.
    #[must_use]
    pub fn over(session: &'a Session<'a>) -> Self {
        Self { session, statement: None }
    }

    /// Over a session that is [`Session::reading`]: the statement is parsed once.
    ///
    /// # Errors
    ///
    /// When there is no answer, or nothing that reads.
    pub async fn prepared(session: &'a Session<'a>) -> Result<Self, Error> {
        let types = parameters(&None, &0, &0, &None, &None).map(|(_, kind)| kind);
        Ok(Self { session, statement: Some(session.prepare(READ, &types).await?) })
    }

    /// The session, for what else there is to ask.
    #[must_use]
    pub fn session(&self) -> &'a Session<'a> {
        self.session
    }

    /// Reads on.
    ///
    /// # Errors
    ///
    /// Why it could not be read.
    pub async fn read(&self, it: Query<'_>) -> Result<Read, ReadError> {
        let Some(statement) = &self.statement else {
            return read(self.session, it).await;
        };
        let (after, events, bytes, relation, channel) = arguments(it);
        let parameters = parameters(&after, &events, &bytes, &relation, &channel);
        let rows = self.session.query_prepared(statement, &parameters).await.map_err(read_error)?;
        collect(&rows, it.after)
    }
}

/// Reads on, over this session.
///
/// # Errors
///
/// Why it could not be read.
pub async fn read(session: &Session<'_>, it: Query<'_>) -> Result<Read, ReadError> {
    let (after, events, bytes, relation, channel) = arguments(it);
    let parameters = parameters(&after, &events, &bytes, &relation, &channel);
    let rows = session.query(READ, &parameters).await.map_err(read_error)?;
    collect(&rows, it.after)
}

/// Reads on, over a session of its own.
///
/// # Errors
///
/// Why it could not be read.
pub async fn read_pooled(database: &Database, it: Query<'_>) -> Result<Read, ReadError> {
    read(&Session::open(database).await?, it).await
}

async fn one(session: &Session<'_>, statement: &str) -> Result<Row, Error> {
    let mut rows = session.query(statement, &[]).await?;
    rows.pop().ok_or(Error::Malformed)
}

type Arguments<'a> = (Option<i64>, i32, i32, Option<u32>, Option<&'a str>);

fn arguments(it: Query<'_>) -> Arguments<'_> {
    let limit = |limit: usize| i32::try_from(limit).unwrap_or(i32::MAX);
    let (relation, channel) = match it.topic {
        Some(Topic::Table(oid)) => (Some(*oid), None),
        Some(Topic::Channel(name)) => (None, Some(name.as_str())),
        None => (None, None),
    };
    (Some(it.after.get()), limit(it.events_max), limit(it.bytes_max), relation, channel)
}

fn parameters<'a>(
    after: &'a Option<i64>,
    events: &'a i32,
    bytes: &'a i32,
    relation: &'a Option<u32>,
    channel: &'a Option<&str>,
) -> [Parameter<'a>; 5] {
    [(after, Type::INT8), (events, Type::INT4), (bytes, Type::INT4), (relation, Type::OID), (channel, Type::TEXT)]
}

fn read_error(error: Error) -> ReadError {
    match error.sqlstate() {
        Some(state) if *state == SqlState::T_R_SERIALIZATION_FAILURE => ReadError::Moved,
        Some(state) if *state == SqlState::DATA_CORRUPTED => ReadError::Broken(error.chain()),
        _ => ReadError::Postgres(error),
    }
}

/// Checks what was read against the contract: offsets grow, and the last row is the cursor.
fn collect(rows: &[Row], after: Offset) -> Result<Read, ReadError> {
    let (last, before) = rows.split_last().ok_or_else(|| broken("no cursor came"))?;
    if kind(last)? != b'c' {
        return Err(broken("the last row is not the cursor"));
    }
    let (until, head) = (offset(last, 1)?, offset(last, 2)?);
    let mut read = Read { gap: None, events: Vec::with_capacity(before.len()), until, head };
    let mut events = EventReader::default();
    let mut position = after;
    for row in before {
        match kind(row)? {
            b'g' if read.events.is_empty() && read.gap.is_none() => {
                let gap = gap(row)?;
                position = gap.to;
                read.gap = Some(gap);
            }
            b'e' => {
                let event = events.event(row)?;
                if event.offset <= position {
                    return Err(broken("offsets do not grow"));
                }
                position = event.offset;
                read.events.push(event);
            }
            _ => return Err(broken("a row is out of place")),
        }
    }
    if until < position {
        return Err(broken("the cursor lies before its events"));
    }
    Ok(read)
}

fn kind(row: &Row) -> Result<u8, Error> {
    Ok(row.try_get::<_, i8>(0)?.cast_unsigned())
}

pub(super) fn offset(row: &Row, index: usize) -> Result<Offset, ReadError> {
    Offset::new(row.try_get(index).map_err(Error::from)?).ok_or_else(|| broken("an offset is out of range"))
}

fn gap(row: &Row) -> Result<Gap, ReadError> {
    let reason: &str = row.try_get(3).map_err(Error::from)?;
    let reason =
        [GapReason::Retention, GapReason::History, GapReason::Ahead].into_iter().find(|it| it.as_str() == reason);
    Ok(Gap { reason: reason.ok_or_else(|| broken("a gap has no reason"))?, from: offset(row, 1)?, to: offset(row, 2)? })
}

pub(super) fn broken(what: &str) -> ReadError {
    ReadError::Broken(what.to_owned())
}

impl ReadError {
    /// This error and its causes in one line, for logs.
    #[must_use]
    pub fn chain(&self) -> String {
        match self {
            Self::Postgres(error) => error.chain(),
            other => other.to_string(),
        }
    }
}

impl From<tokio_postgres::Error> for ReadError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error.into())
    }
}
