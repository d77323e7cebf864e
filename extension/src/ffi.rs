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

/// `executor/executor.h`: the value of a prepared expression, in the context's memory for one row.
pub(crate) unsafe fn evaluate(
    state: *mut pg_sys::ExprState,
    context: *mut pg_sys::ExprContext,
) -> Option<pg_sys::Datum> {
    // SAFETY: a prepared state always has a function; an error it raises becomes a panic here.
    unsafe {
        let before = pg_sys::MemoryContextSwitchTo((*context).ecxt_per_tuple_memory);
        let mut is_null = false;
        let evaluate = (*state).evalfunc.unwrap_unchecked();
        let value = pg_guard_ffi_boundary(|| evaluate(state, context, &mut is_null));
        pg_sys::MemoryContextSwitchTo(before);
        (!is_null).then_some(value)
    }
}

/// What a mutator calls for each node.
pub(crate) type Mutator = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut std::ffi::c_void) -> *mut pg_sys::Node;

/// `nodes/nodeFuncs.c`: a copy of a node with its children given to the mutator.
pub(crate) unsafe fn expression_tree_mutator(
    node: *mut pg_sys::Node,
    mutator: Mutator,
    context: *mut std::ffi::c_void,
) -> *mut pg_sys::Node {
    // SAFETY: before 16 the parameter is declared without its arguments, and called with them.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        return pg_sys::expression_tree_mutator(node, Some(undeclared(mutator)), context);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        pg_sys::expression_tree_mutator_impl(node, Some(mutator), context)
    }
}

/// `nodes/nodeFuncs.c`: a copy of a query with its expressions given to the mutator.
pub(crate) unsafe fn query_tree_mutator(
    query: *mut pg_sys::Query,
    mutator: Mutator,
    context: *mut std::ffi::c_void,
) -> *mut pg_sys::Query {
    // SAFETY: as above.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        return pg_sys::query_tree_mutator(query, Some(undeclared(mutator)), context, 0);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        pg_sys::query_tree_mutator_impl(query, Some(mutator), context, 0)
    }
}

#[cfg(any(feature = "pg14", feature = "pg15"))]
unsafe fn undeclared(mutator: Mutator) -> unsafe extern "C-unwind" fn() -> *mut pg_sys::Node {
    // SAFETY: the same pointer; Postgres calls it with both arguments.
    unsafe { std::mem::transmute::<Mutator, unsafe extern "C-unwind" fn() -> *mut pg_sys::Node>(mutator) }
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
