//! A database, a sidecar and the clients of one test.

use std::ops::Deref;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::{Client, Connect, Database, Dialect, Proxy, Server, Sidecar, Signer, sidecar};

/// A database and a sidecar for one test. Dereferences to its [`Database`]: `stack.exec("…")`.
pub struct Stack {
    // In the order in which they end.
    /// The sidecar.
    pub sidecar: Sidecar,
    /// Between sidecar and database, when the test asked for it.
    pub proxy: Option<Proxy>,
    /// The database.
    pub database: Database,
    /// Signs tokens that the sidecar accepts.
    pub signer: Signer,
}

/// What a [`Stack`] is to have.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    own_server: bool,
    server: Option<Arc<Server>>,
    proxy: bool,
    stopped: bool,
    settings: Vec<(String, String)>,
    sql: String,
}

impl Builder {
    /// A Postgres server of its own, for a test that stops it.
    #[must_use]
    pub fn own_server(mut self) -> Self {
        self.own_server = true;
        self
    }

    /// A given Postgres server.
    #[must_use]
    pub fn server(mut self, server: &Arc<Server>) -> Self {
        self.server = Some(Arc::clone(server));
        self
    }

    /// A [`Proxy`] between sidecar and database.
    #[must_use]
    pub fn proxy(mut self) -> Self {
        self.proxy = true;
        self
    }

    /// A setting of the sidecar, by its environment variable.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// SQL to run in the database before the sidecar starts.
    #[must_use]
    pub fn sql(mut self, sql: &str) -> Self {
        self.sql.push_str(sql);
        self.sql.push('\n');
        self
    }

    /// Does not wait until the sidecar serves events.
    #[must_use]
    pub fn without_waiting(mut self) -> Self {
        self.stopped = true;
        self
    }

    /// Starts everything and waits until the sidecar serves events.
    pub async fn start(self) -> Stack {
        let (own, given) = (self.own_server, self.server.clone());
        let server = spawn_blocking(move || {
            sidecar::program();
            given.unwrap_or_else(|| if own { Server::own() } else { Server::shared() })
        });
        self.start_on(Database::create(server.await.unwrap()).await).await
    }

    /// As [`Builder::start`], on a database that is there.
    pub async fn start_on(self, database: Database) -> Stack {
        if !self.sql.is_empty() {
            database.exec(&self.sql).await;
        }
        let proxy =
            if self.proxy { Some(Proxy::start(([127, 0, 0, 1], database.server().port()).into())) } else { None };
        let signer = Signer::random();
        let sidecar = Sidecar::start(&self.settings(&database, proxy.as_ref(), &signer));
        if !self.stopped {
            sidecar.ready().await;
        }
        Stack { sidecar, proxy, database, signer }
    }

    fn settings(&self, database: &Database, proxy: Option<&Proxy>, signer: &Signer) -> Vec<(String, String)> {
        let port = proxy.map_or(database.server().port(), |proxy| proxy.address().port());
        let url = database.sidecar_url(port);
        let ours = [("REALTIME_DATABASE_URL", url), ("REALTIME_JWT_SECRET", signer.secret().to_owned())];
        let ours = ours.into_iter().map(|(name, value)| (name.to_owned(), value));
        let mut settings: Vec<(String, String)> = Vec::new();
        for (name, value) in ours.chain(self.settings.clone()) {
            settings.retain(|(known, _)| *known != name);
            settings.push((name, value));
        }
        settings
    }
}

impl Stack {
    /// Starts a database on the shared server and a sidecar with its defaults.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// As [`Stack::start`], with SQL to run first.
    pub async fn with(sql: &str) -> Self {
        Self::builder().sql(sql).start().await
    }

    /// What is to be started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A way to connect: native protocol, no token.
    pub fn connect(&self) -> Connect {
        Connect::new(self.sidecar.address(), Dialect::Native)
    }

    /// An anonymous client of the native protocol.
    pub async fn native(&self) -> Client {
        self.connect().open().await
    }

    /// A client of the native protocol, signed in with the role `authenticated`.
    pub async fn native_as(&self, sub: &str) -> Client {
        self.connect().token(&self.signer.user(sub)).open().await
    }

    /// An anonymous client of the seed's frames.
    pub async fn seed(&self) -> Client {
        Connect::new(self.sidecar.address(), Dialect::Seed).open().await
    }

    /// A client of the seed's frames, signed in with the role `authenticated`.
    pub async fn seed_as(&self, sub: &str) -> Client {
        Connect::new(self.sidecar.address(), Dialect::Seed).token(&self.signer.user(sub)).open().await
    }

    /// The proxy between sidecar and database.
    ///
    /// # Panics
    ///
    /// When the test did not ask for it.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the stack was built with a proxy")
    }
}

impl Deref for Stack {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}
