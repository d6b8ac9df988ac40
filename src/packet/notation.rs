//! Packets and flows as text: `pod 10.128.0.9 -> 10.96.0.10:53/udp = 10.128.0.5:53|10.128.1.5:53`.
//!
//! ```text
//! packet    = origin [address [":" port]] ["via" interface] ["bridged" | "unbridged"] "->" destination "/" ("tcp" | "udp" | "sctp")
//! origin    = "pod" | "outside" | "node"
//! destination = address ":" port | "node:" port
//! flow      = packet "=" fate {"[" mode {"," mode} ":" (fate | "masq") "]"}
//! fate      = choice {"|" choice} ["masq"] | "reject" | "drop" | "none"
//! choice    = address ":" port ["+masq"] ["@" probability]
//! ```
//!
//! IPv6 addresses stand in brackets where a port follows. `node` without an address is the node's own address. `bridged`
//! says that a pod's packet came in by a port of a bridge, `unbridged` that it did not. What follows `#` is a comment.
//! Choices without a probability share what is left in equal parts.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::{char, digit1, space0, space1};
use nom::combinator::{map, opt, value};
use nom::error::{ErrorKind, ParseError};
use nom::multi::{many0, separated_list1};
use nom::number::complete::double;
use nom::sequence::{delimited, preceded};
use nom::{Err, IResult, Parser};

use super::{Choice, Fate, Origin, Packet};
use crate::net::{AddrPort, IpFamily, PerFamily, Port, Protocol};

/// The source port of a packet that does not say one.
const DEFAULT_SOURCE_PORT: Port = 40000;

/// What the notation may leave out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PacketContext {
    /// The node's own address of each family; where both would do, IPv4 is meant.
    pub node_addresses: PerFamily<Option<IpAddr>>,
    /// The interface by which packets of pods come in, unless they say another.
    pub pod_interface: Option<String>,
    /// The interface by which packets from outside come in, unless they say another.
    pub uplink: Option<String>,
}

impl PacketContext {
    fn node_address(&self, family: Option<IpFamily>) -> Option<IpAddr> {
        match family {
            Some(family) => *self.node_addresses.get(family),
            None => self.node_addresses.v4.or(self.node_addresses.v6),
        }
    }
}

/// Why a text is no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct ParsePacketError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

/// Why a text is no list of flows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, {error}")]
pub struct ParseFlowsError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong in it.
    pub error: ParsePacketError,
}

/// A packet and what must become of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// The packet.
    pub packet: Packet,
    /// Its fate.
    pub fate: Fate,
    /// Its fate in modes where it is another one, by name of the mode.
    pub exceptions: BTreeMap<String, Fate>,
    /// The line that says so, from 1.
    pub line: usize,
}

impl Flow {
    /// Its fate in a mode.
    pub fn fate_in(&self, mode: &str) -> &Fate {
        self.exceptions.get(mode).unwrap_or(&self.fate)
    }
}

/// Reads one packet.
pub fn parse_packet(text: &str, context: &PacketContext) -> Result<Packet, ParsePacketError> {
    finish(text, delimited(space0, |input| packet(input, context), space0).parse(text))
}

/// Reads flows, one a line. Empty lines and comments are skipped.
pub fn parse_flows(text: &str, context: &PacketContext) -> Result<Vec<Flow>, ParseFlowsError> {
    let mut flows = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.split('#').next().unwrap_or_default().trim_end();
        if text.is_empty() {
            continue;
        }
        let parsed = finish(text, preceded(space0, |input| flow(input, context)).parse(text));
        let (packet, fate, exceptions) = parsed.map_err(|error| ParseFlowsError { line, error })?;
        flows.push(Flow { packet, fate, exceptions, line });
    }
    Ok(flows)
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Pod => "pod",
            Origin::Outside => "outside",
            Origin::Node => "node",
        })
    }
}

