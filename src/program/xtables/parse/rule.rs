//! Reads one rule: options of its header anywhere, matches in order, one target. What is not modelled is kept as text.

use std::sync::Arc;

use crate::net::{AddrPort, IpFamily, Port, Protocol};

use super::super::{
    AddrMatch, ChainName, InterfaceMatch, Interfaces, Match, PortRange, PortsMatch, ProtocolMatch,
    RejectWith, Rule, Target, protocol,
};
use super::matches;
use super::value;
use crate::program::xtables::word::{Word, WordError, Words};

/// Why a rule could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// Byte of the body.
    pub(super) at: usize,
    /// What should have been there.
    pub(super) expected: &'static str,
    /// A quote was never closed: the rule may go on in the next line.
    pub(super) open_quote: bool,
}

impl Fault {
    fn new(at: usize, expected: &'static str) -> Fault {
        Fault { at, expected, open_quote: false }
    }
}

impl From<WordError> for Fault {
    fn from(error: WordError) -> Fault {
        match error {
            WordError::OpenQuote(at) => Fault { at, expected: "a closing quote", open_quote: true },
            WordError::LoneBang(at) => Fault::new(at, "an option after `!`"),
        }
    }
}

/// Why reading stopped.
enum Stop {
    /// It is no rule.
    Fault(Fault),
    /// It is one that these types cannot say: keep its text.
    Unmodelled,
}

impl From<WordError> for Stop {
    fn from(error: WordError) -> Stop {
        Stop::Fault(error.into())
    }
}

/// What a word is for when it stands where an option can stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OptionKind {
    Source,
    Destination,
    Protocol,
    Input,
    Output,
    Fragment,
    Match,
    Jump,
    Goto,
    SourcePort,
    DestinationPort,
    Other,
}

impl OptionKind {
    pub(super) fn of(word: &Word<'_>) -> OptionKind {
        if word.quoted {
            return OptionKind::Other;
        }
        match word.text.as_bytes() {
            b"-s" | b"--source" | b"--src" => OptionKind::Source,
            b"-d" | b"--destination" | b"--dst" => OptionKind::Destination,
            b"-p" | b"--protocol" | b"--proto" => OptionKind::Protocol,
            b"-i" | b"--in-interface" => OptionKind::Input,
            b"-o" | b"--out-interface" => OptionKind::Output,
            b"-f" | b"--fragment" => OptionKind::Fragment,
            b"-m" | b"--match" => OptionKind::Match,
            b"-j" | b"--jump" => OptionKind::Jump,
            b"-g" | b"--goto" => OptionKind::Goto,
            b"--sport" | b"--source-port" => OptionKind::SourcePort,
            b"--dport" | b"--destination-port" => OptionKind::DestinationPort,
            _ => OptionKind::Other,
        }
    }

    /// Whether it ends the options of a match that has none of this name.
    fn ends_match(self) -> bool {
        !self.is_port() && self != OptionKind::Other
    }

    /// Whether it may belong to a match on ports that stands further left.
    fn is_port(self) -> bool {
        matches!(self, OptionKind::SourcePort | OptionKind::DestinationPort)
    }
}

/// Targets of iptables that are no chains, apart from those that [`Target`] has.
const EXTENSIONS: [&str; 45] = [
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CLUSTERIP",
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DNAT",
    "DNPT",
    "DSCP",
    "ECN",
    "FLOWOFFLOAD",
    "HL",
    "HMARK",
    "IDLETIMER",
    "LED",
    "LOG",
    "MARK",
    "MASQUERADE",
    "MIRROR",
    "NETMAP",
    "NFLOG",
    "NFQUEUE",
    "NOTRACK",
    "QUEUE",
    "RATEEST",
    "REDIRECT",
    "REJECT",
    "SAME",
    "SECMARK",
    "SET",
    "SNAT",
    "SNPT",
    "SYNPROXY",
    "SYSRQ",
    "TARPIT",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "TOS",
    "TPROXY",
    "TRACE",
    "TTL",
    "ULOG",
    "XOR",
];

/// Reads rules of one family, and shares the comments of neighbours.
#[derive(Debug)]
pub(super) struct RuleReader {
    family: IpFamily,
    comment: Option<Arc<str>>,
    counter: Option<Arc<str>>,
}

impl RuleReader {
    pub(super) fn new(family: IpFamily) -> RuleReader {
        RuleReader { family, comment: None, counter: None }
    }

    pub(super) fn family(&self) -> IpFamily {
        self.family
    }

    /// The text of a comment, shared with the rule before if it said the same.
    pub(super) fn comment(&mut self, text: &str) -> Arc<str> {
        share(&mut self.comment, text)
    }

