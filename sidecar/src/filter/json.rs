//! JSON read where it stands: members, elements and scalars as the text that they are.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A step of a path into a JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A member of an object.
    Member(Box<str>),
    /// An element of an array, from its end when negative.
    Element(i32),
}

/// What a row has of the columns that are wanted, in their order; `None` when it is no object.
pub(super) fn members<'a>(image: &'a str, wanted: &[Box<str>]) -> Option<Vec<Option<&'a str>>> {
    let found = Wanted { names: wanted, found: vec![None; wanted.len()] };
    serde_json::Deserializer::from_str(image).deserialize_map(found).ok()
}

/// The text of a string, or of what is written without quotes; `None` when it is no text that Postgres can hold.
pub(super) fn scalar(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.starts_with('"') {
        return Some(Cow::Borrowed(raw));
    }
    let Text(text) = serde_json::from_str(raw).ok()?;
    (!text.contains('\0')).then_some(text)
}

/// Follows a path: `Ok(None)` where it leads nowhere, an error when the text cannot be read.
pub(super) fn follow<'a>(raw: &'a str, path: &[Step], is_binary: bool) -> Result<Option<&'a str>, serde_json::Error> {
    let mut place = raw;
    for step in path {
        let next = match (step, place.as_bytes().first()) {
            (Step::Member(name), Some(b'{')) => member(place, name)?,
            (Step::Element(index), Some(b'[')) => element(place, *index)?,
            // A jsonb scalar is stored as an array of one, and Postgres lets that show.
            (Step::Element(0 | -1), Some(first)) if is_binary && *first != b'{' => Some(place),
            _ => None,
        };
        match next {
            Some(next) => place = next,
            None => return Ok(None),
        }
    }
    Ok(Some(place))
}

/// Whether every escape stands for a character that Postgres can hold. Where one does not, looking into the value is an
/// error there.
pub(super) fn has_whole_escapes(raw: &str) -> bool {
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        let Some(length) = whole_escape(&rest[at + 1..]) else {
            return false;
        };
        rest = &rest[at + 1 + length..];
    }
    true
}

/// The length of an escape behind its backslash; `None` for half a surrogate pair, and for the character zero.
fn whole_escape(text: &str) -> Option<usize> {
    let unit = |text: &str| u16::from_str_radix(text.strip_prefix('u')?.get(..4)?, 16).ok();
    match unit(text) {
        None => Some(1),
        Some(0 | 0xDC00..=0xDFFF) => None,
        Some(0xD800..=0xDBFF) => {
            let low = text[5..].strip_prefix('\\').and_then(unit)?;
            (0xDC00..=0xDFFF).contains(&low).then_some(11)
        }
        Some(_) => Some(5),
    }
}

/// A member by its name; the last one when there are several, as in Postgres.
fn member<'a>(object: &'a str, name: &str) -> Result<Option<&'a str>, serde_json::Error> {
    let wanted: Box<str> = name.into();
    let names = std::slice::from_ref(&wanted);
    let found = serde_json::Deserializer::from_str(object).deserialize_map(Wanted { names, found: vec![None] })?;
    Ok(found.into_iter().next().flatten())
}

fn element(array: &str, index: i32) -> Result<Option<&str>, serde_json::Error> {
    let place = match usize::try_from(index) {
        Ok(place) => Some(place),
        Err(_) => serde_json::from_str::<Count>(array)?.0.checked_add_signed(index as isize),
    };
    match place {
        Some(place) => serde_json::Deserializer::from_str(array).deserialize_seq(Nth(place)),
        None => Ok(None),
    }
}

struct Wanted<'w, 'a> {
    names: &'w [Box<str>],
    found: Vec<Option<&'a str>>,
}

impl<'de> Visitor<'de> for Wanted<'_, 'de> {
    type Value = Vec<Option<&'de str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            let value: &RawValue = map.next_value()?;
            for (wanted, found) in self.names.iter().zip(&mut self.found) {
                if **wanted == *name {
                    *found = Some(value.get());
                }
            }
        }
        Ok(self.found)
    }
}

/// The element at a place. The others are read too: a value that is no JSON must not pass for one.
struct Nth(usize);

impl<'de> Visitor<'de> for Nth {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let mut place = 0;
        while let Some(element) = elements.next_element::<&'de RawValue>()? {
            if place == self.0 {
                found = Some(element.get());
            }
            place += 1;
        }
        Ok(found)
    }
}

/// How many elements an array has.
struct Count(usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counter<'a>(PhantomData<&'a ()>);
        impl<'de> Visitor<'de> for Counter<'de> {
            type Value = usize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<usize, A::Error> {
                let mut count = 0;
                while elements.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(count)
            }
        }
        deserializer.deserialize_seq(Counter(PhantomData)).map(Self)
    }
}

/// A string, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str) -> Step {
        text.parse().map_or_else(|_| Step::Member(text.into()), Step::Element)
    }

    fn check(raw: &str, path: &str, expected: Option<&str>) {
        let path: Vec<Step> = path.split(' ').filter(|step| !step.is_empty()).map(step).collect();
        assert_eq!(follow(raw, &path, false).expect("JSON"), expected, "{raw} {path:?}");
    }

    #[test]
    fn paths_lead_to_the_text_as_it_stands() {
        let raw = r#"{"a": {"b" : [1.10, {"c":  "x"} ]}, "a\"b": null}"#;
        check(raw, "a b 0", Some("1.10"));
        check(raw, "a b -1", Some(r#"{"c":  "x"}"#));
        check(raw, "a b 1 c", Some(r#""x""#));
        check(raw, "a\"b", Some("null"));
        for nowhere in ["b", "a 0", "a b c", "a b 2", "a b -3", "a b 0 x"] {
            check(raw, nowhere, None);
        }
        check(r#"{"a":1,"a":2}"#, "a", Some("2"));
    }

    #[test]
    fn a_binary_scalar_is_an_array_of_one() {
        let first = [Step::Element(0)];
        assert_eq!(follow("5", &first, true).expect("JSON"), Some("5"));
        assert_eq!(follow("5", &first, false).expect("JSON"), None);
        assert_eq!(follow("[[5]]", &[Step::Element(0), Step::Element(0)], true).expect("JSON"), Some("5"));
        assert_eq!(follow("[5]", &[Step::Element(0), Step::Element(-1)], true).expect("JSON"), Some("5"));
        assert_eq!(follow("[5]", &[Step::Element(0), Step::Element(1)], true).expect("JSON"), None);
    }

    #[test]
    fn half_a_character_is_no_text() {
        for whole in [r#""\ud83d\ude00 \\u0000 \n""#, r#""é""#, r#"{"\u00e9":1}"#] {
            assert!(has_whole_escapes(whole), "{whole}");
        }
        for broken in [r#""\u0000""#, r#""\ud83d""#, r#""\ude00""#, r#"["\ud83dx"]"#, r#""\ud83d\u0041""#] {
            assert!(!has_whole_escapes(broken), "{broken}");
        }
        assert_eq!(scalar(r#""\u0000""#), None);
        assert_eq!(scalar(r#""\ud83d""#), None);
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        assert_eq!(members("[1]", &["a".into()]), None);
        assert_eq!(members(r#"{"a":1,"b":null}"#, &["b".into(), "c".into()]), Some(vec![Some("null"), None]));
    }
}
