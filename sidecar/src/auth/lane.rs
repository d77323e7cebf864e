//! How patiently a question is asked: pure bookkeeping.

use std::time::Duration;

/// Questions of one lane wait for each other, and for no others. Most are asked together with many, which is cheap; one
/// that takes long would hold up all of them, so it is asked alone, and if it is slow even then, among the slow ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Many in one statement.
    Together,
    /// One after another, each with little time.
    Alone,
    /// One after another, with the most time that a policy may take.
    Slow,
}

/// An answer that takes no longer may be asked for together with others: a hundred of them stay within the deadline.
const TOGETHER_MAX: Duration = Duration::from_millis(8);
/// An answer that takes longer is slow.
const ALONE_MAX: Duration = Duration::from_millis(200);

impl Lane {
    /// How many lanes there are.
    pub(super) const COUNT: usize = 3;

    /// When a statement of this lane is given up.
    pub(super) fn deadline(self) -> Duration {
        match self {
            Self::Together => Duration::from_secs(1),
            Self::Alone => ALONE_MAX,
            Self::Slow => Duration::from_secs(2),
        }
    }

    /// Where questions go that were answered in this lane in this time.
    pub(super) fn after(self, taken: Duration) -> Self {
        match self {
            Self::Alone if taken <= TOGETHER_MAX => Self::Together,
            Self::Slow if taken <= ALONE_MAX => Self::Alone,
            lane => lane,
        }
    }

    /// Where questions go that were not answered in this lane.
    pub(super) fn slower(self) -> Self {
        match self {
            Self::Together => Self::Alone,
            Self::Alone | Self::Slow => Self::Slow,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_slow_sinks_and_what_is_quick_rises() {
        let ms = Duration::from_millis;
        assert_eq!(Lane::Together.slower(), Lane::Alone);
        assert_eq!(Lane::Alone.slower(), Lane::Slow);
        assert_eq!(Lane::Slow.after(ms(500)), Lane::Slow);
        assert_eq!(Lane::Slow.after(ms(50)), Lane::Alone);
        assert_eq!(Lane::Alone.after(ms(50)), Lane::Alone);
        assert_eq!(Lane::Alone.after(ms(5)), Lane::Together);
        assert_eq!(Lane::Together.after(ms(900)), Lane::Together);
    }
}
