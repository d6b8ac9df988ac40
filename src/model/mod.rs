//! Cluster-wide truth, typed, valid and ordered: what a Kubernetes API server would say, and nothing about a node's
//! rules. No serde, no strings that mean something. Made by `manifest`, read by `resolve`.

mod config;
mod endpoint;
mod name;
mod node;
mod service;

pub use config::{Config, Conntrack, DetectLocal, Ipvs, Mode, NodePortAddresses, SyncPeriods, Userspace};
pub use endpoint::{Conditions, Endpoint, Hints};
pub use name::{ServiceName, ServicePortName};
pub use node::Node;
pub use service::{Placeholders, Service, ServicePort, ServiceType, TrafficPolicy};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::net::{IpCidr, IpFamily, PerFamily};

/// The endpoints behind every Service port of one family: merged over slices, without duplicates, sorted by the text
/// `ip:port` (reference section 1.6). A group may have no Service, and an empty group does not occur.
pub type EndpointGroups = BTreeMap<ServicePortName, Vec<Endpoint>>;

/// Everything that was said of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// Services that a proxy serves: no headless, ExternalName or foreign-proxy ones.
    pub services: BTreeMap<ServiceName, Service>,
    /// Endpoints by Service port.
    pub endpoints: PerFamily<EndpointGroups>,
    /// Where cluster IPs come from (ServiceCIDR objects); empty if the input does not tell.
    pub service_cidrs: BTreeSet<IpCidr>,
    /// Nodes by name.
    pub nodes: BTreeMap<Arc<str>, Node>,
}

impl Cluster {
    /// The cluster as if it had these Services alone, and no Nodes.
    pub fn part(&self, names: &BTreeSet<ServiceName>) -> Cluster {
        let services: BTreeMap<ServiceName, Service> = names
            .iter()
            .filter_map(|name| self.services.get_key_value(name))
            .map(|(name, service)| (name.clone(), service.clone()))
            .collect();
        let endpoints = PerFamily::from_fn(|family| {
            let groups = self.endpoints.get(family);
            let ports = services.values().flat_map(|service| {
                service.ports.iter().filter_map(|port| groups.get_key_value(&service.port_name(port)))
            });
            ports.map(|(name, group)| (name.clone(), group.clone())).collect()
        });
        Cluster { services, endpoints, service_cidrs: self.service_cidrs.clone(), nodes: BTreeMap::new() }
    }

    /// The endpoints of one Service port in one family.
    pub fn endpoints_of(&self, family: IpFamily, port: &ServicePortName) -> &[Endpoint] {
        self.endpoints.get(family).get(port).map_or(&[], Vec::as_slice)
    }
}
