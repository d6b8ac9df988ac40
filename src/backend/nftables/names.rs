//! Every name that nftables mode gives a kernel object (reference sections 4.2 to 4.6).

use crate::backend::hash::hash16;
use crate::net::{AddrPort, Protocol};
use crate::program::nft::Name;

/// The table, in each family.
pub(super) const TABLE: &str = "kube-proxy";

/// The table by which `trace --live` asks for the way of packets: it is there no longer than the question.
pub const WATCH_TABLE: &str = "svcproxy-trace";
/// Its family.
pub const WATCH_FAMILY: &str = "inet";
/// Its chain.
pub const WATCH_CHAIN: &str = "watch";

/// Base chains, in the order of the hooks.
pub(super) const PREROUTING_PRE_DNAT: &str = "filter-prerouting-pre-dnat";
/// Of the node's own packets, before NAT.
pub(super) const OUTPUT_PRE_DNAT: &str = "filter-output-pre-dnat";
/// To the node.
pub(super) const FILTER_INPUT: &str = "filter-input";
/// Through the node.
pub(super) const FILTER_FORWARD: &str = "filter-forward";
/// From the node.
pub(super) const FILTER_OUTPUT: &str = "filter-output";
/// Destination NAT of what comes in.
pub(super) const NAT_PREROUTING: &str = "nat-prerouting";
/// Destination NAT of the node's own packets.
pub(super) const NAT_OUTPUT: &str = "nat-output";
/// Source NAT.
pub(super) const NAT_POSTROUTING: &str = "nat-postrouting";

/// Dispatch on VIPs and node ports.
pub(super) const SERVICES: &str = "services";
/// Source NAT of marked packets and of hairpins.
pub(super) const MASQUERADING: &str = "masquerading";
/// Refusals of cluster IPs' other ports.
pub(super) const CLUSTER_IPS_CHECK: &str = "cluster-ips-check";
/// Refusals of VIPs without endpoints.
pub(super) const ENDPOINTS_CHECK: &str = "service-endpoints-check";
/// Refusals of node ports without endpoints.
pub(super) const NODE_PORTS_CHECK: &str = "nodeport-endpoints-check";
/// Source ranges.
pub(super) const FIREWALL_CHECK: &str = "firewall-check";
/// Refuses.
pub(super) const REJECT: &str = "reject-chain";

/// Endpoints of this node that may reach themselves.
pub(super) const HAIRPIN: &str = "hairpin-connections";
/// All cluster IPs.
pub(super) const CLUSTER_IPS: &str = "cluster-ips";
/// Addresses that answer node ports.
pub(super) const NODE_PORT_IPS: &str = "nodeport-ips";
/// VIPs without usable endpoints.
pub(super) const NO_ENDPOINT_SERVICES: &str = "no-endpoint-services";
/// Node ports without usable endpoints.
pub(super) const NO_ENDPOINT_NODE_PORTS: &str = "no-endpoint-nodeports";
/// VIPs with source ranges.
pub(super) const FIREWALL_IPS: &str = "firewall-ips";
/// VIPs.
pub(super) const SERVICE_IPS: &str = "service-ips";
/// Node ports.
pub(super) const SERVICE_NODE_PORTS: &str = "service-nodeports";

