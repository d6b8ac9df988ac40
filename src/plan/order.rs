//! Make before use, unuse before delete.

use crate::net::IpFamily;
use crate::program::nft::transaction::{self, Transaction};
use crate::program::nft::{self, diff::TableDiff};
use crate::program::xtables::diff::{self, ChainChange, RulesetDiff};
use crate::program::xtables::{ChainName, Rule, Ruleset, TableName};

use super::{JumpAction, Step};

/// The order in which tables get their jumps: source NAT before the traffic that needs it, NAT before the filter rules
/// that take it for granted. Jumps are taken away in the opposite order.
const JUMP_ORDER: [TableName; 5] =
    [TableName::Raw, TableName::Mangle, TableName::Nat, TableName::Filter, TableName::Security];

/// The steps of one family: jumps that go, chains, jumps that come.
pub(super) fn xtables_steps(family: IpFamily, wanted: &Ruleset, rules: &RulesetDiff) -> Vec<Step> {
    let mut steps = Vec::new();
    for table in JUMP_ORDER.into_iter().rev() {
        let Some(changes) = rules.tables.get(&table) else { continue };
        steps.extend(in_order_of_deletion(&changes.jumps_stale).map(jump(JumpAction::Delete, family, table)));
    }
    steps.extend(restore_step(family, wanted, rules));
    for table in JUMP_ORDER {
        let Some(changes) = rules.tables.get(&table) else { continue };
        steps.extend(in_order_of_insertion(&changes.jumps_missing).map(jump(
            JumpAction::Insert,
            family,
            table,
        )));
        steps.extend(by_hook(&changes.jumps_behind).map(jump(JumpAction::Append, family, table)));
    }
    steps
}

/// The step that does something with a jump of a chain.
fn jump(action: JumpAction, family: IpFamily, table: TableName) -> impl Fn(&(ChainName, Rule)) -> Step {
    move |(chain, rule)| Step::Jump { action, family, table, chain: *chain, rule: rule.clone() }
}

/// The hooks in the order in which they get a table's jumps: what is done after routing is in place before what is done
/// ahead of it.
const HOOK_ORDER: [&str; 5] = ["POSTROUTING", "FORWARD", "INPUT", "OUTPUT", "PREROUTING"];

/// Each jump goes to the head of its chain, so the last one of a chain is inserted first.
fn in_order_of_insertion(missing: &[(ChainName, Rule)]) -> impl Iterator<Item = &(ChainName, Rule)> {
    let of_hook =
        move |hook: &'static str| missing.iter().rev().filter(move |(chain, _)| chain.as_str() == hook);
    HOOK_ORDER.into_iter().flat_map(of_hook)
}

/// Each goes to the end of its chain, so the first one comes first.
fn by_hook(behind: &[(ChainName, Rule)]) -> impl Iterator<Item = &(ChainName, Rule)> {
    let of_hook = move |hook: &'static str| behind.iter().filter(move |(chain, _)| chain.as_str() == hook);
    HOOK_ORDER.into_iter().flat_map(of_hook)
}

/// The other way round: as long as traffic is still sent elsewhere, its source is rewritten.
fn in_order_of_deletion(stale: &[(ChainName, Rule)]) -> impl Iterator<Item = &(ChainName, Rule)> {
    let of_hook = move |hook: &'static str| stale.iter().filter(move |(chain, _)| chain.as_str() == hook);
    HOOK_ORDER.into_iter().rev().flat_map(of_hook)
}

fn restore_step(family: IpFamily, wanted: &Ruleset, rules: &RulesetDiff) -> Option<Step> {
    let document = diff::restore_document(rules, wanted)?;
    let (mut n_chains, mut n_rules, mut n_deleted) = (0, 0, 0);
    for (table, changes) in &rules.tables {
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
    Some(Step::XtablesRestore { family, document, n_chains, n_rules, n_deleted })
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
