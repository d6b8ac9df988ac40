//! Lines of numbers (addresses, ports) cut by points and ranges: one number for each part that they tell apart.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::IpFamily;

/// A part of a line is told from others by the ranges that hold it: their places in the list.
type Signature = Vec<usize>;

/// Points and ranges on a line.
#[derive(Debug, Clone, Default)]
pub(super) struct Cuts {
    /// Each is a part of its own.
    pub(super) points: BTreeSet<u128>,
    /// Ends included.
    pub(super) ranges: BTreeSet<(u128, u128)>,
}

impl Cuts {
    /// Adds a range; one that holds a single number is a point.
    pub(super) fn insert(&mut self, first: u128, last: u128) {
        if first == last {
            self.points.insert(first);
        } else {
            self.ranges.insert((first, last));
        }
    }

    /// One number of each part that is no point, within some windows: a preferred one where there is one, else the first
    /// that is fit. Parts that have none are left out.
    pub(super) fn remainder(
        &self,
        windows: &[(u128, u128)],
        preferred: &[u128],
        is_fit: impl Fn(u128) -> bool,
    ) -> Vec<u128> {
        let mut signatures: BTreeSet<Signature> = BTreeSet::new();
        let mut found = Vec::new();
        let is_open = |number: u128| !self.points.contains(&number) && is_fit(number);
        let is_within = |number: u128| windows.iter().any(|(first, last)| (*first..=*last).contains(&number));
        for number in preferred.iter().copied().filter(|number| is_within(*number) && is_open(*number)) {
            if signatures.insert(self.signature(number)) {
                found.push(number);
            }
        }
        for (begin, end) in windows {
            let mut starts: BTreeSet<u128> = [*begin].into();
            for (first, last) in &self.ranges {
                starts.extend([Some(*first), last.checked_add(1)].into_iter().flatten());
            }
            let starts: Vec<u128> = starts.range(*begin..=*end).copied().collect();
            let ends = starts.iter().skip(1).map(|next| next - 1).chain([*end]);
            for (first, last) in starts.iter().zip(ends) {
                let signature = self.signature(*first);
                if signatures.contains(&signature) {
                    continue;
                }
                // Few numbers of a window are points or unfit.
                if let Some(number) = (*first..=last).find(|number| is_open(*number)) {
                    signatures.insert(signature);
                    found.push(number);
                }
            }
        }
        found
    }

    /// The first of some numbers for each signature that they have.
    pub(super) fn one_of_each(&self, numbers: impl IntoIterator<Item = u128>) -> Vec<u128> {
        let mut signatures = BTreeSet::new();
        let numbers = numbers.into_iter().filter(|number| !self.points.contains(number));
        numbers.filter(|number| signatures.insert(self.signature(*number))).collect()
    }

    fn signature(&self, number: u128) -> Signature {
        let holds = |(_, range): &(usize, &(u128, u128))| range.0 <= number && number <= range.1;
        self.ranges.iter().enumerate().filter(holds).map(|(at, _)| at).collect()
    }
}

/// An address as a number.
pub(super) fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u32::from(addr).into(),
        IpAddr::V6(addr) => addr.into(),
    }
}

/// The address of a number.
pub(super) fn address(family: IpFamily, number: u128) -> IpAddr {
    match family {
        IpFamily::V4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
        IpFamily::V6 => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_one_number() {
        let mut cuts = Cuts::default();
        for (first, last) in [(10, 19), (15, 29), (15, 15), (40, 49), (10, 19)] {
            cuts.insert(first, last);
        }
        // Outside, the first range alone, both, the second alone, the third.
        assert_eq!(cuts.remainder(&[(0, 99)], &[], |_| true), [0, 10, 16, 20, 40]);
        assert_eq!(cuts.remainder(&[(0, 99)], &[55, 18, 15], |_| true), [55, 18, 10, 20, 40]);
        assert_eq!(cuts.remainder(&[(0, 99)], &[], |number| number > 45), [46, 50]);
        assert_eq!(cuts.remainder(&[(12, 17), (45, 99)], &[3], |_| true), [12, 16, 45, 50]);
        assert_eq!(cuts.one_of_each([3, 15, 60, 12, 44]), [3, 12, 44]);
    }

    proptest::proptest! {
        #[test]
        fn no_part_is_forgotten(ranges in proptest::collection::vec((0..60_u128, 0..9_u128), 0..8)) {
            let mut cuts = Cuts::default();
            for (first, len) in ranges {
                cuts.insert(first, first + len);
            }
            let found = cuts.remainder(&[(0, 63)], &[], |_| true);
            for number in 0..=63 {
                let has = cuts.points.contains(&number)
                    || found.iter().any(|one| cuts.signature(*one) == cuts.signature(number));
                proptest::prop_assert!(has, "{number}");
            }
        }
    }
}
