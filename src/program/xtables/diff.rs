//! Tells what must change in a live rule set to make it the wanted one, within what is ours.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::program::scope::Scope;

use super::emit::{Document, Emitted};
use super::{Chain, ChainName, Policy, Rule, RuleOrder, Ruleset, Table, TableName};

/// What happens to a chain of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainChange {
    /// It is not there yet.
    Create,
    /// It has other rules. If it is not wanted at all it is emptied: see [`TableDiff::kept`].
    Rewrite,
    /// It is not wanted.
    Delete,
}

/// What changes in a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableDiff {
    /// Chains of ours that change.
    pub chains: BTreeMap<ChainName, ChainChange>,
    /// Rules of ours that are missing in built-in chains, in the order in which they are wanted. They go to the head of
    /// the chain: inserted at position 1 from the last to the first, they end up in that order.
    pub jumps_missing: Vec<(ChainName, Rule)>,
    /// The same for rules that stand behind those of others: appended from the first to the last.
    pub jumps_behind: Vec<(ChainName, Rule)>,
    /// Rules of ours in chains of others that are not wanted, one entry for each time they occur.
    pub jumps_stale: Vec<(ChainName, Rule)>,
    /// Chains that are ours and not wanted, but that rules of others jump to: they cannot be deleted. If they have rules,
    /// `chains` says [`ChainChange::Rewrite`].
    pub kept: Vec<ChainName>,
}

impl TableDiff {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
            && self.jumps_missing.is_empty()
            && self.jumps_behind.is_empty()
            && self.jumps_stale.is_empty()
    }

    /// How many jumps are to be put in.
    pub fn n_jumps_wanted(&self) -> usize {
        self.jumps_missing.len() + self.jumps_behind.len()
    }
}

/// What changes in a rule set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RulesetDiff {
    /// What changes in its tables. A table that is left out is as it should be.
    pub tables: BTreeMap<TableName, TableDiff>,
}

impl RulesetDiff {
    /// Whether there is nothing to do. Chains that are kept for the rules of others are nothing to do.
    pub fn is_empty(&self) -> bool {
        self.tables.values().all(TableDiff::is_empty)
    }
}

/// Compares. Chains that `wanted` declares without a policy are compared as a whole; those with a policy are built in,
/// and each of their rules must be somewhere in the live chain. Chains of the scope that are not wanted go.
pub fn diff(wanted: &Ruleset, live: &Ruleset, scope: &Scope) -> RulesetDiff {
    let nothing = Table::default();
    let mut tables = BTreeMap::new();
    for name in TableName::ALL {
        let (wanted, live) = (wanted.tables.get(&name), live.tables.get(&name));
        if wanted.is_none() && live.is_none() {
            continue;
        }
        let table = diff_table(name, wanted.unwrap_or(&nothing), live.unwrap_or(&nothing), scope);
        if !table.is_empty() || !table.kept.is_empty() {
            tables.insert(name, table);
        }
    }
    RulesetDiff { tables }
}

fn diff_table(name: TableName, wanted: &Table, live: &Table, scope: &Scope) -> TableDiff {
    let mut diff = TableDiff::default();
    let mut unwanted = BTreeSet::new();
    let mut shared: Vec<(&ChainName, &Chain)> = Vec::new();
    let mut lives = live.chains.iter().peekable();
    let goes = |chain: &ChainName, content: &Chain| {
        content.policy.is_none() && scope.owns(name, chain) && !scope.ignores(name, chain)
    };
    for (chain, content) in &wanted.chains {
        while let Some((other, its)) = lives.next_if(|(other, _)| *other < chain) {
            if goes(other, its) {
                unwanted.insert(*other);
            } else {
                shared.push((other, its));
            }
        }
        let found = lives.next_if(|(other, _)| *other == chain);
        if content.policy.is_some() {
            let rules = found.map_or(&[][..], |(_, its)| &its.rules[..]);
            let missing = |of: &[Rule]| -> Vec<(ChainName, Rule)> {
                let missing = of.iter().filter(|rule| !rules.contains(rule));
                missing.map(|rule| (*chain, rule.clone())).collect()
            };
            let (ahead, behind) = content.rules.split_at(n_ahead_of_others(content));
            diff.jumps_missing.extend(missing(ahead));
            diff.jumps_behind.extend(missing(behind));
            shared.extend(found);
        } else {
            match found {
                None => {
                    diff.chains.insert(*chain, ChainChange::Create);
                }
                Some((_, its)) if !same_rules(content, &its.rules) => {
                    diff.chains.insert(*chain, ChainChange::Rewrite);
                }
                Some(_) => {}
            }
        }
    }
    for (other, its) in lives {
        if goes(other, its) {
            unwanted.insert(*other);
        } else {
            shared.push((other, its));
        }
    }
    remove(name, wanted, live, scope, &shared, unwanted, &mut diff);
    diff
}

