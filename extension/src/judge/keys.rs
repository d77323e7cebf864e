//! What a row must have in common with an identity for the policies to let that identity see it.
//!
//! The keys of a condition P are any set with: P is true, so some key holds. They only find candidates, and each candidate
//! is judged. So what is not understood may be left out of an AND, and makes an OR have no keys at all.

use super::expressions;
use pgrx::prelude::*;

/// One way to see a row. Expressions go by their numbers.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Arm {
    /// `column = claim`, or `column = any (claim)`.
    Equal(Equality),
    /// Something about the row alone: everybody is a candidate where it holds.
    Row(usize),
    /// Something about the identity alone: who has it is a candidate always.
    Identity(usize),
}

/// A comparison of a column and a claim by hashes.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Equality {
    /// Position of the column, from 0.
    pub(super) column: usize,
    /// The number of the claim's expression.
    pub(super) claim: usize,
    /// The claim is an array, and any of its elements will do.
    pub(super) is_any: bool,
    pub(super) collation: pg_sys::Oid,
    /// The operator's own hash functions: values of either side that are equal by it have equal hashes.
    pub(super) column_hash: pg_sys::Oid,
    pub(super) claim_hash: pg_sys::Oid,
}

impl Arm {
    /// What it costs to have in an index; the cheapest arms of an AND are taken.
    fn cost(&self) -> u32 {
        match self {
            Self::Equal(equality) if equality.is_any => 2,
            Self::Equal(_) => 1,
            Self::Identity(_) => 10,
            Self::Row(_) => 100,
        }
    }
}

/// The one table of the statement.
pub(super) unsafe fn judged_table(query: *mut pg_sys::Query) -> Option<*mut pg_sys::RangeTblEntry> {
    // SAFETY: a query tree; its list of tables is null when empty.
    unsafe {
        let tables = (*query).rtable;
        (!tables.is_null()).then(|| (*(*tables).elements).ptr_value.cast())
    }
}

/// The keys of the policies in a rewritten statement whose parameters stand for these expressions. `None`: all identities
/// are candidates for all rows.
pub(super) unsafe fn of(query: *mut pg_sys::Query, parameters: &[usize]) -> Option<Vec<Arm>> {
    // SAFETY: a query tree.
    unsafe {
        let policies = (*judged_table(query)?).securityQuals;
        (!policies.is_null()).then(|| arms(policies.cast(), parameters)).flatten()
    }
}

unsafe fn arms(node: *mut pg_sys::Node, parameters: &[usize]) -> Option<Vec<Arm>> {
    use pg_sys::NodeTag as T;
    // SAFETY: nodes are cast by their tags.
    unsafe {
        let found = match (*node).type_ {
            T::T_List => cheapest(node.cast(), parameters),
            T::T_BoolExpr => {
                let node = node.cast::<pg_sys::BoolExpr>();
                match (*node).boolop {
                    pg_sys::BoolExprType::AND_EXPR => cheapest((*node).args, parameters),
                    pg_sys::BoolExprType::OR_EXPR => union((*node).args, parameters),
                    _ => None,
                }
            }
            T::T_Const => return is_never(node.cast()).then(Vec::new),
            T::T_Param => parameter(node, parameters).map(|claim| vec![Arm::Identity(claim)]),
            T::T_OpExpr => {
                let e = node.cast::<pg_sys::OpExpr>();
                equality((*e).opno, (*e).inputcollid, (*e).args, parameters)
            }
            T::T_ScalarArrayOpExpr => equal_any(node.cast(), parameters),
            _ => None,
        };
        found.or_else(|| expressions::is_row_condition(node).then(|| vec![Arm::Row(expressions::keep(node))]))
    }
}

unsafe fn nodes<'a>(list: *mut pg_sys::List) -> &'a [pg_sys::ListCell] {
    // SAFETY: a list of nodes, or null.
    unsafe { if list.is_null() { &[] } else { std::slice::from_raw_parts((*list).elements, (*list).length as usize) } }
}

/// Of an AND every arm must hold, so any will do.
unsafe fn cheapest(list: *mut pg_sys::List, parameters: &[usize]) -> Option<Vec<Arm>> {
    // SAFETY: a list of conditions.
    let each = unsafe { nodes(list).iter().filter_map(|cell| arms(cell.ptr_value.cast(), parameters)) };
    each.min_by_key(|arms| arms.iter().map(Arm::cost).sum::<u32>())
}

