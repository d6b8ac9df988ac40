//! Rules and their statements.

use std::net::IpAddr;

use crate::net::{IpFamily, Port};
use crate::program::Tag;

use super::{Comment, Data, Expr, Key, Keys, Name, Verdict};

/// States of a connection, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CtState;

impl CtState {
    /// invalid.
    pub const INVALID: u8 = 1;
    /// established.
    pub const ESTABLISHED: u8 = 2;
    /// related.
    pub const RELATED: u8 = 4;
    /// new.
    pub const NEW: u8 = 8;
    /// untracked.
    pub const UNTRACKED: u8 = 64;
    /// Their names in the order in which nft lists them.
    pub const NAMES: [(u8, &'static str); 5] = [
        (CtState::INVALID, "invalid"),
        (CtState::ESTABLISHED, "established"),
        (CtState::RELATED, "related"),
        (CtState::NEW, "new"),
        (CtState::UNTRACKED, "untracked"),
    ];
}

/// What a match compares with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Right {
    /// A value, an interval, or an anonymous set.
    Keys(Keys),
    /// A named set.
    Set(Name),
}

/// What a lookup looks into.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MapRef {
    /// A named map.
    Named(Name),
    /// An anonymous one, sorted by key.
    Anonymous(Box<[(Key, Data)]>),
}

impl MapRef {
    /// An anonymous map.
    pub fn anonymous(mut entries: Vec<(Key, Data)>) -> MapRef {
        entries.sort();
        entries.dedup();
        MapRef::Anonymous(entries.into())
    }

    /// What numgen chooses among: the keys are 0, 1, 2, …
    pub fn numbered(data: impl IntoIterator<Item = Data>) -> MapRef {
        let key = |number| Key::exact([super::Scalar::Integer(number)]);
        MapRef::Anonymous((0..).zip(data).map(|(number, data)| (key(number), data)).collect())
    }
}

/// Where `dnat` sends a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NatTarget {
    /// To an address, and a port if one is said.
    Addr(IpAddr, Option<Port>),
    /// To another port.
    Port(Port),
    /// To the address, or address and port, that a map gives.
    Map {
        /// The family of the addresses.
        family: IpFamily,
        /// What is looked up.
        key: Expr,
        /// Where.
        map: MapRef,
    },
}

/// Flags of a translation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct NatFlags {
    /// random.
    pub random: bool,
    /// fully-random.
    pub fully_random: bool,
    /// persistent.
    pub persistent: bool,
}

/// How a packet is refused. The same code has other numbers in ICMP, ICMPv6 and `icmpx`; a table of one family has but one
/// way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectWith {
    /// Port unreachable: what `reject` alone means.
    PortUnreachable,
    /// Administratively prohibited.
    AdminProhibited,
    /// Host unreachable (ICMPv6: address).
    HostUnreachable,
    /// Net unreachable (ICMPv6: no route).
    NetUnreachable,
    /// TCP reset.
    TcpReset,
}

/// What a rule does with a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetOp {
    /// Adds an element.
    Add,
    /// Adds it, or begins its timeout again.
    Update,
    /// Deletes it.
    Delete,
}

/// One part of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stmt {
    /// Goes on if a value is, or is not, among others.
    Match {
        /// The value.
        left: Expr,
        /// `!=`.
        negated: bool,
        /// The others.
        right: Right,
    },
    /// `ct state`: goes on if the connection is in one of these states.
    CtState {
        /// OR of the constants of [`CtState`].
        states: u8,
        /// `!=`.
        negated: bool,
    },
    /// `ct status dnat`, `ct status snat`: goes on if the connection's addresses were changed so.
    CtNat {
        /// snat is enough.
        snat: bool,
        /// dnat is enough.
        dnat: bool,
    },
    /// The verdict that a map gives; without one the rule ends.
    Vmap {
        /// What is looked up.
        key: Expr,
        /// Where.
        map: MapRef,
    },
    /// A verdict.
    Verdict(Verdict),
    /// `meta mark set`: the mark becomes (mark AND NOT mask) XOR value.
    SetMark {
        /// Bits that are forgotten.
        mask: u32,
        /// Bits that are turned round then.
        value: u32,
    },
    /// `dnat to`.
    Dnat {
        /// Where to.
        to: NatTarget,
        /// How.
        flags: NatFlags,
    },
    /// `masquerade`.
    Masquerade(NatFlags),
    /// `reject`.
    Reject(RejectWith),
    /// `update @set { … }`.
    UpdateSet {
        /// What is done.
        op: SetOp,
        /// The set.
        set: Name,
        /// The element.
        key: Expr,
        /// Its timeout in seconds, unless it is the set's.
        timeout: Option<u32>,
    },
    /// `counter`, whatever it has counted.
    Counter,
    /// `notrack`.
    Notrack,
    /// Anything else: its JSON.
    Unmodelled(Box<str>),
}

