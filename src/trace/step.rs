//! The rules met at one stop as a tree: a rule that calls a chain has the rules met in it below.

use crate::program::ipvs;
use crate::program::nft;
use crate::program::xtables::{self, ChainName};
use crate::program::{Action, Met, Place};

use super::hooks::{Rules, Source, Stage};

/// One table or base chain at one hook.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    /// Where.
    pub place: Place,
    /// Whose rules.
    pub source: Source,
    /// The table, as its tool calls it.
    pub table: String,
    /// The priority at the hook.
    pub priority: i32,
    /// The rules that matched.
    pub steps: Vec<Step>,
    /// Why it cannot be told what happens to a part of the packet.
    pub unknown: Option<String>,
}

/// A rule that a packet can match.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its chain.
    pub chain: String,
    /// Its place in the chain, from 1; `None` for the policy of the chain.
    pub number: Option<usize>,
    /// The rule as its tool prints it, without the chain.
    pub text: String,
    /// Its comment, or that of the element of a map that decided.
    pub comment: Option<String>,
    /// How likely the packet meets it so, 0 to 1.
    pub share: f64,
    /// What it does.
    pub action: Action,
    /// The rules met in the chain that it calls.
    pub steps: Vec<Step>,
}

/// Makes a tree of a walk's record.
pub(super) fn tree(met: Vec<Met>, rules: &Rules<'_>, stage: &Stage) -> Vec<Step> {
    let mut rest = met.into_iter().peekable();
    let mut steps = Vec::new();
    while rest.peek().is_some() {
        level(&mut rest, 0, &mut steps, rules, stage);
    }
    steps
}

fn level(
    rest: &mut std::iter::Peekable<std::vec::IntoIter<Met>>,
    depth: usize,
    steps: &mut Vec<Step>,
    rules: &Rules<'_>,
    stage: &Stage,
) {
    while let Some(met) = rest.next_if(|met| met.depth >= depth) {
        let at = place_of(steps, &met).unwrap_or_else(|| {
            steps.push(step(&met, rules, stage));
            steps.len() - 1
        });
        steps[at].share += met.weight;
        level(rest, met.depth + 1, &mut steps[at].steps, rules, stage);
    }
    // Parts of the packet meet rules one after the other: the chain has its own order, its policy last.
    steps.sort_by_key(|step| step.number.unwrap_or(usize::MAX));
}

/// The step that says the same.
fn place_of(steps: &[Step], met: &Met) -> Option<usize> {
    steps.iter().position(|step| {
        step.number == met.rule.map(|index| index + 1)
            && step.action == met.action
            && step.chain == met.chain
            && (met.element.is_none() || step.comment == met.element)
    })
}

fn step(met: &Met, rules: &Rules<'_>, stage: &Stage) -> Step {
    let (text, comment) = described(met, rules, stage).unwrap_or_default();
    Step {
        chain: met.chain.clone(),
        number: met.rule.map(|index| index + 1),
        text,
        comment: met.element.clone().or(comment),
        share: 0.0,
        action: met.action.clone(),
        steps: Vec::new(),
    }
}

fn described(met: &Met, rules: &Rules<'_>, stage: &Stage) -> Option<(String, Option<String>)> {
    if matches!(stage, Stage::VirtualServers { .. }) {
        return Some((ipvs::stage::described(&rules.kernel, &met.chain)?, None));
    }
    let Some(index) = met.rule else { return Some(("policy drop".to_owned(), None)) };
    match stage {
        Stage::Table { index: of, table, family, .. } => {
            let (_, ruleset) = rules.xtables.get(*of)?;
            let name = ChainName::new(&met.chain).ok()?;
            let rule = ruleset.chain(*table, &name)?.rules.get(index)?;
            let text = xtables::emit::rule_text(rule, *family);
            Some((text, rule.comment_text().map(str::to_owned)))
        }
        Stage::BaseChain(base) => {
            let table = rules.nft?.tables.get(&base.table)?;
            let rule = table.chains.get(met.chain.as_str())?.rules.get(index)?;
            let text = nft::emit::rule_text(table, rule);
            Some((text, rule.comment.as_ref().map(ToString::to_string)))
        }
        Stage::VirtualServers { .. } => None,
    }
}
