//! What `make run` creates in its database: the extension, the roles, the demo.

use std::fs;
use std::path::PathBuf;

use super::database::Database;
use super::{RunError, access};
use crate::workspace;

/// Creates what is missing, says what it created, and runs the demo's script, which may run any number of times.
pub(super) fn prepare(database: &Database) -> Result<(), RunError> {
    let created = database.sql(
        "set client_min_messages = warning;
         create extension if not exists realtime;
         alter extension realtime update;
         select realtime.create_roles();
         select realtime.create_auth_helpers();",
    )?;
    for line in created.lines().filter(|line| !line.ends_with("exists already")) {
        println!("  {line}");
    }
    let script = demo_script();
    if script.exists() {
        let text = fs::read_to_string(&script).map_err(access(&script))?;
        database.sql(&format!("set client_min_messages = warning;\n{text}"))?;
    }
    Ok(())
}

/// A statement to try: the demo names one in a line `-- try sql: …`.
pub(super) fn try_psql(database: &Database) -> String {
    let statement = demo_hint("sql").unwrap_or_else(|| "select * from realtime.status()".to_owned());
    format!("{} -c \"{statement}\"", database.psql_words())
}

/// A channel to try: the demo names one in a line `-- try channel: …`.
pub(super) fn try_channel() -> String {
    demo_hint("channel").unwrap_or_else(|| "table:public.events".to_owned())
}

fn demo_hint(word: &str) -> Option<String> {
    let text = fs::read_to_string(demo_script()).ok()?;
    hint(&text, word)
}

fn hint(text: &str, word: &str) -> Option<String> {
    let start = format!("-- try {word}: ");
    text.lines().find_map(|line| line.strip_prefix(&start)).map(|found| found.trim().to_owned())
}

fn demo_script() -> PathBuf {
    workspace::root().join("sidecar/src/demo/demo.sql")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_read_from_the_demos_comments() {
        let text = "-- The demo.\n-- try sql: select 1\n-- try channel: room:1\ncreate table x ();\n";
        assert_eq!(hint(text, "sql").as_deref(), Some("select 1"));
        assert_eq!(hint(text, "channel").as_deref(), Some("room:1"));
        assert_eq!(hint(text, "curl"), None);
    }
}
