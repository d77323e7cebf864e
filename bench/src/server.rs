//! The server that is measured: the extension as users run it, on the disk, with the disk's own speed.

use std::process::Command;

use xtask::build::Profile;
use xtask::cluster::{Cluster, Options, Tree};
use xtask::postgres::Version;
use xtask::process;

/// The database of all measurements.
pub(crate) const DATABASE: &str = "bench";

const ROLE: &str = "bench_sidecar";

const PREPARE: &str = "
create extension realtime;
select realtime.create_roles();
create table latency (id int primary key, token bigint not null);
insert into latency values (1, 0);
select realtime.enable_realtime('public', 'latency');
grant select on all tables in schema public to anon;
create role bench_sidecar login noinherit;
select realtime.grant_sidecar('bench_sidecar');
select realtime.tick();
";

/// A running server.
pub(crate) struct Server {
    cluster: Cluster,
}

impl Server {
    /// A server with pgbench's tables at scale 1, durable as in production.
    pub(crate) fn start() -> Self {
        let tree = Tree::prepare_profile(Version::V15, Profile::Release).unwrap();
        let options = Options { fsync: true, ..Options::default() };
        let options = options.set("shared_buffers", "256MB").set("max_wal_size", "4GB").set("autovacuum", "off");
        let server = Self { cluster: Cluster::start(&tree, &options).unwrap() };
        server.cluster.sql("postgres", &format!("create database {DATABASE}")).unwrap();
        server.pgbench(&["-i", "-q", "-s", "1"]);
        server.sql(PREPARE);
        server
    }

    /// Runs SQL as the superuser and returns what psql prints.
    pub(crate) fn sql(&self, text: &str) -> String {
        self.cluster.sql(DATABASE, text).unwrap()
    }

    /// Runs pgbench and returns what it prints.
    pub(crate) fn pgbench(&self, words: &[&str]) -> String {
        let mut command: Command = self.cluster.tree().program("pgbench");
        command.arg("-h").arg(self.cluster.socket_folder());
        command.args(["-p", &self.cluster.port().to_string(), "-U", "postgres"]);
        process::capture(command.args(words).arg(DATABASE)).unwrap()
    }

    /// The superuser's address.
    pub(crate) fn url(&self) -> String {
        self.cluster.url(DATABASE)
    }

    /// What the sidecar is started with.
    pub(crate) fn sidecar_settings(&self) -> Vec<(String, String)> {
        let url = self.cluster.url_as(ROLE, DATABASE);
        let secret = "only anonymous clients come here; still it has to be long";
        let settings = [("REALTIME_DATABASE_URL", url), ("REALTIME_JWT_SECRET", secret.to_owned())];
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
