//! Errors of Postgres as values. Whoever catches one has ended a subtransaction or passes it on.

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use std::panic::AssertUnwindSafe;

/// Runs something that may raise.
///
/// What `run` was changing when it raised is the caller's to put right; nothing of ours is left half done by one.
pub(crate) fn attempt<T>(run: impl FnOnce() -> T) -> Result<T, Box<CaughtError>> {
    PgTryBuilder::new(AssertUnwindSafe(|| Ok(run()))).catch_others(|error| Err(Box::new(error))).execute()
}

/// What it said.
pub(crate) fn message(error: &CaughtError) -> String {
    report(error).message().to_owned()
}

/// Its five-letter code (`MAKE_SQLSTATE`, utils/elog.h: six bits a letter, the first one lowest).
pub(crate) fn sqlstate(error: &CaughtError) -> String {
    let code = report(error).sql_error_code() as i32;
    (0..5).map(|n| char::from(((code >> (6 * n)) & 0x3f) as u8 + b'0')).collect()
}

/// Whether it is somebody's wish that the statement end, which nobody may swallow.
///
/// Any function may raise an error with this code, and a policy's does so to deny others. A wish is raised in one place.
pub(crate) fn is_cancel(error: &CaughtError) -> bool {
    let report = report(error);
    report.sql_error_code() == PgSqlErrorCode::ERRCODE_QUERY_CANCELED
        && report.function_name() == Some("ProcessInterrupts")
}

fn report(error: &CaughtError) -> &pgrx::pg_sys::panic::ErrorReportWithLevel {
    match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
        CaughtError::RustPanic { ereport, .. } => ereport,
    }
}
