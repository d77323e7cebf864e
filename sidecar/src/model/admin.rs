//! What administrators see, as the API shows it.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::Timestamp;

/// A pattern of channels.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Channel)]
pub struct ChannelRecord {
    /// The channel's id.
    #[schema(format = Uuid)]
    pub id: String,
    /// A channel name, or a pattern in which `%` stands for anything.
    pub pattern: String,
    /// What it is for.
    #[schema(required)]
    pub description: Option<String>,
    /// Where its messages are posted.
    #[schema(required)]
    pub webhook_urls: Option<Vec<String>>,
    /// Whether anybody may enter it.
    pub enabled: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A message that was published.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Message)]
pub struct MessageRecord {
    /// The message's id.
    #[schema(format = Uuid)]
    pub id: String,
    /// The event's name.
    pub event_name: String,
    /// The channel's id; null when there is no such channel any more.
    #[schema(required, format = Uuid)]
    pub channel_id: Option<String>,
    /// The name that was published to.
    pub channel_name: String,
    /// What was published.
    #[schema(value_type = serde_json::Value)]
    pub payload: Box<RawValue>,
    /// `user`, or `system` for those whom policies do not bind.
    pub sender_type: String,
    /// Who published it, when that is a uuid.
    #[schema(required, format = Uuid)]
    pub sender_id: Option<String>,
    /// Subscribers when it was delivered.
    #[schema(minimum = 0)]
    pub ws_audience_count: i32,
    /// Webhooks that were to get it.
    #[schema(minimum = 0)]
    pub wh_audience_count: i32,
    /// Webhooks that got it.
    #[schema(minimum = 0)]
    pub wh_delivered_count: i32,
    /// When it was published.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// What there is of messages.
#[derive(Debug)]
pub struct MessageCounts {
    /// All of them.
    pub messages: i64,
    /// Posts to webhooks that were to be made.
    pub webhooks: i64,
    /// Posts that were taken.
    pub delivered: i64,
    /// The most frequent events.
    pub top_events: Vec<EventCount>,
}

/// How often an event was published.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventCount {
    /// The event's name.
    pub event_name: String,
    /// How often.
    #[schema(minimum = 0)]
    pub count: i64,
}

/// A policy.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Policy)]
pub struct PolicyRecord {
    /// The policy's name.
    pub policy_name: String,
    /// The table that it is on.
    pub table_name: String,
    /// The command that it is for, or `ALL`.
    pub command: String,
    /// The roles that it is for.
    pub roles: Vec<String>,
    /// Which rows are seen.
    #[schema(required)]
    pub using: Option<String>,
    /// Which rows may be written.
    #[schema(required)]
    pub with_check: Option<String>,
}
