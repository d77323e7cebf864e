//! A row image as a subscription may see it.

use std::{borrow::Cow, fmt};

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::json::push_text;
use crate::model::{Columns, RowChange, View};

/// Both images of a change, with only the columns that the subscription may see.
pub(super) struct Visible<'a> {
    /// The new row, where the change has one.
    pub(super) record: Option<Cow<'a, str>>,
    /// The old row, where the change has one.
    pub(super) old_record: Option<Cow<'a, str>>,
}

/// Projects a change as it looks, or gives `None` when nothing of it may be seen.
pub(super) fn visible<'a>(change: &'a RowChange, columns: &Columns, view: View) -> Option<Visible<'a>> {
    match view {
        View::Whole => whole(change, columns),
        View::Entered => {
            let record = change.record.as_deref().map(|text| projected(text, columns));
            Some(Visible { record, old_record: None })
        }
        View::Left => Some(Visible { record: None, old_record: Some(old_key(change, columns)?) }),
    }
}

/// An update of hidden columns only must not tell that it happened. Images of the key only, as a change has that is too
/// large, cannot say what changed: it is told.
fn whole<'a>(change: &'a RowChange, columns: &Columns) -> Option<Visible<'a>> {
    let record = change.record.as_deref().map(|text| Image::parse(text, columns));
    let old_record = change.old_record.as_deref().map(|text| Image::parse(text, columns));
    if let (Some(new), Some(old)) = (&record, &old_record)
        && !change.oversize
        && (new.hides || old.hides)
        && new.same_values(old)
    {
        return None;
    }
    Some(Visible {
        record: record.map(|image| image.into_text(columns)),
        old_record: old_record.map(|image| image.into_text(columns)),
    })
}

/// The key that the row had: all of it, or nothing can be told of a row that is not seen any more.
fn old_key<'a>(change: &'a RowChange, columns: &Columns) -> Option<Cow<'a, str>> {
    let key = change.key.as_deref().filter(|key| key.iter().all(|name| columns.contains(name)))?;
    let columns = if columns.is_everything() { Columns::new(key.iter().cloned()) } else { columns.clone() };
    let columns = columns.intersect(|name| key.iter().any(|it| **it == *name));
    change.old_record.as_deref().map(|text| projected(text, &columns))
}

/// A row as a subscription with these columns gets it.
pub(super) fn projected<'a>(text: &'a str, columns: &Columns) -> Cow<'a, str> {
    Image::parse(text, columns).into_text(columns)
}

/// The visible members of one image, values as the database wrote them.
struct Image<'a> {
    text: &'a str,
    members: Vec<(Cow<'a, str>, &'a str)>,
    /// Some member of the image is not visible.
    hides: bool,
}

impl<'a> Image<'a> {
    fn parse(text: &'a str, columns: &Columns) -> Self {
        // An image that is no object shows nothing: better an empty row than a column that may not be read.
        let mut members = members(text).unwrap_or_default();
        let all = members.len();
        members.retain(|(name, _)| columns.contains(name));
        Self { text, hides: members.len() < all || all == 0, members }
    }

    /// Whether the two show the same. Images with different members cannot be compared: they count as different.
    fn same_values(&self, other: &Self) -> bool {
        self.members == other.members
    }

    fn into_text(self, columns: &Columns) -> Cow<'a, str> {
        if !self.hides && !columns.quotes_any() {
            return Cow::Borrowed(self.text);
        }
        let mut json = String::with_capacity(self.text.len());
        json.push('{');
        for (index, (name, value)) in self.members.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            push_text(&mut json, name);
            json.push(':');
            push_value(&mut json, value, columns.is_quoted(name));
        }
        json.push('}');
        Cow::Owned(json)
    }
}

/// Appends a value; a number of a quoted column becomes a string with the same digits.
fn push_value(json: &mut String, value: &str, quoted: bool) {
    let is_number = value.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    if quoted && is_number {
        json.extend(["\"", value, "\""]);
    } else {
        json.push_str(value);
    }
}

