//! Virtual servers → Services. The kernel keeps no names of Services: sets tell what kind of address it is, and whoever
//! knows the decisions for a node can tell whose.

use std::collections::BTreeMap;

use crate::backend::{LiftedName, LiftedPort, LiftedVip};
use crate::net::{AddrPort, IpFamily, Protocol};
use crate::program::ipset::{Entry, Sets};
use crate::program::ipvs::{Flags, ServiceKey, VirtualServer, VirtualServers};
use crate::resolve::{FrontendKind, NodeView, PortView, Vip};

use super::names::SetId;
use super::owned::{holds_node_port, holds_vip};

/// A virtual server as it tells of itself, and what sets tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiftedServer {
    /// Its protocol.
    pub protocol: Protocol,
    /// Where it answers.
    pub at: AddrPort,
    /// What kind of address that is; `None` if no set holds it.
    pub kind: Option<FrontendKind>,
    /// Its endpoints with their weights; one with weight 0 gets no new connections.
    pub endpoints: BTreeMap<AddrPort, u32>,
    /// For how many seconds a client stays with its endpoint.
    pub affinity_seconds: Option<u32>,
}

impl LiftedServer {
    /// Where the Service answers.
    fn vip(&self) -> LiftedVip {
        match self.kind {
            Some(FrontendKind::NodePort) => LiftedVip::NodePort(self.at.port),
            Some(FrontendKind::ClusterIp | FrontendKind::ExternalIp | FrontendKind::LoadBalancer) | None => {
                LiftedVip::Address(self.at)
            }
        }
    }
}

/// The Service ports of a view by where they answer. Of two the first has it, as when they are lowered.
fn owners(view: &NodeView) -> BTreeMap<(Protocol, LiftedVip), &PortView> {
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
pub fn lift(servers: &VirtualServers, sets: &Sets) -> Vec<LiftedServer> {
    let lifted = |(key, server): (&ServiceKey, &VirtualServer)| {
        let ServiceKey::Address { protocol, at } = *key else { return None };
        let persistent = server.flags.contains(Flags::PERSISTENT);
        Some(LiftedServer {
            protocol,
            at,
            kind: kind(sets, protocol, at),
            endpoints: server.real_servers.iter().map(|(addr, real)| (*addr, real.weight)).collect(),
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

/// The Service ports that virtual servers of one family serve, by name. One that no Service port of the view was made for
/// goes by its own address, or by its node port.
pub fn ports(servers: &[LiftedServer], sets: &Sets, view: &NodeView) -> BTreeMap<LiftedName, LiftedPort> {
    let owners = owners(view);
    let mut ports: BTreeMap<LiftedName, LiftedPort> = BTreeMap::new();
    for server in servers {
        let vip = server.vip();
        let owner = owners.get(&(server.protocol, vip));
        let name = owner.map_or_else(|| format!("virtual server {vip}"), |port| port.name.to_string());
        let port = ports.entry((name, server.protocol)).or_default();
        port.vips.insert(vip);
        if server.kind == Some(FrontendKind::ClusterIp) {
            port.cluster_ip = Some(server.at);
        }
        let taking = || server.endpoints.iter().filter(|(_, weight)| **weight > 0).map(|(addr, _)| *addr);
        if taking().next().is_none() {
            port.closed.insert(vip);
        }
        port.endpoints.extend(taking());
    }
    health_checks(sets, view, &mut ports);
    ports
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
