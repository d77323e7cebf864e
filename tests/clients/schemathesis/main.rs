//! The API under schemathesis, against its own document: `cargo test -p realtime-tests --test schemathesis`.
//!
//! Requests are made from the document: valid ones, broken ones, and chains of them. No answer may be a 5xx, none may be one
//! that the document does not have, and each must be what its schema says. `SCHEMATHESIS_EXAMPLES` and
//! `SCHEMATHESIS_SEED` change how many there are, and which. Its packages are pinned, and installed below `target`.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use realtime_tests::Stack;
use tokio::task::spawn_blocking;
use xtask::workspace;

const KEY: &str = "ik_00112233445566778899aabbccddeeff";
/// Requests of each kind for each route; all of them take about a minute.
const EXAMPLES: &str = "20";
const SEED: &str = "20260101";

/// Channels and messages to be found, changed and deleted.
const WORLD: &str = "
    create role project_admin nologin bypassrls;
    grant project_admin to realtime_sidecar;
    insert into realtime.channels (pattern) values ('room:%'), ('%');
    create policy enter on realtime.channels for select to anon using (true);
    select realtime.publish('room:1', 'said', jsonb_build_object('n', n)) from generate_series(1, 20) n;
";

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_in_the_document() {
    let stack = Stack::builder()
        .own_server()
        .set("REALTIME_AUTH_KEYS", &format!("project_admin={KEY}"))
        .set("REALTIME_AUTH_ANONYMOUS_ROLE", "none")
        .set("REALTIME_WEBHOOKS_ENABLED", "false")
        .set("REALTIME_LIMITS_MESSAGES_PER_SECOND_MAX", "1000000")
        .set("REALTIME_LIMITS_MESSAGES_BURST_MAX", "1000000")
        .sql(WORLD)
        .start()
        .await;
    let url = format!("http://{}", stack.sidecar.address());
    let status = spawn_blocking(move || schemathesis(&url).status().unwrap()).await.unwrap();
    assert!(status.success(), "its report is above");
    assert!(stack.sidecar.metric("realtime_publishes_total").await > 0.0, "it has published");
}

fn schemathesis(url: &str) -> Command {
    let source = workspace::root().join("tests/clients/schemathesis");
    let setting = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let mut command = Command::new(installed().join("bin/st"));
    command.arg("--config-file").arg(source.join("schemathesis.toml"));
    command.args(["run", &format!("{url}/api/openapi.json"), "--header", &format!("Authorization: Bearer {KEY}")]);
    command.args(["--max-examples", &setting("SCHEMATHESIS_EXAMPLES", EXAMPLES)]);
    command.args(["--seed", &setting("SCHEMATHESIS_SEED", SEED)]);
    // It keeps what it has found in the folder that it runs in.
    command.current_dir(workspace::target());
    command
}

/// An environment with the pinned packages. It stays, so that the next run has it.
fn installed() -> PathBuf {
    let wanted = workspace::root().join("tests/clients/schemathesis/requirements.txt");
    let folder = workspace::target().join("schemathesis");
    let known = folder.join("requirements.txt");
    if fs::read(&known).ok() != Some(fs::read(&wanted).unwrap()) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        let words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        run(Command::new(folder.join("bin/python")).args(words).arg(&wanted));
        // Last: it says that the rest is there.
        fs::copy(&wanted, &known).unwrap();
    }
    folder
}

fn run(command: &mut Command) {
    xtask::process::run(command)
        .unwrap_or_else(|error| panic!("{error}; `xtask/setup.sh clients` installs what it needs"));
}
