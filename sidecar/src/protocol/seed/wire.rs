//! The seed's frames, field by field.

use serde::{Deserialize, Serialize};

/// A frame of a client.
#[derive(Deserialize)]
pub(super) struct ClientFrame {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) channel: Option<String>,
}

/// A frame of the server, events apart.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ServerFrame<'a> {
    Ack { channel: &'a str, payload: AckPayload },
    Error { error: &'a str },
    Heartbeat {},
}

#[derive(Serialize)]
pub(super) struct AckPayload {
    pub(super) subscribed: bool,
}
