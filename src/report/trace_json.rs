//! The way of a packet as JSON, in a stable schema of our own.

use std::io;

use serde::Serialize;

use crate::program::Action;
use crate::trace::{Carried, End, Event, Observation, Source, Step, Stop, Trace};

use super::trace::{ServiceOf, line_text};

#[derive(Serialize)]
struct Document<'a> {
    packet: String,
    /// The fate in the notation of flows: `10.0.0.1:80|10.0.0.2:80 masq`, `reject`, `drop`, `none`.
    fate: String,
    ends: Vec<EndView>,
    /// Rules that are not understood and may decide.
    unknown: &'a [String],
    way: Vec<EventView<'a>>,
    /// What the kernel told of a real packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<SeenView<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SeenView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    dropped: bool,
    as_foretold: bool,
    differences: &'a [String],
    lines: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndView {
    share: f64,
    end: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_rewritten: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", tag = "event")]
enum EventView<'a> {
    Stop {
        hook: &'static str,
        source: String,
        table: &'a str,
        priority: i32,
        rules: Vec<StepView<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        unknown: Option<&'a str>,
    },
    Routing {
        to: Vec<RouteView>,
    },
    Carried {
        share: f64,
        listener: String,
        label: &'a str,
        /// As that of the packet.
        fate: String,
    },
}

#[derive(Serialize)]
struct RouteView {
    share: f64,
    destination: String,
    local: bool,
}

#[derive(Serialize)]
struct StepView<'a> {
    share: f64,
    chain: &'a str,
    /// From 1; missing for the policy of a chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<usize>,
    rule: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    action: &'static str,
    /// The chain, mark or destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<StepView<'a>>,
}

/// Writes the way and the end as one JSON object.
pub fn write(
    out: &mut dyn io::Write,
    trace: &Trace,
    seen: Option<&Observation>,
    service_of: &ServiceOf<'_>,
) -> io::Result<()> {
    let document = Document {
        packet: trace.packet.to_string(),
        fate: trace.fate().to_string(),
        ends: trace.ends.iter().map(|(share, end)| end_view(*share, end)).collect(),
        unknown: &trace.unknown,
        seen: seen.map(|seen| SeenView {
            destination: seen.destination.map(|to| to.to_string()),
            dropped: seen.was_dropped,
            as_foretold: seen.differences.is_empty(),
            differences: &seen.differences,
            lines: seen.lines.iter().map(line_text).collect(),
        }),
        way: trace.events.iter().map(|event| event_view(event, service_of)).collect(),
    };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}

/// Without the rounding of a product of many factors.
fn rounded(share: f64) -> f64 {
    (share * 1e6).round() / 1e6
}

fn end_view(share: f64, end: &End) -> EndView {
    let (end, endpoint, source_rewritten) = match end {
        End::Forwarded { endpoint, source_nat } => {
            ("forwarded", Some(endpoint.to_string()), Some(*source_nat))
        }
        End::Untouched { source_nat, .. } => ("untouched", None, Some(*source_nat)),
        End::Rejected => ("rejected", None, None),
        End::Dropped => ("dropped", None, None),
        End::Unknown => ("unknown", None, None),
    };
    EndView { share: rounded(share), end, endpoint, source_rewritten }
}

fn event_view<'a>(event: &'a Event, service_of: &ServiceOf<'_>) -> EventView<'a> {
    match event {
        Event::Stop(Stop { place, source, table, priority, steps, unknown }) => EventView::Stop {
            hook: place.as_str(),
            source: source.to_string(),
            table,
            priority: *priority,
            rules: step_views(*source, steps, service_of),
            unknown: unknown.as_deref(),
        },
        Event::Carried(Carried { share, key, label, fate }) => EventView::Carried {
            share: rounded(*share),
            listener: key.to_string(),
            label,
            fate: fate.to_string(),
        },
        Event::Routing(shares) => {
            let view = |(share, to, local): &(f64, crate::net::AddrPort, bool)| RouteView {
                share: rounded(*share),
                destination: to.to_string(),
                local: *local,
            };
            EventView::Routing { to: shares.iter().map(view).collect() }
        }
    }
}

fn step_views<'a>(source: Source, steps: &'a [Step], service_of: &ServiceOf<'_>) -> Vec<StepView<'a>> {
    let view = |step: &'a Step| {
        let (action, to) = action(&step.action);
        StepView {
            share: rounded(step.share),
            chain: &step.chain,
            number: step.number,
            rule: &step.text,
            service: service_of(source, step),
            action,
            to,
            rules: step_views(source, &step.steps, service_of),
        }
    };
    steps.iter().map(view).collect()
}

fn action(action: &Action) -> (&'static str, Option<String>) {
    match action {
        Action::Continue => ("continue", None),
        Action::Jump(chain) => ("jump", Some(chain.clone())),
        Action::Accept => ("accept", None),
        Action::Drop => ("drop", None),
        Action::Reject => ("reject", None),
        Action::Return => ("return", None),
        Action::Mark(mark) => ("mark", Some(format!("{mark:#x}"))),
        Action::Untrack => ("untrack", None),
        Action::Dnat(to) => ("dnat", Some(to.to_string())),
        Action::Masquerade => ("masquerade", None),
        Action::Unknown => ("unknown", None),
    }
}
