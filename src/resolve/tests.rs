//! Pools and routes on small Services: the notes of reference section 1.9 and the table of section 1.10, one by one.

use std::net::IpAddr;

use crate::model::{
    Cluster, Conditions, Config, Endpoint, Hints, Mode, Node, NodePortAddresses, Placeholders, Service,
    ServiceName, ServicePort, ServiceType, TrafficPolicy,
};
use crate::net::{AddrPort, IpCidr, IpFamily, PerFamily, Protocol};

use super::*;

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn node() -> NodeContext {
    context(&Config { cluster_cidrs: cidrs(), ..Config::default() })
}

fn cidrs() -> PerFamily<Option<IpCidr>> {
    PerFamily { v4: IpCidr::parse_sloppy("10.128.0.0/16"), v6: None }
}

fn context(config: &Config) -> NodeContext {
    let addresses = vec![addr("192.168.77.10"), addr("fd00:77::10")];
    let node = Node {
        name: "node-1".into(),
        zone: Some("zone-a".into()),
        addresses: addresses.clone(),
        pod_cidrs: vec![],
        is_leaving: false,
    };
    NodeContext::new(config, &node, &addresses)
}

fn service() -> Service {
    Service {
        name: ServiceName::new("shop", "web"),
        kind: ServiceType::NodePort,
        cluster_ips: PerFamily { v4: Some(addr("10.96.0.10")), v6: None },
        external_ips: vec![],
        has_external_ips: false,
        load_balancer_ips: vec![],
        source_ranges: vec![],
        affinity_seconds: None,
        internal_traffic_policy: TrafficPolicy::Cluster,
        external_traffic_policy: TrafficPolicy::Cluster,
        health_check_node_port: None,
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30080),
        }],
        placeholders: Placeholders::default(),
    }
}

/// An endpoint: address, node, then words: `gone` (not ready), `leaving` (not ready, serving, terminating),
/// `zone=`, `node=` (hints).
fn endpoint(text: &str) -> Endpoint {
    let mut words = text.split(' ');
    let address = addr(words.next().unwrap());
    let node = words.next().unwrap();
    let mut endpoint = Endpoint {
        addr: AddrPort::new(address, 8080),
        node: Some(node.into()),
        conditions: Conditions::default(),
        hints: None,
    };
    for word in words {
        let hints = || Box::new(Hints::default());
        match word.split_once('=') {
            Some(("zone", zone)) => drop(endpoint.hints.get_or_insert_with(hints).zones.insert(zone.into())),
            Some(("node", node)) => drop(endpoint.hints.get_or_insert_with(hints).nodes.insert(node.into())),
            _ if word == "gone" => {
                endpoint.conditions = Conditions { ready: false, serving: false, terminating: false };
            }
            _ => endpoint.conditions = Conditions { ready: false, serving: true, terminating: true },
        }
    }
    endpoint
}

fn view(service: &Service, endpoints: &[&str]) -> PortView {
    let endpoints: Vec<Endpoint> = endpoints.iter().map(|text| endpoint(text)).collect();
    resolve_port(&node(), IpFamily::V4, service, &service.ports[0], &endpoints).unwrap()
}

fn pools(view: &PortView) -> (Vec<String>, Vec<String>) {
    let of = |pool| view.pool(pool).map(|endpoint| endpoint.addr.to_string()).collect();
    (of(PoolKind::Cluster), of(PoolKind::Local))
}

fn local() -> Service {
    Service { external_traffic_policy: TrafficPolicy::Local, ..service() }
}

#[track_caller]
fn check(service: &Service, endpoints: &[&str], cluster: &[&str], local: &[&str]) -> PortView {
    let view = view(service, endpoints);
    let expected = (
        cluster.iter().map(|one| (*one).to_owned()).collect(),
        local.iter().map(|one| (*one).to_owned()).collect(),
    );
    assert_eq!(pools(&view), expected);
    view
}

