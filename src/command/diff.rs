//! `svcproxy diff`: what separates a node, a recording or older manifests from what is wanted.

use clap::Args;

use crate::host::Host;
use crate::pipeline::{self, Lowering, Wanted};

use super::comparison::Comparison;
use super::input::{self, Input, Notes};
use super::live::Live;
use super::options::{InputArgs, NftArgs, OutputArg, TargetArgs, VariantArg};
use super::{Console, Error, Outcome, dump};

/// Compare what is wanted of a node with what it has
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct DiffArgs {
    /// Manifests, node and configuration.
    #[command(flatten)]
    pub input: InputArgs,

    /// Compare with recorded rules instead of this machine's: needs no root
    ///
    /// A folder with iptables-save.txt and ip6tables-save.txt (or iptables.rules and ip6tables.rules, as `compile
    /// --output-dir` writes them), or one such file. In nftables mode a folder with nft.json, or that file, as `nft -j list
    /// ruleset` prints it. In IPVS mode a folder with ipvs-save.txt (`ipvsadm -Sn`), ipset-save.txt (`ipset save`),
    /// ipvs-addr.txt (addresses of kube-ipvs0) and the iptables files, or with what `compile --output-dir` writes.
    #[arg(long, value_name = "PATH", conflicts_with = "base")]
    pub against: Option<String>,

    /// Compare with what these manifests would give instead of this machine's rules: needs no root
    #[arg(long, value_name = "PATH")]
    pub base: Vec<String>,

    /// Show the rules that differ as well
    #[arg(long)]
    pub rules: bool,

    /// How to print it
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    pub output: OutputArg,

    /// Which iptables holds the rules
    #[arg(long, value_name = "WHICH", default_value = "auto", conflicts_with_all = ["against", "base"])]
    pub iptables: VariantArg,

    /// How nftables is reached.
    #[command(flatten)]
    pub nft: NftArgs,

    /// What the machine that loads the rules can do.
    #[command(flatten)]
    pub target: TargetArgs,
}

const EXAMPLES: &str = "\
Examples:
  Is this node as the cluster wants it?
    kubectl get svc,endpointslices,nodes -A -o json | svcproxy diff -f -

  In CI, against recorded iptables-save output:
    svcproxy diff -f cluster.json --node node-1 --against dump/

  What would a change of manifests do to a node?
    svcproxy diff -f new/ --base old/ --node node-1 --rules

Exit status:
  0  nothing differs
  1  something differs
  2  an error, or some of the input was broken and left out (see --keep-going)";

/// Runs it.
pub fn run(args: &DiffArgs, host: &mut dyn Host, console: &mut Console<'_>) -> Result<Outcome, Error> {
    let given = &args.input;
    // The snapshot and the configuration are read for either side.
    let of_base: Vec<&String> =
        if args.base.is_empty() { Vec::new() } else { given.snapshot.iter().chain(&given.config).collect() };
    input::read_stdin_once(given.paths().chain(&args.against).chain(&args.base).chain(of_base))?;
    let (input, compared, from, base_has_errors) = if let Some(path) = &args.against {
        let input = input::read(given, &given.filenames, Notes::Hidden, host, console)?;
        let compared = against_dump(args, path, &input, host)?;
        (input, compared, "recorded", false)
    } else if args.base.is_empty() {
        let (input, compared) =
            Comparison::with_machine(given, args.target, (args.iptables, args.nft), host, console)?;
        (input, compared, "live", false)
    } else {
        let input = input::read(given, &given.filenames, Notes::Hidden, host, console)?;
        let base = input::read(given, &args.base, Notes::Hidden, host, console)?;
        base.say_left_out(console)?;
        let compared = against_base(args, &input, &base)?;
        (input, compared, "base", base.has_errors())
    };
    input.say_left_out(console)?;
    input.refuse_small_port_range(&compared.wanted)?;
    for warning in &compared.live.warnings {
        console.warn(warning)?;
    }
    compared.report(
        &input,
        args.output,
        args.rules.then_some(from),
        (&mut *console.out, console.color_out),
    )?;
    let outcome = if input.has_errors() || base_has_errors {
        Outcome::BadInput
    } else if compared.plan.is_empty() {
        Outcome::Done
    } else {
        Outcome::Differs
    };
    // The process ends here: taking half a million rules apart first would only cost time.
    std::mem::forget((input, compared));
    Ok(outcome)
}

fn against_dump(
    args: &DiffArgs,
    path: &str,
    input: &Input,
    host: &mut dyn Host,
) -> Result<Comparison, Error> {
    let mut lowering = input.offline_lowering(&args.input, args.target)?;
    let live = match &mut lowering {
        Lowering::Nftables(_) => dump::read_nft_dump(host, path, &input.families)?,
        Lowering::Ipvs(_) => dump::read_ipvs_dump(host, path, &input.families)?,
        Lowering::Iptables(options) => {
            let (live, traits) = dump::read_dump(host, path, &input.families)?;
            for family in &input.families {
                // What the recorded machine could not do is not wanted of it.
                if let (Some(traits), options) = (traits.get(*family), options.get_mut(*family)) {
                    options.random_fully &= traits.random_fully;
                    options.nfacct &= traits.nfacct;
                    options.tcp_be_liberal |= traits.tcp_be_liberal;
                }
            }
            live
        }
        Lowering::Userspace(_) => dump::read_userspace_dump(host, path, &input.families)?,
    };
    let context = input.node_context(None);
    let mut wanted = pipeline::wanted(&input.loaded.cluster, &context, &input.families, &lowering);
    // A recording of rules says nothing of settings.
    wanted.program.nfacct.clear();
    wanted.program.sysctls.clear();
    Ok(Comparison::of(wanted, live))
}

fn against_base(args: &DiffArgs, input: &Input, base: &Input) -> Result<Comparison, Error> {
    let compile = |input: &Input| -> Result<Wanted, Error> {
        let lowering = input.offline_lowering(&args.input, args.target)?;
        Ok(pipeline::wanted(&input.loaded.cluster, &input.node_context(None), &input.families, &lowering))
    };
    let live = Live::of_program(compile(base)?.program);
    Ok(Comparison::of(compile(input)?, live))
}
