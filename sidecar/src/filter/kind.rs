//! The types of columns, and what can be answered about each exactly as Postgres would.

use std::{borrow::Cow, sync::Arc};

use super::{
    decimal::Decimal,
    json,
    moment::{self, Writer, Zone},
    value::Value,
};

/// How the database compares texts of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Collation {
    /// Byte by byte, and with no letters but ASCII's: `C`.
    C,
    /// Equal bytes are equal; the order is the server's own.
    Plain,
    /// As [`Collation::Plain`], in a language whose letters I and i are no pair.
    Dotted,
    /// Different bytes may be equal.
    Loose,
}

/// The type of an operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Integer {
        min: i64,
        max: i64,
    },
    Numeric,
    Real,
    Double,
    Uuid,
    Date,
    Timestamp(Zone),
    Time,
    Interval,
    Text {
        collation: Collation,
        is_padded: bool,
    },
    /// The labels in their order.
    Enum(Arc<[String]>),
    Json {
        collation: Collation,
        is_binary: bool,
    },
    /// Nothing is known but whether it is NULL.
    Other,
}

impl Kind {
    /// Reads a type as `realtime.comparable` tells it: as `format_type` writes it, lengths and precisions left out or
    /// not, an enum as `enum ["label", …]`, and with ` collate C`, `dotted` or `loose` where texts are not compared plainly.
    pub(super) fn parse(text: &str) -> Self {
        if let Some(labels) = text.strip_prefix("enum ") {
            return serde_json::from_str(labels).map_or(Self::Other, Self::Enum);
        }
        let (name, collation) = match text.split_once(" collate ") {
            None => (text, Collation::Plain),
            Some((name, "C")) => (name, Collation::C),
            Some((name, "dotted")) => (name, Collation::Dotted),
            Some((name, _)) => (name, Collation::Loose),
        };
        Self::named(&without_modifier(name), collation)
    }

    fn named(name: &str, collation: Collation) -> Self {
        let integer = |max: i64| Self::Integer { min: -max - 1, max };
        match name {
            "boolean" => Self::Bool,
            "smallint" => integer(i16::MAX.into()),
            "integer" => integer(i32::MAX.into()),
            "bigint" => integer(i64::MAX),
            "numeric" => Self::Numeric,
            "real" => Self::Real,
            "double precision" => Self::Double,
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            "timestamp without time zone" => Self::Timestamp(Zone::Absent),
            "timestamp with time zone" => Self::Timestamp(Zone::Required),
            "time without time zone" => Self::Time,
            "text" | "character varying" => Self::Text { collation, is_padded: false },
            "character" | "bpchar" => Self::Text { collation, is_padded: true },
            "json" | "jsonb" => Self::Json { collation, is_binary: name == "jsonb" },
            _ if name == "interval" || name.starts_with("interval ") => Self::Interval,
            _ => Self::Other,
        }
    }

    /// Whether its values have an order that is known here.
    pub(super) fn is_ordered(&self) -> bool {
        match self {
            Self::Text { collation, .. } => *collation == Collation::C,
            Self::Json { .. } | Self::Other => false,
            _ => true,
        }
    }

    /// Whether equal values are known here to be equal, and others not.
    pub(super) fn has_equality(&self) -> bool {
        match self {
            Self::Text { collation, .. } => *collation != Collation::Loose,
            Self::Json { .. } | Self::Other => false,
            _ => true,
        }
    }

