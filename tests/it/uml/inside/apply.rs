//! `svcproxy apply --mode ipvs` on what was recorded of kube-proxy: what the kernel then has is what it had there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use svcproxy::host::LinuxHost;

use super::super::is_inside;
use super::alone;
use crate::rig::Namespace;

const PROGRAM: &str = env!("CARGO_BIN_EXE_svcproxy");

fn recordings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings")
}

/// The node of the recordings: its addresses on one link.
fn with_node(check: impl FnOnce(&Namespace) + Send) {
    alone(|namespace: &Namespace, _: &mut LinuxHost| {
        let peer = Namespace::new("peer").unwrap();
        namespace.run(&[
            "ip",
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            peer.name(),
        ]);
        for args in [
            &["link", "set", "eth0", "up"][..],
            &["address", "add", "192.168.77.10/24", "dev", "eth0"],
            &["address", "add", "fd00:77::10/64", "dev", "eth0", "nodad"],
        ] {
            namespace.run(&[&["ip"], args].concat());
        }
        check(namespace);
    });
}

/// Runs svcproxy; what it printed.
fn svcproxy(namespace: &Namespace, status: i32, args: &[&str]) -> String {
    let done = namespace.run_with(&[&[PROGRAM], args].concat(), b"");
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(status), "{args:?}: {said}");
    String::from_utf8(done.stdout).unwrap() + &said
}

/// Lines without what the kernel chooses for itself, as a set.
fn lines(text: &str) -> BTreeSet<String> {
    let chosen = ["hashsize", "bucketsize", "initval"];
    let line = |line: &str| {
        let mut words = line.split(' ');
        let mut kept = Vec::new();
        while let Some(word) = words.next() {
            if chosen.contains(&word) {
                words.next();
            } else {
                kept.push(word);
            }
        }
        kept.join(" ")
    };
    text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

/// Lines of rules by table; the counters of chains are the kernel's.
fn rules(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut table = String::new();
    for line in text.lines().map(|line| line.split(" [").next().unwrap_or_default()) {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if line.starts_with("-A ") || line.starts_with(":KUBE-") {
            tables.entry(table.clone()).or_default().push(line.to_owned());
        }
    }
    // Which Service comes first in this chain is chance.
    let by_chance = |line: &String| line.starts_with("-A KUBE-IPVS-OUT-FILTER").then(|| line.clone());
    tables.values_mut().for_each(|lines| lines.sort_by_key(by_chance));
    tables
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

/// One cluster: what is applied is what was recorded, a second time there is nothing to do, and nothing of it stays.
fn applied(number: u32) {
    let folder = recordings().join(format!("c{number:02}"));
    with_node(|namespace| {
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let (cluster, config) = (path("cluster.json"), path("config-ipvs.json"));
        let input = ["-f", &cluster, "--config", &config, "--iptables", "legacy"];
        let run = |status, verb: &str| svcproxy(namespace, status, &[&[verb], &input[..]].concat());
        assert!(run(0, "apply").contains(" taken, "));
        assert_eq!(lines(&namespace.run(&["ipvsadm", "-Sn"])), lines(&read(&folder, "ipvs-save.txt")));
        assert_eq!(lines(&namespace.run(&["ipset", "save"])), lines(&read(&folder, "ipset-save.txt")));
        let shown = namespace.run(&["ip", "-br", "address", "show", "kube-ipvs0"]);
        let addresses: BTreeSet<&str> = shown.split_whitespace().filter(|word| word.contains('/')).collect();
        assert_eq!(addresses, read(&folder, "ipvs-addr.txt").lines().collect());
        for tool in ["iptables", "ip6tables"] {
            let live = namespace.run(&[&format!("{tool}-legacy-save")]);
            assert_eq!(rules(&live), rules(&read(&folder, &format!("ipvs-{tool}-save.txt"))), "{tool}");
        }
        assert!(run(0, "apply").starts_with("nothing to do"));
        assert_eq!(run(0, "diff"), "");
        assert!(svcproxy(namespace, 0, &["cleanup"]).contains("taken"));
        assert_eq!(namespace.run(&["ipvsadm", "-Sn"]) + &namespace.run(&["ipset", "save"]), "");
        assert!(!namespace.run(&["ip", "-br", "link"]).contains("kube-ipvs0"));
        for tool in ["iptables", "ip6tables"] {
            let left = namespace.run(&[&format!("{tool}-legacy-save")]);
            assert!(!left.contains("KUBE-"), "{left}");
        }
        assert!(svcproxy(namespace, 0, &["cleanup"]).starts_with("nothing to remove"));
    });
}

#[test]
fn recorded_clusters_come_out_as_recorded_1_to_6() {
    if is_inside() {
        (1..=6).for_each(applied);
    }
}

#[test]
fn recorded_clusters_come_out_as_recorded_7_to_12() {
    if is_inside() {
        (7..=12).for_each(applied);
    }
}
