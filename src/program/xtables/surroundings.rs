//! What beside the rules decides about a packet: sets that they ask, and virtual servers that take it out of their hands.

use crate::net::{AddrPort, Protocol};
use crate::program::ipset::SetName;
use crate::program::ipset::eval::{Side, Tuple};

use super::eval::Memory;

/// The first packet of a connection, where virtual servers see it.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    /// Its protocol.
    pub protocol: Protocol,
    /// Where it comes from.
    pub source: AddrPort,
    /// Where it goes.
    pub destination: AddrPort,
    /// Its mark.
    pub mark: u32,
    /// What is remembered of its source.
    pub memory: &'a Memory,
}

/// A real server that may get a connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Sending {
    /// Where it is.
    pub endpoint: AddrPort,
    /// Its share, 0 to 1.
    pub share: f64,
    /// By what name it is remembered that the client went there, if it is.
    pub remembered: Option<Box<str>>,
}

/// What a virtual server does with the first packet of a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Scheduled {
    /// There is none: the packet goes on as it is.
    Passed,
    /// It has nobody to send it to: an ICMP error comes back.
    Refused,
    /// It goes to one of these real servers; the shares add up to 1.
    Sent(Vec<Sending>),
    /// That cannot be told. The text says which virtual server it is, and why.
    Unknown(String),
}

/// Answers of the kernel that do not come from rules.
pub trait Surroundings {
    /// Whether a set holds an entry, with one side for each of its dimensions; `None` if that is not known.
    fn holds(&self, set: &SetName, tuple: &Tuple, sides: &[Side]) -> Option<bool>;

    /// What becomes of a connection.
    fn schedule(&self, connection: &Connection<'_>) -> Scheduled;
}

/// Rules alone: of sets nothing is known, and there are no virtual servers.
#[derive(Debug, Clone, Copy, Default)]
pub struct RulesAlone;

impl Surroundings for RulesAlone {
    fn holds(&self, _: &SetName, _: &Tuple, _: &[Side]) -> Option<bool> {
        None
    }

    fn schedule(&self, _: &Connection<'_>) -> Scheduled {
        Scheduled::Passed
    }
}
