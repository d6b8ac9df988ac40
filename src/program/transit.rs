//! A packet between hooks: what all languages of rules see of it and may change, and what one of them did to it. So the
//! rules of several languages can be asked one after the other, as the kernel does.

use std::collections::BTreeSet;

use crate::net::AddrPort;
use crate::packet::{NodeFacts, Packet};

use super::nft;

/// A place where netfilter asks rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A device gives a packet.
    Ingress,
    /// Before the routing of what came in.
    Prerouting,
    /// On the way to the node's own processes.
    Input,
    /// On the way through.
    Forward,
    /// From the node's own processes.
    Output,
    /// Before it leaves.
    Postrouting,
    /// On its way out of the node again, sent by a virtual server.
    Scheduled,
    /// A packet of the node to itself, the second time.
    LoopbackPrerouting,
    /// Likewise.
    LoopbackInput,
}

impl Place {
    /// The name of its hook.
    pub fn as_str(self) -> &'static str {
        match self {
            Place::Ingress => "ingress",
            Place::Prerouting | Place::LoopbackPrerouting => "prerouting",
            Place::Input | Place::LoopbackInput => "input",
            Place::Forward => "forward",
            Place::Output | Place::Scheduled => "output",
            Place::Postrouting => "postrouting",
        }
    }
}

/// A part of a packet's chances, and what became of it so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// How large a part, 0 to 1.
    pub weight: f64,
    /// Where it is going.
    pub destination: AddrPort,
    /// Whether a rule or a virtual server chose that destination.
    pub translated: bool,
    /// The virtual server that took it.
    pub virtual_server: Option<AddrPort>,
    /// Whether its source becomes the node's.
    pub source_nat: bool,
    /// Its mark.
    pub mark: u32,
    /// Whether connection tracking was told to leave it alone.
    pub untracked: bool,
    /// The `recent` lists of xtables and the virtual servers that have just remembered its source.
    pub recent: BTreeSet<Box<str>>,
    /// The elements that it has put into sets of nft.
    pub elements: BTreeSet<(nft::Name, nft::Key)>,
}

impl Part {
    /// The whole of a packet that no rule has met yet.
    pub fn whole(packet: &Packet) -> Part {
        Part {
            weight: 1.0,
            destination: packet.destination,
            translated: false,
            virtual_server: None,
            source_nat: false,
            mark: 0,
            untracked: false,
            recent: BTreeSet::new(),
            elements: BTreeSet::new(),
        }
    }
}

/// What rules remember of the source of a packet from earlier flows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// `recent` lists of xtables and virtual servers that hold it.
    pub recent: BTreeSet<String>,
    /// Sets of nft that hold it, besides those whose elements say so.
    pub sets: BTreeSet<String>,
}

/// What is the same for a packet on its whole way.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The packet as it was sent.
    pub packet: &'a Packet,
    /// The node.
    pub facts: &'a NodeFacts,
    /// What is remembered of its source.
    pub memory: &'a Memory,
}

/// What a rule does to what matches it.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// It goes on behind the rule as it was.
    Continue,
    /// Another chain is asked.
    Jump(String),
    /// The base chain lets it through.
    Accept,
    /// It is discarded.
    Drop,
    /// It is refused.
    Reject,
    /// It goes on behind the rule that called the chain.
    Return,
    /// Its mark becomes this.
    Mark(u32),
    /// Connection tracking leaves it alone.
    Untrack,
    /// It is sent to this destination.
    Dnat(AddrPort),
    /// Its source becomes the node's.
    Masquerade,
    /// Nobody can tell.
    Unknown,
}

/// A rule that a part of a packet matched, in the order of the walk.
#[derive(Debug, Clone, PartialEq)]
pub struct Met {
    /// The chain.
    pub chain: String,
    /// The rule's place in it from 0; `None` for the policy of the chain.
    pub rule: Option<usize>,
    /// How many chains called each other to get there.
    pub depth: usize,
    /// How large a part of the packet's chances matched.
    pub weight: f64,
    /// What it did.
    pub action: Action,
    /// The comment of the element of a map that said so.
    pub element: Option<String>,
}

/// What became of parts of a packet at one stop.
#[derive(Debug, Clone, Default)]
pub struct Crossing {
    /// Those that go on.
    pub parts: Vec<Part>,
    /// Those that virtual servers send out of the node: they leave the way of the others.
    pub scheduled: Vec<Part>,
    /// How much was refused.
    pub rejected: f64,
    /// How much was discarded.
    pub dropped: f64,
    /// Why the rest cannot be told: the first rule that is not modelled.
    pub unknown: Option<String>,
    /// The rules met.
    pub met: Vec<Met>,
}

/// What a walk writes down, if somebody wants to know.
#[derive(Debug, Clone, Default)]
pub(in crate::program) struct Record(Option<Vec<Met>>);

impl Record {
    /// One that writes.
    pub(in crate::program) fn open() -> Record {
        Record(Some(Vec::new()))
    }

    /// Writes down what a rule did. Nothing is computed if nobody wants to know. The same again adds to what was said last.
    pub(in crate::program) fn note(&mut self, met: impl FnOnce() -> Met) {
        let Some(record) = &mut self.0 else { return };
        let met = met();
        match record.last_mut() {
            Some(last) if (last.rule, last.depth) == (met.rule, met.depth) && is_repeated(last, &met) => {
                last.weight += met.weight;
            }
            Some(_) | None => record.push(met),
        }
    }

    /// Whether anything is written down.
    pub(in crate::program) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// What was written.
    pub(in crate::program) fn into_met(self) -> Vec<Met> {
        self.0.unwrap_or_default()
    }
}

fn is_repeated(last: &Met, met: &Met) -> bool {
    last.chain == met.chain && last.action == met.action && last.element == met.element
}
