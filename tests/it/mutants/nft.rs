//! Every way to break one thing in a table of nft.

use svcproxy::program::nft::{
    Chain, Data, Element, Expr, Key, Keys, MapRef, NatTarget, Policy, Right, Rule, Scalar, Set, Stmt, Table,
    Verdict,
};

use super::next;

/// All tables that differ from one in a single thing, each with a word on what that is.
pub(super) fn mutants(table: &Table) -> Vec<(String, Table)> {
    let mut all = Vec::new();
    for (name, chain) in &table.chains {
        let mut add = |what: String, change: &dyn Fn(&mut Chain)| {
            let mut mutant = table.clone();
            change(mutant.chains.get_mut(name).unwrap());
            all.push((format!("chain {name}: {what}"), mutant));
        };
        if chain.base.is_some() {
            add("policy drop".to_owned(), &|chain| chain.base.as_mut().unwrap().policy = Policy::Drop);
            add("late".to_owned(), &|chain| chain.base.as_mut().unwrap().priority += 300);
        }
        for at in 0..chain.rules.len() {
            add(format!("rule {at} dropped"), &|chain| {
                chain.rules.remove(at);
            });
            if at + 1 < chain.rules.len() {
                add(format!("rules {at} and {} exchanged", at + 1), &|chain| chain.rules.swap(at, at + 1));
            }
            for (what, rule) in broken_rules(&chain.rules[at]) {
                add(format!("rule {at}: {what}"), &|chain| chain.rules[at] = rule.clone());
            }
        }
    }
    let verdicts: Vec<Data> = table
        .sets
        .values()
        .flat_map(|set| set.elements.values())
        .filter_map(|element| element.data.clone())
        .collect();
    for (name, set) in &table.sets {
        let mut add = |what: String, change: &dyn Fn(&mut Set)| {
            let mut mutant = table.clone();
            change(mutant.sets.get_mut(name).unwrap());
            all.push((format!("set {name}: {what}"), mutant));
        };
        if let Some(seconds) = set.timeout {
            add("longer timeout".to_owned(), &|set| set.timeout = Some(seconds + 1));
            add("shorter timeout".to_owned(), &|set| set.timeout = Some(seconds - 1));
        }
        for (key, element) in &set.elements {
            add(format!("{key:?} removed"), &|set| {
                set.elements.remove(key);
            });
            for other in other_keys(key) {
                add(format!("{key:?} is {other:?}"), &|set| {
                    let element = set.elements.remove(key).unwrap();
                    set.elements.insert(other.clone(), element);
                });
                add(format!("{other:?} added"), &|set| {
                    set.elements.insert(other.clone(), element.clone());
                });
            }
            let other = verdicts.iter().find(|data| element.data.as_ref().is_some_and(|own| own != *data));
            if let Some(data) = other {
                add(format!("{key:?} gives {data:?}"), &|set| {
                    set.elements.insert(key.clone(), Element::of(data.clone()));
                });
            }
        }
    }
    all
}

/// The rule with one thing changed, in every way.
fn broken_rules(rule: &Rule) -> Vec<(String, Rule)> {
    let mut all = Vec::new();
    for (at, stmt) in rule.stmts.iter().enumerate() {
        let mut without = rule.clone();
        without.stmts.remove(at);
        all.push((format!("{stmt:?} left out"), without));
        for other in other_stmts(stmt) {
            let mut broken = rule.clone();
            broken.stmts[at] = other.clone();
            all.push((format!("{other:?}"), broken));
        }
    }
    all
}

