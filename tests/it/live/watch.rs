//! The inspector on a real kernel: `inspect` lists what was applied, counts what was sent; `trace --live` sees real packets go as
//! foretold, and leaves nothing behind.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use svcproxy::host::XtablesVariant;
use svcproxy::net::{IpFamily, Protocol};
use svcproxy::resolve;

use super::{Folder, PATIENCE, SILENCE, Way, must, said, svcproxy, testdata};
use crate::given;
use crate::rig::{At, Namespace, Rig, RigSpec};

/// Names and protocols of all Service ports that have rules.
fn wanted(way: Way) -> BTreeSet<(String, String, String)> {
    let config = format!("{}mode: {}\n", testdata("config.yaml"), way.mode());
    let given = given::given(&testdata("cluster.yaml"), &config);
    let of_family = |family: IpFamily| {
        let view = resolve::resolve(&given.cluster, &given.context, family);
        let name = move |port: &resolve::PortView| {
            (family.to_string(), port.name.to_string(), port.name.protocol.api_name().to_owned())
        };
        view.ports.iter().map(name).collect::<Vec<_>>()
    };
    IpFamily::ALL.into_iter().flat_map(of_family).collect()
}

fn inspected(node: &Namespace) -> serde_json::Value {
    serde_json::from_str(&must(node, &["inspect", "-o", "json"])).unwrap()
}

fn listed(document: &serde_json::Value) -> BTreeSet<(String, String, String)> {
    let services = document["services"].as_array().unwrap().iter();
    services
        .map(|service| {
            let text = |field: &str| service[field].as_str().unwrap().to_owned();
            let name = format!("{}/{}", text("namespace"), text("name"));
            let port = text("port");
            let name = if port.is_empty() { name } else { format!("{name}:{port}") };
            (text("family"), name, text("protocol"))
        })
        .collect()
}

/// Packets sent to all VIPs, as the rules have counted them.
fn n_counted(document: &serde_json::Value) -> u64 {
    let vips =
        document["services"].as_array().unwrap().iter().flat_map(|one| one["vips"].as_array().unwrap());
    vips.filter_map(|vip| vip["counter"]["packets"].as_u64()).sum()
}

/// Watches a flow while it is asked for again and again.
fn watch(rig: &Rig, packet: &str, from: At, protocol: Protocol, to: &str) -> super::Said {
    let to: SocketAddr = to.parse().unwrap();
    let node = rig.node_ns();
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| said(node.run_with(&[super::PROGRAM, "trace", packet, "--live"], b"")));
        while !watching.is_finished() {
            // Every question is a new flow; the answer is the pace.
            rig.ask(from, protocol, to, SILENCE);
        }
        watching.join().unwrap()
    })
}

fn observed(way: Way) {
    if !way.works() {
        return;
    }
    let Some(rig) = Rig::new(&RigSpec { pods: 3, remote_pods: 2, ports: vec![8080] }) else { return };
    rig.node_ns().set(&[("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")]);
    let node = rig.node_ns();
    assert_eq!(must(node, &["inspect"]), "no Service has rules here\n");
    let folder = Folder::new();
    let config = folder.write("config.yaml", &testdata("config.yaml"));
    let manifests = folder.write("cluster.yaml", &testdata("cluster.yaml"));
    let options = way.options();
    let words = ["apply", "-f", &manifests, "--config", &config].into_iter();
    must(node, &words.chain(options.iter().map(String::as_str)).collect::<Vec<_>>());

    let before = inspected(node);
    assert_eq!(before["findings"], serde_json::json!([]));
    assert_eq!(listed(&before), wanted(way));
    let answer = rig.ask(At::Pod(3), Protocol::Tcp, "10.96.0.10:80".parse().unwrap(), PATIENCE);
    assert!(answer.endpoint().is_some());
    let (before, after) = (n_counted(&before), n_counted(&inspected(node)));
    // Rules of nftables mode have no counters.
    assert_eq!(after - before, u64::from(!way.uses_nft()), "{before} {after}");

    let flows = [
        ("pod 10.128.0.3 -> 10.96.0.10:53/udp", At::Pod(3), Protocol::Udp, "10.96.0.10:53"),
        ("outside 192.168.77.100 -> node:30080/tcp", At::Client, Protocol::Tcp, "192.168.77.10:30080"),
        ("pod 10.128.0.1 -> 10.96.0.20:80/tcp", At::Pod(1), Protocol::Tcp, "10.96.0.20:80"),
        ("node 192.168.77.10 -> 10.96.0.10:80/tcp", At::Node, Protocol::Tcp, "10.96.0.10:80"),
    ];
    for (packet, from, protocol, to) in flows {
        let packet = packet.replace("node:", "192.168.77.10:");
        if way == Way::Iptables(XtablesVariant::Legacy) {
            let refused = svcproxy(node, &["trace", &packet, "--live"]);
            assert_eq!(refused.status, Some(2));
            assert!(
                refused.stderr.contains("iptables-legacy, which --live cannot watch"),
                "{}",
                refused.stderr
            );
            continue;
        }
        let seen = watch(&rig, &packet, from, protocol, to);
        assert_eq!(seen.status, Some(0), "{packet}\n{}{}", seen.stderr, seen.stdout);
        assert!(
            seen.stdout.contains("\nseen\n") && seen.stdout.ends_with("as foretold\n"),
            "{}",
            seen.stdout
        );
        assert!(!node.run(&["nft", "list", "tables"]).contains("svcproxy-trace"));
    }
    must(node, &["cleanup"]);
    assert_eq!(must(node, &["inspect"]), "no Service has rules here\n");
}

#[test]
fn inspected_and_watched_with_iptables_legacy() {
    observed(Way::Iptables(XtablesVariant::Legacy));
}

#[test]
fn inspected_and_watched_with_iptables_nft() {
    observed(Way::Iptables(XtablesVariant::Nft));
}

#[test]
fn inspected_and_watched_with_nftables() {
    observed(Way::Nftables);
}

#[test]
fn inspected_and_watched_in_the_fast_layout_of_nftables() {
    observed(Way::NftablesFast);
}

#[test]
fn inspected_and_watched_in_the_fast_layout_of_iptables_nft() {
    observed(Way::IptablesFast(XtablesVariant::Nft));
}
