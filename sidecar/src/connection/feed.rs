//! From replay to live without losing or repeating an event: a pure state machine, one per subscription.
//!
//! * `Behind`: not registered with the hub. Pages come from memory or the log, as fast as the socket takes them.
//! * `Closing`: registered; `target` is the hub's position after registering. Pages come until the cursor reaches it,
//!   and the queue is left alone meanwhile.
//! * `Live`: events come from the queue.
//!
//! A registration that overflows goes back to `Behind`. Only offsets above the cursor are ever sent, so what comes
//! twice, by a page and by the queue, is sent once.

use crate::{
    hub::{Break, Position},
    model::Offset,
};

/// How far one subscription is, and where its next event comes from.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    cursor: Offset,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Behind,
    Closing { target: Offset, epoch: u64 },
    Live { epoch: u64 },
}

/// What to do after a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Get the next page.
    Page,
    /// Register with the hub, then call [`Feed::joined`].
    Join,
    /// Take the queue.
    Live,
}

impl Feed {
    /// A feed that has seen everything up to `cursor` and is not registered.
    pub(super) fn behind(cursor: Offset) -> Self {
        Self { cursor, phase: Phase::Behind }
    }

    /// A feed that begins where it was registered.
    pub(super) fn live(joined: Position) -> Self {
        Self { cursor: joined.begun, phase: Phase::Live { epoch: joined.epoch } }
    }

    /// Everything of this subscription up to here was sent.
    pub(super) fn cursor(&self) -> Offset {
        self.cursor
    }

