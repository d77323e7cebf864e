//! A transaction's changes, kept in memory until it commits.
//!
//! Nothing is written while the transaction runs: what a rolled-back savepoint did is simply forgotten. At PRE_COMMIT
//! (PRE_PREPARE) the rows are written into the log with their ordering key. A transaction that changes more than
//! `realtime.spill_bytes` writes early; what it writes then carries earlier keys and the last row decides its place, so
//! it ends with a row of its own at PRE_COMMIT.

use crate::capture::{CAPTURE_OFF, Capture};
use crate::fold::{Images, Tables};
use crate::schema::{Need, Schema};
use crate::segment::{Row, Segment};
use crate::{loss, settings, wake};
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

/// Entries kept before a transaction writes early, whatever their size.
const ENTRIES_MAX: usize = 1 << 16;

/// So many times what makes a transaction write early may gather in small subtransactions, each of which would not.
const OVERFULL: usize = 4;

/// Rows of one run: readers find their place in a run by counting, so it must not be long.
const RUN_MAX: i32 = 8_192;

/// One change on its way into the buffer.
#[derive(Default)]
pub(crate) struct Change<'a> {
    /// `I U D T M`, as in `sql/log.sql`.
    pub(crate) op: u8,
    pub(crate) flags: i16,
    pub(crate) message_id: Option<[u8; 16]>,
    pub(crate) old_tid: Option<pg_sys::ItemPointerData>,
    pub(crate) new_tid: Option<pg_sys::ItemPointerData>,
    pub(crate) old: Option<&'a [u8]>,
    pub(crate) new: Option<&'a [u8]>,
    pub(crate) capture: Option<Rc<Capture>>,
    /// The command of this transaction that changed the row.
    pub(crate) command: u32,
    /// The row's old key may be free now.
    pub(crate) frees_key: bool,
    /// The table's file; 0: it has none.
    pub(crate) file: u32,
}

impl Change<'_> {
    /// A change of the table that this trigger sits on.
    pub(crate) fn of(capture: &Rc<Capture>) -> Self {
        Self { capture: Some(Rc::clone(capture)), ..Self::default() }
    }
}

/// A change in the buffer.
#[derive(Clone)]
pub(crate) struct Entry {
    /// The subtransaction that made it.
    pub(crate) subtransaction: pg_sys::SubTransactionId,
    /// 0: not given yet.
    pub(crate) seq: i64,
    /// 0: none.
    pub(crate) layout: i64,
    pub(crate) op: u8,
    pub(crate) flags: i16,
    pub(crate) message_id: Option<[u8; 16]>,
    pub(crate) old_tid: Option<pg_sys::ItemPointerData>,
    pub(crate) new_tid: Option<pg_sys::ItemPointerData>,
    pub(crate) old: Option<Range<usize>>,
    pub(crate) new: Option<Range<usize>>,
    /// The table's file.
    pub(crate) file: u32,
    /// Where its images begin in the buffer's bytes.
    pub(crate) start: usize,
}

#[derive(Default)]
struct Buffer {
    entries: Vec<Entry>,
    /// The images, one after another.
    bytes: Vec<u8>,
    /// What the entries' ranges call the first byte.
    base: usize,
    /// The log was full when this transaction became large: none of it is written, and that is told.
    is_lost: bool,
    tables: Tables,
    /// Tables with a gap mark, and the subtransaction that left it.
    gaps: HashMap<i64, pg_sys::SubTransactionId>,
    next_seq: i64,
    /// So many entries, from the first on, have their places.
    placed: usize,
    /// The first place that was given; 0: none.
    first_seq: i64,
    /// Rows were written early, or keys given out early.
    spilled: bool,
}

thread_local! {
    static BUFFER: RefCell<Buffer> = RefCell::new(Buffer::default());
    /// Something of this transaction is in the log.
    static WRITTEN: Cell<bool> = const { Cell::new(false) };
}

/// Registers for the ends of transactions. Once per backend.
pub(crate) fn register() {
    // SAFETY: Postgres keeps the function pointers; both stay valid as long as the library is loaded.
    unsafe {
        pg_sys::RegisterXactCallback(Some(at_transaction_end), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(at_subtransaction_end), std::ptr::null_mut());
    }
}

/// Takes one change. Writes early when the transaction has become large.
pub(crate) unsafe fn push(change: Change) {
    // SAFETY: called from a trigger, so inside a transaction.
    unsafe {
        let subtransaction = pg_sys::GetCurrentSubTransactionId();
        let full = BUFFER.with_borrow_mut(|b| {
            if b.is_lost {
                return false;
            }
            b.push(subtransaction, change);
            b.is_full(subtransaction)
        });
        if full {
            spill(subtransaction);
        }
    }
}

