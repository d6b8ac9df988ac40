//! One transaction as netlink messages, each of which knows the line of the text that says the same.

use crate::net::IpFamily;
use crate::program::nft::{
    Base, Chain, ChainKind, DataType, Element, Hook, Key, Name, Policy, Rule, ScalarType, Set, Table,
    Transport,
};

use super::anonymous::{self, Anonymous};
use super::attribute::{Attributes, Buffer, ByKind, place_of};
use super::datatype;
use super::element::{self, Layout};
use super::expression;
use super::uapi::{self, BATCH_BEGIN, BATCH_END, SUBSYSTEM, chain, flag, message, rule, set, table};
use super::userdata;

/// How many bytes of elements go into one message: the attribute that holds them can say 65,535, and no element has more
/// than 1,000.
const ELEMENTS_LIMIT: usize = 64_000;

/// Messages that the kernel takes as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// A message, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Where it begins.
    start: usize,
    /// The line of the text that says the same, from 1.
    line: u32,
    /// Whether each of its elements has a line of its own, one after the other.
    has_lines: bool,
}

impl Batch {
    /// The messages, with those that begin and end the transaction. The first has sequence number 0, each other one more, but
    /// the last, which nobody answers, has that of the one before it. That one is acknowledged.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many messages are numbered.
    pub fn n_messages(&self) -> usize {
        self.places.len() + 1
    }

    /// The line of the text that says what a message says which was refused. `sequence` is its number; `offset` is where in
    /// it the bad attribute begins, if the kernel told. `None` for the transaction as a whole.
    pub fn line(&self, sequence: usize, offset: Option<usize>) -> Option<usize> {
        let at = sequence.checked_sub(1)?;
        let place = self.places.get(at)?;
        let line = usize::try_from(place.line).ok()?;
        let end = self.places.get(at + 1).map_or(self.bytes.len(), |next| next.start);
        let message = self.bytes.get(place.start..end)?;
        match offset {
            Some(offset) if place.has_lines => Some(line + elements_before(message, offset)),
            Some(_) | None => Some(line),
        }
    }
}

/// How many elements stand before a place in a message. Where an interval ends is no element of its own.
fn elements_before(message: &[u8], offset: usize) -> usize {
    let Some((mut at, list)) = place_of(message, uapi::element::ELEMENTS) else { return 0 };
    let mut before = 0_usize;
    for (_, content) in Attributes::new(list) {
        let flags = ByKind::of(content).number(uapi::element::FLAGS);
        before += usize::from(flags.unwrap_or(0) & uapi::element::INTERVAL_END == 0);
        at += 4 + content.len().next_multiple_of(4);
        if offset < at {
            break;
        }
    }
    before.saturating_sub(1)
}

/// Writes the messages of a transaction on one table.
#[derive(Debug)]
pub(in crate::program::nft) struct BatchWriter<'t> {
    table: &'t Table,
    family: u8,
    buffer: Buffer,
    places: Vec<Place>,
    line: u32,
    last_set: u32,
    /// Where the flags of the message are that was written last.
    last_flags: usize,
    is_refused: bool,
}

impl<'t> BatchWriter<'t> {
    pub(in crate::program::nft) fn new(table: &'t Table) -> BatchWriter<'t> {
        let mut writer = BatchWriter {
            table,
            family: table.family.ip().map_or(0, IpFamily::number),
            buffer: Buffer::default(),
            places: Vec::new(),
            line: 0,
            last_set: 0,
            last_flags: 0,
            // What looks at addresses in tables of other families must first ask which they are.
            is_refused: table.family.ip().is_none(),
        };
        let start = writer.buffer.begin_message(BATCH_BEGIN, flag::REQUEST, 0, batch_header());
        writer.buffer.end_message(start);
        writer
    }

    /// The line of the text that says what is written next.
    pub(in crate::program::nft) fn at(&mut self, line: u32) -> &mut BatchWriter<'t> {
        self.line = line;
        self
    }

