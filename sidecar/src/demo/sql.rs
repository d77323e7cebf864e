//! The two calls that the demo makes. Both are fixed and take nothing.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio_postgres::{Row, error::SqlState};

use crate::postgres::{Database, Error};

const DEADLINE: Duration = Duration::from_secs(5);

/// The rows of the live table, as a JSON array.
///
/// # Errors
///
/// When the database does not answer, or has no demo.
pub(super) async fn board(database: &Database) -> Result<Box<RawValue>, Error> {
    let rows = query(database, "select demo.board()").await?;
    let text: String = rows.first().ok_or(Error::Malformed)?.try_get(0)?;
    RawValue::from_string(text).map_err(|_| Error::Malformed)
}

/// Changes a row of the live table.
///
/// # Errors
///
/// As [`board`].
pub(super) async fn next_step(database: &Database) -> Result<(), Error> {
    query(database, "select demo.next_step()").await.map(drop)
}

/// Whether this is what a database without the demo answers.
pub(super) fn is_not_installed(error: &Error) -> bool {
    let missing = [&SqlState::UNDEFINED_FUNCTION, &SqlState::INVALID_SCHEMA_NAME, &SqlState::UNDEFINED_TABLE];
    error.sqlstate().is_some_and(|state| missing.contains(&state))
}

async fn query(database: &Database, statement: &str) -> Result<Vec<Row>, Error> {
    let client = database.client().await?;
    let answer = tokio::time::timeout(DEADLINE, client.query_typed(statement, &[])).await;
    let result = answer.map_err(|_| Error::Timeout(DEADLINE)).and_then(|rows| Ok(rows?));
    if result.as_ref().is_err_and(|error| error.sqlstate().is_none()) {
        Database::discard(client);
    }
    result
}
