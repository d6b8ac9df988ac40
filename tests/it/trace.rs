//! `trace`: over the rules of one mode it says what the evaluation of that mode says; over several languages it asks them in the
//! kernel's order; what it does not understand it names.

use std::fs;
use std::path::Path;

use expect_test::expect;
use svcproxy::host::{FakeHost, XtablesVariant};
use svcproxy::model::Mode;
use svcproxy::net::{IpFamily, PerFamily};
use svcproxy::packet::{Fate, NodeFacts, Packet, PacketContext, parse_packet};
use svcproxy::program::xtables::{Ruleset, parse};
use svcproxy::program::{Kernel, nft};
use svcproxy::resolve;
use svcproxy::trace::{End, Event, Rules, Source, trace};

use crate::cases;
use crate::cli::{machine, machine_in_ipvs_mode, machine_in_userspace_mode, run_with};
use crate::given;

fn check_cases(mode: Mode) {
    let (mut problems, mut n_flows) = (Vec::new(), 0);
    for folder in cases::folders() {
        let given = cases::given(&folder, mode);
        let facts = NodeFacts { local_addresses: given.node.addresses.iter().copied().collect() };
        let views = PerFamily::from_fn(|family| resolve::resolve(&given.cluster, &given.context, family));
        let programs = PerFamily::from_fn(|family| given::lowered(&given, views.get(family)));
        let mut nft = nft::Ruleset::default();
        for family in IpFamily::ALL {
            let tables = programs.get(family).nft.get(family).table().into_iter();
            nft.tables.extend(tables.map(|table| ((table.family, table.name.clone()), table.clone())));
        }
        for flow in cases::flows(&folder, &given) {
            n_flows += 1;
            let family = flow.packet.family();
            let program = programs.get(family);
            let kernel = Kernel::of(program, family);
            let facts = kernel.facts(&facts);
            let xtables = program.xtables.get(family).iter().map(|ruleset| (Source::Xtables, ruleset));
            let rules = Rules { xtables: xtables.collect(), nft: Some(&nft), kernel };
            let trace = trace(&rules, &flow.packet, &facts);
            let shares: f64 = trace.ends.iter().map(|(share, _)| share).sum();
            let written = match mode {
                Mode::Userspace => given::carried(&flow),
                Mode::Iptables | Mode::Nftables | Mode::Ipvs => flow.fate_in(mode.name()).clone(),
            };
            // Whether a pod is on a bridge is not written in a case.
            if mode == Mode::Userspace && matches!(trace.fate(), Fate::Unknown(_)) {
                for bridge_port in [Some(true), Some(false)] {
                    let packet = Packet { bridge_port, ..flow.packet.clone() };
                    let oracle = resolve::fate(views.get(family), &packet, &facts);
                    let traced = svcproxy::trace::trace(&rules, &packet, &facts).fate();
                    assert!(traced.is_same(&oracle), "{packet}: {traced}, {oracle}");
                }
                continue;
            }
            if !trace.fate().is_same(&written) || (shares - 1.0).abs() > 1e-6 {
                let at = format!("{}:{}", folder.display(), flow.line);
                problems.push(format!("{at}: {} = {written}: {} ({shares})", flow.packet, trace.fate()));
            }
        }
    }
    assert!(n_flows >= 240, "{n_flows}");
    assert!(problems.is_empty(), "{} differ:\n  {}", problems.len(), problems.join("\n  "));
}

#[test]
fn traces_of_ipvs_cases_end_as_written() {
    check_cases(Mode::Ipvs);
}

#[test]
fn traces_of_iptables_cases_end_as_written() {
    check_cases(Mode::Iptables);
}

#[test]
fn traces_of_userspace_cases_end_as_written() {
    check_cases(Mode::Userspace);
}

#[test]
fn traces_of_nftables_cases_end_as_written() {
    check_cases(Mode::Nftables);
}

fn packet(text: &str) -> Packet {
    let context = PacketContext {
        node_addresses: PerFamily { v4: "192.168.77.10".parse().ok(), v6: None },
        ..PacketContext::default()
    };
    parse_packet(text, &context).unwrap()
}

