//! Bytes against what ipset and a kernel said to each other (`captured.txt`), and against chance.

use super::*;
use crate::program::ipset::wire::{self, Message, WireError};

/// A captured message by its name.
fn captured(name: &str) -> Message {
    let line =
        include_str!("captured.txt").lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let hex = line.unwrap_or_else(|| panic!("no capture {name}"));
    let mut bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
    Message { command: bytes.next().unwrap(), body: bytes.collect() }
}

/// The attributes of a body, each with its head and padding.
fn cut(mut body: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !body.is_empty() {
        let (first, rest) =
            body.split_at(usize::from(u16::from_ne_bytes([body[0], body[1]])).next_multiple_of(4));
        found.push(first);
        body = rest;
    }
    found
}

/// An attribute, without padding.
#[derive(Debug, PartialEq)]
enum Attribute {
    Value(u16, Vec<u8>),
    Nested(u16, Vec<Attribute>),
}

/// What a message says, whatever stands in its padding.
fn said(message: &Message) -> (u8, Vec<Attribute>) {
    fn read(body: &[u8]) -> Vec<Attribute> {
        let one = |bytes: &[u8]| {
            let (length, kind) =
                (u16::from_ne_bytes([bytes[0], bytes[1]]), u16::from_ne_bytes([bytes[2], bytes[3]]));
            match bytes {
                // The number of an entry: the tool counts lines.
                _ if kind & 0x3fff == 9 => Attribute::Value(9, Vec::new()),
                _ if kind & 0x8000 != 0 => Attribute::Nested(kind, read(&bytes[4..])),
                _ => Attribute::Value(kind, bytes[4..usize::from(length)].to_vec()),
            }
        };
        cut(body).into_iter().map(one).collect()
    }
    // The tool speaks version 7 of the protocol.
    let [protocol, said @ ..] = &cut(&message.body)[..] else { panic!("no protocol") };
    assert_eq!(protocol[..4], [5, 0, 1, 0]);
    (message.command, read(&said.concat()))
}

fn hash(hash: HashType, family: IpFamily, max_entries: u32) -> SetKind {
    SetKind::Hash { hash, family, max_entries }
}

#[test]
fn changes_are_written_as_ipset_writes_them() {
    let [a, b, c] = ["A", "B", "C"].map(name);
    let v6 = Entry::Ip("fd00::1".parse().unwrap());
    for (message, capture) in [
        (wire::create(&a, &hash(HashType::IpPortNet, IpFamily::V4, 9), 8), "create-net"),
        (wire::create(&b, &hash(HashType::Ip, IpFamily::V6, 65536), 6), "create-ip6"),
        (wire::add(&b, &[v6]), "add-ip6"),
        (Some(wire::swap(&c, &name("C2"))), "swap"),
    ] {
        assert_eq!(said(&message.unwrap()), said(&captured(capture)), "{capture}");
    }
    assert_eq!(wire::create(&a, &SetKind::Unmodelled("hash:net".into()), 1), None);
    assert_eq!(wire::add(&a, &[Entry::Port(1), Entry::Unmodelled("x".into())]), None);
    assert_eq!(wire::delete(&a, &[Entry::Port(1)]).unwrap().command, 10);
    assert_eq!(wire::destroy(&a).body, b"\x05\0\x01\0\x06\0\0\0\x06\0\x02\0A\0\0\0");
}

#[test]
fn as_many_entries_as_go_into_one_message_fit() {
    let v6 = "fd00::1".parse().unwrap();
    let largest = Entry::IpPortNet(v6, Protocol::Tcp, 1, IpCidr::new(v6, 64).unwrap());
    let message = wire::add(&name(&"n".repeat(31)), &vec![largest; wire::MOST_ENTRIES]).unwrap();
    assert!(message.body.len() <= 17 << 10, "{}", message.body.len());
}

