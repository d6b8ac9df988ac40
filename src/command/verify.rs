//! `svcproxy verify`: whether the rules of a node, or recorded ones, mean what the manifests say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use clap::{Args, ValueEnum};

use crate::backend::{self, LiftedVip, iptables, ipvs, nftables, userspace};
use crate::host::Host;
use crate::model::{Mode, ServicePortName};
use crate::net::{IpCidr, IpFamily, PerFamily, Protocol};
use crate::packet::{NodeFacts, Packet};
use crate::program::eval::Evaluator;
use crate::program::listener::Listeners;
use crate::program::{NftTable, Program};
use crate::report;
use crate::resolve::{self, NodeView};
use crate::verify::{self, Difference, Options, Report, Subject, Surroundings};

use super::input::{self, Input, Notes};
use super::options::{FamilyArg, InputArgs, NftArgs, SocketArgs, VariantArg};
use super::{Console, Error, Outcome, dump, equivalence, listeners, live, progress, virtual_servers};

/// Check that the rules of a node mean what the manifests say
///
/// For every class of packets that the rules or the manifests tell apart, what must become of a packet is held against what
/// the rules do with it: endpoints and their probabilities, source NAT, refusal, affinity. Each difference is shown with a
/// packet that proves it.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES, mut_arg("filenames", |arg| arg.required(false)))]
pub struct VerifyArgs {
    /// Manifests, node and configuration.
    #[command(flatten)]
    pub input: InputArgs,

    /// Verify recorded rules instead of this machine's: needs no root
    ///
    /// What `diff --against` takes: a folder with iptables-save.txt and ip6tables-save.txt, in nftables mode with nft.json, or
    /// such a file; in IPVS mode a folder with ipvs-save.txt, ipset-save.txt and ipvs-addr.txt as well; in userspace
    /// mode with `listeners` as `compile --output-dir` writes it, or listeners.json as `inspect listeners -o json` prints it.
    #[arg(long, value_name = "PATH", conflicts_with = "equivalent")]
    pub from_dump: Option<String>,

    /// Compare two rulesets with each other: recorded ones, or a mode's name for what the manifests would give in it
    ///
    /// A layout follows its mode: nftables:fast. The manifests then need not be said unless a mode is named. The node's addresses are those of --node-ip or of its
    /// Node; where neither says any, stand-ins are used.
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    pub equivalent: Vec<String>,

    /// How to print it
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    pub output: FormatArg,

    /// Where listeners are told of.
    #[command(flatten)]
    pub socket: SocketArgs,

    /// Which iptables holds the rules
    #[arg(long, value_name = "WHICH", default_value = "auto", conflicts_with_all = ["from_dump", "equivalent"])]
    pub iptables: VariantArg,
}

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// For people; with -v every packet that differs, and the rules on its way
    Text,
    /// For programs
    Json,
    /// JUnit XML, for test reports
    Junit,
    /// SARIF, for code scanning
    Sarif,
}

const EXAMPLES: &str = "\
Examples:
  Does this node do what the cluster wants?
    kubectl get svc,endpointslices,nodes -A -o json | svcproxy verify -f -

  In CI, against recorded iptables-save output:
    svcproxy verify -f cluster.json --node node-1 --from-dump dump/ -o junit

  What would a change of mode change?
    svcproxy verify -f cluster.json --node node-1 --equivalent iptables nftables

  Do both layouts do the same to every packet?
    svcproxy verify -f cluster.json --node node-1 --equivalent nftables nftables:fast

  Do two recordings mean the same?
    svcproxy verify --equivalent before/ after/ --node-ip 192.168.77.10

Exit status:
  0  the rules mean what the manifests say
  1  some packet has another fate, or one that cannot be told
  2  an error, or some of the input was broken and left out (see --keep-going)";

/// How many packets are shown for each Service port without `-v`.
const N_WITNESSES: usize = 3;

/// How many packets are kept for each Service port.
pub(super) fn n_witnesses() -> usize {
    if is_verbose() { usize::MAX } else { N_WITNESSES }
}

/// Whether `-v` was given.
pub(super) fn is_verbose() -> bool {
    tracing::enabled!(tracing::Level::INFO)
}

