//! What a set tells apart, as a rule asks it: with one of `src` and `dst` for each part of an entry.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::net::{IpCidr, Port, Protocol};
use crate::program::question::{AddrRange, Destination, Destinations, Questions, range_of};

use super::eval::Side;
use super::{Entry, Set, SetName, Sets};

/// The entries of sets whose first address somebody may send from. A set of ten thousand addresses that a dummy device bears
/// is asked about a source for each destination, and nobody has any of them as his source but to itself.
#[derive(Debug, Default)]
pub struct Senders<'a>(BTreeMap<&'a SetName, Vec<&'a Entry>>);

impl<'a> Senders<'a> {
    /// Those of some sets; `is_silent` says that an address sends to itself alone.
    pub fn new(sets: &'a Sets, is_silent: impl Fn(IpAddr) -> bool) -> Senders<'a> {
        let may_send = |entry: &&Entry| first_address(entry).is_none_or(|addr| !is_silent(addr));
        let of_set = |set: &'a Set| set.entries.iter().filter(may_send).collect();
        Senders(sets.iter().map(|(name, set)| (name, of_set(set))).collect())
    }

    fn of(&self, name: &SetName) -> &[&'a Entry] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

/// The address that an entry begins with.
fn first_address(entry: &Entry) -> Option<IpAddr> {
    match entry {
        Entry::Ip(addr)
        | Entry::IpPort(addr, ..)
        | Entry::IpPortIp(addr, ..)
        | Entry::IpPortNet(addr, ..) => Some(*addr),
        Entry::Port(_) | Entry::Unmodelled(_) => None,
    }
}

/// What an entry asks of a packet.
struct Asked<'a> {
    addresses: [Option<(AddrRange, Side)>; 2],
    /// A port of one of these protocols.
    port: Option<(&'a [Protocol], Port, Side)>,
}

/// Protocols whose ports a set of ports alone knows.
const WITH_PORTS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

impl<'a> Asked<'a> {
    /// `None` for an entry that no packet is, or that is not modelled.
    fn of(entry: &'a Entry, sides: &[Side]) -> Option<Asked<'a>> {
        let host = |addr: &IpAddr| range_of(&IpCidr::host(*addr));
        let side = |at: usize| sides.get(at).copied();
        let (first, last, port) = match entry {
            Entry::Ip(addr) => (Some((host(addr), side(0)?)), None, None),
            Entry::IpPort(addr, protocol, port) => {
                (Some((host(addr), side(0)?)), None, Some((protocol, *port, side(1)?)))
            }
            Entry::IpPortIp(addr, protocol, port, other) => {
                let last = (host(other), side(2)?);
                (Some((host(addr), side(0)?)), Some(last), Some((protocol, *port, side(1)?)))
            }
            Entry::IpPortNet(addr, protocol, port, net) => {
                let last = (range_of(net), side(2)?);
                (Some((host(addr), side(0)?)), Some(last), Some((protocol, *port, side(1)?)))
            }
            Entry::Port(port) => {
                let port = Some((WITH_PORTS.as_slice(), *port, side(0)?));
                return Some(Asked { addresses: [None, None], port });
            }
            Entry::Unmodelled(_) => return None,
        };
        let port = port.map(|(protocol, port, side)| (std::slice::from_ref(protocol), port, side));
        Some(Asked { addresses: [first, last], port })
    }

    fn addresses(&self, side: Side) -> impl Iterator<Item = AddrRange> + '_ {
        self.addresses.iter().flatten().filter(move |(_, of)| *of == side).map(|(range, _)| *range)
    }

    /// Whether packets to a destination may be the entry.
    fn fits(&self, destination: &Destination) -> bool {
        let is_port = |protocol: Protocol, number: Port| {
            self.port.is_none_or(|(protocols, port, side)| {
                protocols.contains(&protocol) && (side == Side::Source || port == number)
            })
        };
        self.addresses(Side::Destination).all(|(first, last)| (first..=last).contains(&destination.addr))
            && destination.service.is_none_or(|(protocol, number)| is_port(protocol, number))
    }
}

/// Destinations that a set tells from others.
pub fn destinations(set: &Set, sides: &[Side], found: &mut Destinations) {
    for asked in set.entries.iter().filter_map(|entry| Asked::of(entry, sides)) {
        asked.addresses(Side::Destination).for_each(|range| found.insert(range));
    }
}

/// What a set asks of packets to a destination.
pub fn questions(
    (name, set, senders): (&SetName, &Set, &Senders<'_>),
    sides: &[Side],
    destination: &Destination,
    found: &mut Questions,
) {
    let of_address = of_address(set, destination.addr);
    let candidates: Box<dyn Iterator<Item = &Entry>> = match (of_address, sides.first()) {
        (Some(of_address), Some(Side::Destination)) => Box::new(of_address),
        (Some(to_itself), _) => Box::new(senders.of(name).iter().copied().chain(to_itself)),
        (None, _) => Box::new(set.entries.iter()),
    };
    let asked = candidates.filter_map(|entry| Asked::of(entry, sides));
    for asked in asked.filter(|asked| asked.fits(destination)) {
        found.sources.extend(asked.addresses(Side::Source));
        let Some((protocols, port, side)) = asked.port else { continue };
        if side == Side::Source {
            found.source_ports.insert((port, port));
        }
        if destination.service.is_none() {
            found.protocols.extend(protocols);
            if side == Side::Destination {
                found.ports.extend(protocols.iter().map(|protocol| (Some(*protocol), port, port)));
            }
        }
    }
}

/// The entries that begin with an address, in order; `None` where entries begin with none.
fn of_address(set: &Set, addr: IpAddr) -> Option<impl Iterator<Item = &Entry>> {
    const NO_PORT: Port = 0;
    let [first, ..] = Protocol::ALL;
    // No entry has port 0: the first one of an address comes behind this.
    let before = match set.entries.first()? {
        Entry::Ip(_) => Entry::Ip(addr),
        Entry::IpPort(..) => Entry::IpPort(addr, first, NO_PORT),
        Entry::IpPortIp(..) => Entry::IpPortIp(addr, first, NO_PORT, addr),
        Entry::IpPortNet(..) => Entry::IpPortNet(addr, first, NO_PORT, IpCidr::host(addr)),
        Entry::Port(_) | Entry::Unmodelled(_) => return None,
    };
    Some(set.entries.range(before..).take_while(move |entry| first_address(entry) == Some(addr)))
}
