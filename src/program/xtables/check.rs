//! Tells what of a rule set the kernel or iptables would refuse.

use std::collections::BTreeSet;
use std::fmt;

use crate::net::{IpFamily, Protocol};
use crate::program::Tag;

use super::{
    ChainName, Match, ProtocolMatch, RecentAction, RejectWith, Rule, Ruleset, Table, TableName, Target,
};

/// The longest comment, in bytes (XT_MAX_COMMENT_LEN less its NUL).
pub const MAX_COMMENT: usize = 255;
/// The longest name of an interface, in bytes.
const MAX_INTERFACE: usize = 15;
/// The longest name of a list of recent addresses, in bytes.
const MAX_LIST: usize = 199;
/// The longest name of a counter, in bytes.
const MAX_COUNTER: usize = 31;

/// The most dimensions that a set has (IPSET_DIM_MAX).
const MAX_DIMENSIONS: usize = 6;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The table.
    pub table: TableName,
    /// The chain.
    pub chain: ChainName,
    /// The rule, by its place in the chain from 0; `None` if it is the chain itself.
    pub rule: Option<usize>,
    /// What is wrong.
    pub text: String,
    /// What the rule was made for.
    pub tag: Option<Tag>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {}, chain {}", self.table, self.chain)?;
        if let Some(rule) = self.rule {
            write!(f, ", rule {}", rule + 1)?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Everything that is wrong, table by table.
pub fn check(ruleset: &Ruleset) -> Vec<Problem> {
    let mut checker = Checker { family: ruleset.family, problems: Vec::new() };
    for (name, table) in &ruleset.tables {
        checker.table(*name, table);
    }
    checker.problems
}

/// Where a rule is.
#[derive(Clone, Copy)]
struct Place {
    table: TableName,
    chain: ChainName,
    rule: Option<usize>,
    tag: Option<Tag>,
}

struct Checker {
    family: IpFamily,
    problems: Vec<Problem>,
}

impl Checker {
    fn report(&mut self, place: Place, text: impl Into<String>) {
        let Place { table, chain, rule, tag } = place;
        self.problems.push(Problem { table, chain, rule, text: text.into(), tag });
    }

    fn table(&mut self, name: TableName, table: &Table) {
        let built_in: BTreeSet<&str> = name.built_in_chains().iter().copied().collect();
        let mut any_jump = false;
        for (chain, content) in &table.chains {
            let place = Place { table: name, chain: *chain, rule: None, tag: None };
            match (built_in.contains(chain.as_str()), content.policy.is_some()) {
                (true, false) => self.report(place, "a built-in chain needs a policy"),
                (false, true) => {
                    self.report(place, format!("table {name} has no built-in chain of this name"))
                }
                (true, true) | (false, false) => {}
            }
            for (nth, rule) in content.rules.iter().enumerate() {
                let place = Place { rule: Some(nth), tag: rule.tag, ..place };
                self.rule(place, rule);
                if let Some(target) = rule.chain() {
                    any_jump = true;
                    match table.chains.get(target) {
                        None => {
                            self.report(place, format!("jumps to chain `{target}`, which does not exist"))
                        }
                        Some(content) if content.policy.is_some() => {
                            self.report(place, format!("jumps to built-in chain `{target}`"));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        if any_jump {
            self.loops(name, table);
        }
    }

    /// Reports every jump that leads back to a chain on the way to it. Each chain is walked through once.
    fn loops(&mut self, name: TableName, table: &Table) {
        let chains: Vec<(&ChainName, &[Rule])> =
            table.chains.iter().map(|(name, chain)| (name, &chain.rules[..])).collect();
        // Names side by side: a search among a hundred thousand stays within the cache.
        let names: Vec<ChainName> = table.chains.keys().copied().collect();
        let index = |name: &ChainName| names.binary_search(name).ok();
        let mut walks = vec![Walk::NotYet; chains.len()];
        for root in 0..chains.len() {
            if walks[root] != Walk::NotYet {
                continue;
            }
            walks[root] = Walk::OnTheWay;
            let mut way = vec![(root, 0)];
            while let Some((at, nth)) = way.last_mut() {
                let (chain, rules) = chains[*at];
                let Some(rule) = rules.get(*nth) else {
                    walks[*at] = Walk::Done;
                    way.pop();
                    continue;
                };
                let place = Place { table: name, chain: *chain, rule: Some(*nth), tag: rule.tag };
                *nth += 1;
                let Some(next) = rule.chain().and_then(index) else { continue };
                match walks[next] {
                    Walk::NotYet => {
                        walks[next] = Walk::OnTheWay;
                        way.push((next, 0));
                    }
                    Walk::OnTheWay => {
                        let target = chains[next].0;
                        self.report(place, format!("jumps back to chain `{target}`: a loop"));
                    }
                    Walk::Done => {}
                }
            }
        }
    }

    fn rule(&mut self, place: Place, rule: &Rule) {
        for (option, matched) in [("-s", &rule.source), ("-d", &rule.destination)] {
            if let Some(matched) = matched.filter(|matched| matched.cidr.family() != self.family) {
                self.report(place, format!("{option} {} is no {} network", matched.cidr, self.family));
            }
        }
        if let Some(interfaces) = &rule.interfaces {
            for matched in [&interfaces.input, &interfaces.output].into_iter().flatten() {
                let name = &matched.name;
                let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '/' | '\\');
                if name.is_empty() || name.len() > MAX_INTERFACE || name.contains(odd) {
                    self.report(place, format!("`{name}` is no name of an interface"));
                }
            }
            let (input, output) = (interfaces.input.is_some(), interfaces.output.is_some());
            match place.chain.as_str() {
                "PREROUTING" | "INPUT" if output => self.report(place, "-o has no meaning in this chain"),
                "POSTROUTING" | "OUTPUT" if input => self.report(place, "-i has no meaning in this chain"),
                _ => {}
            }
        }
        for one in &rule.matches {
            self.one_match(place, rule, one);
        }
        if let Some(target) = &rule.target {
            self.target(place, rule, target);
        }
    }

    fn one_match(&mut self, place: Place, rule: &Rule, one: &Match) {
        match one {
            Match::Comment(text) => {
                if text.len() > MAX_COMMENT {
                    self.report(
                        place,
                        format!("the comment has {} bytes, {MAX_COMMENT} are allowed", text.len()),
                    );
                }
                if text.contains(['\n', '\r', '\0']) {
                    self.report(place, "the comment has a line break or a NUL");
                }
            }
            Match::Ports(ports) => {
                if rule.protocol != Some(ProtocolMatch { number: ports.protocol.number(), negated: false }) {
                    self.report(place, format!("-m {0} without -p {0}", ports.protocol));
                }
                for range in [&ports.source, &ports.destination].into_iter().flatten() {
                    if range.first > range.last {
                        self.report(place, format!("ports {}:{} are no range", range.first, range.last));
                    }
                }
            }
            Match::Probability(probability) => {
                if *probability > 1 << 31 {
                    self.report(place, "the probability is above 1");
                }
            }
            Match::Conntrack(states) => {
                if states.bits == 0 || states.bits > 0x7f {
                    self.report(place, "--ctstate without a state");
                }
            }
            Match::AddrType(kind) => {
                if kind.source_local.is_none() && kind.destination_local.is_none() {
                    self.report(place, "-m addrtype without a type");
                }
            }
            Match::Recent(recent) => {
                let odd = |c: char| !c.is_ascii_graphic() || matches!(c, '"' | '/' | '\\');
                if recent.list.is_empty() || recent.list.len() > MAX_LIST || recent.list.contains(odd) {
                    self.report(place, format!("`{}` is no name of a recent list", recent.list));
                }
                if let RecentAction::Check { seconds: 0, .. } = recent.action {
                    self.report(place, "--seconds must be at least 1");
                }
            }
            Match::Nfacct(name) => {
                if name.is_empty() || name.len() > MAX_COUNTER {
                    self.report(
                        place,
                        format!("the name of a counter has 1 to {MAX_COUNTER} bytes, not {}", name.len()),
                    );
                }
            }
            Match::Set(asked) => {
                if asked.directions.is_empty() || asked.directions.len() > MAX_DIMENSIONS {
                    self.report(
                        place,
                        format!(
                            "--match-set has 1 to {MAX_DIMENSIONS} directions, not {}",
                            asked.directions.len()
                        ),
                    );
                }
            }
            Match::Ipvs(asked) => {
                if asked.protocol.is_none() && asked.address.is_none() && asked.port.is_none() {
                    self.report(place, "-m ipvs without an option");
                }
                if let Some(address) = asked.address.filter(|one| one.cidr.family() != self.family) {
                    self.report(place, format!("--vaddr {} is no {} network", address.cidr, self.family));
                }
            }
            Match::Mark(_) | Match::PhysdevIsIn { .. } | Match::ToItself | Match::Unmodelled(_) => {}
        }
    }

    fn target(&mut self, place: Place, rule: &Rule, target: &Target) {
        let protocol = rule.protocol.filter(|matched| !matched.negated).map(|matched| matched.number);
        match target {
            Target::Dnat(to) => {
                self.only_in(place, TableName::Nat, "DNAT");
                if to.family() != self.family {
                    self.report(place, format!("--to-destination {to} is no {} address", self.family));
                }
                if protocol.and_then(Protocol::from_number).is_none() {
                    self.report(place, "DNAT to a port needs -p tcp, udp or sctp");
                }
            }
            Target::Redirect(port) => {
                self.only_in(place, TableName::Nat, "REDIRECT");
                if *port == 0 {
                    self.report(place, "REDIRECT to port 0");
                }
                if protocol.and_then(Protocol::from_number).is_none() {
                    self.report(place, "REDIRECT to a port needs -p tcp, udp or sctp");
                }
            }
            Target::Masquerade { .. } => self.only_in(place, TableName::Nat, "MASQUERADE"),
            Target::Reject(with) => {
                self.only_in(place, TableName::Filter, "REJECT");
                if *with == RejectWith::TcpReset && protocol != Some(Protocol::Tcp.number()) {
                    self.report(place, "--reject-with tcp-reset needs -p tcp");
                }
            }
            Target::Drop if place.table == TableName::Nat => {
                self.report(place, "DROP is not allowed in table nat");
            }
            Target::Jump(_)
            | Target::Goto(_)
            | Target::Accept
            | Target::Drop
            | Target::Return
            | Target::Mark { .. }
            | Target::Unmodelled(_) => {}
        }
    }

    fn only_in(&mut self, place: Place, table: TableName, target: &str) {
        if place.table != table {
            self.report(place, format!("{target} is allowed in table {table} alone"));
        }
    }
}

/// How far the search for loops is with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    NotYet,
    OnTheWay,
    Done,
}
