//! Postgres servers of this test process. Most tests share one and have a database each; tests that restart or kill
//! their server have it for themselves.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use xtask::build::{self, Profile};
use xtask::cluster::{Cluster, ClusterError, Options, Stop, Tree};
use xtask::postgres::Version;

/// The role that sidecars log in as.
pub const SIDECAR_ROLE: &str = "realtime_sidecar";

const TEMPLATE: &str = "realtime_template";

/// A Postgres server with a template database: extension, roles, helpers and the sidecars' role.
#[derive(Debug)]
pub struct Server {
    cluster: Mutex<Cluster>,
    port: u16,
    databases: AtomicU32,
    /// Taken from one template at a time.
    copying: Mutex<()>,
}

impl Server {
    /// The server that most tests share. It ends with the process.
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<Server>> = OnceLock::new();
        Arc::clone(SHARED.get_or_init(|| Self::start(&options())))
    }

    /// A server for one test.
    pub fn own() -> Arc<Self> {
        Self::start(&options())
    }

    /// A server for one test, with settings of its own.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start(options: &Options) -> Arc<Self> {
        Self::start_from(tree(), options)
    }

    /// As [`Server::start`], from a given tree: of another version, or with other scripts of the extension.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start_from(tree: &Tree, options: &Options) -> Arc<Self> {
        let cluster = Cluster::start(tree, options).unwrap_or_else(|error| panic!("{error}"));
        let server = Self::of(cluster);
        server.psql("postgres", &format!("create database {TEMPLATE}"));
        server.psql(TEMPLATE, PREPARE);
        server.psql(
            TEMPLATE,
            &format!(
                "create role {SIDECAR_ROLE} login noinherit; select realtime.grant_sidecar('{SIDECAR_ROLE}');
                 alter database {TEMPLATE} set search_path = \"$user\", public, realtime"
            ),
        );
        server
    }

    /// A running server as it is, with whatever it has.
    pub fn of(cluster: Cluster) -> Arc<Self> {
        let port = cluster.port();
        Arc::new(Self { cluster: Mutex::new(cluster), port, databases: AtomicU32::new(0), copying: Mutex::new(()) })
    }

    /// Does something with the server itself.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn with<T>(&self, work: impl FnOnce(&mut Cluster) -> Result<T, ClusterError>) -> T {
        work(&mut self.lock()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes a database from the template and returns its name.
    pub fn create_database(&self) -> String {
        let _one_at_a_time = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql(
            "postgres",
            &format!(
                "create database {name} template {TEMPLATE};
                 alter database {name} set search_path = \"$user\", public, realtime"
            ),
        );
        name
    }

    /// Makes a database that has nothing in it, for a restore, and returns its name.
    pub fn create_empty_database(&self) -> String {
        let name = format!("empty_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("create database {name} template template0"));
        name
    }

    /// Drops a database, whoever is connected to it. A server that is down keeps it.
    pub fn drop_database(&self, name: &str) {
        let _ = self.lock().sql("postgres", &format!("drop database if exists {name} with (force)"));
    }

    /// Runs SQL as the superuser by psql, and returns what it prints.
    ///
    /// # Panics
    ///
    /// When a statement fails.
    pub fn psql(&self, database: &str, text: &str) -> String {
        self.lock().sql(database, text).unwrap_or_else(|error| panic!("{error}"))
    }

    /// An address for a role.
    pub fn url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port on 127.0.0.1; it stays over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The first process of the server.
    pub fn pid(&self) -> Option<u32> {
        self.lock().pid()
    }

    /// Stops the server.
    pub fn stop(&self, how: Stop) {
        self.lock().stop(how).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Starts a stopped server again.
    pub fn start_again(&self) {
        self.lock().start_again().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Stops the server and starts it again.
    pub fn restart(&self, how: Stop) {
        self.lock().restart(how).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Kills the server's first process, as a crash does.
    pub fn kill(&self) {
        self.lock().kill().unwrap_or_else(|error| panic!("{error}"));
    }

    /// The server's log.
    pub fn log_file(&self) -> PathBuf {
        self.lock().log_file()
    }

    /// The server's programs, such as `pg_dump`.
    pub fn tree(&self) -> Tree {
        self.lock().tree().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What every server is started with.
pub fn options() -> Options {
    Options::default().set("max_connections", "400").set("log_error_verbosity", "verbose")
}

const PREPARE: &str = "
    set client_min_messages = warning;
    create extension realtime;
    select realtime.create_roles();
    select realtime.create_auth_helpers();
";

/// The Postgres version that tests run on: 15, or what `REALTIME_TEST_PG` says.
///
/// # Panics
///
/// When it is no version.
pub fn version() -> Version {
    std::env::var("REALTIME_TEST_PG")
        .map_or(Version::V15, |text| text.parse().unwrap_or_else(|error| panic!("{error}")))
}

/// The private Postgres with the extension as the sources have it now.
fn tree() -> &'static Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    TREE.get_or_init(|| tree_of(version()))
}

/// The private Postgres of a version, with the extension as the sources have it now.
///
/// # Panics
///
/// When the extension cannot be built, or the version not be had.
pub fn tree_of(version: Version) -> Tree {
    build::extension(version, Profile::Dev).unwrap_or_else(|error| panic!("{error}"));
    Tree::prepare(version).unwrap_or_else(|error| panic!("{error}"))
}
