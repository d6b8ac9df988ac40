//! Statements as the expressions of a rule: what is loaded into registers, compared, looked up and done.

use crate::net::{IpFamily, Protocol};
use crate::program::nft::value::prefix_len;
use crate::program::nft::{
    Data, DataType, Expr, MapRef, Meta, Name, NatFlags, NatTarget, NumgenMode, Payload, RejectWith, Right,
    Rule, Scalar, SetOp, Stmt, Table, Transport, Verdict,
};

use super::anonymous;
use super::attribute::Buffer;
use super::datatype;
use super::element::{push_data, push_verdict};
use super::uapi::{REGISTERS, element, expression as x, register, rule};

/// The loopback device has this index in every network namespace (LOOPBACK_IFINDEX).
pub(super) const LOOPBACK: u32 = 1;
pub(super) const LOOPBACK_NAME: &str = "lo";

/// The number of the register that begins at a place, counted in four bytes; where one of 16 bytes does, nft names that.
fn register_at(place: usize) -> u32 {
    let place = u32::try_from(place).unwrap_or(u32::MAX);
    if place.is_multiple_of(4) { register::FIRST_LONG + place / 4 } else { register::FIRST_SHORT + place }
}

/// Where a header has a field: base, offset, length.
pub(super) fn location(payload: Payload) -> (u32, u32, u32) {
    let of_family = |family, v4, v6| if family == IpFamily::V4 { v4 } else { v6 };
    match payload {
        Payload::SourceAddr(family) => {
            of_family(family, (x::PAYLOAD_NETWORK, 12, 4), (x::PAYLOAD_NETWORK, 8, 16))
        }
        Payload::DestinationAddr(family) => {
            of_family(family, (x::PAYLOAD_NETWORK, 16, 4), (x::PAYLOAD_NETWORK, 24, 16))
        }
        Payload::NextProtocol(family) => {
            of_family(family, (x::PAYLOAD_NETWORK, 9, 1), (x::PAYLOAD_NETWORK, 6, 1))
        }
        Payload::SourcePort(_) => (x::PAYLOAD_TRANSPORT, 0, 2),
        Payload::DestinationPort(_) => (x::PAYLOAD_TRANSPORT, 2, 2),
    }
}

/// The numbers of a translation's flags.
fn flags(flags: NatFlags) -> u32 {
    let bits = [
        (flags.random, x::RANGE_RANDOM),
        (flags.persistent, x::RANGE_PERSISTENT),
        (flags.fully_random, x::RANGE_FULLY_RANDOM),
    ];
    bits.iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, bit)| all | bit)
}

/// The type and code of a refusal in a table of one family.
pub(super) fn refusal(family: IpFamily, with: RejectWith) -> (u32, u8) {
    let code = match (family, with) {
        (_, RejectWith::TcpReset) => return (x::REJECT_TCP_RESET, 0),
        (IpFamily::V4, RejectWith::NetUnreachable) | (IpFamily::V6, RejectWith::NetUnreachable) => 0,
        (IpFamily::V4, RejectWith::HostUnreachable) | (IpFamily::V6, RejectWith::AdminProhibited) => 1,
        (IpFamily::V4, RejectWith::PortUnreachable) | (IpFamily::V6, RejectWith::HostUnreachable) => 3,
        (IpFamily::V6, RejectWith::PortUnreachable) => 4,
        (IpFamily::V4, RejectWith::AdminProhibited) => 13,
    };
    (x::REJECT_ICMP, code)
}

/// Writes the expressions of a rule; `sets` are the numbers of its anonymous sets, in their order. `None` if a part of it
/// cannot be written.
pub(super) fn push_rule(buffer: &mut Buffer, table: &Table, rule: &Rule, sets: Vec<u32>) -> Option<()> {
    let family = table.family.ip()?;
    let mut writer = Writer { buffer, table, family, sets: sets.into_iter(), protocol: None };
    rule.stmts.iter().try_for_each(|stmt| writer.stmt(stmt))
}

struct Writer<'a> {
    buffer: &'a mut Buffer,
    table: &'a Table,
    family: IpFamily,
    sets: std::vec::IntoIter<u32>,
    /// The transport protocol that packets have at this point of the rule, if that is certain.
    protocol: Option<u8>,
}

