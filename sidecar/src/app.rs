//! The whole sidecar: built once, in order; stopped in reverse order, with a deadline.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    auth::{Authenticator, Authorizer, SetupError},
    config::Config,
    connection::Services,
    counters,
    court::Court,
    demo::{self, DemoState},
    denials::Denials,
    filter::Filters,
    http::{Api, HttpState, admin_router, api_router, keys_router, public_router},
    hub::{Hub, Presence},
    metrics::Metrics,
    postgres::{self, Backoff, Database, listen},
    protocol::{DialectId, Insforge},
    reader::Reader,
    replay::Replay,
    tasks::Tasks,
    ticker::Ticker,
    transport::{Admission, Listener, ListenerLimits, OpeningState, engine_router, realtime_router},
    webhook::{Sender, SenderError},
};

/// A built sidecar: addresses are bound, nothing runs yet.
pub struct App {
    config: Config,
    database: Arc<Database>,
    services: Arc<Services>,
    public: Listener,
    admin: Listener,
    /// `None` when others send the webhooks.
    sender: Option<Sender>,
    /// Sockets; asked to leave first.
    connections: Tasks,
    /// Everything that serves them; stopped when they are gone.
    support: Tasks,
}

/// Why the sidecar cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Keys for tokens cannot be used.
    #[error("tokens cannot be verified: {0}")]
    Auth(#[from] SetupError),
    /// The way to the database cannot be set up.
    #[error("the way to the database cannot be set up: {}", .0.chain())]
    Database(#[from] postgres::Error),
    /// Webhooks cannot be sent.
    #[error("webhooks cannot be sent: {0}")]
    Webhooks(#[from] SenderError),
    /// An address cannot be bound.
    #[error("{address} cannot be listened on: {error}; stop what uses it, or set another address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
}

impl App {
    /// Builds everything and binds both addresses.
    ///
    /// # Errors
    ///
    /// What stands in the way. An unreachable database does not: it is waited for.
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        let metrics = Arc::new(Metrics::new());
        let database = Arc::new(Database::new(&config.database)?);
        let support = Tasks::new();
        let services = Arc::new(services(&config, &database, metrics, &support)?);
        let sender = sender(&config, &services)?;
        let limits = ListenerLimits::new(&config);
        let public = bind(config.listen, limits).await?;
        let admin = bind(config.admin_listen, limits).await?;
        Ok(Self { config, database, services, public, admin, sender, connections: Tasks::new(), support })
    }

    /// The public and the admin address, with the ports that were found when none were asked for.
    ///
    /// # Errors
    ///
    /// When the system does not know.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.public.address()?, self.admin.address()?))
    }

    /// Runs until `stop` fires, then lets every client go within the deadline and leaves nothing on the server.
    pub async fn run(mut self, stop: CancellationToken) {
        self.start_support();
        let state = OpeningState {
            services: Arc::clone(&self.services),
            admission: Arc::new(Admission::new(&self.config.limits)),
            origins: self.config.origins.clone().into(),
            engine_dialect: DialectId::insforge(Insforge {
                live_codes: self.config.insforge.live_codes,
                prefixes_channel: self.config.insforge.prefixes_channel,
            }),
            connections: self.connections.clone(),
        };
        let http = HttpState { metrics: Arc::clone(&self.services.metrics), origins: Arc::clone(&state.origins) };
        let router = public_router(http, self.routes(state));
        if let (Ok(public), Ok(admin)) = (self.public.address(), self.admin.address()) {
            info!(%public, %admin, "listening");
        }
        self.connections.spawn(self.public.run(router, self.connections.clone()));
        let admin = admin_router(Arc::clone(&self.services.metrics));
        self.support.spawn(self.admin.run(admin, self.support.clone()));
        stop.cancelled().await;
        drain(&self.connections, &self.support, &self.database, self.config.timing.drain_ms).await;
    }

    fn routes(&self, state: OpeningState) -> Router {
        let origins = Arc::clone(&state.origins);
        let api = Api::new(Arc::clone(&self.services), self.config.auth.admin_role.clone());
        let routes = realtime_router(state.clone()).merge(engine_router(state)).merge(api_router(api));
        let routes = routes.merge(keys_router(&self.config.auth));
        if !self.config.demo {
            return routes;
        }
        warn!("the demonstration is on: whoever reaches this address gets a token");
        routes.merge(demo::router(DemoState {
            database: Arc::clone(&self.database),
            auth: self.config.auth.clone(),
            origins,
            psql: self.config.demo_psql.clone(),
        }))
    }

    fn start_support(&mut self) {
        let stop = self.support.stopping();
        let backoff = backoff(&self.config);
        let services = &self.services;
        let (jwks, jwks_stop) = (services.authenticator.jwks(), stop.clone());
        self.support.spawn(async move { jwks.run(jwks_stop).await });
        self.support.spawn(Arc::clone(&services.authorizer).run(stop.clone()));
        self.support.spawn(Arc::clone(&services.denials).run(stop.clone()));
        if !self.config.deliver {
            warn!("delivery is switched off: no event is read from the log");
            // Nobody looks whether it is there, and clients are let in all the same.
            services.hub.set_database(true);
            return;
        }
        let bell = Arc::new(Notify::new());
        let (ticker, demand) = Ticker::new(
            Arc::clone(&self.database),
            Arc::clone(&bell),
            Arc::clone(&services.metrics),
            self.config.timing.clone(),
            backoff.clone(),
        );
        self.support.spawn(ticker.run(stop.clone()));
        let reader = Reader::new(
            Arc::clone(&self.database),
            Arc::clone(&services.hub),
            Arc::clone(&bell),
            Arc::clone(&services.metrics),
            self.config.timing.clone(),
            backoff.clone(),
            demand,
        );
        self.support.spawn(reader.run(stop.clone()));
        let metrics = Arc::clone(&services.metrics);
        self.support.spawn(listen::run(Arc::clone(&self.database), bell, metrics, backoff, stop.clone()));
        self.start_counting(stop.clone());
        if let Some(sender) = self.sender.take() {
            self.support.spawn(sender.run(stop));
        }
    }

    fn start_counting(&self, stop: CancellationToken) {
        let counters = &self.config.counters;
        if counters.messages_max == 0 {
            return;
        }
        let (hub, metrics) = (Arc::clone(&self.services.hub), Arc::clone(&self.services.metrics));
        self.support.spawn(counters::run(Arc::clone(&self.database), hub, metrics, counters.flush, stop));
    }
}

