//! `svcproxy apply`: makes this node as it is wanted.

use clap::Args;

use crate::host::{Host, execute};
use crate::model::Mode;
use crate::pipeline;
use crate::program::conntrack::Answerers;
use crate::report;

use super::comparison::Comparison;
use super::flows::{self, Forgotten};
use super::input::{self, Input, Notes};
use super::options::{InputArgs, LockArgs, NftArgs, OutputArg, VariantArg};
use super::{Console, Error, Outcome, lock, refusal, steps, virtual_servers};

/// Make this node's rules as they are wanted; a second time it does nothing
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ApplyArgs {
    /// Manifests, node and configuration.
    #[command(flatten)]
    pub input: InputArgs,

    /// Show the steps and have the real tools check them, but take none
    #[arg(long)]
    pub dry_run: bool,

    /// Which iptables to use
    #[arg(long, value_name = "WHICH", default_value = "auto")]
    pub iptables: VariantArg,

    /// How nftables is reached.
    #[command(flatten)]
    pub nft: NftArgs,

    /// How others at work are treated.
    #[command(flatten)]
    pub lock: LockArgs,
}

const EXAMPLES: &str = "\
Examples:
  What would be done:
    svcproxy apply -f cluster.json --node node-1 --dry-run

  Do it:
    svcproxy apply -f cluster.json --node node-1

Nothing is applied if any object of the input is broken, unless --keep-going is given.
Chains and rules of others are left as they are.

Exit status:
  0  done
  2  an error; what was done before it is said";

/// Runs it.
pub fn run(args: &ApplyArgs, host: &mut dyn Host, console: &mut Console<'_>) -> Result<Outcome, Error> {
    let began = host.now();
    input::read_stdin_once(args.input.paths())?;
    let input = input::read(&args.input, &args.input.filenames, Notes::Hidden, host, console)?;
    refuse_unfit(&input)?;
    input.say_left_out(console)?;
    let _lock = if args.dry_run { None } else { Some(lock::take(args.lock, host, console)?) };
    let compared = Comparison::of_input(&args.input, &input, (args.iptables, args.nft), host, console)?;
    input.refuse_small_port_range(&compared.wanted)?;
    for warning in &compared.live.warnings {
        console.warn(warning)?;
    }
    let variant = steps::variant_of(&compared);
    pipeline::check(&compared.wanted.program).map_err(Error::internal)?;
    let planned = &compared.plan.steps;
    if args.dry_run {
        compared.report(&input, OutputArg::Text, None, (&mut *console.out, console.color_out))?;
        execute::rehearse(host, variant, planned).map_err(|(index, refused)| {
            refusal::explain(&planned[index], &refused, Some((&input, &compared.wanted)))
        })?;
        report::plan::write(console.out, &compared.plan)?;
    } else {
        if input.config.mode == Mode::Ipvs && !planned.is_empty() {
            virtual_servers::rehearse(host, &compared.wanted.program, &compared.live.program)?;
        }
        take(&compared, &input, host, console)?;
        if !planned.is_empty() {
            match flows::forget_stale(&compared.wanted.answerers, &Answerers::default(), host) {
                Forgotten::None => {}
                Forgotten::Told(words) => writeln!(console.out, "{words}")?,
                Forgotten::Refused(words) => console.warn(&words)?,
            }
        }
    }
    let took = host.now().saturating_sub(began).as_secs_f64();
    let summary = steps::summary(planned, if args.dry_run { "would be taken" } else { "taken" });
    let with = match input.config.mode {
        Mode::Nftables => "nft".to_owned(),
        Mode::Iptables | Mode::Userspace => format!("iptables-{variant}"),
        Mode::Ipvs => format!("IPVS, ipset and iptables-{variant}"),
    };
    writeln!(console.out, "{summary} with {with} in {took:.2} s")?;
    console.out.flush()?;
    // The process ends here: taking half a million rules apart first would only cost time.
    std::mem::forget((input, compared));
    Ok(Outcome::Done)
}

/// Takes the steps. What they change is put into words meanwhile, and said whether they succeed or not.
fn take(
    compared: &Comparison,
    input: &Input,
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<(), Error> {
    let (mut words, color) = (Vec::new(), console.color_out);
    let (told, taken) = std::thread::scope(|scope| {
        let told = scope.spawn(|| compared.report(input, OutputArg::Text, None, (&mut words, color)));
        let taken = steps::take(compared, input, host, console);
        (told.join(), taken)
    });
    told.map_err(|_| Error::internal("the comparison stopped"))??;
    // Whoever closed the pipe wants no report, but still the rules.
    console.out.write_all(&words).map_err(Error::from).or_else(Error::unless_broken_pipe)?;
    taken
}

/// What must not reach a kernel: anything of which a part is broken, or made up.
pub(super) fn refuse_unfit(input: &Input) -> Result<(), Error> {
    if input.has_errors() {
        return Err(Error::input("nothing was applied, since some of the input is broken")
            .hint("mend it, or give --keep-going to apply the rest"));
    }
    if input.loaded.diagnostics.iter().any(|one| one.code == "unknown-node") {
        return Err(
            Error::input("nothing was applied, since this node is not in the input").hint("give --node")
        );
    }
    let made_up: Vec<String> = input
        .loaded
        .cluster
        .services
        .values()
        .filter(|service| service.placeholders.any())
        .map(|service| service.name.to_string())
        .collect();
    if made_up.is_empty() {
        return Ok(());
    }
    Err(Error::input(format!(
        "nothing was applied, since {} would get placeholder addresses",
        made_up.join(", ")
    ))
    .hint("create them in the cluster first; `diff` and `compile` take placeholders"))
}
