//! Plans on small programs.

use std::collections::BTreeSet;

use super::{Step, plan};
use crate::net::{IpFamily, PerFamily};
use crate::program::xtables::{Chain, ChainName, Policy, Rule, Ruleset, TableName, Target};
use crate::program::{ChainPattern, Program, Scope};

const OWN: &str = "OWN";
const HOOKS: [(TableName, &str); 6] = [
    (TableName::Filter, "FORWARD"),
    (TableName::Filter, "INPUT"),
    (TableName::Filter, "OUTPUT"),
    (TableName::Nat, "OUTPUT"),
    (TableName::Nat, "POSTROUTING"),
    (TableName::Nat, "PREROUTING"),
];

fn name(text: &str) -> ChainName {
    ChainName::new(text).unwrap()
}

fn jump() -> Rule {
    Rule::to(Target::Jump(name(OWN)))
}

/// IPv4 tables whose built-in chains all jump to a chain of ours, and what of them is ours.
fn hooked() -> (Program, PerFamily<Scope>) {
    let mut rules = Ruleset::empty(IpFamily::V4);
    for (table, hook) in HOOKS {
        let chains = &mut rules.tables.entry(table).or_default().chains;
        let built_in = Chain { policy: Some(Policy::Accept), rules: vec![jump()], ..Chain::default() };
        chains.insert(name(hook), built_in);
        let own = Chain { rules: vec![Rule::to(Target::Return)], ..Chain::default() };
        chains.insert(name(OWN), own);
    }
    let tables = BTreeSet::from(HOOKS.map(|(table, _)| table));
    let scope = || Scope {
        chains: tables.iter().map(|table| (*table, ChainPattern::Name(name(OWN)))).collect(),
        jumps: HOOKS.map(|(table, hook)| (table, name(hook), jump())).into_iter().collect(),
        ..Scope::default()
    };
    let program = Program { xtables: PerFamily { v4: Some(rules), v6: None }, ..Program::default() };
    (program, PerFamily { v4: scope(), v6: scope() })
}

fn words(steps: &[Step]) -> Vec<String> {
    let word = |step: &Step| match step {
        Step::InsertJump { table, chain, .. } => format!("+ {table} {chain}"),
        Step::DeleteJump { table, chain, .. } => format!("- {table} {chain}"),
        Step::XtablesRestore { .. } => "chains".to_owned(),
        Step::AddNfacct { .. } | Step::SetSysctl { .. } => step.to_string(),
    };
    steps.iter().map(word).collect()
}

fn nothing() -> Program {
    Program { xtables: PerFamily { v4: Some(Ruleset::empty(IpFamily::V4)), v6: None }, ..Program::default() }
}

#[test]
fn sources_are_rewritten_for_as_long_as_traffic_is_sent_elsewhere() {
    let (program, scopes) = hooked();
    let come = [
        "chains",
        "+ nat POSTROUTING",
        "+ nat OUTPUT",
        "+ nat PREROUTING",
        "+ filter FORWARD",
        "+ filter INPUT",
        "+ filter OUTPUT",
    ];
    assert_eq!(words(&plan(&program, &nothing(), &scopes).steps), come);
    let mut go: Vec<String> = come[1..].iter().rev().map(|word| word.replace('+', "-")).collect();
    go.push("chains".to_owned());
    assert_eq!(words(&plan(&nothing(), &program, &scopes).steps), go);
}
