//! Exact decimals of any length, for comparing only.

use std::cmp::Ordering;

/// The largest exponent that a literal may have: far from where Postgres would call the value too large.
const EXPONENT_MAX: i64 = 1_000;

/// A value of type numeric. Every NaN equals every other one and is greater than all else, as in Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decimal {
    NegativeInfinity,
    Finite(Finite),
    Infinity,
    NaN,
}

/// `0.DIGITS` times ten to the power of `point`, without zeros at either end of the digits: one form for each value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finite {
    negative: bool,
    point: i64,
    digits: Box<[u8]>,
}

impl Decimal {
    /// Reads `[sign] digits [. digits] [e exponent]`, or one of the words for what is no number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = split_sign(text);
        if ["inf", "infinity"].iter().any(|word| unsigned.eq_ignore_ascii_case(word)) {
            return Some(if negative { Self::NegativeInfinity } else { Self::Infinity });
        }
        if text.eq_ignore_ascii_case("nan") {
            return Some(Self::NaN);
        }
        Finite::parse(negative, unsigned).map(Self::Finite)
    }

    fn rank(&self) -> u8 {
        match self {
            Self::NegativeInfinity => 0,
            Self::Finite(_) => 1,
            Self::Infinity => 2,
            Self::NaN => 3,
        }
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Finite(one), Self::Finite(another)) => one.cmp(another),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Finite {
    fn parse(negative: bool, unsigned: &str) -> Option<Self> {
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let digits = [whole, fraction].concat();
        let significant = digits.trim_start_matches('0');
        let leading_zeros = i64::try_from(digits.len() - significant.len()).ok()?;
        let point = i64::try_from(whole.len()).ok()? - leading_zeros + exponent;
        let digits = significant.trim_end_matches('0');
        if digits.is_empty() {
            return Some(Self { negative: false, point: 0, digits: [].into() });
        }
        Some(Self { negative, point, digits: digits.as_bytes().into() })
    }

    /// Whether it is zero, of whatever sign.
    pub(super) fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// -1, 0 or 1.
    fn sign(&self) -> i8 {
        match (self.digits.is_empty(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }
}

impl Ord for Finite {
    fn cmp(&self, other: &Self) -> Ordering {
        let size = || self.point.cmp(&other.point).then_with(|| self.digits.cmp(&other.digits));
        self.sign().cmp(&other.sign()).then_with(|| if self.negative { size().reverse() } else { size() })
    }
}

impl PartialOrd for Finite {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whether the text has a minus, and what follows the sign.
pub(super) fn split_sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn parse_exponent(text: &str) -> Option<i64> {
    let (_, digits) = split_sign(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|exponent: &i64| is_number && exponent.abs() <= EXPONENT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn they_are_ordered_by_value() {
        let ordered = [
            "-infinity",
            "-1e100",
            "-10",
            "-9.5",
            "-1",
            "-0.1",
            "-0.0001",
            "0",
            "0.00001",
            "0.1",
            "0.11",
            "0.9",
            "1",
            "1.0000000000000000000000000000001",
            "9",
            "10",
            "99.9",
            "100",
            "12345678901234567890",
            "1e100",
            "Inf",
            "NaN",
        ];
        for (index, one) in ordered.iter().enumerate() {
            for (place, another) in ordered.iter().enumerate() {
                assert_eq!(decimal(one).cmp(&decimal(another)), index.cmp(&place), "{one} and {another}");
            }
        }
    }

    #[test]
    fn one_value_has_one_form() {
        for same in
            [&["1", "1.0", "01", "+1", "10e-1", "0.1E+1", "1."][..], &["0", "-0", "0.00", ".0", "0e5"], &["nan", "NaN"]]
        {
            for one in same {
                assert_eq!(decimal(one), decimal(same[0]), "{one}");
            }
        }
    }

    #[test]
    fn what_is_no_plain_number_is_refused() {
        for text in
            ["", ".", "-", "1e", "e1", "1e5000", "0x1F", "1_000", " 1", "1 ", "1.2.3", "--1", "-nan", "½", "1e+-1"]
        {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
    }
}
