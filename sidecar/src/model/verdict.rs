//! What somebody sees of a row change, and what the change is to them: pure, and the only place that says so.

use super::{Op, RowChange};

/// What is known of one image of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sight {
    /// It may be seen.
    Visible,
    /// It may not, or nobody asked for it.
    Hidden,
    /// Nobody can say.
    Unknown,
    /// The change has no such image.
    Absent,
}

/// What somebody sees of a row change: its old and its new image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// The row before.
    pub old: Sight,
    /// The row after.
    pub new: Sight,
}

/// How a change looks to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// As it happened.
    Whole,
    /// An update by which the row came into sight: an INSERT.
    Entered,
    /// An update by which the row went out of sight: a DELETE that names the row's old key and no more.
    Left,
}

/// What is to be done about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing is seen of it.
    Nothing,
    /// It is shown.
    Show(View),
    /// Nobody can say what it is to them: they are told so.
    Gap,
}

impl Sight {
    /// As the database writes it.
    fn of(letter: u8) -> Option<Self> {
        match letter {
            b'1' => Some(Self::Visible),
            b'0' => Some(Self::Hidden),
            b'e' => Some(Self::Unknown),
            b'-' => Some(Self::Absent),
            _ => None,
        }
    }

    /// Seen and asked for: three-valued, so that one clear no is a no.
    fn and(self, matches: Option<bool>) -> Self {
        match (self, matches) {
            (Self::Absent | Self::Hidden, _) => self,
            (_, Some(false)) => Self::Hidden,
            (Self::Unknown, _) | (_, None) => Self::Unknown,
            (Self::Visible, Some(true)) => Self::Visible,
        }
    }
}

impl Verdict {
    /// Everything may be seen.
    pub const OPEN: Self = Self { old: Sight::Visible, new: Sight::Visible };

    /// Nothing may be seen.
    pub const BLIND: Self = Self { old: Sight::Hidden, new: Sight::Hidden };

    /// Two letters of the database: 1 visible, 0 not, e no verdict, - no image.
    #[must_use]
    pub fn parse(old: u8, new: u8) -> Option<Self> {
        Some(Self { old: Sight::of(old)?, new: Sight::of(new)? })
    }

    /// Narrows it to what was asked for: whether a filter matches the old and the new image, `None` when it cannot say.
    #[must_use]
    pub fn and(self, old_matches: Option<bool>, new_matches: Option<bool>) -> Self {
        Self { old: self.old.and(old_matches), new: self.new.and(new_matches) }
    }

    /// Whether there is nothing to see, so that nobody has to be told.
    #[must_use]
    pub fn is_blind(self) -> bool {
        let is_blind = |sight| matches!(sight, Sight::Hidden | Sight::Absent);
        is_blind(self.old) && is_blind(self.new)
    }

    /// What the change is to whom this is the verdict of.
    ///
    /// An old image that nobody can judge may be a row that the client holds: that is told. A new one counts as hidden,
    /// unless the image itself lacks what would be judged.
    #[must_use]
    pub fn effect(self, change: &RowChange) -> Effect {
        let (old, new) = match change.op {
            Op::Insert => (Sight::Absent, self.new),
            Op::Delete => (self.old, Sight::Absent),
            Op::Update | Op::Truncate => (self.old, self.new),
        };
        match (old, new) {
            (Sight::Unknown, _) => Effect::Gap,
            (Sight::Visible, Sight::Visible) => Effect::Show(View::Whole),
            (Sight::Visible, _) if change.op == Op::Delete => Effect::Show(View::Whole),
            (Sight::Visible, _) => Effect::Show(View::Left),
            (_, Sight::Visible) if change.op == Op::Insert => Effect::Show(View::Whole),
            (_, Sight::Visible) => Effect::Show(View::Entered),
            (_, Sight::Unknown) if change.oversize => Effect::Gap,
            _ => Effect::Nothing,
        }
    }
}

