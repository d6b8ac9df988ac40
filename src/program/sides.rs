//! Two maps side by side, key by key: what is wanted, what is live, and what is in both.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A value of one map or of both.
#[derive(Debug)]
pub(super) enum Sides<'a, T> {
    /// In the wanted one alone.
    Wanted(&'a T),
    /// In the live one alone.
    Live(&'a T),
    /// In both, the wanted one first.
    Both(&'a T, &'a T),
}

/// Two maps by key, in one pass.
pub(super) fn side_by_side<'a, K: Ord, T>(
    wanted: &'a BTreeMap<K, T>,
    live: &'a BTreeMap<K, T>,
) -> impl Iterator<Item = (&'a K, Sides<'a, T>)> {
    let (mut wanted, mut live) = (wanted.iter().peekable(), live.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (wanted.peek(), live.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((left, _)), Some((right, _))) => left.cmp(right),
        };
        match order {
            Ordering::Less => wanted.next().map(|(key, its)| (key, Sides::Wanted(its))),
            Ordering::Greater => live.next().map(|(key, its)| (key, Sides::Live(its))),
            Ordering::Equal => {
                let (key, left) = wanted.next()?;
                let (_, right) = live.next()?;
                Some((key, Sides::Both(left, right)))
            }
        }
    })
}
