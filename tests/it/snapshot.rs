//! Rows of a table as of one offset, then exactly the changes after it.

use std::collections::BTreeMap;

use realtime_tests::{Client, Connect, Dialect, Frame, Mode, Proxy, Stack, eventually};
use serde_json::{Value, json};

use crate::{fixtures::ADA, fixtures::ROOMS, fixtures::TABLE, large::resident_bytes};

/// Rows of a frame are at most so many bytes.
const ROWS_BYTES_MAX: usize = 256 * 1024;

/// A copy of a table, by its first column.
#[derive(Debug, Default, PartialEq)]
struct Copy(BTreeMap<i64, Value>);

impl Copy {
    fn put(&mut self, row: &Value) {
        self.0.insert(row["id"].as_i64().unwrap(), row.clone());
    }

    fn apply(&mut self, event: &Frame) {
        match event["payload"]["type"].as_str().unwrap() {
            "TRUNCATE" => self.0.clear(),
            kind => {
                if kind != "INSERT" {
                    self.0.remove(&event.old_record()["id"].as_i64().unwrap());
                }
                if kind != "DELETE" {
                    self.put(event.record());
                }
            }
        }
    }
}

/// Takes the parts of a snapshot; gives the rows and the offset that they are as of.
async fn take(client: &mut Client) -> (Copy, i64) {
    let mut copy = Copy::default();
    loop {
        let part = client.expect("snapshot").await;
        assert!(part.raw(&["rows"]).len() <= ROWS_BYTES_MAX || part["rows"].as_array().unwrap().len() == 1);
        part["rows"].as_array().unwrap().iter().for_each(|row| copy.put(row));
        if part["last"] == true {
            return (copy, part.offset());
        }
    }
}

async fn subscribe(client: &mut Client, channel: &str) -> Frame {
    client.subscribe_with(json!({"channel": channel, "snapshot": true})).await
}

async fn table(stack: &Stack) -> Copy {
    let text = stack.text("select coalesce(jsonb_object_agg(id, to_jsonb(t)), '{}') from t").await;
    let rows: BTreeMap<i64, Value> = serde_json::from_str(&text).unwrap();
    Copy(rows)
}

async fn write(stack: &Stack, writer: u32) {
    let session = stack.session().await;
    for step in 0..150 {
        // Writers meet at the same keys; where one of them fails, all of its transaction does.
        let (key, other) = ((step * 7 + writer * 3) % 40, (step * 11 + writer) % 40);
        let _ = session
            .batch_execute(&format!(
                "begin; insert into t values ({key}, '{writer}.{step}') on conflict (id) do update set name = excluded.name;
                 delete from t where id = {other}; savepoint s; update t set name = name || '+' where id = {key} + 1;
                 {} to s; commit;",
                if step % 3 == 0 { "rollback" } else { "release" }
            ))
            .await;
        let _ = session.batch_execute("rollback").await;
    }
}

#[tokio::test]
async fn a_snapshot_and_its_events_are_the_table_while_everybody_writes() {
    let stack = Stack::with(TABLE).await;
    let readers = async {
        let mut readers = Vec::new();
        for _ in 0..12 {
            let mut client = stack.native().await;
            let ack = subscribe(&mut client, "table:t").await;
            assert_eq!((&ack["recovered"], &ack["key"]), (&json!(true), &json!(["id"])));
            let (copy, offset) = take(&mut client).await;
            assert!(offset >= ack.offset());
            readers.push((client, copy));
        }
        readers
    };
    let (readers, ..) = tokio::join!(readers, write(&stack, 1), write(&stack, 2), write(&stack, 3));
    stack.exec("insert into t values (-1, 'the end')").await;
    let expected = table(&stack).await;
    for (mut client, mut copy) in readers {
        while !copy.0.contains_key(&-1) {
            copy.apply(&client.event().await);
        }
        assert_eq!(copy, expected);
    }
}

// The proxy has a thread of its own: it must not be slower than it says because the clients are busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_hundred_thousand_rows_take_little_memory_however_slow_the_reader() {
    let stack = Stack::with(TABLE).await;
    stack.exec("insert into t select i, repeat('x', 300) from generate_series(1, 100000) i").await;
    let proxy = Proxy::start(stack.sidecar.address());
    let mut slow = Connect::new(proxy.address(), Dialect::Native).open().await;
    let mut quick = stack.native().await;
    quick.subscribe_with(json!({"channel": "table:t", "events": "UPDATE"})).await;
    stack.exec("update t set name = 'old' where id = 1").await;
    quick.event().await;
    // The newest events are in memory by now, as many as may be.
    let before = resident_bytes(stack.sidecar.pid().unwrap());
    proxy.set(Mode::Slow { bytes_per_second: 1_000_000 });
    subscribe(&mut slow, "table:t").await;
    let first = slow.expect("snapshot").await;
    assert_eq!(first["last"], false);
    // What happens meanwhile comes to others at once, and to this one afterwards.
    stack.exec("update t set name = 'new' where id = 1").await;
    assert_eq!(quick.event().await.record()["name"], "new");
    let grown = resident_bytes(stack.sidecar.pid().unwrap()).saturating_sub(before);
    assert!(grown < 20 << 20, "{} MiB more for one snapshot", grown >> 20);
    proxy.set(Mode::Pass);
    let (mut copy, _) = take(&mut slow).await;
    first["rows"].as_array().unwrap().iter().for_each(|row| copy.put(row));
    assert_eq!(copy.0.len(), 100_000);
    assert_eq!(copy.0[&1]["name"], "old");
    copy.apply(&slow.event().await);
    assert_eq!(copy.0[&1]["name"], "new");
}

