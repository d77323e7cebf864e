//! What was written: every transaction, its writes in order, and how it ended.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::database::Table;

/// Tokens of one transaction are `txn * TOKENS + n`.
const TOKENS: i64 = 1_000_000;

/// The transaction that a token belongs to.
pub(crate) fn txn_of(token: i64) -> i64 {
    token / TOKENS
}

/// What an event tells apart from every other event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Write {
    /// A row with this token appeared.
    Insert(Table, i64),
    /// A row got this token.
    Update(Table, i64),
    /// The row with this token went. A row version goes at most once.
    Delete(Table, i64),
    /// All rows went.
    Truncate(Table),
    /// A message with this token in the channel with this place in [`CHANNELS`](crate::database::CHANNELS).
    Message(usize, i64),
}

/// A transaction as its writer knows it.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    /// Its number in the side table `ledger`.
    pub(crate) txn: i64,
    /// When it began, on the book's clock: before its first statement was sent.
    pub(crate) begun: u64,
    /// When its commit had returned, on the book's clock; `u64::MAX` when nobody saw that.
    pub(crate) ended: u64,
    /// What stands when it commits, in order.
    pub(crate) writes: Vec<Write>,
    /// What savepoints took back.
    pub(crate) undone: Vec<Write>,
    /// Tokens of others that it saw: they were committed.
    pub(crate) seen: Vec<i64>,
    /// Whether it was prepared first.
    pub(crate) is_prepared: bool,
    /// How many of its savepoints were rolled back to.
    pub(crate) savepoints_undone: u64,
    /// How it ended, as its writer saw it.
    pub(crate) outcome: Outcome,
    next: i64,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// Commit returned, and the commit was durable.
    Durable,
    /// Commit returned; a crash soon after may take it back (`synchronous_commit = off`).
    Committed,
    /// It was rolled back or refused.
    Failed,
    /// The connection ended during commit: the side table knows.
    Unknown,
}

impl Transaction {
    /// A token for the next write.
    pub(crate) fn token(&mut self) -> i64 {
        self.tokens(1)
    }

    /// Tokens for the next `count` writes; returns the first.
    pub(crate) fn tokens(&mut self, count: i64) -> i64 {
        let first = self.txn * TOKENS + self.next;
        self.next += count;
        first
    }

    /// Takes back what was written since `writes` had this length.
    pub(crate) fn undo(&mut self, length: usize) {
        let undone = self.writes.split_off(length);
        self.undone.extend(undone);
        self.savepoints_undone += 1;
    }
}

/// The book that all writers write into.
#[derive(Debug, Default)]
pub(crate) struct Book {
    clock: AtomicU64,
    next: AtomicI64,
    commits: AtomicU64,
    transactions: Mutex<Vec<Transaction>>,
    /// Errors that no user should see, with what was being done.
    failures: Mutex<Vec<String>>,
    /// Errors that belong to such a workload, by SQLSTATE.
    expected: Mutex<HashMap<String, u64>>,
}

impl Book {
    /// A moment: later calls give larger numbers.
    pub(crate) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Begins a transaction. Call it before its first statement is sent.
    pub(crate) fn begin(&self) -> Transaction {
        let txn = self.next.fetch_add(1, Ordering::SeqCst) + 1;
        let (writes, undone, seen) = (Vec::new(), Vec::new(), Vec::new());
        Transaction {
            txn,
            begun: self.now(),
            ended: u64::MAX,
            writes,
            undone,
            seen,
            is_prepared: false,
            savepoints_undone: 0,
            outcome: Outcome::Unknown,
            next: 0,
        }
    }

    /// Files a transaction that has ended.
    pub(crate) fn file(&self, transaction: Transaction) {
        if [Outcome::Durable, Outcome::Committed].contains(&transaction.outcome) {
            self.commits.fetch_add(1, Ordering::Relaxed);
        }
        lock(&self.transactions).push(transaction);
    }

    /// How many commits have returned. A crash may yet take a few of them back.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Notes an error that a user should not have had.
    pub(crate) fn fail(&self, what: String) {
        lock(&self.failures).push(what);
    }

    /// Notes an error that such a workload brings with it.
    pub(crate) fn expect(&self, sqlstate: &str) {
        *lock(&self.expected).entry(sqlstate.to_owned()).or_default() += 1;
    }

    /// Errors that no user should have had.
    pub(crate) fn failures(&self) -> Vec<String> {
        lock(&self.failures).clone()
    }

    /// Ordinary errors by SQLSTATE, for the record.
    pub(crate) fn expected(&self) -> Vec<(String, u64)> {
        let mut list: Vec<_> = lock(&self.expected).clone().into_iter().collect();
        list.sort();
        list
    }

    /// Closes the book, given the transactions that the side table has.
    pub(crate) fn close(&self, committed: &HashSet<i64>) -> Truth {
        Truth::new(lock(&self.transactions).clone(), committed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A writer that panicked has failed the run already; what it noted still counts.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What must have been delivered, and what must not.
#[derive(Debug)]
pub(crate) struct Truth {
    /// Committed transactions by number.
    pub(crate) committed: HashMap<i64, Transaction>,
    /// Which committed transaction made a write.
    pub(crate) made_by: HashMap<Write, i64>,
    /// Numbers of all transactions that were begun and filed, committed or not.
    pub(crate) known: HashSet<i64>,
    /// Where the writers' view and the side table contradict each other: the test or Postgres itself is wrong.
    pub(crate) contradictions: Vec<String>,
    /// How many ended in which way.
    pub(crate) outcomes: HashMap<Outcome, u64>,
    /// Asynchronous commits that returned and that a crash took back, as it may.
    pub(crate) taken_back: u64,
}

impl Truth {
    fn new(transactions: Vec<Transaction>, committed: &HashSet<i64>) -> Self {
        let mut truth = Self {
            committed: HashMap::new(),
            made_by: HashMap::new(),
            known: transactions.iter().map(|transaction| transaction.txn).collect(),
            contradictions: Vec::new(),
            outcomes: HashMap::new(),
            taken_back: 0,
        };
        truth
            .contradictions
            .extend(committed.iter().filter(|txn| !truth.known.contains(txn)).map(|txn| format!("nobody filed {txn}")));
        for transaction in transactions {
            truth.add(transaction, committed);
        }
        truth
    }

    fn add(&mut self, transaction: Transaction, committed: &HashSet<i64>) {
        *self.outcomes.entry(transaction.outcome).or_default() += 1;
        let txn = transaction.txn;
        let is_there = committed.contains(&txn);
        if is_there && transaction.outcome == Outcome::Failed {
            self.contradictions.push(format!("transaction {txn} failed and is in the table"));
        }
        if !is_there {
            match transaction.outcome {
                Outcome::Durable => {
                    self.contradictions.push(format!("transaction {txn} was durable and is not in the table"));
                }
                Outcome::Committed => self.taken_back += 1,
                Outcome::Failed | Outcome::Unknown => (),
            }
            return;
        }
        for write in &transaction.writes {
            // A truncation has no token; its transaction always has another write that tells whose it is.
            if !matches!(write, Write::Truncate(_))
                && let Some(other) = self.made_by.insert(*write, txn)
            {
                self.contradictions.push(format!("{write:?} was made by {other} and by {txn}"));
            }
        }
        self.committed.insert(txn, transaction);
    }
}
