//! The scan that stands in for a table's heap: it returns row images.
//!
//! The planner plans `select from only s.t` as the role, so Postgres itself applies grants and policies; only the scan
//! node is swapped. A policy that reads the same table in a sub-select reads the table.

use super::images::{Batch, Images, Row};
use super::plans::Shape;
use crate::{schema, write};
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};

thread_local! {
    /// The text of the plan source being planned, by address; null when the statement is not ours.
    static OURS: Cell<*const std::ffi::c_char> = const { Cell::new(std::ptr::null()) };
    static PLANNING_OURS: Cell<bool> = const { Cell::new(false) };
    /// Claims stay where they are: no parameters.
    static PLAIN: Cell<bool> = const { Cell::new(false) };
    /// What came of planning, since it was asked for.
    static PLANNED: RefCell<Option<Shape>> = const { RefCell::new(None) };
    /// Planning ended because a policy reads what images do not hold.
    static REFUSED: Cell<bool> = const { Cell::new(false) };
    /// What the scan returns: these rows of these images.
    static IMAGES: Cell<(*const Images, *const Batch)> = const { Cell::new((std::ptr::null(), std::ptr::null())) };
    /// The row that was returned last.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
    static PREVIOUS_PLANNER: Cell<pg_sys::planner_hook_type> = const { Cell::new(None) };
    static PREVIOUS_PATHS: Cell<pg_sys::set_rel_pathlist_hook_type> = const { Cell::new(None) };
    static INSTALLED: Cell<bool> = const { Cell::new(false) };
}

/// Puts the hooks in place, at the first judgement of a backend.
pub(super) fn install() {
    if INSTALLED.replace(true) {
        return;
    }
    schema::watch_roles();
    // SAFETY: hooks are plain function pointers of a single-threaded process; the previous ones are called on.
    unsafe {
        PREVIOUS_PLANNER.set(pg_sys::planner_hook);
        pg_sys::planner_hook = Some(plan);
        PREVIOUS_PATHS.set(pg_sys::set_rel_pathlist_hook);
        pg_sys::set_rel_pathlist_hook = Some(set_paths);
        pg_sys::RegisterCustomScanMethods(&SCAN_METHODS.0);
    }
}

/// While it lives, statements with this text plan and run over these rows.
pub(super) struct Over {
    before: (*const std::ffi::c_char, (*const Images, *const Batch), bool),
}

impl Over {
    pub(super) fn new(text: *const std::ffi::c_char, images: &Images, batch: &Batch, is_plain: bool) -> Self {
        let rows: (*const Images, *const Batch) = (images, batch);
        Self { before: (OURS.replace(text), IMAGES.replace(rows), PLAIN.replace(is_plain)) }
    }

    /// What came of planning since the last call; `None` when there was none.
    pub(super) fn take_planned() -> Option<Shape> {
        PLANNED.take()
    }

    /// Whether planning was refused since the last call.
    pub(super) fn take_refused() -> bool {
        REFUSED.replace(false)
    }

