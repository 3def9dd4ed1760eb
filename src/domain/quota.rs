//! What a tenant may use over time, and what it has used.

use std::{fmt, ops::AddAssign, str::FromStr};

use chrono::{Datelike as _, NaiveDate};
use serde::{Deserialize, Serialize};

/// Most requests per second that can be granted: beyond this a host's own limits are what counts.
pub const REQUESTS_PER_SECOND_MAX: u32 = 1_000_000;

/// What an operator grants a tenant. What is absent is not limited but by the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    /// Requests that are answered in a second, by each host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// Handlers that run at once, on each host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Units of fuel that handlers use in a day (UTC), on all hosts together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel_per_day: Option<u64>,
    /// Bytes that are kept for the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_bytes: Option<u64>,
    /// Scripts that there may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scripts: Option<u32>,
}

impl Quotas {
    /// Refuses what cannot be kept.
    ///
    /// # Errors
    /// Says which quota cannot be, and why.
    pub fn validated(self) -> Result<Self, String> {
        match self.requests_per_second {
            Some(rate) if rate > REQUESTS_PER_SECOND_MAX => {
                Err(format!("`requests_per_second` is at most {REQUESTS_PER_SECOND_MAX}, not {rate}"))
            }
            Some(_) | None => Ok(self),
        }
    }
}

/// Which quota is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// [`Quotas::requests_per_second`].
    RequestsPerSecond,
    /// [`Quotas::fuel_per_day`].
    FuelPerDay,
    /// [`Quotas::storage_bytes`].
    StorageBytes,
    /// [`Quotas::scripts`].
    Scripts,
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestsPerSecond => "requests_per_second",
            Self::FuelPerDay => "fuel_per_day",
            Self::StorageBytes => "storage_bytes",
            Self::Scripts => "scripts",
        })
    }
}

/// A tenant has used what it was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenant's quota `{quota}` of {limit} is used up")]
pub struct UsedUp {
    /// Which quota.
    pub quota: Quota,
    /// What was granted.
    pub limit: u64,
}

/// What a tenant has used in some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests that were let in.
    pub requests: u64,
    /// Those of them that were answered with 500 or more.
    pub failed: u64,
    /// Requests that a quota turned away; not among `requests`.
    pub refused: u64,
    /// Units of fuel.
    pub fuel: u64,
    /// Time that handlers took, waiting included.
    pub duration_us: u64,
    /// Rows read from databases.
    pub rows: u64,
    /// Bytes of bodies that were answered.
    pub answer_bytes: u64,
}

impl Usage {
    /// A request that was let in and answered with this status.
    #[must_use]
    pub fn of_request(status: u16) -> Self {
        Self { requests: 1, failed: u64::from(status >= 500), ..Self::default() }
    }