impl View {
    /// What the change is called when it looks like this.
    #[must_use]
    pub fn op(self, op: Op) -> Op {
        match self {
            Self::Whole => op,
            Self::Entered => Op::Insert,
            Self::Left => Op::Delete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Relation;

    fn change(op: Op, oversize: bool) -> RowChange {
        let relation = Relation { oid: 1, schema: "s".into(), table: "t".into(), shape: None };
        RowChange { op, relations: [relation].into(), key: None, record: None, old_record: None, oversize }
    }

    fn check(op: Op, letters: &str, expected: Effect) {
        let [old, new] = letters.as_bytes() else { panic!("two letters") };
        let verdict = Verdict::parse(*old, *new).expect("letters of the database");
        assert_eq!(verdict.effect(&change(op, false)), expected, "{op} {letters}");
    }

    #[test]
    fn an_update_is_what_it_does_to_what_is_seen() {
        check(Op::Update, "11", Effect::Show(View::Whole));
        check(Op::Update, "01", Effect::Show(View::Entered));
        check(Op::Update, "10", Effect::Show(View::Left));
        check(Op::Update, "00", Effect::Nothing);
        check(Op::Update, "1e", Effect::Show(View::Left));
        check(Op::Update, "0e", Effect::Nothing);
        for letters in ["e1", "e0", "ee"] {
            check(Op::Update, letters, Effect::Gap);
        }
    }

    #[test]
    fn inserts_and_deletes_have_one_image() {
        check(Op::Insert, "-1", Effect::Show(View::Whole));
        check(Op::Insert, "-0", Effect::Nothing);
        check(Op::Insert, "-e", Effect::Nothing);
        check(Op::Delete, "1-", Effect::Show(View::Whole));
        check(Op::Delete, "0-", Effect::Nothing);
        check(Op::Delete, "e-", Effect::Gap);
    }

    #[test]
    fn what_is_too_large_to_be_judged_is_told() {
        let verdict = |letters: &[u8; 2]| Verdict::parse(letters[0], letters[1]).expect("letters of the database");
        assert_eq!(verdict(b"-e").effect(&change(Op::Insert, true)), Effect::Gap);
        assert_eq!(verdict(b"0e").effect(&change(Op::Update, true)), Effect::Gap);
        assert_eq!(verdict(b"-0").effect(&change(Op::Insert, true)), Effect::Nothing);
    }

    #[test]
    fn everything_is_seen_as_it_happened_where_nothing_decides() {
        for op in [Op::Insert, Op::Update, Op::Delete] {
            assert_eq!(Verdict::OPEN.effect(&change(op, false)), Effect::Show(View::Whole));
        }
    }

    #[test]
    fn a_filter_has_its_own_enter_and_leave() {
        let update = change(Op::Update, false);
        let effect = |old, new| Verdict::OPEN.and(old, new).effect(&update);
        assert_eq!(effect(Some(true), Some(true)), Effect::Show(View::Whole));
        assert_eq!(effect(Some(false), Some(true)), Effect::Show(View::Entered));
        assert_eq!(effect(Some(true), Some(false)), Effect::Show(View::Left));
        assert_eq!(effect(None, Some(true)), Effect::Gap);
        assert_eq!(effect(Some(false), None), Effect::Nothing);
    }

    #[test]
    fn only_who_sees_nothing_of_either_image_is_blind() {
        for (letters, expected) in
            [("00", true), ("-0", true), ("0-", true), ("10", false), ("01", false), ("e0", false), ("0e", false)]
        {
            let [old, new] = letters.as_bytes() else { panic!("two letters") };
            assert_eq!(Verdict::parse(*old, *new).map(Verdict::is_blind), Some(expected), "{letters}");
        }
        assert!(Verdict::BLIND.is_blind());
    }

    #[test]
    fn a_clear_no_is_a_no_whatever_else_nobody_can_say() {
        let unclear = Verdict::parse(b'e', b'0').expect("letters of the database");
        assert_eq!(unclear.and(Some(false), Some(true)).effect(&change(Op::Update, false)), Effect::Nothing);
        assert_eq!(Verdict::parse(b'0', b'0').map(|it| it.and(None, None).is_blind()), Some(true));
        assert_eq!(Verdict::parse(b'2', b'0'), None);
    }
}
