//! SQL's three truth values, and what is possible when one is not known.

/// The answers that are possible: one of SQL's three values, or all of them where the row does not tell.
///
/// A bit for each value, in the order false < NULL < true: `and` is the smaller of two, `or` the larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Truth(u8);

impl Truth {
    pub(super) const FALSE: Self = Self(0b001);
    pub(super) const NULL: Self = Self(0b010);
    pub(super) const TRUE: Self = Self(0b100);
    /// The row does not tell: it may be any of the three.
    pub(super) const OPEN: Self = Self(0b111);

    pub(super) fn of(answer: bool) -> Self {
        if answer { Self::TRUE } else { Self::FALSE }
    }

    pub(super) fn and(self, other: Self) -> Self {
        self.each(other, |one, another| one.min(another))
    }

    pub(super) fn or(self, other: Self) -> Self {
        self.each(other, |one, another| one.max(another))
    }

    pub(super) fn not(self) -> Self {
        Self((self.0 & 0b010) | ((self.0 & 0b001) << 2) | ((self.0 & 0b100) >> 2))
    }

    /// Whether a WHERE with this answer keeps the row; `None` when that is not known.
    pub(super) fn keeps(self) -> Option<bool> {
        match self.0 & Self::TRUE.0 {
            0 => Some(false),
            _ => (self == Self::TRUE).then_some(true),
        }
    }

    fn each(self, other: Self, join: impl Fn(u8, u8) -> u8) -> Self {
        let mut possible = 0;
        for one in self.values() {
            for another in other.values() {
                possible |= join(one, another);
            }
        }
        Self(possible)
    }

    fn values(self) -> impl Iterator<Item = u8> {
        [0b001, 0b010, 0b100].into_iter().filter(move |value| self.0 & value != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::Truth;

    const F: Truth = Truth::FALSE;
    const N: Truth = Truth::NULL;
    const T: Truth = Truth::TRUE;
    const OPEN: Truth = Truth::OPEN;

    #[test]
    fn known_values_follow_sql() {
        for (one, other, and, or) in
            [(T, T, T, T), (T, N, N, T), (T, F, F, T), (N, N, N, N), (N, F, F, N), (F, F, F, F)]
        {
            assert_eq!((one.and(other), other.and(one)), (and, and));
            assert_eq!((one.or(other), other.or(one)), (or, or));
        }
        assert_eq!((T.not(), N.not(), F.not()), (F, N, T));
    }

    #[test]
    fn what_is_open_stays_open_unless_the_rest_decides() {
        assert_eq!(OPEN.and(F), F);
        assert_eq!(OPEN.or(T), T);
        assert_eq!(OPEN.not(), OPEN);
        assert_eq!(OPEN.keeps(), None);
        assert_eq!(OPEN.and(T).keeps(), None);
        // Whatever the open one is, the whole is no better than NULL.
        assert_eq!(OPEN.and(N).keeps(), Some(false));
        assert_eq!(OPEN.and(N).not().keeps(), None);
    }

    #[test]
    fn null_keeps_no_row() {
        assert_eq!((T.keeps(), N.keeps(), F.keeps()), (Some(true), Some(false), Some(false)));
    }
}
