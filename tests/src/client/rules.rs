//! What holds for every frame of a connection, whatever a test is about.

use std::collections::HashMap;

use super::Dialect;
use crate::{Frame, schema};

/// The subscriptions of a connection and where each stands.
#[derive(Default)]
pub(super) struct Rules {
    greeted: bool,
    subscriptions: HashMap<String, Option<i64>>,
}

impl Rules {
    /// Checks a frame against its schema and against what came before it.
    pub(super) fn check(&mut self, dialect: Dialect, frame: &Frame) {
        let prefix = if dialect == Dialect::Native { "" } else { "seed-" };
        if let Some(fault) = schema::fault(prefix, frame) {
            panic!("not as documented: {fault}\n{frame}");
        }
        if dialect == Dialect::Native {
            self.check_order(frame);
        }
    }

    fn check_order(&mut self, frame: &Frame) {
        assert_eq!(self.greeted, frame.kind() != "hello", "hello comes first and once: {frame}");
        self.greeted = true;
        let id = frame["id"].as_str();
        match (frame.kind(), id) {
            ("ack", Some(id)) if frame["recovered"].is_boolean() => {
                self.subscriptions.insert(id.to_owned(), None);
            }
            ("ack", Some(id)) => {
                self.subscriptions.remove(id);
            }
            ("error", Some(id)) if frame["final"] == true => {
                assert!(self.subscriptions.remove(id).is_some(), "a subscription that there is not has ended: {frame}");
            }
            ("broadcast" | "gap" | "snapshot", Some(id)) => self.advance(id, frame),
            _ => (),
        }
    }

    /// Nothing precedes its ack; offsets strictly grow, except that a gap may send the client back. A snapshot is as of
    /// an offset before all events that follow it.
    fn advance(&mut self, id: &str, frame: &Frame) {
        let Some(last) = self.subscriptions.get_mut(id) else {
            panic!("there is no subscription for this frame: {frame}");
        };
        if frame.kind() == "gap" {
            *last = frame["to"].as_i64();
        } else if frame["last"] == true {
            *last = Some(frame.offset());
        } else if frame.kind() == "broadcast" {
            let offset = frame.offset();
            assert!(last.is_none_or(|last| last < offset), "offsets must grow, the last was {last:?}: {frame}");
            assert!(frame["txn"].as_i64() >= Some(offset), "a transaction ends before its event: {frame}");
            *last = Some(offset);
        }
    }
}
