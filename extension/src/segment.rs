//! A segment of the log, being written: one row per event (`sql/log.sql`).

use crate::buffer::Entry;
use crate::schema::{Need, Place, SEGMENTS, Schema};
use pgrx::prelude::*;
use std::ops::Range;

/// Logical decoding passes the row by. A publication `FOR ALL TABLES` would send it to servers where it means nothing, and
/// whoever decodes would pay for every change twice.
const UNPUBLISHED: i32 = pg_sys::HEAP_INSERT_NO_LOGICAL as i32;

/// Images of so many bytes fit into a row of the log without any part of it being stored elsewhere: Postgres begins to do
/// that at a quarter of a page.
const INLINE_BYTES_MAX: usize = 1_500;

impl Need {
    /// What writing these entries will touch.
    pub(crate) fn of(entries: &[Entry]) -> Self {
        let bytes = |image: &Option<Range<usize>>| image.as_ref().map_or(0, ExactSizeIterator::len);
        let toast = entries.iter().any(|e| bytes(&e.old) + bytes(&e.new) > INLINE_BYTES_MAX);
        Self { indexes: if entries.len() > 1 { 2 } else { 1 }, toast }
    }
}

/// One event, without the transaction it belongs to.
pub(crate) struct Row<'a> {
    pub(crate) seq: i64,
    /// 0: none.
    pub(crate) layout: i64,
    pub(crate) op: u8,
    pub(crate) flags: i16,
    pub(crate) message_id: Option<[u8; 16]>,
    pub(crate) old_tid: Option<pg_sys::ItemPointerData>,
    pub(crate) new_tid: Option<pg_sys::ItemPointerData>,
    pub(crate) old: Option<&'a [u8]>,
    pub(crate) new: Option<&'a [u8]>,
}

/// An open segment and what all rows of one transaction share.
pub(crate) struct Segment {
    relation: pg_sys::Relation,
    /// Of the ends of runs.
    run: pg_sys::Relation,
    /// Of the other rows; NULL when there will be none.
    inner: pg_sys::Relation,
    xid: u64,
    now: pg_sys::TimestampTz,
}

impl Segment {
    /// Locks and opens the segment being written, or another one when somebody is giving that back: a writer waits for
    /// nobody, and readers look in all of them. `None`: all are locked against us.
    pub(crate) unsafe fn open(schema: &Schema, entries: &[Entry]) -> Option<Self> {
        // SAFETY: inside a transaction; the lock is held until its end.
        unsafe {
            let current = schema.state().segment;
            let mut order = (0..SEGMENTS).map(|k| &schema.segments[(current + k) % SEGMENTS]);
            let need = Need::of(entries);
            let Place { table, indexes: [run, inner], .. } = *order.find(|place| place.lock(need))?;
            let lock = pg_sys::NoLock as i32;
            Some(Self {
                relation: pg_sys::table_open(table, lock),
                run: pg_sys::index_open(run, lock),
                inner: if need.indexes > 1 { pg_sys::index_open(inner, lock) } else { std::ptr::null_mut() },
                xid: pg_sys::GetTopFullTransactionId().value,
                now: pg_sys::GetCurrentTimestamp(),
            })
        }
    }

    /// Inserts one row. `run`: this row ends a run of so many rows with consecutive places.
    pub(crate) unsafe fn insert(&self, row: &Row, run: Option<i32>) {
        // SAFETY: the columns are those of sql/log.sql, in their order; what is allocated is freed again.
        unsafe {
            let pointer = |tid: &Option<pg_sys::ItemPointerData>| {
                tid.as_ref().map(|t| pg_sys::Datum::from(std::ptr::from_ref(t)))
            };
            let (old, new) = (row.old.map(|i| bytea(i)), row.new.map(|i| bytea(i)));
            let columns = [
                Some(pg_sys::Datum::from(self.xid)),
                Some(pg_sys::Datum::from(row.seq)),
                Some(pg_sys::Datum::from(row.layout)),
                Some(pg_sys::Datum::from(self.now)),
                run.map(pg_sys::Datum::from),
                Some(pg_sys::Datum::from(row.flags)),
                Some(pg_sys::Datum::from(row.op as i8)),
                row.message_id.as_ref().map(|id| pg_sys::Datum::from(id.as_ptr())),
                pointer(&row.old_tid),
                pointer(&row.new_tid),
                old,
                new,
            ];
            let mut values = columns.map(|c| c.unwrap_or(pg_sys::Datum::from(0)));
            let mut nulls = columns.map(|c| c.is_none());
            let tuple = pg_sys::heap_form_tuple((*self.relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            let command = pg_sys::GetCurrentCommandId(true);
            pg_sys::heap_insert(self.relation, tuple, command, UNPUBLISHED, std::ptr::null_mut());
            self.index(&raw mut (*tuple).t_self, row.seq, run);
            pg_sys::heap_freetuple(tuple);
            for datum in [old, new].into_iter().flatten() {
                pg_sys::pfree(datum.cast_mut_ptr());
            }
        }
    }

    /// The index entry: every row has one, in one of the two partial indexes. Not by `CatalogOpenIndexes`, which copies the
    /// indexes' predicates and expressions for every transaction.
    unsafe fn index(&self, place: pg_sys::ItemPointer, seq: i64, run: Option<i32>) {
        // SAFETY: the values fit both indexes of sql/log.sql; a btree does not look at the description of its index.
        unsafe {
            let run_datum = pg_sys::Datum::from(run.unwrap_or(0));
            let mut values = [pg_sys::Datum::from(self.xid), pg_sys::Datum::from(seq), run_datum];
            let mut nulls = [false; 3];
            let index = if run.is_some() { self.run } else { self.inner };
            let mut info = pg_sys::IndexInfo::default();
            pg_sys::index_insert(
                index,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
                place,
                self.relation,
                pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO,
                false,
                &mut info,
            );
        }
    }

    /// Closes it; the lock stays until the transaction ends.
    pub(crate) unsafe fn close(self) {
        // SAFETY: all were opened in `open`.
        unsafe {
            let lock = pg_sys::NoLock as i32;
            for index in [self.run, self.inner].into_iter().filter(|index| !index.is_null()) {
                pg_sys::index_close(index, lock);
            }
            pg_sys::table_close(self.relation, lock);
        }
    }
}

/// Bytes as a `bytea`.
unsafe fn bytea(bytes: &[u8]) -> pg_sys::Datum {
    // SAFETY: the allocation has the header's four bytes and the content's.
    unsafe {
        let length = bytes.len() + pg_sys::VARHDRSZ;
        let datum = pg_sys::palloc(length).cast::<u8>();
        pgrx::set_varsize_4b(datum.cast(), i32::try_from(length).unwrap_or(i32::MAX));
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), datum.add(pg_sys::VARHDRSZ), bytes.len());
        pg_sys::Datum::from(datum)
    }
}
