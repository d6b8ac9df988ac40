//! Packet × the programs of a machine → Trace: every hook on the way, the rules that match there, and the end as a
//! distribution. The rules of several languages at one hook are asked in the kernel's order; `hooks` knows it.
//!
//! ```text
//!                 ingress, prerouting                input
//!  pod, outside ──────────────────────▶ routing ──────────────▶ the node itself
//!                                          │ forward                  ▲
//!                                          ▼                          │ prerouting, input (loopback)
//!  the node ─────▶ output ─────▶ routing ──▶ postrouting ──▶ away  or ┘
//!
//!  taken by a virtual server at input or output ──▶ output ──▶ postrouting ──▶ away
//!  at a local port with a listener ──▶ its process makes a connection of its own to a target
//! ```

mod compare;
mod hooks;
mod step;

pub use compare::{Observation, compare};
pub use hooks::{Rules, Source};
pub use step::{Step, Stop};

use hooks::Prepared;

use std::collections::BTreeMap;

use crate::net::AddrPort;
use crate::packet::{Choice, Fate, NodeFacts, Origin, Packet};
use crate::program::listener::{self, Listener, ListenerKey};
use crate::program::{Memory, Part, Place, Setting};

/// The way of a packet, and its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// The packet.
    pub packet: Packet,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// How it ends: each end with its share, the largest first; shares add up to 1.
    pub ends: Vec<(f64, End)>,
    /// What of the way cannot be told: each names a rule that is not modelled. Empty: everything is certain.
    pub unknown: Vec<String>,
}

/// Something on the way.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Rules were asked.
    Stop(Stop),
    /// The node decided where it goes: shares by destination, and whether that is the node itself.
    Routing(Vec<(f64, AddrPort, bool)>),
    /// A process of the node took it.
    Carried(Carried),
}

/// What a listener does with a packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Carried {
    /// How likely the packet comes to it, 0 to 1.
    pub share: f64,
    /// The listener.
    pub key: ListenerKey,
    /// What it is for, in its maker's words.
    pub label: Box<str>,
    /// What becomes of what comes to it.
    pub fate: Fate,
}

/// How a packet ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Sent to this endpoint by a rule.
    Forwarded {
        /// The endpoint.
        endpoint: AddrPort,
        /// Whether its source becomes the node's.
        source_nat: bool,
    },
    /// No rule sent it anywhere else: it goes where its sender meant it to go.
    Untouched {
        /// That is the node itself.
        local: bool,
        /// Whether its source becomes the node's.
        source_nat: bool,
    },
    /// Refused.
    Rejected,
    /// Discarded.
    Dropped,
    /// Nobody can tell.
    Unknown,
}

impl Trace {
    /// The end in the words of the oracle. A packet that may meet ends of different kinds has no such word.
    pub fn fate(&self) -> Fate {
        if let Some(why) = self.unknown.first() {
            return Fate::Unknown(why.clone());
        }
        let mut choices: BTreeMap<(AddrPort, bool), f64> = BTreeMap::new();
        let mut others = Vec::new();
        for (share, end) in &self.ends {
            match end {
                End::Forwarded { endpoint, source_nat } => {
                    *choices.entry((*endpoint, *source_nat)).or_default() += share;
                }
                End::Untouched { .. } => others.push(Fate::Untouched),
                End::Rejected => others.push(Fate::Rejected),
                End::Dropped => others.push(Fate::Dropped),
                End::Unknown => others.push(Fate::Unknown("it cannot be told".to_owned())),
            }
        }
        others.dedup();
        match (choices.is_empty(), others.as_slice()) {
            (true, [one]) => one.clone(),
            (true, []) => Fate::Untouched,
            (false, []) => {
                let choice =
                    |((endpoint, source_nat), probability)| Choice { endpoint, probability, source_nat };
                Fate::Forwarded(choices.into_iter().map(choice).collect())
            }
            (_, _) => Fate::Unknown("it may end in several ways".to_owned()),
        }
    }
}

/// Sends the first packet of a flow through all rules of a machine.
///
/// A rule that is not modelled and may decide ends the certainty: what came so far is told, and the rule is named.
pub fn trace(rules: &Rules<'_>, packet: &Packet, facts: &NodeFacts) -> Trace {
    let memory = Memory::default();
    Walk::new(&Prepared::new(rules), Setting { packet, facts, memory: &memory }).all_the_way().finish()
}

