//! Mutants: rules with one thing broken. `verify` must find every one that changes the fate of some packet, and none that
//! does not. What is true is found by brute force (`packets`), with the plain walk through the rules.
//!
//! Some hundreds of mutants of small rulesets are tried by default. `SVCPROXY_MUTANTS=5000 cargo test --release --test it
//! mutants -- --nocapture` tries as many of all cases and recordings in each mode, and crosses more sources with each
//! destination.

mod ipvs;
mod listeners;
mod nft;
mod packets;
mod xtables;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use svcproxy::backend::Layout;
use svcproxy::model::Mode;
use svcproxy::net::{AddrPort, IpCidr, IpFamily};
use svcproxy::packet::{Fate, NodeFacts, Packet};
use svcproxy::program::eval::{Evaluator, Memory};
use svcproxy::program::{Kernel, NftTable, Program};
use svcproxy::resolve::{self, NodeView, Vip};
use svcproxy::verify::{Options, Surroundings, verify};

use crate::verify::{facts, recorded, service_cidrs};
use crate::{cases, given, recordings};
use packets::Occurring;

/// The address after one.
fn next(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => IpAddr::V4(u32::from(addr).wrapping_add(1).into()),
        IpAddr::V6(addr) => IpAddr::V6(u128::from(addr).wrapping_add(1).into()),
    }
}

/// The address before one.
fn previous(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => IpAddr::V4(u32::from(addr).wrapping_sub(1).into()),
        IpAddr::V6(addr) => IpAddr::V6(u128::from(addr).wrapping_sub(1).into()),
    }
}

/// What is broken, and what it means unbroken.
struct Specimen {
    name: String,
    view: NodeView,
    facts: NodeFacts,
    service_cidrs: Vec<IpCidr>,
    original: Program,
}

impl Specimen {
    /// Its mutants.
    fn mutants(&self) -> Vec<(String, Program)> {
        let family = self.view.family;
        let mut mutants = Vec::new();
        if let Some(table) = self.original.nft.get(family).table() {
            for (what, table) in nft::mutants(table) {
                let mut program = Program::default();
                *program.nft.get_mut(family) = NftTable::Present(table);
                mutants.push((what, program));
            }
        }
        if let Some(ruleset) = self.original.xtables.get(family) {
            for (what, ruleset) in xtables::mutants(ruleset) {
                let mut program = self.original.clone();
                *program.xtables.get_mut(family) = Some(ruleset);
                mutants.push((what, program));
            }
        }
        mutants.extend(ipvs::mutants(&self.original, family));
        mutants.extend(listeners::mutants(&self.original, family));
        mutants
    }

    fn text(&self, program: &Program) -> String {
        let family = self.view.family;
        let mut text = Vec::new();
        if let Some(ruleset) = program.xtables.get(family) {
            svcproxy::program::xtables::emit::write_document(&mut text, ruleset, "");
        }
        if let Some(table) = program.nft.get(family).table() {
            svcproxy::program::nft::emit::write_document(&mut text, table, "");
        }
        if let Some(servers) = program.ipvs.get(family) {
            svcproxy::program::ipvs::emit::write_document(&mut text, servers, "");
        }
        if let Some(sets) = &program.ipset {
            svcproxy::program::ipset::emit::write_document(&mut text, sets, "");
        }
        let listeners = program.listeners.iter();
        let listeners = listeners.map(|all| svcproxy::program::listener::emit::document(all, ""));
        String::from_utf8(text).unwrap() + &listeners.collect::<String>()
    }

