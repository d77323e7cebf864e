//! The server, its tables and pgbench itself.

use std::env;

use xtask::build::{self, Profile};
use xtask::cluster::{Cluster, Options, Tree};
use xtask::postgres::Version;
use xtask::process;

/// The database of the run.
pub(crate) const DATABASE: &str = "pgbench";

const ROLE: &str = "pgbench_sidecar";

const PREPARE: &str = "
create extension realtime;
select realtime.create_roles();
select realtime.enable_realtime('public', t) from unnest(array[
  'pgbench_accounts', 'pgbench_branches', 'pgbench_tellers', 'pgbench_history']) t;
grant select on all tables in schema public to anon;
create role pgbench_sidecar login noinherit;
select realtime.grant_sidecar('pgbench_sidecar');
select realtime.tick();
";

/// What pgbench says it did.
pub(crate) struct Done {
    pub(crate) transactions: usize,
    pub(crate) seconds: u64,
}

/// A server with pgbench's tables, enabled.
pub(crate) fn start_cluster() -> Cluster {
    let profile = match env::var("REALTIME_TEST_PROFILE").as_deref() {
        Ok("release") => Profile::Release,
        _ => Profile::Dev,
    };
    build::extension(Version::V15, profile).unwrap();
    let tree = Tree::prepare_profile(Version::V15, profile).unwrap();
    let options = Options::default().set("synchronous_commit", "on").set("shared_buffers", "256MB");
    let cluster = Cluster::start(&tree, &options).unwrap();
    cluster.sql("postgres", &format!("create database {DATABASE}")).unwrap();
    pgbench(&cluster, &["-i", "-q", "-s", "1"]);
    cluster.sql(DATABASE, PREPARE).unwrap();
    cluster
}

/// What the sidecar is started with.
pub(crate) fn sidecar_settings(cluster: &Cluster) -> Vec<(String, String)> {
    let secret = "only anonymous clients come here; still it has to be long";
    let settings =
        [("REALTIME_DATABASE_URL", cluster.url_as(ROLE, DATABASE)), ("REALTIME_JWT_SECRET", secret.to_owned())];
    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Runs pgbench's own script: eight clients, each transaction updates three balances and notes it in the history.
pub(crate) fn run(cluster: &Cluster, seconds: u64) -> Done {
    let output = pgbench(cluster, &["-c", "8", "-j", "2", "-n", "-T", &seconds.to_string()]);
    let label = "number of transactions actually processed: ";
    let line = output.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_else(|| panic!("{output}"));
    let digits: String = line.chars().take_while(char::is_ascii_digit).collect();
    Done { transactions: digits.parse().unwrap(), seconds }
}

fn pgbench(cluster: &Cluster, words: &[&str]) -> String {
    let mut command = cluster.tree().program("pgbench");
    command.arg("-h").arg(cluster.socket_folder()).args(["-p", &cluster.port().to_string(), "-U", "postgres"]);
    process::capture(command.args(words).arg(DATABASE)).unwrap()
}

/// Makes everything readable that has committed, and returns the last offset.
pub(crate) fn head_of_all(cluster: &Cluster) -> i64 {
    let more = || !cluster.sql(DATABASE, "select tick_id from realtime.tick()").unwrap().is_empty();
    while more() {}
    cluster.sql(DATABASE, "select head from realtime.status()").unwrap().parse().unwrap()
}
