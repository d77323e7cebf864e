//! Which expressions depend on the identity alone, and which on the row alone.
//!
//! Only what is known is trusted: constants, functions of the server itself that are IMMUTABLE, and the settings that we
//! set. Everything else (tables, STABLE casts, users' functions, other settings) is left where it is.

use pgrx::prelude::*;
use std::cell::RefCell;
use std::ffi::{CStr, c_void};

/// `FirstNormalObjectId` (access/transam.h): below is what came with the server.
const FIRST_USER_OID: u32 = 16_384;

/// `INTERNALlanguageId` (catalog/pg_language.dat).
const INTERNAL_LANGUAGE: u32 = 12;

/// `ClanguageId` (catalog/pg_language.dat).
const C_LANGUAGE: u32 = 13;

/// An expression that is kept for the life of the backend: policies have few, and they change rarely.
#[derive(Clone, Copy)]
pub(super) struct Expression {
    pub(super) node: *mut pg_sys::Node,
    pub(super) type_oid: pg_sys::Oid,
    pub(super) typmod: i32,
    pub(super) collation: pg_sys::Oid,
    pub(super) length: i16,
    pub(super) by_value: bool,
}

thread_local! {
    static KEPT: RefCell<Vec<Expression>> = const { RefCell::new(Vec::new()) };
}

/// The number of an expression: the same for equal ones.
pub(super) unsafe fn keep(node: *mut pg_sys::Node) -> usize {
    // SAFETY: a node tree; the copy lies in memory that stays.
    unsafe {
        let known = KEPT.with_borrow(|kept| kept.iter().position(|e| pg_sys::equal(e.node.cast(), node.cast())));
        known.unwrap_or_else(|| {
            let before = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
            let node = pg_sys::copyObjectImpl(node.cast()).cast::<pg_sys::Node>();
            pg_sys::MemoryContextSwitchTo(before);
            let (type_oid, typmod) = (pg_sys::exprType(node), pg_sys::exprTypmod(node));
            let (mut length, mut by_value) = (0, false);
            pg_sys::get_typlenbyval(type_oid, &mut length, &mut by_value);
            let collation = pg_sys::exprCollation(node);
            KEPT.with_borrow_mut(|kept| {
                kept.push(Expression { node, type_oid, typmod, collation, length, by_value });
                kept.len() - 1
            })
        })
    }
}

/// The expression with this number.
pub(super) fn kept(number: usize) -> Expression {
    KEPT.with_borrow(|kept| kept[number])
}

/// What an expression may contain besides constants and trusted functions.
#[derive(Clone, Copy)]
struct Allowed {
    /// Role and claims.
    claims: bool,
    /// Columns of the judged table.
    columns: bool,
    /// The element of an array that is being cast.
    element: bool,
}

/// Whether the value depends on role and claims alone.
pub(super) unsafe fn is_of_identity(node: *mut pg_sys::Node) -> bool {
    // SAFETY: an expression tree.
    unsafe { !has_more_than(node, Allowed { claims: true, columns: false, element: false }) }
}

/// Whether it is a condition on the row alone.
pub(super) unsafe fn is_row_condition(node: *mut pg_sys::Node) -> bool {
    // SAFETY: an expression tree.
    unsafe {
        (*node).type_ != pg_sys::NodeTag::T_List
            && pg_sys::exprType(node) == pg_sys::BOOLOID
            && !has_more_than(node, Allowed { claims: false, columns: true, element: false })
    }
}

unsafe fn has_more_than(node: *mut pg_sys::Node, mut allowed: Allowed) -> bool {
    // SAFETY: the walker reads the context only while it runs.
    unsafe { has_more(node, (&raw mut allowed).cast()) }
}