fn backoff(config: &Config) -> Backoff {
    let database = &config.database;
    Backoff::new(Duration::from_millis(database.reconnect_ms), Duration::from_millis(database.reconnect_max_ms))
}

fn sender(config: &Config, services: &Services) -> Result<Option<Sender>, SenderError> {
    if !config.webhooks.enabled {
        return Ok(None);
    }
    let (hub, metrics) = (Arc::clone(&services.hub), Arc::clone(&services.metrics));
    let (database, settings) = (Arc::clone(&services.database), config.webhooks.clone());
    Sender::new(database, hub, metrics, settings, config.limits.event_bytes_max, backoff(config)).map(Some)
}

async fn bind(address: SocketAddr, limits: ListenerLimits) -> Result<Listener, BuildError> {
    Listener::bind(address, limits).await.map_err(|error| BuildError::Bind { address, error })
}

fn services(
    config: &Config,
    database: &Arc<Database>,
    metrics: Arc<Metrics>,
    support: &Tasks,
) -> Result<Services, SetupError> {
    let hub = Arc::new(Hub::new(config.limits.recent_bytes_max).counting(config.counters.messages_max));
    let recheck = Duration::from_millis(config.timing.recheck_ms);
    let judge = Duration::from_millis(config.timing.judge_ms);
    let pool_size = config.database.pool_size_max;
    let denials = Arc::new(Denials::new(Arc::clone(&metrics), config.log.denials_max));
    Ok(Services {
        court: Court::new(
            &hub,
            Arc::clone(database),
            Arc::clone(&denials),
            Arc::clone(&metrics),
            judge,
            pool_size,
            support.clone(),
        ),
        denials,
        presence: Arc::new(Presence::new(config.limits.presence_members_max, metrics.presence_members.clone())),
        authenticator: Arc::new(Authenticator::new(&config.auth)?),
        authorizer: Arc::new(Authorizer::new(Arc::clone(database), Arc::clone(&metrics), recheck, pool_size)),
        replay: Replay::new(Arc::clone(database), &hub, pool_size, config.limits.shared_bytes_max),
        hub,
        filters: Filters::default(),
        snapshots: Arc::new(Semaphore::new(config.limits.snapshots_max)),
        slow_snapshots: Arc::new(Semaphore::new(config.limits.snapshots_max)),
        database: Arc::clone(database),
        metrics,
        limits: config.limits.clone(),
        timing: config.timing.clone(),
        leeway: config.auth.leeway,
    })
}

/// First the clients, who still get their events while they leave; then what serves them; then the database sessions.
async fn drain(connections: &Tasks, support: &Tasks, database: &Database, drain_ms: u64) {
    let deadline = Duration::from_millis(drain_ms);
    info!(connections = connections.len(), "stopping");
    let abandoned = connections.drain(deadline).await + support.drain(deadline / 4).await;
    database.close();
    if abandoned > 0 {
        warn!(abandoned, "some tasks did not end in time");
    }
    info!("stopped");
}
