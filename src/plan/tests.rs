//! Plans on small programs: their order, and that they end.

use std::collections::{BTreeMap, BTreeSet};

use crate::net::{IpFamily, PerFamily};
use crate::program::xtables::{ChainName, Ruleset, TableName, parse};
use crate::program::{ChainPattern, Program, Scope};

use super::{Plan, Step, plan};

const WANTED: &str = "\
*filter
:INPUT ACCEPT [0:0]
:OURS - [0:0]
-A INPUT -m comment --comment second -j OURS
-A INPUT -j OURS
-A OURS -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:OURS - [0:0]
-A PREROUTING -j OURS
-A OUTPUT -j OURS
-A POSTROUTING -j OURS
-A OURS -j RETURN
COMMIT
";

fn rules(text: &str) -> Ruleset {
    parse::parse(text, IpFamily::V4).unwrap()
}

fn program(text: &str) -> Program {
    Program { xtables: PerFamily { v4: Some(rules(text)), v6: None }, ..Program::default() }
}

fn planned(wanted: &Program, live: &Program) -> Plan {
    let ours = ChainName::literal("OURS");
    let known = rules(WANTED);
    let jumps = known.tables.iter().flat_map(|(table, chains)| {
        let built_in = chains.chains.iter().filter(|(_, chain)| chain.policy.is_some());
        built_in
            .flat_map(|(name, chain)| chain.rules.iter().map(|rule| (*table, *name, rule.clone())))
            .collect::<Vec<_>>()
    });
    let scope = || Scope {
        chains: [TableName::Filter, TableName::Nat].map(|table| (table, ChainPattern::Name(ours))).to_vec(),
        ignored: Vec::new(),
        jumps: jumps.clone().collect(),
    };
    plan(wanted, live, &PerFamily { v4: scope(), v6: scope() })
}

fn words(plan: &Plan) -> Vec<String> {
    plan.steps
        .iter()
        .map(|step| match step {
            Step::XtablesRestore { .. } => "restore".to_owned(),
            Step::NftTransaction { what, .. } => (*what).to_owned(),
            Step::InsertJump { table, chain, rule, .. } => {
                format!("insert {table} {chain} {}", rule.comment_text().unwrap_or_default())
                    .trim_end()
                    .to_owned()
            }
            Step::AppendJump { table, chain, .. } => format!("append {table} {chain}"),
            Step::DeleteJump { table, chain, .. } => format!("delete {table} {chain}"),
            Step::AddNfacct { name } => format!("nfacct {name}"),
            Step::SetSysctl { key, .. } => format!("sysctl {key}"),
        })
        .collect()
}

#[test]
fn chains_come_before_jumps_and_source_nat_before_what_needs_it() {
    let mut wanted = program(WANTED);
    wanted.nfacct = BTreeSet::from(["counter".to_owned()]);
    wanted.sysctls = BTreeMap::from([("net/key".to_owned(), "1".to_owned())]);
    let live = Program {
        xtables: PerFamily { v4: Some(Ruleset::empty(IpFamily::V4)), v6: None },
        ..Program::default()
    };
    assert_eq!(
        words(&planned(&wanted, &live)),
        [
            "nfacct counter",
            "restore",
            "insert nat POSTROUTING",
            "insert nat OUTPUT",
            "insert nat PREROUTING",
            // Each goes to the head of the chain: the last one first.
            "insert filter INPUT",
            "insert filter INPUT second",
            "sysctl net/key",
        ]
    );
}

#[test]
fn jumps_go_before_chains() {
    let nothing = program("");
    assert_eq!(
        words(&planned(&nothing, &program(WANTED))),
        [
            "delete filter INPUT",
            "delete filter INPUT",
            "delete nat PREROUTING",
            "delete nat OUTPUT",
            // Sources are rewritten for as long as traffic is sent elsewhere.
            "delete nat POSTROUTING",
            "restore",
        ]
    );
}

#[test]
fn what_is_as_wanted_needs_no_step() {
    assert!(planned(&program(WANTED), &program(WANTED)).is_empty());
    assert!(planned(&program(""), &program("")).is_empty());
}

#[test]
fn a_family_that_is_left_alone_is_left_alone() {
    let live = program(WANTED);
    assert!(planned(&Program::default(), &live).is_empty());
}
