//! Values: what registers, keys of sets and data of maps hold.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smallvec::SmallVec;

use crate::net::{IpCidr, IpFamily, Port, Protocol};

use super::Name;

/// The name of an interface, or the beginning of one followed by `*`, kept in place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName([u8; 16]);

impl InterfaceName {
    /// A name of 1 to 15 bytes, before its `*` if it has one; `None` if it is none or cannot be written.
    pub fn new(name: &str) -> Option<InterfaceName> {
        let odd = |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'"' | b'/' | b'\\' | b'*');
        let stem = name.strip_suffix('*').unwrap_or(name);
        if stem.is_empty() || stem.len() > 15 || stem.bytes().any(odd) {
            return None;
        }
        let mut bytes = [0; 16];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Some(InterfaceName(bytes))
    }

    /// Its text, with its `*` if it has one.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        std::str::from_utf8(&self.0[..len]).unwrap_or_default()
    }

    /// Whether an interface is meant.
    pub fn matches(&self, interface: &str) -> bool {
        match self.as_str().strip_suffix('*') {
            Some(stem) => interface.starts_with(stem),
            None => interface == self.as_str(),
        }
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_str())
    }
}

/// What routing calls an address (RTN_LOCAL and so on).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum FibType {
    Unspec,
    Unicast,
    Local,
    Broadcast,
    Anycast,
    Multicast,
    Blackhole,
    Unreachable,
    Prohibit,
}

impl FibType {
    const NAMES: [(FibType, &'static str); 9] = [
        (FibType::Unspec, "unspec"),
        (FibType::Unicast, "unicast"),
        (FibType::Local, "local"),
        (FibType::Broadcast, "broadcast"),
        (FibType::Anycast, "anycast"),
        (FibType::Multicast, "multicast"),
        (FibType::Blackhole, "blackhole"),
        (FibType::Unreachable, "unreachable"),
        (FibType::Prohibit, "prohibit"),
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        FibType::NAMES[self as usize].1
    }

    /// The type of this name.
    pub fn from_name(name: &str) -> Option<FibType> {
        FibType::NAMES.iter().find(|(_, its)| *its == name).map(|(kind, _)| *kind)
    }
}

/// The type of one value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScalarType {
    /// ipv4_addr.
    Ipv4Addr,
    /// ipv6_addr.
    Ipv6Addr,
    /// inet_proto.
    InetProto,
    /// inet_service.
    InetService,
    /// mark.
    Mark,
    /// integer of 32 bits, as numgen gives.
    Integer,
    /// ifname.
    Interface,
    /// fib_addrtype.
    FibType,
    /// nf_proto.
    NfProto,
    /// Another one, by the name that nft gives it: not modelled.
    Other(Box<str>),
}

impl ScalarType {
    /// The type of addresses.
    pub fn addr(family: IpFamily) -> ScalarType {
        match family {
            IpFamily::V4 => ScalarType::Ipv4Addr,
            IpFamily::V6 => ScalarType::Ipv6Addr,
        }
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        match self {
            ScalarType::Ipv4Addr => "ipv4_addr",
            ScalarType::Ipv6Addr => "ipv6_addr",
            ScalarType::InetProto => "inet_proto",
            ScalarType::InetService => "inet_service",
            ScalarType::Mark => "mark",
            ScalarType::Integer => "integer",
            ScalarType::Interface => "ifname",
            ScalarType::FibType => "fib_addrtype",
            ScalarType::NfProto => "nf_proto",
            ScalarType::Other(name) => name,
        }
    }

    /// The type of this name.
    pub fn from_name(name: &str) -> ScalarType {
        match name {
            "ipv4_addr" => ScalarType::Ipv4Addr,
            "ipv6_addr" => ScalarType::Ipv6Addr,
            "inet_proto" => ScalarType::InetProto,
            "inet_service" => ScalarType::InetService,
            "mark" => ScalarType::Mark,
            "integer" => ScalarType::Integer,
            "ifname" => ScalarType::Interface,
            "fib_addrtype" => ScalarType::FibType,
            "nf_proto" => ScalarType::NfProto,
            other => ScalarType::Other(other.into()),
        }
    }
}

/// One value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scalar {
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
    /// A transport protocol, by number.
    Protocol(u8),
    /// A port.
    Port(Port),
    /// A mark.
    Mark(u32),
    /// A number.
    Integer(u32),
    /// An interface, or several.
    Interface(InterfaceName),
    /// A kind of address.
    FibType(FibType),
    /// The family of a packet: `ipv4` or `ipv6`.
    NfProto(IpFamily),
}