/// How many rules of a wanted built-in chain stand before those of others.
fn n_ahead_of_others(chain: &Chain) -> usize {
    let n_rules = chain.rules.len();
    match chain.order {
        RuleOrder::Exact | RuleOrder::FirstCommute(_) => n_rules,
        RuleOrder::LastBehindOthers(n) => n_rules.saturating_sub(n),
    }
}

/// Looks through the chains of others for rules of ours that are not wanted, and for rules of theirs that need a chain of
/// ours.
fn remove(
    name: TableName,
    wanted: &Table,
    live: &Table,
    scope: &Scope,
    shared: &[(&ChainName, &Chain)],
    mut unwanted: BTreeSet<ChainName>,
    diff: &mut TableDiff,
) {
    let mut needed = BTreeSet::new();
    for (chain, content) in shared {
        let still = wanted.chains.get(*chain).map_or(&[][..], |chain| &chain.rules[..]);
        let ours: Vec<&Rule> = scope
            .jumps
            .iter()
            .filter(|(table, place, rule)| *table == name && place == *chain && !still.contains(rule))
            .map(|(_, _, rule)| rule)
            .collect();
        for rule in &content.rules {
            if ours.contains(&rule) {
                diff.jumps_stale.push((**chain, rule.clone()));
            } else if let Some(target) = rule.chain().filter(|target| unwanted.remove(*target)) {
                needed.insert(*target);
            }
        }
    }
    for chain in needed {
        if live.chains.get(&chain).is_some_and(|content| !content.rules.is_empty()) {
            diff.chains.insert(chain, ChainChange::Rewrite);
        }
        diff.kept.push(chain);
    }
    diff.chains.extend(unwanted.into_iter().map(|chain| (chain, ChainChange::Delete)));
}

/// Whether a live chain has the rules of a wanted one, in an order that means the same.
fn same_rules(wanted: &Chain, live: &[Rule]) -> bool {
    if wanted.rules.len() != live.len() {
        return false;
    }
    let n_commuting = match wanted.order {
        RuleOrder::Exact | RuleOrder::LastBehindOthers(_) => 0,
        RuleOrder::FirstCommute(n) => n.min(live.len()),
    };
    wanted.rules[n_commuting..] == live[n_commuting..]
        && same_multiset(&wanted.rules[..n_commuting], &live[..n_commuting])
}

/// Whether two slices of equal length have equal elements, each as often.
fn same_multiset(one: &[Rule], other: &[Rule]) -> bool {
    if one == other {
        return true;
    }
    let (one, other) = (by_hash(one), by_hash(other));
    let mut at = 0;
    while at < one.len() {
        let hash = one[at].0;
        let run = one[at..].iter().take_while(|(other, _)| *other == hash).count();
        if other[at..at + run].iter().any(|(other, _)| *other != hash) {
            return false;
        }
        let (ours, mut theirs) = (&one[at..at + run], other[at..at + run].to_vec());
        for (_, rule) in ours {
            // Nearly always the first: rules of equal hash are equal.
            match theirs.iter().rposition(|(_, its)| its == rule) {
                Some(found) => theirs.swap_remove(found),
                None => return false,
            };
        }
        at += run;
    }
    true
}

fn by_hash(rules: &[Rule]) -> Vec<(u64, &Rule)> {
    let mut keyed: Vec<(u64, &Rule)> = rules
        .iter()
        .map(|rule| {
            let mut hasher = DefaultHasher::new();
            rule.hash(&mut hasher);
            (hasher.finish(), rule)
        })
        .collect();
    keyed.sort_unstable_by_key(|(hash, _)| *hash);
    keyed
}

