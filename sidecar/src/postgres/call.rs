//! Calling the database over a connection on loan. What is in doubt is never used again.
//!
//! There are two kinds of calls. Those that run people's policies have a deadline, and at its end the server session is
//! ended from outside: a policy can swallow a timeout or a cancel request. Those that read the log take as long as the
//! server works on them, which it is asked from time to time over a second connection; when it does not answer, or says
//! that it does nothing for us, the first connection is dead.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use tokio_postgres::{
    Row, Statement,
    types::{ToSql, Type},
};

use super::{Database, Error, PooledClient};
use crate::config::process_name;

/// A parameter and its type: statements stay unnamed, but for [`Prepared`], so one round trip is enough, poolers do not
/// mind, and no policy function can replace a prepared statement of ours.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A statement that the server has parsed: for one session, in which no policy ever runs.
pub(super) struct Prepared {
    mark: Mark,
    statement: Statement,
}

/// How long an answer may take before the server is asked whether it works on it.
const ASK_AFTER: Duration = Duration::from_secs(3);
/// How often in a row it may deny that: an answer that is on its way comes meanwhile.
const DENIALS_MAX: u32 = 2;

const IS_WORKING: &str = "select exists (select from pg_catalog.pg_stat_activity a where a.usename = session_user \
     and (pg_catalog.starts_with(a.query, $1) and a.state = 'active' or a.state = 'disabled'))";
/// While an identity's policies run, this stands behind the mark instead of the statement, with the identity's number.
const JUDGING: &str = " judging ";
const WHO_IS_JUDGED: &str = "select a.query from pg_catalog.pg_stat_activity a \
     where a.usename = session_user and a.state = 'active' and pg_catalog.starts_with(a.query, $1)";
const END_BACKEND: &str = "select pg_catalog.pg_terminate_backend(a.pid) from pg_catalog.pg_stat_activity a \
     where a.usename = session_user and a.state = 'active' and pg_catalog.starts_with(a.query, $1)";

/// A connection on loan from the pool. When a call is given up half-way, by its deadline or because nobody waits for it
/// any more, the connection is closed instead of given back: who got it next would wait for what still runs on it.
pub struct Session<'a> {
    database: &'a Database,
    client: Option<PooledClient>,
    in_doubt: AtomicBool,
    in_transaction: AtomicBool,
}

impl<'a> Session<'a> {
    /// Takes a connection from the pool.
    ///
    /// # Errors
    ///
    /// As [`Database::client`].
    pub async fn open(database: &'a Database) -> Result<Self, Error> {
        let client = database.client().await?;
        Ok(Self {
            database,
            client: Some(client),
            in_doubt: AtomicBool::new(false),
            in_transaction: AtomicBool::new(false),
        })
    }

    /// Takes a connection that no pooler gives to others meanwhile, to be used for long. It keeps what it was told, so
    /// afterwards it is closed and not given back.
    ///
    /// # Errors
    ///
    /// As [`Database::client`].
    pub async fn standing(database: &'a Database) -> Result<Self, Error> {
        Ok(Self::kept(database, database.standing_client().await?))
    }

    /// As [`Session::standing`], for the one who reads the log: no policy ever runs in it.
    ///
    /// # Errors
    ///
    /// As [`Database::client`].
    pub async fn reading(database: &'a Database) -> Result<Self, Error> {
        Ok(Self::kept(database, database.reading_client().await?))
    }

    fn kept(database: &'a Database, client: PooledClient) -> Self {
        let in_transaction = AtomicBool::new(true);
        Self { database, client: Some(client), in_doubt: AtomicBool::new(false), in_transaction }
    }

