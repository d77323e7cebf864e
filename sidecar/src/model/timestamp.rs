//! Moments as clients read them.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// A moment, shown as RFC 3339 in UTC with microseconds: `2026-01-31T12:00:00.000000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub SystemTime);

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

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

impl Timestamp {
    /// Reads RFC 3339, such as `2026-01-31T12:00:00.5+02:00`. Fractions are cut to microseconds; a leap second is the next
    /// one. `None`: it is written in another way, or there is no such moment.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let (year, month, day) = (number(date, 0, "0000-")?, number(date, 5, "00-")?, number(date, 8, "00")?);
        let time = rest.strip_prefix(['T', 't', ' '])?;
        let (hour, minute) = (number(time, 0, "00:")?, number(time, 3, "00:")?);
        let (second, rest) = (number(time, 6, "00")?, time.get(8..)?);
        let (micros, zone) = fraction(rest)?;
        let days = days_from_civil(year, month, day);
        let is_there = civil_from_days(days) == (year, month, day) && hour < 24 && minute < 60 && second <= 60;
        let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset(zone)?;
        is_there.then(|| Self::at(seconds, micros))
    }

    fn at(seconds: i64, micros: u64) -> Self {
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let epoch = SystemTime::UNIX_EPOCH;
        let start = if seconds < 0 { epoch - distance } else { epoch + distance };
        Self(start + Duration::from_micros(micros))
    }
}

/// The number at a place that is written in this form, a `0` for each digit.
fn number(text: &str, place: usize, form: &str) -> Option<i64> {
    let part = text.get(place..place + form.len())?;
    let fits =
        part.bytes().zip(form.bytes()).all(|(c, form)| if form == b'0' { c.is_ascii_digit() } else { c == form });
    fits.then(|| part.trim_end_matches(['-', ':']).parse().ok()).flatten()
}

/// Microseconds, and what follows them.
fn fraction(text: &str) -> Option<(u64, &str)> {
    let Some(digits) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let end = digits.find(|c: char| !c.is_ascii_digit())?;
    let (digits, zone) = digits.split_at(end);
    let micros = format!("{:0<6}", digits.get(..6).unwrap_or(digits)).parse().ok()?;
    (end > 0).then_some((micros, zone))
}

/// How far local time is ahead, in seconds.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (sign, ahead) = if let Some(rest) = zone.strip_prefix('-') { (-1, rest) } else { (1, zone.strip_prefix('+')?) };
    let (hours, minutes) = (number(ahead, 0, "00:")?, number(ahead, 3, "00")?);
    (ahead.len() == 5 && hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
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

/// The other way round.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
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

    #[test]
    fn what_is_shown_is_read() {
        for micros in
            [0, -1, 951_782_400_000_000, 1_798_761_599_123_456, -62_135_596_800_000_000, 253_402_300_799_999_999]
        {
            let distance = Duration::from_micros(i64::unsigned_abs(micros));
            let at = if micros < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance };
            assert_eq!(Timestamp::parse(&Timestamp(at).to_string()), Some(Timestamp(at)));
        }
        let noon = Timestamp::parse("2026-01-31T12:00:00Z");
        for same in ["2026-01-31t14:00:00.000+02:00", "2026-01-31 11:30:00.0000009-00:30", "2026-01-31T11:59:60z"] {
            assert_eq!(Timestamp::parse(same), noon, "{same}");
        }
        assert!(Timestamp::parse("0000-01-01T00:00:00+23:59").is_some());
    }

    #[test]
    fn what_is_no_moment_is_not_read() {
        for text in [
            "",
            "now",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00:00.Z",
            "2026-1-31T12:00:00Z",
            "2026-01-31T12:00:00+2",
            "2026-01-31T12:00:00+02:00x",
            "2026-02-29T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-00-01T12:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:60:00Z",
            "2026-01-31T12:00:61Z",
            "2026-01-31T12:00:00+24:00",
            "+026-01-31T12:00:00Z",
            "2026-01-31T12:00:00Zé",
            "é026-01-31T12:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
