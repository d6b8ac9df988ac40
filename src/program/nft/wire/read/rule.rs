//! Expressions as statements: follows what a rule puts into registers until something is done with it.
//!
//! Statements are those that nft shows: a match on the transport protocol without which a port could not be looked at goes
//! into what looks at the port.

use std::collections::BTreeMap;

use crate::net::{IpCidr, IpFamily, Protocol};
use crate::program::nft::name::Names;
use crate::program::nft::{
    CtState, Data, DataType, Expr, InterfaceName, Key, Keys, MapRef, Meta, NatFlags, NatTarget, NumgenMode,
    Payload, RejectWith, Right, Scalar, ScalarType, SetOp, Stmt, Transport,
};

use super::super::anonymous;
use super::super::attribute::{Attributes, ByKind};
use super::super::datatype;
use super::super::expression::{LOOPBACK, LOOPBACK_NAME, location, refusal};
use super::super::uapi::{REGISTERS, element, expression as x, register, rule};
use super::set::{LiveSet, said, value};

/// What a register holds.
#[derive(Debug, Clone)]
enum Loaded {
    /// The value of an expression, apart from the mark.
    Expr(Expr),
    /// The mark: (mark AND keep) XOR turn.
    Mark { keep: u32, turn: u32 },
    /// These bits of the mark, in network order.
    SwappedMark(u32),
    /// So many bits of an address from its beginning, the rest cut off or 0.
    Prefix { payload: Payload, bits: usize },
    /// The state of the connection; only these bits of it, if that is said.
    CtState(Option<u32>),
    /// Bits of the status of the connection.
    CtStatus(u32),
    /// A constant.
    Bytes(Vec<u8>),
    /// What a map gives for a key.
    Mapped { key: Expr, map: MapRef, types: Vec<ScalarType> },
}

impl Loaded {
    /// How many registers of four bytes it fills.
    fn width(&self) -> usize {
        let bytes = match self {
            Loaded::Expr(expr) => datatype::length(&expr.scalar_type()),
            Loaded::Mark { .. } | Loaded::SwappedMark(_) | Loaded::CtState(_) | Loaded::CtStatus(_) => 4,
            Loaded::Prefix { payload, .. } => datatype::length(&Expr::Payload(*payload).scalar_type()),
            Loaded::Bytes(bytes) => bytes.len(),
            Loaded::Mapped { types, .. } => datatype::length_of_all(types),
        };
        bytes.div_ceil(4).max(1)
    }
}

/// The statements of a rule. `None` if one of its expressions is not modelled, or used in a way that is not.
pub(super) fn stmts(
    expressions: &[u8],
    family: IpFamily,
    sets: &BTreeMap<Box<str>, LiveSet>,
    names: &mut Names,
) -> Option<Vec<Stmt>> {
    let mut machine = Machine {
        family,
        sets,
        names,
        registers: [const { None }; REGISTERS],
        stmts: Vec::new(),
        at_least: None,
        protocol: None,
        dependency: None,
    };
    for (_, expression) in Attributes::new(expressions) {
        let expression = ByKind::of(expression);
        let data = expression.get(rule::EXPRESSION_DATA).unwrap_or_default();
        machine.step(expression.text(rule::EXPRESSION_NAME)?, &ByKind::of(data))?;
    }
    machine.at_least.is_none().then_some(machine.stmts)
}

/// The names of a rule's expressions, for people.
pub(super) fn names(expressions: &[u8]) -> String {
    let each = Attributes::new(expressions).map(|(_, expression)| {
        let name = ByKind::of(expression).text(rule::EXPRESSION_NAME);
        name.unwrap_or("?").escape_default().to_string()
    });
    format!("expressions {}", each.collect::<Vec<_>>().join(", "))
}

struct Machine<'a> {
    family: IpFamily,
    sets: &'a BTreeMap<Box<str>, LiveSet>,
    names: &'a mut Names,
    registers: [Option<Loaded>; REGISTERS],
    stmts: Vec<Stmt>,
    /// The first half of a match on an interval: the register, and the lower end.
    at_least: Option<(usize, Vec<u8>)>,
    /// The transport protocol that packets have at this point of the rule, if that is certain.
    protocol: Option<u8>,
    /// The statement that says it, as long as nothing needs it.
    dependency: Option<usize>,
}

