//! A standby that can be read, and its promotion: clients go on, or are told what is missing.

use std::sync::Arc;

use realtime_tests::server::SIDECAR_ROLE;
use realtime_tests::{Client, Database, Server, Stack, Stop, eventually, server};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use xtask::process;

const TABLE: &str = "
    create table t (id int primary key);
    select realtime.enable_realtime('t');
    grant select on t to anon;
";

/// A primary with a sidecar that knows both addresses, and a standby.
struct Pair {
    stack: Stack,
    standby: Database,
}

impl Pair {
    async fn start() -> Self {
        let primary = spawn_blocking(Server::own).await.unwrap();
        let database = Database::create(Arc::clone(&primary)).await;
        database.exec(TABLE).await;
        let follow = Arc::clone(&primary);
        let standby = spawn_blocking(move || {
            Server::of(
                follow.with(|cluster| cluster.start_standby(&server::options().set("hot_standby_feedback", "on"))),
            )
        });
        let standby = Database::of(standby.await.unwrap(), database.name());
        let hosts = format!("127.0.0.1:{},127.0.0.1:{}", standby.server().port(), primary.port());
        let url = format!("postgres://{SIDECAR_ROLE}@{hosts}/{}?target_session_attrs=read-write", database.name());
        let stack = Stack::builder().set("REALTIME_DATABASE_URL", &url).start_on(database).await;
        Self { stack, standby }
    }

    /// Waits until the standby has everything that the primary has, ticks too.
    async fn catch_up(&self) {
        let head = "select head from realtime.status()";
        eventually("the standby has caught up", async || {
            (self.standby.text(head).await == self.stack.text(head).await).then_some(())
        })
        .await;
    }

    /// The standby hears nothing more from the primary.
    async fn cut(&self) {
        self.standby.exec("alter system set primary_conninfo = ''").await;
        self.standby.exec("select pg_reload_conf()").await;
        let receivers = "select count(*) from pg_stat_wal_receiver";
        eventually("nothing is received", async || (self.standby.text(receivers).await == "0").then_some(())).await;
    }

    /// The primary is lost as in a crash, and the standby takes its place.
    async fn fail_over(&self) {
        let primary = Arc::clone(self.stack.server());
        spawn_blocking(move || primary.stop(Stop::Immediate)).await.unwrap();
        assert_eq!(self.standby.text("select pg_promote()").await, "t");
    }
}

/// The next event or gap; that the database is down and up is told between them.
async fn next(client: &mut Client) -> Value {
    client.find("an event or a gap", |frame| ["broadcast", "gap"].contains(&frame.kind())).await.value().clone()
}

#[tokio::test]
async fn a_standby_can_be_read_and_says_that_it_is_one() {
    let mut pair = Pair::start().await;
    pair.stack.exec("insert into t values (1)").await;
    eventually("the event is readable", async || {
        (pair.stack.text("select count(*) from realtime.history('table:t')").await == "1").then_some(())
    })
    .await;
    pair.catch_up().await;
    let standby = &pair.standby;
    assert_eq!(standby.text("select mode from realtime.status()").await, "standby");
    assert_eq!(standby.text("select payload from realtime.history('table:t')").await, r#"{"record": {"id": 1}}"#);
    assert_eq!(standby.text("select realtime.start_worker()").await, "f", "it does not wait for a promotion");
    assert_eq!(standby.text("select table_name from realtime.tables").await, "t");
    // A sidecar that knows the standby alone.
    let url = standby.sidecar_url(standby.server().port());
    pair.stack.sidecar.set("REALTIME_DATABASE_URL", &url);
    let mut command = pair.stack.sidecar.command(&["check"]);
    let output = spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(!output.status.success() && said.contains("standby"), "{said}");
    assert!(said.contains("target_session_attrs"), "{said}");
    pair.stack.sidecar.stop().await;
    pair.stack.sidecar.start_again();
    assert!(!pair.stack.sidecar.exit().await.success(), "it does not pretend to serve");
}

#[tokio::test]
async fn a_sidecar_that_starts_between_two_primaries_waits_for_the_next() {
    let mut pair = Pair::start().await;
    let mut client = pair.stack.native().await;
    client.subscribe("table:t").await;
    pair.stack.exec("insert into t values (1)").await;
    next(&mut client).await;
    pair.catch_up().await;
    pair.stack.sidecar.stop().await;
    let primary = Arc::clone(pair.stack.server());
    spawn_blocking(move || primary.stop(Stop::Immediate)).await.unwrap();
    pair.stack.sidecar.start_again();
    pair.stack.sidecar.answers().await;
    assert_eq!(pair.stack.sidecar.health().await["database"], "down");
    assert_eq!(pair.standby.text("select pg_promote()").await, "t");
    pair.stack.sidecar.ready().await;
    let mut client = pair.stack.native().await;
    client.subscribe_with(json!({"channel": "table:t", "since": "oldest"})).await;
    assert_eq!(next(&mut client).await["payload"]["record"]["id"], 1);
}

#[tokio::test]
async fn after_a_promotion_that_lost_nothing_clients_go_on() {
    let pair = Pair::start().await;
    let mut client = pair.stack.native().await;
    client.subscribe("table:t").await;
    pair.stack.exec("insert into t values (1)").await;
    let first = next(&mut client).await;
    pair.catch_up().await;
    pair.fail_over().await;
    pair.standby.exec("insert into t values (2)").await;
    let second = next(&mut client).await;
    assert_eq!(second["payload"]["record"]["id"], 2, "{second}");
    assert!(second["offset"].as_i64() > first["offset"].as_i64());
    let mut late = pair.stack.native().await;
    let ack = late.resume("table:t", first["offset"].as_i64().unwrap()).await;
    assert_eq!(ack["recovered"], true, "{ack}");
    assert_eq!(next(&mut late).await["offset"], second["offset"]);
}

#[tokio::test]
async fn after_a_promotion_that_lost_a_tail_clients_get_a_gap_and_no_offset_names_two_events() {
    lose_a_tail(|_| ()).await;
}

/// Two lives go on from the same tick: the primary's second one, and the standby's.
#[tokio::test]
async fn a_primary_that_restarted_before_it_was_lost_gave_none_of_the_standby_s_offsets() {
    lose_a_tail(|primary| primary.restart(Stop::Immediate)).await;
}

/// Loses an event that was delivered after `trouble` of a primary that the standby does not hear any more.
async fn lose_a_tail(trouble: impl FnOnce(&Server) + Send + 'static) {
    let pair = Pair::start().await;
    let mut client = pair.stack.native().await;
    client.subscribe("table:t").await;
    pair.stack.exec("insert into t values (1)").await;
    let kept = next(&mut client).await;
    pair.catch_up().await;
    pair.cut().await;
    let primary = Arc::clone(pair.stack.server());
    spawn_blocking(move || trouble(&primary)).await.unwrap();
    pair.stack.exec("insert into t values (2)").await;
    let lost = next(&mut client).await;
    assert_eq!(lost["payload"]["record"]["id"], 2);
    pair.fail_over().await;
    pair.standby.exec("insert into t values (3)").await;
    let gap = next(&mut client).await;
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("history")), "{gap}");
    let new = next(&mut client).await;
    assert_eq!(new["payload"]["record"]["id"], 3, "{new}");
    assert!(new["offset"].as_i64() > lost["offset"].as_i64(), "the lost offset names no other event");
    // Whoever had read up to what was kept misses nothing; whoever had read the lost event is told.
    for (offset, recovered) in [(&kept["offset"], true), (&lost["offset"], false)] {
        let mut late = pair.stack.native().await;
        let ack = late.resume("table:t", offset.as_i64().unwrap()).await;
        assert_eq!(ack["recovered"], recovered, "{ack}");
        if !recovered {
            assert_eq!(next(&mut late).await["reason"], "history");
        }
        assert_eq!(next(&mut late).await["offset"], new["offset"]);
    }
}

