//! One condition of a filter on one row.

use std::{borrow::Cow, cmp::Ordering};

use regex::Regex;

use super::{
    json::{self, Step},
    kind::Kind,
    truth::Truth,
    value::Value,
};

/// A column, or a place in a JSON column, and what is asked of it.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) operand: Operand,
    pub(super) test: Test,
}

/// What is compared.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    /// Its place among the columns that the filter names.
    pub(super) column: usize,
    pub(super) place: Option<Place>,
    /// What the whole is: the column's type, or what the path gives.
    pub(super) kind: Kind,
}

/// A place in a JSON column.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: Vec<Step>,
    pub(super) is_binary: bool,
    /// The path ends in `->>`.
    pub(super) is_text: bool,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Null,
    Is(bool),
    Compare(Comparison, Value),
    Distinct(Value),
    In(Vec<Value>),
    Pattern {
        regex: Regex,
        /// Letters of both cases are equal as the server's language has it: for two letters beyond ASCII nobody here
        /// knows whether that makes them ASCII.
        is_folded: bool,
    },
}

/// A comparison with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// What a row has of an operand.
enum Found<'a> {
    Null,
    Raw(&'a str),
    /// The row does not have the column, or it cannot be read.
    Nothing,
}

impl Condition {
    /// The answer for a row with these columns, as JSON.
    pub(super) fn ask(&self, row: &[Option<&str>]) -> Truth {
        match self.operand.find(row) {
            Found::Nothing => Truth::OPEN,
            Found::Null => self.test.of_null(),
            Found::Raw(raw) => self.of_value(raw).unwrap_or(Truth::OPEN),
        }
    }

    fn of_value(&self, raw: &str) -> Option<Truth> {
        let order = |value: &Value| self.operand.value(raw)?.compare(value);
        Some(Truth::of(match &self.test {
            Test::Null => false,
            Test::Is(wanted) => order(&Value::Bool(*wanted))?.is_eq(),
            Test::Compare(comparison, value) => comparison.holds(order(value)?),
            Test::Distinct(value) => order(value)?.is_ne(),
            Test::In(values) => {
                let found = self.operand.value(raw)?;
                let orders: Option<Vec<Ordering>> = values.iter().map(|value| found.compare(value)).collect();
                orders?.into_iter().any(Ordering::is_eq)
            }
            Test::Pattern { regex, is_folded } => {
                let text = self.operand.text(raw)?;
                // K of Kelvin and I with a dot: their small letters are ASCII, or not, or two letters.
                if *is_folded && text.contains(['\u{212A}', '\u{130}']) {
                    return None;
                }
                regex.is_match(&text)
            }
        }))
    }
}

impl Test {
    fn of_null(&self) -> Truth {
        match self {
            Self::Null | Self::Distinct(_) => Truth::TRUE,
            Self::Is(_) => Truth::FALSE,
            Self::Compare(..) | Self::In(_) | Self::Pattern { .. } => Truth::NULL,
        }
    }
}

impl Operand {
    fn find<'a>(&self, row: &[Option<&'a str>]) -> Found<'a> {
        match (row.get(self.column).copied().flatten(), &self.place) {
            (None, _) => Found::Nothing,
            // NULL and JSON's own null look alike.
            (Some("null"), Some(place)) if place.is_first() => Found::Nothing,
            (Some("null"), _) => Found::Null,
            (Some(raw), None) => Found::Raw(raw),
            (Some(raw), Some(place)) => place.find(raw),
        }
    }

    fn value(&self, raw: &str) -> Option<Value> {
        match &self.place {
            Some(_) => self.text(raw).map(|text| Value::Text(text.into())),
            None => self.kind.value(raw),
        }
    }

    fn text<'a>(&self, raw: &'a str) -> Option<Cow<'a, str>> {
        match &self.place {
            Some(_) => json::scalar(raw),
            None => self.kind.text(raw),
        }
    }
}

impl Place {
    /// Whether it is all of a jsonb scalar, taken as an array of one: then it may be JSON's null.
    fn is_first(&self) -> bool {
        self.is_binary && !self.is_text && self.path.iter().all(|step| matches!(step, Step::Element(0 | -1)))
    }

    fn find<'a>(&self, raw: &'a str) -> Found<'a> {
        if !self.is_binary && !json::has_whole_escapes(raw) {
            return Found::Nothing;
        }
        match json::follow(raw, &self.path, self.is_binary) {
            Err(_) => Found::Nothing,
            Ok(None) => Found::Null,
            Ok(Some("null")) if self.is_text => Found::Null,
            Ok(Some(raw)) => Found::Raw(raw),
        }
    }
}
