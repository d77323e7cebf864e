//! The session of the one that sends webhooks: it is elected, claims what is due, and says what came of it.
//!
//! The right to send is a lock of this very session. When the session is lost so is the right, and nothing can be claimed
//! over it any more.

use std::time::Duration;

use tokio_postgres::{Row, types::Type};

use super::{Client, Connection, Database, Error, call::Parameter};
use crate::hub::{Counts, MessageId};

/// How long a statement may take: all of them look up a few rows.
const DEADLINE: Duration = Duration::from_secs(10);

const ELECT: &str = "select realtime.elect_webhook_sender()";
const WAIT: &str = "select realtime.webhook_wait_ms($1)";
const CLAIM: &str = "select id::text, url, host, attempts, message_id::text, channel, event, payload, is_oversize \
     from realtime.claim_webhooks($1, $2, $3, $4, $5, $6)";
const FINISH: &str =
    "select message_id::text, webhooks from realtime.finish_webhooks($1::text[]::uuid[], $2, $3, $4, $5, $6)";

/// A session of its own, past any pooler.
pub struct SenderSession {
    client: Client,
}

/// What may be claimed.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Deliveries at most.
    pub wanted: usize,
    /// Requests that a host may have at once.
    pub host_places: usize,
    /// Hosts that have some, with how many more they may have.
    pub hosts: Vec<(String, usize)>,
    /// Time after which the claim lapses.
    pub lease: Duration,
    /// Payloads that are longer are not given.
    pub payload_bytes_max: usize,
}

/// A delivery that is due.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Its uuid.
    pub id: String,
    /// Where it goes. May hold a password: not for logs.
    pub url: String,
    /// Host and port, as it is counted.
    pub host: String,
    /// Requests so far.
    pub attempts: u32,
    /// The message's uuid.
    pub message_id: String,
    /// What is sent, or why it cannot be.
    pub content: Result<Content, ContentFault>,
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Content {
    /// The channel's name.
    pub channel: String,
    /// The event's name.
    pub event: String,
    /// The payload as JSON.
    pub payload: String,
}

/// Why there is nothing to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentFault {
    /// The message is gone.
    #[error("the message was deleted before it could be sent")]
    Deleted,
    /// It is larger than events may be.
    #[error("the payload is larger than limits.event_bytes_max")]
    TooLarge,
}

/// What came of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its uuid.
    pub id: String,
    /// The receiver has taken it.
    pub delivered: bool,
    /// The answer's status.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<String>,
    /// When it is tried again, in milliseconds from now; `None`: never.
    pub retry_ms: Option<u32>,
}

impl SenderSession {
    /// Opens it. The caller drives the [`Connection`].
    ///
    /// # Errors
    ///
    /// As [`Database::own`].
    pub async fn open(database: &Database) -> Result<(Self, Connection), Error> {
        let (client, connection) = database.own_direct().await?;
        Ok((Self { client }, connection))
    }

