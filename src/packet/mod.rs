//! A packet as rules see it, where it starts, and what can become of it. The common words of the oracle
//! (`resolve::fate`) and of the rule evaluators (`program::*::eval`).

mod fate;
mod notation;

pub use fate::{Choice, Fate};
pub use notation::{Flow, PacketContext, ParseFlowsError, ParsePacketError, parse_flows, parse_packet};

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::net::{AddrPort, IpFamily, Protocol};

/// Where a packet starts, seen from the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A pod on this node: it comes in by a pod interface (prerouting).
    Pod,
    /// Somewhere else: it comes in by an uplink (prerouting).
    Outside,
    /// A process in the node's own network namespace (output).
    Node,
}

/// The first packet of a flow: conntrack state NEW.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Where it starts.
    pub origin: Origin,
    /// Source address and port.
    pub source: AddrPort,
    /// Destination address and port.
    pub destination: AddrPort,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The interface it came in by; `None` for [`Origin::Node`].
    pub in_interface: Option<String>,
    /// Whether it came in by a port of a bridge; `None` where that is not known. Asked of [`Origin::Pod`] alone: packets
    /// from outside are taken to come by no bridge, the node's own come in by nothing.
    pub bridge_port: Option<bool>,
}

impl Packet {
    /// The family of its addresses.
    pub fn family(&self) -> IpFamily {
        self.destination.family()
    }
}

/// What of the node the fate of a packet depends on, apart from rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// The addresses on the node's interfaces. Loopback networks are local without being listed.
    pub local_addresses: BTreeSet<IpAddr>,
}

impl NodeFacts {
    /// Whether the kernel's routing calls the address LOCAL (addrtype, fib).
    pub fn is_local(&self, addr: IpAddr) -> bool {
        addr.is_loopback() || self.local_addresses.contains(&addr)
    }

    /// The first address of the node in a family that is no loopback one.
    pub fn own_address(&self, family: IpFamily) -> Option<IpAddr> {
        let mut own = self.local_addresses.iter().copied();
        own.find(|addr| IpFamily::of(*addr) == family && !addr.is_loopback())
    }
}