/// Runs it.
pub fn run(args: &VerifyArgs, host: &mut dyn Host, console: &mut Console<'_>) -> Result<Outcome, Error> {
    input::read_stdin_once(args.input.paths().chain(&args.from_dump).chain(&args.equivalent))?;
    if let [left, right] = args.equivalent.as_slice() {
        return equivalence::run(args, (left, right), host, console);
    }
    if args.input.filenames.is_empty() {
        return Err(Error::usage("no manifests: give -f"));
    }
    let input = input::read(&args.input, &args.input.filenames, Notes::Hidden, host, console)?;
    input.say_left_out(console)?;
    let (mut program, local_addresses) = match &args.from_dump {
        Some(path) => (recorded(&input, path, host, console)?, None),
        None => {
            let program = of_machine(args, &input, host, console)?;
            (program, Some(virtual_servers::node_addresses(host)?.into_iter().collect::<Vec<_>>()))
        }
    };
    forget_clients(&mut program);
    let assumed = assume_listeners(&input, &mut program, local_addresses.as_deref());
    let spinner = progress::spinner(console, "comparing packets");
    let verified = verify_all(&args.input, &input, (&program, assumed), local_addresses.as_deref());
    spinner.finish_and_clear();
    write(args.output, &input, &program, &verified, console)?;
    let outcome = if input.has_errors() {
        Outcome::BadInput
    } else if verified.iter().all(|(report, _)| report.is_same()) {
        Outcome::Done
    } else {
        Outcome::Differs
    };
    // The process ends here: taking the rules apart first would only cost time.
    std::mem::forget((input, program));
    Ok(outcome)
}

fn recorded(
    input: &Input,
    path: &str,
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<Program, Error> {
    let live = match input.config.mode {
        Mode::Nftables => dump::read_nft_dump(host, path, &input.families)?,
        Mode::Ipvs => dump::read_ipvs_dump(host, path, &input.families)?,
        Mode::Iptables => dump::read_dump(host, path, &input.families)?.0,
        Mode::Userspace => dump::read_userspace_dump(host, path, &input.families)?,
    };
    live.warnings.iter().try_for_each(|warning| console.warn(warning))?;
    Ok(live.program)
}

/// In userspace mode rules lead to proxy ports, and nobody may have told where it goes from there. Then that is taken to be
/// as the manifests want it, so that the rules can be compared all the same; what is to be said of that.
fn assume_listeners(
    input: &Input,
    program: &mut Program,
    local_addresses: Option<&[IpAddr]>,
) -> Option<&'static str> {
    if input.config.mode != Mode::Userspace || program.listeners.is_some() {
        return None;
    }
    let context = input.node_context(local_addresses);
    let mut assumed = Listeners::new();
    for family in IpFamily::ALL {
        if let Some(rules) = program.xtables.get(family) {
            let view = resolve::resolve(&input.loaded.cluster, &context, family);
            let listen = input.config.bind_address.filter(|addr| IpFamily::of(*addr) == family);
            assumed.extend(userspace::listeners_behind(&view, rules, listen));
        }
    }
    program.listeners = Some(assumed);
    Some("where connections go from the proxy ports: no listeners are known")
}

