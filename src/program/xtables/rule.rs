//! One rule: header, matches in order, target. Compact, since a large cluster has hundreds of thousands.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::net::{AddrPort, IpCidr, IpFamily, Port};
use crate::program::Tag;
use crate::program::ipset::SetName;
use crate::program::ipset::eval::Side;

use super::ChainName;

/// `-s` or `-d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddrMatch {
    /// The network.
    pub cidr: IpCidr,
    /// `!`.
    pub negated: bool,
}

/// `-p`, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProtocolMatch {
    /// IANA protocol number.
    pub number: u8,
    /// `!`.
    pub negated: bool,
}

/// `-i` or `-o`: a name, or the beginning of one followed by `+`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InterfaceMatch {
    /// The name as written, with its `+` if it has one.
    pub name: Box<str>,
    /// `!`.
    pub negated: bool,
}

/// `-i` and `-o` of a rule. Few rules have any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Interfaces {
    /// `-i`.
    pub input: Option<InterfaceMatch>,
    /// `-o`.
    pub output: Option<InterfaceMatch>,
}

/// A range of ports, ends included; a single port has equal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// First.
    pub first: Port,
    /// Last.
    pub last: Port,
    /// `!`.
    pub negated: bool,
}

impl PortRange {
    /// One port, not negated.
    pub fn single(port: Port) -> PortRange {
        PortRange { first: port, last: port, negated: false }
    }
}

/// `-m tcp`, `-m udp` or `-m sctp` with nothing but ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortsMatch {
    /// Which of the three.
    pub protocol: crate::net::Protocol,
    /// `--sport`.
    pub source: Option<PortRange>,
    /// `--dport`.
    pub destination: Option<PortRange>,
}

/// `-m mark --mark value/mask`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MarkMatch {
    /// The value.
    pub value: u32,
    /// The bits that count.
    pub mask: u32,
    /// `!`.
    pub negated: bool,
}

/// `--ctstate` as a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConntrackStates {
    /// OR of the constants below.
    pub bits: u8,
    /// `!`.
    pub negated: bool,
}

impl ConntrackStates {
    /// INVALID.
    pub const INVALID: u8 = 1;
    /// NEW.
    pub const NEW: u8 = 2;
    /// RELATED.
    pub const RELATED: u8 = 4;
    /// ESTABLISHED.
    pub const ESTABLISHED: u8 = 8;
    /// UNTRACKED.
    pub const UNTRACKED: u8 = 16;
    /// SNAT.
    pub const SNAT: u8 = 32;
    /// DNAT.
    pub const DNAT: u8 = 64;
    /// Names in the order in which iptables-save prints them.
    pub const NAMES: [(u8, &'static str); 7] = [
        (ConntrackStates::INVALID, "INVALID"),
        (ConntrackStates::NEW, "NEW"),
        (ConntrackStates::RELATED, "RELATED"),
        (ConntrackStates::ESTABLISHED, "ESTABLISHED"),
        (ConntrackStates::UNTRACKED, "UNTRACKED"),
        (ConntrackStates::SNAT, "SNAT"),
        (ConntrackStates::DNAT, "DNAT"),
    ];
}

/// `-m addrtype`: whether the source or destination is (or is not) an address of this node. Other types are not
/// modelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddrType {
    /// `--src-type LOCAL`; the value is whether it is negated.
    pub source_local: Option<bool>,
    /// `--dst-type LOCAL`; the value is whether it is negated.
    pub destination_local: Option<bool>,
}

/// What `-m recent` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecentAction {
    /// `--set`: remembers the source address.
    Set,
    /// `--rcheck --seconds S [--reap]`: whether the source address was remembered in the last S seconds.
    Check {
        /// Seconds.
        seconds: u32,
        /// Forget older entries.
        reap: bool,
    },
}

/// `-m recent` on the whole source address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recent {
    /// Name of the list.
    pub list: Box<str>,
    /// What it does with it.
    pub action: RecentAction,
}

/// `-m set --match-set`, without further options.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SetMatch {
    /// The set.
    pub set: SetName,
    /// Which side is asked about, one for each dimension of the set: 1 to 6.
    pub directions: Box<[Side]>,
    /// `!`.
    pub negated: bool,
}

/// `-m ipvs`: what the virtual server is that a packet was taken by. A packet that none has taken never matches, whatever
/// is negated. Other options are not modelled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IpvsMatch {
    /// `--vproto`.
    pub protocol: Option<ProtocolMatch>,
    /// `--vaddr`.
    pub address: Option<AddrMatch>,
    /// `--vport`, and whether it is negated.
    pub port: Option<(Port, bool)>,
}

/// One `-m` of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Match {
    /// `-m comment --comment`.
    Comment(Arc<str>),
    /// `-m tcp`, `-m udp`, `-m sctp`.
    Ports(PortsMatch),
    /// `-m statistic --mode random --probability`, in 1/2^31 as the kernel stores it.
    Probability(u32),
    /// `-m mark`.
    Mark(MarkMatch),
    /// `-m conntrack --ctstate`.
    Conntrack(ConntrackStates),
    /// `-m addrtype`.
    AddrType(AddrType),
    /// `-m recent`.
    Recent(Box<Recent>),
    /// `-m nfacct --nfacct-name`: counts the packet, always matches.
    Nfacct(Arc<str>),
    /// `-m set`.
    Set(Box<SetMatch>),
    /// `-m ipvs`.
    Ipvs(Box<IpvsMatch>),
    /// `-m physdev --physdev-is-in`: whether it came in by a port of a bridge. Other options are not modelled.
    PhysdevIsIn {
        /// `!`.
        negated: bool,
    },
    /// `-m bpf` with the one program that is modelled: whether it goes to the address that it comes from.
    ToItself,
    /// Any other, as iptables-save printed it, from its `-m` on.
    Unmodelled(Box<str>),
}

