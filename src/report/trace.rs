//! The way of a packet as a tree of hooks, chains and rules, and its fate.

use std::io;

use anstyle::{AnsiColor, Style};

use crate::packet::Fate;
use crate::program::Action;
use crate::program::nft::monitor::{TraceLine, TraceWord};
use crate::trace::{Carried, End, Event, Observation, Source, Step, Stop, Trace};

/// The Service port that a rule was made for, if one is known.
pub type ServiceOf<'a> = dyn Fn(Source, &Step) -> Option<String> + 'a;

/// Writes the way and the end.
pub fn write(
    out: &mut dyn io::Write,
    trace: &Trace,
    service_of: &ServiceOf<'_>,
    color: bool,
) -> io::Result<()> {
    let bold = if color { Style::new().bold() } else { Style::new() };
    writeln!(out, "{bold}{}{bold:#}", trace.packet)?;
    for event in &trace.events {
        match event {
            Event::Stop(stop) => write_stop(out, stop, service_of, bold)?,
            Event::Carried(carried) => write_carried(out, carried, bold)?,
            Event::Routing(shares) => {
                writeln!(out, "\n{bold}routing{bold:#}")?;
                for (share, to, local) in shares {
                    let where_to = if *local { "to the node itself" } else { "away" };
                    writeln!(out, "  {}{to} {where_to}", shown_share(*share))?;
                }
            }
        }
    }
    writeln!(out, "\n{bold}fate{bold:#}")?;
    let style = |end: &End| match end {
        _ if !color => Style::new(),
        End::Forwarded { .. } => AnsiColor::Green.on_default(),
        End::Rejected | End::Dropped => AnsiColor::Red.on_default(),
        End::Untouched { .. } => Style::new(),
        End::Unknown => AnsiColor::Yellow.on_default(),
    };
    for (share, end) in &trace.ends {
        let style = style(end);
        writeln!(out, "  {style}{:>5.1} %  {}{style:#}", share * 100.0, end_text(end))?;
    }
    for why in &trace.unknown {
        writeln!(out, "  not certain: {why}")?;
    }
    Ok(())
}

fn write_carried(out: &mut dyn io::Write, carried: &Carried, bold: Style) -> io::Result<()> {
    let Carried { share, key, label, fate } = carried;
    let service = if label.is_empty() { String::new() } else { format!(" [{label}]") };
    writeln!(out, "\n{bold}process{bold:#}")?;
    writeln!(out, "  {}listener {key}{service} → {}", shown_share(*share), carried_text(fate))
}

/// What a process does with what it takes.
fn carried_text(fate: &Fate) -> String {
    match fate {
        Fate::Forwarded(choices) => {
            let targets: Vec<String> = choices.iter().map(|choice| choice.endpoint.to_string()).collect();
            format!("a connection of its own to {}", targets.join(" or "))
        }
        Fate::Rejected => "accepted and closed: there is no endpoint".to_owned(),
        Fate::Dropped => "lost: there is no endpoint".to_owned(),
        Fate::Untouched | Fate::Unknown(_) => "unknown".to_owned(),
    }
}

fn write_stop(
    out: &mut dyn io::Write,
    stop: &Stop,
    service_of: &ServiceOf<'_>,
    bold: Style,
) -> io::Result<()> {
    let Stop { place, source, table, priority, .. } = stop;
    writeln!(out, "\n{bold}{}{bold:#}: {source} {table}, priority {priority}", place.as_str())?;
    for step in &stop.steps {
        write_step(out, *source, step, 1, service_of)?;
    }
    if let Some(why) = &stop.unknown {
        writeln!(out, "  not understood: {why}")?;
    }
    Ok(())
}

fn write_step(
    out: &mut dyn io::Write,
    source: Source,
    step: &Step,
    depth: usize,
    service_of: &ServiceOf<'_>,
) -> io::Result<()> {
    let service = service_of(source, step).map(|service| format!(" [{service}]")).unwrap_or_default();
    let rule = match step.number {
        Some(number) => format!("{} rule {number}", step.chain),
        None => step.chain.clone(),
    };
    let effect = effect(source, &step.action).map(|effect| format!(" → {effect}")).unwrap_or_default();
    let share = shown_share(step.share);
    writeln!(out, "{:indent$}{share}{rule}{service}: {}{effect}", "", step.text, indent = depth * 2)?;
    for step in &step.steps {
        write_step(out, source, step, depth + 1, service_of)?;
    }
    Ok(())
}

/// A share that is not the whole, with a space behind it.
fn shown_share(share: f64) -> String {
    if share > 1.0 - 1e-6 { String::new() } else { format!("{} ", percent(share)) }
}

/// `33.3 %`, `50 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", (share * 1000.0).round() / 10.0)
}

/// What the text of a rule does not say by itself.
fn effect(source: Source, action: &Action) -> Option<String> {
    Some(match action {
        // The target of iptables says it; a map of nft does not.
        Action::Jump(chain) if source == Source::Nft => chain.clone(),
        Action::Jump(_) | Action::Continue | Action::Return => return None,
        Action::Accept => "let through".to_owned(),
        Action::Drop => "dropped".to_owned(),
        Action::Reject => "refused".to_owned(),
        Action::Mark(mark) => format!("mark {mark:#x}"),
        Action::Untrack => "not tracked".to_owned(),
        Action::Dnat(to) => format!("to {to}"),
        Action::Masquerade => "source becomes the node's".to_owned(),
        Action::Unknown => "not understood".to_owned(),
    })
}

/// An end in words.
pub(super) fn end_text(end: &End) -> String {
    let source = |rewritten: &bool| if *rewritten { "source rewritten" } else { "source kept" };
    match end {
        End::Forwarded { endpoint, source_nat } => format!("{endpoint}, {}", source(source_nat)),
        End::Untouched { local: true, .. } => "no Service: to the node itself".to_owned(),
        End::Untouched { local: false, source_nat } => {
            format!("no Service: on its way, {}", source(source_nat))
        }
        End::Rejected => "refused".to_owned(),
        End::Dropped => "dropped".to_owned(),
        End::Unknown => "unknown".to_owned(),
    }
}

/// Writes the way of a real packet, and what of it was not foretold.
pub fn write_observation(out: &mut dyn io::Write, seen: &Observation, color: bool) -> io::Result<()> {
    let bold = if color { Style::new().bold() } else { Style::new() };
    writeln!(out, "\n{bold}seen{bold:#}")?;
    for line in &seen.lines {
        writeln!(out, "  {}", line_text(line))?;
    }
    match (seen.was_dropped, seen.destination) {
        (true, _) => writeln!(out, "  dropped or refused")?,
        (false, Some(to)) => writeln!(out, "  to {to}")?,
        (false, None) => {}
    }
    if seen.differences.is_empty() {
        return writeln!(out, "as foretold");
    }
    for difference in &seen.differences {
        writeln!(out, "not foretold: {difference}")?;
    }
    Ok(())
}

/// A line of the kernel's account, shortened.
pub(super) fn line_text(line: &TraceLine) -> String {
    let TraceLine { family, table, chain, what, .. } = line;
    let what = match what {
        TraceWord::Packet(Some(to)) => format!("for {to}"),
        TraceWord::Packet(None) => "a packet".to_owned(),
        TraceWord::Rule { text, verdict } => format!("{text} → {verdict}"),
        TraceWord::Policy(policy) => format!("policy {policy}"),
        TraceWord::Other(text) => text.clone(),
    };
    format!("{family} {table} {chain}: {what}")
}
