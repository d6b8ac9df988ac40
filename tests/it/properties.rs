//! Random clusters, random nodes: for every kind of packet to every frontend the oracle and the rules say the same; what is
//! written is read back; a difference applied gives what is wanted, and applied twice does nothing.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use proptest::prelude::*;
use svcproxy::backend::iptables::{self, LowerOptions};
use svcproxy::backend::{ipvs, nftables, userspace};
use svcproxy::model::{
    Cluster, Conditions, Config, DetectLocal, Endpoint, Hints, Mode, Node, NodePortAddresses, Placeholders,
    Service, ServiceName, ServicePort, ServiceType, TrafficPolicy,
};
use svcproxy::net::{AddrPort, IpCidr, IpFamily, PerFamily, Protocol};
use svcproxy::packet::{NodeFacts, Origin, Packet};
use svcproxy::program::eval::Evaluator;
use svcproxy::program::xtables::eval::{Memory, eval};
use svcproxy::program::xtables::{check, diff, emit, parse};
use svcproxy::program::{self, Program, listener, nft};
use svcproxy::resolve::{self, NodeContext, Vip};
use svcproxy::verify;

use crate::given::{self, Given};

/// Addresses out of small sets, so that they meet each other.
fn address(family: IpFamily, net: u8, host: u8) -> IpAddr {
    match family {
        IpFamily::V4 => IpAddr::V4(Ipv4Addr::new(10, net, 0, host)),
        IpFamily::V6 => IpAddr::V6(Ipv6Addr::new(0xfd00, u16::from(net), 0, 0, 0, 0, 0, u16::from(host))),
    }
}

const VIPS: u8 = 96;
const EXTERNAL: u8 = 50;
const BALANCERS: u8 = 51;
const PODS: u8 = 128;
const OTHERS: u8 = 200;
const NODES: u8 = 77;

/// Host, ready, serving, terminating, zone hint (whether ours), node hint (whether ours).
type EndpointShape = (u8, bool, bool, bool, Option<bool>, Option<bool>, bool);

#[derive(Debug, Clone)]
struct ServiceShape {
    kind: u8,
    protocol: u8,
    ports: u8,
    external: bool,
    balancer: bool,
    node_port: bool,
    ranges: Vec<(u8, u8)>,
    affinity: bool,
    internal_local: bool,
    external_local: bool,
    endpoints: Vec<EndpointShape>,
}

fn service_shape() -> impl Strategy<Value = ServiceShape> {
    let endpoint = (
        0..6u8,
        prop::bool::weighted(0.7),
        any::<bool>(),
        prop::bool::weighted(0.3),
        prop::option::weighted(0.6, any::<bool>()),
        prop::option::weighted(0.3, any::<bool>()),
        prop::bool::weighted(0.85),
    );
    (
        (0..3u8, 0..3u8, 1..3u8, any::<bool>(), any::<bool>(), any::<bool>()),
        prop::collection::vec((prop::sample::select(vec![OTHERS, PODS, NODES, BALANCERS]), 8..=32u8), 0..3),
        any::<bool>(),
        prop::bool::weighted(0.3),
        any::<bool>(),
        prop::collection::vec(endpoint, 0..5),
    )
        .prop_map(
            |(
                (kind, protocol, ports, external, balancer, node_port),
                ranges,
                affinity,
                internal_local,
                external_local,
                endpoints,
            )| {
                ServiceShape {
                    kind,
                    protocol,
                    ports,
                    external,
                    balancer,
                    node_port,
                    ranges,
                    affinity,
                    internal_local,
                    external_local,
                    endpoints,
                }
            },
        )
}

