//! What Services have in common: addresses, node ports, endpoints of this node. Whoever shares one of these with another may be
//! expressed by the same element of a set, so both are compiled together; all others can be left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::ServiceName;
use crate::net::{Port, Protocol};

use super::{PortView, Vip};

/// Something that several Services can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// A virtual address.
    Address(IpAddr),
    /// A port of the node.
    NodePort(Protocol, Port),
    /// A health-check port of the node.
    HealthCheck(Port),
    /// The address of an endpoint on this node, which can be sent back to itself.
    Endpoint(IpAddr),
}

/// Who claims what.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    claims: BTreeMap<Claim, BTreeSet<ServiceName>>,
}

impl Claims {
    /// Adds what a Service port claims.
    pub fn add(&mut self, port: &PortView) {
        for claim in claims_of(port) {
            self.claims.entry(claim).or_default().insert(port.name.service.clone());
        }
    }

    /// Takes away what the ports of a Service claimed.
    pub fn remove<'p>(&mut self, ports: impl Iterator<Item = &'p PortView>) {
        for port in ports {
            for claim in claims_of(port) {
                let Some(holders) = self.claims.get_mut(&claim) else { continue };
                holders.remove(&port.name.service);
                if holders.is_empty() {
                    self.claims.remove(&claim);
                }
            }
        }
    }

    /// Who else claims something that a Service port claims.
    pub fn others<'c>(&'c self, port: &PortView) -> BTreeSet<&'c ServiceName> {
        let holders = claims_of(port).into_iter().filter_map(|claim| self.claims.get(&claim)).flatten();
        holders.filter(|holder| **holder != port.name.service).collect()
    }
}

fn claims_of(port: &PortView) -> BTreeSet<Claim> {
    let frontends = port.frontends.iter().map(|frontend| match frontend.vip {
        Vip::Address(vip) => Claim::Address(vip.addr),
        Vip::NodePort(node_port) => Claim::NodePort(port.name.protocol, node_port),
    });
    let here = port.endpoints.iter().filter(|endpoint| endpoint.on_this_node);
    let endpoints = here.map(|endpoint| endpoint.addr).chain(port.endpoints_here.iter().copied());
    frontends
        .chain(port.health_check_node_port.map(Claim::HealthCheck))
        .chain(endpoints.map(|endpoint| Claim::Endpoint(endpoint.addr)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Frontend, FrontendKind, PoolEndpoint, PoolKind, Route, Routes};
    use super::*;

    fn port(name: &str, vip: &str, here: &[&str]) -> PortView {
        let route = Route::Forward { pool: PoolKind::Cluster, masquerade: false };
        let endpoint = |text: &&str| PoolEndpoint {
            addr: text.parse().unwrap(),
            in_cluster: true,
            in_local: true,
            on_this_node: true,
        };
        let vip = Vip::Address(vip.parse().unwrap());
        PortView {
            frontends: vec![Frontend { kind: FrontendKind::ClusterIp, vip }],
            endpoints: here.iter().map(endpoint).collect(),
            ..PortView::bare(
                ServiceName::new("shop", name),
                "",
                Routes { pods: route, node: route, outside: route },
            )
        }
    }

    #[test]
    fn who_shares_an_address_or_an_endpoint_here_is_found_until_it_goes() {
        let web = port("web", "10.96.0.1:80", &["10.128.0.1:8080"]);
        let same_vip = port("same-vip", "10.96.0.1:443", &[]);
        let same_pod = port("same-pod", "10.96.0.2:80", &["10.128.0.1:9090"]);
        let other = port("other", "10.96.0.3:80", &["10.128.0.2:8080"]);
        let mut claims = Claims::default();
        [&web, &same_vip, &same_pod, &other].into_iter().for_each(|port| claims.add(port));
        let others = |claims: &Claims| -> Vec<String> {
            claims.others(&web).into_iter().map(ServiceName::to_string).collect()
        };
        assert_eq!(others(&claims), ["shop/same-pod", "shop/same-vip"]);
        claims.remove([&same_vip].into_iter());
        assert_eq!(others(&claims), ["shop/same-pod"]);
        assert!(claims.others(&other).is_empty());
    }
}
