//! When a connection has something to do although nothing happens.

use std::time::{Duration, Instant};

use super::link::Pulse;
use crate::{config::Timing, postgres::random_fraction};

/// A connection's deadlines.
#[derive(Debug)]
pub(super) struct Clock {
    heartbeat: Duration,
    ping: Duration,
    dead: Duration,
    heartbeat_at: Instant,
    ping_at: Instant,
    dead_at: Instant,
    expires_at: Option<Instant>,
    leaves_at: Option<Instant>,
    /// When the socket's progress is looked at, or a failed page is asked for again.
    look_at: Option<Instant>,
}

/// What is due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) heartbeat: bool,
    pub(super) ping: bool,
    pub(super) dead: bool,
    pub(super) expired: bool,
    pub(super) leave: bool,
}

impl Clock {
    pub(super) fn new(timing: &Timing, pulse: Pulse, now: Instant) -> Self {
        let (heartbeat, Pulse { ping, dead }) = (Duration::from_millis(timing.heartbeat_ms), pulse);
        Self {
            heartbeat,
            ping,
            dead,
            heartbeat_at: now + heartbeat,
            ping_at: now + ping,
            dead_at: now + dead,
            expires_at: None,
            leaves_at: None,
            look_at: None,
        }
    }

    /// The client gave a sign of life.
    pub(super) fn alive(&mut self, now: Instant) {
        self.dead_at = now + self.dead;
    }

    /// The token ends after `left`, or never.
    pub(super) fn expire_in(&mut self, left: Option<Duration>, now: Instant) {
        self.expires_at = left.and_then(|left| now.checked_add(left));
    }

    /// The connection leaves at a random moment within `spread`.
    pub(super) fn leave_within(&mut self, spread: Duration, now: Instant) {
        self.leaves_at = Some(now + spread.mul_f64(random_fraction()));
    }

    /// Wake up after `wait` at the latest.
    pub(super) fn look_in(&mut self, wait: Duration, now: Instant) {
        let at = now + wait;
        self.look_at = Some(self.look_at.filter(|&it| it > now).map_or(at, |it| it.min(at)));
    }

    /// When to wake up next.
    pub(super) fn next_deadline(&self) -> Instant {
        let fixed = [self.heartbeat_at, self.ping_at, self.dead_at].into_iter();
        let optional = [self.expires_at, self.leaves_at, self.look_at].into_iter().flatten();
        fixed.chain(optional).min().unwrap_or(self.heartbeat_at)
    }

    /// What is due now; each thing is given once.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        self.look_at = self.look_at.filter(|&at| at > now);
        Due {
            heartbeat: repeat(&mut self.heartbeat_at, self.heartbeat, now),
            ping: repeat(&mut self.ping_at, self.ping, now),
            dead: self.dead_at <= now,
            expired: take(&mut self.expires_at, now),
            leave: take(&mut self.leaves_at, now),
        }
    }
}

/// Keeps the rhythm, but does not make up for beats that were missed.
fn repeat(at: &mut Instant, every: Duration, now: Instant) -> bool {
    if *at > now {
        return false;
    }
    *at = (*at + every).max(now);
    true
}

fn take(at: &mut Option<Instant>, now: Instant) -> bool {
    at.take_if(|at| *at <= now).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(now: Instant) -> Clock {
        let mut clock = Clock {
            heartbeat: Duration::from_secs(30),
            ping: Duration::from_secs(25),
            dead: Duration::from_secs(60),
            heartbeat_at: now + Duration::from_secs(30),
            ping_at: now + Duration::from_secs(25),
            dead_at: now,
            expires_at: None,
            leaves_at: None,
            look_at: None,
        };
        clock.alive(now);
        clock
    }

    #[test]
    fn pings_and_heartbeats_keep_their_rhythm() {
        let start = Instant::now();
        let mut clock = clock(start);
        let mut beats = (0, 0);
        for second in 1..=120 {
            let now = start + Duration::from_secs(second);
            clock.alive(now);
            let due = clock.due(now);
            beats = (beats.0 + u32::from(due.heartbeat), beats.1 + u32::from(due.ping));
            assert!(!due.dead);
        }
        assert_eq!(beats, (4, 4));
    }

    #[test]
    fn silence_is_death_after_a_minute() {
        let start = Instant::now();
        let mut clock = clock(start);
        assert!(!clock.due(start + Duration::from_secs(59)).dead);
        assert!(clock.due(start + Duration::from_secs(60)).dead);
    }

    #[test]
    fn the_nearest_deadline_comes_first() {
        let start = Instant::now();
        let mut clock = clock(start);
        assert_eq!(clock.next_deadline(), start + Duration::from_secs(25));
        clock.expire_in(Some(Duration::from_secs(5)), start);
        assert_eq!(clock.next_deadline(), start + Duration::from_secs(5));
        clock.look_in(Duration::from_secs(1), start);
        assert_eq!(clock.next_deadline(), start + Duration::from_secs(1));
        let due = clock.due(start + Duration::from_secs(5));
        assert_eq!(due, Due { expired: true, ..Due::default() });
        assert_eq!(clock.next_deadline(), start + Duration::from_secs(25));
    }
}
