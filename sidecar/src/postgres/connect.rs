//! Connections: a pool for calls, and a direct one for LISTEN.
//!
//! Every new connection is judged before anybody gets it: a login role that could do more than it may is refused even
//! when it got that right while we ran. Nothing that a user sent is ever part of how a session is opened.

use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Metrics, Pool, PoolError, RecyclingMethod, Runtime};
use tokio_postgres::{SimpleQueryMessage, Socket, tls::MakeTlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Error, RoleFault, call::while_connected, tls};
use crate::config::DatabaseSettings;

/// A connection of our own.
pub use tokio_postgres::Client;

/// A connection on loan from the pool; dropping it gives it back.
pub type PooledClient = deadpool_postgres::Object;

/// What reads from the server's socket on behalf of a [`Client`]; notifications come out of it.
pub type Connection = tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// A pooled connection that was idle for longer is asked for a sign of life first.
const IDLE_TRUSTED_MAX: Duration = Duration::from_secs(30);

/// How long that sign may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A statement that was given up goes on in its backend until the server notices that nobody waits: a policy can swallow
/// a timeout or a cancel request, but not the loss of its client.
const NOTICE_LOSS: &str = "set client_connection_check_interval = '2s'";

const JUDGE_ROLE: &str = "select r.rolsuper, r.rolbypassrls, r.rolinherit \
                          from pg_catalog.pg_roles r where r.rolname = session_user";

/// The way to the database.
pub struct Database {
    pool: Pool,
    /// For sessions that keep what they were told: no pooler may give them to others between two statements.
    standing: Pool,
    /// For the reader alone, past any pooler.
    reading: Pool,
    pooled: tokio_postgres::Config,
    pooled_tls: MakeRustlsConnect,
    direct: tokio_postgres::Config,
    direct_tls: MakeRustlsConnect,
    connect_timeout: Duration,
}

impl Database {
    /// Prepares pool and TLS; nothing is connected yet.
    ///
    /// # Errors
    ///
    /// Certificates that cannot be used.
    pub fn new(settings: &DatabaseSettings) -> Result<Self, Error> {
        let pooled_tls = tls::connector(settings.pool.tls())?;
        let direct_tls = tls::connector(settings.direct.tls())?;
        let pooled = settings.pool.postgres().clone();
        let direct = settings.direct.postgres().clone();
        Ok(Self {
            pool: pool(settings, settings.pool_size_max, &pooled, &pooled_tls),
            standing: pool(settings, settings.pool_size_max, &direct, &direct_tls),
            reading: pool(settings, 1, &direct, &direct_tls),
            pooled,
            pooled_tls,
            direct,
            direct_tls,
            connect_timeout: settings.connect_timeout,
        })
    }

    /// A connection from the pool.
    ///
    /// # Errors
    ///
    /// When none is free or can be made in time, or the login role may do too much.
    pub async fn client(&self) -> Result<PooledClient, Error> {
        self.pool.get().await.map_err(|error| self.pool_error(error))
    }

    /// A connection that passes no pooler, for one who keeps it.
    ///
    /// # Errors
    ///
    /// As [`Database::client`].
    pub(super) async fn standing_client(&self) -> Result<PooledClient, Error> {
        self.standing.get().await.map_err(|error| self.pool_error(error))
    }

    /// The one connection past any pooler that the reader keeps.
    ///
    /// # Errors
    ///
    /// As [`Database::client`].
    pub(super) async fn reading_client(&self) -> Result<PooledClient, Error> {
        self.reading.get().await.map_err(|error| self.pool_error(error))
    }

    /// Whether somebody waits for a standing connection: who has one and can do without gives it up.
    #[must_use]
    pub fn standing_is_short(&self) -> bool {
        self.standing.status().waiting > 0
    }

    /// A connection of its own that passes no pooler, for LISTEN. The caller drives the [`Connection`].
    ///
    /// # Errors
    ///
    /// When none can be made in time.
    pub async fn listen(&self) -> Result<(Client, Connection), Error> {
        self.open(&self.direct, &self.direct_tls).await
    }

    /// A connection on the pool's way that nobody has judged, to find out what is wrong with it.
    ///
    /// # Errors
    ///
    /// When none can be made in time.
    pub async fn probe(&self) -> Result<(Client, Connection), Error> {
        self.open(&self.pooled, &self.pooled_tls).await
    }

    /// A judged connection of its own, for what takes long. The caller drives the [`Connection`].
    ///
    /// # Errors
    ///
    /// When none can be made in time, or the login role may do too much.
    pub async fn own(&self) -> Result<(Client, Connection), Error> {
        judged(self.probe().await?).await
    }

