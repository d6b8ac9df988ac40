//! The first packet of a flow on its way through the chains, with every turn that chance could give it.
//!
//! A packet is a set of *branches*, each with a weight. `statistic` splits a branch in two, equal branches are joined
//! again, and the weights of all that came out are the probabilities of the fate. All branches pass a chain together,
//! so a pool of thousands of endpoints costs as much as it has rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::net::AddrPort;
use crate::packet::{Fate, NodeFacts, Origin, Packet};
use crate::program::transit::Record;
use crate::program::walk::{self, Answer, Interface};

use super::index::Index;
pub use super::matching::Memory;
use super::matching::{Branch, Meeting, Scene, State};
use super::{
    ChainName, Connection, Policy, Rule, RulesAlone, Ruleset, Scheduled, Sending, Surroundings, Table,
    TableName, Target,
};

/// What the rules do with a packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// What becomes of it.
    pub fate: Fate,
    /// For each endpoint that it can go to: the `recent` lists and virtual servers that then remember its source.
    pub remembered: BTreeMap<AddrPort, BTreeSet<String>>,
    /// The rules that it can match, as (table, chain, index from 0), in the order in which it meets them first.
    pub matched: Vec<(TableName, ChainName, usize)>,
}

/// Sends the first packet of a flow through all chains, in the order in which netfilter has them.
///
/// A packet of the other family meets no rule. Where a rule that is not modelled may decide, the fate is
/// [`Fate::Unknown`] and names the rule; rules that cannot concern the packet, or would change nothing, do not count.
pub fn eval(ruleset: &Ruleset, packet: &Packet, facts: &NodeFacts, memory: &Memory) -> Evaluation {
    eval_among(ruleset, packet, facts, memory, &RulesAlone)
}

/// The same where rules ask sets, and virtual servers take packets on their way in and out of the node.
pub fn eval_among(
    ruleset: &Ruleset,
    packet: &Packet,
    facts: &NodeFacts,
    memory: &Memory,
    surroundings: &dyn Surroundings,
) -> Evaluation {
    send(Walk::new(Case { ruleset, index: None, packet, facts, memory, surroundings }))
}

/// A ruleset with an index of its long chains, for many packets.
#[derive(Debug)]
pub struct Indexed<'a> {
    pub(super) ruleset: &'a Ruleset,
    pub(super) index: Index,
}

impl<'a> Indexed<'a> {
    /// Makes the index.
    pub fn new(ruleset: &'a Ruleset) -> Indexed<'a> {
        Indexed { ruleset, index: Index::new(ruleset) }
    }

    /// What [`eval`] says, without a walk through rules that are for other destinations.
    pub fn eval(&self, packet: &Packet, facts: &NodeFacts, memory: &Memory) -> Evaluation {
        self.eval_among(packet, facts, memory, &RulesAlone)
    }

    /// What [`eval_among`] says.
    pub fn eval_among(
        &self,
        packet: &Packet,
        facts: &NodeFacts,
        memory: &Memory,
        surroundings: &dyn Surroundings,
    ) -> Evaluation {
        let (ruleset, index) = (self.ruleset, Some(&self.index));
        send(Walk::new(Case { ruleset, index, packet, facts, memory, surroundings }))
    }
}

fn send(mut walk: Walk<'_>) -> Evaluation {
    let Case { ruleset, packet, facts, .. } = walk.case;
    let start = State {
        destination: packet.destination,
        translated: false,
        virtual_server: None,
        source_nat: false,
        mark: 0,
        untracked: false,
        remembered: BTreeSet::new(),
    };
    let start = vec![Branch { weight: 1.0, state: start }];
    let mut delivered = Vec::new();
    if packet.family() != ruleset.family {
        delivered = start;
    } else {
        match packet.origin {
            Origin::Pod | Origin::Outside => {
                let (here, away) = route(walk.hook(Hook::Prerouting, start), facts);
                delivered.extend(walk.hook(Hook::Input, here));
                let away = walk.hook(Hook::Forward, away);
                delivered.extend(walk.hook(Hook::Postrouting, away));
            }
            Origin::Node => {
                let sent = walk.hook(Hook::Output, start);
                let (here, away) = route(walk.hook(Hook::Postrouting, sent), facts);
                delivered.extend(away);
                // By the loopback device it comes in again.
                let here = walk.hook(Hook::LoopbackPrerouting, here);
                delivered.extend(walk.hook(Hook::LoopbackInput, here));
            }
        }
        let scheduled = std::mem::take(&mut walk.scheduled);
        let scheduled = walk.hook(Hook::Scheduled, scheduled);
        delivered.extend(walk.hook(Hook::Postrouting, scheduled));
    }
    let mut remembered: BTreeMap<AddrPort, BTreeSet<String>> = BTreeMap::new();
    for Branch { state, .. } in delivered.iter().filter(|branch| branch.state.translated) {
        if !state.remembered.is_empty() {
            let lists = remembered.entry(state.destination).or_default();
            lists.extend(state.remembered.iter().map(|list| list.to_string()));
        }
    }
    Evaluation { fate: walk.fate(&delivered), remembered, matched: walk.matched }
}

/// The routing decision: branches for the node itself, and others.
fn route(branches: Vec<Branch>, facts: &NodeFacts) -> (Vec<Branch>, Vec<Branch>) {
    branches.into_iter().partition(|branch| facts.is_local(branch.state.destination.addr))
}

/// A place where netfilter asks tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    /// On its way out of the node again, sent by a virtual server.
    Scheduled,
    /// A packet of the node to itself, the second time.
    LoopbackPrerouting,
    LoopbackInput,
}

