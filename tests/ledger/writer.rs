//! A user who writes: transactions of random shape, each kept in the book.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::{Client, Error};

use crate::action::{Action, Hand};
use crate::book::{Book, Outcome, Transaction};
use crate::database::{Address, Session};
use crate::random::Random;
use crate::trouble::{self, Trouble};

/// One of the writers.
pub(crate) struct Writer {
    pub(crate) address: Address,
    pub(crate) book: Arc<Book>,
    pub(crate) random: Random,
    /// True: the current transaction is the last.
    pub(crate) stop: Arc<AtomicBool>,
    /// A prepared transaction whose end was not seen.
    orphan: Option<i64>,
}

/// How a transaction is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Commit,
    Rollback,
    CommitPrepared,
    RollbackPrepared,
}

impl Writer {
    /// A writer that has not begun.
    pub(crate) fn new(address: Address, book: Arc<Book>, random: Random, stop: Arc<AtomicBool>) -> Self {
        Self { address, book, random, stop, orphan: None }
    }

    /// Writes until told to stop, through as many sessions as it takes.
    pub(crate) async fn run(mut self) {
        while !self.has_to_stop() {
            let session = self.address.connect_patiently("postgres").await;
            // An error here only means: the next session.
            let _ = self.write_through(&session).await;
        }
    }

    fn has_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    async fn write_through(&mut self, session: &Session) -> Result<(), Trouble> {
        // Writers that wait for each other across tables are sorted out soon.
        self.control(&session.client, "set lock_timeout = '1s'").await?;
        self.adopt(&session.client).await?;
        while !self.has_to_stop() {
            self.write(&session.client).await?;
        }
        Ok(())
    }

    /// Ends a prepared transaction that a lost session left: it would hold its locks for ever.
    async fn adopt(&mut self, client: &Client) -> Result<(), Trouble> {
        let Some(txn) = self.orphan.take() else { return Ok(()) };
        let text = "select from pg_prepared_xacts where gid = $1";
        let found = client.query(text, &[&gid(txn)]).await.map_err(|error| self.sort("look for an orphan", &error));
        let word = if self.random.chance(50) { "commit" } else { "rollback" };
        let result = match found {
            Ok(rows) if rows.is_empty() => Ok(()),
            Ok(_) => self.control(client, &format!("{word} prepared '{}'", gid(txn))).await,
            Err(trouble) => Err(trouble),
        };
        self.orphan = result.is_err().then_some(txn);
        result
    }

    /// One transaction. An error is returned when the session is gone.
    async fn write(&mut self, client: &Client) -> Result<(), Trouble> {
        let mut transaction = self.book.begin();
        let end = self.random_end();
        let durable = !self.random.chance(30);
        let body = self.body(client, &mut transaction, durable).await;
        let result = match body {
            Err(Trouble::Lost) => Err(Trouble::Lost),
            Err(Trouble::Refused) => self.control(client, "rollback").await,
            Ok(()) => return self.end(client, transaction, end, durable).await,
        };
        self.file(transaction, Outcome::Failed);
        result
    }

    fn random_end(&mut self) -> End {
        match self.random.below(100) {
            0..12 => End::Rollback,
            12..24 => End::CommitPrepared,
            24..28 => End::RollbackPrepared,
            _ => End::Commit,
        }
    }

    async fn body(&mut self, client: &Client, transaction: &mut Transaction, durable: bool) -> Result<(), Trouble> {
        let isolation = match self.random.below(100) {
            0..6 => "repeatable read",
            6..12 => "serializable",
            _ => "read committed",
        };
        let commit = if durable { "on" } else { "off" };
        let text = format!(
            "begin isolation level {isolation}; set local synchronous_commit = {commit}; \
             insert into ledger values ({})",
            transaction.txn
        );
        self.control(client, &text).await?;
        if self.random.chance(8) {
            // It has its transaction id now and writes late: others overtake it.
            sleep(Duration::from_millis(self.random.below(250))).await;
        }
        self.steps(client, transaction).await
    }

    /// Writes and savepoints, nested at random.
    async fn steps(&mut self, client: &Client, transaction: &mut Transaction) -> Result<(), Trouble> {
        let mut marks = Vec::new();
        for _ in 0..=self.random.below(6) {
            if self.random.chance(30) {
                self.control(client, &format!("savepoint s{}", marks.len())).await?;
                marks.push(transaction.writes.len());
            }
            self.step(client, transaction, &mut marks).await?;
            if !marks.is_empty() && self.random.chance(35) {
                let back = self.random.chance(50);
                self.close(client, transaction, &mut marks, back).await?;
            }
        }
        Ok(())
    }

