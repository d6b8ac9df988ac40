//! The side of the manifests: what the oracle tells apart, and what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::{AddrPort, IpCidr, IpFamily, Protocol};
use crate::packet::{Fate, NodeFacts, Packet};
use crate::program::eval::{Evaluator, Memory};
use crate::program::question::{AddrRange, Destination, Destinations, InterfacePattern, Questions, range_of};
use crate::resolve::{AffinityScope, FrontendKind, LocalTraffic, NodePortScope, Oracle, PortView, Vip};

use super::meaning::{Answer, Earlier, Meaning};

/// What manifests mean for the packets of one family.
pub(super) struct Manifests<'a> {
    oracle: Oracle<'a>,
    strangers: Option<&'a Evaluator<'a>>,
    facts: &'a NodeFacts,
    /// The places in the view of Service ports that have a frontend on an address.
    by_address: BTreeMap<IpAddr, Vec<usize>>,
    /// The places of those that have a node port.
    with_node_port: Vec<usize>,
}

impl<'a> Manifests<'a> {
    /// Of a view; what `strangers` do with packets that are no Service's is right.
    pub(super) fn new(
        oracle: Oracle<'a>,
        strangers: Option<&'a Evaluator<'a>>,
        facts: &'a NodeFacts,
    ) -> Manifests<'a> {
        let mut by_address: BTreeMap<IpAddr, Vec<usize>> = BTreeMap::new();
        let mut with_node_port = Vec::new();
        for (index, port) in oracle.view().ports.iter().enumerate() {
            for frontend in &port.frontends {
                match frontend.vip {
                    Vip::Address(vip) => by_address.entry(vip.addr).or_default().push(index),
                    Vip::NodePort(_) => with_node_port.push(index),
                }
            }
        }
        Manifests { oracle, strangers, facts, by_address, with_node_port }
    }

    /// Service ports that may have a frontend on an address.
    fn ports_at(&self, addr: IpAddr) -> impl Iterator<Item = &'a PortView> + '_ {
        let ports = &self.oracle.view().ports;
        let of_address = self.by_address.get(&addr).into_iter().flatten();
        let has_node_ports = self.has_node_ports(addr);
        let of_node = self.with_node_port.iter().filter(move |_| has_node_ports);
        of_address.chain(of_node).filter_map(|index| ports.get(*index))
    }

    /// Whether the number of a node port may mean something on an address.
    fn has_node_ports(&self, addr: IpAddr) -> bool {
        let by_sets = self.oracle.view().habits.masquerades_by_sets && self.by_address.contains_key(&addr);
        self.facts.is_local(addr) || self.oracle.listed(addr) || by_sets
    }

    /// What sets of all Services ask besides.
    fn ask_shared(&self, destination: &Destination, found: &mut Questions) {
        let view = self.oracle.view();
        if !view.habits.masquerades_by_sets {
            return;
        }
        found.sources.insert((destination.addr, destination.addr));
        found.sources.extend(match view.family {
            IpFamily::V4 => loopback(),
            IpFamily::V6 => Some((IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST))),
        });
        if destination.service.is_none() {
            let health_checks = view.ports.iter().filter_map(|port| port.health_check_node_port);
            for port in health_checks {
                found.ports.insert((None, port, port));
                found.protocols.extend(Protocol::ALL);
            }
        }
    }

    fn ask_sources(&self, port: &PortView, found: &mut Questions) {
        let has_external_ip = || port.frontends.iter().any(|one| one.kind == FrontendKind::ExternalIp);
        found.bridge_port |= self.oracle.view().habits.carries_connections && has_external_ip();
        let hosts = port.endpoints.iter().map(|endpoint| endpoint.addr.addr);
        found.sources.extend(hosts.map(|addr| (addr, addr)));
        found.source_is_local = true;
        if let Some(ranges) = &port.source_ranges {
            found.sources.extend(ranges.allowed.iter().map(range_of));
            let own = port.frontends.iter().filter(|frontend| frontend.kind == FrontendKind::LoadBalancer);
            found.sources.extend(own.filter_map(|frontend| match frontend.vip {
                Vip::Address(vip) => Some((vip.addr, vip.addr)),
                Vip::NodePort(_) => None,
            }));
        }
        match &self.oracle.view().local_traffic {
            Some(LocalTraffic::Source(cidr)) => {
                found.sources.insert(range_of(cidr));
            }
            Some(LocalTraffic::Interface(name)) => {
                found.interfaces.insert(InterfacePattern { stem: name.as_ref().into(), is_prefix: false });
            }
            Some(LocalTraffic::InterfacePrefix(stem)) => {
                found.interfaces.insert(InterfacePattern { stem: stem.as_ref().into(), is_prefix: true });
            }
            None => {}
        }
        found.lifetimes.extend(port.affinity_seconds);
    }

    /// Whether a packet asks the node how a Service is, and is let in for that.
    fn is_health_check(&self, packet: &Packet) -> bool {
        let view = self.oracle.view();
        let is_asked = |port: &PortView| port.health_check_node_port == Some(packet.destination.port);
        let protocols: &[Protocol] =
            if view.habits.masquerades_by_sets { &[Protocol::Tcp, Protocol::Udp] } else { &[Protocol::Tcp] };
        view.habits.admits_health_checks
            && protocols.contains(&packet.protocol)
            && self.is_local(packet.destination.addr)
            && view.ports.iter().any(is_asked)
    }

    /// Where it is remembered where the sender of a packet went, if not at the Service port as a whole.
    fn place(&self, packet: &Packet) -> BTreeSet<String> {
        let place = match self.oracle.view().habits.affinity_scope {
            AffinityScope::ServicePort => None,
            AffinityScope::Frontend => Some(packet.destination.to_string()),
            AffinityScope::Pool => self.oracle.pool(packet, self.facts).map(|pool| format!("{pool:?}")),
        };
        place.into_iter().collect()
    }

    fn owner_port(&self, packet: &Packet) -> Option<&'a PortView> {
        self.oracle.view().ports.get(self.oracle.owner(packet, self.facts)?)
    }
}

