//! Random tables: packets that no question tells apart have one fate.

use std::net::{IpAddr, Ipv4Addr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::name;
use crate::net::{AddrPort, IpFamily, Protocol};
use crate::packet::{NodeFacts, Origin, Packet};
use crate::program::nft::eval::{Indexed, Memory};
use crate::program::nft::reach::questions;
use crate::program::nft::*;
use crate::program::question::{Destination, Questions};

fn host(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

fn facts() -> NodeFacts {
    NodeFacts { local_addresses: [host(3), host(6)].into() }
}

const CHAINS: [&str; 2] = ["a", "b"];

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Drop),
        Just(Verdict::Return),
        (0..2usize).prop_map(|at| Verdict::Jump(name(CHAINS[at]))),
        (0..2usize).prop_map(|at| Verdict::Goto(name(CHAINS[at]))),
    ]
}

fn stmt() -> impl Strategy<Value = Stmt> {
    let addr = |left: Expr| {
        (0..8u8, 0..3u8, any::<bool>()).prop_map(move |(first, more, negated)| {
            let key = Key::intervals([(Scalar::from(host(first)), Scalar::from(host(first + more)))]);
            Stmt::Match { left: left.clone(), negated, right: Right::Keys(Keys::one(key)) }
        })
    };
    let port = (79..83u16, any::<bool>()).prop_map(|(port, negated)| {
        let right = Right::Keys(Keys::one(Key::exact([Scalar::Port(port)])));
        Stmt::Match { left: Expr::port(), negated, right }
    });
    let local = (any::<bool>(), any::<bool>()).prop_map(|(source, negated)| {
        let right = Right::Keys(Keys::one(Key::exact([Scalar::FibType(FibType::Local)])));
        Stmt::Match { left: Expr::FibType { source }, negated, right }
    });
    let pair = any::<bool>().prop_map(|negated| {
        let left = Expr::concat([Expr::source(IpFamily::V4), Expr::destination(IpFamily::V4)]);
        Stmt::Match { left, negated, right: Right::Set(name("pairs")) }
    });
    let key = || Expr::concat([Expr::destination(IpFamily::V4), Expr::protocol(), Expr::port()]);
    let to = (0..8u8, 79..83u16).prop_map(|(addr, port)| Stmt::Dnat {
        to: NatTarget::Addr(host(addr), Some(port)),
        flags: NatFlags::default(),
    });
    prop_oneof![
        2 => addr(Expr::source(IpFamily::V4)),
        2 => addr(Expr::destination(IpFamily::V4)),
        2 => port,
        1 => local,
        2 => pair,
        1 => Just(Stmt::CtNat { snat: false, dnat: true }),
        2 => Just(Stmt::Vmap { key: key(), map: MapRef::Named(name("vips")) }),
        2 => verdict().prop_map(Stmt::Verdict),
        2 => to,
        1 => Just(Stmt::Reject(RejectWith::PortUnreachable)),
        1 => Just(Stmt::Masquerade(NatFlags::default())),
    ]
}

fn table() -> impl Strategy<Value = Table> {
    let rules = || vec(vec(stmt(), 1..4).prop_map(Rule::new), 0..6);
    let pairs = vec((0..8u8, 0..8u8), 0..6);
    let vips = vec((0..8u8, any::<bool>(), 79..83u16, verdict()), 0..8);
    (vec(rules(), 5), rules(), rules(), pairs, vips).prop_map(|(hooks, a, b, pairs, vips)| {
        let mut table = Table::new(Family::Ip, name("t"));
        let base = |kind, hook, priority| Some(Base { kind, hook, priority, policy: Policy::Accept });
        let bases = [
            ("nat-in", base(ChainKind::Nat, Hook::Prerouting, -100)),
            ("nat-own", base(ChainKind::Nat, Hook::Output, -100)),
            ("forward", base(ChainKind::Filter, Hook::Forward, 0)),
            ("input", base(ChainKind::Filter, Hook::Input, 0)),
            ("nat-out", base(ChainKind::Nat, Hook::Postrouting, 100)),
        ];
        for ((chain, base), rules) in bases.into_iter().zip(hooks) {
            table.chains.insert(name(chain), Chain { base, comment: None, rules });
        }
        for (chain, rules) in CHAINS.into_iter().zip([a, b]) {
            table.chains.insert(name(chain), Chain { base: None, comment: None, rules });
        }
        let mut set = Set { key: vec![ScalarType::Ipv4Addr, ScalarType::Ipv4Addr], ..Set::default() };
        for (source, destination) in pairs {
            let key = Key::exact([Scalar::from(host(source)), Scalar::from(host(destination))]);
            set.elements.insert(key, Element::default());
        }
        table.sets.insert(name("pairs"), set);
        let key = vec![ScalarType::Ipv4Addr, ScalarType::InetProto, ScalarType::InetService];
        let mut map = Set { key, data: Some(DataType::Verdict), ..Set::default() };
        for (addr, tcp, port, verdict) in vips {
            let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
            let key = Key::exact([Scalar::from(host(addr)), Scalar::from(protocol), Scalar::Port(port)]);
            map.elements.insert(key, Element::of(Data::Verdict(verdict)));
        }
        table.sets.insert(name("vips"), map);
        table
    })
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packets_that_no_question_tells_apart_have_one_fate(
        table in table(),
        destination in 0..9u8,
        port in 79..84u16,
        protocol in prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]),
    ) {
        let rules = Indexed::new([&table]);
        let ask = |service| {
            let mut asked = Questions::default();
            questions(&rules, &Destination { addr: host(destination), service }, &facts(), &mut asked);
            asked
        };
        let (of_sources, of_ports) = (ask(Some((protocol, port))), ask(None));
        let fate = |packet: &Packet| rules.eval(packet, &facts(), &Memory::default()).fate;
        let answers = |packet: &Packet| {
            let source = packet.source.addr;
            let within = of_sources.sources.iter().map(|(first, last)| *first <= source && source <= *last);
            (within.collect::<Vec<bool>>(), of_sources.source_is_local && facts().is_local(source))
        };
        for origin in [Origin::Outside, Origin::Node] {
            let packets: Vec<Packet> =
                (0..12).map(|source| packet(origin, source, destination, port, protocol)).collect();
            for (one, other) in packets.iter().flat_map(|one| packets.iter().map(move |other| (one, other))) {
                if answers(one) == answers(other) {
                    prop_assert_eq!(fate(one), fate(other), "{} and {}", one, other);
                }
            }
            let is_asked = |port: u16| {
                let holds = |(of, first, last): &(Option<Protocol>, u16, u16)| {
                    of.is_none_or(|of| of == protocol) && (*first..=*last).contains(&port)
                };
                of_ports.ports.iter().map(holds).collect::<Vec<bool>>()
            };
            for other in (78..85).filter(|other| is_asked(*other) == is_asked(port)) {
                let [one, other] = [port, other].map(|port| packet(origin, 9, destination, port, protocol));
                prop_assert_eq!(fate(&one), fate(&other), "{} and {}", one, other);
            }
        }
    }
}
