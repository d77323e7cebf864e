//! What the catalogs say about the server, the extension and the login role.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio_postgres::Row;

use crate::{
    config::Config,
    postgres::{Client, Database, Error},
};

/// What the sidecar calls.
pub(super) const FUNCTIONS: [&str; 18] = [
    "contract_version",
    "tick",
    "ring",
    "mark_lost",
    "keep_house",
    "start_worker",
    "status",
    "read",
    "may_subscribe",
    "comparable",
    "publish_as",
    "begin_snapshot",
    "snapshot",
    "count_messages",
    "elect_webhook_sender",
    "claim_webhooks",
    "webhook_wait_ms",
    "finish_webhooks",
];

const SERVER: &str = "
    select current_setting('server_version_num')::int4,
           pg_catalog.split_part(current_setting('server_version'), ' ', 1),
           pg_catalog.pg_is_in_recovery(),
           extract(epoch from pg_catalog.clock_timestamp())::float8,
           pg_catalog.pg_postmaster_start_time()::text || '/' || pg_catalog.current_database(),
           r.rolname::text, r.rolsuper, r.rolbypassrls, r.rolinherit,
           array(select q.rolname::text from pg_catalog.pg_roles q
                 where q.rolsuper and q.oid <> r.oid and pg_catalog.pg_has_role(r.oid, q.oid, 'MEMBER'))
    from pg_catalog.pg_roles r where r.rolname = session_user";

const EXTENSION: &str = "
    select (select e.extversion from pg_catalog.pg_extension e where e.extname = 'realtime'),
           exists (select from pg_catalog.pg_available_extensions a where a.name = 'realtime'),
           exists (select from pg_catalog.pg_namespace n where n.nspname = 'realtime'),
           coalesce((select pg_catalog.has_schema_privilege(n.oid, 'USAGE')
                     from pg_catalog.pg_namespace n where n.nspname = 'realtime'), false)";

const CALLABLE: &str = "
    select p.proname::text, bool_or(pg_catalog.has_function_privilege(p.oid, 'EXECUTE'))
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'realtime' and p.proname::text = any($1) group by 1";

const ROLES: &str = "
    select w.name, r.oid is not null,
           coalesce(pg_catalog.pg_has_role(session_user, r.oid, $2), false),
           coalesce(pg_catalog.pg_has_role(session_user, r.oid, 'USAGE'), false)
    from pg_catalog.unnest($1::text[]) with ordinality w(name, position)
         left join pg_catalog.pg_roles r on r.rolname = w.name
    order by w.position";

/// Everything that is judged, without a judgement.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) server_version_number: i32,
    pub(super) server_version: String,
    pub(super) is_standby: bool,
    /// The server's clock minus ours, in seconds.
    pub(super) clock_ahead_s: f64,
    /// Differs between any two servers and databases.
    pub(super) place: String,
    pub(super) user: String,
    pub(super) is_superuser: bool,
    pub(super) bypasses_rls: bool,
    pub(super) inherits: bool,
    pub(super) superusers_within_reach: Vec<String>,
    pub(super) extension: Extension,
    pub(super) functions: Vec<Callable>,
    pub(super) roles: Vec<RoleFact>,
    pub(super) contract_version: Option<i32>,
}

/// The state of the extension.
#[derive(Clone, Debug)]
pub(super) struct Extension {
    pub(super) version: Option<String>,
    pub(super) is_available: bool,
    pub(super) schema_exists: bool,
    pub(super) schema_usable: bool,
}

/// A function of the extension.
#[derive(Clone, Debug)]
pub(super) struct Callable {
    pub(super) name: String,
    pub(super) allowed: bool,
}

/// A role that tokens may name.
#[derive(Clone, Debug)]
pub(super) struct RoleFact {
    pub(super) name: String,
    pub(super) exists: bool,
    pub(super) can_be_assumed: bool,
    pub(super) is_inherited: bool,
}

impl Facts {
    pub(super) async fn gather(config: &Config, database: &Database) -> Result<Self, Error> {
        let (client, connection) = database.probe().await?;
        let asked = ask(&client, config);
        // The connection works only while it is polled; it ends with this function.
        tokio::select! {
            facts = asked => facts,
            ended = connection => Err(ended.err().map_or(Error::Closed, Error::Postgres)),
        }
    }
}

async fn ask(client: &Client, config: &Config) -> Result<Facts, Error> {
    let sent = Instant::now();
    let server = client.query_one(SERVER, &[]).await?;
    let clock_ahead_s = clock_ahead(server.get(3), sent.elapsed());
    let extension = extension(&client.query_one(EXTENSION, &[]).await?);
    let functions = client.query(CALLABLE, &[&FUNCTIONS.as_slice()]).await?;
    let functions: Vec<Callable> =
        functions.iter().map(|row| Callable { name: row.get(0), allowed: row.get(1) }).collect();
    let roles = roles(client, config, server.get(0)).await?;
    let may_ask = extension.schema_usable && functions.iter().any(|f| f.name == "contract_version" && f.allowed);
    let contract_version =
        if may_ask { Some(client.query_one("select realtime.contract_version()", &[]).await?.get(0)) } else { None };
    Ok(Facts {
        server_version_number: server.get(0),
        server_version: server.get(1),
        is_standby: server.get(2),
        clock_ahead_s,
        place: server.get(4),
        user: server.get(5),
        is_superuser: server.get(6),
        bypasses_rls: server.get(7),
        inherits: server.get(8),
        superusers_within_reach: server.get(9),
        extension,
        functions,
        roles,
        contract_version,
    })
}

fn extension(row: &Row) -> Extension {
    Extension { version: row.get(0), is_available: row.get(1), schema_exists: row.get(2), schema_usable: row.get(3) }
}

async fn roles(client: &Client, config: &Config, server_version: i32) -> Result<Vec<RoleFact>, Error> {
    // Since 16 a member may lack the right to assume the role.
    let privilege = if server_version >= 160_000 { "SET" } else { "MEMBER" };
    let rows = client.query(ROLES, &[&config.auth.roles_in_use(), &privilege]).await?;
    let fact = |row: &Row| RoleFact {
        name: row.get(0),
        exists: row.get(1),
        can_be_assumed: row.get(2),
        is_inherited: row.get(3),
    };
    Ok(rows.iter().map(fact).collect())
}

/// Compares the clocks as of the middle of the round trip.
fn clock_ahead(server_s: f64, round_trip: Duration) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    server_s - (now.as_secs_f64() - round_trip.as_secs_f64() / 2.0)
}
