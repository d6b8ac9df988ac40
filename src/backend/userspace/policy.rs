//! Rules and listeners → policies: affinity, source ranges, kinds of VIPs, and what has been counted. Of a cluster IP no rule
//! tells that it is one: load balancers have the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::{LiftedName, LiftedPolicies, LiftedVip};
use crate::program::listener::Listeners;
use crate::program::xtables::{Counters, Match, Rule, Ruleset, TableName};
use crate::resolve::FrontendKind;

use super::lift::{self, Behind, Portal};
use super::names;
use super::ports::Role;

/// The policies of the Service ports that a ruleset serves, by name.
pub fn policies(
    ruleset: &Ruleset,
    counters: &Counters,
    listeners: Option<&Listeners>,
) -> BTreeMap<LiftedName, LiftedPolicies> {
    let mut all: BTreeMap<LiftedName, LiftedPolicies> = BTreeMap::new();
    let mut guarded: BTreeSet<(LiftedName, LiftedVip)> = BTreeSet::new();
    let mut sources: BTreeMap<(LiftedName, LiftedVip), BTreeSet<String>> = BTreeMap::new();
    let behind = Behind::new(listeners, ruleset.family);
    for chain in lift::PORTAL_CHAINS {
        for (index, rule, found) in lift::portals(ruleset, chain) {
            let Portal { name, role, vip, proxy_port } = found;
            let policies = all.entry(name.clone()).or_default();
            policies.kinds.extend(kind(rule, vip).map(|kind| (vip, kind)));
            if counters.known {
                *policies.vip_counts.entry(vip).or_default() += counters.rule(TableName::Nat, chain, index);
            }
            let mut at_port = behind.at(name.1, proxy_port).iter();
            let affinity = at_port.find_map(|(_, listener)| listener.affinity_seconds);
            policies.affinity_seconds = policies.affinity_seconds.or(affinity);
            let is_external = [names::PORTALS_CONTAINER, names::NODE_PORT_CONTAINER].contains(&chain)
                && policies.kinds.contains_key(&vip);
            if role == Role::NotLetIn {
                guarded.insert((name, vip));
            } else if let Some(source) = rule.source {
                sources.entry((name, vip)).or_default().insert(source.cidr.to_string());
            } else if is_external {
                // Whoever is no pod comes to the last rule.
                policies.external_local = Some(role == Role::Local);
            }
        }
    }
    for (name, vip) in guarded {
        let Some(policies) = all.get_mut(&name) else { continue };
        policies.kinds.insert(vip, FrontendKind::LoadBalancer);
        let ranges = sources.remove(&(name, vip)).into_iter().flatten();
        let more: Vec<String> = ranges.filter(|range| !policies.source_ranges.contains(range)).collect();
        policies.source_ranges.extend(more);
    }
    all
}

/// External IPs are asked for in ways of their own (reference section 5.4), node ports in chains of their own.
fn kind(rule: &Rule, vip: LiftedVip) -> Option<FrontendKind> {
    let asks = |one: &Match| matches!(one, Match::PhysdevIsIn { .. } | Match::AddrType(_));
    match vip {
        LiftedVip::NodePort(_) => Some(FrontendKind::NodePort),
        LiftedVip::Address(_) if rule.matches.iter().any(asks) => Some(FrontendKind::ExternalIp),
        LiftedVip::Address(_) | LiftedVip::HealthCheck(_) => None,
    }
}
