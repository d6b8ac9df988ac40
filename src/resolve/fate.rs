//! The oracle: the fate of a packet by the decisions of a [`NodeView`] alone. Rules are right if they agree with it.

use std::net::IpAddr;

use crate::net::{AddrPort, IpCidr, Protocol};
use crate::packet::{Choice, Fate, NodeFacts, Origin, Packet};

use super::directory::Directory;
use super::{
    Frontend, FrontendKind, Habits, LocalTraffic, NodePortScope, NodeView, PoolKind, PortView, Route, Routes,
    SourceRanges, UnusedPorts, Vip,
};

/// What must become of the first packet of a flow.
///
/// A packet is for the first Service port, in the view's order, that has a frontend on its destination address; only
/// if there is none is it for the first that has a node port there. (In an iptables program the first *forwarding*
/// one would have it, in an nftables program the last one; Services that claim each other's addresses are a mistake
/// that `check` tells about.)
///
/// `facts` are about the node as it is without Services: the addresses of a dummy device are no part of them. Endpoints
/// are told with equal chances, as if the scheduler of IPVS took them by turns.
pub fn fate(view: &NodeView, packet: &Packet, facts: &NodeFacts) -> Fate {
    Oracle::new(view).fate(packet, facts)
}

/// What must become of the first packet of a flow whose source address was sent to `previous` not long ago: with
/// session affinity it goes there again, as long as the pool that is meant for it still has that endpoint. In IPVS mode it
/// must have come by the same frontend.
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
        match self.view.habits.unused_ports {
            UnusedPorts::RefusedOnClusterIps => &self.service_cidrs,
            UnusedPorts::LeftAlone | UnusedPorts::RefusedOnVips => &[],
        }
    }

    /// What [`fate`] says.
    pub fn fate(&self, packet: &Packet, facts: &NodeFacts) -> Fate {
        self.case(packet, facts, None).fate()
    }

    /// What [`fate_remembered`] says.
    pub fn fate_remembered(&self, packet: &Packet, facts: &NodeFacts, previous: AddrPort) -> Fate {
        self.case(packet, facts, Some(previous)).fate()
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
        let is_here = facts.is_local(to.addr) || self.listed(to.addr);
        self.directory.at_node_port(to.port, protocol).filter(|_| is_here).map(|(index, _)| index)
    }

    /// The pool of endpoints that a packet is for, if a Service port has it and leads it to one.
    pub fn pool(&self, packet: &Packet, facts: &NodeFacts) -> Option<PoolKind> {
        let case = self.case(packet, facts, None);
        let at_address = case.address_frontend().map(|(port, frontend)| port.routes(frontend.kind));
        let at_node_port = || Some(case.node_port_frontend()?.routes(FrontendKind::NodePort));
        match case.select(at_address.or_else(at_node_port)?) {
            Route::Forward { pool, .. } => Some(pool),
            Route::Reject | Route::Drop => None,
        }
    }

    /// Whether node ports answer on an address because it is listed.
    pub fn listed(&self, addr: IpAddr) -> bool {
        matches!(&self.view.node_ports, NodePortScope::Addresses(addresses) if addresses.contains(&addr))
    }

    /// Whether an address is the node's for the sake of Services: a device bears it.
    pub fn is_borne(&self, addr: IpAddr) -> bool {
        self.view.habits.unused_ports == UnusedPorts::RefusedOnVips && self.directory.is_vip(addr)
    }

    fn case<'c>(&'c self, packet: &'c Packet, facts: &'c NodeFacts, previous: Option<AddrPort>) -> Case<'c> {
        Case { oracle: self, view: self.view, packet, facts, previous }
    }
}

/// A packet at a node.
#[derive(Clone, Copy)]
struct Case<'a> {
    oracle: &'a Oracle<'a>,
    view: &'a NodeView,
    packet: &'a Packet,
    facts: &'a NodeFacts,
    previous: Option<AddrPort>,
}

