//! What the log delivers.

use std::{fmt, sync::Arc};

use super::{ChannelName, Offset, Timestamp};

/// Something that happened, at its place in the log.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its place in the one order.
    pub offset: Offset,
    /// The offset of the last event of its transaction.
    pub txn: Offset,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A row was inserted, updated or deleted.
    Row(RowChange),
    /// A table was truncated. The first relation is the table, the others its partition ancestors.
    Truncate(Arc<[Relation]>),
    /// A message was published.
    Message(Message),
    /// Events happened here that are not in the log: row changes of these relations; or, when there is none, anything
    /// on any channel.
    Unjudged(Arc<[Relation]>),
    /// Nothing that anybody may see; it only takes its place in the order.
    Nothing,
}

/// A row change. The images are JSON objects as the database wrote them, never re-made here, so that digits stay exact.
#[derive(Clone, Debug)]
pub struct RowChange {
    /// What was done to the row.
    pub op: Op,
    /// The table first, then its partition ancestors. Never empty.
    pub relations: Arc<[Relation]>,
    /// The names of the key columns; `None` when the table has no key.
    pub key: Option<Arc<[Arc<str>]>>,
    /// The new row, for inserts and updates.
    pub record: Option<Box<str>>,
    /// The old row, for updates and deletes.
    pub old_record: Option<Box<str>>,
    /// The change was too large for the log: the images have the key columns only.
    pub oversize: bool,
}

/// What was done to a row, or to a whole table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// A row was inserted.
    Insert,
    /// A row was updated.
    Update,
    /// A row was deleted.
    Delete,
    /// The table was truncated.
    Truncate,
}

/// A table, by its identity and by the name that it had when the event happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The oid, which survives renaming.
    pub oid: u32,
    /// The schema's name at that time.
    pub schema: Arc<str>,
    /// The table's name at that time.
    pub table: Arc<str>,
    /// Which name stood for which of its columns when the event was read, as one number; `None` when the table was gone.
    pub shape: Option<i64>,
}

impl Relation {
    /// The channel of its changes, for people.
    #[must_use]
    pub fn channel(&self) -> String {
        format!("table:{}.{}", self.schema, self.table)
    }
}

/// A message on a channel.
#[derive(Clone, Debug)]
pub struct Message {
    /// The channel that it was published to.
    pub channel: ChannelName,
    /// The event's name, chosen by the publisher.
    pub event: Box<str>,
    /// The payload as JSON text; `None` when it is larger than an event may be.
    pub payload: Option<Box<str>>,
    /// The message's uuid.
    pub id: Box<str>,
    /// Who published it.
    pub sender_type: SenderType,
    /// The publishing user's uuid, where the user's name is one.
    pub sender_id: Option<Box<str>>,
    /// The publishing user's name (`sub`).
    pub sender: Option<Box<str>>,
}

/// Who published a message. The set is the database's: unknown words are passed on as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderType(pub Box<str>);

/// Why a range of the log cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GapReason {
    /// Retention has removed it.
    Retention,
    /// This history of the log never had it (restored, promoted or restarted server).
    History,
    /// The cursor lies beyond the log's end.
    Ahead,
    /// It happened, but it could not be captured or judged.
    Unjudged,
}

/// A range of the log that cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// The first offset that cannot be had.
    pub from: Offset,
    /// The last one; events after it can be had. It may lie before `from`.
    pub to: Offset,
}

impl Op {
    /// The word that clients read.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
        }
    }

    /// The operation that this word names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Insert, Self::Update, Self::Delete, Self::Truncate].into_iter().find(|op| op.as_str() == word)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl GapReason {
    /// The word that clients read and the database writes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::History => "history",
            Self::Ahead => "ahead",
            Self::Unjudged => "unjudged",
        }
    }
}

impl Event {
    /// Whether it concerns everybody who listens, to tables and messages alike.
    #[must_use]
    pub fn is_for_all(&self) -> bool {
        matches!(&self.kind, EventKind::Unjudged(relations) if relations.is_empty())
    }

    /// The relations that the event belongs to; none for a message or for what concerns everybody.
    #[must_use]
    pub fn relations(&self) -> &[Relation] {
        match &self.kind {
            EventKind::Row(change) => &change.relations,
            EventKind::Truncate(relations) | EventKind::Unjudged(relations) => relations,
            EventKind::Message(_) | EventKind::Nothing => &[],
        }
    }

    /// The one with this oid, when the event belongs to it.
    #[must_use]
    pub fn relation(&self, oid: u32) -> Option<&Relation> {
        self.relations().iter().find(|it| it.oid == oid)
    }

    /// About how many bytes it keeps alive, for bounding queues.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 256;
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        OVERHEAD_BYTES
            + match &self.kind {
                EventKind::Row(change) => text(&change.record) + text(&change.old_record),
                EventKind::Message(message) => text(&message.payload) + message.event.len(),
                EventKind::Truncate(_) | EventKind::Unjudged(_) | EventKind::Nothing => 0,
            }
    }
}
