//! Differences as text: Services first, then, if asked for, the rules as a unified diff.

use std::io;
use std::time::Duration;

use similar::TextDiff;

use crate::backend::{ChainDelta, Changes, LiftedName, LiftedPort, LiftedVip, ObjectChange, PortChange};
use crate::net::{AddrPort, IpFamily};

use super::painted;

/// Beyond this the line diff settles for one that is not minimal.
const DEADLINE: Duration = Duration::from_secs(5);

/// Whether a Service, by display name, has an address or port that is a placeholder.
pub type IsPlaceholder<'a> = dyn Fn(&LiftedName) -> bool + 'a;

/// Writes one line for each Service port that differs, and one for each changed chain that belongs to none.
pub fn write_services(
    out: &mut dyn io::Write,
    changes: &Changes,
    family: IpFamily,
    placeholder: &IsPlaceholder<'_>,
    color: bool,
) -> io::Result<()> {
    for (name, change) in &changes.ports {
        let mark = if placeholder(name) { " (placeholder)" } else { "" };
        let place = heading(name, change.port(), mark);
        let line = match change {
            PortChange::Added(port) => format!("+ {place}{} → {}", also(port), outcome(port)),
            PortChange::Removed(port) => format!("- {place}{}", also(port)),
            PortChange::Changed { .. } => format!("~ {place}: {}", change_text(change)),
        };
        writeln!(out, "{}", painted(&line, color))?;
    }
    for delta in changes.skeleton() {
        let what = match delta.change {
            ObjectChange::Create => "missing",
            ObjectChange::Delete => "left over",
            ObjectChange::Rewrite => "differs",
            ObjectChange::Jumps if delta.wanted.is_empty() => "jump left over",
            ObjectChange::Jumps => "jump missing",
        };
        let line = format!("~ node {family} {} {}: {what}", delta.table, delta.chain);
        writeln!(out, "{}", painted(&line, color))?;
    }
    Ok(())
}

fn heading((name, protocol): &LiftedName, port: &LiftedPort, mark: &str) -> String {
    let vip = port.cluster_ip.map(LiftedVip::Address).or(port.vips.first().copied());
    match vip {
        // One without a name goes by where it answers.
        Some(vip) if name.ends_with(&vip.to_string()) => format!("{name}/{protocol}{mark}"),
        Some(vip) => format!("{name} {vip}/{protocol}{mark}"),
        None => format!("{name} {protocol}{mark}"),
    }
}

/// VIPs beside the cluster IP.
fn also(port: &LiftedPort) -> String {
    let shown = port.cluster_ip.map(LiftedVip::Address).or(port.vips.first().copied());
    let others: Vec<String> =
        port.vips.iter().filter(|vip| Some(**vip) != shown).map(LiftedVip::to_string).collect();
    if others.is_empty() { String::new() } else { format!(" and {}", others.join(", ")) }
}

fn outcome(port: &LiftedPort) -> String {
    match port.endpoints.len() {
        0 => "refused, no usable endpoint".to_owned(),
        n => count(n),
    }
}

fn count(n: usize) -> String {
    format!("{n} endpoint{}", if n == 1 { "" } else { "s" })
}

fn change_text(change: &PortChange) -> String {
    let mut parts = Vec::new();
    let (added, removed) = change.endpoints();
    if !added.is_empty() || !removed.is_empty() {
        let now = outcome(change.port());
        let each = |sign: char, endpoints: &[_]| -> Vec<String> {
            endpoints.iter().map(|endpoint: &AddrPort| format!("{sign}{endpoint}")).collect()
        };
        let listed = [each('+', &added), each('-', &removed)].concat();
        parts.push(format!("{} → {now}", shortened(&listed)));
    }
    for (what, (more, fewer)) in [("answers on", change.vips()), ("refuses", change.closed())] {
        let list = |vips: &[LiftedVip]| vips.iter().map(LiftedVip::to_string).collect::<Vec<_>>();
        if !more.is_empty() {
            parts.push(format!("{what} {}", shortened(&list(&more))));
        }
        if !fewer.is_empty() {
            parts.push(format!("no longer {what} {}", shortened(&list(&fewer))));
        }
    }
    if parts.is_empty() { "rules differ".to_owned() } else { parts.join("; ") }
}

/// A list with its end left out when it is long: `-o json` has all of it.
fn shortened(items: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = items[..items.len().min(SHOWN)].join(" ");
    if items.len() > SHOWN { format!("{shown} and {} more", items.len() - SHOWN) } else { shown }
}

/// Writes what is to be set apart from rules, a line each.
pub fn write_settings(out: &mut dyn io::Write, settings: &[String], color: bool) -> io::Result<()> {
    for setting in settings {
        writeln!(out, "{}", painted(&format!("~ node {setting}"), color))?;
    }
    Ok(())
}

/// Writes the rules that differ as one unified diff.
pub fn write_rules(
    out: &mut dyn io::Write,
    changes: &Changes,
    family: IpFamily,
    from: &str,
    color: bool,
) -> io::Result<()> {
    if changes.chains.is_empty() {
        return Ok(());
    }
    let tool = match family {
        IpFamily::V4 => "iptables",
        IpFamily::V6 => "ip6tables",
    };
    let side = |lines: fn(&ChainDelta) -> &[String]| {
        let mut text = String::new();
        for delta in &changes.chains {
            text.push_str(&format!("# {} {}\n", delta.table, delta.chain));
            for line in lines(delta) {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    };
    let (old, new) = (side(|delta| &delta.live), side(|delta| &delta.wanted));
    let diff = TextDiff::configure().timeout(DEADLINE).diff_lines(&old, &new);
    let text = diff
        .unified_diff()
        .context_radius(2)
        .header(&format!("{from} {tool}"), &format!("wanted {tool}"))
        .to_string();
    for line in text.lines() {
        writeln!(out, "{}", painted(line, color))?;
    }
    Ok(())
}
