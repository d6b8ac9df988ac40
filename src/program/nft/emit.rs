//! Writes tables as text for `nft -f`, in the spelling of kube-proxy where it has one.
//!
//! A table may have tens of thousands of chains: everything is written into one buffer, with no intermediate strings.
//! Names and comments cannot hold what would need escaping, and numbers are numbers: nothing here quotes.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;

use crate::program::emitted::{Emitted, LineTags};
use crate::program::text::{in_pieces, write_decimal, write_hex, write_ip};

use super::statement::{write_scalar, write_stmt};
use super::value::prefix_len;
use super::{
    Chain, Comment, Data, DataType, Element, Family, Key, Name, Policy, Rule, ScalarType, Set, Stmt, Table,
    Transport, Verdict,
};

/// How many elements stand in one command.
pub(super) const ELEMENTS_PER_COMMAND: usize = 1000;

/// A text in the making that counts its lines.
pub(super) struct Document<'a> {
    pub(super) out: &'a mut Vec<u8>,
    line: u32,
    tags: Option<&'a mut LineTags>,
    family: Family,
    /// Family and table, with a space after each.
    table: Vec<u8>,
}

impl<'a> Document<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, tags: Option<&'a mut LineTags>, table: &Table) -> Document<'a> {
        let prefix = format!("{} {} ", table.family, table.name).into_bytes();
        Document { out, line: 0, tags, family: table.family, table: prefix }
    }

    pub(super) fn into_emitted(table: &Table, write: impl FnOnce(&mut Document<'_>)) -> Emitted {
        let mut emitted = Emitted::default();
        write(&mut Document::new(&mut emitted.text, Some(&mut emitted.lines), table));
        emitted
    }

    /// The line that is written next, from 1.
    pub(super) fn next_line(&self) -> u32 {
        self.line + 1
    }

    fn end_line(&mut self) {
        self.out.push(b'\n');
        self.line += 1;
    }

    fn header(&mut self, header: &str) {
        for line in header.lines() {
            self.out.extend_from_slice(if line.starts_with('#') { b"" } else { b"# " });
            self.out.extend_from_slice(line.as_bytes());
            self.end_line();
        }
    }

    /// A command on an object of the table.
    fn begin(&mut self, command: &str, object: &Name) {
        self.out.extend_from_slice(command.as_bytes());
        self.out.extend_from_slice(&self.table);
        self.out.extend_from_slice(object.as_bytes());
    }

    /// A command that needs no more than a name.
    pub(super) fn command(&mut self, command: &str, object: &Name) {
        self.begin(command, object);
        self.end_line();
    }

    /// A command on the table itself, as `delete table `.
    pub(super) fn table_command(&mut self, command: &str) {
        self.out.extend_from_slice(command.as_bytes());
        let len = self.table.len() - 1;
        self.out.extend_from_slice(&self.table[..len]);
        self.end_line();
    }

    pub(super) fn table(&mut self, table: &Table) {
        self.out.extend_from_slice(b"add table ");
        let len = self.table.len() - 1;
        self.out.extend_from_slice(&self.table[..len]);
        if let Some(comment) = &table.comment {
            self.out.extend_from_slice(b" {");
            self.property(comment);
            self.out.extend_from_slice(b" }");
        }
        self.end_line();
    }

    fn property(&mut self, comment: &Comment) {
        write_comment(self.out, comment);
        self.out.extend_from_slice(b" ;");
    }

    /// A chain without its rules. `policy`: say also that it is to accept, as one must where it may be otherwise.
    pub(super) fn chain(&mut self, name: &Name, chain: &Chain, policy: bool) {
        self.begin("add chain ", name);
        if chain.base.is_some() || chain.comment.is_some() {
            self.out.extend_from_slice(b" {");
        }
        if let Some(base) = &chain.base {
            for part in [" type ", base.kind.as_str(), " hook ", base.hook.as_str(), " priority "] {
                self.out.extend_from_slice(part.as_bytes());
            }
            if base.priority < 0 {
                self.out.push(b'-');
            }
            write_decimal(self.out, u64::from(base.priority.unsigned_abs()));
            self.out.extend_from_slice(b" ;");
            match base.policy {
                Policy::Drop => self.out.extend_from_slice(b" policy drop ;"),
                Policy::Accept if policy => self.out.extend_from_slice(b" policy accept ;"),
                Policy::Accept => {}
            }
        }
        if let Some(comment) = &chain.comment {
            self.property(comment);
        }
        if chain.base.is_some() || chain.comment.is_some() {
            self.out.extend_from_slice(b" }");
        }
        self.end_line();
    }

    /// A set or map without its elements; `ports` as [`Table::ports_in`] tells.
    pub(super) fn set(&mut self, name: &Name, set: &Set, ports: Transport) {
        self.begin(if set.data.is_some() { "add map " } else { "add set " }, name);
        let by_example = set.is_by_example();
        let example = by_example.then_some(ports);
        self.out.extend_from_slice(if by_example { b" { typeof " } else { b" { type " });
        write_types(self.out, &set.key, example);
        match &set.data {
            Some(DataType::Verdict) => self.out.extend_from_slice(b" : verdict"),
            Some(DataType::Values(types)) => {
                self.out.extend_from_slice(b" : ");
                write_types(self.out, types, example);
            }
            None => {}
        }
        self.out.extend_from_slice(b" ;");
        let flags = [
            (set.flags.constant, "constant"),
            (set.flags.dynamic, "dynamic"),
            (set.flags.interval, "interval"),
            (set.flags.timeout, "timeout"),
        ];
        let mut separator: &[u8] = b" flags ";
        for (_, flag) in flags.iter().filter(|(is_set, _)| *is_set) {
            self.out.extend_from_slice(separator);
            self.out.extend_from_slice(flag.as_bytes());
            separator = b",";
        }
        if separator == b"," {
            self.out.extend_from_slice(b" ;");
        }
        if let Some(seconds) = set.timeout {
            self.out.extend_from_slice(b" timeout ");
            write_decimal(self.out, u64::from(seconds));
            self.out.extend_from_slice(b"s ;");
        }
        if let Some(size) = set.size {
            self.out.extend_from_slice(b" size ");
            write_decimal(self.out, u64::from(size));
            self.out.extend_from_slice(b" ;");
        }
        if let Some(comment) = &set.comment {
            self.property(comment);
        }
        self.out.extend_from_slice(b" }");
        self.end_line();
    }

    /// A rule at the end of its chain.
    pub(super) fn rule(&mut self, chain: &Name, rule: &Rule) {
        if let Some(tags) = &mut self.tags {
            tags.note(self.line + 1, rule.tag);
        }
        let unmodelled = rule.stmts.iter().find_map(Stmt::unmodelled);
        if let Some(json) = unmodelled {
            // It cannot be said in text, and less than all of it would be another rule.
            self.begin("# not modelled: rule of ", chain);
            self.out.push(b' ');
            self.out.extend_from_slice(json.as_bytes());
        } else {
            self.begin("add rule ", chain);
            write_rule_body(self.out, self.family, rule);
        }
        self.end_line();
    }

    /// Elements of a set, one a line.
    pub(super) fn add_elements<'e>(
        &mut self,
        name: &Name,
        mut elements: impl Iterator<Item = (&'e Key, &'e Element)>,
    ) {
        let mut next = elements.next();
        while next.is_some() {
            self.begin("add element ", name);
            self.out.extend_from_slice(b" {");
            self.end_line();
            for _ in 0..ELEMENTS_PER_COMMAND {
                let Some((key, element)) = next else { break };
                if let Some(tags) = &mut self.tags {
                    tags.note(self.line + 1, element.tag);
                }
                write_element(self.out, key, element);
                self.out.extend_from_slice(b" ,");
                self.end_line();
                next = elements.next();
            }
            self.out.push(b'}');
            self.end_line();
        }
    }

    /// Deletes elements of a set, one a line.
    pub(super) fn delete_elements<'e>(&mut self, name: &Name, keys: impl IntoIterator<Item = &'e Key>) {
        let mut keys = keys.into_iter().peekable();
        while keys.peek().is_some() {
            self.begin("delete element ", name);
            self.out.extend_from_slice(b" {");
            self.end_line();
            for key in keys.by_ref().take(ELEMENTS_PER_COMMAND) {
                write_key(self.out, key);
                self.out.extend_from_slice(b" ,");
                self.end_line();
            }
            self.out.push(b'}');
            self.end_line();
        }
    }
}

