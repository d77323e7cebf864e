//! Rules of the log that no other test would notice to be broken. ARCHITECTURE.md has the table of all.

use std::future::poll_fn;
use std::sync::Arc;

use realtime_tests::{Database, Server, Stop, eventually};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_postgres::{AsyncMessage, Client, NoTls, error::SqlState};

use crate::fixtures::TABLE;

/// A database without a worker: nobody ticks but the test.
async fn database(server: Arc<Server>) -> Database {
    let database = Database::create(server).await;
    database.exec(&format!("alter database {} set realtime.worker = off", database.name())).await;
    database.exec("set realtime.worker = off").await;
    database.exec(TABLE).await;
    database.exec("select realtime.tick()").await;
    database
}

async fn shared() -> Arc<Server> {
    spawn_blocking(Server::shared).await.unwrap()
}

#[tokio::test]
async fn a_tick_is_on_the_disk_with_its_batch_before_anybody_sees_it() {
    let database = database(shared().await).await;
    database.exec("set synchronous_commit = off").await;
    for id in 0..20 {
        database.exec(&format!("insert into t values ({id})")).await;
        let written = database.text("select pg_current_wal_insert_lsn()").await;
        database.exec("select realtime.tick()").await;
        let flushed = format!("select pg_current_wal_flush_lsn() >= '{written}'");
        assert_eq!(database.text(&flushed).await, "t", "turn {id}");
    }
}

/// What is said on the channel `realtime`, payload by payload.
async fn listen(database: &Database) -> (Client, mpsc::UnboundedReceiver<String>) {
    let url = database.server().url("postgres", database.name());
    let (client, mut connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    let (sender, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(said) = message {
                sender.send(said.payload().to_owned()).unwrap();
            }
        }
    });
    client.batch_execute("listen realtime").await.unwrap();
    (client, heard)
}

#[tokio::test]
async fn a_tick_rings_nobody_and_the_bell_is_rung_apart() {
    let database = database(shared().await).await;
    let (_client, mut heard) = listen(&database).await;
    database.exec("insert into t values (1)").await;
    assert_eq!(database.rows("select from realtime.tick()").await.len(), 1);
    database.exec("notify realtime, 'after the tick'").await;
    database.exec("select realtime.ring()").await;
    assert_eq!(heard.recv().await.unwrap(), "after the tick");
    assert_eq!(heard.recv().await.unwrap(), "");
}

#[tokio::test]
async fn a_tick_comes_alone_and_in_read_committed() {
    let database = database(shared().await).await;
    for before in ["begin isolation level repeatable read", "begin; insert into t values (1)"] {
        let session = database.session().await;
        session.batch_execute(before).await.unwrap();
        let error = session.batch_execute("select realtime.tick()").await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "25000", "{before}");
        assert!(error.as_db_error().unwrap().hint().unwrap().contains("alone"), "{before}");
    }
}

#[tokio::test]
async fn nobody_vacuums_the_log_and_nobody_compiles_its_statements() {
    let database = database(shared().await).await;
    let vacuumed = "select c.oid::regclass from pg_class c
                     where relnamespace = 'realtime'::regnamespace and relname ~ '^(log|tick)_' and relkind = 'r'
                       and not coalesce(reloptions @> array['autovacuum_enabled=off', 'toast.autovacuum_enabled=off']
                                     or reloptions @> array['autovacuum_enabled=off'], false)";
    assert!(database.rows(vacuumed).await.is_empty());
    // Without sequential scans the costs are such that Postgres would compile.
    let compiled = "select oid::regprocedure from pg_proc
                     where pronamespace = 'realtime'::regnamespace and proconfig @> array['enable_seqscan=off']
                       and not proconfig @> array['jit=off']";
    assert!(database.rows(compiled).await.is_empty(), "{:?}", database.rows(compiled).await);
}

#[tokio::test]
async fn an_idle_worker_takes_no_transaction_ids() {
    let server = spawn_blocking(Server::own).await.unwrap();
    let database = Database::create(server).await;
    database.exec(TABLE).await;
    database.exec("insert into t values (1)").await;
    let turns = format!("select xact_commit from pg_stat_database where datname = '{}'", database.name());
    let count = async || database.text(&turns).await.parse::<i64>().unwrap();
    // House is kept in the meantime; the first time it has something to write.
    let ids = async || database.text("select pg_snapshot_xmax(pg_current_snapshot())").await;
    eventually("the worker is idle and takes none", async || {
        let (before, begun) = (ids().await, count().await);
        eventually("the worker has looked many times", async || (count().await > begun + 30).then_some(())).await;
        (ids().await == before).then_some(())
    })
    .await;
}

/// What is lost at the cap is told by whoever ticks. When the server crashes before, nobody remembers but the table.
#[tokio::test]
async fn a_mark_that_a_full_log_owes_is_owed_after_a_crash() {
    let server = spawn_blocking(Server::own).await.unwrap();
    let database = database(Arc::clone(&server)).await;
    assert_eq!(database.text("select realtime.mark_lost()").await, "f");
    database.exec("update realtime.state set is_full = true").await;
    let writer = database.session().await;
    writer.batch_execute("set realtime.worker = off; insert into t values (1)").await.unwrap();
    database.exec("select realtime.rotate()").await;
    assert_eq!(database.text("select is_full from realtime.state").await, "f");
    spawn_blocking(move || server.restart(Stop::Immediate)).await.unwrap();
    let state = eventually("the server is back", async || {
        let session = database.try_session().await.ok()?;
        Some(session.query_one("select realtime.mark_lost(), realtime.mark_lost()", &[]).await.unwrap())
    })
    .await;
    assert_eq!((state.get(0), state.get(1)), (true, true), "within one transaction it is owed until the commit");
    assert_eq!(database.text("select realtime.mark_lost()").await, "f");
    database.exec("select realtime.tick()").await;
    let reasons = "select distinct reason from realtime.status() s, realtime.read(s.oldest, 100, 100000, null, null) where kind = 'e'";
    assert_eq!(database.text(reasons).await, "log_full");
}

