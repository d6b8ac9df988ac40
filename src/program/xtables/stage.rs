//! One table at one hook: the same walk, for who asks rules of other languages in between and wants to know the way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::net::AddrPort;
use crate::program::Kernel;
use crate::program::transit::{Action, Crossing, Met, Part, Place, Record, Setting};

use super::{
    Branch, Case, ChainName, Effect, Hook, Memory, Rule, Ruleset, Scene, State, Stop, TableName, Target,
    Walk, unmodelled, weight,
};

/// When netfilter asks a table (netfilter_ipv4.h, the NF_IP_PRI constants).
pub fn priority(table: TableName, place: Place) -> i32 {
    match table {
        TableName::Raw => -300,
        TableName::Mangle => -150,
        TableName::Nat if matches!(place, Place::Prerouting | Place::Output) => -100,
        TableName::Nat => 100,
        TableName::Filter => 0,
        TableName::Security => 50,
    }
}

/// The tables that are asked at a place, first to last.
pub fn tables(place: Place) -> &'static [TableName] {
    hook(place).map_or(&[], Hook::tables)
}

/// The built-in chain of a place.
pub fn built_in_chain(place: Place) -> Option<ChainName> {
    hook(place).map(Hook::chain)
}

/// Sends parts of a packet through one table at one place, and writes down the rules that they match. Virtual servers are no
/// part of a table.
pub fn cross(
    (ruleset, kernel): (&Ruleset, &Kernel<'_>),
    (place, name): (Place, TableName),
    setting: Setting<'_>,
    parts: Vec<Part>,
) -> Crossing {
    let Setting { packet, facts, memory } = setting;
    let (Some(hook), Some(table)) = (hook(place), ruleset.tables.get(&name)) else {
        return Crossing { parts, ..Crossing::default() };
    };
    let source = packet.source.addr;
    let remembered = memory.recent.iter().map(|list| (list.clone(), source)).collect();
    let memory = Memory { remembered, ..Memory::default() };
    let case = Case { ruleset, index: None, packet, facts, memory: &memory, surroundings: kernel };
    let mut walk = Walk { record: Record::open(), ..Walk::new(case) };
    let scene = Scene {
        packet,
        facts,
        memory: &memory,
        surroundings: case.surroundings,
        tracked: name != TableName::Raw || matches!(hook, Hook::LoopbackPrerouting | Hook::Scheduled),
        input: hook.input(packet),
        output: hook.output(),
    };
    // What other languages remember is no part of a branch: each memory has its own walk.
    let mut groups: BTreeMap<_, Vec<Branch>> = BTreeMap::new();
    for mut part in parts {
        groups.entry(std::mem::take(&mut part.elements)).or_default().push(branch(part));
    }
    let mut accepted = Vec::new();
    for (elements, branches) in groups {
        let through = walk.table(Stop { hook, name, table, scene }, branches);
        accepted
            .extend(through.into_iter().map(|branch| Part { elements: elements.clone(), ..part(branch) }));
    }
    Crossing {
        parts: accepted,
        scheduled: Vec::new(),
        rejected: walk.rejected,
        dropped: walk.dropped,
        unknown: walk.unknown,
        met: walk.record.into_met(),
    }
}

fn hook(place: Place) -> Option<Hook> {
    Some(match place {
        Place::Ingress => return None,
        Place::Prerouting => Hook::Prerouting,
        Place::Input => Hook::Input,
        Place::Forward => Hook::Forward,
        Place::Output => Hook::Output,
        Place::Postrouting => Hook::Postrouting,
        Place::Scheduled => Hook::Scheduled,
        Place::LoopbackPrerouting => Hook::LoopbackPrerouting,
        Place::LoopbackInput => Hook::LoopbackInput,
    })
}

fn branch(part: Part) -> Branch {
    let Part {
        weight,
        destination,
        translated,
        virtual_server,
        source_nat,
        mark,
        untracked,
        recent,
        elements: _,
    } = part;
    let state =
        State { destination, translated, virtual_server, source_nat, mark, untracked, remembered: recent };
    Branch { weight, state }
}

fn part(branch: Branch) -> Part {
    let Branch { weight, state } = branch;
    let State { destination, translated, virtual_server, source_nat, mark, untracked, remembered: recent } =
        state;
    Part {
        weight,
        destination,
        translated,
        virtual_server,
        source_nat,
        mark,
        untracked,
        recent,
        elements: BTreeSet::new(),
    }
}

impl Walk<'_> {
    /// Writes down what a rule does to those that match it.
    pub(super) fn note(
        &mut self,
        stop: Stop<'_>,
        (chain, index): (ChainName, usize),
        rule: &Rule,
        matching: &[Branch],
    ) {
        let depth = self.calls.len().saturating_sub(1);
        let redirected_to = self.redirected_to(stop.hook);
        for branch in matching {
            self.record.note(|| Met {
                chain: chain.to_string(),
                rule: Some(index),
                depth,
                weight: branch.weight,
                action: action(stop, rule, &branch.state, redirected_to),
                element: None,
            });
        }
    }

    /// Writes down that the policy of a chain discards what came to its end.
    pub(super) fn note_policy(&mut self, chain: ChainName, returned: &[Branch]) {
        if !returned.is_empty() {
            self.record.note(|| Met {
                chain: chain.to_string(),
                rule: None,
                depth: 0,
                weight: weight(returned),
                action: Action::Drop,
                element: None,
            });
        }
    }
}

fn action(stop: Stop<'_>, rule: &Rule, state: &State, redirected_to: IpAddr) -> Action {
    match &rule.target {
        None => Action::Continue,
        Some(Target::Jump(chain) | Target::Goto(chain)) => Action::Jump(chain.to_string()),
        Some(Target::Accept) => Action::Accept,
        Some(Target::Drop) => Action::Drop,
        Some(Target::Return) => Action::Return,
        Some(Target::Reject(_)) => Action::Reject,
        Some(Target::Mark { value, mask }) => Action::Mark((state.mark & !mask) ^ value),
        Some(Target::Masquerade { .. }) => Action::Masquerade,
        Some(Target::Dnat(to)) => Action::Dnat(*to),
        Some(Target::Redirect(port)) => Action::Dnat(AddrPort::new(redirected_to, *port)),
        Some(Target::Unmodelled(text)) => match unmodelled(text, stop, state) {
            Effect::Nothing => Action::Continue,
            Effect::Untracked => Action::Untrack,
            Effect::Masqueraded => Action::Masquerade,
            Effect::Accepted => Action::Accept,
            Effect::Rejected => Action::Reject,
            Effect::Unknown => Action::Unknown,
        },
    }
}
