//! Times as RFC 3339 writes them and as Go's `time.Parse` reads them.
//!
//! Knows the calendar; knows nothing of records, and reads no clock.

use crate::time::SystemTime;

/// A second, in the unit of Go's times.
const NANOSECONDS: i128 = 1_000_000_000;

/// Returns the nanoseconds from 1970 to a time of the wall clock.
pub(super) fn nanoseconds(wall: SystemTime) -> i128 {
    let of = |duration: std::time::Duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
    match wall.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => of(since),
        Err(before) => -of(before.duration()),
    }
}

/// Returns the nanoseconds from 1970 to the time that was written down.
///
/// Go takes more than RFC 3339 does: an hour of one digit, 24 as an hour of the day and of an offset, 60 as a minute of an
/// offset, a comma in place of the point, and any number of fractional digits, of which it reads nine. It takes less,
/// too: no small letters, no 60th second.
pub(super) fn parse(text: &[u8]) -> Option<i128> {
    let mut text = Text { rest: text };
    let year = i64::from(text.two_digits()?) * 100 + i64::from(text.two_digits()?);
    text.expect(b'-')?;
    let month = text.two_digits().filter(|month| (1..=12).contains(month))?;
    text.expect(b'-')?;
    let day = text.two_digits().filter(|day| (1..=days_in(month, year)).contains(day))?;
    text.expect(b'T')?;
    let hour = text.two_digits().or_else(|| text.digit()).filter(|hour| *hour <= 24)?;
    text.expect(b':')?;
    let minute = text.two_digits().filter(|minute| *minute < 60)?;
    text.expect(b':')?;
    let second = text.two_digits().filter(|second| *second < 60)?;
    let fraction = text.fraction();
    let offset = text.offset()?;
    if !text.rest.is_empty() {
        return None;
    }
    let minutes = (days_before(year, month) + i64::from(day - 1)) * 24 * 60 + minutes(hour, minute) - offset;
    Some(i128::from(minutes * 60 + i64::from(second)) * NANOSECONDS + i128::from(fraction))
}

struct Text<'a> {
    rest: &'a [u8],
}

impl Text<'_> {
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[byte])?;
        Some(())
    }

    fn digit(&mut self) -> Option<u8> {
        let (digit, rest) = self.rest.split_first().filter(|(digit, _)| digit.is_ascii_digit())?;
        self.rest = rest;
        Some(digit - b'0')
    }

    /// Takes two digits, or nothing.
    fn two_digits(&mut self) -> Option<u8> {
        let before = self.rest;
        let digits = self.digit().and_then(|tens| Some(10 * tens + self.digit()?));
        if digits.is_none() {
            self.rest = before;
        }
        digits
    }

    /// Takes a fraction of a second, if there is one, and returns its nanoseconds.
    fn fraction(&mut self) -> u32 {
        let mut nanoseconds = 0;
        if let [b'.' | b',', digits @ ..] = self.rest
            && digits.first().is_some_and(u8::is_ascii_digit)
        {
            self.rest = digits;
            let mut unit = 100_000_000;
            while let Some(digit) = self.digit() {
                nanoseconds += unit * u32::from(digit);
                unit /= 10;
            }
        }
        nanoseconds
    }

    /// Takes what the clock was ahead of UTC, and returns it in minutes.
    fn offset(&mut self) -> Option<i64> {
        if self.expect(b'Z').is_some() {
            return Some(0);
        }
        let sign = match self.expect(b'+') {
            Some(()) => 1,
            None => self.expect(b'-').map(|()| -1)?,
        };
        let hour = self.two_digits().filter(|hour| *hour <= 24)?;
        self.expect(b':')?;
        let minute = self.two_digits().filter(|minute| *minute <= 60)?;
        Some(sign * minutes(hour, minute))
    }
}

