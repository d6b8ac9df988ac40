//! Rules of others that a packet of a Service may meet and that decide or change something. Whoever reads them judges: a rule
//! is told if nothing in it keeps every such packet out.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::backend::{self, LiftedVip};
use crate::net::{AddrPort, Port};
use crate::program::nft::{self, Expr, Key, Payload, Right, Scalar, Stmt};
use crate::program::xtables::{
    AddrMatch, ChainName, Match, PortRange, Rule, Ruleset, TableName, Target, emit,
};

use super::{Reading, ServiceReading};

/// What packets of Services look like, before and after translation.
#[derive(Debug, Clone, Default)]
pub(super) struct Served {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<Port>,
    protocols: BTreeSet<u8>,
    /// Node ports are on addresses of the node that nobody told.
    anywhere: bool,
}

impl Served {
    /// Packets of all Services of some readings.
    pub(super) fn of<'a>(readings: impl IntoIterator<Item = &'a Reading>) -> Served {
        let mut served = Served::default();
        for reading in readings {
            for ((_, protocol), ServiceReading { port, .. }) in &reading.services {
                served.protocols.insert(protocol.number());
                for vip in &port.vips {
                    match vip {
                        LiftedVip::Address(addr) => served.add(*addr),
                        LiftedVip::NodePort(port) => {
                            served.ports.insert(*port);
                            served.anywhere = true;
                        }
                        LiftedVip::HealthCheck(_) => {}
                    }
                }
                port.endpoints.iter().for_each(|endpoint| served.add(*endpoint));
            }
        }
        served
    }

    fn add(&mut self, addr: AddrPort) {
        self.addresses.insert(addr.addr);
        self.ports.insert(addr.port);
    }

    fn has_address_in(&self, range: RangeInclusive<IpAddr>) -> bool {
        // One address of the node may be meant by a network, hardly by a rule for another single address.
        (self.anywhere && range.start() != range.end()) || self.addresses.range(range).next().is_some()
    }

    fn has_port_in(&self, range: RangeInclusive<Port>) -> bool {
        self.ports.range(range).next().is_some()
    }
}

/// The rules of others in a ruleset, each as `table CHAIN rule N: text`.
pub(super) fn in_ruleset(ruleset: &Ruleset, served: &Served) -> Vec<String> {
    let scope = backend::chain_scope(ruleset);
    let mut walk = Walk { ruleset, scope: &scope, served, found: Vec::new(), seen: BTreeSet::new() };
    for (table, content) in &ruleset.tables {
        for built_in in table.built_in_chains() {
            let Ok(name) = ChainName::new(built_in) else { continue };
            let Some(chain) = content.chains.get(&name) else { continue };
            walk.chain(*table, name);
            if chain.policy == Some(crate::program::xtables::Policy::Drop) {
                walk.found.push(format!("{table} {name}: policy drop"));
            }
        }
    }
    walk.found
}

struct Walk<'a> {
    ruleset: &'a Ruleset,
    scope: &'a crate::program::Scope,
    served: &'a Served,
    found: Vec<String>,
    seen: BTreeSet<(TableName, ChainName)>,
}

impl Walk<'_> {
    fn chain(&mut self, table: TableName, name: ChainName) {
        let is_ours = self.scope.owns(table, &name);
        let Some(chain) = self.ruleset.chain(table, &name).filter(|_| !is_ours) else { return };
        if !self.seen.insert((table, name)) {
            return;
        }
        for (index, rule) in chain.rules.iter().enumerate() {
            if !self.served.may_match(rule) {
                continue;
            }
            match rule.chain() {
                Some(next) => self.chain(table, *next),
                None if decides(rule) => {
                    let text = emit::rule_text(rule, self.ruleset.family);
                    self.found.push(format!("{table} {name} rule {}: {text}", index + 1));
                }
                None => {}
            }
        }
    }
}

/// Targets that change nothing for a Service.
const HARMLESS: [&str; 8] = ["LOG", "NFLOG", "TRACE", "AUDIT", "CHECKSUM", "TCPMSS", "SET", "CT"];

fn decides(rule: &Rule) -> bool {
    match &rule.target {
        None | Some(Target::Return) => false,
        Some(Target::Unmodelled(text)) => {
            let mut words = text.split_whitespace().skip_while(|word| word.starts_with('-'));
            words.next().is_none_or(|name| !HARMLESS.contains(&name))
        }
        Some(
            Target::Jump(_)
            | Target::Goto(_)
            | Target::Accept
            | Target::Drop
            | Target::Reject(_)
            | Target::Mark { .. }
            | Target::Masquerade { .. }
            | Target::Dnat(_)
            | Target::Redirect(_),
        ) => true,
    }
}

