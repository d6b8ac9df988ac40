//! The first packet of a flow on its way through the base chains, with every turn that chance could give it.
//!
//! A packet is a set of *branches*, each with a weight. `numgen` splits a branch, equal branches are joined again, and the
//! weights of all that came out are the probabilities of the fate.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::net::AddrPort;
use crate::packet::{Fate, NodeFacts, Origin, Packet};
use crate::program::transit::{Action, Place, Record};
use crate::program::walk::{self, Answer, Interface};

use super::index::Entry;
pub use super::index::Indexed;
use super::matching::{Branch, Doubt, Found, Scene, State};
use super::{
    Chain, ChainKind, Data, Expr, Family, Hook, MapRef, Name, NatTarget, Policy, Rule, Ruleset, Scalar, Stmt,
    Table, Verdict,
};

/// What sets hold that rules fill, besides the elements that they list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Names of sets of addresses, with an address that each remembers.
    pub remembered: BTreeSet<(String, IpAddr)>,
    /// How long ago that was.
    pub age: Duration,
}

/// A rule: family, table, chain, place in the chain from 0.
pub type RulePlace = (Family, Name, Name, usize);

/// What the rules do with a packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// What becomes of it.
    pub fate: Fate,
    /// For each endpoint that it can go to: the sets that then remember it.
    pub remembered: BTreeMap<AddrPort, BTreeSet<String>>,
    /// The rules that it can match, in the order in which it meets them first.
    pub matched: Vec<RulePlace>,
}

/// Sends the first packet of a flow through all base chains, in the order in which netfilter has them.
///
/// Where something that is not modelled may decide, the fate is [`Fate::Unknown`] and names the rule; what cannot concern
/// the packet, or would change nothing, does not count.
pub fn eval(ruleset: &Ruleset, packet: &Packet, facts: &NodeFacts, memory: &Memory) -> Evaluation {
    Indexed::new(ruleset.tables.values()).eval(packet, facts, memory)
}

impl Indexed<'_> {
    /// What [`eval`] says, for many packets.
    pub fn eval(&self, packet: &Packet, facts: &NodeFacts, memory: &Memory) -> Evaluation {
        send(self, packet, facts, memory)
    }
}

fn send(rules: &Indexed<'_>, packet: &Packet, facts: &NodeFacts, memory: &Memory) -> Evaluation {
    let start = State {
        destination: packet.destination,
        translated: false,
        virtual_server: None,
        source_nat: false,
        mark: 0,
        untracked: false,
        remembered: BTreeSet::new(),
    };
    let start = vec![Branch { weight: 1.0, state: start, doubt: None }];
    let mut walk = Walk::new(rules, packet, facts, memory);
    let mut delivered = Vec::new();
    match packet.origin {
        Origin::Pod | Origin::Outside => {
            let entered = walk.hook(Place::Ingress, start);
            let (here, away) = route(walk.hook(Place::Prerouting, entered), facts);
            delivered.extend(walk.hook(Place::Input, here));
            let away = walk.hook(Place::Forward, away);
            delivered.extend(walk.hook(Place::Postrouting, away));
        }
        Origin::Node => {
            let sent = walk.hook(Place::Output, start);
            let (here, away) = route(walk.hook(Place::Postrouting, sent), facts);
            delivered.extend(away);
            // By the loopback device it comes in again.
            let here = walk.hook(Place::LoopbackPrerouting, here);
            delivered.extend(walk.hook(Place::LoopbackInput, here));
        }
    }
    let mut remembered: BTreeMap<AddrPort, BTreeSet<String>> = BTreeMap::new();
    for Branch { state, .. } in delivered.iter().filter(|branch| branch.state.translated) {
        if !state.remembered.is_empty() {
            let sets = remembered.entry(state.destination).or_default();
            sets.extend(state.remembered.iter().map(|(set, _)| set.to_string()));
        }
    }
    Evaluation { fate: walk.fate(&delivered), remembered, matched: walk.matched }
}

/// The routing decision: branches for the node itself, and others.
fn route(branches: Vec<Branch>, facts: &NodeFacts) -> (Vec<Branch>, Vec<Branch>) {
    branches.into_iter().partition(|branch| facts.is_local(branch.state.destination.addr))
}