fn facts() -> NodeFacts {
    NodeFacts { local_addresses: ["192.168.77.10".parse().unwrap()].into() }
}

fn xtables(text: &str) -> Ruleset {
    parse::parse(text, IpFamily::V4).unwrap()
}

/// Base chains of one table `inet t`, as `nft -j` prints them: name, type, hook, priority, then the rule's JSON.
fn table(chains: &[(&str, &str, &str, i32, &str)]) -> nft::Ruleset {
    let mut objects = vec![r#"{"table": {"family": "inet", "name": "t"}}"#.to_owned()];
    for (name, kind, hook, priority, _) in chains {
        objects.push(format!(
            r#"{{"chain": {{"family": "inet", "table": "t", "name": "{name}", "type": "{kind}", "hook": "{hook}",
                "prio": {priority}, "policy": "accept"}}}}"#
        ));
    }
    for (name, _, _, _, rule) in chains {
        objects.push(format!(
            r#"{{"rule": {{"family": "inet", "table": "t", "chain": "{name}", "expr": [{rule}]}}}}"#
        ));
    }
    nft::parse::parse(format!(r#"{{"nftables": [{}]}}"#, objects.join(", ")).as_bytes()).unwrap()
}

const TO_POD: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n\
    -A PREROUTING -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.128.0.1:8080\nCOMMIT\n";
const DNAT_ELSEWHERE: &str = r#"{"dnat": {"family": "ip", "addr": "10.128.0.2", "port": 9090}}"#;
const DROP_POD_1: &str = r#"{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}},
    "right": "10.128.0.1"}}, {"drop": null}"#;

#[test]
fn languages_are_asked_by_priority() {
    let rules = xtables(TO_POD);
    let packet = packet("pod 10.128.0.9 -> 10.96.0.10:80/tcp");
    let fate = |chains: &[(&str, &str, &str, i32, &str)]| {
        let nft = table(chains);
        let rules =
            Rules { xtables: vec![(Source::XtablesLegacy, &rules)], nft: Some(&nft), ..Rules::default() };
        trace(&rules, &packet, &facts()).fate().to_string()
    };
    // Translation is settled by the first; its own priority among translators counts, not that of the hook.
    assert_eq!(fate(&[("a", "nat", "prerouting", -99, DNAT_ELSEWHERE)]), "10.128.0.1:8080");
    assert_eq!(fate(&[("a", "nat", "prerouting", -101, DNAT_ELSEWHERE)]), "10.128.0.2:9090");
    // A filter sees the destination that the sender meant before, the endpoint behind.
    assert_eq!(fate(&[("a", "filter", "prerouting", -101, DROP_POD_1)]), "10.128.0.1:8080");
    assert_eq!(fate(&[("a", "filter", "prerouting", -99, DROP_POD_1)]), "drop");
    assert_eq!(fate(&[("a", "filter", "forward", 0, DROP_POD_1)]), "drop");
}

#[test]
fn both_iptables_are_asked() {
    let (legacy, by_nft) = (xtables(TO_POD), xtables("*mangle\n:FORWARD DROP [0:0]\nCOMMIT\n"));
    let rules = Rules {
        xtables: vec![(Source::XtablesLegacy, &legacy), (Source::XtablesNft, &by_nft)],
        ..Rules::default()
    };
    let trace = trace(&rules, &packet("pod 10.128.0.9 -> 10.96.0.10:80/tcp"), &facts());
    assert_eq!(trace.fate().to_string(), "drop");
    let Some(Event::Stop(stop)) = trace.events.last() else { panic!("{:?}", trace.events) };
    assert_eq!((stop.source, stop.table.as_str(), stop.priority), (Source::XtablesNft, "mangle", -150));
    assert_eq!((stop.steps[0].number, stop.steps[0].text.as_str()), (None, "policy drop"));
}

