//! Small situations with written packet fates (`testdata/cases`): what is written, what the oracle says and what the rules
//! do must be one and the same.

use std::fs;
use std::path::{Path, PathBuf};

use svcproxy::backend::{Layout, iptables, nftables};
use svcproxy::model::{Config, Mode};
use svcproxy::net::{IpFamily, PerFamily};
use svcproxy::packet::{self, Fate, Flow, NodeFacts, Origin, Packet, PacketContext};
use svcproxy::program::eval::Evaluator;
use svcproxy::program::xtables::eval::{Memory, eval};
use svcproxy::program::xtables::{Ruleset, check, emit, parse};
use svcproxy::program::{self, listener, nft};
use svcproxy::resolve::{self, NodeView};

use crate::given::{self, Given};

/// All case folders.
pub(crate) fn folders() -> Vec<PathBuf> {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cases");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 40, "the cases are there");
    folders
}

/// The cluster and node of a case.
pub(crate) fn given(folder: &Path, mode: Mode) -> Given {
    let config = fs::read_to_string(folder.join("config.yaml")).unwrap_or_else(|_| {
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nhostnameOverride: node-1\n\
         clusterCIDR: 10.128.0.0/16,fd00:128::/48\n"
            .to_owned()
    });
    let cluster = fs::read_to_string(folder.join("cluster.yaml")).unwrap();
    given::given_in(Some(mode), &cluster, &config)
}

/// Its flows.
pub(crate) fn flows(folder: &Path, given: &Given) -> Vec<Flow> {
    let first = |family| given.node.addresses.iter().copied().find(|addr| IpFamily::of(*addr) == family);
    let context = PacketContext {
        node_addresses: PerFamily::from_fn(first),
        pod_interface: Some("veth1".to_owned()),
        uplink: Some("eth0".to_owned()),
    };
    let text = fs::read_to_string(folder.join("flows.txt")).unwrap();
    packet::parse_flows(&text, &context).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
}

/// The fate of a packet in the rules of one family.
type Rules = Box<dyn Fn(&Packet, &NodeFacts) -> Fate>;

/// Whether rules are well formed, and the same after being written and read.
fn check_rules(name: &str, ruleset: &Ruleset, problems: &mut Vec<String>) {
    let family = ruleset.family;
    problems.extend(check::check(ruleset).iter().map(|problem| format!("{name}: {family}: {problem}")));
    let mut text = Vec::new();
    emit::write_document(&mut text, ruleset, "");
    let again = parse::parse(std::str::from_utf8(&text).unwrap(), family).unwrap();
    if !given::same_rules(&again, ruleset) {
        problems.push(format!("{name}: {family}: not the same after being written and read"));
    }
}

/// Lowers a case in iptables mode.
fn iptables_rules(name: &str, view: &NodeView, layout: Layout, problems: &mut Vec<String>) -> Rules {
    let ruleset = iptables::lower(view, &iptables::LowerOptions { layout, ..given::OPTIONS });
    check_rules(name, &ruleset, problems);
    Box::new(move |packet, facts| eval(&ruleset, packet, facts, &Memory::default()).fate)
}

/// Lowers a case in IPVS mode.
fn ipvs_rules(name: &str, view: &NodeView, given: &Given, problems: &mut Vec<String>) -> Rules {
    let program = given::lowered(given, view);
    check_rules(name, program.xtables.get(view.family).as_ref().unwrap(), problems);
    let family = view.family;
    Box::new(move |packet, facts| {
        Evaluator::new(&program, family, facts).eval(packet, &program::eval::Memory::default()).fate
    })
}

/// Lowers a case in nftables mode.
fn nftables_rules(
    name: &str,
    view: &NodeView,
    config: &Config,
    layout: Layout,
    problems: &mut Vec<String>,
) -> Rules {
    let options = nftables::LowerOptions { layout, ..given::nftables_options(config) };
    let table = nftables::lower(view, &options);
    let family = view.family;
    problems.extend(nft::check::check(&table).iter().map(|problem| format!("{name}: {family}: {problem}")));
    let mut ruleset = nft::Ruleset::default();
    ruleset.tables.insert((table.family, table.name.clone()), table);
    Box::new(move |packet, facts| {
        nft::eval::eval(&ruleset, packet, facts, &nft::eval::Memory::default()).fate
    })
}

/// Lowers a case in userspace mode: rules, and behind them listeners.
fn userspace_rules(name: &str, given: &Given, view: &NodeView, problems: &mut Vec<String>) -> Rules {
    let family = view.family;
    let program = given::lowered(given, view);
    check_rules(name, program.xtables.get(family).as_ref().unwrap(), problems);
    let wrong = listener::check::check(program.listeners.as_ref().unwrap());
    problems.extend(wrong.iter().map(|problem| format!("{name}: {family}: {problem}")));
    Box::new(move |packet, facts| {
        Evaluator::new(&program, family, facts).eval(packet, &program::eval::Memory::default()).fate
    })
}

