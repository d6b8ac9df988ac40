//! Which rules of a long chain can match a destination at all: dispatch chains have a rule for each VIP, and no packet
//! need meet them all.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::net::{AddrPort, Port};

use super::{AddrType, Chain, ChainName, Match, Rule, Ruleset, TableName};

/// Chains with fewer rules are walked.
const LONG: usize = 12;

/// Rules by port, apart by whether they ask for a destination on the node (`None` if they do not ask).
type ByPort = BTreeMap<Option<bool>, BTreeMap<Port, Vec<usize>>>;

/// The rules of one chain by what their destination must be.
#[derive(Debug, Clone, Default)]
struct ChainIndex {
    /// Those for exactly one address.
    by_address: BTreeMap<IpAddr, Vec<usize>>,
    /// Those for one port of any address.
    by_port: ByPort,
    /// All others.
    others: Vec<usize>,
}

/// An index of all long chains of a ruleset.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    chains: BTreeMap<(TableName, ChainName), ChainIndex>,
}

impl Index {
    /// Makes it.
    pub(super) fn new(ruleset: &Ruleset) -> Index {
        let mut chains = BTreeMap::new();
        for (table_name, table) in &ruleset.tables {
            for (name, chain) in table.chains.iter().filter(|(_, chain)| chain.rules.len() >= LONG) {
                let index = ChainIndex::new(chain);
                // A chain of rules that all may match is walked as fast.
                if index.others.len() < chain.rules.len() {
                    chains.insert((*table_name, *name), index);
                }
            }
        }
        Index { chains }
    }

    /// The places of the rules that can match a packet to one of these destinations, in order; `None` if that may be any.
    pub(super) fn candidates(
        &self,
        table: TableName,
        chain: &ChainName,
        destinations: impl Iterator<Item = AddrPort>,
    ) -> Option<Vec<usize>> {
        let index = self.chains.get(&(table, *chain))?;
        let mut found = index.others.clone();
        for destination in destinations {
            found.extend(index.by_address.get(&destination.addr).into_iter().flatten());
            let of_port = index.by_port.values().filter_map(|rules| rules.get(&destination.port));
            found.extend(of_port.flatten());
        }
        found.sort_unstable();
        found.dedup();
        Some(found)
    }

    /// The places of the rules that can match a packet to an address, at any port or at one; `None` if that may be any.
    pub(super) fn candidates_of_address(
        &self,
        table: TableName,
        chain: &ChainName,
        (addr, is_local): (IpAddr, bool),
        port: Option<Port>,
    ) -> Option<Vec<usize>> {
        let index = self.chains.get(&(table, *chain))?;
        let mut found = index.others.clone();
        found.extend(index.by_address.get(&addr).into_iter().flatten());
        for (_, rules) in
            index.by_port.iter().filter(|(asked, _)| asked.is_none_or(|asked| asked == is_local))
        {
            match port {
                Some(port) => found.extend(rules.get(&port).into_iter().flatten()),
                None => found.extend(rules.values().flatten()),
            }
        }
        Some(found)
    }
}

impl ChainIndex {
    fn new(chain: &Chain) -> ChainIndex {
        let mut index = ChainIndex::default();
        for (at, rule) in chain.rules.iter().enumerate() {
            let host = rule.destination.filter(|one| !one.negated && one.cidr.is_host());
            if let Some(host) = host {
                index.by_address.entry(host.cidr.network()).or_default().push(at);
            } else if let Some((local, port)) = single_port(rule) {
                index.by_port.entry(local).or_default().entry(port).or_default().push(at);
            } else {
                index.others.push(at);
            }
        }
        index
    }
}

/// The one destination port that a rule asks for, and whether it asks for one on the node. Matches that remember or choose
/// must not stand before it: they would have an effect on packets to other ports.
fn single_port(rule: &Rule) -> Option<(Option<bool>, Port)> {
    let has_effect =
        |one: &Match| matches!(one, Match::Probability(_) | Match::Recent(_) | Match::Unmodelled(_));
    let mut before = rule.matches.iter().take_while(|one| !has_effect(one));
    let range =
        before.find_map(|one| if let Match::Ports(ports) = one { ports.destination } else { None })?;
    let local = rule.matches.iter().find_map(|one| {
        if let Match::AddrType(AddrType { destination_local, .. }) = one { *destination_local } else { None }
    });
    let local = local.map(|negated| !negated);
    (!range.negated && range.first == range.last).then_some((local, range.first))
}
