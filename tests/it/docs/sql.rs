//! Runs the SQL of a page, statement by statement, and compares what it says it gives.
//!
//! A statement ends with `;` at the end of a line. The comments under it may say what it gives:
//!
//! * `-- => a | b` is a row, values as text, NULL as nothing; every row is listed, in order.
//! * `-- error 22023: text` is an error that begins with this text.

use realtime_tests::database::text_rows;
use tokio_postgres::Client;

use super::page::Block;

/// A statement and what it is to give.
#[derive(Debug, Default)]
struct Step {
    sql: String,
    rows: Vec<String>,
    error: Option<String>,
}

/// The statements of a block.
pub(crate) fn statements(block: &Block) -> Vec<String> {
    steps(&block.text).into_iter().map(|step| step.sql).collect()
}

/// Runs a block.
pub(crate) async fn run(session: &Client, block: &Block) {
    for step in steps(&block.text) {
        let place = format!("{}, {}", block.place, step.sql.trim());
        match (session.simple_query(&step.sql).await, &step.error) {
            (Ok(messages), None) => {
                let rows = text_rows(&messages).into_iter().map(|row| {
                    let cells = row.into_iter().map(Option::unwrap_or_default);
                    cells.collect::<Vec<_>>().join(" | ").trim_end_matches([' ', '|']).to_owned()
                });
                let rows: Vec<String> = rows.collect();
                assert!(step.rows.is_empty() || step.rows == rows, "{place}\nsays {:?}\ngives {rows:?}", step.rows);
            }
            (Err(error), Some(expected)) => {
                let error = error.as_db_error().unwrap_or_else(|| panic!("{place}: {error}"));
                let said = format!("{}: {}", error.code().code(), error.message());
                assert!(said.starts_with(expected), "{place}\nsays {expected}\ngives {said}");
            }
            (Ok(_), Some(expected)) => panic!("{place}: no error where it says {expected}"),
            (Err(error), None) => panic!("{place}: {error:?}"),
        }
    }
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        if let Some(row) = line.strip_prefix("-- => ") {
            steps.last_mut().unwrap().rows.push(row.trim_end().to_owned());
        } else if let Some(error) = line.strip_prefix("-- error ") {
            steps.last_mut().unwrap().error = Some(error.to_owned());
        } else {
            open.extend([line, "\n"]);
            if is_complete(&open) {
                steps.push(Step { sql: std::mem::take(&mut open), ..Step::default() });
            }
        }
    }
    let is_blank = |line: &str| line.is_empty() || line.starts_with("--");
    assert!(open.lines().all(is_blank), "a statement is not ended: {open}");
    steps
}

/// Whether the last line ends a statement, outside of a function's body.
fn is_complete(sql: &str) -> bool {
    let last = sql.lines().last().unwrap_or_default();
    let code = match last.split_once("--") {
        Some((code, _)) if code.matches('\'').count().is_multiple_of(2) => code,
        _ => last,
    };
    code.trim_end().ends_with(';') && sql.matches("$$").count().is_multiple_of(2)
}
