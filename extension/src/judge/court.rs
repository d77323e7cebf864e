//! A judgement: the statement is run as each identity, and whatever that does is undone.

use super::Seen;
use super::activity::Activity;
use super::identities::Identity;
use super::images::{Batch, Images};
use super::index::{self, Candidates};
use super::keys::Arm;
use super::plans::Statement;
use super::seats::{self, Seats};
use crate::caught;
use crate::identity::{self, Caller};
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// As how many identities planning is tried before everybody is judged one by one.
const PLANNERS_MAX: usize = 4;

/// feature_not_supported: what a policy that reads what images do not hold was refused with when it was planned.
const NOT_TO_BE_JUDGED: &str = "0A000";

/// An identity and the rows that it is judged on.
struct Case {
    identity: Rc<Identity>,
    batch: Rc<Batch>,
}

/// One judgement.
pub(super) struct Court<'a> {
    relation: pg_sys::Relation,
    statement: Statement<'a>,
    images: &'a Images,
    caller: Caller,
    activity: Activity,
    /// Memory for one run.
    scratch: pg_sys::MemoryContext,
    /// The verdicts of those identities who see anything.
    verdicts: RefCell<BTreeMap<i32, Vec<u8>>>,
    /// The code of the last error that ended a run.
    raised: RefCell<String>,
    /// The codes of the errors for which there is no verdict on somebody, one for each.
    failures: RefCell<BTreeMap<i32, String>>,
}

impl<'a> Court<'a> {
    /// SPI is connected, and the relation stays open.
    pub(super) unsafe fn of(relation: pg_sys::Relation, images: &'a Images) -> Self {
        // SAFETY: the memory goes with the calling function's.
        unsafe {
            let scratch = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"realtime judgement".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            Self {
                relation,
                statement: Statement::of(relation, images),
                images,
                caller: Caller::current(),
                activity: Activity::begin(),
                scratch,
                verdicts: RefCell::default(),
                raised: RefCell::default(),
                failures: RefCell::default(),
            }
        }
    }

    /// The verdicts of those of the identities who see anything.
    pub(super) unsafe fn judge(self, identities: &[Rc<Identity>]) -> Vec<Seen> {
        for batch in self.images.batches() {
            // SAFETY: as `of` says.
            unsafe { self.hear(&every(identities.iter(), &batch)) };
        }
        if self.images.has_unreadable() {
            identities.iter().for_each(|identity| self.mark(identity.id, &[], b'e'));
        }
        self.finish()
    }

    /// The verdicts of those of the seated identities who see anything.
    pub(super) unsafe fn judge_seated(self) -> Vec<Seen> {
        let batches = self.images.batches();
        // SAFETY: as `of` says.
        unsafe {
            for seats in seats::of((*self.relation).rd_id) {
                let mut seats = seats.borrow_mut();
                for batch in &batches {
                    self.hear(&self.candidates(&mut seats, batch));
                }
                if self.images.has_unreadable() {
                    seats.members.keys().for_each(|id| self.mark(*id, &[], b'e'));
                }
            }
        }
        self.finish()
    }

    fn finish(self) -> Vec<Seen> {
        let mut failures = self.failures.take();
        let seen = |(id, verdicts)| Seen { id, verdicts, failure: failures.remove(&id) };
        self.verdicts.take().into_iter().map(seen).collect()
    }

    /// Notes a verdict on rows.
    fn mark(&self, id: i32, rows: &[usize], verdict: u8) {
        let mut verdicts = self.verdicts.borrow_mut();
        let verdicts = verdicts.entry(id).or_insert_with(|| self.images.blank());
        rows.iter().for_each(|row| verdicts[self.images.verdict_of(*row)] = verdict);
    }

