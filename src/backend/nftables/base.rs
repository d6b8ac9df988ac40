//! The fixed part of nftables mode: base chains, jumps, containers and the rules that no Service changes, as tables of data
//! (reference sections 4.2 to 4.5).

use std::net::{IpAddr, Ipv6Addr};

use crate::net::{IpCidr, IpFamily};
use crate::program::nft::{
    Base, Chain, ChainKind, CtState, DataType, Element, Expr, FibType, Hook, InterfaceName, Key, Keys,
    MapRef, Meta, NatFlags, Policy, RejectWith, Right, Rule, Scalar, ScalarType, Set, Stmt, Table, Verdict,
};
use crate::resolve::{LocalTraffic, NodePortScope, NodeView};

use super::{LowerOptions, comment, commented, names};

/// Base chains: name, type, hook, priority. Filters before DNAT see the address that the sender meant.
const BASE_CHAINS: [(&str, ChainKind, Hook, i32); 8] = [
    (names::PREROUTING_PRE_DNAT, ChainKind::Filter, Hook::Prerouting, -110),
    (names::OUTPUT_PRE_DNAT, ChainKind::Filter, Hook::Output, -110),
    (names::FILTER_INPUT, ChainKind::Filter, Hook::Input, 0),
    (names::FILTER_FORWARD, ChainKind::Filter, Hook::Forward, 0),
    (names::FILTER_OUTPUT, ChainKind::Filter, Hook::Output, 0),
    (names::NAT_PREROUTING, ChainKind::Nat, Hook::Prerouting, -100),
    (names::NAT_OUTPUT, ChainKind::Nat, Hook::Output, -100),
    (names::NAT_POSTROUTING, ChainKind::Nat, Hook::Postrouting, 100),
];

/// Jumps of base chains in order: from, to, only for new connections.
const JUMPS: [(&str, &str, bool); 11] = [
    (names::FILTER_INPUT, names::NODE_PORTS_CHECK, true),
    (names::FILTER_INPUT, names::ENDPOINTS_CHECK, true),
    (names::FILTER_FORWARD, names::ENDPOINTS_CHECK, true),
    (names::FILTER_OUTPUT, names::ENDPOINTS_CHECK, true),
    (names::PREROUTING_PRE_DNAT, names::FIREWALL_CHECK, true),
    (names::OUTPUT_PRE_DNAT, names::FIREWALL_CHECK, true),
    (names::NAT_OUTPUT, names::SERVICES, false),
    (names::NAT_PREROUTING, names::SERVICES, false),
    (names::NAT_POSTROUTING, names::MASQUERADING, false),
    (names::FILTER_FORWARD, names::CLUSTER_IPS_CHECK, true),
    (names::FILTER_OUTPUT, names::CLUSTER_IPS_CHECK, true),
];

/// What a container holds.
#[derive(Clone, Copy)]
enum Holds {
    /// Addresses.
    Addresses,
    /// Address, address, protocol, port.
    Pairs,
    /// A verdict for address, protocol, port.
    OfAddresses,
    /// A verdict for protocol, port.
    OfPorts,
}

