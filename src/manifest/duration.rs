//! Durations as Go writes them: `30s`, `1h2m`, `1.5s`, `0`.

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

#[cfg(test)]
mod tests {
    use super::*;

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
