//! Every way to break one thing in iptables rules.

use svcproxy::net::{AddrPort, IpCidr, Protocol};
use svcproxy::program::xtables::{
    ConntrackStates, Match, PortRange, ProtocolMatch, Recent, RecentAction, RejectWith, Rule, Ruleset, Side,
    Target,
};

use super::next;

/// All rulesets that differ from one in a single thing, each with a word on what that is.
pub(super) fn mutants(ruleset: &Ruleset) -> Vec<(String, Ruleset)> {
    let mut all = Vec::new();
    let endpoints = endpoints(ruleset);
    for (table, chains) in &ruleset.tables {
        for (name, chain) in &chains.chains {
            let mut add = |what: &str, change: &dyn Fn(&mut Vec<Rule>)| {
                let mut mutant = ruleset.clone();
                let tables = mutant.tables.get_mut(table).unwrap();
                change(&mut tables.chains.get_mut(name).unwrap().rules);
                all.push((format!("{table} {name}: {what}"), mutant));
            };
            for at in 0..chain.rules.len() {
                add(&format!("rule {at} dropped"), &|rules| {
                    rules.remove(at);
                });
                if at + 1 < chain.rules.len() {
                    add(&format!("rules {at} and {} exchanged", at + 1), &|rules| rules.swap(at, at + 1));
                }
                for (what, rule) in broken_rules(&chain.rules[at], &endpoints) {
                    add(&format!("rule {at}: {what}"), &|rules| rules[at] = rule.clone());
                }
            }
            if chain.rules.len() > 1 {
                add("emptied", &|rules| rules.clear());
            }
        }
    }
    all
}

fn endpoints(ruleset: &Ruleset) -> Vec<AddrPort> {
    let chains = ruleset.tables.values().flat_map(|table| table.chains.values());
    let rules = chains.flat_map(|chain| &chain.rules);
    rules
        .filter_map(|rule| if let Some(Target::Dnat(to)) = &rule.target { Some(*to) } else { None })
        .collect()
}

/// The rule with one thing changed, in every way.
fn broken_rules(rule: &Rule, endpoints: &[AddrPort]) -> Vec<(String, Rule)> {
    let mut all: Vec<(String, Rule)> = Vec::new();
    let mut add = |what: &str, change: &dyn Fn(&mut Rule)| {
        let mut broken = rule.clone();
        change(&mut broken);
        all.push((what.to_owned(), broken));
    };
    if let Some(source) = rule.source {
        let cidr = source.cidr;
        add("source negated", &|rule| rule.source.as_mut().unwrap().negated ^= true);
        add("source left out", &|rule| rule.source = None);
        for len in [cidr.prefix_len().saturating_sub(1), cidr.prefix_len() + 1] {
            if let Some(other) = IpCidr::new(cidr.network(), len).filter(|other| *other != cidr) {
                add(&format!("source /{len}"), &|rule| rule.source.as_mut().unwrap().cidr = other);
            }
        }
        let other = IpCidr::new(next(cidr.network()), cidr.family().bits()).unwrap();
        add("another source", &|rule| rule.source.as_mut().unwrap().cidr = other);
    }
    if let Some(destination) = rule.destination {
        let other = IpCidr::new(next(destination.cidr.network()), destination.cidr.family().bits()).unwrap();
        add("another destination", &|rule| rule.destination.as_mut().unwrap().cidr = other);
        add("destination negated", &|rule| rule.destination.as_mut().unwrap().negated ^= true);
        add("destination left out", &|rule| rule.destination = None);
    }
    if rule.protocol.is_some() {
        let other = |number| if number == 6 { 17 } else { 6 };
        add("another protocol", &|rule| {
            let number = other(rule.protocol.unwrap().number);
            rule.protocol = Some(ProtocolMatch { number, negated: false });
            for one in &mut rule.matches {
                if let Match::Ports(ports) = one {
                    ports.protocol = Protocol::from_number(number).unwrap();
                }
            }
        });
    }
    if rule.interfaces.as_ref().is_some_and(|interfaces| interfaces.input.is_some()) {
        let input = |rule: &mut Rule| rule.interfaces.as_mut().unwrap().input.clone().unwrap();
        add("interface negated", &|rule| {
            let mut one = input(rule);
            one.negated ^= true;
            rule.interfaces.as_mut().unwrap().input = Some(one);
        });
        add("another interface", &|rule| {
            let mut one = input(rule);
            one.name = format!("x{}", one.name).into();
            rule.interfaces.as_mut().unwrap().input = Some(one);
        });
    }
    for target in other_targets(rule.target.as_ref(), endpoints) {
        add(&format!("target {target:?}"), &|rule| rule.target = target.clone());
    }
    for at in 0..rule.matches.len() {
        if !matches!(rule.matches[at], Match::Comment(_)) {
            add(&format!("match {at} left out"), &|rule| {
                rule.matches.remove(at);
            });
        }
        for other in other_matches(&rule.matches[at]) {
            add(&format!("match {at} is {other:?}"), &|rule| rule.matches[at] = other.clone());
        }
    }
    all
}

