//! The seed's frames into commands, notices into the seed's frames.

use std::sync::Arc;

use super::wire::{AckPayload, ClientFrame, ServerFrame};
use crate::{
    error::CommandError,
    protocol::{Codec, Command, DecodeError, Notice, Subscribe},
};

/// The seed keeps nothing per connection.
pub(super) struct SeedCodec;

impl Codec for SeedCodec {
    fn decode(&mut self, text: &str) -> Result<Command, DecodeError> {
        command(text).map_err(|text| DecodeError { error: CommandError::invalid(text), reference: None, ends: false })
    }

    fn encode(&mut self, notice: &Notice<'_>) -> Option<String> {
        let frame = server_frame(notice)?;
        Some(serde_json::to_string(&frame).expect("frames have text keys only, so they are always JSON"))
    }
}

fn command(text: &str) -> Result<Command, &'static str> {
    let frame: ClientFrame = serde_json::from_str(text).map_err(|_| "invalid message format")?;
    let channel: Option<Arc<str>> = frame.channel.filter(|channel| !channel.is_empty()).map(Arc::from);
    match frame.kind.as_deref() {
        Some("subscribe") => subscribe(channel.ok_or("channel is required for subscribe")?),
        Some("unsubscribe") => {
            let id = channel.ok_or("channel is required for unsubscribe")?;
            Ok(Command::Unsubscribe { reference: None, id })
        }
        Some("heartbeat") => Ok(Command::Heartbeat),
        _ => Err("unknown message type"),
    }
}

fn subscribe(channel: Arc<str>) -> Result<Command, &'static str> {
    let id = Arc::clone(&channel);
    Ok(Command::Subscribe(Subscribe {
        reference: None,
        id,
        channel,
        since: None,
        events: None,
        columns: None,
        filter: None,
        snapshot: false,
    }))
}

fn server_frame<'a>(notice: &'a Notice<'_>) -> Option<ServerFrame<'a>> {
    let ack = |channel, subscribed| ServerFrame::Ack { channel, payload: AckPayload { subscribed } };
    match notice {
        Notice::Subscribed { address, .. } => Some(ack(&address.channel, true)),
        Notice::Unsubscribed { address, .. } => Some(ack(&address.channel, false)),
        Notice::Heartbeat { .. } => Some(ServerFrame::Heartbeat {}),
        Notice::Error { error, .. } => Some(ServerFrame::Error { error: &error.text }),
        Notice::Hello(_)
        | Notice::Refused { .. }
        | Notice::Attending { .. }
        | Notice::Members { .. }
        | Notice::Published { .. }
        | Notice::Identified { .. }
        | Notice::Pong { .. }
        | Notice::Gap { .. }
        | Notice::Snapshot { .. }
        | Notice::Status { .. } => None,
    }
}
