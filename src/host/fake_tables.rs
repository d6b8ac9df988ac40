//! iptables tables in memory, as lines of text: what the fake host's tools work on. Understands as much of a rule as its
//! target; two rules are equal if their texts are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::error::HostErrorKind;
use crate::program::xtables::TableName;

/// A chain of a fake table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeChain {
    /// The policy of a built-in chain.
    pub policy: Option<String>,
    /// What follows `-A CHAIN ` of each rule.
    pub rules: Vec<String>,
}

/// The tables of one variant and family, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeTables(pub BTreeMap<String, BTreeMap<String, FakeChain>>);

/// Why a document or rule was refused, and at which line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) line: Option<usize>,
    pub(super) kind: HostErrorKind,
    pub(super) words: String,
}

/// What rules refer to outside of their tables, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Accounting objects.
    pub(super) counters: BTreeSet<String>,
    /// Sets of ipset.
    pub(super) sets: BTreeSet<String>,
}

type Chains = BTreeMap<String, FakeChain>;
type Fault = (HostErrorKind, String);

/// Targets that are no chains.
const TARGETS: &[&str] = &[
    "ACCEPT",
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNMARK",
    "CT",
    "DNAT",
    "DROP",
    "HL",
    "LOG",
    "MARK",
    "MASQUERADE",
    "NETMAP",
    "NFLOG",
    "NFQUEUE",
    "NOTRACK",
    "QUEUE",
    "REDIRECT",
    "REJECT",
    "RETURN",
    "SET",
    "SNAT",
    "TCPMSS",
    "TOS",
    "TPROXY",
    "TRACE",
    "TTL",
];

impl FakeTables {
    /// Loads a document as `iptables-restore --noflush` does: table by table, each as a whole or not at all. The
    /// tool itself looks for sets, the kernel for accounting objects.
    pub(super) fn load(&mut self, document: &str, known: &Known) -> Result<(), Refusal> {
        let mut open: Option<(String, Chains)> = None;
        let mut lines = 0;
        for (index, line) in document.lines().enumerate() {
            lines = index + 1;
            let line = line.trim_end();
            let result = match (line, &mut open) {
                ("", _) => Ok(()),
                (line, _) if line.starts_with('#') => Ok(()),
                ("COMMIT", Some((name, chains))) => {
                    let checked = check(chains, &known.counters);
                    if checked.is_ok() {
                        self.0.insert(std::mem::take(name), std::mem::take(chains));
                        open = None;
                    }
                    checked
                }
                (line, None) => self.start(line).map(|started| open = Some(started)),
                (line, Some((_, chains))) => {
                    find_sets(line, &known.sets).and_then(|()| apply_line(chains, line))
                }
            };
            result.map_err(|(kind, words)| Refusal { line: Some(lines), kind, words })?;
        }
        match open {
            None => Ok(()),
            Some(_) => {
                let words = format!("COMMIT expected at line {}", lines + 1);
                Err(Refusal { line: Some(lines + 1), kind: HostErrorKind::Other, words })
            }
        }
    }

    /// Prints them as `iptables-save` does.
    pub(super) fn save(&self) -> String {
        let mut text = String::new();
        for (table, chains) in &self.0 {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "*{table}");
            for (name, chain) in chains {
                let _ = writeln!(text, ":{name} {} [0:0]", chain.policy.as_deref().unwrap_or("-"));
            }
            for (name, chain) in chains {
                for rule in &chain.rules {
                    let _ = writeln!(text, "-A {name}{}{rule}", if rule.is_empty() { "" } else { " " });
                }
            }
            text.push_str("COMMIT\n");
        }
        text
    }

    /// Whether a rule asks a set.
    pub(super) fn asks_set(&self, name: &str) -> bool {
        let mut rules = self.0.values().flat_map(BTreeMap::values).flat_map(|chain| &chain.rules);
        rules.any(|rule| named(rule, MATCH_SET).any(|asked| asked == name))
    }

    /// Inserts or deletes one rule.
    pub(super) fn change(&mut self, table: &str, command: &str, known: &Known) -> Result<(), Refusal> {
        let refusal = |(kind, words)| Refusal { line: None, kind, words };
        let (name, mut chains) = self.start(&format!("*{table}")).map_err(refusal)?;
        find_sets(command, &known.sets).map_err(refusal)?;
        apply_line(&mut chains, command).and_then(|()| check(&chains, &known.counters)).map_err(refusal)?;
        self.0.insert(name, chains);
        Ok(())
    }

    /// A copy of the table that a line `*nat` names; one that is not there comes with its built-in chains.
    fn start(&self, line: &str) -> Result<(String, Chains), Fault> {
        let name = line.strip_prefix('*').unwrap_or_default();
        let table = TableName::from_name(name)
            .ok_or_else(|| (HostErrorKind::Other, format!("unable to initialize table '{name}'")))?;
        let chains = self.0.get(name).cloned().unwrap_or_else(|| {
            let accept = FakeChain { policy: Some("ACCEPT".to_owned()), rules: Vec::new() };
            table.built_in_chains().iter().map(|chain| ((*chain).to_owned(), accept.clone())).collect()
        });
        Ok((name.to_owned(), chains))
    }
}

