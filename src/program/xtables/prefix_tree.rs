//! Dispatch by prefix: a long list of rules for single destinations, or for single ports, becomes a tree of chains, in which a
//! packet meets a few rules of each level. Nothing here knows what the rules are for.
//!
//! Where the tree branches goes by the numbers below, not by how many come before: another address or port changes a chain or
//! two on its way and leaves the others as they are.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::net::{IpCidr, IpFamily, Protocol};

use super::{
    AddrMatch, Chain, ChainName, Match, PortRange, PortsMatch, ProtocolMatch, Rule, RuleOrder, Table, Target,
};

/// How many bits of a number each level tells apart.
const STEP: u8 = 4;
/// A chain of no more rules is not divided: walking them costs as little.
const FULL: usize = 16;
/// Fewer rules get no chain of their own.
const SMALL: usize = 4;
/// Levels below the first chain. nf_tables lets jumps nest 16 deep (NFT_JUMP_STACK_SIZE), and what the rules jump to nests too.
const MAX_LEVELS: usize = 6;

/// What a chain of a tree is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    /// Destinations in a network.
    Network(IpCidr),
    /// Ports of a protocol.
    Ports(Protocol, PortRange),
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Branch::Network(cidr) => write!(f, "{cidr}"),
            Branch::Ports(protocol, ports) => write!(f, "{protocol} {}:{}", ports.first, ports.last),
        }
    }
}

impl Branch {
    /// The jump to its chain.
    fn rule(self, chain: ChainName) -> Rule {
        let jump = Rule::to(Target::Jump(chain));
        match self {
            Branch::Network(cidr) => Rule { destination: Some(AddrMatch { cidr, negated: false }), ..jump },
            Branch::Ports(protocol, ports) => {
                let number = Some(ProtocolMatch { number: protocol.number(), negated: false });
                let ports = Match::Ports(PortsMatch { protocol, source: None, destination: Some(ports) });
                Rule { protocol: number, ..jump }.matching(ports)
            }
        }
    }
}

/// Makes trees of those rules of a chain that commute and are for one destination or one port each, if they are many. `name`
/// gives the chain of a branch its name; all of them must be free.
pub fn grow(table: &mut Table, root: &ChainName, name: &dyn Fn(&Branch) -> ChainName) {
    let Some(chain) = table.chains.get_mut(root) else { return };
    let RuleOrder::FirstCommute(n_commuting) = chain.order else { return };
    let n_commuting = n_commuting.min(chain.rules.len());
    let mut n_rules: BTreeMap<Kind, usize> = BTreeMap::new();
    for place in chain.rules[..n_commuting].iter().filter_map(Place::of) {
        *n_rules.entry(place.kind).or_default() += 1;
    }
    n_rules.retain(|_, n| *n > FULL);
    if n_rules.is_empty() {
        return;
    }
    let last = chain.rules.split_off(n_commuting);
    let mut lists: BTreeMap<Kind, Vec<Rule>> = BTreeMap::new();
    let mut rules = Vec::new();
    for rule in chain.rules.drain(..) {
        match Place::of(&rule).filter(|place| n_rules.contains_key(&place.kind)) {
            Some(place) => lists.entry(place.kind).or_default().push(rule),
            None => rules.push(rule),
        }
    }
    let mut tree = Tree { name, chains: Vec::new() };
    for mut list in lists.into_values() {
        // Rules for the same place keep their order.
        list.sort_by_key(Place::of);
        rules.extend(tree.branches(list, 0));
    }
    chain.order = RuleOrder::FirstCommute(rules.len());
    rules.extend(last);
    chain.rules = rules;
    table.chains.extend(tree.chains);
}

/// What rules are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Address(IpFamily),
    Port(Protocol),
}

/// The one address, or the one port, that a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    kind: Kind,
    number: u128,
}

