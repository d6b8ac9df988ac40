//! Every name that IPVS mode gives a kernel object (reference sections 3.2, 3.6 and 3.7).

use crate::net::{IpFamily, Protocol};
use crate::program::ipset::SetName;
use crate::program::xtables::ChainName;

/// The dummy device that bears the addresses of Services.
pub(super) const DUMMY: &str = "kube-ipvs0";

/// What is masqueraded on its way to a virtual server (nat).
pub(super) const SERVICES: ChainName = ChainName::literal("KUBE-SERVICES");
/// Source NAT of marked packets and of hairpins (nat).
pub(super) const POSTROUTING: ChainName = ChainName::literal("KUBE-POSTROUTING");
/// Node ports that are masqueraded (nat); health-check ports let in (filter).
pub(super) const NODE_PORT: ChainName = ChainName::literal("KUBE-NODE-PORT");
/// Load balancer addresses that are masqueraded (nat).
pub(super) const LOAD_BALANCER: ChainName = ChainName::literal("KUBE-LOAD-BALANCER");
/// Sets the mark that asks for source NAT (nat).
pub(super) const MARK_MASQ: ChainName = ChainName::literal("KUBE-MARK-MASQ");
/// Forwarding of what Services accepted (filter).
pub(super) const FORWARD: ChainName = ChainName::literal("KUBE-FORWARD");
/// Load balancer addresses that have source ranges (filter).
pub(super) const PROXY_FIREWALL: ChainName = ChainName::literal("KUBE-PROXY-FIREWALL");
/// Source ranges (filter).
pub(super) const SOURCE_RANGES: ChainName = ChainName::literal("KUBE-SOURCE-RANGES-FIREWALL");
/// Refusal of ports that no Service has (filter).
pub(super) const IPVS_FILTER: ChainName = ChainName::literal("KUBE-IPVS-FILTER");
/// Source ranges for the node's own packets (filter).
pub(super) const IPVS_OUT_FILTER: ChainName = ChainName::literal("KUBE-IPVS-OUT-FILTER");

/// Comment of the jumps to [`PROXY_FIREWALL`]: part of what makes a jump ours.
pub(super) const FIREWALL_COMMENT: &str = "kube-proxy firewall rules";

/// A set. The order is that of reference section 3.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SetId {
    /// Endpoints of this node, each with itself as the source.
    LoopBack,
    /// Cluster IPs.
    ClusterIp,
    /// External IPs whose packets do not keep their source.
    ExternalIp,
    /// External IPs whose packets keep it.
    ExternalIpLocal,
    /// Load balancer addresses.
    LoadBalancer,
    /// Those among them whose packets keep their source.
    LoadBalancerLocal,
    /// Those among them that have source ranges.
    LoadBalancerFirewall,
    /// Who may use these.
    LoadBalancerSourceCidr,
    /// Those that may use themselves.
    LoadBalancerSourceIp,
    /// Node ports of TCP.
    NodePortTcp,
    /// Those among them whose packets keep their source.
    NodePortLocalTcp,
    /// Node ports of UDP.
    NodePortUdp,
    /// Those among them whose packets keep their source.
    NodePortLocalUdp,
    /// Node ports of SCTP, with their addresses.
    NodePortSctp,
    /// Those among them whose packets keep their source.
    NodePortLocalSctp,
    /// Health-check ports.
    HealthCheckNodePort,
    /// Addresses on the dummy device.
    IpvsIps,
}

impl SetId {
    /// All of them.
    pub(super) const ALL: [SetId; 17] = [
        SetId::LoopBack,
        SetId::ClusterIp,
        SetId::ExternalIp,
        SetId::ExternalIpLocal,
        SetId::LoadBalancer,
        SetId::LoadBalancerLocal,
        SetId::LoadBalancerFirewall,
        SetId::LoadBalancerSourceCidr,
        SetId::LoadBalancerSourceIp,
        SetId::NodePortTcp,
        SetId::NodePortLocalTcp,
        SetId::NodePortUdp,
        SetId::NodePortLocalUdp,
        SetId::NodePortSctp,
        SetId::NodePortLocalSctp,
        SetId::HealthCheckNodePort,
        SetId::IpvsIps,
    ];

