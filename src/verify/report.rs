//! What a comparison found.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::ServicePortName;
use crate::net::{AddrPort, IpFamily};
use crate::packet::{Fate, Packet};
use crate::resolve::NodeView;

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
    /// Those of a Service port.
    Service(ServicePortName),
    /// Those of no Service of the manifests.
    Nobody,
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
}

impl Report {
    /// Whether nothing differs.
    pub fn is_same(&self) -> bool {
        self.subjects.is_empty()
    }
}

/// What was found, by number of the owner.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// Packets compared.
    pub(super) n_packets: usize,
    /// Destinations.
    pub(super) n_destinations: usize,
    /// By owner; `None` for packets that have none.
    pub(super) by_owner: BTreeMap<Option<usize>, Tally>,
}

impl Differences {
    /// Notes a difference; the witness is made only if it is kept.
    pub(super) fn add(&mut self, owner: Option<usize>, limit: usize, witness: impl FnOnce() -> Difference) {
        let tally = self.by_owner.entry(owner).or_default();
        tally.n_packets += 1;
        if tally.witnesses.len() < limit {
            tally.witnesses.push(witness());
        }
    }

    /// Adds what was found later.
    pub(super) fn extend(&mut self, later: Differences, limit: usize) {
        self.n_packets += later.n_packets;
        self.n_destinations += later.n_destinations;
        for (owner, tally) in later.by_owner {
            let own = self.by_owner.entry(owner).or_default();
            own.n_packets += tally.n_packets;
            let room = limit.saturating_sub(own.witnesses.len());
            own.witnesses.extend(tally.witnesses.into_iter().take(room));
        }
    }
}

/// With the names of the Service ports of a view.
pub(super) fn of_services(view: &NodeView, differences: Differences) -> Report {
    let name = |owner: Option<usize>| {
        let port = owner.and_then(|index| view.ports.get(index));
        port.map_or(Subject::Nobody, |port| Subject::Service(port.name.clone()))
    };
    let Differences { n_packets, n_destinations, by_owner } = differences;
    let subjects = by_owner.into_iter().map(|(owner, tally)| (name(owner), tally)).collect();
    Report { family: view.family, n_packets, n_destinations, subjects }
}

/// Without names.
pub(super) fn of_rules(family: IpFamily, differences: Differences) -> Report {
    let Differences { n_packets, n_destinations, by_owner } = differences;
    let subjects = by_owner.into_values().map(|tally| (Subject::Nobody, tally)).collect();
    Report { family, n_packets, n_destinations, subjects }
}
