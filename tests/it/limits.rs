//! Every limit has its error, and ends no more than it must.

use std::time::Duration;

use realtime_tests::{PATIENCE, Stack, eventually, http, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixtures::{ADA, ROOMS, TABLE};

#[tokio::test]
async fn subscriptions_of_one_connection_are_limited() {
    let stack = Stack::builder().sql(ROOMS).set("REALTIME_LIMITS_SUBSCRIPTIONS_MAX", "3").start().await;
    let mut client = stack.native().await;
    assert_eq!(client.hello()["limits"]["subscriptions"], 3);
    for channel in ["room:1", "room:2", "room:3", "room:2"] {
        client.subscribe(channel).await;
    }
    let answer = client.try_subscribe(json!({"channel": "room:4"})).await;
    assert_eq!((answer.code(), &answer["channel"]), ("TOO_MANY_SUBSCRIPTIONS", &json!("room:4")));
    client.unsubscribe("room:1").await;
    client.subscribe("room:4").await;
}

#[tokio::test]
async fn messages_of_one_connection_are_limited() {
    let stack = Stack::builder()
        .sql(TABLE)
        .set("REALTIME_LIMITS_MESSAGES_PER_SECOND_MAX", "2")
        .set("REALTIME_LIMITS_MESSAGES_BURST_MAX", "5")
        .start()
        .await;
    let mut client = stack.native().await;
    let mut other = stack.native().await;
    client.subscribe("table:t").await;
    for reference in 0..20 {
        client.send(json!({"type": "ping", "ref": reference})).await;
    }
    let mut limited = 0;
    for reference in 0..20 {
        let answer = client.next().await;
        assert_eq!(answer["ref"], reference, "answered once, in order");
        if answer.kind() == "error" {
            assert_eq!(answer.code(), "RATE_LIMITED");
            assert!((1..=500).contains(&answer["retry_after_ms"].as_u64().unwrap()), "{answer}");
            limited += 1;
        }
    }
    assert!((10..=16).contains(&limited), "{limited} of 20");
    assert_eq!(other.ask(json!({"type": "ping"})).await.kind(), "pong", "others are not limited");
    stack.exec("insert into t values (1)").await;
    assert_eq!(client.event().await.record()["id"], 1, "events still come");
    eventually("it may ask again", async || (client.ask(json!({"type": "ping"})).await.kind() == "pong").then_some(()))
        .await;
}

#[tokio::test]
async fn a_frame_that_is_too_large_ends_the_connection() {
    let stack = Stack::with(ROOMS).await;
    let padded = |bytes: usize| json!({"type": "ping", "padding": "x".repeat(bytes)});
    let token = stack.signer.user(ADA);
    for (at_start, later, fits, limit) in [
        (None, None, 64_000, 65_536),
        (Some(&token), None, 1_000_000, 1_048_576),
        (None, Some(&token), 1_000_000, 1_048_576),
    ] {
        let connect = at_start.iter().fold(stack.connect(), |connect, token| connect.token(token));
        let mut client = connect.open().await;
        assert_eq!(client.hello()["limits"]["frame_bytes"], if at_start.is_some() { 1_048_576 } else { 65_536 });
        if let Some(token) = later {
            assert_eq!(client.ask(json!({"type": "access_token", "token": token})).await.kind(), "ack");
        }
        assert_eq!(client.ask(padded(fits)).await.kind(), "pong");
        let _ = client.try_send(tokio_tungstenite::tungstenite::Message::text(padded(limit).to_string())).await;
        let (frames, closed) = client.closed().await;
        // A connection that is closed while it sends may be reset before it has read why.
        assert!([1009, 1006].contains(&closed.code), "{closed:?} after {frames:?}");
        assert!(frames.iter().all(|frame| frame.code() == "PAYLOAD_TOO_LARGE"), "{frames:?}");
    }
}

#[tokio::test]
async fn a_payload_that_is_too_large_is_refused_alone() {
    let stack = Stack::builder().sql(ROOMS).set("REALTIME_LIMITS_EVENT_BYTES_MAX", "2000").start().await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("room:1").await;
    let answer = client.publish("room:1", "e", json!("x".repeat(2000))).await;
    assert_eq!((answer.code(), &answer["channel"]), ("PAYLOAD_TOO_LARGE", &json!("room:1")));
    assert_eq!(client.publish("room:1", "e", json!("x".repeat(1900))).await.kind(), "ack");
    client.event().await;
}

#[tokio::test]
async fn the_database_s_own_limit_counts_too() {
    let stack = Stack::builder()
        .sql(ROOMS)
        .sql("do $$ begin execute format('alter database %I set realtime.max_event_bytes = 2000', current_database()); end $$;")
        .start()
        .await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("room:1").await;
    assert_eq!(client.publish("room:1", "e", json!("x".repeat(3000))).await.code(), "PAYLOAD_TOO_LARGE");
    assert_eq!(client.publish("room:1", "e", json!("small")).await.kind(), "ack");
}

#[tokio::test]
async fn connections_of_an_address_are_limited() {
    let stack = Stack::builder().set("REALTIME_LIMITS_CONNECTIONS_PER_ADDRESS_MAX", "2").start().await;
    let (one, _two) = (stack.native().await, stack.seed().await);
    let refusal = stack.connect().try_open().await.err().unwrap();
    assert_eq!(refusal.status, 429, "{refusal:?}");
    let body: Value = serde_json::from_str(&refusal.body).unwrap();
    assert_eq!(body["code"], "TOO_MANY_CONNECTIONS");
    one.close().await;
    eventually("the place is free again", async || stack.connect().try_open().await.ok()).await;
}

#[tokio::test]
async fn connections_of_all_are_limited_and_life_signs_stay() {
    let stack = Stack::builder().set("REALTIME_LIMITS_CONNECTIONS_MAX", "1").start().await;
    let _one = stack.native().await;
    assert_eq!(stack.connect().try_open().await.err().unwrap().status, 429);
    assert_eq!(http::get(stack.sidecar.address(), "/ping").await.unwrap().body, "pong");
}

#[tokio::test]
async fn the_opening_request_is_limited() {
    let stack = Stack::start().await;
    let address = stack.sidecar.address();
    let long = "x".repeat(9000);
    for (name, status) in [("a long header", 431), ("a long address", 414), ("many headers", 431)] {
        let request = match name {
            "a long header" => format!("GET /realtime HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n"),
            "a long address" => format!("GET /realtime?token={long} HTTP/1.1\r\nHost: x\r\n\r\n"),
            _ => {
                let headers: String = (0..100).map(|i| format!("X-{i}: y\r\n")).collect();
                format!("GET /realtime HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
            }
        };
        let answer = http::raw(address, &request).await.unwrap_or_else(|| panic!("no answer to {name}"));
        assert!([status, 431].contains(&answer.status), "{name}: {answer:?}");
    }
    stack.native().await;
}

#[tokio::test]
async fn a_slow_opening_request_is_ended() {
    let stack = Stack::builder().set("REALTIME_TIMING_HANDSHAKE_MS", "500").start().await;
    let mut slow = TcpStream::connect(stack.sidecar.address()).await.unwrap();
    slow.write_all(b"GET /realtime HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let mut silent = TcpStream::connect(stack.sidecar.address()).await.unwrap();
    for (name, stream) in [("slow", &mut slow), ("silent", &mut silent)] {
        let mut rest = Vec::new();
        let _ = within(Duration::from_secs(5), name, stream.read_to_end(&mut rest)).await;
        assert!(!rest.starts_with(b"HTTP/1.1 101"), "{name}");
    }
}

#[tokio::test]
async fn only_listed_origins_may_connect() {
    let stack = Stack::builder().set("REALTIME_ORIGINS", "https://app.example.com").start().await;
    let with = |origin: &str| stack.connect().header("origin", origin);
    with("https://app.example.com").open().await;
    stack.native().await;
    for origin in [
        "https://evil.example.com",
        "https://app.example.com.evil.com",
        "http://app.example.com",
        "https://APP.example.com",
        "null",
    ] {
        let refusal = with(origin).try_open().await.err().unwrap();
        assert_eq!(refusal.status, 403, "{origin}");
    }
}

#[tokio::test]
async fn a_silent_connection_is_pinged_and_one_that_answers_stays() {
    let stack = Stack::builder()
        .sql(TABLE)
        .set("REALTIME_TIMING_PING_MS", "100")
        .set("REALTIME_TIMING_DEAD_MS", "500")
        .set("REALTIME_TIMING_HEARTBEAT_MS", "1500")
        .start()
        .await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    // Reading answers the pings; the heartbeat comes after several times the deadline.
    assert_eq!(client.next_of_any_kind(PATIENCE).await.unwrap().kind(), "heartbeat");
    stack.exec("insert into t values (1)").await;
    assert_eq!(client.event().await.record()["id"], 1);
}

/// The reader has a session beside the pool. Until it has that, others wait.
#[tokio::test]
async fn a_pool_of_one_connection_serves_everybody() {
    let pool = Stack::builder().sql(&format!("{TABLE}{ROOMS}")).set("REALTIME_DATABASE_POOL_SIZE_MAX", "1");
    let stack = pool.start().await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("table:t").await;
    client.subscribe("room:1").await;
    stack.exec("insert into t values (1)").await;
    assert_eq!(client.event().await.record()["id"], 1);
    for n in 0..5 {
        assert_eq!(client.publish("room:1", "e", json!(n)).await.kind(), "ack");
        assert_eq!(client.event().await["payload"]["payload"], n);
    }
}
