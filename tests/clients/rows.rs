//! `requirements.md` is true: every requirement has a test that names it.

use std::collections::BTreeMap;
use std::fs;

use xtask::workspace::root;

/// The requirements that InsForge's users and their clients put to us.
fn wanted() -> impl Iterator<Item = String> {
    let seed = (1..=37).map(|number| format!("IF-{number:02}"));
    seed.chain((1..=9).chain([17, 18]).map(|number| format!("X-{number:02}")))
}

/// The rows of the table: a requirement, and the tests that are named for it as `file::name`.
fn table() -> BTreeMap<String, Vec<(String, String)>> {
    let page = fs::read_to_string(root().join("tests/clients/requirements.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let rows = rows.filter(|(id, _)| id.starts_with("IF-") || id.starts_with("X-"));
    rows.map(|(id, rest)| {
        let tests = rest.split('`').skip(1).step_by(2).filter_map(|word| word.split_once("::"));
        (id.to_owned(), tests.map(|(file, name)| (file.to_owned(), name.to_owned())).collect())
    })
    .collect()
}

/// Whether a line of a script or a function of a Rust file names both.
fn names(text: &str, id: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    let slug = id.to_ascii_lowercase().replace('-', "_");
    let is_check = |line: &str| line.contains("check(") && line.contains(id) && line.contains(name);
    text.lines().any(is_check) || text.contains(&function) && (text.contains(id) || name.contains(&slug))
}

#[test]
fn every_requirement_has_a_test_that_names_it() {
    let table = table();
    for id in wanted() {
        let tests = table.get(&id).map(Vec::as_slice).unwrap_or_default();
        assert!(!tests.is_empty(), "{id} has no row with a test in tests/clients/requirements.md");
        for (file, name) in tests {
            let text = fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{id}: {file}: {error}"));
            assert!(names(&text, &id, name), "{id}: {file} has no test «{name}» that names it");
        }
    }
    let wanted: Vec<String> = wanted().collect();
    assert!(table.keys().all(|id| wanted.contains(id)), "a row is for nothing that is required");
}
