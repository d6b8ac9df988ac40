//! What the sets of IPVS mode are, what rules say about them, and what they come to hold (reference section 3.6).

use std::collections::{BTreeMap, BTreeSet};

use crate::net::{IpFamily, Port};
use crate::program::ipset::{Entry, HashType, Set, SetKind, Sets};

use super::names::SetId;

/// How much a hash may hold at least; kube-proxy's sets never hold more.
const MAX_ENTRIES: u32 = 65_536;

/// What is in sets.
#[derive(Debug, Default)]
pub(super) struct Members {
    entries: BTreeMap<SetId, BTreeSet<Entry>>,
}

impl Members {
    /// Adds an entry.
    pub(super) fn insert(&mut self, set: SetId, entry: Entry) {
        self.entries.entry(set).or_default().insert(entry);
    }

    /// Whether a set holds anything: most rules are made for those only that do.
    pub(super) fn has(&self, set: SetId) -> bool {
        self.entries.contains_key(&set)
    }

    /// All sets of a family, empty ones too.
    pub(super) fn into_sets(mut self, family: IpFamily) -> Sets {
        let set = |set: SetId| {
            let entries = self.entries.remove(&set).unwrap_or_default();
            (set.name(family), Set { kind: kind(set, family, entries.len()), entries })
        };
        SetId::ALL.into_iter().map(set).collect()
    }
}

/// What a set is that holds so many entries. A full hash would lose Services: it is made larger, in steps that leave it
/// alone for long.
fn kind(set: SetId, family: IpFamily, n_entries: usize) -> SetKind {
    let hash = match set {
        SetId::LoopBack | SetId::LoadBalancerSourceIp => HashType::IpPortIp,
        SetId::ClusterIp
        | SetId::ExternalIp
        | SetId::ExternalIpLocal
        | SetId::LoadBalancer
        | SetId::LoadBalancerLocal
        | SetId::LoadBalancerFirewall
        | SetId::NodePortSctp
        | SetId::NodePortLocalSctp => HashType::IpPort,
        SetId::LoadBalancerSourceCidr => HashType::IpPortNet,
        SetId::IpvsIps => HashType::Ip,
        SetId::NodePortTcp
        | SetId::NodePortLocalTcp
        | SetId::NodePortUdp
        | SetId::NodePortLocalUdp
        | SetId::HealthCheckNodePort => return SetKind::BitmapPort { first: Port::MIN, last: Port::MAX },
    };
    let needed = u32::try_from(n_entries).ok().and_then(u32::checked_next_power_of_two).unwrap_or(u32::MAX);
    SetKind::Hash { hash, family, max_entries: needed.max(MAX_ENTRIES) }
}

/// What the comments of rules that ask a set say about it.
pub(super) fn comment(set: SetId) -> &'static str {
    match set {
        SetId::LoopBack => "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
        SetId::ClusterIp => "Kubernetes service cluster ip + port for masquerade purpose",
        SetId::ExternalIp => "Kubernetes service external ip + port for masquerade and filter purpose",
        SetId::ExternalIpLocal => "Kubernetes service external ip + port with externalTrafficPolicy=local",
        SetId::LoadBalancer => "Kubernetes service lb portal",
        SetId::LoadBalancerLocal => {
            "Kubernetes service load balancer ip + port with externalTrafficPolicy=local"
        }
        SetId::LoadBalancerFirewall => {
            "Kubernetes service load balancer ip + port for load balancer with sourceRange"
        }
        SetId::LoadBalancerSourceCidr => {
            "Kubernetes service load balancer ip + port + source cidr for packet filter purpose"
        }
        SetId::LoadBalancerSourceIp => {
            "Kubernetes service load balancer ip + port + source IP for packet filter purpose"
        }
        SetId::NodePortTcp => "Kubernetes nodeport TCP port for masquerade purpose",
        SetId::NodePortLocalTcp => "Kubernetes nodeport TCP port with externalTrafficPolicy=local",
        SetId::NodePortUdp => "Kubernetes nodeport UDP port for masquerade purpose",
        SetId::NodePortLocalUdp => "Kubernetes nodeport UDP port with externalTrafficPolicy=local",
        SetId::NodePortSctp => {
            "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'"
        }
        SetId::NodePortLocalSctp => {
            "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'"
        }
        SetId::HealthCheckNodePort => "Kubernetes health check node port",
        SetId::IpvsIps => "Addresses on the ipvs interface",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_that_would_be_full_is_made_larger() {
        let max = |n_entries| {
            let kind = kind(SetId::LoopBack, IpFamily::V6, n_entries);
            let SetKind::Hash { hash: HashType::IpPortIp, family: IpFamily::V6, max_entries } = kind else {
                panic!("{kind:?}")
            };
            max_entries
        };
        assert_eq!([max(0), max(65_536), max(65_537), max(200_000)], [65_536, 65_536, 131_072, 262_144]);
        let ports = kind(SetId::NodePortTcp, IpFamily::V4, 70_000);
        assert_eq!(ports, SetKind::BitmapPort { first: 0, last: 65_535 });
    }
}
