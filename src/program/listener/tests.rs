//! Listeners as text, their differences, and who gets which target.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::balance::Balancer;
use super::diff::{ListenerChange, diff};
use super::{Listener, ListenerKey, Listeners, check, emit, eval, parse};
use crate::net::{AddrPort, Protocol};
use crate::packet::{Choice, Fate, NodeFacts, PacketContext, parse_packet};

fn at(text: &str) -> AddrPort {
    text.parse().unwrap()
}

fn targets(n: u8) -> Listener {
    let targets = (1..=n).map(|n| at(&format!("10.0.0.{n}:80"))).collect();
    Listener { targets, ..Listener::default() }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const TEXT: &str = "\
# two of them
tcp 0.0.0.0:20345 to 10.0.0.1:80,10.0.0.2:80 affinity 10800 # shop/api:grpc
udp [::]:20345 to none
";

#[test]
fn what_is_written_is_read() {
    let read = parse::parse(TEXT).unwrap();
    assert_eq!(emit::document(&read, "two of them"), TEXT);
    let key = ListenerKey { protocol: Protocol::Tcp, at: at("0.0.0.0:20345") };
    assert_eq!((&*read[&key].label, read[&key].affinity_seconds), ("shop/api:grpc", Some(10800)));
    for (line, said) in [
        ("tcp 0.0.0.0:1 10.0.0.1:80", "not `PROTOCOL ADDRESS:PORT to TARGETS [affinity SECONDS]`"),
        ("icmp 0.0.0.0:1 to none", "`icmp` is no protocol"),
        ("tcp 0.0.0.0 to none", "`0.0.0.0` is no address with port"),
        ("tcp 0.0.0.0:1 to 10.0.0.1", "`10.0.0.1` is no address with port"),
        ("tcp 0.0.0.0:1 to none affinity long", "`long` is no number of seconds"),
    ] {
        assert_eq!(parse::parse(&format!("\n{line}")).unwrap_err().to_string(), format!("line 2: {said}"));
    }
    let twice = "tcp 0.0.0.0:1 to none\ntcp 0.0.0.0:1 to 10.0.0.1:80\n";
    assert_eq!(parse::parse(twice).unwrap_err().to_string(), "line 2: `tcp 0.0.0.0:1` is there twice");
}

#[test]
fn problems_are_found() {
    let text = "sctp 0.0.0.0:5 to none\ntcp 0.0.0.0:0 to none\ntcp 0.0.0.0:7 to none\ntcp 10.0.0.9:7 to none\n\
                tcp 127.0.0.1:8 to [::1]:80,10.0.0.1:0 affinity 0\n";
    let found: Vec<String> =
        check::check(&parse::parse(text).unwrap()).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "listener tcp 0.0.0.0:0: port 0 is none",
            "listener tcp 127.0.0.1:8: packets of others do not reach a loopback address",
            "listener tcp 127.0.0.1:8: target 10.0.0.1:0 is nowhere",
            "listener tcp 127.0.0.1:8: target [::1]:80 is of the other family",
            "listener tcp 127.0.0.1:8: affinity for no time",
            "listener sctp 0.0.0.0:5: a process cannot carry SCTP",
            "listener tcp 10.0.0.9:7: `tcp 0.0.0.0:7` has its port already",
        ]
    );
    assert!(check::check(&parse::parse(TEXT).unwrap()).is_empty());
}

#[test]
fn a_difference_names_what_changes() {
    let read = |text| parse::parse(text).unwrap();
    let live = read("tcp 0.0.0.0:1 to none\ntcp 0.0.0.0:2 to none\ntcp 0.0.0.0:3 to none # a\n");
    let wanted = read("tcp 0.0.0.0:2 to 10.0.0.1:80\ntcp 0.0.0.0:3 to none # b\ntcp 0.0.0.0:4 to none\n");
    let changes: Vec<_> =
        diff(&wanted, &live).into_iter().map(|(key, change)| (key.at.port, change)).collect();
    assert_eq!(changes, [(1, ListenerChange::Close), (2, ListenerChange::Change), (4, ListenerChange::Open)]);
    assert!(diff(&live, &live).is_empty());
}

#[test]
fn a_packet_goes_on_from_its_listener() {
    let listeners = parse::parse(
        "tcp 0.0.0.0:5 to 10.0.0.1:80,10.0.0.2:80\nudp 0.0.0.0:5 to none\ntcp 10.9.0.1:6 to none\n",
    );
    let listeners: Listeners = listeners.unwrap();
    let facts =
        NodeFacts { local_addresses: [IpAddr::from([10, 9, 0, 1]), IpAddr::from([10, 9, 0, 2])].into() };
    let fate = |protocol, to| {
        let found = eval::listener_at(&listeners, protocol, at(to), &facts)?;
        Some(eval::eval(found, &|_, _| false).to_string())
    };
    assert_eq!(fate(Protocol::Tcp, "10.9.0.1:5").as_deref(), Some("10.0.0.1:80|10.0.0.2:80 masq"));
    assert_eq!(fate(Protocol::Udp, "127.0.0.1:5").as_deref(), Some("drop"));
    assert_eq!(fate(Protocol::Tcp, "10.9.0.1:6").as_deref(), Some("reject"));
    assert_eq!(fate(Protocol::Tcp, "10.9.0.2:6"), None);
    assert_eq!(fate(Protocol::Tcp, "10.0.0.1:5"), None);
}

