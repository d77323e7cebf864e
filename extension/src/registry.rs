//! Where each database's worker can be woken: a small table in shared memory.
//!
//! Made at first use, as contrib/pg_prewarm's autoprewarm does, so that no `shared_preload_libraries` is needed.

use pgrx::prelude::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};

/// Databases of one server that can have a worker. Those beyond are ticked by their sidecars.
const ENTRIES: usize = 128;

/// One database.
#[repr(C)]
pub(crate) struct Entry {
    /// Oid; 0: free.
    database: AtomicU32,
    /// 0: no worker.
    pub(crate) pid: AtomicI32,
    /// Address of the worker's latch; 0: no worker.
    pub(crate) latch: AtomicUsize,
    /// Somebody has committed and called; the worker has not begun to look since.
    pub(crate) is_called: AtomicBool,
    /// When a launch was last tried, in microseconds.
    pub(crate) tried_at: AtomicU64,
    /// Transactions that announced that their events are not written.
    pub(crate) losing: AtomicU64,
    /// Those of them that have ended.
    pub(crate) lost: AtomicU64,
    /// How many of them a gap mark stands for.
    pub(crate) marked: AtomicU64,
    /// When the last of those marks was left, in microseconds.
    pub(crate) marked_at: AtomicU64,
    /// Somebody has looked whether the log was full when the server started.
    pub(crate) checked: AtomicBool,
}

impl Entry {
    /// Whether a gap mark may be due.
    pub(crate) fn has_unmarked_loss(&self) -> bool {
        !self.checked.load(SeqCst) || self.lost.load(SeqCst) > self.marked.load(SeqCst)
    }
}

#[repr(C)]
struct Shared {
    entries: [Entry; ENTRIES],
}

thread_local! {
    static SHARED: Cell<Option<&'static Shared>> = const { Cell::new(None) };
    static MINE: Cell<Option<&'static Entry>> = const { Cell::new(None) };
    static UNAVAILABLE: Cell<bool> = const { Cell::new(false) };
}

/// This database's entry, if this backend has looked it up before. Touches nothing that can raise.
pub(crate) fn known() -> Option<&'static Entry> {
    // SAFETY: a plain read of this process's database.
    let database = unsafe { pg_sys::MyDatabaseId.to_u32() };
    // The entry may have been given to another database meanwhile.
    MINE.get().filter(|entry| entry.database.load(SeqCst) == database)
}

/// This database's entry. `None`: no shared memory left, or as many databases as entries have a worker.
pub(crate) unsafe fn entry() -> Option<&'static Entry> {
    if let Some(entry) = known() {
        return Some(entry);
    }
    if SHARED.get().is_none() && !UNAVAILABLE.get() {
        // SAFETY: called with a database connection.
        SHARED.set(unsafe { attach() });
        UNAVAILABLE.set(SHARED.get().is_none());
    }
    // SAFETY: a plain read.
    MINE.set(SHARED.get().and_then(|shared| find(shared, unsafe { pg_sys::MyDatabaseId.to_u32() })));
    MINE.get()
}

/// `AddinShmemInitLock` is number 21 of the individual lightweight locks from 14 to 18
/// (storage/lmgr/lwlocknames.txt, since 17 storage/lwlocklist.h).
unsafe fn init_lock() -> *mut pg_sys::LWLock {
    // SAFETY: the array has more than 40 individual locks.
    unsafe { &raw mut (*pg_sys::MainLWLockArray.add(21)).lock }
}

unsafe fn attach() -> Option<&'static Shared> {
    // SAFETY: the lock is held while the memory is made and zeroed, and released on both paths.
    unsafe {
        let size = std::mem::size_of::<Shared>();
        pg_sys::LWLockAcquire(init_lock(), pg_sys::LWLockMode::LW_EXCLUSIVE);
        // Out of shared memory is an error; it must not become the user's.
        let memory = PgTryBuilder::new(|| {
            let mut found = false;
            let memory = pg_sys::ShmemInitStruct(c"realtime workers".as_ptr(), size, &mut found).cast::<Shared>();
            if !found {
                std::ptr::write_bytes(memory.cast::<u8>(), 0, size);
            }
            memory
        })
        .catch_others(|_| std::ptr::null_mut())
        .execute();
        if memory.is_null() {
            // Raising has forgotten that the lock holds interrupts off; releasing it counts down.
            pg_sys::InterruptHoldoffCount += 1;
        }
        pg_sys::LWLockRelease(init_lock());
        memory.cast_const().as_ref()
    }
}

/// The database's entry, a free one, or one whose database has no worker any more.
fn find(shared: &'static Shared, database: u32) -> Option<&'static Entry> {
    let take = |entry: &Entry, from: u32| {
        let outcome = entry.database.compare_exchange(from, database, SeqCst, SeqCst);
        outcome.map_or_else(|now| now == database, |_| true)
    };
    let mut entries = shared.entries.iter();
    entries
        .clone()
        .find(|e| e.database.load(SeqCst) == database)
        .or_else(|| entries.clone().find(|e| take(e, 0)))
        .or_else(|| {
            entries.find(|e| {
                let other = e.database.load(SeqCst);
                e.pid.load(SeqCst) == 0 && take(e, other)
            })
        })
}