    /// The name of a counter, shared likewise.
    pub(super) fn counter(&mut self, text: &str) -> Arc<str> {
        share(&mut self.counter, text)
    }

    /// Reads what follows `-A CHAIN`.
    pub(super) fn read(&mut self, body: &str) -> Result<Rule, Fault> {
        match self.modelled(body) {
            Ok(rule) => Ok(rule),
            Err(Stop::Fault(fault)) => Err(fault),
            Err(Stop::Unmodelled) => self.unmodelled(body),
        }
    }

    fn modelled(&mut self, body: &str) -> Result<Rule, Stop> {
        let mut words = Words::new(body)?;
        let mut rule = Rule::default();
        while let Some(word) = words.current() {
            let kind = OptionKind::of(word);
            match kind {
                OptionKind::Source => {
                    refuse_second(&rule.source)?;
                    rule.source = self.address(&mut words)?;
                }
                OptionKind::Destination => {
                    refuse_second(&rule.destination)?;
                    rule.destination = self.address(&mut words)?;
                }
                OptionKind::Protocol => {
                    refuse_second(&rule.protocol)?;
                    rule.protocol = read_protocol(&mut words)?;
                }
                OptionKind::Input | OptionKind::Output => read_interface(&mut words, kind, &mut rule)?,
                OptionKind::Fragment => return Err(Stop::Unmodelled),
                OptionKind::Match => {
                    let one = self.one_match(&mut words)?;
                    rule.matches.push(one);
                }
                OptionKind::Jump | OptionKind::Goto => {
                    refuse_second(&rule.target)?;
                    rule.target = Some(self.target(&mut words)?);
                }
                OptionKind::SourcePort | OptionKind::DestinationPort => {
                    read_late_ports(&mut words, kind, &mut rule)?
                }
                OptionKind::Other if word.text.starts_with('-') && !word.quoted => {
                    return Err(Stop::Unmodelled);
                }
                OptionKind::Other => return Err(Stop::Fault(Fault::new(word.start, "an option"))),
            }
        }
        Ok(rule)
    }

    /// The whole rule as one match that is not modelled, but for its target.
    fn unmodelled(&mut self, body: &str) -> Result<Rule, Fault> {
        let mut words = Words::new(body)?;
        let mut text = String::new();
        let mut target = None;
        while let Some(word) = words.current() {
            if matches!(OptionKind::of(word), OptionKind::Jump | OptionKind::Goto) {
                if target.is_some() {
                    return Err(Fault::new(word.start, "one target alone"));
                }
                target = Some(match self.target(&mut words) {
                    Ok(target) => target,
                    Err(Stop::Fault(fault)) => return Err(fault),
                    Err(Stop::Unmodelled) => return Err(Fault::new(words.last_end(), "a target")),
                });
                continue;
            }
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(body.get(word.start..word.end).unwrap_or_default());
            words.advance()?;
        }
        let mut rule = Rule { target, ..Rule::default() };
        if !text.is_empty() {
            rule.matches.push(Match::Unmodelled(text.into()));
        }
        Ok(rule)
    }

    fn address(&self, words: &mut Words<'_>) -> Result<Option<AddrMatch>, Stop> {
        let (negated, word) = option_value(words, "an address")?;
        let cidr = value::cidr(&word.text, self.family).ok_or(Stop::Unmodelled)?;
        Ok((negated || !cidr.is_any()).then_some(AddrMatch { cidr, negated }))
    }

    fn one_match(&mut self, words: &mut Words<'_>) -> Result<Match, Stop> {
        let start = words.current().map_or(0, |word| word.start);
        let (negated, name) = option_value(words, "the name of a match")?;
        if !negated && let Some(one) = matches::read(self, words, &name.text)? {
            let ended = words
                .current()
                .map(OptionKind::of)
                .is_none_or(|next| next.ends_match() || (next.is_port() && !matches!(one, Match::Ports(_))));
            if ended {
                return Ok(one);
            }
        }
        while words.current().is_some_and(|word| !OptionKind::of(word).ends_match()) {
            words.advance()?;
        }
        let text = words.body().get(start..words.last_end()).unwrap_or_default();
        Ok(Match::Unmodelled(text.into()))
    }