impl Hook {
    fn chain(self) -> ChainName {
        match self {
            Hook::Prerouting | Hook::LoopbackPrerouting => const { ChainName::literal("PREROUTING") },
            Hook::Input | Hook::LoopbackInput => const { ChainName::literal("INPUT") },
            Hook::Forward => const { ChainName::literal("FORWARD") },
            Hook::Output | Hook::Scheduled => const { ChainName::literal("OUTPUT") },
            Hook::Postrouting => const { ChainName::literal("POSTROUTING") },
        }
    }

    /// Its tables by priority. For each direction of translation `nat` is asked once a flow, so not again after the
    /// loopback device or a virtual server.
    fn tables(self) -> &'static [TableName] {
        use TableName::{Filter, Mangle, Nat, Raw, Security};
        match self {
            Hook::Prerouting => &[Raw, Mangle, Nat],
            Hook::Input => &[Mangle, Filter, Security, Nat],
            Hook::Forward => &[Mangle, Filter, Security],
            Hook::Output => &[Raw, Mangle, Nat, Filter, Security],
            Hook::Postrouting => &[Mangle, Nat],
            Hook::Scheduled => &[Raw, Mangle, Filter, Security],
            Hook::LoopbackPrerouting => &[Raw, Mangle],
            Hook::LoopbackInput => &[Mangle, Filter, Security],
        }
    }

    /// The table behind which virtual servers stand: what comes in is filtered first, what goes out is not.
    fn serves_after(self) -> Option<TableName> {
        match self {
            Hook::Input => Some(TableName::Security),
            Hook::Output => Some(TableName::Nat),
            Hook::Prerouting
            | Hook::Forward
            | Hook::Postrouting
            | Hook::Scheduled
            | Hook::LoopbackPrerouting
            | Hook::LoopbackInput => None,
        }
    }

    fn input(self, packet: &Packet) -> Interface<'_> {
        match self {
            Hook::Prerouting | Hook::Input | Hook::Forward => {
                packet.in_interface.as_deref().map_or(Interface::NotLoopback, Interface::Named)
            }
            Hook::Output | Hook::Scheduled => Interface::None,
            Hook::Postrouting if packet.origin == Origin::Node => Interface::None,
            // Kernels differ in whether they still tell it.
            Hook::Postrouting => Interface::NotLoopback,
            Hook::LoopbackPrerouting | Hook::LoopbackInput => Interface::Named("lo"),
        }
    }

    fn output(self) -> Interface<'static> {
        match self {
            Hook::Prerouting | Hook::Input | Hook::LoopbackPrerouting | Hook::LoopbackInput => {
                Interface::None
            }
            Hook::Forward | Hook::Output | Hook::Postrouting | Hook::Scheduled => Interface::NotLoopback,
        }
    }
}

