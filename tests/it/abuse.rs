//! Clients that break the rules get an error or are closed. Nobody else notices.

use std::time::Duration;

use realtime_tests::{Client, Stack, http, within};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame as WireFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::fixtures::{ADA, ROOMS, TABLE};

/// That a client which keeps the rules is served.
async fn assert_served(stack: &Stack) {
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("delete from t; insert into t values (7)").await;
    let event = client.find("the row", |frame| frame["payload"]["type"] == "INSERT").await;
    assert_eq!(event.record()["id"], 7);
}

#[tokio::test]
async fn malformed_frames_are_answered_and_the_connection_stays() {
    let stack = Stack::with(TABLE).await;
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let frames = [
        "",
        " ",
        "{",
        "}",
        "[]",
        "null",
        "7",
        "\"ping\"",
        "{\"type\":}",
        "{\"type\":\"ping\"",
        "{'type':'ping'}",
        "ping",
        "{\"type\":\"ping\"}{\"type\":\"ping\"}",
        "\u{feff}{\"type\":\"ping\"}",
        "{\"type\":\"\\ud800\"}",
        deep.as_str(),
        "{\"type\":\"\"}",
        "{\"type\":\"PING\"}",
        "{\"type\":null}",
        "{\"no\":\"type\"}",
    ];
    for group in frames.chunks(5) {
        let mut client = stack.native().await;
        for frame in group {
            client.send_text(frame).await;
            let answer = client.next().await;
            assert_eq!((answer.kind(), answer.code()), ("error", "INVALID_MESSAGE"), "{frame:.80}: {answer}");
        }
        assert_eq!(client.ask(json!({"type": "ping"})).await.kind(), "pong");
    }
    // A member that nobody knows is ignored, whatever it holds.
    let mut client = stack.native().await;
    client.send_text(&format!(r#"{{"type":"ping","unknown":{deep}}}"#)).await;
    client.expect("pong").await;
    assert_served(&stack).await;
}

#[tokio::test]
async fn wrong_types_are_answered_with_the_reference() {
    let stack = Stack::with(TABLE).await;
    let frames = [
        json!({"type": "subscribe"}),
        json!({"type": "subscribe", "channel": 7}),
        json!({"type": "subscribe", "channel": ["table:t"]}),
        json!({"type": "subscribe", "channel": "table:t", "id": 7}),
        json!({"type": "subscribe", "channel": "table:t", "id": ""}),
        json!({"type": "subscribe", "channel": "table:t", "id": "x".repeat(256)}),
        json!({"type": "subscribe", "channel": "table:t", "events": 7}),
        json!({"type": "subscribe", "channel": "table:t", "events": [7]}),
        json!({"type": "subscribe", "channel": "table:t", "columns": "id"}),
        json!({"type": "subscribe", "channel": "table:t", "columns": []}),
        json!({"type": "subscribe", "channel": "table:t", "snapshot": 1}),
        json!({"type": "unsubscribe"}),
        json!({"type": "unsubscribe", "id": {}}),
        json!({"type": "publish", "channel": "room:1"}),
        json!({"type": "publish", "event": "e"}),
        json!({"type": "publish", "channel": "room:1", "event": 7}),
        json!({"type": "publish", "channel": "room:1", "event": "e", "message_id": 7}),
        json!({"type": "access_token"}),
        json!({"type": "access_token", "token": 7}),
        json!({"type": "access_token", "token": null}),
    ];
    for group in frames.chunks(5) {
        let mut client = stack.native().await;
        for frame in group {
            let answer = client.ask(frame.clone()).await;
            assert_eq!((answer.kind(), answer.code()), ("error", "INVALID_MESSAGE"), "{frame}: {answer}");
        }
    }
    let mut client = stack.native().await;
    let answer = client.try_subscribe(json!({"channel": "table:t", "filter": "id=like"})).await;
    assert_eq!(answer.code(), "FILTER_INVALID", "{answer}");
    for reference in [json!({}), json!([1]), json!(true), json!("x".repeat(200))] {
        client.send(json!({"type": "ping", "ref": reference})).await;
        assert_eq!(client.next().await.code(), "INVALID_MESSAGE", "{reference}");
    }
    for reference in ["7", "\"a \\u0000 b\"", "1.50", "-0"] {
        client.send_text(&format!(r#"{{"type":"ping","ref":{reference}}}"#)).await;
        assert_eq!(client.next().await.raw(&["ref"]), reference, "repeated as it came");
    }
}

#[tokio::test]
async fn binary_frames_are_answered_and_the_connection_stays() {
    let stack = Stack::with(TABLE).await;
    for mut client in [stack.native().await, stack.seed().await] {
        client.send_raw(Message::binary(vec![0, 159, 146, 150])).await;
        assert_eq!(client.next().await.kind(), "error");
        client.subscribe("table:t").await;
    }
}

#[tokio::test]
async fn ten_bad_frames_end_the_connection() {
    let stack = Stack::with(TABLE).await;
    for mut client in [stack.native().await, stack.seed().await] {
        for _ in 0..9 {
            client.send_text("{").await;
            assert_eq!(client.next().await.kind(), "error");
        }
        client.send_text("{").await;
        let (frames, closed) = client.closed().await;
        assert_eq!((frames.len(), closed.code), (1, 4400), "{frames:?} {closed:?}");
    }
    assert_served(&stack).await;
}

fn fragment(text: &[u8], first: bool, last: bool) -> Message {
    let opcode = OpCode::Data(if first { Data::Text } else { Data::Continue });
    Message::Frame(WireFrame::message(text.to_vec(), opcode, last))
}

#[tokio::test]
async fn a_frame_in_fragments_is_one_frame() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    let text = json!({"type": "ping", "ref": "ünicode 🎉"}).to_string();
    let bytes = text.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        // Cut inside characters, with control frames between.
        client.send_raw(fragment(&[*byte], index == 0, index + 1 == bytes.len())).await;
        if index % 7 == 3 {
            client.send_raw(Message::Ping(vec![1, 2, 3].into())).await;
        }
    }
    let pong = client.next().await;
    assert_eq!((pong.kind(), &pong["ref"]), ("pong", &json!("ünicode 🎉")));
}

#[tokio::test]
async fn endless_fragments_end_the_connection() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    let part = vec![b'x'; 8192];
    for index in 0..200 {
        if client.try_send(fragment(&part, index == 0, false)).await.is_err() {
            break;
        }
    }
    let (_, closed) = client.closed().await;
    assert!([1009, 1006].contains(&closed.code), "{closed:?}");
    assert_served(&stack).await;
}

/// Sends bytes below the WebSocket client and returns how the server ended it.
async fn closed_after(stack: &Stack, bytes: &[u8]) -> u16 {
    let mut client: Client = stack.native().await;
    client.stream().write_all(bytes).await.unwrap();
    client.closed().await.1.code
}

#[tokio::test]
async fn broken_framing_ends_the_connection() {
    let stack = Stack::with(TABLE).await;
    const PROTOCOL: &[u16] = &[1002, 1006];
    let long_ping = [b"\x89\xfe\x00\x80\0\0\0\0".as_slice(), &[b'x'; 128]].concat();
    for (name, bytes, codes) in [
        ("not masked", &b"\x81\x02{}"[..], PROTOCOL),
        ("a reserved bit", b"\xc1\x82\0\0\0\0{}", PROTOCOL),
        ("a reserved opcode", b"\x83\x82\0\0\0\0{}", PROTOCOL),
        ("a continuation of nothing", b"\x80\x82\0\0\0\0{}", PROTOCOL),
        ("a ping in fragments", b"\x09\x81\0\0\0\0x", PROTOCOL),
        ("a long ping", &long_ping, PROTOCOL),
        ("no UTF-8", b"\x81\x82\0\0\0\0\xc3\x28", &[1007, 1006]),
        ("an enormous length", b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", &[1009, 1002, 1006]),
    ] {
        let code = closed_after(&stack, bytes).await;
        assert!(codes.contains(&code), "{name}: {code}");
    }
    assert_served(&stack).await;
}

#[tokio::test]
async fn control_frames_are_no_way_around_the_limits() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    for _ in 0..5000 {
        client.send_raw(Message::Ping(vec![0; 125].into())).await;
    }
    assert_eq!(client.ask(json!({"type": "ping"})).await.kind(), "pong");
}

#[tokio::test]
async fn three_hundred_half_open_handshakes_keep_nobody_out() {
    let stack = Stack::builder().sql(TABLE).set("REALTIME_TIMING_HANDSHAKE_MS", "2000").start().await;
    let mut half_open = Vec::new();
    for index in 0..300 {
        let mut stream = TcpStream::connect(stack.sidecar.address()).await.unwrap();
        let head = "GET /realtime HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n";
        stream.write_all(&head.as_bytes()[..index % head.len()]).await.unwrap();
        half_open.push(stream);
    }
    assert_served(&stack).await;
    for mut stream in half_open {
        let mut rest = Vec::new();
        let _ = within(Duration::from_secs(10), "the server ends it", stream.read_to_end(&mut rest)).await;
    }
    assert_served(&stack).await;
}

#[tokio::test]
async fn bytes_that_are_no_http_do_no_harm() {
    let stack = Stack::with(TABLE).await;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for length in (0..60).map(|index| index * 37) {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 33) as u8
            })
            .collect();
        let mut stream = TcpStream::connect(stack.sidecar.address()).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let _ = within(Duration::from_secs(10), "the server ends it", stream.read_to_end(&mut rest)).await;
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&rest));
    }
    assert_served(&stack).await;
}

