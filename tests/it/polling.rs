//! Sessions of Socket.IO over HTTP requests, and their move to a WebSocket. What is expected of malformed requests was
//! observed with the reference server (socket.io 4.8).

use std::collections::BTreeSet;

use realtime_tests::polling::packets;
use realtime_tests::{PollingClient, Stack, eventually, http};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::fixtures::{ADA, GRACE, ROOMS};

async fn connected(stack: &Stack, sub: &str) -> PollingClient {
    PollingClient::connect(stack.sidecar.address(), &json!({ "token": stack.signer.user(sub) })).await
}

/// Starts a request that fetches, and waits until the server has it.
async fn waiting(stack: &Stack, client: &PollingClient) -> JoinHandle<Option<http::Answer>> {
    let before = stack.sidecar.metric("realtime_engine_polls").await;
    let client = client.clone();
    let fetch = tokio::spawn(async move { client.try_fetch().await });
    eventually("the request waits", async || {
        (stack.sidecar.metric("realtime_engine_polls").await > before).then_some(())
    })
    .await;
    fetch
}

/// K28: a client that only has HTTP.
#[tokio::test]
async fn k28_a_session_over_http_subscribes_publishes_and_hears() {
    let stack = Stack::with(ROOMS).await;
    let (mut ada, mut grace) = (connected(&stack, ADA).await, connected(&stack, GRACE).await);
    for client in [&mut ada, &mut grace] {
        let answer = client.ask("realtime:subscribe", &json!({ "channel": "room:1" })).await;
        assert_eq!(answer["ok"], true, "{answer}");
    }
    let publish = json!(["realtime:publish", { "channel": "room:1", "event": "said", "payload": { "text": "ü€😀" } }]);
    // Two packets with one request.
    let answer = grace.bring(&format!("3\u{1e}42{publish}")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    for client in [&mut ada, &mut grace] {
        loop {
            let (name, body) = client.event().await;
            if name == "said" {
                assert_eq!((&body["text"], &body["meta"]["senderId"]), (&json!("ü€😀"), &json!(GRACE)));
                break;
            }
        }
    }
}

#[tokio::test]
async fn answers_have_the_headers_of_the_reference() {
    let stack = Stack::with(ROOMS).await;
    let open = PollingClient::try_open(stack.sidecar.address()).await;
    assert_eq!(open.header("content-type"), Some("text/plain; charset=UTF-8"));
    assert_eq!((open.header("cache-control"), open.header("etag")), (Some("no-store"), None));
    assert_eq!(open.header("set-cookie"), None);
    let told: Value = serde_json::from_str(&open.body[1..]).unwrap();
    let rhythm = (&told["pingInterval"], &told["pingTimeout"], &told["upgrades"]);
    assert_eq!(rhythm, (&json!(25000), &json!(20000), &json!(["websocket"])));
    assert!(told["sid"].as_str().unwrap().len() >= 22, "128 bits in base64: {told}");
    let mut client = PollingClient::open(stack.sidecar.address()).await;
    let ok = client.bring("3").await;
    assert_eq!((ok.header("content-type"), ok.header("cache-control")), (Some("text/html"), Some("no-store")));
    client.send("40").await;
    assert!(client.packet().await.starts_with("44"), "nobody has said who it is");
}

#[tokio::test]
async fn malformed_requests_are_refused_as_the_reference_does() {
    let stack = Stack::with(ROOMS).await;
    let client = PollingClient::open(stack.sidecar.address()).await;
    let of_session = client.path("polling");
    let cases = [
        ("GET", "/socket.io/", 0),
        ("GET", "/socket.io", 0),
        ("GET", "/socket.io/?EIO=4", 0),
        ("GET", "/socket.io/?EIO=4&transport=foo", 0),
        ("GET", "/socket.io/?EIO=4&transport=webtransport", 0),
        ("GET", "/socket.io/?EIO=3&transport=foo", 0),
        ("GET", "/socket.io/?EIO=4&transport=polling&sid=unknown", 1),
        ("GET", "/socket.io/?EIO=4&transport=polling&sid=__proto__", 1),
        ("POST", "/socket.io/?EIO=4&transport=polling&sid=unknown", 1),
        ("POST", "/socket.io/?EIO=4&transport=polling", 2),
        ("PUT", "/socket.io/?EIO=4&transport=polling", 2),
        ("OPTIONS", "/socket.io/?EIO=4&transport=polling", 2),
        ("POST", "/socket.io/?EIO=4&transport=websocket", 2),
        ("POST", "/socket.io/?EIO=3&transport=polling", 2),
        ("GET", "/socket.io/?EIO=4&transport=websocket", 3),
        ("GET", &of_session.replace("polling", "websocket"), 3),
        ("GET", &of_session.replace("EIO=4", "EIO=3"), 3),
        ("POST", &of_session.replace("EIO=4&", ""), 3),
        // The reference has answers as scripts, and 500 for methods that it does not know.
        ("GET", "/socket.io/?EIO=4&transport=polling&j=0", 3),
        ("DELETE", &of_session, 3),
        ("GET", "/socket.io/?EIO=3&transport=polling", 5),
        ("GET", "/socket.io/?transport=polling", 5),
        ("GET", "/socket.io/?EIO=abc&transport=polling", 5),
    ];
    let texts = [
        "Transport unknown",
        "Session ID unknown",
        "Bad handshake method",
        "Bad request",
        "",
        "Unsupported protocol version",
    ];
    for (method, path, code) in cases {
        let answer = http::request(stack.sidecar.address(), method, path, &[]).await.unwrap();
        assert_eq!(answer.status, 400, "{method} {path}: {answer:?}");
        assert_eq!(answer.json(), json!({ "code": code, "message": texts[code] }), "{method} {path}");
    }
    assert_eq!(client.bring("3").await.status, 200, "the session has not suffered");
    let empty = http::get(stack.sidecar.address(), "/socket.io?EIO=4&transport=polling&sid=").await.unwrap();
    assert!(empty.body.starts_with("0{"), "an empty name is none: {empty:?}");
}

/// What each payload does to its session: the answer to a request that waits meanwhile, when there is one.
#[tokio::test]
async fn payloads_that_are_none_end_the_session_as_the_reference_does() {
    let stack = Stack::with(ROOMS).await;
    let ends = [
        ("", "1"),
        ("7", "1"),
        ("\u{1e}", "1"),
        ("3\u{1e}7", "1"),
        ("2", "1"),
        ("2probe", "1"),
        ("hello", "1"),
        ("4", "1"),
        ("42[\"e\"]", "1"),
        ("bAQID", "1"),
        ("1", "6"),
        ("1\u{1e}40", "6"),
    ];
    for (payload, last) in ends {
        let client = PollingClient::open(stack.sidecar.address()).await;
        let fetch = waiting(&stack, &client).await;
        assert_eq!(client.bring(payload).await.body, "ok", "{payload:?}");
        let answer = fetch.await.unwrap().unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, last), "{payload:?}");
        gone(&client).await;
    }
    for payload in ["3", "6", "5", "0", "3probe", "3\u{1e}6\u{1e}3"] {
        let mut client = PollingClient::open(stack.sidecar.address()).await;
        client.send(payload).await;
        client.send("40").await;
        assert!(client.packet().await.starts_with("44"), "{payload:?} says nothing");
    }
}

