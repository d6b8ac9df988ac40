//! Every name that userspace mode gives a kernel object (reference section 5.3).

use crate::program::xtables::ChainName;

/// VIPs of packets that come in (nat).
pub(super) const PORTALS_CONTAINER: ChainName = ChainName::literal("KUBE-PORTALS-CONTAINER");
/// VIPs of the node's own packets (nat).
pub(super) const PORTALS_HOST: ChainName = ChainName::literal("KUBE-PORTALS-HOST");
/// Node ports of packets that come in (nat).
pub(super) const NODE_PORT_CONTAINER: ChainName = ChainName::literal("KUBE-NODEPORT-CONTAINER");
/// Node ports of the node's own packets (nat).
pub(super) const NODE_PORT_HOST: ChainName = ChainName::literal("KUBE-NODEPORT-HOST");
/// Proxy ports of node ports let in (filter).
pub(super) const NODE_PORT_NON_LOCAL: ChainName = ChainName::literal("KUBE-NODEPORT-NON-LOCAL");
