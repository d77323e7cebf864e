//! How patiently a question is asked: pure bookkeeping.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Questions of one lane wait for each other, and for no others. Most are asked together with many, which is cheap; one
/// that takes long would hold up all of them, so it is asked alone, and if it is slow even then, among the slow ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Many in one statement.
    Together,
    /// One after another, each with little time.
    Alone,
    /// One after another, with the most time that a policy may take.
    Slow,
}

/// An answer that takes no longer may be asked for together with others: a hundred of them stay within the deadline.
const TOGETHER_MAX: Duration = Duration::from_millis(8);
/// An answer that takes longer is slow.
const ALONE_MAX: Duration = Duration::from_millis(200);

impl Lane {
    /// How many lanes there are.
    pub(super) const COUNT: usize = 3;

    /// When a statement of this lane is given up.
    pub(super) fn deadline(self) -> Duration {
        match self {
            Self::Together => Duration::from_secs(1),
            Self::Alone => ALONE_MAX,
            Self::Slow => Duration::from_secs(2),
        }
    }

    /// Where questions go that were answered in this lane in this time.
    pub(super) fn after(self, taken: Duration) -> Self {
        match self {
            Self::Alone if taken <= TOGETHER_MAX => Self::Together,
            Self::Slow if taken <= ALONE_MAX => Self::Alone,
            lane => lane,
        }
    }

    /// Where questions go that were not answered in this lane.
    pub(super) fn slower(self) -> Self {
        match self {
            Self::Together => Self::Alone,
            Self::Alone | Self::Slow => Self::Slow,
        }
    }
}

/// What had no end is not asked again for a while, and for longer each time.
#[derive(Debug)]
pub(super) struct Quarantine<Q> {
    held: HashMap<Q, Term>,
}

#[derive(Debug)]
struct Term {
    until: Instant,
    wait: Duration,
}

const WAIT_MIN: Duration = Duration::from_secs(10);
const WAIT_MAX: Duration = Duration::from_secs(80);

impl<Q> Default for Quarantine<Q> {
    fn default() -> Self {
        Self { held: HashMap::new() }
    }
}

impl<Q: Eq + Hash> Quarantine<Q> {
    /// It had no end again.
    pub(super) fn add(&mut self, question: Q, now: Instant) {
        let term = self.held.entry(question).or_insert(Term { until: now, wait: WAIT_MIN / 2 });
        term.wait = (term.wait * 2).min(WAIT_MAX);
        term.until = now + term.wait;
    }

    /// Whether it is not to be asked now.
    pub(super) fn holds(&self, question: &Q, now: Instant) -> bool {
        self.held.get(question).is_some_and(|term| now < term.until)
    }

    /// Forgets what has behaved, or was not asked, for as long again as it was held.
    pub(super) fn forget(&mut self, now: Instant) {
        self.held.retain(|_, term| now < term.until + term.wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_slow_sinks_and_what_is_quick_rises() {
        let ms = Duration::from_millis;
        assert_eq!(Lane::Together.slower(), Lane::Alone);
        assert_eq!(Lane::Alone.slower(), Lane::Slow);
        assert_eq!(Lane::Slow.after(ms(500)), Lane::Slow);
        assert_eq!(Lane::Slow.after(ms(50)), Lane::Alone);
        assert_eq!(Lane::Alone.after(ms(50)), Lane::Alone);
        assert_eq!(Lane::Alone.after(ms(5)), Lane::Together);
        assert_eq!(Lane::Together.after(ms(900)), Lane::Together);
    }

    #[test]
    fn what_has_no_end_is_held_longer_each_time_and_forgotten_when_it_behaves() {
        let start = Instant::now();
        let mut quarantine = Quarantine::default();
        quarantine.add("q", start);
        assert!(quarantine.holds(&"q", start + Duration::from_secs(9)));
        let again = start + Duration::from_secs(11);
        assert!(!quarantine.holds(&"q", again));
        quarantine.forget(again);
        quarantine.add("q", again);
        assert!(quarantine.holds(&"q", again + Duration::from_secs(19)));
        assert!(!quarantine.holds(&"other", again));
        quarantine.forget(again + Duration::from_secs(41));
        assert!(quarantine.held.is_empty());
    }
}