fn check_case(folder: &Path, mode: Mode, layout: Layout, problems: &mut Vec<String>) {
    let given = given(folder, mode);
    let name = folder.file_name().unwrap().to_string_lossy();
    let facts = NodeFacts { local_addresses: given.node.addresses.iter().copied().collect() };
    let views = PerFamily::from_fn(|family| resolve::resolve(&given.cluster, &given.context, family));
    let rules = PerFamily::from_fn(|family| match mode {
        Mode::Nftables => nftables_rules(&name, views.get(family), &given.config, layout, problems),
        Mode::Iptables => iptables_rules(&name, views.get(family), layout, problems),
        Mode::Ipvs => ipvs_rules(&name, views.get(family), &given, problems),
        Mode::Userspace => userspace_rules(&name, &given, views.get(family), problems),
    });
    let flows = flows(folder, &given);
    assert!(!flows.is_empty(), "{name} has flows");
    for flow in flows {
        let family = flow.packet.family();
        let written =
            if mode == Mode::Userspace { given::carried(&flow) } else { flow.fate_in(mode.name()).clone() };
        let oracle = resolve::fate(views.get(family), &flow.packet, &facts);
        let done = (rules.get(family))(&flow.packet, &facts);
        // Whether a pod is on a bridge is not written in a case: then neither can tell.
        let is_bridged = matches!((&oracle, &done), (Fate::Unknown(_), Fate::Unknown(_)));
        if mode == Mode::Userspace && flow.packet.origin == Origin::Pod && is_bridged {
            continue;
        }
        for (who, said) in [("oracle", &oracle), ("rules", &done)] {
            if !said.is_same(&written) {
                problems.push(format!(
                    "{name}/flows.txt:{}: {}\n      written {written}\n      {who:>7} {said}",
                    flow.line, flow.packet
                ));
            }
        }
    }
}

fn check_cases(mode: Mode, layout: Layout) {
    let mut problems = Vec::new();
    for folder in folders() {
        check_case(&folder, mode, layout, &mut problems);
    }
    assert!(problems.is_empty(), "{} differ:\n  {}", problems.len(), problems.join("\n  "));
}

#[test]
fn nftables_rules_and_the_oracle_do_what_is_written() {
    check_cases(Mode::Nftables, Layout::KubeProxy);
}

#[test]
fn nftables_rules_of_the_fast_layout_and_the_oracle_do_what_is_written() {
    check_cases(Mode::Nftables, Layout::Fast);
}

#[test]
fn ipvs_rules_and_the_oracle_do_what_is_written() {
    check_cases(Mode::Ipvs, Layout::KubeProxy);
}

#[test]
fn userspace_listeners_and_the_oracle_do_what_is_written() {
    check_cases(Mode::Userspace, Layout::KubeProxy);
}

#[test]
fn iptables_rules_and_the_oracle_do_what_is_written() {
    check_cases(Mode::Iptables, Layout::KubeProxy);
}

#[test]
fn iptables_rules_of_the_fast_layout_and_the_oracle_do_what_is_written() {
    check_cases(Mode::Iptables, Layout::Fast);
}

#[test]
fn whoever_was_remembered_stays_with_its_endpoint() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cases/affinity");
    let given = given(&folder, Mode::Iptables);
    let facts = NodeFacts { local_addresses: given.node.addresses.iter().copied().collect() };
    let view = resolve::resolve(&given.cluster, &given.context, IpFamily::V4);
    let rules = given::LAYOUTS
        .map(|layout| iptables::lower(&view, &iptables::LowerOptions { layout, ..given::OPTIONS }));
    let mut tried = 0;
    for flow in flows(&folder, &given) {
        let [first, of_fast] =
            rules.each_ref().map(|rules| eval(rules, &flow.packet, &facts, &Memory::default()));
        // Who changes the layout keeps his clients.
        assert_eq!(first.remembered, of_fast.remembered);
        for (endpoint, lists) in &first.remembered {
            let remembered = lists.iter().map(|list| (list.clone(), flow.packet.source.addr)).collect();
            let memory = Memory { remembered, ..Memory::default() };
            let oracle = resolve::fate_remembered(&view, &flow.packet, &facts, *endpoint);
            for rules in &rules {
                let second = eval(rules, &flow.packet, &facts, &memory);
                assert!(second.fate.is_same(&oracle), "{}: {} against {oracle}", flow.packet, second.fate);
                assert!(second.fate.to_string().starts_with(&endpoint.to_string()), "{}", second.fate);
            }
            tried += 1;
        }
    }
    assert!(tried >= 4, "the case has flows with affinity: {tried}");
}
