//! Reads the options of the matches that are modelled. `None` means: keep the match as text.

use crate::net::{IpFamily, Protocol};
use crate::program::ipset::SetName;

use super::super::{
    AddrMatch, AddrType, ConntrackStates, IpvsMatch, MarkMatch, Match, PortsMatch, ProtocolMatch, Recent,
    RecentAction, SetMatch, bytecode, protocol,
};
use super::rule::{OptionKind, RuleReader, port_range};
use super::value;
use crate::program::xtables::word::{Word, WordError, Words};

/// Reads the options of the match of this name, as many as it has.
pub(super) fn read(
    reader: &mut RuleReader,
    words: &mut Words<'_>,
    name: &str,
) -> Result<Option<Match>, WordError> {
    match name {
        "comment" => Ok(plain(words, "--comment")?.map(|word| Match::Comment(reader.comment(&word.text)))),
        "tcp" => ports(words, Protocol::Tcp),
        "udp" => ports(words, Protocol::Udp),
        "sctp" => ports(words, Protocol::Sctp),
        "statistic" => statistic(words),
        "mark" => mark(words),
        "conntrack" => conntrack(words, "--ctstate"),
        // The older name of the same match in the kernel.
        "state" => conntrack(words, "--state"),
        "addrtype" => addrtype(words),
        "recent" => recent(words, reader.family()),
        "nfacct" => Ok(plain(words, "--nfacct-name")?.map(|word| Match::Nfacct(reader.counter(&word.text)))),
        "set" => set(words),
        "ipvs" => ipvs(words, reader.family()),
        "physdev" => physdev(words),
        "bpf" => bpf(words, reader.family()),
        _ => Ok(None),
    }
}

/// Takes the option of this name and its value; also says whether it is negated.
fn option<'a>(words: &mut Words<'a>, name: &str) -> Result<Option<(bool, Word<'a>)>, WordError> {
    match words.current() {
        Some(word) if !word.quoted && word.text == name => {}
        Some(_) | None => return Ok(None),
    }
    let negated = words.current().is_some_and(|word| word.negated);
    words.advance()?;
    Ok(words.take()?.filter(|word| !word.negated).map(|word| (negated, word)))
}

/// The same for an option that cannot be negated; a negated one is left where it is.
fn plain<'a>(words: &mut Words<'a>, name: &str) -> Result<Option<Word<'a>>, WordError> {
    if words.current().is_some_and(|word| word.negated) {
        return Ok(None);
    }
    Ok(option(words, name)?.map(|(_, word)| word))
}

fn flag(words: &mut Words<'_>, name: &str) -> Result<bool, WordError> {
    let present = words.current().is_some_and(|word| !word.quoted && !word.negated && word.text == name);
    if present {
        words.advance()?;
    }
    Ok(present)
}

fn ports(words: &mut Words<'_>, protocol: Protocol) -> Result<Option<Match>, WordError> {
    let mut ports = PortsMatch { protocol, source: None, destination: None };
    while let Some(word) = words.current() {
        let place = match OptionKind::of(word) {
            OptionKind::SourcePort => &mut ports.source,
            OptionKind::DestinationPort => &mut ports.destination,
            OptionKind::Source
            | OptionKind::Destination
            | OptionKind::Protocol
            | OptionKind::Input
            | OptionKind::Output
            | OptionKind::Fragment
            | OptionKind::Match
            | OptionKind::Jump
            | OptionKind::Goto
            | OptionKind::Other => break,
        };
        let negated = word.negated;
        words.advance()?;
        let range =
            words.take()?.filter(|word| !word.negated).and_then(|word| port_range(&word.text, negated));
        match range {
            Some(range) if place.is_none() => *place = range,
            Some(_) | None => return Ok(None),
        }
    }
    Ok(Some(Match::Ports(ports)))
}

fn statistic(words: &mut Words<'_>) -> Result<Option<Match>, WordError> {
    if plain(words, "--mode")?.is_none_or(|mode| mode.text != "random") {
        return Ok(None);
    }
    let probability = plain(words, "--probability")?.and_then(|word| value::probability(&word.text));
    Ok(probability.map(Match::Probability))
}

fn mark(words: &mut Words<'_>) -> Result<Option<Match>, WordError> {
    let Some((negated, word)) = option(words, "--mark")? else { return Ok(None) };
    Ok(value::mark(&word.text)
        .map(|(value, mask)| Match::Mark(MarkMatch { value, mask: mask.unwrap_or(u32::MAX), negated })))
}

fn conntrack(words: &mut Words<'_>, name: &str) -> Result<Option<Match>, WordError> {
    let Some((negated, word)) = option(words, name)? else { return Ok(None) };
    Ok(value::states(&word.text).map(|bits| Match::Conntrack(ConntrackStates { bits, negated })))
}

