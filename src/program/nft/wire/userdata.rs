//! What nft notes for itself beside objects (libnftnl's udata): comments, and how the values of a set are to be shown.
//! The kernel keeps it and does not look at it.

use crate::program::nft::{Comment, DataType, ScalarType, Set, Transport};

use super::datatype::{ByteOrder, byte_order};

/// NFTNL_UDATA_TABLE_COMMENT, and the same of chains, rules and elements.
pub(super) const COMMENT: u8 = 0;
/// enum nftnl_udata_set_types.
const KEY_BYTE_ORDER: u8 = 0;
const DATA_BYTE_ORDER: u8 = 1;
const KEY_TYPE_OF: u8 = 3;
const DATA_TYPE_OF: u8 = 4;
const DATA_INTERVAL: u8 = 6;
pub(super) const SET_COMMENT: u8 = 7;
/// Parts of an expression that stands for a type: which sort it is, and its own parts.
const TYPE_OF_SORT: u8 = 0;
const TYPE_OF_PARTS: u8 = 1;
/// enum expr_types of nft.
mod sort {
    pub(super) const VERDICT: u32 = 1;
    pub(super) const PAYLOAD: u32 = 7;
    pub(super) const META: u32 = 9;
    pub(super) const CONCAT: u32 = 13;
    pub(super) const NUMGEN: u32 = 23;
    pub(super) const FIB: u32 = 26;
}

fn push(out: &mut Vec<u8>, kind: u8, value: &[u8]) -> Option<()> {
    out.extend_from_slice(&[kind, u8::try_from(value.len()).ok()?]);
    out.extend_from_slice(value);
    Some(())
}

fn push_number(out: &mut Vec<u8>, kind: u8, number: u32) -> Option<()> {
    push(out, kind, &number.to_ne_bytes())
}

/// A comment of this kind.
pub(super) fn comment(kind: u8, comment: &Comment) -> Vec<u8> {
    let mut out = Vec::new();
    let mut text = comment.as_str().as_bytes().to_vec();
    text.push(0);
    // A comment is never longer than its length can say.
    let _ = push(&mut out, kind, &text);
    out
}

/// The parts of userdata, each with its kind. Ends at the first that is malformed.
fn parts(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [kind, length, ..] = *rest else { return None };
        let end = 2 + usize::from(length);
        let value = rest.get(2..end)?;
        rest = &rest[end..];
        Some((kind, value))
    })
}

fn part(userdata: &[u8], kind: u8) -> Option<&[u8]> {
    parts(userdata).find(|(its, _)| *its == kind).map(|(_, value)| value)
}

fn number(value: Option<&[u8]>) -> Option<u32> {
    value?.try_into().ok().map(u32::from_ne_bytes)
}

/// The comment of this kind, if there is one.
pub(super) fn read_comment(userdata: Option<&[u8]>, kind: u8) -> Option<Comment> {
    let text = part(userdata?, kind)?;
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    std::str::from_utf8(text).ok().map(Comment::lossy)
}

/// What is noted beside a set whose rules look up these ports in it. `None` if it is more than can be noted.
pub(super) fn set(set: &Set, ports: Transport) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    push_number(&mut out, KEY_BYTE_ORDER, byte_order(&set.key) as u32)?;
    if set.data.is_some() {
        push_number(&mut out, DATA_BYTE_ORDER, byte_order(set.values()) as u32)?;
    }
    if set.is_by_example() {
        push(&mut out, KEY_TYPE_OF, &type_of_all(&set.key, ports)?)?;
        match &set.data {
            None => {}
            Some(DataType::Verdict) => {
                let mut verdict = Vec::new();
                push_number(&mut verdict, TYPE_OF_SORT, sort::VERDICT)?;
                push(&mut verdict, TYPE_OF_PARTS, &[])?;
                push(&mut out, DATA_TYPE_OF, &verdict)?;
            }
            Some(DataType::Values(types)) => push(&mut out, DATA_TYPE_OF, &type_of_all(types, ports)?)?,
        }
    }
    if set.data.is_some() {
        push_number(&mut out, DATA_INTERVAL, 0)?;
    }
    if let Some(text) = &set.comment {
        out.extend(comment(SET_COMMENT, text));
    }
    Some(out)
}

fn type_of_all(types: &[ScalarType], ports: Transport) -> Option<Vec<u8>> {
    if let [one] = types {
        return type_of(one, ports);
    }
    let mut all = Vec::new();
    for (nth, one) in types.iter().enumerate() {
        push(&mut all, nth.try_into().ok()?, &type_of(one, ports)?)?;
    }
    let mut out = Vec::new();
    push_number(&mut out, TYPE_OF_SORT, sort::CONCAT)?;
    push(&mut out, TYPE_OF_PARTS, &all)?;
    Some(out)
}

/// The protocol, and the field of its header, by the numbers that nft has for them.
fn destination_port(ports: Transport) -> &'static [u32] {
    match ports {
        Transport::Tcp | Transport::Any => &[8, 2],
        Transport::Udp => &[6, 2],
        Transport::Sctp => &[10, 2],
    }
}