    /// The messages; `None` if something cannot be said in them.
    pub(in crate::program::nft) fn finish(mut self) -> Option<Batch> {
        if self.is_refused || self.buffer.is_too_long {
            return None;
        }
        if !self.places.is_empty() {
            let flags = flag::REQUEST | flag::ACK | self.flags_of_last();
            self.buffer.bytes[self.last_flags..self.last_flags + 2].copy_from_slice(&flags.to_ne_bytes());
        }
        let last = u32::try_from(self.places.len()).ok()?;
        let start = self.buffer.begin_message(BATCH_END, flag::REQUEST, last, batch_header());
        self.buffer.end_message(start);
        Some(Batch { bytes: self.buffer.bytes, places: self.places })
    }

    fn flags_of_last(&self) -> u16 {
        let at = self.last_flags;
        u16::from_ne_bytes([self.buffer.bytes[at], self.buffer.bytes[at + 1]])
    }

    /// Begins a message about the table, whose name comes first in each.
    fn begin(&mut self, kind: u16, flags: u16, has_lines: bool) -> usize {
        // The first is that of the transaction itself.
        let sequence = u32::try_from(self.places.len() + 1).unwrap_or(u32::MAX);
        let header = [self.family, 0, 0, 0];
        let start = self.buffer.begin_message(kind, flag::REQUEST | flags, sequence, header);
        self.places.push(Place { start, line: self.line, has_lines });
        self.last_flags = start + 6;
        self.buffer.put_text(table::NAME, self.table.name.as_str());
        start
    }

    fn refuse_unless(&mut self, done: Option<()>) {
        self.is_refused |= done.is_none();
    }

    pub(in crate::program::nft) fn table(&mut self) {
        let start = self.begin(message::NEW_TABLE, flag::CREATE, false);
        self.buffer.put_u32(table::FLAGS, 0);
        if let Some(comment) = &self.table.comment {
            self.buffer.put(table::USERDATA, &userdata::comment(userdata::COMMENT, comment));
        }
        self.buffer.end_message(start);
    }

    pub(in crate::program::nft) fn delete_table(&mut self) {
        let start = self.begin(message::DELETE_TABLE, 0, false);
        self.buffer.end_message(start);
    }

    /// A chain without its rules; of one that is there the policy.
    pub(in crate::program::nft) fn chain(&mut self, name: &Name, content: &Chain) {
        let start = self.begin(message::NEW_CHAIN, flag::CREATE, false);
        self.buffer.put_text(chain::NAME, name.as_str());
        if let Some(base) = &content.base {
            let done = self.base(base);
            self.refuse_unless(done);
        }
        if let Some(comment) = &content.comment {
            self.buffer.put(chain::USERDATA, &userdata::comment(userdata::COMMENT, comment));
        }
        self.buffer.end_message(start);
    }

    fn base(&mut self, base: &Base) -> Option<()> {
        let hook = hook_number(base.hook)?;
        self.buffer.put_text(
            chain::TYPE,
            match base.kind {
                ChainKind::Filter => "filter",
                ChainKind::Nat => "nat",
                ChainKind::Route => "route",
            },
        );
        let policy = match base.policy {
            Policy::Accept => uapi::verdict::ACCEPT,
            Policy::Drop => uapi::verdict::DROP,
        };
        self.buffer.put(chain::POLICY, &policy.to_be_bytes());
        self.buffer.nest(chain::HOOK, |buffer| {
            buffer.put_u32(chain::HOOK_NUMBER, hook);
            buffer.put(chain::HOOK_PRIORITY, &base.priority.to_be_bytes());
        });
        Some(())
    }

    /// Takes all rules from a chain.
    pub(in crate::program::nft) fn flush_chain(&mut self, name: &Name) {
        let start = self.begin(message::DELETE_RULE, 0, false);
        self.buffer.put_text(rule::CHAIN, name.as_str());
        self.buffer.end_message(start);
    }

    pub(in crate::program::nft) fn delete_chain(&mut self, name: &Name) {
        let start = self.begin(message::DELETE_CHAIN, 0, false);
        self.buffer.put_text(chain::NAME, name.as_str());
        self.buffer.end_message(start);
    }

    pub(in crate::program::nft) fn delete_set(&mut self, name: &Name) {
        let start = self.begin(message::DELETE_SET, 0, false);
        self.buffer.put_text(set::NAME, name.as_str());
        self.buffer.end_message(start);
    }

