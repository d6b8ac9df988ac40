//! The language of iptables and ip6tables: tables, chains, rules, matches, targets.
//!
//! Types are canonical: two rules are equal if and only if the kernel treats them the same. What is written in many ways
//! (`--or-mark 0x4000`, `--set-xmark 0x4000/0x4000`; `-d 10.0.0.1`, `-d 10.0.0.1/32`) is one value. What is not
//! modelled is kept as text, and `eval` says that it does not know.

mod bytecode;
mod counter;
mod index;
mod matching;
mod name;
mod protocol;
mod rule;
mod surroundings;
mod word;

pub mod check;
pub mod diff;
pub mod emit;
pub mod eval;
pub mod parse;
pub mod prefix_tree;
pub mod reach;
#[cfg(test)]
mod tests;

pub use counter::{Counter, Counters};
pub use name::{ChainName, NameError, TableName};
pub use rule::{
    AddrMatch, AddrType, ConntrackStates, InterfaceMatch, Interfaces, IpvsMatch, MarkMatch, Match, PortRange,
    PortsMatch, ProtocolMatch, Recent, RecentAction, RejectWith, Rule, SetMatch, Target,
};
pub use surroundings::{Connection, RulesAlone, Scheduled, Sending, Surroundings};

pub use crate::program::ipset::eval::Side;

use std::collections::BTreeMap;

use crate::net::IpFamily;

/// The verdict of a built-in chain when no rule gave one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// ACCEPT.
    Accept,
    /// DROP.
    Drop,
}

/// Whether the order of a chain's rules means something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RuleOrder {
    /// It does.
    #[default]
    Exact,
    /// The first `n` rules commute (no packet meets two of them with different outcome); those after them keep their
    /// order and come last. Known to the maker of a program, not to be read from a kernel.
    FirstCommute(usize),
    /// It does, and in a built-in chain the last `n` rules stand behind the rules of others, not before them. Known to the
    /// maker of a program, too.
    LastBehindOthers(usize),
}

/// A chain: its rules in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// The policy of a built-in chain, `None` for a user-defined one.
    pub policy: Option<Policy>,
    /// Its rules.
    pub rules: Vec<Rule>,
    /// Whether their order matters.
    pub order: RuleOrder,
}

/// A table: its chains by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Its chains.
    pub chains: BTreeMap<ChainName, Chain>,
}

/// The tables of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// IPv4 (iptables) or IPv6 (ip6tables).
    pub family: IpFamily,
    /// Tables that exist; a table that is left out has no rules.
    pub tables: BTreeMap<TableName, Table>,
}

impl Ruleset {
    /// No tables.
    pub fn empty(family: IpFamily) -> Ruleset {
        Ruleset { family, tables: BTreeMap::new() }
    }

    /// A chain of a table.
    pub fn chain(&self, table: TableName, chain: &ChainName) -> Option<&Chain> {
        self.tables.get(&table)?.chains.get(chain)
    }

    /// How many rules all chains have together.
    pub fn n_rules(&self) -> usize {
        self.tables.values().flat_map(|table| table.chains.values()).map(|chain| chain.rules.len()).sum()
    }
}
