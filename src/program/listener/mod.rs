//! The language of listeners: local ports on which a process of this host accepts connections and datagrams, and the
//! targets that it carries them to. One line each, as text.
//!
//! Types are canonical: targets are a set, so that two listeners are equal if and only if the same may become of a
//! connection. What a listener was made for is told beside it and never compared.

pub mod balance;
pub mod check;
pub mod diff;
pub mod emit;
pub mod eval;
pub mod parse;
mod status;
#[cfg(test)]
mod tests;

pub use status::{EndpointStatus, ListenerStatus, Status};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::net::{AddrPort, IpFamily, Protocol};

/// What names a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerKey {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where it listens: an address of the host, or the unspecified one for all of its family, and the proxy port.
    pub at: AddrPort,
}

impl ListenerKey {
    /// The family of its connections.
    pub fn family(&self) -> IpFamily {
        self.at.family()
    }

    /// The same port at any address of the host.
    pub fn at_any_address(&self) -> ListenerKey {
        ListenerKey { at: AddrPort::new(self.family().unspecified(), self.at.port), ..*self }
    }
}

/// `tcp 0.0.0.0:20345`.
impl fmt::Display for ListenerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.at)
    }
}

/// A listener. Two that differ in their label alone are equal.
#[derive(Debug, Clone, Default)]
pub struct Listener {
    /// Where its connections are carried to, each to one of them; with none, everybody is turned away.
    pub targets: BTreeSet<AddrPort>,
    /// For how many seconds a client address stays with its target; `None` if it does not.
    pub affinity_seconds: Option<u32>,
    /// What it was made for, in its maker's words: no line break. No part of what it is.
    pub label: Box<str>,
}

impl PartialEq for Listener {
    fn eq(&self, other: &Listener) -> bool {
        self.targets == other.targets && self.affinity_seconds == other.affinity_seconds
    }
}

impl Eq for Listener {}

/// Listeners by what names them.
pub type Listeners = BTreeMap<ListenerKey, Listener>;
