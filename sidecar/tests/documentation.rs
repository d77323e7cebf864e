//! The generated parts of `docs/configuration.md` are what the program has.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on stops here")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
};

use realtime_sidecar::{
    config::{DEFAULTS, environment_names},
    metrics::Metrics,
};

/// Settings that share an explanation.
struct Group {
    section: String,
    settings: Vec<(String, String)>,
    text: String,
}

/// Reads `config.default.toml` as people do: a comment explains the settings right below it.
fn groups() -> Vec<Group> {
    let (mut groups, mut section, mut comment): (Vec<Group>, String, Vec<&str>) = Default::default();
    for line in DEFAULTS.lines() {
        if line.is_empty() {
            comment.clear();
        } else if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
        } else if let Some((name, default)) = line.split_once(" = ") {
            let setting = (name.to_owned(), default.to_owned());
            match groups.last_mut().filter(|last| last.section == section && last.text == comment.join(" ")) {
                Some(group) => group.settings.push(setting),
                None => {
                    groups.push(Group { section: section.clone(), settings: vec![setting], text: comment.join(" ") });
                }
            }
        }
    }
    groups
}

fn key(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

fn settings() -> String {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (variable, key) in environment_names() {
        names.entry(key).or_default().push(format!("`{variable}`"));
    }
    let (mut page, mut section) = (String::new(), None);
    for group in groups() {
        if section.as_ref() != Some(&group.section) {
            let title =
                if group.section.is_empty() { "Top level".to_owned() } else { format!("`[{}]`", group.section) };
            write!(page, "\n### {title}\n\n| setting | default | environment | meaning |\n|---|---|---|---|\n")
                .unwrap();
            section = Some(group.section.clone());
        }
        let column = |cell: &dyn Fn(&(String, String)) -> String| {
            group.settings.iter().map(cell).collect::<Vec<_>>().join("<br>")
        };
        let (setting, default) = (column(&|(name, _)| format!("`{name}`")), column(&|(_, text)| format!("`{text}`")));
        let environment = column(&|(name, _)| names[&key(&group.section, name)].join("<br>"));
        writeln!(page, "| {setting} | {default} | {environment} | {} |", group.text).unwrap();
    }
    page + "\n"
}

fn metrics() -> String {
    let metrics = Metrics::new();
    let encoded = metrics.encode();
    let mut rows: Vec<String> = Vec::new();
    for (family, text) in encoded.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' ')) {
        let kind = format!("# TYPE {family} ");
        let kind = encoded.lines().find_map(|line| line.strip_prefix(&kind)).unwrap();
        let suffix = if kind == "counter" { "_total" } else { "" };
        rows.push(format!("| `{family}{suffix}` | {kind} | {} |", text.trim_end_matches('.')));
    }
    for family in metrics.labelled() {
        rows.push(format!("| `{}{{{}}}` | counter | {} |", family.name, family.label, family.help));
    }
    rows.sort();
    format!("\n| family | type | meaning |\n|---|---|---|\n{}\n\n", rows.join("\n"))
}

/// Puts `content` between the page's markers called `name`.
fn with_block(page: &str, name: &str, content: &str) -> String {
    let begin = page.find(&format!("<!-- {name}:")).expect("the page has the marker");
    let begin = begin + page[begin..].find("-->").expect("the marker is closed") + 4;
    let end = page.find(&format!("<!-- /{name} -->")).expect("the page has the end marker");
    format!("{}{content}{}", &page[..begin], &page[end..])
}

#[test]
fn the_page_is_what_the_program_has() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let wanted = with_block(&with_block(&page, "settings", &settings()), "metrics", &metrics());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
        return;
    }
    assert!(page == wanted, "docs/configuration.md is behind the program; run this test once with UPDATE_DOCS=1");
}

/// Every name that a family has in queries.
fn queried_names() -> BTreeSet<String> {
    let metrics = Metrics::new();
    let encoded = metrics.encode();
    let mut names: BTreeSet<String> = metrics.labelled().iter().map(|family| family.name.clone()).collect();
    for (family, kind) in encoded.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        let suffixes: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        names.extend(suffixes.iter().map(|suffix| format!("{family}{suffix}")));
    }
    names
}

/// The metrics that a query names.
fn metrics_in(query: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = query.split(|c| !is_part(c)).filter(|word| word.starts_with("realtime_"));
    words.map(str::to_owned).collect()
}

#[test]
fn queries_of_dashboard_and_alerts_name_metrics_that_there_are() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let known = queried_names();
    let dashboard: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(docs.join("grafana.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut queries: Vec<String> = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    assert!(queries.len() > 20, "the dashboard was not read");
    let operations = std::fs::read_to_string(docs.join("operations.md")).unwrap();
    let alerts: Vec<&str> = operations.lines().filter_map(|line| line.split(" | ").nth(1)).collect();
    assert!(alerts.iter().filter(|expression| !metrics_in(expression).is_empty()).count() > 10, "no alerts were read");
    queries.extend(alerts.iter().map(|&expression| expression.to_owned()));
    for query in queries {
        for name in metrics_in(&query) {
            assert!(known.contains(&name), "there is no metric {name}, which is asked for in: {query}");
        }
    }
}
