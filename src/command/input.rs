//! What several commands begin with: reading what the options name, understanding it, saying what is wrong with it.
//!
//! The three are apart so that a machine's rules can be read while its manifests are understood.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::backend::iptables::LowerOptions;
use crate::backend::userspace;
use crate::diagnostic::{Diagnostic, Severity, Source, SourceId};
use crate::host::Host;
use crate::manifest::{self, LoadOptions, Loaded};
use crate::model::{Cluster, Config, DetectLocal, Mode, Node};
use crate::net::{IpFamily, PerFamily, Protocol};
use crate::pipeline::{Lowering, Wanted};
use crate::report;
use crate::resolve::{self, NodeContext};

use super::options::{FamilyArg, InputArgs, ModeArg, TargetArgs, lay_options_over, placeholders};
use super::{Console, Error, progress};

/// Everything that was read, checked.
pub(super) struct Input {
    /// The texts, for messages.
    pub(super) sources: Vec<Source>,
    /// The cluster and what was said of it.
    pub(super) loaded: Loaded,
    /// The configuration, options laid over it.
    pub(super) config: Config,
    /// The Node, options laid over it.
    pub(super) node: Node,
    /// Families asked for.
    pub(super) families: BTreeSet<IpFamily>,
    /// How much of the input is broken and left out.
    n_errors: usize,
    /// Whether that is fine.
    keep_going: bool,
}

impl Input {
    /// Whether broken objects were left out, and nobody said that this is fine.
    pub(super) fn has_errors(&self) -> bool {
        self.n_errors > 0 && !self.keep_going
    }

    /// Says that the result is that of a part of the input.
    pub(super) fn say_left_out(&self, console: &mut Console<'_>) -> Result<(), Error> {
        let errors = match self.n_errors {
            0 => return Ok(()),
            1 => "1 error".to_owned(),
            n => format!("{n} errors"),
        };
        let severity = if self.keep_going { "warning" } else { "error" };
        writeln!(
            console.err,
            "{severity}: {errors}: what is broken is left out, the result is that of the rest"
        )?;
        Ok(())
    }

    /// Takes what the cluster now says of the node, which may know it only now. A Node that is gone is as it was last.
    pub(super) fn renew_node(&mut self, args: &InputArgs) {
        if let Some(known) = self.loaded.cluster.nodes.get(&self.node.name) {
            self.node = known.clone();
            lay_over_node(args, &mut self.node);
        }
    }

    /// How decisions become rules for a machine that nobody can ask.
    pub(super) fn offline_lowering(&self, args: &InputArgs, target: TargetArgs) -> Result<Lowering, Error> {
        Ok(match self.config.mode {
            Mode::Ipvs => {
                let addresses = self.node.addresses.iter().copied().collect();
                return InputArgs::ipvs_lowering(&self.config, !target.no_random_fully, addresses, None);
            }
            Mode::Userspace => {
                let host = known_addresses(&self.node_context(None), None);
                Lowering::Userspace(args.userspace_options(&self.config, host))
            }
            Mode::Nftables => Lowering::Nftables(args.nftables_options(
                &self.config,
                &self.loaded.cluster,
                !target.no_object_comments,
            )),
            Mode::Iptables => Lowering::Iptables(PerFamily::from_fn(|_| LowerOptions {
                masquerade_mark: 1 << self.config.masquerade_bit,
                random_fully: !target.no_random_fully,
                nfacct: !target.no_nfacct,
                tcp_be_liberal: self.config.conntrack.tcp_be_liberal,
                layout: args.layout.layout(),
            })),
        })
    }

    /// Whether anything says where cluster IPs of a family come from.
    pub(super) fn knows_service_cidrs(&self, args: &InputArgs, family: IpFamily) -> bool {
        let given = args.node_options.service_cidr.iter().chain(&self.loaded.cluster.service_cidrs);
        given.into_iter().any(|cidr| cidr.family() == family)
    }