#[test]
fn what_is_not_understood_is_named_with_its_share() {
    let rules = xtables(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:A - [0:0]\n\
         -A PREROUTING -m statistic --mode random --probability 0.25 -j A\n\
         -A A -m string --string x --algo bm -j DROP\nCOMMIT\n",
    );
    let rules = Rules { xtables: vec![(Source::Xtables, &rules)], ..Rules::default() };
    let trace = trace(&rules, &packet("pod 10.128.0.9 -> 10.96.0.10:80/tcp"), &facts());
    let unknown = trace.ends.iter().find(|(_, end)| *end == End::Unknown).unwrap();
    assert!((unknown.0 - 0.25).abs() < 1e-6, "{:?}", trace.ends);
    assert_eq!(trace.unknown, ["nat A rule 1: -m string --string x --algo bm"]);
    assert_eq!(trace.fate().to_string(), "unknown: nat A rule 1: -m string --string x --algo bm");
}

#[test]
fn whoever_was_remembered_goes_there_again() {
    for (mode, masq) in [("iptables", ""), ("nftables", ""), ("userspace", " masq")] {
        let args = [
            "pod 10.128.0.9 -> 10.96.77.1:6379/tcp",
            "-f",
            "shop",
            "--node",
            "node-1",
            "--mode",
            mode,
            "-o",
            "json",
        ];
        let fate = |more: &[&str]| {
            let text = printed(0, &[&args[..], more].concat());
            let document: serde_json::Value = serde_json::from_str(&text).unwrap();
            document["fate"].as_str().unwrap().to_owned()
        };
        assert_eq!(fate(&[]), format!("10.128.1.40:6379|10.128.2.40:6379{masq}"));
        assert_eq!(fate(&["--sent-before", "10.128.2.40:6379"]), format!("10.128.2.40:6379{masq}"));
        let stranger = fate(&["--sent-before", "10.128.9.9:1"]);
        assert_eq!(stranger, format!("10.128.1.40:6379|10.128.2.40:6379{masq}"));
    }
}

