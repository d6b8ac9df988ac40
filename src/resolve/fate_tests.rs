//! Tests of the oracle, on views made by hand.

use super::*;
use crate::model::{Mode, ServiceName};
use crate::net::{IpCidr, IpFamily, PerFamily};
use crate::packet::{PacketContext, parse_packet};
use crate::resolve::{Habits, PoolEndpoint, SourceRanges};

const POOL: Route = Route::Forward { pool: PoolKind::Cluster, masquerade: false };
const POOL_MASQ: Route = Route::Forward { pool: PoolKind::Cluster, masquerade: true };
const LOCAL: Route = Route::Forward { pool: PoolKind::Local, masquerade: false };

fn cidr(text: &str) -> IpCidr {
    IpCidr::parse_sloppy(text).unwrap()
}

fn context() -> PacketContext {
    PacketContext {
        node_addresses: PerFamily { v4: "192.168.77.10".parse().ok(), v6: "fd00:77::10".parse().ok() },
        pod_interface: Some("veth0".to_owned()),
        uplink: Some("eth0".to_owned()),
    }
}

fn facts() -> NodeFacts {
    let local = ["192.168.77.10", "10.9.9.9", "fd00:77::10"];
    NodeFacts { local_addresses: local.iter().map(|text| text.parse().unwrap()).collect() }
}

fn frontend(kind: FrontendKind, vip: &str) -> Frontend {
    let vip = match vip.strip_prefix("node:") {
        Some(port) => Vip::NodePort(port.parse().unwrap()),
        None => Vip::Address(vip.parse().unwrap()),
    };
    Frontend { kind, vip }
}

/// `ns/web`, on all kinds of frontend, with two endpoints, the first of them on this node.
fn web() -> PortView {
    let endpoint = |addr: &str, in_local| PoolEndpoint {
        addr: addr.parse().unwrap(),
        in_cluster: true,
        in_local,
        on_this_node: false,
    };
    PortView {
        frontends: vec![
            frontend(FrontendKind::ClusterIp, "10.96.0.1:80"),
            frontend(FrontendKind::ExternalIp, "198.51.100.1:80"),
            frontend(FrontendKind::ExternalIp, "10.9.9.9:31000"),
            frontend(FrontendKind::LoadBalancer, "203.0.113.1:80"),
            frontend(FrontendKind::NodePort, "node:30080"),
        ],
        external: Some(Routes { pods: POOL_MASQ, node: POOL_MASQ, outside: POOL_MASQ }),
        endpoints: vec![endpoint("10.128.0.5:8080", true), endpoint("10.128.1.5:8080", false)],
        endpoints_here: vec!["10.128.0.5:8080".parse().unwrap()],
        ..PortView::bare(
            ServiceName::new("ns", "web"),
            "",
            Routes { pods: POOL, node: POOL_MASQ, outside: POOL_MASQ },
        )
    }
}

fn view(ports: Vec<PortView>) -> NodeView {
    NodeView {
        family: IpFamily::V4,
        ports,
        node_ports: NodePortScope::AllLocal { loopback: true },
        localhost_node_ports: true,
        habits: Habits { refuses_own_traffic: true, ..Habits::of(Mode::Iptables) },
        local_traffic: Some(LocalTraffic::Source(cidr("10.128.0.0/16"))),
        n_endpoints: 2,
    }
}

fn external(routes: Routes) -> NodeView {
    view(vec![PortView { external: Some(routes), ..web() }])
}

#[track_caller]
fn check(view: &NodeView, packet: &str, expected: &str) {
    let packet = parse_packet(packet, &context()).unwrap();
    assert_eq!(fate(view, &packet, &facts()).to_string(), expected, "{packet}");
}

#[test]
fn every_frontend_is_found() {
    let view = view(vec![web()]);
    check(&view, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "10.128.0.5:8080|10.128.1.5:8080");
    check(&view, "node -> 10.96.0.1:80/tcp", "10.128.0.5:8080|10.128.1.5:8080 masq");
    check(&view, "outside 192.0.2.9 -> 10.96.0.1:80/tcp", "10.128.0.5:8080|10.128.1.5:8080 masq");
    check(&view, "outside 192.0.2.9 -> 198.51.100.1:80/tcp", "10.128.0.5:8080|10.128.1.5:8080 masq");
    check(&view, "outside 192.0.2.9 -> 203.0.113.1:80/tcp", "10.128.0.5:8080|10.128.1.5:8080 masq");
    check(&view, "outside 192.0.2.9 -> node:30080/tcp", "10.128.0.5:8080|10.128.1.5:8080 masq");
    check(&view, "node 127.0.0.1 -> 127.0.0.1:30080/tcp", "10.128.0.5:8080|10.128.1.5:8080 masq");
}

