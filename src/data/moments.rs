//! Dates and times as ISO 8601 text, in the proleptic Gregorian calendar that databases use.
//!
//! Owns: the arithmetic, over PostgreSQL's whole range. Never: knows a database's wire form.

/// Days from 0000-03-01 to 2000-01-01.
const EPOCH_DAYS: i64 = 730_425;
/// Days of 400 years.
const ERA_DAYS: i64 = 146_097;

/// Year (0 is 1 BC), month and day of a number of days since 2000-01-01.
///
/// Counts years from 1 March, so that the leap day is the last of its year.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let era = days.div_euclid(ERA_DAYS);
    let day_of_era = days.rem_euclid(ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Days since 2000-01-01 as `2024-01-02`, without quotes. Years Python cannot hold are given as PostgreSQL prints them.
pub(crate) fn write_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = date_of(days);
    // Year 0 of the calculation is the year 1 BC.
    write_year(out, if year > 0 { year } else { 1 - year });
    out.push(b'-');
    write_two(out, month);
    out.push(b'-');
    write_two(out, day);
}

/// Microseconds since midnight as `03:04:05.123456`; without a fraction when there is none, as Python's `isoformat`.
pub(crate) fn write_time(out: &mut Vec<u8>, micros: i64) {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    write_two(out, seconds / 3600);
    out.push(b':');
    write_two(out, seconds / 60 % 60);
    out.push(b':');
    write_two(out, seconds % 60);
    if fraction != 0 {
        out.push(b'.');
        write_two(out, fraction / 10_000);
        write_two(out, fraction / 100 % 100);
        write_two(out, fraction % 100);
    }
}

/// Tells whether [`write_date`] needs ` BC` after the last part.
pub(crate) fn is_before_christ(days: i64) -> bool {
    date_of(days).0 <= 0
}

fn write_year(out: &mut Vec<u8>, year: i64) {
    if year < 10_000 {
        write_two(out, year / 100);
        write_two(out, year % 100);
        return;
    }
    out.extend_from_slice(itoa::Buffer::new().format(year).as_bytes());
}

/// Writes a number below 100 with two digits.
pub(crate) fn write_two(out: &mut Vec<u8>, number: i64) {
    out.push(digit(number / 10));
    out.push(digit(number));
}

fn digit(number: i64) -> u8 {
    b'0' + u8::try_from(number.rem_euclid(10)).expect("a remainder of 10 fits a byte")
}

/// A date, or a date and a time, as somebody wrote it: `2024-01-02`, `2024-01-02T03:04:05.5+02:00`. Dates of zeros, whole or in part, are
/// dates, too: MySQL has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment<'a> {
    date: &'a str,
    time: &'a str,
    /// Seconds east of Greenwich, if an offset is given.
    offset: Option<i32>,
}

impl<'a> Moment<'a> {
    /// Reads a moment; `None` for what is not one.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let (date, rest) = text.split_at_checked(10)?;
        let [year, month, day] = date.split('-').collect::<Vec<_>>()[..] else { return None };
        if year.len() != 4 || number(year)? > 9999 || number(month)? > 12 || number(day)? > 31 {
            return None;
        }
        let Some(rest) = rest.strip_prefix(['T', 't', ' ']) else {
            return rest.is_empty().then_some(Self { date, time: "", offset: None });
        };
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(rest.len());
        let (time, offset) = rest.split_at(end);
        if !is_time(time, 24) {
            return None;
        }
        let offset = if offset.is_empty() { None } else { Some(offset_of(offset.trim_start())?) };
        Some(Self { date, time, offset })
    }

    /// The date alone.
    pub(crate) fn date(&self) -> &'a str {
        self.date
    }

    /// Tells whether it has no time of day but midnight.
    pub(crate) fn is_date(&self) -> bool {
        self.offset.is_none() && self.time.chars().all(|c| matches!(c, '0' | ':' | '.'))
    }

    /// The moment in UTC without an offset: `2024-01-02 03:04:05.5`. Without an offset it is taken to be in UTC.
    pub(crate) fn in_utc(&self) -> String {
        let plain = if self.time.is_empty() { self.date.to_owned() } else { format!("{} {}", self.date, self.time) };
        let Some(offset) = self.offset.filter(|offset| *offset != 0) else { return plain };
        let format = match self.time.matches(':').count() {
            1 => "%Y-%m-%d %H:%M",
            _ => "%Y-%m-%d %H:%M:%S%.f",
        };
        // A date of zeros has no moment before or after it.
        match chrono::NaiveDateTime::parse_from_str(&plain, format) {
            Ok(local) => {
                let moment = local - chrono::TimeDelta::seconds(offset.into());
                moment.format("%Y-%m-%d %H:%M:%S%.f").to_string()
            }
            Err(_) => plain,
        }
    }
}

