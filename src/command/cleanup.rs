//! `svcproxy cleanup`: removes all that is ours from this node, and nothing else.

use clap::Args;

use crate::host::{Host, HostErrorKind, XtablesVariant, execute};
use crate::net::PerFamily;
use crate::plan::{self, Plan};
use crate::program::xtables::Ruleset;
use crate::program::{NftTable, Program};
use crate::report;

use super::live::Owned;
use super::options::{FamilyArg, LockArgs, NftArgs, VariantArg};
use super::{Console, Error, Outcome, live, lock, refusal, virtual_servers};

/// Remove all Service rules from this node; rules of others stay
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct CleanupArgs {
    /// Show the steps, but take none
    #[arg(long)]
    pub dry_run: bool,

    /// One IP family alone [default: both]
    #[arg(long, value_name = "FAMILY")]
    pub family: Option<FamilyArg>,

    /// Which iptables to clean; `auto` is every one that is installed, and nft
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
Removed are the chains that svcproxy and kube-proxy make in iptables mode, the jumps to them, the nfacct objects that
their rules count with, the tables of nftables mode, and of IPVS mode the virtual servers, the sets and the device. KUBE-FIREWALL stays while the kubelet, which shares it, is at home. Kernel settings stay.

Examples:
  svcproxy cleanup --dry-run
  svcproxy cleanup

Exit status:
  0  done
  2  an error";

/// Runs it.
pub fn run(args: &CleanupArgs, host: &mut dyn Host, console: &mut Console<'_>) -> Result<Outcome, Error> {
    let began = host.now();
    let _lock = if args.dry_run { None } else { Some(lock::take(args.lock, host, console)?) };
    let families = FamilyArg::families(args.family);
    let abilities = live::abilities(host, args.nft)?;
    let (mut n_steps, mut cleaned) = (0, Vec::new());
    let mut has_ipvs = false;
    for tools in &abilities.tools {
        let variant = match (args.iptables, tools.variant) {
            (VariantArg::Legacy, XtablesVariant::Nft) | (VariantArg::Nft, XtablesVariant::Legacy) => continue,
            (VariantArg::Auto | VariantArg::Legacy, XtablesVariant::Legacy) => VariantArg::Legacy,
            (VariantArg::Auto | VariantArg::Nft, XtablesVariant::Nft) => VariantArg::Nft,
        };
        let live = live::read(host, &abilities, variant, &families)?;
        has_ipvs |= virtual_servers::has_leftovers(host, &live.program);
        let nothing = Program {
            xtables: PerFamily::from_fn(|family| Some(Ruleset::empty(family))),
            ..Program::default()
        };
        let plan = plan::plan(&nothing, &live.program, &live.scopes);
        n_steps += take(args, host, console, tools.variant, &plan, n_steps)?;
        cleaned.push(format!("iptables-{}", tools.variant));
    }
    if abilities.reads_nft() && args.iptables == VariantArg::Auto {
        let live = Program { nft: live::read_tables(host, &abilities, &families)?, ..Program::default() };
        let nothing = Program { nft: PerFamily::from_fn(|_| NftTable::Absent), ..Program::default() };
        let mut plan = plan::plan(&nothing, &live, &PerFamily::default());
        if args.nft.nft_tool {
            plan.drop_batches();
        }
        n_steps += take(args, host, console, XtablesVariant::Nft, &plan, n_steps)?;
        cleaned.push("nft".to_owned());
    }
    // Sets can go when no rule of either iptables asks them any more.
    if args.iptables == VariantArg::Auto && (has_ipvs || virtual_servers::has_sets(host)?) {
        let mut live = Program::default();
        virtual_servers::read(host, &mut live, &families)?;
        let node_addresses = virtual_servers::node_addresses(host)?;
        let scopes = live::scopes(&live, &Owned { node_addresses, ..Owned::default() }, None);
        let mut nothing = Program::default();
        virtual_servers::want_nothing(&mut nothing, &families);
        let plan = plan::plan(&nothing, &live, &scopes);
        n_steps += take(args, host, console, XtablesVariant::Nft, &plan, n_steps)?;
        cleaned.push("IPVS".to_owned());
    }
    if cleaned.is_empty() {
        if abilities.tools.is_empty() {
            return Err(live::no_iptables());
        }
        return Err(Error::usage("the iptables that is to be cleaned is not on this machine"));
    }
    if !args.dry_run && args.family.is_none() && args.iptables == VariantArg::Auto {
        remove_nfacct(host)?;
    }
    let took = host.now().saturating_sub(began).as_secs_f64();
    let verb = if args.dry_run { "would be taken" } else { "taken" };
    let summary = match n_steps {
        0 => "nothing to remove".to_owned(),
        n => format!("{n} step{} {verb}", if n == 1 { "" } else { "s" }),
    };
    writeln!(console.out, "{summary} with {} in {took:.2} s", listed(&cleaned))?;
    console.out.flush()?;
    Ok(Outcome::Done)
}

/// `a`, `a and b`, `a, b and c`.
fn listed(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Takes the steps, or shows them; how many they are.
fn take(
    args: &CleanupArgs,
    host: &mut dyn Host,
    console: &mut Console<'_>,
    variant: XtablesVariant,
    plan: &Plan,
    n_before: usize,
) -> Result<usize, Error> {
    for (table, kept) in plan.kept_chains() {
        console.warn(&format!("{table} {kept} is kept, since rules of others refer to it"))?;
    }
    if args.dry_run {
        report::plan::write(console.out, plan)?;
        return Ok(plan.steps.len());
    }
    for (done, step) in plan.steps.iter().enumerate() {
        tracing::info!("{step}");
        execute::execute(host, variant, step).map_err(|refused| {
            let done = n_before + done;
            refusal::explain(step, &refused, None).detail(format!("{done} steps were taken before it"))
        })?;
    }
    Ok(plan.steps.len())
}

/// The counters go with the last rules that used them. One that somebody else still uses stays.
fn remove_nfacct(host: &mut dyn Host) -> Result<(), Error> {
    use crate::backend::iptables::names;
    for name in [names::NFACCT_INVALID_DROPPED, names::NFACCT_LOCALHOST_ACCEPTED] {
        match host.nfacct_delete(name) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind,
                    HostErrorKind::NotFound | HostErrorKind::Busy | HostErrorKind::Unsupported
                ) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