/// Sets and maps with their comments.
const CONTAINERS: [(&str, Holds, &str); 7] = [
    (names::HAIRPIN, Holds::Pairs, "service hairpin connections"),
    (names::CLUSTER_IPS, Holds::Addresses, "Active ClusterIPs"),
    (
        names::NO_ENDPOINT_SERVICES,
        Holds::OfAddresses,
        "vmap to drop or reject packets to services with no endpoints",
    ),
    (
        names::NO_ENDPOINT_NODE_PORTS,
        Holds::OfPorts,
        "vmap to drop or reject packets to service nodeports with no endpoints",
    ),
    (names::FIREWALL_IPS, Holds::OfAddresses, "destinations that are subject to LoadBalancerSourceRanges"),
    (names::SERVICE_IPS, Holds::OfAddresses, "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
    (names::SERVICE_NODE_PORTS, Holds::OfPorts, "NodePort traffic"),
];

/// Adds all of it.
pub(super) fn add(table: &mut Table, view: &NodeView, options: &LowerOptions) {
    for (name, kind, hook, priority) in BASE_CHAINS {
        let base = Base { kind, hook, priority, policy: Policy::Accept };
        let jumps =
            JUMPS.iter().filter(|(from, ..)| *from == name).map(|(_, to, only_new)| jump(to, *only_new));
        let chain = Chain { base: Some(base), comment: None, rules: jumps.collect() };
        table.chains.insert(names::fixed(name), chain);
    }
    for (name, holds, text) in CONTAINERS {
        table.sets.insert(names::fixed(name), container(view.family, holds, text));
    }
    if let NodePortScope::Addresses(addresses) = &view.node_ports {
        let mut set = container(view.family, Holds::Addresses, "IPs that accept NodePort traffic");
        // Node ports on loopback are not to be had in this mode.
        let answering = addresses.iter().filter(|addr| !addr.is_loopback());
        set.elements.extend(answering.map(|addr| (Key::exact([Scalar::from(*addr)]), Element::default())));
        table.sets.insert(names::fixed(names::NODE_PORT_IPS), set);
    }
    let chains = [
        (
            names::NODE_PORTS_CHECK,
            vec![Rule::new(node_port_lookup(view, false, names::NO_ENDPOINT_NODE_PORTS))],
        ),
        (names::ENDPOINTS_CHECK, vec![Rule::new(vec![vip_lookup(view.family, names::NO_ENDPOINT_SERVICES)])]),
        (names::FIREWALL_CHECK, vec![Rule::new(vec![vip_lookup(view.family, names::FIREWALL_IPS)])]),
        (names::CLUSTER_IPS_CHECK, cluster_ips_check(view.family, options)),
        (names::MASQUERADING, masquerading(view.family, options)),
        (names::SERVICES, services(view, options)),
    ];
    for (name, rules) in chains {
        super::add_chain(table, names::fixed(name), rules);
    }
    let reject = Chain {
        base: None,
        comment: comment("helper for @no-endpoint-services / @no-endpoint-nodeports"),
        rules: vec![Rule::new(vec![Stmt::Reject(RejectWith::PortUnreachable)])],
    };
    table.chains.insert(names::fixed(names::REJECT), reject);
}

fn jump(to: &'static str, only_new: bool) -> Rule {
    let verdict = Stmt::Verdict(Verdict::Jump(names::fixed(to)));
    let only_new = only_new.then_some(Stmt::CtState { states: CtState::NEW, negated: false });
    Rule::new(only_new.into_iter().chain([verdict]).collect())
}

fn container(family: IpFamily, holds: Holds, text: &str) -> Set {
    let addr = ScalarType::addr(family);
    let (mut key, gives_verdict) = match holds {
        Holds::Addresses => (vec![addr], false),
        Holds::Pairs => (vec![addr.clone(), addr], false),
        Holds::OfAddresses => (vec![addr], true),
        Holds::OfPorts => (Vec::new(), true),
    };
    if !matches!(holds, Holds::Addresses) {
        key.extend([ScalarType::InetProto, ScalarType::InetService]);
    }
    Set { key, data: gives_verdict.then_some(DataType::Verdict), comment: comment(text), ..Set::default() }
}

/// `daddr . l4proto . dport vmap @map`.
fn vip_lookup(family: IpFamily, map: &'static str) -> Stmt {
    let key = Expr::concat([Expr::destination(family), Expr::protocol(), Expr::port()]);
    Stmt::Vmap { key, map: MapRef::Named(names::fixed(map)) }
}

/// The lookup of a node port, of packets that may be for one.
fn node_port_lookup(view: &NodeView, ask_routing: bool, map: &'static str) -> Vec<Stmt> {
    let daddr = Expr::destination(view.family);
    let mut stmts = match &view.node_ports {
        NodePortScope::AllLocal { .. } => {
            let local = Stmt::is(Expr::FibType { source: false }, Scalar::FibType(FibType::Local));
            let right = Right::Keys(Keys::one(Key::cidr(&loopback(view.family))));
            let not_loopback = Stmt::Match { left: daddr, negated: true, right };
            ask_routing.then_some(local).into_iter().chain([not_loopback]).collect()
        }
        NodePortScope::Addresses(_) => vec![Stmt::in_set(daddr, names::fixed(names::NODE_PORT_IPS))],
    };
    let key = Expr::concat([Expr::protocol(), Expr::port()]);
    stmts.push(Stmt::Vmap { key, map: MapRef::Named(names::fixed(map)) });
    stmts
}

fn loopback(family: IpFamily) -> IpCidr {
    let v4 = || IpCidr::new(IpAddr::from([127, 0, 0, 0]), 8).unwrap_or(IpCidr::any(IpFamily::V4));
    match family {
        IpFamily::V4 => v4(),
        IpFamily::V6 => IpCidr::host(Ipv6Addr::LOCALHOST.into()),
    }
}

fn cluster_ips_check(family: IpFamily, options: &LowerOptions) -> Vec<Rule> {
    let daddr = || Expr::destination(family);
    let unknown_port = vec![
        Stmt::in_set(daddr(), names::fixed(names::CLUSTER_IPS)),
        Stmt::Reject(RejectWith::PortUnreachable),
    ];
    let mut rules = vec![commented(Rule::new(unknown_port), "Reject traffic to invalid ports of ClusterIPs")];
    let cidrs = options.service_cidrs.iter().filter(|cidr| cidr.family() == family);
    let keys: Vec<Key> = cidrs.map(Key::cidr).collect();
    if !keys.is_empty() {
        let within = Stmt::Match { left: daddr(), negated: false, right: Right::Keys(Keys::new(keys)) };
        let unallocated = Rule::new(vec![within, Stmt::Verdict(Verdict::Drop)]);
        rules.push(commented(unallocated, UNALLOCATED));
    }
    rules
}

const UNALLOCATED: &str = "Drop traffic to unallocated ClusterIPs";

/// Takes over from a live table what is known of ServiceCIDRs, if nothing else was said of them: manifests do not tell.
pub(super) fn adopt_service_cidrs(wanted: &mut Table, live: &Table) {
    let is_it = |rule: &&Rule| rule.comment.as_ref().is_some_and(|comment| comment.as_str() == UNALLOCATED);
    let known =
        live.chains.get(names::CLUSTER_IPS_CHECK).and_then(|chain| chain.rules.iter().find(is_it)).cloned();
    if let Some(chain) = wanted.chains.get_mut(names::CLUSTER_IPS_CHECK)
        && chain.rules.iter().all(|rule| !is_it(&rule))
    {
        chain.rules.extend(known.map(|rule| Rule { handle: None, tag: None, ..rule }));
    }
}

/// Where a table discards packets to cluster IPs that no Service has.
pub(super) fn guarded_cidrs(table: &Table) -> Vec<IpCidr> {
    let is_it = |rule: &&Rule| rule.comment.as_ref().is_some_and(|comment| comment.as_str() == UNALLOCATED);
    let rules = table.chains.get(names::CLUSTER_IPS_CHECK).into_iter().flat_map(|chain| &chain.rules);
    let mut found = Vec::new();
    for stmt in rules.filter(is_it).flat_map(|rule| &rule.stmts) {
        if let Stmt::Match { right: Right::Keys(keys), .. } = stmt {
            found.extend(keys.as_slice().iter().filter_map(network));
        }
    }
    found
}

/// The network that an interval of addresses is, if it is one.
fn network(key: &Key) -> Option<IpCidr> {
    let (first, last) = (key.first().first()?.addr()?, key.last().first()?.addr()?);
    let is_whole = |cidr: &IpCidr| (cidr.network(), cidr.last()) == (first, last);
    (0..=IpFamily::of(first).bits()).filter_map(|len| IpCidr::new(first, len)).find(is_whole)
}

fn masquerading(family: IpFamily, options: &LowerOptions) -> Vec<Rule> {
    let mark = options.masquerade_mark;
    let masquerade = || Stmt::Masquerade(NatFlags { fully_random: true, ..NatFlags::default() });
    let unset = Right::Keys(Keys::one(Key::exact([Scalar::Mark(0)])));
    let marked = Stmt::Match { left: Expr::Mark { mask: mark }, negated: true, right: unset };
    let who = Expr::concat([Expr::source(family), Expr::destination(family), Expr::protocol(), Expr::port()]);
    vec![
        // The mark is cleared, so that a packet that is routed once more is not masqueraded twice.
        Rule::new(vec![marked, Stmt::SetMark { mask: 0, value: mark }, masquerade()]),
        Rule::new(vec![
            Stmt::CtNat { snat: false, dnat: true },
            Stmt::in_set(who, names::fixed(names::HAIRPIN)),
            masquerade(),
        ]),
    ]
}

fn services(view: &NodeView, options: &LowerOptions) -> Vec<Rule> {
    let for_cluster_ip = Stmt::in_set(Expr::destination(view.family), names::fixed(names::CLUSTER_IPS));
    let mark = set_mark(options);
    let masquerade = if options.masquerade_all {
        Some(commented(Rule::new(vec![for_cluster_ip, mark]), "masquerade all clusterIP traffic"))
    } else {
        from_pods(view, true).map(|not_pods| {
            let rule = Rule::new(vec![for_cluster_ip, not_pods, mark]);
            commented(rule, "masquerade clusterIP traffic from outside cluster")
        })
    };
    let lookups = [
        Rule::new(vec![vip_lookup(view.family, names::SERVICE_IPS)]),
        Rule::new(node_port_lookup(view, true, names::SERVICE_NODE_PORTS)),
    ];
    masquerade.into_iter().chain(lookups).collect()
}

/// Asks for source NAT.
pub(super) fn set_mark(options: &LowerOptions) -> Stmt {
    Stmt::SetMark { mask: options.masquerade_mark, value: options.masquerade_mark }
}

/// Goes on with traffic of pods, or with all other traffic; `None` if the two cannot be told apart.
pub(super) fn from_pods(view: &NodeView, negated: bool) -> Option<Stmt> {
    let interface = |name: String| {
        let name = InterfaceName::new(&name)?;
        Some((Expr::Meta(Meta::InputName), Key::exact([Scalar::Interface(name)])))
    };
    let (left, key) = match view.local_traffic.as_ref()? {
        LocalTraffic::Source(cidr) => (Expr::source(view.family), Key::cidr(cidr)),
        LocalTraffic::Interface(name) => interface(name.to_string())?,
        LocalTraffic::InterfacePrefix(prefix) => interface(format!("{prefix}*"))?,
    };
    Some(Stmt::Match { left, negated, right: Right::Keys(Keys::one(key)) })
}