/// One table at one hook.
#[derive(Clone, Copy)]
struct Stop<'a> {
    hook: Hook,
    name: TableName,
    table: &'a Table,
    scene: Scene<'a>,
}

/// Where branches go that leave a chain.
#[derive(Default)]
struct Exits {
    /// The table lets them through.
    accepted: Vec<Branch>,
    /// They go on behind the rule that called the chain.
    returned: Vec<Branch>,
}

/// What is the same for a packet on its whole way.
#[derive(Clone, Copy)]
struct Case<'a> {
    ruleset: &'a Ruleset,
    index: Option<&'a Index>,
    packet: &'a Packet,
    facts: &'a NodeFacts,
    memory: &'a Memory,
    surroundings: &'a dyn Surroundings,
}

/// A packet on its way.
#[derive(Clone)]
struct Walk<'a> {
    case: Case<'a>,
    /// What virtual servers send away from the node.
    scheduled: Vec<Branch>,
    rejected: f64,
    dropped: f64,
    unknown: Option<String>,
    matched: Vec<(TableName, ChainName, usize)>,
    met: BTreeSet<(TableName, ChainName, usize)>,
    calls: Vec<ChainName>,
    /// It only looks where a packet would go.
    is_trial: bool,
    record: Record,
}

impl<'a> Walk<'a> {
    /// More chains than this within each other are not followed.
    const MAX_CALLS: usize = 128;

    fn new(case: Case<'a>) -> Walk<'a> {
        Walk {
            case,
            scheduled: Vec::new(),
            rejected: 0.0,
            dropped: 0.0,
            unknown: None,
            matched: Vec::new(),
            met: BTreeSet::new(),
            calls: Vec::new(),
            is_trial: false,
            record: Record::default(),
        }
    }

    /// Another one over the same rules, to see where a packet would go from a rule.
    fn trial(&self) -> Walk<'a> {
        Walk { calls: self.calls.clone(), is_trial: true, ..Walk::new(self.case) }
    }

    fn hook(&mut self, hook: Hook, mut branches: Vec<Branch>) -> Vec<Branch> {
        let Case { ruleset, packet, facts, memory, surroundings, .. } = self.case;
        for &name in hook.tables() {
            if let Some(table) = ruleset.tables.get(&name) {
                let scene = Scene {
                    packet,
                    facts,
                    memory,
                    surroundings,
                    // `raw` comes before connection tracking; a packet that comes by again is known already.
                    tracked: name != TableName::Raw
                        || matches!(hook, Hook::LoopbackPrerouting | Hook::Scheduled),
                    input: hook.input(packet),
                    output: hook.output(),
                };
                branches = self.table(Stop { hook, name, table, scene }, branches);
            }
            if hook.serves_after() == Some(name) {
                branches = self.virtual_servers(branches);
            }
        }
        branches
    }

    /// Brings branches to the virtual servers; those that stay on the node come back.
    fn virtual_servers(&mut self, branches: Vec<Branch>) -> Vec<Branch> {
        let mut staying = Vec::with_capacity(branches.len());
        for branch in branches {
            let at = branch.state.destination;
            let Packet { source, protocol, .. } = *self.case.packet;
            let (mark, memory) = (branch.state.mark, self.case.memory);
            let connection = Connection { protocol, source, destination: at, mark, memory };
            match self.case.surroundings.schedule(&connection) {
                Scheduled::Passed => staying.push(branch),
                Scheduled::Refused => self.rejected += branch.weight,
                Scheduled::Unknown(why) => self.give_up(|| why),
                Scheduled::Sent(choices) => {
                    for Sending { endpoint, share, remembered } in choices {
                        let mut state = State {
                            destination: endpoint,
                            translated: true,
                            virtual_server: Some(at),
                            ..branch.state.clone()
                        };
                        state.remembered.extend(remembered);
                        let branch = Branch { weight: branch.weight * share, state };
                        if self.case.facts.is_local(endpoint.addr) {
                            staying.push(branch);
                        } else {
                            self.scheduled.push(branch);
                        }
                    }
                }
            }
        }
        staying
    }

