//! What of a machine is ours, whichever mode on iptables made it. The modes share names of chains, so each must know what
//! the other leaves behind.

use std::collections::BTreeSet;

use crate::model::Mode;
use crate::net::IpFamily;
use crate::program::xtables::{Chain, ChainName, Rule, RuleOrder, Ruleset, Table};
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

/// No virtual server is ours beside those that a live program tells to be.
const NOWHERE: ipvs::Ownership<'static> =
    ipvs::Ownership { node_addresses: &BTreeSet::new(), exclude_cidrs: &[], exclusive: false };

/// Chains and jumps of any of these modes in a live ruleset.
pub fn chain_scope(live: &Ruleset) -> Scope {
    let of_ipvs = ipvs::scope(&Program::default(), live.family, &NOWHERE);
    iptables::scope(live).joined(of_ipvs).joined(userspace::scope())
}

/// What of one family of a live program is of others: what packets would meet if ours were not there.
pub fn strangers(live: &Program, family: IpFamily) -> Program {
    let scope = scope(live, family, &NOWHERE, None);
    let mut strangers = Program {
        ipset: live.ipset.clone(),
        dummies: live.dummies.clone(),
        listeners: live.listeners.clone(),
        ..Program::default()
    };
    let rules = live.xtables.get(family).as_ref();
    *strangers.xtables.get_mut(family) = rules.map(|rules| strange_rules(rules, &scope));
    *strangers.ipvs.get_mut(family) = live.ipvs.get(family).as_ref().map(|servers| {
        let theirs = servers.iter().filter(|(server, _)| !scope.servers.contains(server));
        theirs.map(|(key, server)| (*key, server.clone())).collect()
    });
    strangers
}

fn strange_rules(live: &Ruleset, scope: &Scope) -> Ruleset {
    let mut others = Ruleset::empty(live.family);
    for (name, table) in &live.tables {
        let owned = |chain: &ChainName| scope.owns(*name, chain);
        let chains = table.chains.iter().filter(|(chain, _)| !owned(chain)).map(|(chain_name, chain)| {
            let is_theirs = |rule: &&Rule| !rule.chain().is_some_and(owned);
            let rules = chain.rules.iter().filter(is_theirs).cloned().collect();
            (*chain_name, Chain { rules, policy: chain.policy, order: RuleOrder::Exact })
        });
        others.tables.insert(*name, Table { chains: chains.collect() });
    }
    others
}

/// Whether a live ruleset holds chains of any of these modes.
pub fn holds_ours(live: &Ruleset) -> bool {
    iptables::holds_ours(live) || ipvs::holds_ours(live) || userspace::holds_ours(live)
}
