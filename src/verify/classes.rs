//! The classes of packets that two sides tell apart, and a packet for each.
//!
//! Addresses come first, then what is asked of packets to each, then what is asked of packets to each of its ports: a
//! source range of one Service does not multiply the packets to another.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::{AddrPort, IpFamily, Port, Protocol};
use crate::packet::{NodeFacts, Origin, Packet};
use crate::program::question::{Destination, Destinations, InterfacePattern, Questions};

use super::atoms::{Cuts, address, number};
use super::meaning::Meaning;

/// What two sides tell apart.
pub(super) struct Classes<'a> {
    left: &'a dyn Meaning,
    right: &'a dyn Meaning,
    facts: &'a NodeFacts,
    family: IpFamily,
    /// Addresses of the node, but for loopback ones.
    own: Vec<u128>,
}

/// Packets to one destination, and after how many seconds some side forgets their senders.
pub(super) struct Bundle {
    /// They.
    pub(super) packets: Vec<Packet>,
    /// The seconds.
    pub(super) lifetimes: BTreeSet<u32>,
}

impl<'a> Classes<'a> {
    /// Of packets of one family.
    pub(super) fn new(
        left: &'a dyn Meaning,
        right: &'a dyn Meaning,
        facts: &'a NodeFacts,
        family: IpFamily,
    ) -> Classes<'a> {
        let of_family = |addr: &&IpAddr| IpFamily::of(**addr) == family && !addr.is_loopback();
        let own = facts.local_addresses.iter().filter(of_family).map(|addr| number(*addr)).collect();
        Classes { left, right, facts, family, own }
    }

    /// The addresses that packets go to.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let mut told = Destinations::default();
        self.left.destinations(&mut told);
        self.right.destinations(&mut told);
        let mut cuts = Cuts::default();
        let of_family = |addr: &IpAddr| IpFamily::of(*addr) == self.family;
        cuts.points.extend(told.hosts.iter().copied().filter(of_family).map(number));
        for (first, last) in told.ranges.iter().filter(|(first, _)| of_family(first)) {
            cuts.insert(number(*first), number(*last));
        }
        let mut all: BTreeSet<u128> = self.outside(&cuts).into_iter().collect();
        all.extend(self.own(&cuts));
        all.extend(&cuts.points);
        all.into_iter().map(|number| address(self.family, number)).collect()
    }

    /// The protocols and ports that packets to an address go to.
    pub(super) fn services(&self, addr: IpAddr) -> Vec<(Protocol, Port)> {
        let asked = self.questions(&Destination { addr, service: None });
        let mut protocols: Vec<Protocol> = asked.protocols.iter().copied().collect();
        protocols.extend(Protocol::ALL.into_iter().find(|protocol| !asked.protocols.contains(protocol)));
        let mut services = Vec::new();
        for protocol in protocols {
            let mut cuts = Cuts::default();
            for (_, first, last) in
                asked.ports.iter().filter(|(of, ..)| of.is_none_or(|asked| asked == protocol))
            {
                cuts.insert((*first).into(), (*last).into());
            }
            // A port that another protocol has tells more than any.
            let preferred: Vec<u128> =
                asked.ports.iter().map(|(_, first, _)| (*first).into()).chain([9999]).collect();
            let others = cuts.remainder(&[PORTS], &preferred, |_| true);
            let ports = cuts.points.iter().copied().chain(others);
            services.extend(ports.filter_map(|port| Some((protocol, Port::try_from(port).ok()?))));
        }
        services
    }

    /// A packet of each class to a destination.
    pub(super) fn bundle(&self, addr: IpAddr, (protocol, port): (Protocol, Port)) -> Bundle {
        let asked = self.questions(&Destination { addr, service: Some((protocol, port)) });
        let mut cuts = Cuts::default();
        for (first, last) in &asked.sources {
            cuts.insert(number(*first), number(*last));
        }
        let is_own = |number: &u128| self.facts.is_local(address(self.family, *number));
        let from_elsewhere = cuts.points.iter().copied().filter(|number| !self.is_local(*number));
        // The plain ones first: they are the witnesses that a reader understands at once.
        let from_elsewhere: Vec<u128> = self.outside(&cuts).into_iter().chain(from_elsewhere).collect();
        // The node sends from its own addresses; from a VIP only to that VIP itself.
        let own_points = cuts.points.iter().copied().filter(|one| is_own(one) || *one == number(addr));
        let from_node: Vec<u128> = self.own(&cuts).into_iter().chain(own_points).collect();
        let interfaces = interfaces(&asked.interfaces);
        let mut packets = Vec::new();
        for source_port in source_ports(&asked) {
            let mut add = |source: u128, in_interface: Option<&str>| {
                let source = AddrPort::new(address(self.family, source), source_port);
                let origin = if in_interface.is_some() { Origin::Outside } else { Origin::Node };
                let destination = AddrPort::new(addr, port);
                let in_interface = in_interface.map(str::to_owned);
                let mut packet =
                    Packet { origin, source, destination, protocol, in_interface, bridge_port: None };
                if origin == Origin::Outside
                    && (self.left.is_from_pod(&packet) || self.right.is_from_pod(&packet))
                {
                    packet.origin = Origin::Pod;
                    if asked.bridge_port {
                        packets.push(Packet { bridge_port: Some(true), ..packet.clone() });
                        packet.bridge_port = Some(false);
                    }
                }
                packets.push(packet);
            };
            for source in &from_elsewhere {
                interfaces.iter().for_each(|interface| add(*source, Some(interface.as_str())));
            }
            from_node.iter().for_each(|source| add(*source, None));
        }
        Bundle { packets, lifetimes: asked.lifetimes }
    }

    fn questions(&self, destination: &Destination) -> Questions {
        let mut asked = Questions::default();
        self.left.questions(destination, &mut asked);
        self.right.questions(destination, &mut asked);
        asked
    }

    /// Whether an address is the node's, be it for the sake of Services alone: no packet from elsewhere has it as its source.
    fn is_local(&self, number: u128) -> bool {
        let addr = address(self.family, number);
        self.facts.is_local(addr) || self.left.is_local(addr) || self.right.is_local(addr)
    }

    /// An address of another host for each part of the line.
    fn outside(&self, cuts: &Cuts) -> Vec<u128> {
        let (documentation, windows): (IpAddr, &[(u128, u128)]) = match self.family {
            IpFamily::V4 => (Ipv4Addr::new(198, 51, 100, 77).into(), &HOSTS_V4),
            IpFamily::V6 => (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77).into(), &[HOSTS_V6]),
        };
        let within = cuts.ranges.iter().map(|(first, end)| first.saturating_add(9).min(*end));
        let preferred: Vec<u128> = [number(documentation)].into_iter().chain(within).collect();
        cuts.remainder(windows, &preferred, |number| !self.is_local(number))
    }

    /// An address of the node for each part of the line.
    fn own(&self, cuts: &Cuts) -> Vec<u128> {
        let (first, loopback) = match self.family {
            IpFamily::V4 => (number(Ipv4Addr::LOCALHOST.into()), LOOPBACK_V4),
            IpFamily::V6 => (1, (1, 1)),
        };
        let on_loopback = cuts.remainder(&[loopback], &[first], |_| true);
        cuts.one_of_each(self.own.iter().copied().chain(on_loopback))
    }
}

