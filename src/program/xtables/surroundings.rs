//! What beside the rules decides about a packet: sets that they ask, and virtual servers that take it out of their hands.

use crate::net::{AddrPort, Protocol};
use crate::program::ipset::SetName;

use super::Direction;

/// What a set is asked: the sides of a packet, one for each of its dimensions.
#[derive(Debug, Clone, Copy)]
pub struct SetQuestion<'a> {
    /// Which side, one for each dimension.
    pub directions: &'a [Direction],
    /// The protocol, which a dimension of ports compares as well.
    pub protocol: Protocol,
    /// Where the packet comes from.
    pub source: AddrPort,
    /// Where it goes.
    pub destination: AddrPort,
}

impl SetQuestion<'_> {
    /// What a dimension, counted from 0, is asked about; `None` if the match asks about fewer.
    pub fn side(&self, dimension: usize) -> Option<AddrPort> {
        self.directions.get(dimension).map(|direction| match direction {
            Direction::Source => self.source,
            Direction::Destination => self.destination,
        })
    }
}

/// What a virtual server does with the first packet of a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Scheduled {
    /// There is none: the packet goes on as it is.
    Passed,
    /// It has nobody to send it to: an ICMP error comes back.
    Refused,
    /// It goes to one of these real servers, each with its share; the shares add up to 1.
    Sent(Vec<(AddrPort, f64)>),
    /// That cannot be told.
    Unknown,
}

/// Answers of the kernel that do not come from rules.
pub trait Surroundings {
    /// Whether a set holds an entry; `None` if that is not known.
    fn holds(&self, set: &SetName, question: &SetQuestion<'_>) -> Option<bool>;

    /// What becomes of a connection to an address.
    fn schedule(&self, protocol: Protocol, destination: AddrPort) -> Scheduled;
}

/// Rules alone: of sets nothing is known, and there are no virtual servers.
#[derive(Debug, Clone, Copy, Default)]
pub struct RulesAlone;

impl Surroundings for RulesAlone {
    fn holds(&self, _set: &SetName, _question: &SetQuestion<'_>) -> Option<bool> {
        None
    }

    fn schedule(&self, _protocol: Protocol, _destination: AddrPort) -> Scheduled {
        Scheduled::Passed
    }
}