#[test]
fn both_pools_fall_back_to_terminating_endpoints_each_on_its_own() {
    let all = ["10.128.0.1 node-1 leaving", "10.128.1.1 node-2", "10.128.2.1 node-3 gone"];
    check(&local(), &all, &["10.128.1.1"], &["10.128.0.1"]);
    let none_ready = ["10.128.0.1 node-1 leaving", "10.128.1.1 node-2 leaving", "10.128.2.1 node-3 gone"];
    check(&local(), &none_ready, &["10.128.0.1", "10.128.1.1"], &["10.128.0.1"]);
    check(&service(), &none_ready, &["10.128.0.1", "10.128.1.1"], &[]);
}

#[test]
fn hints_count_when_every_ready_endpoint_has_one_and_one_names_us() {
    let zones = ["10.128.0.1 node-1 zone=zone-b", "10.128.1.1 node-2 zone=zone-a", "10.128.2.1 node-3 gone"];
    check(&local(), &zones, &["10.128.1.1"], &["10.128.0.1"]);
    let one_without = ["10.128.1.1 node-2 zone=zone-a", "10.128.2.1 node-3"];
    check(&service(), &one_without, &["10.128.1.1", "10.128.2.1"], &[]);
    let elsewhere = ["10.128.1.1 node-2 zone=zone-b", "10.128.2.1 node-3 zone=zone-c"];
    check(&service(), &elsewhere, &["10.128.1.1", "10.128.2.1"], &[]);
    let nodes = ["10.128.1.1 node-2 zone=zone-a node=node-2", "10.128.2.1 node-3 zone=zone-a node=node-1"];
    check(&service(), &nodes, &["10.128.2.1"], &[]);
    let leaving = ["10.128.1.1 node-2 leaving zone=zone-b", "10.128.2.1 node-3 leaving"];
    check(&service(), &leaving, &["10.128.1.1", "10.128.2.1"], &[]);
}

#[test]
fn routes_without_endpoints_refuse_and_without_local_ones_drop() {
    let refused = check(&local(), &["10.128.2.1 node-3 gone"], &[], &[]);
    assert_eq!(refused.internal.outside, Route::Reject);
    assert_eq!(refused.external.unwrap().pods, Route::Reject);
    let dropped = check(&local(), &["10.128.2.1 node-3"], &["10.128.2.1"], &[]).external.unwrap();
    assert_eq!(dropped.outside, Route::Drop);
    assert_eq!(dropped.pods, Route::Forward { pool: PoolKind::Cluster, masquerade: false });
    assert_eq!(dropped.node, Route::Forward { pool: PoolKind::Cluster, masquerade: true });
}

#[test]
fn external_policy_local_of_a_cluster_ip_service_counts_with_external_ips_only() {
    let plain = Service { kind: ServiceType::ClusterIp, ..local() };
    assert_eq!(
        check(&plain, &["10.128.0.1 node-1"], &["10.128.0.1"], &[]).external.unwrap().outside,
        Route::Forward { pool: PoolKind::Cluster, masquerade: true }
    );
    // An IPv6 one is enough, though it is no VIP of this family.
    let external = Service { external_ips: vec![addr("2001:db8::1")], has_external_ips: true, ..plain };
    check(&external, &["10.128.0.1 node-1"], &["10.128.0.1"], &["10.128.0.1"]);
}

#[test]
fn a_range_of_everything_or_of_the_other_family_guards_nothing() {
    let with = |ranges: &[&str]| {
        let source_ranges = ranges.iter().map(|range| IpCidr::parse_sloppy(range).unwrap()).collect();
        view(&Service { source_ranges, ..service() }, &["10.128.0.1 node-1"]).source_ranges
    };
    assert_eq!(with(&["198.51.100.0/24", "0.0.0.0/0"]), None);
    assert_eq!(with(&["2001:db8::/32"]), None);
    assert!(!with(&["198.51.100.0/24"]).unwrap().allow_vips);
    assert!(with(&["198.51.100.0/24", "192.168.0.0/16"]).unwrap().allow_vips);
}