impl Place {
    fn of(rule: &Rule) -> Option<Place> {
        match rule.destination.filter(|one| !one.negated && one.cidr.is_host()) {
            Some(one) => Some(match one.cidr.network() {
                IpAddr::V4(addr) => {
                    Place { kind: Kind::Address(IpFamily::V4), number: u128::from(addr.to_bits()) }
                }
                IpAddr::V6(addr) => Place { kind: Kind::Address(IpFamily::V6), number: addr.to_bits() },
            }),
            None => rule.matches.iter().find_map(|one| {
                let Match::Ports(PortsMatch { protocol, destination: Some(ports), .. }) = one else {
                    return None;
                };
                let is_one = !ports.negated && ports.first == ports.last;
                is_one.then(|| Place { kind: Kind::Port(*protocol), number: ports.first.into() })
            }),
        }
    }

    /// How many bits its number has.
    fn bits(self) -> u8 {
        match self.kind {
            Kind::Address(family) => family.bits(),
            Kind::Port(_) => 16,
        }
    }

    /// How many bits it has in common with another of its kind before they differ.
    fn n_shared_bits(self, other: Place) -> u8 {
        let n_differing = u128::BITS - (self.number ^ other.number).leading_zeros();
        // At most 128.
        self.bits().saturating_sub(u8::try_from(n_differing).unwrap_or(u8::MAX))
    }

    /// All that begin with the same bits.
    fn branch(self, prefix_len: u8) -> Option<Branch> {
        let rest = (1_u128 << (self.bits() - prefix_len)).wrapping_sub(1);
        let port = |number: u128| u16::try_from(number).ok();
        match self.kind {
            Kind::Address(IpFamily::V4) => {
                let addr = u32::try_from(self.number).ok()?;
                IpCidr::new(std::net::Ipv4Addr::from_bits(addr).into(), prefix_len).map(Branch::Network)
            }
            Kind::Address(IpFamily::V6) => {
                let addr = std::net::Ipv6Addr::from_bits(self.number);
                IpCidr::new(addr.into(), prefix_len).map(Branch::Network)
            }
            Kind::Port(protocol) => {
                let (first, last) = (port(self.number & !rest)?, port(self.number | rest)?);
                Some(Branch::Ports(protocol, PortRange { first, last, negated: false }))
            }
        }
    }
}

/// A tree in the making.
struct Tree<'a> {
    name: &'a dyn Fn(&Branch) -> ChainName,
    chains: Vec<(ChainName, Chain)>,
}

impl Tree<'_> {
    /// What stands in a chain instead of rules, which are of one kind and sorted by their place.
    fn branches(&mut self, rules: Vec<Rule>, level: usize) -> Vec<Rule> {
        let ends = (rules.first().and_then(Place::of), rules.last().and_then(Place::of));
        let (Some(first), Some(last)) = ends else { return rules };
        let n_shared = first.n_shared_bits(last);
        if rules.len() <= FULL || level == MAX_LEVELS || n_shared == first.bits() {
            return rules;
        }
        let prefix_len = (n_shared / STEP + 1) * STEP;
        let branch = |rule: &Rule| Place::of(rule).and_then(|place| place.branch(prefix_len));
        let mut branches = Vec::new();
        let mut rules = rules.into_iter().peekable();
        while let Some(rule) = rules.next() {
            let within = branch(&rule);
            let mut group = vec![rule];
            while let Some(rule) = rules.next_if(|rule| branch(rule) == within) {
                group.push(rule);
            }
            match within {
                Some(within) if group.len() >= SMALL => {
                    let chain = (self.name)(&within);
                    let group = self.branches(group, level + 1);
                    let order = RuleOrder::FirstCommute(group.len());
                    self.chains.push((chain, Chain { policy: None, rules: group, order }));
                    branches.push(within.rule(chain));
                }
                Some(_) | None => branches.append(&mut group),
            }
        }
        branches
    }
}

#[cfg(test)]
#[path = "prefix_tree_tests.rs"]
mod tests;
