//! Functions of Postgres that pgrx has no bindings for, and the entry points that Postgres looks up by name.
#![allow(non_snake_case)] // the server's names

use pgrx::prelude::*;

// The attribute below expands to this path.
pub(crate) use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

// Guarded: an error raised inside becomes a panic that unwinds through our frames, not a jump over them.
#[pg_guard]
unsafe extern "C-unwind" {
    /// `access/common/heaptuple.c` (heaptoast.c): a copy of a tuple with every out-of-line value fetched.
    pub fn toast_flatten_tuple(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> pg_sys::HeapTuple;
    /// `catalog/partition.c`: ancestors of a partition, nearest first.
    pub fn get_partition_ancestors(relation: pg_sys::Oid) -> *mut pg_sys::List;
    /// `port/pqsignal.c`, as the server calls it since 18.
    #[cfg(feature = "pg18")]
    pub fn pqsignal_be(signal: i32, handler: pg_sys::pqsigfunc);
    /// `executor/functions.c`: what parsing an SQL function's body needs to know of its parameters.
    pub fn prepare_sql_fn_parse_info(
        function: pg_sys::HeapTuple,
        call: *mut pg_sys::Node,
        collation: pg_sys::Oid,
    ) -> *mut std::ffi::c_void;
    /// `executor/functions.c`: parser hooks for that body.
    pub fn sql_fn_parser_setup(state: *mut pg_sys::ParseState, info: *mut std::ffi::c_void);
    /// `utils/adt/datum.c`: a copy in the current memory context.
    pub fn datumCopy(value: pg_sys::Datum, by_value: bool, length: i32) -> pg_sys::Datum;
    /// `common/hashfn.c`.
    pub fn hash_bytes_extended(bytes: *const u8, length: i32, seed: u64) -> u64;
}

/// [`sql_fn_parser_setup`] as a pointer that Postgres can keep.
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn sql_fn_parser_setup_hook(
    state: *mut pg_sys::ParseState,
    info: *mut std::ffi::c_void,
) {
    // SAFETY: passed on as the parser gave it.
    unsafe { sql_fn_parser_setup(state, info) }
}

/// Makes a Rust function callable as `language c` under a name.
///
/// pgrx's `#[pg_extern]` does the same and also generates SQL; ours is written by hand in `sql/`.
macro_rules! sql_function {
    ($name:ident, $info:ident, $body:path) => {
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $info() -> *const pgrx::pg_sys::Pg_finfo_record {
            static VERSION_1: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &raw const VERSION_1
        }

        #[doc(hidden)]
        #[unsafe(no_mangle)]
        #[pgrx::pg_guard]
        pub unsafe extern "C-unwind" fn $name(call: pgrx::pg_sys::FunctionCallInfo) -> pgrx::pg_sys::Datum {
            // SAFETY: Postgres calls this with a valid call frame for a function declared in sql/.
            unsafe { $body(call) }
        }
    };
}
pub(crate) use sql_function;