#[tokio::test]
async fn other_methods_and_paths_have_json_answers() {
    let stack = Stack::start().await;
    for (method, path, status) in
        [("POST", "/realtime", 405), ("GET", "/../etc/passwd", 404), ("DELETE", "/ping", 405), ("GET", "/%00", 404)]
    {
        let answer = http::request(stack.sidecar.address(), method, path, &[]).await.unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(answer.json()["error"].is_string());
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    for path in ["/metrics"] {
        assert_eq!(http::get(stack.sidecar.address(), path).await.unwrap().status, 404, "not on the public address");
        assert_eq!(http::get(stack.sidecar.admin(), path).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn names_that_are_no_channels_are_refused() {
    let stack = Stack::with(TABLE).await;
    stack
        .exec(
            "insert into realtime.channels (pattern) values ('%');
             create policy enter on realtime.channels for select using (true);",
        )
        .await;
    let mut client = stack.native().await;
    let long = "x".repeat(10_000);
    let long_table = format!("table:{}", "t".repeat(10_000));
    for name in [
        "",
        &long,
        &long_table,
        "nul\0",
        "line\nfeed",
        "bell\u{7}",
        "\u{85}next",
        "room:%",
        "%",
        "u\u{308}mlaut",
        "table:",
        "table:.",
        "table:a.b.c",
        "table:\"t",
        "table:t\"",
        "table:public.\"\"",
        "table:\0",
    ] {
        let answer = client.try_subscribe(json!({"channel": name})).await;
        assert_eq!((answer.kind(), answer.code()), ("error", "INVALID_CHANNEL"), "{name:.40}: {answer}");
    }
    for name in
        ["a", "it's", "\"quoted\"", "a_b", "room:1:2", "\\", "ünïcode", "🎉", "$1", "x' or '1'='1", &"x".repeat(255)]
    {
        client.subscribe(name).await;
    }
    let answer = client.try_subscribe(json!({"channel": "table:missing"})).await;
    assert_eq!(answer.code(), "UNAUTHORIZED", "the pattern that fits everything fits no table");
}

#[tokio::test]
async fn cg_27_names_are_data_never_sql() {
    let stack = Stack::with(TABLE).await;
    stack.exec(ROOMS).await;
    let before = stack.text("select count(*) from pg_class").await;
    let mut client = stack.native_as(ADA).await;
    for nasty in [
        "'; drop table t; --",
        "'); drop table t; --",
        "\"; drop table t; --",
        "$$; drop table t; $$",
        "' union select * from pg_authid --",
        "\\'; drop table t; --",
        "/* */",
        "room'||pg_sleep(10)||'",
        "{\"a\":1}",
        "${jndi:x}",
        "%s%s%n".trim_matches('%'),
    ] {
        let nasty = nasty.replace('%', "");
        let quoted = nasty.replace('\'', "''");
        stack.exec(&format!("insert into realtime.channels (pattern) values ('{quoted}')")).await;
        stack.exec(&format!("drop policy if exists speak_there on realtime.messages; create policy speak_there on realtime.messages for insert to authenticated with check (channel_name = '{quoted}')")).await;
        client.subscribe(&nasty).await;
        let ack = client.publish(&nasty, &nasty, json!({"x": nasty})).await;
        assert_eq!(ack.kind(), "ack", "{nasty}: {ack}");
        let event = client.event().await;
        assert_eq!((&event["channel"], &event["payload"]["event"]), (&json!(nasty), &json!(nasty)));
        let answer =
            client.try_subscribe(json!({"channel": format!("table:\"{}\"", nasty.replace('"', "\"\""))})).await;
        assert_eq!(answer.code(), "UNAUTHORIZED", "{nasty}: {answer}");
    }
    assert_eq!(stack.text("select count(*) from pg_class").await, before);
    assert_served(&stack).await;
}

#[tokio::test]
async fn a_flood_of_subscriptions_is_answered_one_by_one() {
    let stack = Stack::with(ROOMS).await;
    let mut client = stack.native().await;
    for index in 0..1000 {
        client.send(json!({"type": "subscribe", "channel": format!("room:{index}"), "ref": index})).await;
    }
    let mut codes = std::collections::BTreeMap::<String, usize>::new();
    for index in 0..1000 {
        let answer = client.next().await;
        assert_eq!(answer["ref"], index);
        *codes.entry(format!("{} {}", answer.kind(), answer.code())).or_default() += 1;
    }
    assert_eq!(codes.get("ack "), Some(&100), "{codes:?}");
    assert!(
        codes.keys().all(|key| ["ack ", "error RATE_LIMITED", "error TOO_MANY_SUBSCRIPTIONS"].contains(&key.as_str())),
        "{codes:?}"
    );
}

#[tokio::test]
async fn clients_that_leave_in_the_middle_leave_nothing_behind() {
    let stack = Stack::with(&format!("{ROOMS}{TABLE}")).await;
    for index in 0..50 {
        let mut client = stack.native_as(ADA).await;
        client.send(json!({"type": "subscribe", "channel": "table:t", "since": "oldest"})).await;
        client.send(json!({"type": "subscribe", "channel": format!("room:{index}")})).await;
        client
            .send(json!({"type": "publish", "channel": format!("room:{index}"), "event": "e", "payload": index}))
            .await;
        drop(client);
    }
    let nobody = json!({"connections": 0, "channels": 0});
    realtime_tests::eventually("all are gone", async || (stack.sidecar.stats().await == nobody).then_some(())).await;
}
