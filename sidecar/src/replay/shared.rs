//! Pages that were just read, for others who are at the same place: after a large transaction, or an outage, everybody
//! replays the same stretch of the log.
//!
//! Whoever asks within a page gets the rest of it and goes on where it ends, so that all soon read the same pages. What
//! holds for the hub's memory holds here: only cursors that are known are answered, and a hole takes everything away.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::{
    hub::{Page, Seen},
    model::{Offset, Topic},
};

/// About what a page costs beside its events. One without events must not be had for nothing: there may be any number.
const PAGE_BYTES: usize = 256;

/// A bounded number of bytes of the pages read last.
pub(super) struct SharedPages {
    bytes_max: usize,
    bytes: usize,
    /// The hub's breaks, when they were read.
    epoch: u64,
    topics: HashMap<Topic, BTreeMap<Offset, Stretch>>,
    /// In the order in which they came.
    order: VecDeque<(Topic, Offset)>,
}

struct Stretch {
    events: Vec<Seen>,
    until: Offset,
    bytes: usize,
}

impl SharedPages {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, epoch: 0, topics: HashMap::new(), order: VecDeque::new() }
    }

    /// What follows a cursor of a topic, when it lies in a page that was read since the last break.
    pub(super) fn after(&self, topic: &Topic, after: Offset, epoch: u64) -> Option<Page> {
        let pages = self.topics.get(topic).filter(|_| self.epoch == epoch)?;
        let (&start, stretch) = pages.range(..=after).next_back()?;
        let known = stretch.events.binary_search_by_key(&after, |it| it.event.event().offset);
        let first = if after == start { 0 } else { known.ok()? + 1 };
        let rest = stretch.events[first..].iter().cloned();
        // A page that ends where it begins would be asked for for ever.
        (after < stretch.until).then(|| Page { events: rest.collect(), until: stretch.until, ..Page::default() })
    }

    /// Keeps a page for others. One that has a hole, or reaches the end of the log, is of no use to them later.
    pub(super) fn keep(&mut self, topic: &Topic, after: Offset, page: &Page, epoch: u64) {
        if self.epoch != epoch {
            *self = Self { epoch, ..Self::new(self.bytes_max) };
        }
        if page.gap.is_some() || page.caught_up {
            return;
        }
        let events: Vec<Seen> = page.events.iter().cloned().collect();
        let bytes = PAGE_BYTES + events.iter().map(|it| it.event.size_bytes()).sum::<usize>();
        let stretch = Stretch { events, until: page.until, bytes };
        self.bytes += bytes;
        if let Some(before) = self.topics.entry(topic.clone()).or_default().insert(after, stretch) {
            self.bytes -= before.bytes;
        } else {
            self.order.push_back((topic.clone(), after));
        }
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.bytes > self.bytes_max {
            let Some((topic, start)) = self.order.pop_front() else {
                return;
            };
            let Some(pages) = self.topics.get_mut(&topic) else {
                continue;
            };
            self.bytes -= pages.remove(&start).map_or(0, |it| it.bytes);
            if pages.is_empty() {
                self.topics.remove(&topic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hub::{number, tests::event},
        model::{Gap, GapReason},
    };

    const TOPIC: Topic = Topic::Table(1);

    fn offset(number: i64) -> Offset {
        Offset::new(number).expect("small")
    }

    fn page(after: i64, numbers: std::ops::RangeInclusive<i64>, until: i64) -> Page {
        let events = numbers.map(|number| event(number, 1)).collect();
        let events = number(offset(after), events).into_iter().map(Seen::unjudged).collect();
        Page { events, until: offset(until), ..Page::default() }
    }

    fn numbers(page: Option<Page>) -> Option<(Vec<i64>, i64)> {
        let page = page?;
        Some((page.events.iter().map(|it| it.event.event().offset.get()).collect(), page.until.get()))
    }

    fn shared() -> SharedPages {
        let mut shared = SharedPages::new(1 << 20);
        shared.keep(&TOPIC, offset(10), &page(10, 11..=13, 15), 0);
        shared.keep(&TOPIC, offset(15), &page(15, 16..=18, 18), 0);
        shared
    }

    #[test]
    fn whoever_is_within_a_page_gets_the_rest_of_it() {
        let shared = shared();
        assert_eq!(numbers(shared.after(&TOPIC, offset(10), 0)), Some((vec![11, 12, 13], 15)));
        assert_eq!(numbers(shared.after(&TOPIC, offset(12), 0)), Some((vec![13], 15)));
        assert_eq!(numbers(shared.after(&TOPIC, offset(13), 0)), Some((vec![], 15)));
        assert_eq!(numbers(shared.after(&TOPIC, offset(15), 0)), Some((vec![16, 17, 18], 18)));
    }

    #[test]
    fn an_unknown_cursor_another_topic_and_the_end_are_for_the_log() {
        let shared = shared();
        for after in [9, 14, 18, 19] {
            assert!(shared.after(&TOPIC, offset(after), 0).is_none(), "{after}");
        }
        assert!(shared.after(&Topic::Table(2), offset(12), 0).is_none());
    }

    #[test]
    fn a_break_takes_everything_away() {
        let mut shared = shared();
        assert!(shared.after(&TOPIC, offset(12), 1).is_none());
        shared.keep(&TOPIC, offset(20), &page(20, 21..=22, 22), 1);
        assert!(shared.after(&TOPIC, offset(12), 1).is_none());
        assert!(shared.after(&TOPIC, offset(21), 1).is_some());
    }

    #[test]
    fn holes_and_the_end_of_the_log_are_not_kept() {
        let mut shared = SharedPages::new(1 << 20);
        let gap = Gap { reason: GapReason::Retention, from: offset(1), to: offset(10) };
        shared.keep(&TOPIC, offset(0), &Page { gap: Some(gap), ..page(10, 11..=12, 12) }, 0);
        shared.keep(&TOPIC, offset(20), &Page { caught_up: true, ..page(20, 21..=22, 22) }, 0);
        assert!(shared.topics.is_empty() && shared.bytes == 0);
    }

    #[test]
    fn the_oldest_pages_make_room() {
        let bytes = PAGE_BYTES + 2 * event(1, 1).size_bytes();
        let mut shared = SharedPages::new(bytes * 3 - 1);
        for start in [10, 20, 10, 30] {
            shared.keep(&TOPIC, offset(start), &page(start, start + 1..=start + 2, start + 2), 0);
        }
        assert!(shared.after(&TOPIC, offset(10), 0).is_none());
        assert!(shared.after(&TOPIC, offset(21), 0).is_some());
        assert!(shared.after(&TOPIC, offset(31), 0).is_some());
        assert_eq!(shared.bytes, bytes * 2);
        shared.keep(&Topic::Table(2), offset(0), &page(0, 1..=60, 60), 0);
        assert!(shared.topics.is_empty() && shared.order.is_empty() && shared.bytes == 0);
    }

    #[test]
    fn pages_without_events_make_room_too() {
        let mut shared = SharedPages::new(PAGE_BYTES * 10);
        for start in 1..=1_000 {
            #[expect(clippy::reversed_empty_ranges, reason = "no events")]
            shared.keep(&TOPIC, offset(start), &page(start, 1..=0, start + 1), 0);
        }
        assert_eq!((shared.order.len(), shared.topics[&TOPIC].len()), (10, 10));
    }
}
