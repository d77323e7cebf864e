//! How many got which message, until somebody writes it down.
//!
//! Live deliveries only: who is served from the log later is not counted. Counting is a map under a lock, held for one
//! addition; what does not fit is not counted, and delivery never waits for it.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The uuid of a message.
pub type MessageId = uuid::Uuid;

/// What is to be added to the counters of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Subscriptions that got it.
    pub subscribers: u32,
    /// Webhooks that took it.
    pub webhooks: u32,
}

/// Counts by message.
pub struct Tally {
    messages_max: usize,
    counts: Mutex<HashMap<MessageId, Counts>>,
    lost: AtomicU64,
    published: Notify,
}

impl Tally {
    /// Counts for up to this many messages at once; 0 counts nothing.
    #[must_use]
    pub fn new(messages_max: usize) -> Self {
        Self { messages_max, counts: Mutex::default(), lost: AtomicU64::new(0), published: Notify::new() }
    }

    /// Whether anything is counted.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.messages_max > 0
    }

    /// A message came by and so many queues took it.
    pub(super) fn delivered(&self, message_id: &str, subscribers: usize) {
        self.published.notify_one();
        let subscribers = u32::try_from(subscribers).unwrap_or(u32::MAX);
        if let Ok(id) = message_id.parse::<MessageId>() {
            self.add(id, Counts { subscribers, webhooks: 0 });
        }
    }

    /// Adds to what waits for a message.
    pub fn add(&self, id: MessageId, more: Counts) {
        if !self.is_on() || more == Counts::default() {
            return;
        }
        let mut counts = self.counts.lock();
        if counts.len() >= self.messages_max && !counts.contains_key(&id) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let known = counts.entry(id).or_default();
        known.subscribers = known.subscribers.saturating_add(more.subscribers);
        known.webhooks = known.webhooks.saturating_add(more.webhooks);
    }

    /// Takes all that waits.
    pub fn take(&self) -> HashMap<MessageId, Counts> {
        std::mem::take(&mut *self.counts.lock())
    }

    /// Counts that did not fit since this was last asked.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// Waits until a message came by since the last wait. For one who waits only.
    pub async fn published(&self) {
        self.published.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "00000000-0000-4000-8000-000000000001";
    const TWO: &str = "00000000-0000-4000-8000-000000000002";

    #[test]
    fn counts_add_up_until_they_are_taken() {
        let tally = Tally::new(10);
        tally.delivered(ONE, 2);
        tally.delivered(ONE, 1);
        tally.delivered(TWO, 0);
        tally.add(ONE.parse().unwrap(), Counts { subscribers: 0, webhooks: 1 });
        let taken = tally.take();
        assert_eq!(taken.len(), 1, "nobody is not counted");
        assert_eq!(taken[&ONE.parse::<MessageId>().unwrap()], Counts { subscribers: 3, webhooks: 1 });
        assert!(tally.take().is_empty());
    }

    #[test]
    fn what_does_not_fit_is_lost_and_said() {
        let tally = Tally::new(1);
        tally.delivered(ONE, 1);
        tally.delivered(TWO, 1);
        tally.delivered(ONE, 1);
        assert_eq!((tally.take().len(), tally.take_lost(), tally.take_lost()), (1, 1, 0));
        let off = Tally::new(0);
        off.delivered(ONE, 1);
        assert_eq!((off.take().len(), off.take_lost()), (0, 0));
    }
}
