//! The rules that the code keeps, as tests: what ARCHITECTURE.md promises, the grep can prove.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use realtime_tests::Stack;

pub(crate) fn root() -> &'static Path {
    xtask::workspace::root()
}

/// Files below a folder of the repository whose name ends so.
pub(crate) fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no {ending} below {folder}");
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The code of a file: no comments, no unit tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// ARCHITECTURE.md: protocols, filters and the model do no IO, have no clock and no tasks.
#[test]
fn protocols_and_the_model_are_pure() {
    let banned = [
        "tokio::",
        "tokio_",
        "axum::",
        "hyper::",
        "Instant::now",
        "SystemTime::now",
        "std::net",
        "std::fs",
        "std::thread",
        "std::env",
    ];
    for folder in ["sidecar/src/protocol", "sidecar/src/model", "sidecar/src/filter"] {
        // The transcripts of the unit tests are files.
        for path in files(folder, ".rs").into_iter().filter(|path| !path.ends_with("protocol/golden.rs")) {
            let code = code(&path);
            for banned in banned {
                assert!(!code.contains(banned), "{} names `{banned}`", shown(&path));
            }
        }
    }
}

/// What each module of the sidecar may import from the others. A module that is not here imports nothing.
const IMPORTS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("error", &["model"]),
    ("filter", &[]),
    ("protocol", &["model", "error"]),
    ("hub", &["model", "error", "protocol", "metrics"]),
    (
        "connection",
        &[
            "model", "error", "filter", "protocol", "hub", "auth", "postgres", "replay", "court", "config", "metrics",
            "denials",
        ],
    ),
    ("court", &["model", "hub", "postgres", "quarantine", "metrics", "denials", "tasks"]),
    ("denials", &["metrics"]),
    ("transport", &["model", "error", "protocol", "hub", "connection", "auth", "config", "metrics", "tasks"]),
    ("http", &["model", "connection", "auth", "postgres", "config", "metrics", "denials"]),
    ("auth", &["model", "hub", "postgres", "quarantine", "config", "metrics"]),
    ("postgres", &["model", "hub", "config", "metrics"]),
    ("reader", &["model", "hub", "postgres", "ticker", "config", "metrics"]),
    ("ticker", &["postgres", "config", "metrics"]),
    ("counters", &["hub", "postgres", "metrics"]),
    ("webhook", &["hub", "postgres", "config", "metrics"]),
    ("replay", &["model", "hub", "postgres", "metrics"]),
    ("check", &["auth", "config", "model", "postgres"]),
    ("telemetry", &["config"]),
    ("config", &[]),
    ("metrics", &[]),
    ("quarantine", &[]),
    ("tasks", &[]),
    ("tail", &["telemetry", "postgres"]),
    ("demo", &["auth", "config", "postgres", "transport"]),
];

/// The modules that follow `crate::` in a text, in braces or not.
fn imported(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let mut depth = 0;
        let mut name = String::new();
        let mut at_start = true;
        for letter in rest.chars() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => at_start = true,
                _ if at_start && (letter.is_alphanumeric() || letter == '_') => {
                    name.push(letter);
                    continue;
                }
                _ if letter.is_whitespace() => continue,
                _ => (),
            }
            if !name.is_empty() {
                found.insert(std::mem::take(&mut name));
                at_start = letter == ',' && depth == 1;
            }
            if depth <= 0 {
                break;
            }
        }
    }
    found
}

#[test]
fn imported_modules_are_found_in_braces_and_without() {
    let code = "use crate::{\n    model::{A, B},\n    hub::C, error,\n};\nlet x = crate::tasks::D;\nfn f(x: crate::config::E) {}";
    assert_eq!(imported(code).into_iter().collect::<Vec<_>>(), ["config", "error", "hub", "model", "tasks"]);
}

/// ARCHITECTURE.md: imports go one way.
#[test]
fn imports_go_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = IMPORTS.iter().copied().collect();
    let source = root().join("sidecar/src");
    for path in files("sidecar/src", ".rs") {
        let first = path.strip_prefix(&source).unwrap().iter().next().unwrap().to_string_lossy().replace(".rs", "");
        if ["main", "lib", "app"].contains(&first.as_str()) {
            continue;
        }
        let may = allowed.get(first.as_str()).copied().unwrap_or_default();
        for name in imported(&code(&path)) {
            let ours = source.join(format!("{name}.rs")).exists() || source.join(&name).is_dir();
            assert!(!ours || name == first || may.contains(&name.as_str()), "{} imports crate::{name}", shown(&path));
        }
    }
}

