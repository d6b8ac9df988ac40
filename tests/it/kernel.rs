//! A kernel that has what IPVS mode lowered: rules, and around them sets, virtual servers and the addresses of the dummy
//! device.

use std::net::IpAddr;

use svcproxy::backend::ipvs::Lowered;
use svcproxy::net::{AddrPort, Protocol};
use svcproxy::packet::{Fate, NodeFacts, Packet};
use svcproxy::program::ipset::{Entry, HashType, SetKind, SetName};
use svcproxy::program::ipvs::ServiceKey;
use svcproxy::program::xtables::eval::{Memory, eval_among};
use svcproxy::program::xtables::{Scheduled, SetQuestion, Surroundings};

/// One family of it.
pub(crate) struct Kernel {
    /// What it has.
    pub(crate) lowered: Lowered,
    /// All its addresses.
    facts: NodeFacts,
}

impl Kernel {
    /// One with these addresses beside those of the dummy device.
    pub(crate) fn new(lowered: Lowered, addresses: &[IpAddr]) -> Kernel {
        let local_addresses = addresses.iter().chain(&lowered.addresses).copied().collect();
        Kernel { lowered, facts: NodeFacts { local_addresses } }
    }

    /// What it does with a packet.
    pub(crate) fn fate(&self, packet: &Packet) -> Fate {
        eval_among(&self.lowered.rules, packet, &self.facts, &Memory::default(), self).fate
    }
}

impl Surroundings for Kernel {
    fn holds(&self, set: &SetName, question: &SetQuestion<'_>) -> Option<bool> {
        let set = self.lowered.sets.get(set)?;
        let protocol = question.protocol;
        let first = question.side(0)?;
        let hash = match &set.kind {
            // Only these two have ports there.
            SetKind::BitmapPort { .. } => {
                let has_port = matches!(protocol, Protocol::Tcp | Protocol::Udp);
                return Some(has_port && set.entries.contains(&Entry::Port(first.port)));
            }
            SetKind::Hash { hash: HashType::Ip, .. } => {
                return Some(set.entries.contains(&Entry::Ip(first.addr)));
            }
            SetKind::Hash { hash, .. } => *hash,
            SetKind::Unmodelled(_) => return None,
        };
        let (addr, port) = (first.addr, question.side(1)?.port);
        Some(match hash {
            HashType::Ip | HashType::IpPort => set.entries.contains(&Entry::IpPort(addr, protocol, port)),
            HashType::IpPortIp => {
                set.entries.contains(&Entry::IpPortIp(addr, protocol, port, question.side(2)?.addr))
            }
            HashType::IpPortNet => {
                let last = question.side(2)?.addr;
                set.entries.iter().any(|entry| match entry {
                    Entry::IpPortNet(ip, of, at, net) => {
                        (*ip, *of, *at) == (addr, protocol, port) && net.contains(last)
                    }
                    Entry::Ip(_)
                    | Entry::IpPort(..)
                    | Entry::IpPortIp(..)
                    | Entry::Port(_)
                    | Entry::Unmodelled(_) => false,
                })
            }
        })
    }

    fn schedule(&self, protocol: Protocol, destination: AddrPort) -> Scheduled {
        let Some(server) = self.lowered.servers.get(&ServiceKey::Address { protocol, at: destination })
        else {
            return Scheduled::Passed;
        };
        let total: u32 = server.real_servers.values().map(|real| real.weight).sum();
        if total == 0 {
            return Scheduled::Refused;
        }
        let share = |weight: u32| f64::from(weight) / f64::from(total);
        let taking = server.real_servers.iter().filter(|(_, real)| real.weight > 0);
        Scheduled::Sent(taking.map(|(endpoint, real)| (*endpoint, share(real.weight))).collect())
    }
}
