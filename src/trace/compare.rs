//! A foretold way held against the one that the kernel told of a real packet (nftrace).

use std::collections::BTreeSet;

use crate::net::AddrPort;
use crate::program::Action;
use crate::program::listener::ListenerKey;
use crate::program::nft::Family;
use crate::program::nft::monitor::{TraceLine, TraceWord};

use super::{End, Event, Source, Step, Stop, Trace};

/// A real packet beside the foretold one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What the kernel told of the packet.
    pub lines: Vec<TraceLine>,
    /// Where it was going when it was last seen.
    pub destination: Option<AddrPort>,
    /// Whether a rule or policy ended it.
    pub was_dropped: bool,
    /// What was not foretold; empty if all was.
    pub differences: Vec<String>,
}

/// Holds what the kernel told of one packet against what was foretold: each rule must be one that could match, and the end one that
/// could come. `is_known`: whether a rule's table is among those that were traced.
pub fn compare(trace: &Trace, lines: Vec<TraceLine>, is_known: &dyn Fn(&TraceLine) -> bool) -> Observation {
    let foretold = foretold(trace);
    let mut observation =
        Observation { lines: Vec::new(), destination: None, was_dropped: false, differences: Vec::new() };
    for line in lines.iter().filter(|line| is_known(line)) {
        match &line.what {
            TraceWord::Packet(to) => observation.destination = to.or(observation.destination),
            TraceWord::Rule { text, verdict } => {
                observation.was_dropped |= verdict == "drop";
                let called = verdict.strip_prefix("jump ").or_else(|| verdict.strip_prefix("goto "));
                let at = (table_of(line), line.chain.clone());
                let is_foretold = foretold.iter().any(|(table, chain, to)| {
                    (table, chain) == (&at.0, &at.1) && (called.is_none() || called == to.as_deref())
                });
                if !is_foretold {
                    observation.differences.push(format!("{} {}: {text} ({verdict})", at.0, at.1));
                }
            }
            TraceWord::Policy(policy) => observation.was_dropped |= policy == "drop",
            TraceWord::Other(_) => {}
        }
    }
    // What becomes of a connection behind its process is another flow.
    let is_taken = |at: AddrPort| {
        let takes =
            |key: &ListenerKey| key.at == at || *key == key.at_any_address() && key.at.port == at.port;
        trace.events.iter().any(|event| matches!(event, Event::Carried(carried) if takes(&carried.key)))
    };
    let was_taken = !observation.was_dropped && observation.destination.is_some_and(is_taken);
    let could_end = was_taken
        || trace.ends.iter().any(|(_, end)| match end {
            End::Rejected | End::Dropped => observation.was_dropped,
            End::Forwarded { endpoint, .. } => {
                !observation.was_dropped && observation.destination == Some(*endpoint)
            }
            End::Untouched { .. } => {
                !observation.was_dropped && observation.destination == Some(trace.packet.destination)
            }
            End::Unknown => true,
        });
    if !could_end {
        let end = match (observation.was_dropped, observation.destination) {
            (true, _) => "it was dropped or refused".to_owned(),
            (false, Some(to)) => format!("it went to {to}"),
            (false, None) => "nobody saw where it went".to_owned(),
        };
        observation.differences.push(end);
    }
    observation.lines = lines;
    observation
}

fn table_of(line: &TraceLine) -> String {
    format!("{} {}", line.family, line.table)
}

/// Table, chain and called chain of every rule that can match, as nft calls them.
fn foretold(trace: &Trace) -> BTreeSet<(String, String, Option<String>)> {
    let mut all = BTreeSet::new();
    let family = Family::from(trace.packet.family());
    for event in &trace.events {
        let Event::Stop(Stop { source, table, steps, .. }) = event else { continue };
        let table = match source {
            Source::Nft => table.clone(),
            Source::Ipvs => continue,
            Source::XtablesLegacy | Source::XtablesNft | Source::Xtables => format!("{family} {table}"),
        };
        steps.iter().for_each(|step| gather(&table, step, &mut all));
    }
    all
}

fn gather(table: &str, step: &Step, all: &mut BTreeSet<(String, String, Option<String>)>) {
    let called = if let Action::Jump(chain) = &step.action { Some(chain.clone()) } else { None };
    all.insert((table.to_owned(), step.chain.clone(), called));
    step.steps.iter().for_each(|step| gather(table, step, all));
}
