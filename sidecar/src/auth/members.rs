//! A JSON object as its members, values untouched: digits that a float would lose reach the policies.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The members of an object in their order. No name occurs twice: readers disagree on which one counts.
#[derive(Debug)]
pub(super) struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// Parses an object and nothing else.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Whether there is such a member, whatever its value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// The value as written.
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.get())
    }

    /// The value as a type; `None` when absent or of another type.
    pub(super) fn get<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Option<T> {
        serde_json::from_str(self.raw(name)?).ok()
    }

    /// Writes the object with one member set to a text.
    pub(super) fn to_json_with(&self, name: &str, text: &str) -> String {
        let quoted = serde_json::Value::from(text).to_string();
        let mut json = String::from("{");
        for (known, value) in self.0.iter().filter(|(known, _)| known != name) {
            push(&mut json, known, value.get());
        }
        push(&mut json, name, &quoted);
        json.push('}');
        json
    }
}

fn push(json: &mut String, name: &str, value: &str) {
    if json.len() > 1 {
        json.push(',');
    }
    json.push_str(&serde_json::Value::from(name).to_string());
    json.push(':');
    json.push_str(value);
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
            if members.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom("a name occurs twice"));
            }
            members.push((name, value));
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_order_survive() {
        let members = Members::parse(br#"{"org": 12345678901234567890123, "role":"x","n":1.10}"#).unwrap();
        let json = members.to_json_with("role", "authenticated");
        assert_eq!(json, r#"{"org":12345678901234567890123,"n":1.10,"role":"authenticated"}"#);
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused_even_when_escaped() {
        assert!(Members::parse(br#"{"role":"a","role":"b"}"#).is_none());
        assert!(Members::parse(br#"{"role":"a","r\u006fle":"b"}"#).is_none());
    }

    #[test]
    fn only_objects_are_members() {
        for text in ["[]", "1", "null", "\"a\"", "{} {}", "{", ""] {
            assert!(Members::parse(text.as_bytes()).is_none(), "{text}");
        }
    }
}
