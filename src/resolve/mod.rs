//! Cluster × Node × IpFamily → NodeView: every decision is taken here, and nowhere else.
//!
//! `node` says what is particular to this node, `topology` and `pool` choose endpoints, `frontend` lists the addresses
//! that a Service port answers on, `route` decides what happens to packets for them. `reason` and `client` tell of it.

mod claims;
mod client;
mod directory;
mod fate;
mod frontend;
mod habits;
mod health_check;
mod node;
mod pool;
mod reason;
mod route;
mod topology;
mod view;

pub use claims::Claims;
pub use client::{Client, Treatment};
pub use fate::{Oracle, fate, fate_remembered};
pub use habits::{AffinityScope, Habits, UnusedPorts};
pub use health_check::{HealthCheck, health_checks};
pub use node::{NodeContext, node_name};
pub use reason::{Account, AccountedPort, JudgedEndpoint, Reason, StrayReason, Strays, account};
pub use view::{
    Frontend, FrontendKind, LocalTraffic, NodePortScope, NodeView, PoolEndpoint, PoolKind, PortView, Route,
    Routes, SourceRanges, Vip,
};

use crate::model::{Cluster, Endpoint, Service, ServicePort};
use crate::net::{IpFamily, Protocol};

/// What the node does for every Service of the cluster, in one family.
pub fn resolve(cluster: &Cluster, node: &NodeContext, family: IpFamily) -> NodeView {
    let mut ports = Vec::with_capacity(cluster.services.len());
    for service in cluster.services.values() {
        for port in &service.ports {
            let endpoints = cluster.endpoints_of(family, &service.port_name(port));
            ports.extend(resolve_port(node, family, service, port, endpoints));
        }
    }
    // Services come sorted, their ports as written.
    ports.sort_by(|left, right| left.name.cmp(&right.name));
    view(node, family, ports)
}

/// The view of a node that serves some ports.
fn view(node: &NodeContext, family: IpFamily, mut ports: Vec<PortView>) -> NodeView {
    let node_ports = node.node_port_scope(family, &ports);
    if node.habits.lists_node_port_addresses && node_ports == NodePortScope::Addresses(Vec::new()) {
        ports.iter_mut().for_each(frontend::leave_out_node_port);
    }
    NodeView {
        family,
        n_endpoints: ports.iter().map(|port| port.n_endpoints).sum(),
        ports,
        node_ports,
        localhost_node_ports: family == IpFamily::V4 && node.localhost_node_ports,
        habits: node.habits,
        local_traffic: node.local_traffic.get(family).clone(),
    }
}

/// What the node does for one Service port in one family; `None` if the Service has no cluster IP in it (reference
/// section 1.4), or if a process would have to carry SCTP. A function of nothing but its arguments, so that a change of one
/// Service costs one call.
pub fn resolve_port(
    node: &NodeContext,
    family: IpFamily,
    service: &Service,
    port: &ServicePort,
    endpoints: &[Endpoint],
) -> Option<PortView> {
    if node.habits.carries_connections && port.protocol == Protocol::Sctp {
        return None;
    }
    let cluster_ip = (*service.cluster_ips.get(family))?;
    let exposure = frontend::exposure(service, port, family);
    let pools = pool::choose(node, exposure, endpoints);
    Some(PortView {
        name: service.port_name(port),
        frontends: frontend::frontends(node, service, port, family, cluster_ip),
        internal: route::internal(node, family, exposure, &pools),
        external: route::external(node, family, exposure, &pools),
        source_ranges: frontend::source_ranges(node, service, family),
        endpoints: pools.endpoints,
        n_endpoints: endpoints.len(),
        endpoints_here: pools.endpoints_here,
        flow_endpoints: pool::flow_endpoints(port, endpoints),
        external_keeps_source: exposure.external_local,
        affinity_seconds: service.affinity_seconds,
        health_check_node_port: frontend::health_check_node_port(service),
        placeholders: service.placeholders,
    })
}

#[cfg(test)]
mod tests;
