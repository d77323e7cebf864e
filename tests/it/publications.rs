//! Logical replication: publications `FOR ALL TABLES` have our own tables in them, too.

use std::sync::Arc;

use realtime_tests::{Database, Server, eventually};

const TABLE: &str = "create table t (id int primary key, name text)";

/// A database that publishes all tables, and one that subscribes to them, on one server.
async fn pair() -> (Database, Database) {
    let options = realtime_tests::server::options().set("wal_level", "logical");
    let server = tokio::task::spawn_blocking(move || Server::start(&options)).await.unwrap();
    let publisher = Database::create(Arc::clone(&server)).await;
    publisher.exec(TABLE).await;
    publisher
        .exec("create publication everything for all tables; select realtime.enable_realtime('t'::regclass)")
        .await;
    publisher.exec("insert into t values (1, 'copied')").await;
    let subscriber = Database::create(Arc::clone(&server)).await;
    subscriber.exec(TABLE).await;
    // A session that makes its own slot would wait for itself when both databases are of one server.
    publisher.exec("select pg_create_logical_replication_slot('pair', 'pgoutput')").await;
    let url = server.url("postgres", publisher.name());
    subscriber
        .exec(&format!(
            "create subscription pair connection '{url}' publication everything with (create_slot = false, slot_name = 'pair')"
        ))
        .await;
    (publisher, subscriber)
}

async fn in_step(subscriber: &Database) {
    eventually("all tables are in step", async || {
        let behind = "select count(*) from pg_subscription_rel where srsubstate <> 'r'";
        (subscriber.text(behind).await == "0").then_some(())
    })
    .await;
}

async fn end(subscriber: &Database) {
    subscriber.exec("alter subscription pair disable").await;
    subscriber.exec("alter subscription pair set (slot_name = none); drop subscription pair").await;
}

/// Each in a transaction of its own.
async fn in_turn(database: &Database, statements: &str) {
    for statement in statements.split(';') {
        database.exec(statement).await;
    }
}

/// Everything that we write to our own tables, and what people write to them.
const OUR_WRITES: &str = "
    select realtime.tick(); update t set name = 'told' where id = 1; select realtime.tick();
    update realtime.settings set value = '16 MB' where name = 'log_max_size';
    update realtime.state set is_full = true;
    insert into realtime.channels (pattern) values ('room:%') on conflict do nothing; select realtime.publish('room:1', 'said', '{}');
    select realtime.keep_house(); select realtime.mark_lost(); select realtime.tick();
    create policy p on realtime.channels using (true); select realtime.keep_house();
    drop policy p on realtime.channels; select realtime.keep_house();
    select realtime.cleanup_messages(); insert into t select count(*) + 1, 'last' from t";

#[tokio::test]
async fn a_publication_of_all_tables_harms_neither_side() {
    let (publisher, subscriber) = pair().await;
    subscriber.exec("create table own (id int primary key); select realtime.enable_realtime('own'::regclass)").await;
    in_turn(&subscriber, "select realtime.tick(); insert into own values (1)").await;
    let before = subscriber.text("select s::text from realtime.state s").await;
    in_turn(&publisher, OUR_WRITES).await;
    in_step(&subscriber).await;
    in_turn(&publisher, OUR_WRITES).await;
    eventually("the last row has come", async || {
        (subscriber.text("select name from t where id = 3").await == "last").then_some(())
    })
    .await;
    assert_eq!(subscriber.text("select name from t where id = 1").await, "told");
    assert_eq!(subscriber.text("select count(*) from realtime.messages").await, "2", "messages are people's own");
    assert_eq!(subscriber.text("select s::text from realtime.state s").await, before);
    assert_eq!(subscriber.text("select value from realtime.settings where name = 'log_max_size'").await, "4 GB");
    assert_eq!(subscriber.text("select count(*) from realtime.log").await, "1", "its own event alone");
    in_turn(&subscriber, "insert into own values (2); select realtime.tick()").await;
    let events = "select count(*) from realtime.status() s, realtime.read(s.oldest, 100, 100000, 'own'::regclass, null) where kind = 'e'";
    assert_eq!(subscriber.text(events).await, "2");
    end(&subscriber).await;
}

/// Retention of the publisher's log is a TRUNCATE, and that is replicated too.
#[tokio::test]
async fn a_truncate_of_another_log_begins_a_new_history() {
    let (publisher, subscriber) = pair().await;
    in_step(&subscriber).await;
    in_turn(&subscriber, "create table own (id int primary key); select realtime.enable_realtime('own'::regclass)")
        .await;
    in_turn(&subscriber, "select realtime.tick(); insert into own values (1); select realtime.tick()").await;
    let before: i64 = subscriber.text("select head from realtime.status()").await.parse().unwrap();
    in_turn(&publisher, "truncate realtime.log_0, realtime.tick_0; insert into t values (3, 'last')").await;
    eventually("the last row has come", async || {
        (subscriber.text("select name from t where id = 3").await == "last").then_some(())
    })
    .await;
    in_turn(&subscriber, "select realtime.tick(); insert into own values (2); select realtime.tick()").await;
    let read = format!(
        "select kind, \"offset\" > {before}, reason, record from realtime.read({before}, 100, 100000, null, null) where kind <> 'c'"
    );
    let rows: Vec<String> = subscriber.rows(&read).await.iter().map(|row| format!("{:?}", &row[2..])).collect();
    assert_eq!(rows, [r#"[Some("history"), None]"#, r#"[None, Some("{\"id\":2}")]"#]);
    let offsets = subscriber.rows(&read).await;
    assert!(offsets.iter().all(|row| row[1].as_deref() == Some("t")), "no offset is given twice: {offsets:?}");
    assert_eq!(subscriber.text("select is_torn from realtime.state").await, "f");
    end(&subscriber).await;
}

#[tokio::test]
async fn the_log_is_not_decoded() {
    let (publisher, subscriber) = pair().await;
    end(&subscriber).await;
    publisher.exec("insert into t select n, repeat('x', 10000) from generate_series(10, 20) n").await;
    let found = "select count(*) from pg_logical_slot_get_binary_changes('pair', null, null, 'proto_version', '1', 'publication_names', 'everything')
                  where encode(data, 'escape') like ";
    assert_eq!(publisher.text(&format!("{found} '%log\\_0%'")).await, "0");
    publisher.exec("insert into t values (30, 'x')").await;
    assert_eq!(publisher.text(&format!("{found} 'R%public%t%'")).await, "1", "what is decoded is found so");
    publisher.exec("select pg_drop_replication_slot('pair')").await;
}
