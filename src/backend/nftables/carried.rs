//! The elements and rules that carry one Service port, each with a word on what it does.

use std::collections::{BTreeSet, VecDeque};

use crate::backend::{CarryingRule, LiftedName, Place};
use crate::program::nft::{Data, Element, Key, MapRef, Name, NatTarget, Rule, Stmt, Table, Verdict, emit};

use super::{flat, lift, names};

/// Maps whose elements name Services or lead to their chains.
const MAPS: [&str; 5] = [
    names::SERVICE_IPS,
    names::SERVICE_NODE_PORTS,
    names::FIREWALL_IPS,
    names::NO_ENDPOINT_SERVICES,
    names::NO_ENDPOINT_NODE_PORTS,
];

/// All elements and rules of a table that carry a Service port.
pub fn carried(table: &Table, name: &LiftedName) -> Vec<CarryingRule> {
    let table_text = format!("{} {}", table.family, table.name);
    let (mut found, mut next, mut seen) = (Vec::new(), VecDeque::new(), BTreeSet::new());
    // Destinations that have no chain of their own.
    let (mut shared, mut seen_keys) = (Vec::new(), BTreeSet::new());
    for map in MAPS {
        for (key, element) in table.sets.get(map).into_iter().flat_map(|set| &set.elements) {
            let Some((vip, protocol)) = lift::vip(key) else { continue };
            let Some(Data::Verdict(verdict)) = &element.data else { continue };
            let called = verdict.chain();
            let by_chain = called.and_then(lift::name_of_chain).is_some_and(|its| its == *name);
            let by_comment = element.comment.as_ref().is_some_and(|comment| comment.as_str() == name.0);
            if !(by_chain || by_comment && protocol == name.1) {
                continue;
            }
            match called.filter(|chain| super::is_hashed(chain)) {
                Some(chain) if seen.insert(chain.clone()) => next.push_back(chain.clone()),
                Some(_) => {}
                // More than one map can have it.
                None if seen_keys.insert(key) => shared.push((vip, key)),
                None => {}
            }
            let word = element_word(map, verdict).to_owned();
            found.push(CarryingRule {
                vip: Some(vip),
                word,
                ..carrying_element(&table_text, map, key, element)
            });
        }
    }
    for (vip, key) in shared {
        for (map, key, element) in flat::elements(table, key) {
            let word = shared_word(map.as_str()).to_owned();
            let endpoints = flat::endpoint(element).into_iter().collect();
            let carrying = carrying_element(&table_text, map.as_str(), key, element);
            found.push(CarryingRule { vip: Some(vip), word, endpoints, ..carrying });
        }
    }
    while let Some(chain) = next.pop_front() {
        let Some(content) = table.chains.get(&chain) else { continue };
        for (index, rule) in content.rules.iter().enumerate() {
            for called in called_by(rule) {
                if super::is_hashed(&called) && seen.insert(called.clone()) {
                    next.push_back(called);
                }
            }
            found.push(CarryingRule {
                table: table_text.clone(),
                chain: chain.to_string(),
                place: Place::Rule(index + 1),
                text: emit::rule_text(table, rule),
                word: rule_word(&chain, rule),
                calls: called_by(rule).iter().map(ToString::to_string).collect(),
                vip: None,
                endpoints: rule.stmts.iter().flat_map(sent_to).collect(),
                counter: None,
            });
        }
    }
    found
}

fn carrying_element(table: &str, map: &str, key: &Key, element: &Element) -> CarryingRule {
    let mut text = Vec::new();
    emit::write_element(&mut text, key, element);
    let called = element.data.as_ref().and_then(Data::chain);
    CarryingRule {
        table: table.to_owned(),
        chain: map.to_owned(),
        place: Place::Element,
        text: String::from_utf8_lossy(text.trim_ascii()).into_owned(),
        word: String::new(),
        calls: called.map(ToString::to_string).into_iter().collect(),
        vip: None,
        endpoints: Vec::new(),
        counter: None,
    }
}

