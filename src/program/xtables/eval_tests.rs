//! Tests of the evaluator, on rules made by hand.

use super::*;
use crate::net::{IpCidr, IpFamily, PerFamily, Protocol};
use crate::packet::{Choice, PacketContext, parse_packet};
use crate::program::ipset::SetName;
use crate::program::ipset::eval::Tuple;
use crate::program::xtables::{
    AddrMatch, AddrType, Chain, ConntrackStates, InterfaceMatch, Interfaces, IpvsMatch, MarkMatch, Match,
    PortRange, PortsMatch, ProtocolMatch, Recent, RecentAction, RejectWith, SetMatch, Side,
};
use TableName::{Filter, Mangle, Nat, Raw};

const MARK: u32 = 0x4000;

fn name(text: &str) -> ChainName {
    ChainName::new(text).unwrap()
}

fn cidr(text: &str) -> IpCidr {
    IpCidr::parse_sloppy(text).unwrap()
}

fn packet(text: &str) -> Packet {
    let context = PacketContext {
        node_addresses: PerFamily { v4: "192.168.77.10".parse().ok(), v6: "fd00:77::10".parse().ok() },
        pod_interface: Some("veth0".to_owned()),
        uplink: Some("eth0".to_owned()),
    };
    parse_packet(text, &context).unwrap()
}

fn facts() -> NodeFacts {
    NodeFacts { local_addresses: ["192.168.77.10".parse().unwrap()].into() }
}

/// Adds rules to a chain; an upper-case name without `-` is a built-in chain.
fn add(ruleset: &mut Ruleset, table: TableName, chain: &str, rules: impl IntoIterator<Item = Rule>) {
    let policy = table.built_in_chains().contains(&chain).then_some(Policy::Accept);
    let chains = &mut ruleset.tables.entry(table).or_default().chains;
    let chain = chains.entry(name(chain)).or_insert_with(|| Chain { policy, ..Chain::default() });
    chain.rules.extend(rules);
}

fn jump(chain: &str) -> Rule {
    Rule::to(Target::Jump(name(chain)))
}

fn dnat(to: &str) -> Rule {
    Rule::to(Target::Dnat(to.parse().unwrap()))
}

fn mark(value: u32, mask: u32) -> Rule {
    Rule::to(Target::Mark { value, mask })
}

fn is_marked(value: u32) -> Match {
    Match::Mark(MarkMatch { value, mask: MARK, negated: false })
}

fn new() -> Match {
    Match::Conntrack(ConntrackStates { bits: ConntrackStates::NEW, negated: false })
}

fn tcp_to(mut rule: Rule, vip: &str) -> Rule {
    let vip: AddrPort = vip.parse().unwrap();
    rule.protocol = Some(ProtocolMatch { number: 6, negated: false });
    let ports =
        PortsMatch { protocol: Protocol::Tcp, source: None, destination: Some(PortRange::single(vip.port)) };
    rule.to_address(vip.addr).matching(Match::Ports(ports))
}

fn one_in(n: usize) -> Match {
    Match::Probability(((1u64 << 31) as f64 / n as f64).round() as u32)
}

fn recent(list: &str, action: RecentAction) -> Match {
    Match::Recent(Box::new(Recent { list: list.into(), action }))
}

fn unmodelled(text: &str) -> Match {
    Match::Unmodelled(text.into())
}

/// The jumps and fixed rules of a node that serves 10.96.0.1:80.
fn node() -> Ruleset {
    let mut rules = Ruleset::empty(IpFamily::V4);
    for chain in ["PREROUTING", "OUTPUT"] {
        add(&mut rules, Nat, chain, [jump("SERVICES")]);
    }
    add(&mut rules, Nat, "POSTROUTING", [jump("POST")]);
    let unmarked = Match::Mark(MarkMatch { value: MARK, mask: MARK, negated: true });
    let masquerade = Rule::to(Target::Masquerade { random_fully: true });
    add(&mut rules, Nat, "POST", [Rule::to(Target::Return).matching(unmarked), mark(MARK, 0), masquerade]);
    add(&mut rules, Nat, "MASQ", [mark(MARK, MARK)]);
    for chain in ["INPUT", "FORWARD", "OUTPUT"] {
        add(
            &mut rules,
            Filter,
            chain,
            [jump("NO-ENDPOINTS").matching(new()), jump("FIREWALL").matching(new())],
        );
    }
    add(&mut rules, Filter, "NO-ENDPOINTS", []);
    add(&mut rules, Filter, "FIREWALL", []);
    let not_pods = tcp_to(jump("MASQ"), "10.96.0.1:80").source(cidr("10.128.0.0/16"), true);
    add(&mut rules, Nat, "SERVICES", [tcp_to(jump("SVC"), "10.96.0.1:80")]);
    add(&mut rules, Nat, "SVC", [not_pods]);
    rules
}