impl Machine<'_> {
    fn step(&mut self, name: &str, data: &ByKind<'_>) -> Option<()> {
        if self.at_least.is_some() && name != "cmp" {
            return None;
        }
        match name {
            "payload" => self.payload(data),
            "meta" => self.meta(data),
            "ct" => self.ct(data),
            "fib" => self.fib(data),
            "numgen" => self.numgen(data),
            "bitwise" => self.bitwise(data),
            "byteorder" => self.byte_order(data),
            "immediate" => self.immediate(data),
            "cmp" => self.compare(data),
            "range" => self.range(data),
            "lookup" => self.look_up(data),
            "dynset" => self.update(data),
            "nat" => self.nat(data),
            "masq" => {
                let flags = nat_flags(data.number(x::MASQUERADE_FLAGS).unwrap_or(0));
                let flags = flags.filter(|_| !data.has(x::MASQUERADE_PORT))?;
                self.push(Stmt::Masquerade(flags))
            }
            "reject" => self.reject(data),
            "counter" => self.push(Stmt::Counter),
            "notrack" => self.push(Stmt::Notrack),
            _ => None,
        }
    }

    fn push(&mut self, stmt: Stmt) -> Option<()> {
        self.stmts.push(stmt);
        Some(())
    }

    fn set(&mut self, register: Option<u32>, content: Loaded) -> Option<()> {
        let place = place(register?)?;
        let end = place + content.width();
        if end > REGISTERS {
            return None;
        }
        for at in 0..end {
            let reaches = self.registers[at].as_ref().is_some_and(|old| at + old.width() > place);
            if reaches {
                self.registers[at] = None;
            }
        }
        self.registers[place] = Some(content);
        Some(())
    }

    fn get(&self, register: Option<u32>) -> Option<(usize, Loaded)> {
        let place = place(register?)?;
        Some((place, self.registers[place].clone()?))
    }

    fn payload(&mut self, data: &ByKind<'_>) -> Option<()> {
        if data.has(x::PAYLOAD_SREG) {
            return None;
        }
        let (base, offset) = (data.number(x::PAYLOAD_BASE)?, data.number(x::PAYLOAD_OFFSET)?);
        let length = data.number(x::PAYLOAD_LENGTH)?;
        let family = self.family;
        let fields = [
            Payload::SourceAddr(family),
            Payload::DestinationAddr(family),
            Payload::NextProtocol(family),
            Payload::SourcePort(Transport::Any),
            Payload::DestinationPort(Transport::Any),
        ];
        let begins_there = |field: &&Payload| {
            let (its_base, its_offset, its_length) = location(**field);
            (its_base, its_offset) == (base, offset) && length <= its_length
        };
        let field = *fields.iter().find(begins_there)?;
        let loaded = match (location(field).2 == length, field) {
            (true, _) => Loaded::Expr(Expr::Payload(field)),
            (false, Payload::SourceAddr(_) | Payload::DestinationAddr(_)) => {
                Loaded::Prefix { payload: field, bits: 8 * usize::try_from(length).ok()? }
            }
            (false, _) => return None,
        };
        self.set(data.number(x::PAYLOAD_DREG), loaded)
    }

    fn meta(&mut self, data: &ByKind<'_>) -> Option<()> {
        let key = data.number(x::META_KEY)?;
        if data.has(x::META_SREG) {
            let from = data.number(x::META_SREG);
            let (_, content) = self.get(from).filter(|_| key == x::META_MARK)?;
            let (mask, value) = match content {
                Loaded::Bytes(bytes) => (u32::MAX, u32::from_ne_bytes(bytes.try_into().ok()?)),
                Loaded::Mark { keep, turn } => (!keep, turn),
                Loaded::Expr(_)
                | Loaded::SwappedMark(_)
                | Loaded::Prefix { .. }
                | Loaded::CtState(_)
                | Loaded::CtStatus(_)
                | Loaded::Mapped { .. } => return None,
            };
            return self.push(Stmt::SetMark { mask, value });
        }
        let loaded = match key {
            x::META_MARK => Loaded::Mark { keep: u32::MAX, turn: 0 },
            x::META_L4PROTO => Loaded::Expr(Expr::Meta(Meta::L4Proto)),
            x::META_IIFNAME => Loaded::Expr(Expr::Meta(Meta::InputName)),
            x::META_OIFNAME => Loaded::Expr(Expr::Meta(Meta::OutputName)),
            // In a table of one family nft does not show it everywhere.
            x::META_NFPROTO => return None,
            x::META_IIF => Loaded::Expr(Expr::Meta(Meta::Input)),
            x::META_OIF => Loaded::Expr(Expr::Meta(Meta::Output)),
            _ => return None,
        };
        self.set(data.number(x::META_DREG), loaded)
    }

    fn ct(&mut self, data: &ByKind<'_>) -> Option<()> {
        if data.has(x::CT_DIRECTION) || data.has(x::CT_SREG) {
            return None;
        }
        let to = data.number(x::CT_DREG);
        match data.number(x::CT_KEY)? {
            x::CT_STATE => self.set(to, Loaded::CtState(None)),
            x::CT_STATUS => self.set(to, Loaded::CtStatus(u32::MAX)),
            _ => None,
        }
    }

    fn fib(&mut self, data: &ByKind<'_>) -> Option<()> {
        let source = match (data.number(x::FIB_RESULT)?, data.number(x::FIB_FLAGS)?) {
            (x::FIB_TYPE, x::FIB_SOURCE) => true,
            (x::FIB_TYPE, x::FIB_DESTINATION) => false,
            _ => return None,
        };
        self.set(data.number(x::FIB_DREG), Loaded::Expr(Expr::FibType { source }))
    }

    fn numgen(&mut self, data: &ByKind<'_>) -> Option<()> {
        let mode = match data.number(x::NUMGEN_TYPE)? {
            x::NUMGEN_INCREMENT => NumgenMode::Increment,
            x::NUMGEN_RANDOM => NumgenMode::Random,
            _ => return None,
        };
        let modulus = data.number(x::NUMGEN_MODULUS)?;
        let offset = data.number(x::NUMGEN_OFFSET).unwrap_or(0);
        offset.checked_add(modulus).filter(|_| modulus > 0)?;
        let to = data.number(x::NUMGEN_DREG);
        self.set(to, Loaded::Expr(Expr::Numgen { mode, modulus, offset }))
    }

    fn bitwise(&mut self, data: &ByKind<'_>) -> Option<()> {
        // NFT_BITWISE_MASK_XOR is 0; the others came later.
        if data.number(x::BITWISE_OPERATOR).unwrap_or(0) != 0 {
            return None;
        }
        let (mask, xor) = (value(data, x::BITWISE_MASK)?, value(data, x::BITWISE_XOR)?);
        let word = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_ne_bytes);
        let has_no_xor = xor.iter().all(|byte| *byte == 0);
        let (_, content) = self.get(data.number(x::BITWISE_SREG))?;
        let made =
            match content {
                Loaded::Mark { keep, turn } => {
                    let mask = word(mask)?;
                    Loaded::Mark { keep: keep & mask, turn: (turn & mask) ^ word(xor)? }
                }
                Loaded::CtState(None) if has_no_xor => Loaded::CtState(Some(word(mask)?)),
                Loaded::CtStatus(u32::MAX) if has_no_xor => Loaded::CtStatus(word(mask)?),
                Loaded::Expr(Expr::Payload(
                    payload @ (Payload::SourceAddr(_) | Payload::DestinationAddr(_)),
                )) if has_no_xor => Loaded::Prefix { payload, bits: leading_ones(mask)? },
                Loaded::CtState(_)
                | Loaded::CtStatus(_)
                | Loaded::Expr(_)
                | Loaded::SwappedMark(_)
                | Loaded::Prefix { .. }
                | Loaded::Bytes(_)
                | Loaded::Mapped { .. } => return None,
            };
        self.set(data.number(x::BITWISE_DREG), made)
    }

    fn byte_order(&mut self, data: &ByKind<'_>) -> Option<()> {
        let is_word = data.number(x::BYTEORDER_OPERATOR) == Some(x::BYTEORDER_TO_NETWORK)
            && data.number(x::BYTEORDER_LENGTH) == Some(4)
            && data.number(x::BYTEORDER_SIZE) == Some(4);
        match self.get(data.number(x::BYTEORDER_SREG))? {
            (_, Loaded::Mark { keep, turn: 0 }) if is_word => {
                self.set(data.number(x::BYTEORDER_DREG), Loaded::SwappedMark(keep))
            }
            (_, _) => None,
        }
    }

    fn immediate(&mut self, data: &ByKind<'_>) -> Option<()> {
        let to = data.number(x::IMMEDIATE_DREG);
        let content = data.nested(x::IMMEDIATE_DATA)?;
        if to == Some(register::VERDICT) {
            let verdict = said(&content, self.names)?;
            return self.push(Stmt::Verdict(verdict));
        }
        self.set(to, Loaded::Bytes(content.get(element::VALUE)?.to_vec()))
    }

    fn compare(&mut self, data: &ByKind<'_>) -> Option<()> {
        let (place, content) = self.get(data.number(x::CMP_SREG))?;
        let with = value(data, x::CMP_DATA)?;
        match (data.number(x::CMP_OPERATOR)?, self.at_least.take()) {
            (x::CMP_EQUAL, None) => self.equal(content, false, with),
            (x::CMP_NOT_EQUAL, None) => self.equal(content, true, with),
            (x::CMP_AT_LEAST, None) => {
                self.at_least = Some((place, with.to_vec()));
                Some(())
            }
            (x::CMP_AT_MOST, Some((its, first))) if its == place => self.within(content, false, &first, with),
            (_, _) => None,
        }
    }

    fn range(&mut self, data: &ByKind<'_>) -> Option<()> {
        let (_, content) = self.get(data.number(x::RANGE_SREG))?;
        let negated = match data.number(x::RANGE_OPERATOR)? {
            x::CMP_EQUAL => false,
            x::CMP_NOT_EQUAL => true,
            _ => return None,
        };
        self.within(content, negated, value(data, x::RANGE_FROM)?, value(data, x::RANGE_TO)?)
    }

    fn equal(&mut self, content: Loaded, negated: bool, with: &[u8]) -> Option<()> {
        let is_zero = with.iter().all(|byte| *byte == 0);
        match content {
            Loaded::Expr(Expr::Meta(meta @ (Meta::Input | Meta::Output))) => {
                let is_loopback = with == LOOPBACK.to_ne_bytes();
                let name = InterfaceName::new(LOOPBACK_NAME).filter(|_| is_loopback)?;
                self.matched(Expr::Meta(meta), negated, Key::exact([Scalar::Interface(name)]))
            }
            Loaded::Expr(expr) => {
                let scalar = datatype::scalar(&expr.scalar_type(), with)?;
                let protocol = match (&expr, scalar) {
                    (Expr::Meta(Meta::L4Proto), Scalar::Protocol(number)) if !negated => Some(number),
                    (Expr::Payload(Payload::NextProtocol(_)), Scalar::Protocol(number)) if !negated => {
                        Some(number)
                    }
                    (_, _) => None,
                };
                self.matched(expr, negated, Key::exact([scalar]))?;
                if protocol.is_some() {
                    // Which of two nft would show is not for us to say.
                    if self.protocol.is_some() {
                        return None;
                    }
                    self.protocol = protocol;
                    self.dependency = self.stmts.len().checked_sub(1);
                }
                Some(())
            }
            Loaded::Mark { keep, turn: 0 } => {
                let value = u32::from_ne_bytes(with.try_into().ok()?);
                self.matched(Expr::Mark { mask: keep }, negated, Key::exact([Scalar::Mark(value)]))
            }
            Loaded::Prefix { payload, bits } => {
                let mut address = with.to_vec();
                let one = Expr::Payload(payload).scalar_type();
                address.resize(datatype::length(&one), 0);
                let addr = datatype::scalar(&one, &address)?.addr()?;
                let cidr = IpCidr::new(addr, u8::try_from(bits).ok()?)?;
                self.matched(Expr::Payload(payload), negated, Key::cidr(&cidr))
            }
            Loaded::CtState(Some(states)) if negated && is_zero => {
                self.push(Stmt::CtState { states: known_states(states)?, negated: false })
            }
            Loaded::CtState(None) => {
                let states = known_states(u32::from_ne_bytes(with.try_into().ok()?))?;
                (states.count_ones() == 1).then_some(())?;
                self.push(Stmt::CtState { states, negated })
            }
            Loaded::CtStatus(bits) if negated && is_zero => {
                let (snat, dnat) = (bits & x::STATUS_SNAT != 0, bits & x::STATUS_DNAT != 0);
                let has_others = bits & !(x::STATUS_SNAT | x::STATUS_DNAT) != 0;
                (!has_others && bits != 0).then_some(())?;
                self.push(Stmt::CtNat { snat, dnat })
            }
            Loaded::Mark { .. }
            | Loaded::SwappedMark(_)
            | Loaded::CtState(_)
            | Loaded::CtStatus(_)
            | Loaded::Bytes(_)
            | Loaded::Mapped { .. } => None,
        }
    }

    fn within(&mut self, content: Loaded, negated: bool, first: &[u8], last: &[u8]) -> Option<()> {
        let (expr, first, last) = match content {
            Loaded::Expr(expr) => {
                let kind = expr.scalar_type();
                datatype::is_ordered(&kind).then_some(())?;
                (expr, datatype::scalar(&kind, first)?, datatype::scalar(&kind, last)?)
            }
            Loaded::SwappedMark(mask) => {
                let mark = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_be_bytes).map(Scalar::Mark);
                (Expr::Mark { mask }, mark(first)?, mark(last)?)
            }
            Loaded::Mark { .. }
            | Loaded::Prefix { .. }
            | Loaded::CtState(_)
            | Loaded::CtStatus(_)
            | Loaded::Bytes(_)
            | Loaded::Mapped { .. } => return None,
        };
        if first > last {
            return None;
        }
        self.matched(expr, negated, Key::intervals([(first, last)]))
    }

    fn matched(&mut self, left: Expr, negated: bool, key: Key) -> Option<()> {
        let left = self.with_transport(left)?;
        self.push(Stmt::Match { left, negated, right: Right::Keys(Keys::one(key)) })
    }

    /// What looks at ports, told whose they are if that is certain; the match that says so is then left out.
    fn with_transport(&mut self, expr: Expr) -> Option<Expr> {
        let is_port =
            |part: &Expr| matches!(part, Expr::Payload(Payload::SourcePort(_) | Payload::DestinationPort(_)));
        if !expr.parts().iter().any(is_port) || self.protocol.is_none() {
            return Some(expr);
        }
        let transport = Transport::from(Protocol::from_number(self.protocol?)?);
        self.leave_out_dependency()?;
        let told = |part: &Expr| match part {
            Expr::Payload(Payload::SourcePort(_)) => Expr::Payload(Payload::SourcePort(transport)),
            Expr::Payload(Payload::DestinationPort(_)) => Expr::Payload(Payload::DestinationPort(transport)),
            other @ (Expr::Payload(_)
            | Expr::Meta(_)
            | Expr::Mark { .. }
            | Expr::FibType { .. }
            | Expr::Numgen { .. }
            | Expr::Concat(_)) => other.clone(),
        };
        Some(match &expr {
            Expr::Concat(parts) => Expr::concat(parts.iter().map(told)),
            one @ (Expr::Payload(_)
            | Expr::Meta(_)
            | Expr::Mark { .. }
            | Expr::FibType { .. }
            | Expr::Numgen { .. }) => told(one),
        })
    }

    fn leave_out_dependency(&mut self) -> Option<()> {
        let Some(at) = self.dependency.take() else { return Some(()) };
        let is_match = |stmt: &Stmt| matches!(stmt, Stmt::Match { .. });
        self.stmts[at..].iter().all(is_match).then_some(())?;
        self.stmts.remove(at);
        Some(())
    }

    /// What stands side by side from a register on.
    fn gather(&self, mut place: usize, types: &[ScalarType]) -> Option<Expr> {
        let mut parts = Vec::with_capacity(types.len());
        for kind in types {
            let part = match self.registers.get(place)?.as_ref()? {
                // Sets have devices by name.
                Loaded::Expr(Expr::Meta(Meta::Input | Meta::Output)) => return None,
                Loaded::Expr(expr) => expr.clone(),
                Loaded::Mark { keep, turn: 0 } if types.len() == 1 || *keep == u32::MAX => {
                    Expr::Mark { mask: *keep }
                }
                Loaded::Mark { .. }
                | Loaded::SwappedMark(_)
                | Loaded::Prefix { .. }
                | Loaded::CtState(_)
                | Loaded::CtStatus(_)
                | Loaded::Bytes(_)
                | Loaded::Mapped { .. } => return None,
            };
            if part.scalar_type() != *kind {
                return None;
            }
            parts.push(part);
            place += datatype::length(kind).div_ceil(4);
        }
        match parts.len() {
            0 => None,
            1 => parts.pop(),
            _ => Some(Expr::Concat(parts.into())),
        }
    }

    fn look_up(&mut self, data: &ByKind<'_>) -> Option<()> {
        let flags = data.number(x::LOOKUP_FLAGS).unwrap_or(0);
        let negated = flags & x::LOOKUP_INVERTED != 0;
        if flags & !x::LOOKUP_INVERTED != 0 {
            return None;
        }
        let to = data.number(x::LOOKUP_DREG);
        let name = data.text(x::LOOKUP_SET)?;
        let sets = self.sets;
        let live = sets.get(name)?;
        let from = place(data.number(x::LOOKUP_SREG)?)?;
        if let (Some(Loaded::CtState(None)), true, None) = (&self.registers[from], live.is_anonymous(), to) {
            let states = states_of(live)?;
            return self.push(Stmt::CtState { states, negated });
        }
        let set = live.set();
        if live.is_anonymous() && (set.has_unmodelled || live.key_type() == anonymous::CT_STATE) {
            return None;
        }
        let key = self.gather(from, &set.key)?;
        let key = self.with_transport(key)?;
        let Some(to) = to else {
            (set.data.is_none()).then_some(())?;
            let right = if live.is_anonymous() {
                Right::Keys(Keys::new(set.elements.keys().cloned().collect()))
            } else {
                Right::Set(self.names.get(name)?)
            };
            return self.push(Stmt::Match { left: key, negated, right });
        };
        let map = if live.is_anonymous() {
            let entry = |(key, element): (&Key, &crate::program::nft::Element)| {
                Some((key.clone(), element.data.clone()?))
            };
            MapRef::anonymous(set.elements.iter().map(entry).collect::<Option<Vec<(Key, Data)>>>()?)
        } else {
            MapRef::Named(self.names.get(name)?)
        };
        match (&set.data, to) {
            _ if negated => None,
            (Some(DataType::Verdict), register::VERDICT) => self.push(Stmt::Vmap { key, map }),
            (Some(DataType::Values(types)), _) => {
                self.set(Some(to), Loaded::Mapped { key, map, types: types.clone() })
            }
            (_, _) => None,
        }
    }

    fn update(&mut self, data: &ByKind<'_>) -> Option<()> {
        let has_more = [x::DYNSET_SREG_DATA, x::DYNSET_EXPRESSION, x::DYNSET_EXPRESSIONS]
            .iter()
            .any(|kind| data.has(*kind));
        if has_more || data.number(x::DYNSET_FLAGS).unwrap_or(0) != 0 {
            return None;
        }
        let op = match data.number(x::DYNSET_OPERATION)? {
            0 => SetOp::Add,
            1 => SetOp::Update,
            2 => SetOp::Delete,
            _ => return None,
        };
        let sets = self.sets;
        let name = data.text(x::DYNSET_SET)?;
        let from = place(data.number(x::DYNSET_SREG_KEY)?)?;
        let key = self.gather(from, &sets.get(name)?.set().key)?;
        let key = self.with_transport(key)?;
        let timeout = match data.long_number(x::DYNSET_TIMEOUT).filter(|milliseconds| *milliseconds > 0) {
            None => None,
            Some(milliseconds) => Some(u32::try_from(milliseconds / 1000).ok()?),
        };
        let set = self.names.get(name)?;
        self.push(Stmt::UpdateSet { op, set, key, timeout })
    }

    fn nat(&mut self, data: &ByKind<'_>) -> Option<()> {
        let is_ours = data.number(x::NAT_FAMILY)? == u32::from(self.family.number());
        let is_range = |first, last| data.has(last) && data.get(first) != data.get(last);
        if data.number(x::NAT_TYPE)? != x::NAT_DNAT
            || !is_ours
            || is_range(x::NAT_ADDRESS, x::NAT_LAST_ADDRESS)
            || is_range(x::NAT_PORT, x::NAT_LAST_PORT)
        {
            return None;
        }
        let (address, port) = (data.number(x::NAT_ADDRESS), data.number(x::NAT_PORT));
        let flags = nat_flags(data.number(x::NAT_FLAGS).unwrap_or(0))?;
        let port_of = |content: Loaded| match content {
            Loaded::Bytes(bytes) => bytes.try_into().ok().map(u16::from_be_bytes),
            Loaded::Expr(_)
            | Loaded::Mark { .. }
            | Loaded::SwappedMark(_)
            | Loaded::Prefix { .. }
            | Loaded::CtState(_)
            | Loaded::CtStatus(_)
            | Loaded::Mapped { .. } => None,
        };
        let addr_type = ScalarType::addr(self.family);
        let to = match (address, port) {
            (None, Some(_)) => NatTarget::Port(port_of(self.get(port)?.1)?),
            (Some(_), _) => match (self.get(address)?, port) {
                ((_, Loaded::Bytes(bytes)), port) => {
                    let addr = datatype::scalar(&addr_type, &bytes)?.addr()?;
                    let port = match port {
                        None => None,
                        Some(_) => Some(port_of(self.get(port)?.1)?),
                    };
                    NatTarget::Addr(addr, port)
                }
                ((at, Loaded::Mapped { key, map, types }), port) => {
                    let after = at + datatype::length(&addr_type).div_ceil(4);
                    let fits = match (&types[..], port) {
                        ([addr], None) => *addr == addr_type,
                        ([addr, ScalarType::InetService], Some(port)) => {
                            *addr == addr_type && place(port)? == after
                        }
                        (_, _) => false,
                    };
                    fits.then_some(NatTarget::Map { family: self.family, key, map })?
                }
                ((_, _), _) => return None,
            },
            (None, None) => return None,
        };
        self.push(Stmt::Dnat { to, flags })
    }

    fn reject(&mut self, data: &ByKind<'_>) -> Option<()> {
        let code = data.get(x::REJECT_CODE).and_then(|code| code.first()).copied();
        let with = match data.number(x::REJECT_TYPE)? {
            x::REJECT_TCP_RESET => {
                if self.protocol == Some(6) {
                    self.leave_out_dependency()?;
                }
                RejectWith::TcpReset
            }
            x::REJECT_ICMP => {
                let all = [
                    RejectWith::PortUnreachable,
                    RejectWith::AdminProhibited,
                    RejectWith::HostUnreachable,
                    RejectWith::NetUnreachable,
                ];
                *all.iter().find(|with| refusal(self.family, **with).1 == code.unwrap_or(u8::MAX))?
            }
            // NFT_REJECT_ICMPX_*.
            x::REJECT_ICMPX => match code? {
                0 => RejectWith::NetUnreachable,
                1 => RejectWith::PortUnreachable,
                2 => RejectWith::HostUnreachable,
                3 => RejectWith::AdminProhibited,
                _ => return None,
            },
            _ => return None,
        };
        self.push(Stmt::Reject(with))
    }
}

