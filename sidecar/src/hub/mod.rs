//! Who gets what: topics in shards, the newest events in memory, a bounded queue for each connection.
//!
//! One reader publishes batches in offset order. The order of the steps makes joining exact: a batch is put into
//! `recent` and its end becomes [`Position::begun`] *before* anybody is served, and whoever joins registers *before*
//! reading the position. So an event that missed a joiner lies at or before the position that the joiner reads, and is
//! replayed; a later one is in the joiner's queue.
//!
//! Nothing here assumes to be alone: offsets come from the database, and other sidecars have the same ones.

mod lock;
mod outbox;
mod presence;
mod recent;
mod shard;
mod tally;

use std::{collections::HashMap, sync::Arc};

use lock::{
    Mutex, RwLock,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};
pub use outbox::{Delivery, Item, Note, Outbox, Seen};
pub use presence::{Attendance, News, Presence};
use recent::Recent;
pub use recent::{Page, PageLimits};
use shard::Shards;
pub use tally::{Counts, MessageId, Tally};

use crate::{
    model::{Event, EventKind, Gap, Offset, Topic},
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
    tally: Tally,
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
            tally: Tally::new(0),
        }
    }

    /// The same hub, which counts the deliveries of up to `messages_max` messages until they are taken from its tally.
    #[must_use]
    pub fn counting(self, messages_max: usize) -> Self {
        Self { tally: Tally::new(messages_max), ..self }
    }

    /// How many got which message.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Begins at the log's head; until then nobody can join. `newest` are the events that lead there from `after`, for
    /// those who come back.
    pub fn start(&self, after: Offset, newest: impl IntoIterator<Item = Batch>) {
        let mut head = after;
        self.recent.write().restart(after);
        for batch in newest {
            head = batch.until;
            self.announce(batch);
        }
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
        let deliveries = published.iter().map(|event| self.serve_counted(event)).sum();
        self.settle(until);
        deliveries
    }

    /// First step of publishing: whoever joins from now on gets the batch from memory.
    pub(crate) fn announce(&self, batch: Batch) -> Vec<Arc<Published>> {
        let published = number(batch.after, batch.events);
        self.recent.write().extend(&published, batch.until);
        published
    }

    fn serve_counted(&self, event: &Arc<Published>) -> usize {
        let deliveries = self.serve(event);
        if let EventKind::Message(message) = &event.event().kind {
            self.tally.delivered(&message.id, deliveries);
        }
        deliveries
    }

    /// Second step, for each event: whoever has joined gets it into the queue.
    pub(crate) fn serve(&self, event: &Arc<Published>) -> usize {
        if event.event().is_for_all() {
            return self.shards.publish_to_all(event);
        }
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

    /// How many breaks there were.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.recent.read().position().epoch
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

#[cfg(test)]
pub(crate) mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::model::{GapReason, Op, Relation, RowChange, Timestamp};

    /// An insert into a table.
    pub(crate) fn event(number: i64, table: u32) -> Event {
        let change = RowChange {
            op: Op::Insert,
            relations: [Relation { oid: table, schema: "s".into(), table: "t".into(), shape: Some(1) }].into(),
            key: None,
            record: Some(r#"{"id":1}"#.into()),
            old_record: None,
            oversize: false,
        };
        let offset = Offset::new(number).expect("small");
        Event { offset, txn: offset, at: Timestamp(SystemTime::UNIX_EPOCH), kind: EventKind::Row(change) }
    }

    fn offset(number: i64) -> Offset {
        Offset::new(number).expect("small")
    }

    fn started() -> (Hub, Arc<Outbox>) {
        let hub = Hub::new(1 << 20);
        hub.start(offset(10), []);
        (hub, Arc::new(Outbox::new(100, 1 << 20)))
    }

    fn batch(after: i64, numbers: std::ops::RangeInclusive<i64>) -> Batch {
        let until = offset(*numbers.end());
        Batch { after: offset(after), events: numbers.map(|number| event(number, 1)).collect(), until }
    }

    #[test]
    fn nobody_joins_before_the_log_was_read() {
        let hub = Hub::new(0);
        let outbox = Arc::new(Outbox::new(1, 1));
        assert_eq!(hub.head(), None);
        assert!(hub.join(&Topic::Table(1), hub.subscriber_id(), &outbox).is_none());
        assert!(hub.recent(&Topic::Table(1), Offset::ZERO, PageLimits { events: 1, bytes: 1 }).is_none());
        assert_eq!(hub.channels(), 0);
    }

    #[test]
    fn whoever_joins_between_announcing_and_serving_knows_what_was_announced() {
        let (hub, outbox) = started();
        let events = hub.announce(batch(10, 11..=12));
        let id = hub.subscriber_id();
        let position = hub.join(&Topic::Table(1), id, &outbox).expect("started");
        assert_eq!(position.begun, offset(12));
        assert_eq!(hub.head(), Some(offset(10)));
        assert_eq!(events.iter().map(|event| hub.serve(event)).sum::<usize>(), 2);
        hub.settle(offset(12));
        assert_eq!(hub.head(), Some(offset(12)));
    }

    #[test]
    fn a_topic_lives_as_long_as_somebody_listens() {
        let (hub, outbox) = started();
        let (one, two) = (hub.subscriber_id(), hub.subscriber_id());
        hub.join(&Topic::Table(1), one, &outbox);
        hub.join(&Topic::Table(1), two, &outbox);
        assert_eq!(hub.channels(), 1);
        assert_eq!(hub.publish(batch(10, 11..=11)), 2);
        hub.leave(&Topic::Table(1), one);
        hub.leave(&Topic::Table(1), one);
        assert_eq!(hub.publish(batch(11, 12..=12)), 1);
        hub.leave(&Topic::Table(1), two);
        assert_eq!(hub.channels(), 0);
    }

    #[test]
    fn what_is_for_all_reaches_every_topic_once() {
        let (hub, outbox) = started();
        let room = Topic::Channel(crate::model::ChannelName::parse("room:1").expect("a name"));
        for topic in [Topic::Table(1), Topic::Table(2), room.clone()] {
            hub.join(&topic, hub.subscriber_id(), &outbox);
        }
        let lost = Event { kind: EventKind::Unjudged([].into()), ..event(11, 1) };
        assert_eq!(hub.publish(Batch { after: offset(10), events: vec![lost], until: offset(11) }), 3);
        let page = hub.recent(&room, offset(10), PageLimits { events: 9, bytes: 9 }).expect("in memory");
        assert_eq!(page.events.len(), 1, "those who resume get it too");
    }

    #[test]
    fn a_break_reaches_everybody_and_moves_the_head() {
        let (hub, outbox) = started();
        hub.join(&Topic::Table(1), hub.subscriber_id(), &outbox);
        let gap = Gap { reason: GapReason::Ahead, from: offset(11), to: offset(5) };
        hub.publish_break(gap);
        assert_eq!(hub.head(), Some(offset(5)));
        assert!(matches!(outbox.pop().map(|it| it.item), Some(Item::Break(it)) if it.gap == gap && it.epoch == 1));
    }

    #[test]
    fn connections_are_told_once_and_counted_while_they_live() {
        let hub = Arc::new(Hub::new(0));
        let outbox = Arc::new(Outbox::new(1, 1));
        let attachment = hub.attach(&outbox);
        assert_eq!(hub.connections(), 1);
        hub.set_database(true);
        hub.set_database(true);
        assert!(matches!(outbox.pop_note(), Some(Note::Database { up: true })));
        assert!(outbox.pop_note().is_none());
        drop(attachment);
        assert_eq!(hub.connections(), 0);
    }
}
