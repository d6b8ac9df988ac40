//! What two Services cannot both have, and Service ports that no EndpointSlice port is for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::diagnostic::Diagnostic;
use crate::model::Service;
use crate::net::{Port, Protocol};

use super::endpoint_slice::Slice;
use super::finding::Finding;
use super::locate::Origin;

/// Ports of one Service, or of its slices, that a message shows.
const MAX_PORTS_SHOWN: usize = 10;
/// Claims of one Service that are compared with those of others.
const MAX_CLAIMS: usize = 100_000;

/// One thing that a Service takes for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    /// `None` is every address of a node: a node port.
    addr: Option<IpAddr>,
    port: Port,
    protocol: Protocol,
    /// Index of the Service.
    service: u32,
    /// Index of its port.
    index: u32,
}

/// Warns of Services that claim the same address and port, or the same node port.
pub(super) fn check_claims(services: &[(&Service, Origin)], findings: &mut Vec<Finding>) {
    let mut claims = Vec::with_capacity(services.len() * 2);
    for ((service, _), number) in services.iter().zip(0..) {
        let cluster_ips = [service.cluster_ips.v4, service.cluster_ips.v6].into_iter().flatten();
        let external = service.external_ips.iter().chain(&service.load_balancer_ips).copied();
        let end = claims.len() + MAX_CLAIMS;
        for addr in cluster_ips.chain(external).map(Some).chain([None]) {
            for (port, index) in service.ports.iter().zip(0..).take(end.saturating_sub(claims.len())) {
                let Some(port_number) = (if addr.is_some() { Some(port.port) } else { port.node_port })
                else {
                    continue;
                };
                claims.push(Claim {
                    addr,
                    port: port_number,
                    protocol: port.protocol,
                    service: number,
                    index,
                });
            }
        }
    }
    claims.sort_unstable();
    let mut conflicts = Vec::new();
    for pair in claims.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        let same = (first.addr, first.port, first.protocol) == (second.addr, second.port, second.protocol);
        if same && first.service != second.service {
            // The later one in the input is the one to look at.
            let is_later = services[second.service as usize].1 > services[first.service as usize].1;
            conflicts.push(if is_later { (second, first) } else { (first, second) });
        }
    }
    for (claim, other) in conflicts {
        let (service, origin) = services[claim.service as usize];
        let (other, _) = services[other.service as usize];
        let protocol = claim.protocol.api_name();
        let (what, field) = match claim.addr {
            Some(addr) => {
                let vip = crate::net::AddrPort::new(addr, claim.port);
                (format!("`{vip}` {protocol}"), "port")
            }
            None => (format!("node port `{}` {protocol}", claim.port), "nodePort"),
        };
        let code = if claim.addr.is_some() { "vip-conflict" } else { "node-port-conflict" };
        let diagnostic =
            Diagnostic::warning(code, format!("{what} is also claimed by Service `{}`", other.name))
                .about(format!("Service {}", service.name));
        let path = format!("spec.ports[{}].{field}", claim.index);
        findings.push(Finding { diagnostic, field: Some((origin, path)), first: None });
    }
}

/// Warns of ports of a Service that its slices do not have, while they have others.
pub(super) fn check_ports(service: &Service, origin: Origin, slices: &[&Slice], findings: &mut Vec<Finding>) {
    let of_slices = || slices.iter().flat_map(|slice| &slice.ports).map(|port| (&*port.name, port.protocol));
    if of_slices().next().is_none() {
        return;
    }
    // Nearly always every slice has every port, in the same order.
    let is_same = |slice: &&&Slice| {
        let names = slice.ports.iter().map(|port| (&*port.name, port.protocol));
        names.eq(service.ports.iter().map(|port| (&*port.name, port.protocol)))
    };
    if slices.iter().any(|slice| is_same(&slice)) {
        return;
    }
    let known: BTreeSet<(&str, Protocol)> = of_slices().collect();
    let shown = |name: &str, or: &str, protocol: Protocol| match name {
        "" => format!("{or} {}", protocol.api_name()),
        name => format!("`{name}` {}", protocol.api_name()),
    };
    let missing =
        service.ports.iter().enumerate().filter(|(_, port)| !known.contains(&(&*port.name, port.protocol)));
    for (i, port) in missing.take(MAX_PORTS_SHOWN) {
        let others: Vec<String> = known
            .iter()
            .take(MAX_PORTS_SHOWN)
            .map(|(name, protocol)| shown(name, "one without a name", *protocol))
            .collect();
        let number = format!("`{}`", port.port);
        let message = format!(
            "port {} is in no EndpointSlice of the Service",
            shown(&port.name, &number, port.protocol)
        );
        let diagnostic = Diagnostic::note("port-without-endpoint", message)
            .about(format!("Service {}", service.name))
            .hint(format!("EndpointSlice `{}` has ports: {}", slices[0].name, others.join(", ")));
        let field = if port.name.is_empty() { "port" } else { "name" };
        let field = Some((origin, format!("spec.ports[{i}].{field}")));
        findings.push(Finding { diagnostic, field, first: None });
    }
}
