//! The rules of reference section 5, written out for one Service of each kind, and what is lifted from them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use expect_test::{Expect, expect};

use super::*;
use crate::model::{Mode, ServiceName};
use crate::net::{AddrPort, IpCidr, IpFamily};
use crate::program::xtables::{check, diff, emit};
use crate::resolve::{
    Frontend, FrontendKind, Habits, LocalTraffic, NodePortScope, PoolEndpoint, PoolKind, PortView, Route,
    Routes, SourceRanges, Vip,
};

fn at(text: &str) -> AddrPort {
    text.parse().unwrap()
}

fn everyone(route: Route) -> Routes {
    Routes { pods: route, node: route, outside: route }
}

const CLUSTER: Route = Route::Forward { pool: PoolKind::Cluster, masquerade: false };
const LOCAL: Route = Route::Forward { pool: PoolKind::Local, masquerade: false };

/// default/web:http at 10.96.0.20:80, with one endpoint on this node and one elsewhere.
fn web() -> PortView {
    let endpoint =
        |addr, in_local| PoolEndpoint { addr: at(addr), in_cluster: true, in_local, on_this_node: in_local };
    PortView {
        frontends: vec![Frontend { kind: FrontendKind::ClusterIp, vip: Vip::Address(at("10.96.0.20:80")) }],
        endpoints: vec![endpoint("10.244.1.5:8080", true), endpoint("10.244.2.7:8080", false)],
        endpoints_here: vec![at("10.244.1.5:8080")],
        ..PortView::bare(ServiceName::new("default", "web"), "http", everyone(CLUSTER))
    }
}

fn view(ports: Vec<PortView>) -> NodeView {
    NodeView {
        family: IpFamily::V4,
        ports,
        node_ports: NodePortScope::AllLocal { loopback: true },
        localhost_node_ports: false,
        habits: Habits::of(Mode::Userspace),
        local_traffic: IpCidr::parse_sloppy("10.244.0.0/16").map(LocalTraffic::Source),
        n_endpoints: 2,
    }
}

fn options() -> LowerOptions {
    LowerOptions {
        listen: None,
        host: Some(IpAddr::from([192, 168, 0, 10])),
        ports: 41000..=41999,
        taken: BTreeSet::new(),
        previous: Arc::new([((("default/web:http".to_owned(), Protocol::Tcp), Role::Cluster), 41000)].into()),
    }
}

/// The rules of the chains of ours, and the listeners.
fn shown(lowered: &Lowered) -> String {
    assert_eq!(check::check(&lowered.ruleset), []);
    let mut text = Vec::new();
    for (table, chain) in base::CHAINS {
        for rule in &lowered.ruleset.chain(table, &chain).unwrap().rules {
            emit::write_rule(&mut text, IpFamily::V4, &chain, rule);
        }
    }
    let listeners = crate::program::listener::emit::document(&lowered.listeners, "");
    String::from_utf8(text).unwrap() + &listeners
}

fn lowered(port: PortView, expected: Expect) -> Lowered {
    let lowered = lower(&view(vec![port]), &options());
    expected.assert_eq(&shown(&lowered));
    lowered
}

