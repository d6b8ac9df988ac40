//! The rules that carry one Service port to its proxy ports, and the listeners there, each with a word on what it does.

use crate::backend::{CarryingRule, LiftedName, Place};
use crate::net::{AddrPort, Protocol};
use crate::program::listener::{self, Listener, ListenerKey, Listeners};
use crate::program::xtables::{ChainName, Counters, Rule, Ruleset, Target, emit};

use super::lift::{self, Behind, Portal};
use super::ports::Role;
use super::{base, service_of};

/// All rules of a ruleset that carry a Service port, and its listeners, if any are known.
pub fn carried(
    ruleset: &Ruleset,
    counters: &Counters,
    listeners: Option<&Listeners>,
    name: &LiftedName,
) -> Vec<CarryingRule> {
    let mut found = Vec::new();
    let behind = Behind::new(listeners, ruleset.family);
    let mut taking: Vec<(ListenerKey, &Listener)> = Vec::new();
    for (table, chain) in base::CHAINS {
        let rules = ruleset.chain(table, &chain).map_or(&[][..], |chain| &chain.rules);
        for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| is_for(rule, chain, name)) {
            let portal = lift::portal(rule, chain);
            let at_port = portal.as_ref().map_or(&[][..], |portal| behind.at(name.1, portal.proxy_port));
            found.push(CarryingRule {
                table: table.to_string(),
                chain: chain.to_string(),
                place: Place::Rule(index + 1),
                text: emit::rule_text(rule, ruleset.family),
                word: word(rule, portal.as_ref(), behind.are_known(), !at_port.is_empty()),
                calls: Vec::new(),
                vip: portal.as_ref().map(|portal| portal.vip),
                endpoints: targets(at_port),
                counter: counters.known.then(|| counters.rule(table, chain, index)),
            });
            taking.extend(at_port);
        }
    }
    taking.sort_by_key(|(key, _)| *key);
    taking.dedup_by_key(|(key, _)| *key);
    found.extend(taking.into_iter().map(|(key, listener)| carrier(&key, listener)));
    found
}

fn is_for(rule: &Rule, chain: ChainName, (display, protocol): &LiftedName) -> bool {
    let of_protocol = rule.protocol.and_then(|one| Protocol::from_number(one.number));
    of_protocol == Some(*protocol)
        && service_of(chain.as_str(), rule.comment_text()).as_ref() == Some(display)
}

fn targets(listeners: &[(ListenerKey, &Listener)]) -> Vec<AddrPort> {
    listeners.iter().flat_map(|(_, listener)| listener.targets.iter().copied()).collect()
}

/// What a rule does.
fn word(rule: &Rule, portal: Option<&Portal>, are_known: bool, is_taken: bool) -> String {
    let Some(Portal { role, proxy_port, .. }) = portal else {
        return match rule.target {
            Some(Target::Accept) => "lets packets to the proxy port of a node port in".to_owned(),
            Some(_) | None => "not made by this mode".to_owned(),
        };
    };
    let who = match role {
        Role::Cluster => "",
        Role::Local => ", for endpoints on this node",
        Role::NotLetIn => ", for those that no source range lets in",
    };
    let doubt = match (are_known, is_taken) {
        (_, true) => "",
        (true, false) => ": nobody listens there",
        (false, false) => ": who listens there is not known",
    };
    format!("leads to proxy port {proxy_port}{who}{doubt}")
}

/// A listener in the place of a rule.
fn carrier(key: &ListenerKey, listener: &Listener) -> CarryingRule {
    let mut text = String::new();
    listener::emit::write_listener(&mut text, key, listener);
    let word = match (listener.targets.len(), listener.affinity_seconds) {
        (0, _) => "hangs up: there is no endpoint".to_owned(),
        (n, None) => format!("makes a connection of its own to one of {n} endpoints, by turns"),
        (n, Some(seconds)) => format!(
            "makes a connection of its own to one of {n} endpoints, by turns; who was there in the last {seconds} s comes \
             back to it"
        ),
    };
    CarryingRule {
        table: "process".to_owned(),
        chain: key.to_string(),
        place: Place::Listener,
        text,
        word,
        calls: Vec::new(),
        vip: None,
        endpoints: Vec::new(),
        counter: None,
    }
}
