//! What rules ask of packets: everything by which they tell two packets to one destination apart.
//!
//! Packets that give the same answer to every question have the same fate, so one of them stands for all. A question too
//! many costs time; a question too few would hide a difference.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::net::{IpCidr, Port, Protocol};

/// Where packets go, as far as it is known: what is left open is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// The address.
    pub addr: IpAddr,
    /// The protocol and the port, if they are known.
    pub service: Option<(Protocol, Port)>,
}

/// A range of addresses, ends included.
pub type AddrRange = (IpAddr, IpAddr);

/// Interfaces by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfacePattern {
    /// The name, or how it begins.
    pub stem: Box<str>,
    /// Whether longer names are meant too.
    pub is_prefix: bool,
}

impl InterfacePattern {
    /// Reads a pattern whose last character may be `wildcard`.
    pub fn new(text: &str, wildcard: char) -> InterfacePattern {
        match text.strip_suffix(wildcard) {
            Some(stem) => InterfacePattern { stem: stem.into(), is_prefix: true },
            None => InterfacePattern { stem: text.into(), is_prefix: false },
        }
    }

    /// Whether an interface is meant.
    pub fn matches(&self, name: &str) -> bool {
        if self.is_prefix { name.starts_with(self.stem.as_ref()) } else { name == self.stem.as_ref() }
    }
}

/// What is asked of packets to one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Questions {
    /// Whether the source is in these ranges.
    pub sources: BTreeSet<AddrRange>,
    /// Whether the source is an address of the node.
    pub source_is_local: bool,
    /// Whether the source port is in these ranges, ends included.
    pub source_ports: BTreeSet<(Port, Port)>,
    /// Whether the destination port is in these ranges, of one protocol or of any.
    pub ports: BTreeSet<(Option<Protocol>, Port, Port)>,
    /// Whether it is one of these protocols.
    pub protocols: BTreeSet<Protocol>,
    /// Whether it came in by these interfaces.
    pub interfaces: BTreeSet<InterfacePattern>,
    /// Whether it came in by a port of a bridge.
    pub bridge_port: bool,
    /// Whether its source was remembered within these numbers of seconds.
    pub lifetimes: BTreeSet<u32>,
}

/// Original destinations that rules tell from others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Destinations {
    /// Single addresses.
    pub hosts: BTreeSet<IpAddr>,
    /// Ranges of addresses, ends included.
    pub ranges: BTreeSet<AddrRange>,
}

impl Destinations {
    /// Adds a range; one that holds a single address is a host.
    pub fn insert(&mut self, (first, last): AddrRange) {
        if first == last {
            self.hosts.insert(first);
        } else {
            self.ranges.insert((first, last));
        }
    }
}

/// First and last address of a network.
pub fn range_of(cidr: &IpCidr) -> AddrRange {
    (cidr.network(), cidr.last())
}