/// The expression that stands for a type: `ip daddr`, `ip6 daddr`, `… dport`, `meta …`, `fib daddr type`,
/// `numgen random mod 1`, each by the numbers that nft has for its parts.
fn type_of(one: &ScalarType, ports: Transport) -> Option<Vec<u8>> {
    let (sort, parts): (u32, &[u32]) = match one {
        ScalarType::Ipv4Addr => (sort::PAYLOAD, &[12, 12]),
        ScalarType::Ipv6Addr => (sort::PAYLOAD, &[13, 9]),
        ScalarType::InetService => (sort::PAYLOAD, destination_port(ports)),
        ScalarType::InetProto => (sort::META, &[16]),
        ScalarType::Mark => (sort::META, &[3]),
        ScalarType::Interface => (sort::META, &[6]),
        ScalarType::NfProto => (sort::META, &[15]),
        ScalarType::FibType => (sort::FIB, &[3, 2]),
        ScalarType::Integer => (sort::NUMGEN, &[1, 1, 0]),
        ScalarType::Other(_) => return None,
    };
    let mut all = Vec::new();
    for (nth, number) in parts.iter().enumerate() {
        push_number(&mut all, nth.try_into().ok()?, *number)?;
    }
    let mut out = Vec::new();
    push_number(&mut out, TYPE_OF_SORT, sort)?;
    push(&mut out, TYPE_OF_PARTS, &all)?;
    Some(out)
}

/// Whether the numbers among keys of these types are in the machine's order, as far as userdata tells: only those of
/// numgen are modelled.
pub(super) fn has_host_numbers(userdata: Option<&[u8]>, types: &[ScalarType]) -> bool {
    are_host_numbers(userdata.unwrap_or_default(), types, KEY_BYTE_ORDER, KEY_TYPE_OF)
}

/// The same of what a map gives.
pub(super) fn gives_host_numbers(userdata: Option<&[u8]>, types: &[ScalarType]) -> bool {
    are_host_numbers(userdata.unwrap_or_default(), types, DATA_BYTE_ORDER, DATA_TYPE_OF)
}

fn are_host_numbers(userdata: &[u8], types: &[ScalarType], order: u8, type_of: u8) -> bool {
    if !types.contains(&ScalarType::Integer) {
        return true;
    }
    let sort_of = |value: &[u8]| number(part(value, TYPE_OF_SORT));
    match types {
        [_] => number(part(userdata, order)) == Some(ByteOrder::Host as u32),
        several => {
            let Some(each) = part(userdata, type_of).and_then(|value| part(value, TYPE_OF_PARTS)) else {
                return false;
            };
            several.iter().zip(0_u8..).all(|(one, nth)| {
                *one != ScalarType::Integer || part(each, nth).and_then(sort_of) == Some(sort::NUMGEN)
            })
        }
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    /// What nft 1.0.6 sends for `map m2 { typeof numgen random mod 1 : ip daddr . tcp dport; }`, and for a map from addresses
    /// and protocols to verdicts with a comment, but for an empty `typeof`.
    #[test]
    fn sets_are_noted_as_nft_notes_them() {
        let shards = Set {
            key: vec![ScalarType::Integer],
            data: Some(DataType::Values(vec![ScalarType::Ipv4Addr, ScalarType::InetService])),
            ..Set::default()
        };
        let sent = [
            0, 4, 1, 0, 0, 0, 1, 4, 0, 0, 0, 0, 3, 0x1a, 0, 4, 0x17, 0, 0, 0, 1, 0x12, 0, 4, 1, 0, 0, 0, 1,
            4, 1, 0, 0, 0, 2, 4, 0, 0, 0, 0, 4, 0x34, 0, 4, 0x0d, 0, 0, 0, 1, 0x2c, 0, 0x14, 0, 4, 7, 0, 0,
            0, 1, 0x0c, 0, 4, 0x0c, 0, 0, 0, 1, 4, 0x0c, 0, 0, 0, 1, 0x14, 0, 4, 7, 0, 0, 0, 1, 0x0c, 0, 4,
            8, 0, 0, 0, 1, 4, 2, 0, 0, 0, 6, 4, 0, 0, 0, 0,
        ];
        assert_eq!(set(&shards, Transport::Tcp).unwrap(), sent);
        assert!(has_host_numbers(Some(&sent), &shards.key));
        assert!(!has_host_numbers(Some(&sent), &[ScalarType::Integer, ScalarType::Ipv4Addr]));
        let verdicts = Set {
            key: vec![ScalarType::Ipv4Addr, ScalarType::InetProto],
            data: Some(DataType::Verdict),
            comment: Some(Comment::new("map c").unwrap()),
            ..Set::default()
        };
        let sent = b"\0\x04\0\0\0\0\x01\x04\0\0\0\0\x06\x04\0\0\0\0\x07\x06map c\0";
        assert_eq!(set(&verdicts, Transport::Any).unwrap(), sent);
        assert_eq!(read_comment(Some(sent), SET_COMMENT), verdicts.comment);
        assert_eq!(read_comment(Some(b"\0\x09x"), COMMENT), None);
    }

    #[test]
    fn numbers_side_by_side_are_told_by_their_expressions() {
        let both = Set { key: vec![ScalarType::Integer, ScalarType::Ipv4Addr], ..Set::default() };
        assert!(has_host_numbers(set(&both, Transport::Any).as_deref(), &both.key));
        assert!(!has_host_numbers(None, &both.key));
        assert!(has_host_numbers(None, &[ScalarType::Mark]));
    }
}