/// Writes a rule as its own line `add rule …`.
pub fn write_rule(out: &mut Vec<u8>, table: &Table, chain: &Name, rule: &Rule) {
    Document::new(out, None, table).rule(chain, rule);
}

/// A rule as nft prints it in its chain; what is not modelled as the JSON that nft printed.
pub fn rule_text(table: &Table, rule: &Rule) -> String {
    let mut text = Vec::new();
    for stmt in &rule.stmts {
        if !text.is_empty() {
            text.push(b' ');
        }
        match stmt.unmodelled() {
            Some(json) => text.extend_from_slice(json.as_bytes()),
            None => write_stmt(&mut text, table.family, stmt),
        }
    }
    if let Some(comment) = &rule.comment {
        write_comment(&mut text, comment);
    }
    String::from_utf8_lossy(text.trim_ascii_start()).into_owned()
}

/// A key as nft prints it: a value, an interval or a prefix, or several of them.
pub fn key_text(key: &Key) -> String {
    let mut text = Vec::new();
    write_key(&mut text, key);
    String::from_utf8_lossy(&text).into_owned()
}

/// Writes a document that makes a whole table where there is none. Every line of `header` becomes a comment at its head.
pub fn write_document(out: &mut Vec<u8>, table: &Table, header: &str) {
    let Ok(()) = document::<Infallible>(&mut Document::new(out, None, table), table, header, |_| Ok(()));
}

