//! The language of IPVS: virtual servers, each with a scheduler, and the real servers that they send connections to.
//!
//! Types are canonical: flags that the kernel keeps for itself are masked out, so that two virtual servers are equal if
//! and only if the kernel treats them the same. How many connections a real server has is told beside it and never
//! compared.

mod flags;
mod netmask;

pub mod apply;
pub mod check;
pub mod diff;
pub mod emit;
pub mod eval;
pub mod parse;
pub mod reach;
pub mod stage;
#[cfg(test)]
mod tests;
pub mod wire;

pub use flags::{Flags, SchedulerName, SchedulerNameError};

use std::collections::BTreeMap;
use std::fmt;

use crate::net::{AddrPort, IpFamily, Protocol};
use crate::program::Tag;

/// What names a virtual server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKey {
    /// A protocol, an address and a port; `ipvsadm -t`, `-u`, `--sctp-service`.
    Address {
        /// TCP, UDP or SCTP.
        protocol: Protocol,
        /// Address and port.
        at: AddrPort,
    },
    /// Packets with a mark; `ipvsadm -f`, with `-6` for IPv6.
    Mark {
        /// The family of the packets.
        family: IpFamily,
        /// The mark, never 0.
        mark: u32,
    },
}

impl ServiceKey {
    /// The family of its packets.
    pub fn family(&self) -> IpFamily {
        match self {
            ServiceKey::Address { at, .. } => at.family(),
            ServiceKey::Mark { family, .. } => *family,
        }
    }
}

/// `10.96.0.20:80/TCP`, as kube-proxy's log names it.
impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceKey::Address { protocol, at } => write!(f, "{at}/{}", protocol.api_name()),
            ServiceKey::Mark { family, mark } => write!(f, "mark {mark} of {family}"),
        }
    }
}

/// How packets reach a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forward {
    /// By rewriting addresses: `-m`, masquerading.
    Masquerade,
    /// As they are, to this machine.
    Local,
    /// In a tunnel: `-i`.
    Tunnel,
    /// By the address of its link alone: `-g`.
    DirectRoute,
    /// Past the cache.
    Bypass,
}

/// What a tunnel is made of. Everything 0 is IP in IP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tunnel {
    /// 0 IP in IP, 1 GUE, 2 GRE.
    pub kind: u8,
    /// Port of GUE.
    pub port: u16,
    /// Checksum flags.
    pub flags: u16,
}

/// How many connections a real server has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// Established ones.
    pub active: u32,
    /// All others that the kernel still knows.
    pub inactive: u32,
}

impl Connections {
    /// Whether there is none of either kind.
    pub fn is_none(&self) -> bool {
        self.active == 0 && self.inactive == 0
    }
}

