//! A message as its channel's subscribers read it, the same in every dialect of ours.

use super::json::Members;
use crate::model::{Event, Message};

/// `{event, payload, meta}`; the publisher can forge nothing of `meta`.
pub(super) fn payload(event: &Event, message: &Message) -> String {
    let mut json = String::from("{");
    let mut members = Members(&mut json);
    members.text("event", &message.event).raw("payload", message.payload.as_deref().unwrap_or("null"));
    if message.payload.is_none() {
        members.raw("oversize", true);
    }
    members.raw("meta", meta(event, message));
    json.push('}');
    json
}

fn meta(event: &Event, message: &Message) -> String {
    let mut json = String::from("{");
    let mut members = Members(&mut json);
    members.text("messageId", &message.id).text("senderType", &message.sender_type.0);
    if let Some(id) = &message.sender_id {
        members.text("senderId", id);
    }
    if let Some(sender) = &message.sender {
        members.text("sender", sender);
    }
    members.plain_text("timestamp", event.at).text("channel", message.channel.as_str());
    json.push('}');
    json
}
