//! Reads what `ipset save` prints (6.0 and later).
//!
//! What is not modelled is kept as text: a type, an option of a set, an entry. A set whose name cannot stand in a rule is
//! left out, since nothing can ask it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nom::Parser;
use nom::bytes::complete::{tag, take_until, take_while1};
use nom::character::complete::{char, u16 as port};
use nom::combinator::{all_consuming, map_opt, opt, rest};
use nom::sequence::{preceded, separated_pair, terminated};

use crate::net::{IpCidr, IpFamily, Port, Protocol};
pub use crate::program::words::ParseError;
use crate::program::words::Words;

use super::{Entry, HashType, Set, SetKind, SetName, Sets};

/// Reads a text.
pub fn parse(text: &str) -> Result<Sets, ParseError> {
    let mut sets = Sets::new();
    let mut left_out: BTreeSet<&str> = BTreeSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = Words::new(number, line);
        let Some(command) = words.next().filter(|word| !word.text.starts_with('#')) else { continue };
        let name = words.need("the name of a set")?;
        match command.text {
            "create" => {
                let Ok(known) = SetName::new(name.text) else {
                    left_out.insert(name.text);
                    continue;
                };
                let kind = read_kind(&mut words)?;
                if sets.insert(known, Set { kind, entries: BTreeSet::new() }).is_some() {
                    return Err(words.error(&name, format!("another set: `{}` is there twice", name.text)));
                }
            }
            "add" if left_out.contains(name.text) => {}
            "add" => {
                let found = SetName::new(name.text).ok().and_then(|known| sets.get_mut(&known));
                let Some(set) = found else {
                    return Err(words.error(&name, format!("a set that was made, not `{}`", name.text)));
                };
                let text = words.need_rest("an entry")?;
                set.entries.insert(entry(&set.kind, text));
            }
            _ => return Err(words.error(&command, "`create` or `add`")),
        }
    }
    Ok(sets)
}

/// What follows the name of a set in `create`.
fn read_kind(words: &mut Words<'_>) -> Result<SetKind, ParseError> {
    let type_name = words.need("the type of a set")?.text;
    let mut options: Vec<&str> = Vec::new();
    let mut family = IpFamily::V4;
    let mut max_entries = SetKind::DEFAULT_MAX_ENTRIES;
    let mut range = None;
    let mut is_modelled = true;
    while let Some(option) = words.next() {
        if let "hashsize" | "bucketsize" | "initval" = option.text {
            words.need("a number")?;
            continue;
        }
        options.push(option.text);
        if !matches!(option.text, "family" | "maxelem" | "range") {
            is_modelled = false;
            continue;
        }
        let value = words.need("what the option is to be")?;
        options.push(value.text);
        match option.text {
            "family" => match value.text {
                "inet" => family = IpFamily::V4,
                "inet6" => family = IpFamily::V6,
                _ => return Err(words.error(&value, "inet or inet6")),
            },
            "maxelem" => {
                max_entries = value.text.parse().map_err(|_| words.error(&value, "a number of entries"))?;
            }
            _ => range = Some(value.text),
        }
    }
    let modelled = match (HashType::from_name(type_name), range) {
        (Some(hash), None) if is_modelled => Some(SetKind::Hash { hash, family, max_entries }),
        (None, Some(range)) if is_modelled && type_name == "bitmap:port" && options.len() == 2 => {
            ports(range).map(|(first, last)| SetKind::BitmapPort { first, last })
        }
        _ => None,
    };
    Ok(modelled.unwrap_or_else(|| {
        options.insert(0, type_name);
        SetKind::Unmodelled(options.join(" ").into())
    }))
}

/// `FIRST-LAST`; the kernel takes the ends in any order.
fn ports(text: &str) -> Option<(Port, Port)> {
    let (first, last) = whole(separated_pair(port, char('-'), port), text)?;
    Some((first.min(last), first.max(last)))
}

/// An entry of a set of this kind.
fn entry(kind: &SetKind, text: &str) -> Entry {
    let modelled = match kind {
        SetKind::Hash { hash, .. } => match hash {
            HashType::Ip => text.parse().ok().map(Entry::Ip),
            HashType::IpPort => whole((addr, protocol_port), text)
                .map(|(addr, (protocol, port))| Entry::IpPort(addr, protocol, port)),
            HashType::IpPortIp => whole((addr, protocol_port, preceded(char(','), addr)), text)
                .map(|(addr, (protocol, port), second)| Entry::IpPortIp(addr, protocol, port, second)),
            HashType::IpPortNet => whole((addr, protocol_port, preceded(char(','), net)), text)
                .map(|(addr, (protocol, port), net)| Entry::IpPortNet(addr, protocol, port, net)),
        },
        SetKind::BitmapPort { .. } => whole(port, text).map(Entry::Port),
        SetKind::Unmodelled(_) => None,
    };
    modelled.unwrap_or_else(|| Entry::Unmodelled(text.into()))
}

type Error<'a> = nom::error::Error<&'a str>;

/// All of a text, or nothing.
fn whole<'a, T>(parser: impl Parser<&'a str, Output = T, Error = Error<'a>>, text: &'a str) -> Option<T> {
    all_consuming(parser).parse(text).ok().map(|(_, value)| value)
}

fn addr(text: &str) -> nom::IResult<&str, IpAddr> {
    let is_part = |c: char| c.is_ascii_hexdigit() || c == '.' || c == ':';
    map_opt(take_while1(is_part), |addr: &str| addr.parse().ok()).parse(text)
}

/// `,tcp:80`, or `,80` for the same.
fn protocol_port(text: &str) -> nom::IResult<&str, (Protocol, Port)> {
    let name = map_opt(terminated(take_until(":"), tag(":")), Protocol::from_name);
    let number = (opt(name), port).map(|(protocol, port)| (protocol.unwrap_or(Protocol::Tcp), port));
    preceded(char(','), number).parse(text)
}

/// `10.0.0.0/8`, or an address for itself alone.
fn net(text: &str) -> nom::IResult<&str, IpCidr> {
    map_opt(rest, |text: &str| match text.split_once('/') {
        None => text.parse().ok().map(IpCidr::host),
        Some((addr, length)) => IpCidr::new(addr.parse().ok()?, length.parse().ok()?),
    })
    .parse(text)
}
