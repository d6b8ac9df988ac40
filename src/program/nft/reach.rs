//! What rules ask of packets to a destination: a walk through every rule that such packets may meet, whatever else they are.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::net::{IpFamily, Port, Protocol};
use crate::packet::NodeFacts;
use crate::program::question::{Destination, Destinations, InterfacePattern, Questions};

use super::index::{Indexed, field_of_destination};
use super::{
    ChainKind, Data, Expr, FibType, Hook, Key, MapRef, Meta, Name, NatTarget, Payload, Right, Rule, Scalar,
    Stmt, Table, Transport, Verdict,
};

/// Every original destination that some rule tells from others.
pub fn destinations<'a>(tables: impl IntoIterator<Item = &'a Table>, found: &mut Destinations) {
    for table in tables {
        for stmt in table.chains.values().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.stmts) {
            match stmt {
                Stmt::Match { left, right: Right::Keys(keys), .. } => {
                    note_destinations(left, keys.as_slice(), found);
                }
                Stmt::Match { left, right: Right::Set(set), .. } => note_set(table, left, set, found),
                Stmt::Vmap { key, map } | Stmt::Dnat { to: NatTarget::Map { key, map, .. }, .. } => match map
                {
                    MapRef::Named(set) => note_set(table, key, set, found),
                    MapRef::Anonymous(entries) => {
                        note_destinations(key, entries.iter().map(|(key, _)| key), found);
                    }
                },
                Stmt::CtState { .. }
                | Stmt::CtNat { .. }
                | Stmt::Verdict(_)
                | Stmt::SetMark { .. }
                | Stmt::Dnat { .. }
                | Stmt::Masquerade(_)
                | Stmt::Reject(_)
                | Stmt::UpdateSet { .. }
                | Stmt::Counter
                | Stmt::Notrack
                | Stmt::Unmodelled(_) => {}
            }
        }
    }
}

fn note_set(table: &Table, left: &Expr, set: &Name, found: &mut Destinations) {
    note_destinations(left, table.sets.get(set).into_iter().flat_map(|set| set.elements.keys()), found);
}

fn note_destinations<'k>(left: &Expr, keys: impl IntoIterator<Item = &'k Key>, found: &mut Destinations) {
    let Some(field) = field_of_destination(left) else { return };
    for key in keys {
        let ends = [key.first(), key.last()].map(|values| values.get(field).and_then(Scalar::addr));
        if let [Some(first), Some(last)] = ends {
            found.insert((first, last));
        }
    }
}

/// What the rules ask of packets to a destination.
pub fn questions(rules: &Indexed<'_>, destination: &Destination, facts: &NodeFacts, found: &mut Questions) {
    let mut walk = Walk { rules, facts, found, seen: BTreeSet::new(), sent_to: BTreeSet::new() };
    let start = Bound { to: *destination, is_translated: false };
    for hook in [Hook::Ingress, Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting]
    {
        walk.hook(hook, start);
    }
    // Where they are sent instead they meet rules again, but those of nat that are asked once a flow.
    let mut walked = BTreeSet::new();
    while let Some(to) = walk.sent_to.pop_first() {
        if !walked.insert(to) {
            continue;
        }
        walk.seen.clear();
        for hook in [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting] {
            walk.hook(hook, Bound { to, is_translated: true });
        }
    }
}

/// Where a packet is bound for, and whether a rule chose that.
#[derive(Debug, Clone, Copy)]
struct Bound {
    to: Destination,
    is_translated: bool,
}

/// The value of a part of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Is(Scalar),
    /// Not an address of the node.
    NotLocal,
    /// It depends on the packet.
    Open,
    /// The packet has no such field.
    Missing,
}

struct Walk<'a, 'q> {
    rules: &'a Indexed<'a>,
    facts: &'a NodeFacts,
    found: &'q mut Questions,
    /// Chains that were walked for the present destination.
    seen: BTreeSet<(&'a Name, &'a Name)>,
    /// Where rules send packets.
    sent_to: BTreeSet<Destination>,
}