    /// The row that the executor has just passed on.
    pub(super) fn current() -> usize {
        CURRENT.get()
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        OURS.set(self.before.0);
        IMAGES.set(self.before.1);
        PLAIN.set(self.before.2);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn plan(
    query: *mut pg_sys::Query,
    text: *const std::ffi::c_char,
    options: i32,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    /// Also put back when planning fails.
    struct Planning(bool);
    impl Drop for Planning {
        fn drop(&mut self) {
            PLANNING_OURS.set(self.0);
        }
    }
    let ours = !text.is_null() && text == OURS.get();
    let _planning = Planning(PLANNING_OURS.replace(ours));
    // SAFETY: the arguments are passed on as they came.
    unsafe {
        let mut query = query;
        if ours {
            PLANNED.set(Some(Shape::of(&mut query, PLAIN.get())));
        }
        match PREVIOUS_PLANNER.get() {
            Some(previous) => previous(query, text, options, params),
            None => pg_sys::standard_planner(query, text, options, params),
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn set_paths(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    index: pg_sys::Index,
    entry: *mut pg_sys::RangeTblEntry,
) {
    // SAFETY: planner structures, valid during planning; the path is a node of its own.
    unsafe {
        if let Some(previous) = PREVIOUS_PATHS.get() {
            previous(root, relation, index, entry);
        }
        let is_table = (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION;
        if !PLANNING_OURS.get() || (*root).query_level != 1 || index != 1 || !is_table {
            return;
        }
        let path = pg_sys::palloc0(std::mem::size_of::<pg_sys::CustomPath>()).cast::<pg_sys::CustomPath>();
        (*path).path.type_ = pg_sys::NodeTag::T_CustomPath;
        (*path).path.pathtype = pg_sys::NodeTag::T_CustomScan;
        (*path).path.parent = relation;
        (*path).path.pathtarget = (*relation).reltarget;
        (*path).path.rows = 1.0;
        (*path).flags = pg_sys::CUSTOMPATH_SUPPORT_PROJECTION;
        (*path).methods = &PATH_METHODS.0;
        (*relation).pathlist = std::ptr::null_mut();
        (*relation).partial_pathlist = std::ptr::null_mut();
        pg_sys::add_path(relation, path.cast());
    }
}

/// Method tables are read by Postgres only; their raw pointers keep them from being Sync by themselves.
struct Table<T>(T);
// SAFETY: never written; a backend has one thread.
unsafe impl<T> Sync for Table<T> {}

static PATH_METHODS: Table<pg_sys::CustomPathMethods> = Table(pg_sys::CustomPathMethods {
    CustomName: c"realtime images".as_ptr(),
    PlanCustomPath: Some(plan_path),
    ReparameterizeCustomPathByChild: None,
});
static SCAN_METHODS: Table<pg_sys::CustomScanMethods> = Table(pg_sys::CustomScanMethods {
    CustomName: c"realtime images".as_ptr(),
    CreateCustomScanState: Some(create_state),
});
static EXEC_METHODS: Table<pg_sys::CustomExecMethods> = Table(pg_sys::CustomExecMethods {
    CustomName: c"realtime images".as_ptr(),
    BeginCustomScan: Some(begin),
    ExecCustomScan: Some(execute),
    EndCustomScan: Some(end),
    ReScanCustomScan: Some(rescan),
    MarkPosCustomScan: None,
    RestrPosCustomScan: None,
    EstimateDSMCustomScan: None,
    InitializeDSMCustomScan: None,
    ReInitializeDSMCustomScan: None,
    InitializeWorkerCustomScan: None,
    ShutdownCustomScan: None,
    ExplainCustomScan: None,
});

#[pg_guard]
unsafe extern "C-unwind" fn plan_path(
    _root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    path: *mut pg_sys::CustomPath,
    targets: *mut pg_sys::List,
    clauses: *mut pg_sys::List,
    _children: *mut pg_sys::List,
) -> *mut pg_sys::Plan {
    // SAFETY: planner structures; the plan node is a node of its own.
    unsafe {
        let scan = pg_sys::palloc0(std::mem::size_of::<pg_sys::CustomScan>()).cast::<pg_sys::CustomScan>();
        (*scan).scan.plan.type_ = pg_sys::NodeTag::T_CustomScan;
        (*scan).scan.plan.targetlist = targets;
        (*scan).scan.plan.qual = pg_sys::extract_actual_clauses(clauses, false);
        refuse_missing_columns((*scan).scan.plan.qual, (*relation).relid);
        (*scan).scan.scanrelid = (*relation).relid;
        (*scan).flags = (*path).flags;
        (*scan).methods = &SCAN_METHODS.0;
        scan.cast()
    }
}

/// A policy on ctid, xmin and the like, or on a column that images do not hold, cannot be judged by an image.
unsafe fn refuse_missing_columns(quals: *mut pg_sys::List, relation: pg_sys::Index) {
    // SAFETY: an expression tree and its set of attribute numbers.
    unsafe {
        let mut attributes = std::ptr::null_mut();
        pg_sys::pull_varattnos(quals.cast(), relation, &mut attributes);
        let batch = IMAGES.get().1.as_ref();
        let mut next = -1;
        loop {
            next = pg_sys::bms_next_member(attributes, next);
            if next < 0 {
                return;
            }
            let number = next + pg_sys::FirstLowInvalidHeapAttributeNumber;
            let is_system = number < 0 && number != pg_sys::TableOidAttributeNumber;
            let is_hidden = batch.is_some_and(|b| if number == 0 { !b.hidden.is_empty() } else { b.hides(number) });
            if is_system || is_hidden {
                REFUSED.set(true);
                ereport!(
                    ERROR,
                    PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                    "a policy reads a column that row images do not hold"
                );
            }
        }
    }
}

/// The executor's state of one scan.
#[repr(C)]
struct Scan {
    state: pg_sys::CustomScanState,
    next: usize,
}

#[pg_guard]
unsafe extern "C-unwind" fn create_state(_scan: *mut pg_sys::CustomScan) -> *mut pg_sys::Node {
    // SAFETY: zeroed memory is a valid state; its first field is the node that Postgres expects.
    unsafe {
        let scan = pg_sys::palloc0(std::mem::size_of::<Scan>()).cast::<Scan>();
        (*scan).state.ss.ps.type_ = pg_sys::NodeTag::T_CustomScanState;
        (*scan).state.methods = &EXEC_METHODS.0;
        scan.cast()
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn begin(node: *mut pg_sys::CustomScanState, _state: *mut pg_sys::EState, flags: i32) {
    if IMAGES.get().0.is_null() && flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 == 0 {
        error!("an image scan outside realtime.judge()");
    }
    // SAFETY: the node was made by `create_state`.
    unsafe { (*node.cast::<Scan>()).next = 0 };
}

#[pg_guard]
unsafe extern "C-unwind" fn execute(node: *mut pg_sys::CustomScanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the node was made by `create_state`.
    unsafe { pg_sys::ExecScan(&raw mut (*node).ss, Some(fetch), Some(recheck)) }
}

#[pg_guard]
unsafe extern "C-unwind" fn fetch(node: *mut pg_sys::ScanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the images live as long as the run; the slot is a virtual one of the relation's descriptor.
    unsafe {
        let scan = node.cast::<Scan>();
        let slot = (*node).ss_ScanTupleSlot;
        ((*(*slot).tts_ops).clear.unwrap_unchecked())(slot);
        let (images, batch) = IMAGES.get();
        let row = batch.as_ref().and_then(|batch| batch.rows.get((*scan).next).copied());
        let Some((row, image)) = row.and_then(|row| Some((row, images.as_ref()?.row(row)?))) else { return slot };
        CURRENT.set(row);
        (*scan).next += 1;
        store(slot, image);
        slot
    }
}

/// Puts a row into a virtual slot of the relation's descriptor. It points into the image.
pub(super) unsafe fn store(slot: *mut pg_sys::TupleTableSlot, image: &Row) {
    // SAFETY: the slot has one place for each attribute; no more are written than both have.
    unsafe {
        ((*(*slot).tts_ops).clear.unwrap_unchecked())(slot);
        let n = usize::try_from((*(*slot).tts_tupleDescriptor).natts).unwrap_or(0).min(image.values.len());
        std::ptr::copy_nonoverlapping(image.values.as_ptr(), (*slot).tts_values, n);
        std::ptr::copy_nonoverlapping(image.nulls.as_ptr(), (*slot).tts_isnull, n);
        pg_sys::ExecStoreVirtualTuple(slot);
        (*slot).tts_tableOid = image.table;
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn recheck(_node: *mut pg_sys::ScanState, _slot: *mut pg_sys::TupleTableSlot) -> bool {
    true
}

#[pg_guard]
unsafe extern "C-unwind" fn end(_node: *mut pg_sys::CustomScanState) {}

#[pg_guard]
unsafe extern "C-unwind" fn rescan(node: *mut pg_sys::CustomScanState) {
    // SAFETY: the node was made by `create_state`.
    unsafe { (*node.cast::<Scan>()).next = 0 };
}

/// The number of attributes, for callers that build rows.
pub(super) unsafe fn natts(descriptor: pg_sys::TupleDesc) -> usize {
    // SAFETY: a valid descriptor.
    unsafe {
        let n = usize::try_from((*descriptor).natts).unwrap_or(0);
        debug_assert!(n == 0 || !write::attribute(descriptor, n - 1).is_null());
        n
    }
}
