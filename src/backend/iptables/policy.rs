//! Rules → policies: affinity, traffic policies, source ranges, kinds of VIPs, and what has been counted, read from the chains
//! that each VIP leads to.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::{LiftedName, LiftedPolicies, LiftedVip};
use crate::program::xtables::{ChainName, Counters, Match, RecentAction, Rule, Ruleset, TableName, Target};
use crate::resolve::FrontendKind;

use super::{lift, names};

/// The policies of the Service ports that a ruleset serves, by name.
pub fn policies(ruleset: &Ruleset, counters: &Counters) -> BTreeMap<LiftedName, LiftedPolicies> {
    let mut all: BTreeMap<LiftedName, LiftedPolicies> = BTreeMap::new();
    let mut counted = BTreeSet::new();
    for chain in [names::SERVICES, names::NODE_PORTS] {
        for ((chain, index, rule), name, vip) in dispatching(ruleset, TableName::Nat, chain) {
            let Some(target) = rule.chain() else { continue };
            let policies = all.entry(name).or_default();
            let kind = kind(rule, vip);
            policies.kinds.extend(kind.map(|kind| (vip, kind)));
            if counters.known {
                let counter = policies.vip_counts.entry(vip).or_default();
                *counter += counters.rule(TableName::Nat, chain, index);
            }
            if kind == Some(FrontendKind::ClusterIp) {
                policies.internal_local = Some(target.as_str().starts_with(names::LOCAL_PREFIX));
            }
            let (visited, counted) = (BTreeSet::new(), &mut counted);
            let mut walk = Walk { ruleset, counters, policies, visited, counted };
            walk.chain(*target);
        }
    }
    for chain in [names::SERVICES, names::EXTERNAL_SERVICES] {
        for ((.., rule), name, vip) in dispatching(ruleset, TableName::Filter, chain) {
            let policies = all.entry(name).or_default();
            // No endpoint at all tells of no policy; none on this node does.
            let is_local = rule.target == Some(Target::Drop);
            if chain == names::SERVICES {
                policies.kinds.insert(vip, FrontendKind::ClusterIp);
                policies.internal_local = policies.internal_local.or(is_local.then_some(true));
            } else {
                policies.kinds.extend(kind(rule, vip).map(|kind| (vip, kind)));
                policies.external_local = is_local.then_some(true).or(policies.external_local);
            }
        }
    }
    all
}

fn dispatching(
    ruleset: &Ruleset,
    table: TableName,
    chain: ChainName,
) -> impl Iterator<Item = ((ChainName, usize, &Rule), LiftedName, LiftedVip)> {
    lift::shared_rules(ruleset, table, chain)
        .filter_map(|at| Some((at, lift::name_of(at.2)?, LiftedVip::of_rule(at.2)?)))
}

fn kind(rule: &Rule, vip: LiftedVip) -> Option<FrontendKind> {
    let comment = rule.comment_text()?;
    match vip {
        LiftedVip::NodePort(_) => Some(FrontendKind::NodePort),
        LiftedVip::HealthCheck(_) => None,
        LiftedVip::Address(_) if comment.ends_with(" cluster IP") => Some(FrontendKind::ClusterIp),
        LiftedVip::Address(_) if comment.ends_with(" external IP") => Some(FrontendKind::ExternalIp),
        LiftedVip::Address(_) if comment.ends_with(" loadbalancer IP") => Some(FrontendKind::LoadBalancer),
        LiftedVip::Address(_) => None,
    }
}

/// Through the chains that a VIP leads to.
struct Walk<'a> {
    ruleset: &'a Ruleset,
    counters: &'a Counters,
    policies: &'a mut LiftedPolicies,
    visited: BTreeSet<ChainName>,
    /// Rules that send to an endpoint, whatever VIP led there: each has counted those of all VIPs.
    counted: &'a mut BTreeSet<(ChainName, usize)>,
}

impl Walk<'_> {
    fn chain(&mut self, name: ChainName) {
        if !super::is_hashed(&name) || !self.visited.insert(name) {
            return;
        }
        let Some(chain) = self.ruleset.chain(TableName::Nat, &name) else { return };
        if let Some(last) = chain.rules.last().and_then(Rule::chain)
            && name.as_str().starts_with(names::EXTERNAL_PREFIX)
        {
            // Whoever is neither a pod nor the node comes to the last rule.
            self.policies.external_local = Some(last.as_str().starts_with(names::LOCAL_PREFIX));
        }
        for (index, rule) in chain.rules.iter().enumerate() {
            if name.as_str().starts_with(names::FIREWALL_PREFIX)
                && let Some(source) = rule.source
            {
                let range = source.cidr.to_string();
                if !self.policies.source_ranges.contains(&range) {
                    self.policies.source_ranges.push(range);
                }
            }
            self.policies.affinity_seconds = self.policies.affinity_seconds.or(remembered(rule));
            if let Some(Target::Dnat(endpoint)) = rule.target
                && self.counters.known
                && self.counted.insert((name, index))
            {
                let counter = self.policies.endpoint_counts.entry(endpoint).or_default();
                *counter += self.counters.rule(TableName::Nat, name, index);
            }
            if let Some(next) = rule.chain() {
                self.chain(*next);
            }
        }
    }
}

fn remembered(rule: &Rule) -> Option<u32> {
    rule.matches.iter().find_map(|one| match one {
        Match::Recent(recent) => match recent.action {
            RecentAction::Check { seconds, .. } => Some(seconds),
            RecentAction::Set => None,
        },
        Match::Comment(_)
        | Match::Ports(_)
        | Match::Probability(_)
        | Match::Mark(_)
        | Match::Conntrack(_)
        | Match::AddrType(_)
        | Match::Nfacct(_)
        | Match::Set(_)
        | Match::Ipvs(_)
        | Match::PhysdevIsIn { .. }
        | Match::ToItself
        | Match::Unmodelled(_) => None,
    })
}
