//! Virtual servers → Services. The kernel keeps no names of Services: sets tell what kind of address it is, and whoever
//! knows the decisions for a node can tell whose.

use std::collections::BTreeMap;

use crate::backend::{CarryingRule, EndpointLoad, LiftedName, LiftedPolicies, LiftedPort, LiftedVip, Place};
use crate::net::{AddrPort, IpCidr, IpFamily, Protocol};
use crate::program::ipset::{self, Entry, Sets};
use crate::program::ipvs::{
    Counters, Flags, RealServer, Request, ServiceKey, VirtualServer, VirtualServers, emit,
};
use crate::resolve::{FrontendKind, NodeView, PortView, Vip};

use super::names::SetId;
use super::owned::{holds_local_node_port, holds_node_port, holds_vip, set_family};

/// A virtual server as it tells of itself, and what sets tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiftedServer {
    /// The Service port that it serves. One that no Service port of the view was made for goes by its own address, or by its
    /// node port; so do all without a view.
    pub name: LiftedName,
    /// Its protocol.
    pub protocol: Protocol,
    /// Where it answers.
    pub at: AddrPort,
    /// What kind of address that is; `None` if no set holds it.
    pub kind: Option<FrontendKind>,
    /// Its endpoints; one with weight 0 gets no new connections.
    pub endpoints: BTreeMap<AddrPort, RealServer>,
    /// What has passed through it, if a kernel told.
    pub counters: Option<Counters>,
    /// For how many seconds a client stays with its endpoint.
    pub affinity_seconds: Option<u32>,
}

impl LiftedServer {
    /// What the kernel knows it by.
    pub fn key(&self) -> ServiceKey {
        ServiceKey::Address { protocol: self.protocol, at: self.at }
    }

    /// The endpoints that get new connections.
    fn taking(&self) -> impl Iterator<Item = AddrPort> + '_ {
        self.endpoints.iter().filter(|(_, endpoint)| endpoint.weight > 0).map(|(at, _)| *at)
    }

    /// Adds what the kernel holds and has counted for it.
    fn add_load(&self, policies: &mut LiftedPolicies) {
        if let Some(counters) = self.counters {
            *policies.vip_traffic.entry(self.vip()).or_default() += counters;
        }
        for (at, endpoint) in &self.endpoints {
            let load = policies
                .endpoint_loads
                .entry(*at)
                .or_insert(EndpointLoad { connections: None, is_draining: true });
            load.is_draining &= endpoint.weight == 0;
            // Nobody but a kernel knows connections, and it always tells counters with them.
            if self.counters.is_some() {
                *load.connections.get_or_insert_default() += endpoint.connections;
            }
        }
    }

    /// Where the Service answers.
    fn vip(&self) -> LiftedVip {
        vip(self.kind, self.at)
    }
}

fn vip(kind: Option<FrontendKind>, at: AddrPort) -> LiftedVip {
    match kind {
        Some(FrontendKind::NodePort) => LiftedVip::NodePort(at.port),
        Some(FrontendKind::ClusterIp | FrontendKind::ExternalIp | FrontendKind::LoadBalancer) | None => {
            LiftedVip::Address(at)
        }
    }
}

/// Service ports by where they answer.
type Owners<'a> = BTreeMap<(Protocol, LiftedVip), &'a PortView>;

/// The Service ports of a view by where they answer. Of two the first has it, as when they are lowered.
fn owners(view: &NodeView) -> Owners<'_> {
    let mut owners = BTreeMap::new();
    for (port, frontend) in view.frontends() {
        let vip = match frontend.vip {
            Vip::Address(at) => LiftedVip::Address(at),
            Vip::NodePort(port) => LiftedVip::NodePort(port),
        };
        owners.entry((port.name.protocol, vip)).or_insert(port);
    }
    owners
}

