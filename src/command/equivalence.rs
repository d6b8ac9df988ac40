//! `svcproxy verify --equivalent`: whether two rulesets, recorded or compiled, do the same with every packet.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::ValueEnum;

use crate::backend::userspace;
use crate::host::{Host, HostErrorKind};
use crate::model::Mode;
use crate::net::IpFamily;
use crate::packet::NodeFacts;
use crate::pipeline;
use crate::program::Program;
use crate::program::eval::Evaluator;
use crate::report;
use crate::verify::{self, Options, Report};

use super::input::{self, Input, Notes};
use super::options::{InputArgs, LayoutArg, ModeArg, TargetArgs};
use super::verify::{FormatArg, Served, VerifyArgs, families, forget_clients, is_verbose, n_witnesses};
use super::{Console, Error, Outcome, dump};

/// Addresses of a node of which nothing is known (RFC 5737, RFC 3849): rules must tell some address from others' addresses.
const STAND_INS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10))];

/// Runs it.
pub(super) fn run(
    args: &VerifyArgs,
    (left, right): (&str, &str),
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<Outcome, Error> {
    let mut of_mode = [None, None];
    let mut addresses = args.input.node_options.node_ip.clone();
    let mut has_errors = false;
    let names = [left, right];
    for (name, program) in names.iter().zip(&mut of_mode) {
        let Some((mode, layout)) = mode_and_layout(name, args.input.layout)? else { continue };
        let (input, compiled) = compiled(&args.input, mode, layout, host, console)?;
        addresses.extend(input.node.addresses.iter().filter(|_| args.input.node_options.node_ip.is_empty()));
        has_errors |= input.has_errors();
        *program = Some(compiled);
    }
    let of_family = |family| addresses.iter().any(|addr| IpFamily::of(*addr) == family);
    let missing = STAND_INS.into_iter().filter(|addr| !of_family(IpFamily::of(*addr)));
    let local_addresses: BTreeSet<IpAddr> = addresses.iter().copied().chain(missing).collect();
    let families = families(args);
    let mut sides = Vec::new();
    for (name, program) in names.iter().zip(of_mode) {
        let mut program = match program {
            Some(program) => program,
            None => recorded(args.input.mode, name, &families, host, console)?,
        };
        forget_clients(&mut program);
        sides.push(program);
    }
    let facts = NodeFacts { local_addresses };
    let options = Options { facts: &facts, n_witnesses: n_witnesses() };
    let is_known = |family: &IpFamily, program: &Program| {
        program.xtables.get(*family).is_some() || program.nft.get(*family).table().is_some()
    };
    let mut reports: Vec<Report> = Vec::new();
    let [left_program, right_program] = sides.as_slice() else {
        return Err(Error::internal("a comparison has two sides"));
    };
    for family in families {
        if is_known(&family, left_program) || is_known(&family, right_program) {
            let [one, other] =
                [left_program, right_program].map(|program| Evaluator::new(program, family, &facts));
            reports.push(verify::equivalent(&one, &other, &options));
        }
    }
    write(args.output, &reports, names, &sides, console)?;
    Ok(if has_errors {
        Outcome::BadInput
    } else if reports.iter().all(Report::is_same) {
        Outcome::Done
    } else {
        Outcome::Differs
    })
}

/// The mode of this name, and the layout that `:` divides from it, else the one that is given; a path is written `./iptables`.
fn mode_and_layout(name: &str, given: LayoutArg) -> Result<Option<(ModeArg, LayoutArg)>, Error> {
    let (mode, layout) = name.split_once(':').map_or((name, None), |(mode, layout)| (mode, Some(layout)));
    let Ok(mode) = ModeArg::from_str(mode, false) else { return Ok(None) };
    let Some(layout) = layout else { return Ok(Some((mode, given))) };
    match LayoutArg::from_str(layout, false) {
        Ok(layout) => Ok(Some((mode, layout))),
        Err(_) => Err(Error::usage(format!("--equivalent {name}: there is no layout `{layout}`"))
            .hint("layouts are kube-proxy and fast")),
    }
}

/// What the manifests would give in a mode and layout.
fn compiled(
    args: &InputArgs,
    mode: ModeArg,
    layout: LayoutArg,
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<(Input, Program), Error> {
    if args.filenames.is_empty() {
        return Err(Error::usage(format!("what {} mode would give needs manifests", mode.mode().name()))
            .hint(format!("give -f; a folder of this name is ./{}", mode.mode().name())));
    }
    let args = InputArgs { mode: Some(mode), layout, ..args.clone() };
    let input = input::read(&args, &args.filenames, Notes::Hidden, host, console)?;
    input.say_left_out(console)?;
    let lowering = input.offline_lowering(&args, TargetArgs::default())?;
    let context = input.node_context(None);
    let wanted = pipeline::wanted(&input.loaded.cluster, &context, &input.families, &lowering);
    Ok((input, wanted.program))
}

/// Recorded rules: of the mode that is asked for; else of iptables, with virtual servers if there are any, else of nft.
fn recorded(
    asked: Option<ModeArg>,
    path: &str,
    families: &BTreeSet<IpFamily>,
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<Program, Error> {
    let is_json = path.ends_with(".json");
    let is_folder = matches!(host.read_file(path), Err(error) if error.kind == HostErrorKind::IsFolder);
    let mode = match asked {
        Some(mode) => mode.mode(),
        None if is_json => Mode::Nftables,
        None if is_folder && dump::has_ipvs_dump(host, path)? => Mode::Ipvs,
        None if is_folder && !dump::has_iptables_dump(host, path)? => Mode::Nftables,
        None => Mode::Iptables,
    };
    let live = match mode {
        Mode::Nftables => dump::read_nft_dump(host, path, families)?,
        Mode::Ipvs => dump::read_ipvs_dump(host, path, families)?,
        Mode::Iptables | Mode::Userspace => dump::read_userspace_dump(host, path, families)?,
    };
    let rulesets = [&live.program.xtables.v4, &live.program.xtables.v6];
    let is_userspace = rulesets.into_iter().flatten().any(userspace::holds_ours);
    if is_userspace && live.program.listeners.is_none() {
        let said = format!("`{path}` has rules of userspace mode, but not the listeners that they lead to");
        return Err(Error::input(said).hint(
            "`svcproxy inspect listeners -o json > listeners.json` records those of a node, into the same folder",
        ));
    }
    live.warnings.iter().try_for_each(|warning| console.warn(warning))?;
    Ok(live.program)
}

fn write(
    format: FormatArg,
    reports: &[Report],
    [left, right]: [&str; 2],
    programs: &[Program],
    console: &mut Console<'_>,
) -> Result<(), Error> {
    let served = Served::of(reports, programs);
    let name_of = |difference: &verify::Difference| served.name_of(difference);
    match format {
        FormatArg::Text => {
            let style = report::verify::Style { color: console.color_out, paths: is_verbose() };
            let sides = report::verify::Sides { wanted: left.to_owned(), found: right.to_owned() };
            report::verify::write(console.out, reports, &sides, &name_of, style)?;
        }
        FormatArg::Json => report::verify_json::write(console.out, reports, &[])?,
        FormatArg::Sarif => report::verify_json::write_sarif(console.out, reports, &name_of)?,
        FormatArg::Junit => {
            let reports: Vec<_> = reports.iter().map(|report| (report.clone(), BTreeSet::new())).collect();
            report::junit::write(console.out, &reports, &name_of)?;
        }
    }
    console.out.flush()?;
    Ok(())
}