fn cluster(shapes: &[ServiceShape]) -> Cluster {
    let mut cluster = Cluster::default();
    for (index, shape) in shapes.iter().enumerate() {
        let host = u8::try_from(index + 10).unwrap();
        let name = ServiceName::new("ns", &format!("svc-{index}"));
        let both = |net| vec![address(IpFamily::V4, net, host), address(IpFamily::V6, net, host)];
        let policy = |local| if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
        let protocol = Protocol::ALL[usize::from(shape.protocol)];
        let ports = (0..shape.ports).map(|port| ServicePort {
            name: format!("p{port}").into(),
            protocol,
            port: 80 + u16::from(port),
            node_port: shape.node_port.then(|| 30000 + 10 * u16::from(host) + u16::from(port)),
        });
        let service = Service {
            name: name.clone(),
            kind: [ServiceType::ClusterIp, ServiceType::NodePort, ServiceType::LoadBalancer]
                [usize::from(shape.kind)],
            cluster_ips: PerFamily::from_fn(|family| Some(address(family, VIPS, host))),
            external_ips: if shape.external { both(EXTERNAL) } else { Vec::new() },
            has_external_ips: shape.external,
            load_balancer_ips: if shape.balancer {
                let second = |family| address(family, BALANCERS, host + 100);
                [both(BALANCERS), IpFamily::ALL.map(second).into()].concat()
            } else {
                Vec::new()
            },
            source_ranges: shape
                .ranges
                .iter()
                .flat_map(|(net, bits)| {
                    [
                        IpCidr::new(address(IpFamily::V4, *net, host), *bits),
                        IpCidr::new(address(IpFamily::V6, *net, host), 16 + *bits),
                    ]
                })
                .flatten()
                .collect(),
            affinity_seconds: shape.affinity.then_some(10800),
            internal_traffic_policy: policy(shape.internal_local),
            external_traffic_policy: policy(shape.external_local),
            health_check_node_port: Some(32000 + u16::from(host)),
            ports: ports.collect(),
            placeholders: Placeholders::default(),
        };
        for family in IpFamily::ALL {
            for port in &service.ports {
                let mut endpoints: Vec<Endpoint> =
                    shape.endpoints.iter().map(|one| endpoint(family, one)).collect();
                endpoints.sort_by_key(|endpoint| endpoint.addr.to_string());
                endpoints.dedup_by_key(|endpoint| endpoint.addr);
                if !endpoints.is_empty() {
                    cluster.endpoints.get_mut(family).insert(service.port_name(port), endpoints);
                }
            }
        }
        cluster.services.insert(name, service);
    }
    cluster
}

fn endpoint(
    family: IpFamily,
    (host, ready, serving, terminating, zone, for_node, is_placed): &EndpointShape,
) -> Endpoint {
    let mut hints = Hints::default();
    hints.zones.extend(zone.map(|same| if same { "zone-a".into() } else { "zone-b".into() }));
    hints.nodes.extend(for_node.map(|same| if same { "node-0".into() } else { "node-1".into() }));
    // Some endpoints are on the host network of the node.
    let addr = if *host == 5 { address(family, NODES, 10) } else { address(family, PODS, *host) };
    Endpoint {
        addr: AddrPort::new(addr, 8080),
        // An address is on one node, whatever Services have it, if these say so.
        node: is_placed.then(|| format!("node-{}", if *host == 5 { 0 } else { host % 3 }).into()),
        conditions: Conditions { ready: *ready, serving: *serving, terminating: *terminating },
        hints: (!hints.zones.is_empty() || !hints.nodes.is_empty()).then(|| Box::new(hints)),
    }
}

fn config() -> impl Strategy<Value = Config> {
    (0..5u8, any::<bool>(), any::<bool>(), 0..4u8, 0..32u8).prop_map(
        |(detect, all, localhost, node_ports, bit)| {
            let mut config = Config {
                masquerade_all: all,
                localhost_node_ports: localhost,
                masquerade_bit: bit,
                ..Config::default()
            };
            match detect {
                0 => {
                    config.cluster_cidrs = PerFamily::from_fn(|family| {
                        IpCidr::new(address(family, PODS, 0), if family == IpFamily::V4 { 16 } else { 32 })
                    });
                }
                1 => config.detect_local = DetectLocal::NodeCidr,
                2 => config.detect_local = DetectLocal::BridgeInterface("cni0".to_owned()),
                3 => config.detect_local = DetectLocal::InterfaceNamePrefix("veth".to_owned()),
                _ => {}
            }
            config.node_port_addresses = match node_ports {
                0 | 1 => NodePortAddresses::Default,
                2 => NodePortAddresses::Primary,
                _ => NodePortAddresses::Cidrs(vec![
                    IpCidr::new(address(IpFamily::V4, NODES, 0), 24).unwrap(),
                    IpCidr::new(Ipv4Addr::LOCALHOST.into(), 8).unwrap(),
                ]),
            };
            config
        },
    )
}

fn node() -> Node {
    Node {
        name: "node-0".into(),
        zone: Some("zone-a".into()),
        addresses: IpFamily::ALL.map(|family| address(family, NODES, 10)).to_vec(),
        is_leaving: false,
        pod_cidrs: [(IpFamily::V4, 24), (IpFamily::V6, 64)]
            .map(|(family, bits)| IpCidr::new(address(family, PODS, 0), bits).unwrap())
            .to_vec(),
    }
}

