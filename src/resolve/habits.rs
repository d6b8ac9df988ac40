//! Where modes differ in what they do to packets (reference section 7): the decisions that go by the mode.

use crate::model::Mode;

/// What becomes of packets to an address of Services, to a port that no Service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnusedPorts {
    /// Nothing of ours.
    LeftAlone,
    /// They are refused on cluster IPs (reference section 4.5).
    RefusedOnClusterIps,
    /// They are refused on every address that is the node's only for the sake of Services, once nothing else has taken
    /// them; health-check ports are let in (reference section 3.8, KUBE-IPVS-FILTER).
    RefusedOnVips,
}

/// Within which bounds a client is held to its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AffinityScope {
    /// All frontends of a Service port.
    ServicePort,
    /// Each frontend apart: a virtual server knows nothing of others.
    Frontend,
    /// Each pool of endpoints apart: it has a listener of its own, which knows nothing of others.
    Pool,
}

/// What a mode does its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Habits {
    /// The node's own packets to external addresses are refused where those of others are. In iptables mode they leave as
    /// they are: no jump of OUTPUT leads to those refusals (reference section 2.4).
    pub refuses_own_traffic: bool,
    /// What becomes of ports that no Service has.
    pub unused_ports: UnusedPorts,
    /// Refusals of node ports hold on every local address, not only on those that answer node ports (reference section 8,
    /// 36).
    pub refuses_node_ports_anywhere: bool,
    /// Node ports answer on addresses that are listed one by one, whatever the configuration says (reference section 3.3).
    pub lists_node_port_addresses: bool,
    /// Source ranges are asked first, also where there is no endpoint to go to (reference section 8, 62).
    pub asks_ranges_first: bool,
    /// Source ranges are asked on the way in. The node's own packets do not come that way: they are stopped, behind the
    /// choice of an endpoint, only if they come from the load balancer's address itself (reference section 3.8,
    /// KUBE-IPVS-OUT-FILTER). Else they hold for everyone.
    pub asks_ranges_on_the_way_in: bool,
    /// An endpoint of another node that comes back to itself has its source rewritten too.
    pub masquerades_remote_hairpins: bool,
    /// Health-check node ports are let in, whatever other rules do with packets to the node.
    pub admits_health_checks: bool,
    /// Whose source is rewritten is told by sets that all Services share (reference section 3.8): loopback addresses keep
    /// theirs, the number of a node port is enough on any address of Services, and where pods cannot be told a packet
    /// from a cluster IP is rewritten, since the node reaches a cluster IP from that very address.
    pub masquerades_by_sets: bool,
    /// Within which bounds session affinity holds.
    pub affinity_scope: AffinityScope,
    /// Policy Local without an endpoint on this node takes those of other nodes (reference section 8, 46).
    pub local_falls_back: bool,
    /// With policy Local, pods and the node itself may use any endpoint all the same (the short circuit of reference
    /// section 2.9).
    pub short_circuits: bool,
    /// A process of the node accepts each connection and makes one of its own (reference section 5): endpoints see the
    /// node's address, who has nowhere to go is hung up on, node ports answer on loopback too, and there is no SCTP.
    pub carries_connections: bool,
}

impl Habits {
    /// Those of a mode.
    pub fn of(mode: Mode) -> Habits {
        match mode {
            Mode::Iptables => Habits {
                refuses_own_traffic: false,
                unused_ports: UnusedPorts::LeftAlone,
                refuses_node_ports_anywhere: true,
                lists_node_port_addresses: false,
                asks_ranges_first: false,
                asks_ranges_on_the_way_in: false,
                masquerades_remote_hairpins: true,
                admits_health_checks: true,
                masquerades_by_sets: false,
                affinity_scope: AffinityScope::ServicePort,
                local_falls_back: false,
                short_circuits: true,
                carries_connections: false,
            },
            Mode::Nftables => Habits {
                refuses_own_traffic: true,
                unused_ports: UnusedPorts::RefusedOnClusterIps,
                refuses_node_ports_anywhere: false,
                lists_node_port_addresses: false,
                asks_ranges_first: true,
                asks_ranges_on_the_way_in: false,
                masquerades_remote_hairpins: false,
                admits_health_checks: false,
                masquerades_by_sets: false,
                affinity_scope: AffinityScope::ServicePort,
                local_falls_back: false,
                short_circuits: true,
                carries_connections: false,
            },
            Mode::Ipvs => Habits {
                refuses_own_traffic: true,
                unused_ports: UnusedPorts::RefusedOnVips,
                refuses_node_ports_anywhere: false,
                lists_node_port_addresses: true,
                asks_ranges_first: true,
                asks_ranges_on_the_way_in: true,
                masquerades_remote_hairpins: false,
                admits_health_checks: true,
                masquerades_by_sets: true,
                affinity_scope: AffinityScope::Frontend,
                local_falls_back: true,
                short_circuits: false,
                carries_connections: false,
            },
            Mode::Userspace => Habits {
                refuses_own_traffic: true,
                unused_ports: UnusedPorts::LeftAlone,
                refuses_node_ports_anywhere: false,
                lists_node_port_addresses: false,
                asks_ranges_first: true,
                asks_ranges_on_the_way_in: false,
                masquerades_remote_hairpins: true,
                admits_health_checks: false,
                masquerades_by_sets: false,
                local_falls_back: false,
                short_circuits: true,
                affinity_scope: AffinityScope::Pool,
                carries_connections: true,
            },
        }
    }
}