impl Place {
    fn hook(self) -> Hook {
        match self {
            Place::Ingress => Hook::Ingress,
            Place::Prerouting | Place::LoopbackPrerouting => Hook::Prerouting,
            Place::Input | Place::LoopbackInput => Hook::Input,
            Place::Forward => Hook::Forward,
            Place::Output | Place::Scheduled => Hook::Output,
            Place::Postrouting => Hook::Postrouting,
        }
    }

    /// For each direction of translation nat chains are asked once a flow, so not again after the loopback device or a virtual
    /// server.
    fn asks_nat(self) -> bool {
        !matches!(self, Place::LoopbackPrerouting | Place::LoopbackInput | Place::Scheduled)
    }

    fn input(self, packet: &Packet) -> Interface<'_> {
        match self {
            Place::Ingress | Place::Prerouting | Place::Input | Place::Forward => {
                packet.in_interface.as_deref().map_or(Interface::NotLoopback, Interface::Named)
            }
            Place::Output | Place::Scheduled => Interface::None,
            Place::Postrouting if packet.origin == Origin::Node => Interface::None,
            // Kernels differ in whether they still tell it.
            Place::Postrouting => Interface::NotLoopback,
            Place::LoopbackPrerouting | Place::LoopbackInput => Interface::Named("lo"),
        }
    }

    fn output(self) -> Interface<'static> {
        match self {
            Place::Ingress
            | Place::Prerouting
            | Place::Input
            | Place::LoopbackPrerouting
            | Place::LoopbackInput => Interface::None,
            Place::Forward | Place::Output | Place::Postrouting | Place::Scheduled => Interface::NotLoopback,
        }
    }
}

/// One base chain at one hook.
#[derive(Clone, Copy)]
struct Stop<'a> {
    place: Place,
    kind: ChainKind,
    table: &'a Table,
    scene: Scene<'a>,
}

/// Whether the tables of a family see a packet.
fn sees(family: Family, packet: &Packet) -> bool {
    match family {
        Family::Inet | Family::Netdev => true,
        Family::Ip | Family::Ip6 => family.ip() == Some(packet.family()),
        Family::Arp | Family::Bridge => false,
    }
}

/// A rule of a chain, and one of its statements.
#[derive(Clone, Copy)]
struct At<'a> {
    chain: &'a Name,
    index: usize,
    rule: &'a Rule,
    stmt: usize,
}

/// Where branches go that leave a chain.
#[derive(Default)]
struct Exits {
    /// The base chain lets them through.
    accepted: Vec<Branch>,
    /// They go on behind the rule that called the chain.
    returned: Vec<Branch>,
}

/// A packet on its way.
#[derive(Clone)]
struct Walk<'a> {
    rules: &'a Indexed<'a>,
    packet: &'a Packet,
    facts: &'a NodeFacts,
    memory: &'a Memory,
    rejected: f64,
    dropped: f64,
    unknown: Option<String>,
    matched: Vec<RulePlace>,
    met: BTreeSet<(*const Table, &'a Name, usize)>,
    calls: Vec<&'a Name>,
    record: Record,
}

impl<'a> Walk<'a> {
    /// More chains than this within each other are not followed (NFT_JUMP_STACK_SIZE, and the base chain).
    const MAX_CALLS: usize = 17;

    /// Before this priority connection tracking has not seen a packet.
    const CONNTRACK: i32 = -200;

