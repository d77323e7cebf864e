//! What an operator switches on and off: the worker, capture, a whole schema.

use realtime_tests::{Stack, eventually};
use serde_json::json;

const TABLE: &str = "
    create table t (id int primary key);
    select realtime.enable_realtime('t');
    grant select on t to anon;
";

async fn expect_mode(stack: &Stack, mode: &str) {
    eventually(&format!("the mode is {mode}"), async || {
        (stack.text("select mode from realtime.status()").await == mode).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_is_stopped_comes_back_and_one_that_is_switched_off_stays_away() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    expect_mode(&stack, "worker").await;
    let first = stack.text("select worker_pid from realtime.status()").await;
    assert_eq!(stack.text("select realtime.stop_worker()").await, "t");
    stack.exec("insert into t values (1)").await;
    assert_eq!(client.event().await.record()["id"], 1);
    eventually("another worker is there", async || {
        let pid = stack.text("select worker_pid from realtime.status()").await;
        (!pid.is_empty() && pid != first).then_some(())
    })
    .await;
    // As an operator does it: for the database, then the worker that is there, then the sessions that know it otherwise.
    let name = stack.name();
    stack.exec(&format!("alter database {name} set realtime.worker = off")).await;
    stack.exec("select realtime.stop_worker()").await;
    let writer = stack.session().await;
    writer.batch_execute("insert into t values (2)").await.unwrap();
    assert_eq!(client.event().await.record()["id"], 2);
    let shown = writer.query_one("show realtime.worker", &[]).await.unwrap().get::<_, String>(0);
    assert_eq!(shown, "off");
    assert!(!writer.query_one("select realtime.start_worker()", &[]).await.unwrap().get::<_, bool>(0));
    expect_mode(&stack, "poll").await;
    for id in 3..20 {
        writer.batch_execute(&format!("insert into t values ({id})")).await.unwrap();
        assert_eq!(client.event().await.record()["id"], id, "the sidecar ticks");
    }
    stack.exec(&format!("alter database {name} reset realtime.worker")).await;
    stack.session().await.batch_execute("insert into t values (20)").await.unwrap();
    assert_eq!(client.event().await.record()["id"], 20);
    expect_mode(&stack, "worker").await;
}

#[tokio::test]
async fn a_bulk_load_by_who_may_costs_its_subscribers_a_gap_and_nobody_else_anything() {
    let stack = Stack::with(TABLE).await;
    let role = format!("loader_{}", stack.name());
    stack.exec(&format!("create role {role}; grant insert on t to {role}")).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    let load = |rows: &str| {
        format!(
            "set role {role}; begin; set local realtime.capture = off; insert into t select generate_series({rows}); commit"
        )
    };
    let loader = stack.session().await;
    // Before the library is loaded nobody knows who may set it; then it has no effect, and afterwards it is refused.
    loader.batch_execute(&load("-2, -1")).await.unwrap();
    for id in [-2, -1] {
        assert_eq!(client.event().await.record()["id"], id, "nobody hides changes who may not");
    }
    let refused = loader.batch_execute(&load("1, 1000")).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
    loader.batch_execute("rollback; reset role").await.unwrap();
    loader.batch_execute(&format!("grant set on parameter realtime.capture to {role}")).await.unwrap();
    loader.batch_execute(&load("1, 1000")).await.unwrap();
    loader.batch_execute("insert into t values (1001)").await.unwrap();
    let gap = client.expect("gap").await;
    assert_eq!(gap["reason"], "unjudged", "{gap}");
    assert_eq!(client.event().await.record(), &json!({"id": 1001}), "it was off for one transaction");
    loader.batch_execute(&format!("reset role; drop owned by {role}; drop role {role}")).await.unwrap();
}

#[tokio::test]
async fn a_whole_schema_is_enabled_but_for_what_is_not_the_caller_s() {
    let stack = Stack::with(
        "
        create schema shop;
        create table shop.\"Orders\" (id int primary key);
        create table shop.logs (id int, day int) partition by range (day);
        create table shop.logs_1 partition of shop.logs for values from (0) to (10);
        create unlogged table shop.cart (id int primary key);
        create view shop.cheap as select 1 as id;
        create table shop.theirs (id int);
        create table shop.member (id int);
        alter extension plpgsql add table shop.member;
    ",
    )
    .await;
    let role = format!("owner_{}", stack.name());
    stack
        .exec(&format!(
            "create role {role}; grant usage on schema shop to {role};
             alter table shop.\"Orders\" owner to {role}; alter table shop.logs owner to {role}; alter table shop.logs_1 owner to {role};
             alter table shop.cart owner to {role}; alter table shop.member owner to {role}"
        ))
        .await;
    let session = stack.session().await;
    session.batch_execute(&format!("set role {role}")).await.unwrap();
    let rows = session.query("select r::text from realtime.enable_realtime_all('shop') r", &[]).await.unwrap();
    let enabled: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(enabled, ["shop.\"Orders\"", "shop.cart", "shop.logs"]);
    let refused = session.query("select realtime.enable_realtime_all('Shop')", &[]).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "3F000", "a name that is misspelt is not silently nothing");
    session
        .batch_execute("reset role; alter extension plpgsql drop table shop.member; drop schema shop cascade")
        .await
        .unwrap();
    session.batch_execute(&format!("drop role {role}")).await.unwrap();
}

#[tokio::test]
async fn whoever_resumes_from_before_a_table_was_disabled_for_a_while_is_told() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    let start = client.subscribe("table:t").await.offset();
    // Within the first second of its life nobody has seen that the table was enabled.
    let watched = "select count(*) from realtime._watched where relation = 't'::regclass";
    eventually("the table is watched", async || (stack.text(watched).await == "1").then_some(())).await;
    stack.exec("select realtime.disable_realtime('t')").await;
    client.find("the end of the subscription", |frame| frame["final"] == true).await;
    stack.exec("insert into t values (1)").await;
    stack.exec("select realtime.enable_realtime('t')").await;
    let told = "select count(*) from realtime.history('table:t') where event = 'GAP'";
    eventually("the gap is in the log", async || (stack.text(told).await == "1").then_some(())).await;
    stack.exec("insert into t values (2)").await;
    let mut late = stack.native().await;
    late.resume("table:t", start).await;
    assert_eq!(late.expect("gap").await["reason"], "unjudged");
    assert_eq!(late.event().await.record()["id"], 2);
}
