//! What rules ask of packets to a destination: a walk through every rule that such packets may meet, whatever else they are.

use std::collections::BTreeSet;

use crate::net::{AddrPort, IpFamily, Protocol};
use crate::packet::NodeFacts;
use crate::program::Kernel;
use crate::program::question::{Destination, Destinations, InterfacePattern, Questions, range_of};
use crate::program::{ipset, ipvs, listener};

use super::eval::Indexed;
use super::{ChainName, Match, PortsMatch, RecentAction, Rule, Ruleset, TableName, Target};

/// Every original destination that some rule tells from others.
pub fn destinations(ruleset: &Ruleset, kernel: &Kernel<'_>, found: &mut Destinations) {
    let chains = ruleset.tables.values().flat_map(|table| table.chains.values());
    let mut asked = BTreeSet::new();
    for rule in chains.flat_map(|chain| &chain.rules) {
        if let Some(matched) = rule.destination {
            found.insert(range_of(&matched.cidr));
        }
        for one in &rule.matches {
            match one {
                Match::Set(one) => {
                    asked.insert((&one.set, &one.directions));
                }
                Match::Ipvs(one) => {
                    if let Some(address) = one.address {
                        found.insert(range_of(&address.cidr));
                    }
                }
                Match::Comment(_)
                | Match::Ports(_)
                | Match::Probability(_)
                | Match::Mark(_)
                | Match::Conntrack(_)
                | Match::AddrType(_)
                | Match::Recent(_)
                | Match::Nfacct(_)
                | Match::PhysdevIsIn { .. }
                | Match::ToItself
                | Match::Unmodelled(_) => {}
            }
        }
    }
    for (set, sides) in asked {
        if let Some(set) = kernel.set(set) {
            ipset::reach::destinations(set, sides, found);
        }
    }
    if let Some(servers) = kernel.servers() {
        ipvs::reach::destinations(servers, found);
    }
    found.hosts.extend(kernel.addresses());
}

/// What the rules ask of packets to a destination.
pub fn questions(
    (rules, kernel, senders): (&Indexed<'_>, &Kernel<'_>, &ipset::reach::Senders<'_>),
    destination: &Destination,
    facts: &NodeFacts,
    found: &mut Questions,
) {
    let (seen, sent_to) = (BTreeSet::new(), BTreeSet::new());
    let mut walk = Walk { rules, kernel, senders, facts, found, seen, sent_to };
    if IpFamily::of(destination.addr) != rules.ruleset.family {
        return;
    }
    for hook in ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"] {
        walk.hook(hook, destination, true);
    }
    walk.virtual_servers(destination);
    // Where they are sent instead they meet rules again, but those of nat that are asked once a flow.
    let mut known = BTreeSet::new();
    while let Some(destination) = walk.sent_to.pop_first() {
        if !known.insert(destination) {
            continue;
        }
        walk.seen.clear();
        for hook in ["PREROUTING", "OUTPUT"] {
            walk.hook(hook, &destination, false);
        }
        for hook in ["INPUT", "FORWARD", "POSTROUTING"] {
            walk.hook(hook, &destination, true);
        }
        walk.virtual_servers(&destination);
    }
}

struct Walk<'a, 'q> {
    rules: &'a Indexed<'a>,
    kernel: &'a Kernel<'a>,
    senders: &'a ipset::reach::Senders<'a>,
    facts: &'a NodeFacts,
    found: &'q mut Questions,
    /// Chains that were walked for the present destination.
    seen: BTreeSet<(TableName, ChainName)>,
    /// Where rules and virtual servers send packets.
    sent_to: BTreeSet<Destination>,
}

impl Walk<'_, '_> {
    fn hook(&mut self, hook: &'static str, destination: &Destination, with_nat: bool) {
        let is_local = self.facts.is_local(destination.addr);
        if (hook == "INPUT" && !is_local) || (hook == "FORWARD" && is_local) {
            return;
        }
        for table in TableName::ALL.into_iter().filter(|table| with_nat || *table != TableName::Nat) {
            self.chain(table, ChainName::literal(hook), destination);
        }
    }

    fn virtual_servers(&mut self, destination: &Destination) {
        if let Some(servers) = self.kernel.servers() {
            self.sent_to.extend(ipvs::reach::questions(servers, destination, self.found));
        }
    }

    fn chain(&mut self, table: TableName, name: ChainName, destination: &Destination) {
        let rules = self.rules;
        let Some(chain) = rules.ruleset.chain(table, &name) else { return };
        if !self.seen.insert((table, name)) {
            return;
        }
        let addr = (destination.addr, self.facts.is_local(destination.addr));
        let port = destination.service.map(|(_, port)| port);
        match rules.index.candidates_of_address(table, &name, addr, port) {
            Some(candidates) => {
                candidates.into_iter().for_each(|at| self.rule(table, &chain.rules[at], destination));
            }
            None => chain.rules.iter().for_each(|rule| self.rule(table, rule, destination)),
        }
    }

