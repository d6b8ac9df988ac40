//! Rules → Services: which VIPs a ruleset serves and which endpoints they lead to, read from the rules themselves. Names
//! come from the comments that kube-proxy's layout writes.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::{LiftedName, LiftedPort, LiftedVip};
use crate::net::{AddrPort, Port, Protocol};
use crate::program::xtables::{Chain, ChainName, Rule, Ruleset, TableName, Target};

use super::{base, names};

/// The Service ports that a ruleset serves, by name. With `only`, no others are looked at.
pub fn lift(ruleset: &Ruleset, only: Option<&BTreeSet<LiftedName>>) -> BTreeMap<LiftedName, LiftedPort> {
    let mut ports = BTreeMap::new();
    let mut walk = Walk { ruleset, only, ports: &mut ports };
    walk.dispatch(TableName::Nat, names::SERVICES);
    walk.dispatch(TableName::Nat, names::NODE_PORTS);
    walk.refusals(names::SERVICES);
    walk.refusals(names::EXTERNAL_SERVICES);
    walk.health_checks();
    ports
}

/// The Service port that a rule was made for, as its comment tells.
pub fn name_of(rule: &Rule) -> Option<LiftedName> {
    let protocol = rule.protocol.and_then(|protocol| Protocol::from_number(protocol.number))?;
    Some((service_in(rule.comment_text()?)?.to_owned(), protocol))
}

/// The Service port (`namespace/name:port`) that a rule of one of our chains was made for, as its comment tells.
pub fn service_of(chain: &str, comment: Option<&str>) -> Option<String> {
    let mut prefixes = names::PREFIXES.iter().chain(&names::BRANCH_PREFIXES);
    let is_ours = prefixes.any(|prefix| chain.starts_with(prefix))
        || base::FIXED_CHAINS.iter().any(|(_, fixed)| fixed.as_str() == chain);
    service_in(comment.filter(|_| is_ours)?).map(str::to_owned)
}

/// The first word with a slash in it: no other word of a comment has one.
pub(super) fn service_in(comment: &str) -> Option<&str> {
    comment.split(' ').find(|word| word.contains('/'))
}

/// The rules of a chain that all Services share, and of the tree below it in the fast layout, with their places.
pub(super) fn shared_rules(
    ruleset: &Ruleset,
    table: TableName,
    root: ChainName,
) -> impl Iterator<Item = (ChainName, usize, &Rule)> {
    let (mut next, mut seen) = (vec![root], BTreeSet::new());
    std::iter::from_fn(move || {
        let name = next.pop()?;
        let rules = ruleset.chain(table, &name).map_or(&[][..], |chain| &chain.rules);
        let below = rules.iter().filter_map(Rule::chain).filter(|chain| super::is_branch(chain));
        next.extend(below.filter(|chain| seen.insert(**chain)));
        Some(rules.iter().enumerate().map(move |(index, rule)| (name, index, rule)))
    })
    .flatten()
}

struct Walk<'a> {
    ruleset: &'a Ruleset,
    only: Option<&'a BTreeSet<LiftedName>>,
    ports: &'a mut BTreeMap<LiftedName, LiftedPort>,
}

impl Walk<'_> {
    fn rules(
        &self,
        table: TableName,
        chain: ChainName,
    ) -> impl Iterator<Item = (LiftedName, &Rule)> + use<'_> {
        shared_rules(self.ruleset, table, chain)
            .filter_map(|(.., rule)| Some((name_of(rule)?, rule)))
            .filter(|(name, _)| self.only.is_none_or(|only| only.contains(name)))
    }

    fn dispatch(&mut self, table: TableName, chain: ChainName) {
        let mut found = Vec::new();
        for (name, rule) in self.rules(table, chain) {
            let (Some(vip), Some(target)) = (LiftedVip::of_rule(rule), rule.chain()) else { continue };
            let is_cluster_ip = rule.comment_text().is_some_and(|comment| comment.ends_with(" cluster IP"));
            let mut endpoints = BTreeSet::new();
            collect_endpoints(self.ruleset, target, 0, &mut endpoints);
            found.push((name, vip, is_cluster_ip, endpoints));
        }
        for (name, vip, is_cluster_ip, endpoints) in found {
            let port = self.ports.entry(name).or_default();
            port.vips.insert(vip);
            if let (true, LiftedVip::Address(addr)) = (is_cluster_ip, vip) {
                port.cluster_ip = Some(addr);
            }
            port.endpoints.extend(endpoints);
        }
    }

    fn refusals(&mut self, chain: ChainName) {
        let found: Vec<(LiftedName, LiftedVip)> = self
            .rules(TableName::Filter, chain)
            .filter_map(|(name, rule)| Some((name, LiftedVip::of_rule(rule)?)))
            .collect();
        for (name, vip) in found {
            let port = self.ports.entry(name).or_default();
            if let (LiftedVip::Address(addr), true) = (vip, chain == names::SERVICES) {
                port.cluster_ip = Some(addr);
            }
            port.vips.insert(vip);
            port.closed.insert(vip);
        }
    }

    /// Health-check rules are TCP whatever their Service port is: the name goes by every protocol that it has.
    fn health_checks(&mut self) {
        let found: Vec<(LiftedName, Port)> = self
            .rules(TableName::Filter, names::NODE_PORTS)
            .filter_map(|(name, rule)| Some((name, rule.destination_port()?)))
            .collect();
        for ((name, protocol), health_check) in found {
            let owner = Protocol::ALL.into_iter().find(|one| self.ports.contains_key(&(name.clone(), *one)));
            let port = self.ports.entry((name, owner.unwrap_or(protocol))).or_default();
            port.vips.insert(LiftedVip::HealthCheck(health_check));
        }
    }
}

/// Deeper than KUBE-FW, KUBE-EXT, KUBE-SVC, three KUBE-SEPS, KUBE-SEP no jump of ours leads; the bound stops loops of others.
const MAX_DEPTH: usize = 8;

fn collect_endpoints(ruleset: &Ruleset, chain: &ChainName, depth: usize, found: &mut BTreeSet<AddrPort>) {
    let Some(Chain { rules, .. }) = ruleset.chain(TableName::Nat, chain) else { return };
    if depth == MAX_DEPTH {
        return;
    }
    for rule in rules {
        if let Some(Target::Dnat(endpoint)) = rule.target {
            found.insert(endpoint);
        } else if let Some(next) = rule.chain().filter(|next| **next != names::MARK_MASQ) {
            collect_endpoints(ruleset, next, depth + 1, found);
        }
    }
}