    /// A set or map without its elements; `ports` as [`Table::ports_in`] tells.
    pub(in crate::program::nft) fn set(&mut self, name: &Name, content: &Set, ports: Transport) {
        let types = datatype::number(&content.key);
        let is_known = Layout::of(content).takes(&content.key);
        let done = types.filter(|_| is_known).and_then(|key_type| {
            self.last_set += 1;
            let mut flags = 0;
            for (is_set, bit) in [
                (content.flags.constant, set::CONSTANT),
                (content.flags.dynamic, set::EVALUATED),
                (content.flags.timeout || content.timeout.is_some(), set::HAS_TIMEOUT),
            ] {
                flags |= if is_set { bit } else { 0 };
            }
            self.push_set(name.as_str(), content, ports, key_type, flags, content.size)
        });
        self.refuse_unless(done);
    }

    fn push_set(
        &mut self,
        name: &str,
        content: &Set,
        ports: Transport,
        key_type: u32,
        flags: u32,
        size: Option<u32>,
    ) -> Option<()> {
        let layout = Layout::of(content);
        let noted = userdata::set(content, ports)?;
        let data = match &content.data {
            None => None,
            Some(DataType::Verdict) => Some((set::VERDICTS, 0)),
            Some(DataType::Values(types)) => Some((datatype::number(types)?, datatype::length_of_all(types))),
        };
        let mut flags = flags;
        flags |= if content.flags.interval { set::INTERVAL } else { 0 };
        flags |= if layout == Layout::Ranges { set::CONCATENATED } else { 0 };
        flags |= if data.is_some() { set::MAP } else { 0 };
        let start = self.begin(message::NEW_SET, flag::CREATE, false);
        let (id, buffer) = (self.last_set, &mut self.buffer);
        buffer.put_text(set::NAME, name);
        buffer.put_u32(set::FLAGS, flags);
        buffer.put_u32(set::KEY_TYPE, key_type);
        buffer.put_u32(set::KEY_LENGTH, u32::try_from(datatype::length_of_all(&content.key)).ok()?);
        if let Some((number, length)) = data {
            buffer.put_u32(set::DATA_TYPE, number);
            buffer.put_u32(set::DATA_LENGTH, u32::try_from(length).ok()?);
        }
        buffer.put_u32(set::ID, id);
        if size.is_some() || layout == Layout::Ranges {
            buffer.nest(set::DESCRIPTION, |buffer| {
                if let Some(size) = size {
                    buffer.put_u32(set::DESCRIPTION_SIZE, size);
                }
                if layout == Layout::Ranges {
                    push_fields(buffer, &content.key);
                }
            });
        }
        if let Some(seconds) = content.timeout {
            buffer.put_u64(set::TIMEOUT, u64::from(seconds) * 1000);
        }
        buffer.put(set::USERDATA, &noted);
        buffer.end_message(start);
        Some(())
    }

    /// A rule at the end of its chain.
    pub(in crate::program::nft) fn rule(&mut self, name: &Name, content: &Rule) {
        let done = anonymous::of_rule(content).and_then(|sets| {
            let ids = sets.iter().map(|set| self.anonymous(set)).collect::<Option<Vec<u32>>>()?;
            let start = self.begin(message::NEW_RULE, flag::CREATE | flag::APPEND, false);
            self.buffer.put_text(rule::CHAIN, name.as_str());
            let list = self.buffer.begin_nest(rule::EXPRESSIONS);
            expression::push_rule(&mut self.buffer, self.table, content, ids)?;
            self.buffer.end(list);
            if let Some(comment) = &content.comment {
                self.buffer.put(rule::USERDATA, &userdata::comment(userdata::COMMENT, comment));
            }
            self.buffer.end_message(start);
            Some(())
        });
        self.refuse_unless(done);
    }