fn apply_line(chains: &mut Chains, line: &str) -> Result<(), Fault> {
    if let Some(declared) = line.strip_prefix(':') {
        let mut words = declared.split(' ');
        let (name, policy) = (words.next().unwrap_or_default(), words.next().unwrap_or("-"));
        if policy == "-" {
            chains.insert(name.to_owned(), FakeChain::default());
        } else {
            chains.entry(name.to_owned()).or_default().policy = Some(policy.to_owned());
        }
        return Ok(());
    }
    let line = match line.strip_prefix('[').and_then(|line| line.split_once("] ")) {
        Some((_, rest)) => rest,
        None => line,
    };
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (name, rule) = rest.split_once(' ').unwrap_or((rest, ""));
    if verb == "-N" {
        if chains.insert(name.to_owned(), FakeChain::default()).is_some() {
            return Err((HostErrorKind::Exists, "Chain already exists.".to_owned()));
        }
        return Ok(());
    }
    let is_used = chains.values().flat_map(|chain| &chain.rules).any(|rule| target(rule) == Some(name));
    let chain = chains.get_mut(name).ok_or_else(not_there)?;
    match verb {
        "-A" => chain.rules.push(rule.to_owned()),
        "-I" => {
            let (position, rule) =
                match rule.split_once(' ').map(|(first, rest)| (first.parse::<usize>(), rest)) {
                    Some((Ok(position), rest)) => (position.saturating_sub(1), rest),
                    _ => (0, rule),
                };
            chain.rules.insert(position.min(chain.rules.len()), rule.to_owned());
        }
        "-D" => {
            let at = chain.rules.iter().position(|held| held == rule).ok_or_else(not_there)?;
            chain.rules.remove(at);
        }
        "-F" => chain.rules.clear(),
        "-X" if is_used || chain.policy.is_some() || !chain.rules.is_empty() => {
            return Err((
                HostErrorKind::Busy,
                format!("CHAIN_DEL failed (Device or resource busy): chain {name}"),
            ));
        }
        "-X" => {
            chains.remove(name);
        }
        other => return Err((HostErrorKind::Other, format!("unknown option \"{other}\""))),
    }
    Ok(())
}

