//! What rules say about Services, read back: the common result of every mode's `lift`.

use std::collections::BTreeSet;
use std::fmt;

use crate::net::{AddrPort, Port, Protocol};

/// A VIP as rules tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LiftedVip {
    /// A virtual address.
    Address(AddrPort),
    /// A port on the node's addresses.
    NodePort(Port),
    /// A health-check port that is let in.
    HealthCheck(Port),
}

impl LiftedVip {
    /// Whether packets to an address and port are for it.
    pub fn is_at(self, at: AddrPort) -> bool {
        match self {
            LiftedVip::Address(addr) => addr == at,
            LiftedVip::NodePort(port) => port == at.port,
            LiftedVip::HealthCheck(_) => false,
        }
    }
}

impl fmt::Display for LiftedVip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LiftedVip::Address(addr) => addr.fmt(f),
            LiftedVip::NodePort(port) => write!(f, "node:{port}"),
            LiftedVip::HealthCheck(port) => write!(f, "health check node:{port}"),
        }
    }
}

/// A Service port as rules tell of it, in one family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiftedPort {
    /// Its VIPs; the lowest kind first, as [`LiftedVip`] orders them.
    pub vips: BTreeSet<LiftedVip>,
    /// The VIP of the cluster IP, if one is marked as such.
    pub cluster_ip: Option<AddrPort>,
    /// Every endpoint that some VIP leads to.
    pub endpoints: BTreeSet<AddrPort>,
    /// VIPs that refuse or discard what is sent to them.
    pub closed: BTreeSet<LiftedVip>,
}

/// Display name of a Service port (`namespace/name:port`) and its protocol: all that rules tell of its identity.
pub type LiftedName = (String, Protocol);
