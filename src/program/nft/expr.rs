//! Expressions: what rules look at.

use crate::net::{IpFamily, Protocol};

use super::ScalarType;

/// A field of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Payload {
    /// `ip saddr`, `ip6 saddr`.
    SourceAddr(IpFamily),
    /// `ip daddr`, `ip6 daddr`.
    DestinationAddr(IpFamily),
    /// `ip protocol`, `ip6 nexthdr`.
    NextProtocol(IpFamily),
    /// `th sport`, or that of one protocol, which then must be the packet's.
    SourcePort(Transport),
    /// `th dport`, or that of one protocol, which then must be the packet's.
    DestinationPort(Transport),
}

/// Whose ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// `th`.
    Any,
    /// `tcp`.
    Tcp,
    /// `udp`.
    Udp,
    /// `sctp`.
    Sctp,
}

impl Transport {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Any => "th",
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Sctp => "sctp",
        }
    }

    /// The protocol, unless it may be any.
    pub fn protocol(self) -> Option<Protocol> {
        match self {
            Transport::Any => None,
            Transport::Tcp => Some(Protocol::Tcp),
            Transport::Udp => Some(Protocol::Udp),
            Transport::Sctp => Some(Protocol::Sctp),
        }
    }

    /// The one of this word.
    pub fn from_name(name: &str) -> Option<Transport> {
        [Transport::Any, Transport::Tcp, Transport::Udp, Transport::Sctp]
            .into_iter()
            .find(|one| one.as_str() == name)
    }
}

impl From<Protocol> for Transport {
    fn from(protocol: Protocol) -> Transport {
        match protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
            Protocol::Sctp => Transport::Sctp,
        }
    }
}

/// What is known about a packet apart from its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Meta {
    /// `meta l4proto`.
    L4Proto,
    /// `meta nfproto`.
    NfProto,
    /// `meta iifname`.
    InputName,
    /// `meta oifname`.
    OutputName,
    /// `meta iif`: the interface by index; nft shows its name.
    Input,
    /// `meta oif`.
    Output,
}

impl Meta {
    const NAMES: [(Meta, &'static str); 6] = [
        (Meta::L4Proto, "l4proto"),
        (Meta::NfProto, "nfproto"),
        (Meta::InputName, "iifname"),
        (Meta::OutputName, "oifname"),
        (Meta::Input, "iif"),
        (Meta::Output, "oif"),
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        Meta::NAMES[self as usize].1
    }

    /// The one of this word.
    pub fn from_name(name: &str) -> Option<Meta> {
        Meta::NAMES.iter().find(|(_, its)| *its == name).map(|(meta, _)| *meta)
    }
}

/// How `numgen` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NumgenMode {
    /// By chance.
    Random,
    /// One after the other.
    Increment,
}

/// Something that has a value when a packet is there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expr {
    /// A field of a header.
    Payload(Payload),
    /// What is known besides.
    Meta(Meta),
    /// `meta mark`, only these bits of it.
    Mark {
        /// The bits; all of them for the mark itself.
        mask: u32,
    },
    /// `fib saddr type`, `fib daddr type`.
    FibType {
        /// The source instead of the destination.
        source: bool,
    },
    /// `numgen … mod N offset M`: one of M, M + 1, …, M + N - 1.
    Numgen {
        /// How.
        mode: NumgenMode,
        /// How many.
        modulus: u32,
        /// The first.
        offset: u32,
    },
    /// Several, side by side.
    Concat(Box<[Expr]>),
}

impl Expr {
    /// The mark itself.
    pub const MARK: Expr = Expr::Mark { mask: u32::MAX };

    /// A chance.
    pub fn random(modulus: u32) -> Expr {
        Expr::Numgen { mode: NumgenMode::Random, modulus, offset: 0 }
    }

    /// The source address.
    pub fn source(family: IpFamily) -> Expr {
        Expr::Payload(Payload::SourceAddr(family))
    }

    /// The destination address.
    pub fn destination(family: IpFamily) -> Expr {
        Expr::Payload(Payload::DestinationAddr(family))
    }

    /// `th dport`.
    pub fn port() -> Expr {
        Expr::Payload(Payload::DestinationPort(Transport::Any))
    }

    /// `meta l4proto`.
    pub fn protocol() -> Expr {
        Expr::Meta(Meta::L4Proto)
    }

    /// Several, side by side.
    pub fn concat(parts: impl IntoIterator<Item = Expr>) -> Expr {
        Expr::Concat(parts.into_iter().collect())
    }

    /// Its parts: itself, unless it is a concatenation.
    pub fn parts(&self) -> &[Expr] {
        match self {
            Expr::Concat(parts) => parts,
            Expr::Payload(_)
            | Expr::Meta(_)
            | Expr::Mark { .. }
            | Expr::FibType { .. }
            | Expr::Numgen { .. } => std::slice::from_ref(self),
        }
    }

    /// The types of its values.
    pub fn types(&self) -> Vec<ScalarType> {
        self.parts().iter().map(Expr::scalar_type).collect()
    }

    /// The type of its value, of a concatenation's first.
    pub(super) fn scalar_type(&self) -> ScalarType {
        match self {
            Expr::Payload(Payload::SourceAddr(family) | Payload::DestinationAddr(family)) => {
                ScalarType::addr(*family)
            }
            Expr::Payload(Payload::NextProtocol(_)) | Expr::Meta(Meta::L4Proto) => ScalarType::InetProto,
            Expr::Payload(Payload::SourcePort(_) | Payload::DestinationPort(_)) => ScalarType::InetService,
            Expr::Meta(Meta::NfProto) => ScalarType::NfProto,
            Expr::Meta(Meta::InputName | Meta::OutputName | Meta::Input | Meta::Output) => {
                ScalarType::Interface
            }
            Expr::Mark { .. } => ScalarType::Mark,
            Expr::FibType { .. } => ScalarType::FibType,
            Expr::Numgen { .. } => ScalarType::Integer,
            Expr::Concat(parts) => parts.first().map_or(ScalarType::Integer, Expr::scalar_type),
        }
    }
}
