//! Changes of sets as messages: a set is made, swapped, destroyed; entries come and go, many in one message.

use std::net::IpAddr;

use crate::net::{IpCidr, Port, Protocol};
use crate::program::attributes::{Attributes, nested, push, push_be, push_text};
use crate::program::ipset::{Entry, SetKind, SetName};

use super::{
    Message, address, attribute, command, data, entry_data, family_number, message, named, set_data,
};

/// How many entries may go into one message: it then has at most 17 KiB, as much as the kernel takes without effort.
pub const MOST_ENTRIES: usize = 200;

/// Makes a set of a revision of its type. `None` for a kind that is not modelled.
pub fn create(set: &SetName, kind: &SetKind, revision: u8) -> Option<Message> {
    let mut message = named(command::CREATE, set);
    let body = &mut message.body;
    push_text(body, attribute::TYPENAME, kind.type_name());
    push(body, attribute::REVISION, &[revision]);
    push(body, attribute::FAMILY, &[family_number(kind)]);
    match kind {
        SetKind::Hash { max_entries, .. } => nested(body, attribute::DATA, |body| {
            push_be(body, set_data::MAXELEM, &max_entries.to_be_bytes());
        }),
        SetKind::BitmapPort { first, last } => nested(body, attribute::DATA, |body| {
            push_be(body, data::PORT, &first.to_be_bytes());
            push_be(body, data::PORT_TO, &last.to_be_bytes());
        }),
        SetKind::Unmodelled(_) => return None,
    }
    Some(message)
}

/// Adds at most [`MOST_ENTRIES`] entries. `None` if one is not modelled.
pub fn add(set: &SetName, entries: &[Entry]) -> Option<Message> {
    with_entries(command::ADD, set, entries)
}

/// Deletes at most [`MOST_ENTRIES`] entries. `None` if one is not modelled.
pub fn delete(set: &SetName, entries: &[Entry]) -> Option<Message> {
    with_entries(command::DEL, set, entries)
}

/// Exchanges what two sets hold.
pub fn swap(set: &SetName, other: &SetName) -> Message {
    let mut message = named(command::SWAP, set);
    push_text(&mut message.body, attribute::SETNAME2, other.as_str());
    message
}

/// Deletes a set.
pub fn destroy(set: &SetName) -> Message {
    named(command::DESTROY, set)
}

/// The place of the entry that was refused, from a message with entries as the kernel sends it back: it writes there the
/// number that the entry has. Entries before it are done, those after it are not.
pub fn refused_entry(sent_back: &[u8]) -> Option<usize> {
    let found = Attributes::new(sent_back, "message").ok()?;
    let number = found.be_u32(attribute::LINENO, "number of the entry").ok()?;
    usize::try_from(number).ok()?.checked_sub(1)
}

fn with_entries(command: u8, set: &SetName, entries: &[Entry]) -> Option<Message> {
    if entries.iter().any(|entry| matches!(entry, Entry::Unmodelled(_))) {
        return None;
    }
    let mut message = message(command);
    let body = &mut message.body;
    push_text(body, attribute::SETNAME, set.as_str());
    // The kernel puts the number of what it refuses here, if it is there.
    push_be(body, attribute::LINENO, &0_u32.to_be_bytes());
    nested(body, attribute::ADT, |body| {
        for (number, entry) in (1_u32..).zip(entries) {
            nested(body, attribute::DATA, |body| {
                push_entry(body, entry);
                push_be(body, data::LINENO, &number.to_be_bytes());
            });
        }
    });
    Some(message)
}

fn push_entry(body: &mut Vec<u8>, entry: &Entry) {
    match entry {
        Entry::Ip(addr) => push_addr(body, data::IP, *addr),
        Entry::IpPort(addr, protocol, port) => push_port(body, *addr, *protocol, *port),
        Entry::IpPortIp(addr, protocol, port, second) => {
            push_port(body, *addr, *protocol, *port);
            push_addr(body, entry_data::IP2, *second);
        }
        Entry::IpPortNet(addr, protocol, port, net) => {
            push_port(body, *addr, *protocol, *port);
            push_net(body, net);
        }
        Entry::Port(port) => push_be(body, data::PORT, &port.to_be_bytes()),
        Entry::Unmodelled(_) => {}
    }
}

fn push_port(body: &mut Vec<u8>, addr: IpAddr, protocol: Protocol, port: Port) {
    push_addr(body, data::IP, addr);
    push_be(body, data::PORT, &port.to_be_bytes());
    push(body, data::PROTO, &[protocol.number()]);
}

fn push_net(body: &mut Vec<u8>, net: &IpCidr) {
    push_addr(body, entry_data::IP2, net.network());
    push(body, entry_data::CIDR2, &[net.prefix_len()]);
}

fn push_addr(body: &mut Vec<u8>, kind: u16, addr: IpAddr) {
    nested(body, kind, |body| match addr {
        IpAddr::V4(addr) => push_be(body, address::IPV4, &addr.octets()),
        IpAddr::V6(addr) => push_be(body, address::IPV6, &addr.octets()),
    });
}
