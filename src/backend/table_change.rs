//! What a difference of nft tables means for Services.

use std::collections::BTreeMap;

use crate::net::IpFamily;
use crate::program::nft::diff::{ChainChange, SetChange, TableDiff};
use crate::program::nft::{Name, Set, Table, emit};

use super::change::{ChainDelta, Changes, ObjectChange, PortChange, port_differences};
use super::{LiftedName, nftables};

/// Explains the difference between a wanted table, if one is wanted, and the live one. Without `with_lines` its objects have no
/// lines.
pub fn table_changes(
    family: IpFamily,
    wanted: Option<&Table>,
    live: Option<&Table>,
    difference: &TableDiff,
    with_lines: bool,
) -> Changes {
    let mut changes = Changes::default();
    if difference.is_empty() {
        return changes;
    }
    let table = format!("{} {}", crate::program::nft::Family::from(family), nftables::table_name());
    let lines = |side: Option<&Table>, chain: &Name| -> Vec<String> {
        let Some((table, chain_of)) = side.and_then(|side| Some((side, side.chains.get(chain)?))) else {
            return Vec::new();
        };
        let line = |rule| {
            let mut text = Vec::new();
            emit::write_rule(&mut text, table, chain, rule);
            String::from_utf8_lossy(&text).trim_end().to_owned()
        };
        chain_of.rules.iter().filter(|_| with_lines).map(line).collect()
    };
    for (chain, change) in &difference.chains {
        changes.chains.push(ChainDelta {
            table: table.clone(),
            chain: chain.to_string(),
            change: match change {
                ChainChange::Create => ObjectChange::Create,
                ChainChange::Rewrite | ChainChange::Replace => ObjectChange::Rewrite,
                ChainChange::Delete => ObjectChange::Delete,
            },
            live: lines(live, chain),
            wanted: lines(wanted, chain),
            is_fixed: nftables::is_fixed(chain),
        });
    }
    for (set, change) in &difference.sets {
        changes.chains.push(ChainDelta {
            table: table.clone(),
            chain: set.to_string(),
            change: match change {
                SetChange::Create => ObjectChange::Create,
                SetChange::Replace => ObjectChange::Rewrite,
                SetChange::Delete => ObjectChange::Delete,
            },
            live: Vec::new(),
            wanted: Vec::new(),
            is_fixed: nftables::is_fixed(set),
        });
    }
    for (set, of_set) in &difference.elements {
        let elements = |side: Option<&Table>, keys: &[crate::program::nft::Key]| -> Vec<String> {
            let Some(from) = side.and_then(|side| side.sets.get(set)) else {
                return Vec::new();
            };
            keys.iter().filter(|_| with_lines).filter_map(|key| element_line(from, key)).collect()
        };
        changes.chains.push(ChainDelta {
            table: table.clone(),
            chain: set.to_string(),
            change: ObjectChange::Rewrite,
            live: elements(live, &of_set.delete),
            wanted: elements(wanted, &of_set.add),
            is_fixed: false,
        });
    }
    changes.ports = port_changes(wanted, live);
    changes
}

fn element_line(from: &Set, key: &crate::program::nft::Key) -> Option<String> {
    let element = from.elements.get(key)?;
    let mut text = Vec::new();
    emit::write_element(&mut text, key, element);
    Some(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// Service ports that differ between the two tables.
fn port_changes(wanted: Option<&Table>, live: Option<&Table>) -> BTreeMap<LiftedName, PortChange> {
    let read = |side: Option<&Table>| {
        side.map(|table| (nftables::lift(table), nftables::policies(table))).unwrap_or_default()
    };
    port_differences(read(wanted), read(live), &|_| false)
}
