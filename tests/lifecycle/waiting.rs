//! Commits that wait for a standby which does not answer: what is readable stays readable, and nobody is told of an outage.

use realtime_tests::{Client, Server, Stack, eventually, server};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

const TABLE: &str = "
    create table t (id int primary key);
    select realtime.enable_realtime('t');
    grant select on t to anon;
";

/// Commits of this session do not wait.
const LOCALLY: &str = "set synchronous_commit = local";

const WAITING: &str = "select pid from pg_stat_activity where wait_event = 'SyncRep'";

/// A stack whose server knows a standby by a name that nobody has.
struct Waiting {
    stack: Stack,
}

impl Waiting {
    async fn start(worker: &'static str) -> Self {
        let server = spawn_blocking(move || Server::start(&server::options().set("realtime.worker", worker)));
        Self { stack: Stack::builder().server(&server.await.unwrap()).sql(TABLE).start().await }
    }

    /// From now on the server waits for `standby`; empty: for nobody.
    async fn wait_for(&self, standby: &str) {
        self.stack.exec(&format!("alter system set synchronous_standby_names = '{standby}'")).await;
        self.stack.exec("select pg_reload_conf()").await;
    }

    /// A standby that is gone: the next commit of who asks for it waits.
    async fn lose_standby(&self) {
        self.wait_for("gone").await;
        let settled = "select setting from pg_settings where name = 'synchronous_standby_names'";
        eventually("the setting is in force", async || (self.stack.text(settled).await == "gone").then_some(())).await;
    }

    /// Inserts a row without waiting.
    async fn insert(&self, id: i32) {
        self.stack.exec(&format!("{LOCALLY}; insert into t values ({id})")).await;
    }

    /// The server's processes that wait for the standby, once there are so many.
    async fn waiting(&self, count: usize) -> Vec<String> {
        eventually("processes wait for the standby", async || {
            let pids: Vec<String> =
                self.stack.rows(WAITING).await.into_iter().filter_map(|row| row.into_iter().next()?).collect();
            (pids.len() == count).then_some(pids)
        })
        .await
    }

    async fn cancel(&self, pid: &str) {
        assert_eq!(self.stack.text(&format!("select pg_cancel_backend({pid})")).await, "t");
    }

    /// Waits until the sidecar's ticker was refused because another one holds on.
    async fn until_a_tick_is_refused(&self) {
        eventually("a tick was refused", async || {
            (self.stack.sidecar.metric("realtime_ticks_refused_total").await > 0.0).then_some(())
        })
        .await;
    }

    /// Whoever comes now gets row 1 from the log.
    async fn late(&self) -> Client {
        let mut late = self.stack.native().await;
        let ack = late.subscribe_with(json!({"channel": "table:t", "since": "oldest"})).await;
        assert_eq!(ack["recovered"], true, "{ack}");
        row(&mut late, 1).await;
        late
    }
}

impl Drop for Waiting {
    /// Dropping the database would wait too.
    fn drop(&mut self) {
        let server = self.stack.server();
        server.psql("postgres", "alter system reset synchronous_standby_names");
        server.psql("postgres", "select pg_reload_conf()");
    }
}

/// The next frame, which must be this row's event; nothing comes between, no `status` either.
async fn row(client: &mut Client, id: i32) -> Value {
    let event = client.event().await.value().clone();
    assert_eq!(event["payload"]["record"]["id"], id, "{event}");
    event
}

fn offset(event: &Value) -> i64 {
    event["offset"].as_i64().unwrap()
}

#[tokio::test]
async fn while_a_ticker_waits_for_a_standby_what_is_readable_is_read_and_nobody_hears_of_an_outage() {
    for worker in ["on", "off"] {
        let test = Waiting::start(worker).await;
        let mut client = test.stack.native().await;
        client.subscribe("table:t").await;
        test.insert(1).await;
        let first = row(&mut client, 1).await;
        test.lose_standby().await;
        test.insert(2).await;
        let ticker = test.waiting(1).await.remove(0);
        test.insert(3).await;
        let helper = test.stack.session().await;
        let refused = helper.simple_query("select realtime.tick()").await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "55P03", "who waits holds the lock");
        if worker == "on" {
            // The worker does not get on, so the sidecar has tried to help.
            test.until_a_tick_is_refused().await;
        }
        let mut late = test.late().await;
        assert_eq!(test.stack.sidecar.health().await["database"], "up");
        // Told to wait no longer, it has ticked, once; what came meanwhile waits with the next tick.
        test.cancel(&ticker).await;
        let second = row(&mut client, 2).await;
        test.waiting(1).await;
        test.wait_for("").await;
        let third = row(&mut client, 3).await;
        assert_eq!([offset(&second), offset(&third)], [1, 2].map(|n| offset(&first) + n));
        row(&mut late, 2).await;
        row(&mut late, 3).await;
    }
}

#[tokio::test]
async fn a_sidecar_that_starts_while_a_ticker_waits_serves_what_is_readable() {
    for worker in ["on", "off"] {
        let mut test = Waiting::start(worker).await;
        test.insert(1).await;
        drop(test.late().await);
        test.lose_standby().await;
        test.insert(2).await;
        test.waiting(1).await;
        // Without a worker it is this one's session that goes on waiting.
        test.stack.sidecar.kill();
        test.stack.sidecar.start_again();
        test.stack.sidecar.ready().await;
        let mut late = test.late().await;
        test.wait_for("").await;
        row(&mut late, 2).await;
    }
}

#[tokio::test]
async fn a_users_commit_that_gives_up_waiting_makes_its_events_once() {
    let test = Waiting::start("on").await;
    let mut client = test.stack.native().await;
    client.subscribe("table:t").await;
    test.insert(1).await;
    let first = row(&mut client, 1).await;
    test.lose_standby().await;
    let user = test.stack.session().await;
    let commit = tokio::spawn(async move { user.batch_execute("insert into t values (2)").await });
    let user = test.waiting(1).await.remove(0);
    assert_eq!(test.stack.text("select count(*) from t").await, "1", "who waits has not committed for others");
    test.cancel(&user).await;
    commit.await.unwrap().unwrap();
    // It has committed here; the tick waits for the standby like any other, and is told not to.
    let ticker = test.waiting(1).await.remove(0);
    test.cancel(&ticker).await;
    let second = row(&mut client, 2).await;
    test.wait_for("").await;
    test.insert(3).await;
    let third = row(&mut client, 3).await;
    assert_eq!([offset(&second), offset(&third)], [1, 2].map(|n| offset(&first) + n));
}

/// Retention empties a segment under a lock that readers would wait for.
#[tokio::test]
async fn keeping_house_waits_for_no_standby() {
    let test = Waiting::start("off").await;
    test.insert(1).await;
    drop(test.late().await);
    test.lose_standby().await;
    test.stack.exec("set statement_timeout = '30s'; select realtime.keep_house()").await;
    assert_eq!(test.stack.rows(WAITING).await, Vec::<Vec<Option<String>>>::new());
    test.late().await;
}
