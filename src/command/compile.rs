//! `svcproxy compile`: manifests in, the rules of one node out.

use clap::Args;

use crate::host::Host;
use crate::model::{Mode, Service};
use crate::net::IpFamily;
use crate::pipeline::{self, Wanted};
use crate::program::xtables::emit;
use crate::program::{ipset, ipvs, listener, nft};
use crate::report::{self, one_line};

use super::dump::LISTENERS_FILE;
use super::input::{self, Input, Notes};
use super::options::{InputArgs, LayoutArg, OutputArg, TargetArgs};
use super::{Console, Error, Outcome};

/// Print the rules that a node would get; changes nothing, needs no root
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct CompileArgs {
    /// Manifests, node and configuration.
    #[command(flatten)]
    pub input: InputArgs,

    /// Write files for the tools into this folder instead
    ///
    /// iptables.rules and ip6tables.rules for iptables-restore; in nftables mode ip.nft and ip6.nft for `nft -f`; in IPVS mode
    /// ipset.rules for `ipset restore`, ipvs.rules for `ipvsadm -R`, addresses.batch for `ip -batch` and sysctl.conf for
    /// `sysctl -p` as well; in userspace mode `listeners`, which says what `svcproxy run` does.
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<String>,

    /// How to print it; `json` is of IPVS mode: the operations as netlink carries them
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text", conflicts_with = "output_dir")]
    pub output: OutputArg,

    /// What the machine that loads the rules can do.
    #[command(flatten)]
    pub target: TargetArgs,
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
    input::read_stdin_once(args.input.paths())?;
    let input = input::read(&args.input, &args.input.filenames, Notes::Shown, host, console)?;
    input.say_left_out(console)?;
    let context = input.node_context(None);
    let lowering = input.offline_lowering(&args.input, args.target)?;
    let wanted = pipeline::wanted(&input.loaded.cluster, &context, &input.families, &lowering);
    input.refuse_small_port_range(&wanted)?;
    // Well-formedness is a promise that tests keep; asking once more costs nothing beside the writing.
    let (checked, written) = std::thread::scope(|scope| {
        let checked = scope.spawn(|| pipeline::check(&wanted.program));
        let written = write_documents(args, &input, &wanted, host, console);
        (checked.join(), written)
    });
    written?;
    checked.map_err(|_| Error::internal("the check stopped"))?.map_err(Error::internal)?;
    let outcome = if input.has_errors() { Outcome::BadInput } else { Outcome::Done };
    // The process ends here: taking half a million rules apart first would only cost time.
    std::mem::forget((input, wanted));
    Ok(outcome)
}

