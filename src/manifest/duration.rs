//! Durations as Go writes them (`30s`, `1h2m`, `1.5s`, `0`), and times of day as the API does.

use std::time::Duration;

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
    let (date, time) = text.split_once('T')?;
    let zone_at = time.find(['Z', '+', '-'])?;
    let (time, zone) = time.split_at(zone_at);
    let mut date = date.splitn(3, '-').map(|part| part.parse::<u32>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let ahead = match zone.split_at_checked(1)? {
        ("Z", "") => 0,
        (sign, offset) => {
            let (hours, minutes) = offset.split_once(':')?;
            let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            if sign == "-" { -seconds } else { seconds }
        }
    };
    let is_leap =
        |year: u32| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30];
    let days = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum::<i64>()
        + months.iter().zip(1..month).map(|(days, _)| days).sum::<i64>()
        + i64::from(day - 1);
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - ahead;
    let fraction = Duration::from_secs_f64(format!("0.{fraction}").parse().ok()?);
    Some(Duration::from_secs(u64::try_from(seconds).ok()?) + fraction)
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
