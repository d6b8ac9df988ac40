//! A side of a comparison: what it tells apart, and what it does with a packet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::net::AddrPort;
use crate::packet::{Fate, Packet};
use crate::program::question::{Destination, Destinations, Questions};

/// What a side does with the first packet of a flow.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// What becomes of it.
    pub(super) fate: Fate,
    /// Endpoints that it can go to and that its sender is then held to, each with where that is remembered.
    pub(super) remembered: BTreeMap<AddrPort, BTreeSet<String>>,
}

/// A packet that came earlier, from the same sender.
#[derive(Debug, Clone, Copy)]
pub(super) struct Earlier<'a> {
    /// The packet.
    pub(super) packet: &'a Packet,
    /// What this side did with it.
    pub(super) answer: &'a Answer,
    /// Where it went.
    pub(super) endpoint: AddrPort,
    /// How long ago.
    pub(super) age: Duration,
}

/// A side of a comparison.
pub(super) trait Meaning: Sync {
    /// Original destinations that it tells from others.
    fn destinations(&self, found: &mut Destinations);

    /// What it asks of packets to a destination.
    fn questions(&self, destination: &Destination, found: &mut Questions);

    /// What it does with a packet of a sender that it does not know.
    fn answer(&self, packet: &Packet) -> Answer;

    /// What becomes of a packet of a sender that sent another one earlier.
    fn fate_after(&self, packet: &Packet, earlier: &Earlier<'_>) -> Fate;

    /// Whose a packet is, as a number; `None` if this side cannot tell.
    fn owner(&self, packet: &Packet) -> Option<usize>;

    /// The same, or who else has something on the address that the packet goes to.
    fn neighbour(&self, packet: &Packet) -> Option<usize>;

    /// Whether an address is the node's, be it for the sake of Services alone.
    fn is_local(&self, addr: IpAddr) -> bool;

    /// Whether a packet counts as one from a pod.
    fn is_from_pod(&self, packet: &Packet) -> bool;

    /// The rules on a packet's way, as text.
    fn path(&self, packet: &Packet, earlier: Option<&Earlier<'_>>) -> Vec<String>;
}