fn addrtype(words: &mut Words<'_>) -> Result<Option<Match>, WordError> {
    let mut kind = AddrType { source_local: None, destination_local: None };
    loop {
        let (place, (negated, word)) = if let Some(given) = option(words, "--src-type")? {
            (&mut kind.source_local, given)
        } else if let Some(given) = option(words, "--dst-type")? {
            (&mut kind.destination_local, given)
        } else {
            break;
        };
        if word.text != "LOCAL" || place.is_some() {
            return Ok(None);
        }
        *place = Some(negated);
    }
    let any = kind.source_local.is_some() || kind.destination_local.is_some();
    Ok(any.then_some(Match::AddrType(kind)))
}

fn set(words: &mut Words<'_>) -> Result<Option<Match>, WordError> {
    let Some((negated, name)) = option(words, "--match-set")? else { return Ok(None) };
    // The only option with two values.
    let Some(directions) = words.take()?.filter(|word| !word.negated) else { return Ok(None) };
    let (Ok(set), Some(directions)) = (SetName::new(&name.text), value::directions(&directions.text)) else {
        return Ok(None);
    };
    Ok(Some(Match::Set(Box::new(SetMatch { set, directions, negated }))))
}

fn ipvs(words: &mut Words<'_>, family: IpFamily) -> Result<Option<Match>, WordError> {
    let mut asked = IpvsMatch { protocol: None, address: None, port: None };
    loop {
        let is_known = if let Some((negated, word)) = option(words, "--vproto")? {
            let number = protocol::number(&word.text).filter(|number| *number != 0);
            asked.protocol.is_none()
                && number.map(|number| asked.protocol = Some(ProtocolMatch { number, negated })).is_some()
        } else if let Some((negated, word)) = option(words, "--vaddr")? {
            let cidr = value::cidr(&word.text, family);
            asked.address.is_none()
                && cidr.map(|cidr| asked.address = Some(AddrMatch { cidr, negated })).is_some()
        } else if let Some((negated, word)) = option(words, "--vport")? {
            let port = value::ports(&word.text).filter(|(first, last)| first == last);
            asked.port.is_none() && port.map(|(port, _)| asked.port = Some((port, negated))).is_some()
        } else {
            break;
        };
        if !is_known {
            return Ok(None);
        }
    }
    let any = asked.protocol.is_some() || asked.address.is_some() || asked.port.is_some();
    Ok(any.then(|| Match::Ipvs(Box::new(asked))))
}

fn physdev(words: &mut Words<'_>) -> Result<Option<Match>, WordError> {
    match words.current() {
        Some(word) if !word.quoted && word.text == "--physdev-is-in" => {
            let negated = word.negated;
            words.advance()?;
            Ok(Some(Match::PhysdevIsIn { negated }))
        }
        Some(_) | None => Ok(None),
    }
}

fn bpf(words: &mut Words<'_>, family: IpFamily) -> Result<Option<Match>, WordError> {
    let program = plain(words, "--bytecode")?;
    Ok(program.filter(|word| word.text == bytecode::to_itself(family)).map(|_| Match::ToItself))
}

fn recent(words: &mut Words<'_>, family: IpFamily) -> Result<Option<Match>, WordError> {
    let whole_address = match family {
        IpFamily::V4 => "255.255.255.255",
        IpFamily::V6 => "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    };
    let (mut list, mut seconds) = (None, None);
    let (mut sets, mut checks, mut reaps) = (false, false, false);
    loop {
        if let Some(word) = plain(words, "--name")? {
            if list.is_some() || word.quoted {
                return Ok(None);
            }
            list = Some(Box::from(&*word.text));
        } else if let Some(word) = plain(words, "--seconds")? {
            seconds = value::seconds(&word.text);
            if seconds.is_none() {
                return Ok(None);
            }
        } else if let Some(word) = plain(words, "--mask")? {
            if word.text != whole_address {
                return Ok(None);
            }
        } else if flag(words, "--set")? {
            sets = true;
        } else if flag(words, "--rcheck")? {
            checks = true;
        } else if flag(words, "--reap")? {
            reaps = true;
        } else if !flag(words, "--rsource")? {
            break;
        }
    }
    let action = match (sets, checks, seconds) {
        (true, false, None) if !reaps => RecentAction::Set,
        (false, true, Some(seconds)) => RecentAction::Check { seconds, reap: reaps },
        _ => return Ok(None),
    };
    let list = list.unwrap_or_else(|| Box::from("DEFAULT"));
    Ok(Some(Match::Recent(Box::new(Recent { list, action }))))
}
