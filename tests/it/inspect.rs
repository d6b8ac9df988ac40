//! `inspect`: what it reads back from rules is what `resolve` decided; tables, JSON, YAML, pictures; what is odd; errors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect;
use svcproxy::host::{FakeHost, XtablesVariant};
use svcproxy::model::Mode;
use svcproxy::net::IpFamily;
use svcproxy::program::ipvs::{Connections, Counters, ServiceKey};
use svcproxy::resolve::{self, NodeView, PortView, Route, Vip};

use crate::cli::{machine, machine_in_ipvs_mode, machine_in_userspace_mode, run_with};
use crate::given;

/// A machine with a folder of recorded rules, called `dump`.
fn with_dump(folder: &Path) -> FakeHost {
    let mut host = FakeHost::new();
    let recorded = ["iptables-save.txt", "ip6tables-save.txt", "nft.json"];
    let of_ipvs = ["ipvs-iptables-save.txt", "ipvs-ip6tables-save.txt", "ipvs-save.txt", "ipset-save.txt"];
    for name in recorded.into_iter().chain(of_ipvs).chain(["ipvs-addr.txt"]) {
        host.files.insert(format!("dump/{name}"), fs::read(folder.join(name)).unwrap());
    }
    for name in ["cluster.json", "config-ipvs.json"] {
        host.files.insert(name.to_owned(), fs::read(folder.join(name)).unwrap());
    }
    host
}

fn recordings() -> Vec<PathBuf> {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings");
    let entries = fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert_eq!(folders.len(), 14);
    folders
}

/// VIPs, endpoints, affinity and source ranges by family, name and protocol.
type Services = BTreeMap<(String, String, String), Facts>;

#[derive(Debug, PartialEq, Eq)]
struct Facts {
    vips: BTreeSet<String>,
    closed: BTreeSet<String>,
    endpoints: BTreeSet<String>,
    affinity: Option<u64>,
}

/// What decisions give rules for.
fn decided(view: &NodeView, mode: Mode, services: &mut Services) {
    for port in &view.ports {
        let routes = |port: &PortView| {
            let all = [Some(port.internal), port.external].into_iter().flatten();
            all.flat_map(|routes| [routes.pods, routes.node, routes.outside]).collect::<Vec<Route>>()
        };
        let mut endpoints = BTreeSet::new();
        for route in routes(port) {
            if let Route::Forward { pool, .. } = route {
                endpoints.extend(port.pool(pool).map(|endpoint| endpoint.to_string()));
            }
        }
        let text = |vip: Vip| match vip {
            Vip::Address(vip) => vip.to_string(),
            Vip::NodePort(port) => format!("node:{port}"),
        };
        let mut vips: BTreeSet<String> = port.frontends.iter().map(|one| text(one.vip)).collect();
        let is_closed = |route: Route| !matches!(route, Route::Forward { .. });
        let closed = port.frontends.iter().filter(|one| is_closed(port.routes(one.kind).outside));
        let closed = closed.map(|one| text(one.vip)).collect();
        if matches!(mode, Mode::Iptables | Mode::Ipvs) {
            vips.extend(port.health_check_node_port.map(|port| format!("health check node:{port}")));
        }
        let is_always_there = matches!(mode, Mode::Ipvs | Mode::Userspace);
        let affinity = port.affinity_seconds.map(u64::from);
        let affinity = affinity.filter(|_| is_always_there || !endpoints.is_empty());
        let key = (view.family.to_string(), port.name.to_string(), port.name.protocol.api_name().to_owned());
        services.insert(key, Facts { vips, closed, endpoints, affinity });
    }
}

/// What `inspect -o json` lists.
fn listed(host: &mut FakeHost, mode: Mode) -> Services {
    // Virtual servers have no names but those of manifests.
    let named = ["-f", "cluster.json", "--config", "config-ipvs.json"];
    let named: &[&str] = if mode == Mode::Ipvs { &named } else { &[] };
    let args = ["inspect", "--from-dump", "dump", "--mode", mode.name(), "-o", "json"];
    let ran = run_with(host, &[&args, named].concat());
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(document["findings"], serde_json::json!([]), "nothing is odd about a recording");
    let mut services = Services::new();
    for service in document["services"].as_array().unwrap() {
        let text = |field: &str| service[field].as_str().unwrap().to_owned();
        let name = format!("{}/{}", text("namespace"), text("name"));
        let name = if text("port").is_empty() { name } else { format!("{name}:{}", text("port")) };
        let vips = service["vips"].as_array().unwrap();
        let facts = Facts {
            vips: vips.iter().map(|vip| vip["vip"].as_str().unwrap().to_owned()).collect(),
            closed: vips
                .iter()
                .filter(|vip| vip["closed"].as_bool().unwrap())
                .map(|vip| vip["vip"].as_str().unwrap().to_owned())
                .collect(),
            endpoints: service["endpoints"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["endpoint"].as_str().unwrap().to_owned())
                .collect(),
            affinity: service["affinitySeconds"].as_u64(),
        };
        let before = services.insert((text("family"), name, text("protocol")), facts);
        assert!(before.is_none(), "listed once");
    }
    services
}