#[test]
fn what_cannot_be_read_may_decide() {
    // A word of nft's own is no name that its text can carry.
    let nft = table(&[("fwd", "filter", "forward", 0, r#"{"drop": null}"#)]);
    let rules = Rules { xtables: Vec::new(), nft: Some(&nft), ..Rules::default() };
    let trace = trace(&rules, &packet("pod 10.128.0.9 -> 10.96.0.10:80/tcp"), &facts());
    assert_eq!(trace.fate().to_string(), "unknown: inet t: chain fwd");
}

/// Runs a trace on the quickstart; what it prints.
fn printed(status: u8, args: &[&str]) -> String {
    let ran = run_with(&mut machine(), &[&["trace"], args].concat());
    assert_eq!((ran.status, ran.err.as_str()), (status, ""), "{}", ran.out);
    ran.out
}

#[test]
fn compiled_rules_are_traced() {
    let args =
        ["outside 203.0.113.9 -> node:30909/tcp", "-f", "shop", "--node", "node-1", "--mode", "nftables"];
    expect![[r#"
        outside 203.0.113.9 -> 192.168.77.11:30909/tcp

        prerouting: nft ip kube-proxy, priority -110
          filter-prerouting-pre-dnat rule 1: ct state new jump firewall-check → firewall-check

        prerouting: nft ip kube-proxy, priority -100
          nat-prerouting rule 1: jump services → services
            services rule 2 [shop/api:grpc]: ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports → external-R6NSGCUN-shop/api/tcp/grpc
              external-R6NSGCUN-shop/api/tcp/grpc rule 1 [shop/api:grpc]: mark set mark or 0x00004000 comment "masquerade" → mark 0x4000
              external-R6NSGCUN-shop/api/tcp/grpc rule 2 [shop/api:grpc]: goto service-R6NSGCUN-shop/api/tcp/grpc → service-R6NSGCUN-shop/api/tcp/grpc
                33.3 % service-R6NSGCUN-shop/api/tcp/grpc rule 1 [shop/api:grpc]: meta l4proto tcp dnat ip addr . port to numgen random mod 3 map { 0 : 10.128.0.31 . 9090 , 1 : 10.128.1.31 . 9090 , 2 : 10.128.2.31 . 9090 } → to 10.128.0.31:9090
                33.3 % service-R6NSGCUN-shop/api/tcp/grpc rule 1 [shop/api:grpc]: meta l4proto tcp dnat ip addr . port to numgen random mod 3 map { 0 : 10.128.0.31 . 9090 , 1 : 10.128.1.31 . 9090 , 2 : 10.128.2.31 . 9090 } → to 10.128.1.31:9090
                33.3 % service-R6NSGCUN-shop/api/tcp/grpc rule 1 [shop/api:grpc]: meta l4proto tcp dnat ip addr . port to numgen random mod 3 map { 0 : 10.128.0.31 . 9090 , 1 : 10.128.1.31 . 9090 , 2 : 10.128.2.31 . 9090 } → to 10.128.2.31:9090

        routing
          33.3 % 10.128.0.31:9090 away
          33.3 % 10.128.1.31:9090 away
          33.3 % 10.128.2.31:9090 away

        forward: nft ip kube-proxy, priority 0
          filter-forward rule 1: ct state new jump service-endpoints-check → service-endpoints-check
          filter-forward rule 2: ct state new jump cluster-ips-check → cluster-ips-check

        postrouting: nft ip kube-proxy, priority 100
          nat-postrouting rule 1: jump masquerading → masquerading
            masquerading rule 1: mark and 0x00004000 != 0 mark set mark xor 0x00004000 masquerade fully-random → source becomes the node's

        fate
           33.3 %  10.128.0.31:9090, source rewritten
           33.3 %  10.128.1.31:9090, source rewritten
           33.3 %  10.128.2.31:9090, source rewritten
    "#]].assert_eq(&printed(0, &args));
    let args = ["pod 10.128.0.9 -> 10.96.77.1:6379/tcp", "-f", "shop", "--node", "node-1"];
    expect![[r#"
        pod 10.128.0.9 -> 10.96.77.1:6379/tcp

        prerouting: iptables nat, priority -100
          PREROUTING rule 1: -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
            KUBE-SERVICES rule 6 [shop/cart]: -d 10.96.77.1/32 -p tcp -m comment --comment "shop/cart cluster IP" -m tcp --dport 6379 -j KUBE-SVC-N5W5PH5NLY2BP4HG
              50 % KUBE-SVC-N5W5PH5NLY2BP4HG rule 3 [shop/cart]: -m comment --comment "shop/cart -> 10.128.1.40:6379" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-6QMMS5HUEG4IFVIF
                50 % KUBE-SEP-6QMMS5HUEG4IFVIF rule 2 [shop/cart]: -p tcp -m comment --comment "shop/cart" -m recent --set --name KUBE-SEP-6QMMS5HUEG4IFVIF --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.128.1.40:6379 → to 10.128.1.40:6379
              50 % KUBE-SVC-N5W5PH5NLY2BP4HG rule 4 [shop/cart]: -m comment --comment "shop/cart -> 10.128.2.40:6379" -j KUBE-SEP-GKNF537QAZ5RVO4N
                50 % KUBE-SEP-GKNF537QAZ5RVO4N rule 2 [shop/cart]: -p tcp -m comment --comment "shop/cart" -m recent --set --name KUBE-SEP-GKNF537QAZ5RVO4N --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.128.2.40:6379 → to 10.128.2.40:6379

        routing
          50 % 10.128.1.40:6379 away
          50 % 10.128.2.40:6379 away

        forward: iptables filter, priority 0
          FORWARD rule 1: -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
          FORWARD rule 2: -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
          FORWARD rule 3: -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
          FORWARD rule 4: -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES

        postrouting: iptables nat, priority 100
          POSTROUTING rule 1: -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
            KUBE-POSTROUTING rule 1: -m mark ! --mark 0x4000/0x4000 -j RETURN

        fate
           50.0 %  10.128.1.40:6379, source kept
           50.0 %  10.128.2.40:6379, source kept
    "#]].assert_eq(&printed(0, &args));
}

#[test]
fn a_trace_goes_on_behind_a_listener() {
    let mut host = machine_in_userspace_mode();
    host.devices.get_mut("lo").unwrap().addresses.insert("192.168.77.11".parse().unwrap());
    let mut said = |status: u8, args: &[&str]| {
        let ran = run_with(&mut host, &[&["trace"], args].concat());
        assert_eq!((ran.status, ran.err.as_str()), (status, ""), "{}", ran.out);
        ran.out
    };
    let packet = "outside 203.0.113.9 -> node:30909/tcp";
    let text = said(0, &[packet]);
    expect![[r#"
        outside 203.0.113.9 -> 192.168.77.11:30909/tcp

        prerouting: iptables-nft nat, priority -100
          PREROUTING rule 1: -m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j KUBE-PORTALS-CONTAINER
          PREROUTING rule 2: -m addrtype --dst-type LOCAL -m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" -j KUBE-NODEPORT-CONTAINER
            KUBE-NODEPORT-CONTAINER rule 1 [shop/api:grpc]: -p tcp -m comment --comment "shop/api:grpc" -m tcp --dport 30909 -j REDIRECT --to-ports 29263 → to 192.168.77.11:29263

        routing
          192.168.77.11:29263 to the node itself

        input: iptables-nft filter, priority 0
          INPUT rule 1: -m comment --comment "Ensure that non-local NodePort traffic can flow" -j KUBE-NODEPORT-NON-LOCAL
            KUBE-NODEPORT-NON-LOCAL rule 1 [shop/api:grpc]: -p tcp -m comment --comment "shop/api:grpc" -m tcp --dport 29263 -m conntrack --ctstate NEW -j ACCEPT → let through

        process
          listener tcp 0.0.0.0:29263 [shop/api:grpc] → a connection of its own to 10.128.0.31:9090 or 10.128.1.31:9090 or 10.128.2.31:9090

        fate
           33.3 %  10.128.0.31:9090, source rewritten
           33.3 %  10.128.1.31:9090, source rewritten
           33.3 %  10.128.2.31:9090, source rewritten
    "#]].assert_eq(&text);
    // Recorded and compiled rules lead there as well.
    let fate = |text: &str| text.split_once("process\n").map(|(_, rest)| rest.to_owned());
    let compiled = said(0, &[packet, "-f", "shop", "--node", "node-1", "--mode", "userspace"]);
    assert_eq!((fate(&compiled), fate(&text).is_some()), (fate(&text), true), "{compiled}");
    let recorded = said(0, &[packet, "--from-dump", "dump", "--local-address", "192.168.77.11"]);
    assert_eq!(fate(&recorded), fate(&text), "{recorded}");
    let json: serde_json::Value = serde_json::from_str(&said(0, &[packet, "-o", "json"])).unwrap();
    let last = json["way"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["event"], &last["label"]), (&"carried".into(), &"shop/api:grpc".into()));
    assert_eq!((&last["fate"], json["ends"].as_array().unwrap().len()), (&json["fate"], 3));
    let closed = said(0, &["pod 10.128.0.9 -> 10.96.90.9:80/tcp"]);
    assert!(
        closed.contains("→ accepted and closed: there is no endpoint\n") && closed.ends_with(" refused\n"),
        "{closed}"
    );
}

#[test]
fn where_a_process_carries_a_packet_that_tells_nothing_is_not_known() {
    let mut host = machine_in_userspace_mode();
    host.status = None;
    let ran = run_with(
        &mut host,
        &["trace", "pod 10.128.0.9 -> 10.96.40.3:9090/tcp", "--local-address", "192.168.77.11"],
    );
    assert_eq!((ran.status, ran.err.as_str()), (1, ""), "{}", ran.out);
    assert!(ran.out.contains("\n  not certain: where it goes from 192.168.77.11:"), "{}", ran.out);
}

#[test]
fn json_says_the_same() {
    let args = ["pod 10.128.0.9 -> 10.96.90.9:80/tcp", "-f", "shop", "--node", "node-1", "-o", "json"];
    expect![[r#"
        {
          "packet": "pod 10.128.0.9 -> 10.96.90.9:80/tcp",
          "fate": "reject",
          "ends": [
            {
              "share": 1.0,
              "end": "rejected"
            }
          ],
          "unknown": [],
          "way": [
            {
              "event": "stop",
              "hook": "prerouting",
              "source": "iptables",
              "table": "nat",
              "priority": -100,
              "rules": [
                {
                  "share": 1.0,
                  "chain": "PREROUTING",
                  "number": 1,
                  "rule": "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
                  "action": "jump",
                  "to": "KUBE-SERVICES"
                }
              ]
            },
            {
              "event": "routing",
              "to": [
                {
                  "share": 1.0,
                  "destination": "10.96.90.9:80",
                  "local": false
                }
              ]
            },
            {
              "event": "stop",
              "hook": "forward",
              "source": "iptables",
              "table": "filter",
              "priority": 0,
              "rules": [
                {
                  "share": 1.0,
                  "chain": "FORWARD",
                  "number": 1,
                  "rule": "-m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL",
                  "action": "jump",
                  "to": "KUBE-PROXY-FIREWALL"
                },
                {
                  "share": 1.0,
                  "chain": "FORWARD",
                  "number": 2,
                  "rule": "-m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD",
                  "action": "jump",
                  "to": "KUBE-FORWARD"
                },
                {
                  "share": 1.0,
                  "chain": "FORWARD",
                  "number": 3,
                  "rule": "-m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
                  "action": "jump",
                  "to": "KUBE-SERVICES",
                  "rules": [
                    {
                      "share": 1.0,
                      "chain": "KUBE-SERVICES",
                      "number": 1,
                      "rule": "-d 10.96.90.9/32 -p tcp -m comment --comment \"shop/search:http has no endpoints\" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable",
                      "service": "shop/search:http",
                      "action": "reject"
                    }
                  ]
                }
              ]
            }
          ]
        }
    "#]].assert_eq(&printed(0, &args));
}

#[test]
fn recordings_and_this_machine_are_traced() {
    let mut host = machine();
    let read = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings/c01");
        fs::read(folder.join(name)).unwrap()
    };
    for name in ["iptables-save.txt", "nft.json"] {
        host.files.insert(format!("dump/{name}"), read(name));
    }
    let packet = "pod 10.128.0.9 -> 10.100.1.227:4789/udp";
    let fate = |host: &mut _, more: &[&str]| {
        let ran = run_with(host, &[&["trace", packet, "-o", "json"], more].concat());
        assert_eq!(ran.err, "");
        let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        document["fate"].as_str().unwrap().to_owned()
    };
    let by_iptables = fate(&mut host, &["--from-dump", "dump", "--mode", "iptables"]);
    assert!(by_iptables.starts_with("10.128."), "{by_iptables}");
    assert_eq!(fate(&mut host, &["--from-dump", "dump/iptables-save.txt"]), by_iptables);
    assert_eq!(fate(&mut host, &["--from-dump", "dump", "--mode", "nftables"]), by_iptables);
    assert_eq!(fate(&mut host, &[]), "none");
    let text = String::from_utf8(read("iptables-save.txt")).unwrap();
    host.nfacct =
        Some(["ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts"].map(str::to_owned).into());
    host.put_rules(XtablesVariant::Legacy, IpFamily::V4, &text).unwrap();
    assert_eq!(fate(&mut host, &[]), by_iptables);
    host.nft.insert(
        ("inet".to_owned(), "t".to_owned()),
        br#"{"nftables": [{"table": {"family": "inet", "name": "t"}},
            {"chain": {"family": "inet", "table": "t", "name": "c", "type": "filter", "hook": "prerouting",
             "prio": -350, "policy": "drop"}}]}"#
            .to_vec(),
    );
    assert_eq!(fate(&mut host, &[]), "drop");
    assert_eq!(fate(&mut host, &["--family", "ipv4"]), "drop");
}

/// A machine with the quickstart in nftables mode, that sees a packet; `lines` follow the number of the packet.
fn watching(lines: &[&str]) -> FakeHost {
    let mut host = machine();
    host.variants.clear();
    let table = r#"{"nftables": [{"table": {"family": "ip", "name": "t"}},
        {"chain": {"family": "ip", "table": "t", "name": "pre", "type": "nat", "hook": "prerouting", "prio": -100,
         "policy": "accept"}},
        {"chain": {"family": "ip", "table": "t", "name": "svc"}},
        {"rule": {"family": "ip", "table": "t", "chain": "pre", "expr": [{"jump": {"target": "svc"}}]}},
        {"rule": {"family": "ip", "table": "t", "chain": "svc", "expr": [
         {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 80}},
         {"dnat": {"addr": "10.128.0.1", "port": 8080}}]}}]}"#;
    host.nft.insert(("ip".to_owned(), "t".to_owned()), table.into());
    host.traced = lines.iter().map(|line| format!("trace id 1a {line}")).collect();
    host.traced.push("trace id 1b ip t pre policy drop".to_owned());
    // It was under way when the watch began.
    host.traced.insert(0, "trace id 19 ip t pre policy accept".to_owned());
    host
}

const WATCHED: [&str; 5] = [
    "inet svcproxy-trace watch rule ct state new meta nftrace set 1 (verdict continue)",
    "ip t pre packet: iif \"v\" ip saddr 10.128.0.9 ip daddr 10.96.0.10 tcp sport 4 tcp dport 80",
    "ip t pre rule jump svc (verdict jump svc)",
    "ip t svc rule tcp dport 80 dnat to 10.128.0.1:8080 (verdict accept)",
    "ip t post packet: oif \"v\" ip saddr 10.128.0.9 ip daddr 10.128.0.1 tcp sport 4 tcp dport 8080",
];

#[test]
fn a_real_packet_is_held_against_the_foretold_one() {
    let args = ["trace", "pod 10.128.0.9 -> 10.96.0.10:80/tcp", "--live", "--timeout", "7"];
    let mut host = watching(&WATCHED);
    let ran = run_with(&mut host, &args);
    expect![[r#"
        waiting up to 7 s for a packet: pod 10.128.0.9 -> 10.96.0.10:80/tcp
        pod 10.128.0.9 -> 10.96.0.10:80/tcp

        prerouting: nft ip t, priority -100
          pre rule 1: jump svc → svc
            svc rule 1: tcp dport 80 dnat to 10.128.0.1:8080 → to 10.128.0.1:8080

        routing
          10.128.0.1:8080 away

        fate
          100.0 %  10.128.0.1:8080, source kept

        seen
          ip t pre: for 10.96.0.10:80
          ip t pre: jump svc → jump svc
          ip t svc: tcp dport 80 dnat to 10.128.0.1:8080 → accept
          ip t post: for 10.128.0.1:8080
          to 10.128.0.1:8080
        as foretold
    "#]]
    .assert_eq(&format!("{}{}", ran.err, ran.out));
    assert_eq!(ran.status, 0);
    expect![[r#"
        add table inet svcproxy-trace { flags owner ; }
        add chain inet svcproxy-trace watch { type filter hook prerouting priority -199 ; }
        add rule inet svcproxy-trace watch ct state new,untracked ip saddr 10.128.0.9 ip daddr 10.96.0.10 tcp dport 80 meta nftrace set 1
    "#]].assert_eq(&host.documents.last().unwrap().1);
    assert_eq!(host.calls.last().unwrap(), "nft watch with inet svcproxy-trace");

    let mut otherwise = WATCHED;
    otherwise[2] = "ip t pre rule jump other (verdict jump other)";
    otherwise[4] =
        "ip t post packet: oif \"v\" ip saddr 10.128.0.9 ip daddr 10.128.0.7 tcp sport 4 tcp dport 8080";
    let ran = run_with(&mut watching(&otherwise), &args);
    assert_eq!(ran.status, 1);
    let differences: Vec<&str> = ran.out.lines().filter(|line| line.starts_with("not foretold")).collect();
    assert_eq!(
        differences,
        ["not foretold: ip t pre: jump other (jump other)", "not foretold: it went to 10.128.0.7:8080"]
    );
    let ran = run_with(&mut watching(&otherwise), &[&args[..], &["-o", "json"]].concat());
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(document["seen"]["asForetold"], false);
    assert_eq!(document["seen"]["destination"], "10.128.0.7:8080");

    let mut silent = watching(&[]);
    silent.traced.clear();
    let ran = run_with(&mut silent, &args);
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("no packet of this flow came within 7 s"), "{}", ran.err);
}

#[test]
fn bad_packets_and_folders_are_told() {
    let refused = |args: &[&str]| {
        let ran = run_with(&mut machine(), &[&["trace"], args].concat());
        assert_eq!((ran.status, ran.out.as_str()), (2, ""));
        ran.err
    };
    expect![[r#"
        error: the packet `pod 10.0.0.1 -> 10.0.0.2:80`: column 28: expected `/` and a protocol
        hint: one is written as `pod 10.128.0.9 -> 10.96.0.10:53/udp`
    "#]]
    .assert_eq(&refused(&["pod 10.0.0.1 -> 10.0.0.2:80"]));
    expect![[r#"
        error: the packet `outside 203.0.113.9 -> node:30080/tcp`: column 24: the node has no such address
        hint: give --local-address
    "#]]
    .assert_eq(&refused(&["outside 203.0.113.9 -> node:30080/tcp"]));
    expect![[r#"
        error: `shop` has no recorded rules
        hint: record them with `iptables-save -c > iptables-save.txt`, `ip6tables-save -c > ip6tables-save.txt` and `nft -j list ruleset > nft.json`
    "#]].assert_eq(&refused(&["pod 10.0.0.1 -> 10.0.0.2:80/tcp", "--from-dump", "shop"]));
    expect![[r#"
        error: `shop/nodes.yaml`: line 2, column 1: expected a table, a chain, a rule, COMMIT or a comment
    "#]]
    .assert_eq(&refused(&["pod 10.0.0.1 -> 10.0.0.2:80/tcp", "--from-dump", "shop/nodes.yaml"]));
}

#[test]
fn virtual_servers_are_on_the_way() {
    let mut host = machine_in_ipvs_mode();
    let live = run_with(&mut host, &["trace", "outside 192.0.2.9 -> 10.96.40.3:9090/tcp"]);
    assert_eq!((live.status, live.err.as_str()), (0, ""), "{}", live.out);
    expect![[r#"
        outside 192.0.2.9 -> 10.96.40.3:9090/tcp

        prerouting: iptables-nft nat, priority -100
          PREROUTING rule 1: -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
            KUBE-SERVICES rule 7: -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
            KUBE-SERVICES rule 8: -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT → let through

        routing
          10.96.40.3:9090 to the node itself

        input: iptables-nft filter, priority 0
          INPUT rule 1: -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER
            KUBE-IPVS-FILTER rule 2: -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
          INPUT rule 2: -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
          INPUT rule 3: -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT

        input: IPVS virtual servers, priority 99
          33.3 % 10.96.40.3:9090/TCP: scheduler rr → to 10.128.0.31:9090
          33.3 % 10.96.40.3:9090/TCP: scheduler rr → to 10.128.1.31:9090
          33.3 % 10.96.40.3:9090/TCP: scheduler rr → to 10.128.2.31:9090

        output: iptables-nft filter, priority 0
          OUTPUT rule 1: -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER

        postrouting: iptables-nft nat, priority 100
          POSTROUTING rule 1: -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
            KUBE-POSTROUTING rule 2: -m mark ! --mark 0x4000/0x4000 -j RETURN

        fate
           33.3 %  10.128.0.31:9090, source kept
           33.3 %  10.128.1.31:9090, source kept
           33.3 %  10.128.2.31:9090, source kept
    "#]]
    .assert_eq(&live.out);
    let packet = "outside 192.0.2.9 -> 10.96.40.3:9090/tcp";
    let compiled =
        run_with(&mut host, &["trace", packet, "-f", "shop", "--node", "node-1", "--mode", "ipvs"]);
    let fate = |text: &str| text.split("\nfate\n").nth(1).unwrap().to_owned();
    assert_eq!(fate(&compiled.out), fate(&live.out));
}
