//! Who is judged for a table without being named.

use super::identities::{self, Identity};
use super::index::{Index, Place};
use super::keys::Arm;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CString;
use std::rc::Rc;

crate::ffi::sql_function!(seat_identities, pg_finfo_seat_identities, seat_ids);
crate::ffi::sql_function!(unseat_identities, pg_finfo_unseat_identities, unseat_ids);

/// The seated identities of one table and role: one plan serves them all, and so does one index.
#[derive(Default)]
pub(super) struct Seats {
    pub(super) members: BTreeMap<i32, Rc<Identity>>,
    index: Option<Index>,
    /// Members that are not in the index yet.
    waiting: BTreeSet<i32>,
}

type Shared = Rc<RefCell<Seats>>;

thread_local! {
    /// By table and role.
    static SEATED: RefCell<HashMap<u32, BTreeMap<CString, Shared>>> = RefCell::new(HashMap::new());
}

impl Seats {
    fn add(&mut self, identity: Rc<Identity>) {
        self.remove(identity.id);
        self.waiting.insert(identity.id);
        self.members.insert(identity.id, identity);
    }

    fn remove(&mut self, id: i32) {
        self.members.remove(&id);
        self.waiting.remove(&id);
        if let Some(index) = &mut self.index {
            index.remove(id);
        }
    }

    /// The index for these arms; begun anew when the policies have others now.
    pub(super) fn index_for(&mut self, arms: &Rc<[Arm]>) -> &mut Index {
        if !self.index.as_ref().is_some_and(|index| index.is_for(arms)) {
            self.waiting = self.members.keys().copied().collect();
            self.index = None;
        }
        self.index.get_or_insert_with(|| Index::new(arms.clone()))
    }

    /// Members that are to be put into the index.
    pub(super) fn waiting(&self) -> Vec<Rc<Identity>> {
        self.waiting.iter().filter_map(|id| self.members.get(id).cloned()).collect()
    }

    /// Puts a waiting member into the index for these arms.
    pub(super) fn place(&mut self, arms: &Rc<[Arm]>, id: i32, places: Option<Vec<Place>>) {
        self.index_for(arms).insert(id, places);
        self.waiting.remove(&id);
    }
}

/// The seats of a table, role by role.
pub(super) fn of(relation: pg_sys::Oid) -> Vec<Shared> {
    SEATED
        .with_borrow(|seated| seated.get(&relation.to_u32()).map(|roles| roles.values().cloned().collect()))
        .unwrap_or_default()
}

fn seat(relation: u32, identity: Rc<Identity>) {
    unseat(relation, identity.id);
    let role = identity.role.clone();
    SEATED.with_borrow_mut(|seated| {
        let seats = seated.entry(relation).or_default().entry(role).or_default();
        seats.borrow_mut().add(identity);
    });
}

fn unseat(relation: u32, id: i32) {
    SEATED.with_borrow_mut(|seated| {
        let Some(roles) = seated.get_mut(&relation) else { return };
        roles.values().for_each(|seats| seats.borrow_mut().remove(id));
        roles.retain(|_, seats| !seats.borrow().members.is_empty());
        if roles.is_empty() {
            seated.remove(&relation);
        }
    });
}

/// The tables that an identity is seated for.
fn tables_of(id: i32) -> Vec<u32> {
    let is_in = |roles: &BTreeMap<CString, Shared>| roles.values().any(|s| s.borrow().members.contains_key(&id));
    SEATED.with_borrow(|seated| seated.iter().filter(|(_, roles)| is_in(roles)).map(|(table, _)| *table).collect())
}

/// Takes an identity from all its seats.
pub(super) fn leave(id: i32) {
    tables_of(id).into_iter().for_each(|table| unseat(table, id));
}

/// An identity that was told anew keeps its seats, with its role and claims of now.
pub(super) fn replace(identity: &Rc<Identity>) {
    tables_of(identity.id).into_iter().for_each(|table| seat(table, identity.clone()));
}

/// `seat(relation, ids)`.
unsafe fn seat_ids(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    super::refuse_while_judging();
    // SAFETY: as `arguments` says.
    let (relation, ids) = unsafe { arguments(call) };
    identities::named(&ids).into_iter().for_each(|identity| seat(relation, identity));
    pg_sys::Datum::from(0)
}

/// `unseat(relation, ids)`.
unsafe fn unseat_ids(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    super::refuse_while_judging();
    // SAFETY: as `arguments` says.
    let (relation, ids) = unsafe { arguments(call) };
    ids.into_iter().for_each(|id| unseat(relation, id));
    pg_sys::Datum::from(0)
}

/// The relation and the numbers of identities that both are called with.
unsafe fn arguments(call: pg_sys::FunctionCallInfo) -> (u32, Vec<i32>) {
    // SAFETY: declared STRICT with (oid, int[]).
    unsafe {
        let argument = |n| pgrx::fcinfo::pg_getarg_datum_raw(call, n);
        (argument(0).value() as u32, identities::ids(argument(1)))
    }
}
