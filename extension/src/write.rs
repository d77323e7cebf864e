//! Rows into our own tables, below SQL: no parser, no planner, no triggers, no privileges to check.

use pgrx::prelude::*;

/// The attribute at a position (from 0) of a descriptor.
pub(crate) unsafe fn attribute(descriptor: pg_sys::TupleDesc, position: usize) -> *mut pg_sys::FormData_pg_attribute {
    // SAFETY: the caller keeps the position below natts.
    #[cfg(not(feature = "pg18"))]
    unsafe {
        (*descriptor).attrs.as_mut_ptr().add(position)
    }
    // SAFETY: as above; since 18 the attributes lie behind the compact ones (access/tupdesc.h, TupleDescAttrAddress).
    #[cfg(feature = "pg18")]
    unsafe {
        let compact = std::mem::offset_of!(pg_sys::TupleDescData, compact_attrs);
        let natts = usize::try_from((*descriptor).natts).unwrap_or(0);
        let first = descriptor.cast::<u8>().add(compact + natts * std::mem::size_of::<pg_sys::CompactAttribute>());
        first.cast::<pg_sys::FormData_pg_attribute>().add(position)
    }
}

/// An open table of ours with its indexes, ready for rows.
pub(crate) struct Table {
    relation: pg_sys::Relation,
    indexes: pg_sys::CatalogIndexState,
}

impl Table {
    /// Opens a table that the caller has locked against being dropped.
    pub(crate) unsafe fn open(relation: pg_sys::Oid) -> Self {
        // SAFETY: the caller holds a lock on the relation.
        unsafe {
            let relation = pg_sys::table_open(relation, pg_sys::NoLock as i32);
            Self { relation, indexes: pg_sys::CatalogOpenIndexes(relation) }
        }
    }

    /// Inserts one row.
    pub(crate) unsafe fn insert(&self, values: &[pg_sys::Datum], nulls: &[bool]) {
        // SAFETY: the caller gives one value and one flag per column, of the column's type.
        unsafe {
            let tuple =
                pg_sys::heap_form_tuple((*self.relation).rd_att, values.as_ptr().cast_mut(), nulls.as_ptr().cast_mut());
            pg_sys::CatalogTupleInsertWithInfo(self.relation, tuple, self.indexes);
            pg_sys::heap_freetuple(tuple);
        }
    }

    /// Closes table and indexes; the lock stays until the transaction ends.
    pub(crate) unsafe fn close(self) {
        // SAFETY: both were opened in `open`.
        unsafe {
            pg_sys::CatalogCloseIndexes(self.indexes);
            pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
        }
    }
}

/// Inserts one row into a table that has to be locked first.
pub(crate) unsafe fn insert_one(relation: pg_sys::Oid, values: &[pg_sys::Datum], nulls: &[bool]) {
    // SAFETY: as for `Table`; nobody takes a lock on these tables that conflicts with ours but DROP EXTENSION.
    unsafe {
        pg_sys::LockRelationOid(relation, pg_sys::RowExclusiveLock as i32);
        let table = Table::open(relation);
        table.insert(values, nulls);
        table.close();
    }
}
