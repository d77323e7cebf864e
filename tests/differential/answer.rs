//! What the judge said of one table's events.

use std::collections::{BTreeMap, BTreeSet};

/// Verdicts on one event: its old and its new image.
pub(crate) type Pair = [u8; 2];

/// A verdict's place: whose it is, and which image in the order of the events.
pub(crate) type Place = (i32, usize);

/// What was said of one table's events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The events' offsets, in their order.
    pub(crate) offsets: Vec<i64>,
    /// A pair for each event, for those who see any, or on whom there is no verdict.
    pub(crate) seen_by: BTreeMap<i32, Vec<Pair>>,
}

impl Answer {
    /// This answer and the one on the events behind it as one. `hidden` is what is said of all of them to who sees nothing.
    pub(crate) fn followed_by(&self, next: &Self, hidden: &[Pair]) -> Self {
        let split = self.offsets.len().min(hidden.len());
        let of = |answer: &Self, id: &i32, hidden: &[Pair]| {
            answer.seen_by.get(id).cloned().unwrap_or_else(|| hidden.to_vec())
        };
        let pairs = |id: &i32| [of(self, id, &hidden[..split]), of(next, id, &hidden[split..])].concat();
        Self {
            offsets: [self.offsets.clone(), next.offsets.clone()].concat(),
            seen_by: self.seen_by.keys().chain(next.seen_by.keys()).map(|id| (*id, pairs(id))).collect(),
        }
    }

    /// Where there is no verdict.
    pub(crate) fn failed(&self) -> BTreeSet<Place> {
        self.places(b'e')
    }

    /// What is seen, apart from some places.
    pub(crate) fn seen_but(&self, places: &BTreeSet<Place>) -> BTreeSet<Place> {
        &self.places(b'1') - places
    }

    /// Whether everybody in it sees something, or may: its size must not grow with those who do not.
    pub(crate) fn tells_only_what_is_seen(&self) -> bool {
        self.seen_by.values().all(|pairs| pairs.iter().flatten().any(|verdict| b"1e".contains(verdict)))
    }

    fn places(&self, wanted: u8) -> BTreeSet<Place> {
        let of = |(id, pairs): (&i32, &Vec<Pair>)| {
            let images = pairs.iter().flatten().enumerate();
            images.filter(|(_, verdict)| **verdict == wanted).map(|(place, _)| (*id, place)).collect::<Vec<_>>()
        };
        self.seen_by.iter().flat_map(of).collect()
    }
}
