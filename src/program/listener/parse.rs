//! Reads what `emit` writes.

use std::fmt;

use crate::net::{AddrPort, Protocol};

use super::{Listener, ListenerKey, Listeners};

/// A line that is no listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub text: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

impl std::error::Error for ParseError {}

/// Reads a document. Blank lines and comments are skipped; of two lines with the same name the second is an error.
pub fn parse(text: &str) -> Result<Listeners, ParseError> {
    let mut listeners = Listeners::new();
    for (index, line) in text.lines().enumerate() {
        let failed = |text: String| ParseError { line: index + 1, text };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, listener) = parse_line(line).map_err(failed)?;
        if listeners.insert(key, listener).is_some() {
            return Err(failed(format!("`{key}` is there twice")));
        }
    }
    Ok(listeners)
}

fn parse_line(line: &str) -> Result<(ListenerKey, Listener), String> {
    let (body, label) = line.split_once(" # ").unwrap_or((line, ""));
    let words: Vec<&str> = body.split_ascii_whitespace().collect();
    let (protocol, at, targets, affinity) = match words.as_slice() {
        [protocol, at, "to", targets] => (*protocol, *at, *targets, None),
        [protocol, at, "to", targets, "affinity", seconds] => (*protocol, *at, *targets, Some(*seconds)),
        _ => return Err("not `PROTOCOL ADDRESS:PORT to TARGETS [affinity SECONDS]`".to_owned()),
    };
    let protocol = Protocol::from_name(protocol).ok_or_else(|| format!("`{protocol}` is no protocol"))?;
    let address =
        |text: &str| text.parse::<AddrPort>().map_err(|()| format!("`{text}` is no address with port"));
    let key = ListenerKey { protocol, at: address(at)? };
    let targets = match targets {
        "none" => Ok(std::collections::BTreeSet::new()),
        listed => listed.split(',').map(address).collect(),
    };
    let seconds = |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` is no number of seconds"));
    let affinity_seconds = affinity.map(seconds).transpose()?;
    Ok((key, Listener { targets: targets?, affinity_seconds, label: label.trim().into() }))
}