    fn rule(&mut self, table: TableName, rule: &Rule, destination: &Destination) {
        if !self.may_match(rule, destination) {
            // A source is remembered even if a later match of the rule fails.
            let remembers =
                |one: &Match| matches!(one, Match::Recent(recent) if recent.action == RecentAction::Set);
            if rule.matches.iter().any(remembers) {
                self.ask(rule, destination);
            }
            return;
        }
        self.ask(rule, destination);
        match &rule.target {
            Some(Target::Jump(chain) | Target::Goto(chain)) => self.chain(table, *chain, destination),
            Some(Target::Redirect(port)) => {
                // Whatever address of the node it becomes is as good, but for its own packets, which go to loopback.
                let family = self.rules.ruleset.family;
                for addr in [self.facts.own_address(family), Some(family.loopback())].into_iter().flatten() {
                    self.sends(destination, AddrPort::new(addr, *port));
                }
            }
            Some(Target::Dnat(to)) => {
                // Who is sent to where he goes anyway is not translated: connection tracking tells him from the others.
                if to.addr == destination.addr {
                    self.found.ports.insert((None, to.port, to.port));
                }
                self.sends(destination, *to);
            }
            Some(
                Target::Accept
                | Target::Drop
                | Target::Return
                | Target::Reject(_)
                | Target::Mark { .. }
                | Target::Masquerade { .. }
                | Target::Unmodelled(_),
            )
            | None => {}
        }
    }

    /// Notes where packets to a destination are sent instead.
    fn sends(&mut self, destination: &Destination, to: AddrPort) {
        let service = destination.service.map(|(protocol, _)| (protocol, to.port));
        self.sent_to.insert(Destination { addr: to.addr, service });
        let is_asked = |protocol: &Protocol| destination.service.is_none_or(|(asked, _)| asked == *protocol);
        let listeners = self.kernel.listeners();
        for protocol in Protocol::ALL.into_iter().filter(is_asked) {
            let found = listeners.and_then(|all| listener::eval::listener_at(all, protocol, to, self.facts));
            self.found.lifetimes.extend(found.and_then(|(_, listener)| listener.affinity_seconds));
        }
    }

    /// Whether what is known of the destination lets a packet match.
    fn may_match(&self, rule: &Rule, destination: &Destination) -> bool {
        let is_local = self.facts.is_local(destination.addr);
        let fits = |one: &Match| match one {
            Match::AddrType(kind) => kind.destination_local.is_none_or(|negated| is_local != negated),
            Match::Ports(ports) => destination.service.is_none_or(|(protocol, port)| {
                let is_within = ports
                    .destination
                    .is_none_or(|range| (range.first..=range.last).contains(&port) != range.negated);
                ports.protocol == protocol && is_within
            }),
            Match::Comment(_)
            | Match::Probability(_)
            | Match::Mark(_)
            | Match::Conntrack(_)
            | Match::Recent(_)
            | Match::Nfacct(_)
            | Match::Set(_)
            | Match::Ipvs(_)
            | Match::PhysdevIsIn { .. }
            | Match::ToItself
            | Match::Unmodelled(_) => true,
        };
        let is_protocol = |number: u8| {
            destination.service.is_none_or(|(protocol, _)| number == 0 || number == protocol.number())
        };
        rule.destination.is_none_or(|one| one.cidr.contains(destination.addr) != one.negated)
            && rule.protocol.is_none_or(|one| one.negated || is_protocol(one.number))
            && rule.matches.iter().all(fits)
    }

    /// Notes what a rule asks besides.
    fn ask(&mut self, rule: &Rule, destination: &Destination) {
        let found = &mut *self.found;
        found.sources.extend(rule.source.map(|one| range_of(&one.cidr)));
        let input = rule.interfaces.as_ref().and_then(|interfaces| interfaces.input.as_ref());
        found.interfaces.extend(input.map(|one| InterfacePattern::new(&one.name, '+')));
        if destination.service.is_none() {
            found.protocols.extend(rule.protocol.and_then(|one| Protocol::from_number(one.number)));
        }
        for one in &rule.matches {
            match one {
                Match::Ports(PortsMatch { protocol, source, destination: range }) => {
                    found.source_ports.extend(source.map(|range| (range.first, range.last)));
                    if destination.service.is_none() {
                        found.protocols.insert(*protocol);
                        found.ports.extend(range.map(|range| (Some(*protocol), range.first, range.last)));
                    }
                }
                Match::AddrType(kind) => found.source_is_local |= kind.source_local.is_some(),
                Match::Recent(recent) => {
                    if let RecentAction::Check { seconds, .. } = recent.action {
                        found.lifetimes.insert(seconds);
                    }
                }
                Match::Set(asked) => {
                    if let Some(set) = self.kernel.set(&asked.set) {
                        let set = (&asked.set, set, self.senders);
                        ipset::reach::questions(set, &asked.directions, destination, found);
                    }
                }
                Match::Ipvs(asked) => {
                    if destination.service.is_none() {
                        found.ports.extend(asked.port.map(|(port, _)| (None, port, port)));
                    }
                }
                Match::PhysdevIsIn { .. } => found.bridge_port = true,
                Match::ToItself => {
                    found.sources.insert((destination.addr, destination.addr));
                }
                Match::Comment(_)
                | Match::Probability(_)
                | Match::Mark(_)
                | Match::Conntrack(_)
                | Match::Nfacct(_)
                | Match::Unmodelled(_) => {}
            }
        }
    }
}

#[cfg(test)]
#[path = "reach_tests.rs"]
mod tests;
