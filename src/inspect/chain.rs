//! The chains, sets and maps of a machine: whose they are, how much is in them, who leads there.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::{self, iptables, ipvs, nftables};
use crate::net::IpFamily;
use crate::program::ipset::{SetKind, SetName};
use crate::program::nft;
use crate::program::xtables::{Match, Ruleset, TableName};
use crate::trace::Source;

use super::Held;

/// Whose a chain is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChainOwner {
    /// One Service port's (`namespace/name:port`), where its rules tell which.
    Service(Option<String>),
    /// The skeleton that all Services share.
    Skeleton,
    /// The kernel's own, where everybody's rules begin.
    BuiltIn,
    /// Somebody else's.
    Other,
}

/// A chain, set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainRow {
    /// Who holds it.
    pub source: Source,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// `chain`, `set`, `map`.
    pub kind: &'static str,
    /// Rules, or elements.
    pub len: usize,
    /// How many rules and elements lead there, or ask it. A base chain needs none.
    pub references: usize,
    /// Whether netfilter itself asks it.
    pub is_base: bool,
    /// Whether it is there even if nothing leads to it.
    pub stands_alone: bool,
    /// Whose it is.
    pub owner: ChainOwner,
}

impl ChainRow {
    /// Whether it is ours and nothing leads there.
    pub fn is_orphan(&self) -> bool {
        let is_ours = matches!(self.owner, ChainOwner::Service(_) | ChainOwner::Skeleton);
        is_ours && !self.is_base && !self.stands_alone && self.references == 0
    }
}

/// All chains, sets and maps, by who holds them, table and name.
pub fn chains(held: &Held<'_>, family: IpFamily) -> Vec<ChainRow> {
    let mut rows = Vec::new();
    for (source, ruleset, _) in &held.xtables {
        of_ruleset(*source, ruleset, &mut rows);
    }
    for table in &held.nft {
        of_table(table, &mut rows);
    }
    of_kernel(held, family, &mut rows);
    rows
}

fn of_ruleset(source: Source, ruleset: &Ruleset, rows: &mut Vec<ChainRow>) {
    let scope = backend::chain_scope(ruleset);
    // IPVS mode makes all its chains, whether Services need them or not.
    let is_ipvs = ipvs::holds_ours(ruleset) && !iptables::holds_services(ruleset);
    for (table, content) in &ruleset.tables {
        let mut references: BTreeMap<_, usize> = BTreeMap::new();
        for called in content.chains.values().flat_map(|chain| &chain.rules).filter_map(|rule| rule.chain()) {
            *references.entry(*called).or_default() += 1;
        }
        for (name, chain) in &content.chains {
            let is_base = chain.policy.is_some() || table.built_in_chains().contains(&name.as_str());
            let of_service = || {
                let mut comments = chain.rules.iter().map(|rule| rule.comment_text());
                comments.find_map(|comment| iptables::service_of(name.as_str(), comment))
            };
            let owner = match () {
                () if is_base => ChainOwner::BuiltIn,
                () if *table == TableName::Nat && iptables::is_hashed(name) => {
                    ChainOwner::Service(of_service())
                }
                // The detector of flushes is meant to stand alone.
                () if scope.owns(*table, name) && !scope.ignores(*table, name) => ChainOwner::Skeleton,
                () => ChainOwner::Other,
            };
            rows.push(ChainRow {
                source,
                table: table.to_string(),
                name: name.to_string(),
                kind: "chain",
                len: chain.rules.len(),
                references: references.get(name).copied().unwrap_or_default(),
                is_base,
                stands_alone: is_ipvs,
                owner,
            });
        }
    }
}

