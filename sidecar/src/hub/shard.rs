//! Topics, spread over locks.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{Break, Delivery, Item, Outbox, SubscriberId};
use crate::{model::Topic, protocol::Published};

const SHARDS: usize = 64;

/// All topics.
pub(super) struct Shards {
    // Never held across an await: all that is done under one is pushing to queues.
    shards: [Mutex<Topics>; SHARDS],
    hasher: RandomState,
}

type Topics = HashMap<Topic, HashMap<SubscriberId, Arc<Outbox>>>;

impl Default for Shards {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

impl Shards {
    pub(super) fn insert(&self, topic: &Topic, subscriber: SubscriberId, outbox: &Arc<Outbox>) {
        let mut topics = self.shard(topic).lock();
        topics.entry(topic.clone()).or_default().insert(subscriber, Arc::clone(outbox));
    }

    pub(super) fn remove(&self, topic: &Topic, subscriber: SubscriberId) {
        let mut topics = self.shard(topic).lock();
        let Some(subscribers) = topics.get_mut(topic) else {
            return;
        };
        subscribers.remove(&subscriber);
        if subscribers.is_empty() {
            topics.remove(topic);
        }
    }

    /// Pushes to every queue of the topic, and gives how many took it.
    pub(super) fn publish(&self, topic: &Topic, event: &Arc<Published>) -> usize {
        let topics = self.shard(topic).lock();
        let Some(subscribers) = topics.get(topic) else {
            return 0;
        };
        let push = |(&subscriber, outbox): (&SubscriberId, &Arc<Outbox>)| {
            outbox.push(Delivery { subscriber, item: Item::Event(Arc::clone(event)) })
        };
        subscribers.iter().map(push).filter(|&took| took).count()
    }

    pub(super) fn publish_break(&self, it: Break) {
        for shard in &self.shards {
            for (&subscriber, outbox) in shard.lock().values().flatten() {
                outbox.push(Delivery { subscriber, item: Item::Break(it) });
            }
        }
    }

    pub(super) fn topics(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, topic: &Topic) -> &Mutex<Topics> {
        let hash = self.hasher.hash_one(topic);
        // The remainder is below SHARDS, so it fits.
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or_default()]
    }
}