/// The same for a source that was sent to `previous` not long ago: where rules remember that, they send it there again.
pub fn trace_remembered(rules: &Rules<'_>, packet: &Packet, facts: &NodeFacts, previous: AddrPort) -> Trace {
    let nothing = Memory::default();
    let prepared = Prepared::new(rules);
    let before = Walk::new(&prepared, Setting { packet, facts, memory: &nothing }).all_the_way();
    let memory = before.remembered.get(&previous).cloned().unwrap_or_default();
    Walk::new(&prepared, Setting { packet, facts, memory: &memory }).all_the_way().finish()
}

/// Chains and rules of nft that could not be read: they may decide anything.
fn unreadable(rules: &Rules<'_>) -> Vec<String> {
    let decides = |object: &&str| ["table ", "chain ", "rule "].iter().any(|kind| object.starts_with(kind));
    let Some(ruleset) = rules.nft else { return Vec::new() };
    let objects = |list: &[Box<str>]| -> Vec<String> {
        list.iter().map(AsRef::as_ref).filter(decides).map(str::to_owned).collect()
    };
    let mut found: Vec<String> =
        objects(&ruleset.unmodelled).into_iter().map(|object| format!("nft: {object}")).collect();
    for table in ruleset.tables.values() {
        let of_table = objects(&table.unmodelled).into_iter();
        found.extend(of_table.map(|object| format!("{} {}: {object}", table.family, table.name)));
    }
    found
}

/// Shares of a packet below this are rounding.
const NEGLIGIBLE: f64 = 1e-9;

struct Walk<'a> {
    prepared: &'a Prepared<'a>,
    setting: Setting<'a>,
    events: Vec<Event>,
    /// What virtual servers send out of the node.
    scheduled: Vec<Part>,
    ends: BTreeMap<End, f64>,
    unknown: Vec<String>,
    /// What rules then remember, by the endpoint that the packet was sent to.
    remembered: BTreeMap<AddrPort, Memory>,
}

impl<'a> Walk<'a> {
    fn new(prepared: &'a Prepared<'a>, setting: Setting<'a>) -> Walk<'a> {
        let unknown = unreadable(prepared.rules);
        let (events, ends, remembered) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Walk { prepared, setting, events, scheduled: Vec::new(), ends, unknown, remembered }
    }

    /// From where the packet starts to all its ends.
    fn all_the_way(mut self) -> Walk<'a> {
        let start = vec![Part::whole(self.setting.packet)];
        match self.setting.packet.origin {
            Origin::Pod | Origin::Outside => {
                let entered = self.place(Place::Ingress, start);
                let before = self.place(Place::Prerouting, entered);
                let (here, away) = self.route(before);
                let here = self.place(Place::Input, here);
                let away = self.place(Place::Forward, away);
                let away = self.place(Place::Postrouting, away);
                self.deliver(here);
                self.deliver(away);
            }
            Origin::Node => {
                let sent = self.place(Place::Output, start);
                let (here, away) = self.route(sent);
                let leaving = self.place(Place::Postrouting, here.into_iter().chain(away).collect());
                let (here, away) = self.divided(leaving);
                self.deliver(away);
                let here = self.place(Place::LoopbackPrerouting, here);
                let here = self.place(Place::LoopbackInput, here);
                self.deliver(here);
            }
        }
        let sent = std::mem::take(&mut self.scheduled);
        let sent = self.place(Place::Scheduled, sent);
        let sent = self.place(Place::Postrouting, sent);
        self.deliver(sent);
        self
    }

    /// Asks all rules of a place, one language after the other.
    fn place(&mut self, place: Place, mut parts: Vec<Part>) -> Vec<Part> {
        if parts.is_empty() {
            return parts;
        }
        for stage in hooks::stages(self.prepared, place, self.setting) {
            // Once a direction of translation is settled no other chain of its kind is asked.
            let (asked, mut passing): (Vec<Part>, Vec<Part>) =
                parts.into_iter().partition(|part| !stage.is_settled(place, part));
            let weight: f64 = asked.iter().map(|part| part.weight).sum();
            let crossing = stage.cross(self.prepared, place, self.setting, asked);
            let left: f64 = crossing.parts.iter().chain(&crossing.scheduled).map(|part| part.weight).sum();
            self.end(End::Rejected, crossing.rejected);
            self.end(End::Dropped, crossing.dropped);
            self.end(End::Unknown, weight - left - crossing.rejected - crossing.dropped);
            if !crossing.met.is_empty() || crossing.unknown.is_some() {
                let unknown = crossing.unknown.clone();
                self.events.push(Event::Stop(Stop {
                    place,
                    source: stage.source(),
                    table: stage.table(),
                    priority: stage.priority(),
                    steps: step::tree(crossing.met, self.prepared.rules, &stage),
                    unknown,
                }));
            }
            self.unknown.extend(crossing.unknown);
            self.scheduled.extend(crossing.scheduled);
            passing.extend(crossing.parts);
            parts = passing;
        }
        parts
    }

