//! Several sidecars read one log by themselves, and agree on every byte of what they deliver.

use std::net::SocketAddr;

use realtime_tests::{Dialect, PATIENCE, PlainClient, Sidecar, Stack, within};
use serde_json::{Value, json};

use crate::fixtures::{ROOMS, TABLE};

const TABLES: &str = "
    create table keyless (at timestamptz default clock_timestamp(), amount numeric, body jsonb);
    create table parts (id int, region int, primary key (id, region)) partition by list (region);
    create table part_0 partition of parts for values in (0);
    create table part_1 partition of parts for values in (1);
    select enable_realtime('keyless'), enable_realtime('parts');
    grant select on keyless, parts to anon;
";

/// What is written under the readers: every kind of event, in transactions of every shape.
const WRITES: [&str; 8] = [
    "insert into t select i, repeat('ü', i % 40) from generate_series(1, 300) i",
    "begin; update t set name = 'two' where id % 3 = 0; savepoint s; delete from t; rollback to s; commit",
    "insert into keyless (amount, body) select i / 7.0, jsonb_build_object('i', i, 'f', i::float8 / 3) from generate_series(1, 50) i",
    "insert into parts select i, 0 from generate_series(1, 20) i; update parts set region = 1 where id % 2 = 0",
    "select realtime.publish('room:' || i, 'said', jsonb_build_object('i', i)) from generate_series(1, 9) i",
    "begin; delete from t where id % 5 = 0; insert into keyless (amount) values ('NaN'), (null); commit",
    "truncate parts; truncate keyless",
    "begin; set local realtime.capture = off; delete from t where id = 1; commit; update t set id = id + 1000 where id < 10",
];

const CHANNELS: [&str; 5] = ["table:t", "table:keyless", "table:parts", "room:1", "room:2"];

/// Another sidecar for the same database.
async fn another(stack: &Stack, more: &[(&str, &str)]) -> Sidecar {
    let ours = [
        ("REALTIME_DATABASE_URL", stack.sidecar_url(stack.server().port())),
        ("REALTIME_JWT_SECRET", stack.signer.secret().to_owned()),
    ];
    let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let settings: Vec<_> = ours.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect();
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    sidecar
}

/// A subscriber of everything since an offset, and the answers to its subscriptions.
async fn subscriber(address: SocketAddr, since: i64) -> PlainClient {
    let mut line = PlainClient::connect(address, Dialect::Native).await.unwrap();
    for channel in CHANNELS {
        line.send(&json!({"type": "subscribe", "ref": channel, "channel": channel, "since": since})).await.unwrap();
    }
    line
}

/// What comes for each channel up to an offset, in order, byte for byte. Between channels the order is nobody's.
async fn everything_until(line: &mut PlainClient, head: i64) -> Vec<Vec<String>> {
    let mut channels = vec![Vec::new(); CHANNELS.len()];
    let mut acknowledged = 0;
    loop {
        let text = line.next_text().await.unwrap();
        let frame: Value = serde_json::from_str(&text).unwrap();
        match frame["type"].as_str().unwrap() {
            "broadcast" | "gap" => {
                let place = CHANNELS.iter().position(|name| frame["channel"] == *name || frame["id"] == *name);
                channels[place.unwrap()].push(text);
            }
            "ack" => {
                acknowledged += 1;
                assert_eq!(frame["recovered"], true, "{frame}");
                if acknowledged == CHANNELS.len() {
                    line.send(&json!({"type": "ping", "ref": "where"})).await.unwrap();
                }
            }
            "pong" if frame["offset"].as_i64() >= Some(head) => return channels,
            "pong" => line.send(&json!({"type": "ping", "ref": "where"})).await.unwrap(),
            "hello" | "status" | "heartbeat" => (),
            _ => panic!("{frame}"),
        }
    }
}

async fn head(stack: &Stack) -> i64 {
    // Everything that is committed is in the log's order then.
    stack.exec("select from realtime.tick()").await;
    stack.text("select head from realtime.status()").await.parse().unwrap()
}

/// Live from one, live from the other, replayed from memory, replayed from the log: always the same bytes.
#[tokio::test]
async fn two_sidecars_deliver_the_same_bytes() {
    let sql = format!("{TABLE}{ROOMS}{TABLES}");
    // It is asked where they are as often as they answer.
    const FAST: (&str, &str) = ("REALTIME_LIMITS_MESSAGES_PER_SECOND_MAX", "100000");
    let stack = Stack::builder().sql(&sql).set(FAST.0, FAST.1).start().await;
    // Without memory: what was missed is read from the log in pages.
    let other = another(&stack, &[FAST, ("REALTIME_LIMITS_RECENT_BYTES_MAX", "0")]).await;
    let start = head(&stack).await;
    let addresses = [stack.sidecar.address(), other.address()];
    let mut lines = Vec::new();
    for address in addresses {
        lines.push(subscriber(address, start).await);
    }
    for sql in WRITES {
        stack.exec(sql).await;
    }
    let end = head(&stack).await;
    let mut seen = Vec::new();
    for mut line in lines {
        seen.push(within(PATIENCE, "live events", everything_until(&mut line, end)).await);
    }
    for address in addresses {
        let mut line = subscriber(address, start).await;
        seen.push(within(PATIENCE, "replayed events", everything_until(&mut line, end)).await);
    }
    let count: usize = seen[0].iter().map(Vec::len).sum();
    assert!(count > 500, "{count} events");
    for (name, others) in ["the other", "replayed", "replayed by the other"].into_iter().zip(&seen[1..]) {
        for (place, channel) in CHANNELS.iter().enumerate() {
            let differs = seen[0][place].iter().zip(&others[place]).find(|(one, two)| one != two);
            assert_eq!(differs, None, "{name}, {channel}");
            assert_eq!(seen[0][place].len(), others[place].len(), "{name}, {channel}");
        }
    }
}

/// Whoever leaves one sidecar goes on at another from where it was, again and again, while both ends are busy.
#[tokio::test]
async fn a_client_that_changes_sidecars_misses_and_repeats_nothing() {
    let stack = Stack::with(TABLE).await;
    let other = another(&stack, &[]).await;
    let mut cursor = head(&stack).await;
    let session = stack.session().await;
    let writer = tokio::spawn(async move {
        for id in 0..400_i32 {
            session.execute("insert into t values ($1)", &[&id]).await.unwrap();
        }
    });
    let mut seen = Vec::new();
    for round in 0.. {
        let address = if round % 2 == 0 { stack.sidecar.address() } else { other.address() };
        let mut client = stack.connect().through(address).open().await;
        assert_eq!(client.resume("table:t", cursor).await["recovered"], true);
        for event in client.events((round * 7 % 23).min(400 - seen.len())).await {
            cursor = event.offset();
            seen.push(event.record()["id"].as_i64().unwrap());
        }
        if seen.len() == 400 {
            break;
        }
    }
    writer.await.unwrap();
    assert_eq!(seen, (0..400).collect::<Vec<_>>());
}
