//! A schema that never rests: ten changes of it a second under writers and subscribers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use realtime_tests::{Client, Frame, Stack};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::people::ADA;

const TABLES: &str = "
    create table t (id int primary key, n int not null default 0, note text);
    create table u (id int primary key);
    grant select on t, u to anon, authenticated;
    select realtime.enable_realtime('t'), realtime.enable_realtime('u');
    insert into realtime.channels (pattern) values ('room:%');
    create policy enter on realtime.channels for select to authenticated using (true);
";

/// Changes that come in turn. The table `t` stays enabled all the time, `u` comes and goes.
const CHANGES: [&str; 14] = [
    "alter table t add column extra int default 7",
    "create index t_note on t (note)",
    "create policy other on realtime.channels for select to authenticated using (false)",
    "alter table t rename column note to remark",
    "select realtime.disable_realtime('u')",
    "alter table t alter column extra type text using extra::text",
    "select realtime.enable_realtime('t'::regclass, '{\"max_bytes\": 65536}')",
    "drop index t_note",
    "alter table t rename column remark to note",
    "alter policy other on realtime.channels using (pattern = 'none')",
    "select realtime.enable_realtime('u')",
    "select realtime.enable_realtime('t')",
    "drop policy other on realtime.channels",
    "alter table t drop column extra",
];

const ROUNDS: usize = 6;
const WRITERS: i64 = 3;

/// What was written: the kind of event and the row or message that it is about.
type Deed = (String, i64);

/// Inserts, changes and deletes rows, and publishes, until told to stop. A write that fails is a failed test.
fn writer(session: tokio_postgres::Client, first: i64, stop: &Arc<AtomicBool>) -> JoinHandle<Vec<Deed>> {
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        let mut deeds = Vec::new();
        let mut id = first;
        while !stop.load(Ordering::Relaxed) {
            id += 1;
            let statements = [
                ("INSERT", format!("insert into t (id) values ({id})")),
                ("UPDATE", format!("update t set n = n + 1 where id = {id}")),
                ("DELETE", format!("delete from t where id = {id}")),
                ("said", format!("select realtime.publish('room:1', 'said', '{id}')")),
                ("", format!("insert into u values ({id})")),
            ];
            for (kind, statement) in statements {
                session.batch_execute(&statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
                deeds.push((kind.to_owned(), id));
            }
        }
        deeds.retain(|(kind, _)| !kind.is_empty());
        deeds
    })
}

/// What an event is about; nothing when the frame is another.
fn deed(frame: &Frame) -> Option<Deed> {
    let payload = &frame["payload"];
    if frame.kind() != "broadcast" || frame["channel"] == "table:u" {
        return None;
    }
    if let Some(event) = payload["event"].as_str() {
        return Some((event.to_owned(), payload["payload"].as_i64()?));
    }
    let row = if payload["type"] == "DELETE" { frame.old_record() } else { frame.record() };
    Some((payload["type"].as_str()?.to_owned(), row["id"].as_i64()?))
}

/// What a listener saw: deeds, each once, and the subscriptions that were told that something is missing.
#[derive(Default)]
struct Seen {
    deeds: BTreeSet<Deed>,
    told: BTreeSet<String>,
}

/// Listens until an event says that this is the end.
async fn listen(mut client: Client) -> Seen {
    let mut seen = Seen::default();
    loop {
        let frame = client.next().await;
        match (frame.kind(), deed(&frame)) {
            (_, Some((kind, _))) if kind == "end" => return seen,
            (_, Some(deed)) => assert!(seen.deeds.insert(deed.clone()), "{deed:?} came twice"),
            // The subscription of the table that comes and goes may end; the columns of the other one may change.
            ("error", _) if frame["final"] == true => {
                assert_eq!(frame["id"], "table:u", "{frame}");
                seen.told.insert("table:u".to_owned());
            }
            ("error", _) => assert_eq!(frame.code(), "SCHEMA_CHANGED", "{frame}"),
            ("gap", _) => drop(seen.told.insert(frame["id"].as_str().unwrap().to_owned())),
            ("broadcast", None) => (),
            _ => panic!("{frame}"),
        }
    }
}

#[tokio::test]
async fn ten_changes_of_the_schema_a_second_fail_no_write_and_lose_no_event() {
    let stack = Stack::with(TABLES).await;
    let mut listeners = Vec::new();
    for _ in 0..3 {
        let mut client = stack.native_as(ADA).await;
        for channel in ["table:t", "table:u", "room:1"] {
            client.subscribe(channel).await;
        }
        listeners.push(tokio::spawn(listen(client)));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        writers.push(writer(stack.session().await, number * 1_000_000, &stop));
    }
    let mut pace = interval(Duration::from_millis(100));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for change in CHANGES.iter().cycle().take(ROUNDS * CHANGES.len()) {
        pace.tick().await;
        stack.exec(change).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut written = BTreeSet::new();
    for writer in writers {
        written.extend(writer.await.unwrap());
    }
    stack.exec("select realtime.publish('room:1', 'end', '0')").await;
    for listener in listeners {
        let seen = listener.await.unwrap();
        let lost: Vec<_> = written.difference(&seen.deeds).take(10).collect();
        let invented: Vec<_> = seen.deeds.difference(&written).take(10).collect();
        assert!(lost.is_empty() && invented.is_empty(), "lost {lost:?}, invented {invented:?}");
        // A rewrite changes rows without events, and the other table was written to while it was not enabled.
        assert_eq!(seen.told, ["table:t", "table:u"].map(str::to_owned).into());
    }
    let health = stack.sidecar.health().await;
    assert_eq!((&health["database"], &health["status"]), (&json!("up"), &json!("ok")), "{health}");
    assert!(!stack.sidecar.log().contains("stands still"), "the log could be read all the time");
    assert!(written.len() > 100, "there was a load: {}", written.len());
}
