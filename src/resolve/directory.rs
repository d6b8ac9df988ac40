//! Which frontend a destination belongs to: an index of a view, since clusters have tens of thousands.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::net::{AddrPort, Port, Protocol};

use super::{Frontend, FrontendKind, NodeView, PortView, Vip};

/// The frontends of a view by where they answer. Of two that claim one place the first in the view's order has it.
#[derive(Debug, Clone)]
pub(super) struct Directory<'a> {
    ports: &'a [PortView],
    addresses: BTreeMap<(AddrPort, Protocol), (usize, &'a Frontend)>,
    node_ports: BTreeMap<(Port, Protocol), Vec<usize>>,
    vips: BTreeSet<IpAddr>,
    cluster_ips: BTreeSet<IpAddr>,
    cluster_places: BTreeSet<(AddrPort, Protocol)>,
    endpoints_here: BTreeSet<(AddrPort, Protocol)>,
    health_checks: BTreeSet<Port>,
}

impl<'a> Directory<'a> {
    /// Makes it.
    pub(super) fn new(view: &'a NodeView) -> Directory<'a> {
        let mut directory = Directory {
            ports: &view.ports,
            addresses: BTreeMap::new(),
            node_ports: BTreeMap::new(),
            vips: BTreeSet::new(),
            cluster_ips: BTreeSet::new(),
            cluster_places: BTreeSet::new(),
            endpoints_here: BTreeSet::new(),
            health_checks: view.ports.iter().filter_map(|port| port.health_check_node_port).collect(),
        };
        for (index, port) in view.ports.iter().enumerate() {
            let protocol = port.name.protocol;
            // A set of IPVS mode has those that cannot be reached, too.
            let here: Vec<AddrPort> = if view.habits.masquerades_by_sets {
                port.endpoints_here.clone()
            } else {
                let here = port.endpoints.iter().filter(|endpoint| endpoint.on_this_node);
                here.map(|endpoint| endpoint.addr).collect()
            };
            directory.endpoints_here.extend(here.into_iter().map(|endpoint| (endpoint, protocol)));
            for frontend in &port.frontends {
                match frontend.vip {
                    Vip::Address(vip) => {
                        directory.addresses.entry((vip, protocol)).or_insert((index, frontend));
                        directory.vips.insert(vip.addr);
                        if frontend.kind == FrontendKind::ClusterIp {
                            directory.cluster_ips.insert(vip.addr);
                            directory.cluster_places.insert((vip, protocol));
                        }
                    }
                    Vip::NodePort(node_port) => {
                        directory.node_ports.entry((node_port, protocol)).or_default().push(index);
                    }
                }
            }
        }
        directory
    }

    /// The frontend on an address, with its port's place in the view.
    pub(super) fn at_address(
        &self,
        addr: AddrPort,
        protocol: Protocol,
    ) -> Option<(usize, &'a PortView, &'a Frontend)> {
        let (index, frontend) = self.addresses.get(&(addr, protocol))?;
        Some((*index, self.ports.get(*index)?, frontend))
    }

    /// The Service port with a node port, with its place in the view.
    pub(super) fn at_node_port(&self, port: Port, protocol: Protocol) -> Option<(usize, &'a PortView)> {
        let index = self.node_ports.get(&(port, protocol))?.first()?;
        Some((*index, self.ports.get(*index)?))
    }

    /// All Service ports with a node port.
    pub(super) fn with_node_port(
        &self,
        port: Port,
        protocol: Protocol,
    ) -> impl Iterator<Item = &'a PortView> + '_ {
        let found = self.node_ports.get(&(port, protocol)).into_iter().flatten();
        found.filter_map(|index| self.ports.get(*index))
    }

    /// Whether some Service answers on an address.
    pub(super) fn is_vip(&self, addr: IpAddr) -> bool {
        self.vips.contains(&addr)
    }

    /// Whether an address is the cluster IP of some Service.
    pub(super) fn is_cluster_ip(&self, addr: IpAddr) -> bool {
        self.cluster_ips.contains(&addr)
    }

    /// Whether some Service has its cluster IP there.
    pub(super) fn has_cluster_ip(&self, at: AddrPort, protocol: Protocol) -> bool {
        self.cluster_places.contains(&(at, protocol))
    }

    /// Whether an endpoint of some Service is on this node, as far as a set tells that is of all Services.
    pub(super) fn is_endpoint_here(&self, endpoint: AddrPort, protocol: Protocol) -> bool {
        self.endpoints_here.contains(&(endpoint, protocol))
    }

    /// Whether some Service has its health checks on a port.
    pub(super) fn is_health_check(&self, port: Port) -> bool {
        self.health_checks.contains(&port)
    }
}
