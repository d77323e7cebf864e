//! What was compared, and what came out.

use std::ops::AddAssign;

/// Counts of one case, or of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count {
    /// Tables made.
    pub(crate) tables: u64,
    /// Verdicts compared: one image and one identity each.
    pub(crate) cells: u64,
    /// Those that were visible.
    pub(crate) visible: u64,
    /// Those where both sides failed, or one failed and the other said invisible.
    pub(crate) failed: u64,
    /// Those where Postgres itself answers both, depending on its plan: an arm that fails is evaluated or not.
    pub(crate) undefined: u64,
    /// Those without a verdict because a policy reads a column that came after the image, and rows were written anew since:
    /// only they know what they have in it.
    pub(crate) unknown: u64,
    /// Those where who is named fails, and who is seated is known to be no candidate without being asked.
    pub(crate) unasked: u64,
    /// Those that differ.
    pub(crate) wrong: u64,
    /// Tables where who is seated got other verdicts than who is named.
    pub(crate) seats_wrong: u64,
    /// Policies that Postgres refused to make.
    pub(crate) refused: u64,
    /// Statements about rights that it took.
    pub(crate) taken: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.tables += other.tables;
        self.cells += other.cells;
        self.visible += other.visible;
        self.failed += other.failed;
        self.undefined += other.undefined;
        self.unknown += other.unknown;
        self.unasked += other.unasked;
        self.wrong += other.wrong;
        self.seats_wrong += other.seats_wrong;
        self.refused += other.refused;
        self.taken += other.taken;
    }
}

impl Count {
    /// Prints one figure a line.
    pub(crate) fn print(&self) {
        for (name, figure) in [
            ("tables", self.tables),
            ("cells", self.cells),
            ("visible", self.visible),
            ("failed", self.failed),
            ("undefined", self.undefined),
            ("unknown", self.unknown),
            ("unasked", self.unasked),
            ("rights taken", self.taken),
            ("rights refused", self.refused),
            ("seats wrong", self.seats_wrong),
            ("wrong", self.wrong),
        ] {
            println!("differential {name} {figure}");
        }
    }
}