fn other_targets(target: Option<&Target>, endpoints: &[AddrPort]) -> Vec<Option<Target>> {
    match target {
        Some(Target::Dnat(to)) => {
            let mut all = vec![
                Some(Target::Dnat(AddrPort::new(next(to.addr), to.port))),
                Some(Target::Dnat(AddrPort::new(to.addr, to.port + 1))),
            ];
            let other = endpoints.iter().find(|other| *other != to);
            all.extend(other.map(|other| Some(Target::Dnat(*other))));
            all
        }
        Some(Target::Mark { value, mask }) => vec![
            Some(Target::Mark { value: value << 1, mask: *mask }),
            Some(Target::Mark { value: *value, mask: u32::MAX }),
            Some(Target::Mark { value: 0, mask: *mask }),
        ],
        Some(Target::Jump(chain)) => vec![Some(Target::Goto(*chain)), None, Some(Target::Return)],
        Some(Target::Drop) => vec![Some(Target::Reject(RejectWith::PortUnreachable)), Some(Target::Accept)],
        Some(Target::Reject(_)) => vec![Some(Target::Drop), None],
        Some(Target::Return | Target::Accept) => vec![Some(Target::Drop), None],
        Some(Target::Masquerade { .. }) => vec![Some(Target::Accept)],
        None => vec![Some(Target::Drop)],
        Some(Target::Redirect(port)) => vec![Some(Target::Redirect(port + 1)), Some(Target::Accept)],
        Some(Target::Goto(_) | Target::Unmodelled(_)) => Vec::new(),
    }
}

fn other_matches(one: &Match) -> Vec<Match> {
    match one {
        Match::Ports(ports) => {
            let of = |range: PortRange| {
                let mut ports = *ports;
                ports.destination = Some(range);
                Match::Ports(ports)
            };
            let Some(range) = ports.destination else { return Vec::new() };
            vec![
                of(PortRange::single(range.first + 1)),
                of(PortRange { negated: !range.negated, ..range }),
                of(PortRange { last: range.last + 3, ..range }),
            ]
        }
        Match::Probability(value) => {
            vec![Match::Probability(value / 2), Match::Probability(value + value / 3)]
        }
        Match::Mark(mark) => {
            let (mut shifted, mut negated) = (*mark, *mark);
            shifted.value = mark.value << 1;
            shifted.mask = mark.mask << 1;
            negated.negated ^= true;
            vec![Match::Mark(shifted), Match::Mark(negated)]
        }
        Match::Conntrack(states) => {
            let negated = ConntrackStates { negated: !states.negated, ..*states };
            let others = ConntrackStates { bits: states.bits ^ ConntrackStates::NEW, ..*states };
            vec![Match::Conntrack(negated), Match::Conntrack(others)]
        }
        Match::AddrType(kind) => {
            let mut negated = *kind;
            negated.source_local = kind.source_local.map(|not| !not);
            negated.destination_local = kind.destination_local.map(|not| !not);
            let mut turned = *kind;
            std::mem::swap(&mut turned.source_local, &mut turned.destination_local);
            vec![Match::AddrType(negated), Match::AddrType(turned)]
        }
        Match::Recent(recent) => {
            let of = |list: &str, action| Match::Recent(Box::new(Recent { list: list.into(), action }));
            let mut all = vec![of("ANOTHER", recent.action)];
            if let RecentAction::Check { seconds, reap } = recent.action {
                for seconds in [seconds - 1, seconds + 1] {
                    all.push(of(&recent.list, RecentAction::Check { seconds, reap }));
                }
            }
            all
        }
        Match::Set(set) => {
            let mut negated = set.clone();
            negated.negated ^= true;
            let mut turned = set.clone();
            for direction in &mut turned.directions {
                *direction = match direction {
                    Side::Source => Side::Destination,
                    Side::Destination => Side::Source,
                };
            }
            vec![Match::Set(negated), Match::Set(turned)]
        }
        Match::Comment(_) | Match::Nfacct(_) | Match::Ipvs(_) | Match::ToItself | Match::Unmodelled(_) => {
            Vec::new()
        }
        Match::PhysdevIsIn { negated } => vec![Match::PhysdevIsIn { negated: !negated }],
    }
}