impl fmt::Display for Packet {
    /// As [`parse_packet`] reads it. The default source port is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.origin)?;
        if self.source.port == DEFAULT_SOURCE_PORT {
            self.source.addr.fmt(f)?;
        } else {
            self.source.fmt(f)?;
        }
        if let Some(interface) = &self.in_interface {
            write!(f, " via {interface}")?;
        }
        match self.bridge_port {
            Some(true) => f.write_str(" bridged")?,
            Some(false) => f.write_str(" unbridged")?,
            None => {}
        }
        write!(f, " -> {}/{}", self.destination, self.protocol)
    }
}

/// A place in the text, counted in bytes from its end, and what is wrong there.
#[derive(Debug)]
struct Refusal {
    rest: usize,
    message: String,
}

impl ParseError<&str> for Refusal {
    fn from_error_kind(input: &str, _: ErrorKind) -> Refusal {
        Refusal { rest: input.len(), message: "unexpected text".to_owned() }
    }

    fn append(_: &str, _: ErrorKind, other: Refusal) -> Refusal {
        other
    }
}

type Parsed<'a, T> = IResult<&'a str, T, Refusal>;

fn refuse<T>(at: &str, message: impl Into<String>) -> Parsed<'_, T> {
    Err(Err::Failure(Refusal { rest: at.len(), message: message.into() }))
}

/// Makes a parser's mismatch final, with a message that says what should have been there.
fn must<'a, T>(
    mut parser: impl Parser<&'a str, Output = T, Error = Refusal>,
    what: &str,
) -> impl FnMut(&'a str) -> Parsed<'a, T> {
    move |input| match parser.parse(input) {
        Err(Err::Error(_) | Err::Incomplete(_)) => refuse(input, format!("expected {what}")),
        done => done,
    }
}

fn finish<'a, T>(text: &'a str, parsed: Parsed<'a, T>) -> Result<T, ParsePacketError> {
    let refusal = match parsed {
        Ok(("", done)) => return Ok(done),
        Ok((rest, _)) => Refusal { rest: rest.len(), message: "expected nothing more".to_owned() },
        Err(Err::Error(refusal) | Err::Failure(refusal)) => refusal,
        Err(Err::Incomplete(_)) => Refusal { rest: 0, message: "expected more".to_owned() },
    };
    let before = text.get(..text.len().saturating_sub(refusal.rest)).unwrap_or(text);
    Err(ParsePacketError { column: before.chars().count() + 1, message: refusal.message })
}

fn port(input: &str) -> Parsed<'_, Port> {
    let (rest, digits) = digit1(input)?;
    match digits.parse() {
        Ok(port) => Ok((rest, port)),
        Err(_) => refuse(input, "a port is at most 65535"),
    }
}

fn address_text(input: &str) -> Parsed<'_, &str> {
    take_while1(|c: char| c.is_ascii_hexdigit() || c == ':' || c == '.').parse(input)
}

/// `10.0.0.1`, `10.0.0.1:80`, `fd00::1`, `[fd00::1]`, `[fd00::1]:80`.
fn address(input: &str) -> Parsed<'_, (IpAddr, Option<Port>)> {
    if let (inner, Some(_)) = opt(char('[')).parse(input)? {
        let (rest, text) = must(address_text, "an IPv6 address").parse(inner)?;
        let (rest, _) = must(char(']'), "`]`").parse(rest)?;
        let Ok(addr) = text.parse() else { return refuse(inner, format!("`{text}` is no IPv6 address")) };
        let (rest, port) = opt(preceded(char(':'), must(port, "a port"))).parse(rest)?;
        return Ok((rest, (IpAddr::V6(addr), port)));
    }
    let (rest, text) = address_text(input)?;
    if let Ok(addr) = text.parse() {
        return Ok((rest, (IpAddr::V6(addr), None)));
    }
    let host = text.split(':').next().unwrap_or_default();
    let Ok(addr) = host.parse() else { return refuse(input, format!("`{text}` is no address")) };
    let rest = input.get(host.len()..).unwrap_or_default();
    let (rest, port) = opt(preceded(char(':'), must(port, "a port"))).parse(rest)?;
    Ok((rest, (IpAddr::V4(addr), port)))
}

