//! Tells whether a packet is in a set, as a rule asks it: with one of `src` and `dst` for each part of an entry.

use std::net::IpAddr;

use crate::net::{AddrPort, IpCidr, IpFamily, Protocol};

use super::{Entry, HashType, Set, SetKind};

/// Which side of a packet a part of an entry is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// `src`.
    Source,
    /// `dst`.
    Destination,
}

impl Side {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Source => "src",
            Side::Destination => "dst",
        }
    }

    /// The side of this word.
    pub fn from_name(name: &str) -> Option<Side> {
        [Side::Source, Side::Destination].into_iter().find(|side| side.as_str() == name)
    }
}

/// What of a packet sets compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// Source address and port.
    pub source: AddrPort,
    /// Destination address and port.
    pub destination: AddrPort,
    /// Transport protocol.
    pub protocol: Protocol,
}

impl Tuple {
    fn side(&self, side: Side) -> AddrPort {
        match side {
            Side::Source => self.source,
            Side::Destination => self.destination,
        }
    }
}

/// Whether a packet is in a set; `None` if that depends on something that is not modelled.
///
/// `sides` say for each part of an entry, a port with its protocol being one, where it is taken from. With fewer sides
/// than parts, or for a set of the other family, the answer is no; sides too many do not count (`ip_set_test`).
pub fn contains(set: &Set, tuple: &Tuple, sides: &[Side]) -> Option<bool> {
    let parts: Vec<AddrPort> = sides.iter().map(|side| tuple.side(*side)).collect();
    let protocol = tuple.protocol;
    match (&set.kind, parts.as_slice()) {
        (SetKind::Hash { family, .. }, _) if *family != tuple.destination.family() => Some(false),
        (SetKind::Hash { hash: HashType::Ip, .. }, [first, ..]) => holds(set, &Entry::Ip(first.addr)),
        (SetKind::Hash { hash: HashType::IpPort, .. }, [first, second, ..]) => {
            holds(set, &Entry::IpPort(first.addr, protocol, second.port))
        }
        (SetKind::Hash { hash: HashType::IpPortIp, .. }, [first, second, third, ..]) => {
            holds(set, &Entry::IpPortIp(first.addr, protocol, second.port, third.addr))
        }
        (SetKind::Hash { hash: HashType::IpPortNet, .. }, [first, second, third, ..]) => {
            let entry = |net| Entry::IpPortNet(first.addr, protocol, second.port, net);
            // An entry that is not modelled may be an exception (`nomatch`).
            (!has_unmodelled(set)).then(|| around(third.addr).any(|net| set.entries.contains(&entry(net))))
        }
        (SetKind::BitmapPort { .. }, [first, ..]) => match protocol {
            Protocol::Tcp | Protocol::Udp => holds(set, &Entry::Port(first.port)),
            // The kernel looks for ports in packets of these two alone (`ip_set_get_ip_port`).
            Protocol::Sctp => Some(false),
        },
        (SetKind::Hash { .. } | SetKind::BitmapPort { .. }, _) => Some(false),
        (SetKind::Unmodelled(_), _) => None,
    }
}

/// Whether the entry is there. If it is not, one that is not modelled may say the same.
fn holds(set: &Set, entry: &Entry) -> Option<bool> {
    if set.entries.contains(entry) {
        return Some(true);
    }
    (!has_unmodelled(set)).then_some(false)
}

fn has_unmodelled(set: &Set) -> bool {
    // They are sorted last.
    matches!(set.entries.last(), Some(Entry::Unmodelled(_)))
}

/// All networks that hold an address. Those of entries are masked: each is found as it is.
fn around(addr: IpAddr) -> impl Iterator<Item = IpCidr> {
    (0..=IpFamily::of(addr).bits()).filter_map(move |length| IpCidr::new(addr, length))
}