#[test]
fn other_packets_are_left_alone() {
    let view = view(vec![web()]);
    check(&view, "pod 10.128.0.9 -> 10.96.0.1:81/tcp", "none");
    check(&view, "pod 10.128.0.9 -> 10.96.0.1:80/udp", "none");
    check(&view, "pod 10.128.0.9 -> 10.96.0.2:80/tcp", "none");
    check(&view, "pod 10.128.0.9 -> node:80/tcp", "none");
    check(&view, "pod 10.128.0.9 -> 192.168.77.11:30080/tcp", "none");
    check(&view, "outside 2001:db8::1 -> node:30080/tcp", "none");
}

#[test]
fn an_endpoint_that_reaches_itself_is_masqueraded() {
    check(&view(vec![web()]), "pod 10.128.0.5 -> 10.96.0.1:80/tcp", "10.128.0.5:8080+masq|10.128.1.5:8080");
}

#[test]
fn local_policy_tells_pods_then_the_node_then_others() {
    let view = external(Routes { pods: POOL, node: POOL_MASQ, outside: LOCAL });
    check(&view, "pod 10.128.0.9 -> 203.0.113.1:80/tcp", "10.128.0.5:8080|10.128.1.5:8080");
    check(&view, "node -> 203.0.113.1:80/tcp", "10.128.0.5:8080|10.128.1.5:8080 masq");
    check(&view, "outside 192.0.2.9 -> 203.0.113.1:80/tcp", "10.128.0.5:8080");
    let none = external(Routes { pods: POOL, node: POOL_MASQ, outside: Route::Drop });
    check(&none, "outside 192.0.2.9 -> node:30080/tcp", "drop");
    check(&none, "pod 10.128.0.9 -> node:30080/tcp", "10.128.0.5:8080|10.128.1.5:8080");
    // The node's address can be in the pods' network: then it counts as a pod.
    let pods = NodeView { local_traffic: Some(LocalTraffic::Source(cidr("192.168.77.0/24"))), ..view };
    check(&pods, "node -> 203.0.113.1:80/tcp", "10.128.0.5:8080|10.128.1.5:8080");
}

#[test]
fn pods_are_told_by_interface() {
    let routes = Routes { pods: POOL, node: POOL_MASQ, outside: LOCAL };
    let exact = NodeView { local_traffic: Some(LocalTraffic::Interface("cni0".into())), ..external(routes) };
    check(&exact, "pod 192.0.2.9 via cni0 -> node:30080/tcp", "10.128.0.5:8080|10.128.1.5:8080");
    check(&exact, "pod 10.128.0.9 via cni01 -> node:30080/tcp", "10.128.0.5:8080");
    let prefix =
        NodeView { local_traffic: Some(LocalTraffic::InterfacePrefix("cni".into())), ..exact.clone() };
    check(&prefix, "pod 10.128.0.9 via cni01 -> node:30080/tcp", "10.128.0.5:8080|10.128.1.5:8080");
    check(&prefix, "node -> node:30080/tcp", "10.128.0.5:8080|10.128.1.5:8080 masq");
    let untold = NodeView { local_traffic: None, ..exact };
    check(&untold, "pod 10.128.0.9 -> node:30080/tcp", "10.128.0.5:8080");
}

