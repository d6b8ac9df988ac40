//! The fast layout of iptables mode beside that of kube-proxy: the same to every packet, on recorded clusters and on random
//! ones that are large enough for trees; a small change is a small difference.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use svcproxy::backend::iptables::{self, LowerOptions};
use svcproxy::backend::{self, Layout};
use svcproxy::model::{
    Cluster, Conditions, Config, Endpoint, Mode, Node, Placeholders, Service, ServiceName, ServicePort,
    ServiceType, TrafficPolicy,
};
use svcproxy::net::{AddrPort, IpCidr, IpFamily, PerFamily, Protocol};
use svcproxy::packet::{NodeFacts, Origin, Packet};
use svcproxy::program::Program;
use svcproxy::program::eval::Evaluator;
use svcproxy::program::xtables::eval::{Memory, eval};
use svcproxy::program::xtables::{ChainName, Ruleset, TableName, check, diff, emit, parse};
use svcproxy::resolve::{self, NodeContext};
use svcproxy::verify::{self, Options, Report};

use crate::verify::{facts, recorded};
use crate::{given, recordings};

/// Compares the meaning of two rulesets of a node.
fn compared(one: Ruleset, other: Ruleset, facts: &NodeFacts) -> Report {
    let family = one.family;
    let [one, other] = [one, other].map(|ruleset| {
        let mut program = Program::default();
        *program.xtables.get_mut(family) = Some(ruleset);
        program
    });
    let [left, right] = [&one, &other].map(|program| Evaluator::new(program, family, facts));
    verify::equivalent(&left, &right, &Options { facts, n_witnesses: 2 })
}

#[test]
fn on_recorded_clusters_it_does_what_kube_proxy_programmed() {
    let mut n_packets = 0;
    for folder in recordings::folders() {
        let recorded = recorded(&folder, Mode::Iptables);
        for family in IpFamily::ALL {
            let view = resolve::resolve(&recorded.given.cluster, &recorded.given.context, family);
            let options = LowerOptions { layout: Layout::Fast, ..recorded.given.options() };
            let fast = iptables::lower(&view, &options);
            let programmed = recorded.program.xtables.get(family).clone().unwrap();
            let report = compared(programmed, fast, &facts(&recorded.given));
            assert!(report.is_same(), "{} {family}: {:#?}", folder.display(), report.subjects);
            n_packets += report.n_packets;
        }
    }
    eprintln!("{n_packets} packets");
    assert!(n_packets > 10_000, "{n_packets}");
}

/// A Service: where its addresses begin, their last part, what it is, how many endpoints it has.
#[derive(Debug, Clone)]
struct Shape {
    block: u8,
    last: u8,
    kind: u8,
    has_affinity: bool,
    n_endpoints: u8,
}

fn shape() -> impl Strategy<Value = Shape> {
    let n_endpoints = prop_oneof![12 => 0..5u8, 1 => 33..70u8];
    (0..3u8, any::<u8>(), 0..6u8, prop::bool::weighted(0.2), n_endpoints).prop_map(
        |(block, last, kind, has_affinity, n_endpoints)| Shape {
            block,
            last,
            kind,
            // To compare what becomes of each client of each of many endpoints takes long: another test does it for a few.
            has_affinity: has_affinity && n_endpoints < 6,
            n_endpoints,
        },
    )
}

fn address(family: IpFamily, net: u8, block: u8, last: u8) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::new(10, net, block, last).into(),
        IpFamily::V6 => {
            Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, u16::from(block) << 8, last.into()).into()
        }
    }
}

const NODE: &str = "node-0";

fn endpoints(family: IpFamily, index: usize, shape: &Shape) -> Vec<Endpoint> {
    let endpoint = |number: u8| Endpoint {
        addr: AddrPort::new(address(family, 128, u8::try_from(index).unwrap(), number), 8080),
        node: Some(if number.is_multiple_of(3) { NODE.into() } else { "node-1".into() }),
        conditions: Conditions { ready: true, serving: true, terminating: false },
        hints: None,
    };
    let mut endpoints: Vec<Endpoint> = (0..shape.n_endpoints).map(endpoint).collect();
    // One that is also where packets to its Service go.
    if shape.kind == 5 {
        let addr = AddrPort::new(address(family, 50, shape.block, shape.last), 80);
        endpoints.push(Endpoint { addr, ..endpoint(0) });
    }
    endpoints.sort_by_key(|endpoint| endpoint.addr.to_string());
    endpoints
}

