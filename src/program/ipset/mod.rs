//! The language of ipset: named sets of addresses, ports and networks that iptables rules ask.
//!
//! What the kernel chooses for itself (`hashsize`, `bucketsize`, `initval`) is not part of a set.

mod name;

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
