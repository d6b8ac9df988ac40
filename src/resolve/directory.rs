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
    node_ports: BTreeMap<(Port, Protocol), usize>,
    cluster_ips: BTreeSet<IpAddr>,
}

impl<'a> Directory<'a> {
    /// Makes it.
    pub(super) fn new(view: &'a NodeView) -> Directory<'a> {
        let mut directory = Directory {
            ports: &view.ports,
            addresses: BTreeMap::new(),
            node_ports: BTreeMap::new(),
            cluster_ips: BTreeSet::new(),
        };
        for (index, port) in view.ports.iter().enumerate() {
            let protocol = port.name.protocol;
            for frontend in &port.frontends {
                match frontend.vip {
                    Vip::Address(vip) => {
                        directory.addresses.entry((vip, protocol)).or_insert((index, frontend));
                        if frontend.kind == FrontendKind::ClusterIp {
                            directory.cluster_ips.insert(vip.addr);
                        }
                    }
                    Vip::NodePort(node_port) => {
                        directory.node_ports.entry((node_port, protocol)).or_insert(index);
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
        let index = self.node_ports.get(&(port, protocol))?;
        Some((*index, self.ports.get(*index)?))
    }

    /// Whether an address is the cluster IP of some Service.
    pub(super) fn is_cluster_ip(&self, addr: IpAddr) -> bool {
        self.cluster_ips.contains(&addr)
    }
}
