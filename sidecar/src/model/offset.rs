//! Places in the log.

use std::fmt;

/// A place in the log's one order: below 2^53, growing, never used twice.
///
/// As a cursor it says "everything up to here was seen". Zero is before every event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Offset(i64);

impl Offset {
    /// Before every event of every history.
    pub const ZERO: Self = Self(0);
    /// The largest offset: clients hold it in a double without losing a digit.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The offset with this number, or `None` when no log ever assigns it.
    #[must_use]
    pub fn new(number: i64) -> Option<Self> {
        (0..=Self::MAX.0).contains(&number).then_some(Self(number))
    }

    /// The offset before this one.
    #[must_use]
    pub fn before(self) -> Self {
        Self((self.0 - 1).max(0))
    }

    /// The number, as the database and the clients write it.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::Offset;

    #[test]
    fn only_numbers_that_a_double_holds_are_offsets() {
        assert_eq!(Offset::new(-1), None);
        assert_eq!(Offset::new(0), Some(Offset::ZERO));
        assert_eq!(Offset::new(Offset::MAX.get()), Some(Offset::MAX));
        assert_eq!(Offset::new(Offset::MAX.get() + 1), None);
        assert_eq!(Offset::MAX.to_string(), "9007199254740991");
    }

    #[test]
    fn nothing_is_before_the_first() {
        assert_eq!(Offset::new(7).map(Offset::before), Offset::new(6));
        assert_eq!(Offset::ZERO.before(), Offset::ZERO);
    }
}