/// Where a register begins, counted in four bytes. `None` for that of the verdict.
fn place(register: u32) -> Option<usize> {
    let place = match register {
        register::VERDICT => return None,
        long @ register::FIRST_LONG..register::FIRST_SHORT => 4 * (long - register::FIRST_LONG),
        short => short - register::FIRST_SHORT,
    };
    usize::try_from(place).ok().filter(|place| *place < REGISTERS)
}

/// How many bits from its beginning a mask lets through, if it lets only such through.
fn leading_ones(mask: &[u8]) -> Option<usize> {
    let ones = mask.iter().take_while(|byte| **byte == 0xff).count();
    let (partial, rest) = mask.get(ones..)?.split_first().map_or((0, &[][..]), |(byte, rest)| (*byte, rest));
    let bits = partial.leading_ones();
    let is_prefix = partial.count_ones() == bits && rest.iter().all(|byte| *byte == 0);
    is_prefix.then(|| 8 * ones + bits as usize)
}

fn known_states(states: u32) -> Option<u8> {
    let known = CtState::NAMES.iter().fold(0, |all, (bit, _)| all | bit);
    u8::try_from(states).ok().filter(|states| *states != 0 && states & !known == 0)
}

/// The states in an anonymous set.
fn states_of(live: &LiveSet) -> Option<u8> {
    if live.set().has_unmodelled || live.key_type() != anonymous::CT_STATE {
        return None;
    }
    let mut all = 0;
    for key in live.set().elements.keys() {
        let ([Scalar::Mark(states)], true) = (key.first(), key.is_exact()) else { return None };
        all |= states;
    }
    known_states(all)
}

fn nat_flags(bits: u32) -> Option<NatFlags> {
    let known =
        x::RANGE_ADDRESSES | x::RANGE_PORTS | x::RANGE_RANDOM | x::RANGE_PERSISTENT | x::RANGE_FULLY_RANDOM;
    (bits & !known == 0).then_some(NatFlags {
        random: bits & x::RANGE_RANDOM != 0,
        fully_random: bits & x::RANGE_FULLY_RANDOM != 0,
        persistent: bits & x::RANGE_PERSISTENT != 0,
    })
}
