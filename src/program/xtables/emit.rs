//! Writes rules and whole rule sets as text, in the form in which iptables-save (1.8.9) prints them.
//!
//! A rule set may have hundreds of thousands of rules: everything is written into one buffer, with no intermediate
//! strings.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;

use crate::net::{AddrPort, IpCidr, IpFamily};
pub use crate::program::emitted::{Emitted, LineTags};
use crate::program::text::{in_pieces, write_decimal, write_hex, write_ip, write_ipv4, write_ipv6};

use super::word::Words;
use super::{
    AddrMatch, Chain, ChainName, ConntrackStates, InterfaceMatch, IpvsMatch, Match, Policy, PortRange,
    Recent, RecentAction, Rule, Ruleset, SetMatch, Table, TableName, Target, bytecode, protocol,
};

/// A text in the making that counts its lines.
pub(super) struct Document<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) line: u32,
    pub(super) tags: Option<&'a mut LineTags>,
}

impl Document<'_> {
    /// A line of its own.
    pub(super) fn line(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.out.extend_from_slice(part);
        }
        self.out.push(b'\n');
        self.line += 1;
    }

    /// A rule at the end of its chain.
    pub(super) fn rule(&mut self, family: IpFamily, chain: &ChainName, rule: &Rule) {
        self.note(rule);
        write_rule(self.out, family, chain, rule);
    }

    /// A rule at the head of its chain.
    pub(super) fn first_rule(&mut self, family: IpFamily, chain: &ChainName, rule: &Rule) {
        self.note(rule);
        self.out.extend_from_slice(b"-I ");
        self.out.extend_from_slice(chain.as_bytes());
        self.out.extend_from_slice(b" 1");
        write_body(self.out, family, rule);
        self.out.push(b'\n');
    }

    fn note(&mut self, rule: &Rule) {
        self.line += 1;
        if let Some(tags) = &mut self.tags {
            tags.note(self.line, rule.tag);
        }
    }
}

/// The words that follow `iptables -A CHAIN`, one argument each, without quotes.
pub fn rule_args(rule: &Rule, family: IpFamily) -> Vec<String> {
    let mut body = Vec::with_capacity(128);
    write_body(&mut body, family, rule);
    let body = String::from_utf8_lossy(&body);
    Words::all(&body).into_iter().map(std::borrow::Cow::into_owned).collect()
}

/// What follows `-A CHAIN` in a line, as iptables-save prints it.
pub fn rule_text(rule: &Rule, family: IpFamily) -> String {
    let mut body = Vec::with_capacity(128);
    write_body(&mut body, family, rule);
    String::from_utf8_lossy(body.trim_ascii_start()).into_owned()
}

/// Writes one `-A CHAIN ...` line.
pub fn write_rule(out: &mut Vec<u8>, family: IpFamily, chain: &ChainName, rule: &Rule) {
    out.extend_from_slice(b"-A ");
    out.extend_from_slice(chain.as_bytes());
    write_body(out, family, rule);
    out.push(b'\n');
}

/// Writes a document for iptables-restore that says everything: all chains of all tables, built-in chains first. Every
/// line of `header` becomes a comment at its head.
pub fn write_document(out: &mut Vec<u8>, ruleset: &Ruleset, header: &str) {
    let Ok(()) = document::<Infallible>(out, ruleset, header, None, |_| Ok(()));
}

/// The same document with the tags of its lines.
pub fn emit(ruleset: &Ruleset, header: &str) -> Emitted {
    let mut emitted = Emitted::default();
    let Ok(()) =
        document::<Infallible>(&mut emitted.text, ruleset, header, Some(&mut emitted.lines), |_| Ok(()));
    emitted
}

/// Writes the same document to a writer, piece by piece.
pub fn write_document_to(out: &mut dyn io::Write, ruleset: &Ruleset, header: &str) -> io::Result<()> {
    in_pieces(out, |buffer, spill| document(buffer, ruleset, header, None, spill))
}

