//! A disk that is full, or nearly: only what Postgres itself cannot write is refused, and nothing of the rest is lost.

use std::io::Write;

use realtime_tests::server::Server;
use realtime_tests::{Client, SmallDisk, Stack, eventually};
use tokio::task::spawn_blocking;

use crate::fixtures::TABLE;

/// Larger than an empty database and a log at its cap, far smaller than what is written.
const MEBIBYTES: u32 = 96;

/// A database whose tables, the log's among them, lie on a small disk. The server's own journal lies elsewhere: when
/// that is full, Postgres stops, whoever wrote.
async fn stack_on(disk: &SmallDisk) -> Stack {
    let folder = disk.folder("tables");
    let server = spawn_blocking(move || {
        let server = Server::own();
        server.psql("postgres", &format!("create tablespace small location '{}'", folder.display()));
        // New databases lie where their template lies.
        server.psql("postgres", "alter database realtime_template set tablespace small");
        server
    });
    Stack::builder().server(&server.await.unwrap()).sql(TABLE).start().await
}

/// Not silently: the test's own output is only shown when it fails.
fn say_that_nothing_was_tested() {
    let _ = std::io::stderr().write_all(b"NOT TESTED: only root can make a small disk; run the tests as root\n");
}

/// Takes frames until a row of this name comes; returns how many rows and gaps there were before it.
async fn until(mut client: Client, name: &str) -> (usize, usize) {
    let (mut rows, mut gaps) = (0, 0);
    loop {
        let frame = client.next().await;
        match frame.kind() {
            "broadcast" if frame.record()["name"] == name => return (rows, gaps),
            "broadcast" => rows += 1,
            "gap" => gaps += 1,
            _ => panic!("{frame}"),
        }
    }
}

/// Without its cap the log would fill the disk many times over, and users' writes would fail.
#[tokio::test]
async fn below_its_cap_the_log_leaves_the_disk_to_users() {
    let Some(disk) = SmallDisk::mount(MEBIBYTES) else { return say_that_nothing_was_tested() };
    let stack = stack_on(&disk).await;
    stack.exec("update realtime.settings set value = '16 MB' where name = 'log_max_size'").await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    let client = tokio::spawn(until(client, "last"));
    stack.exec("alter table t alter name set storage external").await;
    stack.exec("insert into t select i, repeat('x', 6000) from generate_series(1, 200) i").await;
    let mut most = 0;
    for round in 0..100 {
        stack.exec(&format!("update t set name = repeat('{}', 6000)", round % 10)).await;
        stack.exec("vacuum t").await;
        most = most.max(stack.text("select realtime._log_bytes()").await.parse::<u64>().unwrap());
    }
    // One segment may grow to the cap while the others still hold what is to be given back.
    assert!(most < 48 << 20, "the log had {} MiB", most >> 20);
    // A writer finds out within a second that there is room again; what it wrote until then is in a gap.
    let mut id = 0;
    eventually("the log has room again, and the client reads what is written", async || {
        id -= 1;
        stack.exec(&format!("insert into t values ({id}, 'last')")).await;
        client.is_finished().then_some(())
    })
    .await;
    let (rows, gaps) = client.await.unwrap();
    println!("{rows} rows and {gaps} gaps of {} rows, the log had at most {} MiB", 200 * 101, most >> 20);
    assert!(gaps > 0 || rows >= 200 * 101, "{rows} rows, and nobody said that the others are missing");
}

/// The disk is full: what Postgres can write it writes, what it cannot it refuses, and afterwards everything goes on.
#[tokio::test]
async fn a_full_disk_loses_no_event_of_what_could_be_written() {
    let Some(disk) = SmallDisk::mount(MEBIBYTES) else { return say_that_nothing_was_tested() };
    let stack = stack_on(&disk).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("insert into t select i from generate_series(1, 100) i").await;
    let (filler, disk) = spawn_blocking(move || (disk.fill(), disk)).await.unwrap();
    let (mut written, mut refused) = (0, 0);
    let mut id = 100;
    while refused < 50 {
        id += 1;
        match stack.try_exec(&format!("insert into t values ({id}, repeat('x', 1500))")).await {
            Ok(()) => written += 1,
            Err(error) => {
                let error = error.as_db_error().unwrap();
                assert_eq!(error.code().code(), "53100", "{error:?}");
                refused += 1;
            }
        }
    }
    drop(filler);
    eventually("writes go on", async || {
        id += 1;
        stack.try_exec(&format!("insert into t values ({id})")).await.ok()
    })
    .await;
    let rows = stack.rows("select id from t order by id").await;
    let expected: Vec<i64> = rows.iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect();
    println!("{written} written on a full disk, {refused} refused, {} rows", expected.len());
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let event = client.event().await;
        seen.push(event.record()["id"].as_i64().unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, expected);
    drop(stack);
    drop(disk);
}
