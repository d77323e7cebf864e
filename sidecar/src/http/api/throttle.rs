//! How often a caller may ask, over all of their requests.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration, time::Instant};

use parking_lot::Mutex;

use crate::{config::Limits, connection::TokenBucket, model::Identity};

/// Callers that are remembered at once. A bucket that is full again is forgotten.
const CALLERS_MAX: usize = 50_000;

/// Who shares a bucket: a user, whatever the address; those who are nobody in particular, by address.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Asker {
    User(Arc<str>),
    Address(IpAddr),
}

/// A bucket for each caller.
pub(super) struct Throttle {
    rate: f64,
    burst: f64,
    // Held for a look-up only.
    buckets: Mutex<HashMap<Asker, TokenBucket>>,
}

impl Throttle {
    /// As many requests as a connection may send frames.
    pub(super) fn new(limits: &Limits) -> Self {
        let number = |limit: usize| f64::from(u32::try_from(limit).unwrap_or(u32::MAX));
        let (rate, burst) = (number(limits.messages_per_second_max), number(limits.messages_burst_max));
        Self { rate, burst, buckets: Mutex::default() }
    }

    /// Counts a request, or says how long until the next one is served.
    pub(super) fn take(&self, identity: &Identity, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let address = || Asker::Address(address.to_canonical());
        let asker = identity.user.as_ref().map_or_else(address, |user| Asker::User(Arc::clone(user)));
        let mut buckets = self.buckets.lock();
        if buckets.len() >= CALLERS_MAX && !buckets.contains_key(&asker) {
            buckets.retain(|_, bucket| !bucket.is_full(now));
            if buckets.len() >= CALLERS_MAX {
                return Err(Duration::from_secs(1));
            }
        }
        buckets.entry(asker).or_insert_with(|| TokenBucket::new(self.rate, self.burst, now)).take(now)
    }
}
