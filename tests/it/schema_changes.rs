//! Tables, columns and the extension itself change under live subscribers.

use realtime_tests::{Client, Frame, Stack, eventually};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::fixtures::{ROOMS, TABLE};

async fn expect_final(client: &mut Client, code: &str) -> Frame {
    let frame = client.find("the end of the subscription", |frame| frame["final"] == true).await;
    assert_eq!(frame.code(), code, "{frame}");
    frame
}

#[tokio::test]
async fn a_dropped_table_ends_its_subscriptions() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("insert into t values (1)").await;
    assert_eq!(client.event().await.record()["id"], 1);
    stack.exec("insert into t values (2); drop table t").await;
    // With the table went who might read what of it: its last rows may come, or a gap in their place.
    let end = loop {
        let frame = client.next().await;
        if frame.kind() == "error" {
            break frame;
        }
    };
    assert_eq!((end.code(), &end["final"]), ("TABLE_DROPPED", &json!(true)), "{end}");
    assert_eq!((&end["id"], &end["channel"]), (&json!("table:t"), &json!("table:t")));
    assert_eq!(client.try_subscribe(json!({"channel": "table:t"})).await.code(), "UNAUTHORIZED");
    // Made anew, it is another table.
    stack.exec(TABLE).await;
    client.subscribe("table:t").await;
    stack.exec("insert into t values (2)").await;
    assert_eq!(client.event().await.record()["id"], 2);
}

#[tokio::test]
async fn a_disabled_table_ends_its_subscriptions() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("select realtime.disable_realtime('t')").await;
    expect_final(&mut client, "TABLE_DROPPED").await;
}

#[tokio::test]
async fn a_renamed_table_goes_on_under_its_new_name() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("alter table t rename to u").await;
    expect_final(&mut client, "TABLE_DROPPED").await;
    client.subscribe("table:u").await;
    stack.exec("insert into u values (1)").await;
    let event = client.event().await;
    assert_eq!((&event["payload"]["table"], &event.record()["id"]), (&json!("u"), &json!(1)));
    // It can be disabled under its new name.
    stack.exec("select realtime.disable_realtime('u')").await;
    expect_final(&mut client, "TABLE_DROPPED").await;
}

#[tokio::test]
async fn a_table_that_took_the_name_is_not_mixed_with_the_old_one() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack
        .exec(
            "begin; alter table t rename to old; create table t (id text primary key, fresh int);
             grant select on t to anon; select realtime.enable_realtime('t'); commit",
        )
        .await;
    stack.exec("insert into old values (1, 'old')").await;
    // Rows of the old table may come until the change is noticed; then a sign; then only the new one's.
    let sign = loop {
        let frame = client.next().await;
        if frame.kind() != "broadcast" {
            break frame;
        }
        assert_eq!(frame.record()["name"], "old", "{frame}");
    };
    assert!(["TABLE_DROPPED", "SCHEMA_CHANGED"].contains(&sign.code()), "{sign}");
    client.subscribe("table:t").await;
    stack.exec("insert into old values (2, 'old')").await;
    stack.exec("insert into t values ('a', 7)").await;
    assert_eq!(client.event().await.record(), &json!({"id": "a", "fresh": 7}));
}

/// Inserts rows with growing ids until it is stopped; DDL may make single ones fail, which are tried again.
fn writer(session: tokio_postgres::Client) -> (watch::Sender<bool>, JoinHandle<i64>) {
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(async move {
        let mut id = 0;
        while !*stopped.borrow() {
            id += 1;
            session.batch_execute(&format!("insert into t (id) values ({id})")).await.unwrap();
        }
        id
    });
    (stop, task)
}

/// The next frame that is no gap: columns that come with a value, or change their values, leave one within a second.
async fn next_change(client: &mut Client) -> Frame {
    loop {
        let frame = client.next().await;
        if frame.kind() != "gap" {
            return frame;
        }
    }
}

/// Takes events, whose ids must go on without a hole, until the client is told that the columns have changed.
async fn until_told(client: &mut Client, next_id: &mut i64) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let frame = next_change(client).await;
        if frame.kind() == "error" {
            assert_eq!((frame.code(), &frame["final"]), ("SCHEMA_CHANGED", &json!(null)), "{frame}");
            return names;
        }
        assert_eq!(frame.record()["id"], *next_id, "nothing lost, nothing twice");
        *next_id += 1;
        names = frame.names(&["payload", "record"]);
    }
}