fn check_same(folder: &Path, listed: &Services, decided: &Services) {
    for key in listed.keys().chain(decided.keys()) {
        assert_eq!(listed.get(key), decided.get(key), "{}: {key:?}", folder.display());
    }
}

fn check_recordings(mode: Mode) {
    let mut n_services = 0;
    for folder in recordings() {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let given = given::given(&read("cluster.json"), &read(&format!("config-{}.json", mode.name())));
        let mut decided_services = Services::new();
        for family in IpFamily::ALL {
            let view = resolve::resolve(&given.cluster, &given.context, family);
            decided(&view, mode, &mut decided_services);
        }
        let listed = listed(&mut with_dump(&folder), mode);
        n_services += listed.len();
        check_same(&folder, &listed, &decided_services);
    }
    assert!(n_services > 100, "{n_services}");
}

#[test]
fn recordings_in_iptables_mode_are_read_back_exactly() {
    check_recordings(Mode::Iptables);
}

#[test]
fn recordings_in_ipvs_mode_are_read_back_exactly() {
    check_recordings(Mode::Ipvs);
}

#[test]
fn recordings_in_nftables_mode_are_read_back_exactly() {
    check_recordings(Mode::Nftables);
}

/// The quickstart's rules as a dump, with one rule that has counted.
fn quickstart() -> FakeHost {
    let mut host = machine();
    let ran = run_with(&mut host, &["compile", "-f", "shop", "--node", "node-1", "--output-dir", "dump"]);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    let rules = String::from_utf8(host.files.remove("dump/iptables.rules").unwrap()).unwrap();
    let counted: String = rules
        .lines()
        .map(|line| match line {
            line if line.starts_with("-A ") && line.contains("cart cluster IP") => {
                format!("[7:420] {line}\n")
            }
            line if line.starts_with("-A ") && line.contains("10.128.1.40:6379") && line.contains("DNAT") => {
                format!("[3:180] {line}\n")
            }
            line if line.starts_with("-A ") => format!("[0:0] {line}\n"),
            line => format!("{line}\n"),
        })
        .collect();
    host.files.insert("dump/iptables-save.txt".to_owned(), counted.into());
    host
}

/// Runs `inspect` on the quickstart's dump; what it prints.
fn printed(args: &[&str]) -> String {
    let ran = run_with(&mut quickstart(), &[&["inspect", "--from-dump", "dump"], args].concat());
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    ran.out
}

