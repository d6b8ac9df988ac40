//! Clients that are remembered: where a sender goes that was sent somewhere before, from when it was seen last.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::net::AddrPort;
use crate::packet::{Fate, Packet};

use super::compare::Sides;
use super::meaning::{Answer, Earlier};
use super::report::{Difference, Differences};

/// A packet whose sender some side remembers.
pub(super) struct Client {
    /// Whose packet it is.
    pub(super) owner: Option<usize>,
    /// The packet.
    pub(super) packet: Packet,
    /// What both sides do with it when they do not know the sender.
    pub(super) answers: [Answer; 2],
    /// After how many seconds a side forgets.
    pub(super) lifetimes: BTreeSet<u32>,
}

/// Where a sender went, and what both sides remember of that.
type History<'a> = (AddrPort, [Option<&'a BTreeSet<String>>; 2]);

/// Packets that can come one after the other from one sender, to frontends that share what they remember: those of one
/// owner, or where there is none, those that lead to the same first endpoint.
pub(super) fn groups(clients: Vec<Client>) -> Vec<Vec<Client>> {
    let mut groups: BTreeMap<(Option<usize>, Option<AddrPort>, IpAddr), Vec<Client>> = BTreeMap::new();
    for client in clients {
        let first = match (&client.answers[0].fate, client.owner) {
            (Fate::Forwarded(choices), None) => choices.first().map(|choice| choice.endpoint),
            _ => None,
        };
        groups.entry((client.owner, first, client.packet.source.addr)).or_default().push(client);
    }
    groups.into_values().collect()
}

/// Compares what becomes of a second packet, in every group.
pub(super) fn compare(sides: &Sides<'_>, groups: &[Vec<Client>]) -> Differences {
    let mut differences = Differences::default();
    for group in groups {
        compare_group(sides, group, &mut differences);
    }
    differences
}

/// A time within each span that the lifetimes cut.
fn ages(lifetimes: &BTreeSet<u32>) -> Vec<Duration> {
    const HALF: Duration = Duration::from_millis(500);
    let seconds = |seconds: &u32| Duration::from_secs((*seconds).into());
    let before = lifetimes.iter().map(|lifetime| seconds(lifetime).saturating_sub(HALF));
    before.chain(lifetimes.last().map(|last| seconds(last) + HALF)).collect()
}

fn compare_group(sides: &Sides<'_>, group: &[Client], differences: &mut Differences) {
    let lifetimes: BTreeSet<u32> = group.iter().flat_map(|client| client.lifetimes.iter().copied()).collect();
    let ages = ages(&lifetimes);
    // Where a sender went and what remembers it: which packet that was makes no difference.
    let mut histories: BTreeMap<History<'_>, &Client> = BTreeMap::new();
    for client in group {
        let endpoints: BTreeSet<AddrPort> =
            client.answers.iter().flat_map(|answer| answer.remembered.keys().copied()).collect();
        for endpoint in endpoints {
            let remembered = client.answers.each_ref().map(|answer| answer.remembered.get(&endpoint));
            histories.entry((endpoint, remembered)).or_insert(client);
        }
    }
    for client in group {
        for ((endpoint, _), before) in &histories {
            for age in &ages {
                let [left, right] = before.answers.each_ref().map(|answer| Earlier {
                    packet: &before.packet,
                    answer,
                    endpoint: *endpoint,
                    age: *age,
                });
                let wanted = sides.left.fate_after(&client.packet, &left);
                let found = sides.right.fate_after(&client.packet, &right);
                differences.n_packets += 1;
                if !wanted.is_same(&found) {
                    let path = || sides.right.path(&client.packet, Some(&right));
                    differences.add(sides.subject(&client.packet), sides.n_witnesses, || Difference {
                        packet: client.packet.clone(),
                        remembered: Some((*endpoint, *age)),
                        wanted,
                        found,
                        path: path(),
                    });
                }
            }
        }
    }
}