/// 127.0.0.0/8.
fn loopback() -> Option<AddrRange> {
    IpCidr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8).as_ref().map(range_of)
}

impl Meaning for Manifests<'_> {
    fn destinations(&self, found: &mut Destinations) {
        let view = self.oracle.view();
        found.hosts.extend(self.by_address.keys());
        if let NodePortScope::Addresses(addresses) = &view.node_ports {
            found.hosts.extend(addresses);
        }
        let guarded = self.oracle.guarded_cidrs().iter().filter(|cidr| cidr.family() == view.family);
        found.ranges.extend(guarded.map(range_of));
        if view.family == IpFamily::V4 {
            found.ranges.extend(loopback());
        }
    }

    fn questions(&self, destination: &Destination, found: &mut Questions) {
        let has_node_ports = self.has_node_ports(destination.addr);
        let ports = &self.oracle.view().ports;
        match destination.service {
            Some((protocol, number)) => {
                let to = AddrPort::new(destination.addr, number);
                let owner = self.oracle.owner_of(to, protocol, self.facts);
                if let Some(port) = owner.and_then(|index| ports.get(index)) {
                    self.ask_sources(port, found);
                }
            }
            None => {
                for port in self.ports_at(destination.addr) {
                    let protocol = port.name.protocol;
                    found.protocols.insert(protocol);
                    let numbers = port.frontends.iter().filter_map(|frontend| match frontend.vip {
                        Vip::Address(vip) => (vip.addr == destination.addr).then_some(vip.port),
                        Vip::NodePort(node_port) => has_node_ports.then_some(node_port),
                    });
                    found.ports.extend(numbers.map(|number| (Some(protocol), number, number)));
                }
            }
        }
        self.ask_shared(destination, found);
        if destination.addr.is_loopback() {
            found.sources.extend(loopback().filter(|_| destination.addr.is_ipv4()));
        }
    }

    fn answer(&self, packet: &Packet) -> Answer {
        let fate = self.oracle.fate(packet, self.facts);
        let mut remembered = BTreeMap::new();
        match (&fate, self.strangers) {
            (Fate::Forwarded(choices), _) => {
                if self.owner_port(packet).is_some_and(|port| port.affinity_seconds.is_some()) {
                    remembered.extend(choices.iter().map(|choice| (choice.endpoint, self.place(packet))));
                }
            }
            (Fate::Untouched, Some(strangers)) => {
                let theirs = strangers.eval(packet, &Memory::default()).fate;
                let is_refused = matches!(theirs, Fate::Rejected | Fate::Dropped);
                let fate = if is_refused && self.is_health_check(packet) { fate } else { theirs };
                return Answer { fate, remembered };
            }
            (Fate::Untouched | Fate::Rejected | Fate::Dropped | Fate::Unknown(_), _) => {}
        }
        Answer { fate, remembered }
    }

    fn fate_after(&self, packet: &Packet, earlier: &Earlier<'_>) -> Fate {
        let owner = self.oracle.owner(packet, self.facts);
        let lifetime = self.owner_port(packet).and_then(|port| port.affinity_seconds);
        let is_kept = owner == self.oracle.owner(earlier.packet, self.facts)
            && lifetime.is_some_and(|seconds| earlier.age.as_secs() < u64::from(seconds))
            && earlier.answer.remembered.get(&earlier.endpoint) == Some(&self.place(packet));
        if is_kept {
            self.oracle.fate_remembered(packet, self.facts, earlier.endpoint)
        } else {
            self.answer(packet).fate
        }
    }

    fn owner(&self, packet: &Packet) -> Option<usize> {
        self.oracle.owner(packet, self.facts)
    }

    fn neighbour(&self, packet: &Packet) -> Option<usize> {
        let on_address = || self.by_address.get(&packet.destination.addr)?.first().copied();
        self.owner(packet).or_else(on_address)
    }

    fn is_local(&self, addr: IpAddr) -> bool {
        self.facts.is_local(addr) || self.oracle.is_borne(addr)
    }

    fn is_from_pod(&self, packet: &Packet) -> bool {
        let interface = packet.in_interface.as_deref();
        match &self.oracle.view().local_traffic {
            Some(LocalTraffic::Source(cidr)) => cidr.contains(packet.source.addr),
            Some(LocalTraffic::Interface(name)) => interface == Some(name.as_ref()),
            Some(LocalTraffic::InterfacePrefix(stem)) => {
                interface.is_some_and(|name| name.starts_with(stem.as_ref()))
            }
            None => false,
        }
    }

    fn path(&self, _: &Packet, _: Option<&Earlier<'_>>) -> Vec<String> {
        Vec::new()
    }
}
