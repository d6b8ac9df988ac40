//! What becomes of a connection or datagram that reaches a local port: tests hold rules and listeners against the oracle by it.

use crate::net::{AddrPort, Protocol};
use crate::packet::{Choice, Fate, NodeFacts};

use super::{ListenerKey, Listeners};

/// The fate of a packet that the rules send to `at`, an address and port of the host itself. `None` if nobody listens
/// there.
///
/// The process makes a connection of its own to a target: whoever is there sees an address of the host. A connection that
/// has nowhere to go is reset, a datagram is lost.
pub fn eval(listeners: &Listeners, protocol: Protocol, at: AddrPort, facts: &NodeFacts) -> Option<Fate> {
    let key = ListenerKey { protocol, at };
    let everywhere = || listeners.get(&key.at_any_address()).filter(|_| facts.is_local(at.addr));
    let listener = listeners.get(&key).or_else(everywhere)?;
    if listener.targets.is_empty() {
        return Some(match protocol {
            Protocol::Tcp => Fate::Rejected,
            Protocol::Udp | Protocol::Sctp => Fate::Dropped,
        });
    }
    let probability = 1.0 / listener.targets.len() as f64;
    let choice = |endpoint: &AddrPort| Choice { endpoint: *endpoint, probability, source_nat: true };
    Some(Fate::Forwarded(listener.targets.iter().map(choice).collect()))
}

/// Follows the fate that the rules alone give a packet: what they send to a port of the host itself goes on from there.
pub fn follow(listeners: &Listeners, protocol: Protocol, fate: Fate, facts: &NodeFacts) -> Fate {
    match fate {
        Fate::Forwarded(choices) => match choices.as_slice() {
            [only] if facts.is_local(only.endpoint.addr) => {
                eval(listeners, protocol, only.endpoint, facts).unwrap_or(Fate::Rejected)
            }
            _ => Fate::Forwarded(choices),
        },
        other @ (Fate::Rejected | Fate::Dropped | Fate::Untouched | Fate::Unknown(_)) => other,
    }
}
