//! Tells what must change in live sets to make them the wanted ones, and writes it as two documents for `ipset restore`:
//! one for before rules ask the sets, one for after they have stopped asking.

use std::collections::{BTreeMap, BTreeSet};

use crate::program::emitted::Emitted;
use crate::program::sides::{Sides, side_by_side};

use super::emit::{write_add, write_create, write_delete, write_destroy, write_swap};
use super::{Entry, Set, SetKind, SetName, Sets};

/// What happens to a set, apart from its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetChange {
    /// It is not there yet.
    Create,
    /// It has other options, or no room for old and new entries together: another one is filled and takes its place at
    /// once, for rules too.
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
    // New ones come before old ones go.
    if let SetKind::Hash { max_entries, .. } = wanted.kind
        && !entries.add.is_empty()
        && live.entries.len() + entries.add.len() > usize::try_from(max_entries).unwrap_or(usize::MAX)
    {
        return (Some(SetChange::Replace), all(wanted));
    }
    (None, entries)
}

/// What comes, as a document: sets made and replaced, entries added. `None` if nothing comes.
pub fn fill_document(diff: &SetsDiff, wanted: &Sets) -> Option<Emitted> {
    let mut emitted = Emitted::default();
    let out = &mut emitted.text;
    let changed: BTreeSet<&SetName> = diff.sets.keys().chain(diff.entries.keys()).collect();
    let mut left_over = left_over_spares(diff);
    for name in changed {
        let Some(set) = wanted.get(name) else { continue };
        let entries = diff.entries.get(name).map_or(&[][..], |changes| &changes.add[..]);
        match diff.sets.get(name) {
            Some(SetChange::Replace) => {
                let spare = name.spare();
                if left_over.remove(&spare) {
                    write_destroy(out, &spare);
                }
                write_create(out, &spare, &set.kind);
                entries.iter().for_each(|entry| write_add(out, &spare, entry));
                write_swap(out, &spare, name);
                write_destroy(out, &spare);
                continue;
            }
            Some(SetChange::Remake) => {
                write_destroy(out, name);
                write_create(out, name, &set.kind);
            }
            Some(SetChange::Create) => write_create(out, name, &set.kind),
            Some(SetChange::Delete) => continue,
            None => {}
        }
        entries.iter().for_each(|entry| write_add(out, name, entry));
    }
    (!emitted.text.is_empty()).then_some(emitted)
}

/// What goes, as a document: entries deleted, sets destroyed. `None` if nothing goes.
pub fn drain_document(diff: &SetsDiff) -> Option<Emitted> {
    let mut emitted = Emitted::default();
    let out = &mut emitted.text;
    for (name, changes) in &diff.entries {
        changes.delete.iter().for_each(|entry| write_delete(out, name, entry));
    }
    let gone = left_over_spares(diff);
    for (name, change) in &diff.sets {
        if *change == SetChange::Delete && !gone.contains(name) {
            write_destroy(out, name);
        }
    }
    (!emitted.text.is_empty()).then_some(emitted)
}

/// Spare names that replacements need and that sets from before still have.
fn left_over_spares(diff: &SetsDiff) -> BTreeSet<SetName> {
    let replaced = diff.sets.iter().filter(|(_, change)| **change == SetChange::Replace);
    let spares = replaced.map(|(name, _)| name.spare());
    spares.filter(|spare| diff.sets.get(spare) == Some(&SetChange::Delete)).collect()
}