/// The virtual servers for addresses. Those for marks are not of Services.
pub fn lift(servers: &VirtualServers, sets: &Sets, view: Option<&NodeView>) -> Vec<LiftedServer> {
    let owners = view.map(owners).unwrap_or_default();
    let lifted = |(key, server): (&ServiceKey, &VirtualServer)| {
        let ServiceKey::Address { protocol, at } = *key else { return None };
        let persistent = server.flags.contains(Flags::PERSISTENT);
        let kind = kind(sets, protocol, at);
        Some(LiftedServer {
            name: name(protocol, vip(kind, at), &owners),
            protocol,
            at,
            kind,
            endpoints: server.real_servers.clone(),
            counters: server.counters,
            affinity_seconds: persistent.then_some(server.persistence_seconds),
        })
    };
    servers.iter().filter_map(lifted).collect()
}

fn kind(sets: &Sets, protocol: Protocol, at: AddrPort) -> Option<FrontendKind> {
    let kinds = [
        (SetId::ClusterIp, FrontendKind::ClusterIp),
        (SetId::ExternalIp, FrontendKind::ExternalIp),
        (SetId::ExternalIpLocal, FrontendKind::ExternalIp),
        (SetId::LoadBalancer, FrontendKind::LoadBalancer),
    ];
    let family = at.family();
    let of_vip = kinds.into_iter().find(|(set, _)| holds_vip(sets, *set, family, protocol, at));
    let of_node = || holds_node_port(sets, family, protocol, at).then_some(FrontendKind::NodePort);
    of_vip.map(|(_, kind)| kind).or_else(of_node)
}

/// The Service ports that virtual servers of one family serve, by name; with the health checks of the view.
pub fn ports(
    servers: &[LiftedServer],
    sets: &Sets,
    view: Option<&NodeView>,
) -> BTreeMap<LiftedName, LiftedPort> {
    let mut ports: BTreeMap<LiftedName, LiftedPort> = BTreeMap::new();
    for server in servers {
        let vip = server.vip();
        let port = ports.entry(server.name.clone()).or_default();
        port.vips.insert(vip);
        if server.kind == Some(FrontendKind::ClusterIp) {
            port.cluster_ip = Some(server.at);
        }
        if server.taking().next().is_none() {
            port.closed.insert(vip);
        }
        port.endpoints.extend(server.taking());
    }
    if let Some(view) = view {
        health_checks(sets, view, &mut ports);
    }
    ports
}

fn name(protocol: Protocol, vip: LiftedVip, owners: &Owners<'_>) -> LiftedName {
    let owner = owners.get(&(protocol, vip));
    let name = owner.map_or_else(|| format!("virtual server {vip}"), |port| port.name.to_string());
    (name, protocol)
}

/// Policies of the Service ports, by name.
pub fn policies(servers: &[LiftedServer], sets: &Sets) -> BTreeMap<LiftedName, LiftedPolicies> {
    let ranges = source_ranges(sets);
    let mut all: BTreeMap<LiftedName, LiftedPolicies> = BTreeMap::new();
    for server in servers {
        let policies = all.entry(server.name.clone()).or_default();
        server.add_load(policies);
        policies.affinity_seconds = policies.affinity_seconds.or(server.affinity_seconds);
        let Some(kind) = server.kind else { continue };
        policies.kinds.insert(server.vip(), kind);
        let (family, at, protocol) = (server.at.family(), server.at, server.protocol);
        let holds = |set: SetId| holds_vip(sets, set, family, protocol, at);
        match kind {
            FrontendKind::ClusterIp => continue,
            FrontendKind::ExternalIp => policies.external_local = Some(holds(SetId::ExternalIpLocal)),
            FrontendKind::LoadBalancer => policies.external_local = Some(holds(SetId::LoadBalancerLocal)),
            FrontendKind::NodePort => {
                policies.external_local = Some(holds_local_node_port(sets, family, protocol, at));
            }
        }
        if let Some(ranges) = ranges.get(&(protocol, at)) {
            policies.source_ranges.extend(ranges.iter().map(ToString::to_string));
        }
    }
    all
}

