//! The index of seated identities: who may see a row, found by hashes.
//!
//! With ten thousand subscribers and a row that one of them may see, one is judged.

use super::identities::Identity;
use super::images::{Images, Row};
use super::keys::{Arm, Equality};
use super::{expressions, params, scan};
use crate::{array, ffi};
use pgrx::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

/// An arm, by its place, and a hash of what it compares.
pub(super) type Place = (usize, u32);

/// Who is a candidate for which rows.
pub(super) struct Index {
    arms: Rc<[Arm]>,
    places: HashMap<Place, BTreeSet<i32>>,
    /// Where each identity is.
    of: HashMap<i32, Vec<Place>>,
    /// Candidates for every row: those whose claims could not be computed, and those who have what an identity must have.
    always: BTreeSet<i32>,
}

/// Who may see a row.
pub(super) enum Candidates {
    Everybody,
    These(BTreeSet<i32>),
}

impl Index {
    pub(super) fn new(arms: Rc<[Arm]>) -> Self {
        Self { arms, places: HashMap::new(), of: HashMap::new(), always: BTreeSet::new() }
    }

    /// Whether it was made for these arms.
    pub(super) fn is_for(&self, arms: &[Arm]) -> bool {
        *self.arms == *arms
    }

    /// `None`: a candidate always.
    pub(super) fn insert(&mut self, id: i32, places: Option<Vec<Place>>) {
        let Some(places) = places else {
            self.always.insert(id);
            return;
        };
        for place in &places {
            self.places.entry(*place).or_default().insert(id);
        }
        self.of.insert(id, places);
    }

    pub(super) fn remove(&mut self, id: i32) {
        self.always.remove(&id);
        for place in self.of.remove(&id).unwrap_or_default() {
            if let Some(ids) = self.places.get_mut(&place) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.places.remove(&place);
                }
            }
        }
    }

    /// The candidates for each of these rows. Calls hash functions and trusted conditions, which may raise.
    pub(super) unsafe fn candidates(
        &self,
        descriptor: pg_sys::TupleDesc,
        images: &Images,
        rows: &[usize],
    ) -> Vec<Candidates> {
        // SAFETY: the rows are of the descriptor.
        unsafe {
            let conditions = Conditions::new(&self.arms, descriptor);
            rows.iter()
                .filter_map(|n| images.row(*n))
                .map(|row| if conditions.hold(row) { Candidates::Everybody } else { self.of_row(row) })
                .collect()
        }
    }

    unsafe fn of_row(&self, row: &Row) -> Candidates {
        let mut ids = self.always.clone();
        for (n, arm) in self.arms.iter().enumerate() {
            let Arm::Equal(equality) = arm else { continue };
            // A column that is NULL equals nothing.
            if row.nulls.get(equality.column) != Some(&false) {
                continue;
            }
            // SAFETY: the column's value and the operator's hash function for it.
            let hash = unsafe { hash(equality.column_hash, equality.collation, row.values[equality.column]) };
            ids.extend(self.places.get(&(n, hash)).into_iter().flatten());
        }
        Candidates::These(ids)
    }
}

/// Where an identity belongs, whose role and claims are assumed; `None`: it is a candidate always. May raise.
pub(super) unsafe fn places(arms: &[Arm], identity: &Identity) -> Option<Vec<Place>> {
    let mut places = Vec::new();
    for (n, arm) in arms.iter().enumerate() {
        let claim = match arm {
            Arm::Row(_) => continue,
            Arm::Identity(claim) | Arm::Equal(Equality { claim, .. }) => *claim,
        };
        // SAFETY: the caller has assumed the identity.
        unsafe { params::compute(identity, claim) };
        let values = identity.values.borrow();
        let Some(datum) = values.get(&claim)?.as_ref()?.datum() else { continue };
        match arm {
            Arm::Identity(_) if datum.value() as u8 != 0 => return None,
            // SAFETY: the claim's value is of the type that the hash function is for.
            Arm::Equal(equality) => unsafe { places.extend(hashes(equality, datum).into_iter().map(|hash| (n, hash))) },
            _ => {}
        }
    }
    Some(places)
}

/// The hashes of a claim: one, or one for each element.
unsafe fn hashes(equality: &Equality, datum: pg_sys::Datum) -> Vec<u32> {
    // SAFETY: passed on.
    unsafe {
        let hash = |value| hash(equality.claim_hash, equality.collation, value);
        if equality.is_any { array::any_elements(datum).into_iter().map(hash).collect() } else { vec![hash(datum)] }
    }
}

unsafe fn hash(function: pg_sys::Oid, collation: pg_sys::Oid, value: pg_sys::Datum) -> u32 {
    // SAFETY: a hash function of one argument.
    unsafe { pg_sys::OidFunctionCall1Coll(function, collation, value).value() as u32 }
}

/// The arms that concern the row alone, ready to be asked.
struct Conditions {
    slot: *mut pg_sys::TupleTableSlot,
    context: *mut pg_sys::ExprContext,
    prepared: Vec<*mut pg_sys::ExprState>,
}

impl Conditions {
    /// Lives in the current memory context.
    unsafe fn new(arms: &[Arm], descriptor: pg_sys::TupleDesc) -> Self {
        let numbers: Vec<usize> =
            arms.iter().filter_map(|arm| if let Arm::Row(number) = arm { Some(*number) } else { None }).collect();
        let none = Self { slot: std::ptr::null_mut(), context: std::ptr::null_mut(), prepared: Vec::new() };
        if numbers.is_empty() {
            return none;
        }
        // SAFETY: executor state that goes with the memory context.
        unsafe {
            let state = pg_sys::CreateExecutorState();
            let prepare = |n: &usize| pg_sys::ExecPrepareExpr(expressions::kept(*n).node.cast(), state);
            let prepared = numbers.iter().map(prepare).collect();
            let slot = pg_sys::MakeSingleTupleTableSlot(descriptor, &raw const pg_sys::TTSOpsVirtual);
            let context = pg_sys::MakePerTupleExprContext(state);
            (*context).ecxt_scantuple = slot;
            Self { slot, context, prepared }
        }
    }

    /// Whether any of them is true of the row.
    unsafe fn hold(&self, row: &Row) -> bool {
        if self.prepared.is_empty() {
            return false;
        }
        // SAFETY: the slot is of the row's descriptor.
        unsafe {
            scan::store(self.slot, row);
            self.prepared
                .iter()
                .any(|condition| ffi::evaluate(*condition, self.context).is_some_and(|value| value.value() as u8 != 0))
        }
    }
}

impl Drop for Conditions {
    fn drop(&mut self) {
        if !self.slot.is_null() {
            // SAFETY: made by `new`; it holds on to the descriptor.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
        }
    }
}
