//! The tables that are written, and sessions.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::{Client, Config, NoTls};
use xtask::cluster::{Cluster, ClusterError};

use crate::plan::Plan;

/// The database of the run.
pub(crate) const DATABASE: &str = "ledger";
/// The role that readers and the sidecar log in as.
pub(crate) const READER: &str = "ledger_reader";
/// Channels that messages go to.
pub(crate) const CHANNELS: [&str; 3] = ["room:1", "room:2", "other"];
const CONNECT_AGAIN: Duration = Duration::from_millis(20);

/// A table that emits events. The number is the place in [`Table::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Table {
    /// Few keys, wanted by everybody.
    Accounts,
    /// Partitioned; rows move between the partitions.
    Stock,
    /// A deferrable unique column.
    Seats,
    /// Referenced by a deferrable foreign key.
    Parents,
    /// References it.
    Children,
    /// Filled by transactions that are too large for memory.
    Bulk,
    /// No key.
    Journal,
    /// Truncated now and then.
    Scratch,
}

impl Table {
    /// All of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::Accounts,
        Self::Stock,
        Self::Seats,
        Self::Parents,
        Self::Children,
        Self::Bulk,
        Self::Journal,
        Self::Scratch,
    ];

    /// Its name in schema public.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Stock => "stock",
            Self::Seats => "seats",
            Self::Parents => "parents",
            Self::Children => "children",
            Self::Bulk => "bulk",
            Self::Journal => "journal",
            Self::Scratch => "scratch",
        }
    }

    /// The table of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// The columns that tell its rows apart; of the table without a key, the column that does so in this test.
    pub(crate) fn key(self) -> &'static [&'static str] {
        match self {
            Self::Stock => &["id", "region"],
            Self::Journal => &["token"],
            _ => &["id"],
        }
    }
}

/// Tokens name writes: one number each, never used twice. `prev` is the token that an update replaced.
const SCHEMA: &str = "
create extension realtime;
create table ledger (txn bigint primary key);
create table accounts (id int primary key, version int not null, token bigint not null, prev bigint, note text);
create table stock (id int, region int, version int not null, token bigint not null, prev bigint, note text,
                    primary key (id, region)) partition by list (region);
create table stock_0 partition of stock for values in (0);
create table stock_1 partition of stock for values in (1);
create table seats (id int primary key, place int not null unique deferrable initially deferred,
                    token bigint not null, prev bigint);
create table parents (id int primary key, token bigint not null, prev bigint);
create table children (id int primary key, token bigint not null, prev bigint,
                       parent int not null references parents deferrable initially deferred);
create table bulk (id bigint primary key, token bigint not null, prev bigint, note text);
create table journal (token bigint not null, prev bigint, at timestamptz default clock_timestamp());
create table scratch (id bigint primary key, token bigint not null, prev bigint);
insert into realtime.channels (pattern) values ('room:%'), ('other');
select realtime.enable_realtime(t::regclass) from unnest(array[
  'accounts', 'stock', 'seats', 'parents', 'children', 'bulk', 'journal', 'scratch']) t;
select realtime.create_roles();
grant select on all tables in schema public to anon;
create policy all_may_listen on realtime.channels for select to anon using (true);
create role ledger_reader login noinherit;
select realtime.grant_sidecar('ledger_reader');
";

/// Makes database, tables and roles.
pub(crate) fn prepare(cluster: &Cluster, plan: &Plan) -> Result<(), ClusterError> {
    cluster.sql("postgres", &format!("create database {DATABASE}"))?;
    cluster.sql(DATABASE, SCHEMA)?;
    // Small, so that ordinary transactions of this test spill.
    cluster.sql(DATABASE, &format!("alter database {DATABASE} set realtime.spill_bytes = '64kB'"))?;
    if let Some(retention) = plan.retention {
        let seconds = retention.as_secs();
        let text = format!("update realtime.settings set value = '{seconds} seconds' where name = 'log_retention'");
        cluster.sql(DATABASE, &text)?;
    }
    if let Some(size) = plan.log_max_size {
        // Far below what a DBA may set: it has to be reached within seconds.
        cluster.sql(DATABASE, "alter table realtime.settings disable trigger check_setting")?;
        let text = format!("update realtime.settings set value = '{size}' where name = 'log_max_size'");
        cluster.sql(DATABASE, &text)?;
    }
    let worker = if plan.worker { "on" } else { "off" };
    cluster.sql(DATABASE, &format!("alter database {DATABASE} set realtime.worker = {worker}"))?;
    if let Some(sabotage) = plan.sabotage {
        cluster.sql(DATABASE, sabotage)?;
    }
    // Before anybody writes, so that every reader can begin at the beginning.
    cluster.sql(DATABASE, "select realtime.tick()")?;
    Ok(())
}

/// A session and the task that moves its bytes.
#[derive(Debug)]
pub(crate) struct Session {
    /// What statements are sent through.
    pub(crate) client: Client,
    pump: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// Where the database is. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    port: u16,
}

impl Address {
    /// The address of a private server.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self { port: cluster.port() }
    }

    /// The address that the sidecar is given.
    pub(crate) fn url(&self) -> String {
        format!("postgres://{READER}@127.0.0.1:{}/{DATABASE}", self.port)
    }

    /// A session as a role.
    pub(crate) async fn connect(&self, role: &str) -> Result<Session, tokio_postgres::Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user(role).dbname(DATABASE);
        config.connect_timeout(Duration::from_secs(5));
        let (client, connection) = config.connect(NoTls).await?;
        // A connection that breaks is noticed by whoever uses its client.
        let pump = tokio::spawn(async move { drop(connection.await) });
        Ok(Session { client, pump })
    }

    /// A session as soon as the server gives one: it may be starting, or recovering from a fault.
    pub(crate) async fn connect_patiently(&self, role: &str) -> Session {
        loop {
            match self.connect(role).await {
                Ok(session) => return session,
                Err(_) => sleep(CONNECT_AGAIN).await,
            }
        }
    }
}
