//! What neither recordings nor cases have: odd schedulers and addresses, ownership, reading back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::backend::{self, LiftedVip};
use crate::model::{Config, Ipvs, Mode, ServiceName};
use crate::net::{AddrPort, IpCidr, IpFamily, PerFamily, Protocol};
use crate::program::ipset::Entry;
use crate::program::ipvs::{Flags, RealServer, SchedulerName, ServiceKey, Timeouts, VirtualServer};
use crate::program::xtables::{ChainName, Ruleset, TableName, check, emit};
use crate::program::{Dummy, Program, Tag};
use crate::resolve::{
    Frontend, FrontendKind, Habits, LocalTraffic, NodePortScope, NodeView, PoolEndpoint, PoolKind, PortView,
    Route, Routes, SourceRanges, Vip,
};

use super::names::SetId;
use super::*;

fn at(text: &str) -> AddrPort {
    text.parse().unwrap()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn options() -> LowerOptions {
    LowerOptions {
        masquerade_mark: 0x4000,
        masquerade_all: false,
        random_fully: true,
        scheduler: SchedulerName::new("rr").unwrap(),
        bound_elsewhere: BTreeSet::from([addr("192.168.77.10")]),
        strict_arp: false,
        kernel: None,
        timeouts: None,
    }
}

/// `shop/NAME`, with two endpoints, the first of them on this node.
fn port(name: &str, frontends: &[(FrontendKind, &str)]) -> PortView {
    let everyone = |route| Routes { pods: route, node: route, outside: route };
    let forward = |masquerade| Route::Forward { pool: PoolKind::Cluster, masquerade };
    let endpoint =
        |text, on_this_node| PoolEndpoint { addr: at(text), in_cluster: true, in_local: false, on_this_node };
    let frontend = |(kind, vip): &(FrontendKind, &str)| Frontend {
        kind: *kind,
        vip: match vip.strip_prefix("node:") {
            Some(port) => Vip::NodePort(port.parse().unwrap()),
            None => Vip::Address(at(vip)),
        },
    };
    PortView {
        frontends: frontends.iter().map(frontend).collect(),
        external: Some(everyone(forward(true))),
        endpoints: vec![endpoint("10.128.0.5:8080", true), endpoint("10.128.1.5:8080", false)],
        endpoints_here: vec![at("10.128.0.5:8080"), at("10.128.0.6:8080")],
        ..PortView::bare(
            ServiceName::new("shop", name),
            "http",
            Routes { pods: forward(false), node: forward(true), outside: forward(true) },
        )
    }
}

const CLUSTER_IP: (FrontendKind, &str) = (FrontendKind::ClusterIp, "10.96.0.10:80");
const EXTERNAL_IP: (FrontendKind, &str) = (FrontendKind::ExternalIp, "198.51.100.7:80");
const BALANCER: (FrontendKind, &str) = (FrontendKind::LoadBalancer, "203.0.113.1:80");
const NODE_PORT: (FrontendKind, &str) = (FrontendKind::NodePort, "node:30080");

fn view(ports: Vec<PortView>) -> NodeView {
    NodeView {
        family: IpFamily::V4,
        ports,
        node_ports: NodePortScope::Addresses(vec![addr("192.168.77.10")]),
        localhost_node_ports: false,
        habits: Habits::of(Mode::Ipvs),
        local_traffic: IpCidr::parse_sloppy("10.128.0.0/16").map(LocalTraffic::Source),
        n_endpoints: 2,
    }
}

fn web() -> PortView {
    port("web", &[CLUSTER_IP, EXTERNAL_IP, BALANCER, NODE_PORT])
}

fn lines(ruleset: &Ruleset, table: TableName, chain: &ChainName) -> Vec<String> {
    let rules = &ruleset.chain(table, chain).unwrap().rules;
    let line = |rule| {
        let mut text = Vec::new();
        emit::write_rule(&mut text, ruleset.family, chain, rule);
        String::from_utf8(text).unwrap().trim_end().to_owned()
    };
    rules.iter().map(line).collect()
}

fn entries(lowered: &Lowered, set: SetId) -> BTreeSet<Entry> {
    lowered.sets[&set.name(IpFamily::V4)].entries.clone()
}

fn key(text: &str) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, at: at(text) }
}

fn server<'a>(lowered: &'a Lowered, vip: &str) -> &'a VirtualServer {
    &lowered.servers[&key(vip)]
}

