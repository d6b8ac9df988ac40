//! The live half of `trace`: asks the kernel to tell the way of a flow's next packet, and holds it against the foretold one. Sends
//! nothing, and leaves nothing behind.

use std::time::Duration;

use crate::backend::nftables::{WATCH_CHAIN, WATCH_FAMILY, WATCH_TABLE};
use crate::host::Host;
use crate::net::IpFamily;
use crate::packet::{Origin, Packet};
use crate::program::nft::Family;
use crate::program::nft::monitor::{TraceLine, parse_line};
use crate::program::xtables::TableName;
use crate::trace::{Observation, Source, Trace, compare};

use super::observed::Observed;
use super::{Console, Error};

/// After connection tracking, so that only new flows are told; before everything that translates.
const PRIORITY: i32 = -199;

/// Waits for the first packet of the flow; `None` if none has come in time.
pub(super) fn watch(
    trace: &Trace,
    observed: &Observed,
    limit: Duration,
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<Option<Observation>, Error> {
    let family = trace.packet.family();
    tell_of_legacy(observed, family, console)?;
    let mut lines: Vec<TraceLine> = Vec::new();
    let document = document(&trace.packet);
    writeln!(console.err, "waiting up to {} s for a packet: {}", limit.as_secs(), trace.packet)?;
    host.nft_watch(&document, (WATCH_FAMILY, WATCH_TABLE), limit, &mut |line| {
        lines.extend(parse_line(line));
        lines.last().is_some_and(begins)
    })?;
    // The first packet is the one: those that follow meet no translation. One that was under way when the watch began is told
    // from where it was.
    let Some(id) = lines.iter().find(|line| begins(line)).map(|line| line.id.clone()) else {
        return Ok(None);
    };
    lines.retain(|line| line.id == id && line.table != WATCH_TABLE);
    let is_known = |line: &TraceLine| knows(observed, family, line);
    Ok(Some(compare(trace, lines, &is_known)))
}

/// Whether a line is the first of a packet: the table that asks for its way says so itself.
fn begins(line: &TraceLine) -> bool {
    line.table == WATCH_TABLE
}

/// nftrace sees nothing of iptables-legacy, whose own TRACE writes into the kernel's log.
fn tell_of_legacy(observed: &Observed, family: IpFamily, console: &mut Console<'_>) -> Result<(), Error> {
    let has_rules = |source: Source| {
        let rules = observed.rules(family).xtables;
        rules.iter().any(|(one, ruleset)| *one == source && ruleset.n_rules() > 0)
    };
    if !has_rules(Source::XtablesLegacy) {
        return Ok(());
    }
    if !has_rules(Source::XtablesNft) && observed.nft.tables.is_empty() {
        return Err(Error::host("the rules of this machine are in iptables-legacy, which --live cannot watch")
            .hint("its TRACE target writes into the kernel's log: `iptables-legacy -t raw -I PREROUTING … -j TRACE`"));
    }
    console.warn("rules of iptables-legacy are not watched: what they do is not compared")
}

/// Whether a line is of a table that was traced.
fn knows(observed: &Observed, family: IpFamily, line: &TraceLine) -> bool {
    let is_shown = line.family == Family::from(family)
        && TableName::from_name(&line.table).is_some_and(|table| {
            let rules = observed.rules(family).xtables;
            rules
                .iter()
                .any(|(source, ruleset)| *source == Source::XtablesNft && ruleset.tables.contains_key(&table))
        });
    is_shown || observed.nft.table(line.family, &line.table).is_some()
}

/// A table that asks for the way of a flow, one command a line.
fn document(packet: &Packet) -> String {
    let table = format!("{WATCH_FAMILY} {WATCH_TABLE}");
    let hook = match packet.origin {
        Origin::Pod | Origin::Outside => "prerouting",
        Origin::Node => "output",
    };
    let family = Family::from(packet.family());
    let (from, to, protocol) = (packet.source.addr, packet.destination, packet.protocol);
    format!(
        "add table {table} {{ flags owner ; }}\n\
         add chain {table} {WATCH_CHAIN} {{ type filter hook {hook} priority {PRIORITY} ; }}\n\
         add rule {table} {WATCH_CHAIN} ct state new,untracked {family} saddr {from} {family} daddr {} \
         {protocol} dport {} meta nftrace set 1\n",
        to.addr, to.port
    )
}
