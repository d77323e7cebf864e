//! What waits for one connection: bounded, so that a slow client costs a fixed amount and delays nobody.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::Notify;

use super::{Break, SubscriberId, lock::Mutex};
use crate::{
    model::{EventKind, Grant, Refusal, Verdict},
    protocol::Published,
};

/// The queue between the hub and a connection's task.
///
/// When it would grow over a bound it is emptied and marked: the connection then serves its subscriptions from the log,
/// at the pace of its socket, and nothing is lost.
pub struct Outbox {
    frames_max: usize,
    bytes_max: usize,
    // Held for a push or a pop only.
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Default)]
struct State {
    deliveries: VecDeque<Delivery>,
    bytes: usize,
    overflowed: bool,
    notes: VecDeque<Note>,
}

/// Something for one subscription.
#[derive(Clone)]
pub struct Delivery {
    /// The registration that it came by.
    pub subscriber: SubscriberId,
    /// What it is.
    pub item: Item,
}

/// Something that happened in the log.
#[derive(Clone)]
pub enum Item {
    /// An event of a topic.
    Event(Arc<Published>),
    /// An event that was judged for one identity.
    Judged(Seen),
    /// Here was something that could not be judged: whatever it was, the log has it.
    Missed,
    /// A hole.
    Break(Break),
}

/// An event, and what somebody sees of it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The event.
    pub event: Arc<Published>,
    /// What a judgement said; `None` when there was none.
    pub verdict: Option<Verdict>,
}

impl Seen {
    /// An event that nobody has judged.
    #[must_use]
    pub fn unjudged(event: Arc<Published>) -> Self {
        Self { event, verdict: None }
    }

    /// Whether a judgement can have something to say about it.
    #[must_use]
    pub fn can_be_judged(&self) -> bool {
        matches!(self.event.event().kind, EventKind::Row(_))
    }
}

/// News for a connection that are no events. Their number is bounded by the connection's subscriptions.
#[derive(Clone, Debug)]
pub enum Note {
    /// The database went or came back.
    Database {
        /// It is back.
        up: bool,
    },
    /// The columns of a subscription changed.
    Regranted {
        /// The registration.
        subscriber: SubscriberId,
        /// What it may see from now on.
        grant: Arc<Grant>,
    },
    /// There is something to hear of who is on a channel. Noted once until it is taken.
    Presence {
        /// The attendance.
        attendance: SubscriberId,
    },
    /// A subscription is no longer allowed.
    Revoked {
        /// The registration.
        subscriber: SubscriberId,
        /// Why.
        refusal: Refusal,
    },
}

impl Outbox {
    /// An empty queue with these bounds.
    #[must_use]
    pub fn new(frames_max: usize, bytes_max: usize) -> Self {
        Self { frames_max, bytes_max, state: Mutex::default(), ready: Notify::new() }
    }

    /// Takes a delivery, or gives `false` when the queue has overflowed: then it holds nothing until
    /// [`Outbox::take_overflow`].
    pub fn push(&self, delivery: Delivery) -> bool {
        let mut state = self.state.lock();
        if state.overflowed {
            return false;
        }
        state.bytes += delivery.size_bytes();
        state.deliveries.push_back(delivery);
        // One delivery always fits, however large: it is bounded elsewhere.
        let over = state.deliveries.len() > self.frames_max || state.bytes > self.bytes_max;
        if over && state.deliveries.len() > 1 {
            state.overflow();
        }
        let took = !state.overflowed;
        drop(state);
        self.ready.notify_one();
        took
    }

    /// Takes news.
    pub fn note(&self, note: Note) {
        self.state.lock().notes.push_back(note);
        self.ready.notify_one();
    }

    /// The oldest delivery.
    pub fn pop(&self) -> Option<Delivery> {
        let mut state = self.state.lock();
        let delivery = state.deliveries.pop_front()?;
        state.bytes -= delivery.size_bytes();
        Some(delivery)
    }

    /// The oldest news.
    pub fn pop_note(&self) -> Option<Note> {
        self.state.lock().notes.pop_front()
    }

    /// Whether it overflowed since the last call. If so it is empty, and what is pushed from now on is kept.
    pub fn take_overflow(&self) -> bool {
        std::mem::take(&mut self.state.lock().overflowed)
    }

    /// Whether there is nothing to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.deliveries.is_empty() && !state.overflowed
    }

    /// Deliveries that wait, and their bytes.
    #[must_use]
    pub fn queued(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.deliveries.len(), state.bytes)
    }

    /// Waits until something was pushed since the last wait. For the connection's task only.
    pub async fn ready(&self) {
        self.ready.notified().await;
    }
}

impl State {
    fn overflow(&mut self) {
        self.deliveries = VecDeque::new();
        self.bytes = 0;
        self.overflowed = true;
    }
}

impl Delivery {
    fn size_bytes(&self) -> usize {
        match &self.item {
            Item::Event(event) | Item::Judged(Seen { event, .. }) => event.size_bytes(),
            Item::Missed | Item::Break(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hub::{number, tests::event},
        model::Offset,
    };

    fn delivery(number_of: i64) -> Delivery {
        let mut events = number(Offset::ZERO, vec![event(number_of, 1)]);
        Delivery { subscriber: SubscriberId(1), item: Item::Event(events.remove(0)) }
    }

    #[test]
    fn an_overflow_empties_the_queue_and_refuses_until_it_is_seen() {
        let outbox = Outbox::new(2, 1_000_000);
        assert!(outbox.push(delivery(1)));
        assert!(outbox.push(delivery(2)));
        assert!(!outbox.push(delivery(3)));
        assert!(outbox.pop().is_none());
        assert!(!outbox.push(delivery(4)));
        assert!(!outbox.is_empty());
        assert!(outbox.take_overflow());
        assert!(!outbox.take_overflow());
        assert!(outbox.push(delivery(5)));
        assert_eq!(outbox.queued().0, 1);
    }

    #[test]
    fn bytes_are_bounded_but_one_delivery_always_fits() {
        let outbox = Outbox::new(100, 10);
        assert!(outbox.push(delivery(1)));
        assert!(outbox.pop().is_some());
        assert_eq!(outbox.queued(), (0, 0));
        assert!(outbox.push(delivery(2)));
        assert!(!outbox.push(delivery(3)));
    }

    #[test]
    fn news_come_whatever_happens_to_the_queue() {
        let outbox = Outbox::new(1, 1_000_000);
        outbox.note(Note::Database { up: true });
        outbox.push(delivery(1));
        outbox.push(delivery(2));
        assert!(matches!(outbox.pop_note(), Some(Note::Database { up: true })));
        assert!(outbox.pop_note().is_none());
    }
}
