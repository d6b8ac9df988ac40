//! Why an endpoint is in a pool, or is not: what the choice of `pool` answers, and the account of one whole Service for people.

use std::sync::Arc;

use crate::model::{Cluster, Endpoint, Service, ServicePortName};
use crate::net::IpFamily;
use crate::packet::NodeFacts;

use super::client::{self, Treatment};
use super::frontend;
use super::node::NodeContext;
use super::pool::Choice;
use super::view::PortView;

/// The answer for one endpoint and one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// In: it is ready.
    Ready,
    /// In: it is ready, and its hints name this node.
    ReadyForNode,
    /// In: it is ready, and its hints name this node's zone.
    ReadyForZone,
    /// In: it terminates, but still serves, and none is ready.
    Fallback,
    /// Out: no address of the Service leads to this pool.
    PoolUnused,
    /// Out: it runs on another node, or does not say on which.
    OtherNode,
    /// Out: its hints name other nodes.
    HintsOtherNode,
    /// Out: its hints name other zones.
    HintsOtherZone,
    /// Out: it is not ready.
    NotReady,
    /// Out: it terminates, and others are ready.
    Terminating,
    /// Out: it terminates and serves no more.
    NotServing,
}

impl Reason {
    /// Whether the endpoint is in the pool.
    pub fn is_in(self) -> bool {
        matches!(self, Reason::Ready | Reason::ReadyForNode | Reason::ReadyForZone | Reason::Fallback)
    }

    /// The reason in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Ready => "ready",
            Reason::ReadyForNode => "ready, hints name this node",
            Reason::ReadyForZone => "ready, hints name this zone",
            Reason::Fallback => "terminating but serving, and none is ready",
            Reason::PoolUnused => "no policy asks for it",
            Reason::OtherNode => "on another node",
            Reason::HintsOtherNode => "hints name other nodes",
            Reason::HintsOtherZone => "hints name other zones",
            Reason::NotReady => "not ready",
            Reason::Terminating => "terminating, and others are ready",
            Reason::NotServing => "terminating, serves no more",
        }
    }
}

/// An endpoint of a Service port with both answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedEndpoint {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Whether the pool of policy Cluster has it.
    pub cluster: Reason,
    /// Whether the pool of policy Local has it.
    pub local: Reason,
}

/// Why endpoints of a Service have no port to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StrayReason {
    /// The Service has no port of that name and protocol.
    NoSuchPort,
    /// The Service has no cluster IP of their family.
    OtherFamily,
}

impl StrayReason {
    /// The reason in words.
    pub fn as_str(self) -> &'static str {
        match self {
            StrayReason::NoSuchPort => "the Service has no port of this name and protocol",
            StrayReason::OtherFamily => "the Service has no cluster IP of this family",
        }
    }
}

/// Endpoints that belong to a Service, but to no port that it serves in their family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strays {
    /// The port that their slices name.
    pub port: ServicePortName,
    /// They.
    pub endpoints: Vec<Endpoint>,
    /// Why no rule has them.
    pub reason: StrayReason,
}

/// A port of a Service with all that is to be said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountedPort {
    /// The decisions.
    pub view: PortView,
    /// Its endpoints, those that are not used among them.
    pub endpoints: Vec<JudgedEndpoint>,
    /// What becomes of each kind of client at each VIP.
    pub treatments: Vec<Treatment>,
}

/// What a node makes of one Service in one family, with reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// The node's name.
    pub node: Arc<str>,
    /// The family.
    pub family: IpFamily,
    /// Its ports, as far as they have a cluster IP.
    pub ports: Vec<AccountedPort>,
    /// Endpoints that serve no port of it.
    pub strays: Vec<Strays>,
}

impl Account {
    /// Whether the Service has nothing to do with the family.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.strays.is_empty()
    }
}

/// Accounts for one Service: by the decisions that [`super::resolve_port`] takes, not beside them. Other Services change nothing for
/// it, unless they claim its addresses too: they are not asked.
pub fn account(
    cluster: &Cluster,
    node: &NodeContext,
    facts: &NodeFacts,
    family: IpFamily,
    service: &Service,
) -> Account {
    let mut views = Vec::new();
    let mut judged = Vec::new();
    for port in &service.ports {
        let endpoints = cluster.endpoints_of(family, &service.port_name(port));
        let Some(view) = super::resolve_port(node, family, service, port, endpoints) else { continue };
        let choice = Choice::of(node, frontend::exposure(service, port, family), endpoints);
        let judge = |endpoint: &Endpoint| JudgedEndpoint {
            endpoint: endpoint.clone(),
            cluster: choice.cluster(endpoint),
            local: choice.local(endpoint),
        };
        views.push(view);
        judged.push(endpoints.iter().map(judge).collect());
    }
    let alone = super::view(node, family, views);
    let treat = |view: &PortView| client::treatments(&alone, view, facts);
    let treatments: Vec<Vec<Treatment>> = alone.ports.iter().map(treat).collect();
    let accounted = |((view, endpoints), treatments)| AccountedPort { view, endpoints, treatments };
    Account {
        node: node.name.clone(),
        family,
        ports: alone.ports.into_iter().zip(judged).zip(treatments).map(accounted).collect(),
        strays: strays(cluster, family, service),
    }
}

fn strays(cluster: &Cluster, family: IpFamily, service: &Service) -> Vec<Strays> {
    let mut strays = Vec::new();
    for (port, endpoints) in ServicePortName::of_service(cluster.endpoints.get(family), &service.name) {
        let is_port = service.ports.iter().any(|one| service.port_name(one) == *port);
        let reason = match (is_port, service.cluster_ips.get(family)) {
            (true, Some(_)) => continue,
            (false, _) => StrayReason::NoSuchPort,
            (true, None) => StrayReason::OtherFamily,
        };
        strays.push(Strays { port: port.clone(), endpoints: endpoints.clone(), reason });
    }
    strays
}
