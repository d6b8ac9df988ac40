//! What the packet path of a host is, wanted or live: typed rule languages, each with emit, parse, check, diff, eval.
//! It has never heard of Kubernetes, and does no IO.

mod scope;
mod tag;
pub mod xtables;

pub use scope::{ChainPattern, Scope};
pub use tag::Tag;

use std::collections::{BTreeMap, BTreeSet};

use crate::net::PerFamily;

/// A whole program: what is wanted of a host, or what a host has. What is `None` or absent is not spoken about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// iptables and ip6tables; `None` for a family that is left alone.
    pub xtables: PerFamily<Option<xtables::Ruleset>>,
    /// nfacct objects that rules count with.
    pub nfacct: BTreeSet<String>,
    /// Kernel settings by path below /proc/sys.
    pub sysctls: BTreeMap<String, String>,
}