/// Packets of every origin to every frontend, and to its neighbours that are none.
fn packets(view: &resolve::NodeView) -> Vec<Packet> {
    let family = view.family;
    let loopback: IpAddr =
        if family == IpFamily::V4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let mut destinations = Vec::new();
    for port in &view.ports {
        for frontend in &port.frontends {
            let protocol = port.name.protocol;
            match frontend.vip {
                Vip::Address(vip) => {
                    destinations.push((vip, protocol));
                    destinations.push((AddrPort::new(vip.addr, vip.port + 100), protocol));
                }
                Vip::NodePort(node_port) => {
                    for addr in [address(family, NODES, 10), address(family, NODES, 11), loopback] {
                        destinations.push((AddrPort::new(addr, node_port), protocol));
                    }
                }
            }
        }
    }
    let sources = [
        (Origin::Pod, address(family, PODS, 1), Some("cni0")),
        (Origin::Pod, address(family, PODS, 2), Some("veth7")),
        (Origin::Outside, address(family, OTHERS, 9), Some("eth0")),
        (Origin::Outside, address(family, OTHERS, 10), Some("eth0")),
        (Origin::Outside, address(family, PODS, 200), Some("eth0")),
        (Origin::Outside, address(family, BALANCERS, 10), Some("eth0")),
        (Origin::Node, address(family, NODES, 10), None),
        (Origin::Node, address(family, BALANCERS, 10), None),
        (Origin::Node, loopback, None),
    ];
    let mut packets = Vec::new();
    for (destination, protocol) in destinations {
        for (origin, source, interface) in sources {
            // A load balancer's address that the node may have is used to reach itself.
            if origin == Origin::Node
                && source == address(family, BALANCERS, 10)
                && destination.addr != source
            {
                continue;
            }
            packets.push(Packet {
                origin,
                source: AddrPort::new(source, 40000),
                destination,
                protocol,
                in_interface: interface.map(str::to_owned),
                bridge_port: (origin == Origin::Pod).then_some(interface == Some("cni0")),
            });
        }
    }
    packets
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_do_what_the_oracle_says(
        shapes in prop::collection::vec(service_shape(), 1..4),
        config in config(),
        nfacct in any::<bool>(),
        layout in prop::sample::select(given::LAYOUTS.to_vec()),
    ) {
        let cluster = cluster(&shapes);
        let node = node();
        let mut local = node.addresses.clone();
        local.push(address(IpFamily::V4, NODES, 11));
        let context = NodeContext::new(&config, &node, &local);
        let facts = NodeFacts { local_addresses: local.into_iter().collect() };
        let masquerade_mark = 1 << config.masquerade_bit;
        let options = LowerOptions { masquerade_mark, nfacct, layout, ..given::OPTIONS };
        for family in IpFamily::ALL {
            let view = resolve::resolve(&cluster, &context, family);
            let rules = iptables::lower(&view, &options);
            prop_assert_eq!(check::check(&rules).len(), 0);
            let mut text = Vec::new();
            emit::write_document(&mut text, &rules, "# random\n");
            let read = parse::parse(std::str::from_utf8(&text).unwrap(), family).unwrap();
            prop_assert!(given::same_rules(&read, &rules));
            for packet in packets(&view) {
                let oracle = resolve::fate(&view, &packet, &facts);
                let done = eval(&rules, &packet, &facts, &Memory::default()).fate;
                prop_assert!(oracle.is_same(&done), "{packet}: oracle {oracle}, rules {done}");
            }
        }
    }

    #[test]
    fn ipvs_rules_sets_and_servers_do_what_the_oracle_says(
        shapes in prop::collection::vec(service_shape(), 1..4),
        config in config(),
    ) {
        let cluster = cluster(&shapes);
        let config = Config { mode: Mode::Ipvs, ..config };
        let node = node();
        let mut local = node.addresses.clone();
        local.push(address(IpFamily::V4, NODES, 11));
        let context = NodeContext::new(&config, &node, &local);
        let bound_elsewhere = local.iter().copied().collect();
        let options = ipvs::LowerOptions { bound_elsewhere, ..ipvs::LowerOptions::of(&config).unwrap() };
        let facts = NodeFacts { local_addresses: local.iter().copied().collect() };
        for family in IpFamily::ALL {
            let view = resolve::resolve(&cluster, &context, family);
            let lowered = ipvs::lower(&view, &options);
            prop_assert_eq!(check::check(&lowered.rules).len(), 0);
            let addresses = lowered.addresses.clone();
            let mut program = Program::default();
            lowered.add_to(&mut program, family);
            let rules = Evaluator::new(&program, family, &facts);
            let mut packets = packets(&view);
            // The node goes to an address of Services from that very address.
            let own = packets.iter().filter(|packet| packet.origin == Origin::Node).map(|packet| Packet {
                source: AddrPort::new(packet.destination.addr, packet.source.port),
                ..packet.clone()
            });
            let own: Vec<Packet> = own.collect();
            packets.extend(own);
            for packet in packets {
                // Nobody takes a packet from elsewhere that has his own address as its source.
                if packet.origin != Origin::Node && addresses.contains(&packet.source.addr) {
                    continue;
                }
                let oracle = resolve::fate(&view, &packet, &facts);
                let done = rules.eval(&packet, &program::eval::Memory::default()).fate;
                prop_assert!(oracle.is_same(&done), "{packet}: oracle {oracle}, rules {done}");
            }
        }
    }

    #[test]
    fn the_table_of_nftables_mode_does_what_the_oracle_says(
        shapes in prop::collection::vec(service_shape(), 1..4),
        config in config(),
        cidrs in any::<bool>(),
        layout in prop::sample::select(given::LAYOUTS.to_vec()),
    ) {
        let config = Config { mode: Mode::Nftables, ..config };
        let cluster = cluster(&shapes);
        let node = node();
        let mut local = node.addresses.clone();
        local.push(address(IpFamily::V4, NODES, 11));
        let context = NodeContext::new(&config, &node, &local);
        let facts = NodeFacts { local_addresses: local.into_iter().collect() };
        let mut options = nftables::LowerOptions { layout, ..given::nftables_options(&config) };
        if cidrs {
            // Of both families; no packet of the test goes to an address of it that no Service has.
            let of = |family, bits| IpCidr::new(address(family, VIPS, 0), bits).unwrap();
            options.service_cidrs = vec![of(IpFamily::V4, 24), of(IpFamily::V6, 112)];
        }
        for family in IpFamily::ALL {
            let view = resolve::resolve(&cluster, &context, family);
            let table = nftables::lower(&view, &options);
            prop_assert_eq!(nft::check::check(&table), []);
            let mut ruleset = nft::Ruleset::default();
            ruleset.tables.insert((table.family, table.name.clone()), table);
            for packet in packets(&view) {
                let oracle = resolve::fate(&view, &packet, &facts);
                let done = nft::eval::eval(&ruleset, &packet, &facts, &nft::eval::Memory::default()).fate;
                prop_assert!(oracle.is_same(&done), "{packet}: oracle {oracle}, table {done}");
            }
        }
    }

    #[test]
    fn both_layouts_do_the_same_to_every_class_of_packets(
        shapes in prop::collection::vec(service_shape(), 1..4),
        config in config(),
        mode in prop::sample::select(vec![Mode::Iptables, Mode::Nftables]),
    ) {
        let node = node();
        let config = Config { mode, ..config };
        let context = NodeContext::new(&config, &node, &node.addresses);
        let given = Given { cluster: cluster(&shapes), config, node, context };
        for family in IpFamily::ALL {
            let report = given::compared_layouts(&given, family);
            prop_assert!(report.is_same(), "{report:#?}");
        }
    }

    #[test]
    fn a_difference_of_tables_applied_gives_what_is_wanted(
        before in prop::collection::vec(service_shape(), 0..4),
        after in prop::collection::vec(service_shape(), 0..4),
        config in config(),
        layouts in prop::array::uniform2(prop::sample::select(given::LAYOUTS.to_vec())),
    ) {
        let config = Config { mode: Mode::Nftables, ..config };
        let context = NodeContext::new(&config, &node(), &node().addresses);
        for family in IpFamily::ALL {
            let table = |shapes: &[ServiceShape], layout| {
                let view = resolve::resolve(&cluster(shapes), &context, family);
                nftables::lower(&view, &nftables::LowerOptions { layout, ..given::nftables_options(&config) })
            };
            let (live, mut wanted) = (table(&before, layouts[0]), table(&after, layouts[1]));
            let lifted = nftables::lift(&wanted);
            nftables::adopt(&mut wanted, &live);
            prop_assert_eq!(nft::check::check(&wanted), []);
            prop_assert_eq!(&nftables::lift(&wanted), &lifted);
            // All layouts say the same of Services.
            prop_assert_eq!(lifted, nftables::lift(&table(&after, layouts[0])));
            let reached = nft::diff::apply(Some(&live), &nft::diff::diff(&wanted, Some(&live)), &wanted);
            prop_assert!(nft::diff::diff(&wanted, Some(&reached)).is_empty());
            prop_assert_eq!(&reached.chains, &wanted.chains);
            prop_assert_eq!(reached.n_elements(), wanted.n_elements());
        }
    }

    #[test]
    fn listeners_do_what_the_oracle_says(
        shapes in prop::collection::vec(service_shape(), 1..4),
        config in config(),
        bound in prop::bool::weighted(0.2),
    ) {
        let node = node();
        let mut config = Config { mode: Mode::Userspace, ..config };
        config.bind_address = bound.then(|| node.addresses[0]);
        let cluster = cluster(&shapes);
        let mut local = node.addresses.clone();
        local.push(address(IpFamily::V4, NODES, 11));
        let context = NodeContext::new(&config, &node, &local);
        let facts = NodeFacts { local_addresses: local.into_iter().collect() };
        for family in IpFamily::ALL {
            let view = resolve::resolve(&cluster, &context, family);
            let options = userspace::LowerOptions {
                listen: config.bind_address.filter(|addr| IpFamily::of(*addr) == family),
                host: Some(address(family, NODES, 10)),
                ports: userspace::DEFAULT_RANGE,
                taken: BTreeSet::new(),
                previous: Arc::default(),
            };
            let lowered = userspace::lower(&view, &options);
            prop_assert_eq!(check::check(&lowered.ruleset).len(), 0);
            prop_assert_eq!(listener::check::check(&lowered.listeners).len(), 0);
            let mut text = Vec::new();
            emit::write_document(&mut text, &lowered.ruleset, "# random\n");
            let read = parse::parse(std::str::from_utf8(&text).unwrap(), family).unwrap();
            prop_assert!(given::same_rules(&read, &lowered.ruleset));
            // What the live rules lead to is found again, and kept.
            let previous = userspace::proxy_ports(&read).into();
            let again = userspace::lower(&view, &userspace::LowerOptions { previous, ..options });
            prop_assert_eq!(&again, &lowered);
            let mut program = Program::default();
            lowered.add_to(&mut program, family);
            let rules = Evaluator::new(&program, family, &facts);
            for packet in packets(&view) {
                let oracle = resolve::fate(&view, &packet, &facts);
                let done = rules.eval(&packet, &program::eval::Memory::default()).fate;
                prop_assert!(oracle.is_same(&done), "{packet}: oracle {oracle}, listeners {done}");
            }
            // So does every class of packets that either tells from others.
            let options = verify::Options { facts: &facts, n_witnesses: 3 };
            let report = verify::verify(&view, &rules, &verify::Surroundings::default(), &options);
            prop_assert!(report.is_same(), "{report:#?}");
        }
    }

    #[test]
    fn a_difference_applied_gives_what_is_wanted(
        before in prop::collection::vec(service_shape(), 0..4),
        after in prop::collection::vec(service_shape(), 0..4),
        config in config(),
        layouts in prop::array::uniform2(prop::sample::select(given::LAYOUTS.to_vec())),
    ) {
        let context = NodeContext::new(&config, &node(), &node().addresses);
        for family in IpFamily::ALL {
            let rules = |shapes: &[ServiceShape], layout| {
                let options = LowerOptions { layout, ..given::OPTIONS };
                iptables::lower(&resolve::resolve(&cluster(shapes), &context, family), &options)
            };
            let (live, wanted) = (rules(&before, layouts[0]), rules(&after, layouts[1]));
            // Both layouts say the same of Services.
            let lifted = |layout| iptables::lift(&rules(&after, layout), None);
            prop_assert_eq!(lifted(layouts[0]), lifted(layouts[1]));
            let scope = iptables::scope(&live);
            let difference = diff::diff(&wanted, &live, &scope);
            let reached = diff::apply(&live, &difference, &wanted);
            prop_assert!(given::same_rules(&reached, &wanted));
            prop_assert!(diff::diff(&wanted, &reached, &scope).is_empty());
            prop_assert!(diff::diff(&live, &live, &scope).is_empty());
        }
    }
}
