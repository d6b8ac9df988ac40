//! Random lists of destinations: a tree means the same, is shallow and short, and changes little.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use crate::net::{AddrPort, IpCidr, IpFamily, Protocol};
use crate::packet::{NodeFacts, Origin, Packet};
use crate::program::Scope;
use crate::program::scope::ChainPattern;
use crate::program::xtables::eval::{Memory, eval};
use crate::program::xtables::{
    AddrMatch, Chain, ChainName, Match, Policy, PortRange, PortsMatch, ProtocolMatch, Rule, RuleOrder,
    Ruleset, Table, TableName, Target, check, diff,
};

use super::*;

const ROOT: ChainName = ChainName::literal("LIST");

fn name(branch: &Branch) -> ChainName {
    let cidr = match branch {
        Branch::Network(cidr) => cidr,
        Branch::Ports(protocol, ports) => {
            return ChainName::new(&format!("P-{protocol}-{}-{}", ports.first, ports.last)).unwrap();
        }
    };
    let bits = match cidr.network() {
        IpAddr::V4(addr) => u128::from(addr.to_bits()),
        // What the tests have differs in the last half.
        IpAddr::V6(addr) => addr.to_bits() & u128::from(u64::MAX),
    };
    ChainName::new(&format!("T-{bits:x}-{}", cidr.prefix_len())).unwrap()
}

fn address(family: IpFamily, number: u32) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::from(number).into(),
        IpFamily::V6 => Ipv6Addr::from(0xfd00 << 112 | u128::from(number)).into(),
    }
}

/// A destination, and a rule that sends it somewhere, counts it, or leaves the list.
fn rule(family: IpFamily, (number, port, what): (u32, u16, u8)) -> Rule {
    let to = AddrPort::new(address(family, 0x0a80_0000 + u32::from(what)), port);
    let mut rule = match what {
        0 => Rule::default(),
        1 => Rule::to(Target::Accept),
        2 => Rule::to(Target::Jump(ChainName::literal("OTHER"))),
        _ => Rule::to(Target::Dnat(to)),
    };
    rule.protocol = Some(ProtocolMatch { number: 6, negated: false });
    let destination = Some(PortRange::single(port));
    rule.matching(Match::Ports(PortsMatch { protocol: Protocol::Tcp, source: None, destination }))
        .to_address(address(family, number))
}

fn table(family: IpFamily, list: &[(u32, u16, u8)]) -> Table {
    let mut rules: Vec<Rule> = list.iter().map(|one| rule(family, *one)).collect();
    let order = RuleOrder::FirstCommute(rules.len());
    let mut last = rule(family, (7, 9, 9));
    last.destination = None;
    rules.push(last);
    let user = |rules| Chain { policy: None, rules, order: RuleOrder::Exact };
    let begin = Chain { policy: Some(Policy::Accept), ..user(vec![Rule::to(Target::Jump(ROOT))]) };
    let chains = [
        (ChainName::literal("PREROUTING"), begin),
        (ROOT, Chain { policy: None, rules, order }),
        (ChainName::literal("OTHER"), user(vec![Rule::to(Target::Return)])),
    ];
    Table { chains: BTreeMap::from(chains) }
}

fn grown(family: IpFamily, list: &[(u32, u16, u8)]) -> Table {
    let mut table = table(family, list);
    grow(&mut table, &ROOT, &name);
    table
}

fn ruleset(family: IpFamily, table: Table) -> Ruleset {
    Ruleset { family, tables: BTreeMap::from([(TableName::Nat, table)]) }
}

/// Addresses side by side, scattered ones, and such that share more and more bits. No two are for the same port.
fn list() -> impl Strategy<Value = Vec<(u32, u16, u8)>> {
    let near = (0..600u32).prop_map(|number| 0x0a60_0000 + number);
    let steps = (0..32u32).prop_map(|bit| 0xc0a8_0000 ^ 1 << bit);
    let number = prop_oneof![4 => near, 1 => any::<u32>(), 2 => steps];
    prop::collection::vec((number, prop::sample::select(vec![80u16, 443, 9]), 0..8u8), 0..120).prop_map(
        |mut list| {
            list.sort_unstable();
            list.dedup_by_key(|(number, port, _)| (*number, *port));
            list
        },
    )
}

fn levels(table: &Table, chain: &ChainName) -> usize {
    let below = table.chains[chain].rules.iter().filter_map(Rule::chain);
    below.map(|chain| 1 + levels(table, chain)).max().unwrap_or_default()
}

proptest! {
    #[test]
    fn a_tree_means_what_the_list_means(
        list in list(),
        more in any::<u32>(),
        family in prop::sample::select(IpFamily::ALL.to_vec()),
    ) {
        let (flat, tree) = (table(family, &list), grown(family, &list));
        prop_assert!(levels(&tree, &ROOT) <= MAX_LEVELS + 1);
        let (flat, tree) = (ruleset(family, flat), ruleset(family, tree));
        prop_assert_eq!(check::check(&tree).len(), 0);
        let facts = NodeFacts { local_addresses: BTreeSet::new() };
        let neighbours = list.iter().map(|(number, ..)| number ^ 1);
        for number in list.iter().map(|(number, ..)| *number).chain(neighbours).chain([more]) {
            for port in [80, 443, 9] {
                let packet = Packet {
                    origin: Origin::Outside,
                    source: AddrPort::new(address(family, 1), 40000),
                    destination: AddrPort::new(address(family, number), port),
                    protocol: Protocol::Tcp,
                    in_interface: None,
                    bridge_port: None,
                };
                let fate = |rules| eval(rules, &packet, &facts, &Memory::default()).fate;
                prop_assert!(fate(&flat).is_same(&fate(&tree)), "{packet}: {} {}", fate(&flat), fate(&tree));
            }
        }
    }

    #[test]
    fn one_more_destination_leaves_most_chains_as_they_are(list in list(), number in 0..700u32) {
        let before = ruleset(IpFamily::V4, grown(IpFamily::V4, &list));
        let mut longer = list;
        longer.push((0x0a60_0000 + number, 8080, 5));
        let after = ruleset(IpFamily::V4, grown(IpFamily::V4, &longer));
        let ours = ChainPattern::Prefix("T-");
        let scope = Scope { chains: vec![(TableName::Nat, ours)], ..Scope::default() };
        let changes = diff::diff(&after, &before, &scope);
        let n_changed: usize = changes.tables.values().map(|table| table.chains.len()).sum();
        // The chain that it is in, those that this one is divided into, and one for each level.
        prop_assert!(n_changed <= 1 + 16 / SMALL + 4, "{:?}", changes);
    }
}