fn address_and_port(input: &str) -> Parsed<'_, AddrPort> {
    match address(input)? {
        (rest, (addr, Some(port))) => Ok((rest, AddrPort::new(addr, port))),
        (rest, (_, None)) => refuse(rest, "expected `:` and a port"),
    }
}

fn origin(input: &str) -> Parsed<'_, Origin> {
    alt((
        value(Origin::Pod, tag("pod")),
        value(Origin::Outside, tag("outside")),
        value(Origin::Node, tag("node")),
    ))
    .parse(input)
}

fn protocol(input: &str) -> Parsed<'_, Protocol> {
    let (rest, word) = take_while1(|c: char| c.is_ascii_alphanumeric()).parse(input)?;
    match Protocol::from_name(word) {
        Some(protocol) => Ok((rest, protocol)),
        None => refuse(input, format!("`{word}` is not tcp, udp or sctp")),
    }
}

fn interface(input: &str) -> Parsed<'_, &str> {
    let name = take_while1(|c: char| !c.is_whitespace());
    preceded((tag("via"), space1), must(name, "the name of an interface")).parse(input)
}

fn bridge_port(input: &str) -> Parsed<'_, bool> {
    alt((value(true, tag("bridged")), value(false, tag("unbridged")))).parse(input)
}

fn packet<'a>(input: &'a str, context: &PacketContext) -> Parsed<'a, Packet> {
    let (source_at, origin) = must(origin, "`pod`, `outside` or `node`").parse(input)?;
    let (source_at, _) = must(space1, "a space").parse(source_at)?;
    let (rest, source) = opt((address, space1)).parse(source_at)?;
    let (rest, via) = opt((interface, space1)).parse(rest)?;
    let (rest, bridge) = opt((bridge_port, space1)).parse(rest)?;
    let (rest, _) = must((tag("->"), space0), if source.is_none() { "an address or `->`" } else { "`->`" })
        .parse(rest)?;
    let destination_at = rest;
    let (rest, to_node) = opt(preceded(tag("node:"), must(port, "a port"))).parse(rest)?;
    let source = source.map(|(source, _)| source);
    let family = source.map(|(addr, _)| IpFamily::of(addr));
    let (rest, destination) = match to_node {
        Some(port) => match context.node_address(family) {
            Some(addr) => (rest, AddrPort::new(addr, port)),
            None => return refuse(destination_at, "the node has no such address"),
        },
        None => must(address_and_port, "an address or `node`").parse(rest)?,
    };
    let (rest, protocol) =
        must(preceded(char('/'), must(protocol, "a protocol")), "`/` and a protocol").parse(rest)?;
    let source = match source {
        Some((addr, port)) => AddrPort::new(addr, port.unwrap_or(DEFAULT_SOURCE_PORT)),
        None if origin != Origin::Node => return refuse(source_at, "expected an address"),
        None => match context.node_address(Some(destination.family())) {
            Some(addr) => AddrPort::new(addr, DEFAULT_SOURCE_PORT),
            None => return refuse(source_at, "the node has no address of this family"),
        },
    };
    if source.family() != destination.family() {
        return refuse(destination_at, format!("expected an {} address", source.family()));
    }
    if bridge.is_some() && origin != Origin::Pod {
        return refuse(source_at, "only pods hang on a bridge");
    }
    let bridge_port = bridge.map(|(is_in, _)| is_in);
    let in_interface = match (origin, via) {
        (Origin::Node, Some(_)) => {
            return refuse(source_at, "the node's own packets come in by no interface");
        }
        (Origin::Node, None) => None,
        (Origin::Pod | Origin::Outside, Some((name, _))) => Some(name.to_owned()),
        (Origin::Pod, None) => context.pod_interface.clone(),
        (Origin::Outside, None) => context.uplink.clone(),
    };
    Ok((rest, Packet { origin, source, destination, protocol, in_interface, bridge_port }))
}

/// A choice as written, its probability still open.
type WrittenChoice = (AddrPort, bool, Option<f64>);

