//! What rules have counted, beside the rules: it is no part of what they are.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use super::{ChainName, TableName};

/// Packets and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl AddAssign for Counter {
    fn add_assign(&mut self, other: Counter) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// The counters of a ruleset. What has counted nothing is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    rules: BTreeMap<(TableName, ChainName, usize), Counter>,
    /// Whether the text that they come from had counters at all.
    pub known: bool,
}

impl Counters {
    /// What a rule, by its place in its chain from 0, has counted.
    pub fn rule(&self, table: TableName, chain: ChainName, index: usize) -> Counter {
        self.rules.get(&(table, chain, index)).copied().unwrap_or_default()
    }

    pub(super) fn count(&mut self, rule: (TableName, ChainName, usize), counter: Counter) {
        self.known = true;
        if counter != Counter::default() {
            self.rules.insert(rule, counter);
        }
    }
}
