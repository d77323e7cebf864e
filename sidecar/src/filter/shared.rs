//! Filters in use: equal ones are one and the same, so that whoever asks them knows what need not be asked twice.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::Filter;

/// Below so many texts nothing is swept.
const SWEPT_MIN: usize = 256;

/// All filters in use.
#[derive(Default)]
pub struct Filters {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_text: HashMap<Box<str>, Vec<Weak<Filter>>>,
    /// How many texts there may be before those are swept out that nobody uses any more.
    swept_at: usize,
    /// The last number given.
    last: u64,
}

impl Filters {
    /// The filter that everybody uses who asks the same of the same columns.
    #[must_use]
    pub fn share(&self, filter: Filter) -> Arc<Filter> {
        let mut known = self.known.lock();
        let same = known.by_text.get(filter.text()).and_then(|alike| {
            let mut alive = alike.iter().filter_map(Weak::upgrade);
            alive.find(|it| it.asks_as(&filter))
        });
        same.unwrap_or_else(|| known.add(filter))
    }
}

impl Known {
    fn add(&mut self, filter: Filter) -> Arc<Filter> {
        self.last += 1;
        let filter = Arc::new(Filter { number: self.last, ..filter });
        if self.by_text.len() >= self.swept_at {
            self.by_text.retain(|_, alike| alike.iter().any(|it| it.strong_count() > 0));
            self.swept_at = SWEPT_MIN.max(self.by_text.len() * 2);
        }
        let alike = self.by_text.entry(filter.text().into()).or_default();
        alike.retain(|it| it.strong_count() > 0);
        alike.push(Arc::downgrade(&filter));
        filter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str, kind: &str) -> Filter {
        Filter::parse(text, &[("id", kind), ("name", "text")]).expect("a filter")
    }

    #[test]
    fn who_asks_the_same_of_the_same_columns_has_the_same_filter() {
        let filters = Filters::default();
        let first = filters.share(filter("id=eq.1", "integer"));
        assert!(Arc::ptr_eq(&first, &filters.share(filter("id=eq.1", "integer"))));
        for other in [filter("id=eq.1", "bigint"), filter("id=eq.2", "integer")] {
            assert_ne!(filters.share(other).number(), first.number());
        }
    }

    #[test]
    fn a_filter_that_nobody_uses_is_forgotten() {
        let filters = Filters::default();
        let kept = filters.share(filter("id=eq.0", "integer"));
        let number = filters.share(filter("id=eq.1", "integer")).number();
        assert_ne!(filters.share(filter("id=eq.1", "integer")).number(), number, "no number is given twice");
        for n in 2..10 * SWEPT_MIN {
            drop(filters.share(filter(&format!("id=eq.{n}"), "integer")));
        }
        assert!(filters.known.lock().by_text.len() <= 2 * SWEPT_MIN);
        assert!(Arc::ptr_eq(&kept, &filters.share(filter("id=eq.0", "integer"))));
    }
}