fn minutes(hour: u8, minute: u8) -> i64 {
    i64::from(hour) * 60 + i64::from(minute)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(month: u8, year: i64) -> u8 {
    match month {
        2 => 28 + u8::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns the days from 1970 to the first of a month of a year from 0 on.
fn days_before(year: i64, month: u8) -> i64 {
    // The year 0 is a leap year.
    let leap_years = (year + 3) / 4 - (year + 99) / 100 + (year + 399) / 400;
    let days = year * 365 + leap_years - 719_528;
    days + (1..month).map(|month| i64::from(days_in(month, year))).sum::<i64>()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rng::cases::cases;

    #[test]
    fn times_are_read_as_go_reads_them() {
        let at = |seconds: i128| Some(seconds * NANOSECONDS);
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", at(0)),
            ("1970-01-01T00:00:00+00:00", at(0)),
            ("2001-09-09T01:46:40Z", at(1_000_000_000)),
            ("2100-01-01T00:00:00Z", at(4_102_444_800)),
            ("2000-02-29T23:59:59Z", at(951_868_799)),
            ("9999-12-31T23:59:59Z", at(253_402_300_799)),
            ("0000-01-01T00:00:00Z", at(-62_167_219_200)),
            ("0001-01-01T00:00:00Z", at(-62_135_596_800)),
            ("1969-12-31T23:59:59.5Z", Some(-NANOSECONDS / 2)),
            ("1970-01-01T00:00:00.000000001Z", Some(1)),
            ("1970-01-01T00:00:00,000000001Z", Some(1)),
            ("1970-01-01T00:00:00.0000000019999Z", Some(1)),
            ("1970-01-01T01:00:00+01:00", at(0)),
            ("1969-12-31T12:30:00-11:30", at(0)),
            ("1970-01-01T00:00:00-24:60", at(25 * 3600)),
            ("1970-01-01T24:00:00Z", at(24 * 3600)),
            ("1970-01-01T1:00:00Z", at(3600)),
            ("1970-01-01T25:00:00Z", None),
            ("1970-01-01T:00:00Z", None),
            ("1970-01-01T00:60:00Z", None),
            ("1970-01-01T00:00:60Z", None),
            ("1970-01-01T00:0:00Z", None),
            ("1970-01-01T00:00:00", None),
            ("1970-01-01T00:00:00.Z", None),
            ("1970-01-01T00:00:00ZZ", None),
            ("1970-01-01T00:00:00z", None),
            ("1970-01-01t00:00:00Z", None),
            ("1970-01-01 00:00:00Z", None),
            ("1970-01-01T00:00:00+25:00", None),
            ("1970-01-01T00:00:00+00:61", None),
            ("1970-01-01T00:00:00+0000", None),
            ("1970-01-01T00:00:00+1:00", None),
            ("1970-01-01T00:00:00 00:00", None),
            ("1970-00-01T00:00:00Z", None),
            ("1970-13-01T00:00:00Z", None),
            ("1970-1-01T00:00:00Z", None),
            ("1970-01-00T00:00:00Z", None),
            ("1970-01-32T00:00:00Z", None),
            ("1970-02-29T00:00:00Z", None),
            ("1900-02-29T00:00:00Z", None),
            ("1970-04-31T00:00:00Z", None),
            ("+970-01-01T00:00:00Z", None),
            ("19700-01-01T00:00:00Z", None),
            ("tomorrow", None),
            ("", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut expected = parse(b"0000-01-01T00:00:00Z").unwrap();
        for year in 0..10_000 {
            for month in 1..=12 {
                let first = format!("{year:04}-{month:02}-01T00:00:00Z");
                assert_eq!(parse(first.as_bytes()), Some(expected), "{first}");
                let days = i128::from(days_in(month, year));
                let last = format!("{year:04}-{month:02}-{days:02}T24:00:00Z");
                expected += days * 24 * 3600 * NANOSECONDS;
                assert_eq!(parse(last.as_bytes()), Some(expected), "{last}");
            }
        }
    }

    #[test]
    fn the_wall_clock_may_stand_before_1970() {
        let second = Duration::from_secs(1);
        assert_eq!(nanoseconds(SystemTime::UNIX_EPOCH + second), NANOSECONDS);
        assert_eq!(nanoseconds(SystemTime::UNIX_EPOCH - second), -NANOSECONDS);
    }

    #[test]
    fn no_bytes_panic() {
        cases(256, |rng| {
            assert_eq!(parse(&rng.bytes(40)), None);
            let mut digit = || char::from(b'0' + rng.byte() % 10);
            let mut text: String =
                "yyyy-mm-ddT".chars().map(|c| if c.is_ascii_lowercase() { digit() } else { c }).collect();
            for _ in 0..rng.within(8..21) {
                text.push(char::from(b"0123456789:.,Z+-"[rng.place(16)]));
            }
            let _ = parse(text.as_bytes());
        });
    }
}
