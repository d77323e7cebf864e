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

/// Whether it is somebody's wish that the statement or the session end, which nobody may swallow.
pub(crate) fn is_cancel(error: &CaughtError) -> bool {
    matches!(
        report(error).sql_error_code(),
        PgSqlErrorCode::ERRCODE_QUERY_CANCELED | PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN
    )
}

fn report(error: &CaughtError) -> &pgrx::pg_sys::panic::ErrorReportWithLevel {
    match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
        CaughtError::RustPanic { ereport, .. } => ereport,
    }
}
