//! What expressions are worth for a branch of a packet, and whether that is among others: yes, no, or not to be told.

use std::collections::BTreeSet;

use crate::net::AddrPort;
use crate::packet::{NodeFacts, Packet};
use crate::program::walk::{Answer, Interface};

use super::eval::Memory;
use super::{
    CtState, Data, Expr, FibType, InterfaceName, Key, MapRef, Meta, Payload, Right, Scalar, Set, Table,
    Transport,
};

/// What the rules have made of a packet so far.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct State {
    /// Where it is going.
    pub(super) destination: AddrPort,
    /// Whether a rule or a virtual server chose that destination.
    pub(super) translated: bool,
    /// The virtual server that took it.
    pub(super) virtual_server: Option<AddrPort>,
    /// Whether its source becomes the node's.
    pub(super) source_nat: bool,
    /// Its mark.
    pub(super) mark: u32,
    /// Whether connection tracking was told to leave it alone.
    pub(super) untracked: bool,
    /// What it has put into sets: the name of the set and the element.
    pub(super) remembered: BTreeSet<(super::Name, Key)>,
}

/// A rule that may have accepted a packet which went on instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Doubt {
    /// The rule.
    pub(super) rule: String,
    /// What the packet was then.
    pub(super) state: State,
}

/// A part of the packet's chances.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    /// How large a part.
    pub(super) weight: f64,
    /// What became of it.
    pub(super) state: State,
    /// Whether it may have left its base chain earlier, with an accept.
    pub(super) doubt: Option<Box<Doubt>>,
}

/// What a rule can see of a packet apart from its [`State`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    /// The packet as it was sent.
    pub(super) packet: &'a Packet,
    /// The node.
    pub(super) facts: &'a NodeFacts,
    /// What sets hold.
    pub(super) memory: &'a Memory,
    /// Whether connection tracking has seen it.
    pub(super) tracked: bool,
    /// The interface it came in by.
    pub(super) input: Interface<'a>,
    /// The interface it leaves by, unless it goes to the node itself.
    pub(super) output: Interface<'a>,
}

/// A value, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    One(Scalar),
    NoInterface,
    NotLoopback,
    NotLocal,
}

impl Known {
    /// Whether it is in an interval.
    fn is_within(self, first: &Scalar, last: &Scalar) -> Answer {
        match (self, first) {
            (Known::One(value), _) => Key::intervals([(*first, *last)]).contains(&[value]).into(),
            (Known::NotLoopback, Scalar::Interface(name)) if name.as_str() == "lo" => Answer::No,
            (Known::NotLoopback, _) => Answer::Unknown,
            (Known::NotLocal, Scalar::FibType(kind)) => {
                if *kind == FibType::Local {
                    Answer::No
                } else {
                    Answer::Unknown
                }
            }
            (Known::NoInterface | Known::NotLocal, _) => Answer::No,
        }
    }
}

/// What an expression can be worth: each chance with its share. Nothing at all: the packet has no such field.
type Chances = Vec<(f64, Vec<Known>)>;

/// What a lookup gives.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'a> {
    /// This.
    Data(&'a Data),
    /// Nothing.
    Nothing,
    /// It cannot be told.
    Unknown,
}

impl<'a> Scene<'a> {
    /// Shares of a branch for which a value is, or is not, or may be among others. A packet without the field does not
    /// match, negated or not.
    pub(super) fn matches(
        &self,
        table: &Table,
        left: &Expr,
        negated: bool,
        right: &Right,
        state: &State,
    ) -> [(Answer, f64); 3] {
        let (mut yes, mut no, mut unknown) = (0.0, 0.0, 0.0);
        let chances = self.chances(left, state);
        if chances.is_empty() {
            no = 1.0;
        }
        for (share, values) in chances {
            let answer = match right {
                Right::Keys(keys) => any(keys.as_slice().iter().map(|key| within(&values, key))),
                Right::Set(name) => match table.sets.get(name) {
                    Some(set) => self.in_set(name, set, &values, state),
                    None => Answer::Unknown,
                },
            };
            match answer {
                Answer::Unknown => unknown += share,
                Answer::Yes if !negated => yes += share,
                Answer::No if negated => yes += share,
                Answer::Yes | Answer::No => no += share,
            }
        }
        [(Answer::Yes, yes), (Answer::No, no), (Answer::Unknown, unknown)]
    }

