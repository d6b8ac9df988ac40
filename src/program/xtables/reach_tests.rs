//! Random rules: the index leaves nothing out, and packets that no question tells apart have one fate.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use crate::net::{AddrPort, IpCidr, IpFamily, Protocol};
use crate::packet::{NodeFacts, Origin, Packet};
use crate::program::question::{Destination, Questions};
use crate::program::xtables::eval::{Indexed, Memory, eval};
use crate::program::xtables::{
    AddrMatch, AddrType, Chain, ChainName, Match, Policy, PortRange, PortsMatch, ProtocolMatch, Recent,
    RecentAction, RejectWith, Rule, Ruleset, Table, TableName, Target,
};

use super::questions;
use crate::program::Kernel;
use crate::program::ipset::reach::Senders;

fn host(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

const CHAINS: [&str; 3] = ["A", "B", "C"];

fn addr_match() -> impl Strategy<Value = Option<AddrMatch>> {
    let cidr = (0..8u8, prop::sample::select(vec![30u8, 32, 32, 32])).prop_map(|(number, len)| AddrMatch {
        cidr: IpCidr::new(host(number), len).unwrap(),
        negated: false,
    });
    prop::option::weighted(
        0.5,
        (cidr, prop::bool::weighted(0.2)).prop_map(|(one, negated)| AddrMatch { negated, ..one }),
    )
}

fn one_match() -> impl Strategy<Value = Match> {
    let ports = (79..83u16, 0..2u16, prop::bool::weighted(0.2)).prop_map(|(first, more, negated)| {
        let destination = Some(PortRange { first, last: first + more, negated });
        Match::Ports(PortsMatch { protocol: Protocol::Tcp, source: None, destination })
    });
    let recent = (0..2u8, any::<bool>()).prop_map(|(list, set)| {
        let action = if set { RecentAction::Set } else { RecentAction::Check { seconds: 5, reap: false } };
        Match::Recent(Box::new(Recent { list: format!("list-{list}").into(), action }))
    });
    let local = (any::<bool>(), any::<bool>()).prop_map(|(source, negated)| {
        let asked = |is: bool| is.then_some(negated);
        Match::AddrType(AddrType { source_local: asked(source), destination_local: asked(!source) })
    });
    prop_oneof![4 => ports, 1 => recent, 1 => local, 1 => Just(Match::ToItself), 1 => Just(Match::Probability(1 << 30))]
}

fn target() -> impl Strategy<Value = Option<Target>> {
    let chain = || (0..CHAINS.len()).prop_map(|at| ChainName::literal(CHAINS[at]));
    prop_oneof![
        3 => chain().prop_map(|chain| Some(Target::Jump(chain))),
        1 => chain().prop_map(|chain| Some(Target::Goto(chain))),
        1 => Just(Some(Target::Reject(RejectWith::PortUnreachable))),
        1 => Just(Some(Target::Drop)),
        1 => Just(Some(Target::Return)),
        1 => Just(Some(Target::Mark { value: 1, mask: 1 })),
        3 => (0..8u8, 79..83u16).prop_map(|(addr, port)| Some(Target::Dnat(AddrPort::new(host(addr), port)))),
        1 => Just(Some(Target::Masquerade { random_fully: false })),
        1 => Just(None),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    (addr_match(), addr_match(), any::<bool>(), prop::collection::vec(one_match(), 0..3), target()).prop_map(
        |(source, destination, tcp, matches, target)| Rule {
            source,
            destination,
            protocol: tcp.then_some(ProtocolMatch { number: 6, negated: false }),
            matches: matches.into(),
            target,
            ..Rule::default()
        },
    )
}

fn ruleset() -> impl Strategy<Value = Ruleset> {
    let chain = || prop::collection::vec(rule(), 0..30);
    let table = |hooks: &'static [&'static str]| {
        (prop::collection::vec(prop::collection::vec(rule(), 0..4), hooks.len()), chain(), chain(), chain())
            .prop_map(move |(built_in, a, b, c)| {
                let mut chains: Vec<(ChainName, Chain)> = hooks
                    .iter()
                    .zip(built_in)
                    .map(|(hook, rules)| {
                        (
                            ChainName::literal(hook),
                            Chain { policy: Some(Policy::Accept), rules, ..Chain::default() },
                        )
                    })
                    .collect();
                for (name, rules) in CHAINS.iter().zip([a, b, c]) {
                    chains.push((ChainName::literal(name), Chain { rules, ..Chain::default() }));
                }
                Table { chains: chains.into_iter().collect() }
            })
    };
    (table(TableName::Nat.built_in_chains()), table(TableName::Filter.built_in_chains())).prop_map(
        |(nat, mut filter)| {
            // The kernel takes translations in table nat only.
            for rule in filter.chains.values_mut().flat_map(|chain| &mut chain.rules) {
                rule.target.take_if(|target| matches!(target, Target::Dnat(_) | Target::Masquerade { .. }));
            }
            Ruleset {
                family: IpFamily::V4,
                tables: [(TableName::Nat, nat), (TableName::Filter, filter)].into(),
            }
        },
    )
}

fn facts() -> NodeFacts {
    NodeFacts { local_addresses: [host(3), host(6)].into() }
}

fn packet(origin: Origin, source: u8, destination: u8, port: u16, protocol: Protocol) -> Packet {
    Packet {
        origin,
        source: AddrPort::new(host(source), 40000),
        destination: AddrPort::new(host(destination), port),
        protocol,
        in_interface: (origin != Origin::Node).then(|| "eth0".to_owned()),
        bridge_port: None,
    }
}

/// What a packet's source answers to the questions.
fn answers(asked: &Questions, packet: &Packet) -> (Vec<bool>, bool) {
    let source = packet.source.addr;
    let within = asked.sources.iter().map(|(first, last)| *first <= source && source <= *last).collect();
    (within, asked.source_is_local && facts().is_local(source))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_index_changes_nothing(ruleset in ruleset()) {
        let indexed = Indexed::new(&ruleset);
        for origin in [Origin::Outside, Origin::Node] {
            for (source, destination, port) in
                [(1, 2, 80), (3, 3, 81), (7, 6, 80), (0, 5, 79), (6, 6, 82), (2, 2, 99)]
            {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let packet = packet(origin, source, destination, port, protocol);
                    let remembered = [("list-0".to_owned(), host(source))].into();
                    for memory in [Memory::default(), Memory { remembered, ..Memory::default() }] {
                        prop_assert_eq!(
                            indexed.eval(&packet, &facts(), &memory),
                            eval(&ruleset, &packet, &facts(), &memory)
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn packets_that_no_question_tells_apart_have_one_fate(
        ruleset in ruleset(),
        destination in 0..9u8,
        port in 79..84u16,
        protocol in prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]),
    ) {
        let indexed = Indexed::new(&ruleset);
        let mut of_sources = Questions::default();
        let known = Destination { addr: host(destination), service: Some((protocol, port)) };
        questions((&indexed, &Kernel::default(), &Senders::default()), &known, &facts(), &mut of_sources);
        let mut of_ports = Questions::default();
        let unknown = Destination { service: None, ..known };
        questions((&indexed, &Kernel::default(), &Senders::default()), &unknown, &facts(), &mut of_ports);
        let fate = |packet: &Packet| eval(&ruleset, packet, &facts(), &Memory::default()).fate;
        for origin in [Origin::Outside, Origin::Node] {
            let packets: Vec<Packet> = (0..12).map(|source| packet(origin, source, destination, port, protocol)).collect();
            for (one, other) in packets.iter().flat_map(|one| packets.iter().map(move |other| (one, other))) {
                if answers(&of_sources, one) == answers(&of_sources, other) {
                    prop_assert_eq!(fate(one), fate(other), "{} and {}", one, other);
                }
            }
            let is_asked = |port: u16| {
                let holds = |(of, first, last): &(Option<Protocol>, u16, u16)| {
                    of.is_none_or(|of| of == protocol) && (*first..=*last).contains(&port)
                };
                of_ports.ports.iter().map(holds).collect::<Vec<bool>>()
            };
            for other in 78..85 {
                if is_asked(other) == is_asked(port) {
                    let [one, other] = [port, other].map(|port| packet(origin, 9, destination, port, protocol));
                    prop_assert_eq!(fate(&one), fate(&other), "{} and {}", one, other);
                }
            }
        }
    }
}
