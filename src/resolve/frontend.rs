//! Which VIPs a Service port answers on, and for whom (reference section 1.5).

use std::net::IpAddr;

use crate::model::{Service, ServicePort, ServiceType, TrafficPolicy};
use crate::net::{AddrPort, IpFamily, Port};

use super::node::NodeContext;
use super::view::{Frontend, FrontendKind, PortView, SourceRanges, Vip};

/// How a Service port is reached, and which policies hold: what pools and routes depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exposure {
    /// internalTrafficPolicy is Local.
    pub(super) internal_local: bool,
    /// externalTrafficPolicy is Local, and the Service is of a kind for which that counts.
    pub(super) external_local: bool,
    /// It has any VIP besides its cluster IP.
    pub(super) externally_accessible: bool,
}

impl Exposure {
    /// Whether some route may use endpoints of the whole cluster.
    pub(super) fn uses_cluster_endpoints(self) -> bool {
        !self.internal_local || self.externally_accessible
    }

    /// Whether some route may use endpoints of this node only.
    pub(super) fn uses_local_endpoints(self) -> bool {
        self.internal_local || (self.external_local && self.externally_accessible)
    }
}

/// The exposure of a Service port in one family.
pub(super) fn exposure(service: &Service, port: &ServicePort, family: IpFamily) -> Exposure {
    let in_family = |addr: &IpAddr| IpFamily::of(*addr) == family;
    Exposure {
        internal_local: service.internal_traffic_policy == TrafficPolicy::Local,
        external_local: external_policy_is_local(service),
        externally_accessible: port.node_port.is_some()
            || service.load_balancer_ips.iter().any(in_family)
            || service.external_ips.iter().any(in_family),
    }
}

/// Whether externalTrafficPolicy Local counts: for type ClusterIP only if it has external IPs.
fn external_policy_is_local(service: &Service) -> bool {
    service.external_traffic_policy == TrafficPolicy::Local
        && match service.kind {
            ServiceType::NodePort | ServiceType::LoadBalancer => true,
            ServiceType::ClusterIp => service.has_external_ips,
        }
}

/// The VIPs, in kube-proxy's order: cluster IP, external IPs, load balancer IPs, node port. The type of the Service is
/// not asked: a status with an address is enough (reference section 8, 14).
pub(super) fn frontends(
    node: &NodeContext,
    service: &Service,
    port: &ServicePort,
    family: IpFamily,
    cluster_ip: IpAddr,
) -> Vec<Frontend> {
    let address = |kind, addr| Frontend { kind, vip: Vip::Address(AddrPort::new(addr, port.port)) };
    let of_family = |addrs: &[IpAddr]| -> Vec<IpAddr> {
        addrs.iter().copied().filter(|addr| IpFamily::of(*addr) == family).collect()
    };
    let mut frontends = vec![address(FrontendKind::ClusterIp, cluster_ip)];
    if node.external_ips_allowed {
        let external = of_family(&service.external_ips);
        frontends.extend(external.into_iter().map(|addr| address(FrontendKind::ExternalIp, addr)));
    }
    let load_balancer = of_family(&service.load_balancer_ips);
    frontends.extend(load_balancer.into_iter().map(|addr| address(FrontendKind::LoadBalancer, addr)));
    if let Some(node_port) = port.node_port {
        frontends.push(Frontend { kind: FrontendKind::NodePort, vip: Vip::NodePort(node_port) });
    }
    frontends
}

/// Takes the node port away where no address answers node ports, and with it the health-check port (reference section 8,
/// 53).
pub(super) fn leave_out_node_port(port: &mut PortView) {
    let n_frontends = port.frontends.len();
    port.frontends.retain(|frontend| frontend.kind != FrontendKind::NodePort);
    if port.frontends.len() < n_frontends {
        port.health_check_node_port = None;
    }
}

/// The source ranges that count in one family: none if one of them is everything (reference section 8, 11 and 12).
pub(super) fn source_ranges(node: &NodeContext, service: &Service, family: IpFamily) -> Option<SourceRanges> {
    if service.source_ranges.is_empty() {
        return None;
    }
    let allowed: Vec<_> =
        service.source_ranges.iter().copied().filter(|range| range.family() == family).collect();
    if allowed.is_empty() || allowed.iter().any(|range| range.is_any()) {
        return None;
    }
    let own = *node.node_ips.get(family);
    let allow_vips = allowed.iter().any(|range| range.contains(own));
    Some(SourceRanges { allowed, allow_vips })
}

/// The health-check port, which only a load balancer with policy Local has.
pub(super) fn health_check_node_port(service: &Service) -> Option<Port> {
    let asked = service.kind == ServiceType::LoadBalancer && external_policy_is_local(service);
    service.health_check_node_port.filter(|_| asked)
}
