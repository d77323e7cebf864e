//! Moments as clients read them.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// A moment, shown as RFC 3339 in UTC with microseconds: `2026-01-31T12:00:00.000000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub SystemTime);

const MICROS_PER_SECOND: i128 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

impl Timestamp {
    /// Microseconds since 1970, negative before it.
    fn micros(self) -> i128 {
        let signed = |elapsed: Duration| i128::try_from(elapsed.as_micros()).unwrap_or(i128::MAX);
        match self.0.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(elapsed) => signed(elapsed),
            Err(before) => -signed(before.duration()),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.micros();
        let seconds = i64::try_from(micros.div_euclid(MICROS_PER_SECOND)).unwrap_or(i64::MAX);
        let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
        let second = seconds.rem_euclid(SECONDS_PER_DAY);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
            second / 3600,
            second / 60 % 60,
            second % 60,
            micros.rem_euclid(MICROS_PER_SECOND),
        )
    }
}

/// The proleptic Gregorian date of a day counted from 1970-01-01 (H. Hinnant's algorithm: years begin in March,
/// so that the leap day is the last of its year).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(micros: i64, expected: &str) {
        let distance = Duration::from_micros(micros.unsigned_abs());
        let at = if micros < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance };
        assert_eq!(Timestamp(at).to_string(), expected);
    }

    #[test]
    fn moments_are_rfc_3339_in_utc() {
        check(0, "1970-01-01T00:00:00.000000Z");
        check(-1, "1969-12-31T23:59:59.999999Z");
        check(951_782_400_000_000, "2000-02-29T00:00:00.000000Z");
        check(1_798_761_599_123_456, "2026-12-31T23:59:59.123456Z");
    }
}
