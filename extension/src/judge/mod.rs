//! Verdicts: which identities see which row images, by the table's own grants and policies. Declared in `sql/judge.sql`.
//!
//! Policies are never parsed or evaluated by us. The real statement is planned as the role, and only its scan node is
//! ours ([`scan`]). Identities (role and claims) are told once per backend and named by number from then on.

mod activity;
mod identities;
mod images;
mod scan;
mod shareable;

use crate::identity::{self, Caller};
use crate::schema::{self, Schema};
use crate::{array, caught};
use activity::Activity;
use identities::Identity;
use images::{Images, Stored};
use pgrx::prelude::*;
use scan::Over;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::rc::Rc;

crate::ffi::sql_function!(judge_images, pg_finfo_judge_images, judge);

/// A plan is for one table and role, and for images that lack these attributes.
type PlanKey = (u32, CString, Vec<i32>);
type Plans = HashMap<PlanKey, pg_sys::SPIPlanPtr>;

thread_local! {
    /// A judgement is running. A policy's function that asks for another one would free the plan being run.
    static JUDGING: Cell<bool> = const { Cell::new(false) };
    static PLANS: RefCell<(u64, Plans)> = RefCell::new((0, HashMap::new()));
}

/// `_judge(relation, layouts, flags, olds, news, identities)`: who sees anything, and their verdicts.
unsafe fn judge(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    let _judging = Judging::begin();
    // SAFETY: as declared in sql/judge.sql, only the identities may be NULL; the relation is closed again, its lock kept.
    unsafe {
        let argument = |n| pgrx::fcinfo::pg_getarg_datum_raw(call, n);
        let relation = pg_sys::Oid::from(argument(0).value() as u32);
        let identities = match pgrx::fcinfo::pg_getarg_datum(call, 5) {
            Some(ids) => identities::named(&identities::ids(ids)),
            None => identities::seated(relation),
        };
        let Some(schema) = Schema::current() else { error!("extension realtime is not there") };
        scan::install();
        let relation = pg_sys::table_open(relation, pg_sys::AccessShareLock as i32);
        let stored = stored(argument(1), argument(2), argument(3), argument(4));
        let mut images = Images::new(relation, &schema, &stored);
        pg_sys::SPI_connect();
        let seen = Court::of(relation).judge(&mut images, &identities);
        pg_sys::SPI_finish();
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        answer(call, &seen)
    }
}

/// An identity that sees something, or on which there is no verdict; with all its verdicts.
struct Seen {
    id: i32,
    verdicts: Vec<u8>,
}

/// The row of two arrays that `_judge` returns.
unsafe fn answer(call: pg_sys::FunctionCallInfo, seen: &[Seen]) -> pg_sys::Datum {
    // SAFETY: declared with these two columns.
    unsafe {
        let mut descriptor = std::ptr::null_mut();
        pg_sys::get_call_result_type(call, std::ptr::null_mut(), &mut descriptor);
        let descriptor = pg_sys::BlessTupleDesc(descriptor);
        let mut ids: Vec<pg_sys::Datum> = seen.iter().map(|s| pg_sys::Datum::from(s.id)).collect();
        let mut verdicts: Vec<pg_sys::Datum> = seen.iter().map(|s| array::text(&s.verdicts)).collect();
        let mut values = [array::build(array::INT4, &mut ids), array::build(array::TEXT, &mut verdicts)];
        let tuple = pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), [false; 2].as_mut_ptr());
        pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
}

/// A policy's function must not change who is judged while judgement is being passed.
fn refuse_while_judging() {
    if JUDGING.get() {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "a policy must not call realtime.judge() or tell it identities"
        );
    }
}

/// While it lives, no other judgement begins.
struct Judging;

impl Judging {
    fn begin() -> Self {
        refuse_while_judging();
        JUDGING.set(true);
        Self
    }
}

impl Drop for Judging {
    fn drop(&mut self) {
        JUDGING.set(false);
    }
}