#[test]
fn every_frontend_has_a_virtual_server_even_without_endpoints() {
    let nowhere = Routes { pods: Route::Reject, node: Route::Reject, outside: Route::Reject };
    let closed = PortView {
        internal: nowhere,
        external: Some(nowhere),
        endpoints: vec![],
        external_keeps_source: true,
        ..web()
    };
    let lowered = lower(&view(vec![closed]), &options());
    let vips = ["10.96.0.10:80", "198.51.100.7:80", "203.0.113.1:80", "192.168.77.10:30080"];
    assert_eq!(lowered.servers.keys().copied().collect::<BTreeSet<_>>(), vips.map(key).into());
    assert!(lowered.servers.values().all(|server| server.real_servers.is_empty()));
    // Whose source would be kept is told all the same.
    let vip = |text: &str| BTreeSet::from([Entry::IpPort(at(text).addr, Protocol::Tcp, 80)]);
    assert_eq!(entries(&lowered, SetId::ExternalIpLocal), vip("198.51.100.7:80"));
    assert_eq!(entries(&lowered, SetId::ExternalIp), BTreeSet::new());
    assert_eq!(entries(&lowered, SetId::LoadBalancer), vip("203.0.113.1:80"));
    assert_eq!(entries(&lowered, SetId::LoadBalancerLocal), vip("203.0.113.1:80"));
    assert_eq!(entries(&lowered, SetId::NodePortLocalTcp), [Entry::Port(30080)].into());
    // Connections of endpoints that are not used any more go on.
    assert_eq!(entries(&lowered, SetId::LoopBack).len(), 2);
}

#[test]
fn affinity_and_maglev_are_flags() {
    let lowered = |scheduler, affinity_seconds| {
        let options = LowerOptions { scheduler: SchedulerName::new(scheduler).unwrap(), ..options() };
        lower(&view(vec![PortView { affinity_seconds, ..web() }]), &options)
    };
    let of = |lowered: &Lowered| {
        let server = server(lowered, "10.96.0.10:80");
        (server.flags, server.persistence_seconds)
    };
    assert_eq!(of(&lowered("rr", None)), (Flags::default(), 0));
    assert_eq!(of(&lowered("rr", Some(10_800))), (Flags::PERSISTENT, 10_800));
    assert_eq!(of(&lowered("mh", None)), (Flags::SCHEDULER_2, 0));
    assert_eq!(of(&lowered("mh", Some(60))), (Flags::SCHEDULER_2.with(Flags::PERSISTENT), 60));
    assert_eq!(lowered("mh", Some(60)).servers[&key("10.96.0.10:80")].flags.bits(), 0x11);
}

#[test]
fn addresses_that_are_on_another_interface_are_not_bound_again() {
    let own = [
        (FrontendKind::ClusterIp, "10.96.0.10:80"),
        (FrontendKind::ExternalIp, "192.168.77.10:81"),
        (FrontendKind::LoadBalancer, "192.168.77.10:82"),
    ];
    let lowered = lower(&view(vec![port("web", &own)]), &options());
    assert_eq!(lowered.addresses, [addr("10.96.0.10")].into());
    assert_eq!(entries(&lowered, SetId::IpvsIps), [Entry::Ip(addr("10.96.0.10"))].into());
    assert!(lowered.servers.contains_key(&key("192.168.77.10:81")));
    // Cluster IPs always are.
    let taken = LowerOptions { bound_elsewhere: [addr("10.96.0.10")].into(), ..options() };
    assert_eq!(lower(&view(vec![port("web", &own[..1])]), &taken).addresses, [addr("10.96.0.10")].into());
}

#[test]
fn the_first_service_port_has_an_address_and_an_address_comes_before_a_node_port() {
    let first = port("first", &[(FrontendKind::ClusterIp, "10.96.0.10:80"), NODE_PORT]);
    let taken =
        [(FrontendKind::ClusterIp, "10.96.0.10:80"), (FrontendKind::ExternalIp, "192.168.77.10:30080")];
    let second = PortView { affinity_seconds: Some(60), ..port("second", &taken) };
    let lowered = lower(&view(vec![first, second]), &options());
    assert_eq!(server(&lowered, "10.96.0.10:80").tag, Some(Tag(0)));
    assert_eq!(server(&lowered, "192.168.77.10:30080").tag, Some(Tag(1)));
}

#[test]
fn without_node_addresses_node_ports_are_left_out() {
    let view = NodeView { node_ports: NodePortScope::Addresses(vec![]), ..view(vec![web()]) };
    let lowered = lower(&view, &options());
    assert!(lowered.servers.keys().all(|key| *key != self::key("192.168.77.10:30080")));
    assert_eq!(entries(&lowered, SetId::NodePortTcp), BTreeSet::new());
    assert!(lines(&lowered.rules, TableName::Nat, &names::NODE_PORT).is_empty());
}

