//! Names of tables and chains.

use std::cmp::Ordering;
use std::fmt;

/// A table. The order of the variants is the order in which this program writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableName {
    /// filter.
    Filter,
    /// mangle.
    Mangle,
    /// nat.
    Nat,
    /// raw.
    Raw,
    /// security.
    Security,
}

impl TableName {
    /// All of them.
    pub const ALL: [TableName; 5] =
        [TableName::Filter, TableName::Mangle, TableName::Nat, TableName::Raw, TableName::Security];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            TableName::Filter => "filter",
            TableName::Mangle => "mangle",
            TableName::Nat => "nat",
            TableName::Raw => "raw",
            TableName::Security => "security",
        }
    }

    /// The table of this name.
    pub fn from_name(name: &str) -> Option<TableName> {
        TableName::ALL.into_iter().find(|table| table.as_str() == name)
    }

    /// The names of its built-in chains (iptables(8), TABLES).
    pub fn built_in_chains(self) -> &'static [&'static str] {
        match self {
            TableName::Filter | TableName::Security => &["INPUT", "FORWARD", "OUTPUT"],
            TableName::Mangle => &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
            TableName::Nat => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
            TableName::Raw => &["PREROUTING", "OUTPUT"],
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is no chain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Longer than the kernel takes.
    #[error("chain name `{0}` is longer than {max} characters", max = ChainName::MAX)]
    TooLong(String),
    /// Empty, or with white space, quotes, or a leading `-` or `!`.
    #[error("chain name `{0}` has characters that a rule file cannot carry")]
    Alphabet(String),
}

/// The name of a chain: at most 28 bytes (XT_EXTENSION_MAXNAMELEN less its NUL), kept in place, cheap to copy.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainName {
    len: u8,
    bytes: [u8; ChainName::MAX],
}

impl ChainName {
    /// The longest name in bytes.
    pub const MAX: usize = 28;

    /// A name, if it is one.
    pub fn new(name: &str) -> Result<ChainName, NameError> {
        if name.len() > ChainName::MAX {
            return Err(NameError::TooLong(name.to_owned()));
        }
        let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '\\');
        if name.is_empty() || name.starts_with(['-', '!']) || name.contains(bad) {
            return Err(NameError::Alphabet(name.to_owned()));
        }
        Ok(ChainName::copy_of(name))
    }

    /// A name that is known to be one: a literal of ours.
    pub const fn literal(name: &'static str) -> ChainName {
        assert!(!name.is_empty() && name.len() <= ChainName::MAX);
        ChainName::copy_of(name)
    }

    /// A prefix and a suffix known to fit, as `KUBE-SVC-` and 16 characters of a hash.
    pub const fn joined(prefix: &'static str, suffix: &[u8; 16]) -> ChainName {
        assert!(prefix.len() + 16 <= ChainName::MAX && suffix.is_ascii());
        let mut name = ChainName::copy_of(prefix);
        let mut at = 0;
        while at < 16 {
            name.bytes[name.len as usize + at] = suffix[at];
            at += 1;
        }
        name.len += 16;
        name
    }

    const fn copy_of(name: &str) -> ChainName {
        let source = name.as_bytes();
        let mut bytes = [0; ChainName::MAX];
        let mut at = 0;
        while at < source.len() {
            bytes[at] = source[at];
            at += 1;
        }
        ChainName { len: source.len() as u8, bytes }
    }

    /// Four numbers in the order of the names: the bytes after the name are zeros, and no name has a zero.
    fn sort_key(&self) -> [u64; 4] {
        let mut key = [0; 4];
        for (number, bytes) in key.iter_mut().zip(self.bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *number = u64::from_be_bytes(padded);
        }
        key
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl Ord for ChainName {
    fn cmp(&self, other: &ChainName) -> Ordering {
        self.sort_key().cmp(&other.sort_key())
    }
}

impl PartialOrd for ChainName {
    fn partial_cmp(&self, other: &ChainName) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
