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

/// To the local pool, or nowhere if it is empty.
fn local_or_drop(pools: &Pools, masquerade: bool) -> Route {
    if pools.local_is_empty { Route::Drop } else { Route::Forward { pool: PoolKind::Local, masquerade } }
}

/// Routes of the cluster IP. Traffic that does not come from pods is masqueraded, if it can be told apart.
pub(super) fn internal(node: &NodeContext, family: IpFamily, exposure: Exposure, pools: &Pools) -> Routes {
    if !pools.has_usable {
        return everyone(Route::Reject);
    }
    let route = |masquerade| {
        if exposure.internal_local {
            local_or_drop(pools, masquerade)
        } else {
            Route::Forward { pool: PoolKind::Cluster, masquerade }
        }
    };
    let can_tell_pods = node.local_traffic.get(family).is_some();
    let others = route(node.masquerade_all || can_tell_pods);
    Routes { pods: route(node.masquerade_all), node: others, outside: others }
}

/// Routes of every other frontend; `None` if there is none. With policy Local, pods and the node itself may still use
/// any endpoint (the short circuit): only traffic from outside is bound to this node's.
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
    let outside = local_or_drop(pools, false);
    let can_tell_pods = node.local_traffic.get(family).is_some();
    Some(Routes {
        pods: if can_tell_pods { anywhere(false) } else { outside },
        node: anywhere(true),
        outside,
    })
}