    /// A packet that both treat differently, with where its sender was sent before, if there is one among many.
    fn brute_force(&self, mutant: &Program, n_packets: usize, seed: u64) -> Option<String> {
        let family = self.view.family;
        let mut occurring = Occurring::default();
        occurring.read(&self.text(&self.original));
        occurring.read(&self.text(mutant));
        let endpoints = self.view.ports.iter().flat_map(|port| &port.endpoints);
        occurring.extend(endpoints.map(|endpoint| endpoint.addr.addr));
        occurring.vips.extend(self.view.ports.iter().flat_map(|port| &port.frontends).filter_map(
            |frontend| match frontend.vip {
                Vip::Address(vip) => Some(vip.addr),
                Vip::NodePort(_) => None,
            },
        ));
        let rules = [&self.original, mutant].map(|program| Evaluator::new(program, family, &self.facts));
        let mut clients: BTreeMap<IpAddr, Vec<(Packet, [Remembered; 2])>> = BTreeMap::new();
        let borne: BTreeSet<IpAddr> = [&self.original, mutant]
            .into_iter()
            .flat_map(|program| Kernel::of(program, family).addresses().clone())
            .filter(|addr| !self.facts.is_local(*addr))
            .collect();
        for packet in occurring.packets(family, (&self.facts, &borne), n_packets, seed) {
            let fates = rules.each_ref().map(|rules| rules.eval(&packet, &Memory::default()));
            if !is_same(&fates[0].fate, &fates[1].fate) {
                return Some(format!("{packet}: {} or {}", fates[0].fate, fates[1].fate));
            }
            if fates.iter().any(|evaluation| !evaluation.remembered.is_empty()) {
                let remembered = fates.map(|evaluation| evaluation.remembered);
                clients.entry(packet.source.addr).or_default().push((packet, remembered));
            }
        }
        for (source, packets) in &clients {
            let histories: BTreeSet<(AddrPort, [BTreeSet<String>; 2])> = packets
                .iter()
                .flat_map(|(_, [left, right])| {
                    let endpoints = left.keys().chain(right.keys());
                    let lists = |side: &Remembered, endpoint| side.get(endpoint).cloned().unwrap_or_default();
                    endpoints
                        .map(move |endpoint| (*endpoint, [lists(left, endpoint), lists(right, endpoint)]))
                })
                .collect();
            for ((packet, _), (endpoint, lists)) in
                packets.iter().flat_map(|packet| histories.iter().map(move |history| (packet, history)))
            {
                for age in occurring.lifetimes.iter().flat_map(|seconds| {
                    [
                        Duration::from_millis(u64::from(*seconds) * 1000 - 500),
                        Duration::from_millis(u64::from(*seconds) * 1000 + 500),
                    ]
                }) {
                    let fate = |side: usize| {
                        let remembered = lists[side].iter().map(|list| (list.clone(), *source)).collect();
                        rules[side].eval(packet, &Memory { remembered, age }).fate
                    };
                    if !is_same(&fate(0), &fate(1)) {
                        return Some(format!(
                            "{packet} after {endpoint} {age:?} ago: {} or {}",
                            fate(0),
                            fate(1)
                        ));
                    }
                }
            }
        }
        None
    }
}

type Remembered = BTreeMap<AddrPort, BTreeSet<String>>;

fn is_same(left: &Fate, right: &Fate) -> bool {
    left.is_same(right) || matches!((left, right), (Fate::Unknown(_), Fate::Unknown(_)))
}

/// Cases, lowered in a mode and layout.
fn of_cases((mode, layout): (Mode, Layout), specimens: &mut Vec<Specimen>) {
    for folder in cases::folders() {
        let given = cases::given(&folder, mode);
        for family in IpFamily::ALL {
            let view = resolve::resolve(&given.cluster, &given.context, family);
            if view.ports.is_empty() {
                continue;
            }
            let original = given::lowered_in(layout, &given, &view);
            let name = format!("{} {} {family}", folder.file_name().unwrap().to_string_lossy(), mode.name());
            let facts = facts(&given);
            specimens.push(Specimen { name, view, facts, service_cidrs: Vec::new(), original });
        }
    }
}

/// One family of a program.
fn of_family(program: &Program, family: IpFamily) -> Program {
    let mut one =
        Program { ipset: program.ipset.clone(), dummies: program.dummies.clone(), ..Program::default() };
    *one.nft.get_mut(family) = program.nft.get(family).clone();
    *one.xtables.get_mut(family) = program.xtables.get(family).clone();
    *one.ipvs.get_mut(family) = program.ipvs.get(family).clone();
    one
}

/// Recordings; in the layout that kube-proxy does not know, their clusters lowered in it.
fn of_recordings((mode, layout): (Mode, Layout), specimens: &mut Vec<Specimen>) {
    for folder in recordings::folders() {
        let recorded = recorded(&folder, mode);
        for family in IpFamily::ALL {
            let view = resolve::resolve(&recorded.given.cluster, &recorded.given.context, family);
            let original = match layout {
                Layout::KubeProxy => of_family(&recorded.program, family),
                Layout::Fast => given::lowered_in(layout, &recorded.given, &view),
            };
            let name = format!("{} {} {family}", folder.file_name().unwrap().to_string_lossy(), mode.name());
            let facts = facts(&recorded.given);
            let service_cidrs = if layout == Layout::KubeProxy { service_cidrs() } else { Vec::new() };
            specimens.push(Specimen { name, view, facts, service_cidrs, original });
        }
    }
}

/// How many mutants of each kind were tried.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    n_found: usize,
    n_same: usize,
}

