//! The language of ipset: named sets of addresses, ports and networks that iptables rules ask.
//!
//! What the kernel chooses for itself (`hashsize`, `bucketsize`, `initval`) is not part of a set.

mod name;

pub mod change;
pub mod check;
pub mod diff;
pub mod emit;
pub mod eval;
pub mod parse;
pub mod reach;
#[cfg(test)]
mod tests;
pub mod wire;

pub use change::Change;
pub use name::{SetName, SetNameError};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::net::{IpCidr, IpFamily, Port, Protocol};

/// What a hash holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashType {
    /// `hash:ip`.
    Ip,
    /// `hash:ip,port`.
    IpPort,
    /// `hash:ip,port,ip`.
    IpPortIp,
    /// `hash:ip,port,net`.
    IpPortNet,
}

impl HashType {
    /// All of them.
    pub const ALL: [HashType; 4] = [HashType::Ip, HashType::IpPort, HashType::IpPortIp, HashType::IpPortNet];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            HashType::Ip => "hash:ip",
            HashType::IpPort => "hash:ip,port",
            HashType::IpPortIp => "hash:ip,port,ip",
            HashType::IpPortNet => "hash:ip,port,net",
        }
    }

    /// The hash of this word.
    pub fn from_name(name: &str) -> Option<HashType> {
        HashType::ALL.into_iter().find(|hash| hash.as_str() == name)
    }
}

/// What a set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetKind {
    /// A hash of one family.
    Hash {
        /// What it holds.
        hash: HashType,
        /// The family of its addresses.
        family: IpFamily,
        /// The most that it holds.
        max_entries: u32,
    },
    /// `bitmap:port`, ends included.
    BitmapPort {
        /// First port.
        first: Port,
        /// Last port.
        last: Port,
    },
    /// Any other, as `ipset save` prints what follows the name.
    Unmodelled(Box<str>),
}

impl SetKind {
    /// What a set without the word `maxelem` may hold at most (`IPSET_DEFAULT_MAXELEM`).
    pub const DEFAULT_MAX_ENTRIES: u32 = 65_536;

    /// The word for its type, as `hash:ip`.
    pub fn type_name(&self) -> &str {
        match self {
            SetKind::Hash { hash, .. } => hash.as_str(),
            SetKind::BitmapPort { .. } => "bitmap:port",
            SetKind::Unmodelled(text) => text.split_whitespace().next().unwrap_or_default(),
        }
    }

    /// The family of its addresses, `None` if it holds none or may hold any.
    pub fn family(&self) -> Option<IpFamily> {
        match self {
            SetKind::Hash { family, .. } => Some(*family),
            SetKind::BitmapPort { .. } => None,
            SetKind::Unmodelled(text) => {
                let mut words = text.split_whitespace().skip_while(|word| *word != "family").skip(1);
                match words.next() {
                    Some("inet") => Some(IpFamily::V4),
                    Some("inet6") => Some(IpFamily::V6),
                    Some(_) | None => None,
                }
            }
        }
    }

    /// Whether the kernel can swap a set of this kind with one of the other: type and family must be the same.
    pub fn can_be_swapped_with(&self, other: &SetKind) -> bool {
        self.type_name() == other.type_name() && self.family() == other.family()
    }
}

/// One entry. Its shape is that of its set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// Of `hash:ip`.
    Ip(IpAddr),
    /// Of `hash:ip,port`.
    IpPort(IpAddr, Protocol, Port),
    /// Of `hash:ip,port,ip`.
    IpPortIp(IpAddr, Protocol, Port, IpAddr),
    /// Of `hash:ip,port,net`.
    IpPortNet(IpAddr, Protocol, Port, IpCidr),
    /// Of `bitmap:port`.
    Port(Port),
    /// Any other, as `ipset save` prints it.
    Unmodelled(Box<str>),
}

/// A set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// What it is.
    pub kind: SetKind,
    /// What it holds.
    pub entries: BTreeSet<Entry>,
}

/// Sets by name.
pub type Sets = BTreeMap<SetName, Set>;
