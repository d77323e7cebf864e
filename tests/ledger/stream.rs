//! What one subscriber got, in the order in which it got it.

use std::collections::BTreeMap;

use crate::book::Write;
use crate::database::Table;
use crate::event::{self, Change, Key, Row};

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Its offset.
    pub(crate) offset: i64,
    /// The last offset of its transaction.
    pub(crate) transaction_end: i64,
    /// What it says was written.
    pub(crate) write: Write,
}

/// Offsets that a subscriber was told it cannot have.
#[derive(Clone, Debug)]
pub(crate) struct Gap {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) reason: String,
}

/// One subscriber's events, and the tables as they follow from them.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Who it was, for evidence.
    pub(crate) name: String,
    /// What it asked for; the test knows then what it must have got.
    pub(crate) scope: Scope,
    pub(crate) steps: Vec<Step>,
    pub(crate) gaps: Vec<Gap>,
    /// Offsets of marks in the log that say: something before this was not written.
    pub(crate) marks: Vec<i64>,
    /// Marks that are about one table alone.
    pub(crate) marked: Vec<(i64, Table)>,
    /// Events that say nothing this test can have written, with their text.
    pub(crate) strange: Vec<String>,
    /// Where an event does not fit to what the ones before it left: a row that is not there, or not as it was.
    pub(crate) broken: Vec<String>,
    /// Events that came where a gap was due.
    pub(crate) silent: Vec<String>,
    /// Rows that two events together claim for one place, or children without a parent, at the end of a transaction.
    pub(crate) impossible: Vec<String>,
    tables: BTreeMap<Table, BTreeMap<Key, Row>>,
}

/// Which writes a subscriber must get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All.
    Everything,
    /// One table.
    Table(Table),
    /// One message channel, by its place.
    Channel(usize),
}

impl Scope {
    /// Whether a write is in it.
    pub(crate) fn has(&self, write: Write) -> bool {
        match (self, write) {
            (Self::Everything, _) => true,
            (
                Self::Table(one),
                Write::Insert(table, _) | Write::Update(table, _) | Write::Delete(table, _) | Write::Truncate(table),
            ) => *one == table,
            (Self::Channel(one), Write::Message(channel, _)) => *one == channel,
            _ => false,
        }
    }
}

impl Stream {
    /// Nothing yet.
    pub(crate) fn new(name: impl Into<String>, scope: Scope) -> Self {
        Self {
            name: name.into(),
            scope,
            steps: Vec::new(),
            gaps: Vec::new(),
            marks: Vec::new(),
            marked: Vec::new(),
            strange: Vec::new(),
            broken: Vec::new(),
            silent: Vec::new(),
            impossible: Vec::new(),
            tables: BTreeMap::new(),
        }
    }

    /// Whether nothing was announced as missing.
    pub(crate) fn is_whole(&self) -> bool {
        self.gaps.is_empty() && self.marks.is_empty()
    }

    /// Takes an event whose text nobody understands.
    pub(crate) fn take_strange(&mut self, offset: i64, text: &str) {
        self.strange.push(format!("{} at {offset}: {text}", self.name));
    }

    /// Takes an event.
    pub(crate) fn take(&mut self, offset: i64, transaction_end: i64, change: Change) {
        let Some(write) = change.write() else {
            return self.take_strange(offset, &format!("{change:?}"));
        };
        self.steps.push(Step { offset, transaction_end, write });
        if self.is_whole()
            && let Err(fault) = self.fold(change)
        {
            self.broken.push(format!("{} at {offset}: {fault}", self.name));
        }
        if offset == transaction_end && self.is_whole() {
            self.look_for_the_impossible(offset);
        }
    }

    /// Applies a change as a client would, and says when it does not fit.
    fn fold(&mut self, change: Change) -> Result<(), String> {
        match change {
            Change::Insert(table, new) => match self.rows(table).insert(key_of(table, &new)?, new) {
                Some(there) => Err(format!("inserted into {table:?} where {there:?} was")),
                None => Ok(()),
            },
            Change::Update(table, new, old) => {
                let gone = self.rows(table).remove(&key_of(table, &old)?);
                let taken = self.rows(table).insert(key_of(table, &new)?, new);
                same(table, gone.as_ref(), &old)?;
                taken.map_or(Ok(()), |there| Err(format!("moved in {table:?} to where {there:?} was")))
            }
            Change::Delete(table, old) => {
                let gone = self.rows(table).remove(&key_of(table, &old)?);
                same(table, gone.as_ref(), &old)
            }
            Change::Truncate(table) => {
                self.rows(table).clear();
                Ok(())
            }
            Change::Message(..) => Ok(()),
        }
    }

    fn rows(&mut self, table: Table) -> &mut BTreeMap<Key, Row> {
        self.tables.entry(table).or_default()
    }

    /// The rows of a table as the events left them.
    pub(crate) fn folded(&self, table: Table) -> Vec<Row> {
        self.tables.get(&table).map(|rows| rows.values().cloned().collect()).unwrap_or_default()
    }

    /// Constraints that the database kept hold at the end of each transaction, if the order is one that happened.
    fn look_for_the_impossible(&mut self, offset: i64) {
        if self.scope != Scope::Everything {
            return;
        }
        let mut places: Vec<_> = self.column(Table::Seats, "place");
        let seated = places.len();
        places.sort_unstable();
        places.dedup();
        if places.len() != seated {
            self.impossible.push(format!("{}: two rows of seats have one place at {offset}", self.name));
        }
        let parents = self.column(Table::Parents, "id");
        let orphan = self.column(Table::Children, "parent").into_iter().find(|parent| !parents.contains(parent));
        if let Some(parent) = orphan {
            self.impossible.push(format!("{}: a child without its parent {parent} at {offset}", self.name));
        }
    }

    fn column(&self, table: Table, column: &str) -> Vec<i64> {
        let rows = self.tables.get(&table).into_iter().flat_map(BTreeMap::values);
        rows.filter_map(|row| row.get(column)?.as_i64()).collect()
    }
}

fn key_of(table: Table, row: &Row) -> Result<Key, String> {
    event::key(table, row).ok_or_else(|| format!("no key in {row:?}"))
}

fn same(table: Table, there: Option<&Row>, old: &Row) -> Result<(), String> {
    match there {
        Some(row) if row == old => Ok(()),
        Some(row) => Err(format!("{table:?} had {row:?}, the event says {old:?}")),
        None => Err(format!("{table:?} had nothing where the event says {old:?}")),
    }
}
