//! Table → policies: affinity, traffic policies, source ranges and kinds of VIPs, read from maps, sets and the chains that each
//! VIP leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::backend::{LiftedName, LiftedPolicies, LiftedVip};
use crate::program::nft::{Key, Name, Right, Set, Stmt, Table, Verdict, emit};
use crate::resolve::FrontendKind;

use super::flat::{self, SharedChain};
use super::{lift, names};

/// The policies of the Service ports that a table serves, by name.
pub fn policies(table: &Table) -> BTreeMap<LiftedName, LiftedPolicies> {
    let mut all: BTreeMap<LiftedName, LiftedPolicies> = BTreeMap::new();
    let cluster_ips: BTreeSet<IpAddr> = lift::addresses(table, names::CLUSTER_IPS);
    let is_guarded = |key: &Key| {
        table.sets.get(names::FIREWALL_IPS).is_some_and(|guarded| guarded.elements.contains_key(key))
    };
    for map in [names::SERVICE_IPS, names::SERVICE_NODE_PORTS] {
        for (key, element, chain) in lift::destinations_of(table, map) {
            let Some((vip, protocol)) = lift::vip(key) else { continue };
            let Some(name) = lift::name_of(element, protocol) else { continue };
            let policies = all.entry(name).or_default();
            policies.kinds.extend(kind(vip, &cluster_ips, is_guarded(key)).map(|kind| (vip, kind)));
            let chain_name = chain.as_str();
            if let Some(shared) = flat::shared_chain(chain) {
                match shared {
                    SharedChain::External { is_local } => policies.external_local = Some(is_local),
                    SharedChain::List { is_local } => policies.internal_local = Some(is_local),
                }
                continue;
            }
            if chain_name.starts_with(names::EXTERNAL_PREFIX) {
                policies.external_local = external_is_local(table, chain).or(policies.external_local);
            } else {
                policies.internal_local = Some(chain_name.starts_with(names::LOCAL_PREFIX));
            }
            if policies.affinity_seconds.is_none() {
                policies.affinity_seconds = affinity(table, chain, 0);
            }
        }
    }
    for (key, element, chain) in lift::destinations_of(table, names::FIREWALL_IPS) {
        let Some((vip, protocol)) = lift::vip(key) else { continue };
        let Some(name) = lift::name_of(element, protocol) else { continue };
        let policies = all.entry(name).or_default();
        policies.kinds.insert(vip, FrontendKind::LoadBalancer);
        let is_its_own = super::is_hashed(chain);
        policies.source_ranges =
            if is_its_own { ranges(table, chain) } else { flat::source_ranges(table, key) };
    }
    refusals(table, &cluster_ips, &mut all);
    all
}

fn refusals(table: &Table, cluster_ips: &BTreeSet<IpAddr>, all: &mut BTreeMap<LiftedName, LiftedPolicies>) {
    for map in [names::NO_ENDPOINT_SERVICES, names::NO_ENDPOINT_NODE_PORTS] {
        let elements = table.sets.get(map).into_iter().flat_map(|set: &Set| &set.elements);
        for (key, element) in elements {
            let (Some((vip, protocol)), Some(comment)) = (lift::vip(key), &element.comment) else { continue };
            let policies = all.entry((comment.as_str().to_owned(), protocol)).or_default();
            let kind = kind(vip, cluster_ips, false);
            if let Some(kind) = kind {
                policies.kinds.entry(vip).or_insert(kind);
            }
            // No endpoint at all tells of no policy; none on this node does.
            let drops = matches!(&element.data, Some(crate::program::nft::Data::Verdict(Verdict::Drop)));
            if drops && kind == Some(FrontendKind::ClusterIp) {
                policies.internal_local = Some(true);
            } else if drops {
                policies.external_local = Some(true);
            }
        }
    }
}

fn kind(vip: LiftedVip, cluster_ips: &BTreeSet<IpAddr>, is_guarded: bool) -> Option<FrontendKind> {
    match vip {
        LiftedVip::NodePort(_) => Some(FrontendKind::NodePort),
        LiftedVip::Address(addr) if cluster_ips.contains(&addr.addr) => Some(FrontendKind::ClusterIp),
        LiftedVip::Address(_) if is_guarded => Some(FrontendKind::LoadBalancer),
        // The maps do not tell external IPs from load balancers without source ranges.
        LiftedVip::Address(_) | LiftedVip::HealthCheck(_) => None,
    }
}

/// Where the last rule of an external chain leads: whoever is neither a pod nor the node comes to it.
fn external_is_local(table: &Table, chain: &Name) -> Option<bool> {
    let last = table.chains.get(chain)?.rules.last()?;
    let [Stmt::Verdict(verdict)] = last.stmts.as_slice() else { return None };
    let called = verdict.chain()?;
    Some(called.as_str().starts_with(names::LOCAL_PREFIX))
}

/// The timeout of the first set of clients that is asked.
fn affinity(table: &Table, chain: &Name, depth: usize) -> Option<u32> {
    let chain = table.chains.get(chain).filter(|_| depth < 4)?;
    chain.rules.iter().flat_map(|rule| &rule.stmts).find_map(|stmt| {
        if let Stmt::Match { right: Right::Set(set), .. } = stmt {
            return table.sets.get(set)?.timeout;
        }
        let Stmt::Verdict(verdict) = stmt else { return None };
        affinity(table, verdict.chain()?, depth + 1)
    })
}

fn ranges(table: &Table, chain: &Name) -> Vec<String> {
    let stmts =
        table.chains.get(chain).into_iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.stmts);
    let mut ranges = Vec::new();
    for stmt in stmts {
        if let Stmt::Match { negated: true, right: Right::Keys(keys), .. } = stmt {
            ranges.extend(keys.as_slice().iter().map(emit::key_text));
        }
    }
    ranges
}
