//! What `ipset restore` does with a document, in memory: commands one by one, as far as the first that is refused.

use std::fmt;

use crate::program::words::{ParseError, Words};

use super::{Entry, Set, SetKind, SetName, Sets, check, parse};

/// One line of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Makes an empty set.
    Create(SetName, SetKind),
    /// Adds an entry, which is read once the kind of the set is known.
    Add(SetName, Box<str>),
    /// Deletes an entry.
    Delete(SetName, Box<str>),
    /// Exchanges what two sets hold, for rules too.
    Swap(SetName, SetName),
    /// Empties a set.
    Flush(SetName),
    /// Deletes a set.
    Destroy(SetName),
}

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A set of this name is there already, or one of another kind.
    #[error("set {0} exists already")]
    SetExists(SetName),
    /// There is no such set.
    #[error("set {0} does not exist")]
    NoSet(SetName),
    /// The entry is in the set already.
    #[error("set {0} holds {1} already")]
    EntryExists(SetName, ShownEntry),
    /// The entry is not in the set.
    #[error("set {0} does not hold {1}")]
    NoEntry(SetName, ShownEntry),
    /// The entry is not one for this set.
    #[error("set {0} cannot hold {1}")]
    BadEntry(SetName, ShownEntry),
    /// The set holds as many as it may.
    #[error("set {0} is full")]
    Full(SetName),
    /// The two sets are of different type or family.
    #[error("sets {0} and {1} cannot be swapped: their types differ")]
    TypesDiffer(SetName, SetName),
}

impl ApplyError {
    /// Whether something was there already.
    pub fn is_exists(&self) -> bool {
        matches!(self, ApplyError::SetExists(_) | ApplyError::EntryExists(_, _))
    }
}

/// An entry as `ipset` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownEntry(pub Entry);

impl fmt::Display for ShownEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        super::emit::write_entry(&mut text, &self.0);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

/// Why a document was not done to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A line is no command.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A command was refused. What stands before it is done.
    #[error("line {line}: {error}")]
    Apply {
        /// The line, from 1.
        line: u32,
        /// Why.
        error: ApplyError,
    },
}

/// The commands of a document, each with its line.
pub fn commands(text: &str) -> impl Iterator<Item = Result<(u32, Command), ParseError>> + '_ {
    (1..).zip(text.lines()).filter_map(|(number, line)| {
        let command = read_command(&mut Words::new(number, line)).transpose()?;
        Some(command.map(|command| (number, command)))
    })
}

fn read_command(words: &mut Words<'_>) -> Result<Option<Command>, ParseError> {
    let Some(verb) = words.next().filter(|word| !word.text.starts_with('#')) else { return Ok(None) };
    let name = read_name(words)?;
    let command = match verb.text {
        "create" => Command::Create(name, parse::read_kind(words)?),
        "add" => Command::Add(name, words.need_rest("an entry")?.into()),
        "del" => Command::Delete(name, words.need_rest("an entry")?.into()),
        "swap" => Command::Swap(name, read_name(words)?),
        "flush" => Command::Flush(name),
        "destroy" => Command::Destroy(name),
        _ => return Err(words.error(&verb, "create, add, del, swap, flush or destroy")),
    };
    match words.next() {
        Some(word) => Err(words.error(&word, "the end of the line")),
        None => Ok(Some(command)),
    }
}

fn read_name(words: &mut Words<'_>) -> Result<SetName, ParseError> {
    let word = words.need("the name of a set")?;
    SetName::new(word.text).map_err(|_| words.error(&word, "the name of a set"))
}

/// Does a whole document. With `exist`, as with `-exist`, it is no error that something is there or not there already.
pub fn restore(sets: &mut Sets, text: &str, exist: bool) -> Result<(), RestoreError> {
    for command in commands(text) {
        let (line, command) = command?;
        apply(sets, &command, exist).map_err(|error| RestoreError::Apply { line, error })?;
    }
    Ok(())
}

/// Does one command, or nothing. Whether rules use a set is not known here.
pub fn apply(sets: &mut Sets, command: &Command, exist: bool) -> Result<(), ApplyError> {
    match command {
        Command::Create(name, kind) => match sets.get(name) {
            Some(set) if exist && set.kind == *kind => {}
            Some(_) => return Err(ApplyError::SetExists(name.clone())),
            None => {
                sets.insert(name.clone(), Set { kind: kind.clone(), entries: Default::default() });
            }
        },
        Command::Add(name, text) => {
            let set = find(sets, name)?;
            let entry = parse::entry(&set.kind, text);
            if check::fault(&set.kind, &entry).is_some() {
                return Err(ApplyError::BadEntry(name.clone(), ShownEntry(entry)));
            }
            if set.entries.contains(&entry) {
                return if exist {
                    Ok(())
                } else {
                    Err(ApplyError::EntryExists(name.clone(), ShownEntry(entry)))
                };
            }
            if let SetKind::Hash { max_entries, .. } = set.kind
                && set.entries.len() >= usize::try_from(max_entries).unwrap_or(usize::MAX)
            {
                return Err(ApplyError::Full(name.clone()));
            }
            set.entries.insert(entry);
        }
        Command::Delete(name, text) => {
            let set = find(sets, name)?;
            let entry = parse::entry(&set.kind, text);
            if !set.entries.remove(&entry) && !exist {
                return Err(ApplyError::NoEntry(name.clone(), ShownEntry(entry)));
            }
        }
        Command::Swap(name, other) => {
            let first = find(sets, name)?.clone();
            let second = find(sets, other)?;
            if !first.kind.can_be_swapped_with(&second.kind) {
                return Err(ApplyError::TypesDiffer(name.clone(), other.clone()));
            }
            let second = std::mem::replace(second, first);
            sets.insert(name.clone(), second);
        }
        Command::Flush(name) => find(sets, name)?.entries.clear(),
        Command::Destroy(name) => {
            if sets.remove(name).is_none() && !exist {
                return Err(ApplyError::NoSet(name.clone()));
            }
        }
    }
    Ok(())
}

fn find<'a>(sets: &'a mut Sets, name: &SetName) -> Result<&'a mut Set, ApplyError> {
    sets.get_mut(name).ok_or_else(|| ApplyError::NoSet(name.clone()))
}
