//! Tells what of a table the kernel or nft would refuse.

use std::collections::BTreeMap;
use std::fmt;

use crate::net::IpFamily;
use crate::program::Tag;

use super::{
    Base, Chain, ChainKind, Data, DataType, Element, Expr, Hook, Key, MapRef, Meta, Name, NatTarget, Payload,
    Right, Rule, ScalarType, Set, Stmt, Table, Transport,
};

/// Chains within each other, more than which the kernel does not take (NFT_JUMP_STACK_SIZE).
const MAX_DEPTH: usize = 16;
/// A nat chain must come after connection tracking, which has this priority.
const CONNTRACK_PRIORITY: i32 = -200;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The table.
    pub table: Name,
    /// The chain, set or map.
    pub object: Name,
    /// The rule, by its place in the chain from 0; `None` if it is the object itself.
    pub rule: Option<usize>,
    /// What is wrong.
    pub text: String,
    /// What the rule or element was made for.
    pub tag: Option<Tag>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {}, {}", self.table, self.object)?;
        if let Some(rule) = self.rule {
            write!(f, ", rule {}", rule + 1)?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Everything that is wrong: sets first, then chains.
pub fn check(table: &Table) -> Vec<Problem> {
    let mut checker = Checker { table, problems: Vec::new() };
    for (name, set) in &table.sets {
        checker.set(name, set);
    }
    for (name, chain) in &table.chains {
        if let Some(base) = &chain.base {
            checker.base(name, base);
        }
        for (nth, rule) in chain.rules.iter().enumerate() {
            checker.rule(Place { object: name, rule: Some(nth), tag: rule.tag }, chain, rule);
        }
    }
    checker.ways();
    checker.problems
}

/// Where something is.
#[derive(Clone, Copy)]
struct Place<'a> {
    object: &'a Name,
    rule: Option<usize>,
    tag: Option<Tag>,
}

