//! What kube-proxy 1.36 programmed for fourteen clusters (`testdata/recordings`): our rules are the same, chain by chain and
//! rule by rule. Services stand in dispatch chains in an order that kube-proxy leaves to chance; there alone it is ignored.
//! The last two are random clusters and kube-proxy 1.36.2.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use svcproxy::backend::iptables;
use svcproxy::net::{IpFamily, PerFamily};
use svcproxy::program::Program;
use svcproxy::program::xtables::{Ruleset, emit, parse};
use svcproxy::{plan, resolve};

use crate::given;

pub(crate) fn folders() -> Vec<PathBuf> {
    let parent = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings");
    let entries = fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert_eq!(folders.len(), 14);
    folders
}

const FILES: [(IpFamily, &str); 2] =
    [(IpFamily::V4, "iptables-save.txt"), (IpFamily::V6, "ip6tables-save.txt")];

/// Lines of each chain as iptables-save prints them: a comparison that does not rest on `diff`.
fn lines(ruleset: &Ruleset, sorted: &BTreeSet<&str>) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for (table, chains) in &ruleset.tables {
        for (name, chain) in chains.chains.iter().filter(|(name, _)| name.as_str() != "KUBE-PROXY-CANARY") {
            let mut lines: Vec<String> = chain
                .rules
                .iter()
                .map(|rule| {
                    let mut text = Vec::new();
                    emit::write_rule(&mut text, ruleset.family, name, rule);
                    String::from_utf8(text).unwrap()
                })
                .collect();
            if sorted.contains(name.as_str()) {
                // The node-port rules come last all the same.
                let tail = lines.iter().filter(|line| line.contains("must be the last rule")).count();
                let head = lines.len() - tail;
                assert!(lines[head..].iter().all(|line| line.contains("must be the last rule")));
                lines[..head].sort();
            }
            all.insert(format!("{table} {name}"), lines);
        }
    }
    all.retain(|name, lines| !(name.starts_with("mangle") && lines.is_empty()));
    all
}

#[test]
fn compiled_rules_are_the_recorded_ones() {
    let any_order: BTreeSet<&str> =
        ["KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL"].into();
    for folder in folders() {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let given = given::given(&read("cluster.json"), &read("config-iptables.json"));
        for (family, file) in FILES {
            let recorded = parse::parse(&read(file), family).unwrap();
            let view = resolve::resolve(&given.cluster, &given.context, family);
            let compiled = iptables::lower(&view, &given.options());
            let (recorded, compiled) = (lines(&recorded, &any_order), lines(&compiled, &any_order));
            let names: BTreeSet<&String> = recorded.keys().chain(compiled.keys()).collect();
            for name in names {
                assert_eq!(compiled.get(name), recorded.get(name), "{} {file}: {name}", folder.display());
            }
        }
    }
}

#[test]
fn a_diff_with_the_recording_has_nothing_to_say() {
    for folder in folders() {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let given = given::given(&read("cluster.json"), &read("config-iptables.json"));
        let recorded = PerFamily { v4: FILES[0], v6: FILES[1] };
        let live =
            PerFamily::from_fn(|family| Some(parse::parse(&read(recorded.get(family).1), family).unwrap()));
        let wanted = PerFamily::from_fn(|family| {
            let view = resolve::resolve(&given.cluster, &given.context, family);
            Some(iptables::lower(&view, &given.options()))
        });
        let scopes = PerFamily::from_fn(|family| iptables::scope(live.get(family).as_ref().unwrap()));
        let (wanted, live) = (
            Program { xtables: wanted, ..Program::default() },
            Program { xtables: live, ..Program::default() },
        );
        let plan = plan::plan(&wanted, &live, &scopes);
        assert!(plan.is_empty(), "{}: {:#?}", folder.display(), plan.rules);
    }
}