    fn target(&mut self, words: &mut Words<'_>) -> Result<Target, Stop> {
        let start = words.current().map_or(0, |word| word.start);
        let goes = words.current().is_some_and(|word| OptionKind::of(word) == OptionKind::Goto);
        let (negated, name) = option_value(words, "a target")?;
        let bad_name = Stop::Fault(Fault::new(name.start, "the name of a target or of a chain"));
        if negated {
            return Err(bad_name);
        }
        if goes {
            return ChainName::new(&name.text).map(Target::Goto).map_err(|_| bad_name);
        }
        let target = self.known_target(words, &name.text)?;
        let more = words.current().is_some_and(|word| !OptionKind::of(word).ends_match());
        if let (Some(target), false) = (target, more) {
            return Ok(target);
        }
        if !more && !EXTENSIONS.contains(&&*name.text) {
            return ChainName::new(&name.text).map(Target::Jump).map_err(|_| bad_name);
        }
        while words.current().is_some_and(|word| !OptionKind::of(word).ends_match()) {
            words.advance()?;
        }
        let text = words.body().get(start..words.last_end()).unwrap_or_default();
        Ok(Target::Unmodelled(text.into()))
    }

    fn known_target(&self, words: &mut Words<'_>, name: &str) -> Result<Option<Target>, Stop> {
        Ok(match name {
            "ACCEPT" => Some(Target::Accept),
            "DROP" => Some(Target::Drop),
            "RETURN" => Some(Target::Return),
            "MARK" => read_mark(words)?,
            "REJECT" => match plain_option(words, &["--reject-with"])? {
                Some((_, word)) => reject_with(&word.text, self.family).map(Target::Reject),
                None => Some(Target::Reject(RejectWith::PortUnreachable)),
            },
            "MASQUERADE" => {
                let random_fully =
                    words.current().is_some_and(|word| !word.negated && word.text == "--random-fully");
                if random_fully {
                    words.advance()?;
                }
                Some(Target::Masquerade { random_fully })
            }
            "DNAT" => match plain_option(words, &["--to-destination"])? {
                Some((_, word)) => addr_port(&word.text, self.family).map(Target::Dnat),
                None => None,
            },
            "REDIRECT" => match plain_option(words, &["--to-ports", "--to-port"])? {
                Some((_, word)) => one_port(&word.text).map(Target::Redirect),
                None => None,
            },
            _ => None,
        })
    }
}

fn share(last: &mut Option<Arc<str>>, text: &str) -> Arc<str> {
    match last {
        Some(last) if **last == *text => Arc::clone(last),
        _ => Arc::clone(last.insert(Arc::from(text))),
    }
}

fn refuse_second<T>(present: &Option<T>) -> Result<(), Stop> {
    if present.is_some() { Err(Stop::Unmodelled) } else { Ok(()) }
}

/// Takes an option and its value; also says whether the option is negated.
fn option_value<'a>(words: &mut Words<'a>, expected: &'static str) -> Result<(bool, Word<'a>), Stop> {
    let negated = words.current().is_some_and(|word| word.negated);
    words.advance()?;
    match words.take()? {
        // The old way to negate, `-s ! ADDRESS`.
        Some(word) if word.negated => Err(Stop::Unmodelled),
        Some(word) => Ok((negated, word)),
        None => Err(Stop::Fault(Fault::new(words.body().len(), expected))),
    }
}

/// Takes the current word and its value if it is one of these options, not negated.
fn plain_option<'a>(
    words: &mut Words<'a>,
    names: &[&'static str],
) -> Result<Option<(&'static str, Word<'a>)>, Stop> {
    let Some(word) = words.current() else { return Ok(None) };
    let Some(name) = names.iter().find(|name| !word.quoted && !word.negated && word.text == **name) else {
        return Ok(None);
    };
    option_value(words, "a value").map(|(_, word)| Some((*name, word)))
}

fn read_protocol(words: &mut Words<'_>) -> Result<Option<ProtocolMatch>, Stop> {
    let (negated, word) = option_value(words, "a protocol")?;
    match protocol::number(&word.text).ok_or(Stop::Unmodelled)? {
        0 if negated => Err(Stop::Unmodelled),
        0 => Ok(None),
        number => Ok(Some(ProtocolMatch { number, negated })),
    }
}

fn read_interface(words: &mut Words<'_>, kind: OptionKind, rule: &mut Rule) -> Result<(), Stop> {
    let (negated, word) = option_value(words, "an interface")?;
    if word.quoted {
        return Err(Stop::Unmodelled);
    }
    if word.text == "+" && !negated {
        return Ok(());
    }
    let one = InterfaceMatch { name: Box::from(&*word.text), negated };
    let interfaces: &mut Interfaces = rule.interfaces.get_or_insert_default();
    let place = if kind == OptionKind::Input { &mut interfaces.input } else { &mut interfaces.output };
    refuse_second(place)?;
    *place = Some(one);
    Ok(())
}

