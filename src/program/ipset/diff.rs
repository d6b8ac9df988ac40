//! Tells what must change in live sets to make them the wanted ones: what comes before rules ask the sets, and what goes
//! after they have stopped asking.

use std::collections::{BTreeMap, BTreeSet};

use crate::program::sides::{Sides, side_by_side};

use super::{Change, Entry, Set, SetKind, SetName, Sets};

/// What happens to a set, apart from its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetChange {
    /// It is not there yet.
    Create,
    /// It has other options, or no room for old and new entries together, or an entry that is not modelled and so cannot be
    /// deleted by name: another one is filled and takes its place at once, for rules too.
    Replace,
    /// It is of another type or family, which no swap can change: it is destroyed and made. The kernel refuses that as
    /// long as rules ask it.
    Remake,
    /// It is not wanted.
    Delete,
}

/// Which entries of a set change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryChanges {
    /// Those that go; none if the set is made anew.
    pub delete: Vec<Entry>,
    /// Those that come; all of them if the set is made anew.
    pub add: Vec<Entry>,
}

/// What changes in sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetsDiff {
    /// Sets that change, apart from entries.
    pub sets: BTreeMap<SetName, SetChange>,
    /// Entries that change, of sets that stay or are made.
    pub entries: BTreeMap<SetName, EntryChanges>,
}

impl SetsDiff {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.entries.is_empty()
    }
}

/// Compares. Live sets that are not wanted go if they are `ours`, or if they bear a spare name of a wanted set: then a
/// replacement was cut short.
pub fn diff(wanted: &Sets, live: &Sets, ours: &dyn Fn(&SetName) -> bool) -> SetsDiff {
    let spares: BTreeSet<SetName> = wanted.keys().map(SetName::spare).collect();
    let mut diff = SetsDiff::default();
    for (name, sides) in side_by_side(wanted, live) {
        let (change, entries) = match sides {
            Sides::Wanted(set) => (Some(SetChange::Create), all(set)),
            Sides::Live(_) if ours(name) || spares.contains(name) => {
                (Some(SetChange::Delete), EntryChanges::default())
            }
            Sides::Live(_) => (None, EntryChanges::default()),
            Sides::Both(wanted, live) => diff_set(wanted, live),
        };
        if let Some(change) = change {
            diff.sets.insert(name.clone(), change);
        }
        if !entries.delete.is_empty() || !entries.add.is_empty() {
            diff.entries.insert(name.clone(), entries);
        }
    }
    diff
}

fn all(set: &Set) -> EntryChanges {
    EntryChanges { delete: Vec::new(), add: set.entries.iter().cloned().collect() }
}

fn diff_set(wanted: &Set, live: &Set) -> (Option<SetChange>, EntryChanges) {
    if wanted.kind != live.kind {
        let can_be_swapped = wanted.kind.can_be_swapped_with(&live.kind);
        return (Some(if can_be_swapped { SetChange::Replace } else { SetChange::Remake }), all(wanted));
    }
    let entries = EntryChanges {
        delete: live.entries.difference(&wanted.entries).cloned().collect(),
        add: wanted.entries.difference(&live.entries).cloned().collect(),
    };
    if entries.delete.iter().any(|entry| matches!(entry, Entry::Unmodelled(_))) {
        return (Some(SetChange::Replace), all(wanted));
    }
    // New ones come before old ones go.
    if let SetKind::Hash { max_entries, .. } = wanted.kind
        && !entries.add.is_empty()
        && live.entries.len() + entries.add.len() > usize::try_from(max_entries).unwrap_or(usize::MAX)
    {
        return (Some(SetChange::Replace), all(wanted));
    }
    (None, entries)
}

/// What comes: sets made and replaced, entries added.
pub fn fill(diff: &SetsDiff, wanted: &Sets) -> Vec<Change> {
    let mut changes = Vec::new();
    let changed: BTreeSet<&SetName> = diff.sets.keys().chain(diff.entries.keys()).collect();
    let mut left_over = left_over_spares(diff);
    for name in changed {
        let Some(set) = wanted.get(name) else { continue };
        let change = diff.sets.get(name);
        if change == Some(&SetChange::Delete) {
            continue;
        }
        let spare = (change == Some(&SetChange::Replace)).then(|| name.spare());
        let filled = spare.as_ref().unwrap_or(name);
        if change == Some(&SetChange::Remake) || left_over.remove(filled) {
            changes.push(Change::Destroy(filled.clone()));
        }
        if change.is_some() {
            changes.push(Change::Create(filled.clone(), set.kind.clone()));
        }
        let entries = diff.entries.get(name).map(|entries| entries.add.clone()).unwrap_or_default();
        if !entries.is_empty() {
            changes.push(Change::Add(filled.clone(), entries));
        }
        if let Some(spare) = spare {
            changes.push(Change::Swap(spare.clone(), name.clone()));
            changes.push(Change::Destroy(spare));
        }
    }
    changes
}

/// What goes: entries deleted, sets destroyed.
pub fn drain(diff: &SetsDiff) -> Vec<Change> {
    let with_entries = diff.entries.iter().filter(|(_, changes)| !changes.delete.is_empty());
    let mut changes: Vec<Change> =
        with_entries.map(|(name, changes)| Change::Delete(name.clone(), changes.delete.clone())).collect();
    let gone = left_over_spares(diff);
    let deleted = diff.sets.iter().filter(|(_, change)| **change == SetChange::Delete);
    let deleted = deleted.filter(|(name, _)| !gone.contains(name));
    changes.extend(deleted.map(|(name, _)| Change::Destroy(name.clone())));
    changes
}

/// Spare names that replacements need and that sets from before still have.
fn left_over_spares(diff: &SetsDiff) -> BTreeSet<SetName> {
    let replaced = diff.sets.iter().filter(|(_, change)| **change == SetChange::Replace);
    let spares = replaced.map(|(name, _)| name.spare());
    spares.filter(|spare| diff.sets.get(spare) == Some(&SetChange::Delete)).collect()
}
