//! Times of day as text.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A time of day, given since 1970 began (UTC), as RFC 3339 writes it with nanoseconds: `2026-11-22T10:00:00.000000001Z`.
pub fn rfc3339(since_1970: Duration) -> String {
    let time = SignedDuration::try_from(since_1970).and_then(Timestamp::from_duration);
    format!("{:.9}", time.unwrap_or(Timestamp::MAX))
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