    /// Userspace mode needs a proxy port for each Service port, and more for some.
    pub(super) fn refuse_small_port_range(&self, wanted: &Wanted) -> Result<(), Error> {
        let Some(first) = wanted.without_proxy_port.first() else { return Ok(()) };
        let more = match wanted.without_proxy_port.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let range = self.config.userspace.port_range.clone().unwrap_or(userspace::DEFAULT_RANGE);
        let message = format!(
            "the proxy ports {}-{} are too few: none is left for {first}{more}",
            range.start(),
            range.end()
        );
        Err(Error::usage(message).hint("give a larger --proxy-port-range"))
    }

    /// What decisions depend on. `local_addresses`: those of the interfaces, if this is the node; else the Node's are taken.
    pub(super) fn node_context(&self, local_addresses: Option<&[IpAddr]>) -> NodeContext {
        NodeContext::new(&self.config, &self.node, local_addresses.unwrap_or(&self.node.addresses))
    }
}

/// Whether notes are of interest: what need not be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notes {
    /// They are.
    Shown,
    /// Only with `-v`.
    Hidden,
}

/// A second reader of standard input would find nothing.
pub(super) fn read_stdin_once<'a>(paths: impl Iterator<Item = &'a String>) -> Result<(), Error> {
    if paths.filter(|path| *path == "-").count() > 1 {
        return Err(
            Error::usage("standard input (`-`) can be read once only").hint("put the others into files")
        );
    }
    Ok(())
}

/// The texts that the options name.
#[derive(Clone, PartialEq)]
pub(super) struct Texts {
    manifests: Vec<Source>,
    snapshot: Vec<Source>,
    config: Option<Source>,
    /// What is wrong with texts that are none.
    diagnostics: Vec<Diagnostic>,
    host_name: String,
}