/// The images of the log's rows: old and new of each event, in turn.
unsafe fn stored<'a>(
    layouts: pg_sys::Datum,
    flags: pg_sys::Datum,
    olds: pg_sys::Datum,
    news: pg_sys::Datum,
) -> Vec<Stored<'a>> {
    // SAFETY: arrays of one length, as realtime.judge() builds them.
    unsafe {
        let layouts = array::elements(array::INT8, layouts);
        let flags = array::elements(array::INT2, flags);
        let (olds, news) = (array::nullable(array::BYTEA, olds), array::nullable(array::BYTEA, news));
        let bytes = |datum: Option<pg_sys::Datum>| {
            datum.map(|d| pgrx::varlena_to_byte_slice(pg_sys::pg_detoast_datum_packed(d.cast_mut_ptr())))
        };
        let mut stored = Vec::with_capacity(layouts.len() * 2);
        for (n, layout) in layouts.iter().enumerate() {
            let (layout, flags) = (layout.value() as i64, flags[n].value() as i16);
            stored.push(Stored { layout, bytes: bytes(olds[n]), is_partial: flags & crate::capture::OLD_IS_KEY != 0 });
            stored.push(Stored { layout, bytes: bytes(news[n]), is_partial: flags & crate::capture::NEW_IS_KEY != 0 });
        }
        stored
    }
}

/// `select from only s.t`: it needs SELECT on any one column, and the policies decide on rows.
unsafe fn statement(relation: pg_sys::Relation) -> CString {
    // SAFETY: catalog look-ups; quoted by Postgres.
    unsafe {
        let schema = pg_sys::get_namespace_name((*(*relation).rd_rel).relnamespace);
        let name = pg_sys::quote_qualified_identifier(schema, (*(*relation).rd_rel).relname.data.as_ptr());
        let mut text = b"select from only ".to_vec();
        text.extend_from_slice(CStr::from_ptr(name).to_bytes());
        array::c_string(&text)
    }
}

/// One judgement.
struct Court {
    relation: pg_sys::Oid,
    statement: CString,
    caller: Caller,
    activity: Activity,
}

impl Court {
    unsafe fn of(relation: pg_sys::Relation) -> Self {
        // SAFETY: the relation is open.
        unsafe {
            let (oid, statement) = ((*relation).rd_id, statement(relation));
            Self { relation: oid, statement, caller: Caller::current(), activity: Activity::begin() }
        }
    }

    /// The verdicts of those identities who see anything.
    ///
    /// Many in one subtransaction; where one fails, that one is judged by itself, and where that fails, each row by
    /// itself: one subscriber's failing policy denies that subscriber alone, and only the rows it fails on.
    unsafe fn judge(&self, images: &mut Images, identities: &[Rc<Identity>]) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut rest = identities;
        while !rest.is_empty() {
            let mut done = 0;
            // SAFETY: SPI is connected; every run is in a subtransaction that is rolled back.
            unsafe {
                let finished = self.apart(|| {
                    for identity in rest {
                        let hits = self.hits(images, identity);
                        seen.extend(Self::seen(images, identity, |n| verdict(hits[n])));
                        done += 1;
                    }
                });
                rest = &rest[done..];
                if let (None, Some((failed, others))) = (finished, rest.split_first()) {
                    seen.extend(self.alone(images, failed));
                    rest = others;
                }
            }
        }
        seen
    }

    unsafe fn alone(&self, images: &mut Images, identity: &Identity) -> Option<Seen> {
        // SAFETY: as above.
        unsafe {
            if let Some(hits) = self.apart(|| self.hits(images, identity)) {
                return Self::seen(images, identity, |n| verdict(hits[n]));
            }
            let each: Vec<u8> = (0..images.len())
                .map(|n| {
                    let one = images.only(n);
                    self.apart(|| self.hits(&one, identity)).map_or(b'e', |hits| verdict(hits[0]))
                })
                .collect();
            Self::seen(images, identity, |n| each[n])
        }
    }

    /// Nothing for those who see nothing: most see nothing of most events.
    fn seen(images: &Images, identity: &Identity, of: impl Fn(usize) -> u8) -> Option<Seen> {
        let verdicts = images.verdicts(of);
        verdicts.iter().any(|v| matches!(v, b'1' | b'e')).then_some(Seen { id: identity.id, verdicts })
    }

    /// Runs in a subtransaction that is rolled back; `None` when it failed.
    unsafe fn apart<T>(&self, run: impl FnOnce() -> T) -> Option<T> {
        // SAFETY: as above.
        unsafe {
            match identity::in_rolled_back_subtransaction(&self.caller, run) {
                Ok(value) => Some(value),
                Err(error) if caught::is_cancel(&error) => error.rethrow(),
                Err(_) => {
                    forget_plans();
                    None
                }
            }
        }
    }

    /// Which of the rows this identity sees.
    unsafe fn hits(&self, images: &Images, identity: &Identity) -> Vec<bool> {
        // SAFETY: the settings of this identity end with the nest level.
        unsafe {
            let nest = pg_sys::NewGUCNestLevel();
            self.activity.judging(identity.id);
            identity::assume(&self.caller, &identity.role, &identity.claims, c"");
            let key = (self.relation.to_u32(), identity.role.clone(), images.hidden());
            let hits = run(self.plan(&key), images);
            if Over::take_personal() {
                forget_plan(&key);
            }
            pg_sys::AtEOXact_GUC(false, nest);
            self.caller.restore();
            hits
        }
    }

    /// One plan per table and role: plancache would plan anew at each change of role.
    unsafe fn plan(&self, key: &PlanKey) -> pg_sys::SPIPlanPtr {
        // SAFETY: prepared as the role, kept until something it depends on may have changed.
        unsafe {
            let generation = schema::generation();
            if PLANS.with_borrow(|(at, _)| *at != generation) {
                forget_plans();
                PLANS.with_borrow_mut(|(at, _)| *at = generation);
            }
            if let Some(plan) = PLANS.with_borrow(|(_, plans)| plans.get(key).copied()) {
                return plan;
            }
            let options = pg_sys::CURSOR_OPT_GENERIC_PLAN as i32;
            let plan = pg_sys::SPI_prepare_cursor(self.statement.as_ptr(), 0, std::ptr::null_mut(), options);
            if plan.is_null() || pg_sys::SPI_keepplan(plan) != 0 {
                error!("the statement for a judgement could not be prepared");
            }
            schema::watch_relation(self.relation);
            PLANS.with_borrow_mut(|(_, plans)| plans.insert(key.clone(), plan));
            plan
        }
    }
}

