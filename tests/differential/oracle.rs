//! The side that is believed: Postgres' own answer to `select … where id = …` as an identity.

use realtime_tests::Database;
use realtime_tests::database::text_rows;
use tokio_postgres::Client;

use crate::identity::Identity;
use crate::judge::session;
use crate::types::quoted;

/// Ways to ask that are all Postgres' own. They differ only in what is evaluated, so only in what fails.
const WAYS: [&str; 4] = [
    "set local enable_seqscan = off; set local enable_bitmapscan = off",
    "set local enable_indexscan = off; set local enable_bitmapscan = off; set local enable_indexonlyscan = off",
    "set local plan_cache_mode = force_generic_plan",
    "set local from_collapse_limit = 1; set local join_collapse_limit = 1",
];

/// A session that logs in as the sidecar does, and becomes each identity by `set local role`.
pub(crate) struct Oracle {
    client: Client,
}

impl Oracle {
    /// A new session.
    pub(crate) async fn new(database: &Database) -> Self {
        Self { client: session(database).await }
    }

    /// For each row whether the identity sees it: `1`, `0`, or `e` when the statement fails.
    pub(crate) async fn visible(&self, table: &str, ids: &[i32], identity: &Identity) -> Vec<u8> {
        let ids = ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        let query = format!("select count(*) from {table} where id = ");
        let (role, claims) = (identity.role.sql(), become_claims(&identity.claims));
        let ask = format!("set local role {role}; {claims}; select fx.visible({}, '{{{ids}}}')", quoted(&query));
        let rows = self.ask(&ask).await.expect("the oracle answers");
        rows[0][0].clone().unwrap().into_bytes()
    }

    /// Whether Postgres itself comes to this answer in another way of running the same statement. Which arm of a
    /// condition is evaluated first is its own choice, so whether a failing one is reached is not defined; and planning
    /// evaluates functions of the claims for its estimates, which a plan made before, for other claims, does not.
    pub(crate) async fn may_say(&self, answer: u8, table: &str, id: i32, identity: &Identity) -> bool {
        let is_visible = answer == b'1';
        let (role, claims) = (identity.role.sql(), become_claims(&identity.claims));
        let plain = format!("select count(*) from {table} where id = {id}");
        let prepare = format!("prepare same(int) as select count(*) from {table} where id = $1");
        for way in WAYS {
            let begin = format!("{way}; set local role {role}");
            // Planned while it finds no row: what fails for those claims says nothing about these.
            let planned = |others: &String| {
                let others = become_claims(others);
                format!("{begin}; {others}; {prepare}; execute same(0); {claims}; execute same({id})")
            };
            let fresh =
                [format!("{begin}; {claims}; {plain}"), format!("{begin}; {claims}; {prepare}; execute same({id})")];
            for ask in fresh.into_iter().chain(poorer(&identity.claims).iter().map(planned)) {
                let rows = self.ask(&ask).await;
                let visible = rows.is_ok_and(|rows| rows.last().unwrap()[0].as_deref() == Some("1"));
                if visible == is_visible {
                    return true;
                }
            }
        }
        false
    }

    /// Runs statements in a transaction that is rolled back.
    async fn ask(&self, statements: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
        let answer = self.client.simple_query(&format!("begin; {statements}")).await;
        self.client.simple_query("rollback; deallocate all").await.expect("the oracle's session lives");
        Ok(text_rows(&answer?))
    }
}

/// No claims, and these without each of them: an estimate may fail on one of them, and functions that are declared
/// immutable keep what they said of the others.
fn poorer(claims: &str) -> Vec<String> {
    let claims: serde_json::Map<String, serde_json::Value> = serde_json::from_str(claims).unwrap_or_default();
    let without = |name: &String| {
        let mut rest = claims.clone();
        rest.remove(name);
        serde_json::Value::Object(rest).to_string()
    };
    std::iter::once("{}".to_owned()).chain(claims.keys().map(without)).collect()
}

fn become_claims(claims: &str) -> String {
    format!("do $do$ begin perform set_config('request.jwt.claims', {}, true); end $do$", quoted(claims))
}