impl<'a> Case<'a> {
    fn fate(self) -> Fate {
        if self.packet.family() != self.view.family {
            return Fate::Untouched;
        }
        let fate = self.service_fate();
        if self.view.habits.carries_connections {
            return self.carried(fate);
        }
        // Node ports on loopback addresses have the kernel route these; nothing else may come in that way.
        let is_let_in = self.packet.source.addr.is_loopback() || !self.packet.destination.addr.is_loopback();
        match fate {
            Fate::Untouched | Fate::Rejected if self.view.localhost_node_ports && !is_let_in => Fate::Dropped,
            Fate::Untouched | Fate::Rejected | Fate::Forwarded(_) | Fate::Dropped | Fate::Unknown(_) => fate,
        }
    }

    /// The fate where a process of the node takes the packet: its connection comes to an end or goes on as another one.
    fn carried(self, fate: Fate) -> Fate {
        match fate {
            Fate::Forwarded(mut choices) => {
                choices.iter_mut().for_each(|choice| choice.source_nat = true);
                Fate::Forwarded(choices)
            }
            // A connection is hung up on; of a datagram nobody hears again.
            Fate::Rejected | Fate::Dropped if self.packet.protocol == Protocol::Tcp => Fate::Rejected,
            Fate::Rejected | Fate::Dropped => Fate::Dropped,
            Fate::Untouched | Fate::Unknown(_) => fate,
        }
    }

    /// Whether a process gets packets to an external IP (reference section 5.4): it does if the address is the node's.
    /// Otherwise the node's own leave as they are, and so do those of pods on a bridge. `None` if it gets them.
    fn uncarried(self, frontend: &Frontend) -> Option<Fate> {
        let is_asked = self.view.habits.carries_connections && frontend.kind == FrontendKind::ExternalIp;
        if !is_asked || self.is_here() {
            return None;
        }
        match self.packet.origin {
            Origin::Outside => None,
            Origin::Node => Some(Fate::Untouched),
            Origin::Pod => match self.packet.bridge_port {
                Some(true) => Some(Fate::Untouched),
                Some(false) => None,
                None => Some(Fate::Unknown("whether the pod is on a bridge".to_owned())),
            },
        }
    }

    fn service_fate(self) -> Fate {
        if let Some((port, frontend)) = self.address_frontend() {
            return self.vip_fate(port, frontend);
        }
        let node_port = self.node_port_frontend();
        let answers = node_port.is_some() && self.is_in_scope();
        if self.refuses_unused() && !(answers && self.meets_servers_first()) {
            return Fate::Rejected;
        }
        if self.is_guarded() {
            return Fate::Dropped;
        }
        let Some(port) = node_port.filter(|_| answers || self.is_here()) else { return Fate::Untouched };
        let routes = port.routes(FrontendKind::NodePort);
        if answers {
            return self.follow(port, FrontendKind::NodePort, routes);
        }
        // The node port answers elsewhere only; yet where nothing would answer it is closed on every local address, for
        // pods and the node itself too.
        match routes.outside {
            Route::Forward { .. } => Fate::Untouched,
            Route::Reject | Route::Drop if !self.view.habits.refuses_node_ports_anywhere => Fate::Untouched,
            Route::Reject => Fate::Rejected,
            Route::Drop => Fate::Dropped,
        }
    }

    fn vip_fate(self, port: &PortView, frontend: &Frontend) -> Fate {
        if let Some(fate) = self.uncarried(frontend) {
            return fate;
        }
        let routes = port.routes(frontend.kind);
        // Without any endpoint the answer is the refusal, whoever asks, unless ranges are asked first.
        let ranges_first = self.view.habits.asks_ranges_first && !self.meets_servers_first();
        let is_refused = routes.outside == Route::Reject && !ranges_first;
        if frontend.kind == FrontendKind::LoadBalancer && !is_refused && !self.may_use(port) {
            return Fate::Dropped;
        }
        let fate = self.follow(port, frontend.kind, routes);
        let is_refused = match fate {
            Fate::Rejected => true,
            // Whom the ranges let in and who then has nowhere to go is stopped with those whom they do not.
            Fate::Dropped => frontend.kind != FrontendKind::LoadBalancer || port.source_ranges.is_none(),
            Fate::Untouched | Fate::Forwarded(_) | Fate::Unknown(_) => false,
        };
        if is_refused && self.leaves_unrefused(frontend) { Fate::Untouched } else { fate }
    }

