//! Events as readers get them, and what they say was written.

use serde_json::{Map, Value};

use crate::book::Write;
use crate::database::{CHANNELS, Table};

/// A row as an event or a table shows it.
pub(crate) type Row = Map<String, Value>;
/// What tells the rows of one table apart.
pub(crate) type Key = Vec<i64>;

/// A change that somebody was told about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Insert(Table, Row),
    Update(Table, Row, Row),
    Delete(Table, Row),
    Truncate(Table),
    /// Place of the channel and token.
    Message(usize, i64),
}

impl Change {
    /// What was written, in the book's words. `None`: the event does not say (a column is missing).
    pub(crate) fn write(&self) -> Option<Write> {
        Some(match self {
            Self::Insert(table, new) => Write::Insert(*table, token(new)?),
            Self::Update(table, new, _) => Write::Update(*table, token(new)?),
            Self::Delete(table, old) => Write::Delete(*table, token(old)?),
            Self::Truncate(table) => Write::Truncate(*table),
            Self::Message(channel, token) => Write::Message(*channel, *token),
        })
    }
}

/// The token of a row.
pub(crate) fn token(row: &Row) -> Option<i64> {
    row.get("token")?.as_i64()
}

/// The key of a row.
pub(crate) fn key(table: Table, row: &Row) -> Option<Key> {
    table.key().iter().map(|column| row.get(*column)?.as_i64()).collect()
}

/// The place of a channel by its name.
pub(crate) fn channel_named(name: &str) -> Option<usize> {
    CHANNELS.iter().position(|known| *known == name)
}

/// The columns of an event of the log as text.
pub(crate) struct Columns<'a> {
    pub(crate) op: &'a str,
    pub(crate) tables: Option<Vec<&'a str>>,
    pub(crate) record: Option<&'a str>,
    pub(crate) old_record: Option<&'a str>,
    pub(crate) channel: Option<&'a str>,
    pub(crate) payload: Option<&'a str>,
}

impl Columns<'_> {
    /// What the event says; `None` when it says nothing that this test writes.
    pub(crate) fn change(&self) -> Option<Change> {
        let row = |text: Option<&str>| serde_json::from_str::<Row>(text?).ok();
        // The partition comes first, the table that was enabled last.
        let table = || Table::named(self.tables.as_ref()?.last()?);
        Some(match self.op {
            "I" => Change::Insert(table()?, row(self.record)?),
            "U" => Change::Update(table()?, row(self.record)?, row(self.old_record)?),
            "D" => Change::Delete(table()?, row(self.old_record)?),
            "T" => Change::Truncate(table()?),
            "M" => Change::Message(channel_named(self.channel?)?, token(&row(self.payload)?)?),
            _ => return None,
        })
    }
}

/// What the payload of a `broadcast` frame says; `None` when it says nothing that this test writes.
pub(crate) fn change_of_frame(channel: &str, payload: &Value) -> Option<Change> {
    if payload.get("oversize").is_some() {
        return None;
    }
    let Some(table) = channel.strip_prefix("table:") else {
        return Some(Change::Message(channel_named(channel)?, token(payload["payload"].as_object()?)?));
    };
    let table = Table::named(table).filter(|table| payload["table"] == table.name())?;
    let row = |member: &str| payload[member].as_object().cloned();
    Some(match payload["type"].as_str()? {
        "INSERT" => Change::Insert(table, row("record")?),
        "UPDATE" => Change::Update(table, row("record")?, row("old_record")?),
        "DELETE" => Change::Delete(table, row("old_record")?),
        "TRUNCATE" => Change::Truncate(table),
        _ => return None,
    })
}