    /// A set that one rule owns: its number.
    fn anonymous(&mut self, anonymous: &Anonymous) -> Option<u32> {
        self.last_set += 1;
        let id = self.last_set;
        let content = &anonymous.set;
        let name = if content.data.is_some() { "__map%d" } else { "__set%d" };
        let layout = Layout::of(content);
        let has_start = layout == Layout::Ends && !begins_at_zero(content);
        let n_elements = content.elements.keys().map(|key| element::count(layout, key)).sum::<usize>();
        let size = u32::try_from(n_elements + usize::from(has_start)).ok();
        self.push_set(
            name,
            content,
            Transport::Any,
            anonymous.key_type,
            set::ANONYMOUS | set::CONSTANT,
            size,
        )?;
        let elements = content.elements.iter().map(|(key, element)| (key, Some(element)));
        let before = has_start.then(|| vec![0; datatype::length_of_all(&content.key)]);
        self.elements(message::NEW_ELEMENTS, (name, Some(id)), layout, before, elements)?;
        Some(id)
    }

    /// Elements of a set; each has a line of its own.
    pub(in crate::program::nft) fn add_elements<'e>(
        &mut self,
        name: &Name,
        elements: impl Iterator<Item = (&'e Key, &'e Element)>,
    ) {
        let Some(content) = self.table.sets.get(name) else { return };
        let elements = elements.map(|(key, element)| (key, Some(element)));
        let set = (name.as_str(), None);
        let done = self.elements(message::NEW_ELEMENTS, set, Layout::of(content), None, elements);
        self.refuse_unless(done);
    }

    /// Deletes elements of a set; each has a line of its own.
    pub(in crate::program::nft) fn delete_elements<'e>(
        &mut self,
        name: &Name,
        keys: impl Iterator<Item = &'e Key>,
    ) {
        let Some(content) = self.table.sets.get(name) else { return };
        let elements = keys.map(|key| (key, None));
        let set = (name.as_str(), None);
        let done = self.elements(message::DELETE_ELEMENTS, set, Layout::of(content), None, elements);
        self.refuse_unless(done);
    }

    /// Elements in as many messages as they need.
    fn elements<'e>(
        &mut self,
        kind: u16,
        (name, id): (&str, Option<u32>),
        layout: Layout,
        mut before: Option<Vec<u8>>,
        elements: impl Iterator<Item = (&'e Key, Option<&'e Element>)>,
    ) -> Option<()> {
        let first_line = self.line;
        let flags = if kind == message::NEW_ELEMENTS { flag::CREATE } else { 0 };
        let mut elements = elements.peekable();
        while elements.peek().is_some() {
            let start = self.begin(kind, flags, id.is_none());
            self.buffer.put_text(uapi::element::SET, name);
            if let Some(id) = id {
                self.buffer.put_u32(uapi::element::SET_ID, id);
            }
            let list = self.buffer.begin_nest(uapi::element::ELEMENTS);
            if let Some(key) = before.take() {
                element::push_end(&mut self.buffer, &key);
            }
            while self.buffer.bytes.len() - list < ELEMENTS_LIMIT
                && let Some((key, content)) = elements.next()
            {
                element::push(&mut self.buffer, layout, key, content)?;
                self.line += u32::from(id.is_none());
            }
            self.buffer.end(list);
            self.buffer.end_message(start);
        }
        self.line = first_line;
        Some(())
    }
}

/// `struct nfgenmsg` of a transaction: its subsystem in network order.
fn batch_header() -> [u8; 4] {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    [0, 0, high, low]
}

/// The lengths of values side by side.
fn push_fields(buffer: &mut Buffer, types: &[ScalarType]) {
    buffer.nest(set::DESCRIPTION_CONCAT, |buffer| {
        for one in types {
            let length = u32::try_from(datatype::length(one)).unwrap_or(u32::MAX);
            buffer.nest(rule::LIST_ELEMENT, |buffer| buffer.put_u32(set::FIELD_LENGTH, length));
        }
    });
}

fn begins_at_zero(content: &Set) -> bool {
    let mut first = Vec::new();
    if let Some(key) = content.elements.keys().next() {
        datatype::push_all(&mut first, key.first());
    }
    first.iter().all(|byte| *byte == 0)
}

/// The number of a hook in tables of IPv4 and IPv6 (enum nf_inet_hooks).
pub(super) fn hook_number(hook: Hook) -> Option<u32> {
    match hook {
        Hook::Prerouting => Some(0),
        Hook::Input => Some(1),
        Hook::Forward => Some(2),
        Hook::Output => Some(3),
        Hook::Postrouting => Some(4),
        Hook::Ingress | Hook::Egress => None,
    }
}
