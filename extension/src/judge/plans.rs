//! Plans of `select from only s.t`: one for each table and role, kept until something that they depend on may have changed.

use super::identities::Identity;
use super::images::{Batch, Images};
use super::keys::{self, Arm};
use super::params;
use super::scan::Over;
use super::shareable;
use crate::array;
use crate::schema;
use crate::statement;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::rc::Rc;

/// What planning found out about a statement.
#[derive(Default)]
pub(super) struct Shape {
    /// May serve one identity only: the planner may have computed something from the claims.
    is_personal: bool,
    /// What its parameters stand for.
    expressions: Vec<usize>,
    /// What a row must have in common with an identity that sees it; `None` when nothing can be said.
    keys: Option<Rc<[Arm]>>,
}

impl Shape {
    /// Looks at the rewritten statement, and puts parameters into it where expressions depend on the identity alone.
    pub(super) unsafe fn of(query: &mut *mut pg_sys::Query, is_plain: bool) -> Self {
        // SAFETY: the planner's own copy of a query tree.
        unsafe {
            if !shareable::is_shareable(*query) {
                return Self { is_personal: true, ..Self::default() };
            }
            if is_plain {
                return Self::default();
            }
            let expressions = params::substitute(query);
            let keys = keys::of(*query, &expressions).map(Rc::from);
            Self { is_personal: false, expressions, keys }
        }
    }
}

/// A plan is for one table and role, and for images that lack these attributes; a plain one has no parameters.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    relation: u32,
    role: CString,
    hidden: Rc<[i32]>,
    is_plain: bool,
}

#[derive(Default)]
struct Plans {
    /// The generation of the catalog that they were made in.
    made_in: u64,
    plans: HashMap<Key, Rc<Plan>>,
    /// Those that cannot be made, for anybody: a policy reads what the images do not hold.
    refused: HashSet<Key>,
}

thread_local! {
    static PLANS: RefCell<Plans> = RefCell::default();
}

/// A prepared statement.
pub(super) struct Plan {
    prepared: pg_sys::SPIPlanPtr,
    shape: RefCell<Shape>,
    key: Key,
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: a saved plan; the last user is gone.
        unsafe { pg_sys::SPI_freeplan(self.prepared) };
    }
}

/// What is judged: a table's rows.
pub(super) struct Statement<'a> {
    relation: pg_sys::Oid,
    text: CString,
    pub(super) images: &'a Images,
}

impl<'a> Statement<'a> {
    /// `select from only s.t`: it needs SELECT on any one column, and the policies decide on rows.
    pub(super) unsafe fn of(relation: pg_sys::Relation, images: &'a Images) -> Self {
        // SAFETY: the relation is open; catalog look-ups; quoted by Postgres.
        unsafe {
            let schema = pg_sys::get_namespace_name((*(*relation).rd_rel).relnamespace);
            let name = pg_sys::quote_qualified_identifier(schema, (*(*relation).rd_rel).relname.data.as_ptr());
            let mut text = b"select from only ".to_vec();
            text.extend_from_slice(CStr::from_ptr(name).to_bytes());
            Self { relation: (*relation).rd_id, text: array::c_string(&text), images }
        }
    }

    fn key(&self, role: &CStr, batch: &Batch, is_plain: bool) -> Key {
        Key { relation: self.relation.to_u32(), role: role.into(), hidden: batch.hidden.clone(), is_plain }
    }

    /// Which of the batch's rows the identity sees, whose role and claims are assumed; `None`: images like these cannot be
    /// judged. A plain run computes everything in its place and turn, as the statement by itself would.
    pub(super) unsafe fn hits(&self, batch: &Batch, identity: &Identity, is_plain: bool) -> Option<Vec<usize>> {
        // SAFETY: the plan is held while it runs; the role is assumed by the caller.
        unsafe {
            let plan = self.plan(self.key(&identity.role, batch, is_plain))?;
            let over = Over::new(plan.text(), self.images, batch, is_plain);
            let cached = plan.cached();
            let shape = plan.shape.borrow();
            let Some(params) = params::bind(identity, &shape.expressions) else {
                pg_sys::ReleaseCachedPlan(cached, pg_sys::CurrentResourceOwner);
                drop(over);
                return self.hits(batch, identity, true);
            };
            let hits = run(cached, plan.text(), params);
            pg_sys::ReleaseCachedPlan(cached, pg_sys::CurrentResourceOwner);
            if shape.is_personal {
                forget(&plan.key);
            }
            Some(hits)
        }
    }

