//! Clients of Socket.IO over HTTP that want more than their share.

use realtime_tests::{PATIENCE, PollingClient, Stack, eventually, http, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixtures::{ADA, ROOMS};

async fn sessions(stack: &Stack) -> f64 {
    stack.sidecar.metric("realtime_engine_sessions").await
}

/// The answer to a request that is sent as it is here.
async fn answer_on(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A server that refuses does not read the rest, so the line may end roughly behind the answer.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_gigabyte_is_refused_before_it_comes() {
    let stack = Stack::with(ROOMS).await;
    let client = PollingClient::open(stack.sidecar.address()).await;
    let mut stream = TcpStream::connect(stack.sidecar.address()).await.unwrap();
    stream.write_all(format!("{}\r\n4", client.head(1 << 30)).as_bytes()).await.unwrap();
    let answer = within(PATIENCE, "a refusal", answer_on(&mut stream)).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    let mut stream = TcpStream::connect(stack.sidecar.address()).await.unwrap();
    let head = format!("POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", client.path("polling"));
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "4".repeat(0x10000));
    while stream.write_all(chunk.as_bytes()).await.is_ok() {}
    assert_eq!(client.bring("3").await.status, 200, "the session goes on, as with the reference");
    // Before anybody has said who they are, less is taken than after.
    let connected = PollingClient::connect(stack.sidecar.address(), &json!({ "token": stack.signer.user(ADA) })).await;
    let large = "6".repeat(100_000);
    assert_eq!((client.bring(&large).await.status, connected.bring(&large).await.status), (413, 200));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let stack = Stack::builder().sql(ROOMS).set("REALTIME_TIMING_ENGINE_POST_MS", "300").start().await;
    let client = PollingClient::open(stack.sidecar.address()).await;
    let mut stream = TcpStream::connect(stack.sidecar.address()).await.unwrap();
    stream.write_all(format!("{}\r\n4", client.head(2)).as_bytes()).await.unwrap();
    let answer = within(PATIENCE, "a refusal", answer_on(&mut stream)).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    eventually("the session has ended", async || (sessions(&stack).await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn sessions_that_nobody_uses_end() {
    let stack = Stack::builder()
        .sql(ROOMS)
        .set("REALTIME_TIMING_ENGINE_PING_MS", "300")
        .set("REALTIME_TIMING_ENGINE_PONG_MS", "200")
        .set("REALTIME_TIMING_CONNECT_MS", "500")
        .start()
        .await;
    for _ in 0..20 {
        PollingClient::open(stack.sidecar.address()).await;
        PollingClient::connect(stack.sidecar.address(), &json!({ "token": stack.signer.user(ADA) })).await;
    }
    // Whoever fetches without answering pings does not live.
    let client = PollingClient::connect(stack.sidecar.address(), &json!({ "token": stack.signer.user(ADA) })).await;
    while client.fetch().await.status == 200 {}
    eventually("all sessions have ended", async || (sessions(&stack).await == 0.0).then_some(())).await;
    assert_eq!(stack.sidecar.metric("realtime_connections").await, 0.0);
    // Whoever answers them does.
    let mut client = PollingClient::connect(stack.sidecar.address(), &json!({ "token": stack.signer.user(ADA) })).await;
    let mut pings = 0;
    while pings < 5 {
        let answer = client.fetch().await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "2"));
        pings += 1;
        client.send("3").await;
    }
}

#[tokio::test]
async fn sessions_of_an_address_are_limited() {
    let stack = Stack::builder().sql(ROOMS).set("REALTIME_LIMITS_CONNECTIONS_PER_ADDRESS_MAX", "3").start().await;
    let first = PollingClient::open(stack.sidecar.address()).await;
    for _ in 0..2 {
        PollingClient::open(stack.sidecar.address()).await;
    }
    let refused = PollingClient::try_open(stack.sidecar.address()).await;
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!(4)));
    assert_eq!(first.bring("1").await.status, 200);
    eventually("there is room again", async || {
        (PollingClient::try_open(stack.sidecar.address()).await.status == 200).then_some(())
    })
    .await;
}

