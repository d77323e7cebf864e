//! Claim parameters: what a policy computes from role and claims alone is computed once for each identity and kept.
//!
//! Mostly that is parsing the claims, which costs more than the rest of the judgement, and which a policy asks for again
//! for each row. In the planned statement such an expression is a parameter. It depends on nothing else, so its value
//! stays right for as long as the identity is known.

use super::expressions::{self, Expression};
use super::identities::Identity;
use crate::ffi;
use pgrx::prelude::*;
use std::ffi::c_void;

/// The value of an expression for one identity.
pub(super) struct Value {
    /// `None`: NULL.
    datum: Option<pg_sys::Datum>,
    by_value: bool,
}

impl Drop for Value {
    fn drop(&mut self) {
        if let Some(datum) = self.datum.filter(|_| !self.by_value) {
            // SAFETY: a copy of our own.
            unsafe { pg_sys::pfree(datum.cast_mut_ptr()) };
        }
    }
}

impl Value {
    /// `None`: NULL.
    pub(super) fn datum(&self) -> Option<pg_sys::Datum> {
        self.datum
    }
}

/// Puts parameters in the place of the largest expressions that depend on the identity alone, sub-selects and other tables'
/// policies included. Returns what the parameters stand for, from the first on.
pub(super) unsafe fn substitute(query: &mut *mut pg_sys::Query) -> Vec<usize> {
    let mut expressions: Vec<usize> = Vec::new();
    // SAFETY: the planner's own copy of a query tree; the mutator reads the context only while it runs.
    unsafe {
        // The judged table's policies with functions inlined: what is inside them counts too, here and for the index.
        if let Some(table) = super::keys::judged_table(*query) {
            (*table).securityQuals =
                pg_sys::eval_const_expressions(std::ptr::null_mut(), (*table).securityQuals.cast()).cast();
        }
        *query = mutate((*query).cast(), (&raw mut expressions).cast()).cast();
    }
    expressions
}

#[pg_guard]
unsafe extern "C-unwind" fn mutate(node: *mut pg_sys::Node, context: *mut c_void) -> *mut pg_sys::Node {
    // SAFETY: mutators are called with nodes of the tree or null; the context is `substitute`'s.
    unsafe {
        if node.is_null() {
            return node;
        }
        if (*node).type_ == pg_sys::NodeTag::T_Query {
            return ffi::query_tree_mutator(node.cast(), mutate, context).cast();
        }
        let Some(expression) = identity_expression(node) else {
            return ffi::expression_tree_mutator(node, mutate, context);
        };
        parameter(expressions::keep(expression), &mut *context.cast::<Vec<usize>>())
    }
}

/// A parameter that stands for the expression with this number.
unsafe fn parameter(number: usize, stand_for: &mut Vec<usize>) -> *mut pg_sys::Node {
    let place = stand_for.iter().position(|n| *n == number).unwrap_or_else(|| {
        stand_for.push(number);
        stand_for.len() - 1
    });
    let Expression { type_oid, typmod, collation, .. } = expressions::kept(number);
    // SAFETY: a node of its own.
    unsafe {
        let param = pg_sys::palloc0(std::mem::size_of::<pg_sys::Param>()).cast::<pg_sys::Param>();
        (*param).xpr.type_ = pg_sys::NodeTag::T_Param;
        (*param).paramkind = pg_sys::ParamKind::PARAM_EXTERN;
        (*param).paramid = place as i32 + 1;
        (*param).paramtype = type_oid;
        (*param).paramtypmod = typmod;
        (*param).paramcollid = collation;
        (*param).location = -1;
        param.cast()
    }
}

/// The expression that a node is worth, folded, when that depends on the identity alone and is no constant.
unsafe fn identity_expression(node: *mut pg_sys::Node) -> Option<*mut pg_sys::Node> {
    // SAFETY: a node of an expression tree; folding works on a copy.
    unsafe {
        let expression = if is_candidate((*node).type_) { node } else { selected_alone(node)? };
        let copy = pg_sys::copyObjectImpl(expression.cast()).cast();
        let folded = pg_sys::eval_const_expressions(std::ptr::null_mut(), copy);
        let is_value = (*folded).type_ != pg_sys::NodeTag::T_Const
            && pg_sys::get_typtype(pg_sys::exprType(folded)) as u8 != pg_sys::TYPTYPE_PSEUDO;
        (is_value && expressions::is_of_identity(folded)).then_some(folded)
    }
}

