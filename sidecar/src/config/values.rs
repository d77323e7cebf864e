//! The merged layers, asked setting by setting. Faults are collected, not returned.

use std::{net::SocketAddr, path::PathBuf};

use secrecy::{ExposeSecret, SecretString};
use toml::Value;

use super::{
    DEFAULTS, Fault, Faults, Origin, Sources, environment,
    fault::nearest,
    layer::{Flat, Given, flatten, parse_as},
    seeds,
};

/// Layers in order of force.
const RANK_DEFAULT: usize = 0;
const RANK_SEED: usize = 1;
const RANK_FILE: usize = 2;
const RANK_ENVIRONMENT: usize = 3;
const RANK_FLAG: usize = 4;

/// The value of every setting with its origin, and the faults found so far.
pub(super) struct Values {
    given: Flat,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl Values {
    /// Merges all layers.
    pub(super) fn gather(sources: &Sources) -> Self {
        let defaults = defaults();
        let mut values = Self { given: defaults.clone(), faults: Vec::new(), warnings: Vec::new() };
        let environment = environment::read(&sources.environment, &defaults, RANK_ENVIRONMENT);
        // The seeds' variables are the weakest: many are set for other programs beside us.
        let seeds = seeds::read(&sources.environment, &defaults, RANK_SEED);
        values.add(seeds);
        values.read_file(sources, &defaults);
        values.add(environment);
        values.read_flags(sources, &defaults);
        values
    }

    /// Gives the result when there is no fault.
    pub(super) fn finish<T>(self, built: Option<T>) -> Result<T, Faults> {
        match built {
            Some(built) if self.faults.is_empty() => Ok(built),
            _ => Err(Faults(self.faults)),
        }
    }

    /// Records that a setting is wrong.
    pub(super) fn fault(&mut self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let origin = self.given.get(key).map_or(Origin::Default, |given| given.origin.clone());
        self.faults.push(Fault { setting: key.to_owned(), origin, what: what.into(), remedy: remedy.into() });
    }

    /// Records what the operator should know.
    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// The warnings so far.
    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// A text; empty when not set.
    pub(super) fn text(&self, key: &str) -> String {
        match self.value(key) {
            Some(Value::String(text)) => text.clone(),
            _ => String::new(),
        }
    }

    /// A switch.
    pub(super) fn flag(&self, key: &str) -> bool {
        matches!(self.value(key), Some(Value::Boolean(true)))
    }

    /// Which of two words; the first when it is neither.
    pub(super) fn one_of(&mut self, key: &str, words: [&str; 2]) -> usize {
        let text = self.text(key);
        words.iter().position(|word| *word == text).unwrap_or_else(|| {
            self.fault(key, "it is no word that is known here", format!("give {} or {}", words[0], words[1]));
            0
        })
    }

    /// A list of texts.
    pub(super) fn list(&mut self, key: &str) -> Vec<String> {
        let Some(Value::Array(items)) = self.value(key) else {
            return Vec::new();
        };
        let texts: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
        if texts.is_none() {
            self.fault(key, "it holds something that is not text", "give a list of texts");
        }
        texts.unwrap_or_default()
    }

    /// A whole number within bounds.
    pub(super) fn number(&mut self, key: &str, min: u64, max: u64) -> u64 {
        let Some(Value::Integer(number)) = self.value(key) else {
            return min;
        };
        match u64::try_from(*number) {
            Ok(number) if (min..=max).contains(&number) => number,
            _ => {
                let what = format!("{number} is out of bounds");
                self.fault(key, what, format!("give a number from {min} to {max}"));
                min
            }
        }
    }

    /// A count or size within bounds.
    pub(super) fn count(&mut self, key: &str, min: u64, max: u64) -> usize {
        usize::try_from(self.number(key, min, max)).unwrap_or(usize::MAX)
    }

    /// An address with port.
    pub(super) fn address(&mut self, key: &str) -> Option<SocketAddr> {
        let text = self.text(key);
        let address = text.parse().ok();
        if address.is_none() {
            self.fault(key, format!("`{text}` is not an address"), "give ip:port, such as 127.0.0.1:4000 or [::]:4000");
        }
        address
    }

    /// A path; `None` when not set.
    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        Some(self.text(key)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    /// The lines of a file, without empty ones and comments; none when no file is named.
    pub(super) fn lines(&mut self, file_key: &str) -> Vec<String> {
        let text = self.path(file_key).and_then(|path| self.secret_of_file(file_key, &path));
        let lines = text.iter().flat_map(|text| text.expose_secret().lines()).map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
    }

    /// A secret from its setting or from the file that `<key>_file` names; the stronger layer wins.
    pub(super) fn secret(&mut self, key: &str) -> Option<SecretString> {
        let file_key = format!("{key}_file");
        let (text, path) = (self.text(key), self.path(&file_key));
        if !text.is_empty() && path.is_some() && self.rank(key) == self.rank(&file_key) {
            self.fault(key, format!("both it and {file_key} are set"), "keep one of the two");
            return None;
        }
        match path.filter(|_| self.secret_setting(key) == file_key) {
            Some(path) => self.secret_of_file(&file_key, &path),
            None => Some(text).filter(|text| !text.is_empty()).map(SecretString::from),
        }
    }

    /// The setting that a secret is taken from: its own, or the one that names its file.
    pub(super) fn secret_setting(&self, key: &str) -> String {
        let file_key = format!("{key}_file");
        let has_text = !self.text(key).is_empty();
        let is_of_file = self.path(&file_key).is_some() && !(has_text && self.rank(key) > self.rank(&file_key));
        if is_of_file { file_key } else { key.to_owned() }
    }

    fn secret_of_file(&mut self, file_key: &str, path: &std::path::Path) -> Option<SecretString> {
        match std::fs::read_to_string(path) {
            Ok(text) if !text.trim().is_empty() => Some(SecretString::from(text.trim_end_matches(['\r', '\n']))),
            Ok(_) => {
                self.fault(file_key, format!("{} is empty", path.display()), "write the secret into it");
                None
            }
            Err(error) => {
                let what = format!("{} cannot be read: {error}", path.display());
                self.fault(file_key, what, "name a file that this user may read");
                None
            }
        }
    }

    /// Whether anybody gave it, the defaults apart.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.rank(key) > RANK_DEFAULT
    }

    fn rank(&self, key: &str) -> usize {
        self.given.get(key).map_or(RANK_DEFAULT, |given| given.rank)
    }

    fn value(&self, key: &str) -> Option<&Value> {
        debug_assert!(self.given.contains_key(key), "{key} is not in config.default.toml");
        self.given.get(key).map(|given| &given.value)
    }

    fn add(&mut self, reading: environment::Reading) {
        self.given.extend(reading.given);
        self.faults.extend(reading.faults);
        self.warnings.extend(reading.warnings);
    }

    fn read_file(&mut self, sources: &Sources, defaults: &Flat) {
        let Some(path) = &sources.file else {
            return;
        };
        let origin = Origin::File(path.clone());
        match parse_file(path) {
            Ok(table) => self.merge(flatten(table, &origin, RANK_FILE), defaults),
            Err((what, remedy)) => {
                self.faults.push(Fault { setting: String::new(), origin, what, remedy: remedy.to_owned() });
            }
        }
    }

    fn read_flags(&mut self, sources: &Sources, defaults: &Flat) {
        for (key, text) in &sources.flags {
            let origin = Origin::CommandLine;
            let wanted = defaults.get(key).map(|default| parse_as(&default.value, text));
            match wanted {
                Some(Err(wanted)) => self.faults.push(Fault {
                    setting: key.clone(),
                    origin,
                    what: "it cannot be read".to_owned(),
                    remedy: format!("give {wanted}"),
                }),
                Some(Ok(value)) => self.merge_one(key, Given { value, origin, rank: RANK_FLAG }, defaults),
                None => {
                    let value = Value::String(text.clone());
                    self.merge_one(key, Given { value, origin, rank: RANK_FLAG }, defaults);
                }
            }
        }
    }

    fn merge(&mut self, flat: Flat, defaults: &Flat) {
        for (key, given) in flat {
            self.merge_one(&key, given, defaults);
        }
    }

    fn merge_one(&mut self, key: &str, given: Given, defaults: &Flat) {
        let Some(default) = defaults.get(key) else {
            let remedy = match nearest(key, defaults.keys().map(String::as_str)) {
                Some(known) => format!("did you mean {known}?"),
                None => "remove it; config.default.toml lists what there is".to_owned(),
            };
            let what = "there is no such setting".to_owned();
            self.faults.push(Fault { setting: key.to_owned(), origin: given.origin, what, remedy });
            return;
        };
        if default.value.same_type(&given.value) {
            self.given.insert(key.to_owned(), given);
        } else {
            let what = format!("it is of type {}", given.value.type_str());
            let remedy = format!("give a value of type {}", default.value.type_str());
            self.faults.push(Fault { setting: key.to_owned(), origin: given.origin, what, remedy });
        }
    }
}

/// The defaults by flat name: also the list of what exists.
pub(super) fn defaults() -> Flat {
    let table = DEFAULTS.parse().expect("config.default.toml is part of the program and a test parses it");
    flatten(table, &Origin::Default, RANK_DEFAULT)
}

/// Reads a settings file. The parser's own text is not used whole: it quotes the line, which may hold a secret.
fn parse_file(path: &std::path::Path) -> Result<toml::Table, (String, &'static str)> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| (format!("it cannot be read: {error}"), "name a file that this user may read"))?;
    text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
        (format!("line {line} is not TOML: {}", error.message()), "compare with config.default.toml")
    })
}
