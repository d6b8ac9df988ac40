//! Which endpoints a Service port may use: the pool of policy Cluster and the pool of policy Local, each with its own
//! fallback to terminating endpoints (reference section 1.9).

use crate::model::{Conditions, Endpoint, ServicePort};
use crate::net::{AddrPort, Protocol};

use super::frontend::Exposure;
use super::node::NodeContext;
use super::reason::Reason;
use super::topology::HintMode;
use super::view::PoolEndpoint;

/// The outcome of the choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pools {
    /// Endpoints of either pool, in the order they were given (sorted by text).
    pub(super) endpoints: Vec<PoolEndpoint>,
    /// All that run on this node, in the same order.
    pub(super) endpoints_here: Vec<AddrPort>,
    /// The pool of policy Cluster has none.
    pub(super) cluster_is_empty: bool,
    /// The pool of policy Local has none.
    pub(super) local_is_empty: bool,
    /// There is a usable endpoint somewhere, be it one that no policy allows.
    pub(super) has_usable: bool,
}

fn is_fallback(conditions: Conditions) -> bool {
    conditions.serving && conditions.terminating
}

/// Who may go on to answer a UDP flow. Neither readiness nor policy counts: they are for new flows.
pub(super) fn flow_endpoints(port: &ServicePort, endpoints: &[Endpoint]) -> Vec<AddrPort> {
    let may_answer = |one: &&Endpoint| port.protocol == Protocol::Udp && one.conditions.serving;
    endpoints.iter().filter(may_answer).map(|one| one.addr).collect()
}

/// What the endpoints of a Service port, taken together, mean for each of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice<'a> {
    node: &'a NodeContext,
    uses_cluster: bool,
    uses_local: bool,
    hints: HintMode,
    cluster_has_ready: bool,
    local_has_ready: bool,
}

impl<'a> Choice<'a> {
    /// Looks at all of them.
    pub(super) fn of(node: &'a NodeContext, exposure: Exposure, endpoints: &[Endpoint]) -> Choice<'a> {
        let uses_cluster = exposure.uses_cluster_endpoints();
        let uses_local = exposure.uses_local_endpoints();
        let hints = if uses_cluster { HintMode::of(node, endpoints) } else { HintMode::None };
        let is_local = |endpoint: &Endpoint| endpoint.node.as_ref() == Some(&node.name);
        // Hints count for ready endpoints only, and never for the pool of policy Local.
        let cluster_has_ready =
            uses_cluster && endpoints.iter().any(|one| one.conditions.ready && hints.admits(node, one));
        let local_has_ready = uses_local && endpoints.iter().any(|one| one.conditions.ready && is_local(one));
        Choice { node, uses_cluster, uses_local, hints, cluster_has_ready, local_has_ready }
    }

    fn is_local(&self, endpoint: &Endpoint) -> bool {
        endpoint.node.as_ref() == Some(&self.node.name)
    }

    /// The answer of the pool of policy Cluster.
    pub(super) fn cluster(&self, endpoint: &Endpoint) -> Reason {
        if !self.uses_cluster {
            return Reason::PoolUnused;
        }
        let reason = by_conditions(endpoint.conditions, self.cluster_has_ready);
        if reason != Reason::Ready {
            return reason;
        }
        match (self.hints, self.hints.admits(self.node, endpoint)) {
            (HintMode::None, _) => Reason::Ready,
            (HintMode::SameNode, true) => Reason::ReadyForNode,
            (HintMode::SameZone, true) => Reason::ReadyForZone,
            (HintMode::SameNode, false) => Reason::HintsOtherNode,
            (HintMode::SameZone, false) => Reason::HintsOtherZone,
        }
    }

    /// The answer of the pool of policy Local.
    pub(super) fn local(&self, endpoint: &Endpoint) -> Reason {
        if !self.uses_local {
            Reason::PoolUnused
        } else if !self.is_local(endpoint) {
            Reason::OtherNode
        } else {
            by_conditions(endpoint.conditions, self.local_has_ready)
        }
    }
}

/// Ready ones, or, if there are none, those that terminate but serve.
fn by_conditions(conditions: Conditions, has_ready: bool) -> Reason {
    match (has_ready, conditions.ready, is_fallback(conditions)) {
        (true, true, _) => Reason::Ready,
        (false, _, true) => Reason::Fallback,
        (true, false, true) => Reason::Terminating,
        (_, _, false) if conditions.terminating => Reason::NotServing,
        // Without any ready one among those that count, readiness alone is of no use.
        (_, _, false) => Reason::NotReady,
    }
}

/// Chooses both pools.
pub(super) fn choose(node: &NodeContext, exposure: Exposure, endpoints: &[Endpoint]) -> Pools {
    let choice = Choice::of(node, exposure, endpoints);
    let here = endpoints.iter().filter(|endpoint| choice.is_local(endpoint));
    let mut pools = Pools {
        endpoints: Vec::with_capacity(endpoints.len()),
        endpoints_here: here.map(|endpoint| endpoint.addr).collect(),
        cluster_is_empty: true,
        local_is_empty: true,
        has_usable: false,
    };
    for endpoint in endpoints {
        let conditions = endpoint.conditions;
        let in_cluster = choice.cluster(endpoint).is_in();
        let in_local = choice.local(endpoint).is_in();
        pools.has_usable |=
            in_cluster || (choice.uses_local && (conditions.ready || is_fallback(conditions)));
        pools.cluster_is_empty &= !in_cluster;
        pools.local_is_empty &= !in_local;
        if in_cluster || in_local {
            let on_this_node = choice.is_local(endpoint);
            pools.endpoints.push(PoolEndpoint { addr: endpoint.addr, in_cluster, in_local, on_this_node });
        }
    }
    pools
}
