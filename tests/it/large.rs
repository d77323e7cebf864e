//! Rows and transactions of any size: the write succeeds, readers get all of it at their own pace.

use std::fs;

use realtime_tests::{Connect, Dialect, Mode, Proxy, Stack};
use serde_json::json;

use crate::fixtures::TABLE;

#[tokio::test]
async fn rows_over_eight_thousand_bytes_come_whole() {
    let stack = Stack::with(TABLE).await;
    let (mut native, mut seed) = (stack.native().await, stack.seed().await);
    native.subscribe("table:t").await;
    seed.subscribe("table:t").await;
    for (id, length) in [(1, 8_001), (2, 100_000), (3, 900_000)] {
        // Once as it compresses, once as it does not.
        stack.exec(&format!("insert into t select {id}, repeat('x', {length})")).await;
        stack.exec(&format!("update t set name = (select string_agg(md5(i::text), '') from generate_series(1, {length} / 64) i) where id = {id}")).await;
        for client in [&mut native, &mut seed] {
            let insert = client.event().await;
            assert_eq!(insert.record()["name"].as_str().map(str::len), Some(length));
            let update = client.event().await;
            assert_eq!(update.old_record()["name"], insert.record()["name"]);
            assert_eq!(update.record()["name"].as_str().map(str::len), Some(length / 64 * 32));
            assert!(update["payload"]["oversize"].is_null());
        }
    }
}

#[tokio::test]
async fn a_row_of_300_megabytes_is_written_and_told_by_its_key() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    let mut seed = stack.seed().await;
    client.subscribe("table:t").await;
    seed.subscribe("table:t").await;
    stack.exec("alter table t alter name set storage external").await;
    stack.exec("insert into t select 1, repeat('x', 300 * 1024 * 1024)").await;
    stack.exec("update t set id = 2").await;
    stack.exec("delete from t").await;
    for client in [&mut client, &mut seed] {
        let events = client.events(3).await;
        assert!(events.iter().all(|event| event["payload"]["oversize"] == true), "{events:?}");
        assert_eq!(events[0].record(), &json!({"id": 1}));
        assert_eq!((events[1].old_record(), events[1].record()), (&json!({"id": 1}), &json!({"id": 2})));
        assert_eq!(events[2].old_record(), &json!({"id": 2}));
    }
}

/// Bytes of a process in memory.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

// The proxy has a thread of its own: it must not be slower than it says because the clients are busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_copy_of_100_000_rows_reaches_a_slow_reader_without_loss() {
    let stack = Stack::with(TABLE).await;
    let proxy = Proxy::start(stack.sidecar.address());
    let mut slow = Connect::new(proxy.address(), Dialect::Native).open().await;
    let mut quick = stack.native().await;
    slow.subscribe("table:t").await;
    quick.subscribe("table:t").await;
    let before = resident_bytes(stack.sidecar.pid().unwrap());
    proxy.set(Mode::Slow { bytes_per_second: 200_000 });
    stack.exec("copy t (id) from program 'seq 100000'").await;
    // What the slow one cannot take now is replayed to it at its own pace.
    let slow = tokio::spawn(async move {
        let mut txn = None;
        for id in 1..=100_000 {
            let event = slow.event().await;
            assert_eq!(event.record()["id"], id);
            assert_eq!(*txn.get_or_insert_with(|| event["txn"].clone()), event["txn"]);
        }
        slow
    });
    // The quick one does not wait for it, which has minutes of events before it.
    for id in 1..=100_000 {
        assert_eq!(quick.event().await.record()["id"], id);
    }
    assert!(!slow.is_finished());
    let grown = resident_bytes(stack.sidecar.pid().unwrap()).saturating_sub(before);
    assert!(grown < 100 << 20, "{} MiB more for one slow reader", grown >> 20);
    proxy.set(Mode::Pass);
    let mut slow = slow.await.unwrap();
    // Then it goes on live.
    stack.exec("insert into t values (0)").await;
    assert_eq!(slow.event().await.record()["id"], 0);
    assert!(stack.sidecar.metric("realtime_overflows_total").await >= 1.0, "the queue did overflow");
}

#[tokio::test]
async fn a_reader_that_is_slow_but_steady_is_not_taken_for_dead() {
    // Its pongs wait behind everything that was sent before the pings, for longer than a silent peer may be silent.
    let timing = [("REALTIME_TIMING_PING_MS", "500"), ("REALTIME_TIMING_DEAD_MS", "3000")];
    let builder = timing.iter().fold(Stack::builder().sql(TABLE), |builder, (name, value)| builder.set(name, value));
    let stack = builder.start().await;
    let proxy = Proxy::start(stack.sidecar.address());
    let mut client = Connect::new(proxy.address(), Dialect::Native).open().await;
    client.subscribe("table:t").await;
    proxy.set(Mode::Slow { bytes_per_second: 200_000 });
    stack.exec("insert into t select i, repeat('x', 100000) from generate_series(1, 20) i").await;
    for id in 1..=20 {
        assert_eq!(client.event().await.record()["id"], id);
    }
    assert_eq!(client.ask(json!({"type": "ping"})).await.kind(), "pong");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_closed_and_resumes() {
    let stack = Stack::builder().sql(TABLE).set("REALTIME_TIMING_NO_PROGRESS_MS", "1000").start().await;
    let proxy = Proxy::start(stack.sidecar.address());
    let mut client = Connect::new(proxy.address(), Dialect::Native).open().await;
    let start = client.subscribe("table:t").await.offset();
    proxy.set(Mode::HalfOpen);
    stack.exec("insert into t select i, repeat('x', 1000) from generate_series(1, 20000) i").await;
    realtime_tests::eventually("the reader is closed", async || {
        (stack.sidecar.stats().await["connections"] == 0).then_some(())
    })
    .await;
    proxy.set(Mode::Pass);
    let mut cursor = start;
    let mut seen = 0;
    let closed = loop {
        match client.next_or_close().await {
            Ok(frame) => {
                seen += 1;
                assert_eq!(frame.record()["id"], seen);
                cursor = frame.offset();
            }
            Err(closed) => break closed,
        }
    };
    assert!([4408, 1006].contains(&closed.code), "{closed:?}");
    let mut client = stack.native().await;
    assert_eq!(client.resume("table:t", cursor).await["recovered"], true);
    for id in seen + 1..=20_000 {
        assert_eq!(client.event().await.record()["id"], id);
    }
}

#[tokio::test]
async fn many_large_events_to_a_slow_reader_stay_bounded() {
    let stack = Stack::builder().sql(TABLE).set("REALTIME_LIMITS_RECENT_BYTES_MAX", "1048576").start().await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    let before = resident_bytes(stack.sidecar.pid().unwrap());
    stack.exec("insert into t select i, repeat('x', 500000) from generate_series(1, 200) i").await;
    let mut most = 0;
    for id in 1..=200 {
        assert_eq!(client.event().await.record()["id"], id);
        most = most.max(resident_bytes(stack.sidecar.pid().unwrap()).saturating_sub(before));
    }
    assert!(most < 100 << 20, "{} MiB for 100 MB of events", most >> 20);
}
