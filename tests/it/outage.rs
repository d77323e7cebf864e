//! The database goes away and comes back: sockets stay open, clients are told, nothing is lost.

use std::sync::Arc;
use std::time::Duration;

use realtime_tests::{Client, Connect, Mode, Proxy, Server, Stack, Stop, eventually, http, within};
use serde_json::json;
use tokio::task::spawn_blocking;

use crate::fixtures::{ADA, ROOMS, TABLE};

/// Runs what blocks beside the test.
async fn on_server(stack: &Stack, work: impl FnOnce(&Server) + Send + 'static) {
    let server = Arc::clone(stack.server());
    spawn_blocking(move || work(&server)).await.unwrap();
}

async fn expect_status(client: &mut Client, database: &str) {
    let frame = client.expect("status").await;
    assert_eq!(frame["database"], database, "{frame}");
}

#[tokio::test]
async fn a_sidecar_before_postgres_waits_for_it() {
    let mut stack = Stack::builder().own_server().sql(TABLE).start().await;
    stack.sidecar.stop().await;
    on_server(&stack, |server| server.stop(Stop::Fast)).await;
    stack.sidecar.start_again();
    stack.sidecar.answers().await;
    let address = stack.sidecar.address();
    assert_eq!(http::get(address, "/ping").await.unwrap().body, "pong");
    assert_eq!(http::get(address, "/ready").await.unwrap().status, 503);
    assert_eq!(http::get(address, "/health").await.unwrap().status, 200);
    assert_eq!(stack.sidecar.health().await["database"], "down");
    let mut client = stack.native().await;
    assert!(client.hello()["offset"].is_null(), "no log has been read");
    let answer = client.try_subscribe(json!({"channel": "table:t"})).await;
    assert_eq!(answer.code(), "UNAVAILABLE");
    assert!(answer["retry_after_ms"].is_u64());
    on_server(&stack, Server::start_again).await;
    stack.sidecar.ready().await;
    client.find("the database is up", |frame| frame.kind() == "status" && frame["database"] == "up").await;
    client.subscribe("table:t").await;
    stack.exec("insert into t values (1)").await;
    let event = client.find("the row", |frame| frame.kind() == "broadcast").await;
    assert_eq!(event.record()["id"], 1);
}

/// Restarts the server under a subscriber, with writes before, between and after.
async fn restart(stop: impl Fn(&Server) + Send + 'static) {
    let stack = Stack::builder().own_server().sql(TABLE).start().await;
    let mut native = stack.native().await;
    let mut seed = stack.seed().await;
    let start = native.subscribe("table:t").await.offset();
    seed.subscribe("table:t").await;
    stack.exec("insert into t values (1)").await;
    stack.exec("insert into t values (2)").await;
    on_server(&stack, stop).await;
    on_server(&stack, Server::start_again).await;
    stack.exec("insert into t values (3)").await;
    let mut seen = Vec::new();
    let mut statuses = Vec::new();
    while seen.len() < 3 || statuses.len() < 2 {
        let frame = native.next().await;
        match frame.kind() {
            "broadcast" => seen.push(frame.record()["id"].as_i64().unwrap()),
            "status" => statuses.push(frame["database"].as_str().unwrap().to_owned()),
            _ => panic!("{frame}"),
        }
    }
    assert_eq!((seen, statuses), (vec![1, 2, 3], vec!["down".to_owned(), "up".to_owned()]));
    for id in 1..=3 {
        assert_eq!(seed.event().await["payload"]["record"]["id"], id);
    }
    // What was committed before is resumed over the restart without a gap.
    let mut again = stack.native().await;
    assert_eq!(again.resume("table:t", start).await["recovered"], true);
    for id in 1..=3 {
        assert_eq!(again.event().await.record()["id"], id);
    }
    stack.exec("insert into t values (4)").await;
    for client in [&mut native, &mut again] {
        assert_eq!(client.event().await.record()["id"], 4);
    }
}

#[tokio::test]
async fn a_fast_restart_of_postgres_loses_nothing() {
    restart(|server| server.stop(Stop::Fast)).await;
}

#[tokio::test]
async fn an_immediate_restart_of_postgres_loses_nothing() {
    restart(|server| server.stop(Stop::Immediate)).await;
}

#[tokio::test]
async fn a_killed_postgres_loses_nothing() {
    restart(Server::kill).await;
}

