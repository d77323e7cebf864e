//! The frames of the native protocol, field by field.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::{model::GapReason, protocol::ClientLimits};

/// What every frame of a client may have; the rest depends on the type.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Option<&'a RawValue>,
    #[serde(rename = "ref", borrow)]
    pub(super) reference: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Subscribe<'a> {
    pub(super) id: Option<String>,
    pub(super) channel: Option<String>,
    #[serde(borrow)]
    pub(super) since: Option<&'a RawValue>,
    pub(super) events: Option<Events>,
    #[serde(borrow)]
    pub(super) filter: Option<&'a RawValue>,
    pub(super) columns: Option<Vec<String>>,
    pub(super) snapshot: Option<bool>,
}

/// `"*"`, one word, or a list of words.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Events {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
pub(super) struct Unsubscribe {
    pub(super) id: Option<String>,
    pub(super) channel: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Publish<'a> {
    pub(super) channel: Option<String>,
    pub(super) event: Option<String>,
    #[serde(borrow)]
    pub(super) payload: Option<&'a RawValue>,
    pub(super) message_id: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Presence<'a> {
    pub(super) channel: Option<String>,
    /// There may be a null, which is not the same as nothing.
    #[serde(default, borrow, deserialize_with = "raw")]
    pub(super) state: Option<&'a RawValue>,
}

fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
pub(super) struct AccessToken {
    pub(super) token: Option<String>,
}

/// A frame of the server, events apart.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ServerFrame<'a> {
    Hello {
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<i64>,
        connection: &'a str,
        role: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<String>,
        heartbeat_ms: u64,
        limits: ClientLimits,
    },
    Ack(Ack<'a>),
    Pong {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<i64>,
    },
    Heartbeat {
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<i64>,
    },
    Gap {
        id: &'a str,
        channel: &'a str,
        reason: GapReason,
        from: i64,
        to: i64,
    },
    Status {
        database: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<i64>,
    },
    Error {
        error: &'a str,
        code: &'static str,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        channel: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        #[serde(rename = "final", skip_serializing_if = "std::ops::Not::not")]
        is_final: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        position: Option<usize>,
    },
}

/// The one good answer to a command; which members it has depends on the command.
#[derive(Default, Serialize)]
pub(super) struct Ack<'a> {
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub(super) reference: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) recovered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) columns: Option<Vec<ColumnType<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) duplicate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<String>,
}

#[derive(Serialize)]
pub(super) struct ColumnType<'a> {
    pub(super) name: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
}