/// Holds what `verify` says of a mutant against what is true; whether it is a difference.
fn judge(
    specimen: &Specimen,
    what: &str,
    mutant: &Program,
    n_packets: usize,
    seed: u64,
) -> Result<bool, String> {
    let family = specimen.view.family;
    let rules = Evaluator::new(mutant, family, &specimen.facts);
    let surroundings =
        Surroundings { service_cidrs: specimen.service_cidrs.clone(), ..Surroundings::default() };
    let options = Options { facts: &specimen.facts, n_witnesses: 2 };
    let report = verify(&specimen.view, &rules, &surroundings, &options);
    if report.is_same() {
        return match specimen.brute_force(mutant, n_packets, seed) {
            Some(packet) => Err(format!("{}: {what}: not found: {packet}", specimen.name)),
            None => Ok(false),
        };
    }
    let original = Evaluator::new(&specimen.original, family, &specimen.facts);
    for witness in report.subjects.values().flat_map(|tally| &tally.witnesses) {
        // What was remembered cannot be told from outside: such a witness is taken up by brute force.
        let fates = [&original, &rules].map(|rules| rules.eval(&witness.packet, &Memory::default()).fate);
        if witness.remembered.is_none() && is_same(&fates[0], &fates[1]) {
            return Err(format!("{}: {what}: nothing changed for {}", specimen.name, witness.packet));
        }
    }
    let remembered_alone = report
        .subjects
        .values()
        .flat_map(|tally| &tally.witnesses)
        .all(|witness| witness.remembered.is_some());
    if remembered_alone && specimen.brute_force(mutant, n_packets * 2, seed).is_none() {
        return Err(format!("{}: {what}: nothing changed for senders that are remembered", specimen.name));
    }
    Ok(true)
}

fn is_prime(number: usize) -> bool {
    number == 1
        || (2..number)
            .take_while(|factor| factor * factor <= number)
            .all(|factor| !number.is_multiple_of(factor))
}

/// Tries mutants of some specimens: all, or so many, evenly spread.
fn try_mutants((mode, layout): (Mode, Layout), wanted: usize) {
    let asked = std::env::var("SVCPROXY_MUTANTS").ok().map(|number| number.parse::<usize>().unwrap());
    let wanted = asked.unwrap_or(wanted);
    let mut specimens = Vec::new();
    of_cases((mode, layout), &mut specimens);
    // No recording has listeners.
    if mode != Mode::Userspace {
        of_recordings((mode, layout), &mut specimens);
    }
    // Small ones first: without optimisation, brute force on large ones takes minutes.
    if asked.is_none() {
        specimens.retain(|specimen| specimen.text(&specimen.original).len() < 9000);
    }
    // A prime step does not fall in with the number of ways to break a rule.
    let n_all: usize = specimens.iter().map(|specimen| specimen.mutants().len()).sum();
    let step = (1..=(n_all / wanted).max(1)).rev().find(|step| is_prime(*step)).unwrap_or(1);
    let mut chosen: Vec<(usize, String, Program)> = Vec::new();
    let mut nth = 0;
    for (at, specimen) in specimens.iter().enumerate() {
        for (what, program) in specimen.mutants() {
            if usize::is_multiple_of(nth, step) {
                chosen.push((at, what, program));
            }
            nth += 1;
        }
    }
    let n_packets = if asked.is_some() { 40_000 } else { 3_000 };
    let (next, counts) = (AtomicUsize::new(0), Mutex::new((Counts::default(), Vec::new())));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((at, what, program)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let seed = u64::try_from(what.len() * 7919 + at).unwrap();
                    let judged = judge(&specimens[*at], what, program, n_packets, seed);
                    let mut counts = counts.lock().unwrap();
                    match judged {
                        Ok(true) => counts.0.n_found += 1,
                        Ok(false) => counts.0.n_same += 1,
                        Err(problem) => counts.1.push(problem),
                    }
                }
            });
        }
    });
    let (counts, mut problems) = counts.into_inner().unwrap();
    problems.sort();
    eprintln!(
        "{} {layout:?}: {} specimens, {} mutants tried of {n_all}: {} found, {} change no packet's fate",
        mode.name(),
        specimens.len(),
        chosen.len(),
        counts.n_found,
        counts.n_same,
    );
    assert!(problems.is_empty(), "{} misjudged:\n{}", problems.len(), problems.join("\n"));
    assert!(chosen.len() >= wanted.min(n_all) && counts.n_found > chosen.len() / 3, "{counts:?}");
}

#[test]
fn mutants_of_iptables_rules_are_found() {
    try_mutants((Mode::Iptables, Layout::KubeProxy), 400);
}

#[test]
fn mutants_of_virtual_servers_sets_and_their_rules_are_found() {
    try_mutants((Mode::Ipvs, Layout::KubeProxy), 300);
}

#[test]
fn mutants_of_tables_of_nft_are_found() {
    try_mutants((Mode::Nftables, Layout::KubeProxy), 400);
}

#[test]
fn mutants_of_iptables_rules_of_the_fast_layout_are_found() {
    try_mutants((Mode::Iptables, Layout::Fast), 200);
}

#[test]
fn mutants_of_tables_of_the_fast_layout_are_found() {
    try_mutants((Mode::Nftables, Layout::Fast), 200);
}

#[test]
fn mutants_of_listeners_and_the_rules_that_lead_to_them_are_found() {
    try_mutants((Mode::Userspace, Layout::KubeProxy), 200);
}
