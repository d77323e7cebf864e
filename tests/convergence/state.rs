//! What a client has: the rows of a table, folded from a snapshot and events as the protocol's page says.

use std::collections::BTreeMap;

use realtime_tests::Frame;
use serde_json::Value;

/// Rows by their keys.
pub(crate) type Rows = BTreeMap<String, Value>;

/// What a frame means for the subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Go on.
    On,
    /// What it has may be wrong: subscribe anew, from nothing.
    StartOver,
}

/// A client's picture of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// The rows.
    pub(crate) rows: Rows,
    /// The newest offset that it has, once it has any.
    pub(crate) offset: Option<i64>,
    key: Vec<String>,
    waits_for_rows: bool,
    /// A fold that is wrong on purpose: rows that leave stay.
    pub(crate) keeps_what_leaves: bool,
}

impl State {
    /// The subscription begins.
    pub(crate) fn begin(&mut self, ack: &Frame) {
        let key = ack["key"].as_array().expect("the table has a key");
        self.key = key.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        self.waits_for_rows = self.offset.is_none() || ack["recovered"] == false;
    }

    /// Forgets everything.
    pub(crate) fn forget(&mut self) {
        self.rows.clear();
        self.offset = None;
    }

    /// Whether the rows have come that it began with: the connection's cursor does not wait for them.
    pub(crate) fn has_rows(&self) -> bool {
        !self.waits_for_rows
    }

    /// Takes a frame of the subscription.
    pub(crate) fn take(&mut self, frame: &Frame) -> Next {
        match frame.kind() {
            "snapshot" => self.take_rows(frame),
            "broadcast" => self.fold(frame),
            "gap" if self.waits_for_rows => self.forget(),
            "gap" => return Next::StartOver,
            "error" => panic!("the subscription ended: {frame}"),
            _ => (),
        }
        Next::On
    }

    fn take_rows(&mut self, frame: &Frame) {
        for row in frame["rows"].as_array().unwrap() {
            self.rows.insert(self.key_of(row), row.clone());
        }
        if frame["last"] == true {
            self.waits_for_rows = false;
            self.offset = Some(frame.offset());
        }
    }

    fn fold(&mut self, frame: &Frame) {
        assert!(self.offset.is_none_or(|offset| offset < frame.offset()), "an offset does not grow: {frame}");
        self.offset = Some(frame.offset());
        let kind = frame["payload"]["type"].as_str().unwrap();
        if kind == "TRUNCATE" {
            self.rows.clear();
            return;
        }
        if kind != "INSERT" && !(kind == "DELETE" && self.keeps_what_leaves) {
            self.rows.remove(&self.key_of(frame.old_record()));
        }
        if kind != "DELETE" {
            self.rows.insert(self.key_of(frame.record()), frame.record().clone());
        }
    }

    fn key_of(&self, row: &Value) -> String {
        self.key.iter().map(|name| format!("{} ", row[name])).collect()
    }
}
