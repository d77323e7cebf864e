//! Which sessions there are. Whoever names one speaks for it, so names cannot be guessed.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use uuid::Uuid;

use super::refusal::Refusal;
use crate::{connection::Mailbox, metrics::Metrics};

/// The sessions of this sidecar by their names.
pub(super) struct Sessions {
    metrics: Arc<Metrics>,
    // Held for one look or change only.
    by_name: Mutex<HashMap<Arc<str>, Option<Arc<Mailbox>>>>,
}

/// A session's entry, taken out when dropped.
pub(super) struct Entry {
    sessions: Arc<Sessions>,
    name: Arc<str>,
}

/// A name with more than 128 random bits.
pub(super) fn new_name() -> Arc<str> {
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    // 122 bits of the first are random, and all 32 of what is taken of the second.
    URL_SAFE_NO_PAD.encode([first.as_bytes(), &second.as_bytes()[..4]].concat()).into()
}

impl Sessions {
    /// There are none.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, by_name: Mutex::default() }
    }

    /// Enters a session; one that began over a WebSocket has no mailbox.
    pub(super) fn enter(self: &Arc<Self>, name: Arc<str>, mailbox: Option<Arc<Mailbox>>) -> Entry {
        self.metrics.engine_sessions.inc();
        self.by_name.lock().insert(Arc::clone(&name), mailbox);
        Entry { sessions: Arc::clone(self), name }
    }

    /// The mailbox of a session that is over HTTP.
    ///
    /// # Errors
    ///
    /// There is no such session, or it is over a WebSocket.
    pub(super) fn find(&self, name: &str) -> Result<Arc<Mailbox>, Refusal> {
        let mailbox = self.by_name.lock().get(name).cloned().ok_or(Refusal::Session)?;
        let mailbox = mailbox.filter(|mailbox| !mailbox.has_moved()).ok_or(Refusal::Request)?;
        if mailbox.is_over() { Err(Refusal::Session) } else { Ok(mailbox) }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.sessions.metrics.engine_sessions.dec();
        self.sessions.by_name.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_repeat_and_entries_go_with_their_owners() {
        let sessions = Arc::new(Sessions::new(Arc::new(Metrics::new())));
        let entries: Vec<Entry> = (0..1000).map(|_| sessions.enter(new_name(), None)).collect();
        assert_eq!(sessions.by_name.lock().len(), 1000);
        assert!(entries.iter().all(|entry| entry.name.len() == 27));
        assert_eq!(sessions.find(&entries[0].name).err(), Some(Refusal::Request));
        drop(entries);
        assert_eq!((sessions.by_name.lock().len(), sessions.metrics.engine_sessions.get()), (0, 0));
        assert_eq!(sessions.find("x").err(), Some(Refusal::Session));
    }
}
