//! Whoever presents an offset gets every later event exactly once and in order, or first a gap that says why not.

use realtime_tests::{Client, PATIENCE, Stack, eventually};
use serde_json::json;

use crate::fixtures::{ADA, ROOMS, TABLE};

async fn head(stack: &Stack) -> i64 {
    stack.text("select head from realtime.status()").await.parse().unwrap()
}

/// The ids of the next rows.
async fn ids(client: &mut Client, count: usize) -> Vec<i64> {
    client.events(count).await.iter().map(|event| event.record()["id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn an_offset_brings_what_came_after_it() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    let ack = client.subscribe("table:t").await;
    stack.exec("insert into t select i from generate_series(1, 10) i").await;
    let events = client.events(10).await;
    client.close().await;
    stack.exec("insert into t select i from generate_series(11, 15) i").await;
    let mut client = stack.native().await;
    let resumed = client.resume("table:t", events[6].offset()).await;
    assert_eq!((&resumed["recovered"], resumed.offset()), (&json!(true), events[6].offset()));
    assert_eq!(ids(&mut client, 8).await, (8..=15).collect::<Vec<_>>());
    // The same event has the same offset and the same text, live or replayed.
    let mut again = stack.native().await;
    again.resume("table:t", ack.offset()).await;
    assert_eq!(again.events(10).await, events);
    stack.exec("insert into t values (16)").await;
    assert_eq!(ids(&mut client, 1).await, [16]);
}

#[tokio::test]
async fn oldest_brings_everything_that_is_kept() {
    let stack = Stack::with(TABLE).await;
    stack.exec("insert into t select i from generate_series(1, 100) i").await;
    let mut client = stack.native().await;
    let ack = client.subscribe_with(json!({"channel": "table:t", "since": "oldest"})).await;
    assert_eq!(ack["recovered"], true);
    assert_eq!(ids(&mut client, 100).await, (1..=100).collect::<Vec<_>>());
    stack.exec("insert into t values (101)").await;
    assert_eq!(ids(&mut client, 1).await, [101]);
}

#[tokio::test]
async fn messages_are_resumed_too() {
    let stack = Stack::with(&format!("{ROOMS}{TABLE}")).await;
    let start = head(&stack).await;
    stack.exec("select realtime.publish('room:' || i % 2, 'e', to_jsonb(i)) from generate_series(1, 10) i").await;
    stack.exec("insert into t values (1)").await;
    let mut client = stack.native_as(ADA).await;
    client.resume("room:1", start).await;
    let payloads: Vec<_> = client.events(5).await.iter().map(|event| event["payload"]["payload"].clone()).collect();
    assert_eq!(payloads, [1, 3, 5, 7, 9]);
    stack.exec("select realtime.publish('room:1', 'live', '{}')").await;
    assert_eq!(client.event().await["payload"]["event"], "live");
}

#[tokio::test]
async fn an_offset_of_the_future_is_a_gap_and_sends_the_client_back() {
    let stack = Stack::with(TABLE).await;
    stack.exec("insert into t values (1)").await;
    let mut client = stack.native().await;
    client.subscribe_with(json!({"channel": "table:t", "since": "oldest"})).await;
    let head = client.event().await.offset();
    let ack = client.resume("table:t", head + 1000).await;
    assert_eq!(ack["recovered"], false);
    let gap = client.expect("gap").await;
    assert_eq!((&gap["reason"], &gap["from"], &gap["to"]), (&json!("ahead"), &json!(head + 1001), &json!(head)));
    stack.exec("insert into t values (2)").await;
    assert_eq!(ids(&mut client, 1).await, [2]);
}

#[tokio::test]
async fn an_offset_that_this_history_never_gave_is_a_gap() {
    let stack = Stack::with(TABLE).await;
    let first = head(&stack).await;
    stack.exec("insert into t values (1)").await;
    let mut client = stack.native().await;
    for strange in [0, 1, 123_456_789, first - 1000] {
        let ack = client.resume("table:t", strange).await;
        assert_eq!(ack["recovered"], false, "{strange}: {ack}");
        let gap = client.expect("gap").await;
        assert_eq!((&gap["from"], &gap["reason"]), (&json!(strange + 1), &json!("history")), "{gap}");
        assert_eq!(ids(&mut client, 1).await, [1], "what can be had comes");
    }
}

#[tokio::test]
async fn what_retention_took_is_a_gap() {
    // Not from the sidecar's memory, which may keep longer than the log.
    let stack = Stack::builder().sql(TABLE).set("REALTIME_LIMITS_RECENT_BYTES_MAX", "0").start().await;
    let start = head(&stack).await;
    stack.exec("update realtime.settings set value = '1 second' where name = 'log_retention'").await;
    stack.exec("insert into t values (1)").await;
    // Turns of the worker, done by hand: new rows, new segments, until the oldest are given back.
    let mut id = 1;
    eventually("retention took the beginning", async || {
        id += 1;
        stack.exec(&format!("insert into t values ({id})")).await;
        stack.exec("select realtime.rotate()").await;
        let oldest: i64 = stack.text("select oldest from realtime.status()").await.parse().unwrap();
        (oldest > start + 1).then_some(())
    })
    .await;
    let mut client = stack.native().await;
    let ack = client.resume("table:t", start).await;
    assert_eq!(ack["recovered"], false);
    let gap = client.expect("gap").await;
    assert_eq!((&gap["reason"], &gap["from"]), (&json!("retention"), &json!(start + 1)));
    let to = gap["to"].as_i64().unwrap();
    stack.exec("insert into t values (424242)").await;
    let mut expected = None;
    loop {
        let event = client.event().await;
        let id = event.record()["id"].as_i64().unwrap();
        assert!(event.offset() > to);
        if id == 424_242 {
            break;
        }
        assert!(expected.is_none_or(|expected| expected == id), "{expected:?} was left out before {event}");
        expected = Some(id + 1);
    }
}

#[tokio::test]
async fn a_bad_since_is_refused() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    for since in
        [json!(-1), json!(1.5), json!("newest"), json!("7"), json!(9_007_199_254_740_992_i64), json!({}), json!(true)]
    {
        let answer = client.try_subscribe(json!({"channel": "table:t", "since": since})).await;
        assert_eq!((answer.kind(), answer.code()), ("error", "INVALID_MESSAGE"), "{since}: {answer}");
    }
}

#[tokio::test]
async fn pong_and_heartbeat_give_a_safe_cursor() {
    let stack = Stack::builder().sql(TABLE).set("REALTIME_TIMING_HEARTBEAT_MS", "300").start().await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("insert into t values (1)").await;
    let event = client.event().await;
    let pong = client.ask(json!({"type": "ping"})).await;
    assert_eq!((pong.kind(), pong.offset() >= event.offset()), ("pong", true), "{pong}");
    let heartbeat = client.next_of_any_kind(PATIENCE).await.unwrap();
    assert_eq!((heartbeat.kind(), heartbeat.offset() >= event.offset()), ("heartbeat", true), "{heartbeat}");
    client.close().await;
    stack.exec("insert into t values (2)").await;
    let mut client = stack.native().await;
    client.resume("table:t", pong.offset()).await;
    assert_eq!(ids(&mut client, 1).await, [2]);
}

/// Writes rows one by one until it is dropped.
struct Writer {
    task: tokio::task::JoinHandle<()>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Writer {
    async fn start(stack: &Stack) -> Self {
        let session = stack.session().await;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let task = tokio::spawn(async move {
            for id in 1.. {
                if *stopped.borrow() {
                    return;
                }
                session.execute("insert into t values ($1)", &[&id]).await.unwrap();
            }
        });
        Self { task, stop }
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }
}

/// Cuts the connection again and again while rows are written; all must come, once.
async fn cut_and_resume(stack: &Stack) {
    let writer = Writer::start(stack).await;
    let mut seen = Vec::new();
    let mut cursor = None;
    for round in 0..40 {
        let mut client = stack.native().await;
        let since = cursor.map_or(json!("oldest"), |offset| json!(offset));
        let ack = client.subscribe_with(json!({"channel": "table:t", "since": since})).await;
        assert_eq!(ack["recovered"], true, "{ack}");
        for _ in 0..(round * 7) % 23 {
            let event = client.event().await;
            cursor = Some(event.offset());
            seen.push(event.record()["id"].as_i64().unwrap());
        }
        if cursor.is_none() {
            cursor = Some(ack.offset());
        }
    }
    writer.stop().await;
    let total: usize = stack.text("select count(*) from t").await.parse().unwrap();
    let mut client = stack.native().await;
    client.resume("table:t", cursor.unwrap()).await;
    seen.extend(ids(&mut client, total - seen.len()).await);
    assert_eq!(seen, (1..=i64::try_from(total).unwrap()).collect::<Vec<_>>());
}

#[tokio::test]
async fn cut_lines_lose_and_repeat_nothing() {
    cut_and_resume(&Stack::with(TABLE).await).await;
}

#[tokio::test]
async fn cut_lines_lose_and_repeat_nothing_without_memory() {
    let stack = Stack::builder().sql(TABLE).set("REALTIME_LIMITS_RECENT_BYTES_MAX", "0").start().await;
    cut_and_resume(&stack).await;
}

#[tokio::test]
async fn a_long_replay_hands_over_to_live() {
    let stack = Stack::with(TABLE).await;
    stack.exec("insert into t select -i from generate_series(1, 20000) i").await;
    let writer = Writer::start(&stack).await;
    let mut client = stack.native().await;
    client.subscribe_with(json!({"channel": "table:t", "since": "oldest"})).await;
    assert_eq!(ids(&mut client, 20_000).await, (1..=20_000).map(|i| -i).collect::<Vec<_>>());
    assert_eq!(ids(&mut client, 200).await, (1..=200).collect::<Vec<_>>());
    writer.stop().await;
}

#[tokio::test]
async fn a_client_resumes_inside_a_transaction() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("insert into t select i from generate_series(1, 3000) i").await;
    let events = client.events(1500).await;
    let last = events.last().unwrap().offset();
    drop(client);
    let mut client = stack.native().await;
    assert_eq!(client.resume("table:t", last).await["recovered"], true);
    assert_eq!(ids(&mut client, 1500).await, (1501..=3000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_killed_sidecar_loses_nothing() {
    let mut stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    let mut cursor = client.subscribe("table:t").await.offset();
    let writer = Writer::start(&stack).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        for event in client.events(20).await {
            cursor = event.offset();
            seen.push(event.record()["id"].as_i64().unwrap());
        }
        stack.sidecar.kill();
        assert_eq!(client.closed().await.1.code, 1006);
        stack.sidecar.start_again();
        stack.sidecar.ready().await;
        client = stack.native().await;
        assert_eq!(client.resume("table:t", cursor).await["recovered"], true);
    }
    writer.stop().await;
    let total: usize = stack.text("select count(*) from t").await.parse().unwrap();
    seen.extend(ids(&mut client, total - seen.len()).await);
    assert_eq!(seen, (1..=i64::try_from(total).unwrap()).collect::<Vec<_>>());
}

#[tokio::test]
async fn two_subscriptions_resume_from_two_places() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("insert into t select i from generate_series(1, 10) i").await;
    let events = client.events(10).await;
    client.unsubscribe("table:t").await;
    client.subscribe_with(json!({"channel": "table:t", "id": "a", "since": events[1].offset()})).await;
    client.subscribe_with(json!({"channel": "table:t", "id": "b", "since": events[5].offset()})).await;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for event in client.events(12).await {
        let seen = if event["id"] == "a" { &mut a } else { &mut b };
        seen.push(event.record()["id"].as_i64().unwrap());
    }
    assert_eq!((a, b), ((3..=10).collect(), (7..=10).collect()));
}