impl Entry {
    /// The log's row.
    fn row<'a>(&self, images: Images<'a>) -> Row<'a> {
        let image = |range: &Option<Range<usize>>| range.as_ref().map(|range| images.get(range));
        Row {
            seq: self.seq,
            layout: self.layout,
            op: self.op,
            flags: self.flags,
            message_id: self.message_id,
            old_tid: self.old_tid,
            new_tid: self.new_tid,
            old: image(&self.old),
            new: image(&self.new),
        }
    }
}

impl Buffer {
    fn push(&mut self, subtransaction: pg_sys::SubTransactionId, mut change: Change) {
        let wanted = change.old.map_or(0, <[u8]>::len) + change.new.map_or(0, <[u8]>::len);
        // A failed allocation must not end the process. Without memory for the images the event goes without them.
        if self.bytes.try_reserve(wanted).is_err() {
            (change.old, change.new) = (None, None);
            change.flags |= crate::capture::OVERSIZE | crate::capture::OLD_IS_KEY | crate::capture::NEW_IS_KEY;
        }
        let start = self.bytes.len();
        let mut keep = |image: Option<&[u8]>| {
            image.map(|image| {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(image);
                start..self.bytes.len()
            })
        };
        let (old, new) = (keep(change.old), keep(change.new));
        self.entries.push(Entry {
            subtransaction,
            seq: 0,
            layout: self.tables.note(&change),
            file: change.file,
            old,
            new,
            start,
            op: change.op,
            flags: change.flags,
            message_id: change.message_id,
            old_tid: change.old_tid,
            new_tid: change.new_tid,
        });
    }

    fn images(&self) -> Images<'_> {
        Images { bytes: &self.bytes, base: self.base }
    }

    /// Puts what has no places yet in the order that folds. Where that cannot be had a gap says so.
    unsafe fn put_in_order(&mut self, subtransaction: pg_sys::SubTransactionId) {
        let mut entries = self.entries.split_off(self.placed);
        // SAFETY: inside a transaction.
        unsafe { self.tables.put_in_order(&mut entries, Images { bytes: &self.bytes, base: self.base }) };
        self.entries.append(&mut entries);
        for gap in self.tables.gaps() {
            self.push(subtransaction, gap);
        }
    }

    /// Gives the next `n` places in this transaction and returns the first.
    unsafe fn places(&mut self, n: usize) -> i64 {
        // SAFETY: reads a position in shared memory.
        let position = unsafe { pg_sys::GetXLogInsertRecPtr() };
        let first = i64::try_from(position).unwrap_or(i64::MAX - (1 << 32)).max(self.next_seq);
        self.next_seq = first + n as i64;
        if self.first_seq == 0 {
            self.first_seq = first;
        }
        first
    }

    /// Puts a gap mark before everything that this transaction has done, what is written already among it: something that
    /// it may build on was lost.
    fn begin_with_mark(&mut self, subtransaction: pg_sys::SubTransactionId) {
        self.push(subtransaction, Change { op: b'G', flags: loss::MARK, ..Change::default() });
        if let Some(mut mark) = self.entries.pop() {
            if self.first_seq != 0 {
                mark.seq = self.first_seq - 1;
                self.placed += 1;
            }
            self.entries.insert(0, mark);
        }
    }

    /// Whether this transaction has changed nothing that is captured.
    fn is_untouched(&self) -> bool {
        self.entries.is_empty() && !self.spilled && !self.is_lost
    }

    /// Gives places to all entries that have none yet; they are the last ones.
    unsafe fn give_places(&mut self) {
        // SAFETY: inside a transaction.
        unsafe {
            let places = self.places(self.entries.len() - self.placed)..;
            for (place, entry) in places.zip(&mut self.entries[self.placed..]) {
                entry.seq = place;
            }
            self.placed = self.entries.len();
        }
    }

    /// Where the entries of a subtransaction and its children begin. Their ids are the larger ones, at the end.
    fn start_of(&self, subtransaction: pg_sys::SubTransactionId) -> usize {
        self.entries.partition_point(|e| e.subtransaction < subtransaction)
    }

    /// Whether this subtransaction alone has done enough to write early. What its parents did cannot be written here.
    fn is_full(&self, subtransaction: pg_sys::SubTransactionId) -> bool {
        if self.entries.len() < ENTRIES_MAX && self.bytes.len() < settings::spill_bytes() {
            return false;
        }
        let start = self.start_of(subtransaction);
        let bytes = self.entries.get(start).map_or(0, |first| self.bytes.len() - first.start);
        self.entries.len() - start >= ENTRIES_MAX || bytes >= settings::spill_bytes()
    }

    /// Forgets what a subtransaction and its children did.
    fn forget(&mut self, subtransaction: pg_sys::SubTransactionId) {
        while let Some(last) = self.entries.last()
            && last.subtransaction >= subtransaction
        {
            self.bytes.truncate(last.start);
            self.entries.pop();
        }
        self.placed = self.placed.min(self.entries.len());
        self.gaps.retain(|_, at| *at < subtransaction);
    }
}