/// House is kept between two ticks, every ten seconds: it must not take the longer the more there is.
#[tokio::test]
async fn rotation_does_not_read_all_ticks() {
    let database = database(shared().await).await;
    database
        .exec(
            "insert into realtime.tick_1 select n, t.history, t.incarnation, t.snapshot, n, n, '{}', '{}', '{}', now()
               from generate_series(-20000, -1) n, realtime.ticks t",
        )
        .await;
    let read = database.rows_read("select realtime.rotate()", "relname ~ '^tick_[0-7]$'").await;
    assert!(read < 200, "{read} rows");
}

#[tokio::test]
async fn a_look_at_the_tables_reads_the_catalog_once() {
    let database = database(shared().await).await;
    let table = "execute format('create table t%s (id int primary key)', n);
                 perform realtime.enable_realtime(format('t%s', n)::regclass);";
    database.exec(&format!("do $$ begin for n in 1..100 loop {table} end loop; end $$")).await;
    database.exec("select realtime._notice_changes(true)").await;
    let triggers = database.text("select count(*) from pg_trigger").await.parse::<i64>().unwrap();
    let read = database.rows_read("select realtime._notice_changes(true)", "relname = 'pg_trigger'").await;
    assert!(read <= triggers, "{read} rows of {triggers}");
}

/// Moving an index locks it and not its table: what is written meanwhile must not miss it.
#[tokio::test]
async fn a_segment_whose_index_is_being_moved_is_not_written() {
    let database = database(shared().await).await;
    let mover = database.session().await;
    mover.batch_execute("begin; alter index realtime.log_0_run set tablespace pg_default").await.unwrap();
    database.exec("insert into t values (1)").await;
    mover.batch_execute("commit").await.unwrap();
    assert_eq!(database.text("select segment from realtime.log where op = 'I'").await, "1");
    assert_eq!(database.text("select events from realtime.tick()").await, "1");
}

/// Transactions that were in progress at a tick are looked for one by one when they began long before it, and in one go when
/// they began just before.
#[tokio::test]
async fn who_was_in_progress_at_a_tick_comes_once_however_long_ago_it_began() {
    let database = database(shared().await).await;
    let burn = "do $$ begin for n in 1..1500 loop begin insert into burnt default values; exception when others then null; end; end loop; end $$";
    database.exec("create table burnt ()").await;
    let begin = async |id: i32| {
        let session = database.session().await;
        session.batch_execute(&format!("set realtime.worker = off; begin; insert into t values ({id})")).await.unwrap();
        session
    };
    let ids = "select string_agg(record::json->>'id', ',' order by \"offset\")
                 from realtime.status() s, realtime.read(s.oldest, 100, 100000, null, null) where kind = 'e'";
    let (far, left, undone) = (begin(1).await, begin(2).await, begin(3).await);
    database.exec(burn).await;
    let near = begin(4).await;
    database.exec("insert into t values (5)").await;
    database.exec("select realtime.tick()").await;
    assert_eq!(database.text(ids).await, "5");
    let span = "select pg_snapshot_xmax(t.snapshot)::text::bigint - pg_snapshot_xmin(t.snapshot)::text::bigint > 1000
                  from realtime.ticks t order by t.id desc limit 1";
    assert_eq!(database.text(span).await, "t");
    far.batch_execute("commit").await.unwrap();
    near.batch_execute("commit").await.unwrap();
    undone.batch_execute("rollback").await.unwrap();
    database.exec("insert into t values (6)").await;
    database.exec("select realtime.tick()").await;
    assert_eq!(database.text(ids).await, "5,1,4,6");
    database.exec(burn).await;
    left.batch_execute("commit").await.unwrap();
    database.exec("select realtime.tick()").await;
    database.exec("select realtime.tick()").await;
    assert_eq!(database.text(ids).await, "5,1,4,6,2");
}

/// Segments are emptied for a new history, and that is not MVCC safe: an older snapshot would find no tick at all.
#[tokio::test]
async fn who_reads_while_a_new_history_begins_finds_its_beginning() {
    let database = database(shared().await).await;
    let (ticker, reader) = (database.session().await, Arc::new(database.session().await));
    let pid: i32 = reader.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    // Once before: what is compiled at a session's first call would wait, and not the statement.
    let read = "select kind::text, until from realtime.read(null, 1, 1, null, null)";
    reader.query_one(read, &[]).await.unwrap();
    let waits = format!("select coalesce(wait_event_type = 'Lock', false) from pg_stat_activity where pid = {pid}");
    eventually("it was read behind the new history's beginning", async || {
        database.exec("update realtime.tick_0 set history = 'another server'").await;
        ticker.batch_execute("begin").await.unwrap();
        ticker.batch_execute("select from realtime._tick(false)").await.unwrap();
        let session = Arc::clone(&reader);
        let read = tokio::spawn(async move { session.query_one(read, &[]).await });
        eventually("it waits", async || (database.text(&waits).await == "t" || read.is_finished()).then_some(())).await;
        ticker.batch_execute("commit").await.unwrap();
        match read.await.unwrap() {
            Ok(row) => {
                assert_eq!(row.get::<_, &str>(0), "c");
                Some(())
            }
            // Waited for too long, on a busy machine.
            Err(error) => {
                assert_eq!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE), "{error:?}");
                None
            }
        }
    })
    .await;
}
