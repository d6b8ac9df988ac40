//! What of a machine is ours, whichever mode on iptables made it. The modes share names of chains, so each must know what
//! the other leaves behind.

use std::collections::BTreeSet;

use crate::net::IpFamily;
use crate::program::xtables::{Chain, ChainName, Rule, RuleOrder, Ruleset, Table};
use crate::program::{Program, Scope};

use super::{iptables, ipvs};

/// What belongs to iptables mode or to IPVS mode in one family of a live program.
pub fn scope(live: &Program, family: IpFamily, ownership: &ipvs::Ownership<'_>) -> Scope {
    let none = Ruleset::empty(family);
    let rules = live.xtables.get(family).as_ref().unwrap_or(&none);
    iptables::scope(rules).joined(ipvs::scope(live, family, ownership))
}

/// Chains and jumps of either mode in a live ruleset.
pub fn chain_scope(live: &Ruleset) -> Scope {
    let nowhere = BTreeSet::new();
    let ownership = ipvs::Ownership { node_addresses: &nowhere, exclude_cidrs: &[], exclusive: false };
    iptables::scope(live).joined(ipvs::scope(&Program::default(), live.family, &ownership))
}

/// What of one family of a live program is of others: what packets would meet if ours were not there.
pub fn strangers(live: &Program, family: IpFamily) -> Program {
    let nowhere = BTreeSet::new();
    let ownership = ipvs::Ownership { node_addresses: &nowhere, exclude_cidrs: &[], exclusive: false };
    let scope = scope(live, family, &ownership);
    let mut strangers =
        Program { ipset: live.ipset.clone(), dummies: live.dummies.clone(), ..Program::default() };
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

/// Whether a live ruleset holds chains of either mode.
pub fn holds_ours(live: &Ruleset) -> bool {
    iptables::holds_ours(live) || ipvs::holds_ours(live)
}
