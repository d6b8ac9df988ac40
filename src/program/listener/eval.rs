//! What becomes of a connection or datagram that rules lead to a local port: who listens there, and who gets it.

use std::collections::{BTreeMap, BTreeSet};

use crate::net::{AddrPort, Protocol};
use crate::packet::{Choice, Fate, NodeFacts, Packet};

use super::{Listener, ListenerKey, Listeners};

/// Whether it is remembered at a place of this name that a client came within so many seconds.
pub type Holds<'a> = dyn Fn(&str, u32) -> bool + 'a;

/// Where a packet goes from a local port.
#[derive(Debug, Clone, PartialEq)]
pub struct Followed {
    /// What becomes of it.
    pub fate: Fate,
    /// For each target that its sender is then held to: where that is remembered.
    pub remembered: BTreeMap<AddrPort, BTreeSet<String>>,
    /// The listeners that take it.
    pub by: BTreeSet<ListenerKey>,
}

/// The listener that takes what comes to an address and port of the host itself: that of the address, else the one of all
/// addresses.
pub fn listener_at<'a>(
    listeners: &'a Listeners,
    protocol: Protocol,
    at: AddrPort,
    facts: &NodeFacts,
) -> Option<(ListenerKey, &'a Listener)> {
    if !facts.is_local(at.addr) {
        return None;
    }
    let key = ListenerKey { protocol, at };
    [key, key.at_any_address()].into_iter().find_map(|key| Some((key, listeners.get(&key)?)))
}

/// What a listener does with a client. The process makes a connection of its own to a target: whoever is there sees an
/// address of the host. A connection that has nowhere to go is reset, a datagram is lost. A client goes to the target
/// again that it is held to.
pub fn eval((key, listener): (ListenerKey, &Listener), holds: &Holds<'_>) -> Fate {
    let is_kept = |target: &&AddrPort| {
        listener.affinity_seconds.is_some_and(|seconds| holds(&place(&key, target), seconds))
    };
    let targets: Vec<AddrPort> = match listener.targets.iter().find(is_kept) {
        Some(kept) => vec![*kept],
        None => listener.targets.iter().copied().collect(),
    };
    if targets.is_empty() {
        return match key.protocol {
            Protocol::Tcp => Fate::Rejected,
            Protocol::Udp | Protocol::Sctp => Fate::Dropped,
        };
    }
    let probability = 1.0 / targets.len() as f64;
    let choice = |endpoint| Choice { endpoint, probability, source_nat: true };
    Fate::Forwarded(targets.into_iter().map(choice).collect())
}

/// Where a listener remembers the clients of each target; nowhere without affinity.
pub fn places(key: &ListenerKey, listener: &Listener) -> BTreeMap<AddrPort, String> {
    let held = listener.targets.iter().filter(|_| listener.affinity_seconds.is_some());
    held.map(|target| (*target, place(key, target))).collect()
}

fn place(key: &ListenerKey, target: &AddrPort) -> String {
    format!("listener {key} to {target}")
}

/// Follows the fate that the rules alone give a packet: what they send to a port of the host itself goes on from there, if
/// a listener is there. Where none is it stays: who else may listen is not known.
pub fn follow(
    listeners: &Listeners,
    packet: &Packet,
    fate: Fate,
    facts: &NodeFacts,
    holds: &Holds<'_>,
) -> Followed {
    let mut followed = Followed { fate, remembered: BTreeMap::new(), by: BTreeSet::new() };
    let Fate::Forwarded(choices) = &followed.fate else { return followed };
    let mut forwarded: BTreeMap<(AddrPort, bool), f64> = BTreeMap::new();
    let mut ended = Vec::new();
    for Choice { endpoint, probability, source_nat } in choices {
        let Some((key, listener)) = listener_at(listeners, packet.protocol, *endpoint, facts) else {
            *forwarded.entry((*endpoint, *source_nat)).or_default() += probability;
            continue;
        };
        followed.by.insert(key);
        for (target, place) in places(&key, listener) {
            followed.remembered.entry(target).or_default().insert(place);
        }
        match eval((key, listener), holds) {
            Fate::Forwarded(of_listener) => {
                for one in of_listener {
                    let share = forwarded.entry((one.endpoint, one.source_nat)).or_default();
                    *share += probability * one.probability;
                }
            }
            end @ (Fate::Rejected | Fate::Dropped | Fate::Untouched | Fate::Unknown(_)) => ended.push(end),
        }
    }
    ended.dedup();
    followed.fate = match (forwarded.is_empty(), ended.as_slice()) {
        (true, [end]) => end.clone(),
        (_, []) => {
            let choice = |((endpoint, source_nat), probability)| Choice { endpoint, probability, source_nat };
            Fate::Forwarded(forwarded.into_iter().map(choice).collect())
        }
        _ => Fate::Unknown("it may end in several ways".to_owned()),
    };
    followed
}