#[test]
fn node_ports_of_sctp_are_kept_with_their_addresses() {
    let mut sctp = port("web", &[NODE_PORT]);
    sctp.name.protocol = Protocol::Sctp;
    sctp.external_keeps_source = true;
    let lowered = lower(&view(vec![sctp]), &options());
    let entry = BTreeSet::from([Entry::IpPort(addr("192.168.77.10"), Protocol::Sctp, 30080)]);
    assert_eq!(entries(&lowered, SetId::NodePortSctp), entry);
    assert_eq!(entries(&lowered, SetId::NodePortLocalSctp), entry);
    assert!(lines(&lowered.rules, TableName::Nat, &names::NODE_PORT)[0].contains("HASH dst,dst -j RETURN"));
}

#[test]
fn pods_are_told_as_configured() {
    let masquerade = |local_traffic, masquerade_all| {
        let view = NodeView { local_traffic, ..view(vec![port("web", &[CLUSTER_IP])]) };
        let lowered = lower(&view, &LowerOptions { masquerade_all, ..options() });
        lines(&lowered.rules, TableName::Nat, &names::SERVICES)
            .into_iter()
            .find(|line| line.ends_with("-j KUBE-MARK-MASQ"))
            .unwrap()
    };
    let prefix = || Some(LocalTraffic::InterfacePrefix("veth".into()));
    assert!(masquerade(prefix(), false).contains("! -i veth+ "));
    let all = masquerade(prefix(), true);
    assert!(!all.contains("-i ") && all.contains("KUBE-CLUSTER-IP dst,dst"), "{all}");
    let untold = masquerade(None, false);
    assert!(!untold.contains("! ") && untold.contains("KUBE-CLUSTER-IP src,dst"), "{untold}");
}

#[test]
fn source_ranges_stop_the_node_only_where_it_is_not_allowed() {
    let with = |allow_vips| {
        let allowed = vec![IpCidr::parse_sloppy("192.0.2.0/28").unwrap()];
        let port = PortView { source_ranges: Some(SourceRanges { allowed, allow_vips }), ..web() };
        lower(&view(vec![port]), &options())
    };
    let out = |lowered: &Lowered| lines(&lowered.rules, TableName::Filter, &names::IPVS_OUT_FILTER);
    let stop =
        "-A KUBE-IPVS-OUT-FILTER -s 203.0.113.1/32 -m ipvs --vproto 6 --vaddr 203.0.113.1 --vport 80 -j DROP";
    assert_eq!(out(&with(false)), [stop]);
    assert_eq!(out(&with(true)), [] as [&str; 0]);
    assert_eq!(entries(&with(false), SetId::LoadBalancerSourceIp), BTreeSet::new());
    assert_eq!(entries(&with(true), SetId::LoadBalancerSourceIp).len(), 1);
}

#[test]
fn settings_go_by_configuration_and_kernel() {
    let keys = |strict_arp, kernel| -> Vec<String> {
        let settings = sysctls(&LowerOptions { strict_arp, kernel, ..options() });
        assert!(settings.iter().all(|(key, _)| SYSCTLS.contains(&key.as_str())));
        let short = |key: &str| key.rsplit('/').next().unwrap().to_owned();
        settings.into_iter().map(|(key, value)| format!("{}={value}", short(&key))).collect()
    };
    let plain = ["conntrack=1", "expire_nodest_conn=1", "expire_quiescent_template=1", "ip_forward=1"];
    assert_eq!(keys(false, None), plain);
    assert_eq!(keys(false, Some((5, 9))), plain);
    assert_eq!(keys(false, Some((4, 0))), plain);
    for kernel in [(4, 1), (4, 19), (5, 8)] {
        assert_eq!(keys(false, Some(kernel))[1], "conn_reuse_mode=0", "{kernel:?}");
    }
    assert_eq!(keys(true, None)[4..], ["arp_ignore=1", "arp_announce=2"]);
}

#[test]
fn options_go_by_configuration() {
    let config = |ipvs| Config { masquerade_bit: 5, masquerade_all: true, ipvs, ..Config::default() };
    let section = Config::default().ipvs;
    let plain = LowerOptions::of(&config(section.clone())).unwrap();
    assert_eq!((plain.masquerade_mark, plain.masquerade_all, plain.scheduler.as_str()), (0x20, true, "rr"));
    let named = Ipvs { scheduler: "mh".to_owned(), strict_arp: true, ..section.clone() };
    let named = LowerOptions::of(&config(named)).unwrap();
    assert_eq!((named.scheduler.as_str(), named.strict_arp), ("mh", true));
    let odd = Ipvs { scheduler: "no such".to_owned(), ..section.clone() };
    assert!(LowerOptions::of(&config(odd)).is_err());
    assert_eq!(timeouts(&section), None);
    let udp = Ipvs { udp_timeout: Duration::from_secs(30), ..section };
    assert_eq!(timeouts(&udp), Some(Timeouts { tcp: 0, tcp_fin: 0, udp: 30 }));
}