/// What a client does not fetch waits in bounds, and the rest in the log: it comes when it fetches again.
#[tokio::test]
async fn what_is_not_fetched_waits_in_the_log_and_comes_later() {
    const EVENTS: u64 = 400;
    let stack = Stack::builder().sql(ROOMS).set("REALTIME_LIMITS_QUEUE_FRAMES_MAX", "50").start().await;
    let mut client = PollingClient::connect(stack.sidecar.address(), &json!({ "token": stack.signer.user(ADA) })).await;
    client.ask("realtime:subscribe", &json!({ "channel": "room:1" })).await;
    stack
        .exec(&format!(
            "select realtime.publish('room:1', 'n', jsonb_build_object('n', n, 'text', repeat('x', 5000)))
               from generate_series(1, {EVENTS}) n"
        ))
        .await;
    eventually("the queue has overflown", async || {
        (stack.sidecar.metric("realtime_overflows_total").await > 0.0).then_some(())
    })
    .await;
    for expected in 1..=EVENTS {
        let (name, body) = client.event().await;
        assert_eq!((name.as_str(), body["n"].as_u64()), ("n", Some(expected)));
    }
}

/// More requests wait than may be answered at the same time: they are counted by their sessions.
#[tokio::test]
async fn requests_that_wait_take_nobody_s_place() {
    const WAITING: usize = 2_200;
    let stack = Stack::builder().sql(ROOMS).set("REALTIME_LIMITS_CONNECTIONS_PER_ADDRESS_MAX", "5000").start().await;
    let mut streams = Vec::new();
    for _ in 0..WAITING {
        let client = PollingClient::open(stack.sidecar.address()).await;
        let mut stream = TcpStream::connect(stack.sidecar.address()).await.unwrap();
        let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", client.path("polling"));
        stream.write_all(request.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    let polls = async || stack.sidecar.metric("realtime_engine_polls").await;
    eventually("all wait", async || (polls().await == WAITING as f64).then_some(())).await;
    assert_eq!(http::get(stack.sidecar.address(), "/ping").await.map(|answer| answer.status), Some(200));
    drop(streams);
    eventually("their sessions have ended", async || (sessions(&stack).await == 0.0).then_some(())).await;
}

/// Pages of other origins neither begin nor go on with a session; pages of listed ones may, with credentials.
#[tokio::test]
async fn only_listed_origins_have_sessions() {
    let listed = "https://app.example.com";
    let stack = Stack::builder().sql(ROOMS).set("REALTIME_ORIGINS", listed).start().await;
    let client = PollingClient::open(stack.sidecar.address()).await;
    let address = stack.sidecar.address();
    for path in ["/socket.io/?EIO=4&transport=polling".to_owned(), client.path("polling")] {
        let headers = [("Origin", "https://evil.example.com")];
        let refused = http::request(address, "GET", &path, &headers).await.unwrap();
        assert_eq!((refused.status, &refused.json()["code"]), (403, &json!(4)));
        assert_eq!(refused.header("access-control-allow-origin"), None);
    }
    let headers = [("Origin", listed)];
    let open = http::request(address, "GET", "/socket.io/?EIO=4&transport=polling", &headers).await.unwrap();
    assert_eq!((open.status, open.header("access-control-allow-origin")), (200, Some(listed)));
    assert_eq!(open.header("access-control-allow-credentials"), Some("true"));
    let preflight = [("Origin", listed), ("Access-Control-Request-Method", "POST")];
    let answer = http::request(address, "OPTIONS", &client.path("polling"), &preflight).await.unwrap();
    assert_eq!((answer.status, answer.header("access-control-allow-credentials")), (204, Some("true")));
    let plain = http::request(address, "GET", "/health", &headers).await.unwrap();
    assert_eq!(plain.header("access-control-allow-credentials"), None);
    let _: Value = plain.json();
}
