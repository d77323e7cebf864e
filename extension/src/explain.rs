//! What one policy by itself says of one row to one identity, for people. Declared in `sql/explain.sql`.
//!
//! A policy's text is never parsed again: its stored expression is put into a query of ours, in the place of a NULL, and
//! Postgres rewrites, plans and runs that as the identity. So whatever the policy reads besides the row is read under its
//! own row level security. The row alone is read with everybody's rights, as through a view: what the policy says of a
//! hidden row is the question.

use crate::array;
use crate::caught;
use crate::identity::{self, Caller};
use crate::statement;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use std::ffi::{CStr, CString, c_char};

crate::ffi::sql_function!(policy_says, pg_finfo_policy_says, says);

/// Rows that are looked for: whether there is a second one is the question.
const ROWS_MAX: u64 = 2;

/// `_policy_says(role, claims, channel, relation, expression, columns, key)`: yes, no or null; none or several when there
/// is not exactly one row like the key; or the SQLSTATE of the error that it raised.
///
/// Without columns the key itself is the row, one that may come to be. Without an expression it is whether the row is
/// seen, by all policies together.
unsafe fn says(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: as declared in sql/explain.sql, only expression and columns may be NULL; an expression is only to be had from
    // the catalog, because its type has no input function.
    unsafe {
        let (role, claims) = (identity::text_argument(call, 0), identity::text_argument(call, 1));
        let channel = identity::text_argument(call, 2);
        let argument = |n| pgrx::fcinfo::pg_getarg_datum(call, n);
        let relation = pg_sys::Oid::from(pgrx::fcinfo::pg_getarg_datum_raw(call, 3).value() as u32);
        let columns = argument(5).map(|names| array::elements(array::TEXT, names));
        // Its name is the one in the statement for as long as this takes.
        pg_sys::LockRelationOid(relation, pg_sys::AccessShareLock as i32);
        let question = Question {
            text: text(relation, columns.as_deref()),
            stored_in: columns.map(|_| relation),
            expression: argument(4).map(|tree| array::c_string(&array::text_bytes(tree))),
            key: pgrx::fcinfo::pg_getarg_datum_raw(call, 6),
        };
        let caller = Caller::current();
        let outcome = identity::in_rolled_back_subtransaction(&caller, || {
            identity::assume_search_path();
            let query = question.query();
            identity::assume(&caller, &role, &claims, &channel);
            run(query, &question)
        });
        array::text(word(outcome).as_bytes())
    }
}

fn word(outcome: Result<Vec<Option<bool>>, Box<CaughtError>>) -> String {
    let answers = match outcome {
        Ok(answers) => answers,
        Err(error) if caught::is_cancel(&error) => error.rethrow(),
        Err(error) => return caught::sqlstate(&error),
    };
    let word = match answers[..] {
        [] => "none",
        [Some(true)] => "yes",
        [Some(false)] => "no",
        [None] => "null",
        _ => "several",
    };
    word.to_owned()
}

/// What is asked.
struct Question {
    text: CString,
    /// The table that the row is in; `None` for a row that is in none.
    stored_in: Option<pg_sys::Oid>,
    /// The policy's expression, as the catalog has it.
    expression: Option<CString>,
    /// The parameter of the statement: a jsonb object.
    key: pg_sys::Datum,
}

/// The statement. The row is its first table: expressions of policies are about that one.
unsafe fn text(relation: pg_sys::Oid, columns: Option<&[pg_sys::Datum]>) -> CString {
    // SAFETY: catalog look-ups; every name is quoted by Postgres.
    unsafe {
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        let name = pg_sys::get_rel_name(relation);
        if name.is_null() || schema.is_null() {
            error!("the table is not there any more");
        }
        let table = CStr::from_ptr(pg_sys::quote_qualified_identifier(schema, name)).to_bytes();
        let row = [b"pg_catalog.jsonb_populate_record(null::", table, b", $1) "].concat();
        let Some(columns) = columns else {
            return array::c_string(&[b"select null::pg_catalog.bool from ", &row[..], b"t"].concat());
        };
        let is_partitioned = pg_sys::get_rel_relkind(relation) as u8 == pg_sys::RELKIND_PARTITIONED_TABLE;
        let only: &[u8] = if is_partitioned { b"" } else { b"only " };
        let conditions: Vec<Vec<u8>> = columns.iter().map(|column| condition(*column)).collect();
        let start: &[u8] = b"select null::pg_catalog.bool from ";
        array::c_string(&[start, only, table, b" t, ", &row, b"k where ", &conditions.join(&b" and "[..])].concat())
    }
}

