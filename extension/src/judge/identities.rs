//! Identities (role and claims) that this session was told, and for which tables each of them is seated.
//!
//! A seated identity is judged for every event of its table without being named. Claims are told once: they would be
//! most of what each judgement costs.

use crate::{array, identity};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::rc::Rc;

crate::ffi::sql_function!(know_identity, pg_finfo_know_identity, know);
crate::ffi::sql_function!(forget_identity, pg_finfo_forget_identity, forget);
crate::ffi::sql_function!(seat_identities, pg_finfo_seat_identities, seat);
crate::ffi::sql_function!(unseat_identities, pg_finfo_unseat_identities, unseat);

/// Role and claims of subscribers, and the number that they go by.
pub(super) struct Identity {
    pub(super) id: i32,
    pub(super) role: CString,
    pub(super) claims: CString,
}

thread_local! {
    static KNOWN: RefCell<HashMap<i32, Rc<Identity>>> = RefCell::new(HashMap::new());
    /// Who is seated for which table.
    static SEATED: RefCell<HashMap<u32, BTreeSet<i32>>> = RefCell::new(HashMap::new());
}

/// `know_identity(id, role, claims)`.
unsafe fn know(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    super::refuse_while_judging();
    // SAFETY: declared STRICT with (int, text, text).
    unsafe {
        let id = pgrx::fcinfo::pg_getarg_datum_raw(call, 0).value() as i32;
        let (role, claims) = (identity::text_argument(call, 1), identity::text_argument(call, 2));
        KNOWN.with_borrow_mut(|known| known.insert(id, Rc::new(Identity { id, role, claims })));
    }
    pg_sys::Datum::from(0)
}

/// `forget_identity(id)`.
unsafe fn forget(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    super::refuse_while_judging();
    // SAFETY: declared STRICT with (int).
    let id = unsafe { pgrx::fcinfo::pg_getarg_datum_raw(call, 0).value() as i32 };
    KNOWN.with_borrow_mut(|known| known.remove(&id));
    SEATED.with_borrow_mut(|seated| {
        seated.values_mut().for_each(|ids| {
            ids.remove(&id);
        });
        seated.retain(|_, ids| !ids.is_empty());
    });
    pg_sys::Datum::from(0)
}

/// `seat(relation, ids)`.
unsafe fn seat(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    super::refuse_while_judging();
    // SAFETY: as `arguments` says.
    let (relation, ids) = unsafe { arguments(call) };
    named(&ids);
    SEATED.with_borrow_mut(|seated| seated.entry(relation).or_default().extend(ids));
    pg_sys::Datum::from(0)
}

/// `unseat(relation, ids)`.
unsafe fn unseat(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    super::refuse_while_judging();
    // SAFETY: as `arguments` says.
    let (relation, ids) = unsafe { arguments(call) };
    SEATED.with_borrow_mut(|seated| {
        let Some(seats) = seated.get_mut(&relation) else { return };
        ids.iter().for_each(|id| {
            seats.remove(id);
        });
        if seats.is_empty() {
            seated.remove(&relation);
        }
    });
    pg_sys::Datum::from(0)
}

/// The relation and the numbers of identities that `seat` and `unseat` are called with.
unsafe fn arguments(call: pg_sys::FunctionCallInfo) -> (u32, Vec<i32>) {
    // SAFETY: declared STRICT with (oid, int[]).
    unsafe {
        let argument = |n| pgrx::fcinfo::pg_getarg_datum_raw(call, n);
        (argument(0).value() as u32, ids(argument(1)))
    }
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

/// The identities that are seated for a table, by their numbers.
pub(super) fn seated(relation: pg_sys::Oid) -> Vec<Rc<Identity>> {
    let ids: Vec<i32> = SEATED
        .with_borrow(|seated| seated.get(&relation.to_u32()).map(|ids| ids.iter().copied().collect()))
        .unwrap_or_default();
    named(&ids)
}
