//! What a difference of rules means for Services: the rules that differ name the Service ports, and those are lifted from
//! both sides and compared. So the Service level and the rule level are two reports of one difference.

use std::collections::{BTreeMap, BTreeSet};

use crate::net::{AddrPort, IpFamily};
use crate::program::Tag;
use crate::program::listener::diff::ListenerChange;
use crate::program::listener::{ListenerKey, Listeners};
use crate::program::xtables::diff::{ChainChange, RulesetDiff, TableDiff};
use crate::program::xtables::{ChainName, Rule, RuleOrder, Ruleset, TableName, emit};

use super::{LiftedName, LiftedPolicies, LiftedPort, LiftedVip, iptables, userspace};

/// How a Service port differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortChange {
    /// It has no rules yet.
    Added(LiftedPort),
    /// It is not wanted any more.
    Removed(LiftedPort),
    /// Both have it.
    Changed {
        /// As it is.
        live: LiftedPort,
        /// As it should be.
        wanted: LiftedPort,
    },
}

impl PortChange {
    /// The side that tells what it is: the wanted one if there is one.
    pub fn port(&self) -> &LiftedPort {
        match self {
            PortChange::Added(port) | PortChange::Removed(port) => port,
            PortChange::Changed { wanted, .. } => wanted,
        }
    }

    fn live(&self) -> Option<&LiftedPort> {
        match self {
            PortChange::Added(_) => None,
            PortChange::Removed(port) => Some(port),
            PortChange::Changed { live, .. } => Some(live),
        }
    }

    fn wanted(&self) -> Option<&LiftedPort> {
        match self {
            PortChange::Removed(_) => None,
            PortChange::Added(port) => Some(port),
            PortChange::Changed { wanted, .. } => Some(wanted),
        }
    }

    /// Endpoints that only the wanted side leads to, and those that only the live side does.
    pub fn endpoints(&self) -> (Vec<AddrPort>, Vec<AddrPort>) {
        differences(self.wanted().map(|port| &port.endpoints), self.live().map(|port| &port.endpoints))
    }

    /// VIPs that only the wanted side answers on, and those that only the live side does.
    pub fn vips(&self) -> (Vec<LiftedVip>, Vec<LiftedVip>) {
        differences(self.wanted().map(|port| &port.vips), self.live().map(|port| &port.vips))
    }

    /// VIPs that come to refuse what is sent to them, and those that cease to.
    pub fn closed(&self) -> (Vec<LiftedVip>, Vec<LiftedVip>) {
        differences(self.wanted().map(|port| &port.closed), self.live().map(|port| &port.closed))
    }
}

fn differences<T: Ord + Copy>(wanted: Option<&BTreeSet<T>>, live: Option<&BTreeSet<T>>) -> (Vec<T>, Vec<T>) {
    let none = BTreeSet::new();
    let (wanted, live) = (wanted.unwrap_or(&none), live.unwrap_or(&none));
    (wanted.difference(live).copied().collect(), live.difference(wanted).copied().collect())
}

/// What becomes of a chain, set or map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectChange {
    /// It is missing.
    Create,
    /// It is there with other content.
    Rewrite,
    /// It is left over.
    Delete,
    /// It is not ours; only jumps of ours in it change.
    Jumps,
}

impl From<ChainChange> for ObjectChange {
    fn from(change: ChainChange) -> ObjectChange {
        match change {
            ChainChange::Create => ObjectChange::Create,
            ChainChange::Rewrite => ObjectChange::Rewrite,
            ChainChange::Delete => ObjectChange::Delete,
        }
    }
}

/// A chain, set or map with its lines on both sides.
#[derive(Debug, Clone)]
pub struct ChainDelta {
    /// Its table: `nat`, `ip kube-proxy`.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// What becomes of it.
    pub change: ObjectChange,
    /// All live lines; rules whose order means nothing are sorted.
    pub live: Vec<String>,
    /// All wanted lines, likewise.
    pub wanted: Vec<String>,
    /// Whether it belongs to no Service: the skeleton that all share.
    pub is_fixed: bool,
}

/// Everything that differs in one family.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Service ports by name.
    pub ports: BTreeMap<LiftedName, PortChange>,
    /// Chains, by table and name.
    pub chains: Vec<ChainDelta>,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.chains.is_empty()
    }

    /// Chains of the skeleton that change, apart from those that change because Services do.
    pub fn skeleton(&self) -> impl Iterator<Item = &ChainDelta> {
        self.chains.iter().filter(|delta| delta.is_fixed)
    }
}