    fn table(&mut self, stop: Stop<'a>, branches: Vec<Branch>) -> Vec<Branch> {
        let name = stop.hook.chain();
        let Some(chain) = stop.table.chains.get(&name) else { return branches };
        let (branches, mut accepted): (Vec<Branch>, Vec<Branch>) =
            branches.into_iter().partition(|branch| stop.name != TableName::Nat || !branch.state.untracked);
        let exits = self.chain(stop, name, branches);
        accepted.extend(exits.accepted);
        match chain.policy {
            Some(Policy::Drop) => {
                self.note_policy(name, &exits.returned);
                self.dropped += weight(&exits.returned);
            }
            Some(Policy::Accept) | None => accepted.extend(exits.returned),
        }
        join(&mut accepted);
        accepted
    }

    fn chain(&mut self, stop: Stop<'a>, name: ChainName, mut live: Vec<Branch>) -> Exits {
        let mut exits = Exits::default();
        if live.is_empty() {
            return exits;
        }
        let fault = match stop.table.chains.get(&name) {
            None => "does not exist",
            Some(_) if self.calls.contains(&name) => "calls itself",
            Some(_) if self.calls.len() >= Walk::MAX_CALLS => "is nested too deep",
            Some(chain) => {
                self.calls.push(name);
                // No rule sends branches elsewhere and keeps them in the chain: where they are bound for stays the same.
                let bound_for = live.iter().map(|branch| branch.state.destination);
                let candidates =
                    self.case.index.and_then(|index| index.candidates(stop.name, &name, bound_for));
                let n_rules = candidates.as_ref().map_or(chain.rules.len(), Vec::len);
                for nth in 0..n_rules {
                    let index = candidates.as_ref().map_or(nth, |candidates| candidates[nth]);
                    live = self.rule(stop, (name, index), &chain.rules[index], live, &mut exits);
                    if live.is_empty() {
                        break;
                    }
                }
                self.calls.pop();
                exits.returned.extend(live);
                join(&mut exits.returned);
                return exits;
            }
        };
        self.give_up(|| format!("{}: chain {name} {fault}", stop.name));
        exits
    }

    /// Brings all branches to one rule; those that go on behind it come back.
    fn rule(
        &mut self,
        stop: Stop<'a>,
        at: (ChainName, usize),
        rule: &'a Rule,
        live: Vec<Branch>,
        exits: &mut Exits,
    ) -> Vec<Branch> {
        if live.iter().all(|branch| stop.scene.header(rule, &branch.state) == Answer::No) {
            return live;
        }
        let n_live = live.len();
        let mut next = Vec::with_capacity(n_live);
        let mut matching = Vec::new();
        for branch in live {
            match stop.scene.meet(rule, branch) {
                Meeting::Passes(branch) => next.push(branch),
                Meeting::Matches(branch, passing) => {
                    next.extend(passing);
                    matching.push(branch);
                }
                Meeting::Unsure(branch, _) if self.is_harmless(stop, at, rule, &branch) => next.push(branch),
                Meeting::Unsure(_, part) => self.give_up(|| describe(stop, at, &part)),
            }
        }
        matching.retain(|branch| branch.weight > 0.0);
        if !matching.is_empty() {
            let place = (stop.name, at.0, at.1);
            if self.met.insert(place) {
                self.matched.push(place);
            }
            self.note(stop, at, rule, &matching);
            self.target(stop, at, rule, matching, &mut next, exits);
        }
        if next.len() > n_live {
            join(&mut next);
        }
        next
    }

