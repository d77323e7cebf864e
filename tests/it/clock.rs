//! The server's clock is set back and forward: nothing is ordered by it, and no offset is given twice.

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::{env, process};

use realtime_tests::{Client, Server, Stack, Stop, eventually, server};
use serde_json::json;
use tokio::task::spawn_blocking;
use xtask::cluster::Options;

use crate::fixtures::TABLE;

const HOUR: i64 = 3600;

/// A clock that a test sets, for the servers that are started with it.
struct Clock {
    folder: PathBuf,
    file: File,
}

impl Clock {
    fn make() -> Self {
        let folder = env::temp_dir().join(format!("realtime-clock-{}", process::id()));
        DirBuilder::new().create(&folder).unwrap();
        // The server may run as another user.
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let clock = Self { file: File::create(folder.join("seconds")).unwrap(), folder };
        clock.set(0);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/clock.c");
        let mut compiler = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
        compiler.args(["-O2", "-shared", "-fPIC", "-o"]).arg(clock.folder.join("clock.so")).arg(source).arg("-ldl");
        xtask::process::run(&mut compiler).unwrap();
        clock
    }

    /// Sets it to so many seconds after the true time, for processes that run already too.
    fn set(&self, seconds: i64) {
        self.file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    fn options(&self) -> Options {
        let path = |name: &str| self.folder.join(name).to_string_lossy().into_owned();
        let environment = vec![("LD_PRELOAD", path("clock.so")), ("CLOCK_FILE", path("seconds"))];
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Options { environment, ..server::options() }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The next event; that the database is down and up is told between them.
async fn next(client: &mut Client) -> (i64, i64) {
    let frame = client.find("an event or a gap", |frame| ["broadcast", "gap"].contains(&frame.kind())).await;
    assert_eq!(frame.kind(), "broadcast", "{frame}");
    (frame.offset(), frame.record()["id"].as_i64().unwrap())
}

#[tokio::test]
async fn a_clock_that_is_set_back_or_forward_changes_no_order_and_loses_nothing() {
    let clock = Clock::make();
    let options = clock.options();
    let server = spawn_blocking(move || Server::start(&options)).await.unwrap();
    let stack = Stack::builder().server(&server).sql(TABLE).start().await;
    let mut client = stack.native().await;
    let mut offsets = vec![client.subscribe("table:t").await.offset()];
    let mut id = 0;
    for seconds in [0, -2 * HOUR, HOUR, -400 * 24 * HOUR, 30 * HOUR, -1, 0] {
        clock.set(seconds);
        // Under the eyes of everybody, and then in a new life of the server.
        for restart in [false, true] {
            if restart {
                let server = Arc::clone(&server);
                spawn_blocking(move || server.restart(Stop::Immediate)).await.unwrap();
            }
            for _ in 0..3 {
                id += 1;
                let written = async || stack.try_exec(&format!("insert into t values ({id})")).await.ok();
                eventually("the server is back", written).await;
                let (offset, seen) = next(&mut client).await;
                assert_eq!(seen, id, "{seconds}");
                assert!(offset > *offsets.last().unwrap(), "{offset} after {offsets:?}");
                offsets.push(offset);
            }
        }
        let said: f64 = stack.text("select extract(epoch from clock_timestamp())").await.parse().unwrap();
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!((said - now - seconds as f64).abs() < 60.0, "the clock was set: {said}, truly {now}");
    }
    // Every offset can be resumed from, whatever the clock said when it was given.
    for (place, offset) in offsets.iter().enumerate() {
        let mut late = stack.native().await;
        let ack = late.resume("table:t", *offset).await;
        assert_eq!(ack["recovered"], json!(true), "{ack}");
        for expected in &offsets[place + 1..] {
            assert_eq!(next(&mut late).await.0, *expected);
        }
    }
}