/// The rules of this machine in the language of the mode.
fn of_machine(
    args: &VerifyArgs,
    input: &Input,
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<Program, Error> {
    let spinner = progress::spinner(console, "reading this machine's rules");
    let abilities = live::abilities(host, NftArgs::default())?;
    let mut live = live::read(host, &abilities, args.iptables, &input.families)?;
    spinner.finish_and_clear();
    live.warnings.iter().try_for_each(|warning| console.warn(warning))?;
    let program = &mut live.program;
    let obeys_both = |other: &str, mode: &str| {
        format!(
            "this machine has Service rules of {other} mode too, and the kernel obeys both; this is about {mode} mode"
        )
    };
    let mode = input.config.mode;
    let rulesets = || [&program.xtables.v4, &program.xtables.v6].into_iter().flatten();
    let held = [
        (Mode::Iptables, rulesets().any(iptables::holds_services)),
        (Mode::Ipvs, rulesets().any(ipvs::holds_ours)),
        (Mode::Userspace, rulesets().any(userspace::holds_ours)),
        (Mode::Nftables, [&program.nft.v4, &program.nft.v6].into_iter().any(|table| table.table().is_some())),
    ];
    for (other, _) in held.into_iter().filter(|(other, is_held)| *is_held && *other != mode) {
        console.warn(&obeys_both(other.name(), mode.name()))?;
    }
    match mode {
        Mode::Iptables | Mode::Ipvs | Mode::Userspace => {
            if let Some(hidden) = live.hidden {
                return Err(Error::host(hidden)
                    .hint("move those rules into a table of their own, or choose with --iptables"));
            }
            program.nft = PerFamily::default();
        }
        Mode::Nftables => program.xtables = PerFamily::default(),
    }
    if mode == Mode::Userspace {
        program.listeners = listeners::of_process(host, &args.socket)?;
    }
    if mode == Mode::Ipvs {
        virtual_servers::require(host)?;
        virtual_servers::read(host, program, &input.families)?;
    }
    Ok(live.program)
}

/// Empties sets that rules fill: who is remembered now is no part of what rules mean.
pub(super) fn forget_clients(program: &mut Program) {
    for table in [&mut program.nft.v4, &mut program.nft.v6] {
        let NftTable::Present(table) = table else { continue };
        table.sets.values_mut().filter(|set| set.flags.dynamic).for_each(|set| set.elements.clear());
    }
}

/// A report of each family whose rules are known, with the Service ports that it is about.
fn verify_all(
    args: &InputArgs,
    input: &Input,
    (program, assumed): (&Program, Option<&str>),
    local_addresses: Option<&[IpAddr]>,
) -> Vec<(Report, BTreeSet<ServicePortName>)> {
    let context = input.node_context(local_addresses);
    let addresses = local_addresses.unwrap_or(&input.node.addresses);
    let facts = NodeFacts { local_addresses: addresses.iter().copied().collect() };
    let options = Options { facts: &facts, n_witnesses: n_witnesses() };
    let is_known = |family: &IpFamily| {
        program.xtables.get(*family).is_some() || *program.nft.get(*family) != NftTable::Unspoken
    };
    let mut verified = Vec::new();
    for family in input.families.iter().copied().filter(is_known) {
        let view = resolve::resolve(&input.loaded.cluster, &context, family);
        // What others' rules do with packets that are no Service's is theirs to say.
        let strangers = backend::strangers(program, family);
        let surroundings = Surroundings {
            service_cidrs: service_cidrs(args, input, program, family),
            strangers: Some(&Evaluator::new(&strangers, family, &facts)),
            assumed: assumed.map(str::to_owned),
        };
        let report = verify::verify(&view, &Evaluator::new(program, family, &facts), &surroundings, &options);
        let NodeView { ports, .. } = view;
        verified.push((report, ports.into_iter().map(|port| port.name).collect()));
    }
    verified
}

/// Where cluster IPs come from: as the input says, else as the rules do.
fn service_cidrs(args: &InputArgs, input: &Input, program: &Program, family: IpFamily) -> Vec<IpCidr> {
    if input.knows_service_cidrs(args, family) {
        let given = args.node_options.service_cidr.iter().chain(&input.loaded.cluster.service_cidrs);
        return given.copied().filter(|cidr| cidr.family() == family).collect();
    }
    program.nft.get(family).table().map(nftables::guarded_cidrs).unwrap_or_default()
}

/// The Services that rules serve, by their own words.
#[derive(Default)]
pub(super) struct Served(BTreeMap<(LiftedVip, Protocol), String>);

impl Served {
    /// Reads them off the rules, if some packet differs that no Service of the manifests has.
    pub(super) fn of<'p>(reports: &[Report], programs: impl IntoIterator<Item = &'p Program>) -> Served {
        let mut served = Served::default();
        let is_asked = |subject: &Subject| matches!(subject, Subject::Address(_));
        if !reports.iter().flat_map(|report| report.subjects.keys()).any(is_asked) {
            return served;
        }
        for program in programs {
            for family in IpFamily::ALL {
                let lifted = match (program.nft.get(family).table(), program.xtables.get(family)) {
                    (Some(table), _) => nftables::lift(table),
                    (None, Some(ruleset)) => {
                        let of_both = [iptables::lift(ruleset, None), userspace::lift(ruleset, None, None)];
                        of_both.into_iter().flatten().collect()
                    }
                    (None, None) => continue,
                };
                for ((name, protocol), port) in lifted {
                    served.0.extend(port.vips.into_iter().map(|vip| ((vip, protocol), name.clone())));
                }
            }
        }
        served
    }

    /// The Service at a packet's destination.
    pub(super) fn name_of(&self, difference: &Difference) -> Option<String> {
        let Packet { destination, protocol, .. } = difference.packet;
        let at = |vip| self.0.get(&(vip, protocol));
        at(LiftedVip::Address(destination)).or_else(|| at(LiftedVip::NodePort(destination.port))).cloned()
    }
}

fn write(
    format: FormatArg,
    input: &Input,
    program: &Program,
    verified: &[(Report, BTreeSet<ServicePortName>)],
    console: &mut Console<'_>,
) -> Result<(), Error> {
    let reports: Vec<Report> = verified.iter().map(|(report, _)| report.clone()).collect();
    let served = Served::of(&reports, [program]);
    let name_of = |difference: &Difference| served.name_of(difference);
    let mode = input.config.mode;
    let known = verify::known(resolve::Habits::of(mode));
    match format {
        FormatArg::Text => {
            let sides = report::verify::Sides { wanted: "manifests".to_owned(), found: "rules".to_owned() };
            let style = report::verify::Style { color: console.color_out, paths: is_verbose() };
            report::verify::write(console.out, &reports, &sides, &name_of, style)?;
            if is_verbose() {
                report::verify::write_known(console.out, mode.name(), &known)?;
            }
        }
        FormatArg::Json => report::verify_json::write(console.out, &reports, &known)?,
        FormatArg::Sarif => report::verify_json::write_sarif(console.out, &reports, &name_of)?,
        FormatArg::Junit => report::junit::write(console.out, verified, &name_of)?,
    }
    console.out.flush()?;
    Ok(())
}

/// The families that are asked for.
pub(super) fn families(args: &VerifyArgs) -> BTreeSet<IpFamily> {
    FamilyArg::families(args.input.family)
}
