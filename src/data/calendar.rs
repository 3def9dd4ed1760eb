//! Days to dates and back, in the proleptic Gregorian calendar that databases use.
//!
//! Owns: the arithmetic, over PostgreSQL's whole range. Never: text.

/// Days from 0000-03-01 to 2000-01-01.
const EPOCH_DAYS: i64 = 730_425;
/// Days of 400 years.
const ERA_DAYS: i64 = 146_097;

/// Year (0 is 1 BC), month and day of a number of days since 2000-01-01.
///
/// Counts years from 1 March, so that the leap day is the last of its year.
pub(crate) fn date_of(days: i64) -> (i64, i64, i64) {
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
}