/// Nodes whose value may be worth a parameter.
fn is_candidate(tag: pg_sys::NodeTag) -> bool {
    use pg_sys::NodeTag as T;
    matches!(
        tag,
        T::T_FuncExpr
            | T::T_OpExpr
            | T::T_DistinctExpr
            | T::T_NullIfExpr
            | T::T_ScalarArrayOpExpr
            | T::T_BoolExpr
            | T::T_RelabelType
            | T::T_CoerceViaIO
            | T::T_ArrayCoerceExpr
            | T::T_CaseExpr
            | T::T_ArrayExpr
            | T::T_CoalesceExpr
            | T::T_SQLValueFunction
            | T::T_NullTest
            | T::T_BooleanTest
    )
}

/// The expression of `(select e)`, without FROM and anything else.
unsafe fn selected_alone(node: *mut pg_sys::Node) -> Option<*mut pg_sys::Node> {
    // SAFETY: nodes are cast by their tags; a query's lists are null when empty.
    unsafe {
        let link = node.cast::<pg_sys::SubLink>();
        if (*node).type_ != pg_sys::NodeTag::T_SubLink || (*link).subLinkType != pg_sys::SubLinkType::EXPR_SUBLINK {
            return None;
        }
        let query = (*link).subselect.cast::<pg_sys::Query>();
        let q = &*query;
        let has_more = q.hasAggs || q.hasWindowFuncs || q.hasTargetSRFs || q.hasSubLinks;
        let lists =
            [q.cteList, q.rtable, q.groupClause, q.groupingSets, q.distinctClause, q.windowClause, q.sortClause];
        let nodes = [q.havingQual, q.limitOffset, q.limitCount, q.setOperations, (*q.jointree).quals];
        let is_alone = q.commandType == pg_sys::CmdType::CMD_SELECT
            && !has_more
            && lists.iter().all(|list| list.is_null())
            && nodes.iter().all(|node| node.is_null())
            && (*q.jointree).fromlist.is_null()
            && !q.targetList.is_null()
            && (*q.targetList).length == 1;
        let target = is_alone.then(|| (*(*q.targetList).elements).ptr_value.cast::<pg_sys::TargetEntry>())?;
        Some((*target).expr.cast())
    }
}

/// The values of these expressions for an identity, whose role and claims are assumed. `None`: one of them could not be
/// computed, and whether that matters only the statement itself can say.
pub(super) unsafe fn bind(identity: &Identity, expressions: &[usize]) -> Option<pg_sys::ParamListInfo> {
    if expressions.is_empty() {
        return Some(std::ptr::null_mut());
    }
    // SAFETY: the list has a place for each value; the values stay with the identity.
    unsafe {
        expressions.iter().for_each(|number| compute(identity, *number));
        let values = identity.values.borrow();
        let list = pg_sys::makeParamList(expressions.len() as i32);
        let places = (*list).params.as_mut_ptr();
        for (n, number) in expressions.iter().enumerate() {
            let value = values.get(number)?.as_ref()?;
            *places.add(n) = pg_sys::ParamExternData {
                value: value.datum.unwrap_or(pg_sys::Datum::from(0)),
                isnull: value.datum.is_none(),
                pflags: pg_sys::PARAM_FLAG_CONST as u16,
                ptype: expressions::kept(*number).type_oid,
            };
        }
        Some(list)
    }
}

/// Computes an expression for an identity, whose role and claims are assumed, unless that was done or has failed before.
pub(super) unsafe fn compute(identity: &Identity, number: usize) {
    if identity.values.borrow().contains_key(&number) {
        return;
    }
    // Stays when it raises.
    identity.values.borrow_mut().insert(number, None);
    // SAFETY: evaluated by the executor in memory that goes; the value is copied.
    let value = unsafe { evaluate(&expressions::kept(number)) };
    identity.values.borrow_mut().insert(number, Some(value));
}

unsafe fn evaluate(expression: &Expression) -> Value {
    // SAFETY: an expression without columns needs no row.
    unsafe {
        let state = pg_sys::CreateExecutorState();
        let prepared = pg_sys::ExecPrepareExpr(expression.node.cast(), state);
        let context = pg_sys::MakePerTupleExprContext(state);
        let found = ffi::evaluate(prepared, context);
        let by_value = expression.by_value;
        let before = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let datum = found.map(|datum| ffi::datumCopy(datum, by_value, i32::from(expression.length)));
        pg_sys::MemoryContextSwitchTo(before);
        pg_sys::FreeExecutorState(state);
        Value { datum, by_value }
    }
}
