//! The documentation says what is: its examples are run, its lists are compared with what they list.

mod page;
mod sql;
mod wire;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use realtime_tests::{Database, Frame, Server, Stack, eventually, schema};
use serde_json::Value;
use tokio::task::spawn_blocking;
use tokio_postgres::Client;

use crate::tidy::{files, root};
use page::{Page, code_words, links, rows};
use wire::Conversation;

const PAGES: [&str; 14] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/protocol.md",
    "docs/sql.md",
    "docs/policies.md",
    "docs/webhooks.md",
    "docs/insforge.md",
    "docs/lifecycle.md",
    "docs/operations.md",
    "docs/rest.md",
    "docs/errors.md",
    "docs/configuration.md",
];

/// A session in a database that has no extension yet, on a server of its own: pages create roles.
async fn bare() -> (Database, Client) {
    let server = spawn_blocking(Server::own).await.unwrap();
    let database = Database::create(server).await;
    database
        .exec("drop extension realtime; drop schema auth cascade; drop role anon, authenticated, service_role")
        .await;
    let session = database.session().await;
    (database, session)
}

async fn names(session: &Client, query: &str) -> Vec<String> {
    session.query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

fn sources(folder: &str, ending: &str) -> String {
    files(folder, ending).iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// What stands between two texts, everywhere.
fn between<'a>(text: &'a str, before: &str, after: &str) -> BTreeSet<&'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split_once(after)).map(|(found, _)| found).collect()
}

#[test]
fn links_lead_somewhere() {
    for path in PAGES {
        let folder = root().join(path).parent().unwrap().to_owned();
        for link in links(Page::read(path).text()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(path) } else { folder.join(file) };
            assert!(target.exists(), "{path} links to {link}");
            let is_there = anchor.is_empty() || anchors(&target).contains(anchor);
            assert!(is_there, "{path} links to {link}, a heading that is not there");
        }
    }
}

