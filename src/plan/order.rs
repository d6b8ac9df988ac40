//! Make before use, unuse before delete.

use crate::net::IpFamily;
use crate::program::nft::transaction::{self, Transaction};
use crate::program::nft::{self, diff::TableDiff};
use crate::program::xtables::diff::{self, ChainChange, JUMP_ORDER, RulesetDiff};
use crate::program::xtables::{ChainName, Rule, Ruleset};

use super::Step;

/// The steps of one family: jumps that go, then chains with the jumps that come.
pub(super) fn xtables_steps(family: IpFamily, wanted: &Ruleset, rules: &RulesetDiff) -> Vec<Step> {
    let mut steps = Vec::new();
    for table in JUMP_ORDER.into_iter().rev() {
        let Some(changes) = rules.tables.get(&table) else { continue };
        steps.extend(in_order_of_deletion(&changes.jumps_stale).map(|(chain, rule)| Step::DeleteJump {
            family,
            table,
            chain: *chain,
            rule: rule.clone(),
        }));
    }
    steps.extend(restore_step(family, wanted, rules));
    steps
}

/// The hooks in the order in which a table loses its jumps: as long as traffic is still sent elsewhere, its source is rewritten.
const HOOK_ORDER: [&str; 5] = ["PREROUTING", "OUTPUT", "INPUT", "FORWARD", "POSTROUTING"];

fn in_order_of_deletion(stale: &[(ChainName, Rule)]) -> impl Iterator<Item = &(ChainName, Rule)> {
    let of_hook = move |hook: &'static str| stale.iter().filter(move |(chain, _)| chain.as_str() == hook);
    HOOK_ORDER.into_iter().flat_map(of_hook)
}

fn restore_step(family: IpFamily, wanted: &Ruleset, rules: &RulesetDiff) -> Option<Step> {
    let document = diff::restore_document(rules, wanted)?;
    let (mut n_chains, mut n_rules, mut n_deleted, mut n_jumps) = (0, 0, 0, 0);
    for (table, changes) in &rules.tables {
        n_jumps += changes.n_jumps_wanted();
        for (chain, change) in &changes.chains {
            match change {
                ChainChange::Create | ChainChange::Rewrite => {
                    n_chains += 1;
                    n_rules += wanted.chain(*table, chain).map_or(0, |chain| chain.rules.len());
                }
                ChainChange::Delete => n_deleted += 1,
            }
        }
    }
    Some(Step::XtablesRestore { family, document, n_chains, n_rules, n_deleted, n_jumps })
}

/// The transactions of one table. A first load goes in several: chains that nothing refers to yet, then what switches them
/// on.
pub(super) fn nft_steps(
    family: IpFamily,
    wanted: &nft::Table,
    changes: &TableDiff,
    is_there: bool,
) -> Vec<Step> {
    if changes.is_empty() {
        return Vec::new();
    }
    let stages = transaction::stages(changes, wanted);
    let what = match (is_there, stages.load.len()) {
        (true, 1) => "change the table",
        (true, _) => "change the table, in stages,",
        (false, 1) => "make the table",
        (false, _) => "make the table, in stages,",
    };
    let load = stages.load.into_iter().map(|transaction| nft_step(family, transaction, what));
    let sweep = stages.sweep.into_iter().map(|transaction| nft_step(family, transaction, DELETE_CHAINS));
    load.chain(sweep).collect()
}

/// What a step says that deletes chains which are empty and which nothing refers to any more.
pub const DELETE_CHAINS: &str = "delete empty chains";

/// What a step says that takes a table away.
pub const DELETE_TABLE: &str = "delete the table";

/// Takes a whole table away.
pub(super) fn delete_table(family: IpFamily, live: &nft::Table) -> Step {
    nft_step(family, transaction::delete_table(live), DELETE_TABLE)
}

fn nft_step(family: IpFamily, transaction: Transaction, what: &'static str) -> Step {
    Step::NftTransaction { family, document: transaction.document, batch: transaction.batch, what }
}
