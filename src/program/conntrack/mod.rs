//! What a kernel remembers of flows that pass it (connection tracking): as little of it as tells where a flow was sent.

mod answerers;
pub mod wire;

pub use answerers::{Answerers, Asked};

use crate::net::{AddrPort, IpFamily, Protocol};

/// From where to where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    /// Its source.
    pub from: AddrPort,
    /// Its destination.
    pub to: AddrPort,
}

/// A flow that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its packets as they came: `to` is what the client asked.
    pub original: Tuple,
    /// The replies as they come: `from` is who answers, wherever rules have sent the flow.
    pub reply: Tuple,
    /// The zone, which keeps apart flows that are equal otherwise; 0 is that of all who do not care.
    pub zone: u16,
    /// What tells it from a later one with the same tuples.
    pub id: u32,
}

impl Flow {
    /// The family of the client.
    pub fn family(&self) -> IpFamily {
        self.original.from.family()
    }
}
