//! The demo page in a real browser: `cargo test -p realtime-tests --test chromium`.
//!
//! Not part of a bare `cargo test`, because it needs Chromium, Node and npm. What it checks stands in `page.test.mjs`,
//! which also runs against any other address.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use realtime_tests::Stack;
use tokio::task::spawn_blocking;
use xtask::workspace;

const FILES: [&str; 3] = ["package.json", "package-lock.json", "page.test.mjs"];

#[tokio::test(flavor = "multi_thread")]
async fn the_page_works_in_a_browser() {
    let script = workspace::root().join("sidecar/src/demo/demo.sql");
    let script = fs::read_to_string(script).unwrap();
    // Twice, as the second `make run` does.
    let mut stack = Stack::builder().sql(&script).sql(&script).set("REALTIME_DEMO", "true").start().await;
    let psql = format!("psql -h 127.0.0.1 -p {} -U postgres {}", stack.server().port(), stack.name());
    stack.sidecar.stop().await;
    stack.sidecar.set("REALTIME_DEMO_PSQL", &psql);
    stack.sidecar.start_again();
    stack.sidecar.ready().await;
    let url = format!("http://{}", stack.sidecar.address());
    let status = spawn_blocking(move || {
        let folder = installed();
        Command::new("node").args(["--test", "page.test.mjs"]).current_dir(folder).env("DEMO_URL", url).status()
    });
    assert!(status.await.unwrap().unwrap().success(), "the browser's report is above");
}

/// A folder with the test and the packages that it needs. It stays, so that the next run has them.
fn installed() -> PathBuf {
    let source = workspace::root().join("tests/clients/chromium");
    let folder = workspace::target().join("chromium");
    fs::create_dir_all(&folder).unwrap();
    let is_there = folder.join("node_modules").exists() && same(&source, &folder, "package-lock.json");
    for name in FILES {
        fs::copy(source.join(name), folder.join(name)).unwrap();
    }
    if !is_there {
        let words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        let status = Command::new("npm").args(words).current_dir(&folder).status().unwrap();
        assert!(status.success(), "npm could not install the packages of the test");
    }
    folder
}

fn same(source: &Path, folder: &Path, name: &str) -> bool {
    fs::read(folder.join(name)).is_ok_and(|known| known == fs::read(source.join(name)).unwrap())
}