fn choice(input: &str) -> Parsed<'_, WrittenChoice> {
    let (rest, endpoint) = address_and_port(input)?;
    let (rest, masquerade) = opt(tag("+masq")).parse(rest)?;
    let (rest, probability) = opt(preceded(char('@'), must(double, "a probability"))).parse(rest)?;
    Ok((rest, (endpoint, masquerade.is_some(), probability)))
}

fn forwarded(input: &str) -> Parsed<'_, Fate> {
    let (rest, written) = separated_list1(char('|'), choice).parse(input)?;
    let (rest, all) = opt((space1, tag("masq"))).parse(rest)?;
    let said: f64 = written.iter().filter_map(|(_, _, probability)| *probability).sum();
    let n_open = written.iter().filter(|(_, _, probability)| probability.is_none()).count();
    let share = (1.0 - said) / (n_open.max(1) as f64);
    let sum_is_one = (1.0 - said).abs() < 1e-6;
    if (n_open == 0 && !sum_is_one) || (n_open > 0 && share <= 0.0) {
        return refuse(input, "the probabilities do not add up to 1");
    }
    let mut choices: Vec<Choice> = written
        .into_iter()
        .map(|(endpoint, masquerade, probability)| Choice {
            endpoint,
            probability: probability.unwrap_or(share),
            source_nat: masquerade || all.is_some(),
        })
        .collect();
    choices.sort_by_key(|choice| (choice.endpoint, choice.source_nat));
    let twice = choices.windows(2).find(|pair| {
        matches!(pair, [left, right] if (left.endpoint, left.source_nat) == (right.endpoint, right.source_nat))
    });
    match twice.and_then(|pair| pair.first()) {
        Some(choice) => refuse(input, format!("{} is said twice", choice.endpoint)),
        None => Ok((rest, Fate::Forwarded(choices))),
    }
}

fn fate(input: &str) -> Parsed<'_, Fate> {
    alt((
        value(Fate::Rejected, tag("reject")),
        value(Fate::Dropped, tag("drop")),
        value(Fate::Untouched, tag("none")),
        forwarded,
    ))
    .parse(input)
}

/// Names of modes and their fate; `None` is the usual fate with its source rewritten.
type WrittenException<'a> = (Vec<&'a str>, Option<Fate>);

fn exception(input: &str) -> Parsed<'_, WrittenException<'_>> {
    let mode = || must(take_while1(|c: char| c.is_ascii_alphanumeric()), "the name of a mode");
    let modes = separated_list1((char(','), space0), mode());
    let fate = must(alt((value(None, tag("masq")), map(fate, Some))), "a fate or `masq`");
    let (rest, (modes, _, fate, _)) = preceded(
        (space0, char('[')),
        (modes, must((char(':'), space0), "`:`"), fate, must(char(']'), "`]`")),
    )
    .parse(input)?;
    Ok((rest, (modes, fate)))
}

fn flow<'a>(input: &'a str, context: &PacketContext) -> Parsed<'a, (Packet, Fate, BTreeMap<String, Fate>)> {
    let (rest, packet) = packet(input, context)?;
    let (rest, _) = must((space0, char('='), space0), "`=` and a fate").parse(rest)?;
    let (rest, usual) = must(fate, "a fate").parse(rest)?;
    let (rest, written) = many0(exception).parse(rest)?;
    let mut exceptions = BTreeMap::new();
    for (modes, fate) in written {
        let fate = fate.unwrap_or_else(|| masqueraded(&usual));
        exceptions.extend(modes.into_iter().map(|mode| (mode.to_owned(), fate.clone())));
    }
    Ok((rest, (packet, usual, exceptions)))
}