    fn follow(self, port: &PortView, kind: FrontendKind, routes: Routes) -> Fate {
        match self.select(routes) {
            Route::Forward { pool, masquerade } => self.forward(port, kind, pool, masquerade),
            Route::Reject => Fate::Rejected,
            Route::Drop => Fate::Dropped,
        }
    }

    /// Whether the destination is an address of the node.
    fn is_here(self) -> bool {
        self.facts.is_local(self.packet.destination.addr)
    }

    /// Whether the packet comes to virtual servers before it comes to any filter: the node's own does.
    fn meets_servers_first(self) -> bool {
        self.view.habits.asks_ranges_on_the_way_in && self.packet.origin == Origin::Node
    }

    /// Whether the destination refuses ports that no Service has.
    fn refuses_unused(self) -> bool {
        let (addr, directory) = (self.packet.destination.addr, &self.oracle.directory);
        let is_cluster_ip = || directory.is_cluster_ip(addr);
        match self.view.habits.unused_ports {
            UnusedPorts::LeftAlone => false,
            UnusedPorts::RefusedOnClusterIps => !self.is_here() && is_cluster_ip(),
            // Cluster IPs are bound for the sake of Services even where they are the node's anyway.
            UnusedPorts::RefusedOnVips => {
                (is_cluster_ip() || (!self.is_here() && directory.is_vip(addr))) && !self.is_health_check()
            }
        }
    }

    /// Whether the destination could be a cluster IP, and no Service has it.
    fn is_guarded(self) -> bool {
        let addr = self.packet.destination.addr;
        !self.is_here() && self.oracle.guarded_cidrs().iter().any(|cidr| cidr.contains(addr))
    }

    /// Whether the destination port is that of a health check. Sets of ports know no SCTP.
    fn is_health_check(self) -> bool {
        self.packet.protocol != Protocol::Sctp
            && self.oracle.directory.is_health_check(self.packet.destination.port)
    }

    /// Whether the packet escapes the refusal of an external address: the node's own, which only goes out.
    fn leaves_unrefused(self, frontend: &Frontend) -> bool {
        !self.view.habits.refuses_own_traffic
            && self.packet.origin == Origin::Node
            && frontend.kind != FrontendKind::ClusterIp
            && !self.is_here()
    }

    fn address_frontend(self) -> Option<(&'a PortView, &'a Frontend)> {
        let found = self.oracle.directory.at_address(self.packet.destination, self.packet.protocol);
        found.map(|(_, port, frontend)| (port, frontend))
    }