/// True at the first node that is not allowed.
#[pg_guard]
unsafe extern "C-unwind" fn has_more(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    use pg_sys::NodeTag as T;
    // SAFETY: walkers are called with nodes of the tree or null; nodes are cast by their tags.
    unsafe {
        if node.is_null() {
            return false;
        }
        let allowed = *context.cast::<Allowed>();
        match (*node).type_ {
            T::T_Const | T::T_List | T::T_NullIfExpr | T::T_RelabelType | T::T_CoalesceExpr | T::T_CaseWhen => {}
            T::T_BoolExpr | T::T_NullTest | T::T_BooleanTest | T::T_ArrayExpr | T::T_ScalarArrayOpExpr => {}
            T::T_CoerceViaIO | T::T_DistinctExpr => {}
            T::T_OpExpr if !(*node.cast::<pg_sys::OpExpr>()).opretset => {}
            // The value that `case x when` compares with is not in the expression.
            T::T_CaseExpr if (*node.cast::<pg_sys::CaseExpr>()).arg.is_null() => {}
            T::T_CaseTestExpr => return !allowed.element,
            T::T_Var => return !(allowed.columns && is_column(node.cast())),
            T::T_SQLValueFunction => {
                return !(allowed.claims && is_user((*node.cast::<pg_sys::SQLValueFunction>()).op));
            }
            T::T_FuncExpr if is_current_setting(node.cast()) => {
                return !(allowed.claims && is_our_setting(node.cast()));
            }
            T::T_FuncExpr if !(*node.cast::<pg_sys::FuncExpr>()).funcretset => {}
            T::T_ArrayCoerceExpr => {
                let cast = node.cast::<pg_sys::ArrayCoerceExpr>();
                let of_element = Allowed { element: true, ..allowed };
                return has_more((*cast).arg.cast(), context) || has_more_than((*cast).elemexpr.cast(), of_element);
            }
            _ => return true,
        }
        pg_sys::check_functions_in_node(node, Some(is_untrusted), std::ptr::null_mut())
            || pg_sys::expression_tree_walker(node, Some(has_more), context)
    }
}

/// A plain column of the judged table, which is the statement's first and only one.
unsafe fn is_column(var: *mut pg_sys::Var) -> bool {
    // SAFETY: the caller looked at the tag.
    unsafe { (*var).varno == 1 && (*var).varlevelsup == 0 && (*var).varattno > 0 }
}

fn is_user(function: pg_sys::SQLValueFunctionOp::Type) -> bool {
    use pg_sys::SQLValueFunctionOp::{SVFOP_CURRENT_ROLE, SVFOP_CURRENT_USER, SVFOP_SESSION_USER, SVFOP_USER};
    [SVFOP_CURRENT_ROLE, SVFOP_CURRENT_USER, SVFOP_USER, SVFOP_SESSION_USER].contains(&function)
}

unsafe fn is_current_setting(call: *mut pg_sys::FuncExpr) -> bool {
    // SAFETY: the caller looked at the tag.
    let function = unsafe { (*call).funcid.to_u32() };
    function == pg_sys::F_CURRENT_SETTING_TEXT || function == pg_sys::F_CURRENT_SETTING_TEXT_BOOL
}

/// A setting that is set for each identity, by a constant name.
unsafe fn is_our_setting(call: *mut pg_sys::FuncExpr) -> bool {
    // SAFETY: the function has a first argument, of type text.
    unsafe {
        let arguments = std::slice::from_raw_parts((*(*call).args).elements, (*(*call).args).length as usize);
        let constants: Vec<_> = arguments.iter().map(|cell| cell.ptr_value.cast::<pg_sys::Const>()).collect();
        if constants.iter().any(|c| (**c).xpr.type_ != pg_sys::NodeTag::T_Const || (**c).constisnull) {
            return false;
        }
        let name = CStr::from_ptr(pg_sys::text_to_cstring((*constants[0]).constvalue.cast_mut_ptr()));
        [c"request.jwt.claims", c"role"].iter().any(|ours| ours.to_bytes().eq_ignore_ascii_case(name.to_bytes()))
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn is_untrusted(function: pg_sys::Oid, _context: *mut c_void) -> bool {
    // SAFETY: a syscache look-up.
    let Some((language, volatility)) = (unsafe { language_and_volatility(function) }) else { return true };
    function.to_u32() >= FIRST_USER_OID || language != INTERNAL_LANGUAGE || volatility != b'i'
}

/// Whether a hash function may be called outside of the identity's rights: it is compiled, and only superusers make operator
/// classes.
pub(super) unsafe fn is_compiled(function: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    unsafe { language_and_volatility(function) }.is_some_and(|(l, _)| l == INTERNAL_LANGUAGE || l == C_LANGUAGE)
}

unsafe fn language_and_volatility(function: pg_sys::Oid) -> Option<(u32, u8)> {
    // SAFETY: the tuple is released again; the struct begins behind its header.
    unsafe {
        let zero = pg_sys::Datum::from(0);
        let tuple =
            pg_sys::SearchSysCache(pg_sys::SysCacheIdentifier::PROCOID as i32, function.into(), zero, zero, zero);
        if tuple.is_null() {
            return None;
        }
        let header = (*tuple).t_data;
        let form = header.cast::<u8>().add(usize::from((*header).t_hoff)).cast::<pg_sys::FormData_pg_proc>();
        let found = ((*form).prolang.to_u32(), (*form).provolatile as u8);
        pg_sys::ReleaseSysCache(tuple);
        Some(found)
    }
}
