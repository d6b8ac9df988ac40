//! What is particular to this node: its name and zone, which addresses answer node ports, how pods are told from others
//! (reference sections 1.11 to 1.13).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::model::{Config, DetectLocal, Mode, Node, NodePortAddresses};
use crate::net::{IpCidr, IpFamily, PerFamily};

use super::Habits;
use super::view::{LocalTraffic, NodePortScope, PortView, Vip};

/// Everything about a node that a decision depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeContext {
    /// The node's name.
    pub name: Arc<str>,
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// Its address in each family; loopback if it has none.
    pub node_ips: PerFamily<IpAddr>,
    /// Which of its addresses answer node ports.
    pub node_ports: PerFamily<NodePortScope>,
    /// Networks in which addresses of Services answer node ports as well.
    pub node_port_networks: PerFamily<Vec<IpCidr>>,
    /// Whether node ports answer on 127.0.0.0/8.
    pub localhost_node_ports: bool,
    /// What its mode does otherwise than others do.
    pub habits: Habits,
    /// How traffic of pods is told.
    pub local_traffic: PerFamily<Option<LocalTraffic>>,
    /// Rewrite the source of all traffic to cluster IPs.
    pub masquerade_all: bool,
    /// Feature gate AllowServiceExternalIPs.
    pub external_ips_allowed: bool,
}

/// The name of the node: what was asked for, else the configuration's, else the host's; trimmed and lower-cased.
/// `None` if nothing is left.
pub fn node_name(asked: Option<&str>, config: &Config, host_name: &str) -> Option<Arc<str>> {
    let name = asked.or(config.hostname_override.as_deref()).unwrap_or(host_name).trim().to_lowercase();
    (!name.is_empty()).then(|| name.into())
}

impl NodeContext {
    /// Puts together what the configuration, the Node object and the node's interfaces say. `local_addresses` are the
    /// addresses on all interfaces, in IPVS mode without those of the dummy device; loopback ones are known without being
    /// listed.
    pub fn new(config: &Config, node: &Node, local_addresses: &[IpAddr]) -> NodeContext {
        let node_ips = node_ips(config, node);
        let cidrs = node_port_cidrs(config, &node_ips);
        // A list of the other family's networks leaves this family open (reference section 8, 24).
        let contains_loopback = cidrs.v4.iter().any(|cidr| {
            cidr.network().is_loopback() || cidr.contains(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)))
        });
        let habits = Habits::of(config.mode);
        let localhost_node_ports =
            config.localhost_node_ports && config.mode == Mode::Iptables && contains_loopback;
        NodeContext {
            name: node.name.clone(),
            zone: node.zone.clone(),
            node_ports: PerFamily::from_fn(|family| {
                let loopback = habits.carries_connections || (localhost_node_ports && family == IpFamily::V4);
                scope(habits, cidrs.get(family), local_addresses, family, loopback)
            }),
            node_port_networks: PerFamily::from_fn(|family| {
                let cidrs = cidrs.get(family);
                let listed = habits.lists_node_port_addresses && !cidrs.iter().any(IpCidr::is_any);
                if listed { cidrs.clone() } else { Vec::new() }
            }),
            localhost_node_ports,
            habits,
            local_traffic: PerFamily::from_fn(|family| local_traffic(config, node, family)),
            masquerade_all: config.masquerade_all,
            external_ips_allowed: config
                .feature_gates
                .get("AllowServiceExternalIPs")
                .copied()
                .unwrap_or(true),
            node_ips,
        }
    }

    /// Which addresses answer node ports when the node serves these Service ports. In IPVS mode addresses of Services are
    /// on an interface of the node, where the networks of nodePortAddresses find them (reference section 8, 52).
    pub(super) fn node_port_scope(&self, family: IpFamily, ports: &[PortView]) -> NodePortScope {
        let scope = self.node_ports.get(family).clone();
        let networks = self.node_port_networks.get(family);
        match scope {
            NodePortScope::Addresses(addresses) if !networks.is_empty() => {
                let vips = ports.iter().flat_map(|port| &port.frontends).filter_map(|frontend| {
                    let Vip::Address(vip) = frontend.vip else { return None };
                    networks.iter().any(|network| network.contains(vip.addr)).then_some(vip.addr)
                });
                let all: BTreeSet<IpAddr> = addresses.into_iter().chain(vips).collect();
                NodePortScope::Addresses(all.into_iter().filter(|addr| !addr.is_loopback()).collect())
            }
            NodePortScope::Addresses(_) | NodePortScope::AllLocal { .. } => scope,
        }
    }
}

