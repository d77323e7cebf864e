//! A log at its cap: what is not written is told before anything that may build on it.

use realtime_tests::{Database, Server};
use tokio::task::spawn_blocking;
use tokio_postgres::Client;

use crate::fixtures::TABLE;

/// A database in which nobody ticks, rotates or marks but the test.
struct Log {
    database: Database,
    /// The last offset that was read.
    read: String,
}

impl Log {
    async fn new() -> Self {
        let database = Database::create(spawn_blocking(Server::shared).await.unwrap()).await;
        database.exec(&format!("alter database {} set realtime.worker = off", database.name())).await;
        database.exec("set realtime.worker = off").await;
        database.exec(TABLE).await;
        database.exec("insert into t values (1, 'a')").await;
        database.exec("select realtime.mark_lost()").await;
        database.exec("select realtime.tick()").await;
        let read = database.text("select head from realtime.status()").await;
        let mut log = Self { database, read };
        assert_eq!(log.news().await, "I");
        log
    }

    /// What rotation would find.
    async fn set_full(&self, is_full: bool) {
        self.database.exec(&format!("update realtime.state set is_full = {is_full}")).await;
    }

    /// A session that looks for itself whether the log is full.
    async fn rename_anew(&self, name: &str) {
        rename(&self.database.session().await, name).await;
    }

    /// What became readable since the last time: operations, with the new name of an update.
    async fn news(&mut self) -> String {
        self.database.exec("select realtime.tick()").await;
        let read = format!("from realtime.read({}, 100000, 100000000, null, null)", self.read);
        let op = "op::text || case when op = 'U' then ':' || (record::jsonb ->> 'name') else '' end";
        let news = self
            .database
            .text(&format!("select string_agg({op}, ' ' order by \"offset\") {read} where kind = 'e'"))
            .await;
        self.read = self.database.text(&format!("select \"offset\" {read} where kind = 'c'")).await;
        news
    }
}

async fn rename(session: &Client, name: &str) {
    session.batch_execute(&format!("update t set name = '{name}' where id = 1")).await.unwrap();
}

#[tokio::test]
async fn nothing_that_builds_on_a_lost_change_is_read_before_the_mark() {
    let mut log = Log::new().await;
    let session = log.database.session().await;
    rename(&session, "written").await;
    log.set_full(true).await;
    log.rename_anew("lost").await;
    // A moment ago it read that there is room, and it goes by that for a second.
    rename(&session, "lost too").await;
    log.set_full(false).await;
    rename(&session, "marked").await;
    rename(&session, "written again").await;
    assert_eq!(log.news().await, "U:written G U:marked U:written again");
    assert_eq!(log.database.text("select realtime.mark_lost()").await, "f", "the mark stands for all of them");
}

#[tokio::test]
async fn a_prepared_transaction_brings_its_mark_along() {
    let mut log = Log::new().await;
    log.set_full(true).await;
    log.rename_anew("lost").await;
    let session = log.database.session().await;
    let name = log.database.name();
    session
        .batch_execute(&format!(
            "begin; update t set name = 'prepared' where id = 1; insert into t values (2); prepare transaction '{name}'"
        ))
        .await
        .unwrap();
    session.batch_execute(&format!("commit prepared '{name}'")).await.unwrap();
    log.set_full(false).await;
    log.rename_anew("who knows when that commits").await;
    assert_eq!(log.news().await, "G U:prepared I G U:who knows when that commits");
}

#[tokio::test]
async fn a_transaction_that_wrote_early_begins_with_its_mark() {
    let mut log = Log::new().await;
    let session = log.database.session().await;
    let rows = "insert into t select n, repeat('x', 1000) from generate_series(100, 299) n";
    session.batch_execute(&format!("set realtime.spill_bytes = '64kB'; begin; {rows}")).await.unwrap();
    log.set_full(true).await;
    log.rename_anew("lost").await;
    rename(&session, "whole").await;
    session.batch_execute("commit").await.unwrap();
    assert_eq!(log.news().await, format!("G{} U:whole", " I".repeat(200)));
}

#[tokio::test]
async fn a_loss_that_was_rolled_back_leaves_nobody_waiting() {
    let mut log = Log::new().await;
    log.set_full(true).await;
    let session = log.database.session().await;
    // It fails at its very end, behind everything that capture does there.
    let failing =
        "begin isolation level serializable; select count(*) from t; update t set name = 'never' where id = 1";
    session.batch_execute(failing).await.unwrap();
    let other = log.database.session().await;
    let both = "begin isolation level serializable; select count(*) from t; insert into t values (2); commit";
    other.batch_execute(both).await.unwrap();
    let outcome = session.batch_execute("commit").await;
    session.batch_execute("rollback").await.unwrap();
    log.set_full(false).await;
    assert_eq!(log.database.text("select realtime.mark_lost()").await, "t");
    log.rename_anew("written").await;
    assert_eq!(log.news().await, "G U:written", "{outcome:?}");
}