/// `--reject-with`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectWith {
    /// icmp-port-unreachable or icmp6-port-unreachable, the default.
    PortUnreachable,
    /// tcp-reset.
    TcpReset,
    /// icmp-host-unreachable, icmp6-addr-unreachable.
    HostUnreachable,
    /// icmp-net-unreachable, icmp6-no-route.
    NetUnreachable,
    /// icmp-admin-prohibited, icmp6-adm-prohibited.
    AdminProhibited,
}

impl RejectWith {
    /// The name of it: ICMP errors are called otherwise in IPv6.
    pub fn name(self, family: IpFamily) -> &'static str {
        let (v4, v6) = match self {
            RejectWith::PortUnreachable => ("icmp-port-unreachable", "icmp6-port-unreachable"),
            RejectWith::TcpReset => ("tcp-reset", "tcp-reset"),
            RejectWith::HostUnreachable => ("icmp-host-unreachable", "icmp6-addr-unreachable"),
            RejectWith::NetUnreachable => ("icmp-net-unreachable", "icmp6-no-route"),
            RejectWith::AdminProhibited => ("icmp-admin-prohibited", "icmp6-adm-prohibited"),
        };
        match family {
            IpFamily::V4 => v4,
            IpFamily::V6 => v6,
        }
    }
}

/// `-j` or `-g`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// `-j CHAIN`.
    Jump(ChainName),
    /// `-g CHAIN`.
    Goto(ChainName),
    /// ACCEPT.
    Accept,
    /// DROP.
    Drop,
    /// RETURN.
    Return,
    /// REJECT.
    Reject(RejectWith),
    /// MARK --set-xmark value/mask: clears the mask's bits, then XORs the value.
    Mark {
        /// The value.
        value: u32,
        /// The bits cleared first.
        mask: u32,
    },
    /// MASQUERADE without a port range.
    Masquerade {
        /// `--random-fully`.
        random_fully: bool,
    },
    /// DNAT --to-destination to one address and port.
    Dnat(AddrPort),
    /// REDIRECT --to-ports to one port: to an address of the node itself, that of the interface which the packet came in by.
    Redirect(Port),
    /// Any other, as iptables-save printed it, from its `-j` on.
    Unmodelled(Box<str>),
}

/// A rule of a chain.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// `-s`.
    pub source: Option<AddrMatch>,
    /// `-d`.
    pub destination: Option<AddrMatch>,
    /// `-i`, `-o`.
    pub interfaces: Option<Box<Interfaces>>,
    /// `-p`.
    pub protocol: Option<ProtocolMatch>,
    /// The `-m` in order: the kernel asks them in order, and some of them remember.
    pub matches: SmallVec<[Match; 3]>,
    /// `-j` or `-g`; `None` only counts.
    pub target: Option<Target>,
    /// What it was made for. No part of what it is.
    pub tag: Option<Tag>,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Rule) -> bool {
        self.source == other.source
            && self.destination == other.destination
            && self.protocol == other.protocol
            && self.target == other.target
            && self.matches == other.matches
            && self.interfaces == other.interfaces
    }
}

impl Eq for Rule {}

impl Hash for Rule {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.hash(state);
        self.destination.hash(state);
        self.protocol.hash(state);
        self.target.hash(state);
        self.matches.hash(state);
        self.interfaces.hash(state);
    }
}

impl Rule {
    /// A rule with this target and nothing else.
    pub fn to(target: Target) -> Rule {
        Rule { target: Some(target), ..Rule::default() }
    }

    /// Adds a match.
    pub fn matching(mut self, one: Match) -> Rule {
        self.matches.push(one);
        self
    }

    /// Adds a comment.
    pub fn comment(self, text: impl Into<Arc<str>>) -> Rule {
        self.matching(Match::Comment(text.into()))
    }

    /// Sets `-s`.
    pub fn source(mut self, cidr: IpCidr, negated: bool) -> Rule {
        self.source = Some(AddrMatch { cidr, negated });
        self
    }

    /// Sets `-d` to one address.
    pub fn to_address(mut self, addr: IpAddr) -> Rule {
        self.destination = Some(AddrMatch { cidr: IpCidr::host(addr), negated: false });
        self
    }

    /// Sets the tag.
    pub fn tagged(mut self, tag: Tag) -> Rule {
        self.tag = Some(tag);
        self
    }

    /// The chain that it jumps or goes to.
    pub fn chain(&self) -> Option<&ChainName> {
        match &self.target {
            Some(Target::Jump(chain) | Target::Goto(chain)) => Some(chain),
            Some(
                Target::Accept
                | Target::Drop
                | Target::Return
                | Target::Reject(_)
                | Target::Mark { .. }
                | Target::Masquerade { .. }
                | Target::Dnat(_)
                | Target::Redirect(_)
                | Target::Unmodelled(_),
            )
            | None => None,
        }
    }

    /// The port that it asks its packets' destination for; of a range the first.
    pub fn destination_port(&self) -> Option<Port> {
        let ports = |one: &Match| if let Match::Ports(ports) = one { ports.destination } else { None };
        self.matches.iter().find_map(ports).map(|range| range.first)
    }

    /// The text of its first comment.
    pub fn comment_text(&self) -> Option<&str> {
        self.matches
            .iter()
            .find_map(|one| if let Match::Comment(text) = one { Some(text.as_ref()) } else { None })
    }
}
