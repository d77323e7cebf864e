//! A table's rows as a client's role sees them, as JSON; and history. Declared in `sql/snapshot.sql`.

use crate::array;
use crate::identity::{self, Caller};
use crate::json::RowEncoder;
use pgrx::prelude::*;
use std::ffi::CString;

/// Rows fetched at once.
const PAGE: i64 = 1_000;

crate::ffi::sql_function!(rows_as, pg_finfo_rows_as, rows);
crate::ffi::sql_function!(history_of_caller, pg_finfo_history_of_caller, history);

/// `history(channel, since, max_events)`: asks `_history` with its owner's rights, on behalf of the current user.
unsafe fn history(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: SPI with four parameters; an error's abort puts the user back.
    unsafe {
        let store = Store::for_result_of(call);
        let caller = Caller::current();
        let caller_name = std::ffi::CStr::from_ptr(pg_sys::GetUserNameFromId(caller.user(), false));
        let argument = |n| pgrx::fcinfo::pg_getarg_datum(call, n);
        let arguments = [argument(0), argument(1), argument(2), Some(array::text(caller_name.to_bytes()))];
        let nulls = arguments.map(|v| if v.is_some() { b' ' } else { b'n' } as std::ffi::c_char);
        let mut values = arguments.map(|v| v.unwrap_or(pg_sys::Datum::from(0)));
        let mut types = [pg_sys::TEXTOID, pg_sys::INT8OID, pg_sys::INT4OID, pg_sys::TEXTOID];
        caller.become_owner_of((*(*call).flinfo).fn_oid);
        pg_sys::SPI_connect();
        let query = c"select * from realtime._history($1, $2, $3, $4)".as_ptr();
        pg_sys::SPI_execute_with_args(query, 4, types.as_mut_ptr(), values.as_mut_ptr(), nulls.as_ptr(), false, 0);
        let table = pg_sys::SPI_tuptable;
        for i in 0..usize::try_from(pg_sys::SPI_processed).unwrap_or(0) {
            pg_sys::tuplestore_puttuple(store.store, *(*table).vals.add(i));
        }
        pg_sys::SPI_finish();
        caller.restore();
        (*call).isnull = true;
        pg_sys::Datum::from(0)
    }
}

/// `_rows_as(role, claims, relation, columns)`: reads under the role, in a subtransaction that is always rolled back.
unsafe fn rows(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: begin and rollback are paired on every path; the result's store belongs to the caller's memory and owner.
    unsafe {
        let (role, claims) = (identity::text_argument(call, 0), identity::text_argument(call, 1));
        let relation = pg_sys::Oid::from(pgrx::fcinfo::pg_getarg_datum_raw(call, 2).value() as u32);
        let query = query(relation, &array::elements(array::TEXT, pgrx::fcinfo::pg_getarg_datum_raw(call, 3)));
        let store = Store::for_result_of(call);
        let caller = Caller::current();
        let outcome = identity::in_rolled_back_subtransaction(&caller, || {
            identity::assume(&caller, &role, &claims, c"");
            read(&query, &store);
        });
        if let Err(error) = outcome {
            error.rethrow();
        }
        (*call).isnull = true;
        pg_sys::Datum::from(0)
    }
}

/// `select` of these columns, every name quoted by Postgres.
unsafe fn query(relation: pg_sys::Oid, columns: &[pg_sys::Datum]) -> CString {
    // SAFETY: catalog look-ups; the strings are terminated.
    unsafe {
        let quoted = |name: &[u8]| {
            let name = array::c_string(name);
            std::ffi::CStr::from_ptr(pg_sys::quote_identifier(name.as_ptr())).to_bytes().to_vec()
        };
        let names: Vec<Vec<u8>> = columns.iter().map(|c| quoted(&array::text_bytes(*c))).collect();
        let table = pg_sys::quote_qualified_identifier(
            pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation)),
            pg_sys::get_rel_name(relation),
        );
        let mut text = b"select ".to_vec();
        text.extend_from_slice(&names.join(&b", "[..]));
        // As with events: those that inherit from a table are tables of their own, partitions are not.
        let is_partitioned = pg_sys::get_rel_relkind(relation) as u8 == pg_sys::RELKIND_PARTITIONED_TABLE;
        text.extend_from_slice(if is_partitioned { b" from " } else { b" from only " });
        text.extend_from_slice(std::ffi::CStr::from_ptr(table).to_bytes());
        array::c_string(&text)
    }
}

/// Runs the query with the snapshot in force and stores each row's JSON.
unsafe fn read(query: &CString, store: &Store) {
    // SAFETY: SPI is connected for the length of this function; an error leaves it to the rollback.
    unsafe {
        pg_sys::SPI_connect();
        let (none, no_types, no_values) = (std::ptr::null(), std::ptr::null_mut(), std::ptr::null_mut());
        let portal = pg_sys::SPI_cursor_open_with_args(none, query.as_ptr(), 0, no_types, no_values, none, true, 0);
        let mut encoder = None;
        loop {
            pg_sys::check_for_interrupts!();
            pg_sys::SPI_cursor_fetch(portal, true, PAGE as std::ffi::c_long);
            let n = usize::try_from(pg_sys::SPI_processed).unwrap_or(0);
            if n == 0 {
                break;
            }
            let table = pg_sys::SPI_tuptable;
            let encoder = encoder.get_or_insert_with(|| RowEncoder::of((*table).tupdesc));
            for i in 0..n {
                store.put(&encoder.encode(*(*table).vals.add(i), (*table).tupdesc));
            }
            pg_sys::SPI_freetuptable(table);
        }
        pg_sys::SPI_cursor_close(portal);
        pg_sys::SPI_finish();
    }
}

/// Where a set-returning function puts its rows; on disk when there are many.
struct Store {
    store: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
}

impl Store {
    unsafe fn for_result_of(call: pg_sys::FunctionCallInfo) -> Self {
        // SAFETY: the node tag and the mode are checked; what is made lives as long as the query.
        unsafe {
            let info = (*call).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            let materialize = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
            let fits = !info.is_null()
                && (*info).type_ == pg_sys::NodeTag::T_ReturnSetInfo
                && (*info).allowedModes & materialize as i32 != 0
                && !(*info).expectedDesc.is_null();
            if !fits {
                error!("a function that gives rows must be called in FROM");
            }
            let before = pg_sys::MemoryContextSwitchTo((*(*info).econtext).ecxt_per_query_memory);
            let descriptor = pg_sys::CreateTupleDescCopy((*info).expectedDesc);
            let store = pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
            pg_sys::MemoryContextSwitchTo(before);
            (*info).returnMode = materialize;
            (*info).setResult = store;
            (*info).setDesc = descriptor;
            Self { store, descriptor }
        }
    }

    unsafe fn put(&self, text: &[u8]) {
        // SAFETY: one text column; the store copies the row.
        unsafe {
            let (mut value, mut null) = (array::text(text), false);
            pg_sys::tuplestore_putvalues(self.store, self.descriptor, &mut value, &mut null);
            pg_sys::pfree(value.cast_mut_ptr());
        }
    }
}