fn masqueraded(fate: &Fate) -> Fate {
    match fate {
        Fate::Forwarded(choices) => Fate::Forwarded(
            choices.iter().map(|choice| Choice { source_nat: true, ..choice.clone() }).collect(),
        ),
        Fate::Rejected | Fate::Dropped | Fate::Untouched | Fate::Unknown(_) => fate.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> PacketContext {
        PacketContext {
            node_addresses: PerFamily { v4: "192.168.77.10".parse().ok(), v6: "fd00:77::10".parse().ok() },
            pod_interface: Some("veth0".to_owned()),
            uplink: None,
        }
    }

    #[test]
    fn packets_are_read_and_printed() {
        let check = |text: &str, printed: &str| {
            let packet = parse_packet(text, &context()).unwrap();
            assert_eq!(packet.to_string(), printed);
            assert_eq!(parse_packet(printed, &context()), Ok(packet));
        };
        check("pod 10.128.0.9 -> 10.96.0.10:53/udp", "pod 10.128.0.9 via veth0 -> 10.96.0.10:53/udp");
        check(
            "pod 10.128.0.9 via cni0 -> 10.96.0.10:53/sctp",
            "pod 10.128.0.9 via cni0 -> 10.96.0.10:53/sctp",
        );
        check(
            "outside 203.0.113.9:4000 -> node:30080/tcp",
            "outside 203.0.113.9:4000 -> 192.168.77.10:30080/tcp",
        );
        check("outside 2001:db8::9 ->node:30080/tcp", "outside 2001:db8::9 -> [fd00:77::10]:30080/tcp");
        check("node -> 10.96.0.1:443/tcp", "node 192.168.77.10 -> 10.96.0.1:443/tcp");
        check("node -> [fd00:10::a]:443/tcp", "node fd00:77::10 -> [fd00:10::a]:443/tcp");
        check(" node  127.0.0.1  ->  127.0.0.1:30080/tcp ", "node 127.0.0.1 -> 127.0.0.1:30080/tcp");
        check("node -> node:30080/tcp", "node 192.168.77.10 -> 192.168.77.10:30080/tcp");
        check("pod fd00::9 -> [fd00:10::a]:53/udp", "pod fd00::9 via veth0 -> [fd00:10::a]:53/udp");
        check(
            "pod 10.128.0.9 bridged -> 10.96.0.10:53/udp",
            "pod 10.128.0.9 via veth0 bridged -> 10.96.0.10:53/udp",
        );
        check(
            "pod 10.128.0.9 via a unbridged -> 10.96.0.1:5/tcp",
            "pod 10.128.0.9 via a unbridged -> 10.96.0.1:5/tcp",
        );
        check("pod [fd00::9]:77 -> [fd00:10::a]:53/udp", "pod [fd00::9]:77 via veth0 -> [fd00:10::a]:53/udp");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let check = |text: &str, error: &str| {
            assert_eq!(parse_packet(text, &context()).unwrap_err().to_string(), error, "{text}");
        };
        check("", "column 1: expected `pod`, `outside` or `node`");
        check("Pod 10.0.0.1 -> 10.0.0.2:1/tcp", "column 1: expected `pod`, `outside` or `node`");
        check("pod -> 10.0.0.2:1/tcp", "column 5: expected an address");
        check("pod 10.0.0 -> 10.0.0.2:1/tcp", "column 5: `10.0.0` is no address");
        check("pod 10.0.0.1 10.0.0.2:1/tcp", "column 14: expected `->`");
        check("pod 10.0.0.1 -> 10.0.0.2/tcp", "column 25: expected `:` and a port");
        check("pod 10.0.0.1 -> 10.0.0.2:/tcp", "column 26: expected a port");
        check("pod 10.0.0.1 -> 10.0.0.2:70000/tcp", "column 26: a port is at most 65535");
        check("pod 10.0.0.1 -> 10.0.0.2:80", "column 28: expected `/` and a protocol");
        check("pod 10.0.0.1 -> 10.0.0.2:80/icmp", "column 29: `icmp` is not tcp, udp or sctp");
        check("pod 10.0.0.1 -> [fd00::1]:80/tcp", "column 17: expected an IPv4 address");
        check("pod 10.0.0.1 -> 10.0.0.2:80/tcp = none", "column 33: expected nothing more");
        check("node via eth0 -> 10.0.0.2:80/tcp", "column 6: the node's own packets come in by no interface");
        check("outside 10.0.0.1 bridged -> 10.0.0.2:80/tcp", "column 9: only pods hang on a bridge");
        let nothing = PacketContext::default();
        assert_eq!(
            parse_packet("node -> 10.0.0.2:80/tcp", &nothing).unwrap_err().message,
            "the node has no address of this family"
        );
        assert_eq!(
            parse_packet("pod 10.0.0.1 -> node:80/tcp", &nothing).unwrap_err().message,
            "the node has no such address"
        );
    }

    #[test]
    fn flows_are_read() {
        let text = "# all kinds of fate\n\n\
            pod 10.0.0.1 -> 10.96.0.1:80/tcp = 10.0.0.2:80|10.0.0.1:80  # a comment\n\
            pod 10.0.0.1 -> 10.96.0.1:80/tcp = 10.0.0.2:80|10.0.0.1:80+masq\n\
            pod 10.0.0.1 -> 10.96.0.1:80/tcp = 10.0.0.2:80@0.25|10.0.0.1:80|10.0.0.3:80 masq\n\
            outside 2001:db8::1 -> node:80/tcp = [fd00::2]:80 [userspace: masq] [ipvs, nftables: drop]\n\
            node -> node:80/tcp = reject [iptables: [fd00::2]:80]\n\
            node -> node:80/tcp = drop\n\
            node -> node:80/tcp = none [ipvs: 10.0.0.1:80]\n";
        let flows = parse_flows(text, &context()).unwrap();
        let fates: Vec<String> = flows
            .iter()
            .map(|flow| format!("{} {} / {}", flow.line, flow.fate, flow.fate_in("ipvs")))
            .collect();
        assert_eq!(
            fates,
            [
                "3 10.0.0.1:80|10.0.0.2:80 / 10.0.0.1:80|10.0.0.2:80",
                "4 10.0.0.1:80+masq|10.0.0.2:80 / 10.0.0.1:80+masq|10.0.0.2:80",
                "5 10.0.0.1:80@0.375|10.0.0.2:80@0.25|10.0.0.3:80@0.375 masq / \
                 10.0.0.1:80@0.375|10.0.0.2:80@0.25|10.0.0.3:80@0.375 masq",
                "6 [fd00::2]:80 / drop",
                "7 reject / reject",
                "8 drop / drop",
                "9 none / 10.0.0.1:80",
            ]
        );
        assert_eq!(flows[3].fate_in("userspace").to_string(), "[fd00::2]:80 masq");
        assert_eq!(flows[4].fate_in("iptables").to_string(), "[fd00::2]:80");
    }

    #[test]
    fn wrong_flows_are_refused() {
        let check = |fate: &str, error: &str| {
            let text = format!("\nnode -> node:80/tcp{fate}");
            assert_eq!(parse_flows(&text, &context()).unwrap_err().to_string(), error, "{fate}");
        };
        check("", "line 2, column 20: expected `=` and a fate");
        check(" = ", "line 2, column 22: expected a fate");
        check(" = maybe", "line 2, column 23: expected a fate");
        check(" = 10.0.0.1:80|10.0.0.1:80", "line 2, column 23: 10.0.0.1:80 is said twice");
        check(" = 10.0.0.1:80@0.5", "line 2, column 23: the probabilities do not add up to 1");
        check(" = 10.0.0.1:80@1|10.0.0.2:80", "line 2, column 23: the probabilities do not add up to 1");
        check(" = drop [userspace masq]", "line 2, column 38: expected `:`");
        check(" = drop drop", "line 2, column 27: expected nothing more");
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_an_answer(text in "\\PC*") {
            let _ = parse_packet(&text, &context());
            let _ = parse_flows(&text, &context());
        }

        #[test]
        fn almost_a_flow_gives_an_answer(
            packet in "(pod|node|outside) [0-9a-f:.]* (via|->) [\\[\\]0-9a-f:./tcp]*",
            fate in "[\\[\\]0-9.|+@masq ]*",
        ) {
            let text = format!("{packet} = {fate}");
            let _ = parse_flows(&text, &context());
        }
    }
}