fn document<E>(
    out: &mut Vec<u8>,
    ruleset: &Ruleset,
    header: &str,
    tags: Option<&mut LineTags>,
    mut spill: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let mut document = Document { out, line: 0, tags };
    for line in header.lines() {
        document.line(&[if line.starts_with('#') { b"" } else { b"# " }, line.as_bytes()]);
    }
    for (name, table) in &ruleset.tables {
        if table.chains.is_empty() {
            continue;
        }
        document.line(&[b"*", name.as_str().as_bytes()]);
        for (chain, content) in in_order(*name, table) {
            let policy: &[u8] = match content.policy {
                Some(Policy::Accept) => b" ACCEPT [0:0]",
                Some(Policy::Drop) => b" DROP [0:0]",
                None => b" - [0:0]",
            };
            document.line(&[b":", chain.as_bytes(), policy]);
            spill(document.out)?;
        }
        for (chain, content) in in_order(*name, table) {
            for rule in &content.rules {
                document.rule(ruleset.family, chain, rule);
                spill(document.out)?;
            }
        }
        document.line(&[b"COMMIT"]);
    }
    Ok(())
}

/// Built-in chains in the order of their hooks, then the others by name.
fn in_order(name: TableName, table: &Table) -> impl Iterator<Item = (&ChainName, &Chain)> {
    let built_in = name.built_in_chains();
    let first = built_in.iter().filter_map(|chain| table.chains.get_key_value(&ChainName::literal(chain)));
    // The slice is short; nearly all names differ in the first byte.
    let is_built_in = |chain: &ChainName| built_in.iter().any(|one| one.as_bytes() == chain.as_bytes());
    first.chain(table.chains.iter().filter(move |(chain, _)| !is_built_in(chain)))
}

fn write_body(out: &mut Vec<u8>, family: IpFamily, rule: &Rule) {
    if let Some(source) = &rule.source {
        write_address(out, source, b" -s ");
    }
    if let Some(destination) = &rule.destination {
        write_address(out, destination, b" -d ");
    }
    if let Some(interfaces) = &rule.interfaces {
        if let Some(input) = &interfaces.input {
            write_interface(out, input, b" -i ");
        }
        if let Some(output) = &interfaces.output {
            write_interface(out, output, b" -o ");
        }
    }
    if let Some(matched) = rule.protocol {
        write_negation(out, matched.negated);
        out.extend_from_slice(b" -p ");
        match protocol::name(matched.number) {
            Some(name) => out.extend_from_slice(name.as_bytes()),
            None => write_decimal(out, u64::from(matched.number)),
        }
    }
    for one in &rule.matches {
        write_match(out, family, one);
    }
    if let Some(target) = &rule.target {
        write_target(out, family, target);
    }
}

fn write_negation(out: &mut Vec<u8>, negated: bool) {
    if negated {
        out.extend_from_slice(b" !");
    }
}

fn write_address(out: &mut Vec<u8>, matched: &AddrMatch, option: &[u8]) {
    write_negation(out, matched.negated);
    out.extend_from_slice(option);
    write_cidr(out, &matched.cidr);
}

fn write_interface(out: &mut Vec<u8>, matched: &InterfaceMatch, option: &[u8]) {
    write_negation(out, matched.negated);
    out.extend_from_slice(option);
    out.extend_from_slice(matched.name.as_bytes());
}

/// A match as it stands in a rule.
pub(super) fn match_text(one: &Match, family: IpFamily) -> String {
    let mut text = Vec::new();
    write_match(&mut text, family, one);
    String::from_utf8_lossy(&text).trim_start().to_owned()
}