#[tokio::test]
async fn with_synchronous_replication_nothing_that_was_seen_is_lost() {
    let pair = Pair::start().await;
    pair.stack.exec("alter system set synchronous_standby_names = '*'").await;
    pair.stack.exec("select pg_reload_conf()").await;
    let replicating = "select sync_state from pg_stat_replication";
    eventually("the standby is waited for", async || (pair.stack.text(replicating).await == "sync").then_some(()))
        .await;
    let mut client = pair.stack.native().await;
    client.subscribe("table:t").await;
    // The writer itself does not wait; the tick behind it does.
    pair.stack.exec("set synchronous_commit = off; insert into t select generate_series(1, 100)").await;
    for id in 1..=100 {
        assert_eq!(next(&mut client).await["payload"]["record"]["id"], id);
    }
    pair.fail_over().await;
    assert_eq!(pair.standby.text("select count(*) from t").await, "100");
    pair.standby.exec("insert into t values (101)").await;
    let event = next(&mut client).await;
    assert_eq!(event["payload"]["record"]["id"], 101, "{event}");
}

/// The disk as it was: the same system, the same timeline, fewer events.
#[tokio::test]
async fn a_snapshot_of_the_disk_that_is_put_back_is_a_gap_for_who_had_read_further() {
    let mut stack = Stack::builder().own_server().sql(TABLE).start().await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("insert into t values (1)").await;
    let kept = next(&mut client).await;
    stack.sidecar.stop().await;
    let server = Arc::clone(stack.server());
    spawn_blocking(move || put_aside(&server)).await.unwrap();
    stack.sidecar.start_again();
    stack.sidecar.ready().await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("insert into t values (2)").await;
    let lost = next(&mut client).await;
    let server = Arc::clone(stack.server());
    spawn_blocking(move || put_back(&server)).await.unwrap();
    stack.exec("insert into t values (3)").await;
    let gap = next(&mut client).await;
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("history")), "{gap}");
    let new = next(&mut client).await;
    assert!(new["offset"].as_i64() > lost["offset"].as_i64(), "{new}");
    let mut late = stack.native().await;
    assert_eq!(late.resume("table:t", kept["offset"].as_i64().unwrap()).await["recovered"], true);
    assert_eq!(next(&mut late).await["offset"], new["offset"]);
}

fn put_aside(server: &Server) {
    server.stop(Stop::Fast);
    server.with(|cluster| {
        let copy = cluster.data_folder().with_file_name("aside");
        let mut command = cluster.tree().account.command("cp");
        process::capture(command.arg("--archive").arg(cluster.data_folder()).arg(copy))?;
        cluster.start_again()
    });
}

fn put_back(server: &Server) {
    server.stop(Stop::Fast);
    server.with(|cluster| {
        let (data, copy) = (cluster.data_folder(), cluster.data_folder().with_file_name("aside"));
        process::capture(cluster.tree().account.command("mv").arg(data).arg(data.with_file_name("newer")))?;
        process::capture(cluster.tree().account.command("mv").arg(copy).arg(data))?;
        cluster.start_again()
    });
}
