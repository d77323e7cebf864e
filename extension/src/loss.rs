//! Events that are not written, because the log is at its cap or locked against us, and who knows of it.
//!
//! One gap mark stands for all transactions that were lost before it: whoever starts over at the mark has what they did.
//! `realtime.mark_lost()` leaves it. Meanwhile no event may be read as if nothing were missing, because it may build on one
//! that is: a transaction announces its loss before anybody can see its commit, and as long as an announced loss has no
//! committed mark, others are lost too, or bring a mark along.

use crate::capture::LOG_FULL;
use crate::registry::{self, Entry};
use crate::schema::Schema;
use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;

/// Flags of a gap mark that is about everything.
pub(crate) const MARK: i16 = LOG_FULL;

thread_local! {
    /// Events of this transaction are not written.
    static LOST: Cell<bool> = const { Cell::new(false) };
    /// Where that was announced. Kept: the database's entry may be another one when the transaction ends.
    static ANNOUNCED: Cell<Option<&'static Entry>> = const { Cell::new(None) };
    /// What is told when this transaction commits.
    static MARKING: Cell<Option<Untold>> = const { Cell::new(None) };
}

/// What a transaction that is about to write has to know.
#[derive(Clone, Copy, Default)]
pub(crate) struct Room {
    /// The log is at its cap, and what is lost can be told.
    pub(crate) is_full: bool,
    /// Something was lost, and no mark says so yet.
    pub(crate) untold: Option<Untold>,
}

/// Losses without a mark.
#[derive(Clone, Copy)]
pub(crate) struct Untold {
    entry: &'static Entry,
    /// How many have ended by now, so that a mark stands for them.
    lost: u64,
    /// The server has started, and nobody knows what was lost before.
    is_unknown: bool,
}

impl Untold {
    /// Whether a mark would tell anything. `is_early`: the last one was left a moment ago.
    pub(crate) fn is_due(&self, is_early: bool) -> bool {
        self.is_unknown || (self.lost > self.entry.marked.load(SeqCst) && !is_early)
    }
}

/// Whether there is room in the log. Where something was lost, what rotation says at this moment; else what it said at most
/// a second ago.
pub(crate) unsafe fn room() -> Room {
    // SAFETY: inside a transaction.
    unsafe {
        let (Some(schema), Some(entry)) = (Schema::current(), registry::entry()) else { return Room::default() };
        let lost = entry.lost.load(SeqCst);
        let is_unknown = !entry.checked.load(SeqCst) && schema.state().was_full;
        let is_untold = is_unknown || entry.losing.load(SeqCst) > entry.marked.load(SeqCst);
        let state = if is_untold { schema.state_now() } else { schema.state() };
        Room { is_full: state.is_full, untold: is_untold.then_some(Untold { entry, lost, is_unknown }) }
    }
}

/// This transaction has a mark: when it commits, what was untold is told.
pub(crate) fn tell(untold: Untold) {
    MARKING.set(Some(untold));
}

/// Whoever marks has looked. What was lost before the server started is known, or told with this transaction.
pub(crate) fn has_looked(entry: &Entry, room: &Room) {
    if !room.untold.is_some_and(|untold| untold.is_unknown) {
        entry.checked.store(true, SeqCst);
    }
}

/// Notes that events of this transaction are not written.
pub(crate) fn note() {
    LOST.set(true);
}

/// Tells the others, when something was lost. Before the commit.
pub(crate) unsafe fn announce() {
    // SAFETY: inside a transaction.
    if let Some(entry) = unsafe { LOST.get().then(|| registry::entry()).flatten() } {
        entry.losing.fetch_add(1, SeqCst);
        ANNOUNCED.set(Some(entry));
    }
}

/// The transaction has committed, was prepared or has ended without either. Says whether it lost anything. Must not
/// raise: thread-locals and shared memory.
pub(crate) fn conclude(is_committed: bool) -> bool {
    // Announced and rolled back: nothing is missing, but whoever saw the announcement waits for a mark.
    if let Some(entry) = ANNOUNCED.take() {
        entry.lost.fetch_add(1, SeqCst);
    }
    if let Some(Untold { entry, lost, .. }) = MARKING.take()
        && is_committed
    {
        entry.marked.fetch_max(lost, SeqCst);
        entry.checked.store(true, SeqCst);
    }
    LOST.take() && is_committed
}
