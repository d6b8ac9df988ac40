//! Every name that iptables mode gives a kernel object (reference sections 2.2 and 2.3).

use crate::backend::hash::{digit, hash16};
use crate::program::xtables::ChainName;
use crate::program::xtables::prefix_tree::Branch;

/// Dispatch on cluster IPs, external IPs and load balancer IPs (nat); refusals of cluster IPs (filter).
pub(super) const SERVICES: ChainName = ChainName::literal("KUBE-SERVICES");
/// Refusals of external IPs, load balancer IPs and node ports (filter).
pub(super) const EXTERNAL_SERVICES: ChainName = ChainName::literal("KUBE-EXTERNAL-SERVICES");
/// Dispatch on node ports (nat); health-check ports let in (filter).
pub(super) const NODE_PORTS: ChainName = ChainName::literal("KUBE-NODEPORTS");
/// Forwarding of what Services accepted (filter).
pub(super) const FORWARD: ChainName = ChainName::literal("KUBE-FORWARD");
/// Load balancer traffic that no source range let in (filter).
pub(super) const PROXY_FIREWALL: ChainName = ChainName::literal("KUBE-PROXY-FIREWALL");
/// Protection of 127.0.0.0/8, shared with the kubelet (filter).
pub(super) const FIREWALL: ChainName = ChainName::literal("KUBE-FIREWALL");
/// Source NAT of marked packets (nat).
pub(super) const POSTROUTING: ChainName = ChainName::literal("KUBE-POSTROUTING");
/// Sets the mark that asks for source NAT (nat).
pub(super) const MARK_MASQ: ChainName = ChainName::literal("KUBE-MARK-MASQ");
/// kube-proxy's detector of flushed tables; never made by us (mangle, nat, filter).
pub(super) const CANARY: ChainName = ChainName::literal("KUBE-PROXY-CANARY");
/// The kubelet's own detector, by which its presence is known (mangle).
pub(super) const KUBELET_CANARY: ChainName = ChainName::literal("KUBE-KUBELET-CANARY");
/// The kubelet's mark of the implementation in use (mangle).
pub(super) const KUBELET_HINT: ChainName = ChainName::literal("KUBE-IPTABLES-HINT");

/// Prefix of the chain of policy Cluster.
pub(super) const SERVICE_PREFIX: &str = "KUBE-SVC-";
/// Prefix of the chain of policy Local.
pub(super) const LOCAL_PREFIX: &str = "KUBE-SVL-";
/// Prefix of the chain of external traffic.
pub(super) const EXTERNAL_PREFIX: &str = "KUBE-EXT-";
/// Prefix of the chain of source ranges.
pub(super) const FIREWALL_PREFIX: &str = "KUBE-FW-";
/// Prefix of the chain of one endpoint.
pub(super) const ENDPOINT_PREFIX: &str = "KUBE-SEP-";
/// Prefix of the chain of some endpoints of many, in the fast layout.
pub(super) const GROUP_PREFIX: &str = "KUBE-SEPS-";
/// All of them.
pub(super) const PREFIXES: [&str; 6] =
    [SERVICE_PREFIX, LOCAL_PREFIX, EXTERNAL_PREFIX, FIREWALL_PREFIX, ENDPOINT_PREFIX, GROUP_PREFIX];

/// Prefix of the chain of a network, in the fast layout: dispatch on the VIPs in it.
pub(super) const NETWORK_PREFIX: &str = "KUBE-IP-";
/// Prefix of the chain of some ports, in the fast layout: dispatch on the node ports among them.
pub(super) const PORTS_PREFIX: &str = "KUBE-PORTS-";
/// Both.
pub(super) const BRANCH_PREFIXES: [&str; 2] = [NETWORK_PREFIX, PORTS_PREFIX];

/// nfacct object: packets dropped as INVALID.
pub const NFACCT_INVALID_DROPPED: &str = "ct_state_invalid_dropped_pkts";
/// nfacct object: packets accepted for node ports on localhost.
pub const NFACCT_LOCALHOST_ACCEPTED: &str = "localhost_nps_accepted_pkts";

/// The chains of one Service port: their names share a hash.
#[derive(Debug, Clone, Copy)]
pub(super) struct PortChains {
    hash: [u8; 16],
}

impl PortChains {
    /// The chains of the Service port with this display name and protocol, written one after the other.
    pub(super) fn new(name_and_protocol: &[u8]) -> PortChains {
        PortChains { hash: hash16(name_and_protocol) }
    }

    /// Chain of policy Cluster.
    pub(super) fn cluster(&self) -> ChainName {
        ChainName::joined(SERVICE_PREFIX, &self.hash)
    }

    /// Chain of policy Local.
    pub(super) fn local(&self) -> ChainName {
        ChainName::joined(LOCAL_PREFIX, &self.hash)
    }

    /// Chain of external traffic.
    pub(super) fn external(&self) -> ChainName {
        ChainName::joined(EXTERNAL_PREFIX, &self.hash)
    }

    /// Chain of source ranges.
    pub(super) fn firewall(&self) -> ChainName {
        ChainName::joined(FIREWALL_PREFIX, &self.hash)
    }
}

/// The chain of one endpoint: display name, protocol and `ip:port`, written one after the other.
pub(super) fn endpoint(name_protocol_and_endpoint: &[u8]) -> ChainName {
    ChainName::joined(ENDPOINT_PREFIX, &hash16(name_protocol_and_endpoint))
}

/// The chain of one group of endpoints among those of a chain.
pub(super) fn group(chain: &ChainName, number: usize) -> ChainName {
    ChainName::joined(GROUP_PREFIX, &hash16(format!("{chain} {number}").as_bytes()))
}

/// A number from 0 to 31 that an endpoint has by the hash in the name of its chain; another one at each level.
pub(super) fn endpoint_digit(chain: &ChainName, level: usize) -> usize {
    chain.as_bytes().get(ENDPOINT_PREFIX.len() + level).copied().map_or(0, digit)
}

/// The chain of a branch of the tree below a dispatch chain.
pub(super) fn branch(root: &ChainName, branch: &Branch) -> ChainName {
    let prefix = match branch {
        Branch::Network(_) => NETWORK_PREFIX,
        Branch::Ports(..) => PORTS_PREFIX,
    };
    ChainName::joined(prefix, &hash16(format!("{root} {branch}").as_bytes()))
}