/// What an element of the flat layout does.
fn shared_word(map: &str) -> &'static str {
    match map {
        names::EXTERNAL_IPS | names::EXTERNAL_NODE_PORTS => "sends traffic from outside to any endpoint",
        names::EXTERNAL_LOCAL_IPS | names::EXTERNAL_LOCAL_NODE_PORTS => {
            "sends clients outside to endpoints on this node"
        }
        names::SOURCE_RANGES => "lets these sources in",
        _ => "an endpoint, by its number",
    }
}

fn called_by(rule: &Rule) -> Vec<Name> {
    let mut called = Vec::new();
    for stmt in &rule.stmts {
        stmt.references(|chain| called.push(chain.clone()), |_| {});
    }
    called
}

fn sent_to(stmt: &Stmt) -> Vec<crate::net::AddrPort> {
    if let Stmt::Dnat { to, .. } = stmt { lift::destinations(to) } else { Vec::new() }
}

fn element_word(map: &str, verdict: &Verdict) -> &'static str {
    match (map, verdict) {
        (_, Verdict::Drop) => "drops: there is no endpoint on this node",
        (names::NO_ENDPOINT_SERVICES | names::NO_ENDPOINT_NODE_PORTS, _) => "refuses: there is no endpoint",
        (names::FIREWALL_IPS, _) => "asks who may come",
        (_, verdict) => match verdict.chain().map(Name::as_str) {
            Some(chain) if chain.starts_with(names::EXTERNAL_PREFIX) => {
                "takes traffic from outside the cluster"
            }
            Some(chain) if chain.starts_with(names::LOCAL_PREFIX) => {
                "takes traffic for endpoints on this node"
            }
            Some(_) | None => "takes traffic for any endpoint",
        },
    }
}

fn rule_word(chain: &Name, rule: &Rule) -> String {
    let within = |prefix: &str| chain.as_str().starts_with(prefix);
    // kube-proxy says it itself where it is not plain.
    if let Some(comment) = &rule.comment {
        return comment.to_string();
    }
    for stmt in &rule.stmts {
        match stmt {
            Stmt::Dnat { to: NatTarget::Map { map: MapRef::Anonymous(entries), .. }, .. } => {
                return match entries.len() {
                    1 => "sends to the endpoint".to_owned(),
                    n => format!("sends to one of {n} endpoints, each with the same chance"),
                };
            }
            Stmt::Dnat { to: NatTarget::Addr(addr, Some(port)), .. } => {
                return format!("sends to {}", crate::net::AddrPort::new(*addr, *port));
            }
            Stmt::Dnat { .. } => return "sends elsewhere".to_owned(),
            Stmt::SetMark { .. } => return "has the source rewritten".to_owned(),
            Stmt::UpdateSet { .. } => return "remembers the client".to_owned(),
            Stmt::Vmap { .. } => return "chooses an endpoint, each with the same chance".to_owned(),
            Stmt::Verdict(Verdict::Drop) if within(names::FIREWALL_PREFIX) => {
                return "drops what no source range lets in".to_owned();
            }
            Stmt::Verdict(verdict) => {
                return match verdict.chain().map(Name::as_str) {
                    Some(to) if to.starts_with(names::ENDPOINT_PREFIX) => "who was there comes back to it",
                    Some(to) if to.starts_with(names::LOCAL_PREFIX) => "others use endpoints on this node",
                    Some(_) => "others use any endpoint",
                    None => "ends",
                }
                .to_owned();
            }
            Stmt::Match { .. }
            | Stmt::CtState { .. }
            | Stmt::CtNat { .. }
            | Stmt::Masquerade(_)
            | Stmt::Reject(_)
            | Stmt::Counter
            | Stmt::Notrack
            | Stmt::Unmodelled(_) => {}
        }
    }
    "goes on".to_owned()
}