/// The order in which tables get their jumps: source NAT before the traffic that needs it, NAT before the filter rules
/// that take it for granted. Jumps are taken away in the opposite order.
pub const JUMP_ORDER: [TableName; 5] =
    [TableName::Raw, TableName::Mangle, TableName::Nat, TableName::Filter, TableName::Security];

/// The text for `iptables-restore --noflush --counters` that changes the chains of ours, and then puts in the jumps that are
/// missing; `None` if there are neither. Stale jumps are no part of it: they go before it.
///
/// A large table takes long to change whatever the change: its jumps are in the commit of its chains if no other table's
/// come between.
pub fn restore_document(diff: &RulesetDiff, wanted: &Ruleset) -> Option<Emitted> {
    let mut emitted = Emitted::default();
    let mut document = Document { out: &mut emitted.text, line: 0, tags: Some(&mut emitted.lines) };
    let mut open = None;
    for (name, table) in diff.tables.iter().filter(|(_, table)| !table.chains.is_empty()) {
        turn_to(*name, &mut open, &mut document);
        chains(*name, table, wanted, &mut document);
    }
    for name in JUMP_ORDER {
        let Some(table) = diff.tables.get(&name).filter(|table| table.n_jumps_wanted() > 0) else { continue };
        turn_to(name, &mut open, &mut document);
        // Each goes to the head of its chain: the last one first.
        for (chain, rule) in table.jumps_missing.iter().rev() {
            document.first_rule(wanted.family, chain, rule);
        }
        for (chain, rule) in &table.jumps_behind {
            document.rule(wanted.family, chain, rule);
        }
    }
    open?;
    document.line(&[b"COMMIT"]);
    Some(emitted)
}

/// Begins the commit of a table, unless it is the one that is open.
fn turn_to(name: TableName, open: &mut Option<TableName>, document: &mut Document<'_>) {
    let before = open.replace(name);
    if before == Some(name) {
        return;
    }
    if before.is_some() {
        document.line(&[b"COMMIT"]);
    }
    document.line(&[b"*", name.as_str().as_bytes()]);
}

fn chains(name: TableName, table: &TableDiff, wanted: &Ruleset, document: &mut Document<'_>) {
    for chain in table.chains.keys() {
        // Naming a chain makes it, or empties it.
        document.line(&[b":", chain.as_bytes(), b" - [0:0]"]);
    }
    for chain in table.chains.keys() {
        for rule in wanted_rules(wanted, name, chain) {
            document.rule(wanted.family, chain, rule);
        }
    }
    for (chain, change) in &table.chains {
        match change {
            ChainChange::Delete => document.line(&[b"-X ", chain.as_bytes()]),
            ChainChange::Create | ChainChange::Rewrite => {}
        }
    }
}

fn wanted_rules<'a>(wanted: &'a Ruleset, table: TableName, chain: &ChainName) -> &'a [Rule] {
    wanted.chain(table, chain).map_or(&[], |chain| &chain.rules)
}

/// What the live rule set is after a difference has been carried out.
pub fn apply(live: &Ruleset, diff: &RulesetDiff, wanted: &Ruleset) -> Ruleset {
    let mut after = live.clone();
    for (name, table_diff) in &diff.tables {
        let table = after.tables.entry(*name).or_default();
        for (chain, rule) in &table_diff.jumps_stale {
            if let Some(content) = table.chains.get_mut(chain)
                && let Some(at) = content.rules.iter().position(|one| one == rule)
            {
                content.rules.remove(at);
            }
        }
        for (chain, change) in &table_diff.chains {
            match change {
                ChainChange::Create | ChainChange::Rewrite => {
                    let rules = wanted_rules(wanted, *name, chain).to_vec();
                    table.chains.insert(*chain, Chain { policy: None, rules, order: RuleOrder::Exact });
                }
                ChainChange::Delete => {
                    table.chains.remove(chain);
                }
            }
        }
        for (chain, rule) in table_diff.jumps_missing.iter().rev() {
            let built_in = || Chain { policy: Some(Policy::Accept), ..Chain::default() };
            table.chains.entry(*chain).or_insert_with(built_in).rules.insert(0, rule.clone());
        }
        for (chain, rule) in &table_diff.jumps_behind {
            let built_in = || Chain { policy: Some(Policy::Accept), ..Chain::default() };
            table.chains.entry(*chain).or_insert_with(built_in).rules.push(rule.clone());
        }
    }
    after
}