#[test]
fn source_ranges_guard_load_balancer_addresses_alone() {
    let ranges = SourceRanges { allowed: vec![cidr("192.0.2.0/28")], allow_vips: false };
    let port = PortView { source_ranges: Some(ranges.clone()), ..web() };
    let guarded = view(vec![port.clone()]);
    let all = "10.128.0.5:8080|10.128.1.5:8080 masq";
    check(&guarded, "outside 192.0.2.9 -> 203.0.113.1:80/tcp", all);
    check(&guarded, "outside 192.0.2.99 -> 203.0.113.1:80/tcp", "drop");
    check(&guarded, "pod 10.128.0.9 -> 203.0.113.1:80/tcp", "drop");
    check(&guarded, "node 203.0.113.1 -> 203.0.113.1:80/tcp", "drop");
    check(&guarded, "outside 192.0.2.99 -> 198.51.100.1:80/tcp", all);
    check(&guarded, "outside 192.0.2.99 -> node:30080/tcp", all);
    let vips = SourceRanges { allow_vips: true, ..ranges };
    let vips = view(vec![PortView { source_ranges: Some(vips), ..web() }]);
    check(&vips, "node 203.0.113.1 -> 203.0.113.1:80/tcp", all);
    check(&vips, "node 198.51.100.1 -> 203.0.113.1:80/tcp", "drop");
    let nobody = Routes { pods: Route::Reject, node: Route::Reject, outside: Route::Reject };
    let nobody = view(vec![PortView { external: Some(nobody), ..port }]);
    check(&nobody, "outside 192.0.2.99 -> 203.0.113.1:80/tcp", "reject");
}

#[test]
fn node_ports_answer_in_scope() {
    let all = "10.128.0.5:8080|10.128.1.5:8080 masq";
    let off = NodeView {
        node_ports: NodePortScope::AllLocal { loopback: false },
        localhost_node_ports: false,
        ..view(vec![web()])
    };
    check(&off, "node 127.0.0.1 -> 127.0.0.1:30080/tcp", "none");
    check(&off, "outside 192.0.2.9 -> 10.9.9.9:30080/tcp", all);
    let listed = vec!["192.168.77.10".parse().unwrap()];
    let listed = NodeView { node_ports: NodePortScope::Addresses(listed), ..off };
    check(&listed, "outside 192.0.2.9 -> node:30080/tcp", all);
    check(&listed, "outside 192.0.2.9 -> 10.9.9.9:30080/tcp", "none");
    // Closed is closed everywhere.
    for (route, said) in [(Route::Reject, "reject"), (Route::Drop, "drop")] {
        let routes = Routes { pods: POOL, node: POOL_MASQ, outside: route };
        let closed = NodeView { ports: external(routes).ports, ..listed.clone() };
        check(&closed, "outside 192.0.2.9 -> 10.9.9.9:30080/tcp", said);
        check(&closed, "pod 10.128.0.9 -> 10.9.9.9:30080/tcp", said);
        check(&closed, "outside 192.0.2.9 -> 10.9.9.8:30080/tcp", "none");
    }
}

#[test]
fn loopback_is_guarded_where_it_answers() {
    let open = view(vec![web()]);
    check(&open, "pod 10.128.0.9 -> 127.0.0.1:30080/tcp", "10.128.0.5:8080|10.128.1.5:8080 masq");
    check(&open, "pod 10.128.0.9 -> 127.0.0.1:22/tcp", "drop");
    check(&open, "node -> 127.0.0.1:22/tcp", "drop");
    check(&open, "node 127.0.0.1 -> 127.0.0.1:22/tcp", "none");
    let nobody = Routes { pods: Route::Reject, node: Route::Reject, outside: Route::Reject };
    check(&external(nobody), "pod 10.128.0.9 -> 127.0.0.1:30080/tcp", "drop");
    check(&external(nobody), "node 127.0.0.1 -> 127.0.0.1:30080/tcp", "reject");
    let closed = NodeView { localhost_node_ports: false, ..open };
    check(&closed, "pod 10.128.0.9 -> 127.0.0.1:22/tcp", "none");
}

#[test]
fn what_stays_on_the_node_keeps_its_source() {
    let mut api = web();
    api.endpoints[0].addr = "192.168.77.10:6443".parse().unwrap();
    let view = view(vec![api]);
    check(&view, "outside 192.0.2.9 -> 10.96.0.1:80/tcp", "10.128.1.5:8080+masq|192.168.77.10:6443");
    check(&view, "node -> 10.96.0.1:80/tcp", "10.128.1.5:8080|192.168.77.10:6443 masq");
}

