//! Zone and node hints: which ready endpoints are meant for this node (reference section 1.8). Only hints are read;
//! whoever writes slices has turned trafficDistribution into them.

use crate::model::Endpoint;

use super::node::NodeContext;

/// What the hints of a Service port's endpoints, taken together, ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HintMode {
    /// Nothing that all of them agree on.
    None,
    /// Endpoints that name this node.
    SameNode,
    /// Endpoints that name this node's zone.
    SameZone,
}

impl HintMode {
    /// The mode of these endpoints. One ready endpoint without a hint switches that kind of hint off.
    pub(super) fn of(node: &NodeContext, endpoints: &[Endpoint]) -> HintMode {
        let mut ready = endpoints.iter().filter(|endpoint| endpoint.conditions.ready).peekable();
        if ready.peek().is_none() {
            return HintMode::None;
        }
        let (mut all_nodes, mut all_zones, mut this_node, mut this_zone) = (true, true, false, false);
        for endpoint in ready {
            let Some(hints) = &endpoint.hints else { return HintMode::None };
            all_nodes &= !hints.nodes.is_empty();
            all_zones &= !hints.zones.is_empty();
            this_node |= HintMode::SameNode.admits(node, endpoint);
            this_zone |= HintMode::SameZone.admits(node, endpoint);
        }
        if all_nodes && this_node {
            HintMode::SameNode
        } else if all_zones && this_zone {
            HintMode::SameZone
        } else {
            HintMode::None
        }
    }

    /// Whether an endpoint is meant for this node.
    pub(super) fn admits(self, node: &NodeContext, endpoint: &Endpoint) -> bool {
        let hints = endpoint.hints.as_deref();
        match self {
            HintMode::None => true,
            HintMode::SameNode => hints.is_some_and(|hints| hints.nodes.contains(&node.name)),
            HintMode::SameZone => {
                let zone = node.zone.as_deref().unwrap_or("");
                hints.is_some_and(|hints| hints.zones.contains(zone))
            }
        }
    }
}