/// The session is known no more.
async fn gone(client: &PollingClient) {
    eventually("the session has ended", async || {
        let answer = client.bring("3").await;
        (answer.status == 400 && answer.json()["code"] == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_second_request_of_a_kind_ends_the_session() {
    let stack = Stack::with(ROOMS).await;
    let client = PollingClient::open(stack.sidecar.address()).await;
    let first = waiting(&stack, &client).await;
    assert_eq!(client.fetch().await.status, 400);
    let first = first.await.unwrap().unwrap();
    assert_eq!((first.status, first.body.as_str()), (200, "1"));
    gone(&client).await;

    let client = PollingClient::open(stack.sidecar.address()).await;
    let fetch = waiting(&stack, &client).await;
    let mut slow = TcpStream::connect(stack.sidecar.address()).await.unwrap();
    slow.write_all(format!("{}\r\n4", client.head(2)).as_bytes()).await.unwrap();
    // The first may not have been read yet: then the second one is alone, and there is room for a third.
    eventually("two overlap", async || (client.bring("3").await.status == 400).then_some(())).await;
    assert_eq!(fetch.await.unwrap().unwrap().body, "1");
    gone(&client).await;
}

#[tokio::test]
async fn a_request_that_is_cut_ends_the_session() {
    let stack = Stack::with(ROOMS).await;
    let client = PollingClient::open(stack.sidecar.address()).await;
    waiting(&stack, &client).await.abort();
    gone(&client).await;

    let client = PollingClient::open(stack.sidecar.address()).await;
    let fetch = waiting(&stack, &client).await;
    let mut stream = TcpStream::connect(stack.sidecar.address()).await.unwrap();
    stream.write_all(format!("{}\r\n4", client.head(2)).as_bytes()).await.unwrap();
    drop(stream);
    assert_eq!(fetch.await.unwrap().unwrap().body, "6");
    gone(&client).await;

    let client = PollingClient::open(stack.sidecar.address()).await;
    let answer = client.bring_as("application/octet-stream", "40").await;
    assert_eq!((answer.status, &answer.json()["code"]), (400, &json!(3)));
    gone(&client).await;
}

/// Publishes while the session moves: every event comes once, in order, by the one way or the other.
#[tokio::test]
async fn a_session_moves_to_a_websocket_and_nothing_is_lost_doubled_or_reordered() {
    const EVENTS: usize = 300;
    let stack = Stack::with(ROOMS).await;
    for round in 0..5 {
        let channel = format!("room:{round}");
        let mut client = connected(&stack, ADA).await;
        client.ask("realtime:subscribe", &json!({ "channel": channel })).await;
        let publish = format!("select realtime.publish('{channel}', 'n', jsonb_build_object('n', {{}}))");
        let (database, fetched) = (&stack.database, Vec::new());
        let publishing = async {
            for number in 0..EVENTS {
                database.exec(&publish.replace("{}", &number.to_string())).await;
            }
        };
        let receiving = Box::pin(receive_and_move(&mut client, fetched, round * 20, EVENTS));
        let ((), received) = tokio::join!(publishing, receiving);
        let numbers: Vec<usize> = received.iter().filter_map(|packet| number(packet)).collect();
        assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>(), "round {round}");
    }
}

/// Fetches some events, then moves as real clients do: asks, fetches until it was answered, says that it goes.
async fn receive_and_move(
    client: &mut PollingClient,
    mut received: Vec<String>,
    first: usize,
    all: usize,
) -> Vec<String> {
    let count = |received: &[String]| received.iter().filter(|packet| number(packet).is_some()).count();
    while count(&received) < first {
        received.push(client.packet().await);
    }
    received.extend(client.fetched());
    let fetcher = client.clone();
    let fetch = tokio::spawn(async move { fetcher.fetch().await });
    let mut socket = client.upgrade().await;
    socket.send("2probe").await;
    assert_eq!(socket.packet().await.as_deref(), Some("3probe"));
    received.extend(packets(&fetch.await.unwrap().body));
    socket.send("5").await;
    while count(&received) < all {
        let packet = socket.packet().await.expect("it stays open");
        received.push(packet);
    }
    socket.send(r#"421["realtime:subscribe",{"channel":"room:moved"}]"#).await;
    loop {
        let packet = socket.packet().await.expect("it stays open");
        if packet.starts_with("431") {
            return received;
        }
    }
}

/// The number in an event of the test.
fn number(packet: &str) -> Option<usize> {
    let event: Value = serde_json::from_str(packet.strip_prefix("42")?).ok()?;
    (event[0] == "n").then(|| event[1]["n"].as_u64())?.map(|number| usize::try_from(number).unwrap())
}

#[tokio::test]
async fn a_session_that_has_moved_takes_no_more_requests() {
    let stack = Stack::with(ROOMS).await;
    let client = PollingClient::open(stack.sidecar.address()).await;
    let fetch = waiting(&stack, &client).await;
    let mut socket = client.upgrade().await;
    // Not as real clients do it: without asking, and while a request waits.
    socket.send("5").await;
    assert_eq!(fetch.await.unwrap().unwrap().body, "6");
    for answer in [client.fetch().await, client.bring("40").await] {
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!(3)));
    }
    assert!(client.try_upgrade().await.is_err());
    socket.send("40").await;
    assert!(socket.packet().await.is_some_and(|packet| packet.starts_with("44")));
}

#[tokio::test]
async fn a_websocket_that_does_not_ask_rightly_is_sent_away_and_the_session_stays() {
    let stack = Stack::builder().sql(ROOMS).set("REALTIME_TIMING_ENGINE_UPGRADE_MS", "300").start().await;
    for packet in ["2", "3", "40", "x", "1", "2probex", ""] {
        let mut client = PollingClient::open(stack.sidecar.address()).await;
        let mut socket = client.upgrade().await;
        socket.send(packet).await;
        assert_eq!(socket.packet().await, None, "{packet}");
        client.send("40").await;
        assert!(client.packet().await.starts_with("44"), "{packet}");
    }
    let mut client = PollingClient::open(stack.sidecar.address()).await;
    let mut first = client.upgrade().await;
    assert!(client.try_upgrade().await.is_err(), "one at a time");
    first.send("2probe").await;
    assert_eq!(first.packet().await.as_deref(), Some("3probe"));
    assert_eq!(first.packet().await, None, "it does not go on in time");
    client.send("40").await;
    assert!(client.packet().await.starts_with("44"));
    client.upgrade().await.send("5").await;
    eventually("the session has moved", async || (client.bring("3").await.status == 400).then_some(())).await;
}

/// X-06, S4: whoever waits is told, and nobody is left.
#[tokio::test]
async fn a_sidecar_that_stops_answers_whoever_waits() {
    let mut stack = Stack::with(ROOMS).await;
    let client = connected(&stack, ADA).await;
    let visitor = PollingClient::open(stack.sidecar.address()).await;
    let waits = [waiting(&stack, &client).await, waiting(&stack, &visitor).await];
    let status = stack.sidecar.stop().await;
    assert!(status.success(), "{status}");
    for wait in waits {
        let answer = wait.await.unwrap().expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "1"));
    }
    assert!(!stack.sidecar.log().contains("did not end in time"));
}

#[tokio::test]
async fn names_of_sessions_do_not_repeat() {
    let stack = Stack::builder().set("REALTIME_LIMITS_CONNECTIONS_PER_ADDRESS_MAX", "1000").start().await;
    let mut names = BTreeSet::new();
    for _ in 0..300 {
        names.insert(PollingClient::open(stack.sidecar.address()).await.path("polling"));
    }
    assert_eq!(names.len(), 300);
}
