//! What a set tells apart, as a rule asks it: with one of `src` and `dst` for each part of an entry.

use crate::net::{IpCidr, Port, Protocol};
use crate::program::question::{AddrRange, Destination, Destinations, Questions, range_of};

use super::eval::Side;
use super::{Entry, Set};

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
        let host = |addr: &std::net::IpAddr| range_of(&IpCidr::host(*addr));
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
pub fn questions(set: &Set, sides: &[Side], destination: &Destination, found: &mut Questions) {
    let asked = candidates(set, sides, destination).filter_map(|entry| Asked::of(entry, sides));
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

/// Entries that packets to a destination may be: in order they begin with their address.
fn candidates<'a>(
    set: &'a Set,
    sides: &[Side],
    destination: &Destination,
) -> Box<dyn Iterator<Item = &'a Entry> + 'a> {
    const NO_PORT: Port = 0;
    let addr = destination.addr;
    let address_of = |entry: &Entry| match entry {
        Entry::Ip(addr)
        | Entry::IpPort(addr, ..)
        | Entry::IpPortIp(addr, ..)
        | Entry::IpPortNet(addr, ..) => Some(*addr),
        Entry::Port(_) | Entry::Unmodelled(_) => None,
    };
    let [first, ..] = Protocol::ALL;
    // No entry has port 0: the first one of an address comes behind this.
    let before = match set.entries.first() {
        Some(Entry::Ip(_)) => Entry::Ip(addr),
        Some(Entry::IpPort(..)) => Entry::IpPort(addr, first, NO_PORT),
        Some(Entry::IpPortIp(..)) => Entry::IpPortIp(addr, first, NO_PORT, addr),
        Some(Entry::IpPortNet(..)) => Entry::IpPortNet(addr, first, NO_PORT, IpCidr::host(addr)),
        Some(Entry::Port(_) | Entry::Unmodelled(_)) | None => return Box::new(set.entries.iter()),
    };
    if sides.first() != Some(&Side::Destination) {
        return Box::new(set.entries.iter());
    }
    Box::new(set.entries.range(before..).take_while(move |entry| address_of(entry) == Some(addr)))
}