#[test]
fn a_packet_meets_few_rules_of_many() {
    let list: Vec<(u32, u16, u8)> = (0..10_000).map(|number| (0x0a60_0000 + number, 80, 5)).collect();
    let table = grown(IpFamily::V4, &list);
    let longest = table.chains.values().map(|chain| chain.rules.len()).max().unwrap();
    assert_eq!((longest, levels(&table, &ROOT)), (16, 3));
    // 3 networks of 4096, 40 of 256, 624 of 16 (the last has them in the one of 256), and the three chains that are always there.
    assert_eq!(table.chains.len(), 3 + 40 + 624 + 3);
    let n_rules: usize = table.chains.values().map(|chain| chain.rules.len()).sum();
    assert_eq!(n_rules, 10_000 + 667 + 3);
}

#[test]
fn a_short_list_or_one_whose_order_counts_stays() {
    let list: Vec<(u32, u16, u8)> = (0..16).map(|number| (number << 8, 80, 5)).collect();
    assert_eq!(grown(IpFamily::V4, &list), table(IpFamily::V4, &list));
    let long: Vec<(u32, u16, u8)> = (0..100).map(|number| (number << 8, 80, 5)).collect();
    let mut exact = table(IpFamily::V4, &long);
    exact.chains.get_mut(&ROOT).unwrap().order = RuleOrder::Exact;
    let before = exact.clone();
    grow(&mut exact, &ROOT, &name);
    assert_eq!(exact, before);
    // Networks are no single destinations.
    let mut networks = table(IpFamily::V4, &long);
    for rule in &mut networks.chains.get_mut(&ROOT).unwrap().rules {
        let cidr = rule.destination.and_then(|one| IpCidr::new(one.cidr.network(), 31));
        rule.destination = cidr.map(|cidr| AddrMatch { cidr, negated: false });
    }
    let before = networks.clone();
    grow(&mut networks, &ROOT, &name);
    assert_eq!(networks, before);
}

/// A list for any address, of ports that go to one place each.
fn list_of_ports(ports: &[(u16, Protocol)]) -> Table {
    let rule = |(port, protocol): &(u16, Protocol)| {
        let to = AddrPort::new(address(IpFamily::V4, 0x0a80_0000 + u32::from(*port)), 80);
        let destination = Some(PortRange::single(*port));
        let mut rule = Rule::to(Target::Dnat(to));
        rule.protocol = Some(ProtocolMatch { number: protocol.number(), negated: false });
        rule.matching(Match::Ports(PortsMatch { protocol: *protocol, source: None, destination }))
    };
    let mut table = table(IpFamily::V4, &[]);
    let chain = table.chains.get_mut(&ROOT).unwrap();
    chain.rules.splice(0..0, ports.iter().map(rule));
    chain.order = RuleOrder::FirstCommute(ports.len());
    table
}

proptest! {
    #[test]
    fn a_tree_of_ports_means_what_the_list_means(
        ports in prop::collection::btree_set(
            (prop_oneof![3 => 30_000..30_200u16, 1 => any::<u16>()], prop::sample::select(Protocol::ALL.to_vec())),
            0..120,
        ),
        more in any::<u16>(),
    ) {
        let ports: Vec<(u16, Protocol)> = ports.into_iter().collect();
        let flat = list_of_ports(&ports);
        let mut tree = flat.clone();
        grow(&mut tree, &ROOT, &name);
        prop_assert!(levels(&tree, &ROOT) <= 4);
        let (flat, tree) = (ruleset(IpFamily::V4, flat), ruleset(IpFamily::V4, tree));
        prop_assert_eq!(check::check(&tree).len(), 0);
        let facts = NodeFacts { local_addresses: BTreeSet::new() };
        for port in ports.iter().flat_map(|(port, _)| [*port, port ^ 1]).chain([more]) {
            for protocol in Protocol::ALL {
                let packet = Packet {
                    origin: Origin::Outside,
                    source: AddrPort::new(address(IpFamily::V4, 1), 40000),
                    destination: AddrPort::new(address(IpFamily::V4, 2), port),
                    protocol,
                    in_interface: None,
                    bridge_port: None,
                };
                let fate = |rules| eval(rules, &packet, &facts, &Memory::default()).fate;
                prop_assert!(fate(&flat).is_same(&fate(&tree)), "{packet}: {} {}", fate(&flat), fate(&tree));
            }
        }
    }
}

#[test]
fn a_packet_meets_few_rules_of_many_ports() {
    let ports: Vec<(u16, Protocol)> = (30_000..32_768).map(|port| (port, Protocol::Tcp)).collect();
    let mut table = list_of_ports(&ports);
    grow(&mut table, &ROOT, &name);
    let longest = table.chains.values().map(|chain| chain.rules.len()).max().unwrap();
    assert_eq!((longest, levels(&table, &ROOT)), (16, 2));
}