    /// What `keys` would say, where there is a plan that nothing has made invalid; nobody has to be assumed for that.
    pub(super) unsafe fn known_keys(&self, batch: &Batch, role: &CStr) -> Option<Option<Rc<[Arm]>>> {
        forget_old();
        let plan = PLANS.with_borrow(|plans| plans.plans.get(&self.key(role, batch, false)).cloned())?;
        // SAFETY: a saved plan; its parts are valid as long as it is.
        unsafe {
            let source = &*plan.source();
            let is_valid = source.is_valid && source.gplan.as_ref().is_some_and(|generic| generic.is_valid);
            is_valid.then(|| plan.shape.borrow().keys.clone())
        }
    }

    /// What rows must have in common with those of this role who see them. The role is assumed by the caller.
    pub(super) unsafe fn keys(&self, batch: &Batch, identity: &Identity) -> Option<Rc<[Arm]>> {
        // SAFETY: as above.
        unsafe {
            let plan = self.plan(self.key(&identity.role, batch, false))?;
            let _over = Over::new(plan.text(), self.images, batch, false);
            pg_sys::ReleaseCachedPlan(plan.cached(), pg_sys::CurrentResourceOwner);
            let shape = plan.shape.borrow();
            if shape.is_personal {
                forget(&plan.key);
            }
            shape.keys.clone()
        }
    }

    /// After an error: a plan is never kept, and one that was refused is not tried again.
    pub(super) fn failed(&self, batch: &Batch, identity: &Identity) {
        let is_refused = Over::take_refused();
        for is_plain in [false, true] {
            let key = self.key(&identity.role, batch, is_plain);
            forget(&key);
            if is_refused {
                PLANS.with_borrow_mut(|plans| plans.refused.insert(key));
            }
        }
    }

    /// `None`: there can be no such plan.
    unsafe fn plan(&self, key: Key) -> Option<Rc<Plan>> {
        // SAFETY: prepared as the role that is assumed.
        unsafe {
            forget_old();
            let (known, is_refused) =
                PLANS.with_borrow(|plans| (plans.plans.get(&key).cloned(), plans.refused.contains(&key)));
            if is_refused || known.is_some() {
                return known;
            }
            schema::watch_relation(self.relation);
            let options = pg_sys::CURSOR_OPT_GENERIC_PLAN as i32;
            let prepared = pg_sys::SPI_prepare_cursor(self.text.as_ptr(), 0, std::ptr::null_mut(), options);
            if prepared.is_null() || pg_sys::SPI_keepplan(prepared) != 0 {
                error!("the statement for a judgement could not be prepared");
            }
            let plan = Rc::new(Plan { prepared, shape: RefCell::default(), key: key.clone() });
            PLANS.with_borrow_mut(|plans| plans.plans.insert(key, plan.clone()));
            Some(plan)
        }
    }
}

impl Plan {
    unsafe fn source(&self) -> *mut pg_sys::CachedPlanSource {
        // SAFETY: a saved plan of one statement.
        unsafe { (*(*pg_sys::SPI_plan_get_plan_sources(self.prepared)).elements).ptr_value.cast() }
    }

    /// By its address the planner's hook knows that the statement is ours.
    unsafe fn text(&self) -> *const std::ffi::c_char {
        // SAFETY: as above.
        unsafe { (*self.source()).query_string }
    }

    /// The plan, made anew when something it depends on has changed. The current resource owner holds it.
    unsafe fn cached(&self) -> *mut pg_sys::CachedPlan {
        // SAFETY: no parameters are needed for a generic plan.
        unsafe {
            Over::take_planned();
            let (none, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
            let cached = pg_sys::GetCachedPlan(self.source(), none, pg_sys::CurrentResourceOwner, nothing);
            if let Some(shape) = Over::take_planned() {
                self.shape.replace(shape);
            }
            cached
        }
    }
}

/// No plan outlives a change of the catalog that may concern it.
fn forget_old() {
    let generation = schema::generation();
    if PLANS.with_borrow(|plans| plans.made_in != generation) {
        PLANS.replace(Plans { made_in: generation, ..Plans::default() });
    }
}

fn forget(key: &Key) {
    PLANS.with_borrow_mut(|plans| plans.plans.remove(key));
}

/// The images that are seen. Of the statement's rows only which image they came from matters.
unsafe fn run(
    cached: *mut pg_sys::CachedPlan,
    text: *const std::ffi::c_char,
    params: pg_sys::ParamListInfo,
) -> Vec<usize> {
    let mut hits = Vec::new();
    // SAFETY: a plan of one statement, in the subtransaction of its identity.
    unsafe {
        let plan = (*(*(*cached).stmt_list).elements).ptr_value.cast();
        statement::run(plan, text, params, 0, |_| hits.push(Over::current()));
    }
    hits
}