/// Tells whether a text is a span of time, as MySQL has them: `-838:59:59.5`.
pub(crate) fn is_span(text: &str) -> bool {
    is_time(text.strip_prefix('-').unwrap_or(text), 838)
}

/// Hours, minutes and perhaps seconds with a fraction.
fn is_time(text: &str, hours_max: u32) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let (hours, minutes, seconds) = match parts[..] {
        [hours, minutes] => (hours, minutes, "0"),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return false,
    };
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let is_below = |text: &str, max: u32| number(text).is_some_and(|number| number <= max);
    is_below(hours, hours_max)
        && is_below(minutes, 59)
        && is_below(seconds, 60)
        && !fraction.is_empty()
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
}

/// Seconds east of Greenwich: of `Z`, `+02:00`, `-0330`, `+02`.
fn offset_of(text: &str) -> Option<i32> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = text[1..].replace(':', "");
    let (hours, minutes) = match digits.len() {
        2 => (number(&digits)?, 0),
        4 => (number(digits.get(..2)?)?, number(digits.get(2..)?)?),
        _ => return None,
    };
    if hours > 15 || minutes > 59 {
        return None;
    }
    Some(sign * i32::try_from(hours * 3600 + minutes * 60).ok()?)
}

fn number(digits: &str) -> Option<u32> {
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, NaiveDate};

    use super::*;

    #[test]
    fn agrees_with_chrono_over_three_thousand_years() {
        let epoch = NaiveDate::from_ymd_opt(2000, 1, 1).unwrap();
        for days in (-730_500..365_000).step_by(17) {
            let date = epoch + chrono::TimeDelta::days(days);
            assert_eq!(date_of(days), (i64::from(date.year()), i64::from(date.month()), i64::from(date.day())));
        }
    }

    #[test]
    fn dates_and_times_are_iso() {
        let text = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        for (days, date) in
            [(0, "2000-01-01"), (-730_119, "0001-01-01"), (8767, "2024-01-02"), (2_921_940, "10000-01-01")]
        {
            assert_eq!(text(&|out| write_date(out, days)), date);
        }
        for (micros, time) in
            [(11_045_123_456, "03:04:05.123456"), (86_399_000_000, "23:59:59"), (5, "00:00:00.000005")]
        {
            assert_eq!(text(&|out| write_time(out, micros)), time);
        }
    }

    #[test]
    fn moments_are_read_and_brought_to_utc() {
        for (text, utc) in [
            ("2024-01-02", Some("2024-01-02")),
            ("2024-01-02T03:04", Some("2024-01-02 03:04")),
            ("2024-01-02 03:04:05.123456", Some("2024-01-02 03:04:05.123456")),
            ("2024-01-02T03:04:05Z", Some("2024-01-02 03:04:05")),
            ("2024-01-02T03:04:05+00:00", Some("2024-01-02 03:04:05")),
            ("2024-01-02T00:30:00.5+01:00", Some("2024-01-01 23:30:00.500")),
            ("2024-01-02T23:30-0330", Some("2024-01-03 03:00:00")),
            ("2024-01-02T03:04:05 +02", Some("2024-01-02 01:04:05")),
            ("0000-00-00", Some("0000-00-00")),
            ("2024-00-31T00:00:00", Some("2024-00-31 00:00:00")),
            ("never", None),
            ("", None),
            ("2024-13-01", None),
            ("2024-01-02T", None),
            ("2024-01-02T25:00", None),
            ("2024-01-02T03:04:05x", None),
            ("2024-01-02T03:04:05+99:00", None),
            ("2024-01-02T03:04:05.", None),
            ("24-01-02", None),
            ("٢٠٢٤-٠١", None),
        ] {
            assert_eq!(Moment::parse(text).map(|moment| moment.in_utc()).as_deref(), utc, "{text}");
        }
        for (text, is) in [
            ("838:59:59", true),
            ("-01:30:00.5", true),
            ("12:00", true),
            ("839:00:00", false),
            ("noon", false),
            ("1:2:3:4", false),
        ] {
            assert_eq!(is_span(text), is, "{text}");
        }
    }
}
