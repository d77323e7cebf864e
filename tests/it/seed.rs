//! The Fluxbase seed's words, spoken by a client that knows no others. Each test names the requirement that it covers.

use std::time::Duration;

use realtime_tests::{Client, Connect, Dialect, Mode, Proxy, Stack, eventually, http, token};
use serde_json::{Value, json};

use crate::fixtures::TABLE;

/// The next frame of any kind, heartbeats too.
async fn next(client: &mut Client) -> Value {
    client.next_of_any_kind(Duration::from_secs(20)).await.unwrap().value().clone()
}

#[tokio::test]
async fn fb_01_a_websocket_is_at_realtime() {
    let stack = Stack::start().await;
    let mut client = stack.seed().await;
    client.send(json!({"type": "subscribe"})).await;
    assert_eq!(next(&mut client).await["type"], "error", "the first frame answers: nothing came before it");
    let plain = http::get(stack.sidecar.address(), "/realtime").await.unwrap();
    assert_eq!((plain.status, plain.header("upgrade")), (426, Some("websocket")));
    assert_eq!(http::get(stack.sidecar.address(), "/elsewhere").await.unwrap().status, 404);
}

#[tokio::test]
async fn fb_02_a_token_attaches_the_user() {
    // Seen where the user counts: one connection each.
    let stack = Stack::builder().set("REALTIME_LIMITS_CONNECTIONS_PER_USER_MAX", "1").start().await;
    let _ada = stack.seed_as("ada").await;
    let connect = stack.connect().seed();
    let again = connect.clone().token(&stack.signer.user("ada")).try_open().await;
    assert_eq!(again.err().unwrap().status, 429);
    assert!(connect.clone().token(&stack.signer.user("grace")).try_open().await.is_ok());
    assert!(connect.try_open().await.is_ok(), "the token is optional");
}

#[tokio::test]
async fn fb_03_a_bad_or_expired_token_is_refused_before_the_upgrade() {
    let stack = Stack::start().await;
    let expired = stack.signer.sign(&json!({"sub": "ada", "exp": token::in_seconds(-3600)}));
    for bad in [expired.as_str(), "nonsense", "a.b.c"] {
        let refusal = stack.connect().seed().token(bad).try_open().await.err().unwrap();
        assert_eq!(refusal.status, 401, "{refusal:?}");
        let body: Value = serde_json::from_str(&refusal.body).unwrap();
        assert!(body["error"].as_str().is_some_and(|text| text.contains("token")), "{body}");
    }
}

#[tokio::test]
async fn fb_04_fb_05_subscribe_by_table_is_acknowledged() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.seed().await;
    client.send(json!({"type": "subscribe", "channel": "table:public.t"})).await;
    let ack = next(&mut client).await;
    assert_eq!(ack, json!({"type": "ack", "channel": "table:public.t", "payload": {"subscribed": true}}));
}

#[tokio::test]
async fn fb_06_after_unsubscribe_nothing_comes() {
    let stack = Stack::with(TABLE).await;
    stack
        .exec("create table other (id int); select realtime.enable_realtime('other'); grant select on other to anon")
        .await;
    let mut client = stack.seed().await;
    client.subscribe("table:public.t").await;
    client.subscribe("table:public.other").await;
    client.send(json!({"type": "unsubscribe", "channel": "table:public.t"})).await;
    let ack = next(&mut client).await;
    assert_eq!(ack, json!({"type": "ack", "channel": "table:public.t", "payload": {"subscribed": false}}));
    stack.exec("insert into t values (1); insert into other values (2)").await;
    assert_eq!(next(&mut client).await["channel"], "table:public.other");
}

#[tokio::test]
async fn fb_07_insert_carries_the_record() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.seed().await;
    client.subscribe("table:public.t").await;
    stack.exec("insert into t values (1, 'one')").await;
    let expected = json!({"type": "broadcast", "channel": "table:public.t", "payload": {
        "type": "INSERT", "table": "t", "schema": "public", "record": {"id": 1, "name": "one"}}});
    assert_eq!(next(&mut client).await, expected);
}