    /// One write. What is refused inside a savepoint takes back the savepoint alone.
    async fn step(
        &mut self,
        client: &Client,
        transaction: &mut Transaction,
        marks: &mut Vec<usize>,
    ) -> Result<(), Trouble> {
        let action = Action::any(&mut self.random);
        let result = action.run(&mut Hand { client, transaction, random: &mut self.random }).await;
        match result.map_err(|error| self.sort(&format!("{action:?}"), &error)) {
            Err(Trouble::Refused) if !marks.is_empty() => self.close(client, transaction, marks, true).await,
            other => other,
        }
    }

    /// Ends the innermost savepoint.
    async fn close(
        &mut self,
        client: &Client,
        transaction: &mut Transaction,
        marks: &mut Vec<usize>,
        back: bool,
    ) -> Result<(), Trouble> {
        let mark = marks.pop().unwrap_or(0);
        let name = format!("s{}", marks.len());
        if !back {
            return self.control(client, &format!("release {name}")).await;
        }
        transaction.undo(mark);
        self.control(client, &format!("rollback to {name}; release {name}")).await
    }

    async fn end(&mut self, client: &Client, transaction: Transaction, end: End, durable: bool) -> Result<(), Trouble> {
        match end {
            End::Commit => {
                let result = self.control(client, "commit").await;
                self.committed(transaction, result, durable)
            }
            End::Rollback => {
                let result = self.control(client, "rollback").await;
                self.file(transaction, Outcome::Failed);
                result
            }
            End::CommitPrepared | End::RollbackPrepared => self.end_in_two(client, transaction, end, durable).await,
        }
    }

    /// Prepares, waits a little, and ends the prepared transaction.
    async fn end_in_two(
        &mut self,
        client: &Client,
        mut transaction: Transaction,
        end: End,
        durable: bool,
    ) -> Result<(), Trouble> {
        transaction.is_prepared = true;
        let gid = gid(transaction.txn);
        self.orphan = Some(transaction.txn);
        if let Err(trouble) = self.control(client, &format!("prepare transaction '{gid}'")).await {
            self.orphan = (trouble == Trouble::Lost).then_some(transaction.txn);
            return self.committed(transaction, Err(trouble), durable);
        }
        sleep(Duration::from_millis(self.random.below(80))).await;
        let word = if end == End::CommitPrepared { "commit" } else { "rollback" };
        // Outside a transaction: the session's own setting decides, so this commit is always durable.
        let result = self.control(client, &format!("{word} prepared '{gid}'")).await;
        match (result, end) {
            (Ok(()), End::RollbackPrepared) => self.file(transaction, Outcome::Failed),
            (Ok(()), _) => self.committed(transaction, Ok(()), true)?,
            (Err(trouble), _) => {
                self.file(transaction, Outcome::Unknown);
                return Err(trouble);
            }
        }
        self.orphan = None;
        Ok(())
    }

    /// Files a transaction whose commit was sent.
    fn committed(
        &self,
        mut transaction: Transaction,
        result: Result<(), Trouble>,
        durable: bool,
    ) -> Result<(), Trouble> {
        let outcome = match result {
            Ok(()) if durable => Outcome::Durable,
            Ok(()) => Outcome::Committed,
            Err(Trouble::Refused) => Outcome::Failed,
            Err(Trouble::Lost) => Outcome::Unknown,
        };
        if result.is_ok() {
            transaction.ended = self.book.now();
        }
        self.file(transaction, outcome);
        if result == Err(Trouble::Lost) { result } else { Ok(()) }
    }

    fn file(&self, mut transaction: Transaction, outcome: Outcome) {
        transaction.outcome = outcome;
        self.book.file(transaction);
    }

    /// A statement that is not a write. Several in one text are one round trip.
    async fn control(&self, client: &Client, text: &str) -> Result<(), Trouble> {
        client.batch_execute(text).await.map_err(|error| self.sort(text, &error))
    }

    fn sort(&self, doing: &str, error: &Error) -> Trouble {
        trouble::sort(&self.book, doing, error)
    }
}

/// The name of a prepared transaction.
fn gid(txn: i64) -> String {
    format!("ledger-{txn}")
}
