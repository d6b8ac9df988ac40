//! The oracle: the fate of a packet by the decisions of a [`NodeView`] alone. Rules are right if they agree with it.

use std::net::IpAddr;

use crate::net::{AddrPort, IpCidr, Protocol};
use crate::packet::{Choice, Fate, NodeFacts, Origin, Packet};

use super::directory::Directory;
use super::{
    Frontend, FrontendKind, Habits, LocalTraffic, NodePortScope, NodeView, PoolEndpoint, PoolKind, PortView,
    Route, Routes, Vip,
};

/// What must become of the first packet of a flow.
///
/// A packet is for the first Service port, in the view's order, that has a frontend on its destination address; only
/// if there is none is it for the first that has a node port there. (In an iptables program the first *forwarding*
/// one would have it, in an nftables program the last one; Services that claim each other's addresses are a mistake
/// that `check` tells about.)
pub fn fate(view: &NodeView, packet: &Packet, facts: &NodeFacts) -> Fate {
    Oracle::new(view).fate(packet, facts)
}

/// What must become of the first packet of a flow whose source address was sent to `previous` not long ago: with
/// session affinity it goes there again, as long as the pool that is meant for it still has that endpoint.
pub fn fate_remembered(view: &NodeView, packet: &Packet, facts: &NodeFacts, previous: AddrPort) -> Fate {
    Oracle::new(view).fate_remembered(packet, facts, previous)
}

/// A view made ready to be asked about many packets.
#[derive(Debug, Clone)]
pub struct Oracle<'a> {
    view: &'a NodeView,
    directory: Directory<'a>,
    service_cidrs: Vec<IpCidr>,
}

impl<'a> Oracle<'a> {
    /// Makes it ready.
    pub fn new(view: &'a NodeView) -> Oracle<'a> {
        Oracle { view, directory: Directory::new(view), service_cidrs: Vec::new() }
    }

    /// With what is known of where cluster IPs come from: a mode that refuses unused ports of cluster IPs discards packets
    /// to those that no Service has (reference section 4.5).
    pub fn with_service_cidrs(self, service_cidrs: Vec<IpCidr>) -> Oracle<'a> {
        Oracle { service_cidrs, ..self }
    }

    /// The view.
    pub fn view(&self) -> &'a NodeView {
        self.view
    }

    /// Networks whose addresses are discarded where no Service has them.
    pub fn guarded_cidrs(&self) -> &[IpCidr] {
        if self.view.habits.refuses_unused_ports { &self.service_cidrs } else { &[] }
    }

    /// What [`fate`] says.
    pub fn fate(&self, packet: &Packet, facts: &NodeFacts) -> Fate {
        decide(self, packet, facts, None)
    }

    /// What [`fate_remembered`] says.
    pub fn fate_remembered(&self, packet: &Packet, facts: &NodeFacts, previous: AddrPort) -> Fate {
        decide(self, packet, facts, Some(previous))
    }

    /// Whose a packet is: the place of the Service port in the view.
    pub fn owner(&self, packet: &Packet, facts: &NodeFacts) -> Option<usize> {
        self.owner_of(packet.destination, packet.protocol, facts)
    }

    /// Whose packets to a destination are.
    pub fn owner_of(&self, to: AddrPort, protocol: Protocol, facts: &NodeFacts) -> Option<usize> {
        if let Some((index, ..)) = self.directory.at_address(to, protocol) {
            return Some(index);
        }
        let is_local = facts.is_local(to.addr);
        self.directory.at_node_port(to.port, protocol).filter(|_| is_local).map(|(index, _)| index)
    }
}

fn decide(oracle: &Oracle<'_>, packet: &Packet, facts: &NodeFacts, previous: Option<AddrPort>) -> Fate {
    let view = oracle.view;
    if packet.family() != view.family {
        return Fate::Untouched;
    }
    let fate = service_fate(oracle, packet, facts, previous);
    // Node ports on loopback addresses have the kernel route these; nothing else may come in that way.
    let is_let_in = packet.source.addr.is_loopback() || !packet.destination.addr.is_loopback();
    match fate {
        Fate::Untouched | Fate::Rejected if view.localhost_node_ports && !is_let_in => Fate::Dropped,
        Fate::Untouched | Fate::Rejected | Fate::Forwarded(_) | Fate::Dropped | Fate::Unknown(_) => fate,
    }
}

