//! Clients of others, unmodified, against a real sidecar: `cargo test -p realtime-tests --test clients`.
//!
//! What they check stands in the scripts of `node/` and `python/`, which print one line for each check. Node (18 or
//! newer) and Python are the machine's; packages are installed below `target/clients` from their lock files.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod installed;
mod rows;
mod script;

use std::process::Command;

use realtime_tests::Stack;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::script::Script;

/// A key that anybody may have, and one of a server.
const ANON_KEY: &str = "anon_0123456789abcdef0123456789abcdef";
const API_KEY: &str = "ik_0123456789abcdef0123456789abcdef";

/// Each stack has a Postgres of its own, which scripts stop, and some tokens are good for seconds only: one at a time.
static TURN: Mutex<()> = Mutex::const_new(());

async fn stack() -> Stack {
    let keys = format!("anon={ANON_KEY},service_role={API_KEY}");
    let builder = Stack::builder().own_server().sql(include_str!("setup.sql"));
    builder.set("REALTIME_AUTH_KEYS", &keys).set("REALTIME_AUTH_LEEWAY_S", "0").start().await
}

/// Runs scripts of Node one after the other, each with the SDK in each of these versions.
async fn node(versions: &[&str], names: &[&str]) {
    let _turn = TURN.lock().await;
    let folder = spawn_blocking(installed::node).await.unwrap();
    let mut stack = stack().await;
    let mut failed = Vec::new();
    for version in versions {
        for name in names {
            let script = Script::new("node", &folder, name).set("SDK", version).set("PAGE", &page());
            if !script.passes(&mut stack).await {
                failed.push(format!("{name} with {version}"));
            }
        }
    }
    assert!(failed.is_empty(), "the reports of {failed:?} are above");
}

/// The page whose examples are run: ours, or another one with sections of the same names.
fn page() -> String {
    std::env::var("EXAMPLES_PAGE")
        .unwrap_or_else(|_| xtask::workspace::root().join("docs/insforge.md").display().to_string())
}

const OF_SDK: [&str; 5] = ["connect.mjs", "channels.mjs", "presence.mjs", "reconnect.mjs", "tokens.mjs"];

#[tokio::test(flavor = "multi_thread")]
async fn insforge_sdk_1_5_2() {
    node(&["1.5.2"], &OF_SDK).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn insforge_sdk_1_4_4() {
    node(&["1.4.4"], &OF_SDK).await;
}

/// The last one that subscribes again without asking for an answer, and reconnects on every token.
#[tokio::test(flavor = "multi_thread")]
async fn insforge_sdk_1_4_3() {
    node(&["1.4.3"], &OF_SDK).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_page_run_as_they_are_written() {
    node(&["1.5.2", "1.4.4", "1.4.3"], &["examples.mjs"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_io_client() {
    node(&["1.5.2"], &["socketio.mjs"]).await;
}

/// The reference server beside ours: each packet that is none goes to both.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_packets_beside_the_reference() {
    node(&["1.5.2"], &["packets.mjs"]).await;
}

/// `jose` verifies what our own key has signed, whatever its kind.
#[tokio::test(flavor = "multi_thread")]
async fn jose() {
    let _turn = TURN.lock().await;
    let folder = spawn_blocking(installed::node).await.unwrap();
    for kind in ["RSA", "EC -pkeyopt ec_paramgen_curve:P-256", "ED25519"] {
        let pem = Command::new("openssl").args(format!("genpkey -algorithm {kind}").split(' ')).output().unwrap();
        let pem = String::from_utf8(pem.stdout).unwrap();
        let mut stack = Stack::builder().set("REALTIME_JWT_SIGNING_KEY", &pem).start().await;
        let minted = stack.sidecar.command(&["token", "--sub", "ada"]).output().unwrap();
        let token = String::from_utf8(minted.stdout).unwrap();
        let script = Script::new("node", &folder, "keys.mjs").set("TOKEN", token.trim());
        assert!(script.passes(&mut stack).await, "with {kind}: the report is above");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_socketio() {
    let _turn = TURN.lock().await;
    let python = spawn_blocking(installed::python).await.unwrap();
    let folder = xtask::workspace::root().join("tests/clients/python");
    let script = Script::new(&python.display().to_string(), &folder, "client.py");
    assert!(script.passes(&mut stack().await).await, "the report is above");
}
