//! A packet against all that a program says about one family, whatever language says it: rules, virtual servers, and the
//! listeners that rules lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::net::{AddrPort, IpFamily};
use crate::packet::{Fate, NodeFacts, Packet};

use super::ipset::reach::Senders;
use super::question::{Destination, Destinations, Questions};
use super::{Kernel, Program, listener, nft, xtables};

/// What rules and virtual servers have remembered of sources: names of lists or sets with an address, and how long ago that
/// was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Lists and sets, each with an address that it holds.
    pub remembered: BTreeSet<(String, IpAddr)>,
    /// For how long they have held them.
    pub age: Duration,
}

/// What a program does with a packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// What becomes of it.
    pub fate: Fate,
    /// For each endpoint that it can go to: the lists, sets, virtual servers and listeners that then remember its source.
    pub remembered: BTreeMap<AddrPort, BTreeSet<String>>,
    /// The rules that it can match, and the listeners that take it, as text, in the order in which it meets them first.
    pub path: Vec<String>,
}

/// All that a program says about one family of a node, made ready for many packets.
#[derive(Debug)]
pub struct Evaluator<'a> {
    family: IpFamily,
    /// All addresses of the node.
    facts: NodeFacts,
    kernel: Kernel<'a>,
    senders: Senders<'a>,
    language: Language<'a>,
}

/// The language that decides.
#[derive(Debug)]
enum Language<'a> {
    Xtables(&'a xtables::Ruleset, xtables::eval::Indexed<'a>),
    Nft(&'a nft::Table, Box<nft::eval::Indexed<'a>>),
    Nothing,
}

impl<'a> Evaluator<'a> {
    /// Of a table of nft, if the program has one for this family; else of its iptables rules, with the sets that they ask,
    /// virtual servers, addresses of dummy devices, and listeners. `node` is told without these addresses.
    pub fn new(program: &'a Program, family: IpFamily, node: &NodeFacts) -> Evaluator<'a> {
        let kernel = Kernel::of(program, family);
        let language = match (program.nft.get(family).table(), program.xtables.get(family)) {
            (Some(table), _) => Language::Nft(table, Box::new(nft::eval::Indexed::new([table]))),
            (None, Some(ruleset)) => Language::Xtables(ruleset, xtables::eval::Indexed::new(ruleset)),
            (None, None) => Language::Nothing,
        };
        // Addresses that are the node's for the sake of virtual servers alone send to themselves alone.
        let is_silent = |addr| kernel.addresses().contains(&addr) && !node.local_addresses.contains(&addr);
        let senders = kernel.sets().map(|sets| Senders::new(sets, is_silent)).unwrap_or_default();
        Evaluator { family, facts: kernel.facts(node), kernel, senders, language }
    }

    /// The family whose packets it knows.
    pub fn family(&self) -> IpFamily {
        self.family
    }

    /// Whether an address is the node's, be it for the sake of virtual servers.
    pub fn is_local(&self, addr: IpAddr) -> bool {
        self.facts.is_local(addr)
    }

    /// Sends the first packet of a flow through all rules.
    pub fn eval(&self, packet: &Packet, memory: &Memory) -> Evaluation {
        self.run(packet, memory, false)
    }

    /// The same, with the rules on the way.
    pub fn eval_with_path(&self, packet: &Packet, memory: &Memory) -> Evaluation {
        self.run(packet, memory, true)
    }

    fn run(&self, packet: &Packet, memory: &Memory, with_path: bool) -> Evaluation {
        let (facts, remembered, age) = (&self.facts, memory.remembered.clone(), memory.age);
        match &self.language {
            Language::Xtables(ruleset, rules) => {
                let memory = xtables::eval::Memory { remembered, age };
                let xtables::eval::Evaluation { fate, remembered, matched } =
                    rules.eval_among(packet, facts, &memory, &self.kernel);
                let text =
                    |place: &(xtables::TableName, xtables::ChainName, usize)| xtables_rule(ruleset, place);
                let path = matched.iter().filter(|_| with_path).map(text).collect();
                self.followed(packet, &memory, Evaluation { fate, remembered, path }, with_path)
            }
            Language::Nft(table, rules) => {
                let memory = nft::eval::Memory { remembered, age };
                let nft::eval::Evaluation { fate, remembered, matched } = rules.eval(packet, facts, &memory);
                let text = |place: &nft::eval::RulePlace| nft_rule(table, place);
                let path = matched.iter().filter(|_| with_path).map(text).collect();
                Evaluation { fate, remembered, path }
            }
            Language::Nothing => {
                Evaluation { fate: Fate::Untouched, remembered: BTreeMap::new(), path: Vec::new() }
            }
        }
    }

    /// From a local port to the targets of its listener, if it has one.
    fn followed(
        &self,
        packet: &Packet,
        memory: &xtables::eval::Memory,
        by_rules: Evaluation,
        with_path: bool,
    ) -> Evaluation {
        let Some(listeners) = self.kernel.listeners() else { return by_rules };
        let Evaluation { fate, mut remembered, mut path } = by_rules;
        let holds = |place: &str, seconds: u32| memory.holds(place, packet.source.addr, seconds);
        let followed = listener::eval::follow(listeners, packet, fate, &self.facts, &holds);
        for (target, places) in followed.remembered {
            remembered.entry(target).or_default().extend(places);
        }
        for key in followed.by.iter().filter(|_| with_path) {
            let mut text = "listener: ".to_owned();
            listeners
                .get(key)
                .into_iter()
                .for_each(|one| listener::emit::write_listener(&mut text, key, one));
            path.push(text);
        }
        Evaluation { fate: followed.fate, remembered, path }
    }

    /// Every original destination that some rule tells from others.
    pub fn destinations(&self, found: &mut Destinations) {
        match &self.language {
            Language::Xtables(ruleset, _) => xtables::reach::destinations(ruleset, &self.kernel, found),
            Language::Nft(table, _) => nft::reach::destinations([*table], found),
            Language::Nothing => {}
        }
    }

    /// What rules ask of packets to a destination.
    pub fn questions(&self, destination: &Destination, found: &mut Questions) {
        match &self.language {
            Language::Xtables(_, rules) => {
                let rules = (rules, &self.kernel, &self.senders);
                xtables::reach::questions(rules, destination, &self.facts, found);
            }
            Language::Nft(_, rules) => nft::reach::questions(rules, destination, &self.facts, found),
            Language::Nothing => {}
        }
    }
}

/// A rule as its tool writes it, with its table.
fn xtables_rule(
    ruleset: &xtables::Ruleset,
    (table, chain, index): &(xtables::TableName, xtables::ChainName, usize),
) -> String {
    let mut text = Vec::new();
    if let Some(rule) = ruleset.chain(*table, chain).and_then(|chain| chain.rules.get(*index)) {
        xtables::emit::write_rule(&mut text, ruleset.family, chain, rule);
    }
    format!("{table}: {}", String::from_utf8_lossy(&text).trim_end())
}

fn nft_rule(table: &nft::Table, (_, _, chain, index): &nft::eval::RulePlace) -> String {
    let mut text = Vec::new();
    if let Some(rule) = table.chains.get(chain).and_then(|chain| chain.rules.get(*index)) {
        nft::emit::write_rule(&mut text, table, chain, rule);
    }
    String::from_utf8_lossy(&text).trim_end().to_owned()
}
