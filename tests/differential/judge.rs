//! The side that is tested: a session like the sidecar's, which knows identities and asks for verdicts.

use std::collections::HashMap;

use realtime_tests::Database;
use realtime_tests::server::SIDECAR_ROLE;
use tokio_postgres::{Client, NoTls};

use crate::identity::Identity;
use crate::plan::Sabotage;

/// Verdicts on one event: its old and its new image.
pub(crate) type Pair = [u8; 2];

/// What was said of one table's events.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The events' offsets, in their order.
    pub(crate) offsets: Vec<i64>,
    /// For each identity, in the order in which they were told, a pair for each event.
    pub(crate) verdicts: Vec<Vec<Pair>>,
}

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

    /// Verdicts on the table's events in (after, until].
    pub(crate) async fn verdicts(&self, relation: u32, after: i64, until: i64, identities: usize) -> Answer {
        let ids: Vec<i32> = (0..i32::try_from(identities).unwrap()).collect();
        let statement = "select * from realtime.judge($1, $2, $3, $4)";
        let row = self.client.query_one(statement, &[&relation, &after, &until, &ids]).await.unwrap();
        let offsets: Vec<i64> = row.get("offsets");
        let texts: Vec<String> = row.get("verdicts");
        let spoken: HashMap<usize, Vec<Pair>> = texts.iter().map(|text| self.pairs(text)).enumerate().collect();
        let mut spoken = spoken;
        let verdicts = (0..identities).map(|n| spoken.remove(&n).unwrap_or_default()).collect();
        Answer { offsets, verdicts }
    }

    fn pairs(&self, text: &str) -> Vec<Pair> {
        let pair = |pair: &[u8]| match self.sabotage {
            Some(Sabotage::SwapImages) => [pair[1], pair[0]],
            _ => [pair[0], pair[1]],
        };
        text.as_bytes().chunks_exact(2).map(pair).collect()
    }
}
