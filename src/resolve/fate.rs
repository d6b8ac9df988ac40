//! The oracle: the fate of a packet by the decisions of a [`NodeView`] alone. Rules are right if they agree with it.

use std::net::IpAddr;

use crate::net::{AddrPort, Port, Protocol};
use crate::packet::{Choice, Fate, NodeFacts, Origin, Packet};

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
    decide(view, packet, facts, None)
}

/// What must become of the first packet of a flow whose source address was sent to `previous` not long ago: with
/// session affinity it goes there again, as long as the pool that is meant for it still has that endpoint.
pub fn fate_remembered(view: &NodeView, packet: &Packet, facts: &NodeFacts, previous: AddrPort) -> Fate {
    decide(view, packet, facts, Some(previous))
}

fn decide(view: &NodeView, packet: &Packet, facts: &NodeFacts, previous: Option<AddrPort>) -> Fate {
    if packet.family() != view.family {
        return Fate::Untouched;
    }
    let fate = service_fate(view, packet, facts, previous);
    if view.habits.carries_connections {
        return carried(fate, packet);
    }
    // Node ports on loopback addresses have the kernel route these; nothing else may come in that way.
    let is_let_in = packet.source.addr.is_loopback() || !packet.destination.addr.is_loopback();
    match fate {
        Fate::Untouched | Fate::Rejected if view.localhost_node_ports && !is_let_in => Fate::Dropped,
        Fate::Untouched | Fate::Rejected | Fate::Forwarded(_) | Fate::Dropped | Fate::Unknown(_) => fate,
    }
}

/// The fate of a packet that a process of the node takes: its connection comes to an end or goes on as another one.
fn carried(fate: Fate, packet: &Packet) -> Fate {
    match fate {
        Fate::Forwarded(mut choices) => {
            choices.iter_mut().for_each(|choice| choice.source_nat = true);
            Fate::Forwarded(choices)
        }
        // A connection is hung up on; of a datagram nobody hears again.
        Fate::Rejected | Fate::Dropped if packet.protocol == Protocol::Tcp => Fate::Rejected,
        Fate::Rejected | Fate::Dropped => Fate::Dropped,
        Fate::Untouched | Fate::Unknown(_) => fate,
    }
}

/// Whether a process gets packets to an external IP (reference section 5.4): it does if the address is the node's.
/// Otherwise the node's own leave as they are, and so do those of pods on a bridge. `None` if it gets them.
fn uncarried(view: &NodeView, frontend: &Frontend, packet: &Packet, facts: &NodeFacts) -> Option<Fate> {
    let is_asked = view.habits.carries_connections && frontend.kind == FrontendKind::ExternalIp;
    if !is_asked || facts.is_local(packet.destination.addr) {
        return None;
    }
    match packet.origin {
        Origin::Outside => None,
        Origin::Node => Some(Fate::Untouched),
        Origin::Pod => Some(Fate::Unknown("whether the pod is on a bridge".to_owned())),
    }
}

fn service_fate(view: &NodeView, packet: &Packet, facts: &NodeFacts, previous: Option<AddrPort>) -> Fate {
    let follow = |port: &PortView, routes: Routes| match select(view, routes, packet, facts) {
        Route::Forward { pool, masquerade } => {
            forward(view.habits, port, pool, masquerade, packet, facts, previous)
        }
        Route::Reject => Fate::Rejected,
        Route::Drop => Fate::Dropped,
    };
    if let Some((port, frontend)) = address_frontend(view, packet) {
        if let Some(fate) = uncarried(view, frontend, packet, facts) {
            return fate;
        }
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
        let is_refused = view.habits.refuses_unused_ports && is_cluster_ip(view, packet.destination.addr);
        return if is_refused { Fate::Rejected } else { Fate::Untouched };
    }
    let Some(port) = node_port_frontend(view, packet) else { return Fate::Untouched };
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

/// Whether an address is the cluster IP of some Service.
fn is_cluster_ip(view: &NodeView, addr: IpAddr) -> bool {
    view.ports.iter().flat_map(|port| &port.frontends).any(|frontend| match (frontend.kind, frontend.vip) {
        (FrontendKind::ClusterIp, Vip::Address(vip)) => vip.addr == addr,
        (FrontendKind::ClusterIp, Vip::NodePort(_))
        | (FrontendKind::ExternalIp | FrontendKind::LoadBalancer | FrontendKind::NodePort, _) => false,
    })
}

/// Whether a packet escapes the refusal of an external address: the node's own, which only goes out.
fn leaves_unrefused(view: &NodeView, frontend: &Frontend, packet: &Packet, facts: &NodeFacts) -> bool {
    !view.habits.refuses_own_traffic
        && packet.origin == Origin::Node
        && frontend.kind != FrontendKind::ClusterIp
        && !facts.is_local(packet.destination.addr)
}

fn address_frontend<'a>(view: &'a NodeView, packet: &Packet) -> Option<(&'a PortView, &'a Frontend)> {
    view.ports.iter().filter(|port| port.name.protocol == packet.protocol).find_map(|port| {
        let is_for = |frontend: &&Frontend| frontend.vip == Vip::Address(packet.destination);
        port.frontends.iter().find(is_for).map(|frontend| (port, frontend))
    })
}

fn node_port_frontend<'a>(view: &'a NodeView, packet: &Packet) -> Option<&'a PortView> {
    let node_port: Port = packet.destination.port;
    view.ports
        .iter()
        .filter(|port| port.name.protocol == packet.protocol)
        .find(|port| port.frontends.iter().any(|frontend| frontend.vip == Vip::NodePort(node_port)))
}

/// Whether a node port answers on a local address.
fn in_scope(scope: &NodePortScope, addr: IpAddr) -> bool {
    match scope {
        NodePortScope::AllLocal { loopback } => *loopback || !addr.is_loopback(),
        NodePortScope::Addresses(addresses) => addresses.contains(&addr),
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