/// Who may use each VIP that not everybody may.
fn source_ranges(sets: &Sets) -> BTreeMap<(Protocol, AddrPort), Vec<&IpCidr>> {
    let mut ranges: BTreeMap<(Protocol, AddrPort), Vec<&IpCidr>> = BTreeMap::new();
    for family in IpFamily::ALL {
        let set = sets.get(&SetId::LoadBalancerSourceCidr.name(family));
        for entry in set.into_iter().flat_map(|set| &set.entries) {
            if let Entry::IpPortNet(addr, protocol, port, net) = entry {
                ranges.entry((*protocol, AddrPort::new(*addr, *port))).or_default().push(net);
            }
        }
    }
    ranges
}

/// The virtual servers that carry a Service port, and the entries of sets that are for it.
pub fn carried(
    servers: &VirtualServers,
    sets: &Sets,
    view: Option<&NodeView>,
    asked: &LiftedName,
) -> Vec<CarryingRule> {
    let mut rules = Vec::new();
    for lifted in lift(servers, sets, view).iter().filter(|server| server.name == *asked) {
        let key = lifted.key();
        let Some(server) = servers.get(&key) else { continue };
        let mut text = Vec::new();
        emit::write_request(&mut text, &Request::NewService(key, server.clone()));
        let endpoints: Vec<AddrPort> = lifted.taking().collect();
        rules.push(CarryingRule {
            table: "ipvs".to_owned(),
            chain: key.to_string(),
            place: Place::VirtualServer,
            text: String::from_utf8_lossy(&text).trim_end().to_owned(),
            word: match endpoints.len() {
                0 => "refuses: nobody to send to".to_owned(),
                1 => "sends to one endpoint".to_owned(),
                n => format!("spreads over {n} endpoints by {}", server.scheduler),
            },
            calls: Vec::new(),
            vip: Some(lifted.vip()),
            endpoints,
            counter: None,
        });
        rules.extend(entries_for(sets, lifted));
    }
    rules
}

/// Entries of sets of ours for the address and port of a virtual server.
fn entries_for<'a>(sets: &'a Sets, server: &'a LiftedServer) -> impl Iterator<Item = CarryingRule> + 'a {
    let LiftedServer { protocol, at, .. } = *server;
    let is_for = move |entry: &Entry| match entry {
        Entry::IpPort(addr, of, port)
        | Entry::IpPortIp(addr, of, port, _)
        | Entry::IpPortNet(addr, of, port, _) => (*addr, *of, *port) == (at.addr, protocol, at.port),
        Entry::Port(_) | Entry::Ip(_) | Entry::Unmodelled(_) => false,
    };
    let ours = sets.iter().filter(move |(name, _)| set_family(name) == Some(at.family()));
    let entries = ours.flat_map(|(name, set)| set.entries.iter().map(move |entry| (name, entry)));
    entries.filter(move |(_, entry)| is_for(entry)).map(move |(name, entry)| {
        let mut text = Vec::new();
        ipset::emit::write_add(&mut text, name, entry);
        CarryingRule {
            table: "ipset".to_owned(),
            chain: name.to_string(),
            place: Place::Element,
            text: String::from_utf8_lossy(&text).trim_end().to_owned(),
            word: "is in this set".to_owned(),
            calls: Vec::new(),
            vip: Some(server.vip()),
            endpoints: Vec::new(),
            counter: None,
        }
    })
}

/// Health-check ports go to every port of their Service that is served.
fn health_checks(sets: &Sets, view: &NodeView, ports: &mut BTreeMap<LiftedName, LiftedPort>) {
    let family: IpFamily = view.family;
    let Some(open) = sets.get(&SetId::HealthCheckNodePort.name(family)) else { return };
    for port in &view.ports {
        let Some(health_check) = port.health_check_node_port else { continue };
        if open.entries.contains(&Entry::Port(health_check))
            && let Some(lifted) = ports.get_mut(&(port.name.to_string(), port.name.protocol))
        {
            lifted.vips.insert(LiftedVip::HealthCheck(health_check));
        }
    }
}