fn other_stmts(stmt: &Stmt) -> Vec<Stmt> {
    match stmt {
        Stmt::Match { left, negated, right } => {
            let with = |negated, right| Stmt::Match { left: left.clone(), negated, right };
            let mut all = vec![with(!negated, right.clone())];
            if let Right::Keys(keys) = right {
                for (at, key) in keys.as_slice().iter().enumerate() {
                    for other in other_keys(key) {
                        let mut changed = keys.as_slice().to_vec();
                        changed[at] = other;
                        all.push(with(*negated, Right::Keys(Keys::new(changed))));
                    }
                    let mut fewer = keys.as_slice().to_vec();
                    fewer.remove(at);
                    all.push(with(*negated, Right::Keys(Keys::new(fewer))));
                }
            }
            all
        }
        Stmt::CtState { states, negated } => vec![Stmt::CtState { states: *states, negated: !negated }],
        Stmt::CtNat { snat, dnat } => vec![Stmt::CtNat { snat: *dnat, dnat: *snat }],
        Stmt::SetMark { mask, value } => {
            vec![Stmt::SetMark { mask: *mask, value: value << 1 }, Stmt::SetMark { mask: u32::MAX, value: 0 }]
        }
        Stmt::Verdict(Verdict::Jump(chain)) => {
            vec![Stmt::Verdict(Verdict::Goto(chain.clone())), Stmt::Verdict(Verdict::Return)]
        }
        Stmt::Verdict(Verdict::Goto(chain)) => {
            vec![Stmt::Verdict(Verdict::Jump(chain.clone())), Stmt::Verdict(Verdict::Accept)]
        }
        Stmt::Verdict(Verdict::Drop) => vec![Stmt::Verdict(Verdict::Accept)],
        Stmt::Verdict(_) => vec![Stmt::Verdict(Verdict::Drop)],
        Stmt::Reject(_) => vec![Stmt::Verdict(Verdict::Drop)],
        Stmt::Masquerade(_) => vec![Stmt::Verdict(Verdict::Accept)],
        Stmt::Vmap { key, map } => {
            other_maps(key, map).into_iter().map(|(key, map)| Stmt::Vmap { key, map }).collect()
        }
        Stmt::Dnat { to: NatTarget::Map { family, key, map }, flags } => other_maps(key, map)
            .into_iter()
            .map(|(key, map)| Stmt::Dnat { to: NatTarget::Map { family: *family, key, map }, flags: *flags })
            .collect(),
        Stmt::Dnat { to: NatTarget::Addr(addr, Some(port)), flags } => {
            [NatTarget::Addr(next(*addr), Some(*port)), NatTarget::Addr(*addr, Some(port + 1))]
                .map(|to| Stmt::Dnat { to, flags: *flags })
                .to_vec()
        }
        Stmt::Dnat { .. } | Stmt::UpdateSet { .. } | Stmt::Counter | Stmt::Notrack | Stmt::Unmodelled(_) => {
            Vec::new()
        }
    }
}

/// A lookup with one thing changed: how many numbers there are, an entry fewer, an entry that gives something else.
fn other_maps(key: &Expr, map: &MapRef) -> Vec<(Expr, MapRef)> {
    let mut all = Vec::new();
    if let Expr::Numgen { mode, modulus, offset } = key {
        all.push((Expr::Numgen { mode: *mode, modulus: modulus + 1, offset: *offset }, map.clone()));
        all.push((Expr::Numgen { mode: *mode, modulus: *modulus, offset: offset + 1 }, map.clone()));
    }
    let MapRef::Anonymous(entries) = map else { return all };
    for at in 0..entries.len() {
        let mut fewer = entries.to_vec();
        fewer.remove(at);
        all.push((key.clone(), MapRef::anonymous(fewer)));
        if entries[0].1 != entries[at].1 {
            let mut same = entries.to_vec();
            same[at].1 = entries[0].1.clone();
            all.push((key.clone(), MapRef::anonymous(same)));
        }
        if let Data::Values(values) = &entries[at].1 {
            for field in 0..values.len() {
                let mut changed = values.clone();
                changed[field] = other_scalar(changed[field]);
                let mut entries = entries.to_vec();
                entries[at].1 = Data::Values(changed);
                all.push((key.clone(), MapRef::anonymous(entries)));
            }
        }
    }
    all
}

/// The key with one field changed.
fn other_keys(key: &Key) -> Vec<Key> {
    (0..key.first().len())
        .map(|field| {
            let ends = key.first().iter().zip(key.last()).enumerate();
            Key::intervals(ends.map(|(at, (first, last))| match (at == field, first == last) {
                (false, _) => (*first, *last),
                (true, true) => (other_scalar(*first), other_scalar(*first)),
                (true, false) => (other_scalar(*first), *last),
            }))
        })
        .filter(|other| other != key)
        .collect()
}

fn other_scalar(scalar: Scalar) -> Scalar {
    match scalar {
        Scalar::Ipv4(_) | Scalar::Ipv6(_) => Scalar::from(next(scalar.addr().unwrap())),
        Scalar::Protocol(number) => Scalar::Protocol(if number == 6 { 17 } else { 6 }),
        Scalar::Port(port) => Scalar::Port(port + 1),
        Scalar::Mark(mark) => Scalar::Mark(mark ^ 0x10),
        other @ (Scalar::Integer(_) | Scalar::Interface(_) | Scalar::FibType(_) | Scalar::NfProto(_)) => {
            other
        }
    }
}
