//! A transaction's events fold, in their order, to what the transaction did: for whoever listens to a table and for
//! whoever listens to one of its partitions. Random transactions on tables whose triggers write to them again.

mod statements;

use std::collections::{BTreeMap, HashMap};
use std::env;

use realtime_tests::{Database, Server};
use serde_json::Value;
use tokio_postgres::Client;

use statements::{Random, SCHEMA, TABLES};

/// Rows of one relation by their key.
type Rows = BTreeMap<String, Value>;

/// What the subscribers of all relations have folded, and where they are.
struct Subscribers {
    session: Client,
    after: i64,
    rows: HashMap<String, Rows>,
    events: u64,
    gaps: u64,
}

/// One event as a reader gets it.
struct Event {
    op: String,
    /// The table, then its partition ancestors.
    relations: Vec<String>,
    old: Option<Value>,
    new: Option<Value>,
}

/// A row without the column that only makes it large.
fn row_of(text: &str) -> Value {
    let mut row: Value = serde_json::from_str(text).unwrap();
    row.as_object_mut().unwrap().remove("padding");
    row
}

fn key_of(row: &Value) -> String {
    row["id"].to_string()
}

impl Subscribers {
    async fn new(database: &Database) -> Self {
        let session = database.session().await;
        session.batch_execute("select realtime.tick()").await.unwrap();
        let after = session.query_one("select head from realtime.status()", &[]).await.unwrap().get(0);
        Self { session, after, rows: HashMap::new(), events: 0, gaps: 0 }
    }

    async fn read(&mut self) -> Vec<Event> {
        self.session.batch_execute("select realtime.tick()").await.unwrap();
        let mut events = Vec::new();
        loop {
            let rows = self.session.query(READ, &[&self.after]).await.unwrap();
            for row in &rows {
                let json = |n: usize| row.get::<_, Option<&str>>(n).map(row_of);
                match row.get("kind") {
                    "e" => events.push(Event { op: row.get(1), relations: row.get(2), old: json(3), new: json(4) }),
                    kind => assert_eq!(kind, "c"),
                }
            }
            let last = rows.last().unwrap();
            self.after = last.get("offset");
            if self.after >= last.get("until") {
                return events;
            }
        }
    }

    /// Takes what has happened, and says where it is not what the tables hold.
    async fn catch_up(&mut self, story: &str) {
        let mut log = String::new();
        for event in self.read().await {
            self.events += 1;
            log += &format!("{} {} {:?} -> {:?}\n", event.op, event.relations[0], event.old, event.new);
            self.apply(event).await;
        }
        for relation in TABLES {
            let there = rows_of(&self.session, relation).await;
            let folded = self.rows.entry((*relation).to_owned()).or_default();
            assert_eq!(*folded, there, "{relation}: folded, and there; events:\n{log}{story}");
        }
    }

    async fn apply(&mut self, event: Event) {
        for (n, relation) in event.relations.iter().enumerate() {
            let rows = self.rows.entry(relation.clone()).or_default();
            if event.op == "G" || (event.op == "T" && n > 0) {
                self.gaps += u64::from(event.op == "G");
                *rows = rows_of(&self.session, relation).await;
            } else if event.op == "T" {
                rows.clear();
            }
            event.old.iter().for_each(|old| drop(rows.remove(&key_of(old))));
            event.new.iter().for_each(|new| drop(rows.insert(key_of(new), new.clone())));
        }
    }
}

const READ: &str = "select kind::text, op::text, relations::regclass[]::text[], old_record, record, \"offset\", until
                      from realtime.read($1, 100000, 1000000000, null, null)";

async fn rows_of(session: &Client, relation: &str) -> Rows {
    let text =
        format!("select coalesce(jsonb_object_agg(id, to_jsonb(t) - 'padding'), '{{}}')::text from {relation} t");
    serde_json::from_str(session.query_one(&text, &[]).await.unwrap().get(0)).unwrap()
}

/// Runs random transactions; after each one every subscriber must have the table. `may_gap` says of which transactions a
/// gap may be all that is told.
async fn run(name: &str, settings: &str, transactions: u64, may_gap: fn(&str) -> bool) {
    let seed = env::var("FOLD_SEED").map_or(1, |text| text.parse().unwrap());
    let database = Database::create(tokio::task::spawn_blocking(Server::shared).await.unwrap()).await;
    let writer = database.session().await;
    writer.batch_execute(SCHEMA).await.unwrap();
    writer.batch_execute(settings).await.unwrap();
    let mut subscribers = Subscribers::new(&database).await;
    let mut random = Random::new(seed);
    let mut committed = 0;
    for n in 0..transactions {
        let story = statements::transaction(&mut random);
        match writer.batch_execute(&story).await {
            Ok(()) => committed += 1,
            Err(error) => {
                // Only what a user's own statements may do wrong here.
                let code = error.code().unwrap().code().to_owned();
                assert!(
                    ["21000", "23505", "23503", "27000", "54001", "55006"].contains(&code.as_str()),
                    "{error:?}\n{story}"
                );
                writer.batch_execute("rollback").await.unwrap();
            }
        }
        let before = subscribers.gaps;
        subscribers.catch_up(&format!("FOLD_SEED={seed}, transaction {n}:\n{story}")).await;
        assert!(before == subscribers.gaps || may_gap(&story), "a gap; FOLD_SEED={seed}, transaction {n}:\n{story}");
    }
    println!(
        "{name}: transactions {transactions}, committed {committed}, events {}, gaps {}",
        subscribers.events, subscribers.gaps
    );
    assert!(committed > transactions / 2, "too few transactions commit: {committed}");
}

fn transactions() -> u64 {
    env::var("FOLD_TRANSACTIONS").map_or(700, |text| text.parse().unwrap())
}

#[tokio::test]
async fn whatever_triggers_do_events_fold_to_the_tables() {
    // A table that is emptied in place, twice in one transaction, keeps its tuple ids: nobody can tell rows apart.
    run("in memory", "", transactions(), |story| story.contains("truncate")).await;
}

/// What was written early cannot be put in order any more. Then a gap says so.
#[tokio::test]
async fn large_transactions_fold_or_say_that_they_do_not() {
    let settings = "set realtime.spill_bytes = '64kB'; set test.padding = 1900";
    run("written early", settings, transactions() / 2, |_| true).await;
}
