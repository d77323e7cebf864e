//! Dates and times as numbers, for comparing only.
//!
//! One grammar reads the database's own texts and the clients' literals. Literals are held to the narrow forms that mean
//! the same under every setting of the server: `now`, month names, two-digit years and local times do not.

use super::decimal::split_sign;

/// Later than every moment.
pub(super) const INFINITY: i128 = i128::MAX;
/// Earlier than every moment.
pub(super) const NEGATIVE_INFINITY: i128 = i128::MIN;

const SECOND_US: i128 = 1_000_000;
const MINUTE_US: i128 = 60 * SECOND_US;
const HOUR_US: i128 = 60 * MINUTE_US;
pub(super) const DAY_US: i128 = 24 * HOUR_US;
const DAYS_A_MONTH: i128 = 30;
/// Largest number in a literal interval: far from where Postgres would call it out of range.
const INTERVAL_NUMBER_MAX: i128 = 1_000_000;

/// Who wrote the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// The database: any year, `BC`.
    Database,
    /// A client: years 0001 to 9999.
    Client,
}

/// Whether a time of day stands with a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zone {
    Absent,
    Required,
}

/// Days since 1970-01-01.
pub(super) fn date(text: &str, writer: Writer) -> Option<i128> {
    infinite(text).or_else(|| {
        let (text, is_bc) = split_era(text, writer);
        let mut reader = Reader(text);
        let days = reader.days(writer, is_bc)?;
        reader.0.is_empty().then_some(days)
    })
}

/// Microseconds since 1970-01-01 00:00, in UTC when there is a zone.
pub(super) fn timestamp(text: &str, writer: Writer, zone: Zone) -> Option<i128> {
    infinite(text).or_else(|| {
        let (text, is_bc) = split_era(text, writer);
        let mut reader = Reader(text);
        let days = reader.days(writer, is_bc)?;
        let is_midnight = reader.0.is_empty() && zone == Zone::Absent;
        let time = if is_midnight { 0 } else { reader.time_after_date()? };
        let offset = if zone == Zone::Required { reader.offset()? } else { 0 };
        (reader.0.is_empty() && time < DAY_US).then_some(days * DAY_US + time - offset)
    })
}

/// Microseconds since midnight.
pub(super) fn time(text: &str) -> Option<i128> {
    let mut reader = Reader(text);
    let time = reader.time()?;
    reader.0.is_empty().then_some(time)
}

/// Microseconds, with months of thirty days: what Postgres compares intervals by.
pub(super) fn interval(text: &str, writer: Writer) -> Option<i128> {
    if writer == Writer::Database
        && let Some(infinite) = infinite(text)
    {
        return Some(infinite);
    }
    let mut words = text.split(' ').peekable();
    let (mut total, mut seen) = (0, 0_u8);
    while let Some(word) = words.next() {
        let (amount, fields) = if word.contains(':') && words.peek().is_none() {
            (span(word, writer)?, TIME_FIELDS)
        } else {
            let (unit_us, field) = unit(words.next()?, writer)?;
            (bounded(integer(word)?, writer)? * unit_us, field)
        };
        if seen & fields != 0 {
            return None;
        }
        seen |= fields;
        total += amount;
    }
    Some(total)
}

fn infinite(text: &str) -> Option<i128> {
    match text {
        "infinity" => Some(INFINITY),
        "-infinity" => Some(NEGATIVE_INFINITY),
        _ => None,
    }
}

fn split_era(text: &str, writer: Writer) -> (&str, bool) {
    match text.strip_suffix(" BC") {
        Some(rest) if writer == Writer::Database => (rest, true),
        _ => (text, false),
    }
}