fn service_fate(oracle: &Oracle<'_>, packet: &Packet, facts: &NodeFacts, previous: Option<AddrPort>) -> Fate {
    let (view, directory) = (oracle.view, &oracle.directory);
    let follow = |port: &PortView, routes: Routes| match select(view, routes, packet, facts) {
        Route::Forward { pool, masquerade } => {
            forward(view.habits, port, pool, masquerade, packet, facts, previous)
        }
        Route::Reject => Fate::Rejected,
        Route::Drop => Fate::Dropped,
    };
    if let Some((_, port, frontend)) = directory.at_address(packet.destination, packet.protocol) {
        let routes = port.routes(frontend.kind);
        // Without any endpoint the answer is the refusal, whoever asks, unless ranges are asked first.
        let refused = routes.outside == Route::Reject && !view.habits.asks_ranges_first;
        if frontend.kind == FrontendKind::LoadBalancer && !refused && !may_use(port, packet.source.addr) {
            return Fate::Dropped;
        }
        let fate = follow(port, routes);
        let is_refused = fate == Fate::Rejected || fate == Fate::Dropped;
        return if is_refused && leaves_unrefused(view, frontend, packet, facts) {
            Fate::Untouched
        } else {
            fate
        };
    }
    if !facts.is_local(packet.destination.addr) {
        let addr = packet.destination.addr;
        return if view.habits.refuses_unused_ports && directory.is_cluster_ip(addr) {
            Fate::Rejected
        } else if oracle.guarded_cidrs().iter().any(|cidr| cidr.contains(addr)) {
            Fate::Dropped
        } else {
            Fate::Untouched
        };
    }
    let Some((_, port)) = directory.at_node_port(packet.destination.port, packet.protocol) else {
        return Fate::Untouched;
    };
    let routes = port.routes(FrontendKind::NodePort);
    if in_scope(&view.node_ports, packet.destination.addr) {
        return follow(port, routes);
    }
    // The node port answers elsewhere only; yet where nothing would answer it is closed on every local address, for
    // pods and the node itself too.
    match routes.outside {
        Route::Forward { .. } => Fate::Untouched,
        Route::Reject | Route::Drop if !view.habits.refuses_node_ports_anywhere => Fate::Untouched,
        Route::Reject => Fate::Rejected,
        Route::Drop => Fate::Dropped,
    }
}

/// Whether a packet escapes the refusal of an external address: the node's own, which only goes out.
fn leaves_unrefused(view: &NodeView, frontend: &Frontend, packet: &Packet, facts: &NodeFacts) -> bool {
    !view.habits.refuses_own_traffic
        && packet.origin == Origin::Node
        && frontend.kind != FrontendKind::ClusterIp
        && !facts.is_local(packet.destination.addr)
}

/// Whether a node port answers on a local address.
fn in_scope(scope: &NodePortScope, addr: IpAddr) -> bool {
    match (scope, addr) {
        (NodePortScope::AllLocal { loopback }, IpAddr::V4(addr)) => *loopback || !addr.is_loopback(),
        (NodePortScope::AllLocal { .. }, IpAddr::V6(addr)) => !addr.is_loopback(),
        (NodePortScope::Addresses(addresses), IpAddr::V4(_)) => addresses.contains(&addr),
        (NodePortScope::Addresses(addresses), IpAddr::V6(v6)) => {
            !v6.is_loopback() && addresses.contains(&addr)
        }
    }
}

/// Whether a source address may use the load balancer frontends of a port.
fn may_use(port: &PortView, source: IpAddr) -> bool {
    let Some(ranges) = &port.source_ranges else { return true };
    let is_own_vip = |frontend: &Frontend| match (frontend.kind, frontend.vip) {
        (FrontendKind::LoadBalancer, Vip::Address(vip)) => vip.addr == source,
        (FrontendKind::LoadBalancer, Vip::NodePort(_)) => false,
        (FrontendKind::ClusterIp | FrontendKind::ExternalIp | FrontendKind::NodePort, _) => false,
    };
    ranges.allowed.iter().any(|range| range.contains(source))
        || (ranges.allow_vips && port.frontends.iter().any(is_own_vip))
}

/// The route of a packet by where it comes from: a pod is told first, then the node itself.
fn select(view: &NodeView, routes: Routes, packet: &Packet, facts: &NodeFacts) -> Route {
    let interface = packet.in_interface.as_deref();
    let is_pods = match &view.local_traffic {
        Some(LocalTraffic::Source(cidr)) => cidr.contains(packet.source.addr),
        Some(LocalTraffic::Interface(name)) => interface == Some(name.as_ref()),
        Some(LocalTraffic::InterfacePrefix(prefix)) => {
            interface.is_some_and(|name| name.starts_with(prefix.as_ref()))
        }
        None => false,
    };
    if is_pods {
        routes.pods
    } else if facts.is_local(packet.source.addr) {
        routes.node
    } else {
        routes.outside
    }
}

fn forward(
    habits: Habits,
    port: &PortView,
    pool: PoolKind,
    masquerade: bool,
    packet: &Packet,
    facts: &NodeFacts,
    previous: Option<AddrPort>,
) -> Fate {
    let kept = previous
        .filter(|_| port.affinity_seconds.is_some())
        .filter(|previous| port.pool(pool).any(|endpoint| endpoint == *previous));
    let endpoints: Vec<AddrPort> = match kept {
        Some(endpoint) => vec![endpoint],
        None => port.pool(pool).collect(),
    };
    // Sources are rewritten on the way out; what comes in and stays on the node does not go there.
    let leaves = |endpoint: AddrPort| packet.origin == Origin::Node || !facts.is_local(endpoint.addr);
    let may_hairpin = |endpoint: AddrPort| {
        let is_here = |one: &PoolEndpoint| one.addr == endpoint && one.on_this_node;
        habits.masquerades_remote_hairpins || port.endpoints.iter().any(is_here)
    };
    let rewritten =
        |endpoint: AddrPort| masquerade || (endpoint.addr == packet.source.addr && may_hairpin(endpoint));
    let probability = 1.0 / endpoints.len() as f64;
    let mut choices: Vec<Choice> = endpoints
        .into_iter()
        .map(|endpoint| Choice { endpoint, probability, source_nat: leaves(endpoint) && rewritten(endpoint) })
        .collect();
    choices.sort_by_key(|choice| choice.endpoint);
    Fate::Forwarded(choices)
}

#[cfg(test)]
#[path = "fate_tests.rs"]
mod tests;
