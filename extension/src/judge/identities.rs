//! Identities (role and claims) that this session was told. Claims are told once: they would be most of what each
//! judgement costs.

use super::params::Value;
use super::seats;
use crate::{array, identity};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::rc::Rc;

crate::ffi::sql_function!(know_identity, pg_finfo_know_identity, know);
crate::ffi::sql_function!(forget_identity, pg_finfo_forget_identity, forget);

/// Role and claims of subscribers, and the number that they go by.
pub(super) struct Identity {
    pub(super) id: i32,
    pub(super) role: CString,
    pub(super) claims: CString,
    /// What expressions are worth for it, by their numbers; `None` where computing failed.
    pub(super) values: RefCell<HashMap<usize, Option<Value>>>,
}

thread_local! {
    static KNOWN: RefCell<HashMap<i32, Rc<Identity>>> = RefCell::new(HashMap::new());
}

/// `know_identity(id, role, claims)`.
unsafe fn know(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    super::refuse_while_judging();
    // SAFETY: declared STRICT with (int, text, text).
    unsafe {
        let id = pgrx::fcinfo::pg_getarg_datum_raw(call, 0).value() as i32;
        let (role, claims) = (identity::text_argument(call, 1), identity::text_argument(call, 2));
        let identity = Rc::new(Identity { id, role, claims, values: RefCell::default() });
        seats::replace(&identity);
        KNOWN.with_borrow_mut(|known| known.insert(id, identity));
    }
    pg_sys::Datum::from(0)
}

/// `forget_identity(id)`.
unsafe fn forget(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    super::refuse_while_judging();
    // SAFETY: declared STRICT with (int).
    let id = unsafe { pgrx::fcinfo::pg_getarg_datum_raw(call, 0).value() as i32 };
    KNOWN.with_borrow_mut(|known| known.remove(&id));
    seats::leave(id);
    pg_sys::Datum::from(0)
}

/// The numbers in an `int[]`.
pub(super) unsafe fn ids(array: pg_sys::Datum) -> Vec<i32> {
    // SAFETY: the caller's datum is an int[].
    unsafe { array::elements(array::INT4, array).iter().map(|d| d.value() as i32).collect() }
}

/// The identities with these numbers; raises when the session was not told one of them.
pub(super) fn named(ids: &[i32]) -> Vec<Rc<Identity>> {
    let find = |id: &i32| KNOWN.with_borrow(|known| known.get(id).cloned());
    if let Some(id) = ids.iter().find(|id| find(id).is_none()) {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("this session does not know identity {id}; call realtime.know_identity() first")
        );
    }
    ids.iter().filter_map(find).collect()
}
