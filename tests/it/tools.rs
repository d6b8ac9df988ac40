//! The real tools take what we write, and print it back as kube-proxy's was printed: compiled documents are loaded in a
//! network namespace and compared with the recordings as text, without any of our parsing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use svcproxy::backend::{Layout, iptables};
use svcproxy::host::{Host, LinuxHost};
use svcproxy::model::Mode;
use svcproxy::net::IpFamily;
use svcproxy::program::xtables::{Ruleset, diff, emit, parse};
use svcproxy::resolve;

use crate::rig::Namespace;
use crate::{cases, given};

/// Chains in which kube-proxy leaves the order of Services to chance.
const ANY_ORDER: [&str; 4] =
    ["KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL"];

/// What iptables-save printed, by table and chain. The canary is kube-proxy's own.
fn by_chain(saved: &str) -> BTreeMap<String, Vec<String>> {
    let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut table = "";
    for line in saved.lines().filter(|line| !line.contains("KUBE-PROXY-CANARY")) {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(declared) = line.strip_prefix(':') {
            chains.entry(format!("{table} {}", declared.split(' ').next().unwrap())).or_default();
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let chain = rule.split(' ').next().unwrap();
            chains.entry(format!("{table} {chain}")).or_default().push(rule.to_owned());
        }
    }
    for (name, rules) in &mut chains {
        if ANY_ORDER.contains(&name.split(' ').nth(1).unwrap()) {
            let last = |rule: &String| rule.contains("this must be the last rule");
            let head = rules.iter().position(last).unwrap_or(rules.len());
            assert!(rules[head..].iter().all(last), "{name}: the node port rules come last");
            rules[..head].sort();
        }
    }
    // Reading with the legacy tool makes tables; an untouched one says nothing.
    let touched = |table: &str| ["nat ", "filter "].iter().any(|used| table.starts_with(used));
    chains.retain(|name, rules| touched(name) || !rules.is_empty());
    chains
}

fn recordings() -> Vec<PathBuf> {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn document(ruleset: &Ruleset) -> Vec<u8> {
    let mut text = Vec::new();
    emit::write_document(&mut text, ruleset, "# compiled\n");
    text
}

fn add_nfacct(namespace: &Namespace) {
    namespace.inside(|| {
        let mut host = LinuxHost::new();
        for name in [iptables::names::NFACCT_INVALID_DROPPED, iptables::names::NFACCT_LOCALHOST_ACCEPTED] {
            host.nfacct_add(name).unwrap();
        }
    });
}

fn loaded_equals_recorded(variant: &str) {
    for folder in recordings() {
        let Some(namespace) = Namespace::new("load") else { return };
        add_nfacct(&namespace);
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let given = given::given(&read("cluster.json"), &read("config-iptables.json"));
        for (family, tool) in [(IpFamily::V4, "iptables"), (IpFamily::V6, "ip6tables")] {
            let view = resolve::resolve(&given.cluster, &given.context, family);
            let compiled = document(&iptables::lower(&view, &given.options()));
            let loaded = namespace.run_with(&[&format!("{tool}-{variant}-restore")], &compiled);
            assert!(
                loaded.status.success(),
                "{}: {}",
                folder.display(),
                String::from_utf8_lossy(&loaded.stderr)
            );
            let saved = by_chain(&namespace.run(&[&format!("{tool}-{variant}-save")]));
            let recorded = by_chain(&read(&format!("{tool}-save.txt")));
            for name in saved.keys().chain(recorded.keys()) {
                assert_eq!(saved.get(name), recorded.get(name), "{} {family} {name}", folder.display());
            }
        }
    }
}

#[test]
fn loaded_into_legacy_iptables_our_rules_are_the_recorded_ones() {
    loaded_equals_recorded("legacy");
}

#[test]
fn loaded_into_nft_iptables_our_rules_are_the_recorded_ones() {
    loaded_equals_recorded("nft");
}

#[test]
fn rules_of_the_fast_layout_are_taken_and_saved_as_they_were() {
    for folder in recordings() {
        let Some(namespace) = Namespace::new("fast") else { return };
        add_nfacct(&namespace);
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let given = given::given(&read("cluster.json"), &read("config-iptables.json"));
        let options = iptables::LowerOptions { layout: Layout::Fast, ..given.options() };
        for (family, tool) in [(IpFamily::V4, "iptables"), (IpFamily::V6, "ip6tables")] {
            let view = resolve::resolve(&given.cluster, &given.context, family);
            let wanted = iptables::lower(&view, &options);
            for variant in ["legacy", "nft"] {
                let loaded = namespace.run_with(&[&format!("{tool}-{variant}-restore")], &document(&wanted));
                let said = String::from_utf8_lossy(&loaded.stderr).into_owned();
                assert!(loaded.status.success(), "{} {tool}-{variant}: {said}", folder.display());
                let saved = namespace.run(&[&format!("{tool}-{variant}-save")]);
                let live = parse::parse(&saved, family).unwrap();
                let difference = diff::diff(&wanted, &live, &iptables::scope(&live));
                assert!(difference.is_empty(), "{} {tool}-{variant}: {difference:?}", folder.display());
            }
        }
    }
}

#[test]
fn both_tools_take_every_case() {
    let Some(namespace) = Namespace::new("cases") else { return };
    add_nfacct(&namespace);
    for folder in cases::folders() {
        let given = cases::given(&folder, Mode::Iptables);
        for (family, tool) in [(IpFamily::V4, "iptables"), (IpFamily::V6, "ip6tables")] {
            let view = resolve::resolve(&given.cluster, &given.context, family);
            for layout in given::LAYOUTS {
                let options = iptables::LowerOptions { layout, ..given.options() };
                let compiled = document(&iptables::lower(&view, &options));
                for variant in ["legacy", "nft"] {
                    let loaded = namespace.run_with(&[&format!("{tool}-{variant}-restore")], &compiled);
                    let said = String::from_utf8_lossy(&loaded.stderr).into_owned();
                    assert!(loaded.status.success(), "{} {tool}-{variant}: {said}", folder.display());
                }
            }
        }
    }
}