/// Everything that runs is known to `tasks.rs`, so that stopping has an end.
#[test]
fn only_tasks_spawns() {
    for path in files("sidecar/src", ".rs").into_iter().filter(|path| !path.ends_with("src/tasks.rs")) {
        let code = code(&path);
        for banned in ["tokio::spawn", "task::spawn", "thread::spawn"] {
            assert!(!code.contains(banned), "{} names `{banned}`", shown(&path));
        }
    }
}

/// The WebSocket library is named where frames are read and written, and by the command that is a client itself.
#[test]
fn one_file_names_the_websocket_library() {
    for path in files("sidecar/src", ".rs") {
        let may = path.ends_with("connection/socket.rs") || shown(&path).starts_with("sidecar/src/tail");
        assert!(may || !code(&path).contains("tungstenite"), "{} names tungstenite", shown(&path));
    }
}

#[test]
fn unsafe_code_is_in_the_extension_alone() {
    for path in ["sidecar/src/lib.rs", "xtask/src/lib.rs", "tests/src/lib.rs"] {
        let text = fs::read_to_string(root().join(path)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{path}");
    }
}

#[test]
fn files_are_short() {
    for folder in ["sidecar/src", "extension/src", "xtask", "tests", "sql"] {
        for ending in [".rs", ".sql", ".sh", ".mjs", ".js"] {
            let Some(paths) = std::panic::catch_unwind(|| files(folder, ending)).ok() else { continue };
            // Released scripts are many files in one.
            let is_ours = |path: &PathBuf| !["node_modules", "sql/install"].iter().any(|it| shown(path).contains(it));
            for path in paths.into_iter().filter(is_ours) {
                let lines = fs::read_to_string(&path).unwrap().lines().count();
                assert!(lines <= 500, "{} has {lines} lines", shown(&path));
            }
        }
    }
}

/// Tests wait for conditions. The one pause is between two looks at one.
#[test]
fn tests_do_not_sleep() {
    for path in [files("tests/it", ".rs"), files("tests/src", ".rs")].concat() {
        let may = path.ends_with("src/wait.rs") || path.ends_with("src/proxy.rs") || path.ends_with("it/tidy.rs");
        let code = code(&path);
        for banned in ["time::sleep", "thread::sleep", " sleep("] {
            assert!(may || !code.contains(banned), "{} names `{banned}`", shown(&path));
        }
    }
}

#[test]
fn nothing_is_left_to_be_done() {
    for folder in ["sidecar/src", "extension/src", "xtask/src", "sql"] {
        for path in [files(folder, "")].concat() {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            for banned in ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("] {
                assert!(!text.contains(banned), "{} has a {banned}", shown(&path));
            }
        }
    }
}

/// The requirements that this part of the product covers, each by a test that names it.
#[test]
fn every_requirement_has_its_test() {
    let rows = (1..=17).chain([20, 22, 23, 24, 33]).map(|row| format!("fb_{row:02}"));
    let rows = rows.chain((1..=10).chain([13, 25, 26]).chain(28..=34).map(|row| format!("if_{row:02}")));
    let rows = rows.chain([13, 26, 27, 29].map(|row| format!("cg_{row:02}")));
    let tests: String = files("tests/it", ".rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let named: BTreeSet<&str> = tests.lines().filter_map(|line| line.strip_prefix("async fn ")).collect();
    for row in rows {
        assert!(named.iter().any(|name| name.contains(&format!("{row}_"))), "no test names {row}");
    }
}

#[test]
fn every_setting_is_documented() {
    let defaults = fs::read_to_string(root().join("sidecar/src/config.default.toml")).unwrap();
    let manual = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let mut section = String::new();
    for line in defaults.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            let variable = format!("REALTIME_{section}{name}").replace('.', "_").to_uppercase();
            assert!(manual.contains(&variable), "docs/configuration.md does not name {variable}");
        }
    }
}

