//! The fixed part of userspace mode: its chains and the jumps to them from built-in chains, as tables of data (reference
//! section 5.3).

use crate::backend::skeleton;
use crate::program::xtables::{ChainName, Rule, TableName, Target};

use super::names::{
    NODE_PORT_CONTAINER, NODE_PORT_HOST, NODE_PORT_NON_LOCAL, PORTALS_CONTAINER, PORTALS_HOST,
};

/// Where a jump stands in its built-in chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Before the rules of others.
    First,
    /// Behind them, and only for packets to addresses of the node: a port of a VIP must not be taken for a node port.
    LastAndLocal,
}

/// A jump from a built-in chain: table, built-in chain, target, place, comment.
type Jump = (TableName, &'static str, ChainName, Place, &'static str);

const JUMPS: [Jump; 5] = {
    use Place::{First, LastAndLocal};
    use TableName::{Filter, Nat};
    const PORTALS: &str = "handle ClusterIPs; NOTE: this must be before the NodePort rules";
    const NODE_PORTS: &str = "handle service NodePorts; NOTE: this must be the last rule in the chain";
    const NON_LOCAL: &str = "Ensure that non-local NodePort traffic can flow";
    [
        (Nat, "PREROUTING", PORTALS_CONTAINER, First, PORTALS),
        (Nat, "OUTPUT", PORTALS_HOST, First, PORTALS),
        (Nat, "PREROUTING", NODE_PORT_CONTAINER, LastAndLocal, NODE_PORTS),
        (Nat, "OUTPUT", NODE_PORT_HOST, LastAndLocal, NODE_PORTS),
        (Filter, "INPUT", NODE_PORT_NON_LOCAL, First, NON_LOCAL),
    ]
};

/// The chains of our own. No Service has one of its own.
pub(super) const CHAINS: [(TableName, ChainName); 5] = [
    (TableName::Nat, PORTALS_CONTAINER),
    (TableName::Nat, PORTALS_HOST),
    (TableName::Nat, NODE_PORT_CONTAINER),
    (TableName::Nat, NODE_PORT_HOST),
    (TableName::Filter, NODE_PORT_NON_LOCAL),
];

/// Every jump with its place and its rule.
pub(super) fn jumps() -> impl Iterator<Item = (TableName, ChainName, Place, Rule)> {
    JUMPS.into_iter().map(|(table, built_in, target, place, comment)| {
        let mut rule = Rule::to(Target::Jump(target));
        if place == Place::LastAndLocal {
            rule = rule.matching(skeleton::for_this_machine());
        }
        (table, ChainName::literal(built_in), place, rule.comment(comment))
    })
}