    /// Judges these cases. Who sees nothing leaves no trace: most see nothing of most events.
    ///
    /// Many are judged in one subtransaction; where one fails, that one is judged by itself, and where that fails, each row
    /// by itself: one subscriber's failing policy denies that subscriber alone, and only the rows it fails on.
    unsafe fn hear(&self, cases: &[Case]) {
        // SAFETY: every run is in a subtransaction that is rolled back.
        unsafe {
            let run = |case: &Case| self.note(case, self.statement.hits(&case.batch, &case.identity, false));
            self.each(cases, run, |case| {
                self.statement.failed(&case.batch, &case.identity);
                self.hear_plainly(case);
            });
        }
    }

    /// Notes what one run said; `None`: there can be no verdicts.
    fn note(&self, case: &Case, hits: Option<Vec<usize>>) {
        match hits {
            Some(rows) if rows.is_empty() => {}
            Some(rows) => self.mark(case.identity.id, &rows, b'1'),
            None => self.fail(case, NOT_TO_BE_JUDGED),
        }
    }

    /// Notes that there is no verdict, because of an error with this code.
    fn fail(&self, case: &Case, sqlstate: &str) {
        self.mark(case.identity.id, &case.batch.rows, b'e');
        self.failures.borrow_mut().insert(case.identity.id, sqlstate.to_owned());
    }

    unsafe fn hear_plainly(&self, case: &Case) {
        // SAFETY: as above.
        unsafe {
            let run = |case: &Case| self.note(case, self.statement.hits(&case.batch, &case.identity, true));
            let fail = |case: &Case| self.statement.failed(&case.batch, &case.identity);
            self.each(std::slice::from_ref(case), run, |case| {
                fail(case);
                let rows = case.batch.rows.iter();
                let alone =
                    |row: &usize| Case { batch: Rc::new(case.batch.only(*row)), identity: case.identity.clone() };
                self.each(&rows.map(alone).collect::<Vec<_>>(), run, |row| {
                    fail(row);
                    self.fail(row, &self.raised.borrow());
                });
            });
        }
    }

    /// Who of the seated may see which of the rows; each is still to be judged.
    unsafe fn candidates(&self, seats: &mut Seats, batch: &Rc<Batch>) -> Vec<Case> {
        // SAFETY: as above; the rows are of the relation's descriptor.
        unsafe {
            let Some(arms) = self.arms(seats, batch) else { return every(seats.members.values(), batch) };
            self.fill(seats, &arms, batch);
            let index = seats.index_for(&arms);
            match self.apart(|| index.candidates((*self.relation).rd_att, self.images, &batch.rows)) {
                Some(found) => cases(seats, batch, &found),
                None => every(seats.members.values(), batch),
            }
        }
    }

    /// By what candidates are found; `None`: everybody is one. Planning may fail as one identity and not as another.
    unsafe fn arms(&self, seats: &Seats, batch: &Rc<Batch>) -> Option<Rc<[Arm]>> {
        // SAFETY: as above.
        unsafe {
            let role = &seats.members.values().next()?.role;
            if let Some(known) = self.statement.known_keys(batch, role) {
                return known;
            }
            for identity in seats.members.values().take(PLANNERS_MAX) {
                let found = RefCell::new(None);
                let case = Case { identity: identity.clone(), batch: batch.clone() };
                let run = |case: &Case| {
                    found.replace(Some(self.statement.keys(&case.batch, &case.identity)));
                };
                self.each(&[case], run, |case| self.statement.failed(&case.batch, &case.identity));
                if let Some(arms) = found.take() {
                    return arms;
                }
            }
            None
        }
    }

    /// Puts those into the index who are not in it yet.
    unsafe fn fill(&self, seats: &mut Seats, arms: &Rc<[Arm]>, batch: &Rc<Batch>) {
        seats.index_for(arms);
        let waiting = seats.waiting();
        let placed = RefCell::new(Vec::new());
        // SAFETY: as above.
        unsafe {
            let place = |case: &Case| placed.borrow_mut().push((case.identity.id, index::places(arms, &case.identity)));
            self.each(&every(waiting.iter(), batch), place, |case| placed.borrow_mut().push((case.identity.id, None)));
        }
        for (id, places) in placed.take() {
            seats.place(arms, id, places);
        }
    }

