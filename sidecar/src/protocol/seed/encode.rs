//! Events as the seed's frames: the row change itself is the payload.

use crate::{
    model::{Event, EventKind, Op, Relation, RowChange},
    protocol::{Body, Form, json::Members, message, row},
};

const BROADCAST: &str = r#"{"type":"broadcast""#;

/// Encodes an event, or gives `None` when there is nothing to send: the seed has no word for gaps, nor for rows that go
/// because one partition of their table was emptied.
pub(super) fn event(event: &Event, form: &Form) -> Option<Body> {
    let payload = match (&event.kind, form) {
        (EventKind::Row(change), Form::Table { relation, columns, view }) => {
            let shown = row::visible(change, columns, *view)?;
            row_payload(change, start(view.op(change.op), &change.relations, *relation), shown)
        }
        (EventKind::Truncate(relations), Form::Table { relation, .. }) => {
            relations.first().filter(|table| table.oid == *relation)?;
            close(start(Op::Truncate, relations, *relation))
        }
        (EventKind::Message(it), Form::Message) => message::payload(event, it),
        _ => return None,
    };
    Some(Body { head: BROADCAST.into(), tail: [r#","payload":"#, &payload, "}"].concat().into_boxed_str() })
}

fn row_payload(change: &RowChange, mut json: String, shown: row::Visible<'_>) -> String {
    let mut members = Members(&mut json);
    if let Some(record) = shown.record {
        members.raw("record", record);
    }
    if let Some(old_record) = shown.old_record {
        members.raw("old_record", old_record);
    }
    if change.oversize {
        members.raw("oversize", true);
    }
    close(json)
}

fn start(op: Op, relations: &[Relation], oid: u32) -> String {
    let mut json = String::from("{");
    let mut members = Members(&mut json);
    members.plain_text("type", op);
    if let Some(relation) = relations.iter().find(|it| it.oid == oid) {
        members.text("table", &relation.table).text("schema", &relation.schema);
    }
    json
}

fn close(mut json: String) -> String {
    json.push('}');
    json
}
