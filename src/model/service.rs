//! A Service as the API server has it, defaults filled in (reference sections 1.2 to 1.5).

use std::net::IpAddr;
use std::sync::Arc;

use crate::net::{IpCidr, PerFamily, Port, Protocol};

use super::{ServiceName, ServicePortName};

/// `spec.type`, of Services that have rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceType {
    /// ClusterIP.
    ClusterIp,
    /// NodePort.
    NodePort,
    /// LoadBalancer.
    LoadBalancer,
}

/// `spec.internalTrafficPolicy` and `spec.externalTrafficPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Any endpoint.
    Cluster,
    /// Endpoints on the same node only.
    Local,
}

/// One entry of `spec.ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Name, empty if it has none.
    pub name: Arc<str>,
    /// Protocol.
    pub protocol: Protocol,
    /// Port on the Service's addresses.
    pub port: Port,
    /// Port on the node's addresses.
    pub node_port: Option<Port>,
}

/// Which values of a Service are stand-ins for what the API server will choose when it is created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placeholders {
    /// The cluster IPs.
    pub cluster_ips: bool,
    /// The node ports, and the health-check node port.
    pub node_ports: bool,
}

impl Placeholders {
    /// Whether anything is a placeholder.
    pub fn any(self) -> bool {
        self.cluster_ips || self.node_ports
    }
}

/// A Service that a proxy serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// `spec.type`.
    pub kind: ServiceType,
    /// The cluster IP of each family that it has (reference section 1.4).
    pub cluster_ips: PerFamily<Option<IpAddr>>,
    /// `spec.externalIPs`, both families, in order.
    pub external_ips: Vec<IpAddr>,
    /// Whether `spec.externalIPs` had any entry, parsable or not (reference section 1.5, externalPolicyLocal).
    pub has_external_ips: bool,
    /// `status.loadBalancer.ingress[].ip` with ipMode VIP, both families, in order.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`, both families, in order, as written (a /0 is still in it).
    pub source_ranges: Vec<IpCidr>,
    /// Session affinity ClientIP: its timeout in seconds. `None` is affinity None.
    pub affinity_seconds: Option<u32>,
    /// `spec.internalTrafficPolicy`.
    pub internal_traffic_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy` as written; whether it counts is for `resolve` to say.
    pub external_traffic_policy: TrafficPolicy,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<Port>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// What in it is a placeholder.
    pub placeholders: Placeholders,
}

impl Service {
    /// The identity of one of its ports.
    pub fn port_name(&self, port: &ServicePort) -> ServicePortName {
        ServicePortName { service: self.name.clone(), port: port.name.clone(), protocol: port.protocol }
    }
}