    /// What a map gives, each with its share.
    pub(super) fn look_up<'t>(
        &self,
        table: &'t Table,
        key: &Expr,
        map: &'t MapRef,
        state: &State,
    ) -> Vec<(f64, Found<'t>)> {
        let chances = self.chances(key, state);
        if chances.is_empty() {
            return vec![(1.0, Found::Nothing)];
        }
        let find = |values: &[Known]| match map {
            MapRef::Anonymous(entries) => in_entries(entries, values),
            MapRef::Named(name) => match table.sets.get(name) {
                Some(set) => in_map(set, values),
                None => Found::Unknown,
            },
        };
        chances.into_iter().map(|(share, values)| (share, find(&values))).collect()
    }

    /// The states of a flow's first packet.
    pub(super) fn is_in_state(&self, states: u8, negated: bool, state: &State) -> bool {
        let is = if state.untracked {
            CtState::UNTRACKED
        } else if !self.tracked {
            CtState::INVALID
        } else {
            CtState::NEW
        };
        (states & is != 0) != negated
    }

    /// The element that a packet makes, if it has all its fields for certain.
    pub(super) fn element(&self, key: &Expr, state: &State) -> Option<Key> {
        let chances = self.chances(key, state);
        let [(_, values)] = chances.as_slice() else { return None };
        exact(values)
    }

    fn in_set(&self, name: &super::Name, set: &Set, values: &[Known], state: &State) -> Answer {
        let Some(key) = exact(values) else {
            return any(set.elements.keys().map(|key| within(values, key)));
        };
        let just_now = || state.remembered.contains(&(name.clone(), key.clone()));
        let has_expired =
            |seconds: u32| self.memory.age >= std::time::Duration::from_secs(u64::from(seconds));
        let earlier = || match key.first() {
            [one] if !set.timeout.is_some_and(has_expired) => {
                one.addr().is_some_and(|addr| self.memory.remembered.contains(&(name.to_string(), addr)))
            }
            _ => false,
        };
        if set.elements.contains_key(&key)
            || (!state.remembered.is_empty() && just_now())
            || (!self.memory.remembered.is_empty() && earlier())
        {
            return Answer::Yes;
        }
        let by_interval = set.flags.interval && set.elements.keys().any(|one| one.contains(key.first()));
        match by_interval {
            true => Answer::Yes,
            false if set.has_unmodelled => Answer::Unknown,
            false => Answer::No,
        }
    }

    fn chances(&self, expr: &Expr, state: &State) -> Chances {
        let mut chances: Chances = vec![(1.0, Vec::new())];
        for part in expr.parts() {
            if let Expr::Numgen { modulus, offset, .. } = part {
                let share = 1.0 / f64::from(*modulus);
                let numbers = || (*offset..offset.saturating_add(*modulus)).map(Scalar::Integer);
                let each = |(weight, values): &(f64, Vec<Known>)| {
                    let (weight, values) = (*weight, values.clone());
                    numbers().map(move |number| {
                        let mut values = values.clone();
                        values.push(Known::One(number));
                        (weight * share, values)
                    })
                };
                chances = chances.iter().flat_map(each).collect();
                continue;
            }
            let Some(value) = self.value(part, state) else { return Vec::new() };
            for (_, values) in &mut chances {
                values.push(value);
            }
        }
        chances
    }

    /// The value of a part; `None` if the packet has no such field.
    fn value(&self, part: &Expr, state: &State) -> Option<Known> {
        let packet = self.packet;
        let addr = |family, addr: std::net::IpAddr| (packet.family() == family).then(|| addr.into());
        let scalar = match part {
            Expr::Payload(Payload::SourceAddr(family)) => addr(*family, packet.source.addr)?,
            Expr::Payload(Payload::DestinationAddr(family)) => addr(*family, state.destination.addr)?,
            Expr::Payload(Payload::NextProtocol(family)) => {
                (packet.family() == *family).then(|| packet.protocol.into())?
            }
            Expr::Payload(Payload::SourcePort(transport)) => {
                self.has(*transport).then_some(Scalar::Port(packet.source.port))?
            }
            Expr::Payload(Payload::DestinationPort(transport)) => {
                self.has(*transport).then_some(Scalar::Port(state.destination.port))?
            }
            Expr::Meta(Meta::L4Proto) => packet.protocol.into(),
            Expr::Meta(Meta::NfProto) => Scalar::NfProto(packet.family()),
            Expr::Meta(Meta::InputName | Meta::Input) => return Some(interface(self.input)),
            Expr::Meta(Meta::OutputName | Meta::Output) => {
                let is_local = self.facts.is_local(state.destination.addr);
                return Some(match self.output {
                    Interface::NotLoopback if is_local => interface(Interface::Named("lo")),
                    other @ (Interface::NotLoopback | Interface::Named(_) | Interface::None) => {
                        interface(other)
                    }
                });
            }
            Expr::Mark { mask } => Scalar::Mark(state.mark & mask),
            Expr::FibType { source } => {
                let addr = if *source { packet.source.addr } else { state.destination.addr };
                if !self.facts.is_local(addr) {
                    return Some(Known::NotLocal);
                }
                Scalar::FibType(FibType::Local)
            }
            Expr::Numgen { .. } | Expr::Concat(_) => return None,
        };
        Some(Known::One(scalar))
    }

    fn has(&self, transport: Transport) -> bool {
        transport == Transport::Any || transport.as_str() == self.packet.protocol.name()
    }
}

