//! The way of a Service's packets as a graph: from hooks through the chains that all share to VIPs, its own chains and its
//! endpoints. Data only; `report` draws it.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::{CarryingRule, iptables, nftables};
use crate::program::nft;
use crate::program::xtables::Ruleset;
use crate::trace::Source;

use super::Held;

/// What a node stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeKind {
    /// A chain that netfilter asks.
    Hook,
    /// A chain or map.
    Chain,
    /// An endpoint.
    Endpoint,
    /// The end of packets that are refused or dropped.
    End,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it stands for.
    pub kind: NodeKind,
    /// What is written on it.
    pub label: String,
    /// Its column, from 0: every edge leads to a later one, loops apart.
    pub column: usize,
}

/// An edge between nodes, by their indices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Where from.
    pub from: usize,
    /// Where to.
    pub to: usize,
    /// What is written on it; may be empty.
    pub label: String,
}

/// A graph.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// What it is of.
    pub title: String,
    /// Nodes, by column.
    pub nodes: Vec<Node>,
    /// Edges, in order of their nodes.
    pub edges: Vec<Edge>,
}

/// A node before it has an index: its kind, the table of a chain, its name.
type Key = (NodeKind, String, String);

/// Draws the way of the packets that some rules carry.
pub fn graph(title: &str, held: &Held<'_>, source: Source, rules: &[CarryingRule]) -> Graph {
    let mut edges: BTreeMap<(Key, Key), BTreeSet<String>> = BTreeMap::new();
    let chain = |table: &str, name: &str| (NodeKind::Chain, table.to_owned(), name.to_owned());
    let mut first = BTreeSet::new();
    for rule in rules {
        let from = chain(&rule.table, &rule.chain);
        let label = rule.vip.map(|vip| vip.to_string()).unwrap_or_default();
        first.insert(from.clone());
        for called in &rule.calls {
            edges.entry((from.clone(), chain(&rule.table, called))).or_default().insert(label.clone());
        }
        for endpoint in &rule.endpoints {
            let to = (NodeKind::Endpoint, String::new(), endpoint.to_string());
            edges.entry((from.clone(), to)).or_default().insert(label.clone());
        }
        if let Some(end) = end(rule) {
            let to = (NodeKind::End, String::new(), end.to_owned());
            edges.entry((from, to)).or_default().insert(label);
        }
    }
    for (from, to) in lead_in(held, source, &first) {
        edges.entry((from, to)).or_default();
    }
    laid_out(title, edges)
}

/// The end of a rule that calls nothing and sends nowhere.
fn end(rule: &CarryingRule) -> Option<&'static str> {
    if rule.word.starts_with("refuses") {
        Some("refused")
    } else if rule.word.starts_with("drops") {
        Some("dropped")
    } else {
        None
    }
}

/// The edges by which packets come from hooks to some chains, through chains that no Service owns.
fn lead_in(held: &Held<'_>, source: Source, to: &BTreeSet<Key>) -> Vec<(Key, Key)> {
    let mut calls: Vec<(Key, Key)> = Vec::new();
    for (_, ruleset, _) in held.xtables.iter().filter(|(one, ..)| *one == source) {
        calls_of_ruleset(ruleset, &mut calls);
    }
    if let Some(table) = held.table().filter(|_| source == Source::Nft) {
        calls_of_table(table, &mut calls);
    }
    let mut wanted = to.clone();
    let mut edges = BTreeSet::new();
    loop {
        let n_before = wanted.len();
        for (from, to) in &calls {
            if wanted.contains(to) && edges.insert((from.clone(), to.clone())) {
                wanted.insert(from.clone());
            }
        }
        if wanted.len() == n_before {
            return edges.into_iter().collect();
        }
    }
}

fn calls_of_ruleset(ruleset: &Ruleset, calls: &mut Vec<(Key, Key)>) {
    for (table, content) in &ruleset.tables {
        for (name, chain) in content.chains.iter().filter(|(name, _)| !iptables::is_hashed(name)) {
            let is_base = table.built_in_chains().contains(&name.as_str());
            let kind = if is_base { NodeKind::Hook } else { NodeKind::Chain };
            for called in chain.rules.iter().filter_map(|rule| rule.chain()) {
                if !iptables::is_hashed(called) {
                    let to = (NodeKind::Chain, table.to_string(), called.to_string());
                    calls.push(((kind, table.to_string(), name.to_string()), to));
                }
            }
        }
    }
}

fn calls_of_table(table: &nft::Table, calls: &mut Vec<(Key, Key)>) {
    let at = format!("{} {}", table.family, table.name);
    for (name, chain) in table.chains.iter().filter(|(name, _)| !nftables::is_hashed(name)) {
        let kind = if chain.base.is_some() { NodeKind::Hook } else { NodeKind::Chain };
        let mut called = BTreeSet::new();
        let mut asked = BTreeSet::new();
        for stmt in chain.rules.iter().flat_map(|rule| &rule.stmts) {
            stmt.references(
                |chain| {
                    called.insert(chain.to_string());
                },
                |set| {
                    asked.insert(set.to_string());
                },
            );
        }
        for to in called.into_iter().chain(asked) {
            calls.push(((kind, at.clone(), name.to_string()), (NodeKind::Chain, at.clone(), to)));
        }
    }
}

fn laid_out(title: &str, edges: BTreeMap<(Key, Key), BTreeSet<String>>) -> Graph {
    let keys: BTreeSet<&Key> = edges.keys().flat_map(|(from, to)| [from, to]).collect();
    let mut columns: BTreeMap<&Key, usize> = keys.iter().map(|key| (*key, 0)).collect();
    // A longest path has no more edges than there are nodes: rounds beyond that would follow loops.
    for _ in 0..keys.len() {
        let mut changed = false;
        for (from, to) in edges.keys() {
            let next = columns.get(from).copied().unwrap_or_default() + 1;
            if next < keys.len() && columns.get(to).is_some_and(|column| *column < next) {
                columns.insert(to, next);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let last = columns.values().copied().max().unwrap_or_default();
    let column = |key: &Key| match key.0 {
        NodeKind::Hook => 0,
        NodeKind::Chain => columns.get(key).copied().unwrap_or_default(),
        // All ends stand in the last column.
        NodeKind::Endpoint | NodeKind::End => last,
    };
    let mut ordered: Vec<&Key> = keys.into_iter().collect();
    ordered.sort_by_key(|key| (column(key), *key));
    let index: BTreeMap<&Key, usize> = ordered.iter().enumerate().map(|(at, key)| (*key, at)).collect();
    let label =
        |(_, table, name): &Key| if table.is_empty() { name.clone() } else { format!("{table} {name}") };
    let nodes =
        ordered.iter().map(|key| Node { kind: key.0, label: label(key), column: column(key) }).collect();
    let mut drawn: Vec<Edge> = edges
        .iter()
        .filter_map(|((from, to), labels)| {
            let labels: Vec<&str> = labels.iter().map(String::as_str).filter(|one| !one.is_empty()).collect();
            Some(Edge { from: *index.get(from)?, to: *index.get(to)?, label: labels.join(", ") })
        })
        .collect();
    drawn.sort();
    Graph { title: title.to_owned(), nodes, edges: drawn }
}
