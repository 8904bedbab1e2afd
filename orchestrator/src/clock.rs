//! Dates as runc writes them: RFC 3339, UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, to the second, as in log lines.
pub fn now_seconds() -> String {
    let (date, _) = format_time(SystemTime::now());
    format!("{date}Z")
}

/// Now, with nanoseconds, as in state.json.
pub fn now_nanoseconds() -> String {
    let (date, nanoseconds) = format_time(SystemTime::now());
    format!("{date}.{nanoseconds:09}Z")
}

/// The time of day of a moment, nanoseconds since 1970, to the microsecond: `16:12:35.000001`.
pub fn of_day(nanoseconds: u64) -> String {
    let (date, nanoseconds) = format_time(UNIX_EPOCH + std::time::Duration::from_nanos(nanoseconds));
    let (_, time) = date.split_once('T').unwrap_or_default();
    format!("{time}.{:06}", nanoseconds / 1000)
}

fn format_time(time: SystemTime) -> (String, u32) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    (format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"), since.subsec_nanos())
}

/// The Gregorian date of a day counted from 1970-01-01. Years are counted from 1 March of year 0, so that the leap day is a
/// year's last.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{civil_date, of_day};

    #[test]
    fn moments_become_times_of_day() {
        assert_eq!(of_day(1_000_000_000_000_000_000 + 1_234_567), "01:46:40.001234");
    }

    #[test]
    fn days_become_dates_across_leap_years() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(11_017), (2000, 3, 1));
        assert_eq!(civil_date(20_783), (2026, 11, 26));
    }
}
