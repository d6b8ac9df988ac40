//! `svcproxy inspect`: Services as the rules of a node tell of them, and what is odd about the rules.

use clap::{Args, ValueEnum};

use crate::backend::{CarryingRule, LiftedName};
use crate::host::Host;
use crate::inspect::{self, Held, Reading};
use crate::net::{IpFamily, PerFamily};
use crate::report;
use crate::report::inspect::{Detail, Inspection};
use crate::report::inspect_json::{Language, Part};
use crate::resolve::{self, NodeView};

use super::input::{self, Notes};
use super::listeners;
use super::observed::{self, Observed};
use super::options::{FamilyArg, InputArgs, LayoutArg, ModeArg, OptionalInput, SocketArgs};
use super::{Console, Error, Outcome};

/// Read Services back from the rules of a node, whoever made them
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES, mut_arg("mode", |arg| arg.help("The rules of one mode alone [default: all that there are]").long_help(None)))]
pub struct InspectArgs {
    /// `services` (the default), `endpoints`, `chains`, `stats` or `listeners`; or one Service: NAMESPACE/NAME or NAMESPACE/NAME:PORT
    ///
    /// `endpoints` and `services` may be followed by a Service. `listeners` are those of a running `svcproxy run` in userspace
    /// mode, with their connections.
    #[arg(value_name = "WHAT", num_args = 0..=2)]
    pub what: Vec<String>,

    /// Read recorded rules instead of this machine's: needs no root
    ///
    /// A folder with iptables-save.txt and ip6tables-save.txt, or nft.json as `nft -j list ruleset` prints it, or both; or
    /// one such file. In IPVS mode a folder with ipvs-save.txt, ipset-save.txt and ipvs-addr.txt as well. Recorded with `iptables-save -c`, the rules tell what they have counted.
    #[arg(long, value_name = "PATH")]
    pub from_dump: Option<String>,

    /// How to print it
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    pub output: InspectOutput,

    /// Where listeners are told of.
    #[command(flatten)]
    pub socket: SocketArgs,

    /// Draw the way of the Service's packets through hooks, chains and endpoints
    #[arg(long, value_name = "FORMAT")]
    pub graph: Option<GraphFormat>,

    /// Manifests, node and configuration: virtual servers of IPVS have no names but those that manifests give them.
    #[command(flatten)]
    pub input: OptionalInput,
}

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InspectOutput {
    /// For people
    Text,
    /// For people with wide terminals
    Wide,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
}

/// `--graph`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// For Graphviz
    Dot,
    /// For Mermaid
    Mermaid,
    /// A picture
    Svg,
}

const EXAMPLES: &str = "\
Only the rules are asked, not the cluster. Below the table stands what is odd: rules of two modes at once, leftovers, chains to
which nothing leads, rules of others that packets of Services may meet.

Examples:
  What does this node serve?
    svcproxy inspect

  By which rules does it serve one Service, and what have they counted?
    svcproxy inspect shop/web:http -o wide

  And a node of which there are recordings?
    svcproxy inspect services --from-dump dump/ -o yaml

  How many connections has each endpoint in IPVS mode, and which are draining?
    svcproxy inspect endpoints --mode ipvs

  What does svcproxy itself carry, in userspace mode?
    svcproxy inspect listeners

  A picture:
    svcproxy inspect shop/web --from-dump dump/ --graph svg > web.svg

Exit status:
  0  done
  2  an error";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Services,
    Endpoints,
    Chains,
    Stats,
}