fn cluster(shapes: &[Shape]) -> Cluster {
    let mut cluster = Cluster::default();
    for (index, shape) in shapes.iter().enumerate() {
        let name = ServiceName::new("ns", &format!("svc-{index}"));
        let is_exposed = shape.kind > 1;
        let both = |net| IpFamily::ALL.map(|family| address(family, net, shape.block, shape.last)).to_vec();
        let range = |family| IpCidr::new(address(family, 200, 0, 0), 24);
        let number = u16::try_from(index).unwrap();
        let port = ServicePort {
            name: "p".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: is_exposed.then_some(30000 + number),
        };
        let policy = if matches!(shape.kind, 3 | 5) { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
        let service = Service {
            name: name.clone(),
            kind: if is_exposed { ServiceType::LoadBalancer } else { ServiceType::ClusterIp },
            cluster_ips: PerFamily::from_fn(|family| {
                Some(address(family, 96 + shape.block, u8::try_from(index).unwrap(), shape.last))
            }),
            external_ips: if is_exposed { both(50) } else { Vec::new() },
            has_external_ips: is_exposed,
            load_balancer_ips: if shape.kind > 2 { both(51) } else { Vec::new() },
            source_ranges: if shape.kind == 4 {
                IpFamily::ALL.into_iter().filter_map(range).collect()
            } else {
                Vec::new()
            },
            affinity_seconds: shape.has_affinity.then_some(600),
            internal_traffic_policy: TrafficPolicy::Cluster,
            external_traffic_policy: policy,
            health_check_node_port: None,
            ports: vec![port],
            placeholders: Placeholders::default(),
        };
        for family in IpFamily::ALL {
            let endpoints = endpoints(family, index, shape);
            if !endpoints.is_empty() {
                cluster.endpoints.get_mut(family).insert(service.port_name(&service.ports[0]), endpoints);
            }
        }
        cluster.services.insert(name, service);
    }
    cluster
}

fn node() -> Node {
    let addresses = IpFamily::ALL.map(|family| address(family, 77, 0, 10)).to_vec();
    Node { name: NODE.into(), zone: None, addresses, pod_cidrs: Vec::new(), is_leaving: false }
}

/// What a layout makes of a cluster.
fn lowered(cluster: &Cluster, family: IpFamily, layout: Layout) -> Ruleset {
    let mut config = Config::default();
    let pods = |family| IpCidr::new(address(family, 128, 0, 0), if family == IpFamily::V4 { 16 } else { 32 });
    config.cluster_cidrs = PerFamily::from_fn(pods);
    let context = NodeContext::new(&config, &node(), &node().addresses);
    let view = resolve::resolve(cluster, &context, family);
    iptables::lower(&view, &LowerOptions { layout, ..given::OPTIONS })
}

/// Addresses that no two Services have.
fn shapes(n: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Shape>> {
    prop::collection::vec(shape(), n).prop_map(|mut shapes| {
        let mut taken = BTreeSet::new();
        shapes.retain(|shape| taken.insert((shape.block, shape.last)));
        shapes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_random_clusters_both_layouts_do_the_same(
        shapes in shapes(1..40),
        family in prop::sample::select(IpFamily::ALL.to_vec()),
    ) {
        let cluster = cluster(&shapes);
        let facts = NodeFacts { local_addresses: node().addresses.into_iter().collect() };
        let [slow, fast] = given::LAYOUTS.map(|layout| lowered(&cluster, family, layout));
        prop_assert_eq!(check::check(&fast).len(), 0);
        let mut text = Vec::new();
        emit::write_document(&mut text, &fast, "");
        let read = parse::parse(std::str::from_utf8(&text).unwrap(), family).unwrap();
        prop_assert!(given::same_rules(&read, &fast));
        prop_assert_eq!(iptables::lift(&slow, None), iptables::lift(&fast, None));
        let report = compared(slow, fast, &facts);
        prop_assert!(report.is_same(), "{:#?}", report.subjects);
    }

    #[test]
    fn from_one_to_the_other_is_a_difference_like_any(before in shapes(1..50), after in shapes(1..50)) {
        let (before, after) = (cluster(&before), cluster(&after));
        for [from, to] in [[Layout::KubeProxy, Layout::Fast], [Layout::Fast, Layout::KubeProxy]] {
            let live = lowered(&before, IpFamily::V4, from);
            let wanted = lowered(&after, IpFamily::V4, to);
            let scope = iptables::scope(&live);
            let reached = diff::apply(&live, &diff::diff(&wanted, &live, &scope), &wanted);
            prop_assert!(given::same_rules(&reached, &wanted));
        }
    }
}

#[test]
fn clients_of_many_endpoints_stay_with_theirs() {
    let shape = Shape { block: 0, last: 9, kind: 0, has_affinity: true, n_endpoints: 60 };
    let cluster = cluster(&[shape]);
    let rules = given::LAYOUTS.map(|layout| lowered(&cluster, IpFamily::V4, layout));
    let facts = NodeFacts { local_addresses: node().addresses.into_iter().collect() };
    let client = AddrPort::new(address(IpFamily::V4, 200, 0, 7), 40000);
    let packet = Packet {
        origin: Origin::Outside,
        source: client,
        destination: AddrPort::new(address(IpFamily::V4, 96, 0, 9), 80),
        protocol: Protocol::Tcp,
        in_interface: Some("eth0".to_owned()),
        bridge_port: None,
    };
    let [slow, fast] = rules.each_ref().map(|rules| eval(rules, &packet, &facts, &Memory::default()));
    assert!(slow.fate.is_same(&fast.fate), "{} {}", slow.fate, fast.fate);
    assert_eq!((&slow.remembered, slow.remembered.len()), (&fast.remembered, 60));
    for (endpoint, lists) in slow.remembered {
        let remembered = lists.into_iter().map(|list| (list, client.addr)).collect();
        let memory = Memory { remembered, ..Memory::default() };
        let [slow, fast] = rules.each_ref().map(|rules| eval(rules, &packet, &facts, &memory).fate);
        assert!(slow.is_same(&fast) && fast.to_string().starts_with(&endpoint.to_string()), "{slow} {fast}");
    }
}

/// A cluster of this many Services, and as many endpoints of the first; those of the others are two.
fn plain(n_services: usize, n_endpoints: u8) -> Cluster {
    let shape = |index: usize| Shape {
        block: 0,
        last: u8::try_from(index % 256).unwrap(),
        kind: 0,
        has_affinity: false,
        n_endpoints: if index == 0 { n_endpoints } else { 2 },
    };
    cluster(&(0..n_services).map(shape).collect::<Vec<_>>())
}

/// How many chains a change of the cluster touches, and how many rules are written.
fn touched(before: &Cluster, after: &Cluster) -> (Vec<(TableName, ChainName)>, usize) {
    let live = lowered(before, IpFamily::V4, Layout::Fast);
    let wanted = lowered(after, IpFamily::V4, Layout::Fast);
    let difference = diff::diff(&wanted, &live, &iptables::scope(&live));
    let chains = difference
        .tables
        .iter()
        .flat_map(|(table, changed)| changed.chains.keys().map(|chain| (*table, *chain)).collect::<Vec<_>>());
    let chains: Vec<(TableName, ChainName)> = chains.collect();
    let n_rules = chains.iter().filter_map(|(table, chain)| wanted.chain(*table, chain));
    let n_rules = n_rules.map(|chain| chain.rules.len()).sum();
    (chains, n_rules)
}

#[test]
fn another_endpoint_touches_the_chain_that_it_is_in() {
    let (chains, n_rules) = touched(&plain(200, 10), &plain(200, 11));
    assert_eq!((chains.len(), n_rules), (1, 12), "{chains:?}");
    // Of many, its group and the chain above it.
    let (chains, n_rules) = touched(&plain(200, 220), &plain(200, 221));
    assert!(chains.len() <= 2 && n_rules < 60, "{n_rules} {chains:?}");
}

#[test]
fn another_service_touches_its_own_chain_and_its_neighbours() {
    let (before, after) = (plain(199, 10), plain(200, 10));
    let (chains, n_rules) = touched(&before, &after);
    assert!(chains.len() <= 3 && n_rules < 40, "{n_rules} {chains:?}");
    let [live, wanted] = [&before, &after].map(|cluster| lowered(cluster, IpFamily::V4, Layout::Fast));
    let difference = diff::diff(&wanted, &live, &iptables::scope(&live));
    let changes = backend::changes((&wanted, None), (&live, None), &difference, &[], &|_| None, true);
    let names: Vec<&String> = changes.ports.keys().map(|(name, _)| name).collect();
    assert_eq!(names, ["ns/svc-199:p"]);
}

#[test]
fn a_tree_that_branches_otherwise_changes_no_service() {
    // With the seventeenth the list becomes a tree.
    let (before, after) = (plain(16, 2), plain(17, 2));
    let [live, wanted] = [&before, &after].map(|cluster| lowered(cluster, IpFamily::V4, Layout::Fast));
    let difference = diff::diff(&wanted, &live, &iptables::scope(&live));
    let changes = backend::changes((&wanted, None), (&live, None), &difference, &[], &|_| None, true);
    let names: Vec<&String> = changes.ports.keys().map(|(name, _)| name).collect();
    assert_eq!(names, ["ns/svc-16:p"]);
}

#[test]
fn it_has_far_fewer_rules_and_chains() {
    let count = |layout| {
        let ruleset = lowered(&plain(250, 60), IpFamily::V4, layout);
        (ruleset.n_rules(), ruleset.tables.values().map(|table| table.chains.len()).sum::<usize>())
    };
    let ((slow_rules, slow_chains), (fast_rules, fast_chains)) =
        (count(Layout::KubeProxy), count(Layout::Fast));
    assert!(
        fast_rules * 9 < slow_rules * 5 && fast_chains * 5 < slow_chains * 2,
        "{fast_rules} {fast_chains}"
    );
}