/// The fate of a packet to 10.9.0.1 that rules lead to some places, in equal parts.
fn followed(listeners: &str, led_to: &[&str], holds: &eval::Holds<'_>) -> eval::Followed {
    let listeners = parse::parse(listeners).unwrap();
    let facts = NodeFacts { local_addresses: [IpAddr::from([10, 9, 0, 1])].into() };
    let packet = parse_packet("outside 10.1.0.7 -> 10.9.0.1:80/tcp", &PacketContext::default()).unwrap();
    let probability = 1.0 / led_to.len() as f64;
    let choice = |to: &&str| Choice { endpoint: at(to), probability, source_nat: false };
    let fate = Fate::Forwarded(led_to.iter().map(choice).collect());
    eval::follow(&listeners, &packet, fate, &facts, holds)
}

#[test]
fn what_rules_lead_to_a_listener_goes_on_from_there() {
    let listeners =
        "tcp 0.0.0.0:5 to 10.0.0.1:80,10.0.0.2:80\ntcp 0.0.0.0:6 to 10.0.0.2:80\ntcp 0.0.0.0:7 to none\n";
    let fate = |led_to: &[&str]| followed(listeners, led_to, &|_, _| false).fate.to_string();
    assert_eq!(fate(&["10.9.0.1:5"]), "10.0.0.1:80|10.0.0.2:80 masq");
    assert_eq!(fate(&["10.9.0.1:5", "10.9.0.1:6"]), "10.0.0.1:80@0.25|10.0.0.2:80@0.75 masq");
    assert_eq!(fate(&["10.9.0.1:6", "10.9.0.2:6"]), "10.0.0.2:80+masq|10.9.0.2:6");
    assert_eq!(fate(&["10.9.0.1:7"]), "reject");
    assert_eq!(fate(&["10.9.0.1:6", "10.9.0.1:7"]), "unknown: it may end in several ways");
    // Who else listens there is not known.
    assert_eq!(fate(&["10.9.0.1:8"]), "10.9.0.1:8");
    assert!(followed(listeners, &["10.9.0.1:5"], &|_, _| false).remembered.is_empty());
}

#[test]
fn who_is_held_to_a_target_goes_there_again() {
    let listeners = "tcp 0.0.0.0:5 to 10.0.0.1:80,10.0.0.2:80 affinity 60\n";
    let first = followed(listeners, &["10.9.0.1:5"], &|_, _| false);
    assert_eq!(first.remembered.keys().copied().collect::<Vec<_>>(), [at("10.0.0.1:80"), at("10.0.0.2:80")]);
    let places = &first.remembered[&at("10.0.0.2:80")];
    let second =
        followed(listeners, &["10.9.0.1:5"], &|place, seconds| places.contains(place) && seconds == 60);
    assert_eq!(second.fate.to_string(), "10.0.0.2:80 masq");
    assert_eq!(second.remembered, first.remembered);
}

/// Connections of clients that all succeed, at one moment.
fn chosen(balancer: &mut Balancer, clients: impl IntoIterator<Item = u8>, now: Duration) -> Vec<u8> {
    let mut chosen = Vec::new();
    for client in clients {
        let target = balancer.choose(IpAddr::from([10, 1, 0, client]), &BTreeSet::new(), now).unwrap();
        let IpAddr::V4(addr) = target.addr else { panic!() };
        chosen.push(addr.octets()[3]);
    }
    chosen
}

#[test]
fn targets_take_turns() {
    let mut balancer = Balancer::new(1);
    balancer.set(&targets(3));
    assert_eq!(chosen(&mut balancer, [1; 7], seconds(0)), [2, 3, 1, 2, 3, 1, 2]);
    balancer.set(&targets(2));
    assert_eq!(chosen(&mut balancer, [1; 3], seconds(0)), [1, 2, 1]);
    balancer.set(&targets(0));
    assert_eq!(balancer.choose(IpAddr::from([10, 1, 0, 1]), &BTreeSet::new(), seconds(0)), None);
}

#[test]
fn a_client_stays_for_as_long_as_it_may() {
    let mut balancer = Balancer::new(0);
    balancer.set(&Listener { affinity_seconds: Some(10), ..targets(3) });
    assert_eq!(chosen(&mut balancer, [1, 2, 1, 2, 3], seconds(0)), [1, 2, 1, 2, 3]);
    // Each connection counts anew.
    assert_eq!(chosen(&mut balancer, [1], seconds(9)), [1]);
    assert_eq!(chosen(&mut balancer, [1], seconds(18)), [1]);
    // The others have been away for too long.
    assert_eq!(chosen(&mut balancer, [3, 2], seconds(18)), [1, 2]);
    // A target that goes takes its clients' memory along; others keep theirs.
    let mut without = targets(3);
    without.targets.remove(&at("10.0.0.1:80"));
    balancer.set(&Listener { affinity_seconds: Some(10), ..without });
    assert_eq!(chosen(&mut balancer, [2], seconds(18)), [2]);
    assert_ne!(chosen(&mut balancer, [1], seconds(18)), [1]);
    assert_eq!(balancer.n_clients(), 2);
}

