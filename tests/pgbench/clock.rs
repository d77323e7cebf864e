//! The time of events, which is this machine's.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// A timestamp such as `2026-11-21T04:46:25.333485Z`, in microseconds since 1970.
pub(crate) fn parse_us(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let days = days(number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let seconds = number(11, 13)? * 3_600 + number(14, 16)? * 60 + number(17, 19)?;
    let fraction = text.get(19..).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
    let digits: String = fraction.chars().take_while(char::is_ascii_digit).take(6).collect();
    let micros = format!("{digits:0<6}").parse::<i64>().ok()?;
    Some((days * 86_400 + seconds) * 1_000_000 + micros)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counting years from March so that leap days come last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let shifted = (month + 9) % 12;
    let year = year - i64::from(month < 3);
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (shifted * 306 + 5) / 10 + day
        - 1
        - 719_468
}

#[test]
fn timestamps_are_read() {
    assert_eq!(parse_us("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(parse_us("2026-11-21T04:46:25.333485Z"), Some(1_795_236_385_333_485));
    assert_eq!(parse_us("2000-02-29T12:00:00.5+00:00"), Some(951_825_600_500_000));
    assert_eq!(parse_us("soon"), None);
}
