//! The language of nftables: tables, chains, rules, sets and maps.
//!
//! Types are canonical: two rules are equal if and only if the kernel treats them the same. What is written in many ways
//! (`mark or 0x4000`, `mark & 0xffffbfff | 0x4000`; a prefix or the interval that it is; `ct state { new }`) is one
//! value. What is not modelled is kept as the JSON that nft printed, and `eval` says that it does not know.
//!
//! nft 1.0.6 does not tell everything in JSON: comments of tables and chains and the flag `dynamic` are missing. `parse`
//! takes them where later versions print them, and `diff` does not compare them.

mod expr;
mod index;
mod matching;
mod name;
mod part;
mod places;
mod rule;
mod set;
mod statement;
mod value;

pub mod check;
pub mod diff;
pub mod emit;
pub mod eval;
pub mod monitor;
pub mod parse;
pub mod reach;
#[cfg(test)]
mod tests;
pub mod transaction;
pub mod wire;

pub use expr::{Expr, Meta, NumgenMode, Payload, Transport};
pub use name::{Comment, CommentError, Name, NameError};
pub use places::keep_places;
pub use rule::{CtState, MapRef, NatFlags, NatTarget, RejectWith, Right, Rule, SetOp, Stmt};
pub use set::{DataType, Element, Set, SetFlags};
pub use value::{Data, DataValues, FibType, InterfaceName, Key, Keys, Scalar, ScalarType, Values, Verdict};

use std::collections::BTreeMap;
use std::fmt;

use crate::net::IpFamily;

/// What packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Both.
    Inet,
    /// ARP.
    Arp,
    /// Bridged frames.
    Bridge,
    /// What enters and leaves devices.
    Netdev,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 6] =
        [Family::Ip, Family::Ip6, Family::Inet, Family::Arp, Family::Bridge, Family::Netdev];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Inet => "inet",
            Family::Arp => "arp",
            Family::Bridge => "bridge",
            Family::Netdev => "netdev",
        }
    }

    /// The family of this word.
    pub fn from_name(name: &str) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.as_str() == name)
    }

    /// The one IP family whose packets it sees, if it is one.
    pub fn ip(self) -> Option<IpFamily> {
        match self {
            Family::Ip => Some(IpFamily::V4),
            Family::Ip6 => Some(IpFamily::V6),
            Family::Inet | Family::Arp | Family::Bridge | Family::Netdev => None,
        }
    }
}

impl From<IpFamily> for Family {
    fn from(family: IpFamily) -> Family {
        match family {
            IpFamily::V4 => Family::Ip,
            IpFamily::V6 => Family::Ip6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a base chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// filter.
    Filter,
    /// nat.
    Nat,
    /// route.
    Route,
}

impl ChainKind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
            ChainKind::Route => "route",
        }
    }
}

/// Where netfilter asks a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// A device gives a packet.
    Ingress,
    /// Before the routing of what came in.
    Prerouting,
    /// On the way to the node's own processes.
    Input,
    /// On the way through.
    Forward,
    /// From the node's own processes.
    Output,
    /// Before it leaves.
    Postrouting,
    /// A device takes a packet.
    Egress,
}

impl Hook {
    const NAMES: [(Hook, &'static str); 7] = [
        (Hook::Ingress, "ingress"),
        (Hook::Prerouting, "prerouting"),
        (Hook::Input, "input"),
        (Hook::Forward, "forward"),
        (Hook::Output, "output"),
        (Hook::Postrouting, "postrouting"),
        (Hook::Egress, "egress"),
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        Hook::NAMES[self as usize].1
    }

    /// The hook of this word.
    pub fn from_name(name: &str) -> Option<Hook> {
        Hook::NAMES.iter().find(|(_, its)| *its == name).map(|(hook, _)| *hook)
    }
}

/// The verdict of a base chain when no rule gave one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// accept.
    #[default]
    Accept,
    /// drop.
    Drop,
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Its type.
    pub kind: ChainKind,
    /// Where it is asked.
    pub hook: Hook,
    /// When, among others: the lowest first.
    pub priority: i32,
    /// Its policy.
    pub policy: Policy,
}

/// A chain: its rules in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// `None` for a regular chain.
    pub base: Option<Base>,
    /// Its comment.
    pub comment: Option<Comment>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: Name,
    /// Its comment.
    pub comment: Option<Comment>,
    /// Its chains.
    pub chains: BTreeMap<Name, Chain>,
    /// Its sets and maps: the kernel has one list of both.
    pub sets: BTreeMap<Name, Set>,
    /// What else it has, named by kind and name: counters, flowtables, objects whose names nft text cannot carry.
    pub unmodelled: Vec<Box<str>>,
}

impl Table {
    /// Whose ports the rules look up in a map. nft takes the example that a map was made by for a part of these rules,
    /// so theirs must be the same. Of a map that is made by names of types nothing is asked.
    pub fn ports_in(&self, map: &Name) -> Transport {
        if !self.sets.get(map).is_some_and(Set::is_by_example) {
            return Transport::Any;
        }
        let ports = |part: &Expr| match part {
            Expr::Payload(Payload::SourcePort(ports) | Payload::DestinationPort(ports)) => Some(*ports),
            Expr::Payload(_)
            | Expr::Meta(_)
            | Expr::Mark { .. }
            | Expr::FibType { .. }
            | Expr::Numgen { .. }
            | Expr::Concat(_) => None,
        };
        let stmts = self.chains.values().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.stmts);
        let mut keys = stmts.filter_map(|stmt| stmt.key_into(map));
        keys.find_map(|key| key.parts().iter().find_map(ports)).unwrap_or(Transport::Any)
    }

    /// An empty table.
    pub fn new(family: Family, name: Name) -> Table {
        Table {
            family,
            name,
            comment: None,
            chains: BTreeMap::new(),
            sets: BTreeMap::new(),
            unmodelled: Vec::new(),
        }
    }

    /// Whether everything in it is modelled.
    pub fn is_modelled(&self) -> bool {
        let mut stmts = self.chains.values().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.stmts);
        self.unmodelled.is_empty()
            && !self.sets.values().any(|set| set.has_unmodelled)
            && stmts.all(|stmt| stmt.unmodelled().is_none())
    }

    /// How many rules all chains have together.
    pub fn n_rules(&self) -> usize {
        self.chains.values().map(|chain| chain.rules.len()).sum()
    }

    /// How many elements all sets and maps have together.
    pub fn n_elements(&self) -> usize {
        self.sets.values().map(|set| set.elements.len()).sum()
    }
}

/// Tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// They, by family and name.
    pub tables: BTreeMap<(Family, Name), Table>,
    /// What else there is, named by kind and name: tables whose names nft text cannot carry.
    pub unmodelled: Vec<Box<str>>,
}

impl Ruleset {
    /// A table.
    pub fn table(&self, family: Family, name: &str) -> Option<&Table> {
        self.tables.values().find(|table| table.family == family && table.name.as_str() == name)
    }
}