impl<'a> Walk<'a, '_> {
    fn hook(&mut self, hook: Hook, bound: Bound) {
        let is_local = self.facts.is_local(bound.to.addr);
        if (hook == Hook::Input && !is_local) || (hook == Hook::Forward && is_local) {
            return;
        }
        let rules = self.rules;
        for stop in rules.at(hook) {
            let family = stop.table.family.ip();
            let asked_again = matches!(hook, Hook::Prerouting | Hook::Output) && stop.kind == ChainKind::Nat;
            if family.is_none_or(|family| family == IpFamily::of(bound.to.addr))
                && !(bound.is_translated && asked_again)
            {
                self.chain(stop.table, stop.name, bound);
            }
        }
    }

    fn chain(&mut self, table: &'a Table, name: &'a Name, bound: Bound) {
        let Some(chain) = table.chains.get(name) else { return };
        if self.seen.insert((&table.name, name)) {
            chain.rules.iter().for_each(|rule| self.rule(table, rule, bound));
        }
    }

    fn rule(&mut self, table: &'a Table, rule: &'a Rule, bound: Bound) {
        for stmt in &rule.stmts {
            match stmt {
                Stmt::Match { left, negated, right } => {
                    if !self.matches(table, left, *negated, right, bound) {
                        return;
                    }
                }
                Stmt::CtNat { snat: false, dnat: true } if !bound.is_translated => return,
                Stmt::Vmap { key, map } => {
                    let mut goes_on = false;
                    for data in self.look_up(table, key, map, bound) {
                        match data {
                            Data::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => {
                                self.chain(table, chain, bound);
                            }
                            Data::Verdict(verdict) => goes_on |= *verdict == Verdict::Continue,
                            Data::Values(_) => {}
                        }
                    }
                    if !goes_on {
                        return;
                    }
                }
                Stmt::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => {
                    return self.chain(table, chain, bound);
                }
                Stmt::Verdict(Verdict::Accept | Verdict::Drop | Verdict::Return) => return,
                Stmt::Dnat { to, .. } => return self.dnat(table, to, bound),
                Stmt::UpdateSet { set, timeout, .. } => {
                    let of_set = table.sets.get(set).and_then(|set| set.timeout);
                    self.found.lifetimes.extend(timeout.or(of_set));
                }
                Stmt::CtState { .. }
                | Stmt::CtNat { .. }
                | Stmt::Verdict(Verdict::Continue)
                | Stmt::SetMark { .. }
                | Stmt::Masquerade(_)
                | Stmt::Reject(_)
                | Stmt::Counter
                | Stmt::Notrack
                | Stmt::Unmodelled(_) => {}
            }
        }
    }

    fn dnat(&mut self, table: &'a Table, to: &'a NatTarget, bound: Bound) {
        match to {
            NatTarget::Addr(addr, port) => self.send(Some(*addr), *port, bound),
            NatTarget::Port(port) => self.send(None, Some(*port), bound),
            NatTarget::Map { key, map, .. } => {
                for data in self.look_up(table, key, map, bound) {
                    let Data::Values(values) = data else { continue };
                    let port = values
                        .get(1)
                        .and_then(|value| if let Scalar::Port(port) = value { Some(*port) } else { None });
                    self.send(values.first().and_then(Scalar::addr), port, bound);
                }
            }
        }
    }

    fn send(&mut self, addr: Option<IpAddr>, port: Option<Port>, bound: Bound) {
        let addr = addr.unwrap_or(bound.to.addr);
        // Who is sent to where he goes anyway is not translated: connection tracking tells him from the others.
        if let Some(port) = port.filter(|_| addr == bound.to.addr) {
            self.found.ports.insert((None, port, port));
        }
        let service = bound.to.service.map(|(protocol, before)| (protocol, port.unwrap_or(before)));
        self.sent_to.insert(Destination { addr, service });
    }

    /// Whether packets may pass a match.
    fn matches(
        &mut self,
        table: &'a Table,
        left: &Expr,
        negated: bool,
        right: &'a Right,
        bound: Bound,
    ) -> bool {
        let parts: Vec<Part> = left.parts().iter().map(|part| self.value(part, bound)).collect();
        if parts.contains(&Part::Missing) {
            return false;
        }
        let mut any = false;
        match right {
            Right::Keys(keys) => {
                for key in keys.as_slice() {
                    any |= self.ask(left, &parts, key);
                }
            }
            Right::Set(name) => {
                let Some(set) = table.sets.get(name) else { return true };
                self.found.lifetimes.extend(set.timeout);
                match self.keys_for(table, name, left, bound) {
                    Some(keys) => keys.iter().for_each(|key| any |= self.ask(left, &parts, key)),
                    None => set.elements.keys().for_each(|key| any |= self.ask(left, &parts, key)),
                }
                // Rules may have filled it.
                any |= set.timeout.is_some() || set.flags.dynamic || set.has_unmodelled;
            }
        }
        let is_open = parts.contains(&Part::Open);
        if negated { is_open || !any } else { any }
    }

    fn keys_for(&self, table: &'a Table, set: &'a Name, left: &Expr, bound: Bound) -> Option<&'a [&'a Key]> {
        let rules = self.rules;
        rules.keys_for(table, set, field_of_destination(left)?, bound.to.addr)
    }

    /// What a map may give.
    fn look_up(&mut self, table: &'a Table, left: &Expr, map: &'a MapRef, bound: Bound) -> Vec<&'a Data> {
        let parts: Vec<Part> = left.parts().iter().map(|part| self.value(part, bound)).collect();
        let mut found = Vec::new();
        if parts.contains(&Part::Missing) {
            return found;
        }
        match map {
            MapRef::Anonymous(entries) => {
                found.extend(
                    entries.iter().filter(|(key, _)| self.ask(left, &parts, key)).map(|(_, data)| data),
                );
            }
            MapRef::Named(name) => {
                let Some(set) = table.sets.get(name) else { return found };
                match self.keys_for(table, name, left, bound) {
                    Some(keys) => {
                        for key in keys.iter().filter(|key| self.ask(left, &parts, key)) {
                            found.extend(set.elements.get(*key).and_then(|element| element.data.as_ref()));
                        }
                    }
                    None => {
                        // With all parts known a lookup is enough.
                        let exact: Option<Vec<Scalar>> = parts
                            .iter()
                            .map(|part| if let Part::Is(scalar) = part { Some(*scalar) } else { None })
                            .collect();
                        if let (Some(values), false) = (exact, set.flags.interval) {
                            let element = set.elements.get(&Key::exact(values));
                            found.extend(element.and_then(|element| element.data.as_ref()));
                            return found;
                        }
                        for (key, element) in &set.elements {
                            if self.ask(left, &parts, key) {
                                found.extend(&element.data);
                            }
                        }
                    }
                }
            }
        }
        found
    }

    /// Whether a key may be met; if so, notes what it asks of what is open.
    fn ask(&mut self, left: &Expr, parts: &[Part], key: &Key) -> bool {
        let fields = || key.first().iter().zip(key.last());
        let fits = |(part, (first, last)): (&Part, (&Scalar, &Scalar))| match part {
            Part::Is(value) => value.is_within(first, last),
            Part::NotLocal => *first != Scalar::FibType(FibType::Local),
            Part::Open => true,
            Part::Missing => false,
        };
        if parts.len() != key.first().len() || !parts.iter().zip(fields()).all(fits) {
            return false;
        }
        let protocol = key.first().iter().find_map(|value| {
            if let Scalar::Protocol(number) = value { Protocol::from_number(*number) } else { None }
        });
        for ((expr, part), (first, last)) in left.parts().iter().zip(parts).zip(fields()) {
            if *part == Part::Open {
                note(expr, protocol, (first, last), self.found);
            }
        }
        true
    }

    fn value(&self, part: &Expr, bound: Bound) -> Part {
        let service = bound.to.service;
        match part {
            Expr::Payload(Payload::DestinationAddr(family)) => {
                if *family == IpFamily::of(bound.to.addr) {
                    Part::Is(bound.to.addr.into())
                } else {
                    Part::Missing
                }
            }
            Expr::Payload(Payload::SourceAddr(family)) if *family != IpFamily::of(bound.to.addr) => {
                Part::Missing
            }
            Expr::Payload(Payload::SourcePort(transport) | Payload::DestinationPort(transport))
                if service.is_some_and(|(protocol, _)| !is_of(*transport, protocol)) =>
            {
                Part::Missing
            }
            Expr::Payload(Payload::DestinationPort(_)) => {
                service.map_or(Part::Open, |(_, port)| Part::Is(Scalar::Port(port)))
            }
            Expr::Meta(Meta::L4Proto) | Expr::Payload(Payload::NextProtocol(_)) => {
                service.map_or(Part::Open, |(protocol, _)| Part::Is(protocol.into()))
            }
            Expr::Meta(Meta::NfProto) => Part::Is(Scalar::NfProto(IpFamily::of(bound.to.addr))),
            Expr::FibType { source: false } => {
                if self.facts.is_local(bound.to.addr) {
                    Part::Is(Scalar::FibType(FibType::Local))
                } else {
                    Part::NotLocal
                }
            }
            Expr::Payload(Payload::SourceAddr(_) | Payload::SourcePort(_))
            | Expr::Meta(Meta::InputName | Meta::OutputName | Meta::Input | Meta::Output)
            | Expr::Mark { .. }
            | Expr::FibType { source: true }
            | Expr::Numgen { .. }
            | Expr::Concat(_) => Part::Open,
        }
    }
}

