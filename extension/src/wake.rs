//! Waking the worker, once per transaction and only if it committed.

use crate::{registry, settings, worker};
use pgrx::prelude::*;
use std::sync::atomic::Ordering::SeqCst;

/// A second: how often at most a database tries to launch a worker.
const LAUNCH_INTERVAL_US: u64 = 1_000_000;

/// Called after COMMIT. Must not raise: it only reads shared memory and sets a latch.
pub(crate) fn worker() {
    if let Some(entry) = registry::known() {
        let latch = entry.latch.load(SeqCst);
        // Whoever is called and has not looked yet will see this commit too.
        if latch != 0 && !entry.is_called.swap(true, SeqCst) {
            // SAFETY: latches live in shared process slots that are never freed; a stale one wakes a stranger, who looks and sleeps on.
            unsafe { pg_sys::SetLatch(latch as *mut pg_sys::Latch) };
        }
    }
}

/// Called before COMMIT, where raising would still be possible: finds the registry and launches a worker when there is none.
pub(crate) unsafe fn ensure_worker() {
    // SAFETY: inside a transaction.
    unsafe {
        let Some(entry) = registry::entry() else { return };
        if entry.latch.load(SeqCst) != 0 || !settings::worker_wanted() {
            return;
        }
        let now = u64::try_from(pg_sys::GetCurrentTimestamp()).unwrap_or(0);
        let last = entry.tried_at.load(SeqCst);
        if now.abs_diff(last) > LAUNCH_INTERVAL_US && entry.tried_at.compare_exchange(last, now, SeqCst, SeqCst).is_ok()
        {
            worker::launch(false);
        }
    }
}