#[test]
fn addresses_come_before_node_ports_and_the_first_service_wins() {
    let mut other = web();
    other.name.service = ServiceName::new("ns", "zzz");
    other.frontends = vec![
        frontend(FrontendKind::ClusterIp, "10.96.0.1:80"),
        frontend(FrontendKind::NodePort, "node:31000"),
        frontend(FrontendKind::NodePort, "node:30080"),
    ];
    other.endpoints.truncate(1);
    let view = view(vec![other.clone(), web()]);
    check(&view, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "10.128.0.5:8080");
    check(&view, "pod 10.128.0.9 -> node:30080/tcp", "10.128.0.5:8080 masq");
    check(&view, "pod 10.128.0.9 -> node:31000/tcp", "10.128.0.5:8080 masq");
    check(&view, "pod 10.128.0.9 -> 10.9.9.9:31000/tcp", "10.128.0.5:8080|10.128.1.5:8080 masq");
}

#[test]
fn a_remembered_client_stays() {
    let packet = parse_packet("outside 192.0.2.9 -> 203.0.113.1:80/tcp", &context()).unwrap();
    let routes = Routes { pods: POOL, node: POOL_MASQ, outside: LOCAL };
    let sticky = PortView { affinity_seconds: Some(10), ..web() };
    let check = |port: &PortView, previous: &str, expected: &str| {
        let previous = previous.parse().unwrap();
        let fate = fate_remembered(&view(vec![port.clone()]), &packet, &facts(), previous);
        assert_eq!(fate.to_string(), expected);
    };
    let all = "10.128.0.5:8080|10.128.1.5:8080 masq";
    check(&sticky, "10.128.1.5:8080", "10.128.1.5:8080 masq");
    check(&sticky, "10.128.2.5:8080", all);
    check(&web(), "10.128.1.5:8080", all);
    check(&PortView { external: Some(routes), ..sticky }, "10.128.1.5:8080", "10.128.0.5:8080");
}

/// The same port in IPVS mode: node ports on the node's address and on one of a Service.
fn ipvs(port: PortView) -> NodeView {
    let listed = ["192.168.77.10", "198.51.100.1"].map(|text| text.parse().unwrap());
    NodeView {
        node_ports: NodePortScope::Addresses(listed.to_vec()),
        localhost_node_ports: false,
        habits: Habits::of(Mode::Ipvs),
        ..view(vec![port])
    }
}

const BOTH: &str = "10.128.0.5:8080|10.128.1.5:8080";
const BOTH_MASQ: &str = "10.128.0.5:8080|10.128.1.5:8080 masq";

#[test]
fn ipvs_refuses_ports_that_no_service_has() {
    let view = ipvs(PortView { health_check_node_port: Some(31111), ..web() });
    for unused in ["10.96.0.1:81/tcp", "198.51.100.1:81/tcp", "203.0.113.1:81/tcp", "10.96.0.1:80/udp"] {
        check(&view, &format!("outside 192.0.2.9 -> {unused}"), "reject");
        check(&view, &format!("node -> {unused}"), "reject");
    }
    // An external IP that is the node's own anyway stays the node's.
    check(&view, "outside 192.0.2.9 -> 10.9.9.9:81/tcp", "none");
    check(&view, "outside 192.0.2.9 -> 10.96.0.2:80/tcp", "none");
    check(&view, "outside 192.0.2.9 -> node:81/tcp", "none");
    // Health checks are let in; they have no SCTP.
    check(&view, "outside 192.0.2.9 -> 203.0.113.1:31111/tcp", "none");
    check(&view, "outside 192.0.2.9 -> 203.0.113.1:31111/udp", "none");
    check(&view, "outside 192.0.2.9 -> 203.0.113.1:31111/sctp", "reject");
}

#[test]
fn ipvs_node_ports_on_addresses_of_services_are_for_the_node_alone() {
    let view = ipvs(web());
    check(&view, "outside 192.0.2.9 -> node:30080/tcp", BOTH_MASQ);
    check(&view, "node -> node:30080/tcp", BOTH_MASQ);
    check(&view, "outside 192.0.2.9 -> 10.9.9.9:30080/tcp", "none");
    check(&view, "node -> 198.51.100.1:30080/tcp", BOTH_MASQ);
    check(&view, "outside 192.0.2.9 -> 198.51.100.1:30080/tcp", "reject");
    check(&view, "node 127.0.0.1 -> 127.0.0.1:30080/tcp", "none");
}