/// Explains what is left of another mode: its Services are no loss, so it is told in one line.
pub fn leftovers(live: &Ruleset, difference: &RulesetDiff) -> Changes {
    let mut chains = Vec::new();
    for (table, changed) in difference.tables.iter().filter(|(_, changed)| !changed.is_empty()) {
        let of_chain = |chain: &ChainName| {
            let rules = live.chain(*table, chain).map_or(&[][..], |chain| &chain.rules);
            lines(live.family, chain, rules, 0)
        };
        chains.push(ChainDelta {
            table: table.to_string(),
            chain: format!("{} chains of other modes", changed.chains.len()),
            change: ObjectChange::Delete,
            live: changed.chains.keys().flat_map(of_chain).collect(),
            wanted: Vec::new(),
            is_fixed: true,
        });
    }
    Changes { ports: BTreeMap::new(), chains }
}

/// Explains a difference. `made_for` names the Service port that a wanted rule was made for.
///
/// Without `with_lines` chains have no lines. The listeners that the rules of either side lead to tell its endpoints; if nothing is known of the live ones they are
/// taken to be as wanted, and those in `listeners` differ.
pub fn changes(
    (wanted, wanted_listeners): (&Ruleset, Option<&Listeners>),
    (live, live_listeners): (&Ruleset, Option<&Listeners>),
    difference: &RulesetDiff,
    listeners: &[(ListenerKey, ListenerChange)],
    made_for: &dyn Fn(Tag) -> Option<LiftedName>,
    with_lines: bool,
) -> Changes {
    let of_family = listeners.iter().filter(|(key, _)| key.family() == wanted.family);
    let sides = [wanted_listeners, live_listeners].into_iter().flatten();
    let mut names: BTreeSet<LiftedName> = of_family
        .filter_map(|(key, _)| {
            let listener = sides.clone().find_map(|side| side.get(key))?;
            Some(userspace::name_of_label(&listener.label, key.protocol))
        })
        .collect();
    let (mut chains, none) = (Vec::new(), BTreeSet::new());
    for (table, changed) in &difference.tables {
        let moved = moved_rules((wanted, live), *table, changed);
        for (chain, change) in &changed.chains {
            let (live_rules, wanted_rules) = [live, wanted]
                .map(|side| side.chain(*table, chain).map_or(&[][..], |chain| &chain.rules))
                .into();
            let moved = if iptables::is_hashed(chain) { &none } else { &moved };
            let found = names_in(wanted.family, chain, (wanted_rules, live_rules), moved, made_for);
            let is_fixed = found.is_empty() && !iptables::is_hashed(chain);
            names.extend(found);
            let free = wanted.chain(*table, chain).map_or(0, |chain| match chain.order {
                RuleOrder::Exact | RuleOrder::LastBehindOthers(_) => 0,
                RuleOrder::FirstCommute(n) => n,
            });
            let fixed_tail = wanted_rules.len() - free;
            let told = |rules: &[Rule], free| {
                if with_lines { lines(wanted.family, chain, rules, free) } else { Vec::new() }
            };
            chains.push(ChainDelta {
                table: table.to_string(),
                chain: chain.to_string(),
                change: (*change).into(),
                live: told(live_rules, free.min(live_rules.len().saturating_sub(fixed_tail))),
                wanted: told(wanted_rules, free),
                is_fixed,
            });
        }
        let missing = [&changed.jumps_missing[..], &changed.jumps_behind[..]].concat();
        for chain in jump_chains(&missing, &changed.jumps_stale) {
            let side = |jumps: &[(ChainName, Rule)]| -> Vec<String> {
                let of_chain = jumps.iter().filter(|(of, _)| *of == chain).map(|(_, rule)| rule.clone());
                lines(wanted.family, &chain, &of_chain.collect::<Vec<_>>(), 0)
            };
            chains.push(ChainDelta {
                table: table.to_string(),
                chain: chain.to_string(),
                change: ObjectChange::Jumps,
                live: side(&changed.jumps_stale),
                wanted: side(&missing),
                is_fixed: true,
            });
        }
    }
    Changes { ports: port_changes((wanted, wanted_listeners), (live, live_listeners), &names), chains }
}

fn jump_chains(missing: &[(ChainName, Rule)], stale: &[(ChainName, Rule)]) -> BTreeSet<ChainName> {
    missing.iter().chain(stale).map(|(chain, _)| *chain).collect()
}

/// Rules of chains that all Services share which are in another of them on the other side, as text: a tree of chains branches
/// otherwise, and no Service changes.
fn moved_rules(
    (wanted, live): (&Ruleset, &Ruleset),
    table: TableName,
    changed: &TableDiff,
) -> BTreeSet<String> {
    let shared: Vec<&ChainName> = changed.chains.keys().filter(|chain| !iptables::is_hashed(chain)).collect();
    if shared.len() < 2 {
        // There is no other one to move to.
        return BTreeSet::new();
    }
    let mut counts: BTreeMap<String, isize> = BTreeMap::new();
    for chain in shared {
        for (side, sign) in [(wanted, 1), (live, -1)] {
            for rule in side.chain(table, chain).map_or(&[][..], |chain| &chain.rules) {
                *counts.entry(emit::rule_text(rule, side.family)).or_default() += sign;
            }
        }
    }
    counts.into_iter().filter(|(_, count)| *count == 0).map(|(text, _)| text).collect()
}

