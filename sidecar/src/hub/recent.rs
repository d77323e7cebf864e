//! The newest events, so that most resuming clients need no SQL.

use std::{collections::VecDeque, sync::Arc};

use super::{Position, Seen};
use crate::{
    model::{Gap, Offset, Topic},
    protocol::Published,
};

/// A bounded stretch of the log, up to the newest event.
pub(super) struct Recent {
    bytes_max: usize,
    bytes: usize,
    events: VecDeque<Arc<Published>>,
    /// The cursor before the oldest event kept.
    floor: Offset,
    /// The cursor after the newest event kept.
    position: Position,
}

/// Some events of one topic.
#[derive(Debug, Default)]
pub struct Page {
    /// What cannot be had before the events; pages from memory have none.
    pub gap: Option<Gap>,
    /// The events, offsets growing.
    pub events: VecDeque<Seen>,
    /// The cursor after the page.
    pub until: Offset,
    /// The page reaches the end of what there was.
    pub caught_up: bool,
}

/// How large a page may be.
#[derive(Clone, Copy, Debug)]
pub struct PageLimits {
    /// Events.
    pub events: usize,
    /// Bytes; a page has at least one event, however large.
    pub bytes: usize,
}

impl Recent {
    pub(super) fn new(bytes_max: usize) -> Self {
        let position = Position { begun: Offset::ZERO, epoch: 0 };
        Self { bytes_max, bytes: 0, events: VecDeque::new(), floor: Offset::ZERO, position }
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets everything and goes on after `head`.
    pub(super) fn restart(&mut self, head: Offset) {
        self.events.clear();
        self.bytes = 0;
        self.floor = head;
        self.position.begun = head;
    }

    /// As [`Recent::restart`], for a hole that everybody is told of. Gives its number.
    pub(super) fn begin_epoch(&mut self, to: Offset) -> u64 {
        self.restart(to);
        self.position.epoch += 1;
        self.position.epoch
    }

    pub(super) fn extend(&mut self, events: &[Arc<Published>], until: Offset) {
        for event in events {
            self.bytes += event.size_bytes();
            self.events.push_back(Arc::clone(event));
        }
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.events.pop_front() else {
                break;
            };
            self.bytes -= oldest.size_bytes();
            self.floor = oldest.event().offset;
        }
        self.position.begun = until;
    }

    /// `None` when the cursor is not one that this stretch knows: the log itself is asked then, which also judges
    /// whether the cursor was ever assigned.
    pub(super) fn page(&self, topic: &Topic, after: Offset, limits: PageLimits) -> Option<Page> {
        let start = self.index_after(after)?;
        let mut page = Page { until: self.position.begun, caught_up: true, ..Page::default() };
        let mut bytes = 0;
        for event in self.events.range(start..).filter(|event| topic.has(event.event())) {
            let full = page.events.len() >= limits.events || bytes >= limits.bytes;
            if full {
                page.caught_up = false;
                page.until = event.previous();
                break;
            }
            bytes += event.size_bytes();
            page.events.push_back(Seen::unjudged(Arc::clone(event)));
        }
        Some(page)
    }

    fn index_after(&self, cursor: Offset) -> Option<usize> {
        if cursor == self.position.begun {
            return Some(self.events.len());
        }
        if cursor == self.floor {
            return Some(0);
        }
        self.events.binary_search_by_key(&cursor, |event| event.event().offset).ok().map(|index| index + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{number, tests::event};

    const LIMITS: PageLimits = PageLimits { events: 2, bytes: 1_000_000 };

    fn offset(number: i64) -> Offset {
        Offset::new(number).expect("small")
    }

    /// Keeps the newest four events: 11 to 16 were published after 10, table 1 and 2 in turn.
    fn recent() -> Recent {
        let events =
            number(offset(10), (11..=16).map(|number| event(number, u32::from(number % 2 == 0) + 1)).collect());
        let mut recent = Recent::new(events[0].size_bytes() * 4);
        recent.restart(offset(10));
        recent.extend(&events, offset(16));
        recent
    }

    fn check(after: i64, table: u32, expected: Option<(&[i64], i64, bool)>) {
        let page = recent().page(&Topic::Table(table), offset(after), LIMITS);
        let page = page.map(|page| {
            let offsets: Vec<i64> = page.events.iter().map(|it| it.event.event().offset.get()).collect();
            (offsets, page.until.get(), page.caught_up)
        });
        assert_eq!(page, expected.map(|(offsets, until, caught_up)| (offsets.to_vec(), until, caught_up)));
    }

    #[test]
    fn a_page_has_the_events_of_its_topic_after_the_cursor() {
        check(13, 1, Some((&[15], 16, true)));
        check(14, 2, Some((&[16], 16, true)));
        check(16, 2, Some((&[], 16, true)));
    }

    #[test]
    fn a_full_page_ends_before_the_event_that_does_not_fit() {
        check(12, 1, Some((&[13, 15], 16, true)));
        let page = recent().page(&Topic::Table(1), offset(12), PageLimits { events: 1, bytes: 1 }).expect("known");
        assert_eq!((page.events.len(), page.until, page.caught_up), (1, offset(14), false));
        for limits in [PageLimits { events: 1, bytes: 1_000_000 }, PageLimits { events: 100, bytes: 1 }] {
            let page = recent().page(&Topic::Table(1), offset(12), limits).expect("known");
            assert_eq!((page.events.len(), page.caught_up), (1, false), "{limits:?}");
        }
    }

    #[test]
    fn memory_answers_only_for_cursors_that_it_knows() {
        check(11, 1, None);
        check(10, 1, None);
        check(17, 1, None);
        check(12, 2, Some((&[14, 16], 16, true)));
    }

    #[test]
    fn a_hole_leaves_nothing_behind() {
        let mut recent = recent();
        assert_ne!(recent.bytes(), 0);
        assert_eq!(recent.begin_epoch(offset(100)), 1);
        assert!(recent.page(&Topic::Table(1), offset(16), LIMITS).is_none());
        assert!(recent.page(&Topic::Table(1), offset(100), LIMITS).is_some());
        assert_eq!(recent.bytes(), 0);
    }
}