#[test]
fn node_port_addresses() {
    let scope = |addresses: NodePortAddresses, localhost: bool| {
        let context = context(&Config {
            node_port_addresses: addresses,
            localhost_node_ports: localhost,
            ..Config::default()
        });
        (context.node_ports, context.localhost_node_ports)
    };
    let cidrs = |texts: &[&str]| {
        NodePortAddresses::Cidrs(texts.iter().map(|text| IpCidr::parse_sloppy(text).unwrap()).collect())
    };
    let all = |loopback| NodePortScope::AllLocal { loopback };
    let only = |text: &str| NodePortScope::Addresses(vec![addr(text)]);
    assert_eq!(scope(NodePortAddresses::Default, true), (PerFamily { v4: all(true), v6: all(false) }, true));
    assert_eq!(
        scope(NodePortAddresses::Default, false),
        (PerFamily { v4: all(false), v6: all(false) }, false)
    );
    let primary = PerFamily { v4: only("192.168.77.10"), v6: only("fd00:77::10") };
    assert_eq!(scope(NodePortAddresses::Primary, true), (primary, false));
    // Networks of one family leave the other open.
    let one = PerFamily { v4: only("192.168.77.10"), v6: all(false) };
    assert_eq!(scope(cidrs(&["192.168.77.0/24"]), true), (one, false));
    let loopback = PerFamily { v4: only("127.0.0.1"), v6: all(false) };
    assert_eq!(scope(cidrs(&["127.0.0.0/8"]), true), (loopback, true));
    let elsewhere = PerFamily { v4: NodePortScope::Addresses(vec![]), v6: all(false) };
    assert_eq!(scope(cidrs(&["127.0.0.0/8"]), false), (elsewhere, false));
}

fn ipvs() -> Config {
    Config { mode: Mode::Ipvs, cluster_cidrs: cidrs(), ..Config::default() }
}

fn in_ipvs_mode(service: &Service, endpoints: &[&str]) -> PortView {
    let endpoints: Vec<Endpoint> = endpoints.iter().map(|text| endpoint(text)).collect();
    resolve_port(&context(&ipvs()), IpFamily::V4, service, &service.ports[0], &endpoints).unwrap()
}

#[test]
fn ipvs_policy_local_falls_back_and_is_the_same_for_everyone() {
    let forward = |pool, masquerade| Route::Forward { pool, masquerade };
    let everyone = |route| Some(Routes { pods: route, node: route, outside: route });
    let both = ["10.128.0.1 node-1", "10.128.2.1 node-3"];
    assert_eq!(in_ipvs_mode(&local(), &both).external, everyone(forward(PoolKind::Local, false)));
    let elsewhere = &both[1..];
    assert_eq!(in_ipvs_mode(&local(), elsewhere).external, everyone(forward(PoolKind::Cluster, false)));
    assert_eq!(in_ipvs_mode(&service(), elsewhere).external, everyone(forward(PoolKind::Cluster, true)));
    let nowhere = in_ipvs_mode(&local(), &["10.128.2.1 node-3 gone"]);
    assert_eq!((nowhere.external, nowhere.external_keeps_source), (everyone(Route::Reject), true));
    let internal = Service { internal_traffic_policy: TrafficPolicy::Local, ..service() };
    assert_eq!(in_ipvs_mode(&internal, elsewhere).internal.outside, forward(PoolKind::Cluster, true));
    // What nobody outside reaches has no endpoints of other nodes to fall back to.
    let mut only_internal = Service { kind: ServiceType::ClusterIp, ..internal };
    only_internal.ports[0].node_port = None;
    assert_eq!(in_ipvs_mode(&only_internal, elsewhere).internal.pods, Route::Reject);
    assert_eq!(in_ipvs_mode(&only_internal, &both).internal.pods, forward(PoolKind::Local, false));
}