/// Flat layout: endpoints of VIPs; as the others of endpoints, the beginning of a name that a protocol ends.
pub(super) const SERVICE_ENDPOINTS: &str = "service-endpoints";
/// Those of them on this node.
pub(super) const LOCAL_ENDPOINTS: &str = "local-endpoints";
/// Endpoints of node ports.
pub(super) const NODE_PORT_ENDPOINTS: &str = "nodeport-endpoints";
/// Those of them on this node.
pub(super) const NODE_PORT_LOCAL_ENDPOINTS: &str = "nodeport-local-endpoints";
/// VIPs of external traffic that may go to any endpoint.
pub(super) const EXTERNAL_IPS: &str = "external-ips";
/// VIPs of external traffic that may go to endpoints on this node.
pub(super) const EXTERNAL_LOCAL_IPS: &str = "external-local-ips";
/// Node ports that may go to any endpoint.
pub(super) const EXTERNAL_NODE_PORTS: &str = "external-nodeports";
/// Node ports that may go to endpoints on this node.
pub(super) const EXTERNAL_LOCAL_NODE_PORTS: &str = "external-local-nodeports";
/// VIPs with the sources that may use them.
pub(super) const SOURCE_RANGES: &str = "source-ranges";
/// External traffic of policy Cluster to VIPs.
pub(super) const EXTERNAL: &str = "external";
/// External traffic of policy Local to VIPs.
pub(super) const EXTERNAL_LOCAL: &str = "external-local";
/// Traffic of policy Cluster to node ports.
pub(super) const NODE_PORT: &str = "nodeport";
/// Traffic of policy Local to node ports.
pub(super) const NODE_PORT_LOCAL: &str = "nodeport-local";
/// Discards what no source range lets in.
pub(super) const SOURCE_RANGES_CHECK: &str = "source-ranges-check";

/// Prefix of the chain of policy Cluster.
pub(super) const SERVICE_PREFIX: &str = "service-";
/// Prefix of the chain of policy Local.
pub(super) const LOCAL_PREFIX: &str = "local-";
/// Prefix of the chain of external traffic.
pub(super) const EXTERNAL_PREFIX: &str = "external-";
/// Prefix of the chain of source ranges.
pub(super) const FIREWALL_PREFIX: &str = "firewall-";
/// Prefix of the chain of one endpoint.
pub(super) const ENDPOINT_PREFIX: &str = "endpoint-";
/// Prefix of the set of clients of one endpoint.
pub(super) const AFFINITY_PREFIX: &str = "affinity-";

/// The longest a hashed name may be, its prefix not counted.
const MAX_HASHED: usize = 240;

/// A fixed name. All of them are names; the fallback cannot come up.
pub(super) fn fixed(name: &'static str) -> Name {
    Name::new(name).unwrap_or_else(|_| unnameable())
}

/// Stands for a name that cannot be: manifests are checked before anything is named after them.
fn unnameable() -> Name {
    Name::new("unnameable").expect("letters are a name")
}

/// The map of lists of endpoints of one protocol.
pub(super) fn list(map: &str, protocol: Protocol) -> Name {
    Name::new(&format!("{map}-{}", protocol.name())).unwrap_or_else(|_| unnameable())
}

/// The chain that chooses among the first `length` of a list in a map.
pub(super) fn counted(map: &Name, length: u32) -> Name {
    Name::new(&format!("{map}-{length}")).unwrap_or_else(|_| unnameable())
}

/// The length among which a chain chooses, if it is one for the lists of a map.
pub(super) fn count_of(map: &Name, chain: &Name) -> Option<u32> {
    let length = chain.as_str().strip_prefix(map.as_str())?.strip_prefix('-')?.parse().ok()?;
    (length > 0 && counted(map, length) == *chain).then_some(length)
}

/// The names of one Service port's objects: they share a hash and a text.
#[derive(Debug, Clone)]
pub(super) struct PortNames {
    /// `namespace/name/protocol/port`.
    base: String,
    hashed: String,
}

impl PortNames {
    /// The names for a Service port.
    pub(super) fn new(port: &crate::model::ServicePortName) -> PortNames {
        let base = format!("{}/{}/{}", port.service, port.protocol, port.port);
        PortNames { hashed: hashed(&base), base }
    }

    /// A chain of the Service port.
    pub(super) fn chain(&self, prefix: &str) -> Name {
        joined(prefix, &self.hashed)
    }

    /// Chain and affinity set of one of its endpoints.
    pub(super) fn endpoint(&self, endpoint: AddrPort) -> (Name, Name) {
        let addr = endpoint.addr.to_string().replace(':', ".");
        let hashed = hashed(&format!("{}__{addr}/{}", self.base, endpoint.port));
        (joined(ENDPOINT_PREFIX, &hashed), joined(AFFINITY_PREFIX, &hashed))
    }
}

