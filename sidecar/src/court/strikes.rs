//! Whose policies had no end, and how often: pure bookkeeping.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// The first time may have had a cause that is gone a moment later: a lock, a busy server. It is judged by itself then,
/// where it delays nobody. From the second time on it is not judged at all for a while, and for longer each time.
#[derive(Debug)]
pub(super) struct Strikes<K> {
    struck: HashMap<K, Strike>,
}

#[derive(Debug)]
struct Strike {
    count: u32,
    at: Instant,
}

const WAIT_MIN: Duration = Duration::from_secs(10);
const WAIT_MAX: Duration = Duration::from_secs(80);
/// Good behaviour for so long, beyond what it had to wait, is taken for good.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

impl<K> Default for Strikes<K> {
    fn default() -> Self {
        Self { struck: HashMap::new() }
    }
}

impl<K: Eq + Hash> Strikes<K> {
    /// It had no end again.
    pub(super) fn add(&mut self, key: K, now: Instant) {
        self.struck.retain(|_, strike| now < strike.at + strike.wait() + FORGIVEN_AFTER);
        let strike = self.struck.entry(key).or_insert(Strike { count: 0, at: now });
        *strike = Strike { count: strike.count + 1, at: now };
    }

    /// Whether it had no end lately: it is judged by itself.
    pub(super) fn suspects(&self, key: &K, now: Instant) -> bool {
        self.struck.get(key).is_some_and(|strike| now < strike.at + strike.wait() + FORGIVEN_AFTER)
    }

    /// How long it is not to be judged any more; `None` when it may be.
    pub(super) fn holds(&self, key: &K, now: Instant) -> Option<Duration> {
        let strike = self.struck.get(key)?;
        let left = (strike.at + strike.wait()).saturating_duration_since(now);
        (left > Duration::ZERO).then_some(left)
    }
}

impl Strike {
    fn wait(&self) -> Duration {
        match self.count.checked_sub(2) {
            Some(more) => WAIT_MIN.saturating_mul(1 << more.min(8)).min(WAIT_MAX),
            None => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_is_forgiven_and_the_next_ones_are_held_longer_each_time() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut strikes = Strikes::default();
        assert!(!strikes.suspects(&"p", start));
        strikes.add("p", start);
        assert!(strikes.suspects(&"p", start));
        assert_eq!(strikes.holds(&"p", start), None);
        strikes.add("p", start + second);
        assert_eq!(strikes.holds(&"p", start + second * 2), Some(second * 9));
        assert_eq!(strikes.holds(&"p", start + second * 12), None);
        strikes.add("p", start + second * 12);
        assert_eq!(strikes.holds(&"p", start + second * 12), Some(second * 20));
        assert_eq!(strikes.holds(&"other", start + second * 12), None);
    }

    #[test]
    fn whoever_behaves_for_long_is_forgotten() {
        let start = Instant::now();
        let mut strikes = Strikes::default();
        strikes.add("p", start);
        assert!(!strikes.suspects(&"p", start + FORGIVEN_AFTER));
        strikes.add("other", start + FORGIVEN_AFTER);
        assert_eq!(strikes.struck.len(), 1);
    }
}
