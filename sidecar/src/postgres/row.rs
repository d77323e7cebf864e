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
    pub(super) const SHAPES: usize = 20;
}

/// A relation in a row: its oid, its schema and table, its shape.
type Named<'a> = ((&'a u32, (&'a &'a str, &'a &'a str)), &'a Option<i64>);

/// Makes events of rows. Changes of one table mostly come together, so they share its names.
#[derive(Default)]
pub(super) struct EventReader {
    relations: Arc<[Relation]>,
    key: Option<Arc<[Arc<str>]>>,
}

impl EventReader {
    /// Reads an event.
    pub(super) fn event(&mut self, row: &Row) -> Result<Event, ReadError> {
        let at: Option<SystemTime> = row.try_get(column::AT)?;
        Ok(Event {
            offset: offset(row, column::OFFSET)?,
            txn: offset(row, column::UNTIL)?,
            at: Timestamp(at.unwrap_or(SystemTime::UNIX_EPOCH)),
            kind: self.kind(row)?,
        })
    }

    fn kind(&mut self, row: &Row) -> Result<EventKind, ReadError> {
        let op: i8 = row.try_get(column::OP)?;
        Ok(match op.cast_unsigned() {
            b'I' => EventKind::Row(self.change(row, Op::Insert)?),
            b'U' => EventKind::Row(self.change(row, Op::Update)?),
            b'D' => EventKind::Row(self.change(row, Op::Delete)?),
            b'T' => EventKind::Truncate(self.relations(row)?),
            b'G' => EventKind::Unjudged(self.lost(row)?),
            b'M' => message(row)?,
            b'C' => EventKind::Nothing,
            // An operation of a later contract cannot be delivered, and must not be skipped.
            _ => return Err(broken("an operation is unknown")),
        })
    }

    fn change(&mut self, row: &Row, op: Op) -> Result<RowChange, ReadError> {
        Ok(RowChange {
            op,
            relations: self.relations(row)?,
            key: self.key(row)?,
            record: text(row, column::RECORD)?,
            old_record: text(row, column::OLD_RECORD)?,
            oversize: row.try_get::<_, Option<bool>>(column::OVERSIZE)?.unwrap_or_default(),
        })
    }

    /// What a gap mark is about. At the log's cap one mark stands for changes of any table and for any message.
    fn lost(&mut self, row: &Row) -> Result<Arc<[Relation]>, ReadError> {
        match row.try_get::<_, Option<Vec<u32>>>(column::RELATIONS)? {
            Some(_) => self.relations(row),
            None => Ok([].into()),
        }
    }

    fn relations(&mut self, row: &Row) -> Result<Arc<[Relation]>, ReadError> {
        let oids: Vec<u32> = row.try_get(column::RELATIONS)?;
        let schemas: Vec<&str> = row.try_get(column::SCHEMAS)?;
        let tables: Vec<&str> = row.try_get(column::TABLES)?;
        let shapes: Vec<Option<i64>> = row.try_get(column::SHAPES)?;
        if oids.is_empty() || [schemas.len(), tables.len(), shapes.len()] != [oids.len(); 3] {
            return Err(broken("a change has no table, or a table has no name"));
        }
        let names = || oids.iter().zip(schemas.iter().zip(&tables)).zip(&shapes);
        let is_known = |(known, ((oid, (schema, table)), shape)): (&Relation, Named<'_>)| {
            known.oid == *oid && *known.schema == **schema && *known.table == **table && known.shape == *shape
        };
        if self.relations.len() != oids.len() || !self.relations.iter().zip(names()).all(is_known) {
            let relation = |((&oid, (&schema, &table)), &shape): Named<'_>| Relation {
                oid,
                schema: schema.into(),
                table: table.into(),
                shape,
            };
            self.relations = names().map(relation).collect();
        }
        Ok(Arc::clone(&self.relations))
    }

    fn key(&mut self, row: &Row) -> Result<Option<Arc<[Arc<str>]>>, ReadError> {
        let names: Option<Vec<&str>> = row.try_get(column::KEY)?;
        let is_known = match (&self.key, &names) {
            (Some(known), Some(names)) => known.iter().map(|name| &**name).eq(names.iter().copied()),
            (known, names) => known.is_none() && names.is_none(),
        };
        if !is_known {
            self.key = names.map(|names| names.into_iter().map(Arc::from).collect());
        }
        Ok(self.key.clone())
    }
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