fn write_match(out: &mut Vec<u8>, family: IpFamily, one: &Match) {
    match one {
        Match::Comment(text) => {
            out.extend_from_slice(b" -m comment --comment");
            write_string(out, text);
        }
        Match::Ports(ports) => {
            out.extend_from_slice(b" -m ");
            out.extend_from_slice(ports.protocol.name().as_bytes());
            if let Some(range) = &ports.source {
                write_ports(out, range, b" --sport ");
            }
            if let Some(range) = &ports.destination {
                write_ports(out, range, b" --dport ");
            }
        }
        Match::Probability(probability) => {
            out.extend_from_slice(b" -m statistic --mode random --probability ");
            write_probability(out, *probability);
        }
        Match::Mark(mark) => {
            out.extend_from_slice(b" -m mark");
            write_negation(out, mark.negated);
            out.extend_from_slice(b" --mark 0x");
            write_hex(out, mark.value);
            if mark.mask != u32::MAX {
                out.extend_from_slice(b"/0x");
                write_hex(out, mark.mask);
            }
        }
        Match::Conntrack(states) => {
            out.extend_from_slice(b" -m conntrack");
            write_negation(out, states.negated);
            out.extend_from_slice(b" --ctstate");
            let mut separator = b' ';
            for (_, name) in ConntrackStates::NAMES.iter().filter(|(bit, _)| states.bits & bit != 0) {
                out.push(separator);
                out.extend_from_slice(name.as_bytes());
                separator = b',';
            }
        }
        Match::AddrType(kind) => {
            out.extend_from_slice(b" -m addrtype");
            if let Some(negated) = kind.source_local {
                write_negation(out, negated);
                out.extend_from_slice(b" --src-type LOCAL");
            }
            if let Some(negated) = kind.destination_local {
                write_negation(out, negated);
                out.extend_from_slice(b" --dst-type LOCAL");
            }
        }
        Match::Recent(recent) => write_recent(out, family, recent),
        Match::Nfacct(name) => {
            out.extend_from_slice(b" -m nfacct --nfacct-name");
            write_string(out, name);
        }
        Match::Set(asked) => write_set(out, asked),
        Match::Ipvs(asked) => write_ipvs(out, asked),
        Match::PhysdevIsIn { negated } => {
            out.extend_from_slice(b" -m physdev");
            write_negation(out, *negated);
            out.extend_from_slice(b" --physdev-is-in");
        }
        Match::ToItself => {
            out.extend_from_slice(b" -m bpf --bytecode");
            write_string(out, bytecode::to_itself(family));
        }
        Match::Unmodelled(text) => write_raw(out, text),
    }
}

fn write_set(out: &mut Vec<u8>, asked: &SetMatch) {
    out.extend_from_slice(b" -m set");
    write_negation(out, asked.negated);
    out.extend_from_slice(b" --match-set ");
    out.extend_from_slice(asked.set.as_str().as_bytes());
    let mut separator = b' ';
    for direction in &asked.directions {
        out.push(separator);
        out.extend_from_slice(direction.as_str().as_bytes());
        separator = b',';
    }
}

fn write_ipvs(out: &mut Vec<u8>, asked: &IpvsMatch) {
    out.extend_from_slice(b" -m ipvs");
    if let Some(protocol) = asked.protocol {
        write_negation(out, protocol.negated);
        out.extend_from_slice(b" --vproto ");
        write_decimal(out, u64::from(protocol.number));
    }
    if let Some(address) = &asked.address {
        write_negation(out, address.negated);
        out.extend_from_slice(b" --vaddr ");
        // Here a host has no length.
        if address.cidr.is_host() {
            write_ip(out, address.cidr.network());
        } else {
            write_cidr(out, &address.cidr);
        }
    }
    if let Some((port, negated)) = asked.port {
        write_negation(out, negated);
        out.extend_from_slice(b" --vport ");
        write_decimal(out, u64::from(port));
    }
}

fn write_recent(out: &mut Vec<u8>, family: IpFamily, recent: &Recent) {
    out.extend_from_slice(b" -m recent");
    match recent.action {
        RecentAction::Set => out.extend_from_slice(b" --set"),
        RecentAction::Check { seconds, reap } => {
            out.extend_from_slice(b" --rcheck --seconds ");
            write_decimal(out, u64::from(seconds));
            if reap {
                out.extend_from_slice(b" --reap");
            }
        }
    }
    out.extend_from_slice(b" --name ");
    out.extend_from_slice(recent.list.as_bytes());
    out.extend_from_slice(match family {
        IpFamily::V4 => b" --mask 255.255.255.255 --rsource".as_slice(),
        IpFamily::V6 => b" --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource",
    });
}