    /// Does something as each case's identity, many in one subtransaction, all of it undone. Where that fails, `failed` is
    /// told, and the others go on from there.
    unsafe fn each(&self, cases: &[Case], run: impl Fn(&Case), failed: impl Fn(&Case)) {
        let mut rest = cases;
        while !rest.is_empty() {
            let done = Cell::new(0);
            // SAFETY: as above.
            let finished = unsafe { self.apart(|| self.in_turn(rest, &done, &run)) };
            rest = &rest[done.get()..];
            if let (None, Some((unlucky, others))) = (finished, rest.split_first()) {
                failed(unlucky);
                rest = others;
            }
        }
    }

    /// Runs in a subtransaction that is rolled back; `None` when it failed.
    unsafe fn apart<T>(&self, run: impl FnOnce() -> T) -> Option<T> {
        // SAFETY: as above.
        unsafe {
            match identity::in_rolled_back_subtransaction(&self.caller, run) {
                Ok(value) => Some(value),
                Err(error) if caught::is_cancel(&error) => error.rethrow(),
                Err(error) => {
                    self.raised.replace(caught::sqlstate(&error));
                    None
                }
            }
        }
    }

    /// The role is assumed once for those who share it: that costs more than many a policy.
    unsafe fn in_turn(&self, cases: &[Case], done: &Cell<usize>, run: &impl Fn(&Case)) {
        for group in cases.chunk_by(|a, b| a.identity.role == b.identity.role) {
            // SAFETY: settings and user end with the nest level, and with the subtransaction when it fails.
            unsafe {
                let nest = pg_sys::NewGUCNestLevel();
                identity::assume_role(&self.caller, &group[0].identity.role, c"");
                let assumed = Caller::current();
                for case in group {
                    self.as_identity(&assumed, case, run);
                    done.set(done.get() + 1);
                }
                pg_sys::AtEOXact_GUC(false, nest);
                self.caller.restore();
            }
        }
    }

    unsafe fn as_identity(&self, assumed: &Caller, case: &Case, run: &impl Fn(&Case)) {
        // SAFETY: what runs leaves nothing in the memory that goes; settings end with the nest level.
        unsafe {
            let nest = pg_sys::NewGUCNestLevel();
            self.activity.judging(case.identity.id);
            identity::assume_claims(&case.identity.claims);
            let before = pg_sys::MemoryContextSwitchTo(self.scratch);
            run(case);
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::MemoryContextReset(self.scratch);
            pg_sys::AtEOXact_GUC(false, nest);
            assumed.restore();
        }
    }
}

/// All of the identities, on all of the rows.
fn every<'a>(identities: impl Iterator<Item = &'a Rc<Identity>>, batch: &Rc<Batch>) -> Vec<Case> {
    identities.map(|identity| Case { identity: identity.clone(), batch: batch.clone() }).collect()
}

/// The candidates of each row, turned into the rows of each candidate.
fn cases(seats: &Seats, batch: &Batch, found: &[Candidates]) -> Vec<Case> {
    let mut rows_of: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
    for (row, candidates) in batch.rows.iter().zip(found) {
        let mut add = |id: &i32| rows_of.entry(*id).or_default().push(*row);
        match candidates {
            Candidates::Everybody => seats.members.keys().for_each(&mut add),
            Candidates::These(ids) => ids.iter().for_each(&mut add),
        }
    }
    let case = |(id, rows)| {
        let batch = Rc::new(Batch { rows, hidden: batch.hidden.clone() });
        Some(Case { identity: seats.members.get(&id)?.clone(), batch })
    };
    rows_of.into_iter().filter_map(case).collect()
}