/// A function that runs as its owner must find its own objects, whatever the caller's search_path says.
#[tokio::test]
async fn functions_that_run_as_their_owner_pin_the_search_path() {
    let stack = Stack::start().await;
    let loose = stack
        .rows(
            "select oid::regprocedure::text from pg_proc
              where pronamespace = 'realtime'::regnamespace and prosecdef
                and not coalesce(proconfig @> array['search_path=pg_catalog, pg_temp'], false)",
        )
        .await;
    assert!(loose.is_empty(), "{loose:?}");
    let count =
        stack.text("select count(*) from pg_proc where pronamespace = 'realtime'::regnamespace and prosecdef").await;
    assert!(count.parse::<i32>().unwrap() >= 5, "{count}");
    // And every function in PL/pgSQL, whose names are looked up when it runs.
    let loose = stack
        .rows(
            "select p.oid::regprocedure::text from pg_proc p join pg_language l on l.oid = p.prolang
              where pronamespace = 'realtime'::regnamespace and lanname = 'plpgsql'
                and not coalesce(proconfig @> array['search_path=pg_catalog, pg_temp'], false)",
        )
        .await;
    assert!(loose.is_empty(), "{loose:?}");
}

#[tokio::test]
async fn what_everybody_may_call_is_listed_here() {
    let stack = Stack::start().await;
    let names = stack
        .rows(
            "select distinct proname::text from pg_proc p
              where pronamespace = 'realtime'::regnamespace and has_function_privilege('anon', p.oid, 'execute') order by 1",
        )
        .await;
    let names: Vec<_> = names.into_iter().map(|row| row[0].clone().unwrap()).collect();
    for dangerous in [
        "publish",
        "publish_as",
        "may_subscribe",
        "read",
        "tick",
        "rotate",
        "ring",
        "_render",
        "_insert_as",
        "_sees_channel",
        "_policy_says",
        "explain_access",
        "grant_sidecar",
        "create_roles",
        "cleanup_messages",
        "judge",
        "comparable",
        "elect_webhook_sender",
        "claim_webhooks",
        "finish_webhooks",
        "count_messages",
        "cleanup_webhook_deliveries",
    ] {
        assert!(!names.iter().any(|name| name == dangerous), "everybody may call {dangerous}");
    }
    for needed in ["channel_name", "contract_version", "enable_realtime", "disable_realtime", "notify_table_change"] {
        assert!(names.iter().any(|name| name == needed), "not everybody may call {needed}: {names:?}");
    }
}

/// A function that everybody may call and that runs as its caller is of no use when it calls one that is closed.
#[tokio::test]
async fn what_everybody_may_call_works_for_everybody() {
    let stack = Stack::start().await;
    let closed = stack
        .rows(
            "select distinct p.oid::regprocedure::text, c.oid::regprocedure::text
               from pg_proc p, regexp_matches(p.prosrc, 'realtime\\.([a-z_]+)\\s*\\(', 'g') called, pg_proc c
              where p.pronamespace = 'realtime'::regnamespace and c.pronamespace = p.pronamespace and c.proname = called[1]
                and not p.prosecdef and has_function_privilege('anon', p.oid, 'execute')
                and not has_function_privilege('anon', c.oid, 'execute')",
        )
        .await;
    assert!(closed.is_empty(), "open to everybody, but calls what is not: {closed:?}");
}

#[tokio::test]
async fn what_people_meet_in_the_database_has_a_comment() {
    let stack = Stack::start().await;
    let silent = stack
        .rows(
            "select p.oid::regprocedure::text from pg_proc p
              where pronamespace = 'realtime'::regnamespace and proname !~ '^_' and obj_description(p.oid, 'pg_proc') is null
             union all
             select c.oid::regclass::text from pg_class c
              where relnamespace = 'realtime'::regnamespace and relkind in ('r', 'v') and relname !~ '^(_|log_|tick_)'
                and obj_description(c.oid, 'pg_class') is null",
        )
        .await;
    assert!(silent.is_empty(), "no comment on {silent:?}");
}

/// The extension makes nothing outside its schema, and goes as a whole.
#[tokio::test]
async fn the_extension_keeps_to_its_schema() {
    let stack = Stack::start().await;
    let outside = stack
        .rows(
            "select pg_describe_object(d.classid, d.objid, 0) from pg_depend d join pg_extension e on e.oid = d.refobjid
              where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e' and e.extname = 'realtime'
                and (pg_identify_object(d.classid, d.objid, 0)).schema is distinct from 'realtime'
                and not (d.classid = 'pg_namespace'::regclass and d.objid = 'realtime'::regnamespace)",
        )
        .await;
    assert!(outside.is_empty(), "{outside:?}");
}