#[test]
fn services_are_listed() {
    expect![[r#"
         SERVICE                       PROTOCOL  VIPS                                                                ENDPOINTS
         default/kubernetes:https      tcp       10.96.0.1:443                                                       1
         kube-system/kube-dns:dns      udp       10.96.0.10:53                                                       2
         kube-system/kube-dns:dns      udp       [fd00:96::a]:53                                                     2
         kube-system/kube-dns:dns-tcp  tcp       10.96.0.10:53                                                       2
         kube-system/kube-dns:dns-tcp  tcp       [fd00:96::a]:53                                                     2
         shop/api:grpc                 tcp       10.96.40.3:9090 192.0.2.40:9090 node:30909                          3
         shop/cart                     tcp       10.96.77.1:6379                                                     2
         shop/search:http              tcp       10.96.90.9:80 (closed)                                              0
         shop/web:http                 tcp       10.96.12.7:80 203.0.113.10:80 node:30080 health check node:32100    2
         shop/web:https                tcp       10.96.12.7:443 203.0.113.10:443 node:30443 health check node:32100  2
    "#]].assert_eq(&printed(&[]));
    expect![[r#"
         SERVICE                       PROTOCOL  VIPS                                                                ENDPOINTS                                           AFFINITY          INTERNAL  EXTERNAL  RANGES                                           CONNECTIONS  RULES
         default/kubernetes:https      tcp       10.96.0.1:443                                                       192.168.77.10:6443                                  none              Cluster   -         -                                                0            iptables IPv4
         kube-system/kube-dns:dns      udp       10.96.0.10:53                                                       10.128.0.2:53 10.128.2.2:53                         none              Cluster   -         -                                                0            iptables IPv4
         kube-system/kube-dns:dns-tcp  tcp       10.96.0.10:53                                                       10.128.0.2:53 10.128.2.2:53                         none              Cluster   -         -                                                0            iptables IPv4
         shop/api:grpc                 tcp       10.96.40.3:9090 192.0.2.40:9090 node:30909                          10.128.0.31:9090 10.128.1.31:9090 10.128.2.31:9090  none              Cluster   Cluster   -                                                0            iptables IPv4
         shop/cart                     tcp       10.96.77.1:6379                                                     10.128.1.40:6379 10.128.2.40:6379                   ClientIP 10800 s  Cluster   -         -                                                7            iptables IPv4
         shop/search:http              tcp       10.96.90.9:80 (closed)                                              -                                                   none              -         -         -                                                0            iptables IPv4
         shop/web:http                 tcp       10.96.12.7:80 203.0.113.10:80 node:30080 health check node:32100    10.128.0.20:8080 10.128.1.20:8080                   none              Cluster   Local     198.51.100.0/24 192.168.77.0/24 203.0.113.10/32  0            iptables IPv4
         shop/web:https                tcp       10.96.12.7:443 203.0.113.10:443 node:30443 health check node:32100  10.128.0.20:8443 10.128.1.20:8443                   none              Cluster   Local     198.51.100.0/24 192.168.77.0/24 203.0.113.10/32  0            iptables IPv4
    "#]].assert_eq(&printed(&["-o", "wide", "--family", "ipv4"]));
}

#[test]
fn endpoints_chains_and_numbers_are_listed() {
    expect![[r#"
         SERVICE    PROTOCOL  ENDPOINT          CONNECTIONS  BYTES
         shop/cart  tcp       10.128.1.40:6379  3            180
         shop/cart  tcp       10.128.2.40:6379  0            0
    "#]]
    .assert_eq(&printed(&["endpoints", "shop/cart"]));
    expect![[r#"
        RULES          TABLE   NAME                    KIND   LENGTH  REFERENCES  OWNER
        iptables IPv6  filter  FORWARD                 chain  4       hook        netfilter
        iptables IPv6  filter  INPUT                   chain  4       hook        netfilter
        iptables IPv6  filter  KUBE-EXTERNAL-SERVICES  chain  0       2           all Services
        iptables IPv6  filter  KUBE-FIREWALL           chain  0       2           all Services
        iptables IPv6  filter  KUBE-FORWARD            chain  3       1           all Services
        iptables IPv6  filter  KUBE-NODEPORTS          chain  0       1           all Services
        iptables IPv6  filter  KUBE-PROXY-FIREWALL     chain  0       3           all Services
        iptables IPv6  filter  KUBE-SERVICES           chain  0       2           all Services
        iptables IPv6  filter  OUTPUT                  chain  3       hook        netfilter
        iptables IPv6  nat     INPUT                   chain  0       hook        netfilter
        iptables IPv6  nat     KUBE-MARK-MASQ          chain  1       4           all Services
        iptables IPv6  nat     KUBE-NODEPORTS          chain  0       1           all Services
        iptables IPv6  nat     KUBE-POSTROUTING        chain  3       1           all Services
        iptables IPv6  nat     KUBE-SERVICES           chain  3       2           all Services
        iptables IPv6  nat     OUTPUT                  chain  1       hook        netfilter
        iptables IPv6  nat     POSTROUTING             chain  1       hook        netfilter
        iptables IPv6  nat     PREROUTING              chain  1       hook        netfilter

        6 chains and sets of Services are not shown: `-o wide` shows them
    "#]]
    .assert_eq(&printed(&["chains", "--family", "ipv6"]));
    expect![[r#"
         RULES          CHAINS  LENGTH  SETS  ELEMENTS  SERVICES  VIPS  CLOSED  ENDPOINTS  CONNECTIONS
         iptables IPv4  45      106     0     0         8         16    1       14         7
         iptables IPv6  23      36      0     0         2         2     0       4          -
    "#]]
    .assert_eq(&printed(&["stats"]));
}

#[test]
fn one_service_is_told_with_its_rules() {
    expect![[r#"
        shop/cart tcp in iptables IPv4
          cluster IP 10.96.77.1:6379, 7 connections
          endpoint 10.128.1.40:6379, 3 connections
          endpoint 10.128.2.40:6379, 0 connections
          affinity ClientIP 10800 s
          traffic policies: internal Cluster, external -

        TABLE  CHAIN                      RULE  WHAT IT DOES                                         PACKETS
        nat    KUBE-SERVICES              6     10.96.77.1:6379: takes traffic for any endpoint      7
        nat    KUBE-SVC-N5W5PH5NLY2BP4HG  1     who was there in the last 10800 s comes back to it   0
        nat    KUBE-SVC-N5W5PH5NLY2BP4HG  2     who was there in the last 10800 s comes back to it   0
        nat    KUBE-SVC-N5W5PH5NLY2BP4HG  3     50.0 % of those who are left                         0
        nat    KUBE-SVC-N5W5PH5NLY2BP4HG  4     all who are left                                     0
        nat    KUBE-SEP-6QMMS5HUEG4IFVIF  1     who is sent back to itself has its source rewritten  0
        nat    KUBE-SEP-6QMMS5HUEG4IFVIF  2     sends to 10.128.1.40:6379, and remembers the client  3
        nat    KUBE-SEP-GKNF537QAZ5RVO4N  1     who is sent back to itself has its source rewritten  0
        nat    KUBE-SEP-GKNF537QAZ5RVO4N  2     sends to 10.128.2.40:6379, and remembers the client  0

    "#]]
    .assert_eq(&printed(&["shop/cart"]));
    let mut host = with_dump(&recordings()[3]);
    let ran = run_with(&mut host, &["inspect", "--from-dump", "dump", "--mode", "nftables", "stats"]);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
}

#[test]
fn json_and_yaml_say_the_same() {
    let (json, yaml) = (printed(&["shop/cart", "-o", "json"]), printed(&["shop/cart", "-o", "yaml"]));
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["services"][0]["vips"][0]["counter"]["packets"], 7);
    assert_eq!(document["services"][0]["affinitySeconds"], 10800);
    expect![[r#"
        services:
        - namespace: shop
          name: cart
          port: ""
          protocol: TCP
          mode: iptables
          source: iptables
          family: IPv4
          clusterIp: "10.96.77.1"
          vips:
          - vip: "10.96.77.1:6379"
            kind: "cluster IP"
            closed: false
            counter:
              packets: 7
              bytes: 420
          endpoints:
          - endpoint: "10.128.1.40:6379"
            counter:
              packets: 3
              bytes: 180
          - endpoint: "10.128.2.40:6379"
            counter:
              packets: 0
              bytes: 0
          affinitySeconds: 10800
    "#]]
    .assert_eq(&yaml.lines().take(26).map(|line| format!("{line}\n")).collect::<String>());
}

#[test]
fn tables_fit_the_terminal() {
    let mut host = quickstart();
    for (format, width) in [("text", 70), ("wide", 130)] {
        host.terminal_width = Some(width);
        let ran = run_with(&mut host, &["inspect", "--from-dump", "dump", "-o", format]);
        assert!(ran.out.lines().all(|line| line.chars().count() <= usize::from(width)), "{}", ran.out);
        assert!(ran.out.contains("shop/cart"), "{}", ran.out);
    }
}

#[test]
fn graphs_are_drawn() {
    expect![[r#"
        digraph "shop/cart in iptables IPv4" {
          rankdir=LR;
          node [shape=box, fontname="monospace"];
          n0 [label="nat OUTPUT", shape=cds];
          n1 [label="nat PREROUTING", shape=cds];
          n2 [label="nat KUBE-SERVICES"];
          n3 [label="nat KUBE-SVC-N5W5PH5NLY2BP4HG"];
          n4 [label="nat KUBE-SEP-6QMMS5HUEG4IFVIF"];
          n5 [label="nat KUBE-SEP-GKNF537QAZ5RVO4N"];
          n6 [label="nat KUBE-MARK-MASQ"];
          n7 [label="10.128.1.40:6379", shape=ellipse];
          n8 [label="10.128.2.40:6379", shape=ellipse];
          n0 -> n2;
          n1 -> n2;
          n2 -> n3 [label="10.96.77.1:6379"];
          n3 -> n4;
          n3 -> n5;
          n4 -> n6;
          n4 -> n7;
          n5 -> n6;
          n5 -> n8;
        }
    "#]]
    .assert_eq(&printed(&["shop/cart", "--graph", "dot"]));
    expect![[r#"
        flowchart LR
          %% shop/search in iptables IPv4
          n0>"filter FORWARD"]
          n1>"filter OUTPUT"]
          n2["filter KUBE-SERVICES"]
          n3{{"refused"}}
          n0 --> n2
          n1 --> n2
          n2 -->|"10.96.90.9:80"| n3
    "#]]
    .assert_eq(&printed(&["shop/search", "--graph", "mermaid"]));
    for service in ["shop/web", "shop/cart", "shop/search:http"] {
        let svg = printed(&[service, "--graph", "svg"]);
        well_formed(&svg);
        assert!(
            svg.starts_with("<svg ") && svg.contains(&format!("<title>{service} in iptables IPv4</title>"))
        );
    }
    for folder in recordings() {
        let ran = run_with(
            &mut with_dump(&folder),
            &["inspect", "default/kubernetes", "--from-dump", "dump", "--mode", "nftables", "--graph", "svg"],
        );
        assert_eq!(ran.status, 0, "{}", ran.err);
        well_formed(&ran.out);
    }
}

/// Every element is closed in order, attributes are quoted, and nothing stands unescaped.
fn well_formed(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = xml;
    while let Some(start) = rest.find('<') {
        let (text, tag) = rest.split_at(start);
        assert!(!text.contains('>'), "`>` in text: {text}");
        for (at, _) in text.match_indices('&') {
            let entity = &text[at..];
            assert!(["&amp;", "&lt;", "&gt;", "&quot;", "&apos;"].iter().any(|one| entity.starts_with(one)));
        }
        let end = tag.find('>').unwrap_or_else(|| panic!("an open tag: {tag}"));
        let inside = &tag[1..end];
        assert!(inside.matches('"').count() % 2 == 0, "{inside}");
        let name = inside.trim_end_matches('/').split_whitespace().next().unwrap();
        match inside.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed)),
            None if inside.ends_with('/') => {}
            None => open.push(name),
        }
        rest = &tag[end + 1..];
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
}

#[test]
fn what_is_odd_is_told() {
    let mut host = quickstart();
    let text = String::from_utf8(host.files["dump/iptables-save.txt"].clone()).unwrap();
    let text = text
        .replace("*nat\n", "*nat\n:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]\n:MINE - [0:0]\n")
        .replacen("COMMIT\n", "-A FORWARD -d 10.128.1.40/32 -p tcp -m tcp --dport 6379 -j DROP\n-A FORWARD -d 192.0.2.1/32 -p udp -j DROP\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n", 1);
    host.files.insert("dump/iptables-save.txt".to_owned(), text.into());
    host.files.insert(
        "dump/nft.json".to_owned(),
        br#"{"nftables": [{"table": {"family": "inet", "name": "wall"}},
            {"chain": {"family": "inet", "table": "wall", "name": "f", "type": "filter", "hook": "forward",
             "prio": 0, "policy": "drop"}},
            {"rule": {"family": "inet", "table": "wall", "chain": "f", "expr": [
             {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 6379}},
             {"reject": null}]}},
            {"rule": {"family": "inet", "table": "wall", "chain": "f", "expr": [
             {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 25}},
             {"drop": null}]}},
            {"chain": {"family": "inet", "table": "wall", "name": "fwd"}},
            {"table": {"family": "ip", "name": "kube-proxy"}}]}"#
            .to_vec(),
    );
    let ran = run_with(&mut host, &["inspect", "--from-dump", "dump", "--family", "ipv4"]);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    let odd = ran.out.split("\n\n").nth(1).unwrap_or_default();
    expect![[r#"
        leftover (IPv4): nft has the table kube-proxy, but no Service in it
        orphan (IPv4): iptables nat KUBE-SEP-AAAAAAAAAAAAAAAA: nothing leads to this chain
        unreadable (IPv4): nft inet wall: chain fwd
        foreign rule (IPv4): iptables filter FORWARD rule 5: -d 10.128.1.40/32 -p tcp -m tcp --dport 6379 -j DROP
        foreign rule (IPv4): nft inet wall f rule 1: tcp dport 6379 reject
        foreign rule (IPv4): nft inet wall f: policy drop
    "#]].assert_eq(odd);
}

#[test]
fn this_machine_is_read_with_its_counters() {
    let mut host = machine();
    assert_eq!(run_with(&mut host, &["inspect"]).out, "no Service has rules here\n");
    let text = String::from_utf8(quickstart().files["dump/iptables-save.txt"].clone()).unwrap();
    host.counted.insert((XtablesVariant::Nft, IpFamily::V4), text);
    let ran = run_with(&mut host, &["inspect", "endpoints", "shop/cart"]);
    expect![[r#"
         SERVICE    PROTOCOL  ENDPOINT          CONNECTIONS  BYTES
         shop/cart  tcp       10.128.1.40:6379  3            180
         shop/cart  tcp       10.128.2.40:6379  0            0
    "#]]
    .assert_eq(&ran.out);
}

#[test]
fn bad_questions_are_told() {
    let refused = |args: &[&str]| {
        let ran = run_with(&mut quickstart(), &[&["inspect", "--from-dump", "dump"], args].concat());
        assert_eq!((ran.status, ran.out.as_str()), (2, ""));
        ran.err
    };
    expect![[r#"
        error: `nothing` is nothing to inspect
        hint: services, endpoints, chains, stats, listeners, or a Service as `shop/web` or `shop/web:http`
    "#]]
    .assert_eq(&refused(&["nothing"]));
    expect![[r#"
        error: `chains` are of all Services
        hint: leave the Service out
    "#]]
    .assert_eq(&refused(&["chains", "shop/web"]));
    expect![[r#"
        error: no rule carries a Service `shop/none`
        hint: `svcproxy inspect` lists those that have rules
    "#]]
    .assert_eq(&refused(&["shop/none"]));
    expect![[r#"
        error: --graph draws one Service
        hint: name it: `svcproxy inspect shop/web --graph svg`
    "#]]
    .assert_eq(&refused(&["--graph", "svg"]));
    let ran = run_with(&mut machine(), &["inspect", "--from-dump", "nowhere"]);
    expect![[r#"
        error: cannot read `nowhere`: No such file or directory
    "#]]
    .assert_eq(&ran.err);
}

#[test]
fn virtual_servers_tell_what_they_hold_and_have_counted() {
    let mut host = machine_in_ipvs_mode();
    let cart = |key: &ServiceKey| key.to_string() == "10.96.77.1:6379/TCP";
    let (_, server) = host.virtual_servers.iter_mut().find(|(key, _)| cart(key)).unwrap();
    server.counters = Some(Counters {
        connections: 9,
        packets_in: 40,
        packets_out: 30,
        bytes_in: 4000,
        bytes_out: 300_000,
    });
    for ((at, real_server), active) in server.real_servers.iter_mut().zip([2, 0]) {
        real_server.connections = Connections { active, inactive: 1 };
        if at.to_string() == "10.128.2.40:6379" {
            real_server.weight = 0;
        }
    }
    let mut printed = |words: &str| {
        let args = format!("inspect {words} -f shop --node node-1 --family ipv4");
        let ran = run_with(&mut host, &args.split(' ').collect::<Vec<_>>());
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
        ran.out
    };
    expect![[r#"
        SERVICE    PROTOCOL  ENDPOINT          ACTIVE  INACTIVE  STATE
        shop/cart  tcp       10.128.1.40:6379  2       1         -
        shop/cart  tcp       10.128.2.40:6379  0       1         draining
    "#]]
    .assert_eq(&printed("endpoints shop/cart"));
    let told = printed("shop/cart");
    expect![[r#"
        shop/cart tcp in IPVS IPv4
          cluster IP 10.96.77.1:6379, 9 connections, in 40 packets of 4000 bytes, out 30 packets of 300000 bytes
          endpoint 10.128.1.40:6379, 2 active and 1 inactive connections
          endpoint 10.128.2.40:6379, 0 active and 1 inactive connections, draining
          affinity ClientIP 10800 s
          traffic policies: internal -, external -"#]].assert_eq(told.split("\n\n").next().unwrap());
    let json: serde_json::Value = serde_json::from_str(&printed("shop/cart -o json")).unwrap();
    expect![[r#"[{"closed":false,"kind":"cluster IP","traffic":{"bytesIn":4000,"bytesOut":300000,"connections":9,"packetsIn":40,"packetsOut":30},"vip":"10.96.77.1:6379"}]"#]].assert_eq(&json["services"][0]["vips"].to_string());
    expect![[r#"[{"activeConnections":2,"endpoint":"10.128.1.40:6379","inactiveConnections":1},{"activeConnections":0,"draining":true,"endpoint":"10.128.2.40:6379","inactiveConnections":1}]"#]].assert_eq(&json["services"][0]["endpoints"].to_string());
    let wide = printed("services -o wide");
    let line = wide.lines().find(|line| line.starts_with("shop/cart ")).unwrap();
    assert!(line.contains(" 9 "), "{wide}");
    let stats = printed("stats");
    let line = stats.lines().find(|line| line.starts_with("IPVS")).unwrap();
    assert!(line.ends_with(" 9"), "{stats}");
}

#[test]
fn virtual_servers_without_manifests_go_by_their_addresses() {
    let mut host = machine_in_ipvs_mode();
    let mut printed = |args: &[&str]| {
        let ran = run_with(&mut host, &[&["inspect"], args].concat());
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
        ran.out
    };
    expect![[r#"
        SERVICE                          PROTOCOL  VIPS                    ENDPOINTS
        virtual server 10.96.0.10:53     tcp       10.96.0.10:53           2
        virtual server 10.96.0.10:53     udp       10.96.0.10:53           2
        virtual server 10.96.0.1:443     tcp       10.96.0.1:443           1
        virtual server 10.96.12.7:443    tcp       10.96.12.7:443          2
        virtual server 10.96.12.7:80     tcp       10.96.12.7:80           2
        virtual server 10.96.40.3:9090   tcp       10.96.40.3:9090         3
        virtual server 10.96.77.1:6379   tcp       10.96.77.1:6379         2
        virtual server 10.96.90.9:80     tcp       10.96.90.9:80 (closed)  0
        virtual server 192.0.2.40:9090   tcp       192.0.2.40:9090         3
        virtual server 203.0.113.10:443  tcp       203.0.113.10:443        1
        virtual server 203.0.113.10:80   tcp       203.0.113.10:80         1
        virtual server [fd00:96::a]:53   tcp       [fd00:96::a]:53         2
        virtual server [fd00:96::a]:53   udp       [fd00:96::a]:53         2
    "#]]
    .assert_eq(&printed(&[]));
    expect![[r#"
        SERVICE                       PROTOCOL  VIPS                             ENDPOINTS
        default/kubernetes:https      tcp       10.96.0.1:443                    1
        kube-system/kube-dns:dns      udp       10.96.0.10:53                    2
        kube-system/kube-dns:dns      udp       [fd00:96::a]:53                  2
        kube-system/kube-dns:dns-tcp  tcp       10.96.0.10:53                    2
        kube-system/kube-dns:dns-tcp  tcp       [fd00:96::a]:53                  2
        shop/api:grpc                 tcp       10.96.40.3:9090 192.0.2.40:9090  3
        shop/cart                     tcp       10.96.77.1:6379                  2
        shop/search:http              tcp       10.96.90.9:80 (closed)           0
        shop/web:http                 tcp       10.96.12.7:80 203.0.113.10:80    2
        shop/web:https                tcp       10.96.12.7:443 203.0.113.10:443  2
    "#]]
    .assert_eq(&printed(&["-f", "shop", "--node", "node-1"]));
    expect![[r#"
        shop/api:grpc tcp in IPVS IPv4
          cluster IP 10.96.40.3:9090
          external IP 192.0.2.40:9090
          endpoint 10.128.0.31:9090
          endpoint 10.128.1.31:9090
          endpoint 10.128.2.31:9090
          affinity none
          traffic policies: internal -, external Cluster

        TABLE  CHAIN                RULE            WHAT IT DOES                                     TEXT
        ipvs   10.96.40.3:9090/TCP  virtual server  10.96.40.3:9090: spreads over 3 endpoints by rr  -A -t 10.96.40.3:9090 -s rr
        ipset  KUBE-CLUSTER-IP      element         10.96.40.3:9090: is in this set                  add KUBE-CLUSTER-IP 10.96.40.3,tcp:9090
        ipvs   192.0.2.40:9090/TCP  virtual server  192.0.2.40:9090: spreads over 3 endpoints by rr  -A -t 192.0.2.40:9090 -s rr
        ipset  KUBE-EXTERNAL-IP     element         192.0.2.40:9090: is in this set                  add KUBE-EXTERNAL-IP 192.0.2.40,tcp:9090

    "#]].assert_eq(&printed(&["shop/api:grpc", "-f", "shop", "--node", "node-1", "-o", "wide"]));
    expect![[r#"
        flowchart LR
          %% 10.96.40.3:9090 in IPVS IPv4
          n0["ipvs 10.96.40.3:9090/TCP"]
          n1(["10.128.0.31:9090"])
          n2(["10.128.1.31:9090"])
          n3(["10.128.2.31:9090"])
          n0 -->|"10.96.40.3:9090"| n1
          n0 -->|"10.96.40.3:9090"| n2
          n0 -->|"10.96.40.3:9090"| n3
    "#]]
    .assert_eq(&printed(&["10.96.40.3:9090", "--graph", "mermaid"]));
}

#[test]
fn rules_and_listeners_are_read_back_as_they_were_decided() {
    let mut n_services = 0;
    for folder in recordings() {
        let mut host = FakeHost::new();
        let manifests = fs::read_to_string(folder.join("cluster.json")).unwrap();
        let config = fs::read_to_string(folder.join("config-iptables.json")).unwrap();
        host.files.insert("cluster.json".to_owned(), manifests.clone().into());
        host.files.insert("config.json".to_owned(), config.clone().into());
        let args = "compile -f cluster.json --config config.json --mode userspace --output-dir dump";
        let ran = run_with(&mut host, &args.split(' ').collect::<Vec<_>>());
        assert_eq!(ran.status, 0, "{}", ran.err);
        let given = given::given_in(Some(Mode::Userspace), &manifests, &config);
        let mut wanted = Services::new();
        for family in IpFamily::ALL {
            let view = resolve::resolve(&given.cluster, &given.context, family);
            decided(&view, Mode::Userspace, &mut wanted);
        }
        check_same(&folder, &listed(&mut host, Mode::Userspace), &wanted);
        n_services += wanted.len();
    }
    assert!(n_services > 100, "{n_services}");
}

#[test]
fn a_service_of_userspace_mode_is_shown_with_its_listener() {
    let mut host = machine_in_userspace_mode();
    let mut said = |args: &str| {
        let ran = run_with(&mut host, &args.split(' ').collect::<Vec<_>>());
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{args}");
        ran.out
    };
    expect![[r#"
        SERVICE                       PROTOCOL  VIPS                                        ENDPOINTS
        default/kubernetes:https      tcp       10.96.0.1:443                               1
        kube-system/kube-dns:dns      udp       10.96.0.10:53                               2
        kube-system/kube-dns:dns-tcp  tcp       10.96.0.10:53                               2
        shop/api:grpc                 tcp       10.96.40.3:9090 192.0.2.40:9090 node:30909  3
        shop/cart                     tcp       10.96.77.1:6379                             2
        shop/search:http              tcp       10.96.90.9:80 (closed)                      0
        shop/web:http                 tcp       10.96.12.7:80 203.0.113.10:80 node:30080    2
        shop/web:https                tcp       10.96.12.7:443 203.0.113.10:443 node:30443  2
    "#]]
    .assert_eq(&said("inspect --family ipv4"));
    expect![[r#"
        shop/api:grpc tcp in iptables-nft in userspace mode IPv4
          VIP 10.96.40.3:9090
          external IP 192.0.2.40:9090
          node port node:30909
          endpoint 10.128.0.31:9090
          endpoint 10.128.1.31:9090
          endpoint 10.128.2.31:9090
          affinity none
          traffic policies: internal -, external Cluster

        TABLE    CHAIN                    RULE      WHAT IT DOES
        nat      KUBE-PORTALS-CONTAINER   4         10.96.40.3:9090: leads to proxy port 29263
        nat      KUBE-PORTALS-CONTAINER   5         192.0.2.40:9090: leads to proxy port 29263
        nat      KUBE-PORTALS-CONTAINER   6         192.0.2.40:9090: leads to proxy port 29263
        nat      KUBE-PORTALS-HOST        4         10.96.40.3:9090: leads to proxy port 29263
        nat      KUBE-PORTALS-HOST        5         192.0.2.40:9090: leads to proxy port 29263
        nat      KUBE-NODEPORT-CONTAINER  1         node:30909: leads to proxy port 29263
        nat      KUBE-NODEPORT-HOST       1         node:30909: leads to proxy port 29263
        filter   KUBE-NODEPORT-NON-LOCAL  1         lets packets to the proxy port of a node port in
        process  tcp 0.0.0.0:29263        listener  makes a connection of its own to one of 3 endpoints, by turns

    "#]].assert_eq(&said("inspect shop/api --family ipv4"));
    expect![[r#"
        flowchart LR
          %% shop/cart in iptables IPv4
          n0>"nat OUTPUT"]
          n1>"nat PREROUTING"]
          n2["nat KUBE-PORTALS-CONTAINER"]
          n3["nat KUBE-PORTALS-HOST"]
          n4(["10.128.1.40:6379"])
          n5(["10.128.2.40:6379"])
          n0 --> n3
          n1 --> n2
          n2 -->|"10.96.77.1:6379"| n4
          n2 -->|"10.96.77.1:6379"| n5
          n3 -->|"10.96.77.1:6379"| n4
          n3 -->|"10.96.77.1:6379"| n5
    "#]]
    .assert_eq(&said("inspect shop/cart --family ipv4 --graph mermaid --from-dump dump"));
    assert_eq!(said("inspect endpoints shop/api").lines().count(), 4);
}

#[test]
fn without_listeners_endpoints_are_not_known() {
    let mut host = machine_in_userspace_mode();
    host.status = None;
    let mut said = |args: &str| {
        let ran = run_with(&mut host, &args.split(' ').collect::<Vec<_>>());
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{args}");
        ran.out
    };
    let services = said("inspect --family ipv4");
    assert!(services.contains("who listens there: endpoints are not known\n"), "{services}");
    assert!(
        services.lines().any(|line| line.starts_with("shop/api:grpc") && line.ends_with(" ?")),
        "{services}"
    );
    let json: serde_json::Value = serde_json::from_str(&said("inspect -o json")).unwrap();
    assert_eq!(json["services"][0]["endpoints"], serde_json::Value::Null);
    let one = said("inspect shop/api");
    assert!(
        one.contains("\n  endpoints are not known\n") && one.contains(": who listens there is not known"),
        "{one}"
    );
}
