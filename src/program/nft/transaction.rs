//! Writes what changes in a table as documents for `nft -f`, each of which the kernel takes as a whole or not at all.
//!
//! Within one, everything is made before it is used and unused before it is deleted. Only `add`, `flush` and `delete`
//! occur: nft 1.0.6 knows no `destroy`.
//!
//! Chains that go are emptied with everything else and deleted by a document of their own: kernels before 6.2 take a chain
//! for used as long as the transaction runs that took its last use away (reference section 4.9).

use std::collections::BTreeSet;

use crate::program::emitted::Emitted;

use super::diff::{ChainChange, SetChange, TableDiff};
use super::emit::Document;
use super::{Chain, Name, Set, Table};

/// How many new chains go into one document before the one that uses them. For each anonymous set the kernel walks
/// through all that its transaction has done so far, so that the time of one grows with the square of its size; each
/// one also costs a look at all that is there. Measured with 20,000 chains, between 400 and 2,000 it hardly matters.
const CHAINS_PER_STAGE: usize = 1000;

/// A difference as documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stages {
    /// To be taken in their order. New chains, that nothing refers to yet, come first, some hundred at a time, with the sets
    /// that they need; the last document does everything else, and with it packets meet the new state at once. A small
    /// difference is one document.
    pub load: Vec<Emitted>,
    /// Deletes the chains that are empty then.
    pub sweep: Option<Emitted>,
}

/// The documents for a difference.
pub fn stages(diff: &TableDiff, wanted: &Table) -> Stages {
    stages_of(diff, wanted, CHAINS_PER_STAGE)
}

/// The same with another size of a stage.
pub fn stages_of(diff: &TableDiff, wanted: &Table, chains_per_stage: usize) -> Stages {
    let deletes = diff.chains.values().any(|change| *change == ChainChange::Delete);
    Stages {
        load: load(diff, wanted, chains_per_stage),
        sweep: deletes.then(|| {
            Document::into_emitted(wanted, |out| {
                for (name, _) in diff.chains.iter().filter(|(_, change)| **change == ChainChange::Delete) {
                    out.command("delete chain ", name);
                }
            })
        }),
    }
}

fn load(diff: &TableDiff, wanted: &Table, chains_per_stage: usize) -> Vec<Emitted> {
    let transaction =
        || vec![Document::into_emitted(wanted, |out| write(out, diff, wanted, &BTreeSet::new()))];
    let replaces = diff.sets.values().any(|change| *change == SetChange::Replace)
        || diff.chains.values().any(|change| *change == ChainChange::Replace);
    let new: Vec<&Name> = in_order(diff, wanted);
    if replaces || new.len() <= chains_per_stage {
        return transaction();
    }
    let mut stages = vec![Document::into_emitted(wanted, |out| {
        if diff.create {
            out.table(wanted);
        }
        sets(out, diff, wanted, SetChange::Create);
    })];
    let mut made: BTreeSet<&Name> = BTreeSet::new();
    for batch in new.chunks(chains_per_stage.max(1)) {
        stages.push(Document::into_emitted(wanted, |out| {
            let mut fill = Vec::with_capacity(batch.len());
            for name in batch {
                let Some(chain) = wanted.chains.get(*name) else { continue };
                fill.push((*name, chain));
                // Normally its targets were there before it.
                for (name, chain) in std::iter::once((*name, chain)).chain(targets(chain, diff, wanted)) {
                    if made.insert(name) {
                        out.chain(name, chain, false);
                    }
                }
            }
            for (name, chain) in fill {
                rules(out, name, chain);
            }
        }));
    }
    let done: BTreeSet<&Name> = new.into_iter().collect();
    stages.push(Document::into_emitted(wanted, |out| write(out, diff, wanted, &done)));
    stages
}