#[tokio::test]
async fn fb_08_update_carries_both_records() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.seed().await;
    client.subscribe("table:public.t").await;
    stack.exec("insert into t values (1, 'one')").await;
    assert_eq!(next(&mut client).await["payload"]["type"], "INSERT");
    stack.exec("update t set name = 'two'").await;
    let expected = json!({"type": "broadcast", "channel": "table:public.t", "payload": {
        "type": "UPDATE", "table": "t", "schema": "public",
        "record": {"id": 1, "name": "two"}, "old_record": {"id": 1, "name": "one"}}});
    assert_eq!(next(&mut client).await, expected);
}

#[tokio::test]
async fn fb_09_delete_carries_the_old_record_only() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.seed().await;
    client.subscribe("table:public.t").await;
    stack.exec("insert into t values (1, 'one')").await;
    assert_eq!(next(&mut client).await["payload"]["type"], "INSERT");
    stack.exec("delete from t").await;
    let expected = json!({"type": "broadcast", "channel": "table:public.t", "payload": {
        "type": "DELETE", "table": "t", "schema": "public", "old_record": {"id": 1, "name": "one"}}});
    assert_eq!(next(&mut client).await, expected);
}

#[tokio::test]
async fn fb_10_heartbeats_come_and_are_never_answered() {
    let stack = Stack::builder().set("REALTIME_TIMING_HEARTBEAT_MS", "200").start().await;
    let mut client = stack.seed().await;
    let start = std::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(next(&mut client).await, json!({"type": "heartbeat"}));
        // The seed's client echoes each heartbeat. An answer would be answered again, for ever.
        client.send(json!({"type": "heartbeat"})).await;
    }
    client.send(json!({"type": "subscribe"})).await;
    let mut heartbeats = 3;
    while next(&mut client).await["type"] == "heartbeat" {
        heartbeats += 1;
    }
    let most = start.elapsed().as_millis() / 200 + 1;
    assert!(heartbeats <= most, "{heartbeats} heartbeats where at most {most} were due");
    assert_eq!(Stack::start().await.native().await.hello()["heartbeat_ms"], 30_000, "without a setting");
}