/// The Service ports that the rules in only one of two chains belong to, but for those that moved.
fn names_in(
    family: IpFamily,
    chain: &ChainName,
    (wanted, live): (&[Rule], &[Rule]),
    moved: &BTreeSet<String>,
    made_for: &dyn Fn(Tag) -> Option<LiftedName>,
) -> BTreeSet<LiftedName> {
    // A rule that moved within its chain counts as well, if its chain has an order.
    let mut only: BTreeMap<String, (isize, LiftedName)> = BTreeMap::new();
    let mut all = BTreeSet::new();
    for (rule, sign) in wanted.iter().map(|rule| (rule, 1)).chain(live.iter().map(|rule| (rule, -1))) {
        if let Some(name) = rule.tag.and_then(made_for).or_else(|| iptables::name_of(rule)) {
            let text = emit::rule_text(rule, family);
            if !moved.contains(text.as_str()) {
                only.entry(text).or_insert((0, name.clone())).0 += sign;
            }
            all.insert(name);
        }
    }
    let differing: BTreeSet<LiftedName> =
        only.into_values().filter(|(count, _)| *count != 0).map(|(_, name)| name).collect();
    if differing.is_empty() && iptables::is_hashed(chain) { all } else { differing }
}

fn port_changes(
    wanted: (&Ruleset, Option<&Listeners>),
    live: (&Ruleset, Option<&Listeners>),
    names: &BTreeSet<LiftedName>,
) -> BTreeMap<LiftedName, PortChange> {
    // Of a machine that changes its mode both say something.
    let lift = |(ruleset, listeners): (&Ruleset, Option<&Listeners>)| {
        let mut ports = userspace::lift(ruleset, listeners, Some(names));
        ports.extend(iptables::lift(ruleset, Some(names)));
        ports
    };
    let are_unknown = live.1.is_none() && wanted.1.is_some();
    let (mut live, mut wanted) = (lift(live), lift(wanted));
    if are_unknown {
        for (name, port) in &mut live {
            let Some(wanted) = wanted.get(name) else { continue };
            port.endpoints.clone_from(&wanted.endpoints);
            port.closed = wanted.closed.intersection(&port.vips).copied().collect();
        }
    }
    let change = |name: &LiftedName| {
        Some(match (wanted.remove(name), live.remove(name)) {
            (Some(wanted), None) => PortChange::Added(wanted),
            (None, Some(live)) => PortChange::Removed(live),
            (Some(wanted), Some(live)) => PortChange::Changed { live, wanted },
            (None, None) => return None,
        })
    };
    let mut change = change;
    names.iter().filter_map(|name| Some((name.clone(), change(name)?))).collect()
}

/// Service ports and their policies, read back from one side.
pub(super) type Reading = (BTreeMap<LiftedName, LiftedPort>, BTreeMap<LiftedName, LiftedPolicies>);

/// Service ports that differ between two readings: by themselves, by a policy, or in what else it is that carries them.
pub(super) fn port_differences(
    wanted: Reading,
    live: Reading,
    is_carried_otherwise: &dyn Fn(&LiftedName) -> bool,
) -> BTreeMap<LiftedName, PortChange> {
    let ((wanted, wanted_policies), (mut live, live_policies)) = (wanted, live);
    let lead_alike = |name: &LiftedName| {
        let policies = wanted_policies.get(name).zip(live_policies.get(name));
        policies.is_none_or(|(wanted, live)| wanted.lead_alike(live))
    };
    let mut changes = BTreeMap::new();
    for (name, wanted) in wanted {
        match live.remove(&name) {
            None => drop(changes.insert(name, PortChange::Added(wanted))),
            Some(live) if live != wanted || !lead_alike(&name) || is_carried_otherwise(&name) => {
                changes.insert(name, PortChange::Changed { live, wanted });
            }
            Some(_) => {}
        }
    }
    changes.extend(live.into_iter().map(|(name, live)| (name, PortChange::Removed(live))));
    changes
}

/// Rules as iptables-save prints them, the first `n_free` of them sorted.
fn lines(family: IpFamily, chain: &ChainName, rules: &[Rule], n_free: usize) -> Vec<String> {
    let mut lines: Vec<String> = rules
        .iter()
        .map(|rule| {
            let mut text = Vec::new();
            emit::write_rule(&mut text, family, chain, rule);
            String::from_utf8_lossy(&text).trim_end().to_owned()
        })
        .collect();
    lines[..n_free].sort();
    lines
}
