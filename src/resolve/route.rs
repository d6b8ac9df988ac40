//! What happens to a packet for a frontend, by where it comes from: the traffic-policy table of reference section 1.10,
//! the short circuit of section 2.9, and whose source address is rewritten.

use crate::net::IpFamily;

use super::frontend::Exposure;
use super::node::NodeContext;
use super::pool::Pools;
use super::view::{PoolKind, Route, Routes};

/// The same for everyone.
fn everyone(route: Route) -> Routes {
    Routes { pods: route, node: route, outside: route }
}

/// Where policy Local leads: to the local pool; if that is empty nowhere, or to the other one.
fn local(node: &NodeContext, pools: &Pools, masquerade: bool) -> Route {
    match (pools.local_is_empty, node.habits.local_falls_back) {
        (false, _) => Route::Forward { pool: PoolKind::Local, masquerade },
        (true, false) => Route::Drop,
        (true, true) if pools.cluster_is_empty => Route::Reject,
        (true, true) => Route::Forward { pool: PoolKind::Cluster, masquerade },
    }
}

/// Routes of the cluster IP. Traffic that does not come from pods is masqueraded, if it can be told apart.
pub(super) fn internal(node: &NodeContext, family: IpFamily, exposure: Exposure, pools: &Pools) -> Routes {
    if !pools.has_usable {
        return everyone(Route::Reject);
    }
    let route = |masquerade| {
        if exposure.internal_local {
            local(node, pools, masquerade)
        } else {
            Route::Forward { pool: PoolKind::Cluster, masquerade }
        }
    };
    let can_tell_pods = node.local_traffic.get(family).is_some();
    let others = route(node.masquerade_all || can_tell_pods);
    Routes { pods: route(node.masquerade_all), node: others, outside: others }
}

/// Routes of every other frontend; `None` if there is none. With policy Local, pods and the node itself may still use
/// any endpoint where the mode has the short circuit: only traffic from outside is bound to this node's.
pub(super) fn external(
    node: &NodeContext,
    family: IpFamily,
    exposure: Exposure,
    pools: &Pools,
) -> Option<Routes> {
    if !exposure.externally_accessible {
        return None;
    }
    if !pools.has_usable {
        return Some(everyone(Route::Reject));
    }
    let anywhere = |masquerade| Route::Forward { pool: PoolKind::Cluster, masquerade };
    if !exposure.external_local {
        return Some(everyone(anywhere(true)));
    }
    let outside = local(node, pools, false);
    if !node.habits.short_circuits {
        return Some(everyone(outside));
    }
    let can_tell_pods = node.local_traffic.get(family).is_some();
    Some(Routes {
        pods: if can_tell_pods { anywhere(false) } else { outside },
        node: anywhere(true),
        outside,
    })
}
