//! What the packet path of a host is, wanted or live: typed rule languages, each with emit, parse, check, diff, eval.
//! It has never heard of Kubernetes, and does no IO.

pub mod attributes;
pub mod conntrack;
pub mod conntrack_wire;
mod emitted;
pub mod eval;
pub mod ipset;
pub mod ipvs;
mod kernel;
pub mod listener;
pub mod nft;
pub mod question;
mod scope;
mod sides;
mod tag;
mod text;
mod transit;
mod walk;
mod words;
pub mod xtables;

pub use emitted::{Emitted, LineTags};
pub use kernel::Kernel;
pub use scope::{ChainPattern, Scope};
pub use tag::Tag;
pub use transit::{Action, Crossing, Memory, Met, Part, Place, Setting};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::net::PerFamily;

/// What is said of a table of nft that has one owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NftTable {
    /// Nothing.
    #[default]
    Unspoken,
    /// It is not there, or not wanted.
    Absent,
    /// It is this.
    Present(nft::Table),
}

impl NftTable {
    /// The table, if there is one.
    pub fn table(&self) -> Option<&nft::Table> {
        match self {
            NftTable::Present(table) => Some(table),
            NftTable::Unspoken | NftTable::Absent => None,
        }
    }
}

/// A dummy device: it only bears addresses, which makes the kernel take packets to them as its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dummy {
    /// Its addresses, each as a host's; `None` for a family that is left alone.
    pub addresses: PerFamily<Option<BTreeSet<IpAddr>>>,
}

/// A whole program: what is wanted of a host, or what a host has. What is `None` or absent is not spoken about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// iptables and ip6tables; `None` for a family that is left alone.
    pub xtables: PerFamily<Option<xtables::Ruleset>>,
    /// The table of nft in each family.
    pub nft: PerFamily<NftTable>,
    /// The virtual servers of IPVS in each family; `None` for a family that is left alone.
    pub ipvs: PerFamily<Option<ipvs::VirtualServers>>,
    /// For how long IPVS remembers connections; `None` if nothing is said, 0 for what the kernel may keep.
    pub ipvs_timeouts: Option<ipvs::Timeouts>,
    /// Listeners of a process of this host; `None` if nothing is said about them.
    pub listeners: Option<listener::Listeners>,
    /// Sets that rules ask, of both families; `None` if nothing is said about sets.
    pub ipset: Option<ipset::Sets>,
    /// Dummy devices by name; `None` if nothing is said about devices.
    pub dummies: Option<BTreeMap<Box<str>, Dummy>>,
    /// nfacct objects that rules count with.
    pub nfacct: BTreeSet<String>,
    /// Kernel settings by path below /proc/sys.
    pub sysctls: BTreeMap<String, String>,
}
