//! What a mode does otherwise than others, by design of kube-proxy: the oracle knows it, so it is no difference.

use crate::resolve::{AffinityScope, Habits, UnusedPorts};

/// The ways of a mode that a reader of its rules may take for faults (reference sections 7 and 8), a sentence each.
pub fn known(habits: Habits) -> Vec<&'static str> {
    let ways = [
        (
            !habits.refuses_own_traffic,
            "the node's own packets to external addresses without endpoints are not refused",
        ),
        (
            habits.unused_ports == UnusedPorts::LeftAlone,
            "packets to unused ports of cluster IPs pass untouched",
        ),
        (
            habits.unused_ports == UnusedPorts::RefusedOnClusterIps,
            "packets to unused ports of cluster IPs are refused",
        ),
        (
            habits.unused_ports == UnusedPorts::RefusedOnVips,
            "packets to unused ports of any address of Services are refused",
        ),
        (
            habits.refuses_node_ports_anywhere,
            "node ports without endpoints are refused on every address of the node, whatever nodePortAddresses says",
        ),
        (
            !habits.asks_ranges_first,
            "load balancer addresses without endpoints are refused, not dropped, outside the source ranges",
        ),
        (
            habits.asks_ranges_first,
            "source ranges are asked before all else: outside of them packets are dropped even without endpoints",
        ),
        (
            !habits.admits_health_checks,
            "health-check node ports are not let in where other rules keep packets from the node",
        ),
        (
            habits.masquerades_remote_hairpins,
            "an endpoint of another node that is sent to itself has its source rewritten too",
        ),
        (
            habits.affinity_scope == AffinityScope::Frontend,
            "session affinity holds at each address of a Service apart",
        ),
        (
            habits.affinity_scope == AffinityScope::Pool,
            "session affinity holds in each pool of endpoints apart: those of all nodes, and those of policy Local",
        ),
        (habits.local_falls_back, "policy Local without an endpoint on the node takes those of other nodes"),
        (
            habits.masquerades_by_sets,
            "the number of a node port has the source rewritten on any address of Services",
        ),
        (
            habits.asks_ranges_on_the_way_in,
            "source ranges do not hold for the node's own packets, but for those from the load balancer's address",
        ),
        (
            habits.carries_connections,
            "endpoints see an address of the node as the source of every connection",
        ),
        (
            habits.carries_connections,
            "connections without an endpoint, or from outside the source ranges, are accepted and then closed; datagrams are lost",
        ),
        (
            habits.carries_connections,
            "external IPs that are no address of the node are not carried for the node itself, nor for pods on a bridge",
        ),
        (habits.carries_connections, "SCTP is not carried"),
    ];
    ways.into_iter().filter(|(is_so, _)| *is_so).map(|(_, what)| what).collect()
}
