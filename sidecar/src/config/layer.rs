//! One source of settings, flattened to `section.name`.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use toml::Value;

/// Where a value came from, for the text of faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `config.default.toml`.
    Default,
    /// A settings file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) value: Value,
    pub(super) origin: Origin,
    /// Which layer, so that a value and its `_file` twin can be compared: higher wins.
    pub(super) rank: usize,
}

/// Settings by their flat name.
pub(super) type Flat = BTreeMap<String, Given>;

/// Turns a table of sections into flat names. Arrays are values.
pub(super) fn flatten(table: toml::Table, origin: &Origin, rank: usize) -> Flat {
    let mut flat = Flat::new();
    for (name, value) in table {
        match value {
            Value::Table(section) => {
                let inner = flatten(section, origin, rank);
                flat.extend(inner.into_iter().map(|(key, given)| (format!("{name}.{key}"), given)));
            }
            value => {
                flat.insert(name, Given { value, origin: origin.clone(), rank });
            }
        }
    }
    flat
}

/// Reads the text of a variable or flag as the type that the default has.
///
/// `Err` is what the text should have been.
pub(super) fn parse_as(default: &Value, text: &str) -> Result<Value, &'static str> {
    match default {
        Value::Integer(_) => text.trim().parse().map(Value::Integer).map_err(|_| "a whole number"),
        Value::Boolean(_) => boolean(text.trim()).map(Value::Boolean).ok_or("true or false"),
        Value::Array(_) => Ok(Value::Array(items(text))),
        _ => Ok(Value::String(text.to_owned())),
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Some(true),
        "false" | "0" | "off" | "no" => Some(false),
        _ => None,
    }
}

fn items(text: &str) -> Vec<Value> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(|item| Value::String(item.to_owned())).collect()
}
