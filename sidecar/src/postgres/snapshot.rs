//! Every row of a table as of one offset.
//!
//! One session ticks and exports its snapshot, another imports it and reads; then the first commits, because ticks wait
//! for it. The rows come over a connection that is read only as fast as somebody takes them: what is not taken stays
//! with the server.

use std::{pin::Pin, time::Duration};

use futures_util::TryStreamExt;
use tokio::time::Instant;
use tokio_postgres::{Row, RowStream, error::SqlState, types::Type};

use super::{
    Client, Connection, Database, Error, Session,
    call::{Parameter, while_connected},
};
use crate::model::{Identity, Offset};

/// Bytes of rows in a chunk; one row is always taken, however large. With numbers as strings rows grow by a third at
/// most, so the frame has no more than 256 KiB of rows.
const CHUNK_BYTES_MAX: usize = 192 * 1024;

const BEGIN: &str = "select \"offset\", snapshot_id from realtime.begin_snapshot()";
const ROWS: &str = "select r from realtime.snapshot($1, $2, $3) r";
/// A table that was rewritten after the snapshot was taken, and before its rows were locked, shows no rows in it: the
/// catalog of then and that of now name different files.
const IS_REWRITTEN: &str = "select exists (select from pg_catalog.pg_class c \
     where (c.oid = $1 or c.oid in (select p.relid from pg_catalog.pg_partition_tree($1::pg_catalog.regclass) p)) \
       and c.relkind = 'r' and pg_catalog.pg_relation_filenode(c.oid) is distinct from c.relfilenode)";

/// A snapshot that is being read.
pub struct Rows {
    // Kept, because without it the connection ends.
    client: Client,
    connection: Connection,
    rows: Pin<Box<RowStream>>,
    relation: u32,
    offset: Offset,
    deadline: Instant,
    /// A row that did not fit into the chunk before.
    held: Option<Box<str>>,
    /// A chunk was given out.
    begun: bool,
}

/// Some rows.
#[derive(Debug)]
pub struct Chunk {
    /// JSON objects.
    pub rows: Vec<Box<str>>,
    /// With the last chunk: what all rows are as of.
    pub end: Option<Offset>,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The role may not read the table any more.
    #[error("the table may not be read any more")]
    Forbidden,
    /// The table has no key that the role may read.
    #[error("the table has no key that may be read")]
    NoKey,
    /// The table was rewritten at the wrong moment, or the log has just begun. Nothing was given out: ask again.
    #[error("the table was rewritten meanwhile")]
    Moved,
    /// The table was rewritten at the wrong moment, and some of its rows are with the client already.
    #[error("the table was rewritten meanwhile")]
    Torn,
    /// It took too long.
    #[error("the snapshot took too long")]
    TooLong,
    /// There is no answer.
    #[error(transparent)]
    Postgres(#[from] Error),
}

impl Rows {
    /// Takes a snapshot of a table as this identity sees it, to be read within `limit`.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn open(
        database: &Database,
        identity: &Identity,
        relation: u32,
        limit: Duration,
    ) -> Result<Self, SnapshotError> {
        let deadline = Instant::now() + limit;
        let opened = async {
            let (client, mut connection) = database.own().await?;
            let begun = while_connected(&mut connection, begin(database, &client, identity, relation)).await;
            let (offset, rows) = begun.map_err(snapshot_error)?;
            let rows = Box::pin(rows);
            Ok(Self { client, connection, rows, relation, offset, deadline, held: None, begun: false })
        };
        tokio::time::timeout_at(deadline, opened).await.unwrap_or(Err(SnapshotError::TooLong))
    }