fn verdict(is_hit: bool) -> u8 {
    if is_hit { b'1' } else { b'0' }
}

/// A plan is never kept after an error, and none after a change of the catalog.
fn forget_plans() {
    for plan in PLANS.with_borrow_mut(|(_, plans)| std::mem::take(plans)).into_values() {
        // SAFETY: saved plans, not in use.
        unsafe { pg_sys::SPI_freeplan(plan) };
    }
}

/// A plan that may have one identity's answers in it serves nobody else.
fn forget_plan(key: &PlanKey) {
    if let Some(plan) = PLANS.with_borrow_mut(|(_, plans)| plans.remove(key)) {
        // SAFETY: a saved plan, not in use.
        unsafe { pg_sys::SPI_freeplan(plan) };
    }
}

/// The receiver of the statement's rows; only which image they came from matters.
#[repr(C)]
struct Receiver {
    receiver: pg_sys::DestReceiver,
    hits: *mut Vec<bool>,
}

unsafe fn run(plan: pg_sys::SPIPlanPtr, images: &Images) -> Vec<bool> {
    let mut hits = vec![false; images.len()];
    // SAFETY: the receiver and the images outlive the run; the plan's only source is ours.
    unsafe {
        let source =
            (*(*pg_sys::SPI_plan_get_plan_sources(plan)).elements).ptr_value.cast::<pg_sys::CachedPlanSource>();
        let _over = Over::new((*source).query_string, images);
        let mut receiver = Receiver {
            receiver: pg_sys::DestReceiver {
                receiveSlot: Some(receive),
                rStartup: Some(startup),
                rShutdown: Some(nothing),
                rDestroy: Some(nothing),
                mydest: pg_sys::CommandDest::DestNone,
            },
            hits: &raw mut hits,
        };
        let options =
            pg_sys::SPIExecuteOptions { read_only: true, dest: (&raw mut receiver).cast(), ..Default::default() };
        if pg_sys::SPI_execute_plan_extended(plan, &options) < 0 {
            error!("a judgement could not be run");
        }
    }
    hits
}

#[pg_guard]
unsafe extern "C-unwind" fn receive(_slot: *mut pg_sys::TupleTableSlot, receiver: *mut pg_sys::DestReceiver) -> bool {
    // SAFETY: made by `run`, which waits for us.
    unsafe { (&mut *(*receiver.cast::<Receiver>()).hits)[Over::current()] = true };
    true
}

#[pg_guard]
unsafe extern "C-unwind" fn startup(_receiver: *mut pg_sys::DestReceiver, _operation: i32, _types: pg_sys::TupleDesc) {}

#[pg_guard]
unsafe extern "C-unwind" fn nothing(_receiver: *mut pg_sys::DestReceiver) {}