/// What a machine has that was given this view.
fn live(lowered: &Lowered) -> Program {
    let device = Dummy { addresses: PerFamily { v4: Some(lowered.addresses.clone()), v6: None } };
    Program {
        xtables: PerFamily { v4: Some(lowered.rules.clone()), v6: None },
        ipvs: PerFamily { v4: Some(lowered.servers.clone()), v6: None },
        ipset: Some(lowered.sets.clone()),
        dummies: Some(BTreeMap::from([(names::DUMMY.into(), device)])),
        ..Program::default()
    }
}

#[test]
fn everything_that_is_made_is_ours() {
    let guarded = PortView {
        source_ranges: Some(SourceRanges {
            allowed: vec![IpCidr::parse_sloppy("192.0.2.0/28").unwrap()],
            allow_vips: false,
        }),
        ..web()
    };
    let lowered = lower(&view(vec![guarded]), &options());
    assert_eq!(check::check(&lowered.rules), []);
    let node_addresses = BTreeSet::from([addr("192.168.77.10")]);
    let ownership = Ownership { node_addresses: &node_addresses, exclude_cidrs: &[], exclusive: false };
    let scope = scope(&live(&lowered), IpFamily::V4, &ownership);
    for (table, chains) in &lowered.rules.tables {
        for (name, chain) in &chains.chains {
            assert_eq!(scope.owns(*table, name), chain.policy.is_none(), "{table} {name}");
            if chain.policy.is_some() {
                for rule in &chain.rules {
                    assert!(scope.jumps.contains(&(*table, *name, rule.clone())), "{table} {name}");
                }
            }
        }
    }
    assert_eq!(scope.sets, lowered.sets.keys().cloned().collect());
    assert_eq!(scope.servers, lowered.servers.keys().copied().collect());
    assert_eq!(scope.devices, [Box::from(names::DUMMY)].into());
}