#[test]
fn ipvs_asks_source_ranges_on_the_way_in() {
    let ranges = SourceRanges { allowed: vec![cidr("192.0.2.0/28")], allow_vips: false };
    let with = |ranges: &SourceRanges, routes| PortView {
        source_ranges: Some(ranges.clone()),
        external: Some(routes),
        ..web()
    };
    let everyone = |route| Routes { pods: route, node: route, outside: route };
    let guarded = ipvs(with(&ranges, everyone(POOL_MASQ)));
    check(&guarded, "outside 192.0.2.9 -> 203.0.113.1:80/tcp", BOTH_MASQ);
    check(&guarded, "outside 192.0.2.99 -> 203.0.113.1:80/tcp", "drop");
    check(&guarded, "pod 10.128.0.9 -> 203.0.113.1:80/tcp", "drop");
    check(&guarded, "node -> 203.0.113.1:80/tcp", BOTH_MASQ);
    check(&guarded, "node 203.0.113.1 -> 203.0.113.1:80/tcp", "drop");
    let vips = SourceRanges { allow_vips: true, ..ranges.clone() };
    let allowed = ipvs(with(&vips, everyone(POOL_MASQ)));
    check(&allowed, "node 203.0.113.1 -> 203.0.113.1:80/tcp", BOTH_MASQ);
    let nobody = ipvs(with(&ranges, everyone(Route::Reject)));
    check(&nobody, "outside 192.0.2.99 -> 203.0.113.1:80/tcp", "drop");
    check(&nobody, "outside 192.0.2.9 -> 203.0.113.1:80/tcp", "reject");
    check(&nobody, "node 203.0.113.1 -> 203.0.113.1:80/tcp", "reject");
}

#[test]
fn ipvs_sets_tell_whose_source_is_rewritten() {
    let mut port = web();
    port.frontends.push(frontend(FrontendKind::ClusterIp, "10.96.0.1:30080"));
    port.frontends.push(frontend(FrontendKind::LoadBalancer, "203.0.113.1:30080"));
    let view = ipvs(port.clone());
    check(&view, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", BOTH);
    check(&view, "outside 192.0.2.9 -> 10.96.0.1:80/tcp", BOTH_MASQ);
    check(&view, "node 127.0.0.1 -> 10.96.0.1:80/tcp", BOTH);
    // The number of a node port is enough.
    check(&view, "pod 10.128.0.9 -> 10.96.0.1:30080/tcp", BOTH_MASQ);
    let routes = Routes { pods: POOL, node: POOL, outside: POOL };
    let keeps = PortView { external: Some(routes), external_keeps_source: true, ..port };
    check(&ipvs(keeps.clone()), "outside 192.0.2.9 -> 203.0.113.1:30080/tcp", BOTH);
    check(&ipvs(keeps), "outside 192.0.2.9 -> node:30080/tcp", BOTH);
    // Where pods cannot be told, the node is told by the cluster IP that it comes from.
    let everyone = Routes { pods: POOL, node: POOL, outside: POOL };
    let untold = NodeView { local_traffic: None, ..ipvs(PortView { internal: everyone, ..web() }) };
    check(&untold, "outside 192.0.2.9 -> 10.96.0.1:80/tcp", BOTH);
    check(&untold, "node 10.96.0.1 -> 10.96.0.1:80/tcp", BOTH_MASQ);
}

#[test]
fn ipvs_hairpins_are_those_of_endpoints_here_of_whatever_service() {
    let here = "10.128.0.5:8080+masq|10.128.1.5:8080";
    check(&ipvs(web()), "pod 10.128.0.5 -> 10.96.0.1:80/tcp", here);
    check(&ipvs(web()), "outside 10.128.1.5 -> 10.96.0.1:80/tcp", BOTH);
    let mut other = web();
    other.name.service = ServiceName::new("ns", "zzz");
    other.frontends.clear();
    let apart = PortView { endpoints_here: vec![], ..web() };
    check(&ipvs(apart.clone()), "pod 10.128.0.5 -> 10.96.0.1:80/tcp", BOTH);
    let view = NodeView { ports: vec![apart, other], ..ipvs(web()) };
    check(&view, "pod 10.128.0.5 -> 10.96.0.1:80/tcp", here);
}
