//! The node-local view: what this node must do with packets to Services, every decision taken. Backends only express it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{Mode, Placeholders, ServicePortName};
use crate::net::{AddrPort, IpCidr, IpFamily, Port};

/// Which addresses of the node answer node ports (reference section 1.12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePortScope {
    /// Every address of the node; loopback only if `loopback` says so.
    AllLocal {
        /// Whether 127.0.0.0/8 answers too. Never true in IPv6.
        loopback: bool,
    },
    /// These addresses only, sorted; loopback ones are in it only if they answer.
    Addresses(Vec<IpAddr>),
}

/// How traffic of pods is told from other traffic (reference section 1.13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalTraffic {
    /// Its source address is in here.
    Source(IpCidr),
    /// It comes in by this interface.
    Interface(Arc<str>),
    /// It comes in by an interface whose name begins so.
    InterfacePrefix(Arc<str>),
}

/// Which of the two pools of a Service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PoolKind {
    /// Endpoints for policy Cluster.
    Cluster,
    /// Endpoints for policy Local: those on this node.
    Local,
}

/// What happens to a packet that is for a frontend. Whatever the route says, an endpoint that reaches itself through
/// its Service (hairpin) has its source rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To one endpoint of the pool.
    Forward {
        /// The pool; never empty.
        pool: PoolKind,
        /// Whether the source address becomes the node's.
        masquerade: bool,
    },
    /// Refused: there is no endpoint anywhere.
    Reject,
    /// Discarded: there are endpoints, but none that the policy allows.
    Drop,
}

/// The routes of a packet by where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routes {
    /// From pods, as [`NodeView::local_traffic`] tells; equal to `outside` when it cannot tell.
    pub pods: Route,
    /// From the node itself (a local source address).
    pub node: Route,
    /// From anywhere else.
    pub outside: Route,
}

/// What kind of address a frontend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrontendKind {
    /// A cluster IP.
    ClusterIp,
    /// An entry of `spec.externalIPs`.
    ExternalIp,
    /// A load balancer's address.
    LoadBalancer,
    /// The node's addresses.
    NodePort,
}

/// Any address a Service answers on, with its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vip {
    /// A virtual address.
    Address(AddrPort),
    /// A port on the addresses of [`NodeView::node_ports`].
    NodePort(Port),
}

/// One VIP of a Service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frontend {
    /// Its kind; it selects between the routes `internal` and `external`.
    pub kind: FrontendKind,
    /// Where it answers.
    pub vip: Vip,
}

/// `loadBalancerSourceRanges` that count: only these sources may use the load balancer frontends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRanges {
    /// The ranges, in the Service's order; never empty, never a /0.
    pub allowed: Vec<IpCidr>,
    /// Whether one of them holds the node's address: then a packet from a load balancer address itself is let in, since
    /// the node reaches the address from the address.
    pub allow_vips: bool,
}

/// A usable endpoint of a Service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolEndpoint {
    /// Where it listens.
    pub addr: AddrPort,
    /// In the pool of policy Cluster.
    pub in_cluster: bool,
    /// In the pool of policy Local.
    pub in_local: bool,
    /// Runs on this node, whatever pools it is in: it can be sent back to itself.
    pub on_this_node: bool,
}

/// Everything this node does for one Service port in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortView {
    /// Which Service port.
    pub name: ServicePortName,
    /// Its VIPs: cluster IP, external IPs, load balancer IPs, node port, in that order.
    pub frontends: Vec<Frontend>,
    /// Routes of the cluster IP.
    pub internal: Routes,
    /// Routes of all other frontends; `None` if it has none.
    pub external: Option<Routes>,
    /// Who may use the load balancer frontends; `None` is anyone.
    pub source_ranges: Option<SourceRanges>,
    /// Endpoints of either pool, sorted by the text `ip:port`.
    pub endpoints: Vec<PoolEndpoint>,
    /// Session affinity ClientIP: for how many seconds a client stays with its endpoint.
    pub affinity_seconds: Option<u32>,
    /// The node's own health-check port for this Service, which must be let in.
    pub health_check_node_port: Option<Port>,
    /// What in it is a placeholder.
    pub placeholders: Placeholders,
}

impl PortView {
    /// The endpoints of one pool, in order.
    pub fn pool(&self, pool: PoolKind) -> impl DoubleEndedIterator<Item = AddrPort> + Clone + '_ {
        self.endpoints
            .iter()
            .filter(move |endpoint| match pool {
                PoolKind::Cluster => endpoint.in_cluster,
                PoolKind::Local => endpoint.in_local,
            })
            .map(|endpoint| endpoint.addr)
    }

    /// The routes of a frontend of this kind.
    pub fn routes(&self, kind: FrontendKind) -> Routes {
        match kind {
            FrontendKind::ClusterIp => self.internal,
            FrontendKind::ExternalIp | FrontendKind::LoadBalancer | FrontendKind::NodePort => {
                self.external.unwrap_or(self.internal)
            }
        }
    }
}

/// Where modes differ in what they do to packets (reference section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Habits {
    /// The node's own packets to external addresses are refused where those of others are. In iptables mode they leave as
    /// they are: no jump of OUTPUT leads to those refusals (reference section 2.4).
    pub refuses_own_traffic: bool,
    /// A port of a cluster IP that no Service has is refused (reference section 4.5).
    pub refuses_unused_ports: bool,
    /// Refusals of node ports hold on every local address, not only on those that answer node ports (reference section 8,
    /// 36).
    pub refuses_node_ports_anywhere: bool,
    /// Source ranges are asked first, also where there is no endpoint to go to (reference section 8, 62).
    pub asks_ranges_first: bool,
    /// An endpoint of another node that comes back to itself has its source rewritten too.
    pub masquerades_remote_hairpins: bool,
    /// Health-check node ports are let in, whatever other rules do with packets to the node.
    pub admits_health_checks: bool,
}

impl Habits {
    /// Those of a mode.
    pub fn of(mode: Mode) -> Habits {
        match mode {
            Mode::Iptables | Mode::Ipvs => Habits {
                refuses_own_traffic: false,
                refuses_unused_ports: false,
                refuses_node_ports_anywhere: true,
                asks_ranges_first: false,
                masquerades_remote_hairpins: true,
                admits_health_checks: true,
            },
            Mode::Nftables => Habits {
                refuses_own_traffic: true,
                refuses_unused_ports: true,
                refuses_node_ports_anywhere: false,
                asks_ranges_first: true,
                masquerades_remote_hairpins: false,
                admits_health_checks: false,
            },
        }
    }
}

/// One family of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// The family.
    pub family: IpFamily,
    /// Service ports, sorted by name.
    pub ports: Vec<PortView>,
    /// Which of the node's addresses answer node ports.
    pub node_ports: NodePortScope,
    /// Whether node ports answer on 127.0.0.0/8, which the kernel must be told to route. Never in IPv6.
    pub localhost_node_ports: bool,
    /// What its mode does otherwise than others do.
    pub habits: Habits,
    /// How traffic of pods is told; `None` if it cannot be.
    pub local_traffic: Option<LocalTraffic>,
    /// Endpoints of all Service ports together, usable or not: what kube-proxy's large-cluster mode goes by
    /// (reference section 2.17).
    pub n_endpoints: usize,
}
