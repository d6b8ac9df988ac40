//! Durations as Go writes them (`30s`, `1h2m`, `1.5s`, `0`), and times of day as the API does.

use std::time::Duration;

use jiff::Timestamp;

/// Reads a Go duration; negative ones too, as seconds below zero are for validation to refuse. Nanoseconds.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..unit_len] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        rest = &rest[unit_len..];
        total += number * unit;
    }
    // Go holds a duration in 63 bits of nanoseconds.
    (total < 9.2e18).then_some(sign * total as i64)
}

/// A duration of so many nanoseconds; zero if it is negative.
pub(super) fn from_nanoseconds(nanoseconds: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or_default())
}

/// Reads a time as `2026-11-22T10:00:00.5Z` or `2026-11-22T11:00:00+01:00` (RFC 3339): since 1970 began, UTC.
pub(super) fn parse_time(text: &str) -> Option<Duration> {
    // Elsewhere seconds may be missing.
    let has_seconds = text.as_bytes().get(16) == Some(&b':');
    let time = text.parse::<Timestamp>().ok().filter(|_| has_seconds)?;
    Duration::try_from(time.as_duration()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_of_the_api() {
        let millis = |text: &str| parse_time(text).map(|time| time.as_millis());
        assert_eq!(millis("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(millis("2027-01-15T08:00:00.25Z"), Some(1_800_000_000_250));
        assert_eq!(millis("2027-01-15T09:30:00+01:30"), Some(1_800_000_000_000));
        assert_eq!(millis("2027-01-15T07:00:00-01:00"), Some(1_800_000_000_000));
        assert_eq!(millis("2024-03-01T00:00:00Z"), Some(1_709_251_200_000));
        for bad in [
            "",
            "now",
            "2027-01-15",
            "2027-13-01T00:00:00Z",
            "2027-01-15T08:00Z",
            "2027-01-15T08:00:00",
            "2027-01-15T08:00:00.xZ",
            "2027-01-15T08:00:00.5e400Z",
            "2027-01-15T08:00:00.1e19Z",
            "2027-01-15T9223372036854775807:00:00Z",
            "2027-01-15T08:00:00+9223372036854775807:00",
            "2027-02-30T08:00:00Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn reads_what_go_reads() {
        let seconds = |text: &str| parse(text).map(|ns| ns as f64 / 1e9);
        assert_eq!(seconds("30s"), Some(30.0));
        assert_eq!(seconds("1h2m"), Some(3720.0));
        assert_eq!(seconds("1h2m3.5s"), Some(3723.5));
        assert_eq!(seconds("250ms"), Some(0.25));
        assert_eq!(seconds("0s"), Some(0.0));
        assert_eq!(seconds("0"), Some(0.0));
        assert_eq!(seconds("-1s"), Some(-1.0));
        assert_eq!(seconds(".5s"), Some(0.5));
        for bad in ["", "30", "s", "1x", "1s1", "-", "1 s", "1..5s", "99999999999h"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