/// Makes SVC spread over `endpoints`, each with its own chain and hairpin rule.
fn spread(rules: &mut Ruleset, endpoints: &[AddrPort], sticky: bool) {
    let chain_of = |index: usize| format!("SEP-{index}");
    if sticky {
        let check = RecentAction::Check { seconds: 10, reap: true };
        let checks = (0..endpoints.len())
            .map(|index| jump(&chain_of(index)).matching(recent(&chain_of(index), check)));
        add(rules, Nat, "SVC", checks.collect::<Vec<_>>());
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let rule = jump(&chain_of(index));
        let last = index + 1 == endpoints.len();
        let rule = if last { rule } else { rule.matching(one_in(endpoints.len() - index)) };
        add(rules, Nat, "SVC", [rule]);
        let mut to = Rule::to(Target::Dnat(*endpoint));
        if sticky {
            to = to.matching(recent(&chain_of(index), RecentAction::Set));
        }
        add(rules, Nat, &chain_of(index), [jump("MASQ").source(IpCidr::host(endpoint.addr), false), to]);
    }
}

fn three() -> Vec<AddrPort> {
    ["10.128.0.5:8080", "10.128.0.6:8080", "10.128.1.5:8080"]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect()
}

fn run(rules: &Ruleset, text: &str) -> Evaluation {
    eval(rules, &packet(text), &facts(), &Memory::default())
}

#[track_caller]
fn check(rules: &Ruleset, packet: &str, fate: &str) {
    assert_eq!(run(rules, packet).fate.to_string(), fate, "{packet}");
}

