//! `check --as`: who may see what, and whose word it is, from the command line.

use std::io::Write;
use std::process::{Output, Stdio};

use realtime_tests::{Sidecar, Stack, eventually};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::fixtures::{ADA, ROOMS};

const WORLD: &str = "
    create table letters (id int primary key, owner text, body text);
    select realtime.enable_realtime('letters');
    grant select (id, owner) on letters to authenticated;
    alter table letters enable row level security;
    create policy mine on letters for select to authenticated using (owner = auth.jwt() ->> 'sub');
    create policy sealed on letters as restrictive for select to authenticated using (6 / (id - 3) <> 0);
    insert into letters values (1, 'ada', 'canary'), (2, 'eve', 'canary'), (3, 'ada', 'canary');
";

async fn ask(sidecar: &Sidecar, words: &[&str], input: &str) -> Output {
    let mut command = sidecar.command(&[&["check"], words].concat());
    let input = input.to_owned();
    let run = move || {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        // A program that does not read its input closes it.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        child.wait_with_output().expect("it ends")
    };
    spawn_blocking(run).await.unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn check(output: &Output, code: i32, lines: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for line in lines {
        assert!(said.lines().any(|it| it.starts_with(line)), "no line `{line}` in\n{said}");
    }
    assert!(!said.contains("canary"), "{said}");
}

#[tokio::test]
async fn check_says_which_policy_said_no_and_which_grant_is_missing() {
    let stack = Stack::builder().sql(ROOMS).sql(WORLD).start().await;
    let ada = r#"{"sub": "ada", "role": "authenticated", "note": "canary"}"#;
    let asked = async |key: &str| ask(&stack.sidecar, &["--as", ada, "table:letters", "--key", key], "").await;
    check(
        &asked(r#"{"id": 1}"#).await,
        0,
        &[
            "yes policy mine says yes: permissive",
            "yes policy sealed says yes: restrictive",
            "yes row says yes",
            "allowed:",
        ],
    );
    check(&asked(r#"{"id": 2}"#).await, 77, &["no  policy mine says no", "no  row says none", "denied: table:letters"]);
    check(
        &asked(r#"{"id": 3}"#).await,
        77,
        &["yes policy mine says yes", "no  policy sealed says 22012", "no  row says 22012"],
    );
    let anon = ask(&stack.sidecar, &["--as", r#"{"role": "anon"}"#, "table:letters"], "").await;
    check(&anon, 77, &["no  columns: missing: grant select (id, owner, body) on public.letters to anon", "denied:"]);
    let hidden = ask(&stack.sidecar, &["--as", ada, "table:letters"], "").await;
    check(
        &hidden,
        0,
        &["yes columns: may read id, owner; missing: grant select (body)", "-   policy mine: permissive"],
    );
    let nowhere = ask(&stack.sidecar, &["--as", ada, "table:nothing"], "").await;
    check(&nowhere, 77, &["no  table: there is no such table"]);
}

#[tokio::test]
async fn check_explains_channels_from_standard_input_and_as_json() {
    let stack = Stack::builder().sql(ROOMS).start().await;
    let claims = json!({"sub": ADA, "role": "authenticated"}).to_string();
    let output = ask(&stack.sidecar, &["--as", "-", "room:1", "--json"], &claims).await;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    assert_eq!(
        (output.status.code(), &answer["allowed"], &answer["channel"]),
        (Some(0), &json!(true), &json!("room:1"))
    );
    let fact = |subject: &str| {
        let facts = answer["facts"].as_array().unwrap().iter();
        facts.filter(|it| it["subject"] == subject).map(|it| it["says"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (fact("policy enter"), fact("policy speak"), fact("verdict")),
        (vec![json!("yes")], vec![json!("yes")], vec![json!(null)])
    );
    let file = std::env::temp_dir().join(format!("realtime-claims-{}.json", std::process::id()));
    std::fs::write(&file, r#"{"role": "anon"}"#).unwrap();
    let from_file = format!("@{}", file.display());
    let output = ask(&stack.sidecar, &["--as", &from_file, "room:1"], "").await;
    std::fs::remove_file(&file).unwrap();
    check(&output, 0, &["yes pattern room:%: matches", "yes policy enter says yes", "no  publish: may not publish"]);
    check(
        &ask(&stack.sidecar, &["--as", &claims, "hall"], "").await,
        77,
        &["no  verdict: no enabled pattern matches the channel"],
    );
}

/// What is asked wrongly is said without repeating it, and an older extension or a database that is away is no "no".
#[tokio::test]
async fn check_tells_a_wrong_question_from_a_denial() {
    let mut stack = Stack::builder().sql(WORLD).start().await;
    for words in [
        vec!["--as", "canary", "room:1"],
        vec!["--as", r#"["canary"]"#, "room:1"],
        vec!["--as", r#"{"role": 7}"#, "room:1"],
        vec!["--as", "{}", "room:%"],
        vec!["--as", "{}", "table:letters", "--key", "1"],
        vec!["--as", "@/nowhere/at/all", "room:1"],
        vec!["--as", "{}"],
        vec!["room:1"],
    ] {
        check(&ask(&stack.sidecar, &words, "").await, 64, &[]);
    }
    let key = ask(&stack.sidecar, &["--as", r#"{"role": "anon"}"#, "table:letters", "--key", r#"{"nr": 1}"#], "").await;
    check(&key, 78, &["realtime-sidecar: fault: the database gave no answer: the database refused or was lost"]);
    stack
        .exec("alter extension realtime drop function realtime.explain_access; drop function realtime.explain_access")
        .await;
    let older = ask(&stack.sidecar, &["--as", r#"{"role": "anon"}"#, "room:1"], "").await;
    assert!(
        older.status.code() == Some(78) && said(&older).contains("alter extension realtime update"),
        "{}",
        said(&older)
    );
    let url = stack.server().url("realtime_sidecar", "nowhere");
    stack.sidecar.set("REALTIME_DATABASE_URL", &url);
    let gone = ask(&stack.sidecar, &["--as", r#"{"role": "anon"}"#, "room:1"], "").await;
    assert!([Some(69), Some(78)].contains(&gone.status.code()), "{}", said(&gone));
}

/// A policy that has no end is ended, and no verdict means no.
#[tokio::test]
async fn a_policy_without_end_is_ended() {
    let stack = Stack::builder()
        .sql(
            "insert into realtime.channels (pattern) values ('slow');
              create policy slow on realtime.channels for select to authenticated using (pg_sleep(600) is not null)",
        )
        .set("REALTIME_TIMING_SNAPSHOT_MS", "1000")
        .start()
        .await;
    let output = ask(&stack.sidecar, &["--as", r#"{"role": "authenticated"}"#, "slow"], "").await;
    check(&output, 77, &["realtime-sidecar: no verdict, which means no"]);
    const SLEEPING: &str =
        "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()";
    eventually("its session has ended", async || (stack.text(SLEEPING).await == "0").then_some(())).await;
}
