//! The server that is measured: the extension as users run it, on the disk, with the disk's own speed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use tokio_postgres::{Client, NoTls};
use xtask::build::Profile;
use xtask::cluster::{Cluster, Options, Tree};
use xtask::postgres::Version;
use xtask::process;

use crate::cpu;
use crate::kind::NAIVE;

/// The database of all measurements.
pub(crate) const DATABASE: &str = "bench";

/// pgbench's script for one update of one row, which is one transaction.
pub(crate) const UPDATES: &str = "\\set aid random(1, 100000)
\\set delta random(-5000, 5000)
update pgbench_accounts set abalance = abalance + :delta where aid = :aid;
";

const ROLE: &str = "bench_sidecar";

const PREPARE: &str = "
create extension realtime;
select realtime.create_roles();
create table latency (id int primary key, token bigint not null);
insert into latency values (1, 0);
select realtime.enable_realtime('public', 'latency');
create table arrivals (token bigint primary key, filler text not null);
select realtime.enable_realtime('public', 'arrivals');
create table bulk (id int primary key, n int not null, filler text not null);
insert into bulk select n, 0, repeat('x', 80) from generate_series(1, 10000) n;
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
        Self::start_with(Vec::new())
    }

    /// As [`Server::start`], with variables for its processes alone.
    pub(crate) fn start_with(environment: Vec<(String, String)>) -> Self {
        let tree = Tree::prepare_profile(Version::V15, Profile::Release).unwrap();
        let options = Options { fsync: true, environment, ..Options::default() };
        let options = options.set("shared_buffers", "256MB").set("max_wal_size", "4GB").set("autovacuum", "off");
        let server = Self { cluster: Cluster::start(&tree, &options).unwrap() };
        server.cluster.sql("postgres", &format!("create database {DATABASE}")).unwrap();
        server.pgbench(&["-i", "-q", "-s", "1"]);
        server.sql(PREPARE);
        server.sql(NAIVE);
        server
    }

    /// Runs SQL as the superuser and returns what psql prints.
    pub(crate) fn sql(&self, text: &str) -> String {
        self.cluster.sql(DATABASE, text).unwrap()
    }

    /// The one number that a query gives.
    pub(crate) fn figure(&self, query: &str) -> f64 {
        let text = self.sql(query);
        text.trim().parse().unwrap_or_else(|_| panic!("{query}: {text}"))
    }

    /// Runs a script of pgbench's and returns what it prints.
    pub(crate) fn pgbench_script(&self, text: &str, words: &[&str]) -> String {
        let script = Script::write(text);
        let path = script.path.to_string_lossy();
        self.pgbench(&[&["-M", "prepared", "-n", "-f", &path], words].concat())
    }

    fn pgbench(&self, words: &[&str]) -> String {
        let mut command: Command = self.cluster.tree().program("pgbench");
        command.arg("-h").arg(self.cluster.socket_folder());
        command.args(["-p", &self.cluster.port().to_string(), "-U", "postgres"]);
        process::capture(command.args(words).arg(DATABASE)).unwrap()
    }

    /// A session of the superuser.
    pub(crate) async fn session(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.cluster.url(DATABASE), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// A session that listens and does nothing with what it hears.
    pub(crate) async fn listen(&self, channels: &[&str]) -> Client {
        let session = self.session().await;
        for channel in channels {
            session.batch_execute(&format!("listen {channel}")).await.unwrap();
        }
        session
    }

    /// Processor time of all the server's processes so far, in seconds.
    pub(crate) fn cpu_s(&self) -> f64 {
        cpu::of_family(self.cluster.pid().expect("the server runs"))
    }

    /// A folder on the disk that the data lies on.
    pub(crate) fn folder(&self) -> &Path {
        self.cluster.data_folder()
    }

    /// What the sidecar is started with.
    pub(crate) fn sidecar_settings(&self) -> Vec<(String, String)> {
        let url = self.cluster.url_as(ROLE, DATABASE);
        let secret = "only anonymous clients come here; still it has to be long";
        let settings = [("REALTIME_DATABASE_URL", url), ("REALTIME_JWT_SECRET", secret.to_owned())];
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// A number from the environment.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// pgbench's script in a file of its own.
struct Script {
    path: PathBuf,
}

impl Script {
    fn write(text: &str) -> Self {
        let path = env::temp_dir().join(format!("realtime-bench-{}.sql", std::process::id()));
        fs::write(&path, text).unwrap();
        Self { path }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // Left behind it would be three lines in the temporary folder.
        let _ = fs::remove_file(&self.path);
    }
}
