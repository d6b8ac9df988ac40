//! The node-local view: what this node must do with packets to Services, every decision taken. Backends only express it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{Placeholders, ServicePortName};
use crate::net::{AddrPort, IpCidr, IpFamily, Port};

use super::Habits;

/// Which addresses of the node answer node ports (reference section 1.12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePortScope {
    /// Every address of the node; loopback only if `loopback` says so.
    AllLocal {
        /// Whether loopback addresses answer too. In IPv6 only where a process carries the connections.
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
    /// How many endpoints it has, usable or not.
    pub n_endpoints: usize,
    /// Every endpoint on this node, usable or not, in the same order.
    pub endpoints_here: Vec<AddrPort>,
    /// Endpoints that may go on to answer a UDP flow which they have: all that serve, usable or not. Empty for other
    /// protocols (reference section 6.1).
    pub flow_endpoints: Vec<AddrPort>,
    /// Packets to its other frontends keep their source, whether there is anybody to get them or not (policy Local).
    pub external_keeps_source: bool,
    /// Session affinity ClientIP: for how many seconds a client stays with its endpoint.
    pub affinity_seconds: Option<u32>,
    /// The node's own health-check port for this Service, which must be let in.
    pub health_check_node_port: Option<Port>,
    /// What in it is a placeholder.
    pub placeholders: Placeholders,
}

#[cfg(test)]
impl PortView {
    /// A TCP port that has a name and the routes of its cluster IP, and nothing else.
    pub(crate) fn bare(service: crate::model::ServiceName, port: &str, internal: Routes) -> PortView {
        PortView {
            name: ServicePortName { service, port: port.into(), protocol: crate::net::Protocol::Tcp },
            frontends: Vec::new(),
            internal,
            external: None,
            source_ranges: None,
            endpoints: Vec::new(),
            n_endpoints: 0,
            endpoints_here: Vec::new(),
            flow_endpoints: Vec::new(),
            external_keeps_source: false,
            affinity_seconds: None,
            health_check_node_port: None,
            placeholders: Placeholders::default(),
        }
    }
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

impl NodeView {
    /// For how many Service ports there are endpoints, but none that a policy Local allows: of the internal, and of the external
    /// traffic policy (reference section 1.10).
    pub fn without_local_endpoints(&self) -> (usize, usize) {
        let is_dropped = |routes: Option<Routes>| routes.is_some_and(|routes| routes.outside == Route::Drop);
        let internal = self.ports.iter().filter(|port| is_dropped(Some(port.internal)));
        let external = self.ports.iter().filter(|port| is_dropped(port.external));
        (internal.count(), external.count())
    }

    /// Every frontend with its Service port, in order.
    pub fn frontends(&self) -> impl Iterator<Item = (&PortView, &Frontend)> {
        self.ports.iter().flat_map(|port| port.frontends.iter().map(move |frontend| (port, frontend)))
    }
}
