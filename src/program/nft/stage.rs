//! One base chain: the same walk, for who asks rules of other languages in between and wants to know the way.

use std::collections::{BTreeMap, BTreeSet};

use crate::packet::{NodeFacts, Packet};
use crate::program::transit::{Action, Crossing, Met, Part, Record, Setting};

use super::{
    At, Branch, ChainKind, Entry, Expr, Family, Indexed, MapRef, Memory, Name, Place, Rule, State, Stmt,
    Stop, Verdict, Walk,
};

/// A base chain that is asked at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    /// Its table.
    pub table: (Family, Name),
    /// Its name.
    pub name: Name,
    /// What it is for.
    pub kind: ChainKind,
    /// Where it stands among all that netfilter asks there: the lowest first. All chains of type nat stand at one place.
    pub priority: i32,
    /// Its own priority, which orders chains of type nat.
    pub own_priority: i32,
}

/// The base chains that a packet meets at a place, first to last.
pub fn base_chains(rules: &Indexed<'_>, place: Place, packet: &Packet, facts: &NodeFacts) -> Vec<BaseChain> {
    let memory = Memory::default();
    let walk = Walk::new(rules, packet, facts, &memory);
    let entries = walk.entries(place);
    entries
        .map(|entry| BaseChain {
            table: (entry.table.family, entry.table.name.clone()),
            name: entry.name.clone(),
            kind: entry.kind,
            priority: entry.priority,
            own_priority: entry.own,
        })
        .collect()
}

/// Sends parts of a packet through one base chain at one place, and writes down the rules that they match.
pub fn cross(
    rules: &Indexed<'_>,
    (place, chain): (Place, &BaseChain),
    setting: Setting<'_>,
    parts: Vec<Part>,
) -> Crossing {
    let Setting { packet, facts, memory } = setting;
    let source = packet.source.addr;
    let remembered = memory.sets.iter().map(|set| (set.clone(), source)).collect();
    let memory = Memory { remembered, ..Memory::default() };
    let mut walk = Walk { record: Record::open(), ..Walk::new(rules, packet, facts, &memory) };
    let is_it = |entry: &Entry<'_>| {
        entry.table.family == chain.table.0 && entry.table.name == chain.table.1 && *entry.name == chain.name
    };
    let Some(entry) = walk.entries(place).find(is_it) else {
        return Crossing { parts, ..Crossing::default() };
    };
    // What other languages remember is no part of a branch: each memory has its own walk.
    let mut groups: BTreeMap<_, Vec<Branch>> = BTreeMap::new();
    for mut part in parts {
        groups.entry(std::mem::take(&mut part.recent)).or_default().push(branch(part));
    }
    let mut accepted = Vec::new();
    for (recent, branches) in groups {
        let through = walk.enter(place, entry, branches);
        accepted.extend(through.into_iter().map(|branch| Part { recent: recent.clone(), ..part(branch) }));
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

fn branch(part: Part) -> Branch {
    let Part { weight, destination, translated, virtual_server, source_nat, mark, untracked, .. } = part;
    let remembered = part.elements;
    let state = State { destination, translated, virtual_server, source_nat, mark, untracked, remembered };
    Branch { weight, state, doubt: None }
}

fn part(branch: Branch) -> Part {
    let Branch { weight, state, doubt: _ } = branch;
    let State { destination, translated, virtual_server, source_nat, mark, untracked, remembered } = state;
    Part {
        weight,
        destination,
        translated,
        virtual_server,
        source_nat,
        mark,
        untracked,
        recent: BTreeSet::new(),
        elements: remembered,
    }
}

impl From<&Verdict> for Action {
    fn from(verdict: &Verdict) -> Action {
        match verdict {
            Verdict::Accept => Action::Accept,
            Verdict::Drop => Action::Drop,
            Verdict::Continue => Action::Continue,
            Verdict::Return => Action::Return,
            Verdict::Jump(chain) | Verdict::Goto(chain) => Action::Jump(chain.to_string()),
        }
    }
}

/// What a rule without verdict did to a packet that passed it.
pub(super) fn passed(rule: &Rule, state: &State) -> Action {
    if rule.stmts.iter().any(|stmt| matches!(stmt, Stmt::SetMark { .. })) {
        Action::Mark(state.mark)
    } else if rule.stmts.contains(&Stmt::Notrack) {
        Action::Untrack
    } else {
        Action::Continue
    }
}

impl Walk<'_> {
    /// Writes down what a rule does to a branch of this weight.
    pub(super) fn note(&mut self, at: At<'_>, weight: f64, action: impl FnOnce() -> Action) {
        self.note_element(at, weight, action, None);
    }

    fn note_element(
        &mut self,
        at: At<'_>,
        weight: f64,
        action: impl FnOnce() -> Action,
        element: Option<String>,
    ) {
        let depth = self.calls.len().saturating_sub(1);
        self.record.note(|| Met {
            chain: at.chain.to_string(),
            rule: Some(at.index),
            depth,
            weight,
            action: action(),
            element,
        });
    }

    /// Writes down the verdict that a map gave, with the comment of its element.
    pub(super) fn note_verdict(
        &mut self,
        stop: Stop<'_>,
        at: At<'_>,
        (key, map): (&Expr, &MapRef),
        verdict: &Verdict,
        weight: f64,
        state: &State,
    ) {
        if !self.record.is_open() {
            return;
        }
        let element = match map {
            MapRef::Named(name) => stop.scene.element(key, state).and_then(|key| {
                let comment = stop.table.sets.get(name)?.elements.get(&key)?.comment.as_ref()?;
                Some(comment.to_string())
            }),
            MapRef::Anonymous(_) => None,
        };
        self.note_element(at, weight, || verdict.into(), element);
    }

    /// Writes down that the policy of a chain discards what came to its end.
    pub(super) fn note_policy(&mut self, chain: &Name, returned: &[Branch]) {
        if !returned.is_empty() {
            self.record.note(|| Met {
                chain: chain.to_string(),
                rule: None,
                depth: 0,
                weight: returned.iter().map(|branch| branch.weight).sum(),
                action: Action::Drop,
                element: None,
            });
        }
    }
}
