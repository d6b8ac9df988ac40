//! What neither recordings nor cases have: machines that can do less, large clusters, reading back.

use std::collections::BTreeSet;

use crate::backend::LiftedVip;
use crate::model::{Mode, Placeholders, ServiceName, ServicePortName};
use crate::net::{AddrPort, IpCidr, IpFamily, Protocol};
use crate::program::xtables::{ChainName, Match, Rule, Ruleset, TableName, emit};
use crate::resolve::{
    Frontend, FrontendKind, Habits, LocalTraffic, NodePortScope, NodeView, PoolEndpoint, PoolKind, PortView,
    Route, Routes, Vip,
};

use super::{LowerOptions, lift, lower, names, scope};

const OPTIONS: LowerOptions =
    LowerOptions { masquerade_mark: 0x4000, random_fully: true, nfacct: true, tcp_be_liberal: false };

fn at(text: &str) -> AddrPort {
    text.parse().unwrap()
}

fn view() -> NodeView {
    let forward = |masquerade| Route::Forward { pool: PoolKind::Cluster, masquerade };
    let everyone = |route| Routes { pods: route, node: route, outside: route };
    let frontend = |kind, vip| Frontend { kind, vip };
    let endpoint =
        |text| PoolEndpoint { addr: at(text), in_cluster: true, in_local: false, on_this_node: false };
    let port = PortView {
        name: ServicePortName {
            service: ServiceName::new("shop", "web"),
            port: "http".into(),
            protocol: Protocol::Tcp,
        },
        frontends: vec![
            frontend(FrontendKind::ClusterIp, Vip::Address(at("10.96.0.10:80"))),
            frontend(FrontendKind::NodePort, Vip::NodePort(30080)),
        ],
        internal: Routes { pods: forward(false), node: forward(true), outside: forward(true) },
        external: Some(everyone(forward(true))),
        source_ranges: None,
        endpoints: vec![endpoint("10.128.0.5:8080"), endpoint("10.128.1.5:8080")],
        endpoints_here: vec![],
        flow_endpoints: Vec::new(),
        external_keeps_source: false,
        affinity_seconds: None,
        health_check_node_port: None,
        placeholders: Placeholders::default(),
    };
    NodeView {
        family: IpFamily::V4,
        ports: vec![port],
        node_ports: NodePortScope::AllLocal { loopback: true },
        localhost_node_ports: true,
        habits: Habits::of(Mode::Iptables),
        local_traffic: IpCidr::parse_sloppy("10.128.0.0/16").map(LocalTraffic::Source),
        n_endpoints: 2,
    }
}

fn lines(ruleset: &Ruleset, table: TableName, chain: ChainName) -> Vec<String> {
    let rules = &ruleset.chain(table, &chain).unwrap().rules;
    let line = |rule: &Rule| {
        let mut text = Vec::new();
        emit::write_rule(&mut text, ruleset.family, &chain, rule);
        String::from_utf8(text).unwrap().trim_end().to_owned()
    };
    rules.iter().map(line).collect()
}

#[test]
fn a_machine_without_nfacct_and_random_fully_gets_rules_that_mean_the_same() {
    let less = LowerOptions { random_fully: false, nfacct: false, ..OPTIONS };
    let rules = lower(&view(), &less);
    let text = String::from_utf8(emit::emit(&rules, "").text).unwrap();
    assert!(!text.contains("nfacct") && !text.contains("random-fully"));
    assert_eq!(lines(&rules, TableName::Nat, names::NODE_PORTS).len(), 1);
    assert_eq!(lines(&lower(&view(), &OPTIONS), TableName::Nat, names::NODE_PORTS).len(), 2);
}

#[test]
fn a_liberal_kernel_keeps_packets_that_conntrack_cannot_place() {
    let liberal = lower(&view(), &LowerOptions { tcp_be_liberal: true, ..OPTIONS });
    assert_eq!(lines(&liberal, TableName::Filter, names::FORWARD).len(), 2);
    assert!(lines(&lower(&view(), &OPTIONS), TableName::Filter, names::FORWARD)[0].contains("INVALID"));
}

#[test]
fn above_a_thousand_endpoints_comments_of_endpoints_are_left_out() {
    let comments = |n_endpoints: usize| {
        let rules = lower(&NodeView { n_endpoints, ..view() }, &OPTIONS);
        let nat = &rules.tables[&TableName::Nat];
        let of_endpoints =
            nat.chains.iter().filter(|(name, _)| name.as_str().starts_with(names::ENDPOINT_PREFIX));
        let commented =
            of_endpoints.flat_map(|(_, chain)| &chain.rules).filter(|rule| rule.comment_text().is_some());
        commented.count()
    };
    assert_eq!((comments(1000), comments(1001)), (4, 0));
}

#[test]
fn pods_are_told_by_interface_if_so_configured() {
    let prefix = NodeView { local_traffic: Some(LocalTraffic::InterfacePrefix("veth".into())), ..view() };
    let rules = lower(&prefix, &OPTIONS);
    let text = String::from_utf8(emit::emit(&rules, "").text).unwrap();
    assert!(text.contains("! -i veth+"), "{text}");
    let unknown = lower(&NodeView { local_traffic: None, ..view() }, &OPTIONS);
    let masquerades: usize = unknown.tables[&TableName::Nat]
        .chains
        .iter()
        .filter(|(name, _)| name.as_str().starts_with(names::SERVICE_PREFIX))
        .map(|(_, chain)| chain.rules.iter().filter(|rule| rule.chain() == Some(&names::MARK_MASQ)).count())
        .sum();
    assert_eq!(masquerades, 0);
}

#[test]
fn rules_are_read_back_to_the_service_that_they_are_for() {
    let rules = lower(&view(), &OPTIONS);
    let lifted = lift(&rules, None);
    assert_eq!(lifted.len(), 1);
    let port = &lifted[&("shop/web:http".to_owned(), Protocol::Tcp)];
    assert_eq!(port.cluster_ip, Some(at("10.96.0.10:80")));
    assert_eq!(
        port.vips,
        BTreeSet::from([LiftedVip::Address(at("10.96.0.10:80")), LiftedVip::NodePort(30080)])
    );
    assert_eq!(port.endpoints, BTreeSet::from([at("10.128.0.5:8080"), at("10.128.1.5:8080")]));
    assert!(port.closed.is_empty());
    let none = BTreeSet::new();
    assert!(lift(&rules, Some(&none)).is_empty());
}

#[test]
fn everything_that_is_made_is_ours_and_nothing_else_is() {
    let rules = lower(&view(), &OPTIONS);
    let scope = scope(&Ruleset::empty(IpFamily::V4));
    for (table, chains) in &rules.tables {
        for (name, chain) in &chains.chains {
            assert_eq!(scope.owns(*table, name), chain.policy.is_none(), "{table} {name}");
            if chain.policy.is_some() {
                for rule in &chain.rules {
                    assert!(scope.jumps.contains(&(*table, *name, rule.clone())), "{table} {name}");
                }
            }
        }
    }
    let foreign = ChainName::literal("KUBE-FOO");
    assert!(!scope.owns(TableName::Nat, &foreign));
    let counts = |rule: &Rule| rule.matches.iter().any(|one| matches!(one, Match::Nfacct(_)));
    assert!(
        rules
            .tables
            .values()
            .flat_map(|table| table.chains.values())
            .flat_map(|chain| &chain.rules)
            .any(counts)
    );
}