#[test]
fn answers_of_a_kernel_are_read() {
    assert_eq!(wire::protocol(&captured("protocol").body), Ok(Some(7)));
    assert_eq!(wire::revision(&captured("type").body), Ok(8));
    let parts = ["list-net", "list-ip6", "list-port"].map(|name| captured(name).body);
    let expected = sets_of(
        "create A hash:ip,port,net family inet maxelem 9\nadd A 10.0.0.1,tcp:80,10.9.0.0/16\nadd A 10.0.0.2,udp:53,10.9.0.7\n\
         create B hash:ip family inet6 maxelem 65536\nadd B fd00::1\ncreate C bitmap:port range 5-9\nadd C 7\n",
    );
    assert_eq!(wire::sets(parts.iter().map(Vec::as_slice)), Ok(expected));
    assert_eq!(wire::refused_entry(&captured("refused-add").body), Some(2), "the tool counts from 2 there");
    let own = wire::add(&name("A"), &[Entry::Port(1)]).unwrap();
    assert_eq!(wire::refused_entry(&own.body), None, "nothing is refused yet");
}

#[test]
fn old_and_new_protocols_are_told_apart() {
    let answer = |newest: u8, oldest: Option<u8>| {
        let mut body = vec![5, 0, 1, 0, newest, 0, 0, 0];
        body.extend(oldest.into_iter().flat_map(|oldest| [5, 0, 10, 0, oldest, 0, 0, 0]));
        wire::protocol(&body).unwrap()
    };
    assert_eq!(answer(6, None), Some(6));
    assert_eq!(answer(8, Some(6)), Some(8));
    assert_eq!(answer(8, Some(7)), None);
    assert_eq!(answer(5, None), None);
    assert_eq!(wire::protocol(&[]), Err(WireError::Missing("version of the protocol")));
}

#[test]
fn parts_that_do_not_fit_are_told() {
    let first = captured("list-net").body;
    let later = as_part(&wire::add(&name("A"), &[Entry::Port(7)]).unwrap());
    assert_eq!(wire::sets([&later[..]]), Err(WireError::Missing("first part of the set")));
    // A shape that the set does not have is kept as text.
    let sets = wire::sets([&first[..], &later]).unwrap();
    assert!(sets[&name("A")].entries.iter().any(|entry| matches!(entry, Entry::Unmodelled(_))));
    assert_eq!(wire::sets([&first[..10]]), Err(WireError::Malformed("set")));
    assert_eq!(wire::sets([&b""[..]]), Err(WireError::Missing("name of the set")));
}

/// Entries of a request as a kernel lists them: without the numbers that they have there.
fn as_part(message: &Message) -> Vec<u8> {
    let around = |kind: [u8; 2], inner: &[u8]| -> Vec<u8> {
        [&u16::try_from(inner.len() + 4).unwrap().to_ne_bytes()[..], &kind, inner].concat()
    };
    let [protocol, name, _, entries] = cut(&message.body).try_into().unwrap();
    let entries = cut(&entries[4..]).into_iter().map(|entry| around([7, 0x80], &entry[4..entry.len() - 8]));
    [protocol, name, &around([8, 0x80], &entries.collect::<Vec<_>>().concat())].concat()
}

proptest! {
    #[test]
    fn what_is_written_is_read(sets in sets()) {
        let is_modelled = |set: &Set| !matches!(set.kind, SetKind::Unmodelled(_));
        let sets: Sets = sets.into_iter().filter(|(_, set)| is_modelled(set)).collect();
        let mut parts = Vec::new();
        for (name, set) in &sets {
            parts.push(wire::create(name, &set.kind, 1).unwrap().body);
            for entry in &set.entries {
                parts.push(as_part(&wire::add(name, std::slice::from_ref(entry)).unwrap()));
            }
        }
        prop_assert_eq!(wire::sets(parts.iter().map(Vec::as_slice)), Ok(sets));
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = (wire::sets([&bytes[..]]), wire::protocol(&bytes), wire::revision(&bytes));
        let _ = wire::refused_entry(&bytes);
    }

    #[test]
    fn any_damage_gives_an_answer(at in 0..300usize, byte in any::<u8>(), cut in 0..300usize) {
        for name in ["list-net", "list-ip6", "list-port", "refused-add"] {
            let mut bytes = captured(name).body;
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut);
            let _ = (wire::sets([&bytes[..]]), wire::refused_entry(&bytes));
        }
    }
}