/// A range of ports; `None` if it is all ports.
pub(super) fn port_range(text: &str, negated: bool) -> Option<Option<PortRange>> {
    let (first, last) = value::ports(text)?;
    let all = (first, last) == (0, Port::MAX) && !negated;
    Some((!all).then_some(PortRange { first, last, negated }))
}

/// `--dport` after other options than those of its match, or with no `-m` at all.
fn read_late_ports(words: &mut Words<'_>, kind: OptionKind, rule: &mut Rule) -> Result<(), Stop> {
    let (negated, word) = option_value(words, "a port")?;
    let range = port_range(&word.text, negated).ok_or(Stop::Unmodelled)?;
    let of_protocol = match rule.protocol {
        Some(ProtocolMatch { number, negated: false }) => Protocol::from_number(number),
        _ => None,
    };
    let mut loaded = rule.matches.iter_mut().filter_map(|one| match one {
        Match::Ports(ports) => Some(ports),
        Match::Comment(_)
        | Match::Probability(_)
        | Match::Mark(_)
        | Match::Conntrack(_)
        | Match::AddrType(_)
        | Match::Recent(_)
        | Match::Nfacct(_)
        | Match::Set(_)
        | Match::Ipvs(_)
        | Match::PhysdevIsIn { .. }
        | Match::ToItself
        | Match::Unmodelled(_) => None,
    });
    let mut implied = None;
    let ports = match (loaded.next_back(), of_protocol) {
        (Some(ports), _) => ports,
        (None, Some(protocol)) => implied.insert(PortsMatch { protocol, source: None, destination: None }),
        (None, None) => return Err(Stop::Unmodelled),
    };
    let place = if kind == OptionKind::SourcePort { &mut ports.source } else { &mut ports.destination };
    refuse_second(place)?;
    *place = range;
    if let Some(ports) = implied {
        // An unmodelled match before it may be the one that the option belongs to.
        if rule.matches.iter().any(|one| matches!(one, Match::Unmodelled(_))) {
            return Err(Stop::Unmodelled);
        }
        rule.matches.push(Match::Ports(ports));
    }
    Ok(())
}

fn read_mark(words: &mut Words<'_>) -> Result<Option<Target>, Stop> {
    let names = ["--set-xmark", "--set-mark", "--or-mark", "--and-mark", "--xor-mark"];
    let Some((name, word)) = plain_option(words, &names)? else { return Ok(None) };
    let Some((value, mask)) = value::mark(&word.text) else { return Ok(None) };
    let (value, mask) = match (name, mask) {
        ("--set-xmark", mask) => (value, mask.unwrap_or(u32::MAX)),
        ("--set-mark", mask) => (value, mask.unwrap_or(u32::MAX) | value),
        ("--or-mark", None) => (value, value),
        ("--and-mark", None) => (0, !value),
        ("--xor-mark", None) => (value, 0),
        _ => return Ok(None),
    };
    Ok(Some(Target::Mark { value, mask }))
}

fn reject_with(text: &str, family: IpFamily) -> Option<RejectWith> {
    const ALL: [RejectWith; 5] = [
        RejectWith::PortUnreachable,
        RejectWith::TcpReset,
        RejectWith::HostUnreachable,
        RejectWith::NetUnreachable,
        RejectWith::AdminProhibited,
    ];
    let alias = match (family, text) {
        (IpFamily::V4, "port-unreach") | (IpFamily::V6, "port-unreach") => Some(RejectWith::PortUnreachable),
        (IpFamily::V4, "host-unreach") | (IpFamily::V6, "addr-unreach") => Some(RejectWith::HostUnreachable),
        (IpFamily::V4, "net-unreach") | (IpFamily::V6, "no-route") => Some(RejectWith::NetUnreachable),
        (IpFamily::V4, "admin-prohib") | (IpFamily::V6, "adm-prohibited") => {
            Some(RejectWith::AdminProhibited)
        }
        (_, "tcp-rst") => Some(RejectWith::TcpReset),
        _ => None,
    };
    alias.or_else(|| ALL.into_iter().find(|with| with.name(family) == text))
}

fn addr_port(text: &str, family: IpFamily) -> Option<AddrPort> {
    let (addr, port) = text.rsplit_once(':')?;
    let addr = match family {
        IpFamily::V4 => addr,
        IpFamily::V6 => addr.strip_prefix('[')?.strip_suffix(']')?,
    };
    Some(AddrPort::new(value::address(addr, family)?, one_port(port)?))
}

fn one_port(text: &str) -> Option<Port> {
    let (first, last) = value::ports(text)?;
    (first == last).then_some(first)
}
