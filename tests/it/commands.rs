//! The program's other commands: `check`, `token`, `tail`; and how `serve` refuses what cannot work.

use std::process::{Output, Stdio};

use realtime_tests::{Sidecar, Stack, eventually};
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::fixtures::{ROOMS, TABLE};

async fn run(sidecar: &Sidecar, words: &[&str]) -> Output {
    let mut command = sidecar.command(words);
    spawn_blocking(move || command.stdin(Stdio::null()).output().unwrap()).await.unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn check_finds_nothing_wrong_where_nothing_is() {
    let mut stack = Stack::with(TABLE).await;
    stack.sidecar.stop().await;
    let output = run(&stack.sidecar, &["check"]).await;
    assert!(output.status.success(), "{}", text(&output));
}

#[tokio::test]
async fn check_and_serve_refuse_a_role_that_may_too_much() {
    let mut stack = Stack::with(TABLE).await;
    stack.sidecar.stop().await;
    let role = format!("too_much_{}", stack.name());
    for (attribute, word) in [("superuser", "superuser"), ("bypassrls", "bypass"), ("inherit", "inherit")] {
        stack.exec(&format!("create role {role} login noinherit; select realtime.grant_sidecar('{role}'); alter role {role} {attribute}")).await;
        let url = stack.server().url(&role, stack.name());
        stack.sidecar.set("REALTIME_DATABASE_URL", &url);
        let output = run(&stack.sidecar, &["check"]).await;
        let said = text(&output).to_lowercase();
        assert!(!output.status.success() && said.contains(word) && said.contains("alter role"), "{attribute}: {said}");
        stack.sidecar.start_again();
        let status = stack.sidecar.exit().await;
        assert!(!status.success(), "{attribute}: serve goes on");
        stack.exec(&format!("drop owned by {role}; drop role {role}")).await;
    }
}

#[tokio::test]
async fn check_names_every_fault_with_its_remedy() {
    let mut stack = Stack::start().await;
    stack.sidecar.stop().await;
    stack.exec("drop extension realtime").await;
    let output = run(&stack.sidecar, &["check"]).await;
    assert!(!output.status.success());
    assert!(text(&output).to_lowercase().contains("create extension realtime"), "{}", text(&output));
    // Faults of the settings are told all at once.
    stack.sidecar.set("REALTIME_LISTEN", "nowhere");
    stack.sidecar.set("REALTIME_LIMITS_QUEUE_FRAMES_MAX", "-1");
    stack.sidecar.set("REALTIME_JWT_SECRET", "short");
    let output = run(&stack.sidecar, &["check"]).await;
    assert_eq!(output.status.code(), Some(78), "{}", text(&output));
    for fault in ["nowhere", "queue_frames_max", "jwt_secret"] {
        assert!(text(&output).contains(fault), "{fault}: {}", text(&output));
    }
    assert!(!text(&output).contains("short\""), "the secret is not repeated: {}", text(&output));
}

#[tokio::test]
async fn token_mints_what_the_sidecar_accepts() {
    let stack = Stack::start().await;
    let output = run(&stack.sidecar, &["token", "--sub", "ada", "--role", "service_role"]).await;
    assert!(output.status.success(), "{}", text(&output));
    let token = String::from_utf8(output.stdout).unwrap();
    let client = stack.connect().token(token.trim()).open().await;
    assert_eq!((&client.hello()["user"], &client.hello()["role"]), (&"ada".into(), &"service_role".into()));
}

/// A running `tail` and the lines that it has printed.
struct Tail {
    process: std::process::Child,
    output: std::path::PathBuf,
}

impl Tail {
    fn start(stack: &Stack, words: &[&str]) -> Self {
        let output = std::env::temp_dir().join(format!("realtime-tests-{}.tail", uuid::Uuid::new_v4()));
        let file = std::fs::File::create(&output).unwrap();
        let url = format!("ws://{}/realtime", stack.sidecar.address());
        let mut command = stack.sidecar.command(&["tail", "--url", &url]);
        command.args(words).stdin(Stdio::null()).stdout(file).stderr(Stdio::null());
        Self { process: command.spawn().unwrap(), output }
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.output).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    async fn ids(&self, count: usize) -> Vec<i64> {
        let ids = async || {
            let ids: Vec<i64> =
                self.lines().iter().filter_map(|line| line["payload"]["record"]["id"].as_i64()).collect();
            (ids.len() >= count).then_some(ids)
        };
        eventually("tail prints the events", ids).await
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.output);
    }
}

#[tokio::test]
async fn tail_prints_events_and_resumes_over_a_restart() {
    let mut stack = Stack::with(TABLE).await;
    stack.exec("insert into t values (1)").await;
    let tail = Tail::start(&stack, &["table:t", "--since", "oldest"]);
    assert_eq!(tail.ids(1).await, [1]);
    stack.exec("insert into t values (2)").await;
    assert_eq!(tail.ids(2).await, [1, 2]);
    stack.sidecar.kill();
    stack.exec("insert into t values (3)").await;
    stack.sidecar.start_again();
    stack.sidecar.ready().await;
    stack.exec("insert into t values (4)").await;
    assert_eq!(tail.ids(4).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn tail_ends_when_it_is_refused() {
    let stack = Stack::with(ROOMS).await;
    let mut tail = Tail::start(&stack, &["nothing"]);
    let status = eventually("tail has ended", async || tail.process.try_wait().unwrap()).await;
    assert!(!status.success());
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("insert into t values (1), (2), (3)").await;
    client.events(3).await;
    let _ = stack.connect().token("nonsense").try_open().await;
    client.send_text("{").await;
    client.next().await;
    for (name, least) in [
        ("realtime_connections", 1.0),
        ("realtime_subscriptions", 1.0),
        ("realtime_events_read_total", 3.0),
        ("realtime_auth_failures_total", 1.0),
        ("realtime_bad_frames_total", 1.0),
        ("realtime_database_up", 1.0),
    ] {
        let value = stack.sidecar.metric(name).await;
        assert!(value >= least, "{name} is {value}");
    }
}
