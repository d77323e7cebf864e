//! A table as its events leave it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// One fault brings others; the first tell most.
const FAULTS_MAX: usize = 10;

/// One of pgbench's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Accounts,
    Branches,
    Tellers,
    /// Has no key: its events are insertions.
    History,
}

impl Table {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Accounts, Self::Branches, Self::Tellers, Self::History];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Accounts => "pgbench_accounts",
            Self::Branches => "pgbench_branches",
            Self::Tellers => "pgbench_tellers",
            Self::History => "pgbench_history",
        }
    }

    /// Its key and its balance.
    fn columns(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Accounts => Some(("aid", "abalance")),
            Self::Branches => Some(("bid", "bbalance")),
            Self::Tellers => Some(("tid", "tbalance")),
            Self::History => None,
        }
    }

    /// A query whose lines are those of [`Fold::contents`]. Balances begin at zero, so that zero says nothing.
    pub(crate) fn contents(self) -> String {
        match self.columns() {
            Some((key, balance)) => {
                format!("select {key}, {balance} from {} where {balance} <> 0 order by {key}", self.name())
            }
            None => {
                "select line from (select concat_ws('|', tid, bid, aid, delta, mtime) as line from pgbench_history) h
                     order by line collate \"C\""
                    .to_owned()
            }
        }
    }
}

/// A table as its events leave it, and what was wrong with them.
#[derive(Debug)]
pub(crate) struct Fold {
    pub(crate) table: Table,
    balances: BTreeMap<i64, i64>,
    lines: Vec<String>,
    /// Each transaction by the number that its events share.
    pub(crate) transactions: BTreeSet<i64>,
    /// From the change to its arrival here, in microseconds, one for each event.
    pub(crate) lags_us: Vec<i64>,
    /// Connections that it took.
    pub(crate) connections: u64,
    pub(crate) faults: Vec<String>,
    last: i64,
}

impl Fold {
    /// Nothing has come yet.
    pub(crate) fn new(table: Table, cursor: i64) -> Self {
        Self {
            table,
            balances: BTreeMap::new(),
            lines: Vec::new(),
            transactions: BTreeSet::new(),
            lags_us: Vec::new(),
            connections: 0,
            faults: Vec::new(),
            last: cursor,
        }
    }

    /// The last offset that came.
    pub(crate) fn last(&self) -> i64 {
        self.last
    }

    /// Notes something that should not have happened.
    pub(crate) fn fault(&mut self, what: &str) {
        if self.faults.len() == FAULTS_MAX {
            return;
        }
        self.faults.push(format!("{} after {}: {what}", self.table.name(), self.last));
    }

    /// Takes a `broadcast` frame.
    pub(crate) fn take(&mut self, frame: &Value) {
        let offset = frame["offset"].as_i64().unwrap_or_default();
        if offset <= self.last {
            self.fault(&format!("offset {offset} came again or late"));
        }
        self.last = offset;
        if !self.transactions.insert(frame["txn"].as_i64().unwrap_or_default()) {
            self.fault(&format!("a transaction has two events here: {frame}"));
        }
        let payload = &frame["payload"];
        let applied = match self.table.columns() {
            Some(columns) => self.update(columns, payload),
            None => self.insert(payload),
        };
        if applied.is_none() {
            self.fault(&format!("not an event of this load: {frame}"));
        }
    }

    fn update(&mut self, (key, balance): (&str, &str), payload: &Value) -> Option<()> {
        let (old, new) = (&payload["old_record"], &payload["record"]);
        let (id, before, after) = (new[key].as_i64()?, old[balance].as_i64()?, new[balance].as_i64()?);
        let known = self.balances.insert(id, after).unwrap_or(0);
        if known != before || old[key] != new[key] {
            self.fault(&format!("{key} {id} had {known}, the event says {before}"));
        }
        (payload["type"] == "UPDATE").then_some(())
    }

    fn insert(&mut self, payload: &Value) -> Option<()> {
        let new = &payload["record"];
        let [tid, bid, aid, delta] = ["tid", "bid", "aid", "delta"].map(|column| new[column].as_i64());
        // The database writes a space where JSON has a T.
        let mtime = new["mtime"].as_str()?.replace('T', " ");
        self.lines.push(format!("{}|{}|{}|{}|{mtime}", tid?, bid?, aid?, delta?));
        (payload["type"] == "INSERT").then_some(())
    }

    /// The rows as the events leave them, one a line.
    pub(crate) fn contents(&self) -> Vec<String> {
        if self.table == Table::History {
            let mut lines = self.lines.clone();
            lines.sort_unstable();
            return lines;
        }
        let balances = self.balances.iter().filter(|(_, balance)| **balance != 0);
        balances.map(|(id, balance)| format!("{id}|{balance}")).collect()
    }
}