#[test]
fn virtual_servers_of_others_are_theirs() {
    let mut live = live(&lower(&view(vec![web()]), &options()));
    let foreign = [
        // Another address, another port of the node, another protocol, a mark.
        key("198.51.100.99:80"),
        key("192.168.77.10:8080"),
        key("10.9.9.9:30080"),
        ServiceKey::Address { protocol: Protocol::Udp, at: at("192.168.77.10:30080") },
        ServiceKey::Mark { family: IpFamily::V4, mark: 5 },
    ];
    let servers = live.ipvs.v4.as_mut().unwrap();
    let any = servers.values().next().unwrap().clone();
    servers.extend(foreign.map(|key| (key, any.clone())));
    // One that no set has yet, on an address of the device.
    servers.insert(key("10.96.0.10:81"), any);
    let node_addresses = BTreeSet::from([addr("192.168.77.10")]);
    let owned = |live: &Program, exclude: &[&str], exclusive| {
        let exclude_cidrs: Vec<IpCidr> =
            exclude.iter().map(|text| IpCidr::parse_sloppy(text).unwrap()).collect();
        let ownership =
            Ownership { node_addresses: &node_addresses, exclude_cidrs: &exclude_cidrs, exclusive };
        let servers = scope(live, IpFamily::V4, &ownership).servers;
        servers.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let ours = [
        "10.96.0.10:80/TCP",
        "10.96.0.10:81/TCP",
        "192.168.77.10:30080/TCP",
        "198.51.100.7:80/TCP",
        "203.0.113.1:80/TCP",
    ];
    assert_eq!(owned(&live, &[], false), ours);
    assert_eq!(owned(&live, &["192.0.0.0/8", "10.96.0.0/16"], false), ours[3..]);
    // As kube-proxy: everything but what is excluded. Marks are no addresses.
    let n_marks = 1;
    assert_eq!(owned(&live, &[], true).len(), live.ipvs.v4.as_ref().unwrap().len() - n_marks);
    assert_eq!(owned(&live, &["0.0.0.0/0"], true), [] as [&str; 0]);
    // Without sets the device tells, without it the sets do.
    let no_sets = Program { ipset: None, ..live.clone() };
    assert_eq!(owned(&no_sets, &[], false), [ours[0], ours[1], ours[3], ours[4]]);
    live.dummies = None;
    assert_eq!(owned(&live, &[], false), [ours[0], ours[2], ours[3], ours[4]]);
}

#[test]
fn a_switch_of_mode_knows_what_the_other_mode_left() {
    let rules = lower(&view(vec![web()]), &options()).rules;
    let node_addresses = BTreeSet::new();
    let ownership = Ownership { node_addresses: &node_addresses, exclude_cidrs: &[], exclusive: false };
    let both = backend::scope(&Program::default(), IpFamily::V4, &ownership, None);
    assert!(both.owns(TableName::Nat, &names::LOAD_BALANCER));
    assert!(both.owns(TableName::Nat, &ChainName::literal("KUBE-SVC-0123456789ABCDEF")));
    assert!(!both.owns(TableName::Nat, &ChainName::literal("KUBE-FOO")));
    // Userspace mode has names of its own, and either is left alone by the other if it is to be kept.
    let portals = ChainName::literal("KUBE-PORTALS-HOST");
    assert!(both.owns(TableName::Nat, &portals));
    let only = |mode| backend::scope(&Program::default(), IpFamily::V4, &ownership, Some(mode));
    assert!(!only(Mode::Ipvs).owns(TableName::Nat, &portals));
    assert!(only(Mode::Ipvs).owns(TableName::Nat, &names::LOAD_BALANCER));
    assert!(only(Mode::Userspace).owns(TableName::Nat, &portals));
    assert!(!only(Mode::Userspace).owns(TableName::Nat, &names::LOAD_BALANCER));
    let jumps: BTreeSet<String> = both.jumps.iter().map(|jump| format!("{jump:?}")).collect();
    assert_eq!(jumps.len(), both.jumps.len(), "each once");
    assert!(holds_ours(&rules) && backend::holds_ours(&rules));
    assert!(!holds_ours(&Ruleset::empty(IpFamily::V4)));
}

#[test]
fn virtual_servers_are_read_back_to_the_service_that_they_are_for() {
    let port = PortView { health_check_node_port: Some(31000), affinity_seconds: Some(60), ..web() };
    let view = view(vec![port]);
    let mut lowered = lower(&view, &options());
    let endpoints = |lowered: &mut Lowered, vip| {
        lowered.servers.get_mut(&key(vip)).unwrap().real_servers.values_mut().for_each(|one| one.weight = 0);
    };
    endpoints(&mut lowered, "203.0.113.1:80");
    let lifted = lift(&lowered.servers, &lowered.sets, Some(&view));
    let kinds: Vec<_> = lifted.iter().map(|one| (one.at.to_string(), one.kind)).collect();
    assert_eq!(
        kinds,
        [
            ("10.96.0.10:80".to_owned(), Some(FrontendKind::ClusterIp)),
            ("192.168.77.10:30080".to_owned(), Some(FrontendKind::NodePort)),
            ("198.51.100.7:80".to_owned(), Some(FrontendKind::ExternalIp)),
            ("203.0.113.1:80".to_owned(), Some(FrontendKind::LoadBalancer)),
        ]
    );
    assert!(lifted.iter().all(|one| one.affinity_seconds == Some(60)));
    let one = RealServer::masqueraded(1);
    assert_eq!(lifted[0].endpoints, [(at("10.128.0.5:8080"), one), (at("10.128.1.5:8080"), one)].into());

    let named = ports(&lifted, &lowered.sets, Some(&view));
    assert_eq!(named.len(), 1);
    let port = &named[&("shop/web:http".to_owned(), Protocol::Tcp)];
    assert_eq!(port.cluster_ip, Some(at("10.96.0.10:80")));
    let vips = ["10.96.0.10:80", "198.51.100.7:80", "203.0.113.1:80"].map(|vip| LiftedVip::Address(at(vip)));
    let others = [LiftedVip::NodePort(30080), LiftedVip::HealthCheck(31000)];
    assert_eq!(port.vips, vips.into_iter().chain(others).collect());
    assert_eq!(port.endpoints, [at("10.128.0.5:8080"), at("10.128.1.5:8080")].into());
    // Nobody there takes new connections.
    assert_eq!(port.closed, [LiftedVip::Address(at("203.0.113.1:80"))].into());

    // Without decisions they go by their addresses.
    let unnamed = lift(&lowered.servers, &lowered.sets, None);
    let strangers = ports(&unnamed, &lowered.sets, None);
    let names: Vec<&str> = strangers.keys().map(|(name, _)| name.as_str()).collect();
    let expected = ["10.96.0.10:80", "198.51.100.7:80", "203.0.113.1:80", "node:30080"];
    assert_eq!(names, expected.map(|at| format!("virtual server {at}")));
}
