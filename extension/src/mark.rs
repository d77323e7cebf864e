//! `realtime._leave_gap_mark()`: one mark for all that was lost since the last one.

use crate::buffer::{self, Change};
use crate::{loss, registry};
use pgrx::prelude::*;
use std::sync::atomic::Ordering::SeqCst;

/// Ten seconds: how often at most a full log leaves a mark.
const MARK_INTERVAL_US: u64 = 10_000_000;

crate::ffi::sql_function!(leave_gap_mark, pg_finfo_leave_gap_mark, leave_mark);

/// Leaves a gap mark for everything when transactions lost their events; says whether it did.
unsafe fn leave_mark(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: inside a transaction.
    unsafe {
        let Some(entry) = registry::entry() else { return pg_sys::Datum::from(false) };
        let room = loss::room();
        loss::has_looked(entry, &room);
        // A mark tells every client to start over. While more is being lost one now and then will do; the last one, which
        // comes after all that was lost, is owed until it is left.
        let now = u64::try_from(pg_sys::GetCurrentTimestamp()).unwrap_or(0);
        let is_early = room.is_full && now.saturating_sub(entry.marked_at.load(SeqCst)) < MARK_INTERVAL_US;
        let due = room.untold.filter(|untold| untold.is_due(is_early));
        if let Some(untold) = due {
            buffer::push(Change { op: b'G', flags: loss::MARK, ..Change::default() });
            loss::tell(untold);
            entry.marked_at.store(now, SeqCst);
        }
        pg_sys::Datum::from(due.is_some())
    }
}
