//! The command line: one parser, one dispatch. Help text is the doc comments of the arguments.

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::command::cleanup::CleanupArgs;
use crate::command::options::NftArgs;
use crate::command::{self, Console, Error, Outcome};
use crate::host::Host;

/// Compile Kubernetes Services to the rules of a node; diff, verify, dry-run and apply them; inspect and trace what a node has
///
/// svcproxy reads Service, EndpointSlice, Endpoints and Node manifests, decides what one node must do with each packet, and
/// writes the rules that kube-proxy would. It shows what separates a node from them, and makes the node so. It reads rules back,
/// and tells where a packet goes.
#[derive(Debug, Parser)]
#[command(name = "svcproxy", version, max_term_width = 100, after_long_help = EXAMPLES)]
pub struct Cli {
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorArg,

    /// Say more on standard error: -v what is done, -vv how
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorArg {
    /// On terminals, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

const EXAMPLES: &str = "\
Examples:
  svcproxy compile -f testdata/quickstart --node node-1
  kubectl get svc,endpointslices,nodes -A -o json | svcproxy diff -f -
  svcproxy apply -f cluster.json --node node-1 --dry-run
  svcproxy verify -f cluster.json --node node-1 --from-dump dump/
  svcproxy inspect
  svcproxy trace 'pod 10.128.0.9 -> 10.96.0.10:53/udp'

Environment:
  NO_COLOR  no colours, unless --color=always

Exit status:
  0  done; for diff and verify: nothing differs
  1  something differs
  2  an error";

/// What to do.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "a comment here would stand in the place of the command's own help")]
pub enum Command {
    Compile(command::compile::CompileArgs),
    Diff(command::diff::DiffArgs),
    Apply(command::apply::ApplyArgs),
    Run(Box<command::run::RunArgs>),
    Cleanup(command::cleanup::CleanupArgs),
    Verify(command::verify::VerifyArgs),
    Inspect(command::inspect::InspectArgs),
    Trace(command::trace::TraceArgs),
    Explain(command::explain::ExplainArgs),
    Completions(command::completions::CompletionsArgs),
}

/// Runs a command.
pub fn run(cli: &Cli, host: &mut dyn Host, console: &mut Console<'_>) -> Result<Outcome, Error> {
    match &cli.command {
        Command::Compile(args) => command::compile::run(args, host, console),
        Command::Diff(args) => command::diff::run(args, host, console),
        Command::Apply(args) => command::apply::run(args, host, console),
        Command::Run(args) if args.cleanup => {
            let family = args.input.0.family;
            let args = CleanupArgs {
                dry_run: false,
                family,
                iptables: args.iptables,
                nft: NftArgs::default(),
                lock: args.lock,
            };
            command::cleanup::run(&args, host, console)
        }
        Command::Run(args) => command::run::run(args, host, console),
        Command::Cleanup(args) => command::cleanup::run(args, host, console),
        Command::Verify(args) => command::verify::run(args, host, console),
        Command::Inspect(args) => command::inspect::run(args, host, console),
        Command::Trace(args) => command::trace::run(args, host, console),
        Command::Explain(args) => command::explain::run(args, host, console),
        Command::Completions(args) => command::completions::run::<Cli>(args, console),
    }
}