    fn target(
        &mut self,
        stop: Stop<'a>,
        at: (ChainName, usize),
        rule: &'a Rule,
        mut matching: Vec<Branch>,
        next: &mut Vec<Branch>,
        exits: &mut Exits,
    ) {
        match &rule.target {
            None => next.extend(matching),
            Some(Target::Jump(chain)) => {
                let inner = self.chain(stop, *chain, matching);
                exits.accepted.extend(inner.accepted);
                next.extend(inner.returned);
            }
            Some(Target::Goto(chain)) => {
                let inner = self.chain(stop, *chain, matching);
                exits.accepted.extend(inner.accepted);
                exits.returned.extend(inner.returned);
            }
            Some(Target::Accept) => exits.accepted.extend(matching),
            Some(Target::Drop) => self.dropped += weight(&matching),
            Some(Target::Reject(_)) => self.rejected += weight(&matching),
            Some(Target::Return) => exits.returned.extend(matching),
            Some(Target::Mark { value, mask }) => {
                for Branch { state, .. } in &mut matching {
                    state.mark = (state.mark & !mask) ^ value;
                }
                next.extend(matching);
            }
            Some(Target::Masquerade { random_fully: _ }) => {
                exits.accepted.extend(matching.into_iter().map(masqueraded));
            }
            Some(Target::Dnat(to)) => {
                for Branch { state, .. } in &mut matching {
                    state.destination = *to;
                    state.translated = true;
                }
                exits.accepted.extend(matching);
            }
            Some(Target::Redirect(port)) => {
                let to = AddrPort::new(self.redirected_to(stop.hook), *port);
                for Branch { state, .. } in &mut matching {
                    state.destination = to;
                    state.translated = true;
                }
                exits.accepted.extend(matching);
            }
            Some(Target::Unmodelled(text)) => {
                for branch in matching {
                    match unmodelled(text, stop, &branch.state) {
                        Effect::Nothing => next.push(branch),
                        Effect::Untracked => {
                            let state = State { untracked: true, ..branch.state };
                            next.push(Branch { state, ..branch });
                        }
                        Effect::Masqueraded => exits.accepted.push(masqueraded(branch)),
                        Effect::Accepted => exits.accepted.push(branch),
                        Effect::Rejected => self.rejected += branch.weight,
                        Effect::Unknown => self.give_up(|| describe(stop, at, text)),
                    }
                }
            }
        }
    }

    /// The address that REDIRECT sends a packet to: loopback for the node's own. Of the addresses of the interface that a
    /// packet came in by any may be the first; whoever listens there listens on all of them.
    fn redirected_to(&self, hook: Hook) -> IpAddr {
        let family = self.case.packet.family();
        let of_interface = self.case.facts.own_address(family).filter(|_| hook != Hook::Output);
        of_interface.unwrap_or(family.loopback())
    }

    /// Whether it makes no difference that a branch may match a rule.
    fn is_harmless(&self, stop: Stop<'a>, at: (ChainName, usize), rule: &'a Rule, branch: &Branch) -> bool {
        let mut trial = self.trial();
        let (mut next, mut exits) = (Vec::new(), Exits::default());
        trial.target(stop, at, rule, vec![branch.clone()], &mut next, &mut exits);
        if trial.goes_wrong() {
            return false;
        }
        // Whose source a packet has that no Service sent anywhere is not asked.
        let is_last =
            stop.hook == Hook::Postrouting && stop.name == TableName::Nat && !branch.state.translated;
        let passes = exits.accepted.is_empty() && exits.returned.is_empty();
        is_last
            || (passes && next.iter().all(|next| next.state == branch.state))
            || (only_accepted(branch, &next, &exits) && self.accepts_later(stop, at, branch))
    }

