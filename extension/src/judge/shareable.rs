//! Whether one plan may serve several identities.
//!
//! The planner computes IMMUTABLE functions once and for all. One that reads the claims (wrongly, but people write such
//! helpers) would burn the first identity's answer into a plan that the others get too. So a statement that calls any
//! user-defined IMMUTABLE function, or an SQL function that would be inlined and calls one, is planned for each identity.

use crate::{ffi, schema};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;

/// `FirstNormalObjectId` (access/transam.h): below are functions that came with the server.
const FIRST_USER_OID: u32 = 16_384;

/// `SQLlanguageId` (catalog/pg_language.dat).
const SQL_LANGUAGE: u32 = 14;

thread_local! {
    /// Functions looked at, as of a generation of the catalog. One that is being looked at counts as harmless.
    static SEEN: RefCell<(u64, HashMap<u32, bool>)> = RefCell::new((0, HashMap::new()));
}

/// Whether nothing in the rewritten query may be computed at planning time from the claims.
pub(super) unsafe fn is_shareable(query: *mut pg_sys::Query) -> bool {
    let generation = schema::generation();
    SEEN.with_borrow_mut(|(at, seen)| {
        if *at != generation {
            seen.clear();
            *at = generation;
        }
    });
    // SAFETY: a query tree, read only.
    unsafe { !folds(query.cast(), std::ptr::null_mut()) }
}

/// True at the first node that calls a function which may be folded.
#[pg_guard]
unsafe extern "C-unwind" fn folds(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: walkers are called with nodes of the tree or null.
    unsafe {
        if node.is_null() {
            return false;
        }
        if (*node).type_ == pg_sys::NodeTag::T_Query {
            return pg_sys::query_tree_walker(node.cast(), Some(folds), context, 0);
        }
        pg_sys::check_functions_in_node(node, Some(is_foldable), context)
            || pg_sys::expression_tree_walker(node, Some(folds), context)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn is_foldable(function: pg_sys::Oid, _context: *mut c_void) -> bool {
    let oid = function.to_u32();
    if oid < FIRST_USER_OID {
        return false;
    }
    if let Some(known) = SEEN.with_borrow(|(_, seen)| seen.get(&oid).copied()) {
        return known;
    }
    SEEN.with_borrow_mut(|(_, seen)| seen.insert(oid, false));
    // SAFETY: a syscache look-up that is released again.
    let foldable = unsafe {
        let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
        let zero = pg_sys::Datum::from(0);
        let tuple = pg_sys::SearchSysCache(cache, function.into(), zero, zero, zero);
        if tuple.is_null() {
            return true;
        }
        // GETSTRUCT (access/htup_details.h)
        let header = (*tuple).t_data;
        let form = header.cast::<u8>().add(usize::from((*header).t_hoff)).cast::<pg_sys::FormData_pg_proc>();
        let foldable =
            (*form).provolatile as u8 == b'i' || ((*form).prolang.to_u32() == SQL_LANGUAGE && body_folds(cache, tuple));
        pg_sys::ReleaseSysCache(tuple);
        foldable
    };
    SEEN.with_borrow_mut(|(_, seen)| seen.insert(oid, foldable));
    foldable
}

/// Whether the body of an SQL function, which the planner may inline, calls one.
unsafe fn body_folds(cache: i32, tuple: pg_sys::HeapTuple) -> bool {
    // SAFETY: the attributes are those of pg_proc; bodies are text.
    unsafe {
        let attribute = |number: u32| {
            let mut null = false;
            let datum = pg_sys::SysCacheGetAttr(cache, tuple, number as i16, &mut null);
            (!null).then(|| pg_sys::text_to_cstring(datum.cast_mut_ptr()))
        };
        if let Some(body) = attribute(pg_sys::Anum_pg_proc_prosqlbody) {
            return folds(pg_sys::stringToNode(body).cast(), std::ptr::null_mut());
        }
        let Some(source) = attribute(pg_sys::Anum_pg_proc_prosrc) else { return true };
        let info = ffi::prepare_sql_fn_parse_info(tuple, std::ptr::null_mut(), pg_sys::InvalidOid);
        let statements = pg_sys::pg_parse_query(source);
        if statements.is_null() {
            return false;
        }
        let statements =
            std::slice::from_raw_parts((*statements).elements, usize::try_from((*statements).length).unwrap_or(0));
        statements.iter().any(|statement| {
            let queries = pg_sys::pg_analyze_and_rewrite_withcb(
                statement.ptr_value.cast(),
                source,
                Some(ffi::sql_fn_parser_setup_hook),
                info,
                std::ptr::null_mut(),
            );
            folds(queries.cast(), std::ptr::null_mut())
        })
    }
}