impl Writer<'_> {
    fn push(&mut self, name: &str, write: impl FnOnce(&mut Buffer)) {
        self.buffer.nest(rule::LIST_ELEMENT, |buffer| {
            buffer.put_text(rule::EXPRESSION_NAME, name);
            buffer.nest(rule::EXPRESSION_DATA, write);
        });
    }

    fn stmt(&mut self, stmt: &Stmt) -> Option<()> {
        match stmt {
            Stmt::Match { left, negated, right } => self.matched(left, *negated, right)?,
            Stmt::CtState { states, negated } => self.ct_state(*states, *negated)?,
            Stmt::CtNat { snat, dnat } => {
                let bits = (u32::from(*snat) * x::STATUS_SNAT) | (u32::from(*dnat) * x::STATUS_DNAT);
                self.load_ct(x::CT_STATUS);
                self.bitwise(&bits.to_ne_bytes(), &[0; 4]);
                self.compare(x::CMP_NOT_EQUAL, &[0; 4]);
            }
            Stmt::Vmap { key, map } => {
                self.load_key(key)?;
                self.look_up(map, Some(register::VERDICT))?;
            }
            Stmt::Verdict(verdict) => self.verdict(verdict),
            Stmt::SetMark { mask, value } => self.set_mark(*mask, *value),
            Stmt::Dnat { to, flags } => self.dnat(to, *flags)?,
            Stmt::Masquerade(how) => {
                let bits = flags(*how);
                self.push("masq", |data| {
                    if bits != 0 {
                        data.put_u32(x::MASQUERADE_FLAGS, bits);
                    }
                });
            }
            Stmt::Reject(with) => {
                let (kind, code) = refusal(self.family, *with);
                if kind == x::REJECT_TCP_RESET {
                    self.need_protocol(Transport::Tcp)?;
                }
                self.push("reject", |data| {
                    data.put_u32(x::REJECT_TYPE, kind);
                    data.put(x::REJECT_CODE, &[code]);
                });
            }
            Stmt::UpdateSet { op, set, key, timeout } => self.update(*op, set, key, *timeout)?,
            Stmt::Counter => self.push("counter", |_| {}),
            Stmt::Notrack => self.push("notrack", |_| {}),
            Stmt::Unmodelled(_) => return None,
        }
        Some(())
    }

    fn matched(&mut self, left: &Expr, negated: bool, right: &Right) -> Option<()> {
        let keys = match right {
            Right::Set(name) => {
                self.load_key(left)?;
                return self.look_up_named(name, None, negated);
            }
            Right::Keys(keys) => keys.as_slice(),
        };
        if anonymous::looks_up(left, keys) {
            self.load_key(left)?;
            return self.look_up_anonymous("__set%d", None, negated);
        }
        let [key] = keys else { return None };
        let ([first], [last]) = (key.first(), key.last()) else { return None };
        if left.scalar_type() != first.scalar_type() {
            return None;
        }
        self.compared(left, negated, first, last)?;
        if let (false, true, Scalar::Protocol(number)) = (negated, first == last, first) {
            self.protocol = Some(*number);
        }
        Some(())
    }

    /// A value against one value or interval.
    fn compared(&mut self, left: &Expr, negated: bool, first: &Scalar, last: &Scalar) -> Option<()> {
        let operator = if negated { x::CMP_NOT_EQUAL } else { x::CMP_EQUAL };
        let (mut low, mut high) = (Vec::new(), Vec::new());
        datatype::push(&mut low, first);
        datatype::push(&mut high, last);
        if let (Expr::Meta(Meta::Input | Meta::Output), Scalar::Interface(name)) = (left, first) {
            // Other devices have numbers that only the machine knows.
            let is_loopback = name.as_str() == LOOPBACK_NAME && first == last;
            low = is_loopback.then(|| LOOPBACK.to_ne_bytes().to_vec())?;
        } else if let Scalar::Interface(name) = first
            && let Some(stem) = name.as_str().strip_suffix('*')
        {
            low.truncate(stem.len());
        }
        if first == last {
            self.load_all(left)?;
            self.compare(operator, &low);
            return Some(());
        }
        if let (Some(bits), Expr::Payload(payload)) = (prefix_len(first, last).map(usize::from), left) {
            return self.in_prefix(*payload, operator, &low, bits);
        }
        self.load_all(left)?;
        if let Expr::Mark { .. } = left {
            self.swap_mark();
            low.reverse();
            high.reverse();
        } else if !datatype::is_ordered(&first.scalar_type()) {
            return None;
        }
        if negated {
            self.push("range", |data| {
                data.put_u32(x::RANGE_SREG, register_at(0));
                data.put_u32(x::RANGE_OPERATOR, operator);
                data.nest(x::RANGE_FROM, |data| data.put(element::VALUE, &low));
                data.nest(x::RANGE_TO, |data| data.put(element::VALUE, &high));
            });
        } else {
            self.compare(x::CMP_AT_LEAST, &low);
            self.compare(x::CMP_AT_MOST, &high);
        }
        Some(())
    }

    /// The bytes of a prefix, if it has whole ones; else its bits.
    fn in_prefix(&mut self, payload: Payload, operator: u32, address: &[u8], bits: usize) -> Option<()> {
        let n_bytes = bits / 8;
        if bits > 0 && bits.is_multiple_of(8) {
            self.load_payload(payload, u32::try_from(n_bytes).ok(), 0)?;
            self.compare(operator, address.get(..n_bytes)?);
            return Some(());
        }
        let mut mask = vec![0xff; n_bytes];
        mask.push(!0xff_u8.checked_shr(u32::try_from(bits % 8).ok()?)?);
        mask.resize(address.len(), 0);
        self.load_payload(payload, None, 0)?;
        self.bitwise(&mask, &vec![0; address.len()]);
        self.compare(operator, address);
        Some(())
    }

    fn ct_state(&mut self, states: u8, negated: bool) -> Option<()> {
        let bits = u32::from(states);
        self.load_ct(x::CT_STATE);
        match (negated, states.count_ones()) {
            (_, 0) => return None,
            (false, _) => {
                self.bitwise(&bits.to_ne_bytes(), &[0; 4]);
                self.compare(x::CMP_NOT_EQUAL, &[0; 4]);
            }
            (true, 1) => self.compare(x::CMP_NOT_EQUAL, &bits.to_ne_bytes()),
            (true, _) => self.look_up_anonymous("__set%d", None, true)?,
        }
        Some(())
    }

    fn set_mark(&mut self, mask: u32, value: u32) {
        if mask == u32::MAX {
            self.immediate(0, &Data::values([Scalar::Mark(value)]));
        } else {
            self.load_meta(x::META_MARK, 0);
            self.bitwise(&(!mask).to_ne_bytes(), &value.to_ne_bytes());
        }
        self.push("meta", |data| {
            data.put_u32(x::META_KEY, x::META_MARK);
            data.put_u32(x::META_SREG, register_at(0));
        });
    }

    fn dnat(&mut self, to: &NatTarget, how: NatFlags) -> Option<()> {
        // An address has one long register, and what a map gives stands side by side.
        let port_register = register_at(4);
        let (family, address, port, mut bits) = match to {
            NatTarget::Addr(addr, port) => {
                self.immediate(0, &Data::values([Scalar::from(*addr)]));
                if let Some(port) = port {
                    self.immediate(4, &Data::values([Scalar::Port(*port)]));
                }
                let bits = if port.is_some() { x::RANGE_PORTS } else { 0 };
                (IpFamily::of(*addr), Some(register_at(0)), port.map(|_| port_register), bits)
            }
            NatTarget::Port(port) => {
                self.immediate(0, &Data::values([Scalar::Port(*port)]));
                (self.family, None, Some(register_at(0)), x::RANGE_PORTS)
            }
            NatTarget::Map { family, key, map } => {
                self.load_key(key)?;
                let has_port = self.gives_ports(map)?;
                self.look_up(map, Some(register_at(0)))?;
                let after = match family {
                    IpFamily::V4 => register_at(1),
                    IpFamily::V6 => port_register,
                };
                (*family, Some(register_at(0)), has_port.then_some(after), 0)
            }
        };
        if family != self.family {
            return None;
        }
        bits |= flags(how);
        self.push("nat", |data| {
            data.put_u32(x::NAT_TYPE, x::NAT_DNAT);
            data.put_u32(x::NAT_FAMILY, u32::from(family.number()));
            if let Some(register) = address {
                data.put_u32(x::NAT_ADDRESS, register);
            }
            if let Some(register) = port {
                data.put_u32(x::NAT_PORT, register);
            }
            if bits != 0 {
                data.put_u32(x::NAT_FLAGS, bits);
            }
        });
        Some(())
    }

    /// Whether a map of destinations gives ports, too.
    fn gives_ports(&self, map: &MapRef) -> Option<bool> {
        match map {
            MapRef::Named(name) => match &self.table.sets.get(name)?.data {
                Some(DataType::Values(types)) => Some(types.len() > 1),
                Some(DataType::Verdict) | None => None,
            },
            MapRef::Anonymous(entries) => match entries.first() {
                Some((_, Data::Values(values))) => Some(values.len() > 1),
                Some((_, Data::Verdict(_))) | None => None,
            },
        }
    }

    fn update(&mut self, op: SetOp, set: &Name, key: &Expr, timeout: Option<u32>) -> Option<()> {
        self.load_key(key)?;
        let operation = match op {
            SetOp::Add => 0,
            SetOp::Update => 1,
            SetOp::Delete => 2,
        };
        self.push("dynset", |data| {
            data.put_u32(x::DYNSET_SREG_KEY, register_at(0));
            data.put_u32(x::DYNSET_OPERATION, operation);
            data.put_text(x::DYNSET_SET, set.as_str());
            if let Some(seconds) = timeout {
                data.put_u64(x::DYNSET_TIMEOUT, u64::from(seconds) * 1000);
            }
        });
        Some(())
    }

    fn look_up(&mut self, map: &MapRef, to: Option<u32>) -> Option<()> {
        match map {
            MapRef::Named(name) => self.look_up_named(name, to, false),
            MapRef::Anonymous(_) => self.look_up_anonymous("__map%d", to, false),
        }
    }

    fn look_up_named(&mut self, name: &Name, to: Option<u32>, negated: bool) -> Option<()> {
        let set = self.table.sets.get(name)?;
        // Keys of devices are names, and an interval of names is none.
        if set.flags.interval && set.key.len() == 1 && !datatype::is_ordered(set.key.first()?) {
            return None;
        }
        self.push_lookup(name.as_str(), None, to, negated);
        Some(())
    }

    fn look_up_anonymous(&mut self, name: &str, to: Option<u32>, negated: bool) -> Option<()> {
        let id = self.sets.next()?;
        self.push_lookup(name, Some(id), to, negated);
        Some(())
    }

    fn push_lookup(&mut self, name: &str, id: Option<u32>, to: Option<u32>, negated: bool) {
        self.push("lookup", |data| {
            data.put_u32(x::LOOKUP_SREG, register_at(0));
            if let Some(register) = to {
                data.put_u32(x::LOOKUP_DREG, register);
            }
            data.put_text(x::LOOKUP_SET, name);
            if let Some(id) = id {
                data.put_u32(x::LOOKUP_SET_ID, id);
            }
            if negated {
                data.put_u32(x::LOOKUP_FLAGS, x::LOOKUP_INVERTED);
            }
        });
    }

    /// Loads what is looked up. Sets have devices by name.
    fn load_key(&mut self, key: &Expr) -> Option<()> {
        let by_number = |part: &Expr| matches!(part, Expr::Meta(Meta::Input | Meta::Output));
        if key.parts().iter().any(by_number) { None } else { self.load_all(key) }
    }

    /// Loads the parts of an expression side by side, from the first register on.
    fn load_all(&mut self, expr: &Expr) -> Option<()> {
        for part in expr.parts() {
            if let Expr::Payload(Payload::SourcePort(transport) | Payload::DestinationPort(transport)) = part
            {
                self.need_protocol(*transport)?;
            }
        }
        let is_alone = expr.parts().len() == 1;
        let mut place = 0;
        for part in expr.parts() {
            // Only a value by itself can be worked on in its register.
            let is_masked = matches!(part, Expr::Mark { mask } if *mask != u32::MAX);
            if !is_alone && is_masked {
                return None;
            }
            self.load(part, place)?;
            place += datatype::length(&part.scalar_type()).div_ceil(4);
        }
        (place <= REGISTERS).then_some(())
    }

    fn load(&mut self, part: &Expr, place: usize) -> Option<()> {
        match part {
            Expr::Payload(payload) => self.load_payload(*payload, None, place)?,
            Expr::Meta(meta) => self.load_meta(meta_key(*meta), place),
            Expr::Mark { mask } => {
                self.load_meta(x::META_MARK, place);
                if *mask != u32::MAX {
                    self.bitwise(&mask.to_ne_bytes(), &[0; 4]);
                }
            }
            Expr::FibType { source } => self.push("fib", |data| {
                data.put_u32(x::FIB_FLAGS, if *source { x::FIB_SOURCE } else { x::FIB_DESTINATION });
                data.put_u32(x::FIB_RESULT, x::FIB_TYPE);
                data.put_u32(x::FIB_DREG, register_at(place));
            }),
            Expr::Numgen { mode, modulus, offset } => self.push("numgen", |data| {
                data.put_u32(x::NUMGEN_DREG, register_at(place));
                data.put_u32(x::NUMGEN_MODULUS, *modulus);
                data.put_u32(
                    x::NUMGEN_TYPE,
                    match mode {
                        NumgenMode::Random => x::NUMGEN_RANDOM,
                        NumgenMode::Increment => x::NUMGEN_INCREMENT,
                    },
                );
                data.put_u32(x::NUMGEN_OFFSET, *offset);
            }),
            Expr::Concat(_) => return None,
        }
        Some(())
    }

    /// The first bytes of a field, or all of it.
    fn load_payload(&mut self, payload: Payload, bytes: Option<u32>, place: usize) -> Option<()> {
        if let Payload::SourceAddr(family) | Payload::DestinationAddr(family) | Payload::NextProtocol(family) =
            payload
            && family != self.family
        {
            return None;
        }
        let (base, offset, length) = location(payload);
        self.push("payload", |data| {
            data.put_u32(x::PAYLOAD_DREG, register_at(place));
            data.put_u32(x::PAYLOAD_BASE, base);
            data.put_u32(x::PAYLOAD_OFFSET, offset);
            data.put_u32(x::PAYLOAD_LENGTH, bytes.unwrap_or(length));
        });
        Some(())
    }

    /// Makes sure that a packet has the header that comes to be looked at.
    fn need_protocol(&mut self, transport: Transport) -> Option<()> {
        let Some(number) = transport.protocol().map(Protocol::number) else { return Some(()) };
        match self.protocol {
            Some(known) => (known == number).then_some(()),
            None => {
                self.load_meta(x::META_L4PROTO, 0);
                self.compare(x::CMP_EQUAL, &[number]);
                self.protocol = Some(number);
                Some(())
            }
        }
    }

    fn load_meta(&mut self, key: u32, place: usize) {
        self.push("meta", |data| {
            data.put_u32(x::META_KEY, key);
            data.put_u32(x::META_DREG, register_at(place));
        });
    }

    fn load_ct(&mut self, key: u32) {
        self.push("ct", |data| {
            data.put_u32(x::CT_KEY, key);
            data.put_u32(x::CT_DREG, register_at(0));
        });
    }

    fn bitwise(&mut self, mask: &[u8], xor: &[u8]) {
        self.push("bitwise", |data| {
            data.put_u32(x::BITWISE_SREG, register_at(0));
            data.put_u32(x::BITWISE_DREG, register_at(0));
            data.put_u32(x::BITWISE_LENGTH, u32::try_from(mask.len()).unwrap_or(u32::MAX));
            data.nest(x::BITWISE_MASK, |data| data.put(element::VALUE, mask));
            data.nest(x::BITWISE_XOR, |data| data.put(element::VALUE, xor));
        });
    }

    /// Puts the mark into network order, in which larger marks have larger bytes.
    fn swap_mark(&mut self) {
        self.push("byteorder", |data| {
            data.put_u32(x::BYTEORDER_SREG, register_at(0));
            data.put_u32(x::BYTEORDER_DREG, register_at(0));
            data.put_u32(x::BYTEORDER_OPERATOR, x::BYTEORDER_TO_NETWORK);
            data.put_u32(x::BYTEORDER_LENGTH, 4);
            data.put_u32(x::BYTEORDER_SIZE, 4);
        });
    }

    fn compare(&mut self, operator: u32, with: &[u8]) {
        self.push("cmp", |data| {
            data.put_u32(x::CMP_SREG, register_at(0));
            data.put_u32(x::CMP_OPERATOR, operator);
            data.nest(x::CMP_DATA, |data| data.put(element::VALUE, with));
        });
    }

    fn immediate(&mut self, place: usize, data: &Data) {
        self.push("immediate", |buffer| {
            buffer.put_u32(x::IMMEDIATE_DREG, register_at(place));
            buffer.nest(x::IMMEDIATE_DATA, |buffer| push_data(buffer, data));
        });
    }

    fn verdict(&mut self, verdict: &Verdict) {
        self.push("immediate", |data| {
            data.put_u32(x::IMMEDIATE_DREG, register::VERDICT);
            data.nest(x::IMMEDIATE_DATA, |data| push_verdict(data, verdict));
        });
    }
}

/// The number of what is known about a packet.
fn meta_key(meta: Meta) -> u32 {
    match meta {
        Meta::L4Proto => x::META_L4PROTO,
        Meta::NfProto => x::META_NFPROTO,
        Meta::InputName => x::META_IIFNAME,
        Meta::OutputName => x::META_OIFNAME,
        Meta::Input => x::META_IIF,
        Meta::Output => x::META_OIF,
    }
}
