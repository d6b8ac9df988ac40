//! What of a machine is ours, whichever mode on iptables made it. The modes share names of chains, so each must know what
//! the other leaves behind.

use crate::net::IpFamily;
use crate::program::xtables::Ruleset;
use crate::program::{Program, Scope};

use super::{iptables, ipvs};

/// What belongs to iptables mode or to IPVS mode in one family of a live program.
pub fn scope(live: &Program, family: IpFamily, ownership: &ipvs::Ownership<'_>) -> Scope {
    let none = Ruleset::empty(family);
    let rules = live.xtables.get(family).as_ref().unwrap_or(&none);
    iptables::scope(rules).joined(ipvs::scope(live, family, ownership))
}

/// Whether a live ruleset holds chains of either mode.
pub fn holds_ours(live: &Ruleset) -> bool {
    iptables::holds_ours(live) || ipvs::holds_ours(live)
}