#[test]
fn endpoints_on_this_node_are_known_whatever_their_state() {
    let all =
        ["10.128.0.1 node-1", "10.128.0.2 node-1 gone", "10.128.0.3 node-1 leaving", "10.128.2.1 node-3"];
    let here: Vec<String> =
        view(&service(), &all).endpoints_here.iter().map(|endpoint| endpoint.addr.to_string()).collect();
    assert_eq!(here, ["10.128.0.1", "10.128.0.2", "10.128.0.3"]);
}

#[test]
fn ipvs_node_ports_answer_on_addresses_one_by_one() {
    let cidrs = |texts: &[&str]| {
        NodePortAddresses::Cidrs(texts.iter().map(|text| IpCidr::parse_sloppy(text).unwrap()).collect())
    };
    let seen = |config: &Config, external_ips: &[&str], family| {
        let addresses = ["127.0.0.1", "192.168.77.10", "10.9.9.9", "fd00:77::10", "fe80::1", "::1"].map(addr);
        let node = Node {
            name: "node-1".into(),
            zone: None,
            addresses: addresses.to_vec(),
            pod_cidrs: vec![],
            is_leaving: false,
        };
        let mut cluster = Cluster::default();
        let service = Service {
            kind: ServiceType::LoadBalancer,
            external_traffic_policy: TrafficPolicy::Local,
            external_ips: external_ips.iter().map(|text| addr(text)).collect(),
            cluster_ips: PerFamily { v4: Some(addr("10.96.0.10")), v6: Some(addr("fd00:10::10")) },
            health_check_node_port: Some(31000),
            ..service()
        };
        cluster.services.insert(service.name.clone(), service);
        let view = resolve(&cluster, &NodeContext::new(config, &node, &addresses), family);
        let NodePortScope::Addresses(scope) = view.node_ports else { panic!("a list") };
        let has_node_port = view.ports[0].frontends.iter().any(|one| one.kind == FrontendKind::NodePort);
        assert_eq!(view.ports[0].health_check_node_port.is_some(), has_node_port);
        assert_eq!(has_node_port, !scope.is_empty());
        scope.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(seen(&ipvs(), &[], IpFamily::V4), ["10.9.9.9", "192.168.77.10"]);
    // Neither loopback nor addresses of a single link.
    assert_eq!(seen(&ipvs(), &[], IpFamily::V6), ["fd00:77::10"]);
    let with = |addresses| Config { node_port_addresses: addresses, ..ipvs() };
    assert_eq!(seen(&with(NodePortAddresses::Primary), &[], IpFamily::V6), ["fd00:77::10"]);
    let narrow = with(cidrs(&["192.168.77.0/24", "127.0.0.0/8"]));
    assert_eq!(seen(&narrow, &["192.168.78.1"], IpFamily::V4), ["192.168.77.10"]);
    // Addresses of Services are on an interface too, and the networks find them there.
    let wide = with(cidrs(&["10.96.0.0/16", "192.168.0.0/16"]));
    let found = ["10.96.0.10", "192.168.77.10", "192.168.78.1"];
    assert_eq!(seen(&wide, &["192.168.78.1"], IpFamily::V4), found);
    assert_eq!(seen(&with(cidrs(&["172.16.0.0/12"])), &[], IpFamily::V4), [] as [&str; 0]);
}

#[test]
fn the_node_name_is_lower_case_and_the_nearest_word_counts() {
    let config = Config { hostname_override: Some("from-config".to_owned()), ..Config::default() };
    assert_eq!(node_name(Some(" Node-1 "), &config, "host").as_deref(), Some("node-1"));
    assert_eq!(node_name(None, &config, "host").as_deref(), Some("from-config"));
    assert_eq!(node_name(None, &Config::default(), "HOST").as_deref(), Some("host"));
    assert_eq!(node_name(None, &Config::default(), " "), None);
}
