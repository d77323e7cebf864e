//! Whose policies had no end, and how often: pure bookkeeping.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// What had no end is not asked again for a while, and for longer each time.
#[derive(Debug)]
pub(crate) struct Quarantine<K> {
    struck: HashMap<K, Strike>,
    /// So many times cost nothing.
    forgiven: u32,
    /// How long a strike is remembered beyond its wait, by that wait.
    remembered: fn(Duration) -> Duration,
}

#[derive(Debug)]
struct Strike {
    count: u32,
    at: Instant,
    wait: Duration,
}

const WAIT_MIN: Duration = Duration::from_secs(10);
const WAIT_MAX: Duration = Duration::from_secs(80);

impl<K: Eq + Hash> Quarantine<K> {
    /// The first `forgiven` times cost nothing: they may have had a cause that is gone a moment later, a lock or a busy
    /// server. A strike is forgotten when nothing happens for `remembered` beyond its wait.
    pub(crate) fn new(forgiven: u32, remembered: fn(Duration) -> Duration) -> Self {
        Self { struck: HashMap::new(), forgiven, remembered }
    }

    /// It had no end again.
    pub(crate) fn add(&mut self, key: K, now: Instant) {
        let forgiven = self.forgiven;
        let strike = self.struck.entry(key).or_insert(Strike { count: 0, at: now, wait: Duration::ZERO });
        let count = strike.count.saturating_add(1);
        *strike = Strike { count, at: now, wait: wait(count, forgiven) };
    }

    /// Whether it had no end lately.
    pub(crate) fn suspects(&self, key: &K, now: Instant) -> bool {
        self.struck.get(key).is_some_and(|strike| now < strike.ends(self.remembered))
    }

    /// How long it is not to be asked any more; `None` when it may be.
    pub(crate) fn holds(&self, key: &K, now: Instant) -> Option<Duration> {
        let strike = self.struck.get(key)?;
        let left = (strike.at + strike.wait).saturating_duration_since(now);
        (left > Duration::ZERO).then_some(left)
    }

    /// Forgets what has behaved, or was not asked, for long enough. To be called now and then.
    pub(crate) fn forget(&mut self, now: Instant) {
        let remembered = self.remembered;
        self.struck.retain(|_, strike| now < strike.ends(remembered));
    }
}

impl Strike {
    fn ends(&self, remembered: fn(Duration) -> Duration) -> Instant {
        self.at + self.wait + remembered(self.wait)
    }
}

fn wait(count: u32, forgiven: u32) -> Duration {
    match count.checked_sub(forgiven + 1) {
        Some(more) => WAIT_MIN.saturating_mul(1 << more.min(8)).min(WAIT_MAX),
        None => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_has_no_end_is_held_longer_each_time_and_forgotten_when_it_behaves() {
        let start = Instant::now();
        let mut quarantine = Quarantine::new(0, |wait| wait);
        quarantine.add("q", start);
        assert!(quarantine.holds(&"q", start + Duration::from_secs(9)).is_some());
        let again = start + Duration::from_secs(11);
        assert_eq!(quarantine.holds(&"q", again), None);
        quarantine.forget(again);
        quarantine.add("q", again);
        assert!(quarantine.holds(&"q", again + Duration::from_secs(19)).is_some());
        assert_eq!(quarantine.holds(&"other", again), None);
        quarantine.forget(again + Duration::from_secs(41));
        assert!(quarantine.struck.is_empty());
    }

    #[test]
    fn the_first_time_is_forgiven_and_the_next_ones_are_held_longer_each_time() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut quarantine = Quarantine::new(1, |_| MINUTE);
        assert!(!quarantine.suspects(&"p", start));
        quarantine.add("p", start);
        assert!(quarantine.suspects(&"p", start));
        assert_eq!(quarantine.holds(&"p", start), None);
        quarantine.add("p", start + second);
        assert_eq!(quarantine.holds(&"p", start + second * 2), Some(second * 9));
        assert_eq!(quarantine.holds(&"p", start + second * 12), None);
        quarantine.add("p", start + second * 12);
        assert_eq!(quarantine.holds(&"p", start + second * 12), Some(second * 20));
        assert_eq!(quarantine.holds(&"other", start + second * 12), None);
    }

    #[test]
    fn whoever_behaves_for_long_is_forgotten() {
        let start = Instant::now();
        let mut quarantine = Quarantine::new(1, |_| MINUTE);
        quarantine.add("p", start);
        assert!(!quarantine.suspects(&"p", start + MINUTE));
        quarantine.forget(start + MINUTE);
        assert!(quarantine.struck.is_empty());
    }
}