    /// The set of node ports of a protocol: all of them, or those whose packets keep their source.
    pub(super) fn of_node_ports(protocol: Protocol, keeps_source: bool) -> SetId {
        match (protocol, keeps_source) {
            (Protocol::Tcp, false) => SetId::NodePortTcp,
            (Protocol::Tcp, true) => SetId::NodePortLocalTcp,
            (Protocol::Udp, false) => SetId::NodePortUdp,
            (Protocol::Udp, true) => SetId::NodePortLocalUdp,
            (Protocol::Sctp, false) => SetId::NodePortSctp,
            (Protocol::Sctp, true) => SetId::NodePortLocalSctp,
        }
    }

    /// Its name in a family.
    pub(super) fn name(self, family: IpFamily) -> SetName {
        let (v4, v6) = self.literals();
        SetName::literal(match family {
            IpFamily::V4 => v4,
            IpFamily::V6 => v6,
        })
    }

    /// Its names in IPv4 and in IPv6, where what is too long is cut.
    fn literals(self) -> (&'static str, &'static str) {
        match self {
            SetId::LoopBack => ("KUBE-LOOP-BACK", "KUBE-6-LOOP-BACK"),
            SetId::ClusterIp => ("KUBE-CLUSTER-IP", "KUBE-6-CLUSTER-IP"),
            SetId::ExternalIp => ("KUBE-EXTERNAL-IP", "KUBE-6-EXTERNAL-IP"),
            SetId::ExternalIpLocal => ("KUBE-EXTERNAL-IP-LOCAL", "KUBE-6-EXTERNAL-IP-LOCAL"),
            SetId::LoadBalancer => ("KUBE-LOAD-BALANCER", "KUBE-6-LOAD-BALANCER"),
            SetId::LoadBalancerLocal => ("KUBE-LOAD-BALANCER-LOCAL", "KUBE-6-LOAD-BALANCER-LOCAL"),
            SetId::LoadBalancerFirewall => ("KUBE-LOAD-BALANCER-FW", "KUBE-6-LOAD-BALANCER-FW"),
            SetId::LoadBalancerSourceCidr => {
                ("KUBE-LOAD-BALANCER-SOURCE-CIDR", "KUBE-6-LOAD-BALANCER-SOURCE-CID")
            }
            SetId::LoadBalancerSourceIp => ("KUBE-LOAD-BALANCER-SOURCE-IP", "KUBE-6-LOAD-BALANCER-SOURCE-IP"),
            SetId::NodePortTcp => ("KUBE-NODE-PORT-TCP", "KUBE-6-NODE-PORT-TCP"),
            SetId::NodePortLocalTcp => ("KUBE-NODE-PORT-LOCAL-TCP", "KUBE-6-NODE-PORT-LOCAL-TCP"),
            SetId::NodePortUdp => ("KUBE-NODE-PORT-UDP", "KUBE-6-NODE-PORT-UDP"),
            SetId::NodePortLocalUdp => ("KUBE-NODE-PORT-LOCAL-UDP", "KUBE-6-NODE-PORT-LOCAL-UDP"),
            SetId::NodePortSctp => ("KUBE-NODE-PORT-SCTP-HASH", "KUBE-6-NODE-PORT-SCTP-HASH"),
            SetId::NodePortLocalSctp => ("KUBE-NODE-PORT-LOCAL-SCTP-HASH", "KUBE-6-NODE-PORT-LOCAL-SCTP-HAS"),
            SetId::HealthCheckNodePort => ("KUBE-HEALTH-CHECK-NODE-PORT", "KUBE-6-HEALTH-CHECK-NODE-PORT"),
            SetId::IpvsIps => ("KUBE-IPVS-IPS", "KUBE-6-IPVS-IPS"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_of_ipv6_are_those_of_ipv4_with_a_six_cut_to_what_the_kernel_takes() {
        let mut all = BTreeSet::new();
        for set in SetId::ALL {
            let (v4, v6) = set.literals();
            let mut expected = v4.replacen("KUBE-", "KUBE-6-", 1);
            expected.truncate(SetName::MAX);
            assert_eq!(v6, expected);
            assert!(SetName::new(v4).is_ok() && SetName::new(v6).is_ok(), "{v4}");
            all.extend(IpFamily::ALL.map(|family| set.name(family)));
        }
        assert_eq!(all.len(), 34);
    }
}
