//! Writes what changes in a table as transactions, each of which the kernel takes as a whole or not at all: as a document
//! for `nft -f`, and as the netlink messages that say the same.
//!
//! Within one, everything is made before it is used and unused before it is deleted. Only `add`, `flush` and `delete`
//! occur: nft 1.0.6 knows no `destroy`.
//!
//! Chains that go are emptied with everything else and deleted by a document of their own: kernels before 6.2 take a chain
//! for used as long as the transaction runs that took its last use away (reference section 4.9).

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::program::emitted::Emitted;

use super::diff::{ChainChange, ElementChanges, SetChange, TableDiff};
use super::emit::{Document, ELEMENTS_PER_COMMAND};
use super::wire::{Batch, BatchWriter};
use super::{Chain, Element, Key, Name, Rule, Set, Table};

/// How many new chains go into one document before the one that uses them. For each anonymous set the kernel walks
/// through all that its transaction has done so far, so that the time of one grows with the square of its size; each
/// one also costs a look at all that is there. Measured with 20,000 chains, between 400 and 2,000 it hardly matters.
const CHAINS_PER_STAGE: usize = 1000;

/// One transaction in both forms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// For `nft -f`, with what its lines were made for.
    pub document: Emitted,
    /// For netlink; `None` if it cannot be said so. Its messages know the lines of the document that say the same.
    pub batch: Option<Batch>,
}

/// A difference as transactions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stages {
    /// To be taken in their order. New chains, that nothing refers to yet, come first, some hundred at a time, with the sets
    /// that they need; with the one that then does everything else packets meet the new state at once; what the old one alone
    /// needed goes last. A small difference that puts nothing in the place of something else is one transaction.
    pub load: Vec<Transaction>,
    /// Deletes the chains that are empty then.
    pub sweep: Option<Transaction>,
}

/// Writes both forms of a transaction, command by command.
struct Writer<'w> {
    document: Document<'w>,
    batch: BatchWriter<'w>,
}

impl Transaction {
    fn of(table: &Table, write: impl FnOnce(&mut Writer<'_>)) -> Transaction {
        let mut emitted = Emitted::default();
        let document = Document::new(&mut emitted.text, Some(&mut emitted.lines), table);
        let mut writer = Writer { document, batch: BatchWriter::new(table) };
        write(&mut writer);
        let batch = writer.batch.finish();
        Transaction { document: emitted, batch }
    }
}

impl<'w> Writer<'w> {
    /// The batch, told which line of the document says what it is to say.
    fn batch(&mut self) -> &mut BatchWriter<'w> {
        self.batch.at(self.document.next_line())
    }

    fn table(&mut self, table: &Table) {
        self.batch().table();
        self.document.table(table);
    }

    /// `policy`: the chain may be there, with another policy.
    fn chain(&mut self, name: &Name, chain: &Chain, policy: bool) {
        self.batch().chain(name, chain);
        self.document.chain(name, chain, policy);
    }

    fn set(&mut self, table: &Table, name: &Name, set: &Set) {
        let ports = table.ports_in(name);
        self.batch().set(name, set, ports);
        self.document.set(name, set, ports);
    }

    fn rule(&mut self, chain: &Name, rule: &Rule) {
        self.batch().rule(chain, rule);
        self.document.rule(chain, rule);
    }

    fn flush_chain(&mut self, name: &Name) {
        self.batch().flush_chain(name);
        self.document.command("flush chain ", name);
    }

    fn delete_chain(&mut self, name: &Name) {
        self.batch().delete_chain(name);
        self.document.command("delete chain ", name);
    }

    fn delete_set(&mut self, name: &Name) {
        self.batch().delete_set(name);
        self.document.command("delete set ", name);
    }

    fn delete_table(&mut self) {
        self.batch().delete_table();
        self.document.table_command("delete table ");
    }

    fn add_elements(&mut self, name: &Name, elements: &[(&Key, &Element)]) {
        for of_command in elements.chunks(ELEMENTS_PER_COMMAND) {
            // The first line of a command has no element.
            self.batch.at(self.document.next_line() + 1).add_elements(name, of_command.iter().copied());
            self.document.add_elements(name, of_command.iter().copied());
        }
    }

    fn delete_elements(&mut self, name: &Name, keys: &[Key]) {
        for of_command in keys.chunks(ELEMENTS_PER_COMMAND) {
            self.batch.at(self.document.next_line() + 1).delete_elements(name, of_command.iter());
            self.document.delete_elements(name, of_command);
        }
    }
}

/// Deletes a table with all that is in it.
pub fn delete_table(table: &Table) -> Transaction {
    Transaction::of(table, |out| out.delete_table())
}

/// The transactions for a difference.
pub fn stages(diff: &TableDiff, wanted: &Table) -> Stages {
    stages_of(diff, wanted, CHAINS_PER_STAGE)
}

/// The same with another size of a stage.
pub fn stages_of(diff: &TableDiff, wanted: &Table, chains_per_stage: usize) -> Stages {
    let deletes = diff.chains.values().any(|change| *change == ChainChange::Delete);
    Stages {
        load: load(diff, wanted, chains_per_stage),
        sweep: deletes.then(|| {
            Transaction::of(wanted, |out| {
                for (name, _) in diff.chains.iter().filter(|(_, change)| **change == ChainChange::Delete) {
                    out.delete_chain(name);
                }
            })
        }),
    }
}

