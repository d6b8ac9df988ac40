//! Which endpoints a Service port may use: the pool of policy Cluster and the pool of policy Local, each with its own
//! fallback to terminating endpoints (reference section 1.9).

use crate::model::{Conditions, Endpoint};
use crate::net::AddrPort;

use super::frontend::Exposure;
use super::node::NodeContext;
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

/// Chooses both pools.
pub(super) fn choose(node: &NodeContext, exposure: Exposure, endpoints: &[Endpoint]) -> Pools {
    let is_local = |endpoint: &Endpoint| endpoint.node.as_ref() == Some(&node.name);
    let uses_cluster = exposure.uses_cluster_endpoints();
    let uses_local = exposure.uses_local_endpoints();

    let hints = if uses_cluster { HintMode::of(node, endpoints) } else { HintMode::None };
    // Hints count for ready endpoints only, and never for the pool of policy Local.
    let cluster_has_ready =
        uses_cluster && endpoints.iter().any(|one| one.conditions.ready && hints.admits(node, one));
    let local_has_ready = uses_local && endpoints.iter().any(|one| one.conditions.ready && is_local(one));

    let mut pools = Pools {
        endpoints: Vec::with_capacity(endpoints.len()),
        endpoints_here: endpoints.iter().filter(|one| is_local(one)).map(|one| one.addr).collect(),
        cluster_is_empty: true,
        local_is_empty: true,
        has_usable: false,
    };
    for endpoint in endpoints {
        let conditions = endpoint.conditions;
        let in_cluster = uses_cluster
            && if cluster_has_ready {
                conditions.ready && hints.admits(node, endpoint)
            } else {
                is_fallback(conditions)
            };
        let in_local = uses_local
            && is_local(endpoint)
            && if local_has_ready { conditions.ready } else { is_fallback(conditions) };
        pools.has_usable |= in_cluster || (uses_local && (conditions.ready || is_fallback(conditions)));
        pools.cluster_is_empty &= !in_cluster;
        pools.local_is_empty &= !in_local;
        if in_cluster || in_local {
            let on_this_node = is_local(endpoint);
            pools.endpoints.push(PoolEndpoint { addr: endpoint.addr, in_cluster, in_local, on_this_node });
        }
    }
    pools
}
