//! What of a machine is ours, whichever mode on iptables made it. The modes share names of chains, so each must know what
//! the other leaves behind.

use crate::model::Mode;
use crate::net::IpFamily;
use crate::program::xtables::Ruleset;
use crate::program::{Program, Scope};

use super::{iptables, ipvs, userspace};

/// What belongs to any mode on iptables in one family of a live program; with `only` one mode, what of it is not another's.
/// iptables mode and IPVS mode share names, userspace mode has its own.
pub fn scope(live: &Program, family: IpFamily, ownership: &ipvs::Ownership<'_>, only: Option<Mode>) -> Scope {
    let none = Ruleset::empty(family);
    let rules = live.xtables.get(family).as_ref().unwrap_or(&none);
    let with_shared_names = || iptables::scope(rules).joined(ipvs::scope(live, family, ownership));
    match only {
        Some(Mode::Userspace) => userspace::scope(),
        Some(Mode::Iptables | Mode::Ipvs | Mode::Nftables) => with_shared_names(),
        None => with_shared_names().joined(userspace::scope()),
    }
}

/// Whether a live ruleset holds chains of any of these modes.
pub fn holds_ours(live: &Ruleset) -> bool {
    iptables::holds_ours(live) || ipvs::holds_ours(live) || userspace::holds_ours(live)
}