fn interface(interface: Interface<'_>) -> Known {
    match interface {
        Interface::None => Known::NoInterface,
        Interface::NotLoopback => Known::NotLoopback,
        Interface::Named(name) => match InterfaceName::new(name) {
            Some(name) => Known::One(Scalar::Interface(name)),
            None => Known::NotLoopback,
        },
    }
}

fn exact(values: &[Known]) -> Option<Key> {
    let mut scalars = super::Values::new();
    for value in values {
        match value {
            Known::One(scalar) => scalars.push(*scalar),
            Known::NoInterface | Known::NotLoopback | Known::NotLocal => return None,
        }
    }
    // A set may have patterns of interfaces.
    let plain = !scalars.iter().any(|scalar| matches!(scalar, Scalar::Interface(_)));
    plain.then(|| Key::exact(scalars))
}

fn within(values: &[Known], key: &Key) -> Answer {
    let mut answer: Answer = (values.len() == key.first().len()).into();
    for ((value, first), last) in values.iter().zip(key.first()).zip(key.last()) {
        match value.is_within(first, last) {
            Answer::No => return Answer::No,
            Answer::Unknown if answer == Answer::Yes => answer = Answer::Unknown,
            Answer::Yes | Answer::Unknown => {}
        }
    }
    answer
}

fn any(answers: impl Iterator<Item = Answer>) -> Answer {
    let mut any = Answer::No;
    for answer in answers {
        match answer {
            Answer::Yes => return Answer::Yes,
            Answer::Unknown => any = Answer::Unknown,
            Answer::No => {}
        }
    }
    any
}

fn in_entries<'t>(entries: &'t [(Key, Data)], values: &[Known]) -> Found<'t> {
    if let Some(key) = exact(values)
        && let Ok(at) = entries.binary_search_by(|(its, _)| its.cmp(&key))
    {
        return Found::Data(&entries[at].1);
    }
    scan(entries.iter().map(|(key, data)| (key, Some(data))), values)
}

fn in_map<'t>(set: &'t Set, values: &[Known]) -> Found<'t> {
    let key = exact(values);
    if let Some(element) = key.as_ref().and_then(|key| set.elements.get(key)) {
        return element.data.as_ref().map_or(Found::Unknown, Found::Data);
    }
    let found = if key.is_some() && !set.flags.interval {
        Found::Nothing
    } else {
        scan(set.elements.iter().map(|(key, element)| (key, element.data.as_ref())), values)
    };
    match found {
        Found::Nothing if set.has_unmodelled => Found::Unknown,
        found @ (Found::Nothing | Found::Data(_) | Found::Unknown) => found,
    }
}

fn scan<'t>(entries: impl Iterator<Item = (&'t Key, Option<&'t Data>)>, values: &[Known]) -> Found<'t> {
    let mut found = Found::Nothing;
    for (key, data) in entries {
        match (within(values, key), data) {
            (Answer::Yes, Some(data)) => return Found::Data(data),
            (Answer::Yes, None) | (Answer::Unknown, _) => found = Found::Unknown,
            (Answer::No, _) => {}
        }
    }
    found
}