/// Of an OR any arm may hold, so all are needed.
unsafe fn union(list: *mut pg_sys::List, parameters: &[usize]) -> Option<Vec<Arm>> {
    let mut all = Vec::new();
    // SAFETY: a list of conditions.
    unsafe {
        for cell in nodes(list) {
            for arm in arms(cell.ptr_value.cast(), parameters)? {
                if !all.contains(&arm) {
                    all.push(arm);
                }
            }
        }
    }
    Some(all)
}

unsafe fn is_never(constant: *mut pg_sys::Const) -> bool {
    // SAFETY: a boolean constant.
    unsafe { (*constant).constisnull || (*constant).constvalue.value() as u8 == 0 }
}

/// What a parameter stands for.
unsafe fn parameter(node: *mut pg_sys::Node, parameters: &[usize]) -> Option<usize> {
    // SAFETY: cast by its tag.
    unsafe {
        let param = node.cast::<pg_sys::Param>();
        let is_ours =
            (*node).type_ == pg_sys::NodeTag::T_Param && (*param).paramkind == pg_sys::ParamKind::PARAM_EXTERN;
        is_ours.then(|| parameters.get(usize::try_from((*param).paramid).ok()?.checked_sub(1)?).copied()).flatten()
    }
}

/// The position of a column of the judged table, seen as another type of the same bytes at most.
unsafe fn column(mut node: *mut pg_sys::Node) -> Option<usize> {
    // SAFETY: nodes are cast by their tags.
    unsafe {
        while (*node).type_ == pg_sys::NodeTag::T_RelabelType {
            node = (*node.cast::<pg_sys::RelabelType>()).arg.cast();
        }
        let var = node.cast::<pg_sys::Var>();
        let is_column = (*node).type_ == pg_sys::NodeTag::T_Var && (*var).varno == 1 && (*var).varlevelsup == 0;
        is_column.then(|| usize::try_from((*var).varattno).ok()?.checked_sub(1)).flatten()
    }
}

/// `column = claim` or `claim = column`, by an operator that hash joins may use.
unsafe fn equality(
    operator: pg_sys::Oid,
    collation: pg_sys::Oid,
    sides: *mut pg_sys::List,
    parameters: &[usize],
) -> Option<Vec<Arm>> {
    // SAFETY: two operands; catalog look-ups.
    unsafe {
        let [left, right] = nodes(sides) else { return None };
        let (left, right) = (left.ptr_value.cast::<pg_sys::Node>(), right.ptr_value.cast::<pg_sys::Node>());
        let (left_hash, right_hash) = hashes(operator, pg_sys::exprType(left))?;
        let arm = if let (Some(column), Some(claim)) = (column(left), parameter(right, parameters)) {
            Equality { column, claim, is_any: false, collation, column_hash: left_hash, claim_hash: right_hash }
        } else {
            let (column, claim) = (column(right)?, parameter(left, parameters)?);
            Equality { column, claim, is_any: false, collation, column_hash: right_hash, claim_hash: left_hash }
        };
        Some(vec![Arm::Equal(arm)])
    }
}

/// `column = any (claim)`.
unsafe fn equal_any(node: *mut pg_sys::ScalarArrayOpExpr, parameters: &[usize]) -> Option<Vec<Arm>> {
    // SAFETY: two operands; catalog look-ups.
    unsafe {
        let [left, right] = nodes((*node).args) else { return None };
        let left = left.ptr_value.cast::<pg_sys::Node>();
        let (column, claim) = (column(left)?, parameter(right.ptr_value.cast(), parameters)?);
        let (column_hash, claim_hash) = hashes((*node).opno, pg_sys::exprType(left))?;
        let collation = (*node).inputcollid;
        let arm = Equality { column, claim, is_any: true, collation, column_hash, claim_hash };
        (*node).useOr.then(|| vec![Arm::Equal(arm)])
    }
}

/// The hash functions of both sides, when the operator is strict and equality by it means equal hashes.
unsafe fn hashes(operator: pg_sys::Oid, left: pg_sys::Oid) -> Option<(pg_sys::Oid, pg_sys::Oid)> {
    // SAFETY: catalog look-ups.
    unsafe {
        let (mut left_hash, mut right_hash) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
        let is_usable = pg_sys::op_strict(operator)
            && pg_sys::op_hashjoinable(operator, left)
            && pg_sys::get_op_hash_functions(operator, &mut left_hash, &mut right_hash)
            && expressions::is_compiled(left_hash)
            && expressions::is_compiled(right_hash);
        is_usable.then_some((left_hash, right_hash))
    }
}
