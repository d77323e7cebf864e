//! A segment of the log, being written: one row per event (`sql/log.sql`).

use crate::schema::{SEGMENTS, Schema};
use pgrx::prelude::*;

/// Logical decoding passes the row by. A publication `FOR ALL TABLES` would send it to servers where it means nothing, and
/// whoever decodes would pay for every change twice.
const UNPUBLISHED: i32 = pg_sys::HEAP_INSERT_NO_LOGICAL as i32;

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
    indexes: pg_sys::CatalogIndexState,
    xid: u64,
    now: pg_sys::TimestampTz,
}

impl Segment {
    /// Locks and opens the segment being written, or another one when somebody is giving that back: a writer waits for
    /// nobody, and readers look in all of them. `None`: all are locked against us.
    pub(crate) unsafe fn open(schema: &Schema) -> Option<Self> {
        // SAFETY: inside a transaction; the lock is held until its end.
        unsafe {
            let current = schema.state().segment;
            let mut order = (0..SEGMENTS).map(|k| &schema.segments[(current + k) % SEGMENTS]);
            let relation = pg_sys::table_open(order.find(|place| place.lock())?.table, pg_sys::NoLock as i32);
            Some(Self {
                relation,
                indexes: pg_sys::CatalogOpenIndexes(relation),
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

    /// The index entries: one of (xid, seq), and one of the partial index where a run ends.
    unsafe fn index(&self, place: pg_sys::ItemPointer, seq: i64, run: Option<i32>) {
        // SAFETY: the arrays have ri_NumIndices elements; the values fit the indexes of sql/log.sql.
        unsafe {
            let run_datum = pg_sys::Datum::from(run.unwrap_or(0));
            let mut values = [pg_sys::Datum::from(self.xid), pg_sys::Datum::from(seq), run_datum];
            let mut nulls = [false; 3];
            for n in 0..usize::try_from((*self.indexes).ri_NumIndices).unwrap_or(0) {
                let index = *(*self.indexes).ri_IndexRelationDescs.add(n);
                let info = *(*self.indexes).ri_IndexRelationInfo.add(n);
                if run.is_none() && !(*info).ii_Predicate.is_null() {
                    continue;
                }
                let unique = pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO;
                pg_sys::index_insert(
                    index,
                    values.as_mut_ptr(),
                    nulls.as_mut_ptr(),
                    place,
                    self.relation,
                    unique,
                    false,
                    info,
                );
            }
        }
    }

    /// Closes it; the lock stays until the transaction ends.
    pub(crate) unsafe fn close(self) {
        // SAFETY: both were opened in `open`.
        unsafe {
            pg_sys::CatalogCloseIndexes(self.indexes);
            pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
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