fn joined(prefix: &str, hashed: &str) -> Name {
    Name::new(&format!("{prefix}{hashed}")).unwrap_or_else(|_| unnameable())
}

/// A text with the hash of itself in front, so that it stays its own when it is cut.
fn hashed(text: &str) -> String {
    let hash = hash16(text.as_bytes());
    let mut hashed: String = hash[..8].iter().map(|byte| char::from(*byte)).collect();
    hashed.push('-');
    hashed.push_str(text);
    if hashed.len() > MAX_HASHED {
        hashed.truncate(MAX_HASHED - 3);
        hashed.push_str("...");
    }
    hashed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_recorded_names() {
        for (text, expected) in [
            ("ns1/svc1/tcp/p80", "ULMVA6XW"),
            ("testing/service/tcp/http", "P4ZYZVCF"),
            ("testing/service/tcp/http__10.180.0.1/80", "JO2XBXZR"),
            ("testing/service/tcp/http__fd80.abcd.12..a1b2.c3d4.e5f6.9999/80", "U7E2ET36"),
            ("default/zoned/tcp/", "YFDG3N4L"),
        ] {
            assert_eq!(hashed(text), format!("{expected}-{text}"));
        }
        assert_eq!(hashed(&"x".repeat(300)).len(), MAX_HASHED);
    }

    #[test]
    fn all_fixed_names_are_names() {
        for name in [
            TABLE,
            PREROUTING_PRE_DNAT,
            OUTPUT_PRE_DNAT,
            FILTER_INPUT,
            FILTER_FORWARD,
            FILTER_OUTPUT,
            NAT_PREROUTING,
            NAT_OUTPUT,
            NAT_POSTROUTING,
            SERVICES,
            MASQUERADING,
            CLUSTER_IPS_CHECK,
            ENDPOINTS_CHECK,
            NODE_PORTS_CHECK,
            FIREWALL_CHECK,
            REJECT,
            HAIRPIN,
            CLUSTER_IPS,
            NODE_PORT_IPS,
            NO_ENDPOINT_SERVICES,
            NO_ENDPOINT_NODE_PORTS,
            FIREWALL_IPS,
            SERVICE_IPS,
            SERVICE_NODE_PORTS,
            SERVICE_ENDPOINTS,
            LOCAL_ENDPOINTS,
            NODE_PORT_ENDPOINTS,
            NODE_PORT_LOCAL_ENDPOINTS,
            EXTERNAL_IPS,
            EXTERNAL_LOCAL_IPS,
            EXTERNAL_NODE_PORTS,
            EXTERNAL_LOCAL_NODE_PORTS,
            SOURCE_RANGES,
            EXTERNAL,
            EXTERNAL_LOCAL,
            NODE_PORT,
            NODE_PORT_LOCAL,
            SOURCE_RANGES_CHECK,
        ] {
            assert_eq!(fixed(name).as_str(), name);
        }
    }

    #[test]
    fn counts_are_read_from_names() {
        let map = list(SERVICE_ENDPOINTS, Protocol::Tcp);
        let count = |name: &str| count_of(&map, &Name::new(name).unwrap());
        assert_eq!(count_of(&map, &counted(&map, 12)), Some(12));
        assert_eq!(count("service-endpoints-tcp-3"), Some(3));
        for other in ["service-endpoints", "service-endpoints-0", "service-endpoints-03", "local-endpoints-3"]
        {
            assert_eq!(count(other), None, "{other}");
        }
        assert_eq!(count("service-endpoints-udp-3"), None);
        let map = list(NODE_PORT_LOCAL_ENDPOINTS, Protocol::Sctp);
        assert_eq!(count_of(&map, &counted(&map, 7)), Some(7));
        assert_eq!(count_of(&map, &fixed(NODE_PORT_LOCAL)), None);
    }
}
