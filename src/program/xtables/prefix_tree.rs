//! Dispatch by address prefix: a long list of rules for single destinations becomes a tree of chains, in which a packet meets
//! a few rules of each level. Nothing here knows what the rules are for.
//!
//! Where the tree branches goes by the addresses below, not by how many come before: another address changes a chain or two
//! on its way and leaves the others as they are.

use std::net::IpAddr;

use crate::net::{IpCidr, IpFamily};

use super::{AddrMatch, Chain, ChainName, Rule, RuleOrder, Table, Target};

/// How many bits of an address each level tells apart.
const STEP: u8 = 4;
/// A chain of no more rules is not divided: walking them costs as little.
const FULL: usize = 16;
/// Fewer rules get no chain of their own.
const SMALL: usize = 4;
/// Levels below the first chain. nf_tables lets jumps nest 16 deep (NFT_JUMP_STACK_SIZE), and what the rules jump to nests too.
const MAX_LEVELS: usize = 6;

/// Makes a tree of those rules of a chain that commute and are for one destination each, if they are many. `name` gives the
/// chain of a network its name; all of them must be free.
pub fn grow(table: &mut Table, root: &ChainName, name: &dyn Fn(&IpCidr) -> ChainName) {
    let Some(chain) = table.chains.get_mut(root) else { return };
    let RuleOrder::FirstCommute(n_commuting) = chain.order else { return };
    let n_commuting = n_commuting.min(chain.rules.len());
    if chain.rules[..n_commuting].iter().filter(|rule| host(rule).is_some()).count() <= FULL {
        return;
    }
    let last = chain.rules.split_off(n_commuting);
    let (mut for_hosts, mut rules): (Vec<Rule>, Vec<Rule>) =
        chain.rules.drain(..).partition(|rule| host(rule).is_some());
    // Rules for the same address keep their order.
    for_hosts.sort_by_key(host);
    let mut tree = Tree { name, chains: Vec::new() };
    rules.extend(tree.branches(for_hosts, 0));
    chain.order = RuleOrder::FirstCommute(rules.len());
    rules.extend(last);
    chain.rules = rules;
    table.chains.extend(tree.chains);
}

/// The one address that a rule is for.
fn host(rule: &Rule) -> Option<IpAddr> {
    let one = rule.destination.filter(|one| !one.negated && one.cidr.is_host())?;
    Some(one.cidr.network())
}

/// A tree in the making.
struct Tree<'a> {
    name: &'a dyn Fn(&IpCidr) -> ChainName,
    chains: Vec<(ChainName, Chain)>,
}

impl Tree<'_> {
    /// What stands in a chain instead of rules, which are sorted by their address.
    fn branches(&mut self, rules: Vec<Rule>, level: usize) -> Vec<Rule> {
        let ends = (rules.first().and_then(host), rules.last().and_then(host));
        let (Some(first), Some(last)) = ends else { return rules };
        let n_shared = n_shared_bits(first, last);
        if rules.len() <= FULL || level == MAX_LEVELS || n_shared == IpFamily::of(first).bits() {
            return rules;
        }
        let prefix_len = (n_shared / STEP + 1) * STEP;
        let network = |rule: &Rule| host(rule).and_then(|addr| IpCidr::new(addr, prefix_len));
        let mut branches = Vec::new();
        let mut rules = rules.into_iter().peekable();
        while let Some(rule) = rules.next() {
            let within = network(&rule);
            let mut group = vec![rule];
            while let Some(rule) = rules.next_if(|rule| network(rule) == within) {
                group.push(rule);
            }
            match within {
                Some(cidr) if group.len() >= SMALL => {
                    let chain = (self.name)(&cidr);
                    let group = self.branches(group, level + 1);
                    let order = RuleOrder::FirstCommute(group.len());
                    self.chains.push((chain, Chain { policy: None, rules: group, order }));
                    let destination = Some(AddrMatch { cidr, negated: false });
                    branches.push(Rule { destination, ..Rule::to(Target::Jump(chain)) });
                }
                Some(_) | None => branches.append(&mut group),
            }
        }
        branches
    }
}

/// How many bits two addresses of a family have in common before they differ.
fn n_shared_bits(one: IpAddr, other: IpAddr) -> u8 {
    let n_shared = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    };
    // At most 128.
    u8::try_from(n_shared).unwrap_or_default()
}

#[cfg(test)]
#[path = "prefix_tree_tests.rs"]
mod tests;
