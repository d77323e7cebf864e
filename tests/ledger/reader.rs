//! A reader of `realtime.read()`, as the sidecar is one: it keeps a cursor and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use crate::book::Book;
use crate::database::{Address, READER, Table};
use crate::event::Columns;
use crate::memory::{Form, Memory};
use crate::random::Random;
use crate::stream::{Gap, Scope, Stream};

/// Between two looks into a log that had nothing new.
const LOOK_AGAIN_MS: u64 = 25;

const READ: &str = "select r.kind::text, r.\"offset\", r.until, r.reason, r.op::text, r.tables, r.record, r.old_record,
    r.payload, coalesce(r.oversize, false), r::text, r.channel from realtime.read($1, $2, $3, null, null) r";

/// What is common to all readers.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) address: Address,
    pub(crate) memory: Arc<Memory>,
    pub(crate) book: Arc<Book>,
    /// The offset at which readers are done; 0 while the writers write.
    pub(crate) last: Arc<AtomicI64>,
    /// Times that somebody let go of a connection or a result and went on from its cursor.
    pub(crate) resumed: Arc<AtomicU64>,
    /// Segments of the log that readers gave back.
    pub(crate) given_back: Arc<AtomicU64>,
}

/// Oddities of one reader.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habits {
    /// It makes ticks as well, as a sidecar does without a worker.
    pub(crate) ticks: bool,
    /// It rotates.
    pub(crate) rotates: bool,
    /// It sleeps for seconds now and then.
    pub(crate) sleeps: bool,
}

/// One reader.
pub(crate) struct Reader {
    desk: Desk,
    habits: Habits,
    random: Random,
    cursor: i64,
    stream: Stream,
}

impl Reader {
    /// A reader of everything after `cursor`.
    pub(crate) fn new(name: &str, desk: Desk, habits: Habits, random: Random, cursor: i64) -> Self {
        Self { desk, habits, random, cursor, stream: Stream::new(name, Scope::Everything) }
    }

    /// Reads until the desk's last offset is reached.
    pub(crate) async fn run(mut self) -> Stream {
        while !self.is_done() {
            let session = self.desk.address.connect_patiently(READER).await;
            self.desk.resumed.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = self.read_through(&session.client).await {
                self.sort(&error);
            }
        }
        self.stream
    }

    fn is_done(&self) -> bool {
        let last = self.desk.last.load(Ordering::Acquire);
        last != 0 && self.cursor >= last
    }

    /// Retention that moves under a reader is an ordinary answer, and so is a lock that somebody else who keeps house
    /// holds; everything else that the server says is not.
    fn sort(&self, error: &Error) {
        let Some(answer) = error.as_db_error() else { return };
        if !["40001", "55P03", "57P01", "57P02", "57P03"].contains(&answer.code().code()) {
            self.desk.book.fail(format!("{}: {answer:?}", self.stream.name));
        }
    }

    /// Reads until it is done, or feels like a new session.
    async fn read_through(&mut self, client: &Client) -> Result<(), Error> {
        while !self.is_done() && !self.random.chance(1) {
            self.housekeeping(client).await?;
            let before = self.cursor;
            self.page(client).await?;
            if self.cursor == before {
                sleep(Duration::from_millis(self.random.below(LOOK_AGAIN_MS))).await;
            }
            if self.habits.sleeps && self.random.chance(2) {
                sleep(Duration::from_millis(1_000 + self.random.below(5_000))).await;
            }
        }
        Ok(())
    }

    async fn housekeeping(&mut self, client: &Client) -> Result<(), Error> {
        if self.habits.ticks && self.random.chance(30) {
            let made = client.query("select from realtime.tick()", &[]).await?;
            if !made.is_empty() {
                client.batch_execute("select realtime.ring()").await?;
            }
        }
        if self.habits.rotates && self.random.chance(10) {
            let done: String = client.query_one("select realtime.rotate()", &[]).await?.get(0);
            self.desk.given_back.fetch_add(done.matches("truncated").count() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// One page, of which it may forget the end: it then goes on from the last event that it kept.
    async fn page(&mut self, client: &Client) -> Result<(), Error> {
        if self.random.chance(3) && self.stream.is_whole() {
            self.look_back(client).await?;
        }
        let rows = self.ask(client, self.cursor).await?;
        let kept = if self.random.chance(5) { self.random.below(rows.len() as u64) } else { u64::MAX };
        for (row, _) in rows.iter().zip(0..kept) {
            self.take(row);
        }
        if kept != u64::MAX {
            self.desk.resumed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn ask(&mut self, client: &Client, after: i64) -> Result<Vec<tokio_postgres::Row>, Error> {
        let page = self.random.pick(&[3, 50, 500, 5_000]);
        let events = 1 + self.random.key(page);
        let bytes = 1 + self.random.key(1 << 20);
        client.query_typed(READ, &[(&after, Type::INT8), (&events, Type::INT4), (&bytes, Type::INT4)]).await
    }

    /// Reads again what it has read: it must be the same.
    async fn look_back(&mut self, client: &Client) -> Result<(), Error> {
        let steps = &self.stream.steps;
        let place = usize::try_from(self.random.below(steps.len() as u64)).unwrap_or(0);
        let Some(after) = steps.get(place).map(|step| step.offset) else { return Ok(()) };
        for row in self.ask(client, after).await? {
            if row.get::<_, &str>(0) == "e" {
                self.remember(&row);
            }
        }
        Ok(())
    }

    fn take(&mut self, row: &tokio_postgres::Row) {
        let offset: i64 = row.get(1);
        match row.get::<_, &str>(0) {
            "e" => self.take_event(row, offset),
            "g" => {
                let reason = row.get::<_, Option<String>>(3).unwrap_or_default();
                self.stream.gaps.push(Gap { first: offset, last: row.get(2), reason });
            }
            _ => self.cursor = offset,
        }
    }

    fn take_event(&mut self, row: &tokio_postgres::Row, offset: i64) {
        self.cursor = offset;
        self.remember(row);
        if row.get::<_, &str>(4) == "G" {
            let tables: Option<Vec<&str>> = row.get(5);
            let table = tables.and_then(|tables| Table::named(tables.last()?));
            self.stream.marked.extend(table.map(|table| (offset, table)));
            return self.stream.marks.push(offset);
        }
        let transaction_end = row.get(2);
        let columns = Columns {
            op: row.get(4),
            tables: row.get(5),
            record: row.get(6),
            old_record: row.get(7),
            channel: row.get(11),
            payload: row.get(8),
        };
        let oversize: bool = row.get(9);
        match columns.change().filter(|_| !oversize) {
            Some(change) => {
                self.desk.memory.note(Form::Meaning, offset, &format!("{:?}", change.write()), &self.stream.name);
                self.stream.take(offset, transaction_end, change);
            }
            None => self.stream.take_strange(offset, row.get(10)),
        }
    }

    fn remember(&self, row: &tokio_postgres::Row) {
        self.desk.memory.note(Form::Log, row.get(1), row.get(10), &self.stream.name);
    }
}
