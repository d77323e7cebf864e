//! A row of `realtime.read` as an event.

use std::{sync::Arc, time::SystemTime};

use tokio_postgres::Row;

use super::{
    Error,
    log::{ReadError, broken, offset},
};
use crate::model::{Channel, ChannelName, Event, EventKind, Message, Op, Relation, RowChange, SenderType, Timestamp};

/// The columns of the statement that reads, by place: names would be searched for in every row.
mod column {
    pub(super) const OFFSET: usize = 1;
    pub(super) const UNTIL: usize = 2;
    pub(super) const OP: usize = 4;
    pub(super) const RELATIONS: usize = 5;
    pub(super) const SCHEMAS: usize = 6;
    pub(super) const TABLES: usize = 7;
    pub(super) const KEY: usize = 8;
    pub(super) const RECORD: usize = 9;
    pub(super) const OLD_RECORD: usize = 10;
    pub(super) const OVERSIZE: usize = 11;
    pub(super) const AT: usize = 12;
    pub(super) const CHANNEL: usize = 13;
    pub(super) const EVENT: usize = 14;
    pub(super) const PAYLOAD: usize = 15;
    pub(super) const MESSAGE_ID: usize = 16;
    pub(super) const SENDER_TYPE: usize = 17;
    pub(super) const SENDER_ID: usize = 18;
    pub(super) const SENDER: usize = 19;
}

/// Reads an event.
pub(super) fn event(row: &Row) -> Result<Event, ReadError> {
    let at: Option<SystemTime> = row.try_get(column::AT)?;
    Ok(Event {
        offset: offset(row, column::OFFSET)?,
        txn: offset(row, column::UNTIL)?,
        at: Timestamp(at.unwrap_or(SystemTime::UNIX_EPOCH)),
        kind: kind(row)?,
    })
}

fn kind(row: &Row) -> Result<EventKind, ReadError> {
    let op: i8 = row.try_get(column::OP)?;
    Ok(match op.cast_unsigned() {
        b'I' => EventKind::Row(change(row, Op::Insert)?),
        b'U' => EventKind::Row(change(row, Op::Update)?),
        b'D' => EventKind::Row(change(row, Op::Delete)?),
        b'T' => EventKind::Truncate(relations(row)?),
        b'G' => EventKind::Unjudged(relations(row)?),
        b'M' => message(row)?,
        b'C' => EventKind::Nothing,
        // An operation of a later contract cannot be delivered, and must not be skipped.
        _ => return Err(broken("an operation is unknown")),
    })
}

fn change(row: &Row, op: Op) -> Result<RowChange, ReadError> {
    let relations = relations(row)?;
    if relations.is_empty() {
        return Err(broken("a row change has no table"));
    }
    Ok(RowChange {
        op,
        relations,
        key: names(row, column::KEY)?.map(Arc::from),
        record: text(row, column::RECORD)?,
        old_record: text(row, column::OLD_RECORD)?,
        oversize: row.try_get::<_, Option<bool>>(column::OVERSIZE)?.unwrap_or_default(),
    })
}

fn relations(row: &Row) -> Result<Vec<Relation>, ReadError> {
    let oids: Vec<u32> = row.try_get::<_, Option<_>>(column::RELATIONS)?.unwrap_or_default();
    let schemas = names(row, column::SCHEMAS)?.unwrap_or_default();
    let tables = names(row, column::TABLES)?.unwrap_or_default();
    if oids.len() != schemas.len() || oids.len() != tables.len() {
        return Err(broken("a table has no name"));
    }
    let names = schemas.into_iter().zip(tables);
    Ok(oids.into_iter().zip(names).map(|(oid, (schema, table))| Relation { oid, schema, table }).collect())
}

/// A message that was deleted since, or whose channel no client could name, is nothing for anybody.
fn message(row: &Row) -> Result<EventKind, ReadError> {
    let channel: Option<&str> = row.try_get(column::CHANNEL)?;
    let Some(channel) = channel.and_then(message_channel) else {
        return Ok(EventKind::Nothing);
    };
    Ok(EventKind::Message(Message {
        channel,
        event: text(row, column::EVENT)?.unwrap_or_default(),
        payload: text(row, column::PAYLOAD)?,
        id: text(row, column::MESSAGE_ID)?.unwrap_or_default(),
        sender_type: SenderType(text(row, column::SENDER_TYPE)?.unwrap_or_default()),
        sender_id: text(row, column::SENDER_ID)?,
        sender: text(row, column::SENDER)?,
    }))
}

fn message_channel(name: &str) -> Option<ChannelName> {
    match Channel::parse(name) {
        Ok(Channel::Messages(name)) => Some(name),
        Ok(Channel::Table(_)) | Err(_) => None,
    }
}

fn text(row: &Row, index: usize) -> Result<Option<Box<str>>, Error> {
    Ok(row.try_get::<_, Option<&str>>(index)?.map(Box::from))
}

fn names(row: &Row, index: usize) -> Result<Option<Vec<Arc<str>>>, Error> {
    let names: Option<Vec<&str>> = row.try_get(index)?;
    Ok(names.map(|names| names.into_iter().map(Arc::from).collect()))
}
