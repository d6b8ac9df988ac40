//! The choice among the endpoints of a Service port, and the chain of each (reference sections 2.8, 2.11 and 2.12).

use std::fmt::Write as _;
use std::sync::Arc;

use crate::net::{AddrPort, IpCidr};
use crate::program::Tag;
use crate::program::xtables::{
    ChainName, Match, PortsMatch, ProtocolMatch, Recent, RecentAction, Rule, Target,
};
use crate::resolve::{PoolKind, PortView};

use super::Chains;
use super::names::{self, PortChains};

/// What the names and comments of a Service port's endpoint rules are made of.
pub(super) struct Naming<'a> {
    /// Display name.
    pub(super) name: &'a Arc<str>,
    /// Display name and protocol, written one after the other: the beginning of what is hashed.
    pub(super) hashed: Vec<u8>,
    /// The Service port's chains.
    pub(super) chains: PortChains,
    /// The tag of its rules.
    pub(super) tag: Tag,
    /// Whether comments that repeat for every endpoint are left out.
    pub(super) large: bool,
}

/// An endpoint with the name of its chain and the comment of jumps to it.
struct Destination {
    addr: AddrPort,
    chain: ChainName,
    comment: Option<Arc<str>>,
}

/// Adds the chains of both pools and of every endpoint. `masquerade` is the first rule of the chain of one pool.
pub(super) fn lower_endpoints(
    port: &PortView,
    naming: &Naming<'_>,
    masquerade: Option<(PoolKind, Rule)>,
    out: &mut Chains,
) {
    let destinations = destinations(port, naming);
    for (pool, chain) in
        [(PoolKind::Cluster, naming.chains.cluster()), (PoolKind::Local, naming.chains.local())]
    {
        let members = destinations.iter().zip(&port.endpoints).filter(|(_, endpoint)| match pool {
            PoolKind::Cluster => endpoint.in_cluster,
            PoolKind::Local => endpoint.in_local,
        });
        let members: Vec<&Destination> = members.map(|(destination, _)| destination).collect();
        if members.is_empty() {
            continue;
        }
        let mut rules = Vec::with_capacity(members.len() + 1);
        rules.extend(masquerade.iter().filter(|(of, _)| *of == pool).map(|(_, rule)| rule.clone()));
        choose_among(&members, port.affinity_seconds, naming.tag, &mut rules);
        out.add(chain, rules);
    }
    for destination in &destinations {
        out.add(destination.chain, endpoint_rules(port, naming, destination));
    }
}

fn destinations(port: &PortView, naming: &Naming<'_>) -> Vec<Destination> {
    let mut hashed = naming.hashed.clone();
    let mut text = String::with_capacity(64);
    let mut make = |addr: AddrPort| {
        text.clear();
        // Writing to a String cannot fail.
        let _ = write!(text, "{addr}");
        hashed.truncate(naming.hashed.len());
        hashed.extend_from_slice(text.as_bytes());
        let chain = names::endpoint(&hashed);
        let comment = (!naming.large).then(|| {
            text.insert_str(0, " -> ");
            text.insert_str(0, naming.name);
            Arc::from(text.as_str())
        });
        Destination { addr, chain, comment }
    };
    port.endpoints.iter().map(|endpoint| make(endpoint.addr)).collect()
}

/// One endpoint by chance, each with the same: the first with 1/n, the next with 1/(n-1) of the rest, the last always.
/// With affinity, whoever was remembered goes back where it was.
fn choose_among(members: &[&Destination], affinity_seconds: Option<u32>, tag: Tag, rules: &mut Vec<Rule>) {
    let to = |destination: &Destination| {
        let mut rule = Rule::to(Target::Jump(destination.chain)).tagged(tag);
        rule.matches.extend(destination.comment.clone().map(Match::Comment));
        rule
    };
    if let Some(seconds) = affinity_seconds {
        rules.extend(members.iter().map(|destination| {
            let action = RecentAction::Check { seconds, reap: true };
            to(destination).matching(recent(destination, action))
        }));
    }
    for (index, destination) in members.iter().enumerate() {
        let remaining = members.len() - index;
        let rule = to(destination);
        rules.push(if remaining > 1 { rule.matching(Match::Probability(one_in(remaining))) } else { rule });
    }
}

fn recent(destination: &Destination, action: RecentAction) -> Match {
    Match::Recent(Box::new(Recent { list: destination.chain.as_str().into(), action }))
}

/// 1/n as the kernel stores it when it was written with ten decimals, as kube-proxy writes it.
fn one_in(n: usize) -> u32 {
    const DECIMALS: u128 = 10_000_000_000;
    let n = n as u128;
    // Rounded to ten decimals, half to even as Go prints it; then to 31 bits, half away from zero as lround does.
    let (quotient, rest) = (DECIMALS / n, DECIMALS % n);
    let round_up = rest * 2 > n || (rest * 2 == n && quotient % 2 == 1);
    let written = quotient + u128::from(round_up);
    u32::try_from((written * (1 << 31) + DECIMALS / 2) / DECIMALS).unwrap_or(u32::MAX)
}

fn endpoint_rules(port: &PortView, naming: &Naming<'_>, destination: &Destination) -> Vec<Rule> {
    let start = |target| {
        let mut rule = Rule::to(target).tagged(naming.tag);
        if !naming.large {
            rule.matches.push(Match::Comment(naming.name.clone()));
        }
        rule
    };
    // Hairpin: an endpoint that is sent back to itself must not see its own address as the source.
    let hairpin = start(Target::Jump(names::MARK_MASQ)).source(IpCidr::host(destination.addr.addr), false);
    let protocol = port.name.protocol;
    let mut dnat = start(Target::Dnat(destination.addr));
    dnat.protocol = Some(ProtocolMatch { number: protocol.number(), negated: false });
    if port.affinity_seconds.is_some() {
        dnat.matches.push(recent(destination, RecentAction::Set));
    }
    dnat.matches.push(Match::Ports(PortsMatch { protocol, source: None, destination: None }));
    vec![hairpin, dnat]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_that_the_kernel_reads_back() {
        for (n, read_back) in [
            (2, "0.50000000000"),
            (3, "0.33333333349"),
            (4, "0.25000000000"),
            (5, "0.20000000019"),
            (6, "0.16666666651"),
            (7, "0.14285714272"),
        ] {
            assert_eq!(format!("{:.11}", f64::from(one_in(n)) / f64::from(1u32 << 31)), read_back, "1/{n}");
        }
    }
}
