//! The choice among the endpoints of a pool: whoever was remembered goes back where it was, others go by chance, each
//! endpoint with the same (reference sections 2.11 and 2.12). In the fast layout many endpoints are a tree.

use crate::backend::Layout;
use crate::program::Tag;
use crate::program::xtables::{ChainName, Match, RecentAction, Rule, Target};
use crate::resolve::PortView;

use super::endpoint::Destination;
use super::{Chains, names};

/// No more endpoints than this stay in one chain of the fast layout.
const UNDIVIDED: usize = 32;
/// How many endpoints a group has, about.
const GROUP: usize = 16;
/// Fewer endpoints get no chain of their own.
const SMALL: usize = 4;
/// Into how many groups endpoints are divided at most, and how often: at last thousands of groups.
const MAX_GROUPS: usize = 32;
const MAX_LEVELS: usize = 3;

/// What the choices of one Service port have in common.
pub(super) struct Choice<'a> {
    /// The Service port.
    pub(super) port: &'a PortView,
    /// The tag of its rules.
    pub(super) tag: Tag,
    /// The shape of the rules.
    pub(super) layout: Layout,
}

/// One of the things that chance chooses among.
enum Turn<'a> {
    To(&'a Destination),
    ToGroup(ChainName, usize),
}

impl Choice<'_> {
    /// The rules for clients that an endpoint remembers, if it does.
    pub(super) fn by_memory(&self, members: &[&Destination]) -> Vec<Rule> {
        let Some(seconds) = self.port.affinity_seconds else { return Vec::new() };
        let check = RecentAction::Check { seconds, reap: true };
        let rule = |one: &&Destination| one.rule(self.port, self.tag, Some(one.recent(check)));
        members.iter().map(rule).collect()
    }

    /// The rules for all others, in a chain of this name: of n endpoints the first with 1/n, the next with 1/(n-1) of the rest,
    /// the last always. A group counts as many times as it has endpoints.
    pub(super) fn by_chance(
        &self,
        members: &[&Destination],
        chain: &ChainName,
        level: usize,
        out: &mut Chains,
    ) -> Vec<Rule> {
        let mut remaining = members.len();
        let mut rules = Vec::with_capacity(members.len());
        for turn in self.turns(members, chain, level, out) {
            let n = if let Turn::ToGroup(_, n) = turn { n } else { 1 };
            let chance = (n < remaining).then(|| Match::Probability(share(n, remaining)));
            remaining -= n;
            rules.push(match turn {
                Turn::To(destination) => destination.rule(self.port, self.tag, chance),
                Turn::ToGroup(group, _) => {
                    let mut rule = Rule::to(Target::Jump(group)).tagged(self.tag);
                    rule.matches.extend(chance);
                    rule
                }
            });
        }
        rules
    }

    /// Endpoints one by one, or in groups if they are many. An endpoint is in a group by its name alone: when others come and
    /// go it stays, unless their number doubles.
    fn turns<'a>(
        &self,
        members: &[&'a Destination],
        chain: &ChainName,
        level: usize,
        out: &mut Chains,
    ) -> Vec<Turn<'a>> {
        if self.layout == Layout::KubeProxy || members.len() <= UNDIVIDED || level == MAX_LEVELS {
            return members.iter().map(|one| Turn::To(one)).collect();
        }
        let n_groups = members.len().div_ceil(GROUP).next_power_of_two().min(MAX_GROUPS);
        let mut groups: Vec<Vec<&Destination>> = vec![Vec::new(); n_groups];
        for destination in members {
            // The number is one of as many as there may be groups.
            let number = names::endpoint_digit(&destination.chain, level) * n_groups / MAX_GROUPS;
            groups[number].push(destination);
        }
        let mut turns = Vec::new();
        for (number, group) in groups.into_iter().enumerate() {
            if group.len() < SMALL {
                turns.extend(group.into_iter().map(Turn::To));
                continue;
            }
            let name = names::group(chain, number);
            let rules = self.by_chance(&group, &name, level + 1, out);
            turns.push(Turn::ToGroup(name, group.len()));
            out.add(name, rules);
        }
        turns
    }
}

/// part/whole as the kernel stores it when it was written with ten decimals, as kube-proxy writes it.
fn share(part: usize, whole: usize) -> u32 {
    const DECIMALS: u128 = 10_000_000_000;
    let (part, whole) = (part as u128, whole as u128);
    // Rounded to ten decimals, half to even as Go prints it; then to 31 bits, half away from zero as lround does.
    let (quotient, rest) = (DECIMALS * part / whole, DECIMALS * part % whole);
    let round_up = rest * 2 > whole || (rest * 2 == whole && quotient % 2 == 1);
    let written = quotient + u128::from(round_up);
    u32::try_from((written * (1 << 31) + DECIMALS / 2) / DECIMALS).unwrap_or(u32::MAX)
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
            assert_eq!(format!("{:.11}", f64::from(share(1, n)) / f64::from(1u32 << 31)), read_back, "1/{n}");
        }
    }
}
