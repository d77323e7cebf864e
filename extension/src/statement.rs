//! Running a planned statement, with its rows given to a closure as they come.

use pgrx::prelude::*;
use std::ffi::c_char;
use std::ptr::null_mut;

/// What Postgres gives the rows to. It knows the first member only.
#[repr(C)]
struct Receiver<'a> {
    receiver: pg_sys::DestReceiver,
    take: &'a mut dyn FnMut(*mut pg_sys::TupleTableSlot),
}

/// Runs a statement to its end, or until it has given `rows_max` rows, where 0 is no limit.
///
/// # Safety
///
/// A snapshot is active, and the parameters are those that the plan was made for. An error leaves the statement open:
/// whoever calls does so in a subtransaction that closes it.
pub(crate) unsafe fn run(
    plan: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    params: pg_sys::ParamListInfo,
    rows_max: u64,
    mut take: impl FnMut(*mut pg_sys::TupleTableSlot),
) {
    let mut receiver = Receiver {
        receiver: pg_sys::DestReceiver {
            receiveSlot: Some(receive),
            rStartup: Some(startup),
            rShutdown: Some(nothing),
            rDestroy: Some(nothing),
            mydest: pg_sys::CommandDest::DestNone,
        },
        take: &mut take,
    };
    // SAFETY: the receiver outlives the run; what an error leaves open is closed by the subtransaction's end.
    unsafe {
        let (snapshot, to) = (pg_sys::GetActiveSnapshot(), (&raw mut receiver).cast());
        let query = pg_sys::CreateQueryDesc(plan, text, snapshot, null_mut(), to, params, null_mut(), 0);
        pg_sys::ExecutorStart(query, 0);
        let forward = pg_sys::ScanDirection::ForwardScanDirection;
        #[cfg(feature = "pg18")]
        pg_sys::ExecutorRun(query, forward, rows_max);
        #[cfg(not(feature = "pg18"))]
        pg_sys::ExecutorRun(query, forward, rows_max, true);
        pg_sys::ExecutorFinish(query);
        pg_sys::ExecutorEnd(query);
        pg_sys::FreeQueryDesc(query);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn receive(slot: *mut pg_sys::TupleTableSlot, receiver: *mut pg_sys::DestReceiver) -> bool {
    // SAFETY: made by `run`, which waits for us.
    unsafe { ((*receiver.cast::<Receiver>()).take)(slot) };
    true
}

#[pg_guard]
unsafe extern "C-unwind" fn startup(_receiver: *mut pg_sys::DestReceiver, _operation: i32, _types: pg_sys::TupleDesc) {}

#[pg_guard]
unsafe extern "C-unwind" fn nothing(_receiver: *mut pg_sys::DestReceiver) {}
