//! Who was denied what: each denial is counted and logged once, and no more lines than the log can bear.
//!
//! A client can ask for what it may not have as often as it is let. So there are so many lines in a while, and only a part
//! of them for one user: nobody floods the log, and nobody hides another's denials in it. What is left out is told as a
//! number.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::metrics::Metrics;

/// For how long the lines are counted together.
const WHILE: Duration = Duration::from_secs(10);
/// So many users share the lines of a while.
const SHARES: usize = 10;
/// Longer subjects are cut in the log: whoever issues tokens decides how long they are.
const SUBJECT_CHARS_MAX: usize = 128;

/// Counts denials and logs them.
pub struct Denials {
    metrics: Arc<Metrics>,
    lines_max: usize,
    // Never held across an await, nor while a line is written.
    lines: Mutex<Lines>,
    /// Something was left out.
    left_out: Notify,
}

/// What was denied to whom, and why. Holds no claim but the subject, and no value of a row.
#[derive(Clone, Copy, Debug)]
pub struct Denial<'a> {
    /// What was asked for.
    pub what: What,
    /// One word for people and counters.
    pub reason: &'static str,
    /// The code of the error that a policy raised.
    pub sqlstate: Option<&'a str>,
    /// Who it was; `None` for anonymous callers.
    pub subject: Option<&'a str>,
    /// The database role.
    pub role: &'a str,
    /// The channel, or the table as one.
    pub channel: &'a str,
}

/// What is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// To subscribe.
    Subscribe,
    /// To publish.
    Publish,
    /// To go on with a subscription.
    Revocation,
    /// A row, because there is no verdict on it.
    Row,
}

impl What {
    /// The word for people and counters.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::Revocation => "revocation",
            Self::Row => "row",
        }
    }
}

impl Denials {
    /// Logs at most `lines_max` denials in ten seconds, and a tenth of them for one user.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, lines_max: usize) -> Self {
        Self { metrics, lines_max, lines: Mutex::default(), left_out: Notify::new() }
    }

    /// Counts a denial, and logs it if there is room.
    pub fn note(&self, denial: &Denial<'_>) {
        self.metrics.denials.inc(denial.what.label(), denial.reason);
        let (before, has_room) = {
            let (mut lines, now) = (self.lines.lock(), Instant::now());
            (lines.turn(now), lines.take(denial.subject.unwrap_or_default(), self.lines_max))
        };
        tell_left_out(before);
        if has_room {
            tell(denial);
        } else {
            self.left_out.notify_one();
        }
    }

    /// Tells how many were left out when their while is over, until `stop` fires.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.left_out.notified() => (),
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(WHILE) => (),
            }
            let left_out = self.lines.lock().turn(Instant::now());
            tell_left_out(left_out);
        }
        let left_out = self.lines.lock().left_out;
        tell_left_out(left_out);
    }
}

fn tell(denial: &Denial<'_>) {
    info!(
        what = denial.what.label(),
        reason = denial.reason,
        sqlstate = denial.sqlstate,
        subject = denial.subject.map(shortened),
        role = denial.role,
        channel = denial.channel,
        "denied"
    );
}

fn tell_left_out(left_out: u64) {
    if left_out > 0 {
        info!(left_out, "more was denied than is logged: see realtime_denials_total, or raise log.denials_max");
    }
}

fn shortened(subject: &str) -> &str {
    subject.char_indices().nth(SUBJECT_CHARS_MAX).map_or(subject, |(end, _)| &subject[..end])
}

/// The lines of one while.
#[derive(Debug, Default)]
struct Lines {
    began: Option<Instant>,
    count: usize,
    /// Only of those who have a line, so there are never more than lines.
    by_subject: HashMap<String, usize>,
    left_out: u64,
}

impl Lines {
    /// Begins a new while when the one before is over; gives what was left out in that.
    fn turn(&mut self, now: Instant) -> u64 {
        if self.began.is_some_and(|began| now.saturating_duration_since(began) < WHILE) {
            return 0;
        }
        let before = std::mem::take(self);
        self.began = Some(now);
        before.left_out
    }

    /// Whether there is a line left for this subject.
    fn take(&mut self, subject: &str, lines_max: usize) -> bool {
        let own_max = lines_max.div_ceil(SHARES);
        let own = self.by_subject.get(subject).copied().unwrap_or_default();
        if self.count >= lines_max || own >= own_max {
            self.left_out += 1;
            return false;
        }
        self.count += 1;
        self.by_subject.insert(subject.to_owned(), own + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_gets_a_tenth_of_the_lines_and_what_is_left_out_is_told_when_the_while_is_over() {
        let (mut lines, start) = (Lines::default(), Instant::now());
        assert_eq!(lines.turn(start), 0);
        let taken = (0..50).filter(|_| lines.take("eve", 30)).count();
        assert_eq!(taken, 3);
        assert!(lines.take("ada", 30), "another's denials are seen beside it");
        assert_eq!(lines.turn(start + WHILE / 2), 0);
        assert!(!lines.take("eve", 30));
        assert_eq!(lines.turn(start + WHILE), 48);
        assert!(lines.take("eve", 30));
    }

    #[test]
    fn many_users_get_all_the_lines_together() {
        let mut lines = Lines::default();
        let taken = (0..500).filter(|n| lines.take(&format!("user {n}"), 30)).count();
        assert_eq!((taken, lines.by_subject.len(), lines.left_out), (30, 30, 470));
        assert!(!Lines::default().take("ada", 0), "none are wanted");
    }

    #[test]
    fn a_long_subject_is_cut_between_characters() {
        assert_eq!(shortened("ada"), "ada");
        assert_eq!(shortened(&"é".repeat(500)).chars().count(), SUBJECT_CHARS_MAX);
    }
}