/// The same document with the tags of its lines.
pub fn emit(table: &Table, header: &str) -> Emitted {
    Document::into_emitted(table, |out| {
        let Ok(()) = document::<Infallible>(out, table, header, |_| Ok(()));
    })
}

/// Writes the same document to a writer, piece by piece.
pub fn write_document_to(out: &mut dyn io::Write, table: &Table, header: &str) -> io::Result<()> {
    in_pieces(out, |buffer, spill| document(&mut Document::new(buffer, None, table), table, header, spill))
}

/// Everything is made before it is used; elements come after the rules, since the kernel walks through a map for each
/// rule that binds it.
fn document<E>(
    out: &mut Document<'_>,
    table: &Table,
    header: &str,
    mut spill: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    out.header(header);
    out.table(table);
    for (name, chain) in table.chains.iter().filter(|(_, chain)| chain.base.is_some()) {
        out.chain(name, chain, false);
    }
    for (name, chain) in table.chains.iter().filter(|(_, chain)| chain.base.is_none()) {
        out.chain(name, chain, false);
        spill(out.out)?;
    }
    for (name, set) in &table.sets {
        out.set(name, set, table.ports_in(name));
        spill(out.out)?;
    }
    for (name, chain) in &table.chains {
        for rule in &chain.rules {
            out.rule(name, rule);
            spill(out.out)?;
        }
    }
    for (name, set) in table.sets.iter().filter(|(_, set)| !set.elements.is_empty()) {
        let mut elements = set.elements.iter().peekable();
        while elements.peek().is_some() {
            out.add_elements(name, elements.by_ref().take(ELEMENTS_PER_COMMAND));
            spill(out.out)?;
        }
    }
    Ok(())
}

fn write_rule_body(out: &mut Vec<u8>, family: Family, rule: &Rule) {
    for stmt in &rule.stmts {
        out.push(b' ');
        write_stmt(out, family, stmt);
    }
    if let Some(comment) = &rule.comment {
        write_comment(out, comment);
    }
}

