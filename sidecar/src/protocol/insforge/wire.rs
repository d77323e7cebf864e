//! What is in the SDK's events, field by field.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The object of a CONNECT packet.
#[derive(Default, Deserialize)]
pub(super) struct Auth<'a> {
    #[serde(borrow)]
    pub(super) token: Option<&'a RawValue>,
    #[serde(rename = "apiKey", borrow)]
    pub(super) api_key: Option<&'a RawValue>,
}

/// `realtime:subscribe` and `realtime:unsubscribe`.
#[derive(Deserialize)]
pub(super) struct Subscribe<'a> {
    pub(super) channel: Option<String>,
    #[serde(borrow)]
    pub(super) since: Option<&'a RawValue>,
}

/// `realtime:publish`.
#[derive(Deserialize)]
pub(super) struct Publish<'a> {
    pub(super) channel: Option<String>,
    pub(super) event: Option<String>,
    #[serde(borrow)]
    pub(super) payload: Option<&'a RawValue>,
    #[serde(rename = "messageId")]
    pub(super) message_id: Option<String>,
}

/// The object of a CONNECT packet of the server.
#[derive(Serialize)]
pub(super) struct Connected<'a> {
    pub(super) sid: &'a str,
}

/// Why there is no connection.
#[derive(Serialize)]
pub(super) struct Refused<'a> {
    pub(super) message: &'a str,
}

/// The answer to an event that asked for one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ack<'a> {
    pub(super) ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<Error<'a>>,
}

impl<'a> Ack<'a> {
    /// It was done.
    pub(super) fn ok(channel: Option<&'a str>) -> Self {
        Self { ok: true, channel, message_id: None, error: None }
    }
}

/// Somebody who is there.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Member<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) presence_id: &'a str,
    pub(super) joined_at: String,
}

/// Why something was refused, in an answer.
#[derive(Serialize)]
pub(super) struct Error<'a> {
    pub(super) code: &'static str,
    pub(super) message: &'a str,
    #[serde(rename = "retryAfterMs", skip_serializing_if = "Option::is_none")]
    pub(super) retry_after_ms: Option<u64>,
}

/// `realtime:error`: why something was refused that nobody waits to hear of.
#[derive(Serialize)]
pub(super) struct ErrorEvent<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) channel: Option<&'a str>,
    #[serde(flatten)]
    pub(super) error: Error<'a>,
}

/// `realtime:gap`: a range of events cannot be had.
#[derive(Serialize)]
pub(super) struct Gap<'a> {
    pub(super) channel: &'a str,
    pub(super) reason: &'static str,
    pub(super) from: i64,
    pub(super) to: i64,
}

/// `presence:join` and `presence:leave`: somebody came or went.
#[derive(Serialize)]
pub(super) struct PresenceEvent<'a> {
    pub(super) member: Member<'a>,
    pub(super) meta: PresenceMeta<'a>,
}

/// What the server says of it. The channel is never prefixed: the SDK compares it with the name that it subscribed to.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PresenceMeta<'a> {
    pub(super) channel: &'a str,
    pub(super) message_id: &'a str,
    pub(super) sender_type: &'static str,
    pub(super) timestamp: String,
}
