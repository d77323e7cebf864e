//! Where events are missing on purpose, a gap stands in their place and says why.

use realtime_tests::{Stack, eventually};
use serde_json::json;

use crate::fixtures::{ADA, ROOMS, TABLE};

#[tokio::test]
async fn capture_that_is_switched_off_leaves_a_gap() {
    let stack = Stack::with(TABLE).await;
    stack.exec("create table other (id int primary key); select realtime.enable_realtime('other'); grant select on other to anon").await;
    let mut client = stack.native().await;
    let mut seed = stack.seed().await;
    client.subscribe("table:t").await;
    client.subscribe("table:other").await;
    seed.subscribe("table:t").await;
    stack.exec("insert into t values (1)").await;
    stack
        .exec("begin; set local realtime.capture = off; insert into t select i from generate_series(2, 1000) i; commit")
        .await;
    stack.exec("insert into t values (2000); insert into other values (1)").await;
    assert_eq!(client.event().await.record()["id"], 1);
    let gap = client.expect("gap").await;
    assert_eq!((&gap["id"], &gap["reason"], &gap["from"]), (&json!("table:t"), &json!("unjudged"), &gap["to"]));
    assert_eq!(client.event().await.record()["id"], 2000);
    assert_eq!(client.event().await["channel"], "table:other", "only the table that was changed has a gap");
    // The seed has no word for it.
    for id in [1, 2000] {
        assert_eq!(seed.event().await["payload"]["record"]["id"], id);
    }
    // It is there again for whoever resumes.
    let mut late = stack.native().await;
    late.subscribe_with(json!({"channel": "table:t", "since": "oldest"})).await;
    assert_eq!(late.event().await.record()["id"], 1);
    assert_eq!(late.expect("gap").await["reason"], "unjudged");
    assert_eq!(late.event().await.record()["id"], 2000);
}

/// The log at its cap: writes go on, and everybody is told once.
#[tokio::test]
async fn a_full_log_leaves_a_gap_on_every_channel() {
    let stack = Stack::with(&format!("{TABLE}{ROOMS}")).await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("table:t").await;
    client.subscribe("room:1").await;
    // As rotation finds it when nothing can be given back; it sets it back when it finds room.
    stack.exec("update realtime.state set is_full = true").await;
    let writer = stack.session().await;
    for id in 1..=3 {
        writer
            .batch_execute(&format!("insert into t values ({id}); select realtime.publish('room:1', 'lost', '{{}}')"))
            .await
            .unwrap();
    }
    stack.exec("update realtime.state set is_full = false").await;
    let after = stack.session().await;
    after.batch_execute("insert into t values (4); select realtime.publish('room:1', 'kept', '{}')").await.unwrap();
    assert_eq!(stack.text("select count(*) from t").await, "4", "no write failed");
    let (mut gaps, mut kept) = (Vec::new(), 0);
    while gaps.len() < 2 || kept < 2 {
        let frame = client.next().await;
        match frame.kind() {
            "gap" => {
                assert_eq!(frame["reason"], "unjudged", "{frame}");
                gaps.push(frame["channel"].as_str().unwrap().to_owned());
            }
            "broadcast" => kept += 1,
            _ => panic!("{frame}"),
        }
    }
    gaps.sort_unstable();
    // Whoever ticks between two of the writes leaves a mark for each.
    gaps.dedup();
    assert_eq!(gaps, ["room:1", "table:t"]);
}

/// Without a worker the sidecar keeps house: the log must not grow for ever.
#[tokio::test]
async fn without_a_worker_retention_is_kept() {
    let stack = Stack::builder()
        .sql("do $$ begin execute format('alter database %I set realtime.worker = off', current_database()); end $$; set realtime.worker = off;")
        .sql(TABLE)
        .sql("update realtime.settings set value = '2 seconds' where name = 'log_retention';")
        .set("REALTIME_TIMING_HOUSE_MS", "500")
        .start()
        .await;
    assert_eq!(stack.text("select mode from realtime.status()").await, "poll");
    let start: i64 = stack.text("select oldest from realtime.status()").await.parse().unwrap();
    let mut id = 0;
    eventually("the beginning of the log is given back", async || {
        id += 1;
        stack.exec(&format!("insert into t values ({id})")).await;
        let oldest: i64 = stack.text("select oldest from realtime.status()").await.parse().unwrap();
        (oldest > start).then_some(())
    })
    .await;
}

/// The rows of the other partitions are still there: nobody may be told that the whole table is empty.
#[tokio::test]
async fn truncating_one_partition_does_not_clear_the_parent() {
    let stack = Stack::with(
        "create table t (id int primary key) partition by range (id);
         create table low partition of t for values from (0) to (10);
         create table high partition of t for values from (10) to (20);
         select realtime.enable_realtime('t'); grant select on t to anon;",
    )
    .await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("insert into t values (1), (11)").await;
    stack.exec("truncate low").await;
    stack.exec("insert into t values (2)").await;
    assert_eq!(client.events(2).await.len(), 2);
    let frame = client.next().await;
    assert_eq!((frame.kind(), &frame["reason"]), ("gap", &json!("unjudged")), "{frame}");
    assert_eq!(client.event().await.record()["id"], 2);
    stack.exec("truncate t").await;
    assert_eq!(client.event().await["payload"]["type"], "TRUNCATE");
}