/// Runs it.
pub fn run(args: &InspectArgs, host: &mut dyn Host, console: &mut Console<'_>) -> Result<Outcome, Error> {
    if args.what == ["listeners"] {
        return listeners::show(args, host, console);
    }
    let (view, service) = asked(&args.what)?;
    if args.graph.is_some() && service.is_none() {
        return Err(Error::usage("--graph draws one Service")
            .hint("name it: `svcproxy inspect shop/web --graph svg`"));
    }
    let given = &args.input.0;
    let families = FamilyArg::families(given.family);
    let mode = given.mode.map(ModeArg::mode);
    input::read_stdin_once(given.paths().chain(&args.from_dump))?;
    let views = views(given, host, console)?;
    let mut observed = match &args.from_dump {
        Some(path) => observed::recorded(host, path, &families, mode)?,
        None => Observed::live(host, &families, true, &args.socket)?,
    };
    observed.retain_mode(mode);
    observed.views = views;
    let needs_chains = service.is_none();
    let inspections: Vec<Inspection> =
        families.iter().map(|family| inspection(&observed, *family, needs_chains)).collect();
    let width = host.terminal_width();
    let detail = Detail { wide: args.output == InspectOutput::Wide, width };
    match service {
        Some(service) => one_service(args, &observed, &inspections, service, view, detail, console)?,
        None => all_services(args, &inspections, view, detail, console)?,
    }
    console.out.flush()?;
    // The process ends here: taking half a million rules apart first would only cost time.
    std::mem::forget((observed, inspections));
    Ok(Outcome::Done)
}

