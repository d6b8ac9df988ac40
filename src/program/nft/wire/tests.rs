//! Tests on captured bytes: one document with everything that is modelled, as nft sent it and as a kernel listed it.
#![cfg(target_endian = "little")]

use std::path::PathBuf;

use proptest::prelude::*;

use super::attribute::{Attributes, Buffer, ByKind};
use super::uapi::{element, message, rule, set};
use super::*;
use crate::net::IpFamily;
use crate::program::nft::diff::diff;
use crate::program::nft::transaction::stages;
use crate::program::nft::{Family, Name, Ruleset, Table, parse};

/// A message: its type, and its body after the header.
type Message = (u16, Vec<u8>);

#[allow(clippy::disallowed_methods, reason = "tests read files")]
fn read(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/nft");
    std::fs::read(folder.join(name)).unwrap()
}

/// Messages as lines of their type and body in hexadecimal digits.
fn captured(name: &str) -> Vec<Message> {
    let text = String::from_utf8(read(name)).unwrap();
    let line = |line: &str| {
        let (kind, body) = line.split_once(' ').unwrap();
        let byte = |at: usize| u8::from_str_radix(&body[at..at + 2], 16).unwrap();
        (u16::from_str_radix(kind, 16).unwrap(), (0..body.len()).step_by(2).map(byte).collect())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

fn shown() -> Ruleset {
    parse::parse(&read("everything.json")).unwrap()
}

/// The messages of a batch without those that begin and end it.
fn messages(batch: &Batch) -> Vec<Message> {
    let mut rest = batch.bytes();
    let mut messages = Vec::new();
    while let [a, b, c, d, e, f, ..] = *rest {
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        messages.push((u16::from_ne_bytes([e, f]), rest[16..length].to_vec()));
        rest = &rest[length.next_multiple_of(4)..];
    }
    messages[1..messages.len() - 1].to_vec()
}

/// What is sent names all anonymous sets the same, and numbers them. The kernel gives them names; here they get their
/// numbers.
fn with_names(mut sent: Vec<Message>) -> Vec<Message> {
    for (kind, body) in &mut sent {
        let of_message = match *kind {
            message::NEW_SET => ByKind::of(&body[4..]).number(set::ID),
            message::NEW_ELEMENTS => ByKind::of(&body[4..]).number(element::SET_ID),
            _ => None,
        };
        let places = |name: &[u8]| {
            let found = body.windows(name.len()).enumerate().filter(|(_, its)| *its == name);
            found.map(|(at, _)| at).collect::<Vec<_>>()
        };
        for at in [places(b"__set%d\0"), places(b"__map%d\0")].concat() {
            // In a rule the number is the attribute after the name.
            let id =
                of_message.unwrap_or_else(|| u32::from_be_bytes(body[at + 12..at + 16].try_into().unwrap()));
            body[at..at + 8].copy_from_slice(format!("__{id:05}\0").as_bytes());
        }
    }
    sent
}

/// The tables that messages make.
fn decoded(messages: &[Message]) -> Vec<Table> {
    let table = |(family, name): (IpFamily, &str)| {
        let mut reading = Reading::new(family, Name::new(name).unwrap());
        let (rules, others): (Vec<&Message>, Vec<&Message>) =
            messages.iter().partition(|(kind, _)| *kind == message::NEW_RULE);
        others.into_iter().chain(rules).for_each(|(kind, body)| reading.take(*kind, body));
        reading.finish().unwrap()
    };
    [(IpFamily::V4, "t"), (IpFamily::V6, "t6")].map(table).into()
}

/// What the JSON of nft 1.0.6 shows of a table.
fn as_shown(mut table: Table) -> Table {
    table.comment = None;
    table.chains.values_mut().for_each(|chain| chain.comment = None);
    table
}

/// The messages that make a table.
fn encoded(table: &Table) -> Vec<Message> {
    let stages = stages(&diff(table, None), table);
    stages.load.iter().flat_map(|one| messages(one.batch.as_ref().unwrap())).collect()
}

#[test]
fn a_listing_is_read_as_its_json() {
    let tables = decoded(&captured("everything.listed.hex"));
    for (table, shown) in tables.into_iter().zip(shown().tables.into_values()) {
        assert!(table.is_modelled());
        // Comments that JSON leaves out are there.
        assert!(
            table.family == Family::Ip6 || table.comment.is_some() && table.chains["c1"].comment.is_some()
        );
        assert_eq!(as_shown(table), shown);
    }
}

#[test]
fn what_nft_sends_is_read_as_what_it_then_lists() {
    let tables = decoded(&with_names(captured("everything.sent.hex")));
    for (table, shown) in tables.into_iter().zip(shown().tables.into_values()) {
        assert_eq!(as_shown(table), shown);
    }
}

#[test]
fn what_is_sent_is_read_back() {
    let sent: Vec<Message> = shown().tables.values().flat_map(|table| with_names(encoded(table))).collect();
    for (table, shown) in decoded(&sent).into_iter().zip(shown().tables.into_values()) {
        assert_eq!(as_shown(table), shown);
    }
}

/// An expression: its name, and its attributes by kind.
type Expression = (Vec<u8>, Vec<(u16, Vec<u8>)>);

/// The expressions of a rule, without the numbers of sets, and without the operator of `bitwise` that older kernels do not
/// know and that is meant without it.
fn expressions(body: &[u8]) -> Vec<Expression> {
    let expression = |(_, one): (u16, &[u8])| {
        let one = ByKind::of(one);
        let name = one.get(rule::EXPRESSION_NAME).unwrap();
        let left_out = match name {
            b"lookup\0" => 4,
            b"dynset\0" => 2,
            b"bitwise\0" => 6,
            _ => 0,
        };
        let attributes = Attributes::new(one.get(rule::EXPRESSION_DATA).unwrap_or_default())
            .filter(|(kind, _)| *kind != left_out);
        let mut attributes: Vec<_> = attributes.map(|(kind, value)| (kind, value.to_vec())).collect();
        attributes.sort();
        (name.to_vec(), attributes)
    };
    Attributes::new(ByKind::of(&body[4..]).get(rule::EXPRESSIONS).unwrap()).map(expression).collect()
}

#[test]
fn rules_are_sent_as_nft_sends_them() {
    // By family and chain, and within one in its order.
    let rules = |messages: Vec<Message>| {
        let of_rules = messages.into_iter().filter(|(kind, _)| *kind == message::NEW_RULE);
        let place = |body: &[u8]| (body[0], ByKind::of(&body[4..]).get(rule::CHAIN).unwrap().to_vec());
        let mut rules: Vec<_> = of_rules.map(|(_, body)| (place(&body), expressions(&body))).collect();
        rules.sort_by(|(one, _), (other, _)| one.cmp(other));
        rules
    };
    let by_nft = rules(captured("everything.sent.hex"));
    let ours = rules(shown().tables.values().flat_map(encoded).collect());
    assert_eq!(by_nft.len(), ours.len());
    let names = |rule: &[Expression]| -> Vec<String> {
        rule.iter().map(|(name, _)| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()).collect()
    };
    let differ = by_nft.iter().zip(&ours).filter(|(nft, ours)| nft != ours);
    let differing: Vec<String> = differ.map(|((_, nft), _)| names(nft).join(" ")).collect();
    // Equal in meaning, and one value here: an interval and the addresses in it (twice), `ip protocol` and `meta l4proto`
    // before a port, and one of several states of a connection and a set of them.
    let known = [
        "payload lookup",
        "payload lookup",
        "payload cmp payload cmp",
        "payload cmp payload cmp",
        "ct lookup",
        "payload cmp payload cmp",
    ];
    assert_eq!(differing, known);
}

#[test]
fn sets_are_sent_as_nft_sends_them() {
    let sets = |messages: Vec<Message>| {
        let mut sets = std::collections::BTreeMap::new();
        for (kind, body) in messages {
            let said = ByKind::of(&body[4..]);
            if kind == message::NEW_SET && said.number(set::FLAGS).unwrap() & set::ANONYMOUS == 0 {
                let own = |kind| said.get(kind).map(<[u8]>::to_vec);
                let properties = [
                    set::FLAGS,
                    set::KEY_TYPE,
                    set::KEY_LENGTH,
                    set::DATA_TYPE,
                    set::DATA_LENGTH,
                    set::DESCRIPTION,
                ];
                sets.insert((body[0], own(set::NAME)), properties.map(own));
            }
        }
        sets
    };
    let by_nft = sets(captured("everything.sent.hex"));
    let ours = sets(shown().tables.values().flat_map(encoded).collect());
    assert_eq!(ours, by_nft);
}

#[test]
fn what_cannot_be_said_is_left_to_nft() {
    let table = |rule: &str| {
        let json = format!(
            r#"{{"nftables": [{{"chain": {{"family": "ip", "table": "t", "name": "c"}}}},
            {{"rule": {{"family": "ip", "table": "t", "chain": "c", "expr": [{rule}]}}}}]}}"#
        );
        parse::parse(json.as_bytes()).unwrap().table(Family::Ip, "t").unwrap().clone()
    };
    let has_batch = |rule: &str| {
        let table = table(rule);
        stages(&diff(&table, None), &table).load[0].batch.is_some()
    };
    let meta = |key: &str, right: &str| {
        format!(r#"{{"match": {{"op": "==", "left": {{"meta": {{"key": "{key}"}}}}, "right": {right}}}}}"#)
    };
    assert!(has_batch(&meta("iif", r#""lo""#)));
    assert!(!has_batch(&meta("iif", r#""eth0""#)));
    assert!(has_batch(&meta("iifname", r#"{"set": ["eth0", "eth1"]}"#)));
    assert!(!has_batch(&meta("iifname", r#"{"set": ["eth0", "eth*"]}"#)));
    assert!(!has_batch(&meta("mark", r#"{"set": [1, {"range": [3, 5]}]}"#)));
    assert!(!has_batch(r#"{"limit": {"rate": 5}}"#));
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(kind in 0..26_u16, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut reading = Reading::new(IpFamily::V4, Name::new("t").unwrap());
        let mut named = vec![2, 0, 0, 0, 6, 0, 1, 0, b't', 0, 0, 0];
        named.extend(&body);
        for body in [&body, &named] {
            reading.take(10 << 8 | kind, body);
            let _ = generation(10 << 8 | kind, body);
        }
        reading.finish();
    }

    #[test]
    fn spoiled_listings_give_an_answer(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..40)
    ) {
        let mut messages = captured("everything.listed.hex");
        for (which, place, byte) in changes {
            let (_, body) = which.get_mut(&mut messages);
            let at = place.index(body.len());
            body[at] = byte;
        }
        for (family, name) in [(IpFamily::V4, "t"), (IpFamily::V6, "t6")] {
            let mut reading = Reading::new(family, Name::new(name).unwrap());
            messages.iter().for_each(|(kind, body)| reading.take(*kind, body));
            reading.finish();
        }
    }
}

#[test]
fn tables_are_told_by_family_and_name() {
    let table = |kind, family| {
        let mut buffer = Buffer::default();
        buffer.bytes.extend_from_slice(&[family, 0, 0, 0]);
        buffer.put(2, &[0; 4]);
        buffer.put_text(1, "kube-proxy");
        table_of(kind, &buffer.bytes).map(|(family, name)| (family, name.to_owned()))
    };
    let named = |family| Some((family, "kube-proxy".to_owned()));
    let (new, get) = (10 << 8, 10 << 8 | 1);
    assert_eq!((table(new, 2), table(new, 10)), (named(Family::Ip), named(Family::Ip6)));
    assert_eq!((table(new, 77), table(get, 2)), (None, None));
    assert_eq!(table_of(new, &[2]), None);
    assert_eq!(tables_request(), Request { kind: get, body: vec![0; 4] });
}