/// A rule.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// Its parts in order.
    pub stmts: Vec<Stmt>,
    /// Its comment.
    pub comment: Option<Comment>,
    /// What it was made for; does not count in comparisons.
    pub tag: Option<Tag>,
    /// Its number in a kernel; does not count in comparisons.
    pub handle: Option<u64>,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Rule) -> bool {
        self.stmts == other.stmts && self.comment == other.comment
    }
}

impl Eq for Rule {}

impl Rule {
    /// A rule without comment.
    pub fn new(stmts: Vec<Stmt>) -> Rule {
        Rule { stmts, ..Rule::default() }
    }

    /// The same rule, labelled.
    pub fn with_tag(self, tag: Option<Tag>) -> Rule {
        Rule { tag, ..self }
    }
}

impl Stmt {
    /// Goes on if a value is exactly this.
    pub fn is(left: Expr, value: super::Scalar) -> Stmt {
        Stmt::Match { left, negated: false, right: Right::Keys(Keys::one(Key::exact([value]))) }
    }

    /// Goes on if a value is in a named set.
    pub fn in_set(left: Expr, set: Name) -> Stmt {
        Stmt::Match { left, negated: false, right: Right::Set(set) }
    }

    /// Its JSON, if it is not modelled.
    pub fn unmodelled(&self) -> Option<&str> {
        if let Stmt::Unmodelled(json) = self { Some(json) } else { None }
    }

    /// What it looks up in a named map, if it looks there.
    pub(super) fn key_into(&self, map: &Name) -> Option<&Expr> {
        match self {
            Stmt::Vmap { key, map: MapRef::Named(name) }
            | Stmt::Dnat { to: NatTarget::Map { key, map: MapRef::Named(name), .. }, .. }
                if name == map =>
            {
                Some(key)
            }
            Stmt::Vmap { .. }
            | Stmt::Dnat { .. }
            | Stmt::Match { .. }
            | Stmt::CtState { .. }
            | Stmt::CtNat { .. }
            | Stmt::Verdict(_)
            | Stmt::SetMark { .. }
            | Stmt::Masquerade(_)
            | Stmt::Reject(_)
            | Stmt::UpdateSet { .. }
            | Stmt::Counter
            | Stmt::Notrack
            | Stmt::Unmodelled(_) => None,
        }
    }

    /// Calls a function with every named chain, set and map that it needs.
    pub fn references<'a>(&'a self, mut chain: impl FnMut(&'a Name), mut set: impl FnMut(&'a Name)) {
        let map = match self {
            Stmt::Match { right: Right::Set(name), .. } | Stmt::UpdateSet { set: name, .. } => {
                return set(name);
            }
            Stmt::Verdict(verdict) => return verdict.chain().into_iter().for_each(chain),
            Stmt::Vmap { map, .. } | Stmt::Dnat { to: NatTarget::Map { map, .. }, .. } => map,
            Stmt::Match { .. }
            | Stmt::CtState { .. }
            | Stmt::CtNat { .. }
            | Stmt::SetMark { .. }
            | Stmt::Dnat { .. }
            | Stmt::Masquerade(_)
            | Stmt::Reject(_)
            | Stmt::Counter
            | Stmt::Notrack
            | Stmt::Unmodelled(_) => return,
        };
        match map {
            MapRef::Named(name) => set(name),
            MapRef::Anonymous(entries) => {
                entries.iter().filter_map(|(_, data)| data.chain()).for_each(&mut chain)
            }
        }
    }
}
