//! Events as native frames.

use std::fmt::Display;

use crate::{
    model::{Columns, Event, EventKind, GapReason, Member, Move, Offset, Op, PresenceChange, Relation, RowChange},
    protocol::{Address, Body, Form, json::Members, message, row},
};

const BROADCAST: &str = r#"{"type":"broadcast""#;
const GAP: &str = r#"{"type":"gap""#;

/// Encodes an event, or gives `None` when there is nothing to send in this form.
pub(super) fn event(event: &Event, form: &Form) -> Option<Body> {
    let payload = match (&event.kind, form) {
        (EventKind::Row(change), Form::Table { relation, columns, view }) => {
            let shown = row::visible(change, columns, *view)?;
            row_payload(event, change, start(view.op(change.op), find(&change.relations, *relation)), shown)
        }
        (EventKind::Truncate(relations), Form::Table { relation, .. }) => match relations.first() {
            Some(table) if table.oid == *relation => truncate_payload(event, table),
            // One partition was emptied: which rows of the whole those were, nobody can say.
            _ => return Some(gap(event.offset)),
        },
        (EventKind::Unjudged(_), _) => return Some(gap(event.offset)),
        (EventKind::Message(it), Form::Message) => message::payload(event, it),
        _ => return None,
    };
    Some(broadcast(event, &payload))
}

/// Somebody came, changed or went. Whoever changes comes with what it says of itself now.
pub(super) fn presence_change(change: &PresenceChange) -> String {
    let event = if change.step == Move::Leave { "leave" } else { "join" };
    presence(change.channel.as_str(), event, format_args!("[{}]", member(&change.member)))
}

/// Who is on a channel, or who came or went: `members` is a JSON list.
pub(super) fn presence(channel: &str, event: &'static str, members: impl Display) -> String {
    let mut json = String::from("{");
    let mut frame = Members(&mut json);
    frame.plain_text("type", "presence").text("channel", channel).plain_text("event", event).raw("members", members);
    json.push('}');
    json
}

/// Somebody who is there.
pub(super) fn member(it: &Member) -> String {
    let mut json = String::from("{");
    let mut member = Members(&mut json);
    member.text("id", it.who.name()).plain_text("type", it.who.kind()).plain_text("joined_at", it.joined_at);
    if let Some(state) = it.state.as_deref() {
        member.raw("state", state);
    }
    json.push('}');
    json
}

/// A part of a snapshot. The rows are JSON already, so nothing is parsed that is not projected.
pub(super) fn snapshot(address: &Address, rows: &[Box<str>], columns: &Columns, end: Option<Offset>) -> String {
    let bytes: usize = rows.iter().map(|row| row.len() + 1).sum();
    let mut json = String::with_capacity(bytes + 512);
    json.push('{');
    let mut members = Members(&mut json);
    members.plain_text("type", "snapshot").text("id", &address.id).text("channel", &address.channel);
    json.push_str(",\"rows\":[");
    for (index, row) in rows.iter().enumerate() {
        json.push_str(if index > 0 { "," } else { "" });
        json.push_str(&row::projected(row, columns));
    }
    json.push(']');
    let mut members = Members(&mut json);
    members.raw("last", end.is_some());
    if let Some(offset) = end {
        members.raw("offset", offset);
    }
    json.push('}');
    json
}

fn broadcast(event: &Event, payload: &str) -> Body {
    let tail = format!(r#","offset":{},"txn":{},"payload":{payload}}}"#, event.offset, event.txn);
    Body { head: BROADCAST.into(), tail: tail.into_boxed_str() }
}

fn gap(at: Offset) -> Body {
    let tail = format!(r#","reason":"{}","from":{at},"to":{at}}}"#, GapReason::Unjudged.as_str());
    Body { head: GAP.into(), tail: tail.into_boxed_str() }
}

fn row_payload(event: &Event, change: &RowChange, mut json: String, shown: row::Visible<'_>) -> String {
    let mut members = Members(&mut json);
    if let Some(record) = shown.record {
        members.raw("record", record);
    }
    if let Some(old_record) = shown.old_record {
        members.raw("old_record", old_record);
    }
    members.plain_text("timestamp", event.at);
    if change.oversize {
        members.raw("oversize", true);
    }
    json.push('}');
    json
}

fn truncate_payload(event: &Event, relation: &Relation) -> String {
    let mut json = start(Op::Truncate, Some(relation));
    Members(&mut json).plain_text("timestamp", event.at);
    json.push('}');
    json
}

fn start(op: Op, relation: Option<&Relation>) -> String {
    let mut json = String::from("{");
    let mut members = Members(&mut json);
    members.plain_text("type", op);
    if let Some(relation) = relation {
        members.text("schema", &relation.schema).text("table", &relation.table);
    }
    json
}

fn find(relations: &[Relation], oid: u32) -> Option<&Relation> {
    relations.iter().find(|it| it.oid == oid)
}