/// What is left to read.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn eat(&mut self, letter: char) -> Option<()> {
        self.0 = self.0.strip_prefix(letter)?;
        Some(())
    }

    fn digits(&mut self, min: usize, max: usize) -> Option<&str> {
        let length = self.0.bytes().take_while(u8::is_ascii_digit).count();
        if length < min || length > max {
            return None;
        }
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(digits)
    }

    fn number(&mut self, min: usize, max: usize) -> Option<i128> {
        self.digits(min, max)?.parse().ok()
    }

    /// Two digits below a limit.
    fn two_below(&mut self, limit: i128) -> Option<i128> {
        self.number(2, 2).filter(|number| *number < limit)
    }

    fn days(&mut self, writer: Writer, is_bc: bool) -> Option<i128> {
        let year = self.number(4, if writer == Writer::Database { 7 } else { 4 })?;
        self.eat('-')?;
        let month = self.number(2, 2)?;
        self.eat('-')?;
        let day = self.number(2, 2)?;
        // 1 BC is the year before 1.
        let year = if is_bc { 1 - year } else { year };
        let exists = (is_bc || year > 0) && (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
        exists.then(|| days_from_epoch(year, month, day))
    }

    fn time_after_date(&mut self) -> Option<i128> {
        self.0 = self.0.strip_prefix(['T', ' '])?;
        self.time()
    }

    fn time(&mut self) -> Option<i128> {
        let hours = self.two_below(25)?;
        self.eat(':')?;
        let minutes = self.two_below(60)?;
        let seconds = if self.eat(':').is_some() { self.seconds()? } else { 0 };
        let time = hours * HOUR_US + minutes * MINUTE_US + seconds;
        (time <= DAY_US).then_some(time)
    }

    /// Seconds with at most six digits behind the point: more would be rounded.
    fn seconds(&mut self) -> Option<i128> {
        let whole = self.two_below(60)? * SECOND_US;
        if self.eat('.').is_none() {
            return Some(whole);
        }
        let fraction = format!("{:0<6}", self.digits(1, 6)?);
        Some(whole + fraction.parse::<i128>().ok()?)
    }

    /// How far a zone is ahead of UTC.
    fn offset(&mut self) -> Option<i128> {
        if self.eat('Z').is_some() {
            return Some(0);
        }
        let (is_behind, rest) = split_sign(self.0);
        if rest.len() == self.0.len() {
            return None;
        }
        self.0 = rest;
        let hours = self.two_below(16)?;
        let minutes = if self.eat(':').is_some() { self.two_below(60)? } else { 0 };
        let ahead = hours * HOUR_US + minutes * MINUTE_US;
        Some(if is_behind { -ahead } else { ahead })
    }
}

fn is_leap(year: i128) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i128, month: i128) -> i128 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a day of the proleptic Gregorian calendar. Years are counted from March, so that the leap day
/// is a year's last.
fn days_from_epoch(year: i128, month: i128, day: i128) -> i128 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The fields that a time such as `04:05:06` fills.
const TIME_FIELDS: u8 = 0b111;

/// A unit's length in microseconds, and the bit of its field.
fn unit(word: &str, writer: Writer) -> Option<(i128, u8)> {
    Some(match (word, writer) {
        ("second" | "seconds" | "sec" | "secs", Writer::Client) => (SECOND_US, 0b1),
        ("minute" | "minutes" | "min" | "mins", Writer::Client) => (MINUTE_US, 0b10),
        ("hour" | "hours", Writer::Client) => (HOUR_US, 0b100),
        ("day" | "days", _) => (DAY_US, 0b1000),
        ("week" | "weeks", Writer::Client) => (7 * DAY_US, 0b1_0000),
        ("mon" | "mons" | "month" | "months", _) => (DAYS_A_MONTH * DAY_US, 0b10_0000),
        ("year" | "years", _) => (12 * DAYS_A_MONTH * DAY_US, 0b100_0000),
        _ => return None,
    })
}

/// A signed time of an interval: any number of hours.
fn span(word: &str, writer: Writer) -> Option<i128> {
    let (is_negative, unsigned) = split_sign(word);
    let mut reader = Reader(unsigned);
    let hours = bounded(reader.number(2, 12)?, writer)?;
    reader.eat(':')?;
    let minutes = reader.two_below(60)?;
    reader.eat(':')?;
    let seconds = reader.seconds()?;
    let length = hours * HOUR_US + minutes * MINUTE_US + seconds;
    reader.0.is_empty().then_some(if is_negative { -length } else { length })
}

fn integer(word: &str) -> Option<i128> {
    let (_, digits) = split_sign(word);
    let is_number = (1..=12).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|_| is_number)
}