impl Served {
    fn may_match(&self, rule: &Rule) -> bool {
        let address =
            |one: AddrMatch| one.negated || self.has_address_in(one.cidr.network()..=one.cidr.last());
        let ports = |one: PortRange| one.negated || self.has_port_in(one.first..=one.last);
        rule.destination.is_none_or(address)
            && rule
                .protocol
                .is_none_or(|one| one.number == 0 || self.protocols.contains(&one.number) != one.negated)
            && rule.interfaces.as_ref().is_none_or(|one| {
                let is_loopback = |name: &crate::program::xtables::InterfaceMatch| {
                    name.name.as_ref() == "lo" && !name.negated
                };
                !one.input.as_ref().is_some_and(is_loopback) && !one.output.as_ref().is_some_and(is_loopback)
            })
            && rule.matches.iter().all(|one| match one {
                Match::Ports(one) => one.destination.is_none_or(ports),
                // Rules for what is known already do not decide where a flow goes.
                Match::Conntrack(states) => is_for_new(states.bits, states.negated),
                Match::Comment(_)
                | Match::Probability(_)
                | Match::Mark(_)
                | Match::AddrType(_)
                | Match::Recent(_)
                | Match::Nfacct(_)
                | Match::Set(_)
                | Match::Ipvs(_)
                | Match::PhysdevIsIn { .. }
                | Match::ToItself
                | Match::Unmodelled(_) => true,
            })
    }

    fn may_pass(&self, stmt: &Stmt) -> bool {
        if let Stmt::Match { left, negated: false, right: Right::Keys(keys) } = stmt {
            return keys.as_slice().iter().any(|key| self.may_equal(left, key));
        }
        let Stmt::CtState { states, negated } = stmt else { return true };
        (states & nft::CtState::NEW != 0) != *negated
    }

    /// Whether a packet of a Service may have a value. What is not asked here may be anything.
    fn may_equal(&self, left: &Expr, key: &Key) -> bool {
        let ([first], [last]) = (key.first(), key.last()) else { return true };
        match (left, first, last) {
            (Expr::Payload(Payload::DestinationAddr(_)), first, last) => match (first.addr(), last.addr()) {
                (Some(first), Some(last)) => self.has_address_in(first..=last),
                _ => true,
            },
            (Expr::Payload(Payload::DestinationPort(_)), Scalar::Port(first), Scalar::Port(last)) => {
                self.has_port_in(*first..=*last)
            }
            (Expr::Meta(nft::Meta::L4Proto), Scalar::Protocol(first), Scalar::Protocol(last)) => {
                self.protocols.range(*first..=*last).next().is_some()
            }
            _ => true,
        }
    }
}

fn is_for_new(bits: u8, negated: bool) -> bool {
    use crate::program::xtables::ConntrackStates;
    let of_new = ConntrackStates::NEW | ConntrackStates::DNAT | ConntrackStates::SNAT;
    if negated { bits & ConntrackStates::NEW == 0 } else { bits & of_new != 0 }
}

/// The rules of others in a table of nft, each as `family table chain rule N: text`.
pub(super) fn in_table(table: &nft::Table, served: &Served) -> Vec<String> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let mut next: Vec<&nft::Name> = Vec::new();
    let at = format!("{} {}", table.family, table.name);
    for (name, chain) in table.chains.iter().filter(|(_, chain)| chain.base.is_some()) {
        next.push(name);
        if chain.base.is_some_and(|base| base.policy == nft::Policy::Drop) {
            found.push(format!("{at} {name}: policy drop"));
        }
    }
    while let Some(name) = next.pop() {
        let Some(chain) = table.chains.get(name).filter(|_| seen.insert(name)) else { continue };
        for (index, rule) in chain.rules.iter().enumerate() {
            if !rule.stmts.iter().all(|stmt| served.may_pass(stmt)) {
                continue;
            }
            rule.stmts.iter().for_each(|stmt| stmt.references(|chain| next.push(chain), |_| {}));
            if rule.stmts.iter().any(decides_by) {
                let text = nft::emit::rule_text(table, rule);
                found.push(format!("{at} {name} rule {}: {text}", index + 1));
            }
        }
    }
    found.sort();
    found
}

/// Statements, kept as JSON, that change nothing for a Service.
const HARMLESS_WORDS: [&str; 6] =
    [r#"{"log"#, r#"{"counter"#, r#"{"limit"#, r#"{"match"#, r#"{"quota"#, r#"{"flow"#];

fn decides_by(stmt: &Stmt) -> bool {
    match stmt {
        Stmt::Verdict(nft::Verdict::Drop | nft::Verdict::Accept)
        | Stmt::SetMark { .. }
        | Stmt::Dnat { .. }
        | Stmt::Masquerade(_)
        | Stmt::Reject(_)
        | Stmt::Notrack => true,
        Stmt::Unmodelled(json) => !HARMLESS_WORDS.iter().any(|word| json.starts_with(word)),
        Stmt::Match { .. }
        | Stmt::CtState { .. }
        | Stmt::CtNat { .. }
        | Stmt::Vmap { .. }
        | Stmt::Verdict(_)
        | Stmt::UpdateSet { .. }
        | Stmt::Counter => false,
    }
}