/// New regular chains, each after those that it leads to.
fn in_order<'w>(diff: &TableDiff, wanted: &'w Table) -> Vec<&'w Name> {
    let mut order = Vec::new();
    let mut seen: BTreeSet<&Name> = BTreeSet::new();
    for name in created(diff) {
        let Some((name, chain)) = wanted.chains.get_key_value(name) else { continue };
        if chain.base.is_some() || !seen.insert(name) {
            continue;
        }
        let mut way = vec![(name, targets(chain, diff, wanted))];
        while let Some((at, rest)) = way.last_mut() {
            match rest.pop() {
                Some((next, chain)) => {
                    if chain.base.is_none() && seen.insert(next) {
                        way.push((next, targets(chain, diff, wanted)));
                    }
                }
                None => {
                    order.push(*at);
                    way.pop();
                }
            }
        }
    }
    order
}

fn created(diff: &TableDiff) -> impl Iterator<Item = &Name> {
    diff.chains.iter().filter(|(_, change)| **change == ChainChange::Create).map(|(name, _)| name)
}

/// The new chains that a chain's rules lead to.
fn targets<'w>(chain: &Chain, diff: &TableDiff, wanted: &'w Table) -> Vec<(&'w Name, &'w Chain)> {
    let mut found = Vec::new();
    for stmt in chain.rules.iter().flat_map(|rule| &rule.stmts) {
        stmt.references(
            |name| {
                if diff.chains.get(name) == Some(&ChainChange::Create) {
                    found.extend(wanted.chains.get_key_value(name));
                }
            },
            |_| {},
        );
    }
    found
}

fn sets(out: &mut Document<'_>, diff: &TableDiff, wanted: &Table, what: SetChange) {
    for (name, _) in diff.sets.iter().filter(|(_, change)| **change == what) {
        if let Some(set) = wanted.sets.get(name) {
            out.set(name, set);
        }
    }
}

fn rules(out: &mut Document<'_>, name: &Name, chain: &Chain) {
    for rule in &chain.rules {
        out.rule(name, rule);
    }
}

/// Everything but the chains that were made before.
fn write(out: &mut Document<'_>, diff: &TableDiff, wanted: &Table, done: &BTreeSet<&Name>) {
    if diff.create && done.is_empty() {
        out.table(wanted);
    }
    let chains = || diff.chains.iter().filter(|(name, _)| !done.contains(name));
    let wanted_chain = |name: &Name| wanted.chains.get(name);
    for (name, change) in chains() {
        if let (ChainChange::Create, Some(chain)) = (change, wanted_chain(name)) {
            out.chain(name, chain, false);
        }
    }
    for (name, changes) in &diff.elements {
        out.delete_elements(name, &changes.delete);
    }
    for (name, change) in chains() {
        match change {
            ChainChange::Rewrite | ChainChange::Replace | ChainChange::Delete => {
                out.command("flush chain ", name)
            }
            ChainChange::Create => {}
        }
    }
    for (name, change) in &diff.sets {
        match change {
            SetChange::Replace | SetChange::Delete => out.command("delete set ", name),
            SetChange::Create => {}
        }
    }
    for (name, change) in chains() {
        match change {
            ChainChange::Replace => out.command("delete chain ", name),
            ChainChange::Create | ChainChange::Rewrite | ChainChange::Delete => {}
        }
    }
    if done.is_empty() {
        sets(out, diff, wanted, SetChange::Create);
    }
    sets(out, diff, wanted, SetChange::Replace);
    for (name, change) in chains() {
        match (change, wanted_chain(name)) {
            (ChainChange::Replace, Some(chain)) => out.chain(name, chain, true),
            (ChainChange::Rewrite, Some(chain)) if chain.base.is_some() => out.chain(name, chain, true),
            (ChainChange::Create | ChainChange::Rewrite | ChainChange::Replace | ChainChange::Delete, _) => {}
        }
    }
    for (name, change) in chains() {
        match (change, wanted_chain(name)) {
            (ChainChange::Create | ChainChange::Rewrite | ChainChange::Replace, Some(chain)) => {
                rules(out, name, chain);
            }
            (ChainChange::Create | ChainChange::Rewrite | ChainChange::Replace | ChainChange::Delete, _) => {}
        }
    }
    for (name, changes) in &diff.elements {
        let elements = wanted.sets.get(name).map(|set: &Set| &set.elements);
        let with_key = |key| elements.and_then(|elements| elements.get_key_value(key));
        out.add_elements(name, changes.add.iter().filter_map(with_key));
    }
}