fn bounded(number: i128, writer: Writer) -> Option<i128> {
    (writer == Writer::Database || number.abs() <= INTERVAL_NUMBER_MAX).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(text: &str) -> Option<i128> {
        timestamp(text, Writer::Database, Zone::Absent)
    }

    #[test]
    fn days_are_counted_from_1970() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("2000-03-01", 11_017),
            ("1969-12-31", -1),
            ("0001-01-01", -719_162),
            ("2000-02-29", 11_016),
            ("2024-02-29", 19_782),
        ] {
            assert_eq!(date(text, Writer::Client), Some(days), "{text}");
        }
        assert_eq!(date("0001-12-31 BC", Writer::Database), Some(-719_163));
        assert!(date("5874897-12-31", Writer::Database) > date("9999-12-31", Writer::Database));
        assert_eq!(date("-infinity", Writer::Client), Some(NEGATIVE_INFINITY));
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for text in [
            "2023-02-29",
            "1900-02-29",
            "2023-13-01",
            "2023-00-10",
            "2023-04-31",
            "0000-01-01",
            "23-01-01",
            "2023-1-1",
            "today",
            "now",
            "20230101",
            "2023-01-01 BC",
            "12023-01-01",
            "2023-01-01 ",
            "Jan 1 2023",
            "Infinity",
        ] {
            assert_eq!(date(text, Writer::Client), None, "{text}");
        }
    }

    #[test]
    fn timestamps_are_counted_from_1970() {
        for (text, us) in [
            ("1970-01-01T00:00:01.5", 1_500_000),
            ("1970-01-03T00:00:00", 2 * DAY_US),
            ("1969-12-31T23:59:59", -1_000_000),
        ] {
            assert_eq!(database(text), Some(us), "{text}");
        }
    }

    #[test]
    fn the_parts_of_an_interval_are_added() {
        let client = |text| interval(text, Writer::Client);
        for (text, us) in [
            ("2 days 03:00:00", 2 * DAY_US + 3 * HOUR_US),
            ("1 day -01:00:00", DAY_US - HOUR_US),
            ("5 minutes 7 secs", 5 * MINUTE_US + 7 * SECOND_US),
            ("2 weeks 1 hour", 14 * DAY_US + HOUR_US),
            ("1 year 1 mon", 13 * DAYS_A_MONTH * DAY_US),
        ] {
            assert_eq!(client(text), Some(us), "{text}");
        }
        assert_eq!(client("04:05:06 1 day"), None, "the time stands last");
        assert_eq!(interval("1000000000000 days", Writer::Database), None);
    }

    #[test]
    fn zones_move_a_timestamp() {
        let client = |text| timestamp(text, Writer::Client, Zone::Required);
        let noon = client("2026-02-28T12:00:00Z");
        assert!(noon.is_some());
        for same in [
            "2026-02-28 12:00Z",
            "2026-02-28T17:45:00+05:45",
            "2026-02-28 04:00:00.000-08",
            "2026-02-28T12:00:00+00:00",
        ] {
            assert_eq!(client(same), noon, "{same}");
        }
        for refused in [
            "2026-02-28T12:00:00",
            "2026-02-28",
            "2026-02-28T12:00+16",
            "2026-02-28T12:00 UTC",
            "2026-02-28T12:00+0100",
        ] {
            assert_eq!(client(refused), None, "{refused}");
        }
    }

    #[test]
    fn a_timestamp_without_zone_takes_none() {
        let client = |text| timestamp(text, Writer::Client, Zone::Absent);
        assert_eq!(client("2026-02-28"), client("2026-02-28 00:00"));
        assert_eq!(client("2026-02-28T12:34:56.7"), database("2026-02-28T12:34:56.700000"));
        for refused in [
            "2026-02-28T12:00Z",
            "2026-02-28T24:00",
            "2026-02-28T12:00:60",
            "2026-02-28T12:00:00.1234567",
            "2026-02-28T12",
        ] {
            assert_eq!(client(refused), None, "{refused}");
        }
        assert!(database("294276-12-31T23:59:59.999999") > database("9999-01-01T00:00:00"));
        assert!(database("4713-01-01T00:00:00 BC") < database("0001-01-01T00:00:00"));
    }

    #[test]
    fn a_day_may_end_at_24() {
        assert_eq!(time("24:00:00"), Some(DAY_US));
        assert_eq!(time("24:00:01"), None);
        assert_eq!(time("23:59:59.999999"), Some(DAY_US - 1));
        assert_eq!(time("01:02"), Some(HOUR_US + 2 * MINUTE_US));
        assert_eq!(time("1:02"), None);
    }

    #[test]
    fn intervals_are_compared_with_months_of_thirty_days() {
        let equal = |one: &str, another: &str| {
            assert_eq!(interval(one, Writer::Database), interval(another, Writer::Client), "{one} and {another}");
            assert!(interval(one, Writer::Database).is_some(), "{one}");
        };
        equal("1 mon", "30 days");
        equal("1 year 2 mons 3 days 04:05:06.7", "14 months 3 days 04:05:06.7");
        equal("-1 days +00:00:01", "-23:59:59");
        equal("00:00:00", "0 seconds");
        equal("7 days", "1 week");
        equal("1 day", "24 hours");
    }

    #[test]
    fn intervals_beyond_the_plain_forms_are_refused() {
        for text in [
            "",
            "1",
            "day",
            "1 fortnight",
            "1.5 days",
            "1 day 2 days",
            "1 hour 00:00:01",
            "P1D",
            "1 day ago",
            "infinity",
            "9999999 days",
            "04:05",
        ] {
            assert_eq!(interval(text, Writer::Client), None, "{text:?}");
        }
    }
}