#[test]
fn a_client_whose_target_fails_gets_another_and_stays_there() {
    let mut balancer = Balancer::new(0);
    balancer.set(&Listener { affinity_seconds: Some(10), ..targets(2) });
    let client = IpAddr::from([10, 1, 0, 1]);
    assert_eq!(chosen(&mut balancer, [1], seconds(0)), [1]);
    balancer.failed(at("10.0.0.1:80"), seconds(1));
    let tried = BTreeSet::from([at("10.0.0.1:80")]);
    assert_eq!(balancer.choose(client, &tried, seconds(1)), Some(at("10.0.0.2:80")));
    balancer.reached(at("10.0.0.1:80"));
    assert_eq!(chosen(&mut balancer, [1, 1], seconds(5)), [2, 2]);
}

#[test]
fn what_failed_is_set_aside_and_tried_again_by_one() {
    let mut balancer = Balancer::new(0);
    balancer.set(&targets(3));
    let dead = at("10.0.0.2:80");
    balancer.failed(dead, seconds(10));
    // Those that were under way then make it no worse.
    balancer.failed(dead, seconds(10));
    assert_eq!(balancer.set_aside(seconds(10)), BTreeMap::from([(dead, seconds(1))]));
    assert_eq!(chosen(&mut balancer, [1; 4], seconds(10)), [1, 3, 1, 3]);
    // Its time is over: one tries it, others do not.
    assert_eq!(chosen(&mut balancer, [1; 5], seconds(11)), [1, 2, 3, 1, 3]);
    balancer.failed(dead, seconds(11));
    assert_eq!(balancer.set_aside(seconds(11)), BTreeMap::from([(dead, seconds(2))]));
    assert_eq!(chosen(&mut balancer, [1; 4], seconds(13)), [1, 2, 3, 1]);
    balancer.reached(dead);
    assert_eq!(chosen(&mut balancer, [1; 3], seconds(13)), [2, 3, 1]);
    for time in 20..60 {
        balancer.failed(dead, seconds(time * 100));
        assert!(balancer.set_aside(seconds(time * 100))[&dead] <= seconds(30));
    }
}

#[test]
fn when_all_have_failed_all_are_tried() {
    let mut balancer = Balancer::new(0);
    balancer.set(&targets(3));
    for target in targets(3).targets {
        balancer.failed(target, seconds(1));
    }
    let mut tried = BTreeSet::new();
    while let Some(target) = balancer.choose(IpAddr::from([10, 1, 0, 1]), &tried, seconds(1)) {
        assert!(tried.insert(target), "{target} twice");
    }
    assert_eq!(tried, targets(3).targets);
}

#[test]
fn a_walk_through_addresses_does_not_fill_the_memory() {
    let mut balancer = Balancer::new(0);
    balancer.set(&Listener { affinity_seconds: Some(10800), ..targets(2) });
    for n in 0..200_000_u32 {
        let client = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        balancer.choose(client, &BTreeSet::new(), Duration::from_millis(n.into()));
    }
    assert!(balancer.n_clients() <= 65_536, "{}", balancer.n_clients());
    // The latest are still known.
    let last = IpAddr::from((0x0a00_0000_u32 + 199_999).to_be_bytes());
    let now = Duration::from_millis(200_000);
    let first = balancer.choose(last, &BTreeSet::new(), now);
    assert_eq!(balancer.choose(last, &BTreeSet::new(), now), first);
}

proptest! {
    #[test]
    fn any_listeners_are_read_back(
        shapes in prop::collection::vec(
            (any::<bool>(), any::<bool>(), 1..u16::MAX, prop::collection::btree_set((1..255u8, 1..u16::MAX), 0..4),
             prop::option::of(1..u32::MAX), "[a-z/:]{0,12}"), 0..6),
    ) {
        let mut listeners = Listeners::new();
        for (udp, v6, port, addrs, affinity_seconds, label) in shapes {
            let addr = |host: u8| -> IpAddr {
                if v6 { [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host)].into() } else { [10, 0, 0, host].into() }
            };
            let any: IpAddr = if v6 { [0u16; 8].into() } else { [0u8; 4].into() };
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let targets = addrs.into_iter().map(|(host, port)| AddrPort::new(addr(host), port)).collect();
            let listener = Listener { targets, affinity_seconds, label: label.into() };
            listeners.insert(ListenerKey { protocol, at: AddrPort::new(any, port) }, listener);
        }
        let text = emit::document(&listeners, "");
        let read = parse::parse(&text).unwrap();
        prop_assert_eq!(&read, &listeners);
        prop_assert_eq!(emit::document(&read, ""), text);
        prop_assert!(check::check(&read).is_empty());
    }
}
