//! Packets through recorded and small tables.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::*;
use crate::net::{AddrPort, Protocol};
use crate::packet::{Fate, NodeFacts, Origin, Packet};
use crate::program::nft::eval::{Evaluation, Memory, eval};

fn packet(origin: Origin, from: &str, to: &str, protocol: Protocol) -> Packet {
    let source = AddrPort::new(from.parse().unwrap(), 40000);
    let in_interface = match origin {
        Origin::Pod => Some("veth1".to_owned()),
        Origin::Outside => Some("eth0".to_owned()),
        Origin::Node => None,
    };
    Packet { origin, source, destination: to.parse().unwrap(), protocol, in_interface, bridge_port: None }
}

fn facts() -> NodeFacts {
    NodeFacts {
        local_addresses: ["192.168.77.10", "fd00:77::10"].iter().map(|addr| addr.parse().unwrap()).collect(),
    }
}

fn send(ruleset: &Ruleset, packet: &Packet) -> Evaluation {
    eval(ruleset, packet, &facts(), &Memory::default())
}

fn recorded() -> Ruleset {
    recordings().into_iter().find(|(folder, _)| folder == "c04").unwrap().1
}

#[test]
fn recorded_rules_do_what_they_should() {
    let ruleset = recorded();
    let check = |origin, from: &str, to: &str, protocol, fate: &str| {
        let packet = packet(origin, from, to, protocol);
        assert_eq!(send(&ruleset, &packet).fate.to_string(), fate, "{from} -> {to}");
    };
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    check(Origin::Pod, "10.128.0.9", "10.100.11.139:80", tcp, "10.128.0.162:8080");
    check(Origin::Outside, "203.0.113.9", "10.100.11.139:80", tcp, "10.128.0.162:8080 masq");
    // To itself.
    check(Origin::Pod, "10.128.0.162", "10.100.11.139:80", tcp, "10.128.0.162:8080 masq");
    check(Origin::Node, "192.168.77.10", "10.100.11.139:80", tcp, "10.128.0.162:8080 masq");
    // Source ranges.
    check(Origin::Outside, "203.0.113.9", "198.51.100.3:80", tcp, "drop");
    check(Origin::Outside, "198.51.100.9", "198.51.100.3:80", tcp, "10.128.0.162:8080 masq");
    // No endpoints, other ports, unallocated.
    check(Origin::Pod, "10.128.0.9", "10.100.1.17:53", tcp, "reject");
    check(Origin::Pod, "10.128.0.9", "10.100.6.109:53", tcp, "drop");
    check(Origin::Pod, "10.128.0.9", "10.100.11.139:81", tcp, "reject");
    check(Origin::Pod, "10.128.0.9", "10.111.0.1:80", tcp, "drop");
    // Node ports.
    check(Origin::Outside, "203.0.113.9", "192.168.77.10:30588", tcp, "10.128.0.162:8080 masq");
    check(Origin::Outside, "203.0.113.9", "192.168.77.10:32080", tcp, "reject");
    check(Origin::Outside, "203.0.113.9", "192.168.77.10:22", tcp, "none");
    check(Origin::Pod, "10.128.0.9", "8.8.8.8:53", udp, "none");
    // Local policy, IPv6.
    check(
        Origin::Outside,
        "203.0.113.9",
        "198.51.100.193:9090",
        tcp,
        "10.128.0.41:5353|10.128.0.92:5353|10.128.0.237:5353",
    );
    check(
        Origin::Pod,
        "fd00:128::9",
        "[fd00:10:96::1002]:53",
        tcp,
        "[fd00:128::4d]:5353|[fd00:128:0:1::55]:5353",
    );
}

#[test]
fn affinity_is_remembered() {
    let ruleset = recorded();
    let packet = packet(Origin::Outside, "203.0.113.9", "192.168.77.10:31836", Protocol::Tcp);
    let evaluation = send(&ruleset, &packet);
    assert_eq!(
        evaluation.fate.to_string(),
        "10.128.1.202:5353 masq|192.168.77.11:5353 masq".replace(" masq|", "|")
    );
    let sets: Vec<&String> = evaluation.remembered.values().flatten().collect();
    assert_eq!(sets.len(), 2);
    let remembered: BTreeSet<(String, IpAddr)> = [(sets[1].clone(), packet.source.addr)].into();
    let again = eval(&ruleset, &packet, &facts(), &Memory { remembered, ..Memory::default() });
    assert_eq!(again.fate.to_string(), format!("{} masq", evaluation.remembered.keys().nth(1).unwrap()));
    assert!(again.matched.iter().any(|(_, _, chain, _)| chain.as_str().starts_with("endpoint-")));
}

const BASE: &str = r#"{"chain": {"family": "ip", "table": "t", "name": "b", "type": "filter", "hook": "prerouting",
    "prio": 0, "policy": "accept"}}"#;

fn fate_of(rules: &[&str]) -> Fate {
    let mut objects = vec![BASE.to_owned()];
    for expr in rules {
        objects
            .push(format!(r#"{{"rule": {{"family": "ip", "table": "t", "chain": "b", "expr": {expr}}}}}"#));
    }
    let ruleset = listing(&objects.join(","));
    send(&ruleset, &packet(Origin::Outside, "203.0.113.9", "192.168.77.10:80", Protocol::Tcp)).fate
}

#[test]
fn what_is_not_known_is_said_only_where_it_counts() {
    let limit = r#"{"limit": {"rate": 3, "burst": 5, "per": "second"}}"#;
    let udp = r#"{"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "udp"}}"#;
    let unknown = |rules: &[&str]| matches!(fate_of(rules), Fate::Unknown(_));
    assert!(unknown(&[&format!(r#"[{limit}, {{"drop": null}}]"#)]));
    assert_eq!(fate_of(&[&format!(r#"[{limit}, {udp}, {{"drop": null}}]"#)]), Fate::Untouched);
    assert_eq!(fate_of(&[&format!(r#"[{limit}, {{"log": null}}]"#)]), Fate::Untouched);
    // Accepted here or at the end of the chain, unless something comes in between.
    let accept = format!(r#"[{limit}, {{"accept": null}}]"#);
    assert_eq!(fate_of(&[&accept]), Fate::Untouched);
    assert!(unknown(&[&accept, r#"[{"drop": null}]"#]));
    let mark = r#"[{"mangle": {"key": {"meta": {"key": "mark"}}, "value": 1}}]"#;
    assert!(unknown(&[&accept, mark]));
    assert_eq!(fate_of(&[mark, &accept]), Fate::Untouched);
    assert!(unknown(&[r#"[{"queue": {"num": 3}}]"#]));
    assert!(unknown(&[r#"[{"jump": {"target": "gone"}}]"#]));
    assert_eq!(fate_of(&[r#"[{"jump": {"target": "d"}}]"#, r#"[{"reject": null}]"#]), Fate::Rejected);
    assert_eq!(
        fate_of(&[
            r#"[{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth*"}}, {"drop": null}]"#
        ]),
        Fate::Dropped
    );
}

#[test]
fn chances_add_up() {
    let third = r#"{"match": {"op": "==", "left": {"numgen": {"mode": "random", "mod": 3, "offset": 5}}, "right": 6}}"#;
    let fate = fate_of(&[&format!(r#"[{third}, {{"drop": null}}]"#)]);
    assert_eq!(fate.to_string(), "unknown: mixed: dropped 0.3333, untouched 0.6667");
}