/// Whether all that the rules refer to is there.
fn check(chains: &Chains, counters: &BTreeSet<String>) -> Result<(), Fault> {
    for rule in chains.values().flat_map(|chain| &chain.rules) {
        let lacks = |target: &&str| !TARGETS.contains(target) && !chains.contains_key(*target);
        if let Some(target) = target(rule).filter(lacks) {
            return Err((HostErrorKind::NotFound, format!("Chain '{target}' does not exist")));
        }
        if named(rule, "--nfacct-name ").any(|name| !counters.contains(name)) {
            return Err((
                HostErrorKind::NotFound,
                "RULE_APPEND failed (No such file or directory)".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Before the name of a set.
const MATCH_SET: &str = "--match-set ";

/// Whether all sets that a line asks are there.
fn find_sets(line: &str, sets: &BTreeSet<String>) -> Result<(), Fault> {
    match named(line, MATCH_SET).find(|name| !sets.contains(*name)) {
        Some(name) => Err((HostErrorKind::NotFound, format!("Set {name} doesn't exist."))),
        None => Ok(()),
    }
}

/// What follows an option, each time that it is there.
fn named<'a>(rule: &'a str, option: &'a str) -> impl Iterator<Item = &'a str> {
    rule.split(option).skip(1).filter_map(|rest| rest.split_whitespace().next())
}

fn target(rule: &str) -> Option<&str> {
    let mut words = rule.split(' ');
    words.find(|word| matches!(*word, "-j" | "-g" | "--jump" | "--goto"))?;
    words.next()
}

fn not_there() -> Fault {
    (HostErrorKind::NotFound, "No chain/target/match by that name.".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(tables: &FakeTables, document: &str) -> Result<FakeTables, (Option<usize>, String)> {
        let mut tables = tables.clone();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let result = tables.load(document, &Known { counters: names(&["counted"]), sets: names(&["S"]) });
        result.map(|()| tables).map_err(|refusal| (refusal.line, refusal.words))
    }

    #[test]
    fn keeps_what_a_document_does_not_name() {
        let tables = FakeTables::default();
        let tables = loaded(
            &tables,
            "*nat\n:A - [0:0]\n:B - [0:0]\n-A A -j B\n-A B -j RETURN\n-A PREROUTING -j A\nCOMMIT\n",
        )
        .unwrap();
        // A declared chain is emptied, the others stay; counters are left out.
        let tables = loaded(
            &tables,
            "*nat\n:A - [0:0]\n[3:180] -A A -m comment --comment \"a b\" -j MASQUERADE\n-X B\nCOMMIT\n",
        )
        .unwrap_err();
        assert_eq!(tables.0, Some(4), "B is not empty");
    }

    #[test]
    fn loads_a_table_as_a_whole_or_not_at_all() {
        let mut tables = FakeTables::default();
        let document = "*filter\n:F - [0:0]\nCOMMIT\n*nat\n:A - [0:0]\n-A A -j NOPE\nCOMMIT\n";
        let refusal = tables.load(document, &Known::default()).unwrap_err();
        assert_eq!((refusal.line, refusal.words.as_str()), (Some(7), "Chain 'NOPE' does not exist"));
        assert_eq!(
            tables.save(),
            "*filter\n:F - [0:0]\n:FORWARD ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"
        );
    }

    #[test]
    fn refuses_what_the_tools_refuse() {
        let tables = FakeTables::default();
        let words = |document: &str| loaded(&tables, document).unwrap_err();
        assert_eq!(words("*bogus\nCOMMIT\n").0, Some(1));
        assert_eq!(words("*nat\n-A NOPE -j RETURN\nCOMMIT\n").0, Some(2));
        assert_eq!(words("*nat\n:A - [0:0]\n"), (Some(3), "COMMIT expected at line 3".to_owned()));
        assert_eq!(words("*nat\n:A - [0:0]\n-A A -m nfacct --nfacct-name nope\nCOMMIT\n").0, Some(4));
        assert!(loaded(&tables, "*nat\n:A - [0:0]\n-A A -m nfacct --nfacct-name counted\nCOMMIT\n").is_ok());
        let asks =
            "*nat\n:A - [0:0]\n-A A -m set --match-set S src -m set ! --match-set T dst,dst\n-A A\nCOMMIT\n";
        assert_eq!(words(asks), (Some(3), "Set T doesn't exist.".to_owned()));
        let tables = loaded(&tables, "*nat\n:A - [0:0]\n-A A -m set --match-set S src\nCOMMIT\n").unwrap();
        assert!(tables.asks_set("S") && !tables.asks_set("T"));
    }

    #[test]
    fn saves_what_it_loads() {
        let document = "*nat\n:A - [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n\
            :PREROUTING ACCEPT [0:0]\n-A A -m comment --comment \"a b\" -j RETURN\n-A OUTPUT -j A\nCOMMIT\n";
        let tables = loaded(&FakeTables::default(), document).unwrap();
        assert_eq!(tables.save(), document);
    }

    #[test]
    fn inserts_and_deletes_one_rule() {
        let mut tables = loaded(&FakeTables::default(), "*nat\n:A - [0:0]\nCOMMIT\n").unwrap();
        let none = Known::default();
        tables.change("nat", "-I OUTPUT 1 -m comment --comment \"a b\" -j A", &none).unwrap();
        assert_eq!(tables.0["nat"]["OUTPUT"].rules, ["-m comment --comment \"a b\" -j A"]);
        assert_eq!(tables.change("nat", "-D OUTPUT -j A", &none).unwrap_err().kind, HostErrorKind::NotFound);
        assert_eq!(
            tables.change("nat", "-I OUTPUT 1 -j B", &none).unwrap_err().kind,
            HostErrorKind::NotFound
        );
        tables.change("nat", "-D OUTPUT -m comment --comment \"a b\" -j A", &none).unwrap();
        assert!(tables.0["nat"]["OUTPUT"].rules.is_empty());
    }
}