#[test]
fn a_pool_is_spread_evenly() {
    let mut rules = node();
    spread(&mut rules, &three(), false);
    check(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "10.128.0.5:8080|10.128.0.6:8080|10.128.1.5:8080");
    check(
        &rules,
        "outside 192.0.2.9 -> 10.96.0.1:80/tcp",
        "10.128.0.5:8080|10.128.0.6:8080|10.128.1.5:8080 masq",
    );
    check(&rules, "node -> 10.96.0.1:80/tcp", "10.128.0.5:8080|10.128.0.6:8080|10.128.1.5:8080 masq");
    check(&rules, "pod 10.128.0.9 -> 10.96.0.1:81/tcp", "none");
    check(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/udp", "none");
    check(&rules, "pod fd00::9 -> [fd00:10::a]:80/tcp", "none");
    let Fate::Forwarded(choices) = run(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp").fate else { panic!() };
    assert!(choices.iter().all(|choice| (choice.probability - 1.0 / 3.0).abs() < 1e-8), "{choices:?}");
}

#[test]
fn an_endpoint_that_reaches_itself_is_masqueraded() {
    let mut rules = node();
    spread(&mut rules, &three(), false);
    check(
        &rules,
        "pod 10.128.0.6 -> 10.96.0.1:80/tcp",
        "10.128.0.5:8080|10.128.0.6:8080+masq|10.128.1.5:8080",
    );
}

#[test]
fn matched_rules_are_told_in_order() {
    let mut rules = node();
    spread(&mut rules, &three()[..1], false);
    let matched = run(&rules, "outside 192.0.2.9 -> 10.96.0.1:80/tcp").matched;
    let told: Vec<String> =
        matched.iter().map(|(table, chain, index)| format!("{table} {chain} {index}")).collect();
    assert_eq!(
        told,
        [
            "nat PREROUTING 0",
            "nat SERVICES 0",
            "nat SVC 0",
            "nat MASQ 0",
            "nat SVC 1",
            "nat SEP-0 1",
            "filter FORWARD 0",
            "filter FORWARD 1",
            "nat POSTROUTING 0",
            "nat POST 1",
            "nat POST 2",
        ]
    );
}

#[test]
fn verdicts_of_filter_count_after_translation() {
    let mut rules = node();
    spread(&mut rules, &three(), false);
    let reject = Rule::to(Target::Reject(RejectWith::PortUnreachable));
    add(
        &mut rules,
        Filter,
        "NO-ENDPOINTS",
        [
            tcp_to(reject.clone(), "10.96.0.2:80"),
            tcp_to(Rule::to(Target::Drop), "10.96.0.3:80"),
            tcp_to(reject, "10.96.0.1:80"),
        ],
    );
    for origin in ["pod 10.128.0.9", "outside 192.0.2.9", "node"] {
        check(&rules, &format!("{origin} -> 10.96.0.2:80/tcp"), "reject");
        check(&rules, &format!("{origin} -> 10.96.0.3:80/tcp"), "drop");
    }
    // The Service's own address is not seen any more.
    check(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "10.128.0.5:8080|10.128.0.6:8080|10.128.1.5:8080");
    add(
        &mut rules,
        Filter,
        "NO-ENDPOINTS",
        three().iter().map(|to| tcp_to(Rule::to(Target::Drop), &to.to_string())),
    );
    check(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "drop");
}

#[test]
fn a_part_of_the_chances_is_no_fate() {
    let mut rules = node();
    spread(&mut rules, &three(), false);
    add(&mut rules, Filter, "FORWARD", [tcp_to(Rule::to(Target::Drop), "10.128.0.5:8080")]);
    check(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "unknown: mixed: forwarded 0.6667, dropped 0.3333");
}

#[test]
fn a_firewall_drops_what_it_did_not_translate() {
    let mut rules = node();
    spread(&mut rules, &three()[..1], false);
    let lb = "203.0.113.1:80";
    add(&mut rules, Nat, "SERVICES", [tcp_to(jump("FW"), lb)]);
    add(
        &mut rules,
        Nat,
        "FW",
        [jump("EXT").source(cidr("192.0.2.0/28"), false), Rule::default().comment("others are dropped")],
    );
    add(&mut rules, Nat, "EXT", [jump("MASQ"), jump("SVC")]);
    add(&mut rules, Filter, "FIREWALL", [tcp_to(Rule::to(Target::Drop), lb)]);
    check(&rules, "outside 192.0.2.9 -> 203.0.113.1:80/tcp", "10.128.0.5:8080 masq");
    check(&rules, "outside 192.0.2.99 -> 203.0.113.1:80/tcp", "drop");
    check(&rules, "node -> 203.0.113.1:80/tcp", "drop");
}

#[test]
fn node_ports_are_asked_at_local_addresses() {
    let local = |negated| Match::AddrType(AddrType { source_local: None, destination_local: Some(negated) });
    let mut rules = node();
    spread(&mut rules, &three()[..1], false);
    add(&mut rules, Nat, "SERVICES", [jump("NODEPORTS").matching(local(false))]);
    add(&mut rules, Nat, "NODEPORTS", [tcp_to(jump("EXT"), "192.168.77.10:30080")]);
    add(&mut rules, Nat, "EXT", [jump("MASQ"), jump("SVC")]);
    for origin in ["outside 192.0.2.9", "pod 10.128.0.9", "node", "node 127.0.0.1"] {
        check(&rules, &format!("{origin} -> node:30080/tcp"), "10.128.0.5:8080 masq");
        check(&rules, &format!("{origin} -> node:30081/tcp"), "none");
    }
    // INPUT is asked for what stays here, FORWARD for what goes on.
    let drop_input = Rule::to(Target::Drop).matching(local(false));
    add(&mut rules, Filter, "INPUT", [drop_input.clone()]);
    add(&mut rules, Filter, "FORWARD", [drop_input]);
    check(&rules, "outside 192.0.2.9 -> node:30080/tcp", "10.128.0.5:8080 masq");
    check(&rules, "outside 192.0.2.9 -> node:30081/tcp", "drop");
    check(&rules, "node -> node:30081/tcp", "drop");
}

#[test]
fn an_endpoint_on_the_node_itself_is_input() {
    let mut rules = node();
    spread(&mut rules, &["192.168.77.10:6443".parse().unwrap()], false);
    add(&mut rules, Filter, "FORWARD", [Rule::to(Target::Drop)]);
    check(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "192.168.77.10:6443");
    check(&rules, "node -> 10.96.0.1:80/tcp", "192.168.77.10:6443 masq");
    let mut closed = rules.clone();
    add(&mut closed, Filter, "INPUT", [Rule::to(Target::Drop)]);
    check(&closed, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "drop");
    check(&closed, "node -> 10.96.0.1:80/tcp", "drop");
    let input =
        Interfaces { input: Some(InterfaceMatch { name: "lo".into(), negated: false }), output: None };
    add(&mut rules, Filter, "INPUT", [Rule { interfaces: Some(Box::new(input)), ..Rule::to(Target::Drop) }]);
    check(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "192.168.77.10:6443");
    check(&rules, "node -> 10.96.0.1:80/tcp", "drop");
}

#[test]
fn affinity_remembers_and_keeps() {
    let mut rules = node();
    spread(&mut rules, &three(), true);
    let all = run(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp");
    assert_eq!(all.fate.to_string(), "10.128.0.5:8080|10.128.0.6:8080|10.128.1.5:8080");
    let told: Vec<String> = all.remembered.iter().map(|(to, lists)| format!("{to} {lists:?}")).collect();
    assert_eq!(
        told,
        ["10.128.0.5:8080 {\"SEP-0\"}", "10.128.0.6:8080 {\"SEP-1\"}", "10.128.1.5:8080 {\"SEP-2\"}"]
    );
    let memory = Memory {
        remembered: [("SEP-1".to_owned(), "10.128.0.9".parse().unwrap())].into(),
        ..Memory::default()
    };
    let kept = |text: &str| eval(&rules, &packet(text), &facts(), &memory).fate.to_string();
    assert_eq!(kept("pod 10.128.0.9 -> 10.96.0.1:80/tcp"), "10.128.0.6:8080");
    assert_eq!(kept("pod 10.128.0.8 -> 10.96.0.1:80/tcp"), "10.128.0.5:8080|10.128.0.6:8080|10.128.1.5:8080");
}

#[test]
fn matches_are_asked_in_order() {
    let set = |list: &str| recent(list, RecentAction::Set);
    let check_list = |list: &str| recent(list, RecentAction::Check { seconds: 1, reap: false });
    let mut rules = Ruleset::empty(IpFamily::V4);
    add(
        &mut rules,
        Nat,
        "PREROUTING",
        [
            Rule::to(Target::Drop).matching(set("a")).matching(is_marked(MARK)),
            Rule::to(Target::Drop).matching(is_marked(MARK)).matching(set("b")),
            Rule::to(Target::Drop).matching(check_list("b")),
            dnat("10.128.0.5:80").matching(check_list("a")).matching(one_in(4)),
            Rule::default().matching(one_in(2)).matching(set("c")).matching(is_marked(MARK)),
            dnat("10.128.0.6:80").matching(check_list("c")),
            dnat("10.128.0.7:80"),
        ],
    );
    let Fate::Forwarded(choices) = run(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp").fate else { panic!() };
    let told: Vec<String> =
        choices.iter().map(|one| format!("{} {}", one.endpoint, one.probability)).collect();
    assert_eq!(told, ["10.128.0.5:80 0.25", "10.128.0.6:80 0.375", "10.128.0.7:80 0.375"]);
}

#[test]
fn marks_come_and_go() {
    let mut rules = Ruleset::empty(IpFamily::V4);
    add(
        &mut rules,
        Mangle,
        "PREROUTING",
        [
            mark(0xff, 0xff),
            mark(MARK, MARK),
            mark(0x0f, 0),
            Rule::to(Target::Accept).matching(Match::Mark(MarkMatch {
                value: 0x40f0,
                mask: u32::MAX,
                negated: false,
            })),
            Rule::to(Target::Drop),
        ],
    );
    add(&mut rules, Filter, "FORWARD", [mark(MARK, 0), Rule::to(Target::Drop).matching(is_marked(MARK))]);
    check(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "none");
    add(&mut rules, Filter, "FORWARD", [Rule::to(Target::Drop).matching(is_marked(0))]);
    check(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "drop");
}

#[test]
fn goto_and_return_come_back_to_the_right_place() {
    let text = "pod 10.128.0.9 -> 10.96.0.1:80/tcp";
    let base = |first: Rule| {
        let mut rules = Ruleset::empty(IpFamily::V4);
        add(&mut rules, Nat, "PREROUTING", [jump("OUTER"), dnat("10.0.0.1:1")]);
        add(&mut rules, Nat, "OUTER", [first, dnat("10.0.0.2:2")]);
        add(&mut rules, Nat, "INNER", [Rule::to(Target::Return), dnat("10.0.0.3:3")]);
        rules
    };
    check(&base(jump("INNER")), text, "10.0.0.2:2");
    check(&base(Rule::to(Target::Goto(name("INNER")))), text, "10.0.0.1:1");
    check(&base(Rule::to(Target::Return)), text, "10.0.0.1:1");
    check(&base(Rule::to(Target::Accept)), text, "none");
    check(&base(jump("OUTER")), text, "unknown: nat: chain OUTER calls itself");
    check(&base(jump("NOWHERE")), text, "unknown: nat: chain NOWHERE does not exist");
    let mut returns = base(Rule::default());
    returns.tables.get_mut(&Nat).unwrap().chains.get_mut(&name("PREROUTING")).unwrap().rules[0] =
        Rule::to(Target::Return);
    check(&returns, text, "none");
}

#[test]
fn a_policy_is_the_last_word() {
    let mut rules = node();
    spread(&mut rules, &three()[..1], false);
    let forward = rules.tables.get_mut(&Filter).unwrap().chains.get_mut(&name("FORWARD")).unwrap();
    forward.policy = Some(Policy::Drop);
    check(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "drop");
    check(&rules, "pod 10.128.0.9 -> node:80/tcp", "none");
    let established =
        ConntrackStates { bits: ConntrackStates::RELATED | ConntrackStates::ESTABLISHED, negated: false };
    let translated = ConntrackStates { bits: ConntrackStates::DNAT, negated: false };
    add(&mut rules, Filter, "FORWARD", [Rule::to(Target::Accept).matching(Match::Conntrack(established))]);
    check(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "drop");
    add(&mut rules, Filter, "FORWARD", [Rule::to(Target::Accept).matching(Match::Conntrack(translated))]);
    check(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "10.128.0.5:8080");
    check(&rules, "pod 10.128.0.9 -> 10.96.0.2:80/tcp", "drop");
}

#[test]
fn raw_comes_before_connection_tracking() {
    let mut rules = node();
    spread(&mut rules, &three()[..1], false);
    add(&mut rules, Raw, "PREROUTING", [Rule::to(Target::Drop).matching(new())]);
    check(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "10.128.0.5:8080");
    add(&mut rules, Raw, "PREROUTING", [Rule::to(Target::Unmodelled("-j CT --notrack".into()))]);
    check(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "none");
    let untracked = ConntrackStates { bits: ConntrackStates::UNTRACKED, negated: false };
    add(&mut rules, Filter, "FORWARD", [Rule::to(Target::Drop).matching(Match::Conntrack(untracked))]);
    check(&rules, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "drop");
}

#[test]
fn what_is_not_modelled_is_unknown_where_it_matters() {
    let text = "pod 10.128.0.9 -> 10.96.0.1:80/tcp";
    let with = |rule: Rule| {
        let mut rules = node();
        spread(&mut rules, &three()[..1], false);
        add(&mut rules, Filter, "FORWARD", [rule]);
        add(&mut rules, Filter, "EMPTY", [mark(0, 0)]);
        add(&mut rules, Filter, "FULL", [Rule::to(Target::Drop).source(cidr("10.128.0.9/32"), false)]);
        rules
    };
    let set = || unmodelled("-m set --match-set bad src");
    check(
        &with(Rule::to(Target::Drop).matching(set())),
        text,
        "unknown: filter FORWARD rule 3: -m set --match-set bad src",
    );
    check(&with(Rule::to(Target::Drop).matching(set()).matching(is_marked(MARK))), text, "10.128.0.5:8080");
    check(
        &with(Rule::to(Target::Drop).matching(set()).source(cidr("10.128.0.9/32"), true)),
        text,
        "10.128.0.5:8080",
    );
    check(&with(Rule::default().matching(set())), text, "10.128.0.5:8080");
    check(&with(jump("EMPTY").matching(set())), text, "10.128.0.5:8080");
    check(
        &with(jump("FULL").matching(set())),
        text,
        "unknown: filter FORWARD rule 3: -m set --match-set bad src",
    );
    check(&with(jump("FULL").matching(set())), "pod 10.128.0.8 -> 10.96.0.1:80/tcp", "10.128.0.5:8080");
    for harmless in
        ["-j LOG --log-prefix x", "-j NFLOG", "-j CONNMARK --save-mark", "-j TCPMSS --clamp-mss-to-pmtu"]
    {
        check(&with(Rule::to(Target::Unmodelled(harmless.into()))), text, "10.128.0.5:8080");
    }
    check(&with(Rule::to(Target::Unmodelled("-j REJECT --reject-with x".into()))), text, "reject");
    check(
        &with(Rule::to(Target::Unmodelled("-j NFQUEUE --queue-num 1".into()))),
        text,
        "unknown: filter FORWARD rule 3: -j NFQUEUE --queue-num 1",
    );
}

#[test]
fn interfaces_are_known_or_not() {
    let text = "pod 10.128.0.9 -> 10.96.0.1:80/tcp";
    let with = |table, chain, input: Option<&str>, output: Option<&str>, negated| {
        let one = |name: &str| InterfaceMatch { name: name.into(), negated };
        let interfaces = Interfaces { input: input.map(one), output: output.map(one) };
        let mut rules = node();
        spread(&mut rules, &three()[..1], false);
        let target = if table == Nat { Target::Masquerade { random_fully: false } } else { Target::Drop };
        add(&mut rules, table, chain, [Rule { interfaces: Some(Box::new(interfaces)), ..Rule::to(target) }]);
        rules
    };
    check(&with(Filter, "FORWARD", Some("veth0"), None, false), text, "drop");
    check(&with(Filter, "FORWARD", Some("ve+"), None, false), text, "drop");
    check(&with(Filter, "FORWARD", Some("veth"), None, false), text, "10.128.0.5:8080");
    check(&with(Filter, "FORWARD", Some("ve+"), None, true), text, "10.128.0.5:8080");
    check(&with(Filter, "FORWARD", None, Some("lo"), false), text, "10.128.0.5:8080");
    check(&with(Filter, "FORWARD", None, Some("+"), false), text, "drop");
    check(
        &with(Filter, "FORWARD", None, Some("eth0"), false),
        text,
        "unknown: filter FORWARD rule 3: its interface",
    );
    check(
        &with(Nat, "POSTROUTING", None, Some("eth0"), true),
        text,
        "unknown: nat POSTROUTING rule 2: its interface",
    );
    // Whether a packet that is no Service's is masqueraded is not asked.
    check(&with(Nat, "POSTROUTING", None, Some("eth0"), true), "pod 10.128.0.9 -> 192.0.2.1:80/tcp", "none");
    check(&with(Filter, "OUTPUT", None, Some("lo"), false), "node -> node:80/tcp", "drop");
}

#[test]
fn a_large_pool_is_quick_and_even() {
    let endpoints: Vec<AddrPort> = (0..5000u32)
        .map(|index| AddrPort::new(std::net::Ipv4Addr::from(0x0a80_0000 + index).into(), 8080))
        .collect();
    for sticky in [false, true] {
        let mut rules = node();
        spread(&mut rules, &endpoints, sticky);
        let evaluation = run(&rules, "pod 10.200.0.9 -> 10.96.0.1:80/tcp");
        let choice = |endpoint| Choice { endpoint, probability: 1.0 / 5000.0, source_nat: true };
        let even = Fate::Forwarded(endpoints.iter().copied().map(choice).collect());
        assert!(evaluation.fate.is_same(&even));
        assert!(evaluation.matched.len() > 10_000);
        assert_eq!(evaluation.remembered.len(), if sticky { 5000 } else { 0 });
    }
}

/// Sets of addresses with a port, and one virtual server.
#[derive(Default)]
struct Around {
    sets: BTreeMap<&'static str, Vec<AddrPort>>,
    server: Option<(AddrPort, Scheduled)>,
}

impl Surroundings for Around {
    fn holds(&self, set: &SetName, tuple: &Tuple, sides: &[Side]) -> Option<bool> {
        let entries = self.sets.get(set.as_str())?;
        let of = |side: &Side| match side {
            Side::Source => tuple.source,
            Side::Destination => tuple.destination,
        };
        let [addr, port] = sides else { return Some(false) };
        Some(entries.contains(&AddrPort::new(of(addr).addr, of(port).port)))
    }

    fn schedule(&self, connection: &Connection<'_>) -> Scheduled {
        let is_it = |at| connection.destination == at && connection.protocol == Protocol::Tcp;
        match &self.server {
            Some((at, scheduled)) if is_it(*at) => scheduled.clone(),
            Some(_) | None => Scheduled::Passed,
        }
    }
}

fn in_set(set: &str, directions: &[Side], negated: bool) -> Match {
    let set = SetName::new(set).unwrap();
    Match::Set(Box::new(SetMatch { set, directions: directions.into(), negated }))
}

#[track_caller]
fn check_among(rules: &Ruleset, around: &Around, packet_text: &str, fate: &str) {
    let mut facts = facts();
    facts.local_addresses.insert("10.96.0.1".parse().unwrap());
    let packet = packet(packet_text);
    let evaluation = eval_among(rules, &packet, &facts, &Memory::default(), around);
    assert_eq!(evaluation.fate.to_string(), fate, "{packet_text}");
}

#[test]
fn sets_are_asked_for_the_sides_that_a_match_names() {
    let around = Around {
        sets: BTreeMap::from([("vips", vec!["10.96.0.1:80".parse().unwrap()])]),
        ..Around::default()
    };
    let rules = |directions: &[Side], negated| {
        let mut rules = Ruleset::empty(IpFamily::V4);
        add(
            &mut rules,
            Filter,
            "INPUT",
            [Rule::to(Target::Drop).matching(in_set("vips", directions, negated))],
        );
        rules
    };
    let (from, to) = (Side::Source, Side::Destination);
    check_among(&rules(&[to, to], false), &around, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "drop");
    check_among(&rules(&[to, to], false), &around, "pod 10.128.0.9 -> 10.96.0.1:81/tcp", "none");
    check_among(&rules(&[to, to], true), &around, "pod 10.128.0.9 -> 10.96.0.1:81/tcp", "drop");
    check_among(&rules(&[from, to], false), &around, "pod 10.96.0.1 -> 192.168.77.10:80/tcp", "drop");
    check_among(&rules(&[from, to], false), &around, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "none");
}

#[test]
fn a_set_of_which_nothing_is_known_is_not_guessed() {
    let mut rules = Ruleset::empty(IpFamily::V4);
    let asked = in_set("strangers", &[Side::Source], true);
    add(&mut rules, Filter, "INPUT", [Rule::to(Target::Drop).matching(asked)]);
    check(
        &rules,
        "pod 10.128.0.9 -> node:80/tcp",
        "unknown: filter INPUT rule 1: -m set ! --match-set strangers src",
    );
}

/// A node on which a virtual server has the VIP, and which forwards nothing.
fn served(choices: &[(&str, f64)]) -> (Ruleset, Around) {
    let mut rules = node();
    // What a virtual server sends away goes out: it is not forwarded.
    add(&mut rules, Filter, "FORWARD", [Rule::to(Target::Drop)]);
    let sending = |(text, share): &(&str, f64)| Sending {
        endpoint: text.parse().unwrap(),
        share: *share,
        remembered: None,
    };
    let choices = choices.iter().map(sending).collect();
    let server = ("10.96.0.1:80".parse().unwrap(), Scheduled::Sent(choices));
    (rules, Around { server: Some(server), ..Around::default() })
}

#[test]
fn a_virtual_server_spreads_what_comes_in_and_what_goes_out() {
    let (rules, around) = served(&[("10.128.0.5:8080", 0.5), ("10.128.1.5:8080", 0.5)]);
    let all = "10.128.0.5:8080|10.128.1.5:8080";
    check_among(&rules, &around, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", all);
    check_among(&rules, &around, "outside 192.0.2.9 -> 10.96.0.1:80/tcp", &format!("{all} masq"));
    check_among(&rules, &around, "node -> 10.96.0.1:80/tcp", &format!("{all} masq"));
    check_among(&rules, &around, "pod 10.128.0.9 -> 10.96.0.1:80/udp", "none");
    let none = Around { server: around.server.map(|(at, _)| (at, Scheduled::Refused)), ..Around::default() };
    check_among(&rules, &none, "node -> 10.96.0.1:80/tcp", "reject");
    check_among(&rules, &none, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", "reject");
    let untold = Around {
        server: none.server.map(|(at, _)| (at, Scheduled::Unknown("who knows".to_owned()))),
        ..Around::default()
    };
    let said = "unknown: who knows";
    check_among(&rules, &untold, "pod 10.128.0.9 -> 10.96.0.1:80/tcp", said);
}

#[test]
fn a_real_server_on_the_node_gets_its_packets_without_another_way_out() {
    let (rules, around) = served(&[("192.168.77.10:6443", 0.5), ("192.168.77.11:6443", 0.5)]);
    let from_outside = "192.168.77.10:6443|192.168.77.11:6443+masq";
    check_among(&rules, &around, "outside 192.0.2.9 -> 10.96.0.1:80/tcp", from_outside);
    let all = "192.168.77.10:6443|192.168.77.11:6443 masq";
    check_among(&rules, &around, "node -> 10.96.0.1:80/tcp", all);
}

#[test]
fn filters_see_a_packet_to_a_virtual_server_before_it_comes_in_and_after_it_goes_out() {
    let (mut rules, around) = served(&[("10.128.1.5:8080", 1.0)]);
    let refused =
        Rule::to(Target::Drop).source(cidr("192.0.2.0/24"), false).to_address("10.96.0.1".parse().unwrap());
    add(&mut rules, Filter, "INPUT", [refused]);
    let server = |port| {
        let address = Some(AddrMatch { cidr: cidr("10.96.0.1/32"), negated: false });
        let protocol = Some(ProtocolMatch { number: 6, negated: false });
        Match::Ipvs(Box::new(IpvsMatch { protocol, address, port }))
    };
    let own = |port| Rule::to(Target::Drop).source(cidr("10.96.0.1/32"), false).matching(server(port));
    add(&mut rules, Filter, "OUTPUT", [own(Some((80, true))), own(Some((80, false)))]);
    check_among(&rules, &around, "outside 192.0.2.9 -> 10.96.0.1:80/tcp", "drop");
    check_among(&rules, &around, "outside 203.0.113.9 -> 10.96.0.1:80/tcp", "10.128.1.5:8080 masq");
    check_among(&rules, &around, "node 10.96.0.1 -> 10.96.0.1:80/tcp", "drop");
    check_among(&rules, &around, "node -> 10.96.0.1:80/tcp", "10.128.1.5:8080 masq");
    check_among(&rules, &around, "node 10.96.0.1 -> 192.0.2.9:80/tcp", "none");
}

#[test]
fn a_port_of_a_bridge_matters_only_where_it_changes_something() {
    let (mut rules, around) = served(&[("10.128.1.5:8080", 1.0)]);
    let not_by_bridge = || Rule::to(Target::Accept).matching(Match::PhysdevIsIn { negated: true });
    let local = Match::AddrType(AddrType { source_local: None, destination_local: Some(false) });
    let masq = Rule::to(Target::Jump(name("MASQ")));
    add(&mut rules, Nat, "SERVICES", [not_by_bridge(), Rule::to(Target::Accept).matching(local)]);
    let from_pod = "pod 10.128.0.9 -> 10.96.0.1:80/tcp";
    check_among(&rules, &around, from_pod, "10.128.1.5:8080");
    rules.tables.get_mut(&Nat).unwrap().chains.get_mut(&name("SERVICES")).unwrap().rules.clear();
    add(&mut rules, Nat, "SERVICES", [not_by_bridge(), masq]);
    let said = "unknown: nat SERVICES rule 1: -m physdev ! --physdev-is-in";
    check_among(&rules, &around, from_pod, said);
    // Those from outside come in by no bridge, the node's own by nothing.
    check_among(&rules, &around, "outside 203.0.113.9 -> 10.96.0.1:80/tcp", "10.128.1.5:8080");
    check_among(&rules, &around, "node -> 10.96.0.1:80/tcp", "10.128.1.5:8080");
}

#[test]
fn a_redirected_packet_reaches_the_node_itself() {
    let mut rules = Ruleset::empty(IpFamily::V4);
    for chain in ["PREROUTING", "OUTPUT"] {
        add(&mut rules, Nat, chain, [tcp_to(Rule::to(Target::Redirect(41000)), "10.96.0.1:80")]);
    }
    add(&mut rules, Filter, "FORWARD", [Rule::to(Target::Drop)]);
    assert_eq!(
        run(&rules, "outside 192.168.77.100 -> 10.96.0.1:80/tcp").fate.to_string(),
        "192.168.77.10:41000"
    );
    assert_eq!(run(&rules, "node -> 10.96.0.1:80/tcp").fate.to_string(), "127.0.0.1:41000");
    let passed_by = run(&rules, "outside 192.168.77.100 -> 10.96.0.1:81/tcp");
    assert_eq!(passed_by.fate, Fate::Dropped);
}

#[test]
fn who_came_in_by_a_bridge_is_told_for_strangers_alone() {
    let mut rules = Ruleset::empty(IpFamily::V4);
    let redirect = Rule::to(Target::Redirect(41000)).matching(Match::PhysdevIsIn { negated: true });
    add(&mut rules, Nat, "PREROUTING", [tcp_to(redirect, "10.50.0.1:80")]);
    let fate = |text| run(&rules, text).fate.to_string();
    assert_eq!(fate("outside 192.168.77.100 -> 10.50.0.1:80/tcp"), "192.168.77.10:41000");
    assert!(fate("pod 10.128.0.5 -> 10.50.0.1:80/tcp").starts_with("unknown"));
}
