//! Times of day as text.

use std::time::Duration;

/// A time of day, given since 1970 began (UTC), as RFC 3339 writes it with nanoseconds: `2026-11-22T10:00:00.000000001Z`.
pub fn rfc3339(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let nanos = since_1970.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Year, month and day of the n-th day since 1970 began.
fn date(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    while days >= days_of_year(year) {
        days -= days_of_year(year);
        year += 1;
    }
    let february = if days_of_year(year) == 366 { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

fn days_of_year(year: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if is_leap { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_over_leap_years() {
        let day = |n: u64| rfc3339(Duration::from_secs(n * 86_400))[..10].to_owned();
        assert_eq!(rfc3339(Duration::new(1_800_000_000, 7)), "2027-01-15T08:00:00.000000007Z");
        assert_eq!(day(0), "1970-01-01");
        assert_eq!([day(789), day(790)], ["1972-02-29", "1972-03-01"]);
        assert_eq!([day(11_016), day(11_017)], ["2000-02-29", "2000-03-01"]);
        assert_eq!([day(47_540), day(47_541)], ["2100-02-28", "2100-03-01"]);
    }
}
