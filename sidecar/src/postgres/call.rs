//! Calling the database: each call has a deadline, and a connection in doubt is never used again.

use std::time::Duration;

use tokio_postgres::{Row, types::ToSql, types::Type};

use super::{Client, Database, Error};

/// A parameter and its type: statements stay unnamed, so one round trip is enough, poolers do not mind, and no policy
/// function can replace a prepared statement of ours.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Runs a statement on a pooled connection.
///
/// # Errors
///
/// When there is no connection, the server refused, or it did not answer in time. In doubt the connection is closed.
pub(super) async fn query(
    database: &Database,
    deadline: Duration,
    statement: &str,
    parameters: &[Parameter<'_>],
) -> Result<Vec<Row>, Error> {
    let client = database.client().await?;
    let result = query_on(&client, deadline, statement, parameters).await;
    if result.as_ref().is_err_and(|error| error.sqlstate().is_none()) {
        Database::discard(client);
    }
    result
}

/// Runs a statement on this connection.
///
/// # Errors
///
/// As [`query`]; the caller decides what becomes of the connection.
pub(super) async fn query_on(
    client: &Client,
    deadline: Duration,
    statement: &str,
    parameters: &[Parameter<'_>],
) -> Result<Vec<Row>, Error> {
    match tokio::time::timeout(deadline, client.query_typed(statement, parameters)).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::Deadline(deadline)),
    }
}