/// What the manifests decide, if there are any, whatever is wrong with some.
fn views(
    args: &InputArgs,
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<PerFamily<Option<NodeView>>, Error> {
    if args.filenames.is_empty() {
        return Ok(PerFamily::default());
    }
    // In other modes rules tell the names.
    let args = InputArgs { mode: Some(ModeArg::Ipvs), layout: LayoutArg::default(), ..args.clone() };
    let input = input::read(&args, &args.filenames, Notes::Hidden, host, console)?;
    input.say_left_out(console)?;
    let context = input.node_context(None);
    Ok(PerFamily::from_fn(|family| {
        let is_asked = input.families.contains(&family);
        is_asked.then(|| resolve::resolve(&input.loaded.cluster, &context, family))
    }))
}

fn asked(words: &[String]) -> Result<(View, Option<&str>), Error> {
    let view = |word: &str| {
        Some(match word {
            "services" | "svc" => View::Services,
            "endpoints" | "ep" => View::Endpoints,
            "chains" => View::Chains,
            "stats" => View::Stats,
            _ => return None,
        })
    };
    match words {
        [] => Ok((View::Services, None)),
        [word] => match view(word) {
            Some(view) => Ok((view, None)),
            None if word.contains(['/', ':']) => Ok((View::Services, Some(word))),
            None => Err(Error::usage(format!("`{}` is nothing to inspect", report::one_line(word)))
                .hint("services, endpoints, chains, stats, listeners, or a Service as `shop/web` or `shop/web:http`")),
        },
        [word, service, ..] => match view(word) {
            Some(view @ (View::Services | View::Endpoints)) => Ok((view, Some(service))),
            Some(View::Chains | View::Stats) => {
                Err(Error::usage(format!("`{word}` are of all Services")).hint("leave the Service out"))
            }
            None => Err(Error::usage(format!("`{}` is nothing to inspect", report::one_line(word)))
                .hint("services, endpoints, chains or stats")),
        },
    }
}

/// Looks at the rules of one family. Whose each chain is, and what is odd, is asked only where it is told.
fn inspection(observed: &Observed, family: IpFamily, with_chains: bool) -> Inspection {
    let held = observed.held(family);
    let readings = inspect::readings(&held, family);
    let chains = if with_chains { inspect::chains(&held, family) } else { Vec::new() };
    let findings = if with_chains { inspect::findings(&held, &readings, &chains) } else { Vec::new() };
    Inspection { family, readings, chains, findings }
}

fn all_services(
    args: &InspectArgs,
    inspections: &[Inspection],
    view: View,
    detail: Detail,
    console: &mut Console<'_>,
) -> Result<(), Error> {
    let out = &mut *console.out;
    let part = match view {
        View::Services | View::Endpoints => Part::Services,
        View::Chains => Part::Chains,
        View::Stats => Part::Stats,
    };
    if let Some(language) = language(args.output) {
        return Ok(report::inspect_json::write(out, inspections, part, language)?);
    }
    let is_empty = inspections.iter().all(|one| one.readings.is_empty());
    if is_empty && part == Part::Services {
        writeln!(out, "no Service has rules here")?;
    } else {
        match view {
            View::Services => report::inspect::write_services(out, inspections, detail)?,
            View::Endpoints => report::inspect::write_endpoints(out, inspections, detail)?,
            View::Chains => report::inspect::write_chains(out, inspections, detail)?,
            View::Stats => report::inspect::write_stats(out, inspections, detail)?,
        }
    }
    Ok(report::inspect::write_findings(out, inspections)?)
}

fn language(output: InspectOutput) -> Option<Language> {
    match output {
        InspectOutput::Text | InspectOutput::Wide => None,
        InspectOutput::Json => Some(Language::Json),
        InspectOutput::Yaml => Some(Language::Yaml),
    }
}

/// A port of the Service that is asked for: where it was read, its name, the rules that carry it.
type Port<'a> = (&'a Reading, &'a LiftedName, Vec<CarryingRule>);

fn one_service(
    args: &InspectArgs,
    observed: &Observed,
    inspections: &[Inspection],
    service: &str,
    view: View,
    detail: Detail,
    console: &mut Console<'_>,
) -> Result<(), Error> {
    let is_it = |(name, _): &LiftedName| {
        name == service
            || name.strip_prefix("virtual server ") == Some(service)
            || name.strip_prefix(service).is_some_and(|rest| rest.starts_with(':'))
    };
    let mut ports: Vec<Port<'_>> = Vec::new();
    for reading in inspections.iter().flat_map(|one| &one.readings) {
        let held: Held<'_> = observed.held(reading.family);
        for name in reading.services.keys().filter(|name| is_it(name)) {
            ports.push((reading, name, inspect::carried(&held, reading, name)));
        }
    }
    if ports.is_empty() {
        return Err(Error::input(format!("no rule carries a Service `{}`", report::one_line(service)))
            .hint("`svcproxy inspect` lists those that have rules"));
    }
    if let Some(format) = args.graph {
        return draw(observed, service, &ports, format, console);
    }
    if let Some(language) = language(args.output) {
        return Ok(report::inspect_json::write_service(console.out, &ports, language)?);
    }
    if view == View::Endpoints {
        let mut only = inspections.to_vec();
        for reading in only.iter_mut().flat_map(|one| &mut one.readings) {
            reading.services.retain(|name, _| is_it(name));
        }
        return Ok(report::inspect::write_endpoints(console.out, &only, detail)?);
    }
    for (reading, name, rules) in &ports {
        report::inspect::write_service(console.out, reading, name, rules, detail)?;
    }
    Ok(())
}

/// Draws all ports of the Service, as far as they are of the first set of rules and family: more would be several pictures.
fn draw(
    observed: &Observed,
    service: &str,
    ports: &[Port<'_>],
    format: GraphFormat,
    console: &mut Console<'_>,
) -> Result<(), Error> {
    let Some((first, ..)) = ports.first() else { return Ok(()) };
    let of_first =
        |(reading, ..): &&Port<'_>| (reading.source, reading.family) == (first.source, first.family);
    let rules: Vec<CarryingRule> =
        ports.iter().filter(of_first).flat_map(|(.., rules)| rules.iter().cloned()).collect();
    if ports.iter().filter(of_first).count() < ports.len() {
        let (source, family) = (first.source, first.family);
        console.warn(&format!("drawn is {source} {family} alone: choose with --mode and --family"))?;
    }
    let title = format!("{service} in {} {}", first.source, first.family);
    let graph = inspect::graph::graph(&title, &observed.held(first.family), first.source, &rules);
    match format {
        GraphFormat::Dot => report::graph::write_dot(console.out, &graph)?,
        GraphFormat::Mermaid => report::graph::write_mermaid(console.out, &graph)?,
        GraphFormat::Svg => report::graph_svg::write(console.out, &graph)?,
    }
    Ok(())
}
