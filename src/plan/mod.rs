//! wanted × live → what to do, in order. `host` executes it and decides nothing; dry-run prints the same list.

mod landmark;
mod order;
mod step;
mod virtual_servers;

pub use landmark::{Landmark, landmarks};
pub use order::{DELETE_CHAINS, DELETE_TABLE};
pub use step::Step;

use std::collections::BTreeMap;

use crate::net::{IpFamily, PerFamily};
use crate::program::ipset::diff::SetsDiff;
use crate::program::ipvs::diff::ServersDiff;
use crate::program::listener::{self, ListenerKey, diff::ListenerChange};
use crate::program::nft::{self, diff::TableDiff};
use crate::program::xtables::diff::{self, RulesetDiff};
use crate::program::xtables::{ChainName, TableName};
use crate::program::{NftTable, Program, Scope};

/// What separates a live program from the wanted one, and the steps that take it there.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The steps, in the order in which they must be taken. None if nothing differs.
    pub steps: Vec<Step>,
    /// What differs in the rules, by family; `None` for a family that is left alone.
    pub rules: PerFamily<Option<RulesetDiff>>,
    /// Listeners that differ, if both sides speak of any. No step changes them: their process does.
    pub listeners: Vec<(ListenerKey, ListenerChange)>,
    /// What differs in the table of nft, by family; `None` for a family that is left alone or has none wanted.
    pub tables: PerFamily<Option<TableDiff>>,
    /// What differs in the virtual servers, by family; `None` for a family that is left alone.
    pub servers: PerFamily<Option<ServersDiff>>,
    /// What differs in sets; `None` if they are left alone.
    pub sets: Option<SetsDiff>,
}

impl Plan {
    /// Whether live is already as wanted.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.listeners.is_empty()
    }

    /// Lets all steps go through tools.
    pub fn drop_batches(&mut self) {
        for step in &mut self.steps {
            if let Step::NftTransaction { batch, .. } = step {
                *batch = None;
            }
        }
    }

    /// Chains of ours that cannot go, since rules of others refer to them.
    pub fn kept_chains(&self) -> impl Iterator<Item = (TableName, ChainName)> + '_ {
        let tables = [&self.rules.v4, &self.rules.v6].into_iter().flatten().flat_map(|rules| &rules.tables);
        tables.flat_map(|(table, changes)| changes.kept.iter().map(|chain| (*table, *chain)))
    }
}

/// Plans the way from `live` to `wanted`. `scopes` say which live objects of a family may be touched at all.
pub fn plan(wanted: &Program, live: &Program, scopes: &PerFamily<Scope>) -> Plan {
    let rules = PerFamily::from_fn(|family| {
        let wanted = wanted.xtables.get(family).as_ref()?;
        let live = live.xtables.get(family).as_ref()?;
        Some(diff::diff(wanted, live, scopes.get(family)))
    });
    let tables = PerFamily::from_fn(|family| {
        let live = live.nft.get(family);
        if *live == NftTable::Unspoken {
            return None;
        }
        Some(nft::diff::diff(wanted.nft.get(family).table()?, live.table()))
    });
    let ipvs = virtual_servers::Differences::new(wanted, live, scopes);
    let (first, last) = setting_steps(wanted, live);
    let mut steps = first;
    for name in wanted.nfacct.difference(&live.nfacct) {
        steps.push(Step::AddNfacct { name: name.clone() });
    }
    // What is wanted comes before what is not wanted goes: of two modes there is always one in force.
    let (mut come, mut go) = (Vec::new(), Vec::new());
    for family in IpFamily::ALL {
        if let (Some(wanted), Some(rules)) = (wanted.xtables.get(family), rules.get(family)) {
            let of_language = if wanted.tables.is_empty() { &mut go } else { &mut come };
            of_language.extend(order::xtables_steps(family, wanted, rules));
        }
        match (wanted.nft.get(family), tables.get(family), live.nft.get(family)) {
            (NftTable::Present(wanted), Some(changes), live) => {
                come.extend(order::nft_steps(family, wanted, changes, live.table().is_some()));
            }
            (NftTable::Absent, _, NftTable::Present(live)) => go.push(order::delete_table(family, live)),
            (NftTable::Present(_) | NftTable::Absent | NftTable::Unspoken, _, _) => {}
        }
    }
    steps.extend(ipvs.fill(wanted));
    // Rules of another mode that rewrite destinations go before IPVS as long as they are there: what takes over must stand
    // before they go. Without such rules nothing of IPVS may be met before the rules that belong to it.
    let takes_over = wanted.dummies.is_some()
        && live.dummies.as_ref().is_none_or(BTreeMap::is_empty)
        && rules.get(IpFamily::V4).iter().chain(rules.get(IpFamily::V6)).any(deletes_chains);
    let mut switch_on = ipvs.switch_on();
    if takes_over {
        steps.append(&mut switch_on);
    }
    steps.append(&mut come);
    steps.append(&mut switch_on);
    steps.extend(ipvs.hand_over(wanted));
    steps.extend(ipvs.switch_off());
    steps.append(&mut go);
    steps.extend(ipvs.drain());
    steps.extend(last);
    let listeners = match (&wanted.listeners, &live.listeners) {
        (Some(wanted), Some(live)) => listener::diff::diff(wanted, live),
        (Some(_) | None, _) => Vec::new(),
    };
    let steps = joined(steps);
    Plan { steps, rules, listeners, tables, servers: ipvs.servers, sets: ipvs.sets }
}

/// Changes of virtual servers with nothing between them are sent as one.
fn joined(steps: Vec<Step>) -> Vec<Step> {
    let mut all: Vec<Step> = Vec::with_capacity(steps.len());
    for step in steps {
        match (all.last_mut(), step) {
            (Some(Step::Ipvs { requests, what }), Step::Ipvs { requests: mut more, .. }) => {
                requests.append(&mut more);
                *what = "change";
            }
            (_, step) => all.push(step),
        }
    }
    all
}

fn deletes_chains(rules: &RulesetDiff) -> bool {
    let mut chains = rules.tables.values().flat_map(|table| table.chains.values());
    chains.any(|change| *change == diff::ChainChange::Delete)
}

/// The steps of kernel settings: those before all others, and those after: 127.0.0.0/8 may be routed only once the rules that
/// guard it are in.
fn setting_steps(wanted: &Program, live: &Program) -> (Vec<Step>, Vec<Step>) {
    let differing = wanted.sysctls.iter().filter(|(key, value)| live.sysctls.get(*key) != Some(value));
    let steps = differing.map(|(key, value)| Step::SetSysctl { key: key.clone(), value: value.clone() });
    steps.partition(|step| !matches!(step, Step::SetSysctl { key, .. } if key.ends_with("/route_localnet")))
}

#[cfg(test)]
mod tests;