/// Waits until the rest of a snapshot stands still behind the proxy.
async fn begin_and_stop(stack: &Stack, proxy: &Proxy) -> Client {
    stack.exec("insert into t select i, repeat('x', 1000) from generate_series(1, 30000) i").await;
    let mut client = stack.connect().token(&stack.signer.user(ADA)).through(proxy.address()).open().await;
    subscribe(&mut client, "table:t").await;
    proxy.set(Mode::HalfOpen);
    let reading =
        "select count(*) from pg_stat_activity where query like '%realtime.snapshot%' and wait_event = 'ClientWrite'
                     and datname = current_database()";
    eventually("the server waits for us", async || (stack.text(reading).await == "1").then_some(())).await;
    client
}

/// The frames up to the one that ends the subscription; no snapshot is whole.
async fn end(client: &mut Client) -> Frame {
    loop {
        let frame = client.next().await;
        match frame.kind() {
            "snapshot" => assert_eq!(frame["last"], false),
            _ => return frame,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_right_that_is_lost_in_the_middle_ends_the_snapshot() {
    let stack = Stack::with(TABLE).await;
    let proxy = Proxy::start(stack.sidecar.address());
    let mut client = begin_and_stop(&stack, &proxy).await;
    stack.exec("revoke select on t from authenticated").await;
    eventually("it is abandoned", async || {
        (stack.sidecar.metric(r#"realtime_snapshots_total{outcome="abandoned"}"#).await >= 1.0).then_some(())
    })
    .await;
    proxy.set(Mode::Pass);
    let error = end(&mut client).await;
    assert_eq!((error.code(), &error["final"]), ("UNAUTHORIZED", &json!(true)), "{error}");
    assert_eq!(client.ask(json!({"type": "ping"})).await.kind(), "pong");
    let sessions = "select count(*) from pg_stat_activity where datname = current_database() and query like '%realtime.snapshot(%' and pid <> pg_backend_pid()";
    eventually("its session is gone", async || (stack.text(sessions).await == "0").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_snapshot_whose_session_is_lost_is_not_called_whole() {
    let stack = Stack::with(TABLE).await;
    let proxy = Proxy::start(stack.sidecar.address());
    let mut client = begin_and_stop(&stack, &proxy).await;
    stack
        .exec("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like '%realtime.snapshot(%' and pid <> pg_backend_pid()")
        .await;
    proxy.set(Mode::Pass);
    let error = end(&mut client).await;
    assert_eq!((error.code(), &error["final"]), ("UNAVAILABLE", &json!(true)), "{error}");
    assert!(error["retry_after_ms"].is_number());
    subscribe(&mut client, "table:t").await;
    assert_eq!(take(&mut client).await.0.0.len(), 30_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_snapshot_that_takes_too_long_is_given_up_and_others_wait_for_their_turn() {
    let stack = Stack::builder()
        .sql(TABLE)
        .set("REALTIME_LIMITS_SNAPSHOTS_MAX", "1")
        .set("REALTIME_TIMING_SNAPSHOT_MS", "5000")
        .start()
        .await;
    let proxy = Proxy::start(stack.sidecar.address());
    let mut slow = begin_and_stop(&stack, &proxy).await;
    let mut next = stack.native().await;
    next.subscribe_with(json!({"channel": "table:t", "snapshot": true, "columns": ["id"]})).await;
    // Other subscriptions of a connection that waits do not wait with it.
    next.subscribe_with(json!({"id": "live", "channel": "table:t", "events": "UPDATE"})).await;
    stack.exec("update t set name = 'new' where id = 1").await;
    assert_eq!(next.event().await["id"], "live");
    proxy.set(Mode::Slow { bytes_per_second: 100_000 });
    let error = end(&mut slow).await;
    assert_eq!((error.code(), &error["final"]), ("UNAVAILABLE", &json!(true)), "{error}");
    assert_eq!(take(&mut next).await.0.0.len(), 30_000);
}

#[tokio::test]
async fn a_snapshot_needs_a_key_that_is_shown() {
    let stack = Stack::with(&format!(
        "{TABLE}{ROOMS} create table keyless (n int); create table part (id int primary key, name text);
         select realtime.enable_realtime(c) from unnest('{{keyless, part}}'::regclass[]) c;
         grant select on keyless to anon; grant select (name) on part to anon;"
    ))
    .await;
    let mut client = stack.native().await;
    for frame in [
        json!({"channel": "table:keyless", "snapshot": true}),
        json!({"channel": "table:part", "snapshot": true}),
        json!({"channel": "table:t", "snapshot": true, "columns": ["name"]}),
    ] {
        let answer = client.try_subscribe(frame.clone()).await;
        assert_eq!((answer.kind(), answer.code()), ("error", "NO_KEY"), "{frame}: {answer}");
    }
    let answer = client.try_subscribe(json!({"channel": "room:1", "snapshot": true})).await;
    assert_eq!(answer.code(), "INVALID_MESSAGE");
    client.subscribe("table:part").await;
}

#[tokio::test]
async fn whoever_can_resume_gets_no_snapshot() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    stack.exec("insert into t values (1)").await;
    subscribe(&mut client, "table:t").await;
    let (copy, offset) = take(&mut client).await;
    assert_eq!(copy.0.len(), 1);
    stack.exec("insert into t values (2)").await;
    client.event().await;
    let mut late = stack.native().await;
    let ack = late.subscribe_with(json!({"channel": "table:t", "since": offset, "snapshot": true})).await;
    assert_eq!(ack["recovered"], true);
    assert_eq!(late.event().await.record()["id"], 2);
    // Nobody knows what was after an offset of another history.
    let ack = late.subscribe_with(json!({"channel": "table:t", "since": 7, "snapshot": true})).await;
    assert_eq!(ack["recovered"], false);
    assert_eq!(late.expect("gap").await["reason"], "history");
    assert_eq!(take(&mut late).await.0.0.len(), 2);
    stack.exec("insert into t values (3)").await;
    assert_eq!(late.event().await.record()["id"], 3);
}

#[tokio::test]
async fn rows_are_shown_as_events_show_them() {
    let stack = Stack::with(
        "create table t (id bigint, name text, secret text, n numeric, primary key (id)) partition by range (id);
         create table low partition of t for values from (0) to (10); create table high partition of t default;
         select realtime.enable_realtime('t'); grant select (id, name, n) on t to anon;
         create table empty (id int primary key); select realtime.enable_realtime('empty'); grant select on empty to anon;
         insert into t values (1, E'a\"\\n', 'hidden', 1.10), (9007199254740993, null, 'hidden', 'NaN');",
    )
    .await;
    let mut client = stack.connect().query("numbers=string").open().await;
    client.subscribe_with(json!({"channel": "table:t", "snapshot": true, "columns": ["id", "n"]})).await;
    let part = client.expect("snapshot").await;
    assert_eq!(part["rows"], json!([{"id": "1", "n": "1.10"}, {"id": "9007199254740993", "n": "NaN"}]));
    let mut exact = stack.native().await;
    subscribe(&mut exact, "table:t").await;
    let part = exact.expect("snapshot").await;
    assert_eq!(
        part.raw(&["rows"]),
        r#"[{"id":1,"name":"a\"\n","n":1.10},{"id":9007199254740993,"name":null,"n":"NaN"}]"#
    );
    subscribe(&mut exact, "table:empty").await;
    assert_eq!(take(&mut exact).await.0, Copy::default());
}

/// Postgres shows a rewritten table as empty to snapshots that are older: nobody may be told so.
#[tokio::test]
async fn a_table_that_is_rewritten_meanwhile_is_read_anew() {
    let stack = Stack::with(TABLE).await;
    stack.exec("insert into t select i, 'x' from generate_series(1, 10) i").await;
    let owner = stack.session().await;
    owner.batch_execute("begin; alter table t alter name type varchar(7) using name || '!'").await.unwrap();
    let mut client = stack.native().await;
    client.send(json!({"type": "subscribe", "channel": "table:t", "snapshot": true})).await;
    client.expect("ack").await;
    let waiting =
        "select count(*) from pg_stat_activity where query like '%realtime.snapshot(%' and wait_event_type = 'Lock'
                     and datname = current_database()";
    eventually("the snapshot waits for the table", async || (stack.text(waiting).await == "1").then_some(())).await;
    owner.batch_execute("commit").await.unwrap();
    let (copy, _) = loop {
        // The column's type has changed, which is told, too.
        let frame = client.next().await;
        if frame.kind() == "snapshot" {
            assert_eq!(frame["last"], true);
            let mut copy = Copy::default();
            frame["rows"].as_array().unwrap().iter().for_each(|row| copy.put(row));
            break (copy, frame.offset());
        }
        assert_eq!(frame.code(), "SCHEMA_CHANGED", "{frame}");
    };
    assert_eq!(copy.0.len(), 10);
    assert_eq!(copy.0[&1]["name"], "x!");
}