    /// A value as a client writes it; the error says which forms there are.
    pub(super) fn literal(&self, text: &str) -> Result<Value, &'static str> {
        match self {
            Self::Bool => boolean(text).map(Value::Bool).ok_or("write true or false"),
            Self::Integer { min, max } => integer(text)
                .filter(|number| (*min..=*max).contains(number))
                .map(Value::Integer)
                .ok_or("write an integer that the type can hold"),
            Self::Numeric => Decimal::parse(text)
                .map(Value::Decimal)
                .ok_or("write a number with digits, point and exponent, NaN or Infinity"),
            Self::Real | Self::Double => {
                self.float(text).ok_or("write a number that the type can hold, NaN or Infinity")
            }
            Self::Uuid => uuid(text).map(Value::Text).ok_or("write a uuid with its four hyphens, or without any"),
            Self::Date | Self::Timestamp(_) | Self::Time | Self::Interval => {
                self.moment(text, Writer::Client).map(Value::Moment).ok_or(self.moment_forms())
            }
            Self::Text { is_padded, .. } => Ok(Value::Text(unpadded(text, *is_padded).into())),
            Self::Enum(labels) => label(labels, text).ok_or("write one of the type's labels"),
            Self::Json { .. } | Self::Other => Err("write is.null or not.is.null"),
        }
    }

    /// A value of a row, from its JSON; `None` when it is none of this type.
    pub(super) fn value(&self, raw: &str) -> Option<Value> {
        let text = json::scalar(raw)?;
        Some(match self {
            Self::Bool => Value::Bool(raw.parse().ok()?),
            Self::Integer { .. } => Value::Integer(raw.parse().ok()?),
            Self::Numeric => Value::Decimal(Decimal::parse(&text)?),
            Self::Real | Self::Double => self.float(&text)?,
            Self::Uuid => Value::Text(text.into()),
            Self::Date | Self::Timestamp(_) | Self::Time | Self::Interval => {
                Value::Moment(self.moment(&text, Writer::Database)?)
            }
            Self::Text { is_padded, .. } => Value::Text(unpadded(self.text(raw)?.as_ref(), *is_padded).into()),
            Self::Enum(labels) => label(labels, &text)?,
            Self::Json { .. } | Self::Other => return None,
        })
    }

    /// The text of a row's value, for patterns.
    pub(super) fn text<'a>(&self, raw: &'a str) -> Option<Cow<'a, str>> {
        raw.starts_with('"').then(|| json::scalar(raw)).flatten()
    }

    fn moment(&self, text: &str, writer: Writer) -> Option<i128> {
        match self {
            Self::Date => moment::date(text, writer),
            Self::Timestamp(zone) => moment::timestamp(text, writer, *zone),
            Self::Time => moment::time(text),
            _ => moment::interval(text, writer),
        }
    }

    fn moment_forms(&self) -> &'static str {
        match self {
            Self::Date => "write it as 2026-02-28, or infinity",
            Self::Timestamp(Zone::Absent) => "write it as 2026-02-28T12:34:56.789 without a zone, or infinity",
            Self::Timestamp(Zone::Required) => {
                "write it as 2026-02-28T12:34:56.789Z or with an offset such as +01:00, or infinity"
            }
            Self::Time => "write it as 12:34:56.789",
            _ => "write it as 1 year 2 months 3 days 04:05:06.7",
        }
    }

    /// A real is rounded to a real first, in both places, and then is the same number in double precision.
    fn float(&self, text: &str) -> Option<Value> {
        let is_real = *self == Self::Real;
        let decimal = Decimal::parse(text)?;
        let number = match decimal {
            Decimal::NaN => f64::NAN,
            Decimal::Infinity => f64::INFINITY,
            Decimal::NegativeInfinity => f64::NEG_INFINITY,
            Decimal::Finite(finite) => {
                let number = if is_real { text.parse::<f32>().ok()?.into() } else { text.parse::<f64>().ok()? };
                // Too large or too small for the type: an error in Postgres.
                if number.is_infinite() || (number == 0.0) != finite.is_zero() {
                    return None;
                }
                number
            }
        };
        Some(Value::Float(number))
    }
}

/// `character varying(10)` as `character varying`, `timestamp(3) with time zone` as `timestamp with time zone`.
fn without_modifier(name: &str) -> Cow<'_, str> {
    match (name.find('('), name.rfind(')')) {
        (Some(from), Some(to)) if from < to => Cow::Owned([&name[..from], &name[to + 1..]].concat()),
        _ => Cow::Borrowed(name),
    }
}

/// Every word that Postgres takes for a truth value.
fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Some(true),
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn uuid(text: &str) -> Option<Box<str>> {
    let is_hyphen = |place: usize| matches!(place, 8 | 13 | 18 | 23);
    let fits = match text.len() {
        32 => text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        36 => text
            .bytes()
            .enumerate()
            .all(|(place, byte)| if is_hyphen(place) { byte == b'-' } else { byte.is_ascii_hexdigit() }),
        _ => false,
    };
    let digits = || text.bytes().filter(|byte| *byte != b'-').map(|byte| char::from(byte.to_ascii_lowercase()));
    fits.then(|| {
        let mut uuid: String = digits().collect();
        for place in [8, 13, 18, 23] {
            uuid.insert(place, '-');
        }
        uuid.into()
    })
}

fn label(labels: &[String], text: &str) -> Option<Value> {
    labels.iter().position(|label| label == text).map(Value::Label)
}

/// Blanks at the end of a `character(n)` are no part of it, except for patterns.
fn unpadded(text: &str, is_padded: bool) -> &str {
    if is_padded { text.trim_end_matches(' ') } else { text }
}
