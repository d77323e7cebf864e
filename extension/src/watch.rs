//! What looking for row changes without events needs of C (`sql/watch.sql`).

use crate::buffer::{self, Change};
use crate::capture::{Capture, UNSEEN};
use crate::layout::Layout;
use crate::schema;
use pgrx::prelude::*;
use std::rc::Rc;

crate::ffi::sql_function!(relations_changed, pg_finfo_relations_changed, changed);
crate::ffi::sql_function!(leave_gap, pg_finfo_leave_gap, leave);

unsafe fn changed(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    pg_sys::Datum::from(schema::take_news())
}

/// Arguments: the table; whether its ancestors are told by themselves.
unsafe fn leave(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the function is strict, its arguments are an oid and a boolean; the lock is given back where it was taken.
    unsafe {
        let argument = |n| pgrx::fcinfo::pg_getarg_datum_raw(call, n).value();
        let (relation, alone) = (pg_sys::Oid::from(argument(0) as u32), argument(1) as u8 != 0);
        let share = pg_sys::AccessShareLock as i32;
        // Who holds the table is about to change it: later, then.
        if !pg_sys::ConditionalLockRelationOid(relation, share) {
            return pg_sys::Datum::from(false);
        }
        let open = pg_sys::try_relation_open(relation, pg_sys::NoLock as i32);
        if open.is_null() {
            pg_sys::UnlockRelationOid(relation, share);
            return pg_sys::Datum::from(true);
        }
        let layout = Layout::of(open, &[]);
        pg_sys::relation_close(open, share);
        let capture = Capture::without_options(if alone { layout.without_ancestors() } else { layout });
        buffer::push(Change { op: b'G', flags: UNSEEN, ..Change::of(&Rc::new(capture)) });
        pg_sys::Datum::from(true)
    }
}
