//! Tests of the language on recordings, small sets and random ones.

mod diff;
mod meaning;
mod text;
#[cfg(target_endian = "little")]
mod wire;

use proptest::collection::{btree_map, btree_set};
use proptest::prelude::*;

use super::*;

fn name(text: &str) -> SetName {
    SetName::new(text).unwrap()
}

/// Sets of a text.
fn sets_of(text: &str) -> Sets {
    parse::parse(text).unwrap()
}

/// Sets of few names and entries, so that two of them have much in common.
fn sets() -> impl Strategy<Value = Sets> {
    let set = (0..6usize, any::<bool>(), 4..6u32).prop_flat_map(|(kind, is_v6, max_entries)| {
        let family = if is_v6 { IpFamily::V6 } else { IpFamily::V4 };
        let kind = match kind {
            0..4 => SetKind::Hash { hash: HashType::ALL[kind], family, max_entries },
            4 => SetKind::BitmapPort { first: 0, last: Port::MAX },
            _ => SetKind::Unmodelled("hash:ip family inet maxelem 65536 timeout 60".into()),
        };
        btree_set(entry(&kind), 0..4).prop_map(move |entries| Set { kind: kind.clone(), entries })
    });
    // Two names of greatest length that have one spare name.
    let names =
        ["A", "B", "B~", "C", "long-names-of-thirty-one-byte-1", "long-names-of-thirty-one-byte-2"].to_vec();
    btree_map(proptest::sample::select(names).prop_map(name), set, 0..5)
}

fn entry(kind: &SetKind) -> BoxedStrategy<Entry> {
    let kind = kind.clone();
    let parts = (0..4u8, 0..3usize, prop_oneof![Just(0), Just(80), Just(Port::MAX)], 30..33u8);
    parts
        .prop_map(move |(last, protocol, port, length)| {
            let SetKind::Hash { hash, family, .. } = &kind else {
                return match &kind {
                    SetKind::BitmapPort { .. } => Entry::Port(port),
                    SetKind::Hash { .. } | SetKind::Unmodelled(_) => {
                        Entry::Unmodelled(format!("10.0.0.{last} timeout {port}").into())
                    }
                };
            };
            let addr: IpAddr = match family {
                IpFamily::V4 => [10, 0, 0, last].into(),
                IpFamily::V6 => [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)].into(),
            };
            let protocol = Protocol::ALL[protocol];
            let length = if *family == IpFamily::V6 { 4 * length } else { length };
            match hash {
                HashType::Ip => Entry::Ip(addr),
                HashType::IpPort => Entry::IpPort(addr, protocol, port),
                HashType::IpPortIp => Entry::IpPortIp(addr, protocol, port, addr),
                HashType::IpPortNet => {
                    Entry::IpPortNet(addr, protocol, port, IpCidr::new(addr, length).unwrap())
                }
            }
        })
        .boxed()
}