impl Scalar {
    /// Its type.
    pub fn scalar_type(&self) -> ScalarType {
        match self {
            Scalar::Ipv4(_) => ScalarType::Ipv4Addr,
            Scalar::Ipv6(_) => ScalarType::Ipv6Addr,
            Scalar::Protocol(_) => ScalarType::InetProto,
            Scalar::Port(_) => ScalarType::InetService,
            Scalar::Mark(_) => ScalarType::Mark,
            Scalar::Integer(_) => ScalarType::Integer,
            Scalar::Interface(_) => ScalarType::Interface,
            Scalar::FibType(_) => ScalarType::FibType,
            Scalar::NfProto(_) => ScalarType::NfProto,
        }
    }

    /// The address, if it is one.
    pub fn addr(&self) -> Option<IpAddr> {
        match self {
            Scalar::Ipv4(addr) => Some(IpAddr::V4(*addr)),
            Scalar::Ipv6(addr) => Some(IpAddr::V6(*addr)),
            Scalar::Protocol(_)
            | Scalar::Port(_)
            | Scalar::Mark(_)
            | Scalar::Integer(_)
            | Scalar::Interface(_)
            | Scalar::FibType(_)
            | Scalar::NfProto(_) => None,
        }
    }

    /// The next value of a type whose intervals nft joins.
    fn successor(self) -> Option<Scalar> {
        match self {
            Scalar::Ipv4(addr) => u32::from(addr).checked_add(1).map(|next| Scalar::Ipv4(next.into())),
            Scalar::Ipv6(addr) => u128::from(addr).checked_add(1).map(|next| Scalar::Ipv6(next.into())),
            Scalar::Port(port) => port.checked_add(1).map(Scalar::Port),
            Scalar::Protocol(_)
            | Scalar::Mark(_)
            | Scalar::Integer(_)
            | Scalar::Interface(_)
            | Scalar::FibType(_)
            | Scalar::NfProto(_) => None,
        }
    }

    /// Whether it is in an interval. A pattern of interfaces holds what it means.
    pub(super) fn is_within(&self, first: &Scalar, last: &Scalar) -> bool {
        match (self, first) {
            (Scalar::Interface(name), Scalar::Interface(pattern)) => pattern.matches(name.as_str()),
            _ => self.scalar_type() == first.scalar_type() && first <= self && self <= last,
        }
    }
}

impl From<IpAddr> for Scalar {
    fn from(addr: IpAddr) -> Scalar {
        match addr {
            IpAddr::V4(addr) => Scalar::Ipv4(addr),
            IpAddr::V6(addr) => Scalar::Ipv6(addr),
        }
    }
}

impl From<Protocol> for Scalar {
    fn from(protocol: Protocol) -> Scalar {
        Scalar::Protocol(protocol.number())
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Ipv4(addr) => write!(f, "{addr}"),
            Scalar::Ipv6(addr) => write!(f, "{addr}"),
            Scalar::Protocol(number) => write!(f, "proto {number}"),
            Scalar::Port(port) => write!(f, "port {port}"),
            Scalar::Mark(mark) => write!(f, "{mark:#x}"),
            Scalar::Integer(number) => write!(f, "{number}"),
            Scalar::Interface(name) => write!(f, "{name:?}"),
            Scalar::FibType(kind) => f.write_str(kind.as_str()),
            Scalar::NfProto(family) => write!(f, "{family}"),
        }
    }
}

/// Values side by side: one, or a concatenation. Most are kept in place: there can be hundreds of thousands.
pub type Values = SmallVec<[Scalar; 3]>;

/// Values that a map gives: an address and a port, mostly.
pub type DataValues = SmallVec<[Scalar; 2]>;

/// First and last value of a network.
pub(super) fn ends(cidr: &IpCidr) -> (Scalar, Scalar) {
    let host_bits = cidr.family().bits() - cidr.prefix_len();
    let last = match cidr.network() {
        IpAddr::V4(addr) => {
            Scalar::Ipv4((u32::from(addr) | (u64::from(u32::MAX) >> (32 - host_bits)) as u32).into())
        }
        IpAddr::V6(addr) => {
            let ones = u128::MAX.checked_shr(u32::from(128 - host_bits)).unwrap_or(0);
            Scalar::Ipv6((u128::from(addr) | ones).into())
        }
    };
    (cidr.network().into(), last)
}

/// The length of the prefix that an interval of addresses is.
pub(super) fn prefix_len(first: &Scalar, last: &Scalar) -> Option<u8> {
    let (first, last, bits) = match (first.addr()?, last.addr()?) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (u32::from(first).into(), u32::from(last).into(), 32),
        (IpAddr::V6(first), IpAddr::V6(last)) => (u128::from(first), u128::from(last), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    let differ = first ^ last;
    let is_prefix = differ & differ.wrapping_add(1) == 0 && first & differ == 0;
    // At most 128.
    is_prefix.then(|| bits - u8::try_from(differ.count_ones()).unwrap_or(bits))
}

/// A key of a set: values side by side, each of which may be an interval. Prefixes are intervals.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    first: Values,
    /// `None` if all values are single.
    last: Option<Box<[Scalar]>>,
}

