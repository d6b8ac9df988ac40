//! What neither recordings nor cases have: machines that can do less, large clusters, reading back.

use std::collections::BTreeSet;

use crate::backend::{Layout, LiftedVip};
use crate::model::{Mode, ServiceName};
use crate::net::{AddrPort, IpCidr, IpFamily, Protocol};
use crate::program::xtables::{ChainName, Counters, Match, Rule, Ruleset, TableName, emit};
use crate::resolve::{
    Frontend, FrontendKind, Habits, LocalTraffic, NodePortScope, NodeView, PoolEndpoint, PoolKind, PortView,
    Route, Routes, Vip,
};

use super::{LowerOptions, carried, lift, lower, names, policies, scope};

const OPTIONS: LowerOptions = LowerOptions {
    masquerade_mark: 0x4000,
    random_fully: true,
    nfacct: true,
    tcp_be_liberal: false,
    layout: Layout::KubeProxy,
};

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
        frontends: vec![
            frontend(FrontendKind::ClusterIp, Vip::Address(at("10.96.0.10:80"))),
            frontend(FrontendKind::NodePort, Vip::NodePort(30080)),
        ],
        external: Some(everyone(forward(true))),
        endpoints: vec![endpoint("10.128.0.5:8080"), endpoint("10.128.1.5:8080")],
        ..PortView::bare(
            ServiceName::new("shop", "web"),
            "http",
            Routes { pods: forward(false), node: forward(true), outside: forward(true) },
        )
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

const FAST: LowerOptions = LowerOptions { layout: Layout::Fast, ..OPTIONS };

/// As many Services as this, each with as many endpoints.
fn crowd(n_ports: u8, n_endpoints: u8) -> NodeView {
    let one = view().ports.remove(0);
    let ports = (0..n_ports).map(|number| {
        let endpoint = |last| PoolEndpoint {
            addr: at(&format!("10.128.{number}.{last}:8080")),
            in_cluster: true,
            in_local: false,
            on_this_node: false,
        };
        let vip = Vip::Address(at(&format!("10.96.{number}.10:80")));
        let mut name = one.name.clone();
        name.service = ServiceName::new("shop", &format!("web-{number}"));
        PortView {
            name,
            frontends: vec![Frontend { kind: FrontendKind::ClusterIp, vip }],
            external: None,
            endpoints: (0..n_endpoints).map(endpoint).collect(),
            ..one.clone()
        }
    });
    NodeView { ports: ports.collect(), ..view() }
}

#[test]
fn in_the_fast_layout_the_chain_of_a_service_sends_to_its_endpoints() {
    let rules = lower(&view(), &FAST);
    let chains = rules.tables[&TableName::Nat].chains.keys();
    let chains: Vec<&ChainName> = chains.filter(|name| super::is_hashed(name)).collect();
    assert_eq!(chains.len(), 2, "{chains:?}");
    let service = chains.into_iter().find(|name| name.as_str().starts_with(names::SERVICE_PREFIX)).unwrap();
    let rules = lines(&rules, TableName::Nat, *service);
    let ends = [
        "-p tcp -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.128.0.5:8080",
        "-p tcp -j DNAT --to-destination 10.128.1.5:8080",
    ];
    assert_eq!(rules[1..], ends.map(|end| format!("-A {service} {end}")));
}

#[test]
fn an_endpoint_that_is_its_own_vip_has_a_chain_in_any_layout() {
    let with_vip = |vip| {
        let mut view = view();
        view.ports[0].frontends.push(Frontend { kind: FrontendKind::ExternalIp, vip });
        let rules = lower(&view, &FAST);
        let nat = &rules.tables[&TableName::Nat];
        nat.chains.keys().filter(|name| name.as_str().starts_with(names::ENDPOINT_PREFIX)).count()
    };
    assert_eq!(with_vip(Vip::Address(at("10.128.1.5:8080"))), 1);
    assert_eq!(with_vip(Vip::NodePort(8080)), 2);
    assert_eq!(with_vip(Vip::Address(at("10.128.1.5:80"))), 0);
}

#[test]
fn many_endpoints_are_groups_of_about_sixteen() {
    let groups = |n_endpoints| -> Vec<usize> {
        let rules = lower(&crowd(1, n_endpoints), &FAST);
        let nat = &rules.tables[&TableName::Nat].chains;
        let groups = nat.iter().filter(|(name, _)| name.as_str().starts_with(names::GROUP_PREFIX));
        groups.map(|(_, chain)| chain.rules.len()).collect()
    };
    assert_eq!(groups(32), Vec::<usize>::new());
    let of_many = groups(200);
    assert!((14..=16).contains(&of_many.len()) && of_many.iter().all(|n| *n <= 32), "{of_many:?}");
}

#[test]
fn rules_of_a_tree_are_read_back_as_those_of_a_list() {
    let view = crowd(60, 40);
    let [list, tree] = [OPTIONS, FAST].map(|options| lower(&view, &options));
    let n_branches = tree.tables[&TableName::Nat].chains.keys().filter(|name| super::is_branch(name)).count();
    assert!(n_branches >= 3, "{n_branches}");
    assert_eq!(lift(&list, None), lift(&tree, None));
    let counters = Counters::default();
    assert_eq!(policies(&list, &counters), policies(&tree, &counters));
    let name = ("shop/web-7:http".to_owned(), Protocol::Tcp);
    let carried = carried(&tree, &counters, &name);
    let mut endpoints: Vec<AddrPort> = carried.iter().flat_map(|rule| rule.endpoints.clone()).collect();
    endpoints.sort_unstable();
    let wanted: BTreeSet<AddrPort> = view.ports[7].endpoints.iter().map(|one| one.addr).collect();
    assert_eq!(endpoints, wanted.into_iter().collect::<Vec<_>>());
    let dispatching = carried.iter().filter(|rule| rule.vip.is_some()).map(|rule| rule.chain.as_str());
    assert!(dispatching.clone().count() == 1 && dispatching.clone().all(|name| name.starts_with("KUBE-IP-")));
}

#[test]
fn everything_that_is_made_is_ours_and_nothing_else_is() {
    for rules in [lower(&view(), &OPTIONS), lower(&crowd(60, 40), &FAST)] {
        check_ownership(&rules);
    }
}

fn check_ownership(rules: &Ruleset) {
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
