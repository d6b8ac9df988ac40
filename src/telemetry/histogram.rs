//! Counts of durations by how long they were, in the words of Prometheus.

use std::fmt::Write as _;
use std::time::Duration;

/// Upper bounds of 15 buckets, in seconds: a millisecond, and each the double of the one before.
fn bounds() -> impl Iterator<Item = f64> {
    (0..15).map(|k| 0.001 * f64::from(1u32 << k))
}

/// How often something took how long (buckets D of reference section 6.6).
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Histogram {
    /// By bucket, those of smaller buckets not counted in.
    counts: [u64; 16],
    seconds: f64,
}

impl Histogram {
    /// Counts one.
    pub(super) fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = bounds().position(|bound| seconds <= bound).unwrap_or(15);
        self.counts[bucket] += 1;
        self.seconds += seconds;
    }

    /// Writes it with labels as `ip_family="IPv4"`.
    pub(super) fn write(&self, out: &mut String, name: &str, labels: &str) {
        let mut total = 0;
        let ends = bounds().map(|bound| bound.to_string()).chain(["+Inf".to_owned()]);
        for (count, bound) in self.counts.iter().zip(ends) {
            total += count;
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {total}");
        }
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", self.seconds);
        let _ = writeln!(out, "{name}_count{{{labels}}} {total}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_all_that_is_not_longer() {
        let mut histogram = Histogram::default();
        for millis in [1, 2, 3, 20_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut text = String::new();
        histogram.write(&mut text, "x", "a=\"b\"");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            &lines[..3],
            [
                "x_bucket{a=\"b\",le=\"0.001\"} 1",
                "x_bucket{a=\"b\",le=\"0.002\"} 2",
                "x_bucket{a=\"b\",le=\"0.004\"} 3",
            ]
        );
        assert_eq!(
            &lines[14..],
            [
                "x_bucket{a=\"b\",le=\"16.384\"} 3",
                "x_bucket{a=\"b\",le=\"+Inf\"} 4",
                "x_sum{a=\"b\"} 20.006",
                "x_count{a=\"b\"} 4",
            ]
        );
    }
}
