//! Changes of sets, and what a kernel does with them, in memory: one by one, as far as the first that is refused.

use super::{Entry, Set, SetKind, SetName, Sets, check};

/// One change. What is there already, or gone already, is fine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes an empty set.
    Create(SetName, SetKind),
    /// Adds entries to a set, one by one.
    Add(SetName, Vec<Entry>),
    /// Deletes entries of a set, one by one.
    Delete(SetName, Vec<Entry>),
    /// Exchanges what two sets hold, for rules too.
    Swap(SetName, SetName),
    /// Deletes a set with its entries.
    Destroy(SetName),
}

/// Why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A set of this name is there already, and is another.
    #[error("set {0} exists already")]
    SetExists(SetName),
    /// There is no such set.
    #[error("set {0} does not exist")]
    NoSet(SetName),
    /// The entry is not one for this set. Those before it are done.
    #[error("set {0} cannot hold {1}")]
    BadEntry(SetName, Entry),
    /// The set holds as many as it may. The entries that fit are added.
    #[error("set {0} is full")]
    Full(SetName),
    /// The two sets are of different type or family.
    #[error("sets {0} and {1} cannot be swapped: their types differ")]
    TypesDiffer(SetName, SetName),
}

/// Does one change. Whether rules use a set is not known here.
pub fn apply(sets: &mut Sets, change: &Change) -> Result<(), ApplyError> {
    match change {
        Change::Create(name, kind) => match sets.get(name) {
            Some(set) if set.kind == *kind => {}
            Some(_) => return Err(ApplyError::SetExists(name.clone())),
            None => {
                sets.insert(name.clone(), Set { kind: kind.clone(), entries: Default::default() });
            }
        },
        Change::Add(name, entries) => {
            let set = find(sets, name)?;
            entries.iter().try_for_each(|entry| add(name, set, entry))?;
        }
        Change::Delete(name, entries) => {
            let set = find(sets, name)?;
            for entry in entries {
                fitting(name, set, entry)?;
                set.entries.remove(entry);
            }
        }
        Change::Swap(name, other) => {
            let first = find(sets, name)?.clone();
            let second = find(sets, other)?;
            if !first.kind.can_be_swapped_with(&second.kind) {
                return Err(ApplyError::TypesDiffer(name.clone(), other.clone()));
            }
            let second = std::mem::replace(second, first);
            sets.insert(name.clone(), second);
        }
        Change::Destroy(name) => {
            sets.remove(name);
        }
    }
    Ok(())
}

fn add(name: &SetName, set: &mut Set, entry: &Entry) -> Result<(), ApplyError> {
    fitting(name, set, entry)?;
    if let SetKind::Hash { max_entries, .. } = set.kind
        && set.entries.len() >= usize::try_from(max_entries).unwrap_or(usize::MAX)
        && !set.entries.contains(entry)
    {
        return Err(ApplyError::Full(name.clone()));
    }
    set.entries.insert(entry.clone());
    Ok(())
}

fn fitting(name: &SetName, set: &Set, entry: &Entry) -> Result<(), ApplyError> {
    let fault = check::fault(&set.kind, entry);
    fault.map_or(Ok(()), |_| Err(ApplyError::BadEntry(name.clone(), entry.clone())))
}

fn find<'a>(sets: &'a mut Sets, name: &SetName) -> Result<&'a mut Set, ApplyError> {
    sets.get_mut(name).ok_or_else(|| ApplyError::NoSet(name.clone()))
}