#[tokio::test]
async fn columns_come_and_go_under_load() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    let (stop, task) = writer(stack.session().await);
    let (mut next_id, mut names) = (1, Vec::new());
    for ddl in [
        "alter table t add column extra int default 7",
        "alter table t rename column name to title",
        "alter table t alter column extra type text using extra::text",
        "alter table t drop column extra",
        "alter table t add column extra jsonb default '{\"a\": 1.10}'",
        "alter table t drop column title",
    ] {
        stack.exec(ddl).await;
        names.push(until_told(&mut client, &mut next_id).await.join(" "));
    }
    stop.send_replace(true);
    let last = task.await.unwrap();
    while next_id <= last {
        assert_eq!(next_change(&mut client).await.record()["id"], next_id, "nothing lost, nothing twice");
        next_id += 1;
    }
    // Whoever may read the whole table gets the columns as they are, before it is told too.
    let wanted = ["id name extra", "id title extra", "id title extra", "id title", "id title extra", "id extra"];
    assert_eq!(names, wanted);
    let ack = client.subscribe("table:t").await;
    assert_eq!(ack["columns"], json!([{"name": "id", "type": "integer"}, {"name": "extra", "type": "jsonb"}]));
    stack.exec("insert into t (id) values (-1)").await;
    let event = next_change(&mut client).await;
    assert_eq!(event.names(&["payload", "record"]), ["id", "extra"]);
    assert_eq!(event.raw(&["payload", "record", "extra"]), r#"{"a": 1.10}"#);
}

#[tokio::test]
async fn old_events_keep_the_columns_that_they_were_written_with() {
    let stack = Stack::with(TABLE).await;
    stack.exec("insert into t values (1, 'one')").await;
    stack.exec("alter table t rename column name to title; alter table t add column n int default 5").await;
    stack.exec("insert into t values (2, 'two')").await;
    let mut client = stack.native().await;
    client.subscribe_with(json!({"channel": "table:t", "since": "oldest"})).await;
    let (one, two) = (client.event().await, client.event().await);
    assert_eq!(two.record(), &json!({"id": 2, "title": "two", "n": 5}));
    // The role may read what the table has now; what it had then is shown as far as it has the same name.
    assert_eq!(one.record()["id"], 1);
    assert!(one.record()["n"].is_null());
}

#[tokio::test]
async fn a_new_key_is_told() {
    let stack = Stack::with(
        "create table t (id int not null, name text); select realtime.enable_realtime('t'); grant select on t to anon",
    )
    .await;
    let mut client = stack.native().await;
    assert!(client.subscribe("table:t").await["key"].is_null());
    stack.exec("alter table t add primary key (id)").await;
    stack.exec("insert into t values (1)").await;
    let event = client.find("the row", |frame| frame.kind() == "broadcast").await;
    assert_eq!(event.record()["id"], 1);
    eventually("the ack names the key", async || {
        (client.subscribe("table:t").await["key"] == json!(["id"])).then_some(())
    })
    .await;
}