fn write_comment(out: &mut Vec<u8>, comment: &Comment) {
    out.extend_from_slice(b" comment \"");
    out.extend_from_slice(comment.as_str().as_bytes());
    out.push(b'"');
}

/// Types by name, or by examples with the ports of a protocol.
fn write_types(out: &mut Vec<u8>, types: &[ScalarType], example: Option<Transport>) {
    for (nth, one) in types.iter().enumerate() {
        if nth > 0 {
            out.extend_from_slice(b" . ");
        }
        let word = match one {
            _ if example.is_none() => one.as_str(),
            ScalarType::Ipv4Addr => "ip daddr",
            ScalarType::Ipv6Addr => "ip6 daddr",
            ScalarType::InetProto => "meta l4proto",
            // `th dport` would be taken, but later no rule that looks into the map.
            ScalarType::InetService => match example.unwrap_or(Transport::Any) {
                Transport::Tcp | Transport::Any => "tcp dport",
                Transport::Udp => "udp dport",
                Transport::Sctp => "sctp dport",
            },
            ScalarType::Mark => "meta mark",
            ScalarType::Integer => "numgen random mod 1",
            ScalarType::Interface => "meta iifname",
            ScalarType::FibType => "fib daddr type",
            ScalarType::NfProto => "meta nfproto",
            ScalarType::Other(name) => name,
        };
        // The name of a type that is not modelled comes from outside.
        out.extend(word.bytes().filter(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b' ')));
    }
}

/// Writes an element without braces: key, comment, data.
pub fn write_element(out: &mut Vec<u8>, key: &Key, element: &Element) {
    write_key(out, key);
    if let Some(seconds) = element.timeout {
        out.extend_from_slice(b" timeout ");
        write_decimal(out, u64::from(seconds));
        out.push(b's');
    }
    if let Some(comment) = &element.comment {
        write_comment(out, comment);
    }
    if let Some(data) = &element.data {
        out.extend_from_slice(b" : ");
        write_data(out, data);
    }
}

pub(super) fn write_key(out: &mut Vec<u8>, key: &Key) {
    for (nth, (first, last)) in key.first().iter().zip(key.last()).enumerate() {
        if nth > 0 {
            out.extend_from_slice(b" . ");
        }
        write_scalar(out, first);
        if first == last {
            continue;
        }
        match prefix_len(first, last) {
            Some(len) => {
                out.push(b'/');
                write_decimal(out, u64::from(len));
            }
            None => {
                out.push(b'-');
                write_scalar(out, last);
            }
        }
    }
}

pub(super) fn write_data(out: &mut Vec<u8>, data: &Data) {
    match data {
        Data::Verdict(verdict) => write_verdict(out, verdict),
        Data::Values(values) => {
            for (nth, value) in values.iter().enumerate() {
                if nth > 0 {
                    out.extend_from_slice(b" . ");
                }
                write_scalar(out, value);
            }
        }
    }
}

pub(super) fn write_verdict(out: &mut Vec<u8>, verdict: &Verdict) {
    match verdict {
        Verdict::Accept => out.extend_from_slice(b"accept"),
        Verdict::Drop => out.extend_from_slice(b"drop"),
        Verdict::Continue => out.extend_from_slice(b"continue"),
        Verdict::Return => out.extend_from_slice(b"return"),
        Verdict::Jump(chain) => {
            out.extend_from_slice(b"jump ");
            out.extend_from_slice(chain.as_bytes());
        }
        Verdict::Goto(chain) => {
            out.extend_from_slice(b"goto ");
            out.extend_from_slice(chain.as_bytes());
        }
    }
}

/// As kube-proxy writes a mark: eight digits.
pub(super) fn write_mark(out: &mut Vec<u8>, mark: u32) {
    out.extend_from_slice(b"0x");
    let zeros = (mark | 1).leading_zeros() / 4;
    out.extend(std::iter::repeat_n(b'0', zeros as usize));
    write_hex(out, mark);
}

pub(super) fn write_addr(out: &mut Vec<u8>, addr: IpAddr) {
    write_ip(out, addr);
}