    /// A request that a quota turned away.
    #[must_use]
    pub fn of_refusal() -> Self {
        Self { refused: 1, ..Self::default() }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        let Self { requests, failed, refused, fuel, duration_us, rows, answer_bytes } = other;
        for (sum, more) in [
            (&mut self.requests, requests),
            (&mut self.failed, failed),
            (&mut self.refused, refused),
            (&mut self.fuel, fuel),
            (&mut self.duration_us, duration_us),
            (&mut self.rows, rows),
            (&mut self.answer_bytes, answer_bytes),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// A day in UTC, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i64);

/// Seconds of a day.
const DAY_SECONDS: u64 = 86_400;

impl Day {
    /// The day of a time in seconds since 1970.
    #[must_use]
    pub fn of(seconds: u64) -> Self {
        Self(i64::try_from(seconds / DAY_SECONDS).unwrap_or(i64::MAX))
    }

    /// How many seconds after this time the next day begins, in seconds.
    #[must_use]
    pub fn seconds_left(seconds: u64) -> u64 {
        DAY_SECONDS - seconds % DAY_SECONDS
    }
}

impl From<NaiveDate> for Day {
    fn from(date: NaiveDate) -> Self {
        Self(i64::from(date.to_epoch_days()))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match i32::try_from(self.0).ok().and_then(NaiveDate::from_epoch_days) {
            Some(date) => write!(f, "{}", date.format("%Y-%m-%d")),
            None => write!(f, "day {}", self.0),
        }
    }
}

/// A month, `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Month {
    first: NaiveDate,
}

/// A text that is no month.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write a month as YYYY-MM, for example 2026-11")]
pub struct InvalidMonth;

impl Month {
    /// The month of a day; `None` for one that no calendar has.
    #[must_use]
    pub fn of(day: Day) -> Option<Self> {
        let date = i32::try_from(day.0).ok().and_then(NaiveDate::from_epoch_days)?;
        date.with_day(1).map(|first| Self { first })
    }

    /// Its first day, and that of the month behind it.
    #[must_use]
    pub fn days(self) -> (Day, Day) {
        let next = self.first.checked_add_months(chrono::Months::new(1)).unwrap_or(NaiveDate::MAX);
        (self.first.into(), next.into())
    }
}

impl FromStr for Month {
    type Err = InvalidMonth;

    fn from_str(text: &str) -> Result<Self, InvalidMonth> {
        // chrono would take signs and spaces.
        let is_plain = text.len() == 7
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        let first = is_plain.then(|| NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").ok()).flatten();
        first.map(|first| Self { first }).ok_or(InvalidMonth)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first.format("%Y-%m"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_written_one_way_and_have_the_days_of_the_calendar() {
        for (text, n_days) in [("2026-11", 30), ("2024-02", 29), ("2026-02", 28), ("1970-01", 31), ("9999-12", 31)] {
            let month: Month = text.parse().unwrap();
            let (first, next) = month.days();
            assert_eq!((month.to_string().as_str(), next.0 - first.0), (text, n_days));
            assert_eq!((Month::of(first), first.to_string()), (Some(month), format!("{text}-01")));
        }
        for text in [
            "",
            "2026",
            "2026-1",
            "2026-13",
            "2026-00",
            "26-11",
            "+026-11",
            "2026-11-01",
            "2026/11",
            " 026-11",
            "２026-11",
        ] {
            assert_eq!(text.parse::<Month>(), Err(InvalidMonth), "{text}");
        }
        assert_eq!(Month::of(Day(i64::MAX)), None);
    }

    #[test]
    fn a_day_ends_at_midnight() {
        assert_eq!((Day::of(0), Day::seconds_left(0)), (Day(0), 86_400));
        assert_eq!((Day::of(86_399), Day::seconds_left(86_399)), (Day(0), 1));
        assert_eq!(Day::of(86_400), Day(1));
        assert_eq!(Day::of(u64::MAX).to_string(), format!("day {}", u64::MAX / 86_400));
    }

    #[test]
    fn sums_of_usage_do_not_overflow() {
        let mut sum = Usage { fuel: u64::MAX - 1, ..Usage::of_request(503) };
        sum += Usage { fuel: 2, ..Usage::of_request(200) };
        sum += Usage::of_refusal();
        assert_eq!(sum, Usage { requests: 2, failed: 1, refused: 1, fuel: u64::MAX, ..Usage::default() });
    }

    #[test]
    fn quotas_are_kept_as_json_whatever_they_are() {
        let quotas = Quotas { fuel_per_day: Some(u64::MAX), scripts: Some(0), ..Quotas::default() };
        let json = serde_json::to_string(&quotas).unwrap();
        assert_eq!(json, format!(r#"{{"fuel_per_day":{},"scripts":0}}"#, u64::MAX));
        assert_eq!(serde_json::from_str::<Quotas>(&json).unwrap(), quotas);
        assert_eq!(serde_json::from_str::<Quotas>("{}").unwrap(), Quotas::default());
        let too_many = Quotas { requests_per_second: Some(u32::MAX), ..Quotas::default() };
        assert!(too_many.validated().unwrap_err().starts_with("`requests_per_second`"));
    }
}
