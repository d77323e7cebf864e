//! Verdicts: which identities see which row images, by the table's own grants and policies. Declared in `sql/judge.sql`.
//!
//! Policies are never parsed or evaluated by us. The real statement is planned as the role, and only its scan node is
//! ours ([`scan`]). Identities (role and claims) are told once per backend and named by number from then on.
//!
//! [`court`] runs it: [`plans`] of the statement over [`images`], as each of the [`identities`]. [`params`] takes what
//! claims alone decide out of the plan. Of those who have [`seats`], the [`index`] finds who may see a row at all, by the
//! [`keys`] of the policies. [`expressions`] says what may be trusted to depend on nothing else, [`shareable`] which
//! statement serves one identity only, [`activity`] whose policies are running.

mod activity;
mod court;
mod expressions;
mod identities;
mod images;
mod index;
mod keys;
mod params;
mod plans;
mod scan;
mod seats;
mod shareable;

use crate::array;
use crate::schema::Schema;
use court::Court;
use images::{Images, Stored};
use pgrx::prelude::*;
use std::cell::Cell;

crate::ffi::sql_function!(judge_images, pg_finfo_judge_images, judge);

thread_local! {
    /// A judgement is running. A policy's function that asks for another one would free the plan being run.
    static JUDGING: Cell<bool> = const { Cell::new(false) };
}

/// `_judge(relation, layouts, flags, olds, news, identities)`: who sees anything, and their verdicts.
unsafe fn judge(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    let _judging = Judging::begin();
    // SAFETY: as declared in sql/judge.sql, only the identities may be NULL; the relation is closed again, its lock kept.
    unsafe {
        let argument = |n| pgrx::fcinfo::pg_getarg_datum_raw(call, n);
        let relation = pg_sys::Oid::from(argument(0).value() as u32);
        let named = pgrx::fcinfo::pg_getarg_datum(call, 5).map(|ids| identities::named(&identities::ids(ids)));
        let Some(schema) = Schema::current() else { error!("extension realtime is not there") };
        scan::install();
        let relation = pg_sys::table_open(relation, pg_sys::AccessShareLock as i32);
        let stored = stored(argument(1), argument(2), argument(3), argument(4));
        let images = Images::new(relation, &schema, &stored);
        pg_sys::SPI_connect();
        let court = Court::of(relation, &images);
        let seen = match named {
            Some(identities) => court.judge(&identities),
            None => court.judge_seated(),
        };
        pg_sys::SPI_finish();
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        answer(call, &seen)
    }
}

/// An identity that sees something, or on which there is no verdict; with all its verdicts.
struct Seen {
    id: i32,
    verdicts: Vec<u8>,
    /// The code of an error for which there is no verdict.
    failure: Option<String>,
}

/// The row of three arrays that `_judge` returns.
unsafe fn answer(call: pg_sys::FunctionCallInfo, seen: &[Seen]) -> pg_sys::Datum {
    // SAFETY: declared with these three columns.
    unsafe {
        let mut descriptor = std::ptr::null_mut();
        pg_sys::get_call_result_type(call, std::ptr::null_mut(), &mut descriptor);
        let descriptor = pg_sys::BlessTupleDesc(descriptor);
        let mut ids: Vec<pg_sys::Datum> = seen.iter().map(|s| pg_sys::Datum::from(s.id)).collect();
        let mut verdicts: Vec<pg_sys::Datum> = seen.iter().map(|s| array::text(&s.verdicts)).collect();
        let failures = failures(seen);
        let mut nulls = [false, false, failures.is_none()];
        let mut values = [
            array::build(array::INT4, &mut ids),
            array::build(array::TEXT, &mut verdicts),
            failures.unwrap_or(pg_sys::Datum::from(0)),
        ];
        let tuple = pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
}

/// For each of them the code of its error, empty where there was none; `None` when there was none at all.
unsafe fn failures(seen: &[Seen]) -> Option<pg_sys::Datum> {
    if seen.iter().all(|s| s.failure.is_none()) {
        return None;
    }
    // SAFETY: texts in the caller's memory.
    unsafe {
        let code = |s: &Seen| array::text(s.failure.as_deref().unwrap_or_default().as_bytes());
        Some(array::build(array::TEXT, &mut seen.iter().map(code).collect::<Vec<_>>()))
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
