//! Counts of durations by how long they were, in the words of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::marker::PhantomData;
use std::time::Duration;

/// Into which buckets durations are sorted.
pub(super) trait Buckets {
    /// Their upper bounds in seconds, ascending.
    fn bounds() -> Vec<f64>;
}

/// Buckets of syncs (D of reference section 6.6): a millisecond, and each the double of the one before.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct OfSyncs;

impl Buckets for OfSyncs {
    fn bounds() -> Vec<f64> {
        (0..15).map(|k| 0.001 * f64::from(1u32 << k)).collect()
    }
}

/// Buckets of the time from a pod's change to its rules (the same section): fine up to a minute, coarse up to five.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct OfNetwork;

impl Buckets for OfNetwork {
    fn bounds() -> Vec<f64> {
        let steps = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
        [0.25, 0.5].into_iter().chain(steps.map(f64::from)).collect()
    }
}

/// How often something took how long.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Histogram<B> {
    /// By bucket, those of smaller buckets not counted in.
    counts: BTreeMap<usize, u64>,
    seconds: f64,
    buckets: PhantomData<B>,
}

impl<B: Buckets> Histogram<B> {
    /// Counts one.
    pub(super) fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = B::bounds().partition_point(|bound| *bound < seconds);
        *self.counts.entry(bucket).or_default() += 1;
        self.seconds += seconds;
    }

    /// Writes it with labels as `ip_family="IPv4"`.
    pub(super) fn write(&self, out: &mut String, name: &str, labels: &str) {
        let mut total = 0;
        let ends = B::bounds().into_iter().map(|bound| bound.to_string()).chain(["+Inf".to_owned()]);
        for (bucket, bound) in ends.enumerate() {
            total += self.counts.get(&bucket).copied().unwrap_or_default();
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
    fn network_buckets_are_those_of_the_reference() {
        let bounds = OfNetwork::bounds();
        assert_eq!(bounds.len(), 2 + 59 + 12 + 7);
        assert!(bounds.is_sorted() && bounds.last() == Some(&300.0), "{bounds:?}");
    }

    #[test]
    fn buckets_hold_all_that_is_not_longer() {
        let mut histogram: Histogram<OfSyncs> = Histogram::default();
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
