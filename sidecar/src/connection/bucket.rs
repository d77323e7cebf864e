//! How fast a client may ask.

use std::time::{Duration, Instant};

/// A token bucket: `burst` at once, `rate` a second in the long run.
#[derive(Debug)]
pub struct TokenBucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    filled_at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: f64, burst: f64, now: Instant) -> Self {
        Self { rate, burst, tokens: burst, filled_at: now }
    }

    /// Takes one token.
    ///
    /// # Errors
    ///
    /// How long until there is one.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.rate).min(self.burst);
        self.filled_at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / self.rate))
    }

    /// Whether it would be as if nobody had ever taken from it.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens + elapsed * self.rate >= self.burst
    }
}

/// Counts frames that make no sense; a few are mistakes, many are an attack or a loop.
#[derive(Debug)]
pub(super) struct BadFrames {
    max: usize,
    times: std::collections::VecDeque<Instant>,
}

impl BadFrames {
    /// What counts as "at once".
    const WINDOW: Duration = Duration::from_secs(10);

    /// Allows fewer than `max` within the window.
    pub(super) fn new(max: usize) -> Self {
        Self { max, times: std::collections::VecDeque::new() }
    }

    /// Counts one, and gives whether it was one too many.
    pub(super) fn count(&mut self, now: Instant) -> bool {
        while self.times.front().is_some_and(|&time| now.saturating_duration_since(time) >= Self::WINDOW) {
            self.times.pop_front();
        }
        self.times.push_back(now);
        self.times.len() >= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_bucket_says_when_to_come_back() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10.0, 2.0, start);
        assert_eq!(bucket.take(start), Ok(()));
        assert_eq!(bucket.take(start), Ok(()));
        assert_eq!(bucket.take(start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(start + Duration::from_millis(100)), Ok(()));
        assert!(bucket.take(start + Duration::from_millis(100)).is_err());
    }

    #[test]
    fn a_bucket_never_holds_more_than_its_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10.0, 2.0, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!(bucket.take(later), Ok(()));
        assert_eq!(bucket.take(later), Ok(()));
        assert!(bucket.take(later).is_err());
        assert!(!bucket.is_full(later) && bucket.is_full(later + Duration::from_secs(1)));
    }

    #[test]
    fn ten_bad_frames_in_ten_seconds_are_too_many() {
        let start = Instant::now();
        let mut bad = BadFrames::new(10);
        for second in 0..9 {
            assert!(!bad.count(start + Duration::from_secs(second)));
        }
        assert!(bad.count(start + Duration::from_secs(9)));
    }

    #[test]
    fn bad_frames_are_forgiven_after_a_while() {
        let start = Instant::now();
        let mut bad = BadFrames::new(3);
        for round in 0..20 {
            assert!(!bad.count(start + Duration::from_secs(round * 6)));
        }
    }
}
