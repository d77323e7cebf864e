//! The schemas of `docs/protocol/`, as the tests use them.

use std::collections::HashMap;
use std::fs;
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::Frame;

const SUFFIX: &str = ".schema.json";

/// What is wrong with a frame of the server; `None` when it is as its schema says. `prefix` is put before the frame's
/// type to find its schema.
pub fn fault(prefix: &str, frame: &Frame) -> Option<String> {
    let name = format!("{prefix}{}", frame.kind());
    let Some(schema) = schemas().get(&name) else {
        return Some(format!("there is no docs/protocol/{name}{SUFFIX}"));
    };
    schema.iter_errors(frame.value()).next().map(|error| format!("{name}: {error} at {}", error.instance_path()))
}

/// The names of all schemas.
pub fn names() -> Vec<&'static str> {
    schemas().keys().map(String::as_str).collect()
}

fn schemas() -> &'static HashMap<String, Validator> {
    static SCHEMAS: OnceLock<HashMap<String, Validator>> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        let folder = xtask::workspace::root().join("docs/protocol");
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let named = entries.filter_map(|path| {
            let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.to_owned();
            Some((name, strict(&fs::read_to_string(&path).unwrap())))
        });
        named.collect()
    })
}

/// The published schemas let members pass that they do not name, as clients must. A test must not: a member that
/// nobody has documented is a fault.
fn strict(text: &str) -> Validator {
    let mut schema: Value = serde_json::from_str(text).unwrap();
    close(&mut schema);
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") && members.get("type") == Some(&json!("object")) {
                members.entry("additionalProperties").or_insert(json!(false));
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_in(text: &str) -> Option<String> {
        fault("", &Frame::parse_all(text)[0])
    }

    #[test]
    fn a_good_frame_has_no_fault() {
        assert_eq!(fault_in(r#"{"type":"heartbeat","offset":7}"#), None);
        assert_eq!(fault_in(r#"{"type":"gap","id":"a","reason":"ahead","from":9,"to":3}"#), None);
    }

    #[test]
    fn a_member_that_nobody_documented_is_a_fault() {
        assert!(fault_in(r#"{"type":"heartbeat","extra":1}"#).is_some());
        assert!(fault_in(r#"{"type":"surprise"}"#).is_some());
    }

    #[test]
    fn an_insert_with_an_old_record_is_a_fault() {
        let broadcast = |kind: &str| {
            let row = r#""schema":"s","table":"t","record":{},"old_record":{},"timestamp":"2026-01-01T00:00:00Z""#;
            format!(
                r#"{{"type":"broadcast","channel":"c","id":"c","offset":1,"txn":1,"payload":{{"type":"{kind}",{row}}}}}"#
            )
        };
        assert_eq!(fault_in(&broadcast("UPDATE")), None);
        assert!(fault_in(&broadcast("INSERT")).is_some());
    }
}