/// First address of each family, the bind address before the Node's (reference section 1.11).
fn node_ips(config: &Config, node: &Node) -> PerFamily<IpAddr> {
    PerFamily::from_fn(|family| {
        let in_family = |addr: &IpAddr| IpFamily::of(*addr) == family;
        let loopback = match family {
            IpFamily::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpFamily::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        let bound = config.bind_address.filter(in_family);
        bound.or_else(|| node.addresses.iter().copied().find(in_family)).unwrap_or(loopback)
    })
}

/// `nodePortAddresses` as networks of each family; everything if nothing is said (reference section 1.12).
fn node_port_cidrs(config: &Config, node_ips: &PerFamily<IpAddr>) -> PerFamily<Vec<IpCidr>> {
    let primary = match &config.node_port_addresses {
        NodePortAddresses::Default => config.mode == Mode::Nftables,
        NodePortAddresses::Primary => true,
        NodePortAddresses::Cidrs(_) => false,
    };
    PerFamily::from_fn(|family| {
        let own = *node_ips.get(family);
        let cidrs: Vec<IpCidr> = match &config.node_port_addresses {
            _ if primary => {
                Some(own).filter(|own| !own.is_loopback()).map(IpCidr::host).into_iter().collect()
            }
            NodePortAddresses::Cidrs(cidrs) => {
                cidrs.iter().copied().filter(|cidr| cidr.family() == family).collect()
            }
            NodePortAddresses::Default | NodePortAddresses::Primary => Vec::new(),
        };
        if cidrs.is_empty() { vec![IpCidr::any(family)] } else { cidrs }
    })
}

fn scope(
    habits: Habits,
    cidrs: &[IpCidr],
    local_addresses: &[IpAddr],
    family: IpFamily,
    loopback: bool,
) -> NodePortScope {
    let any = cidrs.iter().any(IpCidr::is_any);
    if any && !habits.lists_node_port_addresses {
        return NodePortScope::AllLocal { loopback };
    }
    // Where all are meant, those of a single link are not (reference section 3.2).
    let is_meant = |addr: &IpAddr| match addr {
        IpAddr::V6(addr) if any => !addr.is_unicast_link_local(),
        IpAddr::V4(_) | IpAddr::V6(_) => true,
    };
    let always = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let addresses: BTreeSet<IpAddr> = local_addresses
        .iter()
        .chain(&always)
        .copied()
        .filter(|addr| IpFamily::of(*addr) == family && cidrs.iter().any(|cidr| cidr.contains(*addr)))
        .filter(|addr| loopback || !addr.is_loopback())
        .filter(is_meant)
        .collect();
    NodePortScope::Addresses(addresses.into_iter().collect())
}

fn local_traffic(config: &Config, node: &Node, family: IpFamily) -> Option<LocalTraffic> {
    match &config.detect_local {
        DetectLocal::ClusterCidr => config.cluster_cidrs.get(family).map(LocalTraffic::Source),
        DetectLocal::NodeCidr => {
            node.pod_cidrs.iter().copied().find(|cidr| cidr.family() == family).map(LocalTraffic::Source)
        }
        DetectLocal::BridgeInterface(name) => Some(LocalTraffic::Interface(name.as_str().into())),
        DetectLocal::InterfaceNamePrefix(prefix) => {
            Some(LocalTraffic::InterfacePrefix(prefix.as_str().into()))
        }
    }
}
