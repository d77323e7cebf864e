//! What was ever delivered at each offset, by whomever: one offset never names two events.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

/// Everybody's memory of offsets.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    seen: Mutex<HashMap<(Form, i64), Sight>>,
    doubles: Mutex<Vec<String>>,
}

/// Forms in which an event is delivered: texts of one form can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// A row of `realtime.read()`.
    Log,
    /// What the event says, whatever the form.
    Meaning,
    /// A frame of the native protocol, byte for byte, whichever sidecar sent it.
    Frame,
}

#[derive(Clone, Debug)]
struct Sight {
    hash: u64,
    /// Kept short: evidence, not data.
    start: String,
    by: String,
}

impl Memory {
    /// Notes that `by` got `text` at an offset.
    pub(crate) fn note(&self, form: Form, offset: i64, text: &str, by: &str) {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = hasher.finish();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let first = seen.entry((form, offset)).or_insert_with(|| Sight { hash, start: start(text), by: by.to_owned() });
        if first.hash != hash {
            let evidence = format!("{offset}: {} got {}, {by} got {}", first.by, first.start, start(text));
            self.doubles.lock().unwrap_or_else(PoisonError::into_inner).push(evidence);
        }
    }

    /// Offsets that named two events.
    pub(crate) fn doubles(&self) -> Vec<String> {
        self.doubles.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn start(text: &str) -> String {
    text.chars().take(160).collect()
}
