//! The side that is tested: a session like the sidecar's, which knows identities and asks for verdicts.

use realtime_tests::Database;
use realtime_tests::server::SIDECAR_ROLE;
use tokio_postgres::{Client, NoTls};

use crate::answer::{Answer, Pair};
use crate::identity::Identity;
use crate::plan::Sabotage;

/// The session.
pub(crate) struct Judge {
    client: Client,
    sabotage: Option<Sabotage>,
}

/// Logs in as the sidecar does.
pub(crate) async fn session(database: &Database) -> Client {
    let url = database.server().url(SIDECAR_ROLE, database.name());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Judge {
    /// A new session.
    pub(crate) async fn new(database: &Database, sabotage: Option<Sabotage>) -> Self {
        Self { client: session(database).await, sabotage }
    }

    /// Whether its answers are wrong on purpose.
    pub(crate) fn is_sabotaged(&self) -> bool {
        self.sabotage.is_some()
    }

    /// Tells the identities, numbered from 0.
    pub(crate) async fn know(&self, identities: &[Identity]) {
        for n in 0..identities.len() {
            let told = if self.sabotage == Some(Sabotage::OtherIdentity) { (n + 1) % identities.len() } else { n };
            let Identity { role, claims } = &identities[told];
            let id = i32::try_from(n).unwrap();
            let statement = "select realtime.know_identity($1, $2, $3)";
            self.client.execute(statement, &[&id, &role.name(), claims]).await.unwrap();
        }
    }

    /// Forgets them.
    pub(crate) async fn forget(&self, count: usize) {
        let count = i32::try_from(count).unwrap();
        let statement = "select realtime.forget_identity(n) from generate_series(0, $1 - 1) n";
        self.client.query(statement, &[&count]).await.unwrap();
    }

    /// Seats identities for a table, or takes their seats away.
    pub(crate) async fn seat(&self, relation: u32, ids: &[i32], is_seated: bool) {
        let statement = if is_seated { "select realtime.seat($1, $2)" } else { "select realtime.unseat($1, $2)" };
        self.client.execute(statement, &[&relation, &ids]).await.unwrap();
    }

    /// Verdicts on the table's events in (after, until], of these identities or of those who are seated.
    pub(crate) async fn verdicts(&self, relation: u32, after: i64, until: i64, ids: Option<&[i32]>) -> Answer {
        let statement = "select * from realtime.judge($1, $2, $3, $4)";
        let row = self.client.query_one(statement, &[&relation, &after, &until, &ids]).await.unwrap();
        let (seen_by, texts): (Vec<i32>, Vec<String>) = (row.get("seen_by"), row.get("verdicts"));
        let pairs = texts.iter().map(|text| self.pairs(text));
        Answer { offsets: row.get("offsets"), seen_by: seen_by.into_iter().zip(pairs).collect() }
    }

    /// The code of the error for which there is no verdict on one event for somebody.
    pub(crate) async fn failure(&self, relation: u32, offset: i64, id: i32) -> Option<String> {
        let statement = "select failures[1] from realtime.judge($1, $2, $3, array[$4::int])";
        self.client.query_one(statement, &[&relation, &(offset - 1), &offset, &id]).await.unwrap().get(0)
    }

    fn pairs(&self, text: &str) -> Vec<Pair> {
        let pair = |pair: &[u8]| match self.sabotage {
            Some(Sabotage::SwapImages) => [pair[1], pair[0]],
            _ => [pair[0], pair[1]],
        };
        text.as_bytes().chunks_exact(2).map(pair).collect()
    }
}
