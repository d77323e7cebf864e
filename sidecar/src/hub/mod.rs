//! Who gets what: topics in shards, the newest events in memory, a bounded queue for each connection.
//!
//! One reader publishes batches in offset order. The order of the steps makes joining exact: a batch is put into
//! `recent` and its end becomes [`Position::begun`] *before* anybody is served, and whoever joins registers *before*
//! reading the position. So an event that missed a joiner lies at or before the position that the joiner reads, and is
//! replayed; a later one is in the joiner's queue.
//!
//! Nothing here assumes to be alone: offsets come from the database, and other sidecars have the same ones.

mod outbox;
mod recent;
mod shard;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};

pub use outbox::{Delivery, Item, Note, Outbox};
use recent::Recent;
pub use recent::{Page, PageLimits};
use shard::Shards;

use crate::{
    model::{Event, Gap, Offset, Topic},
    protocol::Published,
};

/// Names one registration; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriberId(u64);

/// Names one connection; never used twice in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(u64);

/// What the reader read at once.
#[derive(Debug)]
pub struct Batch {
    /// The cursor before it.
    pub after: Offset,
    /// Its events, offsets growing.
    pub events: Vec<Event>,
    /// The cursor after it.
    pub until: Offset,
}

/// The log has a hole, or begins anew: everybody's cursor moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Break {
    /// Counts the breaks; a subscription that joined later than one has nothing to do with it.
    pub epoch: u64,
    /// What cannot be had.
    pub gap: Gap,
}

/// Where the hub was when somebody joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Every event after this one reaches the joiner's queue.
    pub begun: Offset,
    /// Breaks up to this one are behind the joiner.
    pub epoch: u64,
}

/// The hub.
pub struct Hub {
    shards: Shards,
    recent: RwLock<Recent>,
    /// Everything up to here is in the queues.
    done: AtomicI64,
    started: AtomicBool,
    database_up: AtomicBool,
    connections: Mutex<HashMap<ConnectionId, Arc<Outbox>>>,
    ids: AtomicU64,
}

impl Hub {
    /// An empty hub that keeps about `recent_bytes_max` bytes of the newest events.
    #[must_use]
    pub fn new(recent_bytes_max: usize) -> Self {
        Self {
            shards: Shards::default(),
            recent: RwLock::new(Recent::new(recent_bytes_max)),
            done: AtomicI64::new(0),
            started: AtomicBool::new(false),
            database_up: AtomicBool::new(false),
            connections: Mutex::default(),
            ids: AtomicU64::new(1),
        }
    }

    /// Begins at the log's head; until then nobody can join.
    pub fn start(&self, head: Offset) {
        self.recent.write().restart(head);
        self.done.store(head.get(), Ordering::Release);
        self.started.store(true, Ordering::Release);
    }

    /// The newest offset that is in everybody's queue; `None` before the log was first read.
    #[must_use]
    pub fn head(&self) -> Option<Offset> {
        if !self.started.load(Ordering::Acquire) {
            return None;
        }
        Offset::new(self.done.load(Ordering::Acquire))
    }

    /// Hands a batch to everybody who listens, and gives how many queues took an event.
    pub fn publish(&self, batch: Batch) -> usize {
        let until = batch.until;
        let published = self.announce(batch);
        let deliveries = published.iter().map(|event| self.serve(event)).sum();
        self.settle(until);
        deliveries
    }

    /// First step of publishing: whoever joins from now on gets the batch from memory.
    pub(crate) fn announce(&self, batch: Batch) -> Vec<Arc<Published>> {
        let published = number(batch.after, batch.events);
        self.recent.write().extend(&published, batch.until);
        published
    }

    /// Second step, for each event: whoever has joined gets it into the queue.
    pub(crate) fn serve(&self, event: &Arc<Published>) -> usize {
        let mut deliveries = 0;
        event.event().for_each_topic(|topic| deliveries += self.shards.publish(&topic, event));
        deliveries
    }

    /// Last step: what is not in a queue now never comes into it.
    pub(crate) fn settle(&self, until: Offset) {
        self.done.store(until.get(), Ordering::Release);
    }

    /// Tells everybody that a range cannot be had, and goes on after it.
    pub fn publish_break(&self, gap: Gap) {
        let epoch = self.recent.write().begin_epoch(gap.to);
        self.shards.publish_break(Break { epoch, gap });
        self.done.store(gap.to.get(), Ordering::Release);
    }

    /// Registers for the events of a topic, then says from where on they come; `None` before the log was first read.
    pub fn join(&self, topic: &Topic, subscriber: SubscriberId, outbox: &Arc<Outbox>) -> Option<Position> {
        if !self.started.load(Ordering::Acquire) {
            return None;
        }
        self.shards.insert(topic, subscriber, outbox);
        Some(self.recent.read().position())
    }

    /// Ends a registration. What is queued stays queued; the connection knows its own registrations.
    pub fn leave(&self, topic: &Topic, subscriber: SubscriberId) {
        self.shards.remove(topic, subscriber);
    }

    /// The events of a topic after a cursor, from memory; `None` when memory does not reach back to it or does not know
    /// it.
    #[must_use]
    pub fn recent(&self, topic: &Topic, after: Offset, limits: PageLimits) -> Option<Page> {
        self.head()?;
        self.recent.read().page(topic, after, limits)
    }

    /// Bytes of events kept in memory.
    #[must_use]
    pub fn recent_bytes(&self) -> usize {
        self.recent.read().bytes()
    }

    /// A new name for a registration.
    #[must_use]
    pub fn subscriber_id(&self) -> SubscriberId {
        SubscriberId(self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a connection known, so that it is told of the database and counted, until the guard is dropped.
    #[must_use]
    pub fn attach(self: &Arc<Self>, outbox: &Arc<Outbox>) -> Attachment {
        let id = ConnectionId(self.ids.fetch_add(1, Ordering::Relaxed));
        self.connections.lock().insert(id, Arc::clone(outbox));
        Attachment { hub: Arc::clone(self), id }
    }

    /// Tells every connection that the database went or came back. Saying the same again tells nobody.
    pub fn set_database(&self, up: bool) {
        if self.database_up.swap(up, Ordering::AcqRel) == up {
            return;
        }
        for outbox in self.connections.lock().values() {
            outbox.note(Note::Database { up });
        }
    }

    /// Whether the log can be read.
    #[must_use]
    pub fn is_database_up(&self) -> bool {
        self.database_up.load(Ordering::Acquire)
    }

    /// Deliveries that wait in all queues, and their bytes.
    #[must_use]
    pub fn queued(&self) -> (usize, usize) {
        let connections = self.connections.lock();
        let lengths = connections.values().map(|outbox| outbox.queued());
        lengths.fold((0, 0), |(frames, bytes), (more_frames, more_bytes)| (frames + more_frames, bytes + more_bytes))
    }

    /// Open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.lock().len()
    }

    /// Channels that somebody listens to.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.shards.topics()
    }
}

/// Keeps a connection known to the hub.
pub struct Attachment {
    hub: Arc<Hub>,
    id: ConnectionId,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.hub.connections.lock().remove(&self.id);
    }
}

/// Gives each event the safe cursor before it: the event before, or where the batch began.
pub fn number(after: Offset, events: Vec<Event>) -> Vec<Arc<Published>> {
    let mut previous = after;
    let number = |event: Event| {
        let published = Published::new(event, previous);
        previous = published.event().offset;
        Arc::new(published)
    };
    events.into_iter().map(number).collect()
}