fn write_documents(
    args: &CompileArgs,
    input: &Input,
    wanted: &Wanted,
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<(), Error> {
    if args.output == OutputArg::Json {
        if input.config.mode != Mode::Ipvs {
            return Err(Error::usage("-o json is of IPVS mode").hint(
                "in other modes the rules are text for their tools; `diff -o json` tells of Services",
            ));
        }
        report::ipvs::write_json(console.out, &input.node.name, &wanted.program)?;
        console.out.flush()?;
        return Ok(());
    }
    write_beside(args, input, wanted, host, console)?;
    for family in &input.families {
        if let Some(ruleset) = wanted.program.xtables.get(*family) {
            let (tool, name) = match family {
                IpFamily::V4 => ("iptables-restore", "iptables.rules"),
                IpFamily::V6 => ("ip6tables-restore", "ip6tables.rules"),
            };
            let header = header(*family, tool, &args.input, input, wanted);
            match &args.output_dir {
                Some(dir) => {
                    write_file(host, dir, name, |text| emit::write_document(text, ruleset, &header))?
                }
                None => emit::write_document_to(console.out, ruleset, &header)?,
            }
        }
        if let Some(table) = wanted.program.nft.get(*family).table() {
            let name = match family {
                IpFamily::V4 => "ip.nft",
                IpFamily::V6 => "ip6.nft",
            };
            let header = header(*family, "nft -f", &args.input, input, wanted);
            match &args.output_dir {
                Some(dir) => {
                    write_file(host, dir, name, |text| nft::emit::write_document(text, table, &header))?;
                }
                None => nft::emit::write_document_to(console.out, table, &header)?,
            }
        }
    }
    if let (Some(dir), Some(listeners)) = (&args.output_dir, &wanted.program.listeners) {
        let header = format!("What `svcproxy run` does on node {}", input.node.name);
        let text = listener::emit::document(listeners, &header);
        write_file(host, dir, LISTENERS_FILE, |out| out.extend_from_slice(text.as_bytes()))?;
    }
    console.out.flush()?;
    Ok(())
}

/// Documents of IPVS mode beside the rules, in the order in which they must be loaded, but for these.
fn write_beside(
    args: &CompileArgs,
    input: &Input,
    wanted: &Wanted,
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<(), Error> {
    let program = &wanted.program;
    let (Some(sets), Some(dummies)) = (&program.ipset, &program.dummies) else { return Ok(()) };
    let (mut settings, mut addresses, mut set_text, mut servers) = Default::default();
    report::ipvs::write_settings(&mut settings, &program.sysctls)?;
    report::ipvs::write_addresses(&mut addresses, dummies)?;
    ipset::emit::write_document(&mut set_text, sets, "");
    for family in [&program.ipvs.v4, &program.ipvs.v6].into_iter().flatten() {
        ipvs::emit::write_document(&mut servers, family, "");
    }
    let documents: [(&str, &str, Vec<u8>); 4] = [
        ("sysctl -p", "sysctl.conf", settings),
        ("ipset -exist restore", "ipset.rules", set_text),
        ("ipvsadm -R", "ipvs.rules", servers),
        ("ip -force -batch", "addresses.batch", addresses),
    ];
    for (tool, name, document) in documents {
        match &args.output_dir {
            // ipvsadm knows no comments.
            Some(dir) => write_file(host, dir, name, |text| text.extend_from_slice(&document))?,
            None => {
                writeln!(console.out, "# For {tool} ({name}): node {}", input.node.name)?;
                console.out.write_all(&document)?;
            }
        }
    }
    Ok(())
}

fn write_file(
    host: &mut dyn Host,
    dir: &str,
    name: &str,
    write: impl FnOnce(&mut Vec<u8>),
) -> Result<(), Error> {
    let mut text = Vec::new();
    write(&mut text);
    host.write_file(&format!("{}/{name}", dir.trim_end_matches('/')), &text)?;
    Ok(())
}

/// The head comment: what made the document, for which node, from what, and what it needs.
fn header(family: IpFamily, tool: &str, args: &InputArgs, input: &Input, wanted: &Wanted) -> String {
    const SHOWN: usize = 8;
    let mut from: Vec<String> =
        input.sources.iter().take(SHOWN).map(|source| one_line(&source.name)).collect();
    if input.sources.len() > SHOWN {
        from.push(format!("{} more", input.sources.len() - SHOWN));
    }
    let n_ports = wanted.views.get(family).as_ref().map_or(0, |view| view.ports.len());
    // The last that had the mode.
    let model = if input.config.mode == Mode::Userspace { "1.25" } else { "1.36" };
    let mut lines = vec![
        format!("For {tool}: the {family} rules of node {}", input.node.name),
        format!(
            "Made by svcproxy {} in {} mode, {}",
            env!("CARGO_PKG_VERSION"),
            input.config.mode.name(),
            match args.layout {
                LayoutArg::KubeProxy => format!("as kube-proxy {model} would"),
                LayoutArg::Fast => "layout fast".to_owned(),
            }
        ),
        format!("From {}: {n_ports} Service ports with an {family} address", from.join(", ")),
    ];
    if wanted.program.nft.get(family).table().is_some() && !input.knows_service_cidrs(args, family) {
        lines.push(
            "Addresses that no Service has are let through: no ServiceCIDR in the input, no --service-cidr"
                .to_owned(),
        );
    }
    if !wanted.program.nfacct.is_empty() {
        let objects: Vec<&str> = wanted.program.nfacct.iter().map(String::as_str).collect();
        lines.push(format!(
            "Needs the nfacct objects {} (or compile with --no-nfacct)",
            objects.join(" and ")
        ));
    }
    let listeners = wanted.program.listeners.iter().flatten().filter(|(key, _)| key.family() == family);
    for (key, listener) in listeners {
        let mut line = "Leads to ".to_owned();
        listener::emit::write_listener(&mut line, key, listener);
        lines.push(line);
    }
    if family == IpFamily::V4 {
        for (key, value) in &wanted.program.sysctls {
            lines.push(format!("Needs sysctl {}={value}", key.replace('/', ".")));
        }
    }
    let made_up = input.loaded.cluster.services.values().filter(|service| service.placeholders.any());
    lines.extend(made_up.map(|service| placeholders(service, family)));
    lines.into_iter().map(|line| format!("# {line}\n")).collect()
}

/// Which values of a Service are stand-ins.
fn placeholders(service: &Service, family: IpFamily) -> String {
    let mut values = Vec::new();
    if service.placeholders.cluster_ips {
        values.extend(service.cluster_ips.get(family).map(|addr| format!("cluster IP {addr}")));
    }
    if service.placeholders.node_ports {
        values.extend(
            service.ports.iter().filter_map(|port| port.node_port).map(|port| format!("node port {port}")),
        );
        let health_check =
            service.health_check_node_port.map(|port| format!("health check node port {port}"));
        values.extend(health_check);
    }
    format!("Placeholders of {}, for what the API server will choose: {}", service.name, values.join(", "))
}
