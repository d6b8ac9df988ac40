//! At which ports load balancers ask whether the node has endpoints of a Service, and how many it has (reference section 6.5).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::model::{Cluster, ServiceName};
use crate::net::Port;

use super::view::{NodePortScope, NodeView};

/// What is asked about one Service, in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The Service.
    pub service: ServiceName,
    /// Where it is asked: at every address of the node (unspecified), or at those that answer node ports.
    pub at: Vec<SocketAddr>,
    /// How many addresses of pods on this node are ready to serve it.
    pub local_endpoints: usize,
}

/// What is asked about the Services of a cluster, at a node of this name.
pub fn health_checks(cluster: &Cluster, node: &str, view: &NodeView) -> Vec<HealthCheck> {
    let addresses = match &view.node_ports {
        NodePortScope::AllLocal { .. } => vec![view.family.unspecified()],
        NodePortScope::Addresses(addresses) => addresses.clone(),
    };
    let mut found: BTreeMap<&ServiceName, (Port, BTreeSet<IpAddr>)> = BTreeMap::new();
    for port in &view.ports {
        let Some(number) = port.health_check_node_port else { continue };
        let (_, local) = found.entry(&port.name.service).or_insert((number, BTreeSet::new()));
        let endpoints = cluster.endpoints_of(view.family, &port.name).iter();
        let is_counted = |endpoint: &&crate::model::Endpoint| {
            endpoint.node.as_deref() == Some(node)
                && endpoint.conditions.ready
                && !endpoint.conditions.terminating
        };
        local.extend(endpoints.filter(is_counted).map(|endpoint| endpoint.addr.addr));
    }
    let check = |(service, (port, local)): (&ServiceName, (Port, BTreeSet<IpAddr>))| HealthCheck {
        service: service.clone(),
        at: addresses.iter().map(|addr| SocketAddr::new(*addr, port)).collect(),
        local_endpoints: local.len(),
    };
    found.into_iter().map(check).collect()
}
