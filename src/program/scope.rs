//! What of a host's rules is ours, as data. Backends make it; `diff` touches nothing else.

use crate::program::xtables::{ChainName, Rule, TableName};

/// Names of chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainPattern {
    /// Exactly this one.
    Name(ChainName),
    /// Every one that begins so.
    Prefix(&'static str),
}

impl ChainPattern {
    /// Whether a name is one of them.
    pub fn matches(&self, chain: &ChainName) -> bool {
        match self {
            ChainPattern::Name(name) => name == chain,
            ChainPattern::Prefix(prefix) => chain.as_bytes().starts_with(prefix.as_bytes()),
        }
    }
}

/// What is ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Chains that are ours alone: one that is not wanted is deleted.
    pub chains: Vec<(TableName, ChainPattern)>,
    /// Chains among them that are left alone when they are not wanted.
    pub ignored: Vec<(TableName, ChainName)>,
    /// Rules of ours in chains of others, as the jumps in built-in chains: one that is not wanted is deleted.
    pub jumps: Vec<(TableName, ChainName, Rule)>,
}

impl Scope {
    /// This and another one together.
    pub fn and(mut self, other: Scope) -> Scope {
        self.chains.extend(other.chains);
        self.ignored.extend(other.ignored);
        self.jumps.extend(other.jumps);
        self
    }

    /// Whether a chain is ours.
    pub fn owns(&self, table: TableName, chain: &ChainName) -> bool {
        self.chains.iter().any(|(owned, pattern)| *owned == table && pattern.matches(chain))
    }

    /// Whether a chain of ours is left alone when it is not wanted.
    pub fn ignores(&self, table: TableName, chain: &ChainName) -> bool {
        self.ignored.iter().any(|(ignored, name)| *ignored == table && name == chain)
    }
}
