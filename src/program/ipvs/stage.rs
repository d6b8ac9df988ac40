//! Virtual servers at one hook, for who asks rules before and after them and wants to know the way.

use crate::net::{AddrPort, Protocol};
use crate::program::Kernel;
use crate::program::transit::{Action, Crossing, Met, Part, Place, Record, Setting};
use crate::program::xtables::eval::Memory;
use crate::program::xtables::{Connection, Scheduled, Sending, Surroundings};

use super::{Flags, ServiceKey, VirtualServer};

/// When netfilter asks them (`ip_vs_ops4`): behind all filters of what comes in, behind translation of what goes out.
pub fn priority(place: Place) -> Option<i32> {
    match place {
        Place::Input => Some(99),
        Place::Output => Some(-98),
        Place::Ingress
        | Place::Prerouting
        | Place::Forward
        | Place::Postrouting
        | Place::Scheduled
        | Place::LoopbackPrerouting
        | Place::LoopbackInput => None,
    }
}

/// Brings parts of a packet to the virtual servers.
pub fn cross(kernel: &Kernel<'_>, setting: Setting<'_>, parts: Vec<Part>) -> Crossing {
    let Setting { packet, facts, memory } = setting;
    let (source, protocol) = (packet.source, packet.protocol);
    let remembered = memory.recent.iter().map(|name| (name.clone(), source.addr)).collect();
    let memory = Memory { remembered, ..Memory::default() };
    let mut crossing = Crossing::default();
    let mut record = Record::open();
    for part in parts {
        let at = part.destination;
        let mut note = |weight, action| {
            let chain = ServiceKey::Address { protocol, at }.to_string();
            record.note(|| Met { chain, rule: None, depth: 0, weight, action, element: None });
        };
        let connection = Connection { protocol, source, destination: at, mark: part.mark, memory: &memory };
        match kernel.schedule(&connection) {
            Scheduled::Passed => crossing.parts.push(part),
            Scheduled::Refused => {
                note(part.weight, Action::Reject);
                crossing.rejected += part.weight;
            }
            Scheduled::Unknown(why) => {
                note(part.weight, Action::Unknown);
                crossing.unknown.get_or_insert(why);
            }
            Scheduled::Sent(choices) => {
                for Sending { endpoint, share, remembered } in choices {
                    let weight = part.weight * share;
                    note(weight, Action::Dnat(endpoint));
                    let mut sent = Part {
                        weight,
                        destination: endpoint,
                        translated: true,
                        virtual_server: Some(at),
                        ..part.clone()
                    };
                    sent.recent.extend(remembered);
                    if facts.is_local(endpoint.addr) {
                        crossing.parts.push(sent);
                    } else {
                        crossing.scheduled.push(sent);
                    }
                }
            }
        }
    }
    Crossing { met: record.into_met(), ..crossing }
}

/// The virtual server of this name in words.
pub fn described(kernel: &Kernel<'_>, name: &str) -> Option<String> {
    let (at, protocol) = name.rsplit_once('/')?;
    let (at, protocol): (AddrPort, Protocol) =
        (at.parse().ok()?, Protocol::from_name(&protocol.to_lowercase())?);
    let find = |at| kernel.servers()?.get(&ServiceKey::Address { protocol, at });
    let server: &VirtualServer = find(at).or_else(|| find(AddrPort::new(at.addr, 0)))?;
    let persistent = server.flags.contains(Flags::PERSISTENT);
    let kept = persistent.then(|| format!(", clients stay for {} s", server.persistence_seconds));
    Some(format!("scheduler {}{}", server.scheduler, kept.unwrap_or_default()))
}