struct Checker<'a> {
    table: &'a Table,
    problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    fn report(&mut self, place: Place<'_>, text: impl Into<String>) {
        self.problems.push(Problem {
            table: self.table.name.clone(),
            object: place.object.clone(),
            rule: place.rule,
            text: text.into(),
            tag: place.tag,
        });
    }

    fn base(&mut self, name: &Name, base: &Base) {
        let place = Place { object: name, rule: None, tag: None };
        let fits = match base.kind {
            ChainKind::Filter => true,
            ChainKind::Nat => {
                matches!(base.hook, Hook::Prerouting | Hook::Input | Hook::Output | Hook::Postrouting)
            }
            ChainKind::Route => base.hook == Hook::Output,
        };
        if !fits {
            self.report(place, format!("type {} has no hook {}", base.kind.as_str(), base.hook.as_str()));
        }
        if base.kind == ChainKind::Nat && base.priority <= CONNTRACK_PRIORITY {
            self.report(place, format!("priority {} comes before connection tracking", base.priority));
        }
    }

    fn set(&mut self, name: &Name, set: &Set) {
        let place = Place { object: name, rule: None, tag: None };
        if set.key.is_empty() {
            self.report(place, "its keys have no type");
        }
        let values = match &set.data {
            Some(DataType::Values(types)) => &types[..],
            Some(DataType::Verdict) | None => &[],
        };
        for kind in set.key.iter().chain(values) {
            if let ScalarType::Other(kind) = kind {
                self.report(place, format!("type `{kind}` is not modelled"));
            }
        }
        if set.timeout.is_some() && !set.flags.timeout {
            self.report(place, "a timeout needs the flag `timeout`");
        }
        if set.has_unmodelled {
            self.report(place, "some of its elements are not modelled");
        }
        for (key, element) in &set.elements {
            self.element(Place { tag: element.tag, ..place }, set, key, element);
        }
    }

    fn element(&mut self, place: Place<'_>, set: &Set, key: &Key, element: &Element) {
        if !has_types(key, &set.key) {
            self.report(place, format!("key {key:?} is not of its type"));
        }
        if !key.is_exact() && !set.flags.interval {
            self.report(place, format!("key {key:?} needs the flag `interval`"));
        }
        if element.timeout.is_some() && !set.flags.timeout {
            self.report(place, "a timeout needs the flag `timeout`");
        }
        match (&set.data, &element.data) {
            (None, None) => {}
            (Some(DataType::Verdict), Some(Data::Verdict(verdict))) => {
                if let Some(chain) = verdict.chain() {
                    self.target(place, chain);
                }
            }
            (Some(DataType::Values(types)), Some(Data::Values(values)))
                if values.iter().map(|value| value.scalar_type()).eq(types.iter().cloned()) => {}
            (None | Some(_), _) => {
                self.report(place, format!("what it gives for {key:?} is not of its type"))
            }
        }
    }

    fn target(&mut self, place: Place<'_>, chain: &Name) {
        match self.table.chains.get(chain) {
            None => self.report(place, format!("leads to chain `{chain}`, which does not exist")),
            Some(content) if content.base.is_some() => {
                self.report(place, format!("leads to base chain `{chain}`"));
            }
            Some(_) => {}
        }
    }

    fn rule(&mut self, place: Place<'_>, chain: &Chain, rule: &Rule) {
        if rule.stmts.is_empty() {
            self.report(place, "it has no statements");
        }
        let mut has_protocol = false;
        for stmt in &rule.stmts {
            self.stmt(place, stmt);
            match stmt {
                Stmt::Match { left, negated: false, .. } => {
                    has_protocol |= left.parts().iter().any(says_protocol);
                }
                Stmt::Dnat { to, .. } => {
                    self.in_nat(place, chain.base.as_ref(), &[Hook::Prerouting, Hook::Output], "dnat");
                    // A lookup by protocol finds nothing for others.
                    let by_protocol =
                        matches!(to, NatTarget::Map { key, .. } if key.parts().iter().any(says_protocol));
                    if self.needs_protocol(to) && !has_protocol && !by_protocol {
                        self.report(place, "dnat to a port needs a match on the protocol before it");
                    }
                }
                Stmt::Masquerade(_) => {
                    self.in_nat(place, chain.base.as_ref(), &[Hook::Postrouting], "masquerade");
                }
                Stmt::Match { .. }
                | Stmt::CtState { .. }
                | Stmt::CtNat { .. }
                | Stmt::Vmap { .. }
                | Stmt::Verdict(_)
                | Stmt::SetMark { .. }
                | Stmt::Reject(_)
                | Stmt::UpdateSet { .. }
                | Stmt::Counter
                | Stmt::Notrack
                | Stmt::Unmodelled(_) => {}
            }
        }
    }

    /// A statement that only some base chains may have. Whence a regular chain is called is looked at elsewhere.
    fn in_nat(&mut self, place: Place<'_>, base: Option<&Base>, hooks: &[Hook], what: &str) {
        if base.is_some_and(|base| base.kind != ChainKind::Nat || !hooks.contains(&base.hook)) {
            self.report(place, format!("{what} is not allowed in this base chain"));
        }
    }

    fn needs_protocol(&self, to: &NatTarget) -> bool {
        match to {
            NatTarget::Addr(_, port) => port.is_some(),
            NatTarget::Port(_) => true,
            NatTarget::Map { map: MapRef::Anonymous(entries), .. } => {
                entries.iter().any(|(_, data)| matches!(data, Data::Values(values) if values.len() > 1))
            }
            NatTarget::Map { map: MapRef::Named(name), .. } => {
                let data = self.table.sets.get(name).and_then(|set| set.data.as_ref());
                matches!(data, Some(DataType::Values(types)) if types.len() > 1)
            }
        }
    }

    fn stmt(&mut self, place: Place<'_>, stmt: &Stmt) {
        match stmt {
            Stmt::Match { left, right, .. } => {
                self.expr(place, left);
                match right {
                    Right::Set(name) => {
                        self.named(place, name, left, None);
                    }
                    Right::Keys(keys) => {
                        if keys.as_slice().is_empty() {
                            self.report(place, "compares with an empty set");
                        }
                        let types = left.types();
                        if let Some(key) = keys.as_slice().iter().find(|key| !has_types(key, &types)) {
                            self.report(place, format!("compares with {key:?}, which is of another type"));
                        }
                    }
                }
            }
            Stmt::Vmap { key, map } => {
                self.expr(place, key);
                self.map(place, key, map, &DataType::Verdict);
            }
            Stmt::Verdict(verdict) => {
                if let Some(chain) = verdict.chain() {
                    self.target(place, chain);
                }
            }
            Stmt::Dnat { to, .. } => self.dnat(place, to),
            Stmt::UpdateSet { set, key, timeout, .. } => {
                self.expr(place, key);
                let Some(content) = self.named(place, set, key, None) else { return };
                if !content.flags.dynamic {
                    self.report(place, format!("changes set `{set}`, which is not dynamic"));
                }
                if timeout.is_some() && !content.flags.timeout {
                    self.report(place, format!("set `{set}` has no timeouts"));
                }
            }
            Stmt::CtState { states: 0, .. } | Stmt::CtNat { snat: false, dnat: false } => {
                self.report(place, "asks for no state");
            }
            Stmt::Unmodelled(json) => self.report(place, format!("`{json}` is not modelled")),
            Stmt::CtState { .. }
            | Stmt::CtNat { .. }
            | Stmt::SetMark { .. }
            | Stmt::Masquerade(_)
            | Stmt::Reject(_)
            | Stmt::Counter
            | Stmt::Notrack => {}
        }
    }

    fn dnat(&mut self, place: Place<'_>, to: &NatTarget) {
        let family = match to {
            NatTarget::Addr(addr, _) => IpFamily::of(*addr),
            NatTarget::Port(_) => return,
            NatTarget::Map { family, key, map } => {
                self.expr(place, key);
                let addr = ScalarType::addr(*family);
                let both = match map {
                    MapRef::Anonymous(entries) => {
                        matches!(entries.first(), Some((_, Data::Values(values))) if values.len() > 1)
                    }
                    MapRef::Named(name) => {
                        let data = self.table.sets.get(name).and_then(|set| set.data.as_ref());
                        matches!(data, Some(DataType::Values(types)) if types.len() > 1)
                    }
                };
                let types = if both { vec![addr, ScalarType::InetService] } else { vec![addr] };
                self.map(place, key, map, &DataType::Values(types));
                *family
            }
        };
        if self.table.family.ip().is_some_and(|ip| ip != family) {
            self.report(place, format!("dnat to an {family} address in a table {}", self.table.family));
        }
    }

    fn map(&mut self, place: Place<'_>, key: &Expr, map: &MapRef, data: &DataType) {
        match map {
            MapRef::Named(name) => {
                self.named(place, name, key, Some(data));
            }
            MapRef::Anonymous(entries) => {
                if entries.is_empty() {
                    self.report(place, "looks into an empty map");
                }
                let set = Set { key: key.types(), data: Some(data.clone()), ..Set::default() };
                for (key, data) in entries {
                    let of_interval =
                        Set { flags: super::SetFlags { interval: true, ..set.flags }, ..set.clone() };
                    self.element(place, &of_interval, key, &Element::of(data.clone()));
                }
            }
        }
    }

    /// A set or map that a rule names.
    fn named(
        &mut self,
        place: Place<'_>,
        name: &Name,
        key: &Expr,
        data: Option<&DataType>,
    ) -> Option<&'a Set> {
        let Some(set) = self.table.sets.get(name) else {
            self.report(place, format!("needs set or map `{name}`, which does not exist"));
            return None;
        };
        if set.key != key.types() {
            self.report(place, format!("`{name}` has keys of another type"));
        }
        match (data, &set.data) {
            (None, None) => {}
            (Some(wanted), Some(its)) if wanted == its => {}
            (None, Some(_)) => self.report(place, format!("`{name}` is a map")),
            (Some(_), None) => self.report(place, format!("`{name}` is no map")),
            (Some(_), Some(_)) => self.report(place, format!("`{name}` gives something else")),
        }
        Some(set)
    }

    fn expr(&mut self, place: Place<'_>, expr: &Expr) {
        for part in expr.parts() {
            match part {
                Expr::Payload(
                    Payload::SourceAddr(family)
                    | Payload::DestinationAddr(family)
                    | Payload::NextProtocol(family),
                ) if self.table.family.ip().is_some_and(|ip| ip != *family) => {
                    self.report(place, format!("no {family} packet comes to a table {}", self.table.family));
                }
                Expr::Numgen { modulus: 0, .. } => self.report(place, "numgen needs a modulus"),
                Expr::Concat(_) => self.report(place, "a concatenation within another"),
                Expr::Payload(_)
                | Expr::Meta(_)
                | Expr::Mark { .. }
                | Expr::FibType { .. }
                | Expr::Numgen { .. } => {}
            }
        }
    }

    /// Reports every way that leads back to a chain on it, and base chains with too many chains within each other. Each
    /// chain is walked through once.
    fn ways(&mut self) {
        let names: Vec<&Name> = self.table.chains.keys().collect();
        let targets: Vec<Vec<usize>> = self.targets(&names);
        let mut walks = vec![Walk::NotYet; names.len()];
        let mut depth = vec![1; names.len()];
        for root in 0..names.len() {
            if walks[root] != Walk::NotYet {
                continue;
            }
            walks[root] = Walk::OnTheWay;
            let mut way = vec![(root, 0)];
            while let Some((at, nth)) = way.last_mut() {
                let at = *at;
                let Some(&next) = targets[at].get(*nth) else {
                    walks[at] = Walk::Done;
                    depth[at] = 1 + targets[at].iter().map(|next| depth[*next]).max().unwrap_or(0);
                    way.pop();
                    continue;
                };
                *nth += 1;
                match walks[next] {
                    Walk::NotYet => {
                        walks[next] = Walk::OnTheWay;
                        way.push((next, 0));
                    }
                    Walk::OnTheWay => {
                        let place = Place { object: names[at], rule: None, tag: None };
                        self.report(place, format!("leads back to chain `{}`: a loop", names[next]));
                    }
                    Walk::Done => {}
                }
            }
        }
        for (name, depth) in names.iter().zip(depth) {
            if depth > MAX_DEPTH && self.table.chains.get(*name).is_some_and(|chain| chain.base.is_some()) {
                let place = Place { object: name, rule: None, tag: None };
                self.report(place, format!("{depth} chains within each other, {MAX_DEPTH} are allowed"));
            }
        }
    }

    /// Which chains each chain can lead to, also by the elements of maps.
    fn targets(&self, names: &[&Name]) -> Vec<Vec<usize>> {
        let index = |name: &Name| names.binary_search(&name).ok();
        let mut of_maps: BTreeMap<&Name, Vec<usize>> = BTreeMap::new();
        for (name, set) in &self.table.sets {
            let mut targets: Vec<usize> =
                set.elements.values().filter_map(|element| index(element.data.as_ref()?.chain()?)).collect();
            targets.sort_unstable();
            targets.dedup();
            of_maps.insert(name, targets);
        }
        self.table
            .chains
            .values()
            .map(|chain| {
                let (mut targets, mut maps) = (Vec::new(), Vec::new());
                for stmt in chain.rules.iter().flat_map(|rule| &rule.stmts) {
                    stmt.references(|chain| targets.extend(index(chain)), |map| maps.push(map));
                }
                targets.extend(maps.into_iter().filter_map(|map| of_maps.get(map)).flatten());
                targets.sort_unstable();
                targets.dedup();
                targets
            })
            .collect()
    }
}

fn has_types(key: &Key, types: &[ScalarType]) -> bool {
    key.first().iter().map(|value| value.scalar_type()).eq(types.iter().cloned())
}

/// Whether a match on this tells nft the transport protocol.
fn says_protocol(part: &Expr) -> bool {
    match part {
        Expr::Meta(Meta::L4Proto) | Expr::Payload(Payload::NextProtocol(_)) => true,
        Expr::Payload(Payload::SourcePort(transport) | Payload::DestinationPort(transport)) => {
            *transport != Transport::Any
        }
        Expr::Payload(_)
        | Expr::Meta(_)
        | Expr::Mark { .. }
        | Expr::FibType { .. }
        | Expr::Numgen { .. }
        | Expr::Concat(_) => false,
    }
}

/// How far the search for loops is with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    NotYet,
    OnTheWay,
    Done,
}