/// Sets, and virtual servers.
fn of_kernel(held: &Held<'_>, family: IpFamily, rows: &mut Vec<ChainRow>) {
    let mut references: BTreeMap<&SetName, usize> = BTreeMap::new();
    let rules = held.xtables.iter().flat_map(|(_, ruleset, _)| ruleset.tables.values());
    for rule in rules.flat_map(|table| table.chains.values()).flat_map(|chain| &chain.rules) {
        for one in &rule.matches {
            if let Match::Set(asked) = one {
                *references.entry(&asked.set).or_default() += 1;
            }
        }
    }
    let row = |table: &str, name: String, kind, len, owner| ChainRow {
        source: Source::Ipvs,
        table: table.to_owned(),
        name,
        kind,
        len,
        references: 0,
        is_base: false,
        stands_alone: true,
        owner,
    };
    for (name, set) in held.kernel.sets().into_iter().flatten() {
        let is_family = match &set.kind {
            SetKind::Hash { family: of, .. } => *of == family,
            SetKind::BitmapPort { .. } | SetKind::Unmodelled(_) => {
                ipvs::set_family(name).is_none_or(|of| of == family)
            }
        };
        if is_family {
            let owner =
                if ipvs::set_family(name).is_some() { ChainOwner::Skeleton } else { ChainOwner::Other };
            let references = references.get(name).copied().unwrap_or_default();
            rows.push(ChainRow {
                references,
                ..row("ipset", name.to_string(), "set", set.entries.len(), owner)
            });
        }
    }
    for (key, server) in held.kernel.servers().into_iter().flatten() {
        let len = server.real_servers.len();
        let one = row("ipvs", key.to_string(), "virtual server", len, ChainOwner::Service(None));
        rows.push(ChainRow { is_base: true, ..one });
    }
}

fn of_table(table: &nft::Table, rows: &mut Vec<ChainRow>) {
    let mut chains: BTreeMap<&nft::Name, usize> = BTreeMap::new();
    let mut sets: BTreeMap<&nft::Name, usize> = BTreeMap::new();
    for stmt in table.chains.values().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.stmts) {
        stmt.references(
            |chain| *chains.entry(chain).or_default() += 1,
            |set| *sets.entry(set).or_default() += 1,
        );
    }
    for data in table.sets.values().flat_map(|set| set.elements.values()).filter_map(|one| one.data.as_ref())
    {
        if let Some(chain) = data.chain() {
            *chains.entry(chain).or_default() += 1;
        }
    }
    let is_ours = nftables::owns_table(table);
    let owner = |name: &nft::Name, is_base: bool| match (is_ours, nftables::is_hashed(name)) {
        (true, true) => ChainOwner::Service(nftables::service_of(name.as_str(), None, None)),
        (true, false) => ChainOwner::Skeleton,
        (false, _) if is_base => ChainOwner::BuiltIn,
        (false, _) => ChainOwner::Other,
    };
    let table_text = format!("{} {}", table.family, table.name);
    let row = |name: &nft::Name, kind, len, references, is_base| ChainRow {
        source: Source::Nft,
        table: table_text.clone(),
        name: name.to_string(),
        kind,
        len,
        references,
        is_base,
        stands_alone: is_ours && nftables::may_stand_alone(name),
        owner: owner(name, is_base),
    };
    for (name, chain) in &table.chains {
        let references = chains.get(name).copied().unwrap_or_default();
        rows.push(row(name, "chain", chain.rules.len(), references, chain.base.is_some()));
    }
    for (name, set) in &table.sets {
        let kind = if set.data.is_some() { "map" } else { "set" };
        rows.push(row(name, kind, set.elements.len(), sets.get(name).copied().unwrap_or_default(), false));
    }
}

/// Chains that rules of a ruleset lead to, though they are not there.
pub(super) fn dangling(ruleset: &Ruleset) -> BTreeSet<(TableName, String)> {
    let mut missing = BTreeSet::new();
    for (table, content) in &ruleset.tables {
        let rules = content.chains.values().flat_map(|chain| &chain.rules);
        let called = rules.filter_map(|rule| rule.chain());
        missing.extend(
            called
                .filter(|chain| !content.chains.contains_key(*chain))
                .map(|chain| (*table, chain.to_string())),
        );
    }
    missing
}
