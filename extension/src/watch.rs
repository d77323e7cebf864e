//! What looking for row changes without events needs of C (`sql/watch.sql`).

use crate::array;
use crate::buffer::{self, Change};
use crate::capture::{Capture, UNSEEN};
use crate::identity::Caller;
use crate::layout::Layout;
use crate::schema;
use pgrx::prelude::*;
use std::rc::Rc;

crate::ffi::sql_function!(relations_changed, pg_finfo_relations_changed, changed);
crate::ffi::sql_function!(leave_gap, pg_finfo_leave_gap, leave);
crate::ffi::sql_function!(remember, pg_finfo_remember, remember_now);

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

/// `_remember(relation)`: calls `_remember_for` with its owner's rights, on behalf of the current user.
unsafe fn remember_now(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: SPI with two parameters; an error's abort puts the user back.
    unsafe {
        let caller = Caller::current();
        let name = std::ffi::CStr::from_ptr(pg_sys::GetUserNameFromId(caller.user(), false));
        let mut values = [pgrx::fcinfo::pg_getarg_datum_raw(call, 0), array::text(name.to_bytes())];
        let mut types = [pg_sys::OIDOID, pg_sys::TEXTOID];
        caller.become_owner_of((*(*call).flinfo).fn_oid);
        pg_sys::SPI_connect();
        let query = c"select realtime._remember_for($1, $2)".as_ptr();
        let none_null = std::ptr::null();
        pg_sys::SPI_execute_with_args(query, 2, types.as_mut_ptr(), values.as_mut_ptr(), none_null, false, 0);
        pg_sys::SPI_finish();
        caller.restore();
        pg_sys::Datum::from(0)
    }
}
