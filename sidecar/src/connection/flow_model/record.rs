//! What the model compares in the end.

use super::court;
use crate::model::Gap;

/// What one subscription was promised and what it got.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) table: u32,
    pub(super) start: i64,
    /// Whose eyes it had after which offset; `None` sees everything.
    pub(super) eyes: Vec<(i64, Option<u32>)>,
    pub(super) got: Vec<i64>,
    pub(super) gaps: Vec<Gap>,
}

impl Record {
    /// Whether it is to get an event, by the eyes that it had then.
    fn sees(&self, number: i64) -> bool {
        let eyes = self.eyes.iter().rev().find(|(from, _)| *from < number).and_then(|(_, eyes)| *eyes);
        eyes.is_none_or(|eyes| court::sees(eyes, number))
    }

    pub(super) fn check_order(&self) {
        assert!(self.got.is_sorted_by(|a, b| a < b), "an offset came twice or out of order: {self:?}");
        let seen = self.got.iter().all(|number| self.sees(*number));
        assert!(seen, "something came that must not be seen: {self:?}");
        assert!(self.got.first().is_none_or(|first| *first > self.start), "an offset came again: {self:?}");
    }

    /// Everything up to `until` came, or a gap said that it would not.
    pub(super) fn check(&self, history: &[(i64, u32)], until: i64) {
        self.check_order();
        let missing = |number: &i64| {
            !self.got.contains(number) && !self.gaps.iter().any(|gap| (gap.from.get()..=gap.to.get()).contains(number))
        };
        let is_due = |number: i64| number > self.start && self.sees(number);
        let due = history.iter().filter(|(number, table)| *table == self.table && is_due(*number));
        let lost: Vec<i64> = due.map(|(number, _)| *number).filter(|it| *it <= until).filter(missing).collect();
        assert!(lost.is_empty(), "lost {lost:?} up to {until}: {self:?}");
    }
}
