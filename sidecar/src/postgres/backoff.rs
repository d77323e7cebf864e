//! How long to wait before trying again.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Waits that double up to a bound, each cut by a random part, so that many sidecars do not come back at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    attempts: u32,
}

impl Backoff {
    /// Waits between `min` and `max`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, attempts: 0 }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let ceiling = self.min.saturating_mul(1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX)).min(self.max);
        self.attempts = self.attempts.saturating_add(1).min(31);
        let range = ceiling.saturating_sub(self.min);
        self.min + range.mul_f64(random_fraction())
    }

    /// Begins again with the shortest wait: the last attempt worked.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// A number from 0 to 1. The standard library's hash keys are random, which is enough to spread attempts.
#[must_use]
pub fn random_fraction() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    // 53 bits fit into a double.
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_bound_and_begin_again() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut backoff = Backoff::new(min, max);
        assert_eq!(backoff.next_wait(), min);
        for _ in 0..100 {
            assert!((min..=max).contains(&backoff.next_wait()));
        }
        backoff.reset();
        assert_eq!(backoff.next_wait(), min);
    }
}
