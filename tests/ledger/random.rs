//! Random numbers that a printed seed brings back.

/// A small generator (splitmix64). Not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator for somebody else, independent of what this one gives later.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `end - 1`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// As [`Random::below`], for keys in the database.
    pub(crate) fn key(&mut self, end: i32) -> i32 {
        i32::try_from(self.below(u64::try_from(end).unwrap_or(1))).unwrap_or(0)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the given values.
    pub(crate) fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        let place = usize::try_from(self.below(values.len() as u64)).unwrap_or(0);
        values[place]
    }
}
