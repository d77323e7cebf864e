//! Events as Socket.IO events: what was published stands at the top level, and what the server knows of it in `meta`.

use std::borrow::Cow;

use super::{codec, packet};
use crate::{
    model::{Event, EventKind, GapReason, Message, Op, RowChange},
    protocol::{
        Body, Form,
        json::{Members, push_text},
        row,
    },
};

/// Encodes an event, or gives `None` when there is nothing to send in this form.
pub(super) fn event(event: &Event, form: &Form, channel_prefix: &str) -> Option<Body> {
    match (&event.kind, form) {
        (EventKind::Message(it), Form::Message) => message(event, it, channel_prefix),
        (EventKind::Row(change), Form::Table { columns, view, .. }) => {
            let shown = row::visible(change, columns, *view)?;
            Some(row_change(event, change, view.op(change.op), &shown, channel_prefix))
        }
        (EventKind::Truncate(relations), Form::Table { relation, .. }) => match relations.first() {
            Some(table) if table.oid == *relation => {
                let head = start(Op::Truncate.as_str(), "", channel_prefix);
                Some(Body { head, tail: end(&table_meta(event)) })
            }
            // One partition was emptied: which rows of the whole those were, nobody can say.
            _ => Some(gap(event)),
        },
        (EventKind::Unjudged(_), _) => Some(gap(event)),
        _ => None,
    }
}

fn message(event: &Event, message: &Message, channel_prefix: &str) -> Option<Body> {
    // Clients take such a name for news of their own connection.
    if packet::is_reserved(&message.event) {
        return None;
    }
    let head = start(&message.event, &spread(message.payload.as_deref()), channel_prefix);
    let mut meta = String::new();
    let mut members = Members(&mut meta);
    members.text("messageId", &message.id).text("senderType", &message.sender_type.0);
    if let Some(id) = &message.sender_id {
        members.text("senderId", id);
    }
    members.plain_text("timestamp", event.at).raw("offset", event.offset);
    Some(Body { head, tail: end(&meta) })
}

/// The members of a payload, `meta` apart. What has no members is one.
fn spread(payload: Option<&str>) -> Cow<'_, str> {
    let Some(payload) = payload.map(str::trim) else {
        return Cow::Borrowed(r#""oversize":true"#);
    };
    match payload.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        None => Cow::Owned(format!(r#""value":{payload}"#)),
        // The database writes a name in one way only, so a payload without these bytes has no such member.
        Some(members) if !payload.contains(r#""meta""#) => Cow::Borrowed(members.trim()),
        Some(_) => Cow::Owned(without(payload, &["meta"])),
    }
}

/// The members of an object but for some, their values untouched. What is no object has none.
fn without(object: &str, names: &[&str]) -> String {
    let mut json = String::new();
    for (name, value) in row::members(object).unwrap_or_default() {
        if !names.contains(&&*name) {
            push_member(&mut json, &name, value);
        }
    }
    json
}

fn push_member(json: &mut String, name: &str, value: &str) {
    json.push_str(if json.is_empty() { "" } else { "," });
    push_text(json, name);
    json.push(':');
    json.push_str(value);
}

/// The row's columns stand at the top level, where those would be who listen to a message.
fn row_change(event: &Event, change: &RowChange, op: Op, shown: &row::Visible<'_>, channel_prefix: &str) -> Body {
    let row = shown.record.as_deref().or(shown.old_record.as_deref()).unwrap_or("{}");
    // A column that is called as one of these is had from old_record, or by the native protocol.
    let mut json = without(row, &["meta", "old_record"]);
    if let Some(old_record) = &shown.old_record {
        push_member(&mut json, "old_record", old_record);
    }
    let mut meta = table_meta(event);
    if change.oversize {
        Members(&mut meta).raw("oversize", true);
    }
    Body { head: start(op.as_str(), &json, channel_prefix), tail: end(&meta) }
}

/// A row change is no message; its place in the log is the only name that it has.
fn table_meta(event: &Event) -> String {
    let mut meta = String::new();
    let mut members = Members(&mut meta);
    members.plain_text("messageId", event.offset).plain_text("senderType", "system");
    members.plain_text("timestamp", event.at).raw("offset", event.offset);
    meta
}

/// Everything up to the channel's name, which differs per subscription.
fn start(name: &str, members: &str, channel_prefix: &str) -> Cow<'static, str> {
    let mut head = String::from("42[");
    push_text(&mut head, name);
    let comma = if members.is_empty() { "" } else { "," };
    for part in [",{", members, comma, r#""meta":{"channel":""#, channel_prefix] {
        head.push_str(part);
    }
    head.into()
}

fn end(meta: &str) -> Box<str> {
    [",", meta, "}}]"].concat().into_boxed_str()
}

fn gap(event: &Event) -> Body {
    let (at, reason) = (event.offset, GapReason::Unjudged.as_str());
    Body {
        head: format!(r#"42["{}",{{"channel":""#, codec::GAP).into(),
        tail: format!(r#","reason":"{reason}","from":{at},"to":{at}}}]"#).into_boxed_str(),
    }
}
