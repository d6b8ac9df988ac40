//! Tells what must change in a live table to make it the wanted one. The whole table is ours.
//!
//! What comes out names objects and keys; its size does not depend on what stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::program::sides::{Sides, side_by_side};

use super::{Chain, Element, Key, Name, Set, Table};

/// What happens to a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainChange {
    /// It is not there yet.
    Create,
    /// It has other rules or another policy: it is emptied and filled.
    Rewrite,
    /// It is at another hook, or is no base chain any more, or becomes one: it is deleted and made.
    Replace,
    /// It is not wanted.
    Delete,
}

/// What happens to a set or map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetChange {
    /// It is not there yet.
    Create,
    /// It has another type, other flags, another timeout or size: it is deleted and made.
    Replace,
    /// It is not wanted.
    Delete,
}

/// Which elements of a set change. One that gives something else is in both lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ElementChanges {
    /// Those that go.
    pub delete: Vec<Key>,
    /// Those that come.
    pub add: Vec<Key>,
}

/// What changes in a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableDiff {
    /// Whether the table itself is missing.
    pub create: bool,
    /// Chains that change.
    pub chains: BTreeMap<Name, ChainChange>,
    /// Sets and maps that change, apart from elements.
    pub sets: BTreeMap<Name, SetChange>,
    /// Elements that change, of sets that stay or are made.
    pub elements: BTreeMap<Name, ElementChanges>,
}

impl TableDiff {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.create && self.chains.is_empty() && self.sets.is_empty() && self.elements.is_empty()
    }
}

/// Compares. Comments of tables, chains and sets do not count, since the kernel keeps those that objects were made with;
/// nor does one that an element has on one side alone. Elements of dynamic sets do not count, since rules make them.
pub fn diff(wanted: &Table, live: Option<&Table>) -> TableDiff {
    let mut diff = TableDiff { create: live.is_none(), ..TableDiff::default() };
    let nothing = Table::new(wanted.family, wanted.name.clone());
    let live = live.unwrap_or(&nothing);
    for (name, sides) in side_by_side(&wanted.sets, &live.sets) {
        diff_set(&mut diff, name, sides);
    }
    for (name, sides) in side_by_side(&wanted.chains, &live.chains) {
        let change = match sides {
            Sides::Wanted(_) => Some(ChainChange::Create),
            Sides::Live(_) => Some(ChainChange::Delete),
            Sides::Both(wanted, live) => diff_chain(wanted, live),
        };
        if let Some(change) = change {
            diff.chains.insert(name.clone(), change);
        }
    }
    release_replaced(&mut diff, wanted, live);
    diff
}

fn diff_set(diff: &mut TableDiff, name: &Name, sides: Sides<'_, Set>) {
    let all = |set: &Set| ElementChanges { delete: Vec::new(), add: set.elements.keys().cloned().collect() };
    let (change, elements) = match sides {
        Sides::Wanted(set) => (Some(SetChange::Create), all(set)),
        Sides::Live(_) => (Some(SetChange::Delete), ElementChanges::default()),
        Sides::Both(wanted, live) if !is_same_kind(wanted, live) => (Some(SetChange::Replace), all(wanted)),
        // Its rules fill it.
        Sides::Both(wanted, _) if wanted.flags.dynamic => (None, ElementChanges::default()),
        // Among its elements are some that we could not name to delete them.
        Sides::Both(wanted, live) if live.has_unmodelled => (Some(SetChange::Replace), all(wanted)),
        Sides::Both(wanted, live) => (None, diff_elements(&wanted.elements, &live.elements)),
    };
    if let Some(change) = change {
        diff.sets.insert(name.clone(), change);
    }
    if !elements.delete.is_empty() || !elements.add.is_empty() {
        diff.elements.insert(name.clone(), elements);
    }
}

/// Whether a live set can become the wanted one by elements alone.
fn is_same_kind(wanted: &Set, live: &Set) -> bool {
    // A set that rules fill must have a size; nft gives it this one.
    let size = |set: &Set| set.size.or((wanted.flags.dynamic || live.flags.dynamic).then_some(65_535));
    wanted.key == live.key
        && wanted.data == live.data
        && wanted.flags.constant == live.flags.constant
        && wanted.flags.interval == live.flags.interval
        && (wanted.flags.timeout || wanted.timeout.is_some())
            == (live.flags.timeout || live.timeout.is_some())
        && wanted.timeout == live.timeout
        && size(wanted) == size(live)
}

fn diff_elements(wanted: &BTreeMap<Key, Element>, live: &BTreeMap<Key, Element>) -> ElementChanges {
    let mut changes = ElementChanges::default();
    for (key, sides) in side_by_side(wanted, live) {
        match sides {
            Sides::Wanted(_) => changes.add.push(key.clone()),
            Sides::Live(_) => changes.delete.push(key.clone()),
            Sides::Both(wanted, live) if !wanted.is_same(live) => {
                changes.delete.push(key.clone());
                changes.add.push(key.clone());
            }
            Sides::Both(_, _) => {}
        }
    }
    changes
}

