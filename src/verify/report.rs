//! What a comparison found.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::model::ServicePortName;
use crate::net::{AddrPort, IpFamily};
use crate::packet::{Fate, Packet};

/// A packet that two sides treat differently.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The packet.
    pub packet: Packet,
    /// Where its sender was sent earlier, and how long ago, if that matters.
    pub remembered: Option<(AddrPort, Duration)>,
    /// Its fate by the manifests, or by the first rules.
    pub wanted: Fate,
    /// Its fate by the rules, or by the second ones.
    pub found: Fate,
    /// The rules on its way that it can match, as text.
    pub path: Vec<String>,
}

/// Whose packets differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Those of a Service port, or to other ports of an address that it has.
    Service(ServicePortName),
    /// Those to an address that no Service of the manifests has.
    Address(IpAddr),
}

/// The differences of one subject.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// How many packets differ.
    pub n_packets: usize,
    /// Some of them: the first ones.
    pub witnesses: Vec<Difference>,
}

/// What a comparison found in one family.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The family.
    pub family: IpFamily,
    /// How many packets were compared: one of each class.
    pub n_packets: usize,
    /// How many destinations they went to.
    pub n_destinations: usize,
    /// Whose packets differ.
    pub subjects: BTreeMap<Subject, Tally>,
    /// What could not be compared, and was taken to be as it must: a sentence.
    pub assumed: Option<String>,
}

impl Report {
    /// Whether nothing differs, and nothing had to be assumed.
    pub fn is_same(&self) -> bool {
        self.subjects.is_empty() && self.assumed.is_none()
    }
}

/// What was found, by number of the owner.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// Packets compared.
    pub(super) n_packets: usize,
    /// Destinations.
    pub(super) n_destinations: usize,
    /// By subject.
    pub(super) by_subject: BTreeMap<Numbered, Tally>,
}

/// A subject with the number of its owner in the place of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Numbered {
    Owner(usize),
    Address(IpAddr),
}

impl Differences {
    /// Notes a difference; the witness is made only if it is kept.
    pub(super) fn add(&mut self, subject: Numbered, limit: usize, witness: impl FnOnce() -> Difference) {
        let tally = self.by_subject.entry(subject).or_default();
        tally.n_packets += 1;
        if tally.witnesses.len() < limit {
            tally.witnesses.push(witness());
        }
    }

    /// Adds what was found later.
    pub(super) fn extend(&mut self, later: Differences, limit: usize) {
        self.n_packets += later.n_packets;
        self.n_destinations += later.n_destinations;
        for (subject, tally) in later.by_subject {
            let own = self.by_subject.entry(subject).or_default();
            own.n_packets += tally.n_packets;
            let room = limit.saturating_sub(own.witnesses.len());
            own.witnesses.extend(tally.witnesses.into_iter().take(room));
        }
    }
}

/// With the names of Service ports, which `name` gives for the numbers of owners.
pub(super) fn named(
    family: IpFamily,
    differences: Differences,
    name: impl Fn(usize) -> Option<ServicePortName>,
) -> Report {
    let Differences { n_packets, n_destinations, by_subject } = differences;
    let subject = |(subject, tally): (Numbered, Tally)| {
        let subject = match subject {
            Numbered::Owner(owner) => Subject::Service(name(owner)?),
            Numbered::Address(addr) => Subject::Address(addr),
        };
        Some((subject, tally))
    };
    let subjects = by_subject.into_iter().filter_map(subject).collect();
    Report { family, n_packets, n_destinations, subjects, assumed: None }
}