/// Reads the texts, `filenames` as manifests.
pub(super) fn gather(args: &InputArgs, filenames: &[String], host: &mut dyn Host) -> Result<Texts, Error> {
    let (manifests, mut diagnostics) = read_sources(filenames, host)?;
    let (snapshot, of_snapshot) = read_sources(&args.snapshot, host)?;
    diagnostics.extend(of_snapshot);
    let mut config = None;
    if let Some(path) = &args.config {
        let mut texts = host.read_path(path)?;
        let Some((name, bytes)) = texts.pop().filter(|_| texts.is_empty()) else {
            return Err(Error::usage(format!("--config `{path}` is a folder, not a file")));
        };
        match manifest::decode_text(&name, bytes) {
            Ok(source) => config = Some(source),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    Ok(Texts { manifests, snapshot, config, diagnostics, host_name: host.host_name() })
}

/// What the texts mean, and all that is to be said of them.
pub(super) struct Understood {
    sources: Vec<Source>,
    loaded: Loaded,
    diagnostics: Vec<Diagnostic>,
    config_and_node: Result<(Config, Node), Error>,
}

impl Understood {
    /// Says nothing of one code.
    pub(super) fn forget(&mut self, code: &str) {
        self.diagnostics.retain(|diagnostic| diagnostic.code != code);
    }

    /// The cluster, and what decisions about it depend on, if the texts tell.
    pub(super) fn cluster(&self) -> Option<(&Cluster, &Config, &Node)> {
        let (config, node) = self.config_and_node.as_ref().ok()?;
        Some((&self.loaded.cluster, config, node))
    }
}

/// Understands the texts. Asks nobody, and never fails: what is wrong is in the result.
pub(super) fn understand(args: &InputArgs, texts: Texts) -> Understood {
    let options = LoadOptions {
        namespace: args.namespace.clone(),
        placeholders: placeholders(args),
        strict: args.strict,
    };
    let Texts { manifests, snapshot, config, mut diagnostics, host_name } = texts;
    let mut loaded = if args.snapshot.is_empty() {
        manifest::load(&manifests, &options)
    } else {
        manifest::load_over(&manifests, &snapshot, &options)
    };
    diagnostics.append(&mut loaded.diagnostics);
    let mut sources = manifests;
    sources.extend(snapshot);
    let config = understand_config(args, config, &mut sources, &mut diagnostics);
    let config_and_node = config.and_then(|config| {
        let node = node(args, &config, &loaded, &host_name, &mut diagnostics)?;
        Ok((config, node))
    });
    let config_and_node = config_and_node.and_then(|(config, node)| {
        if config.mode == Mode::Userspace {
            diagnostics.extend(unfit_for_userspace(&config, &loaded)?);
        }
        Ok((config, node))
    });
    if loaded.cluster.services.is_empty() && diagnostics.iter().all(|one| one.severity != Severity::Error) {
        diagnostics.push(no_services(&loaded));
    }
    if args.strict {
        for diagnostic in diagnostics.iter_mut().filter(|one| one.severity == Severity::Warning) {
            diagnostic.severity = Severity::Error;
        }
    }
    Understood { sources, loaded, diagnostics, config_and_node }
}

/// Says what is wrong, on standard error; an error if there is nothing to go on with.
pub(super) fn say(
    args: &InputArgs,
    understood: Understood,
    notes: Notes,
    console: &mut Console<'_>,
) -> Result<Input, Error> {
    let Understood { sources, mut loaded, mut diagnostics, config_and_node } = understood;
    if notes == Notes::Hidden && !tracing::enabled!(tracing::Level::INFO) {
        diagnostics.retain(|diagnostic| diagnostic.severity > Severity::Note);
    }
    report::diagnostic::write(console.err, &diagnostics, &sources, console.color_err)?;
    // What is wrong with the manifests may be why there is no such node.
    let (config, node) = config_and_node?;
    let Loaded { cluster, n_objects, .. } = &loaded;
    tracing::info!(
        "read {n_objects} objects from {} texts: {} Services with rules, {} Nodes; the node is {}",
        sources.len(),
        cluster.services.len(),
        cluster.nodes.len(),
        node.name,
    );
    let skipped: usize = loaded.skipped.values().sum();
    if skipped > 0 {
        let kinds: Vec<String> = loaded.skipped.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        tracing::info!("skipped {skipped} objects of other kinds: {}", kinds.join(", "));
    }
    let n_errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    let is_nothing = loaded.cluster.services.is_empty() && (loaded.n_objects == 0 || !args.keep_going);
    if n_errors > 0 && is_nothing {
        // Rules without any Service would pass for an answer.
        return Err(Error::input("no valid Service in the input"));
    }
    loaded.diagnostics = diagnostics;
    let (families, keep_going) = (FamilyArg::families(args.family), args.keep_going);
    Ok(Input { sources, loaded, config, node, families, n_errors, keep_going })
}

/// All three, one after the other.
pub(super) fn read(
    args: &InputArgs,
    filenames: &[String],
    notes: Notes,
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<Input, Error> {
    let texts = gather(args, filenames, host)?;
    let spinner = progress::spinner(console, "reading manifests");
    let understood = understand(args, texts);
    spinner.finish_and_clear();
    say(args, understood, notes, console)
}

/// Input without Services is no error, but it takes every Service rule from a node.
fn no_services(loaded: &Loaded) -> Diagnostic {
    let kinds: Vec<String> = loaded.skipped.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    let skipped = if kinds.is_empty() {
        String::new()
    } else {
        format!("; skipped as of other kinds: {}", kinds.join(", "))
    };
    Diagnostic::warning("no-services", format!("the input has no Service that gets rules{skipped}"))
        .hint("is it all that you meant? `kubectl get svc,endpointslices,nodes -A -o json` prints it")
}

fn read_sources(paths: &[String], host: &mut dyn Host) -> Result<(Vec<Source>, Vec<Diagnostic>), Error> {
    let (mut sources, mut diagnostics) = (Vec::new(), Vec::new());
    for path in paths {
        for (name, bytes) in host.read_path(path)? {
            match manifest::decode_text(&name, bytes) {
                Ok(source) => sources.push(source),
                Err(diagnostic) => diagnostics.push(diagnostic),
            }
        }
    }
    Ok((sources, diagnostics))
}

/// A configuration that is wrong changes every rule: nothing goes on without it.
fn understand_config(
    args: &InputArgs,
    source: Option<Source>,
    sources: &mut Vec<Source>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Config, Error> {
    let asked = args.mode.map(ModeArg::mode);
    let mut config = Config { mode: asked.unwrap_or(Mode::Iptables), ..Config::default() };
    if args.config.is_some() {
        let unusable = || Error::input("the configuration cannot be used");
        let source = source.ok_or_else(unusable)?;
        let id = SourceId(u32::try_from(sources.len()).unwrap_or(u32::MAX));
        let (read, said) = manifest::load_config(&source, id, asked);
        sources.push(source);
        let failed = said.iter().any(|one| one.severity == Severity::Error);
        diagnostics.extend(said);
        config = read.filter(|_| !failed).ok_or_else(unusable)?;
    }
    lay_options_over(&args.node_options, &mut config)?;
    args.layout.check(config.mode)?;
    Ok(config)
}

/// The addresses of a node that it has, loopback being none; with those of a machine, no others.
pub(super) fn known_addresses(
    context: &NodeContext,
    machine: Option<&[IpAddr]>,
) -> PerFamily<Option<IpAddr>> {
    let is_there = |addr: &IpAddr| machine.is_none_or(|its| its.contains(addr));
    PerFamily::from_fn(|family| {
        Some(*context.node_ips.get(family)).filter(|addr| !addr.is_loopback() && is_there(addr))
    })
}

/// What userspace mode cannot do.
fn unfit_for_userspace(config: &Config, loaded: &Loaded) -> Result<Option<Diagnostic>, Error> {
    if let Some(addr) = config.bind_address.filter(IpAddr::is_loopback) {
        return Err(Error::usage(format!(
            "userspace mode cannot listen on loopback address {addr} (bindAddress)"
        ))
        .hint("no packet from elsewhere gets there; leave bindAddress out"));
    }
    let services = loaded.cluster.services.values();
    let sctp = services.flat_map(|service| service.ports.iter().map(|port| service.port_name(port)));
    let sctp: Vec<String> =
        sctp.filter(|name| name.protocol == Protocol::Sctp).map(|name| name.to_string()).collect();
    let Some(first) = sctp.first() else { return Ok(None) };
    let more = if sctp.len() > 1 { format!(" and {} more", sctp.len() - 1) } else { String::new() };
    let message = format!("userspace mode cannot carry SCTP: {first}{more} gets no rules");
    Ok(Some(Diagnostic::warning("no-sctp", message)))
}

/// Lets options win over the Node object.
fn lay_over_node(args: &InputArgs, node: &mut Node) {
    let given = &args.node_options;
    if !given.node_ip.is_empty() {
        node.addresses = given.node_ip.clone();
    }
    if let Some(zone) = &given.zone {
        node.zone = Some(zone.as_str().into());
    }
    if !given.pod_cidr.is_empty() {
        node.pod_cidrs = given.pod_cidr.clone();
    }
}

/// The Node that rules are made for.
fn node(
    args: &InputArgs,
    config: &Config,
    loaded: &Loaded,
    host_name: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Node, Error> {
    let Some(name) = resolve::node_name(args.node.as_deref(), config, host_name) else {
        return Err(Error::usage("no node name: give --node"));
    };
    // It stands in the head of the rules.
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')) {
        return Err(Error::usage(format!("`{}` is no node name", name.escape_default())).hint("give --node"));
    }
    let nodes = &loaded.cluster.nodes;
    let known = nodes.get(&name).cloned();
    if known.is_none() && !nodes.is_empty() {
        let names: Vec<&str> = nodes.keys().map(Arc::as_ref).take(10).collect();
        let hint = format!("the input has {}{}", names.join(", "), if nodes.len() > 10 { ", …" } else { "" });
        if args.node.is_some() || config.hostname_override.is_some() {
            return Err(
                Error::input(format!("node `{}` is not in the input", name.escape_default())).hint(hint)
            );
        }
        let message = format!("this host, `{name}`, is not a Node of the input: no endpoint counts as local");
        diagnostics.push(Diagnostic::warning("unknown-node", message).hint(format!("give --node; {hint}")));
    }
    let mut node = known.unwrap_or_else(|| Node {
        name: name.clone(),
        zone: None,
        addresses: Vec::new(),
        pod_cidrs: Vec::new(),
        is_leaving: false,
    });
    lay_over_node(args, &mut node);
    if config.detect_local == DetectLocal::NodeCidr && node.pod_cidrs.is_empty() {
        let message =
            format!("node `{name}` has no pod CIDRs: traffic of pods cannot be told from other traffic");
        diagnostics.push(Diagnostic::warning("no-pod-cidr", message).hint("give --pod-cidr"));
    }
    Ok(node)
}