    /// Whether the rules behind a rule accept a branch as it is. A trial within a trial does not ask: it could go on
    /// without end.
    fn accepts_later(&self, stop: Stop<'a>, (name, index): (ChainName, usize), branch: &Branch) -> bool {
        let Some(chain) = stop.table.chains.get(&name).filter(|_| !self.is_trial) else { return false };
        let mut trial = self.trial();
        let (mut live, mut exits) = (vec![branch.clone()], Exits::default());
        for (later, rule) in chain.rules.iter().enumerate().skip(index + 1) {
            live = trial.rule(stop, (name, later), rule, live, &mut exits);
        }
        !trial.goes_wrong() && only_accepted(branch, &live, &exits)
    }

    /// Whether anything but going on or being accepted came up.
    fn goes_wrong(&self) -> bool {
        self.unknown.is_some() || self.rejected > 0.0 || self.dropped > 0.0
    }

    fn give_up(&mut self, why: impl FnOnce() -> String) {
        self.unknown.get_or_insert_with(why);
    }

    fn fate(&self, delivered: &[Branch]) -> Fate {
        if let Some(why) = &self.unknown {
            return Fate::Unknown(why.clone());
        }
        let delivered = delivered.iter().map(|Branch { weight, state, .. }| {
            (*weight, state.translated.then_some((state.destination, state.source_nat)))
        });
        walk::fate(self.rejected, self.dropped, delivered)
    }
}

/// What a target that is kept as text does.
enum Effect {
    /// Nothing that a later rule could see.
    Nothing,
    Untracked,
    Masqueraded,
    /// The table is done with it.
    Accepted,
    Rejected,
    Unknown,
}

/// Targets that let a packet go on and change nothing that decides its fate.
const HARMLESS_TARGETS: [&str; 20] = [
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DSCP",
    "ECN",
    "HL",
    "IDLETIMER",
    "LED",
    "LOG",
    "NFLOG",
    "RATEEST",
    "SECMARK",
    "SET",
    "TCPMSS",
    "TOS",
    "TRACE",
    "TTL",
];

fn unmodelled(text: &str, stop: Stop<'_>, state: &State) -> Effect {
    let mut words = text.split_whitespace().skip_while(|word| word.starts_with('-'));
    let name = words.next().unwrap_or_default();
    let has = |option: &str| text.split_whitespace().any(|word| word == option);
    match name {
        "NOTRACK" => Effect::Untracked,
        "CT" if has("--notrack") => Effect::Untracked,
        // The mark of a new connection is 0.
        "CONNMARK" if has("--restore-mark") && state.mark != 0 => Effect::Unknown,
        "MASQUERADE" => Effect::Masqueraded,
        "SNAT" | "NETMAP" if stop.hook == Hook::Postrouting && !state.translated => Effect::Accepted,
        "REJECT" => Effect::Rejected,
        _ if HARMLESS_TARGETS.contains(&name) => Effect::Nothing,
        _ => Effect::Unknown,
    }
}

/// Whether a branch was accepted as it is, and nothing else came of it.
fn only_accepted(branch: &Branch, next: &[Branch], exits: &Exits) -> bool {
    next.is_empty()
        && exits.returned.is_empty()
        && exits.accepted.iter().all(|accepted| accepted.state == branch.state)
}

fn masqueraded(branch: Branch) -> Branch {
    Branch { state: State { source_nat: true, ..branch.state }, ..branch }
}

fn describe(stop: Stop<'_>, (chain, index): (ChainName, usize), part: &str) -> String {
    format!("{} {chain} rule {}: {part}", stop.name, index + 1)
}

fn weight(branches: &[Branch]) -> f64 {
    branches.iter().map(|branch| branch.weight).sum()
}

/// Makes one branch of those that do not differ.
fn join(branches: &mut Vec<Branch>) {
    branches.retain(|branch| branch.weight > 0.0);
    if branches.len() > 1 {
        branches.sort_by(|left, right| left.state.cmp(&right.state));
        branches.dedup_by(|later, first| {
            let same = later.state == first.state;
            if same {
                first.weight += later.weight;
            }
            same
        });
    }
}

#[path = "stage.rs"]
pub mod stage;

#[cfg(test)]
#[path = "eval_tests.rs"]
mod tests;