fn write_target(out: &mut Vec<u8>, family: IpFamily, target: &Target) {
    match target {
        Target::Jump(chain) => {
            out.extend_from_slice(b" -j ");
            out.extend_from_slice(chain.as_bytes());
        }
        Target::Goto(chain) => {
            out.extend_from_slice(b" -g ");
            out.extend_from_slice(chain.as_bytes());
        }
        Target::Accept => out.extend_from_slice(b" -j ACCEPT"),
        Target::Drop => out.extend_from_slice(b" -j DROP"),
        Target::Return => out.extend_from_slice(b" -j RETURN"),
        Target::Reject(with) => {
            out.extend_from_slice(b" -j REJECT --reject-with ");
            out.extend_from_slice(with.name(family).as_bytes());
        }
        Target::Mark { value, mask } => {
            out.extend_from_slice(b" -j MARK --set-xmark 0x");
            write_hex(out, *value);
            out.extend_from_slice(b"/0x");
            write_hex(out, *mask);
        }
        Target::Masquerade { random_fully } => {
            out.extend_from_slice(b" -j MASQUERADE");
            if *random_fully {
                out.extend_from_slice(b" --random-fully");
            }
        }
        Target::Dnat(to) => {
            out.extend_from_slice(b" -j DNAT --to-destination ");
            write_addr_port(out, to);
        }
        Target::Redirect(port) => {
            out.extend_from_slice(b" -j REDIRECT --to-ports ");
            write_decimal(out, u64::from(*port));
        }
        Target::Unmodelled(text) => write_raw(out, text),
    }
}

fn write_raw(out: &mut Vec<u8>, text: &str) {
    out.push(b' ');
    out.extend_from_slice(text.as_bytes());
}

/// A word as iptables writes a string: in quotes unless all its characters are harmless.
fn write_string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !bytes.is_empty() && bytes.iter().all(harmless) {
        out.push(b' ');
        out.extend_from_slice(bytes);
        return;
    }
    out.extend_from_slice(b" \"");
    // Without an early end, so that many bytes are looked at in one step.
    if bytes.iter().fold(false, |any, byte| any | is_escaped(*byte)) {
        for byte in bytes {
            if is_escaped(*byte) {
                out.push(b'\\');
            }
            out.push(*byte);
        }
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'"');
}

fn is_escaped(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte == b'\'')
}

fn write_ports(out: &mut Vec<u8>, range: &PortRange, option: &[u8]) {
    write_negation(out, range.negated);
    out.extend_from_slice(option);
    write_decimal(out, u64::from(range.first));
    if range.last != range.first {
        out.push(b':');
        write_decimal(out, u64::from(range.last));
    }
}

/// As `printf("%.11f")` of `probability / 2^31`: halves go to the even neighbour.
fn write_probability(out: &mut Vec<u8>, probability: u32) {
    const SCALE: u128 = 100_000_000_000;
    let scaled = u128::from(probability) * SCALE;
    let (mut whole, rest) = (scaled >> 31, scaled & ((1 << 31) - 1));
    if rest > 1 << 30 || (rest == 1 << 30 && whole & 1 == 1) {
        whole += 1;
    }
    write_decimal(out, (whole / SCALE) as u64);
    out.push(b'.');
    let mut fraction = (whole % SCALE) as u64;
    let mut digits = [b'0'; 11];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (fraction % 10) as u8;
        fraction /= 10;
    }
    out.extend_from_slice(&digits);
}

fn write_cidr(out: &mut Vec<u8>, cidr: &IpCidr) {
    write_ip(out, cidr.network());
    out.push(b'/');
    write_decimal(out, u64::from(cidr.prefix_len()));
}

fn write_addr_port(out: &mut Vec<u8>, to: &AddrPort) {
    match to.addr {
        IpAddr::V4(addr) => write_ipv4(out, addr),
        IpAddr::V6(addr) => {
            out.push(b'[');
            write_ipv6(out, addr);
            out.push(b']');
        }
    }
    out.push(b':');
    write_decimal(out, u64::from(to.port));
}