impl Key {
    /// Single values.
    pub fn exact(values: impl IntoIterator<Item = Scalar>) -> Key {
        Key { first: values.into_iter().collect(), last: None }
    }

    /// Intervals, ends included.
    pub fn intervals(fields: impl IntoIterator<Item = (Scalar, Scalar)>) -> Key {
        let (first, last): (Values, Values) = fields.into_iter().unzip();
        let last = (first != last).then(|| last.into_boxed_slice());
        Key { first, last }
    }

    /// A network.
    pub fn cidr(cidr: &IpCidr) -> Key {
        Key::intervals([ends(cidr)])
    }

    /// The values; of intervals the first ones.
    pub fn first(&self) -> &[Scalar] {
        &self.first
    }

    /// The values; of intervals the last ones.
    pub fn last(&self) -> &[Scalar] {
        self.last.as_deref().unwrap_or(&self.first)
    }

    /// Whether it has no interval.
    pub fn is_exact(&self) -> bool {
        self.last.is_none()
    }

    /// Whether values are in it.
    pub fn contains(&self, values: &[Scalar]) -> bool {
        values.len() == self.first.len()
            && values
                .iter()
                .zip(self.first())
                .zip(self.last())
                .all(|((one, first), last)| one.is_within(first, last))
    }
}

/// The keys of an anonymous set, sorted, and intervals joined as nft joins them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Keys(Box<[Key]>);

impl Keys {
    /// One key.
    pub fn one(key: Key) -> Keys {
        Keys(Box::new([key]))
    }

    /// Several.
    pub fn new(mut keys: Vec<Key>) -> Keys {
        keys.sort();
        let mut joined: Vec<Key> = Vec::with_capacity(keys.len());
        for key in keys {
            match joined.last_mut() {
                Some(before) if *before == key => {}
                Some(before) => {
                    if !join(before, &key) {
                        joined.push(key);
                    }
                }
                None => joined.push(key),
            }
        }
        Keys(joined.into())
    }

    /// They.
    pub fn as_slice(&self) -> &[Key] {
        &self.0
    }
}

/// Joins an interval with one that begins no earlier, if they touch.
fn join(before: &mut Key, key: &Key) -> bool {
    let ([first], [last], [next], [end]) = (before.first(), before.last(), key.first(), key.last()) else {
        return false;
    };
    let touches = last >= next || last.successor() == Some(*next);
    // A type that has no successors is not joined.
    if !touches || first.scalar_type() != next.scalar_type() || (last.successor().is_none() && last < end) {
        return false;
    }
    *before = Key::intervals([(*first, *last.max(end))]);
    true
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The base chain lets it through.
    Accept,
    /// It is discarded.
    Drop,
    /// It goes on with the next rule.
    Continue,
    /// It goes back to the calling chain.
    Return,
    /// It visits a chain.
    Jump(Name),
    /// It leaves for a chain.
    Goto(Name),
}

impl Verdict {
    /// The chain it leads to.
    pub fn chain(&self) -> Option<&Name> {
        match self {
            Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
            Verdict::Accept | Verdict::Drop | Verdict::Continue | Verdict::Return => None,
        }
    }
}

/// What a map gives for a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Data {
    /// A verdict.
    Verdict(Verdict),
    /// Values.
    Values(DataValues),
}

impl Data {
    /// Values.
    pub fn values(values: impl IntoIterator<Item = Scalar>) -> Data {
        Data::Values(values.into_iter().collect())
    }

    /// The chain a verdict leads to.
    pub fn chain(&self) -> Option<&Name> {
        match self {
            Data::Verdict(verdict) => verdict.chain(),
            Data::Values(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_intervals_and_some_intervals_prefixes() {
        for (text, bits) in [("10.0.0.0/8", 8), ("0.0.0.0/0", 0), ("10.1.2.4/31", 31), ("fd00::/57", 57)] {
            let (first, last) = ends(&IpCidr::parse_sloppy(text).unwrap());
            assert_eq!(prefix_len(&first, &last), Some(bits), "{text}");
        }
        let addr = |last| Scalar::Ipv4(Ipv4Addr::new(10, 0, 0, last));
        assert_eq!(prefix_len(&addr(1), &addr(2)), None);
        assert_eq!(prefix_len(&addr(0), &addr(2)), None);
        assert_eq!(prefix_len(&addr(0), &Scalar::Port(2)), None);
    }
}