    fn divided(&self, parts: Vec<Part>) -> (Vec<Part>, Vec<Part>) {
        parts.into_iter().partition(|part| self.setting.facts.is_local(part.destination.addr))
    }

    /// The routing decision: parts for the node itself, and others.
    fn route(&mut self, parts: Vec<Part>) -> (Vec<Part>, Vec<Part>) {
        let mut shares: BTreeMap<AddrPort, f64> = BTreeMap::new();
        for part in &parts {
            *shares.entry(part.destination).or_default() += part.weight;
        }
        if !shares.is_empty() {
            let routed = |(to, share): (AddrPort, f64)| (share, to, self.setting.facts.is_local(to.addr));
            self.events.push(Event::Routing(shares.into_iter().map(routed).collect()));
        }
        self.divided(parts)
    }

    fn deliver(&mut self, parts: Vec<Part>) {
        for part in parts {
            let Part { weight, destination: endpoint, translated, source_nat, recent, elements, .. } = part;
            if !recent.is_empty() || !elements.is_empty() {
                let memory = self.remembered.entry(endpoint).or_default();
                memory.recent.extend(recent.into_iter().map(String::from));
                memory.sets.extend(elements.into_iter().map(|(set, _)| set.to_string()));
            }
            if let Some(found) = self.listener_at(endpoint).filter(|_| translated) {
                self.carry(found, weight);
                continue;
            }
            let local = self.setting.facts.is_local(endpoint.addr);
            let end = if translated {
                End::Forwarded { endpoint, source_nat }
            } else {
                End::Untouched { local, source_nat }
            };
            self.end(end, weight);
        }
    }

    /// The listener that takes what rules send to a place.
    fn listener_at(&self, at: AddrPort) -> Option<(ListenerKey, &'a Listener)> {
        let Setting { packet, facts, .. } = self.setting;
        let listeners = self.prepared.rules.kernel.listeners()?;
        listener::eval::listener_at(listeners, packet.protocol, at, facts)
    }

    /// A process takes a part of the packet: from there on it is a connection of its own.
    fn carry(&mut self, (key, listener): (ListenerKey, &Listener), share: f64) {
        let memory = self.setting.memory;
        let fate = listener::eval::eval((key, listener), &|place, _| memory.recent.contains(place));
        for (target, place) in listener::eval::places(&key, listener) {
            self.remembered.entry(target).or_default().recent.insert(place);
        }
        match &fate {
            Fate::Forwarded(choices) => {
                for Choice { endpoint, probability, source_nat } in choices {
                    let end = End::Forwarded { endpoint: *endpoint, source_nat: *source_nat };
                    self.end(end, share * probability);
                }
            }
            Fate::Rejected => self.end(End::Rejected, share),
            Fate::Dropped => self.end(End::Dropped, share),
            Fate::Untouched | Fate::Unknown(_) => self.end(End::Unknown, share),
        }
        let same = |event: &&mut Event| matches!(event, Event::Carried(carried) if carried.key == key);
        match self.events.iter_mut().find(same) {
            Some(Event::Carried(carried)) => carried.share += share,
            Some(_) | None => {
                self.events.push(Event::Carried(Carried { share, key, label: listener.label.clone(), fate }));
            }
        }
    }

    fn end(&mut self, end: End, share: f64) {
        if share > NEGLIGIBLE {
            *self.ends.entry(end).or_default() += share;
        }
    }

    fn finish(self) -> Trace {
        let mut ends: Vec<(f64, End)> = self.ends.into_iter().map(|(end, share)| (share, end)).collect();
        // Equal ones stay in the order of their endpoints: what differs by rounding is equal.
        ends.sort_by_key(|(share, _)| std::cmp::Reverse((share * 1e6).round() as u64));
        Trace { packet: self.setting.packet.clone(), events: self.events, ends, unknown: self.unknown }
    }
}