    /// Begins a transaction. Until [`Session::commit`] the connection is not given back, whatever becomes of it.
    ///
    /// # Errors
    ///
    /// As [`Session::query`].
    pub(super) async fn begin(&self) -> Result<(), Error> {
        self.in_transaction.store(true, Ordering::Relaxed);
        self.query("begin isolation level read committed", &[]).await.map(drop)
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// As [`Session::query`].
    pub(super) async fn commit(&self) -> Result<(), Error> {
        self.query("commit", &[]).await?;
        self.in_transaction.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Runs a statement for as long as the server works on it.
    ///
    /// # Errors
    ///
    /// When the server refused, or there is no sign that it still works on it.
    pub(super) async fn query(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Error> {
        self.run_watched(&Mark::new(), statement, parameters).await
    }

    /// Has the server parse a statement once for all: for [`Session::reading`] alone, where no policy could put another
    /// statement in its place.
    ///
    /// # Errors
    ///
    /// As [`Session::query`].
    pub(super) async fn prepare(&self, statement: &str, types: &[Type]) -> Result<Prepared, Error> {
        let mark = Mark::new();
        let text = mark.on(statement);
        let client = self.client.as_ref().ok_or(Error::Closed)?;
        let call = pin!(async { self.answered(client.prepare_typed(&text, types).await) });
        let statement = self.watch(&mark, call).await?;
        Ok(Prepared { mark, statement })
    }

    /// Runs a parsed statement for as long as the server works on it.
    ///
    /// # Errors
    ///
    /// As [`Session::query`].
    pub(super) async fn query_prepared(
        &self,
        Prepared { mark, statement }: &Prepared,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Error> {
        let client = self.client.as_ref().ok_or(Error::Closed)?;
        let values: Vec<_> = parameters.iter().map(|(value, _)| *value).collect();
        let call = pin!(async { self.answered(client.query(statement, &values).await) });
        self.watch(mark, call).await
    }

    /// Runs a statement, and ends the server's session when it takes longer than `deadline`.
    ///
    /// # Errors
    ///
    /// When the server refused, or did not answer. [`Error::Deadline`] when it answers, but not this.
    pub(super) async fn query_within(
        &self,
        deadline: Duration,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Error> {
        let mark = Mark::new();
        match tokio::time::timeout(deadline, self.run_watched(&mark, statement, parameters)).await {
            Ok(result) => result,
            Err(_) => {
                self.database.end_backend(&mark).await?;
                Err(Error::Deadline(deadline))
            }
        }
    }

    /// Runs a judgement, and ends the server's session when the policies take longer than `deadline` for one identity. A
    /// judgement of many identities may take longer than that.
    ///
    /// # Errors
    ///
    /// As [`Session::query`]. [`Error::Hanging`] says for whom the policies took too long.
    pub(super) async fn judge_within(
        &self,
        deadline: Duration,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Error> {
        /// Looks within the deadline: the whole time was spent on one identity when all of them show it.
        const LOOKS: u32 = 4;
        let mark = Mark::new();
        let mut call = pin!(self.run_watched(&mark, statement, parameters));
        let (mut judged, mut looks) = (None, 0);
        loop {
            if let Ok(result) = tokio::time::timeout(deadline / LOOKS, call.as_mut()).await {
                return result;
            }
            let now = self.database.judged_on(&mark).await?;
            looks = if now == judged { looks + 1 } else { 1 };
            judged = now;
            if let Some(identity) = judged.filter(|_| looks >= LOOKS) {
                self.database.end_backend(&mark).await?;
                return Err(Error::Hanging(identity));
            }
        }
    }

    async fn run_watched(&self, mark: &Mark, statement: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Error> {
        let text = mark.on(statement);
        let client = self.client.as_ref().ok_or(Error::Closed)?;
        let call = pin!(async { self.answered(client.query_typed(&text, parameters).await) });
        self.watch(mark, call).await
    }

    /// Waits for an answer as long as the server works on it.
    async fn watch<T>(
        &self,
        mark: &Mark,
        mut call: Pin<&mut impl Future<Output = Result<T, Error>>>,
    ) -> Result<T, Error> {
        // Until there is an answer, see `answered`.
        self.in_doubt.store(true, Ordering::Relaxed);
        let mut denials = 0;
        loop {
            if let Ok(result) = tokio::time::timeout(ASK_AFTER, call.as_mut()).await {
                return result;
            }
            denials = if self.database.is_working_on(mark).await? { 0 } else { denials + 1 };
            if denials >= DENIALS_MAX {
                return Err(Error::Timeout(ASK_AFTER * DENIALS_MAX));
            }
        }
    }

    /// An answer ends the doubt, also one that says no.
    fn answered<T>(&self, result: Result<T, tokio_postgres::Error>) -> Result<T, Error> {
        let result = result.map_err(Error::of_statement);
        if result.as_ref().err().is_none_or(|error| matches!(error, Error::Postgres(it) if it.code().is_some())) {
            self.in_doubt.store(false, Ordering::Relaxed);
        }
        result
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let is_unclear = *self.in_doubt.get_mut() || *self.in_transaction.get_mut();
        if let Some(client) = self.client.take().filter(|_| is_unclear) {
            Database::discard(client);
        }
    }
}

/// Names a running statement, so that it is found among the server's sessions wherever a pooler put it.
struct Mark(String);

impl Mark {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self(format!("/* {} {} */", process_name(), COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    fn on(&self, statement: &str) -> String {
        [&self.0, " ", statement].concat()
    }
}

impl Database {
    async fn is_working_on(&self, mark: &Mark) -> Result<bool, Error> {
        let rows = self.aside(IS_WORKING, mark).await?;
        Ok(rows.first().ok_or(Error::Malformed)?.try_get(0)?)
    }

    /// The identity whose policies run in that session now.
    async fn judged_on(&self, mark: &Mark) -> Result<Option<i32>, Error> {
        let rows = self.aside(WHO_IS_JUDGED, mark).await?;
        let Some(shown) = rows.first().map(|row| row.try_get::<_, &str>(0)).transpose()? else {
            return Ok(None);
        };
        let number = shown.strip_prefix(&*mark.0).and_then(|rest| rest.strip_prefix(JUDGING));
        Ok(number.and_then(|number| number.parse().ok()))
    }

    async fn end_backend(&self, mark: &Mark) -> Result<(), Error> {
        self.aside(END_BACKEND, mark).await.map(drop)
    }

    /// Asks over a new connection: the pool's may all be taken by what is asked about.
    async fn aside(&self, statement: &str, mark: &Mark) -> Result<Vec<Row>, Error> {
        const DEADLINE: Duration = Duration::from_secs(3);
        let asked = async {
            let (client, connection) = self.probe().await?;
            let parameters: [Parameter<'_>; 1] = [(&mark.0, Type::TEXT)];
            while_connected(connection, async { Ok(client.query_typed(statement, &parameters).await?) }).await
        };
        tokio::time::timeout(DEADLINE, asked).await.unwrap_or(Err(Error::Timeout(DEADLINE)))
    }
}

/// A connection works only while it is polled.
pub(super) async fn while_connected<T>(
    connection: impl Future<Output = Result<(), tokio_postgres::Error>>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        result = work => result,
        ended = connection => Err(ended.err().map_or(Error::Closed, Error::Postgres)),
    }
}
