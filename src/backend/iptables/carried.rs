//! The rules that carry one Service port, each with a word on what it does.

use std::collections::{BTreeSet, VecDeque};

use crate::backend::{CarryingRule, LiftedName, LiftedVip, Place};
use crate::net::Protocol;
use crate::program::xtables::{
    ChainName, Counters, Match, RecentAction, Rule, Ruleset, TableName, Target, emit,
};

use super::{base, lift, names};

/// All rules of a ruleset that carry a Service port: those that name it, and those of the chains that they lead to.
pub fn carried(ruleset: &Ruleset, counters: &Counters, name: &LiftedName) -> Vec<CarryingRule> {
    let mut gathering =
        Gathering { ruleset, counters, found: Vec::new(), next: VecDeque::new(), seen: BTreeSet::new() };
    for (table, chain) in base::FIXED_CHAINS {
        for (place, index, rule) in lift::shared_rules(ruleset, table, chain) {
            if is_for(rule, name, table, chain) {
                gathering.add(table, (chain, place), index, rule);
            }
        }
    }
    while let Some(chain) = gathering.next.pop_front() {
        let Some(content) = ruleset.chain(TableName::Nat, &chain) else { continue };
        for (index, rule) in content.rules.iter().enumerate() {
            gathering.add(TableName::Nat, (chain, chain), index, rule);
        }
    }
    gathering.found
}

fn is_for(rule: &Rule, (display, protocol): &LiftedName, table: TableName, chain: ChainName) -> bool {
    let named = rule.comment_text().and_then(lift::service_in) == Some(display);
    let is_health_check = table == TableName::Filter && chain == names::NODE_PORTS;
    let of_protocol = rule.protocol.and_then(|one| Protocol::from_number(one.number));
    named && (is_health_check || of_protocol == Some(*protocol))
}

struct Gathering<'a> {
    ruleset: &'a Ruleset,
    counters: &'a Counters,
    found: Vec<CarryingRule>,
    next: VecDeque<ChainName>,
    seen: BTreeSet<ChainName>,
}

impl Gathering<'_> {
    /// Adds a rule: `root` is what its chain is a branch of, or that chain itself.
    fn add(&mut self, table: TableName, (root, chain): (ChainName, ChainName), index: usize, rule: &Rule) {
        if let Some(next) = rule.chain().filter(|next| super::is_hashed(next))
            && self.seen.insert(*next)
        {
            self.next.push_back(*next);
        }
        let endpoint = if let Some(Target::Dnat(endpoint)) = rule.target { Some(endpoint) } else { None };
        let is_dispatch = !super::is_hashed(&chain);
        self.found.push(CarryingRule {
            table: table.to_string(),
            chain: chain.to_string(),
            place: Place::Rule(index + 1),
            text: emit::rule_text(rule, self.ruleset.family),
            word: word(root, rule),
            calls: rule.chain().map(ToString::to_string).into_iter().collect(),
            vip: LiftedVip::of_rule(rule).filter(|_| is_dispatch),
            endpoints: endpoint.into_iter().collect(),
            counter: self.counters.known.then(|| self.counters.rule(table, chain, index)),
        });
    }
}

/// What a rule does.
fn word(chain: ChainName, rule: &Rule) -> String {
    let within = |prefix: &str| chain.as_str().starts_with(prefix);
    match &rule.target {
        Some(Target::Jump(to) | Target::Goto(to)) if *to == names::MARK_MASQ => masquerade(&within, rule),
        Some(Target::Jump(to) | Target::Goto(to)) => call(&within, to.as_str(), rule),
        Some(Target::Dnat(endpoint)) => {
            let chosen = if within(names::ENDPOINT_PREFIX) { String::new() } else { choice(rule) + ": " };
            match rule.matches.iter().any(|one| matches!(one, Match::Recent(_))) {
                true => format!("{chosen}sends to {endpoint}, and remembers the client"),
                false => format!("{chosen}sends to {endpoint}"),
            }
        }
        Some(Target::Reject(_)) => "refuses: there is no endpoint".to_owned(),
        Some(Target::Drop) if chain == names::PROXY_FIREWALL => {
            "drops what no source range let in".to_owned()
        }
        Some(Target::Drop) => "drops: there is no endpoint on this node".to_owned(),
        Some(Target::Accept) => "lets the health checks of load balancers in".to_owned(),
        None if within(names::FIREWALL_PREFIX) => "leaves the rest without an answer".to_owned(),
        None => "counts".to_owned(),
        Some(
            Target::Return
            | Target::Mark { .. }
            | Target::Masquerade { .. }
            | Target::Redirect(_)
            | Target::Unmodelled(_),
        ) => "not made by this mode".to_owned(),
    }
}

fn masquerade(within: &dyn Fn(&str) -> bool, rule: &Rule) -> String {
    let by_interface = || rule.interfaces.as_ref().is_some_and(|one| one.input.is_some());
    if within(names::ENDPOINT_PREFIX) {
        "who is sent back to itself has its source rewritten"
    } else if asks_local_source(rule) {
        "the node's own traffic has its source rewritten"
    } else if rule.source.is_some() || by_interface() {
        "who is no pod has its source rewritten"
    } else {
        "all have their source rewritten"
    }
    .to_owned()
}

fn call(within: &dyn Fn(&str) -> bool, to: &str, rule: &Rule) -> String {
    if within(names::FIREWALL_PREFIX) {
        return match rule.source {
            Some(source) => format!("lets {} in", source.cidr),
            None => "lets all in".to_owned(),
        };
    }
    let pool = if to.starts_with(names::LOCAL_PREFIX) { "endpoints on this node" } else { "any endpoint" };
    if within(names::EXTERNAL_PREFIX) {
        return if asks_local_source(rule) {
            format!("the node itself may use {pool}")
        } else if rule.source.is_some() || rule.interfaces.is_some() {
            format!("pods may use {pool}")
        } else {
            format!("others use {pool}")
        };
    }
    if [names::SERVICE_PREFIX, names::LOCAL_PREFIX, names::GROUP_PREFIX].into_iter().any(within) {
        return choice(rule);
    }
    if to.starts_with(names::FIREWALL_PREFIX) {
        "asks who may come".to_owned()
    } else if to.starts_with(names::EXTERNAL_PREFIX) {
        "takes traffic from outside the cluster".to_owned()
    } else {
        format!("takes traffic for {pool}")
    }
}

/// A rule that may lead to one endpoint.
fn choice(rule: &Rule) -> String {
    for one in &rule.matches {
        match one {
            Match::Recent(recent) => {
                if let RecentAction::Check { seconds, .. } = recent.action {
                    return format!("who was there in the last {seconds} s comes back to it");
                }
            }
            Match::Probability(value) => {
                let share = f64::from(*value) / f64::from(1u32 << 31);
                return format!("{:.1} % of those who are left", share * 100.0);
            }
            Match::Comment(_)
            | Match::Ports(_)
            | Match::Mark(_)
            | Match::Conntrack(_)
            | Match::AddrType(_)
            | Match::Nfacct(_)
            | Match::Set(_)
            | Match::Ipvs(_)
            | Match::PhysdevIsIn { .. }
            | Match::ToItself
            | Match::Unmodelled(_) => {}
        }
    }
    "all who are left".to_owned()
}

fn asks_local_source(rule: &Rule) -> bool {
    rule.matches.iter().any(|one| matches!(one, Match::AddrType(kind) if kind.source_local.is_some()))
}
