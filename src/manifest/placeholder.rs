//! Stand-ins for what the API server would choose: cluster IPs and node ports. The same Service always gets the same
//! ones, unless another has them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use sha2::{Digest, Sha256};

use crate::model::{Service, ServiceType};
use crate::net::{IpCidr, IpFamily, Port, Protocol};

use super::PlaceholderRanges;
use super::service::{Draft, Wants};

/// Addresses at the begin of a range that are left to Services which choose theirs, as `kubernetes` and the DNS.
const RESERVED: u128 = 16;

/// Values that are taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    addrs: BTreeSet<IpAddr>,
    node_ports: BTreeSet<(Port, Protocol)>,
}

impl Taken {
    /// Notes what a Service has.
    pub(super) fn add(&mut self, service: &Service) {
        self.addrs.extend([service.cluster_ips.v4, service.cluster_ips.v6].into_iter().flatten());
        for port in &service.ports {
            self.node_ports.extend(port.node_port.map(|number| (number, port.protocol)));
        }
        self.node_ports.extend(service.health_check_node_port.map(|number| (number, Protocol::Tcp)));
    }
}

/// Gives a Service what it wants, as far as the ranges reach.
pub(super) fn assign(draft: &mut Draft, ranges: &PlaceholderRanges, taken: &mut Taken) {
    let Draft { service, wants, .. } = draft;
    for family in wanted_families(*wants, service, ranges) {
        let Some(cidr) = ranges.service_cidrs.get(family) else { continue };
        if let Some(addr) = choose_addr(&format!("{}/{family}", service.name), *cidr, &taken.addrs) {
            *service.cluster_ips.get_mut(family) = Some(addr);
            taken.addrs.insert(addr);
            service.placeholders.cluster_ips = true;
        }
    }
    let mut choose = |of: String, protocol: Protocol| {
        let port = choose_port(&of, protocol, &ranges.node_ports, &taken.node_ports)?;
        taken.node_ports.insert((port, protocol));
        Some(port)
    };
    if wants.node_ports {
        for port in service.ports.iter_mut().filter(|port| port.node_port.is_none()) {
            port.node_port =
                choose(format!("{}/{}/{}", service.name, port.port, port.protocol), port.protocol);
            service.placeholders.node_ports |= port.node_port.is_some();
        }
    }
    if wants.health_check_node_port && service.kind == ServiceType::LoadBalancer {
        service.health_check_node_port = choose(format!("{}/health-check", service.name), Protocol::Tcp);
        service.placeholders.node_ports |= service.health_check_node_port.is_some();
    }
}

/// A Service without families is single-stack: IPv4, or the family that there is a range for.
fn wanted_families(wants: Wants, service: &Service, ranges: &PlaceholderRanges) -> Vec<IpFamily> {
    let mut families: Vec<IpFamily> =
        IpFamily::ALL.into_iter().filter(|family| *wants.cluster_ips.get(*family)).collect();
    families.retain(|family| ranges.service_cidrs.get(*family).is_some());
    families.retain(|family| service.cluster_ips.get(*family).is_none());
    if wants.one_family {
        families.truncate(1);
    }
    families
}

fn hash(of: &str) -> u128 {
    let digest = Sha256::digest(of.as_bytes());
    digest.iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

fn choose_addr(of: &str, cidr: IpCidr, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let host_bits = cidr.family().bits() - cidr.prefix_len();
    // The last address of an IPv4 network is its broadcast address; more than 2^16 addresses are not needed in IPv6.
    let size: u128 = 1_u128.checked_shl(u32::from(host_bits)).unwrap_or(u128::MAX);
    let end = if cidr.family() == IpFamily::V4 && size > 2 { size - 1 } else { size };
    let first = if end > 2 * RESERVED { RESERVED } else { u128::from(end > 1) };
    let room = end - first;
    let begin = hash(of) % room;
    let base = match cidr.network() {
        IpAddr::V4(addr) => u128::from(u32::from(addr)),
        IpAddr::V6(addr) => u128::from(addr),
    };
    let attempts = room.min(taken.len() as u128 + 1);
    for i in 0..attempts {
        let number = base + first + (begin + i) % room;
        let addr = match cidr.family() {
            IpFamily::V4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).ok()?)),
            IpFamily::V6 => IpAddr::V6(Ipv6Addr::from(number)),
        };
        if !taken.contains(&addr) {
            return Some(addr);
        }
    }
    None
}

fn choose_port(
    of: &str,
    protocol: Protocol,
    range: &RangeInclusive<u16>,
    taken: &BTreeSet<(Port, Protocol)>,
) -> Option<Port> {
    let first = u32::from((*range.start()).max(1));
    let room = (u32::from(*range.end()) + 1).checked_sub(first).filter(|room| *room > 0)?;
    let begin = u32::try_from(hash(of) % u128::from(room)).ok()?;
    (0..room)
        .map(|i| first + (begin + i) % room)
        .filter_map(|port| Port::try_from(port).ok())
        .find(|port| !taken.contains(&(*port, protocol)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_inside_and_probes() {
        let cidr = IpCidr::parse_sloppy("10.96.0.0/29").unwrap();
        let mut taken = BTreeSet::new();
        while let Some(addr) = choose_addr("shop/web/IPv4", cidr, &taken) {
            assert!(taken.insert(addr));
        }
        let all: Vec<String> = taken.iter().map(ToString::to_string).collect();
        assert_eq!(all, ["10.96.0.1", "10.96.0.2", "10.96.0.3", "10.96.0.4", "10.96.0.5", "10.96.0.6"]);
        for cidr in ["0.0.0.0/0", "::/0", "10.0.0.1/32", "10.0.0.0/31", "fd00::/112", "fd00::1/128"] {
            let cidr = IpCidr::parse_sloppy(cidr).unwrap();
            assert!(cidr.contains(choose_addr("a/b", cidr, &BTreeSet::new()).unwrap()), "{cidr}");
        }
        assert_eq!(choose_port("a/b", Protocol::Tcp, &(5..=5), &BTreeSet::new()), Some(5));
        assert_eq!(choose_port("a/b", Protocol::Tcp, &(5..=5), &[(5, Protocol::Tcp)].into()), None);
        assert_eq!(choose_port("a/b", Protocol::Tcp, &RangeInclusive::new(6, 5), &BTreeSet::new()), None);
    }
}
