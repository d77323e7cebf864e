//! News of who is on a channel, on their way to many connections, encoded at most once per dialect.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use super::{DIALECTS, DialectId};
use crate::model::PresenceChange;

/// News of who is on a channel.
pub struct Announced {
    change: PresenceChange,
    frames: [OnceLock<Option<Arc<str>>>; DIALECTS.len()],
}

impl Announced {
    /// Takes the news.
    #[must_use]
    pub fn new(change: PresenceChange) -> Self {
        Self { change, frames: Default::default() }
    }

    /// What happened.
    #[must_use]
    pub fn change(&self) -> &PresenceChange {
        &self.change
    }

    /// The whole frame; `None` when the dialect has no word for it.
    #[must_use]
    pub fn frame(&self, dialect: DialectId) -> Option<Arc<str>> {
        self.frames[dialect.0].get_or_init(|| dialect.dialect().presence(&self.change).map(Arc::from)).clone()
    }
}

impl fmt::Debug for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Announced").field(&self.change.step).finish()
    }
}
