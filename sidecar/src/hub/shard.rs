//! Topics, spread over locks.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use super::{
    Break, Delivery, Item, Outbox, SubscriberId,
    lock::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use crate::{model::Topic, protocol::Published};

const SHARDS: usize = 64;

/// All topics.
pub(super) struct Shards {
    // Never held across an await: all that is done under one is pushing to queues.
    shards: [Mutex<Topics>; SHARDS],
    hasher: RandomState,
    /// How many topics somebody listens to, so that counting them takes no lock.
    topics: AtomicUsize,
}

type Topics = HashMap<Topic, Subscribers>;
type Subscribers = HashMap<SubscriberId, Arc<Outbox>>;

impl Default for Shards {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            topics: AtomicUsize::new(0),
        }
    }
}

impl Shards {
    pub(super) fn insert(&self, topic: &Topic, subscriber: SubscriberId, outbox: &Arc<Outbox>) {
        let mut topics = self.shard(topic).lock();
        let subscribers = topics.entry(topic.clone()).or_default();
        if subscribers.is_empty() {
            self.topics.fetch_add(1, Ordering::Relaxed);
        }
        subscribers.insert(subscriber, Arc::clone(outbox));
    }

    pub(super) fn remove(&self, topic: &Topic, subscriber: SubscriberId) {
        let mut topics = self.shard(topic).lock();
        let Some(subscribers) = topics.get_mut(topic) else {
            return;
        };
        subscribers.remove(&subscriber);
        if subscribers.is_empty() {
            topics.remove(topic);
            self.topics.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Pushes to every queue of the topic, and gives how many took it.
    pub(super) fn publish(&self, topic: &Topic, event: &Arc<Published>) -> usize {
        let topics = self.shard(topic).lock();
        topics.get(topic).map_or(0, |subscribers| push(subscribers, event))
    }

    /// As [`Shards::publish`], to everybody who listens to anything.
    pub(super) fn publish_to_all(&self, event: &Arc<Published>) -> usize {
        let push_to_shard = |shard: &Mutex<Topics>| shard.lock().values().map(|it| push(it, event)).sum::<usize>();
        self.shards.iter().map(push_to_shard).sum()
    }

    pub(super) fn publish_break(&self, it: Break) {
        for shard in &self.shards {
            for (&subscriber, outbox) in shard.lock().values().flatten() {
                outbox.push(Delivery { subscriber, item: Item::Break(it) });
            }
        }
    }

    pub(super) fn topics(&self) -> usize {
        self.topics.load(Ordering::Relaxed)
    }

    fn shard(&self, topic: &Topic) -> &Mutex<Topics> {
        let hash = self.hasher.hash_one(topic);
        // The remainder is below SHARDS, so it fits.
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or_default()]
    }
}

fn push(subscribers: &Subscribers, event: &Arc<Published>) -> usize {
    let push = |(&subscriber, outbox): (&SubscriberId, &Arc<Outbox>)| {
        outbox.push(Delivery { subscriber, item: Item::Event(Arc::clone(event)) })
    };
    subscribers.iter().map(push).filter(|&took| took).count()
}
