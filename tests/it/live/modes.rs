//! From one mode to another while packets go on: the new rules are in before the old ones go, so that no packet ever meets a
//! node without rules; and `--keep-other-modes`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use svcproxy::host::XtablesVariant;
use svcproxy::net::Protocol;

use super::{Folder, Way, must, testdata};
use crate::rig::{Answer, At, Namespace, Rig, RigSpec};

/// One datagram, one answer: a packet that meets no rule has no second chance within it.
const LIMIT: Duration = Duration::from_millis(700);
/// At least so many questions must have met each change, or the test says nothing.
const ENOUGH: usize = 20;

/// Asks until told to stop; how often, and every answer that was none.
fn ask_on(rig: &Rig, from: At, protocol: Protocol, to: &str, stop: &AtomicBool) -> (usize, Vec<Answer>) {
    let to = to.parse().unwrap();
    let (mut n, mut lost) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let answer = rig.ask(from, protocol, to, LIMIT);
        if answer.endpoint().is_none() {
            lost.push(answer);
        }
    }
    (n, lost)
}

fn changes_of_mode_lose_nothing(variant: XtablesVariant, ways: [Way; 2]) {
    if !ways.iter().all(|way| way.works()) {
        return;
    }
    let Some(rig) = Rig::new(&RigSpec { pods: 3, remote_pods: 2, ports: vec![8080] }) else { return };
    rig.node_ns().set(&[("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")]);
    let node = rig.node_ns();
    let folder = Folder::new();
    let config = folder.write("config.yaml", &testdata("config.yaml"));
    let manifests = folder.write("cluster.yaml", &testdata("cluster.yaml"));
    let iptables = format!("--iptables={variant}");
    let apply = |way: Way, more: &[&str]| {
        let (mode, options) = (format!("--mode={}", way.mode()), way.options());
        let options: Vec<&str> =
            options.iter().map(String::as_str).filter(|word| word.starts_with("--layout")).collect();
        let common = ["apply", "-f", &manifests, "--config", &config, &iptables, &mode];
        must(node, &[&common[..], &options, more].concat())
    };
    apply(ways[0], &[]);
    let flows = [
        (At::Client, Protocol::Udp, "192.168.77.10:30053"),
        (At::Pod(3), Protocol::Udp, "10.96.0.10:53"),
        (At::Node, Protocol::Tcp, "10.96.0.10:80"),
        (At::Client, Protocol::Tcp, "192.168.77.10:30080"),
    ];
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = flows.map(|(from, protocol, to)| {
            let (rig, stop) = (&rig, &stop);
            (to, scope.spawn(move || ask_on(rig, from, protocol, to, stop)))
        });
        // Changes never panic in here without the others being told to stop.
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for way in [ways[1], ways[0], ways[1], ways[0]] {
                assert!(apply(way, &[]).contains("taken"));
            }
        }));
        stop.store(true, Ordering::Relaxed);
        for (to, asking) in asking {
            let (n, lost) = asking.join().unwrap();
            assert!(lost.is_empty(), "{to}: {} of {n} were lost: {lost:?}", lost.len());
            assert!(n >= ENOUGH, "{to}: only {n} questions");
        }
        changed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    if ways[0].mode() == ways[1].mode() {
        return;
    }
    // What another mode left is gone, or stays if that is asked for.
    assert!(ways[1].is_gone(node));
    apply(ways[1], &["--keep-other-modes"]);
    assert!(!ways[1].is_gone(node));
    assert!(node.run(&[&format!("iptables-{variant}-save")]).contains("-A KUBE-SERVICES"));
    let left = apply(ways[1], &[]);
    assert!(left.contains("taken"), "{left}");
    assert!(!node.run(&[&format!("iptables-{variant}-save")]).contains("KUBE-SERVICES"));
}

#[test]
fn from_iptables_legacy_to_nftables_and_back() {
    let legacy = XtablesVariant::Legacy;
    changes_of_mode_lose_nothing(legacy, [Way::Iptables(legacy), Way::Nftables]);
}

#[test]
fn from_iptables_nft_to_nftables_and_back() {
    changes_of_mode_lose_nothing(XtablesVariant::Nft, [Way::Iptables(XtablesVariant::Nft), Way::Nftables]);
}

#[test]
fn from_iptables_nft_to_the_fast_layout_of_nftables_and_back() {
    changes_of_mode_lose_nothing(
        XtablesVariant::Nft,
        [Way::Iptables(XtablesVariant::Nft), Way::NftablesFast],
    );
}

#[test]
fn from_one_layout_of_nftables_to_the_other_and_back() {
    changes_of_mode_lose_nothing(XtablesVariant::Nft, [Way::Nftables, Way::NftablesFast]);
}

#[test]
fn from_one_layout_of_iptables_legacy_to_the_other_and_back() {
    let legacy = XtablesVariant::Legacy;
    changes_of_mode_lose_nothing(legacy, [Way::Iptables(legacy), Way::IptablesFast(legacy)]);
}

#[test]
fn from_one_layout_of_iptables_nft_to_the_other_and_back() {
    let nft = XtablesVariant::Nft;
    changes_of_mode_lose_nothing(nft, [Way::Iptables(nft), Way::IptablesFast(nft)]);
}

/// So many Services that a table is made in stages.
fn many() -> String {
    let mut text = String::new();
    for n in 0..1100 {
        let (high, low) = (n / 250, n % 250 + 1);
        text += &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{n}, namespace: shop}}\nspec:\n  clusterIP: 10.96.{high}.{low}\n  \
             ports: [{{name: http, port: 80, protocol: TCP}}]\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: s{n}, namespace: shop, labels: {{kubernetes.io/service-name: s{n}}}}}\naddressType: IPv4\n\
             endpoints: [{{addresses: [10.128.{high}.{low}]}}, {{addresses: [10.129.{high}.{low}]}}]\nports: [{{name: http, port: 8080, protocol: TCP}}]\n---\n"
        );
    }
    text
}

#[test]
fn from_one_layout_of_nftables_to_the_other_with_many_services() {
    let Some(namespace) = Namespace::new("many") else { return };
    if !Way::Nftables.works() {
        return;
    }
    let folder = Folder::new();
    let path = folder.write("many.yaml", &many());
    for layout in ["fast", "kube-proxy", "fast"] {
        let of_layout =
            ["-f", &path, "--mode", "nftables", "--layout", layout, "--node", "n", "--family", "ipv4"];
        must(&namespace, &[&["apply"], &of_layout[..]].concat());
        must(&namespace, &[&["diff"], &of_layout[..]].concat());
    }
}
