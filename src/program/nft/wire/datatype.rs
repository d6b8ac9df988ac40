//! Types and values as bytes: how nft numbers types, how long values are, in which order their bytes stand.

use crate::net::IpFamily;
use crate::program::nft::{FibType, InterfaceName, Key, Scalar, ScalarType, Values};

/// Numbers of types in nft (its include/datatype.h); the kernel keeps them and does not look at them.
const NUMBERS: [(ScalarType, u32); 9] = [
    (ScalarType::NfProto, 2),
    (ScalarType::Integer, 4),
    (ScalarType::Ipv4Addr, 7),
    (ScalarType::Ipv6Addr, 8),
    (ScalarType::InetProto, 12),
    (ScalarType::InetService, 13),
    (ScalarType::Mark, 19),
    (ScalarType::FibType, 38),
    (ScalarType::Interface, 41),
];
/// How many bits of a concatenation's number each of its types has.
const TYPE_BITS: u32 = 6;
/// IFNAMSIZ.
const INTERFACE_LENGTH: usize = 16;

/// In which order the bytes of a set's keys or data stand, as nft notes it (its enum byteorder).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    /// One byte, several values, or verdicts: there is none.
    None = 0,
    /// The machine's.
    Host = 1,
    /// The network's.
    Network = 2,
}

/// The number of a type, or of a concatenation of types. `None` if one is not modelled.
pub(super) fn number(types: &[ScalarType]) -> Option<u32> {
    let mut all = 0_u32;
    for one in types {
        let (_, number) = NUMBERS.iter().find(|(its, _)| its == one)?;
        all = all.checked_mul(1 << TYPE_BITS)? | number;
    }
    Some(all)
}

/// The types of a number.
pub(super) fn types(mut number: u32) -> Vec<ScalarType> {
    let mut types = Vec::new();
    while number != 0 {
        let last = number & ((1 << TYPE_BITS) - 1);
        let known = NUMBERS.iter().find(|(_, its)| *its == last).map(|(one, _)| one.clone());
        types.push(known.unwrap_or_else(|| ScalarType::Other(format!("type {last}").into())));
        number >>= TYPE_BITS;
    }
    types.reverse();
    types
}

/// How many bytes a value has; 0 if its type is not modelled.
pub(super) fn length(one: &ScalarType) -> usize {
    match one {
        ScalarType::Ipv4Addr | ScalarType::Mark | ScalarType::Integer | ScalarType::FibType => 4,
        ScalarType::Ipv6Addr | ScalarType::Interface => 16,
        ScalarType::InetProto | ScalarType::NfProto => 1,
        ScalarType::InetService => 2,
        ScalarType::Other(_) => 0,
    }
}

/// How many bytes values side by side have: each of several is padded to four.
pub(super) fn length_of_all(types: &[ScalarType]) -> usize {
    match types {
        [one] => length(one),
        several => several.iter().map(|one| length(one).next_multiple_of(4)).sum(),
    }
}

/// In which order the bytes of values stand.
pub(super) fn byte_order(types: &[ScalarType]) -> ByteOrder {
    match types {
        [ScalarType::Ipv4Addr | ScalarType::Ipv6Addr | ScalarType::InetService] => ByteOrder::Network,
        [ScalarType::Mark | ScalarType::Integer | ScalarType::Interface | ScalarType::FibType] => {
            ByteOrder::Host
        }
        _ => ByteOrder::None,
    }
}

/// Whether larger values have larger bytes, so that the kernel can tell what is in an interval.
pub(super) fn is_ordered(one: &ScalarType) -> bool {
    match one {
        ScalarType::Ipv4Addr
        | ScalarType::Ipv6Addr
        | ScalarType::InetService
        | ScalarType::InetProto
        | ScalarType::NfProto => true,
        ScalarType::Mark
        | ScalarType::Integer
        | ScalarType::Interface
        | ScalarType::FibType
        | ScalarType::Other(_) => false,
    }
}

/// The bytes of a value.
pub(super) fn push(out: &mut Vec<u8>, scalar: &Scalar) {
    match scalar {
        Scalar::Ipv4(addr) => out.extend_from_slice(&addr.octets()),
        Scalar::Ipv6(addr) => out.extend_from_slice(&addr.octets()),
        Scalar::Protocol(number) => out.push(*number),
        Scalar::Port(port) => out.extend_from_slice(&port.to_be_bytes()),
        Scalar::Mark(number) | Scalar::Integer(number) => out.extend_from_slice(&number.to_ne_bytes()),
        Scalar::Interface(name) => {
            let end = out.len() + INTERFACE_LENGTH;
            out.extend_from_slice(name.as_str().as_bytes());
            out.resize(end, 0);
        }
        Scalar::FibType(kind) => out.extend_from_slice(&(*kind as u32).to_ne_bytes()),
        Scalar::NfProto(family) => out.push(family.number()),
    }
}

/// The bytes of values side by side.
pub(super) fn push_all(out: &mut Vec<u8>, values: &[Scalar]) {
    if let [one] = values {
        return push(out, one);
    }
    let start = out.len();
    for one in values {
        push(out, one);
        let padded = start + (out.len() - start).next_multiple_of(4);
        out.resize(padded, 0);
    }
}