/// Ports that a packet can have.
const PORTS: (u128, u128) = (1, 0xffff);
/// 1.0.0.0 to 126.255.255.255, and 128.0.0.0 to 223.255.255.255: what can be the address of another host.
const HOSTS_V4: [(u128, u128); 2] = [(0x0100_0000, 0x7eff_ffff), (0x8000_0000, 0xdfff_ffff)];
/// Behind the unspecified address and the loopback one, and before ff00::/8.
const HOSTS_V6: (u128, u128) = (2, (0xff << 120) - 1);
/// 127.0.0.0/8.
const LOOPBACK_V4: (u128, u128) = (0x7f00_0000, 0x7fff_ffff);

/// Source ports: the usual one, and those that are asked for.
fn source_ports(asked: &Questions) -> Vec<Port> {
    const USUAL: u128 = 40000;
    let mut cuts = Cuts::default();
    for (first, last) in &asked.source_ports {
        cuts.insert((*first).into(), (*last).into());
    }
    let others = cuts.remainder(&[PORTS], &[USUAL], |_| true);
    let ports = cuts.points.iter().copied().chain(others);
    ports.filter_map(|port| Port::try_from(port).ok()).collect()
}

/// An interface that none of the patterns means, and one for each of the ways in which they mean others.
fn interfaces(patterns: &BTreeSet<InterfacePattern>) -> Vec<String> {
    const LOOPBACK: &str = "lo";
    let usual = ["eth0", "ens3", "uplink0", "wan7"].map(str::to_owned);
    let longer = |pattern: &InterfacePattern| format!("{}0", pattern.stem);
    let meant = patterns
        .iter()
        .map(|pattern| if pattern.is_prefix { longer(pattern) } else { pattern.stem.to_string() });
    // What comes in by the loopback device was sent by the node.
    let names = usual.into_iter().chain(meant).filter(|name| name != LOOPBACK && !name.is_empty());
    let mut told: BTreeSet<Vec<bool>> = BTreeSet::new();
    names.filter(|name| told.insert(patterns.iter().map(|pattern| pattern.matches(name)).collect())).collect()
}