/// What has passed through a virtual server, or to a real server, since it was made or its counters were zeroed. The kernel
/// adds up every two seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections begun.
    pub connections: u64,
    /// Packets to real servers.
    pub packets_in: u64,
    /// Packets from real servers, as far as they come back this way.
    pub packets_out: u64,
    /// Bytes to real servers.
    pub bytes_in: u64,
    /// Bytes from real servers.
    pub bytes_out: u64,
}

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Counters) {
        self.connections += other.connections;
        self.packets_in += other.packets_in;
        self.packets_out += other.packets_out;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

impl std::ops::AddAssign for Connections {
    fn add_assign(&mut self, other: Connections) {
        self.active += other.active;
        self.inactive += other.inactive;
    }
}

/// A real server. Two that differ in their connections alone are equal.
#[derive(Debug, Clone, Copy)]
pub struct RealServer {
    /// How packets reach it.
    pub forward: Forward,
    /// Its share; 0 is none of the new connections.
    pub weight: u32,
    /// From how many connections on it gets no more; 0 is no limit.
    pub upper_threshold: u32,
    /// Below how many it gets some again; 0 is three quarters of the upper one.
    pub lower_threshold: u32,
    /// What its tunnel is made of.
    pub tunnel: Tunnel,
    /// What it has now, if this was read from a kernel.
    pub connections: Connections,
}

impl RealServer {
    /// One that is reached by rewriting addresses.
    pub fn masqueraded(weight: u32) -> RealServer {
        RealServer {
            forward: Forward::Masquerade,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: Tunnel::default(),
            connections: Connections::default(),
        }
    }

    /// Without what the kernel keeps and never looks at: settings of a tunnel, unless packets go through one.
    #[must_use]
    pub fn normalized(self) -> RealServer {
        match self.forward {
            Forward::Tunnel => self,
            Forward::Masquerade | Forward::Local | Forward::DirectRoute | Forward::Bypass => {
                RealServer { tunnel: Tunnel::default(), ..self }
            }
        }
    }

    fn compared(&self) -> (Forward, u32, u32, u32, Tunnel) {
        (self.forward, self.weight, self.upper_threshold, self.lower_threshold, self.tunnel)
    }
}

impl PartialEq for RealServer {
    fn eq(&self, other: &RealServer) -> bool {
        self.compared() == other.compared()
    }
}

impl Eq for RealServer {}

/// A virtual server. Two that differ in what they have counted or in the tag alone are equal.
#[derive(Debug, Clone)]
pub struct VirtualServer {
    /// Who chooses among the real servers.
    pub scheduler: SchedulerName,
    /// Its flags, without those that the kernel keeps for itself.
    pub flags: Flags,
    /// For how many seconds a client stays with its real server; 0 unless it is persistent.
    pub persistence_seconds: u32,
    /// Length in bits of the prefix of a client's address that counts as one client: 32 or 128 is the whole of it.
    pub netmask: u8,
    /// The persistence engine (`sip`), if it has one.
    pub engine: Option<SchedulerName>,
    /// Its real servers.
    pub real_servers: BTreeMap<AddrPort, RealServer>,
    /// What has passed through it, if this was read from a kernel.
    pub counters: Option<Counters>,
    /// What it was made for.
    pub tag: Option<Tag>,
}

impl PartialEq for VirtualServer {
    fn eq(&self, other: &VirtualServer) -> bool {
        self.has_settings_of(other) && self.real_servers == other.real_servers
    }
}

impl Eq for VirtualServer {}

impl VirtualServer {
    /// Whether all but the real servers are equal.
    pub fn has_settings_of(&self, other: &VirtualServer) -> bool {
        self.scheduler == other.scheduler
            && self.flags == other.flags
            && self.persistence_seconds == other.persistence_seconds
            && self.netmask == other.netmask
            && self.engine == other.engine
    }

    /// Without what the kernel keeps and never looks at: settings of persistence, unless it is persistent.
    #[must_use]
    pub fn normalized(mut self, family: IpFamily) -> VirtualServer {
        if !self.flags.contains(Flags::PERSISTENT) {
            self.persistence_seconds = 0;
            self.netmask = family.bits();
        }
        self
    }
}

/// Virtual servers by what names them.
pub type VirtualServers = BTreeMap<ServiceKey, VirtualServer>;

/// For how long the kernel remembers connections, in seconds; 0 in a request keeps what is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Established TCP.
    pub tcp: u32,
    /// TCP after the first FIN.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

/// One thing that the kernel is asked to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Makes a virtual server; its real servers are requests of their own.
    NewService(ServiceKey, VirtualServer),
    /// Changes its settings.
    SetService(ServiceKey, VirtualServer),
    /// Deletes it with its real servers.
    DeleteService(ServiceKey),
    /// Adds a real server.
    NewDestination(ServiceKey, AddrPort, RealServer),
    /// Changes one.
    SetDestination(ServiceKey, AddrPort, RealServer),
    /// Removes one; its connections are cut.
    DeleteDestination(ServiceKey, AddrPort),
    /// Sets the timeouts.
    SetTimeouts(Timeouts),
}