    fn new(rules: &'a Indexed<'a>, packet: &'a Packet, facts: &'a NodeFacts, memory: &'a Memory) -> Walk<'a> {
        Walk {
            rules,
            packet,
            facts,
            memory,
            rejected: 0.0,
            dropped: 0.0,
            unknown: None,
            matched: Vec::new(),
            met: BTreeSet::new(),
            calls: Vec::new(),
            record: Record::default(),
        }
    }

    fn hook(&mut self, place: Place, mut branches: Vec<Branch>) -> Vec<Branch> {
        for entry in self.entries(place) {
            branches = self.enter(place, entry, branches);
        }
        branches
    }

    /// The base chains of a hook in the order in which netfilter asks them.
    fn entries(&self, place: Place) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let packet = self.packet;
        let is_asked = move |entry: &&Entry<'a>| {
            sees(entry.table.family, packet) && (entry.kind != ChainKind::Nat || place.asks_nat())
        };
        self.rules.at(place.hook()).iter().filter(is_asked).copied()
    }

    fn enter(&mut self, place: Place, entry: Entry<'a>, branches: Vec<Branch>) -> Vec<Branch> {
        let Entry { priority, kind, table, name, chain, .. } = entry;
        let scene = Scene {
            packet: self.packet,
            facts: self.facts,
            memory: self.memory,
            tracked: priority > Walk::CONNTRACK
                || matches!(place, Place::LoopbackPrerouting | Place::Scheduled),
            input: place.input(self.packet),
            output: place.output(),
        };
        self.base_chain(Stop { place, kind, table, scene }, name, chain, branches)
    }

    fn base_chain(
        &mut self,
        stop: Stop<'a>,
        name: &'a Name,
        chain: &'a Chain,
        branches: Vec<Branch>,
    ) -> Vec<Branch> {
        let passes = |state: &State| match (stop.kind, stop.place.hook()) {
            (ChainKind::Filter | ChainKind::Route, _) => false,
            (ChainKind::Nat, Hook::Prerouting | Hook::Output) => state.untracked || state.translated,
            (ChainKind::Nat, _) => state.untracked || state.source_nat,
        };
        let (mut accepted, branches): (Vec<Branch>, Vec<Branch>) =
            branches.into_iter().partition(|branch| passes(&branch.state));
        let exits = self.chain(stop, name, branches);
        accepted.extend(exits.accepted);
        match chain.base.map(|base| base.policy) {
            Some(Policy::Drop) => {
                self.note_policy(name, &exits.returned);
                self.drop(exits.returned);
            }
            Some(Policy::Accept) | None => accepted.extend(exits.returned),
        }
        for branch in &mut accepted {
            // Accepted earlier or now: that is the same, unless it has changed since.
            if let Some(doubt) = branch.doubt.take().filter(|doubt| doubt.state != branch.state) {
                self.give_up(|| doubt.rule);
            }
        }
        join(&mut accepted);
        accepted
    }

    fn chain(&mut self, stop: Stop<'a>, name: &'a Name, mut live: Vec<Branch>) -> Exits {
        let mut exits = Exits::default();
        if live.is_empty() {
            return exits;
        }
        let fault = match stop.table.chains.get(name) {
            None => "does not exist",
            Some(_) if self.calls.contains(&name) => "calls itself",
            Some(_) if self.calls.len() >= Walk::MAX_CALLS => "is nested too deep",
            Some(chain) => {
                self.calls.push(name);
                for (index, rule) in chain.rules.iter().enumerate() {
                    let mut next = Vec::with_capacity(live.len());
                    for branch in live {
                        self.run(
                            stop,
                            At { chain: name, index, rule, stmt: 0 },
                            branch,
                            &mut next,
                            &mut exits,
                        );
                    }
                    join(&mut next);
                    live = next;
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
        self.give_up(|| format!("{} {}: chain {name} {fault}", stop.table.family, stop.table.name));
        exits
    }

    /// Brings a branch to a rule, from one of its statements on; what goes on behind the rule is added to `next`.
    fn run(
        &mut self,
        stop: Stop<'a>,
        at: At<'a>,
        mut branch: Branch,
        next: &mut Vec<Branch>,
        exits: &mut Exits,
    ) {
        for (nth, stmt) in at.rule.stmts.iter().enumerate().skip(at.stmt) {
            let at = At { stmt: nth, ..at };
            match stmt {
                Stmt::Match { left, negated, right } => {
                    let [(_, yes), (_, no), (_, unknown)] =
                        stop.scene.matches(stop.table, left, *negated, right, &branch.state);
                    if unknown > 0.0 {
                        return self.unsure(stop, at, branch, next);
                    }
                    if no > 0.0 {
                        next.push(Branch { weight: branch.weight * no, ..branch.clone() });
                    }
                    if yes <= 0.0 {
                        return;
                    }
                    branch.weight *= yes;
                }
                Stmt::CtState { .. } | Stmt::CtNat { .. } => {
                    if connection(&stop.scene, stmt, &branch.state) == Answer::No {
                        return next.push(branch);
                    }
                }
                Stmt::Vmap { key, map } => {
                    return self.vmap(stop, at, (key, map), branch, next, exits);
                }
                Stmt::Verdict(Verdict::Continue) | Stmt::Counter => {}
                Stmt::Verdict(verdict) => {
                    self.meet(stop, at);
                    self.note(at, branch.weight, || verdict.into());
                    return self.verdict(stop, verdict, branch, next, exits);
                }
                Stmt::SetMark { mask, value } => branch.state.mark = (branch.state.mark & !mask) ^ value,
                Stmt::Dnat { to, .. } => return self.dnat(stop, at, to, branch, next, exits),
                Stmt::Masquerade(_) => {
                    self.meet(stop, at);
                    self.note(at, branch.weight, || Action::Masquerade);
                    branch.state.source_nat = true;
                    return exits.accepted.push(branch);
                }
                Stmt::Reject(_) => {
                    self.meet(stop, at);
                    self.note(at, branch.weight, || Action::Reject);
                    return self.reject(branch);
                }
                Stmt::UpdateSet { op, set, key, .. } => {
                    if let Some(key) = stop.scene.element(key, &branch.state) {
                        match op {
                            super::SetOp::Add | super::SetOp::Update => {
                                branch.state.remembered.insert((set.clone(), key))
                            }
                            super::SetOp::Delete => branch.state.remembered.remove(&(set.clone(), key)),
                        };
                    }
                }
                Stmt::Notrack => branch.state.untracked = true,
                Stmt::Unmodelled(json) => match unmodelled(json, stop, &branch.state) {
                    Effect::Nothing => {}
                    Effect::Accepted => {
                        self.note(at, branch.weight, || Action::Accept);
                        return exits.accepted.push(branch);
                    }
                    Effect::Masqueraded => {
                        self.note(at, branch.weight, || Action::Masquerade);
                        branch.state.source_nat = true;
                        return exits.accepted.push(branch);
                    }
                    Effect::Rejected => {
                        self.note(at, branch.weight, || Action::Reject);
                        return self.reject(branch);
                    }
                    Effect::Asks => return self.unsure(stop, at, branch, next),
                    Effect::Unknown => return self.give_up(|| describe(stop, at, json)),
                },
            }
        }
        self.meet(stop, at);
        self.note(at, branch.weight, || stage::passed(at.rule, &branch.state));
        next.push(branch);
    }

    fn vmap(
        &mut self,
        stop: Stop<'a>,
        at: At<'a>,
        (key, map): (&'a Expr, &'a MapRef),
        branch: Branch,
        next: &mut Vec<Branch>,
        exits: &mut Exits,
    ) {
        let mut verdicts: BTreeMap<&'a Verdict, f64> = BTreeMap::new();
        let mut nothing = 0.0;
        for (share, found) in stop.scene.look_up(stop.table, key, map, &branch.state) {
            match found {
                Found::Data(Data::Verdict(verdict)) => *verdicts.entry(verdict).or_default() += share,
                Found::Nothing => nothing += share,
                Found::Data(Data::Values(_)) | Found::Unknown => {
                    return self.give_up(|| describe(stop, at, "its map cannot be told"));
                }
            }
        }
        if !verdicts.is_empty() {
            self.meet(stop, at);
        }
        for (verdict, share) in verdicts {
            self.note_verdict(stop, at, (key, map), verdict, branch.weight * share, &branch.state);
            let part = Branch { weight: branch.weight * share, ..branch.clone() };
            match verdict {
                Verdict::Continue => {
                    self.run(stop, At { stmt: at.stmt + 1, ..at }, part, next, exits);
                }
                Verdict::Accept | Verdict::Drop | Verdict::Return | Verdict::Jump(_) | Verdict::Goto(_) => {
                    self.verdict(stop, verdict, part, next, exits);
                }
            }
        }
        if nothing > 0.0 {
            next.push(Branch { weight: branch.weight * nothing, ..branch });
        }
    }

    fn verdict(
        &mut self,
        stop: Stop<'a>,
        verdict: &'a Verdict,
        branch: Branch,
        next: &mut Vec<Branch>,
        exits: &mut Exits,
    ) {
        match verdict {
            Verdict::Accept => exits.accepted.push(branch),
            Verdict::Drop => self.drop(vec![branch]),
            Verdict::Continue => next.push(branch),
            Verdict::Return => exits.returned.push(branch),
            Verdict::Jump(chain) => {
                let inner = self.chain(stop, chain, vec![branch]);
                exits.accepted.extend(inner.accepted);
                next.extend(inner.returned);
            }
            Verdict::Goto(chain) => {
                let inner = self.chain(stop, chain, vec![branch]);
                exits.accepted.extend(inner.accepted);
                exits.returned.extend(inner.returned);
            }
        }
    }

    fn dnat(
        &mut self,
        stop: Stop<'a>,
        at: At<'a>,
        to: &'a NatTarget,
        branch: Branch,
        next: &mut Vec<Branch>,
        exits: &mut Exits,
    ) {
        let n_before = exits.accepted.len();
        let mut go = |share: f64, addr: Option<IpAddr>, port: Option<u16>| {
            let mut part = Branch { weight: branch.weight * share, ..branch.clone() };
            let before = part.state.destination;
            part.state.destination = AddrPort::new(addr.unwrap_or(before.addr), port.unwrap_or(before.port));
            part.state.translated = true;
            exits.accepted.push(part);
        };
        match to {
            NatTarget::Addr(addr, port) => go(1.0, Some(*addr), *port),
            NatTarget::Port(port) => go(1.0, None, Some(*port)),
            NatTarget::Map { key, map, .. } => {
                for (share, found) in stop.scene.look_up(stop.table, key, map, &branch.state) {
                    match found {
                        Found::Data(Data::Values(values)) => match values[..] {
                            [addr] => go(share, addr.addr(), None),
                            [addr, Scalar::Port(port)] => go(share, addr.addr(), Some(port)),
                            _ => return self.give_up(|| describe(stop, at, "its map gives no address")),
                        },
                        Found::Nothing => {
                            next.push(Branch { weight: branch.weight * share, ..branch.clone() })
                        }
                        Found::Data(Data::Verdict(_)) | Found::Unknown => {
                            return self.give_up(|| describe(stop, at, "its map cannot be told"));
                        }
                    }
                }
            }
        }
        self.meet(stop, at);
        for part in &exits.accepted[n_before..] {
            self.note(at, part.weight, || Action::Dnat(part.state.destination));
        }
    }

    /// What comes of it if it cannot be told whether a branch passes a statement.
    fn unsure(&mut self, stop: Stop<'a>, at: At<'a>, branch: Branch, next: &mut Vec<Branch>) {
        let rest = &at.rule.stmts[at.stmt + 1..];
        if rest.iter().any(|stmt| certainly_not(stop, stmt, &branch.state)) {
            return next.push(branch);
        }
        let mut trial =
            Walk { calls: self.calls.clone(), ..Walk::new(self.rules, self.packet, self.facts, self.memory) };
        let (mut goes_on, mut exits) = (Vec::new(), Exits::default());
        trial.run(stop, At { stmt: at.stmt + 1, ..at }, branch.clone(), &mut goes_on, &mut exits);
        let is_unchanged = |one: &Branch| one.state == branch.state;
        let text = || {
            let stmt = at.rule.stmts[at.stmt].unmodelled().unwrap_or("one of its matches");
            describe(stop, at, stmt)
        };
        // Whose source a packet has that no one sent anywhere is not asked.
        let is_last =
            stop.place.hook() == Hook::Postrouting && stop.kind == ChainKind::Nat && !branch.state.translated;
        if is_last {
            return next.push(branch);
        }
        if trial.unknown.is_some()
            || trial.rejected > 0.0
            || trial.dropped > 0.0
            || !exits.returned.is_empty()
            || !goes_on.iter().chain(&exits.accepted).all(is_unchanged)
        {
            return self.give_up(text);
        }
        let mut branch = branch;
        if !exits.accepted.is_empty() && branch.doubt.is_none() {
            branch.doubt = Some(Box::new(Doubt { rule: text(), state: branch.state.clone() }));
        }
        next.push(branch);
    }

    fn meet(&mut self, stop: Stop<'a>, at: At<'a>) {
        if self.met.insert((stop.table, at.chain, at.index)) {
            self.matched.push((stop.table.family, stop.table.name.clone(), at.chain.clone(), at.index));
        }
    }

    fn drop(&mut self, branches: Vec<Branch>) {
        for branch in branches {
            self.dropped += branch.weight;
            if let Some(doubt) = branch.doubt {
                self.give_up(|| doubt.rule);
            }
        }
    }

    fn reject(&mut self, branch: Branch) {
        self.rejected += branch.weight;
        if let Some(doubt) = branch.doubt {
            self.give_up(|| doubt.rule);
        }
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

/// Whether a connection is as a statement asks.
fn connection(scene: &Scene<'_>, stmt: &Stmt, state: &State) -> Answer {
    if let Stmt::CtState { states, negated } = stmt {
        return scene.is_in_state(*states, *negated, state).into();
    }
    if let Stmt::CtNat { snat, dnat } = stmt {
        // A virtual server translates without connection tracking being told.
        let changed = state.destination != scene.packet.destination && state.virtual_server.is_none();
        return (!state.untracked && ((*dnat && changed) || (*snat && state.source_nat))).into();
    }
    Answer::Unknown
}

/// Whether a statement surely ends a rule for a branch, without effect.
fn certainly_not(stop: Stop<'_>, stmt: &Stmt, state: &State) -> bool {
    if let Stmt::Match { left, negated, right } = stmt {
        let [(_, yes), _, (_, unknown)] = stop.scene.matches(stop.table, left, *negated, right, state);
        return yes <= 0.0 && unknown <= 0.0;
    }
    connection(&stop.scene, stmt, state) == Answer::No
}

/// What a statement that is kept as JSON does.
enum Effect {
    /// Nothing that a later rule could see.
    Nothing,
    Accepted,
    Masqueraded,
    Rejected,
    /// It asks something, and may end the rule.
    Asks,
    Unknown,
}

/// The word that a statement's JSON begins with.
fn word(json: &str) -> &str {
    json.split('"').nth(1).unwrap_or_default()
}

fn unmodelled(json: &str, stop: Stop<'_>, state: &State) -> Effect {
    match word(json) {
        "counter" | "log" | "flow" | "last" | "dup" | "secmark" => Effect::Nothing,
        // What it changes is not the mark of the packet, or is.
        "mangle" if json.contains(r#""key":{"meta":{"key":"mark"}}"#) => Effect::Unknown,
        "mangle" => Effect::Nothing,
        "match" | "limit" | "quota" | "ct count" | "connlimit" => Effect::Asks,
        "xt" => extension(json),
        "set" | "map" if json.contains(r#""stmt":"#) => Effect::Asks,
        "set" | "map" => Effect::Nothing,
        "ct helper" | "ct timeout" | "ct expectation" => Effect::Nothing,
        "masquerade" => Effect::Masqueraded,
        "snat" if stop.place.hook() == Hook::Postrouting && !state.translated => Effect::Accepted,
        "reject" => Effect::Rejected,
        _ => Effect::Unknown,
    }
}

/// A match or target of iptables. nft 1.0.6 tells no more than its name.
fn extension(json: &str) -> Effect {
    let is_called = |name: &str| json.contains(&format!(r#""name":"{name}""#));
    if json.contains(r#""type":"match""#) {
        return if is_called("comment") { Effect::Nothing } else { Effect::Asks };
    }
    let is_any = |names: &[&str]| names.iter().any(|name| is_called(name));
    if is_any(&["LOG", "NFLOG", "CHECKSUM", "TCPMSS", "CONNSECMARK", "AUDIT", "TRACE"]) {
        Effect::Nothing
    } else if is_called("MASQUERADE") {
        Effect::Masqueraded
    } else if is_called("REJECT") {
        Effect::Rejected
    } else {
        Effect::Unknown
    }
}

fn describe(stop: Stop<'_>, at: At<'_>, part: &str) -> String {
    format!("{} {} {} rule {}: {part}", stop.table.family, stop.table.name, at.chain, at.index + 1)
}

/// Makes one branch of those that do not differ.
fn join(branches: &mut Vec<Branch>) {
    branches.retain(|branch| branch.weight > 0.0);
    if branches.len() > 1 {
        branches.sort_by(|left, right| (&left.state, &left.doubt).cmp(&(&right.state, &right.doubt)));
        branches.dedup_by(|later, first| {
            let same = later.state == first.state && later.doubt == first.doubt;
            if same {
                first.weight += later.weight;
            }
            same
        });
    }
}

#[path = "stage.rs"]
pub mod stage;