#[tokio::test]
async fn fb_11_errors_say_what_is_wrong_and_the_connection_stays() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.seed().await;
    for (frame, error) in [
        (r#"{"type":"dance"}"#, "unknown message type"),
        (r#"{}"#, "unknown message type"),
        (r#"{"type":"subscribe"}"#, "channel is required for subscribe"),
        (r#"{"type":"unsubscribe"}"#, "channel is required for unsubscribe"),
        ("{", "invalid message format"),
        (r#"{"type":7}"#, "invalid message format"),
    ] {
        client.send_text(frame).await;
        assert_eq!(next(&mut client).await, json!({"type": "error", "error": error}), "{frame}");
    }
    client.subscribe("table:public.t").await;
}

#[tokio::test]
async fn fb_12_tables_of_any_schema() {
    let stack = Stack::with(
        "create table auth.users (id int primary key);
         create schema inventory; create table inventory.items (id int primary key);
         grant usage on schema inventory to anon; grant select on auth.users, inventory.items to anon;
         select realtime.enable_realtime('auth', 'users'), realtime.enable_realtime('inventory', 'items');",
    )
    .await;
    let mut client = stack.seed().await;
    for (channel, table) in [("table:auth.users", "auth.users"), ("table:inventory.items", "inventory.items")] {
        client.subscribe(channel).await;
        stack.exec(&format!("insert into {table} values (1)")).await;
        let frame = next(&mut client).await;
        let payload = &frame["payload"];
        let name = format!("{}.{}", payload["schema"].as_str().unwrap(), payload["table"].as_str().unwrap());
        assert_eq!((name.as_str(), frame["channel"].as_str()), (table, Some(channel)));
    }
}

#[tokio::test]
async fn fb_13_anonymous_clients_see_granted_tables_without_row_level_security_only() {
    let stack = Stack::with(TABLE).await;
    stack
        .exec(
            "create table owned (id int primary key); alter table owned enable row level security;
             create policy mine on owned to authenticated using (id = 1);
             create table private (id int primary key);
             select realtime.enable_realtime('owned'), realtime.enable_realtime('private');
             grant select on owned to anon;",
        )
        .await;
    let mut client = stack.seed().await;
    for channel in ["table:public.private", "table:public.missing"] {
        let answer = client.try_subscribe(json!({"channel": channel})).await;
        assert_eq!(answer.kind(), "error", "{channel}: {answer}");
    }
    client.subscribe("table:public.owned").await;
    client.subscribe("table:public.t").await;
    stack.exec("insert into owned values (1); insert into private values (1); insert into t values (7)").await;
    assert_eq!(next(&mut client).await["payload"]["record"]["id"], 7);
}

#[tokio::test]
async fn fb_14_enable_realtime_as_the_seed_writes_it() {
    let stack = Stack::with("create table t (id int primary key); grant select on t to anon").await;
    stack.exec("SELECT enable_realtime('public', 't')").await;
    let mut client = stack.seed().await;
    client.subscribe("table:public.t").await;
    stack.exec("insert into t values (1)").await;
    assert_eq!(next(&mut client).await["payload"]["type"], "INSERT");
}

#[tokio::test]
async fn fb_15_disable_realtime_ends_the_events() {
    let stack = Stack::with(TABLE).await;
    stack
        .exec("create table other (id int); select realtime.enable_realtime('other'); grant select on other to anon")
        .await;
    let mut client = stack.seed().await;
    client.subscribe("table:public.t").await;
    client.subscribe("table:public.other").await;
    stack.exec("SELECT disable_realtime('public', 't')").await;
    stack.exec("insert into t values (1); insert into other values (1)").await;
    // The end of the subscription may be told before or after.
    let event = client.find("the other table's event", |frame| frame.kind() == "broadcast").await;
    assert_eq!(event["channel"], "table:public.other");
}

#[tokio::test]
async fn fb_16_the_seeds_query_lists_the_enabled_tables() {
    let long = "a_table_whose_name_is_so_long_that_no_suffix_would_fit_after_it";
    let stack = Stack::with(TABLE).await;
    stack.exec(&format!("create table {long} (id int); select enable_realtime('public', '{long}')")).await;
    let rows = stack
        .rows(
            "SELECT DISTINCT event_object_table::text FROM information_schema.triggers
              WHERE trigger_name LIKE '%_notify_change' ORDER BY 1",
        )
        .await;
    let tables: Vec<_> = rows.into_iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(tables, [long, "t"]);
}

#[tokio::test]
async fn fb_17_enabling_twice_is_harmless() {
    let stack = Stack::with(TABLE).await;
    stack.exec("SELECT enable_realtime('public', 't'); SELECT enable_realtime('public', 't')").await;
    let mut client = stack.seed().await;
    client.subscribe("table:public.t").await;
    stack.exec("insert into t values (1); insert into t values (2)").await;
    for id in [1, 2] {
        assert_eq!(next(&mut client).await["payload"]["record"]["id"], id);
    }
}

#[tokio::test]
async fn fb_20_one_connection_listens_and_nothing_else() {
    let stack = Stack::start().await;
    // It listens to the bell and to a probe of its own, which it rings itself.
    let listening = "select string_agg(pid::text, ' ') from pg_stat_activity where datname = current_database()
                       and application_name like 'realtime-sidecar-%' and query ~* '(listen|notify) realtime'";
    let one = async || Some(stack.text(listening).await).filter(|pids| !pids.is_empty() && !pids.contains(' '));
    let pid = eventually("one backend listens", one).await;
    let idle_in_transaction = "select count(*) from pg_stat_activity where datname = current_database()
                                 and application_name like 'realtime-sidecar-%' and state like 'idle in%'";
    assert_eq!(stack.text(idle_in_transaction).await, "0");
    // It is replaced when it is lost.
    stack.exec(&format!("select pg_terminate_backend({pid})")).await;
    eventually("another backend listens", async || one().await.filter(|other| *other != pid)).await;
}

#[tokio::test]
async fn fb_22_dead_connections_are_cleaned_up() {
    let stack =
        Stack::builder().set("REALTIME_TIMING_PING_MS", "100").set("REALTIME_TIMING_DEAD_MS", "500").start().await;
    let proxy = Proxy::start(stack.sidecar.address());
    let _dead = Connect::new(proxy.address(), Dialect::Seed).open().await;
    let mut live = stack.seed().await;
    eventually("both are counted", async || (stack.sidecar.stats().await["connections"] == 2).then_some(())).await;
    proxy.set(Mode::HalfOpen);
    // The live one answers pings while it waits.
    let gone =
        eventually("the dead one is gone", async || (stack.sidecar.stats().await["connections"] == 1).then_some(()));
    tokio::select! {
        () = gone => (),
        frame = live.next() => panic!("{frame}"),
    }
    live.send(json!({"type": "subscribe"})).await;
    assert_eq!(live.next().await.kind(), "error");
}

#[tokio::test]
async fn fb_23_clients_that_come_back_are_served_again() {
    let mut stack = Stack::with(TABLE).await;
    let mut client = stack.seed().await;
    client.subscribe("table:public.t").await;
    stack.sidecar.stop().await;
    let (_, closed) = client.closed().await;
    assert_eq!(closed.code, 1012, "{closed:?}");
    stack.sidecar.start_again();
    // The seed's client tries again after 1, 2, 4 … seconds; a quicker one must do no harm.
    let mut client = eventually("the sidecar takes clients again", async || {
        Connect::new(stack.sidecar.address(), Dialect::Seed).try_open().await.ok()
    })
    .await;
    stack.sidecar.ready().await;
    client.subscribe("table:public.t").await;
    stack.exec("insert into t values (1)").await;
    assert_eq!(client.next().await["payload"]["record"]["id"], 1);
}

#[tokio::test]
async fn fb_24_stats_count_connections_and_channels() {
    let stack = Stack::with(TABLE).await;
    assert_eq!(stack.sidecar.stats().await, json!({"connections": 0, "channels": 0}));
    let (mut one, mut two) = (stack.seed().await, stack.seed().await);
    one.subscribe("table:public.t").await;
    two.subscribe("table:public.t").await;
    assert_eq!(stack.sidecar.stats().await, json!({"connections": 2, "channels": 1}));
    drop(one);
    two.unsubscribe("table:public.t").await;
    let expected = json!({"connections": 1, "channels": 0});
    eventually("both are counted down", async || (stack.sidecar.stats().await == expected).then_some(())).await;
}

#[tokio::test]
async fn fb_33_one_socket_many_tables() {
    let stack = Stack::start().await;
    let mut client = stack.seed().await;
    for table in ["a", "b", "c"] {
        stack.exec(&format!("create table {table} (id int); select enable_realtime('public', '{table}'); grant select on {table} to anon")).await;
        client.subscribe(&format!("table:public.{table}")).await;
    }
    stack.exec("begin; insert into b values (1); insert into a values (2); insert into c values (3); commit").await;
    for (table, id) in [("b", 1), ("a", 2), ("c", 3)] {
        let frame = next(&mut client).await;
        assert_eq!(frame["channel"], format!("table:public.{table}"));
        assert_eq!(frame["payload"]["record"]["id"], id);
    }
}

#[tokio::test]
async fn no_frame_type_comes_that_the_seed_does_not_know() {
    // An outage of the database is told to clients of the native protocol only.
    let stack = Stack::builder().sql(TABLE).proxy().start().await;
    let mut client = stack.seed().await;
    let mut native = stack.native().await;
    client.subscribe("table:t").await;
    stack.proxy().set(Mode::Cut);
    assert_eq!(native.expect("status").await["database"], "down");
    stack.proxy().set(Mode::Pass);
    assert_eq!(native.expect("status").await["database"], "up");
    stack.exec("insert into t values (1); truncate t").await;
    assert_eq!(next(&mut client).await["payload"]["record"]["id"], 1);
    let truncated = json!({"type": "TRUNCATE", "table": "t", "schema": "public"});
    assert_eq!(next(&mut client).await["payload"], truncated);
}