/// Headings as links name them.
fn anchors(page: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(page).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        line.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn frames_on_the_page_are_as_their_schemas_say() {
    let page = Page::read("docs/protocol.md");
    let mut shown = BTreeSet::new();
    for block in page.blocks("json") {
        let Some(name) = block.info.strip_prefix("json frame:") else { continue };
        for frame in block.text.lines().filter(|line| line.starts_with('{')).flat_map(Frame::parse_all) {
            let prefix = name.strip_suffix(frame.kind()).unwrap_or_else(|| panic!("{}: {name}", block.place));
            assert_eq!(schema::fault(prefix, &frame), None, "{}", block.place);
            shown.insert(name.to_owned());
        }
    }
    assert_eq!(shown, schema::names().into_iter().map(str::to_owned).collect());
}

#[test]
fn every_member_of_every_frame_is_described() {
    let page = Page::read("docs/protocol.md");
    let mut described = BTreeSet::new();
    for section in page.text().split("\n### ") {
        let words: BTreeSet<&str> = code_words(section).into_iter().collect();
        for name in between(section, "```json frame:", "\n").into_iter().filter(|name| described.insert(*name)) {
            let file = root().join(format!("docs/protocol/{name}.schema.json"));
            let schema: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
            for member in schema["properties"].as_object().unwrap().keys().filter(|name| *name != "type") {
                assert!(words.contains(member.as_str()), "docs/protocol.md does not describe {member} of {name}");
            }
        }
    }
}

#[tokio::test]
async fn conversations_on_the_protocol_page_are_what_a_client_sees() {
    let page = Page::read("docs/protocol.md");
    let setup: String = page.blocks("sql").iter().map(|block| block.text.clone()).collect();
    let stack = Stack::with(&setup).await;
    let connect = stack.connect().token(&stack.signer.user("a0a0a0a0-0000-4000-8000-0000000000ad"));
    let mut conversation = Conversation::begin(&stack, connect).await;
    for block in page.blocks("text wire") {
        conversation.play(&block).await;
    }
}

#[tokio::test]
async fn the_readme_works_as_it_is_written() {
    let page = Page::read("README.md");
    let (_database, session) = bare().await;
    for block in page.blocks("sql") {
        sql::run(&session, &block).await;
    }
    let is_ours = |statement: &String| !statement.trim().starts_with("create extension");
    let setup: String = sql::statements(&page.blocks("sql")[0]).into_iter().filter(is_ours).collect();
    let stack = Stack::with(&setup).await;
    let connect = stack.connect().token(&stack.signer.user("ada"));
    let mut conversation = Conversation::begin(&stack, connect).await;
    for block in page.blocks("text wire") {
        conversation.play(&block).await;
    }
}

#[tokio::test]
async fn the_sql_page_works_as_it_is_written_and_names_everything() {
    let page = Page::read("docs/sql.md");
    let (_database, session) = bare().await;
    for block in page.blocks("sql") {
        sql::run(&session, &block).await;
    }
    // The page ends with taking the extension away.
    session.batch_execute("create extension realtime").await.unwrap();
    session.batch_execute("create role a_sidecar login; select realtime.grant_sidecar('a_sidecar')").await.unwrap();
    assert_functions(&page, &session).await;
    let relations = "select relname::text from pg_class where relnamespace = 'realtime'::regnamespace
                       and relkind in ('r', 'v') and relname !~ '_[0-7]$|^_'";
    for name in names(&session, relations).await {
        page.assert_names(&format!("`realtime.{name}`"));
    }
    for name in names(&session, "select name from pg_settings where name like 'realtime.%'").await {
        page.assert_names(&format!("| `{name}` |"));
    }
    for name in names(&session, "select name from realtime.settings").await {
        page.assert_names(&format!("| `{name}` |"));
    }
}

#[tokio::test]
async fn the_page_on_policies_works_as_it_is_written() {
    let (_database, session) = bare().await;
    session.batch_execute("create extension realtime; select realtime.create_roles()").await.unwrap();
    for block in Page::read("docs/policies.md").blocks("sql") {
        sql::run(&session, &block).await;
    }
}

/// Its examples for clients are run by `tests/clients`.
#[tokio::test]
async fn the_page_on_insforge_moves_its_channels() {
    let (_database, session) = bare().await;
    let theirs = "create schema realtime; create table realtime.channels (
                    id uuid primary key default gen_random_uuid(), pattern text unique not null, description text,
                    webhook_urls text[], enabled boolean not null default true);
                  insert into realtime.channels (pattern, webhook_urls) values ('chat:%', '{https://example.com/hook}')";
    session.batch_execute(theirs).await.unwrap();
    for block in Page::read("docs/insforge.md").blocks("sql") {
        sql::run(&session, &block).await;
    }
    let channels = "select pattern || array_to_string(webhook_urls, ',') from realtime.channels";
    assert_eq!(names(&session, channels).await, ["chat:%https://example.com/hook"]);
}

#[tokio::test]
async fn the_page_on_webhooks_works_as_it_is_written() {
    let (_database, session) = bare().await;
    session.batch_execute("create extension realtime; select realtime.create_roles()").await.unwrap();
    for block in Page::read("docs/webhooks.md").blocks("sql") {
        sql::run(&session, &block).await;
    }
}

#[tokio::test]
async fn the_operations_page_works_as_it_is_written() {
    let (_database, session) = bare().await;
    let prepare = "create extension realtime; select realtime.start_worker(); create table t (id int primary key)";
    session.batch_execute(prepare).await.unwrap();
    session.batch_execute("select realtime.enable_realtime('t'); insert into t values (1)").await.unwrap();
    eventually("a worker runs and has ticked", async || {
        let status = "select from realtime.status() where mode = 'worker' and head is not null and lag_ms = 0";
        session.query_opt(status, &[]).await.unwrap()
    })
    .await;
    for block in Page::read("docs/operations.md").blocks("sql") {
        sql::run(&session, &block).await;
    }
}

