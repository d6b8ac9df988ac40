//! What is odd about a machine's rules: two modes at once, leftovers, orphans, jumps to nowhere, rules of others in the way.

use crate::backend::{iptables, ipvs, nftables};
use crate::trace::Source;

use super::foreign::{self, Served};
use super::{ChainRow, Held, Reading, chain};

/// What kind of oddity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// Services are served by more than one set of rules.
    SeveralModes,
    /// A mode has left chains but serves nothing.
    Leftover,
    /// A chain or set of ours to which nothing leads.
    Orphan,
    /// A rule leads to a chain that is not there.
    Dangling,
    /// A rule of others that packets of Services may meet.
    Foreign,
    /// A chain or rule that could not be read.
    Unreadable,
    /// Nothing tells where rules lead.
    Unknown,
}

impl FindingKind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            FindingKind::SeveralModes => "several modes",
            FindingKind::Leftover => "leftover",
            FindingKind::Orphan => "orphan",
            FindingKind::Dangling => "dangling",
            FindingKind::Foreign => "foreign rule",
            FindingKind::Unreadable => "unreadable",
            FindingKind::Unknown => "unknown",
        }
    }
}

/// An oddity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub kind: FindingKind,
    /// What it is, in words.
    pub text: String,
}

/// Looks for oddities in the rules of one family.
pub fn findings(held: &Held<'_>, readings: &[Reading], rows: &[ChainRow]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |kind, text| found.push(Finding { kind, text });
    if readings.len() > 1 {
        let names: Vec<String> = readings.iter().map(|one| one.holder()).collect();
        add(
            FindingKind::SeveralModes,
            format!("{} all hold Service rules, and the kernel obeys each of them", names.join(", ")),
        );
    }
    for reading in readings.iter().filter(|reading| !reading.knows_endpoints) {
        let said = "leads to proxy ports, and nothing tells who listens there: endpoints are not known";
        add(FindingKind::Unknown, format!("{} {said}", reading.holder()));
    }
    let serves = |source: Source| readings.iter().any(|reading| reading.source == source);
    for (source, ruleset, _) in &held.xtables {
        // IPVS mode shares chains.
        let has_ipvs = ipvs::holds_ours(ruleset);
        let has_chains =
            if has_ipvs { iptables::holds_services(ruleset) } else { iptables::holds_ours(ruleset) };
        let serves_none = held.kernel.servers().is_some() && !serves(Source::Ipvs);
        if has_ipvs && serves_none && !readings.is_empty() {
            add(FindingKind::Leftover, format!("{source} has chains of IPVS mode, but no virtual server"));
        }
        if has_chains && !serves(*source) && !readings.is_empty() {
            add(FindingKind::Leftover, format!("{source} has chains of iptables mode, but no Service"));
        }
        for (table, chain) in chain::dangling(ruleset) {
            add(
                FindingKind::Dangling,
                format!("{source} {table}: rules lead to {chain}, which is not there"),
            );
        }
    }
    if held.table().is_some() && !serves(Source::Nft) && !readings.is_empty() {
        let table = nftables::table_name();
        add(FindingKind::Leftover, format!("nft has the table {table}, but no Service in it"));
    }
    for row in rows.iter().filter(|row| row.is_orphan()) {
        let ChainRow { source, table, name, kind, .. } = row;
        add(FindingKind::Orphan, format!("{source} {table} {name}: nothing leads to this {kind}"));
    }
    for table in &held.nft {
        let kinds = ["chain ", "rule "];
        for object in table.unmodelled.iter().filter(|one| kinds.iter().any(|kind| one.starts_with(kind))) {
            add(FindingKind::Unreadable, format!("nft {} {}: {object}", table.family, table.name));
        }
    }
    if !readings.is_empty() {
        let served = Served::of(readings);
        for (source, ruleset, _) in &held.xtables {
            let rules = foreign::in_ruleset(ruleset, &served);
            rules.into_iter().for_each(|rule| add(FindingKind::Foreign, format!("{source} {rule}")));
        }
        for table in held.nft.iter().filter(|table| !nftables::owns_table(table)) {
            let rules = foreign::in_table(table, &served);
            rules.into_iter().for_each(|rule| add(FindingKind::Foreign, format!("nft {rule}")));
        }
    }
    found
}