fn is_of(transport: Transport, protocol: Protocol) -> bool {
    transport == Transport::Any || transport.as_str() == protocol.name()
}

/// Notes that an open part is compared with an interval.
fn note(expr: &Expr, protocol: Option<Protocol>, ends: (&Scalar, &Scalar), found: &mut Questions) {
    match (expr, ends) {
        (Expr::Payload(Payload::SourceAddr(_)), (first, last)) => {
            if let (Some(first), Some(last)) = (first.addr(), last.addr()) {
                found.sources.insert((first, last));
            }
        }
        (Expr::Payload(Payload::SourcePort(_)), (Scalar::Port(first), Scalar::Port(last))) => {
            found.source_ports.insert((*first, *last));
        }
        (Expr::Payload(Payload::DestinationPort(transport)), (Scalar::Port(first), Scalar::Port(last))) => {
            let of_transport = transport.protocol();
            found.protocols.extend(of_transport);
            found.ports.insert((of_transport.or(protocol), *first, *last));
        }
        (
            Expr::Meta(Meta::L4Proto) | Expr::Payload(Payload::NextProtocol(_)),
            (Scalar::Protocol(first), Scalar::Protocol(last)),
        ) => {
            found.protocols.extend((*first..=*last).filter_map(Protocol::from_number));
        }
        (Expr::Meta(Meta::InputName | Meta::Input), (Scalar::Interface(name), _)) => {
            found.interfaces.insert(InterfacePattern::new(name.as_str(), '*'));
        }
        (Expr::FibType { source: true }, _) => found.source_is_local = true,
        _ => {}
    }
}