/// The column is as in the key.
unsafe fn condition(column: pg_sys::Datum) -> Vec<u8> {
    // SAFETY: a text; the quoted name is terminated.
    unsafe {
        let name = array::c_string(&array::text_bytes(column));
        let name = CStr::from_ptr(pg_sys::quote_identifier(name.as_ptr())).to_bytes();
        [b"t.", name, b" = k.", name].concat()
    }
}

impl Question {
    /// The statement as a tree, with the policy's expression in the place of its NULL. Nothing of anybody is run by this, so
    /// it is done before a role is assumed: names are to be found whatever the role may use.
    unsafe fn query(&self) -> *mut pg_sys::Query {
        // SAFETY: one statement with one target; the tree is read from the catalog's own text.
        unsafe {
            let query = analyzed(&self.text);
            let target = first((*query).targetList).cast::<pg_sys::TargetEntry>();
            (*target).expr = match &self.expression {
                Some(expression) => pg_sys::stringToNode(expression.as_ptr()).cast(),
                None => pg_sys::makeBoolConst(true, false).cast(),
            };
            (*query).hasSubLinks = pg_sys::checkExprHasSubLink((*target).expr.cast());
            if let Some(relation) = self.stored_in {
                if (*first((*query).rtable).cast::<pg_sys::RangeTblEntry>()).relid != relation {
                    error!("the table has another name now");
                }
                read_as(query, if self.expression.is_some() { pg_sys::BOOTSTRAP_SUPERUSERID } else { 0 });
            }
            pg_sys::AcquireRewriteLocks(query, true, false);
            query
        }
    }
}

unsafe fn analyzed(text: &CStr) -> *mut pg_sys::Query {
    // SAFETY: a terminated text of one statement; the parameter is jsonb.
    unsafe {
        let raw = first(pg_sys::pg_parse_query(text.as_ptr())).cast::<pg_sys::RawStmt>();
        let mut types = [pg_sys::JSONBOID];
        #[cfg(feature = "pg14")]
        return pg_sys::parse_analyze(raw, text.as_ptr(), types.as_mut_ptr(), 1, std::ptr::null_mut());
        #[cfg(not(feature = "pg14"))]
        pg_sys::parse_analyze_fixedparams(raw, text.as_ptr(), types.as_mut_ptr(), 1, std::ptr::null_mut())
    }
}

/// As whom the first table is read; nobody: as who runs it. No column is named, so that SELECT on any one is enough.
unsafe fn read_as(query: *mut pg_sys::Query, user: u32) {
    // SAFETY: the first table is a relation.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let rights = &mut *first((*query).rtable).cast::<pg_sys::RangeTblEntry>();
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let rights = &mut *first((*query).rteperminfos).cast::<pg_sys::RTEPermissionInfo>();
        rights.checkAsUser = pg_sys::Oid::from(user);
        rights.selectedCols = std::ptr::null_mut();
    }
}

unsafe fn first(list: *mut pg_sys::List) -> *mut std::ffi::c_void {
    // SAFETY: a list of nodes that is not empty.
    unsafe { (*(*list).elements).ptr_value }
}

/// Runs it as the role that is assumed.
unsafe fn run(query: *mut pg_sys::Query, question: &Question) -> Vec<Option<bool>> {
    let mut answers = Vec::new();
    // SAFETY: one statement with one parameter, in a subtransaction that is rolled back; each row is one boolean.
    unsafe {
        let text: *const c_char = question.text.as_ptr();
        let rewritten = first(pg_sys::QueryRewrite(query)).cast();
        let params = parameters(question.key);
        let plan = pg_sys::pg_plan_query(rewritten, text, 0, params);
        statement::run(plan, text, params, ROWS_MAX, |slot| answers.push(answer(slot)));
    }
    answers
}

unsafe fn answer(slot: *mut pg_sys::TupleTableSlot) -> Option<bool> {
    // SAFETY: a slot with one boolean, which may not be taken apart yet.
    unsafe {
        if (*slot).tts_nvalid < 1 {
            pg_sys::slot_getsomeattrs_int(slot, 1);
        }
        (!*(*slot).tts_isnull).then(|| (*(*slot).tts_values).value() as u8 != 0)
    }
}

unsafe fn parameters(key: pg_sys::Datum) -> pg_sys::ParamListInfo {
    // SAFETY: a list with one place.
    unsafe {
        let list = pg_sys::makeParamList(1);
        let pflags = pg_sys::PARAM_FLAG_CONST as u16;
        *(*list).params.as_mut_ptr() =
            pg_sys::ParamExternData { value: key, isnull: false, pflags, ptype: pg_sys::JSONBOID };
        list
    }
}