/// The members of a JSON object in their order, values untouched.
pub(super) fn members(text: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(MembersVisitor).ok()
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(Cow<'de, str>, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            members.push((name, value.get()));
        }
        Ok(members)
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
pub(super) mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::model::{Event, EventKind, Offset, Op, Relation, Timestamp};

    pub(in crate::protocol) fn update(record: &str, old_record: &str) -> Event {
        Event {
            offset: Offset::new(7).expect("small"),
            txn: Offset::new(8).expect("small"),
            at: Timestamp(SystemTime::UNIX_EPOCH),
            kind: EventKind::Row(change(record, old_record)),
        }
    }

    fn change(record: &str, old_record: &str) -> RowChange {
        RowChange {
            op: Op::Update,
            relations: [Relation { oid: 10, schema: "public".into(), table: "t".into(), shape: Some(1) }].into(),
            key: None,
            record: Some(record.into()),
            old_record: Some(old_record.into()),
            oversize: false,
        }
    }

    fn columns(names: &[&str]) -> Columns {
        Columns::new(names.iter().map(|&name| name.into()))
    }

    fn check(record: &str, old: &str, names: &[&str], expected: Option<(&str, &str)>) {
        let change = change(record, old);
        let shown = visible(&change, &columns(names), View::Whole)
            .map(|it| (it.record.expect("new").into_owned(), it.old_record.expect("old").into_owned()));
        let expected = expected.map(|(new, old)| (new.to_owned(), old.to_owned()));
        assert_eq!(shown, expected);
    }

    #[test]
    fn digits_and_text_stay_as_the_database_wrote_them() {
        let row = r#"{"id":9007199254740993, "n":1.10, "j":{"a" : [1,2]}, "t":"\u0000\n"}"#;
        check(row, row, &["id", "n", "j", "t"], Some((row, row)));
        check(row, r#"{"id":1,"n":2}"#, &["n"], Some((r#"{"n":1.10}"#, r#"{"n":2}"#)));
    }

    #[test]
    fn names_keep_their_escapes() {
        let row = r#"{"a\"b":1,"größe":2,"__proto__":3,"x":4}"#;
        check(row, "{}", &["a\"b", "größe", "__proto__"], Some((r#"{"a\"b":1,"größe":2,"__proto__":3}"#, "{}")));
    }

    #[test]
    fn an_update_of_hidden_columns_only_tells_nothing() {
        check(r#"{"id":1,"secret":2}"#, r#"{"id":1,"secret":1}"#, &["id"], None);
        check(r#"{"id":1,"secret":2}"#, r#"{"id":1}"#, &["id"], None);
        check(r#"{"id":1}"#, r#"{"id":1,"secret":1}"#, &["id"], None);
        check(r#"{"id":1,"secret":2}"#, r#"{"id":0,"secret":1}"#, &["id"], Some((r#"{"id":1}"#, r#"{"id":0}"#)));
    }

    #[test]
    fn an_update_that_changes_nothing_is_told_to_those_who_see_everything() {
        check(r#"{"id":1}"#, r#"{"id":1}"#, &["id"], Some((r#"{"id":1}"#, r#"{"id":1}"#)));
    }

    #[test]
    fn an_old_image_of_the_key_only_cannot_be_compared() {
        let new = r#"{"id":1,"name":"n","secret":2}"#;
        check(new, r#"{"id":1}"#, &["id", "name"], Some((r#"{"id":1,"name":"n"}"#, r#"{"id":1}"#)));
    }

    #[test]
    fn an_update_that_is_too_large_is_told_whatever_its_images_show() {
        for (image, names) in [("{}", ["a", "b"]), (r#"{"id":1}"#, ["title", "body"]), (r#"{"id":1}"#, ["id", "title"])]
        {
            let change = RowChange { oversize: true, ..change(image, image) };
            let shown = visible(&change, &columns(&names), View::Whole).expect("it is told");
            assert_eq!(shown.record, shown.old_record);
        }
    }

    #[test]
    fn a_row_that_comes_into_sight_has_no_past_and_one_that_goes_has_a_key_only() {
        let change = RowChange {
            key: Some(["id".into()].into()),
            ..change(r#"{"id":2,"name":"n","secret":3}"#, r#"{"id":1,"name":"o","secret":2}"#)
        };
        let shown = |names: &[&str], view| visible(&change, &columns(names), view);
        let entered = shown(&["id", "name"], View::Entered).expect("seen");
        assert_eq!((entered.record.as_deref(), entered.old_record), (Some(r#"{"id":2,"name":"n"}"#), None));
        let left = shown(&["id", "name"], View::Left).expect("seen");
        assert_eq!((left.record, left.old_record.as_deref()), (None, Some(r#"{"id":1}"#)));
        assert!(shown(&["name"], View::Left).is_none(), "a key that may not be read is not sent");
        let everything = visible(&change, &Columns::everything(), View::Left).expect("seen");
        assert_eq!(everything.old_record.as_deref(), Some(r#"{"id":1}"#));
        let keyless = RowChange { key: None, ..change };
        assert!(visible(&keyless, &columns(&["id"]), View::Left).is_none());
    }

    #[test]
    fn what_is_no_object_shows_nothing() {
        check("[1]", "17", &["id"], None);
    }

    #[test]
    fn numbers_of_quoted_columns_become_strings() {
        let change = change(r#"{"a":-12,"b":1.50,"c":null,"d":"x"}"#, "{}");
        let quoted = columns(&["a", "b", "c", "d"]).with_quoted(|name| name != "b");
        let record = visible(&change, &quoted, View::Whole).and_then(|it| it.record).expect("visible");
        assert_eq!(record, r#"{"a":"-12","b":1.50,"c":null,"d":"x"}"#);
    }
}