#[test]
fn jumps_stand_where_the_reference_says() {
    let ruleset = lower(&view(Vec::new()), &options()).ruleset;
    let mut text = Vec::new();
    emit::write_document(&mut text, &ruleset, "");
    let text = String::from_utf8(text).unwrap();
    let jumps: String =
        text.lines().filter(|line| line.starts_with("-A")).map(|line| format!("{line}\n")).collect();
    expect![[r#"
        -A INPUT -m comment --comment "Ensure that non-local NodePort traffic can flow" -j KUBE-NODEPORT-NON-LOCAL
        -A PREROUTING -m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j KUBE-PORTALS-CONTAINER
        -A PREROUTING -m addrtype --dst-type LOCAL -m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" -j KUBE-NODEPORT-CONTAINER
        -A OUTPUT -m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j KUBE-PORTALS-HOST
        -A OUTPUT -m addrtype --dst-type LOCAL -m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" -j KUBE-NODEPORT-HOST
    "#]]
    .assert_eq(&jumps);
    let difference = diff::diff(&ruleset, &Ruleset::empty(IpFamily::V4), &scope());
    assert_eq!(difference.tables[&TableName::Nat].jumps_behind.len(), 2);
}

#[test]
fn a_cluster_ip_is_that_of_the_worked_example() {
    lowered(
        web(),
        expect![[r#"
            -A KUBE-PORTALS-CONTAINER -d 10.96.0.20/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 41000
            -A KUBE-PORTALS-HOST -d 10.96.0.20/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j DNAT --to-destination 192.168.0.10:41000
            tcp 0.0.0.0:41000 to 10.244.1.5:8080,10.244.2.7:8080 # default/web:http
        "#]],
    );
}

fn add(port: &mut PortView, kind: FrontendKind, vip: Vip) {
    port.frontends.push(Frontend { kind, vip });
    port.external = Some(everyone(CLUSTER));
}

#[test]
fn external_ips_and_node_ports_have_their_chains() {
    let mut port = web();
    add(&mut port, FrontendKind::ExternalIp, Vip::Address(at("10.50.0.1:80")));
    add(&mut port, FrontendKind::NodePort, Vip::NodePort(30080));
    port.affinity_seconds = Some(10800);
    let lowered = lowered(
        port,
        expect![[r#"
            -A KUBE-PORTALS-CONTAINER -d 10.96.0.20/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 41000
            -A KUBE-PORTALS-CONTAINER -d 10.50.0.1/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -m physdev ! --physdev-is-in -j REDIRECT --to-ports 41000
            -A KUBE-PORTALS-CONTAINER -d 10.50.0.1/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -m addrtype --dst-type LOCAL -j REDIRECT --to-ports 41000
            -A KUBE-PORTALS-HOST -d 10.96.0.20/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j DNAT --to-destination 192.168.0.10:41000
            -A KUBE-PORTALS-HOST -d 10.50.0.1/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -m addrtype --dst-type LOCAL -j DNAT --to-destination 192.168.0.10:41000
            -A KUBE-NODEPORT-CONTAINER -p tcp -m comment --comment "default/web:http" -m tcp --dport 30080 -j REDIRECT --to-ports 41000
            -A KUBE-NODEPORT-HOST -p tcp -m comment --comment "default/web:http" -m tcp --dport 30080 -j DNAT --to-destination 192.168.0.10:41000
            -A KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "default/web:http" -m tcp --dport 41000 -m conntrack --ctstate NEW -j ACCEPT
            tcp 0.0.0.0:41000 to 10.244.1.5:8080,10.244.2.7:8080 affinity 10800 # default/web:http
        "#]],
    );
    let lifted = lift(&lowered.ruleset, Some(&lowered.listeners), None);
    let port = &lifted[&("default/web:http".to_owned(), Protocol::Tcp)];
    let vips: Vec<String> = port.vips.iter().map(ToString::to_string).collect();
    assert_eq!(vips, ["10.50.0.1:80", "10.96.0.20:80", "node:30080"]);
    assert_eq!(port.endpoints.len(), 2);
    assert!(port.closed.is_empty());
    assert_eq!(proxy_ports(&lowered.ruleset), *options().previous);
}

#[test]
fn policies_and_source_ranges_have_listeners_of_their_own() {
    let mut port = web();
    add(&mut port, FrontendKind::LoadBalancer, Vip::Address(at("10.51.0.1:80")));
    port.external = Some(Routes { pods: CLUSTER, node: CLUSTER, outside: LOCAL });
    let ranges = ["198.51.100.0/24", "10.0.0.0/8"].map(|text| IpCidr::parse_sloppy(text).unwrap());
    port.source_ranges = Some(SourceRanges { allowed: ranges.to_vec(), allow_vips: true });
    lowered(
        port,
        expect![[r#"
            -A KUBE-PORTALS-CONTAINER -d 10.96.0.20/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 41000
            -A KUBE-PORTALS-CONTAINER -s 10.244.0.0/16 -d 10.51.0.1/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 41000
            -A KUBE-PORTALS-CONTAINER -s 198.51.100.0/24 -d 10.51.0.1/32 -p tcp -m comment --comment "default/web:http local endpoints" -m tcp --dport 80 -j REDIRECT --to-ports 41743
            -A KUBE-PORTALS-CONTAINER -s 10.0.0.0/8 -d 10.51.0.1/32 -p tcp -m comment --comment "default/web:http local endpoints" -m tcp --dport 80 -j REDIRECT --to-ports 41743
            -A KUBE-PORTALS-CONTAINER -s 10.51.0.1/32 -d 10.51.0.1/32 -p tcp -m comment --comment "default/web:http local endpoints" -m tcp --dport 80 -j REDIRECT --to-ports 41743
            -A KUBE-PORTALS-CONTAINER -d 10.51.0.1/32 -p tcp -m comment --comment "default/web:http not let in" -m tcp --dport 80 -j REDIRECT --to-ports 41189
            -A KUBE-PORTALS-HOST -d 10.96.0.20/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j DNAT --to-destination 192.168.0.10:41000
            -A KUBE-PORTALS-HOST -s 198.51.100.0/24 -d 10.51.0.1/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j DNAT --to-destination 192.168.0.10:41000
            -A KUBE-PORTALS-HOST -s 10.0.0.0/8 -d 10.51.0.1/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j DNAT --to-destination 192.168.0.10:41000
            -A KUBE-PORTALS-HOST -s 10.51.0.1/32 -d 10.51.0.1/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j DNAT --to-destination 192.168.0.10:41000
            -A KUBE-PORTALS-HOST -d 10.51.0.1/32 -p tcp -m comment --comment "default/web:http not let in" -m tcp --dport 80 -j DNAT --to-destination 192.168.0.10:41189
            tcp 0.0.0.0:41000 to 10.244.1.5:8080,10.244.2.7:8080 # default/web:http
            tcp 0.0.0.0:41189 to none # default/web:http not let in
            tcp 0.0.0.0:41743 to 10.244.1.5:8080 # default/web:http local endpoints
        "#]],
    );
}

#[test]
fn without_a_known_address_the_node_redirects_to_itself() {
    let options = LowerOptions { host: None, ..options() };
    let text = shown(&lower(&view(vec![web()]), &options));
    assert!(text.contains("-A KUBE-PORTALS-HOST -d 10.96.0.20/32 -p tcp -m comment --comment \"default/web:http\" -m tcp --dport 80 -j REDIRECT --to-ports 41000\n"), "{text}");
    let options = LowerOptions { listen: Some(IpAddr::from([192, 168, 0, 11])), ..options };
    let text = shown(&lower(&view(vec![web()]), &options));
    assert_eq!(text.matches("-j DNAT --to-destination 192.168.0.11:41000").count(), 2, "{text}");
    assert!(text.contains("tcp 192.168.0.11:41000 to "), "{text}");
}

#[test]
fn endpoints_change_no_rule() {
    let mut without = web();
    without.endpoints.clear();
    without.internal = everyone(Route::Reject);
    let (some, none) = (lower(&view(vec![web()]), &options()), lower(&view(vec![without]), &options()));
    assert_eq!(some.ruleset, none.ruleset);
    assert_eq!(none.listeners.values().map(|listener| listener.targets.len()).collect::<Vec<_>>(), [0]);
    let lifted = lift(&none.ruleset, Some(&none.listeners), None);
    assert_eq!(lifted.values().map(|port| port.closed.len()).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_range_that_is_too_small_is_told() {
    let mut second = web();
    second.name.port = "other".into();
    let options = LowerOptions { ports: 41000..=41000, ..options() };
    let lowered = lower(&view(vec![web(), second]), &options);
    assert_eq!(lowered.without_port, [(("default/web:other".to_owned(), Protocol::Tcp), Role::Cluster)]);
    assert_eq!(lowered.listeners.len(), 1);
}
