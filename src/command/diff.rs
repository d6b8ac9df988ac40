//! `svcproxy diff`: what separates a node, a recording or older manifests from what is wanted.

use clap::{Args, ValueEnum};

use crate::backend::iptables::LowerOptions;
use crate::backend::{self, Changes, LiftedName};
use crate::host::Host;
use crate::net::{IpFamily, PerFamily};
use crate::pipeline::{self, Wanted};
use crate::plan::{self, Plan};
use crate::program::xtables::Ruleset;
use crate::report;

use super::compile::TargetArgs;
use super::input::{self, Input, InputArgs, Notes};
use super::live::{self, Live, VariantArg};
use super::{Console, Error, Outcome, progress};

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputArg {
    /// For people
    Text,
    /// For programs
    Json,
}

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
    /// --output-dir` writes them), or one such file.
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
    #[arg(long, value_name = "WHICH", default_value = "auto")]
    pub iptables: VariantArg,

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
    let input = input::read(given, &given.filenames, Notes::Hidden, host, console)?;
    input.say_left_out(console)?;
    let mut has_errors = input.has_errors();
    let compared = if let Some(path) = &args.against {
        against_dump(args, path, &input, host)?
    } else if args.base.is_empty() {
        Comparison::with_machine(&input, args.iptables, host, console)?
    } else {
        let base = input::read(given, &args.base, Notes::Hidden, host, console)?;
        base.say_left_out(console)?;
        has_errors |= base.has_errors();
        against_base(args, &input, &base)
    };
    for warning in &compared.live.warnings {
        writeln!(console.err, "warning: {warning}")?;
    }
    let from = if args.against.is_some() {
        "recorded"
    } else if args.base.is_empty() {
        "live"
    } else {
        "base"
    };
    compared.report(&input, args.output, args.rules.then_some(from), console)?;
    Ok(if has_errors {
        Outcome::BadInput
    } else if compared.plan.is_empty() {
        Outcome::Done
    } else {
        Outcome::Differs
    })
}

/// Wanted, live, and what separates them.
pub(super) struct Comparison {
    pub(super) wanted: Wanted,
    pub(super) live: Live,
    pub(super) plan: Plan,
}

impl Comparison {
    /// With this machine: its rules are read while the wanted ones are computed.
    pub(super) fn with_machine(
        input: &Input,
        variant: VariantArg,
        host: &mut dyn Host,
        console: &Console<'_>,
    ) -> Result<Comparison, Error> {
        let abilities = live::abilities(host)?;
        let context = input.node_context(Some(&host.local_addresses()?));
        let options = abilities.lower_options(&input.config);
        let cluster = &input.loaded.cluster;
        let spinner = progress::spinner(console, "reading this machine's rules");
        let (wanted, live) = std::thread::scope(|scope| {
            let wanted = scope.spawn(|| pipeline::wanted(cluster, &context, &input.families, &options));
            let live = live::read(host, &abilities, variant, &input.families);
            (wanted.join(), live)
        });
        spinner.finish_and_clear();
        let wanted = wanted.map_err(|_| Error::internal("the compiler stopped"))?;
        Ok(Comparison::of(wanted, live?))
    }

    fn of(wanted: Wanted, live: Live) -> Comparison {
        let plan = plan::plan(&wanted.program, &live.program, &live.scopes);
        Comparison { wanted, live, plan }
    }

    fn changes(&self, family: IpFamily) -> Option<Changes> {
        let wanted: &Ruleset = self.wanted.program.xtables.get(family).as_ref()?;
        let live = self.live.program.xtables.get(family).as_ref()?;
        let made_for = |tag| {
            let port = self.wanted.made_for(family, tag)?;
            Some((port.name.to_string(), port.name.protocol))
        };
        Some(backend::changes(wanted, live, self.plan.rules.get(family).as_ref()?, &made_for))
    }

    /// Writes the difference: Services, then with `rules_from` the rules, whose live side it names.
    pub(super) fn report(
        &self,
        input: &Input,
        output: OutputArg,
        rules_from: Option<&str>,
        console: &mut Console<'_>,
    ) -> Result<(), Error> {
        let placeholders: std::collections::BTreeSet<String> = input
            .loaded
            .cluster
            .services
            .values()
            .filter(|service| service.placeholders.any())
            .map(|service| service.name.to_string())
            .collect();
        let placeholder =
            |(name, _): &LiftedName| placeholders.contains(name.split(':').next().unwrap_or_default());
        let changes: Vec<(IpFamily, Changes)> =
            IpFamily::ALL.into_iter().filter_map(|family| Some((family, self.changes(family)?))).collect();
        if output == OutputArg::Json {
            report::json::write_diff(console.out, &changes, self.plan.is_empty(), &placeholder)?;
            return Ok(());
        }
        for (family, changes) in &changes {
            report::diff::write_services(console.out, changes, *family, &placeholder, console.color_out)?;
        }
        for step in &self.plan.steps {
            if matches!(step, plan::Step::SetSysctl { .. } | plan::Step::AddNfacct { .. }) {
                writeln!(console.out, "~ node {step}")?;
            }
        }
        if let Some(from) = rules_from {
            for (family, changes) in &changes {
                report::diff::write_rules(console.out, changes, *family, from, console.color_out)?;
            }
        }
        console.out.flush()?;
        Ok(())
    }
}

fn against_dump(
    args: &DiffArgs,
    path: &str,
    input: &Input,
    host: &mut dyn Host,
) -> Result<Comparison, Error> {
    let (live, traits) = live::read_dump(host, path, &input.families)?;
    let options = PerFamily::from_fn(|family| {
        let traits = traits.get(family).as_ref();
        LowerOptions {
            masquerade_mark: 1 << input.config.masquerade_bit,
            random_fully: !args.target.no_random_fully && traits.is_none_or(|traits| traits.random_fully),
            nfacct: !args.target.no_nfacct && traits.is_none_or(|traits| traits.nfacct),
            tcp_be_liberal: input.config.conntrack.tcp_be_liberal
                || traits.is_some_and(|traits| traits.tcp_be_liberal),
        }
    });
    let context = input.node_context(None);
    let mut wanted = pipeline::wanted(&input.loaded.cluster, &context, &input.families, &options);
    // A recording of rules says nothing of settings.
    wanted.program.nfacct.clear();
    wanted.program.sysctls.clear();
    Ok(Comparison::of(wanted, live))
}

fn against_base(args: &DiffArgs, input: &Input, base: &Input) -> Comparison {
    let compile = |input: &Input| {
        let options = PerFamily::from_fn(|_| LowerOptions {
            masquerade_mark: 1 << input.config.masquerade_bit,
            random_fully: !args.target.no_random_fully,
            nfacct: !args.target.no_nfacct,
            tcp_be_liberal: input.config.conntrack.tcp_be_liberal,
        });
        pipeline::wanted(&input.loaded.cluster, &input.node_context(None), &input.families, &options)
    };
    let live = Live::of_program(compile(base).program);
    Comparison::of(compile(input), live)
}
