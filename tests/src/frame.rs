//! A frame that a client received.

use std::collections::HashMap;
use std::fmt;
use std::ops::Index;

use serde_json::Value;
use serde_json::value::RawValue;

/// A frame that a client received: its text, and the same as a value. `frame["payload"]["record"]` reads like the wire.
#[derive(Clone, PartialEq)]
pub struct Frame {
    text: String,
    value: Value,
}

impl Frame {
    /// Reads a frame; an array of frames gives each of them.
    ///
    /// # Panics
    ///
    /// When the text is not JSON.
    pub fn parse_all(text: &str) -> Vec<Self> {
        if text.starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
            return items.into_iter().map(|item| Self::parse(item.get())).collect();
        }
        vec![Self::parse(text)]
    }

    fn parse(text: &str) -> Self {
        let value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
        Self { text: text.to_owned(), value }
    }

    /// The frame as a value. Wide numbers lose digits here; [`Frame::raw`] has them.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The frame as it came.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The frame's type.
    pub fn kind(&self) -> &str {
        self.value["type"].as_str().unwrap_or_default()
    }

    /// The code of an error frame.
    pub fn code(&self) -> &str {
        self.value["code"].as_str().unwrap_or_default()
    }

    /// The frame's offset.
    ///
    /// # Panics
    ///
    /// When it has none.
    pub fn offset(&self) -> i64 {
        self.value["offset"].as_i64().unwrap_or_else(|| panic!("no offset in {self}"))
    }

    /// The record of a row event.
    pub fn record(&self) -> &Value {
        &self.value["payload"]["record"]
    }

    /// The old record of a row event.
    pub fn old_record(&self) -> &Value {
        &self.value["payload"]["old_record"]
    }

    /// The JSON text of a member, digit by digit as it came.
    ///
    /// # Panics
    ///
    /// When there is no such member.
    pub fn raw(&self, path: &[&str]) -> String {
        let mut text = self.text.clone();
        for name in path {
            let members: HashMap<String, &RawValue> = serde_json::from_str(&text).unwrap();
            let member = members.get(*name).unwrap_or_else(|| panic!("no {name} in {text}"));
            text = member.get().to_owned();
        }
        text
    }

    /// The names of an object's members in the order in which they came.
    ///
    /// # Panics
    ///
    /// When there is no such object.
    pub fn names(&self, path: &[&str]) -> Vec<String> {
        let text = self.raw(path);
        let members: HashMap<String, &RawValue> = serde_json::from_str(&text).unwrap();
        let start = text.as_ptr() as usize;
        let mut found: Vec<(usize, String)> =
            members.into_iter().map(|(name, raw)| (raw.get().as_ptr() as usize - start, name)).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, name)| name).collect()
    }
}

impl Index<&str> for Frame {
    type Output = Value;

    fn index(&self, name: &str) -> &Value {
        &self.value[name]
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 600;
        match self.text.char_indices().nth(SHOWN) {
            Some((end, _)) => write!(f, "{}… ({} bytes)", &self.text[..end], self.text.len()),
            None => f.write_str(&self.text),
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
