//! Typed values and their order.

use std::cmp::Ordering;

use super::decimal::Decimal;

/// A value that is not NULL.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Integer(i64),
    Decimal(Decimal),
    Float(f64),
    /// Compared byte by byte.
    Text(Box<str>),
    /// See `moment`.
    Moment(i128),
    /// An enum's label by its place.
    Label(usize),
}

impl Value {
    /// The order of two values of one type; `None` when they are of different ones.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        Some(match (self, other) {
            (Self::Bool(one), Self::Bool(another)) => one.cmp(another),
            (Self::Integer(one), Self::Integer(another)) => one.cmp(another),
            (Self::Decimal(one), Self::Decimal(another)) => one.cmp(another),
            (Self::Float(one), Self::Float(another)) => floats(*one, *another),
            (Self::Text(one), Self::Text(another)) => one.cmp(another),
            (Self::Moment(one), Self::Moment(another)) => one.cmp(another),
            (Self::Label(one), Self::Label(another)) => one.cmp(another),
            _ => return None,
        })
    }
}

/// As Postgres: every NaN equals every other one and is greater than all else; the two zeros are equal.
fn floats(one: f64, another: f64) -> Ordering {
    one.partial_cmp(&another).unwrap_or_else(|| one.is_nan().cmp(&another.is_nan()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_the_largest_and_zero_has_no_sign() {
        let order = |one, another| Value::Float(one).compare(&Value::Float(another));
        assert_eq!(order(f64::NAN, f64::INFINITY), Some(Ordering::Greater));
        assert_eq!(order(-1.0, f64::NAN), Some(Ordering::Less));
        assert_eq!(order(f64::NAN, f64::NAN), Some(Ordering::Equal));
        assert_eq!(order(0.0, -0.0), Some(Ordering::Equal));
    }

    #[test]
    fn values_of_two_types_have_no_order() {
        assert_eq!(Value::Integer(1).compare(&Value::Float(1.0)), None);
    }
}
