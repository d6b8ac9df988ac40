//! `svcproxy compile`: manifests in, the rules of one node out.

use clap::Args;

use crate::backend::iptables::LowerOptions;
use crate::host::Host;
use crate::net::{IpFamily, PerFamily};
use crate::pipeline::{self, Wanted};
use crate::program::xtables::{check, emit};
use crate::report::one_line;

use super::input::{self, Input, InputArgs};
use super::{Console, Error, Outcome};

/// Print the rules that a node would get; changes nothing, needs no root
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct CompileArgs {
    #[command(flatten)]
    pub input: InputArgs,

    /// Write iptables.rules and ip6tables.rules into this folder instead
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<String>,

    #[command(flatten)]
    pub target: TargetArgs,
}

/// What the machine that will load the rules can do.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Target machine")]
pub struct TargetArgs {
    /// Leave out nfacct matches, for machines without nfacct objects
    ///
    /// kube-proxy counts with the nfacct objects ct_state_invalid_dropped_pkts and localhost_nps_accepted_pkts wherever the
    /// kernel has nfacct. `apply` makes them; a file that is loaded by hand needs `nfacct add` first, or this option.
    #[arg(long)]
    pub no_nfacct: bool,

    /// Leave out `--random-fully`, for iptables before 1.6.2
    #[arg(long)]
    pub no_random_fully: bool,
}

const EXAMPLES: &str = "\
Examples:
  What node-1 would get, from what the cluster has:
    kubectl get svc,endpointslices,nodes -A -o json | svcproxy compile -f - --node node-1

  As files, one for each tool:
    svcproxy compile -f cluster.json --node node-1 --output-dir rules/

  Would iptables take it?
    svcproxy compile -f cluster.json --node node-1 --family ipv4 | iptables-restore --test

  Manifests from git, laid over what the cluster has:
    svcproxy compile -f shop/ --snapshot cluster.json --node node-1

Exit status:
  0  done
  2  an error, or some of the input was broken and left out (see --keep-going)";

/// Runs it.
pub fn run(args: &CompileArgs, host: &mut dyn Host, console: &mut Console<'_>) -> Result<Outcome, Error> {
    let input = input::read(&args.input, host, console)?;
    input.say_left_out(console)?;
    let context = input.node_context(None);
    let options = PerFamily::from_fn(|_| LowerOptions {
        masquerade_mark: 1 << input.config.masquerade_bit,
        random_fully: !args.target.no_random_fully,
        nfacct: !args.target.no_nfacct,
        tcp_be_liberal: input.config.conntrack.tcp_be_liberal,
    });
    let wanted = pipeline::wanted(&input.loaded.cluster, &context, &input.families, &options);
    check_program(&wanted)?;
    for family in &input.families {
        let Some(ruleset) = wanted.program.xtables.get(*family) else { continue };
        let header = header(*family, &input, &wanted);
        match &args.output_dir {
            Some(dir) => {
                let mut text = Vec::new();
                emit::write_document(&mut text, ruleset, &header);
                let name = match family {
                    IpFamily::V4 => "iptables.rules",
                    IpFamily::V6 => "ip6tables.rules",
                };
                host.write_file(&format!("{}/{name}", dir.trim_end_matches('/')), &text)?;
            }
            None => emit::write_document_to(console.out, ruleset, &header)?,
        }
    }
    console.out.flush()?;
    Ok(if input.has_errors() { Outcome::BadInput } else { Outcome::Done })
}

/// A program of ours that is not well formed is our fault, whatever the manifests say.
fn check_program(wanted: &Wanted) -> Result<(), Error> {
    for family in IpFamily::ALL {
        let Some(ruleset) = wanted.program.xtables.get(family) else { continue };
        if let Some(problem) = check::check(ruleset).first() {
            return Err(Error::internal(format!("the compiled {family} rules are not well formed: {problem}")));
        }
    }
    Ok(())
}

/// The head comment: what made the document, for which node, from what, and what it needs.
fn header(family: IpFamily, input: &Input, wanted: &Wanted) -> String {
    let tool = match family {
        IpFamily::V4 => "iptables-restore",
        IpFamily::V6 => "ip6tables-restore",
    };
    const SHOWN: usize = 8;
    let mut from: Vec<String> = input.sources.iter().take(SHOWN).map(|source| one_line(&source.name)).collect();
    if input.sources.len() > SHOWN {
        from.push(format!("{} more", input.sources.len() - SHOWN));
    }
    let n_ports = wanted.views.get(family).as_ref().map_or(0, |view| view.ports.len());
    let mut lines = vec![
        format!("For {tool}: the {family} rules of node {}", input.node.name),
        format!("Made by svcproxy {} in iptables mode, as kube-proxy 1.36 would", env!("CARGO_PKG_VERSION")),
        format!("From {}: {n_ports} Service ports with an {family} address", from.join(", ")),
    ];
    if !wanted.program.nfacct.is_empty() {
        let objects: Vec<&str> = wanted.program.nfacct.iter().map(String::as_str).collect();
        lines.push(format!("Needs the nfacct objects {} (or compile with --no-nfacct)", objects.join(" and ")));
    }
    if family == IpFamily::V4 {
        for (key, value) in &wanted.program.sysctls {
            lines.push(format!("Needs sysctl {}={value}", key.replace('/', ".")));
        }
    }
    for service in input.loaded.cluster.services.values().filter(|service| service.placeholders.any()) {
        let what = match (service.placeholders.cluster_ips, service.placeholders.node_ports) {
            (true, true) => "cluster IPs and node ports",
            (true, false) => "cluster IPs",
            (false, _) => "node ports",
        };
        lines.push(format!("Placeholder: the {what} of {}", service.name));
    }
    lines.into_iter().map(|line| format!("# {line}\n")).collect()
}