/// Notes that a table was changed and its changes were not captured: once per table and subtransaction.
pub(crate) unsafe fn mark_gap(capture: &Rc<Capture>) {
    // SAFETY: called from a trigger.
    unsafe {
        let subtransaction = pg_sys::GetCurrentSubTransactionId();
        let is_noted = BUFFER.with_borrow(|b| b.gaps.get(&capture.layout.id).is_some_and(|at| *at <= subtransaction));
        if !is_noted {
            BUFFER.with_borrow_mut(|b| b.gaps.insert(capture.layout.id, subtransaction));
            push(Change { op: b'G', flags: CAPTURE_OFF, ..Change::of(capture) });
        }
    }
}

/// Writes early what the current subtransaction did.
///
/// What its parents did must not be written here: it would vanish with this subtransaction, and they may yet commit. But
/// it comes first, so it is given its places now.
unsafe fn spill(subtransaction: pg_sys::SubTransactionId) {
    // SAFETY: called from a trigger; the buffer is not borrowed while Postgres runs.
    unsafe {
        let mut buffer = BUFFER.take();
        if !buffer.spilled && loss::room().is_full {
            // All or nothing: what comes after is not written either.
            BUFFER.set(Buffer { is_lost: true, ..Buffer::default() });
            return;
        }
        buffer.spilled = true;
        let start = buffer.start_of(subtransaction);
        let own = buffer.entries.split_off(start);
        let base = own.first().map_or(buffer.bytes.len(), |first| first.start);
        let bytes = buffer.bytes.split_off(base);
        // Those that a child's spill gave places to keep them: what the child did is in the log behind them.
        let placed = buffer.placed.saturating_sub(start);
        buffer.placed = buffer.placed.min(start);
        buffer.give_places();
        buffer.tables.before_spill(&buffer.entries);
        let mut early = Buffer { entries: own, bytes, base, placed, ..Buffer::default() };
        (early.next_seq, early.first_seq) = (buffer.next_seq, buffer.first_seq);
        let mut fresh = early.entries.split_off(placed);
        buffer.tables.put_in_order(&mut fresh, Images { bytes: &early.bytes, base });
        early.entries.append(&mut fresh);
        buffer.tables.after_spill();
        // The parents' entries stay safe when writing fails: the error may end this subtransaction alone.
        early.tables = buffer.tables.clone();
        BUFFER.set(buffer);
        write_out(&mut early);
        BUFFER.with_borrow_mut(|buffer| {
            (buffer.next_seq, buffer.first_seq) = (early.next_seq, early.first_seq);
            buffer.tables = early.tables;
        });
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn at_transaction_end(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::{
        XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE, XACT_EVENT_PREPARE,
    };
    match event {
        // SAFETY: still inside the transaction; user code cannot run any more.
        XACT_EVENT_PRE_COMMIT => unsafe { before_commit(false) },
        // SAFETY: as above.
        XACT_EVENT_PRE_PREPARE => unsafe { before_commit(true) },
        XACT_EVENT_COMMIT => after_commit(),
        // Lost to a lock on our tables, which are about to go: told now or never.
        XACT_EVENT_PREPARE => after_commit(),
        XACT_EVENT_ABORT => after_abort(),
        _ => (),
    }
}

/// Must not raise: thread-locals, shared memory, a latch.
fn after_commit() {
    let has_lost = loss::conclude(true);
    if WRITTEN.take() || has_lost {
        wake::worker();
    }
}

/// As [`after_commit`].
fn after_abort() {
    loss::conclude(false);
    WRITTEN.set(false);
    drop(BUFFER.try_with(|b| b.try_borrow_mut().map(|mut b| *b = Buffer::default())));
}

/// Whether so much lies here that even a small subtransaction has to write what it did. Its parents cannot.
fn is_overfull() -> bool {
    BUFFER.with_borrow(|b| {
        b.entries.len() > OVERFULL * ENTRIES_MAX || b.bytes.len() > settings::spill_bytes().saturating_mul(OVERFULL)
    })
}

#[pg_guard]
unsafe extern "C-unwind" fn at_subtransaction_end(
    event: pg_sys::SubXactEvent::Type,
    subtransaction: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut std::ffi::c_void,
) {
    use pg_sys::SubXactEvent::{SUBXACT_EVENT_ABORT_SUB, SUBXACT_EVENT_PRE_COMMIT_SUB};
    if event == SUBXACT_EVENT_ABORT_SUB {
        drop(BUFFER.try_with(|b| b.try_borrow_mut().map(|mut b| b.forget(subtransaction))));
    } else if event == SUBXACT_EVENT_PRE_COMMIT_SUB
        && is_overfull()
        && BUFFER.with_borrow(|b| b.start_of(subtransaction) < b.entries.len())
    {
        // SAFETY: still inside the subtransaction; the snapshot is popped again.
        unsafe {
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            spill(subtransaction);
            pg_sys::PopActiveSnapshot();
        }
    }
}

unsafe fn before_commit(is_prepare: bool) {
    let buffer = BUFFER.take();
    // SAFETY: inside the committing transaction.
    unsafe {
        if !buffer.is_untouched() {
            write_or_lose(buffer, is_prepare);
        }
        // The last thing: also what could not be written.
        loss::announce();
    }
}

/// `is_prepare`: what is prepared commits later and without our knowing. A loss told now would come too early, so such a
/// transaction carries its events, or at least its gap mark, itself.
unsafe fn write_or_lose(mut buffer: Buffer, is_prepare: bool) {
    // SAFETY: inside the committing transaction; the snapshot is popped again.
    unsafe {
        let room = loss::room();
        let subtransaction = pg_sys::GetCurrentSubTransactionId();
        // The same when the log is not full any more: whoever would be told might not be told after a crash.
        if buffer.is_lost && (is_prepare || !room.is_full) {
            buffer.push(subtransaction, Change { op: b'G', flags: loss::MARK, ..Change::default() });
        } else if buffer.is_lost {
            return lose();
        }
        buffer.put_in_order(subtransaction);
        if buffer.spilled {
            // The key that decides this transaction's place must be taken now.
            buffer.give_places();
            buffer.push(subtransaction, Change { op: b'C', ..Change::default() });
        }
        // Gap marks are always written: they are few and small. A transaction that has written a part goes on: it comes
        // whole or not at all.
        let is_event = |e: &Entry| e.op != b'G';
        if room.is_full && !is_prepare && !buffer.spilled && buffer.entries.iter().any(is_event) {
            return lose();
        }
        if let Some(untold) = room.untold.filter(|_| buffer.entries.iter().any(is_event)) {
            buffer.begin_with_mark(subtransaction);
            if !is_prepare {
                loss::tell(untold);
            }
        }
        if buffer.entries.is_empty() {
            return;
        }
        // A snapshot is for what reads: what is stored out of line, and layouts.
        let reads = Need::of(&buffer.entries).toast || !buffer.tables.are_settled();
        if reads {
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        write_out(&mut buffer);
        if reads {
            pg_sys::PopActiveSnapshot();
        }
    }
}

/// None of this transaction is written.
unsafe fn lose() {
    loss::note();
    // SAFETY: inside a transaction. Somebody has to tell.
    unsafe { wake::ensure_worker() };
}

/// Writes all entries into the log.
unsafe fn write_out(buffer: &mut Buffer) {
    // SAFETY: inside a transaction with an active snapshot. An error here resets the interrupt count itself.
    unsafe {
        // Extension gone: its triggers are gone as well, and nobody is left to read.
        let Some(schema) = Schema::current() else { return };
        // Locks that somebody holds against us are not waited for: the events are lost, and that is told.
        let Some(segment) = Segment::open(&schema, &buffer.entries) else {
            loss::note();
            return;
        };
        // Mostly all are settled, and one table less is locked. Nothing from here to `settle` unsettles them.
        if !buffer.tables.are_settled() && !schema.lock_layouts() {
            segment.close();
            loss::note();
            return;
        }
        // From here on a cancel waits: it must not turn a commit into a failure on our account.
        pg_sys::InterruptHoldoffCount += 1;
        buffer.tables.settle(&schema);
        buffer.give_places();
        let mut run = 0;
        for (n, entry) in buffer.entries.iter().enumerate() {
            run += 1;
            let goes_on = run < RUN_MAX && buffer.entries.get(n + 1).is_some_and(|next| next.seq == entry.seq + 1);
            segment.insert(&entry.row(buffer.images()), (!goes_on).then_some(run));
            if !goes_on {
                run = 0;
            }
        }
        segment.close();
        pg_sys::InterruptHoldoffCount -= 1;
        WRITTEN.set(true);
        wake::ensure_worker();
    }
}