/// The tables of functions have a row for each function, and say who may call it.
async fn assert_functions(page: &Page, session: &Client) {
    let callers = "select distinct p.proname || '|' || case
                     when has_function_privilege('public', p.oid, 'execute') then 'everybody'
                     when has_function_privilege('a_sidecar', p.oid, 'execute') then 'sidecar'
                     else 'owner' end
                   from pg_proc p where p.pronamespace = 'realtime'::regnamespace and p.proname !~ '^_'";
    let there: BTreeSet<String> = names(session, callers).await.into_iter().collect();
    let mut told = BTreeSet::new();
    for row in rows(page.text()).iter().filter(|row| row.len() == 3) {
        let Some((name, _)) = row[0].trim_matches('`').split_once('(') else { continue };
        if let Some(name) = name.strip_prefix("realtime.") {
            told.insert(format!("{name}|{}", row[2]));
        }
    }
    assert_eq!(told, there);
}

#[test]
fn the_error_page_names_every_code() {
    let page = Page::read("docs/errors.md");
    let errors = fs::read_to_string(root().join("sidecar/src/error.rs")).unwrap();
    let labels = between(&errors, "=> \"", "\"");
    let codes = labels.iter().filter(|label| label.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
    for code in codes {
        assert!(page.section("## Frames").contains(&format!("| `{code}` |")), "frame code {code}");
    }
    for number in between(&errors, " => ", ",").into_iter().filter(|number| number.parse::<u16>().is_ok()) {
        assert!(page.section("## Close codes").contains(&format!("| {number} |")), "close code {number}");
    }
    for name in between(&sources("sidecar/src", ".rs"), "code: \"", "\"") {
        assert!(page.section("## HTTP").contains(&format!("`{name}`")), "HTTP code {name}");
    }
    let exits = between(&fs::read_to_string(root().join("sidecar/src/main.rs")).unwrap(), ": u8 = ", ";").len();
    assert_eq!(rows(Page::read("docs/configuration.md").section("## Exit codes")).len(), exits + 1);
    // The one that is raised and caught in the same function.
    for state in
        between(&sources("sql", ".sql"), "errcode = '", "'").into_iter().filter(|it| *it != "lock_not_available")
    {
        assert!(page.section("## SQLSTATEs").contains(&format!("`{state}`")), "SQLSTATE {state}");
    }
    for state in between(&sources("extension/src", ".rs"), "PgSqlErrorCode::ERRCODE_", ",") {
        let name = state.trim_end_matches(|c: char| !c.is_ascii_uppercase()).to_ascii_lowercase();
        let name = name.trim_start_matches("e_r_i_e_");
        let is_caught = name.contains("query_canceled") || name.contains("admin_shutdown");
        assert!(is_caught || page.section("## SQLSTATEs").contains(&format!("`{name}`")), "SQLSTATE {name}");
    }
}

#[test]
fn every_file_is_on_the_map() {
    let page = Page::read("ARCHITECTURE.md");
    let map = page.section("## Code map");
    for (folder, ending) in [("sql", ".sql"), ("extension/src", ".rs"), ("sidecar/src", ".rs")] {
        for file in files(folder, ending) {
            let path = file.strip_prefix(root().join(folder)).unwrap();
            let top = path.iter().next().unwrap().to_str().unwrap();
            // A folder's files may be told together; a module and its folder of parts have one line.
            let stem = top.trim_end_matches(".rs");
            let is_told = [format!("`{top}`"), format!("`{stem}/`"), format!("`{stem}.rs`")];
            assert!(is_told.iter().any(|word| map.contains(word)), "{folder}/{top} is not on the map");
        }
    }
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    let page = Page::read("ARCHITECTURE.md");
    let mut count = 0;
    for row in rows(page.section("## Invariants")).into_iter().chain(rows(page.section("## The rules of the log"))) {
        for test in code_words(row.last().unwrap()) {
            let (file, name) = test.split_once("::").unwrap_or((test, ""));
            let path = root().join(file);
            assert!(path.exists(), "{test}: there is no such file");
            let text = if path.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
            assert!(name.is_empty() || text.contains(&format!("fn {name}(")), "there is no test {test}");
            count += 1;
        }
    }
    assert!(count > 60, "the tables were not read");
}