    fn node_port_frontend(self) -> Option<&'a PortView> {
        let found = self.oracle.directory.at_node_port(self.packet.destination.port, self.packet.protocol);
        found.map(|(_, port)| port)
    }

    /// Whether node ports answer on the destination.
    fn is_in_scope(self) -> bool {
        let addr = self.packet.destination.addr;
        match &self.view.node_ports {
            NodePortScope::AllLocal { loopback } => self.is_here() && (*loopback || !addr.is_loopback()),
            NodePortScope::Addresses(addresses) => addresses.contains(&addr),
        }
    }

    /// Whether the source may use the load balancer frontends of a port.
    fn may_use(self, port: &PortView) -> bool {
        let Some(ranges) = &port.source_ranges else { return true };
        let source = self.packet.source.addr;
        if self.meets_servers_first() {
            return source != self.packet.destination.addr || ranges.allow_vips;
        }
        ranges.allowed.iter().any(|range| range.contains(source)) || self.is_own_vip(port, ranges)
    }

    /// Whether the source is a load balancer's address that is let in as itself.
    fn is_own_vip(self, port: &PortView, ranges: &SourceRanges) -> bool {
        let source = self.packet.source.addr;
        let Habits { asks_ranges_on_the_way_in, carries_connections, .. } = self.view.habits;
        let only_itself = asks_ranges_on_the_way_in || carries_connections;
        let is_vip = |frontend: &Frontend| match (frontend.kind, frontend.vip) {
            (FrontendKind::LoadBalancer, Vip::Address(vip)) => vip.addr == source,
            (FrontendKind::LoadBalancer, Vip::NodePort(_)) => false,
            (FrontendKind::ClusterIp | FrontendKind::ExternalIp | FrontendKind::NodePort, _) => false,
        };
        ranges.allow_vips
            && (!only_itself || source == self.packet.destination.addr)
            && port.frontends.iter().any(is_vip)
    }

    /// The route of the packet by where it comes from: a pod is told first, then the node itself.
    fn select(self, routes: Routes) -> Route {
        let source = self.packet.source.addr;
        let interface = self.packet.in_interface.as_deref();
        let is_pods = match &self.view.local_traffic {
            Some(LocalTraffic::Source(cidr)) => cidr.contains(source),
            Some(LocalTraffic::Interface(name)) => interface == Some(name.as_ref()),
            Some(LocalTraffic::InterfacePrefix(prefix)) => {
                interface.is_some_and(|name| name.starts_with(prefix.as_ref()))
            }
            None => false,
        };
        // Rules that lead to a process tell the node's own packets by their hook, others by their source.
        if self.view.habits.carries_connections && self.packet.origin == Origin::Node {
            routes.node
        } else if is_pods {
            routes.pods
        } else if self.facts.is_local(source) {
            routes.node
        } else {
            routes.outside
        }
    }

    fn forward(self, port: &PortView, kind: FrontendKind, pool: PoolKind, by_route: bool) -> Fate {
        let kept = self
            .previous
            .filter(|_| port.affinity_seconds.is_some())
            .filter(|previous| port.pool(pool).any(|endpoint| endpoint == *previous));
        let endpoints: Vec<AddrPort> = match kept {
            Some(endpoint) => vec![endpoint],
            None => port.pool(pool).collect(),
        };
        let masquerade = if self.view.habits.masquerades_by_sets {
            self.sets_masquerade(kind, by_route)
        } else {
            by_route
        };
        // Sources are rewritten on the way out; what comes in and stays on the node does not go there.
        let leaves =
            |endpoint: AddrPort| self.packet.origin == Origin::Node || !self.facts.is_local(endpoint.addr);
        let rewritten = |endpoint: AddrPort| masquerade || self.is_hairpin(endpoint);
        let probability = 1.0 / endpoints.len() as f64;
        let mut choices: Vec<Choice> = endpoints
            .into_iter()
            .map(|endpoint| Choice {
                endpoint,
                probability,
                source_nat: leaves(endpoint) && rewritten(endpoint),
            })
            .collect();
        choices.sort_by_key(|choice| choice.endpoint);
        Fate::Forwarded(choices)
    }

    /// Whether an endpoint that sent the packet gets it back, and has its source rewritten for that. Whether it is on this node
    /// may be known of another Service that has it, too: all share one set (reference section 4.4).
    fn is_hairpin(self, endpoint: AddrPort) -> bool {
        let is_here = || self.oracle.directory.is_endpoint_here(endpoint, self.packet.protocol);
        endpoint.addr == self.packet.source.addr
            && (self.view.habits.masquerades_remote_hairpins || is_here())
    }

    /// Whether sets have the source rewritten, given what the route says.
    fn sets_masquerade(self, kind: FrontendKind, by_route: bool) -> bool {
        let (source, port) = (self.packet.source.addr, self.packet.destination.port);
        if source.is_loopback() {
            return false;
        }
        let is_told = match kind {
            FrontendKind::ClusterIp => {
                let same = AddrPort::new(source, port);
                let is_source = || self.oracle.directory.has_cluster_ip(same, self.packet.protocol);
                (self.view.local_traffic.is_none() && is_source()) || self.has_node_port_number()
            }
            FrontendKind::LoadBalancer => self.has_node_port_number(),
            FrontendKind::ExternalIp | FrontendKind::NodePort => false,
        };
        by_route || is_told
    }

    /// Whether the destination port is a node port whose packets do not keep their source. Sets of ports know no SCTP: there
    /// the address counts too.
    fn has_node_port_number(self) -> bool {
        let Packet { destination, protocol, .. } = self.packet;
        let mut owners = self.oracle.directory.with_node_port(destination.port, *protocol).peekable();
        (*protocol != Protocol::Sctp || self.is_in_scope())
            && owners.peek().is_some()
            && owners.all(|port| !port.external_keeps_source)
    }
}

#[cfg(test)]
#[path = "fate_tests.rs"]
mod tests;
