//! Writes sets as text for `ipset restore`, as `ipset save` (7.17) prints them apart from what the kernel chooses.
//!
//! Sets may hold tens of thousands of entries: everything is written into one buffer, with no intermediate strings.

use std::convert::Infallible;
use std::fmt;
use std::io;

use crate::net::{IpCidr, IpFamily, Port, Protocol};
pub use crate::program::emitted::Emitted;
use crate::program::text::{in_pieces, write_decimal, write_header, write_ip};

use super::{Entry, SetKind, SetName, Sets};

/// Writes `create NAME ...`.
pub fn write_create(out: &mut Vec<u8>, name: &SetName, kind: &SetKind) {
    command(out, "create ", name);
    out.push(b' ');
    write_kind(out, kind);
    out.push(b'\n');
}

/// Writes `add NAME ENTRY`.
pub fn write_add(out: &mut Vec<u8>, name: &SetName, entry: &Entry) {
    command(out, "add ", name);
    out.push(b' ');
    write_entry(out, entry);
    out.push(b'\n');
}

/// Writes a document that makes all sets with their entries, sets by name. Every line of `header` becomes a comment at its
/// head.
pub fn write_document(out: &mut Vec<u8>, sets: &Sets, header: &str) {
    let Ok(()) = document::<Infallible>(out, sets, header, |_| Ok(()));
}

/// The same document. No line of it has a tag: a set is made for many things at once.
pub fn emit(sets: &Sets, header: &str) -> Emitted {
    let mut emitted = Emitted::default();
    write_document(&mut emitted.text, sets, header);
    emitted
}

/// Writes the same document to a writer, piece by piece.
pub fn write_document_to(out: &mut dyn io::Write, sets: &Sets, header: &str) -> io::Result<()> {
    in_pieces(out, |buffer, spill| document(buffer, sets, header, spill))
}

fn document<E>(
    out: &mut Vec<u8>,
    sets: &Sets,
    header: &str,
    mut spill: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    write_header(out, header);
    for (name, set) in sets {
        write_create(out, name, &set.kind);
        for entry in &set.entries {
            write_add(out, name, entry);
            spill(out)?;
        }
    }
    Ok(())
}

fn command(out: &mut Vec<u8>, verb: &str, name: &SetName) {
    out.extend_from_slice(verb.as_bytes());
    out.extend_from_slice(name.as_str().as_bytes());
}

fn write_kind(out: &mut Vec<u8>, kind: &SetKind) {
    match kind {
        SetKind::Hash { hash, family, max_entries } => {
            out.extend_from_slice(hash.as_str().as_bytes());
            out.extend_from_slice(match family {
                IpFamily::V4 => b" family inet".as_slice(),
                IpFamily::V6 => b" family inet6",
            });
            out.extend_from_slice(b" maxelem ");
            write_decimal(out, u64::from(*max_entries));
        }
        SetKind::BitmapPort { first, last } => {
            out.extend_from_slice(b"bitmap:port range ");
            write_decimal(out, u64::from(*first));
            out.push(b'-');
            write_decimal(out, u64::from(*last));
        }
        SetKind::Unmodelled(text) => out.extend_from_slice(text.as_bytes()),
    }
}

/// Writes an entry, as `10.0.0.1,tcp:80`.
pub fn write_entry(out: &mut Vec<u8>, entry: &Entry) {
    match entry {
        Entry::Ip(addr) => write_ip(out, *addr),
        Entry::IpPort(addr, protocol, port) => {
            write_ip(out, *addr);
            write_port(out, *protocol, *port);
        }
        Entry::IpPortIp(addr, protocol, port, second) => {
            write_ip(out, *addr);
            write_port(out, *protocol, *port);
            out.push(b',');
            write_ip(out, *second);
        }
        Entry::IpPortNet(addr, protocol, port, net) => {
            write_ip(out, *addr);
            write_port(out, *protocol, *port);
            out.push(b',');
            write_net(out, net);
        }
        Entry::Port(port) => write_decimal(out, u64::from(*port)),
        Entry::Unmodelled(text) => out.extend_from_slice(text.as_bytes()),
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        write_entry(&mut text, self);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

fn write_port(out: &mut Vec<u8>, protocol: Protocol, port: Port) {
    out.push(b',');
    out.extend_from_slice(protocol.name().as_bytes());
    out.push(b':');
    write_decimal(out, u64::from(port));
}

/// The network of one address is printed without its length.
fn write_net(out: &mut Vec<u8>, net: &IpCidr) {
    write_ip(out, net.network());
    if !net.is_host() {
        out.push(b'/');
        write_decimal(out, u64::from(net.prefix_len()));
    }
}