fn diff_chain(wanted: &Chain, live: &Chain) -> Option<ChainChange> {
    match (&wanted.base, &live.base) {
        (None, None) => {}
        (Some(one), Some(other))
            if (one.kind, one.hook, one.priority) == (other.kind, other.hook, other.priority) =>
        {
            if one.policy != other.policy {
                return Some(ChainChange::Rewrite);
            }
        }
        (Some(_) | None, Some(_)) | (Some(_), None) => return Some(ChainChange::Replace),
    }
    (wanted.rules != live.rules).then_some(ChainChange::Rewrite)
}

/// An object that something refers to cannot be deleted, even to be made again: rules and elements that refer to what is
/// replaced are written again, too.
fn release_replaced(diff: &mut TableDiff, wanted: &Table, live: &Table) {
    let sets: BTreeSet<&Name> =
        diff.sets.iter().filter(|(_, change)| **change == SetChange::Replace).map(|(name, _)| name).collect();
    let chains: BTreeSet<&Name> = diff
        .chains
        .iter()
        .filter(|(_, change)| **change == ChainChange::Replace)
        .map(|(name, _)| name)
        .collect();
    if sets.is_empty() && chains.is_empty() {
        return;
    }
    let mut rewritten = Vec::new();
    for (name, chain) in live.chains.iter().filter(|(name, _)| !diff.chains.contains_key(*name)) {
        let (mut by_chain, mut by_set) = (false, false);
        for stmt in chain.rules.iter().flat_map(|rule| &rule.stmts) {
            stmt.references(|name| by_chain |= chains.contains(name), |name| by_set |= sets.contains(name));
        }
        if by_chain || by_set {
            rewritten.push(name.clone());
        }
    }
    let mut again: Vec<(Name, Key)> = Vec::new();
    for (name, set) in live.sets.iter().filter(|(name, _)| !diff.sets.contains_key(*name)) {
        let stays = |key: &Key| wanted.sets.get(name).is_some_and(|set| set.elements.contains_key(key));
        for (key, element) in &set.elements {
            let leads =
                element.data.as_ref().and_then(|data| data.chain()).is_some_and(|to| chains.contains(to));
            let changes =
                diff.elements.get(name).is_some_and(|changes| changes.delete.binary_search(key).is_ok());
            if leads && stays(key) && !changes {
                again.push((name.clone(), key.clone()));
            }
        }
    }
    diff.chains.extend(rewritten.into_iter().map(|name| (name, ChainChange::Rewrite)));
    for (name, key) in again {
        let changes = diff.elements.entry(name).or_default();
        changes.delete.push(key.clone());
        changes.add.push(key);
    }
}

/// What the live table is after a difference has been carried out.
pub fn apply(live: Option<&Table>, diff: &TableDiff, wanted: &Table) -> Table {
    let made = || Table { comment: wanted.comment.clone(), ..Table::new(wanted.family, wanted.name.clone()) };
    let mut after = live.cloned().unwrap_or_else(made);
    apply_to(&mut after, diff, wanted);
    after
}

/// Carries a difference out in a table that has all that it names. It may have more: what is wanted may be but a part.
pub fn apply_to(after: &mut Table, diff: &TableDiff, wanted: &Table) {
    for (name, change) in &diff.sets {
        match (change, wanted.sets.get(name)) {
            (SetChange::Create | SetChange::Replace, Some(set)) => {
                let empty = Set { elements: BTreeMap::new(), ..set.clone() };
                after.sets.insert(name.clone(), empty);
            }
            (SetChange::Delete, _) | (SetChange::Create | SetChange::Replace, None) => {
                after.sets.remove(name);
            }
        }
    }
    for (name, changes) in &diff.elements {
        let (Some(set), Some(wanted)) = (after.sets.get_mut(name), wanted.sets.get(name)) else { continue };
        for key in &changes.delete {
            set.elements.remove(key);
        }
        for key in &changes.add {
            if let Some((key, element)) = wanted.elements.get_key_value(key) {
                set.elements.insert(key.clone(), element.clone());
            }
        }
    }
    for (name, change) in &diff.chains {
        match (change, wanted.chains.get(name)) {
            (ChainChange::Rewrite, Some(chain)) => {
                let comment = after.chains.get(name).and_then(|before| before.comment.clone());
                after.chains.insert(name.clone(), Chain { comment, ..chain.clone() });
            }
            (ChainChange::Create | ChainChange::Replace, Some(chain)) => {
                after.chains.insert(name.clone(), chain.clone());
            }
            (ChainChange::Delete, _) | (_, None) => {
                after.chains.remove(name);
            }
        }
    }
}