/// What a table is, as far as users can tell.
const SHAPE: &str = "
    select string_agg(line, e'\n' order by line) from (
      select format('%s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull) as line
        from pg_class c join pg_attribute a on a.attrelid = c.oid where c.relnamespace = 'public'::regnamespace and a.attnum > 0
      union all select format('%s trigger %s', tgrelid::regclass, tgname) from pg_trigger join pg_class r on r.oid = tgrelid
                  where not tgisinternal and r.relnamespace = 'public'::regnamespace
      union all select format('%s constraint %s', conrelid::regclass, pg_get_constraintdef(oid)) from pg_constraint where connamespace = 'public'::regnamespace
      union all select format('function %s', oid::regprocedure) from pg_proc where pronamespace = 'public'::regnamespace) s";

/// CG-29: rolling back leaves the user's tables as they were.
#[tokio::test]
async fn cg_29_drop_extension_needs_no_cascade_and_leaves_tables_intact() {
    let stack = Stack::with("create table t (id int primary key, name text); create table u (id int references t); grant select on t, u to anon").await;
    let before = stack.text(SHAPE).await;
    stack.exec("select realtime.enable_realtime('t'), realtime.enable_realtime('u')").await;
    stack.exec(ROOMS).await;
    assert_ne!(stack.text(SHAPE).await, before);
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    client.subscribe("room:1").await;
    stack.exec("insert into t values (1, 'one'); insert into u values (1)").await;
    client.event().await;
    stack.exec("drop extension realtime").await;
    assert_eq!(stack.text(SHAPE).await, before);
    assert_eq!(stack.text("select count(*) from t join u using (id)").await, "1");
    stack.exec("insert into t values (2, 'two'); delete from u; update t set name = 'x'").await;
    assert_eq!(stack.text("select count(*) from pg_namespace where nspname = 'realtime'").await, "0");
    // The sidecar goes on, and serves again what is created anew.
    assert_eq!(client.ask(json!({"type": "ping"})).await.kind(), "pong");
    stack
        .exec(
            "create extension realtime; select realtime.grant_sidecar('realtime_sidecar');
             select realtime.enable_realtime('t')",
        )
        .await;
    stack.sidecar.ready().await;
    let mut fresh = stack.native().await;
    let subscribed =
        async || Some(fresh.try_subscribe(json!({"channel": "table:t"})).await).filter(|answer| answer.kind() == "ack");
    eventually("tables can be subscribed to again", subscribed).await;
    stack.exec("insert into t values (3, 'three')").await;
    let event = fresh.find("the new row", |frame| frame.kind() == "broadcast").await;
    assert_eq!(event.record()["id"], 3);
}

#[tokio::test]
async fn cg_29_disabling_leaves_the_table_as_it_was() {
    let stack = Stack::with("create table t (id int primary key, name text)").await;
    let before = stack.text(SHAPE).await;
    stack.exec("select realtime.enable_realtime('t'); select realtime.disable_realtime('t')").await;
    assert_eq!(stack.text(SHAPE).await, before);
    // By hand, as the seed's rollback does it.
    stack.exec("select realtime.enable_realtime('t')").await;
    stack.exec("drop trigger t_notify_change on t; drop trigger t_notify_truncate on t; drop extension realtime").await;
    assert_eq!(stack.text(SHAPE).await, before);
    stack.exec("insert into t values (1)").await;
}

#[tokio::test]
async fn a_database_is_dropped_with_its_worker_alive() {
    let mut stack = Stack::with(TABLE).await;
    stack.exec("insert into t values (1)").await;
    let worker = eventually("there is a worker", async || {
        Some(stack.text("select worker_pid from realtime.status()").await).filter(|pid| !pid.is_empty())
    })
    .await;
    stack.sidecar.stop().await;
    // Its own database, so that nobody else is connected to it but the worker.
    let (server, name) = (stack.server().clone(), stack.name().to_owned());
    let ours =
        "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and datname = ";
    spawn_blocking(move || {
        server.psql("postgres", &format!("{ours} '{name}'"));
        server.psql("postgres", &format!("drop database {name}"));
    })
    .await
    .unwrap();
    let worker = worker.parse::<i32>().unwrap();
    let alive = || rustix::process::test_kill_process(rustix::process::Pid::from_raw(worker).unwrap()).is_ok();
    eventually("the worker has left", async || (!alive()).then_some(())).await;
    assert!(stack.try_session().await.is_err(), "the database is gone");
}

#[tokio::test]
async fn a_database_is_dropped_by_force_with_everything_alive() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    // Until then it would refuse to serve a database that is not there.
    eventually("the database was looked at", async || stack.sidecar.log().contains("as they must be").then_some(()))
        .await;
    let (server, name) = (stack.server().clone(), stack.name().to_owned());
    spawn_blocking(move || server.psql("postgres", &format!("drop database {name} with (force)"))).await.unwrap();
    assert_eq!(client.expect("status").await["database"], "down");
    assert_eq!(client.ask(json!({"type": "ping"})).await.kind(), "pong");
}

#[tokio::test]
async fn a_table_that_is_truncated_and_refilled_under_load_folds_to_itself() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    for round in 0..10 {
        stack.exec(&format!("begin; truncate t; insert into t select i, 'r{round}' from generate_series(1, 50) i; delete from t where id % 3 = 0; commit")).await;
    }
    let mut rows = std::collections::BTreeMap::new();
    for event in client.events(10 * (1 + 50 + 16)).await {
        match event["payload"]["type"].as_str().unwrap() {
            "TRUNCATE" => rows.clear(),
            "INSERT" => drop(rows.insert(event.record()["id"].as_i64().unwrap(), event.record()["name"].clone())),
            _ => drop(rows.remove(&event.old_record()["id"].as_i64().unwrap())),
        }
    }
    let table = stack.rows("select id, name from t order by id").await;
    assert_eq!(table.len(), rows.len());
    for (row, (id, name)) in table.iter().zip(&rows) {
        assert_eq!(
            (row[0].clone().unwrap(), row[1].clone().unwrap()),
            (id.to_string(), name.as_str().unwrap().to_owned())
        );
    }
}