#[tokio::test]
async fn a_killed_worker_comes_back() {
    // Its own server: PostgreSQL restarts all sessions after a SIGKILL.
    let stack = Stack::builder().own_server().sql(TABLE).start().await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    let worker = "select worker_pid from realtime.status()";
    stack.exec("insert into t values (1)").await;
    assert_eq!(client.event().await.record()["id"], 1);
    let first =
        eventually("there is a worker", async || Some(stack.text(worker).await).filter(|pid| !pid.is_empty())).await;
    stack.exec(&format!("select pg_terminate_backend({first})")).await;
    stack.exec("insert into t values (2)").await;
    assert_eq!(client.event().await.record()["id"], 2);
    let second = eventually("there is another worker", async || {
        Some(stack.text(worker).await).filter(|pid| !pid.is_empty() && *pid != first)
    })
    .await;
    let pid = rustix::process::Pid::from_raw(second.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("the server is back", async || {
        stack.try_exec("insert into t values (3) on conflict do nothing").await.ok()
    })
    .await;
    let event = client.find("the row", |frame| frame.kind() == "broadcast").await;
    assert_eq!(event.record()["id"], 3);
    eventually("there is a worker again", async || {
        Some(stack.text(worker).await).filter(|pid| !pid.is_empty() && *pid != second)
    })
    .await;
}

#[tokio::test]
async fn sessions_that_are_terminated_are_replaced() {
    let stack = Stack::with(&format!("{TABLE}{ROOMS}")).await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("table:t").await;
    client.subscribe("room:1").await;
    for id in 0..20 {
        stack
            .exec(
                "select pg_terminate_backend(pid) from pg_stat_activity
                  where datname = current_database() and application_name like 'realtime-sidecar-%'",
            )
            .await;
        stack.exec(&format!("insert into t values ({id})")).await;
        let event = client.find("the row", |frame| frame["channel"] == "table:t" && frame.kind() == "broadcast").await;
        assert_eq!(event.record()["id"], id);
    }
    // A message that was not acknowledged may be sent again under its id.
    let id = uuid::Uuid::new_v4().to_string();
    let frame = json!({"type": "publish", "channel": "room:1", "event": "e", "payload": 1, "message_id": id});
    eventually("the message is published", async || (client.ask(frame.clone()).await.kind() == "ack").then_some(()))
        .await;
    client.find("the message", |frame| frame["channel"] == "room:1" && frame.kind() == "broadcast").await;
    assert_eq!(stack.text("select count(*) from realtime.messages").await, "1");
}

#[tokio::test]
async fn during_an_outage_commands_say_so_and_sockets_stay_open() {
    let stack = Stack::builder().proxy().sql(TABLE).sql(ROOMS).start().await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("table:t").await;
    client.subscribe("room:1").await;
    stack.proxy().set(Mode::Cut);
    expect_status(&mut client, "down").await;
    for frame in [
        json!({"type": "subscribe", "channel": "room:2"}),
        json!({"type": "publish", "channel": "room:1", "event": "e", "payload": 1}),
    ] {
        let answer = client.ask(frame.clone()).await;
        assert_eq!(answer.code(), "UNAVAILABLE", "{frame}: {answer}");
    }
    assert_eq!(client.ask(json!({"type": "ping"})).await.kind(), "pong");
    let mut late = stack.native_as(ADA).await;
    expect_status(&mut late, "down").await;
    stack.exec("insert into t values (1)").await;
    stack.proxy().set(Mode::Pass);
    expect_status(&mut client, "up").await;
    assert_eq!(client.event().await.record()["id"], 1);
    assert_eq!(client.publish("room:1", "e", json!(1)).await.kind(), "ack");
}

#[tokio::test]
async fn a_network_that_goes_silent_is_noticed() {
    let stack =
        Stack::builder().proxy().sql(TABLE).sql(ROOMS).set("REALTIME_TIMING_HEARTBEAT_MS", "3600000").start().await;
    let (mut client, mut writer) = (stack.native().await, stack.native_as(ADA).await);
    client.subscribe("table:t").await;
    writer.subscribe("room:1").await;
    stack.proxy().set(Mode::HalfOpen);
    stack.exec("insert into t values (1)").await;
    let publish = within(Duration::from_secs(10), "publishing is answered", writer.publish("room:1", "e", json!(1)));
    let (answer, status) = tokio::join!(publish, client.next_of_any_kind(Duration::from_secs(10)));
    assert_eq!(answer.code(), "UNAVAILABLE");
    let status = status.unwrap();
    assert_eq!((status.kind(), &status["database"]), ("status", &json!("down")), "{status}");
    // The old connections never come back to life.
    stack.proxy().set(Mode::Cut);
    stack.proxy().set(Mode::Pass);
    expect_status(&mut client, "up").await;
    assert_eq!(client.event().await.record()["id"], 1);
}

/// CG-26: notifications are down, the rest works.
#[tokio::test]
async fn cg_26_without_notifications_events_come_by_polling() {
    let stack = Stack::with(&format!("{TABLE}{ROOMS}")).await;
    let proxy = Proxy::start(([127, 0, 0, 1], stack.server().port()).into());
    let mut stack = stack;
    stack.sidecar.stop().await;
    let direct = stack.sidecar_url(proxy.address().port());
    stack.sidecar.set("REALTIME_DIRECT_URL", &direct);
    stack.sidecar.start_again();
    stack.sidecar.ready().await;
    eventually("it listens", async || (stack.sidecar.health().await["listener"] == "up").then_some(())).await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("table:t").await;
    client.subscribe("room:1").await;
    reads_over_its_own_session(&stack, &mut client, 1000).await;
    proxy.set(Mode::Cut);
    eventually("the listener is down, and the reader has found the pool's way", async || {
        let health = stack.sidecar.health().await;
        (health["listener"] == "down" && health["database"] == "up").then(|| assert_eq!(health["status"], "degraded"))
    })
    .await;
    assert_eq!(http::get(stack.sidecar.address(), "/ready").await.unwrap().status, 200);
    for database in ["down", "up"] {
        assert_eq!(client.expect("status").await["database"], database, "the reader changed its way");
    }
    stack.exec("insert into t values (1)").await;
    assert_eq!(client.event().await.record()["id"], 1);
    assert_eq!(client.publish("room:1", "e", json!(1)).await.kind(), "ack");
    assert_eq!(client.event().await["channel"], "room:1");
    client.subscribe("room:2").await;
    proxy.set(Mode::Pass);
    eventually("the listener is back", async || (stack.sidecar.health().await["listener"] == "up").then_some(())).await;
    reads_over_its_own_session(&stack, &mut client, 10).await;
}

/// Waits until the reader's statement is parsed once: then its text stays. Events come meanwhile, with ids from `id` on.
async fn reads_over_its_own_session(stack: &Stack, client: &mut Client, mut id: i64) {
    eventually("the reader has its own session", async || {
        let mut texts = Vec::new();
        for _ in 0..2 {
            id += 1;
            stack.exec(&format!("insert into t values ({id})")).await;
            assert_eq!(client.event().await.record()["id"], id);
            texts.push(stack.text(READER).await);
        }
        (texts[0] == texts[1]).then_some(())
    })
    .await;
}

/// What the sessions ask that read the log, the newest first.
const READER: &str = "select query from pg_stat_activity where datname = current_database()
    and application_name like 'realtime-sidecar-%' and query like '%from realtime.read(%' order by query_start desc limit 1";

#[tokio::test]
async fn a_stopping_sidecar_says_goodbye_and_leaves_no_session() {
    let mut stack = Stack::with(TABLE).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = stack.native().await;
        client.subscribe("table:t").await;
        clients.push(client);
    }
    let mut seed = stack.seed().await;
    let status = within(Duration::from_secs(12), "the sidecar has stopped", stack.sidecar.stop()).await;
    assert!(status.success(), "{status}");
    for client in &mut clients {
        assert_eq!(client.closed().await.1.code, 1012);
    }
    assert_eq!(seed.closed().await.1.code, 1012);
    let sessions = "select count(*) from pg_stat_activity where datname = current_database() and application_name like 'realtime-sidecar-%'";
    eventually("no session is left", async || (stack.text(sessions).await == "0").then_some(())).await;
}

#[tokio::test]
async fn a_stopping_sidecar_does_not_wait_for_the_database_or_for_silent_clients() {
    let mut stack = Stack::builder().proxy().sql(TABLE).set("REALTIME_TIMING_DRAIN_MS", "3000").start().await;
    let front = Proxy::start(stack.sidecar.address());
    let mut silent: Client = Connect::through(stack.connect(), front.address()).open().await;
    silent.subscribe("table:t").await;
    front.set(Mode::HalfOpen);
    stack.proxy().set(Mode::HalfOpen);
    within(Duration::from_secs(8), "the sidecar has stopped", stack.sidecar.stop()).await;
}