    /// Whether this session may send from now on; to be asked until it is so, and not again. The server ends a session that
    /// says nothing for `silence_max`, so that a sidecar that stands still, or whose machine is gone, does not keep others
    /// from sending.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn elect(&self, silence_max: Duration) -> Result<bool, Error> {
        // A number, made here: nothing in the statement comes from outside.
        let silence = format!("set idle_session_timeout = {}", silence_max.as_millis());
        within(async { Ok(self.client.batch_execute(&silence).await?) }).await?;
        Ok(self.one(ELECT, &[]).await?.try_get(0)?)
    }

    /// Takes what is due.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>, Error> {
        let (wanted, host_places) = (int(claim.wanted), int(claim.host_places));
        let hosts: Vec<&str> = claim.hosts.iter().map(|(host, _)| host.as_str()).collect();
        let places: Vec<i32> = claim.hosts.iter().map(|(_, places)| int(*places)).collect();
        let lease_ms = i32::try_from(claim.lease.as_millis()).unwrap_or(i32::MAX);
        let payload_bytes_max = int(claim.payload_bytes_max);
        let parameters: [Parameter<'_>; 6] = [
            (&wanted, Type::INT4),
            (&host_places, Type::INT4),
            (&hosts, Type::TEXT_ARRAY),
            (&places, Type::INT4_ARRAY),
            (&lease_ms, Type::INT4),
            (&payload_bytes_max, Type::INT4),
        ];
        self.query(CLAIM, &parameters).await?.iter().map(claimed).collect()
    }

    /// How long until something is due, but for these hosts; `None` when nothing waits.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn wait(&self, busy: &[String]) -> Result<Option<Duration>, Error> {
        let wait_ms: Option<i32> = self.one(WAIT, &[(&busy, Type::TEXT_ARRAY)]).await?.try_get(0)?;
        Ok(wait_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default())))
    }

    /// Says what came of claimed deliveries. When they are counted, gives what cannot be counted yet.
    ///
    /// # Errors
    ///
    /// When there is no answer: then they are tried again.
    pub async fn finish(&self, finished: &[Finished], is_counted: bool) -> Result<Vec<(MessageId, Counts)>, Error> {
        let ids: Vec<&str> = finished.iter().map(|it| it.id.as_str()).collect();
        let delivered: Vec<bool> = finished.iter().map(|it| it.delivered).collect();
        let statuses: Vec<Option<i32>> = finished.iter().map(|it| it.status.map(i32::from)).collect();
        let errors: Vec<Option<&str>> = finished.iter().map(|it| it.error.as_deref()).collect();
        let retries: Vec<Option<i32>> = finished.iter().map(|it| it.retry_ms.map(|ms| int(ms as usize))).collect();
        let parameters: [Parameter<'_>; 6] = [
            (&ids, Type::TEXT_ARRAY),
            (&delivered, Type::BOOL_ARRAY),
            (&statuses, Type::INT4_ARRAY),
            (&errors, Type::TEXT_ARRAY),
            (&retries, Type::INT4_ARRAY),
            (&is_counted, Type::BOOL),
        ];
        Ok(self.query(FINISH, &parameters).await?.iter().filter_map(uncounted).collect())
    }

    async fn one(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Row, Error> {
        self.query(statement, parameters).await?.into_iter().next().ok_or(Error::Malformed)
    }

    async fn query(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Error> {
        within(async { Ok(self.client.query_typed(statement, parameters).await?) }).await
    }
}

async fn within<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(DEADLINE, call).await.unwrap_or(Err(Error::Timeout(DEADLINE)))
}

fn int(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn claimed(row: &Row) -> Result<Claimed, Error> {
    Ok(Claimed {
        id: row.try_get(0)?,
        url: row.try_get(1)?,
        host: row.try_get(2)?,
        attempts: u32::try_from(row.try_get::<_, i32>(3)?).unwrap_or_default(),
        message_id: row.try_get(4)?,
        content: content(row)?,
    })
}

fn uncounted(row: &Row) -> Option<(MessageId, Counts)> {
    let webhooks = u32::try_from(row.try_get::<_, i32>(1).ok()?).ok()?;
    Some((row.try_get::<_, &str>(0).ok()?.parse().ok()?, Counts { subscribers: 0, webhooks }))
}

fn content(row: &Row) -> Result<Result<Content, ContentFault>, Error> {
    let (channel, event, payload): (Option<String>, Option<String>, Option<String>) =
        (row.try_get(5)?, row.try_get(6)?, row.try_get(7)?);
    let is_oversize: Option<bool> = row.try_get(8)?;
    Ok(match (channel, event, payload) {
        (Some(channel), Some(event), Some(payload)) => Ok(Content { channel, event, payload }),
        _ if is_oversize == Some(true) => Err(ContentFault::TooLarge),
        _ => Err(ContentFault::Deleted),
    })
}
