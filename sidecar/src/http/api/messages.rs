//! `/api/realtime/messages`.

use std::time::{Duration, Instant};

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use tracing::info;
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    caller::Administrator,
    document::AdminAnswers,
    error::{ApiError, ErrorBody},
    input::{Asked, storable, uuid},
};
use crate::{
    model::{EventCount, MessageRecord, Timestamp},
    postgres::admin::MessageQuery,
};

/// Messages in one answer, unless the caller says otherwise, and at most.
const PAGE: i32 = 100;
const PAGE_MAX: i32 = 1000;
/// Bytes of payloads in one answer; a page is held in memory as a whole.
const PAGE_BYTES_MAX: i64 = 16 << 20;
/// How long one request may go on deleting; nobody waits for an answer much longer than that.
const CLEAR_MAX: Duration = Duration::from_secs(45);

/// Which messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Those of this channel.
    #[param(format = Uuid, nullable = false)]
    channel_id: Option<String>,
    /// Those of this event.
    #[param(pattern = "^[^\\x00]*$", nullable = false)]
    event_name: Option<String>,
    /// So many at most.
    #[param(minimum = 1, maximum = 1000, default = 100, nullable = false)]
    limit: Option<i32>,
    /// After so many others.
    #[param(minimum = 0, maximum = 1_000_000_000, default = 0, nullable = false)]
    offset: Option<i64>,
}

/// What is counted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct StatsQuery {
    /// Messages of this channel.
    #[param(format = Uuid, nullable = false)]
    channel_id: Option<String>,
    /// Messages from this moment on, such as 2026-01-31T12:00:00Z.
    #[param(format = DateTime, nullable = false)]
    since: Option<String>,
}

/// How many were deleted.
#[derive(Serialize, ToSchema)]
pub(super) struct Cleared {
    /// Messages.
    #[schema(minimum = 0)]
    deleted: u64,
}

/// What there is of messages.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stats {
    /// All of them.
    #[schema(minimum = 0)]
    total_messages: i64,
    /// The part of posts to webhooks that were taken; 0 when there were none.
    #[schema(minimum = 0, maximum = 1)]
    wh_delivery_rate: f64,
    /// The ten most frequent events.
    #[schema(max_items = 10)]
    top_events: Vec<EventCount>,
    /// For how many days messages are kept; null: for ever.
    #[schema(required, minimum = 1)]
    retention_days: Option<i32>,
}

/// Lists messages
///
/// Newest first. An answer with more than 16 MiB of payloads is refused: ask for fewer.
#[utoipa::path(
    get, path = "/api/realtime/messages", tag = "messages", operation_id = "listMessages",
    params(ListQuery),
    responses(
        (status = 200, description = "The messages", body = Vec<MessageRecord>),
        (status = 400, description = "The query cannot be used", body = ErrorBody),
        AdminAnswers
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _: Administrator,
    Asked(asked): Asked<ListQuery>,
) -> Result<Json<Vec<MessageRecord>>, ApiError> {
    Ok(Json(api.admin().await?.messages(&asked.checked()?).await?))
}

/// Deletes all messages
///
/// Those that were there when the request came, a thousand at a time. A message that is deleted cannot be resumed either.
#[utoipa::path(
    delete, path = "/api/realtime/messages", tag = "messages", operation_id = "clearMessages",
    responses((status = 200, description = "They are gone", body = Cleared), AdminAnswers)
)]
pub(super) async fn clear(
    State(api): State<Api>,
    Administrator(who): Administrator,
) -> Result<Json<Cleared>, ApiError> {
    let began = Instant::now();
    let cutoff = api.admin().await?.now().await?;
    let (mut deleted, mut after) = (0, None::<String>);
    loop {
        // A session for each batch: others have their turn in between.
        let (count, last) = api.admin().await?.clear_messages(cutoff, after.as_deref()).await?;
        deleted += count;
        after = last;
        if after.is_none() {
            break;
        }
        if began.elapsed() > CLEAR_MAX {
            return Err(ApiError::unavailable(
                "there are more messages than can be deleted at once: ask again to go on",
            ));
        }
    }
    info!(deleted, user = who.user.as_deref(), "an administrator deleted all messages");
    Ok(Json(Cleared { deleted }))
}

/// Counts messages
#[utoipa::path(
    get, path = "/api/realtime/messages/stats", tag = "messages", operation_id = "messageStats",
    params(StatsQuery),
    responses(
        (status = 200, description = "The counts", body = Stats),
        (status = 400, description = "The query cannot be used", body = ErrorBody),
        AdminAnswers
    )
)]
pub(super) async fn stats(
    State(api): State<Api>,
    _: Administrator,
    Asked(asked): Asked<StatsQuery>,
) -> Result<Json<Stats>, ApiError> {
    let channel = asked.channel_id.as_deref().map(uuid).transpose()?;
    let no_moment = || ApiError::invalid("since is a moment with its offset, such as 2026-01-31T12:00:00Z");
    let moment = |text: String| Timestamp::parse(&text).ok_or_else(no_moment);
    let since = asked.since.map(moment).transpose()?;
    let admin = api.admin().await?;
    let counts = admin.message_counts(channel.as_deref(), since).await?;
    let rate = if counts.webhooks > 0 { counts.delivered as f64 / counts.webhooks as f64 } else { 0.0 };
    Ok(Json(Stats {
        total_messages: counts.messages,
        wh_delivery_rate: rate.clamp(0.0, 1.0),
        top_events: counts.top_events,
        retention_days: admin.retention_days().await?,
    }))
}

impl ListQuery {
    fn checked(self) -> Result<MessageQuery, ApiError> {
        let (limit, offset) = (self.limit.unwrap_or(PAGE), self.offset.unwrap_or(0));
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(ApiError::invalid("limit is a number from 1 to 1000"));
        }
        if !(0..=1_000_000_000).contains(&offset) {
            return Err(ApiError::invalid("offset is a number from 0 to 1000000000"));
        }
        storable("eventName", self.event_name.as_deref())?;
        let channel = self.channel_id.as_deref().map(uuid).transpose()?;
        Ok(MessageQuery { channel, event: self.event_name, limit, offset, bytes_max: PAGE_BYTES_MAX })
    }
}
