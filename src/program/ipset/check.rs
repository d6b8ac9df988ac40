//! Tells what of sets the kernel or ipset would refuse.

use std::fmt;
use std::net::IpAddr;

use crate::net::{IpFamily, Port};

use super::{Entry, HashType, Set, SetKind, SetName, Sets};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The set.
    pub set: SetName,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set {}: {}", self.set, self.text)
    }
}

/// Everything that is wrong, in the order of the sets.
pub fn check(sets: &Sets) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, set) in sets {
        let mut report = |text: String| problems.push(Problem { set: name.clone(), text });
        if sets.contains_key(&name.spare()) {
            report(format!("set {} bears the name under which its successor would be made", name.spare()));
        }
        check_kind(set, &mut report);
        for entry in &set.entries {
            if let Some(fault) = fault(&set.kind, entry) {
                report(format!("{entry} {fault}"));
            }
        }
    }
    problems
}

fn check_kind(set: &Set, report: &mut dyn FnMut(String)) {
    match &set.kind {
        SetKind::Hash { max_entries, .. } => {
            if set.entries.len() > usize::try_from(*max_entries).unwrap_or(usize::MAX) {
                report(format!("{} entries are more than the {max_entries} it holds", set.entries.len()));
            }
        }
        SetKind::BitmapPort { first, last } if first > last => {
            report(format!("first port {first} is after last port {last}"));
        }
        SetKind::BitmapPort { .. } => {}
        SetKind::Unmodelled(text) => report(format!("kind `{text}` is not modelled")),
    }
}

/// Why an entry cannot be in a set of this kind.
pub(super) fn fault(kind: &SetKind, entry: &Entry) -> Option<&'static str> {
    match (kind, entry) {
        (SetKind::Hash { hash, family, .. }, entry) => {
            let (needed, addresses) = shape(entry);
            if needed != Some(*hash) {
                return Some("is no entry of its type");
            }
            if addresses.into_iter().flatten().any(|addr| IpFamily::of(addr) != *family) {
                return Some("is of the other family");
            }
            if let Entry::IpPortNet(_, _, _, net) = entry
                && net.is_any()
            {
                return Some("holds a network of length 0, which no hash can");
            }
            None
        }
        (SetKind::BitmapPort { first, last }, Entry::Port(port)) => {
            let range: std::ops::RangeInclusive<Port> = *first..=*last;
            (!range.contains(port)).then_some("is out of its range")
        }
        (
            SetKind::BitmapPort { .. },
            Entry::Ip(_)
            | Entry::IpPort(..)
            | Entry::IpPortIp(..)
            | Entry::IpPortNet(..)
            | Entry::Unmodelled(_),
        ) => Some("is no entry of its type"),
        (SetKind::Unmodelled(_), _) => None,
    }
}

/// The hash that an entry is for, and its addresses.
fn shape(entry: &Entry) -> (Option<HashType>, [Option<IpAddr>; 2]) {
    match entry {
        Entry::Ip(addr) => (Some(HashType::Ip), [Some(*addr), None]),
        Entry::IpPort(addr, _, _) => (Some(HashType::IpPort), [Some(*addr), None]),
        Entry::IpPortIp(addr, _, _, second) => (Some(HashType::IpPortIp), [Some(*addr), Some(*second)]),
        Entry::IpPortNet(addr, _, _, net) => (Some(HashType::IpPortNet), [Some(*addr), Some(net.network())]),
        Entry::Port(_) | Entry::Unmodelled(_) => (None, [None, None]),
    }
}