    /// Whether events come from the queue.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live { .. })
    }

    /// Whether the queue must be left alone for this feed.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    /// Whether an event from the queue is to be sent. To be followed by [`Feed::sent`] or [`Feed::step_back`].
    pub(super) fn wants_live(&self, offset: Offset) -> bool {
        self.is_live() && offset > self.cursor
    }

    /// Whether an event from a page is to be sent. To be followed by [`Feed::sent`] or [`Feed::step_back`].
    pub(super) fn wants_replayed(&self, offset: Offset) -> bool {
        !self.is_live() && offset > self.cursor
    }

    /// The event that was wanted is sent, or its place was told.
    pub(super) fn sent(&mut self, offset: Offset) {
        self.cursor = self.cursor.max(offset);
    }

    /// A page was sent whole; it ended at `until`, and `caught_up` says whether that was the end of the log.
    pub(super) fn page_sent(&mut self, until: Offset, caught_up: bool) -> Next {
        self.cursor = self.cursor.max(until);
        match self.phase {
            Phase::Behind if caught_up => Next::Join,
            Phase::Behind => Next::Page,
            Phase::Closing { target, epoch } => self.close(target, epoch),
            Phase::Live { .. } => Next::Live,
        }
    }

    /// The registration is made, at this position.
    pub(super) fn joined(&mut self, position: Position) -> Next {
        self.close(position.begun, position.epoch)
    }

    fn close(&mut self, target: Offset, epoch: u64) -> Next {
        if self.cursor >= target {
            self.phase = Phase::Live { epoch };
            return Next::Live;
        }
        self.phase = Phase::Closing { target, epoch };
        Next::Page
    }

    /// A page began with a hole: what follows it comes after `to`, which may lie before the cursor.
    pub(super) fn skipped(&mut self, to: Offset) {
        self.cursor = to;
    }

    /// Goes on by pages: what follows in the queue is not to be sent, or is not there any more. Everything up to `safe`
    /// had been taken from it before. The registration is to be ended.
    pub(super) fn step_back(&mut self, safe: Offset) {
        if self.is_live() {
            self.cursor = self.cursor.max(safe);
        }
        self.phase = Phase::Behind;
    }

    /// The hub went over a hole. Gives whether this subscription is to be told of it: not when it joined later, or when
    /// its replay has passed the hole already.
    pub(super) fn broke(&mut self, it: &Break) -> bool {
        let Phase::Live { epoch } = &mut self.phase else {
            return false;
        };
        if *epoch >= it.epoch {
            return false;
        }
        *epoch = it.epoch;
        let goes_on = it.gap.to >= it.gap.from;
        if goes_on && self.cursor >= it.gap.to {
            return false;
        }
        self.cursor = it.gap.to;
        true
    }

    /// A cursor that is safe for this subscription, when everything up to `safe` was taken from the queue.
    pub(super) fn safe_cursor(&self, safe: Offset) -> Offset {
        if self.is_live() { self.cursor.max(safe) } else { self.cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Gap, GapReason};

    fn offset(number: i64) -> Offset {
        Offset::new(number).expect("small")
    }

    fn position(begun: i64, epoch: u64) -> Position {
        Position { begun: offset(begun), epoch }
    }

    fn hole(epoch: u64, from: i64, to: i64) -> Break {
        Break { epoch, gap: Gap { reason: GapReason::Retention, from: offset(from), to: offset(to) } }
    }

    #[test]
    fn a_replay_joins_when_it_has_caught_up_and_closes_the_rest() {
        let mut feed = Feed::behind(offset(10));
        assert!(feed.wants_replayed(offset(11)));
        feed.sent(offset(11));
        assert!(!feed.wants_replayed(offset(11)));
        assert_eq!(feed.page_sent(offset(15), false), Next::Page);
        assert_eq!(feed.page_sent(offset(20), true), Next::Join);
        assert_eq!(feed.joined(position(22, 0)), Next::Page);
        assert!(feed.is_closing());
        assert!(!feed.wants_live(offset(23)), "the queue is left alone until the rest has come");
        assert!(feed.wants_replayed(offset(21)));
        assert_eq!(feed.page_sent(offset(24), true), Next::Live);
        assert!(!feed.wants_live(offset(24)), "it came by the page already");
        assert!(feed.wants_live(offset(25)));
    }

    #[test]
    fn a_replay_that_is_ahead_of_the_hub_is_live_at_once() {
        let mut feed = Feed::behind(offset(10));
        assert_eq!(feed.page_sent(offset(30), true), Next::Join);
        assert!(!feed.is_closing());
        assert_eq!(feed.joined(position(22, 0)), Next::Live);
        assert!(!feed.is_closing());
        assert!(!feed.wants_live(offset(29)));
        assert!(feed.wants_live(offset(31)));
    }

    #[test]
    fn an_overflow_goes_on_after_what_was_taken_from_the_queue() {
        let mut feed = Feed::live(position(10, 0));
        assert!(feed.wants_live(offset(12)));
        feed.sent(offset(12));
        feed.step_back(offset(15));
        assert_eq!(feed.cursor(), offset(15));
        let mut behind = Feed::behind(offset(3));
        behind.step_back(offset(15));
        assert_eq!(behind.cursor(), offset(3), "what it has not replayed was never in its queue");
    }

    #[test]
    fn what_was_taken_from_the_queue_is_safe_for_who_is_live_only() {
        assert_eq!(Feed::live(position(10, 0)).safe_cursor(offset(15)), offset(15));
        assert_eq!(Feed::live(position(20, 0)).safe_cursor(offset(15)), offset(20));
        assert_eq!(Feed::behind(offset(10)).safe_cursor(offset(15)), offset(10));
    }

    #[test]
    fn a_page_that_begins_with_a_hole_takes_the_cursor_behind_it() {
        for to in [5, 42] {
            let mut feed = Feed::behind(offset(10));
            feed.skipped(offset(to));
            assert_eq!(feed.cursor(), offset(to));
        }
    }

    #[test]
    fn a_hole_is_told_once_and_only_to_those_before_it() {
        let mut feed = Feed::live(position(10, 0));
        assert!(feed.broke(&hole(1, 11, 20)));
        assert_eq!(feed.cursor(), offset(20));
        assert!(!feed.broke(&hole(1, 11, 20)));
        assert!(!Feed::live(position(20, 1)).broke(&hole(1, 11, 20)), "it joined after the hole");
        assert!(!Feed::live(position(25, 0)).broke(&hole(1, 11, 20)), "its replay has passed the hole");
        assert!(!Feed::behind(offset(10)).broke(&hole(1, 11, 20)), "the log will tell it");
    }

    #[test]
    fn a_hole_that_goes_back_takes_the_cursor_back() {
        let mut feed = Feed::live(position(900, 0));
        assert!(feed.broke(&hole(1, 901, 42)));
        assert!(feed.wants_live(offset(43)));
    }
}