/// The value of a type that has these bytes.
pub(super) fn scalar(one: &ScalarType, bytes: &[u8]) -> Option<Scalar> {
    let number = || bytes.try_into().ok().map(u32::from_ne_bytes);
    match one {
        ScalarType::Ipv4Addr => <[u8; 4]>::try_from(bytes).ok().map(|octets| Scalar::Ipv4(octets.into())),
        ScalarType::Ipv6Addr => <[u8; 16]>::try_from(bytes).ok().map(|octets| Scalar::Ipv6(octets.into())),
        ScalarType::InetProto => {
            if let [number] = bytes {
                Some(Scalar::Protocol(*number))
            } else {
                None
            }
        }
        ScalarType::InetService => bytes.try_into().ok().map(|port| Scalar::Port(u16::from_be_bytes(port))),
        ScalarType::Mark => number().map(Scalar::Mark),
        ScalarType::Integer => number().map(Scalar::Integer),
        ScalarType::Interface => interface(bytes),
        ScalarType::FibType => fib_type(number()?).map(Scalar::FibType),
        ScalarType::NfProto => match bytes {
            [number] => IpFamily::from_number(*number).map(Scalar::NfProto),
            _ => None,
        },
        ScalarType::Other(_) => None,
    }
}

/// A name that fills its field with NULs, or without one the beginning of names.
fn interface(bytes: &[u8]) -> Option<Scalar> {
    let stem = std::str::from_utf8(bytes.split(|byte| *byte == 0).next()?).ok()?;
    let is_name = bytes.len() == INTERFACE_LENGTH && bytes[stem.len()..].iter().all(|byte| *byte == 0);
    // A `*` of its own could not be told from the sign for others.
    if stem.contains('*') || (!is_name && stem.len() != bytes.len()) {
        return None;
    }
    let name = if is_name { stem.to_owned() } else { format!("{stem}*") };
    InterfaceName::new(&name).map(Scalar::Interface)
}

fn fib_type(number: u32) -> Option<FibType> {
    const ALL: [FibType; 9] = [
        FibType::Unspec,
        FibType::Unicast,
        FibType::Local,
        FibType::Broadcast,
        FibType::Anycast,
        FibType::Multicast,
        FibType::Blackhole,
        FibType::Unreachable,
        FibType::Prohibit,
    ];
    ALL.get(usize::try_from(number).ok()?).copied()
}

/// Values side by side, one for each type.
pub(super) fn scalars(types: &[ScalarType], bytes: &[u8]) -> Option<Values> {
    if bytes.len() != length_of_all(types) {
        return None;
    }
    if let [one] = types {
        return scalar(one, bytes).map(|one| Values::from_slice(&[one]));
    }
    let mut rest = bytes;
    let each = types.iter().map(|one| {
        let length = length(one);
        let bytes = rest.get(..length)?;
        rest = rest.get(length.next_multiple_of(4)..)?;
        scalar(one, bytes)
    });
    each.collect()
}

/// Whether a key can be one of a set whose elements are compared as a whole.
pub(super) fn is_single(key: &Key) -> bool {
    let is_pattern = |one: &Scalar| matches!(one, Scalar::Interface(name) if name.as_str().ends_with('*'));
    key.is_exact() && !key.first().iter().any(is_pattern)
}

/// Adds one to a number in network order. `None` if it has no successor.
pub(super) fn successor(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut next = bytes.to_vec();
    for byte in next.iter_mut().rev() {
        let (sum, overflows) = byte.overflowing_add(1);
        *byte = sum;
        if !overflows {
            return Some(next);
        }
    }
    None
}

/// Takes one from a number in network order. `None` for 0.
pub(super) fn predecessor(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut before = bytes.to_vec();
    for byte in before.iter_mut().rev() {
        let (difference, overflows) = byte.overflowing_sub(1);
        *byte = difference;
        if !overflows {
            return Some(before);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_types_are_those_of_nft() {
        let types_of = [ScalarType::Ipv4Addr, ScalarType::InetProto, ScalarType::InetService];
        assert_eq!(number(&types_of), Some(0x730d));
        assert_eq!(types(0x730d), types_of);
        assert_eq!(length_of_all(&types_of), 12);
        assert_eq!(number(&[ScalarType::Other("x".into())]), None);
        assert_eq!(types(0x5), [ScalarType::Other("type 5".into())]);
    }

    #[test]
    fn values_are_padded_side_by_side_only() {
        let mut out = Vec::new();
        push_all(&mut out, &[Scalar::Port(80)]);
        assert_eq!(out, [0, 80]);
        let values = [Scalar::Protocol(6), Scalar::Port(80)];
        out.clear();
        push_all(&mut out, &values);
        assert_eq!(out, [6, 0, 0, 0, 0, 80, 0, 0]);
        let types = [ScalarType::InetProto, ScalarType::InetService];
        assert_eq!(scalars(&types, &out).as_deref(), Some(&values[..]));
        assert_eq!(scalars(&types, &out[..6]), None);
    }

    #[test]
    fn names_of_interfaces_end_with_nul_and_their_beginnings_do_not() {
        let named = |text: &str| Some(Scalar::Interface(InterfaceName::new(text).unwrap()));
        assert_eq!(scalar(&ScalarType::Interface, b"eth0\0\0\0\0\0\0\0\0\0\0\0\0"), named("eth0"));
        assert_eq!(scalar(&ScalarType::Interface, b"eth"), named("eth*"));
        assert_eq!(scalar(&ScalarType::Interface, b"eth\0"), None);
        assert_eq!(scalar(&ScalarType::Interface, b"a*"), None);
    }

    #[test]
    fn neighbours() {
        assert_eq!(successor(&[0, 255]), Some(vec![1, 0]));
        assert_eq!(successor(&[255, 255]), None);
        assert_eq!(predecessor(&[1, 0]), Some(vec![0, 255]));
        assert_eq!(predecessor(&[0, 0]), None);
    }
}
