//! What rules say about Services, read back: the common result of every mode's `lift`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::net::{AddrPort, Port, Protocol};
use crate::program::ipvs::{Connections, Counters};
use crate::program::xtables::{Counter, Rule};
use crate::resolve::FrontendKind;

/// A VIP as rules tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LiftedVip {
    /// A virtual address.
    Address(AddrPort),
    /// A port on the node's addresses.
    NodePort(Port),
    /// A health-check port that is let in.
    HealthCheck(Port),
}

impl LiftedVip {
    /// The VIP that a rule dispatches, by its destination.
    pub(super) fn of_rule(rule: &Rule) -> Option<LiftedVip> {
        let port = rule.destination_port()?;
        Some(match rule.destination {
            Some(destination) if destination.cidr.is_host() => {
                LiftedVip::Address(AddrPort::new(destination.cidr.network(), port))
            }
            Some(_) | None => LiftedVip::NodePort(port),
        })
    }
}

impl fmt::Display for LiftedVip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LiftedVip::Address(addr) => addr.fmt(f),
            LiftedVip::NodePort(port) => write!(f, "node:{port}"),
            LiftedVip::HealthCheck(port) => write!(f, "health check node:{port}"),
        }
    }
}

/// A Service port as rules tell of it, in one family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiftedPort {
    /// Its VIPs; the lowest kind first, as [`LiftedVip`] orders them.
    pub vips: BTreeSet<LiftedVip>,
    /// The VIP of the cluster IP, if one is marked as such.
    pub cluster_ip: Option<AddrPort>,
    /// Every endpoint that some VIP leads to.
    pub endpoints: BTreeSet<AddrPort>,
    /// VIPs that refuse or discard what is sent to them.
    pub closed: BTreeSet<LiftedVip>,
}

/// Display name of a Service port (`namespace/name:port`) and its protocol: all that rules tell of its identity.
pub type LiftedName = (String, Protocol);

/// What rules tell of a Service port's policies, in one family. What no rule shows is `None` or empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiftedPolicies {
    /// For how many seconds a client stays with its endpoint.
    pub affinity_seconds: Option<u32>,
    /// Whether the cluster IP leads to endpoints of this node only (internalTrafficPolicy Local).
    pub internal_local: Option<bool>,
    /// Whether clients outside are led to endpoints of this node only (externalTrafficPolicy Local).
    pub external_local: Option<bool>,
    /// Who may use the load balancer's addresses, as the rules write it; empty is anyone.
    pub source_ranges: Vec<String>,
    /// The kinds of VIPs that rules tell.
    pub kinds: BTreeMap<LiftedVip, FrontendKind>,
    /// New connections to each VIP, where rules count.
    pub vip_counts: BTreeMap<LiftedVip, Counter>,
    /// New connections to each endpoint, where rules count.
    pub endpoint_counts: BTreeMap<AddrPort, Counter>,
    /// What has passed through the virtual servers of each VIP, if a kernel told.
    pub vip_traffic: BTreeMap<LiftedVip, Counters>,
    /// Every endpoint of virtual servers, those that are draining among them.
    pub endpoint_loads: BTreeMap<AddrPort, EndpointLoad>,
}

impl LiftedPolicies {
    /// Whether both lead the same clients to the same endpoints, as far as both tell: how often they did is not asked.
    pub(super) fn lead_alike(&self, other: &LiftedPolicies) -> bool {
        let alike =
            |one: Option<bool>, other: Option<bool>| one.zip(other).is_none_or(|(one, other)| one == other);
        self.affinity_seconds == other.affinity_seconds
            && self.source_ranges == other.source_ranges
            && alike(self.internal_local, other.internal_local)
            && alike(self.external_local, other.external_local)
    }
}

/// What an endpoint has to do for the virtual servers of a Service port, all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointLoad {
    /// Its connections, if a kernel told.
    pub connections: Option<Connections>,
    /// Whether it gets no new ones anywhere (weight 0).
    pub is_draining: bool,
}

/// What carries a Service, and which one of its chain, map or set it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A rule, by its place in its chain, from 1.
    Rule(usize),
    /// An element of a map, an entry of a set.
    Element,
    /// A virtual server of IPVS.
    VirtualServer,
    /// A listener of userspace mode.
    Listener,
}

impl Place {
    /// The number of a rule.
    pub fn number(self) -> Option<usize> {
        match self {
            Place::Rule(number) => Some(number),
            Place::Element | Place::VirtualServer | Place::Listener => None,
        }
    }
}

/// The number of a rule, or a word.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Rule(number) => write!(f, "{number}"),
            Place::Element => f.pad("element"),
            Place::VirtualServer => f.pad("virtual server"),
            Place::Listener => f.pad("listener"),
        }
    }
}

/// Something that carries a Service: a rule, or what stands for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarryingRule {
    /// Its table: `nat`, `ip kube-proxy`.
    pub table: String,
    /// Its chain or map.
    pub chain: String,
    /// What it is, and its place in its chain.
    pub place: Place,
    /// As its tool prints it.
    pub text: String,
    /// What it does, in words.
    pub word: String,
    /// The chains that it calls.
    pub calls: Vec<String>,
    /// The VIP that it is for.
    pub vip: Option<LiftedVip>,
    /// The endpoints that it sends to.
    pub endpoints: Vec<AddrPort>,
    /// What it has counted, where rules count.
    pub counter: Option<Counter>,
}