    /// As [`Database::own`], past any pooler: for what the session itself holds.
    ///
    /// # Errors
    ///
    /// As [`Database::own`].
    pub(super) async fn own_direct(&self) -> Result<(Client, Connection), Error> {
        judged(self.listen().await?).await
    }

    async fn open(
        &self,
        config: &tokio_postgres::Config,
        tls: &MakeRustlsConnect,
    ) -> Result<(Client, Connection), Error> {
        match tokio::time::timeout(self.connect_timeout, config.connect(tls.clone())).await {
            Ok(connected) => Ok(connected?),
            Err(_) => Err(Error::Timeout(self.connect_timeout)),
        }
    }

    /// Takes a connection out of the pool for good: after a transport or protocol error, or when a call was given up
    /// half-way, nobody can say what state it is in.
    pub fn discard(client: PooledClient) {
        drop(PooledClient::take(client));
    }

    /// Ends all idle connections and lets no new one be made.
    pub fn close(&self) {
        self.pool.close();
        self.standing.close();
        self.reading.close();
    }

    fn pool_error(&self, error: PoolError) -> Error {
        match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => Error::Postgres(error),
            PoolError::PostCreateHook(HookError::Message(message)) => Error::Role(fault_of(&message)),
            PoolError::Closed => Error::Closed,
            PoolError::Timeout(_) | PoolError::NoRuntimeSpecified => Error::Timeout(self.connect_timeout),
        }
    }
}

fn pool(
    settings: &DatabaseSettings,
    size_max: usize,
    config: &tokio_postgres::Config,
    tls: &MakeRustlsConnect,
) -> Pool {
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(config.clone(), tls.clone(), recycling);
    let age_max = settings.connection_age_max;
    Pool::builder(manager)
        .max_size(size_max)
        .runtime(Runtime::Tokio1)
        .create_timeout(Some(settings.connect_timeout))
        .wait_timeout(Some(settings.connect_timeout))
        .recycle_timeout(Some(PROBE_TIMEOUT))
        .post_create(Hook::async_fn(|client, _| Box::pin(async move { judge_role(client).await.map_err(refusal) })))
        .pre_recycle(Hook::async_fn(move |client, metrics| Box::pin(still_good(client, *metrics, age_max))))
        .build()
        .expect("a pool with timeouts and a runtime is always built")
}

async fn judged((client, mut connection): (Client, Connection)) -> Result<(Client, Connection), Error> {
    let judgement = async { Ok(judge_role(&client).await) };
    match while_connected(&mut connection, judgement).await? {
        Ok(()) => Ok((client, connection)),
        Err(Judgement::Failed(error)) => Err(error.into()),
        Err(Judgement::Refused(fault)) => Err(Error::Role(fault)),
    }
}

/// Why a new connection may not be used.
enum Judgement {
    Failed(tokio_postgres::Error),
    Refused(RoleFault),
}

async fn judge_role(client: &Client) -> Result<(), Judgement> {
    // Where the server cannot do that, statements merely go on for longer.
    let _ = client.simple_query(NOTICE_LOSS).await;
    let messages = client.simple_query(JUDGE_ROLE).await.map_err(Judgement::Failed)?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    // A role that is not in the catalog cannot be judged, and so counts as the worst.
    let has = |index: usize| row.is_none_or(|row| row.get(index) != Some("f"));
    match RoleFault::of(has(0), has(1), has(2)) {
        Some(fault) => Err(Judgement::Refused(fault)),
        None => Ok(()),
    }
}

/// The pool carries a fault as text: three letters, read back by [`fault_of`].
fn refusal(judgement: Judgement) -> HookError {
    match judgement {
        Judgement::Failed(error) => HookError::Backend(error),
        Judgement::Refused(fault) => {
            let letters = [(fault.superuser, 's'), (fault.bypass_rls, 'b'), (fault.inherit, 'i')];
            HookError::message(letters.iter().filter(|(has, _)| *has).map(|(_, letter)| *letter).collect::<String>())
        }
    }
}

fn fault_of(letters: &str) -> RoleFault {
    RoleFault { superuser: letters.contains('s'), bypass_rls: letters.contains('b'), inherit: letters.contains('i') }
}

async fn still_good(client: &Client, metrics: Metrics, age_max: Duration) -> Result<(), HookError> {
    if metrics.age() > age_max {
        return Err(HookError::message("it is old"));
    }
    if metrics.last_used() > IDLE_TRUSTED_MAX {
        client.simple_query("").await.map_err(HookError::Backend)?;
    }
    Ok(())
}