    /// The next rows. After the last chunk there is nothing to ask for.
    ///
    /// # Errors
    ///
    /// Why they cannot be had. The snapshot is of no use any more.
    pub async fn next(&mut self) -> Result<Chunk, SnapshotError> {
        let Self { client, connection, rows, held, relation, .. } = self;
        let reading = while_connected(connection, async {
            let (rows, is_last) = fill(rows, held).await?;
            let is_sound = !is_last || finish(client, *relation).await?;
            Ok((rows, is_last, is_sound))
        });
        let read = tokio::time::timeout_at(self.deadline, reading).await.map_err(|_| SnapshotError::TooLong)?;
        let (rows, is_last, is_sound) = read.map_err(snapshot_error)?;
        if !is_sound {
            return Err(if self.begun { SnapshotError::Torn } else { SnapshotError::Moved });
        }
        self.begun = true;
        Ok(Chunk { rows, end: is_last.then_some(self.offset) })
    }
}

async fn begin(
    database: &Database,
    reader: &Client,
    identity: &Identity,
    relation: u32,
) -> Result<(Offset, RowStream), Error> {
    reader.batch_execute("begin isolation level repeatable read, read only").await?;
    let ticker = Session::open(database).await?;
    ticker.begin().await?;
    let rows = ticker.query(BEGIN, &[]).await?;
    let row = rows.first().ok_or(Error::Malformed)?;
    let offset = Offset::new(row.try_get(0)?).ok_or(Error::Malformed)?;
    let name = snapshot_name(row).ok_or(Error::Malformed)?;
    reader.batch_execute(&format!("set transaction snapshot '{name}'")).await?;
    ticker.commit().await?;
    drop(ticker);
    let (role, claims) = (&*identity.role, &*identity.claims);
    let parameters: [Parameter<'_>; 3] = [(&role, Type::TEXT), (&claims, Type::TEXT), (&relation, Type::OID)];
    Ok((offset, reader.query_typed_raw(ROWS, parameters).await?))
}

/// This statement takes no parameters, so the name is only used when it is one that Postgres makes.
fn snapshot_name(row: &Row) -> Option<&str> {
    let name: &str = row.try_get(1).ok()?;
    name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-').then_some(name)
}

/// Rows of a chunk, and whether they are the last.
async fn fill(stream: &mut Pin<Box<RowStream>>, held: &mut Option<Box<str>>) -> Result<(Vec<Box<str>>, bool), Error> {
    let mut rows = Vec::from_iter(held.take());
    let mut bytes = rows.iter().map(|row| row.len()).sum::<usize>();
    while let Some(row) = stream.try_next().await? {
        let row: Box<str> = row.try_get::<_, &str>(0)?.into();
        bytes += row.len() + 1;
        if bytes > CHUNK_BYTES_MAX && !rows.is_empty() {
            *held = Some(row);
            return Ok((rows, false));
        }
        rows.push(row);
    }
    Ok((rows, true))
}

/// Whether what was read is the table. From now on the server keeps nothing for us.
async fn finish(client: &Client, relation: u32) -> Result<bool, Error> {
    let parameters: [Parameter<'_>; 1] = [(&relation, Type::OID)];
    let rows = client.query_typed(IS_REWRITTEN, &parameters).await?;
    let is_rewritten: bool = rows.first().ok_or(Error::Malformed)?.try_get(0)?;
    client.batch_execute("commit").await?;
    Ok(!is_rewritten)
}

fn snapshot_error(error: Error) -> SnapshotError {
    match error.sqlstate() {
        Some(state) if *state == SqlState::INSUFFICIENT_PRIVILEGE => SnapshotError::Forbidden,
        Some(state) if *state == SqlState::FEATURE_NOT_SUPPORTED => SnapshotError::NoKey,
        Some(state) if *state == SqlState::T_R_SERIALIZATION_FAILURE => SnapshotError::Moved,
        _ => SnapshotError::Postgres(error),
    }
}

impl SnapshotError {
    /// This error and its causes in one line, for logs.
    #[must_use]
    pub fn chain(&self) -> String {
        match self {
            Self::Postgres(error) => error.chain(),
            other => other.to_string(),
        }
    }
}