/// A packet that is under way when a transaction is taken goes on by the rules that it began with, but finds the elements, and
/// the chains that they lead to, as they are by then. So in a table that is in use a new chain is there before anything leads to
/// it, and what the old rules look for goes after they have gone.
fn load(diff: &TableDiff, wanted: &Table, chains_per_stage: usize) -> Vec<Transaction> {
    let replaces = diff.sets.values().any(|change| *change == SetChange::Replace)
        || diff.chains.values().any(|change| *change == ChainChange::Replace);
    if replaces {
        return vec![Transaction::of(wanted, |out| write(out, diff, wanted, &BTreeSet::new()))];
    }
    let is_switched = is_switched(diff);
    let (now, later) = if is_switched {
        let (now, later) = parted(diff, wanted);
        (Cow::Owned(now), later)
    } else {
        (Cow::Borrowed(diff), None)
    };
    let mut done = in_order(&now, wanted);
    if done.len() <= chains_per_stage && !is_switched {
        done.clear();
    }
    let mut stages = chains_ahead(&now, wanted, &done, chains_per_stage);
    let done: BTreeSet<&Name> = done.into_iter().collect();
    stages.push(Transaction::of(wanted, |out| write(out, &now, wanted, &done)));
    stages.extend(later.map(|later| Transaction::of(wanted, |out| write(out, &later, wanted, &done))));
    // The kernel has no answer to a transaction that does nothing.
    stages.retain(|stage| !stage.document.text.is_empty());
    stages
}

/// Whether packets that found something in the table find something else in its place.
fn is_switched(diff: &TableDiff) -> bool {
    let comes = !diff.create
        && (diff.chains.values().any(|change| *change != ChainChange::Delete)
            || diff.elements.values().any(|changes| !changes.add.is_empty()));
    let goes = diff.chains.values().any(|change| *change != ChainChange::Create)
        || diff.elements.values().any(|changes| !changes.delete.is_empty());
    comes && goes
}

/// What is done at once, and what goes afterwards, if that is anything: chains and sets that go, and elements of sets that stay
/// if no other element comes in their place. An interval makes room for others first.
fn parted(diff: &TableDiff, wanted: &Table) -> (TableDiff, Option<TableDiff>) {
    let (mut now, mut later) = (diff.clone(), TableDiff::default());
    later.chains = now.chains.clone();
    later.chains.retain(|_, change| *change == ChainChange::Delete);
    now.chains.retain(|_, change| *change != ChainChange::Delete);
    later.sets = now.sets.clone();
    later.sets.retain(|_, change| *change == SetChange::Delete);
    now.sets.retain(|_, change| *change != SetChange::Delete);
    for (name, changes) in &mut now.elements {
        if wanted.sets.get(name).is_none_or(|set| set.flags.interval) {
            continue;
        }
        let come: BTreeSet<&Key> = changes.add.iter().collect();
        let (replaced, gone) =
            std::mem::take(&mut changes.delete).into_iter().partition(|key| come.contains(key));
        changes.delete = replaced;
        later.elements.insert(name.clone(), ElementChanges { delete: gone, add: Vec::new() });
    }
    now.elements.retain(|_, changes| !changes.delete.is_empty() || !changes.add.is_empty());
    later.elements.retain(|_, changes| !changes.delete.is_empty());
    let is_later = !later.is_empty();
    (now, is_later.then_some(later))
}

/// New chains that nothing leads to yet, with the sets that they need.
fn chains_ahead(
    diff: &TableDiff,
    wanted: &Table,
    new: &[&Name],
    chains_per_stage: usize,
) -> Vec<Transaction> {
    if new.is_empty() {
        return Vec::new();
    }
    let mut stages = vec![Transaction::of(wanted, |out| {
        if diff.create {
            out.table(wanted);
        }
        sets(out, diff, wanted, SetChange::Create);
    })];
    let mut made: BTreeSet<&Name> = BTreeSet::new();
    for batch in new.chunks(chains_per_stage.max(1)) {
        stages.push(Transaction::of(wanted, |out| {
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

fn sets(out: &mut Writer<'_>, diff: &TableDiff, wanted: &Table, what: SetChange) {
    for (name, _) in diff.sets.iter().filter(|(_, change)| **change == what) {
        if let Some(set) = wanted.sets.get(name) {
            out.set(wanted, name, set);
        }
    }
}

fn rules(out: &mut Writer<'_>, name: &Name, chain: &Chain) {
    for rule in &chain.rules {
        out.rule(name, rule);
    }
}

/// Everything but the chains that were made before.
fn write(out: &mut Writer<'_>, diff: &TableDiff, wanted: &Table, done: &BTreeSet<&Name>) {
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
            ChainChange::Rewrite | ChainChange::Replace | ChainChange::Delete => out.flush_chain(name),
            ChainChange::Create => {}
        }
    }
    for (name, change) in &diff.sets {
        match change {
            SetChange::Replace | SetChange::Delete => out.delete_set(name),
            SetChange::Create => {}
        }
    }
    for (name, change) in chains() {
        match change {
            ChainChange::Replace => out.delete_chain(name),
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
        let Some(Set { elements, .. }) = wanted.sets.get(name) else { continue };
        let added: Vec<(&Key, &Element)> = if changes.add.len() == elements.len() {
            // All of them, which need not be looked for one by one.
            elements.iter().collect()
        } else {
            changes.add.iter().filter_map(|key| elements.get_key_value(key)).collect()
        };
        out.add_elements(name, &added);
    }
}
