//! What several commands begin with: the options that name manifests, node and configuration, and reading them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::diagnostic::{Diagnostic, Severity, Source, SourceId};
use crate::host::Host;
use crate::manifest::{self, LoadOptions, Loaded, PlaceholderRanges};
use crate::model::{Config, DetectLocal, Mode, Node, NodePortAddresses};
use crate::net::{IpCidr, IpFamily, PerFamily};
use crate::report;
use crate::resolve::{self, NodeContext};

use super::{Console, Error};

/// `--family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FamilyArg {
    /// IPv4 alone
    Ipv4,
    /// IPv6 alone
    Ipv6,
}

impl FamilyArg {
    /// The families that are asked for: both, if nothing is said.
    pub fn families(asked: Option<FamilyArg>) -> BTreeSet<IpFamily> {
        match asked {
            Some(FamilyArg::Ipv4) => BTreeSet::from([IpFamily::V4]),
            Some(FamilyArg::Ipv6) => BTreeSet::from([IpFamily::V6]),
            None => BTreeSet::from(IpFamily::ALL),
        }
    }
}

/// `--mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// iptables and ip6tables
    Iptables,
}

/// `--detect-local-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DetectLocalArg {
    /// Source address in --cluster-cidr
    #[value(name = "ClusterCIDR")]
    ClusterCidr,
    /// Source address in the Node's spec.podCIDRs
    #[value(name = "NodeCIDR")]
    NodeCidr,
    /// Came in by --pod-bridge-interface
    #[value(name = "BridgeInterface")]
    BridgeInterface,
    /// Came in by an interface that begins with --pod-interface-name-prefix
    #[value(name = "InterfaceNamePrefix")]
    InterfaceNamePrefix,
}

fn cidr(text: &str) -> Result<IpCidr, String> {
    IpCidr::parse_sloppy(text).ok_or_else(|| "not a CIDR like 10.96.0.0/12 or fd00::/64".to_owned())
}

fn port_range(text: &str) -> Result<std::ops::RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').ok_or("not a range like 30000-32767")?;
    let port = |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is no port"));
    let (first, last) = (port(first)?, port(last)?);
    if first == 0 || first > last { Err("the range is empty".to_owned()) } else { Ok(first..=last) }
}

/// Manifests, node and configuration.
#[derive(Debug, Clone, Args)]
pub struct InputArgs {
    /// Manifests: a file, a folder (.yaml, .yml and .json below it), or `-` for standard input
    ///
    /// YAML with one or many documents, JSON, and lists as `kubectl get -o yaml|json` prints them. Services,
    /// EndpointSlices, Endpoints and Nodes are read; other kinds are skipped. May be given several times.
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    pub filenames: Vec<String>,

    /// What kubectl printed from the cluster, to lay the manifests over
    ///
    /// Manifests as they are kept in git have no cluster IP, no node port and no EndpointSlices. With a snapshot they are
    /// taken as `kubectl apply` would: what a manifest does not say stays as the snapshot has it, and a change of an
    /// immutable field is an error. May be given several times.
    #[arg(long, value_name = "PATH")]
    pub snapshot: Vec<String>,

    /// Namespace of manifests that name none
    #[arg(short = 'n', long, value_name = "NAME", default_value = "default")]
    pub namespace: String,

    /// The node whose rules are wanted [default: hostnameOverride of --config, else this host's name]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,

    /// KubeProxyConfiguration (YAML or JSON); options given here win over it
    #[arg(long, value_name = "PATH")]
    pub config: Option<String>,

    /// How the rules are made [default: `mode` of --config, else iptables]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<ModeArg>,

    /// One IP family alone [default: both]
    #[arg(long, value_name = "FAMILY")]
    pub family: Option<FamilyArg>,

    /// Treat warnings as errors
    #[arg(long)]
    pub strict: bool,

    /// Do not let broken objects count: go on, and end as if they were not there
    #[arg(long)]
    pub keep_going: bool,

    #[command(flatten)]
    pub node_options: NodeArgs,
}

/// What the Node object, the configuration or the API server would say.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Node and configuration")]
pub struct NodeArgs {
    /// The node's address, instead of the Node object's; once for each family
    #[arg(long, value_name = "ADDRESS")]
    pub node_ip: Vec<IpAddr>,

    /// The node's zone, instead of the Node object's
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,

    /// The node's pod network, instead of the Node object's; once for each family
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    pub pod_cidr: Vec<IpCidr>,

    /// Where placeholder addresses of new Services come from; once for each family
    ///
    /// A Service that is in no snapshot and has no cluster IP gets a placeholder address from here, the same one each time.
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    pub service_cidr: Vec<IpCidr>,

    /// Where placeholder node ports of new Services come from
    #[arg(long, value_name = "FIRST-LAST", value_parser = port_range, default_value = "30000-32767")]
    pub node_port_range: std::ops::RangeInclusive<u16>,

    /// Pod networks of the cluster, comma-separated (clusterCIDR)
    #[arg(long, value_name = "CIDR", value_parser = cidr, value_delimiter = ',')]
    pub cluster_cidr: Vec<IpCidr>,

    /// How traffic of pods is told from other traffic (detectLocalMode)
    #[arg(long, value_name = "MODE")]
    pub detect_local_mode: Option<DetectLocalArg>,

    /// The bridge of pods (detectLocal.bridgeInterface)
    #[arg(long, value_name = "NAME")]
    pub pod_bridge_interface: Option<String>,

    /// How interfaces of pods begin (detectLocal.interfaceNamePrefix)
    #[arg(long, value_name = "PREFIX")]
    pub pod_interface_name_prefix: Option<String>,

    /// Networks whose local addresses answer node ports, comma-separated, or `primary` (nodePortAddresses)
    #[arg(long, value_name = "CIDR|primary", value_delimiter = ',')]
    pub nodeport_addresses: Vec<String>,

    /// Rewrite the source of all traffic to cluster IPs (iptables.masqueradeAll)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub masquerade_all: Option<bool>,

    /// Which bit of the mark asks for source NAT (iptables.masqueradeBit)
    #[arg(long, value_name = "BIT", value_parser = clap::value_parser!(u8).range(0..=31))]
    pub iptables_masquerade_bit: Option<u8>,

    /// Whether node ports answer on 127.0.0.1 (iptables.localhostNodePorts)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub iptables_localhost_nodeports: Option<bool>,
}

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
        writeln!(console.err, "{severity}: {errors}: what is broken is left out, the result is that of the rest")?;
        Ok(())
    }

    /// What decisions depend on. `local_addresses`: those of the interfaces, if this is the node; else the Node's are taken.
    pub(super) fn node_context(&self, local_addresses: Option<&[IpAddr]>) -> NodeContext {
        NodeContext::new(&self.config, &self.node, local_addresses.unwrap_or(&self.node.addresses))
    }
}

/// Reads everything that the options name, and says what is wrong with it on standard error.
pub(super) fn read(args: &InputArgs, host: &mut dyn Host, console: &mut Console<'_>) -> Result<Input, Error> {
    read_stdin_once(args.filenames.iter().chain(&args.snapshot).chain(&args.config))?;
    read_instead(args, &args.filenames, host, console)
}

/// A second reader of standard input would find nothing.
pub(super) fn read_stdin_once<'a>(paths: impl Iterator<Item = &'a String>) -> Result<(), Error> {
    if paths.filter(|path| *path == "-").count() > 1 {
        return Err(Error::usage("standard input (`-`) can be read once only").hint("put the others into files"));
    }
    Ok(())
}

/// As [`read`], with other manifests in the place of `-f`.
pub(super) fn read_instead(
    args: &InputArgs,
    filenames: &[String],
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<Input, Error> {
    let (mut manifests, mut diagnostics) = read_sources(filenames, host)?;
    let (snapshot, of_snapshot) = read_sources(&args.snapshot, host)?;
    diagnostics.extend(of_snapshot);
    let options = LoadOptions {
        namespace: args.namespace.clone(),
        placeholders: placeholders(args),
        strict: args.strict,
    };
    let mut loaded = if args.snapshot.is_empty() {
        manifest::load(&manifests, &options)
    } else {
        manifest::load_over(&manifests, &snapshot, &options)
    };
    diagnostics.append(&mut loaded.diagnostics);
    manifests.extend(snapshot);
    let mut sources = manifests;
    let config = read_config(args, host, &mut sources, &mut diagnostics);
    let config_and_node = config.and_then(|config| {
        let node = node(args, &config, &loaded, &host.host_name(), &mut diagnostics)?;
        Ok((config, node))
    });
    if loaded.cluster.services.is_empty() && diagnostics.iter().all(|one| one.severity != Severity::Error) {
        diagnostics.push(no_services(&loaded));
    }
    if args.strict {
        for diagnostic in &mut diagnostics {
            if diagnostic.severity == Severity::Warning {
                diagnostic.severity = Severity::Error;
            }
        }
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

/// Input without Services is no error, but it takes every Service rule from a node.
fn no_services(loaded: &Loaded) -> Diagnostic {
    let kinds: Vec<String> = loaded.skipped.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    let skipped =
        if kinds.is_empty() { String::new() } else { format!("; skipped as of other kinds: {}", kinds.join(", ")) };
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

fn placeholders(args: &InputArgs) -> Option<PlaceholderRanges> {
    let given = &args.node_options.service_cidr;
    if given.is_empty() && args.snapshot.is_empty() {
        return None;
    }
    let of_family = |family| given.iter().copied().find(|cidr| cidr.family() == family);
    let mut service_cidrs = PerFamily::from_fn(of_family);
    if given.is_empty() {
        // What kubeadm and most documentation use.
        service_cidrs = PerFamily {
            v4: IpCidr::parse_sloppy("10.96.0.0/12"),
            v6: IpCidr::parse_sloppy("fd00:10:96::/112"),
        };
    }
    Some(PlaceholderRanges { service_cidrs, node_ports: args.node_options.node_port_range.clone() })
}

fn read_config(
    args: &InputArgs,
    host: &mut dyn Host,
    sources: &mut Vec<Source>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Config, Error> {
    let mut config = Config::default();
    // A configuration that is wrong changes every rule: nothing goes on without it.
    let unusable = || Error::input("the configuration cannot be used");
    if let Some(path) = &args.config {
        let mut texts = host.read_path(path)?;
        let Some((name, bytes)) = texts.pop().filter(|_| texts.is_empty()) else {
            return Err(Error::usage(format!("--config `{path}` is a folder, not a file")));
        };
        let id = SourceId(u32::try_from(sources.len()).unwrap_or(u32::MAX));
        match manifest::decode_text(&name, bytes) {
            Ok(source) => {
                let (read, said) = manifest::load_config(&source, id);
                sources.push(source);
                let failed = said.iter().any(|one| one.severity == Severity::Error);
                diagnostics.extend(said);
                config = read.filter(|_| !failed).ok_or_else(unusable)?;
            }
            Err(diagnostic) => {
                diagnostics.push(diagnostic);
                return Err(unusable());
            }
        }
    }
    lay_options_over(&args.node_options, &mut config)?;
    if let Some(ModeArg::Iptables) = args.mode {
        config.mode = Mode::Iptables;
    }
    if config.mode != Mode::Iptables {
        return Err(Error::usage(format!("mode `{}` is not supported yet", config.mode.name()))
            .hint("`--mode iptables` overrules the configuration"));
    }
    Ok(config)
}

fn lay_options_over(args: &NodeArgs, config: &mut Config) -> Result<(), Error> {
    if !args.cluster_cidr.is_empty() {
        let of_family = |family| args.cluster_cidr.iter().copied().find(|cidr| cidr.family() == family);
        config.cluster_cidrs = PerFamily::from_fn(of_family);
    }
    let bridge = args.pod_bridge_interface.clone();
    let prefix = args.pod_interface_name_prefix.clone();
    match args.detect_local_mode {
        None => {}
        Some(DetectLocalArg::ClusterCidr) => config.detect_local = DetectLocal::ClusterCidr,
        Some(DetectLocalArg::NodeCidr) => config.detect_local = DetectLocal::NodeCidr,
        Some(DetectLocalArg::BridgeInterface) => {
            let name = bridge.ok_or_else(|| {
                Error::usage("--detect-local-mode BridgeInterface needs --pod-bridge-interface")
            })?;
            config.detect_local = DetectLocal::BridgeInterface(interface_name(name, "--pod-bridge-interface")?);
        }
        Some(DetectLocalArg::InterfaceNamePrefix) => {
            let name = prefix.ok_or_else(|| {
                Error::usage("--detect-local-mode InterfaceNamePrefix needs --pod-interface-name-prefix")
            })?;
            let name = interface_name(name, "--pod-interface-name-prefix")?;
            config.detect_local = DetectLocal::InterfaceNamePrefix(name);
        }
    }
    match args.nodeport_addresses.as_slice() {
        [] => {}
        [one] if one == "primary" => config.node_port_addresses = NodePortAddresses::Primary,
        given => {
            let cidrs: Result<Vec<IpCidr>, Error> = given
                .iter()
                .map(|text| {
                    cidr(text).map_err(|why| Error::usage(format!("--nodeport-addresses `{text}`: {why}")))
                })
                .collect();
            config.node_port_addresses = NodePortAddresses::Cidrs(cidrs?);
        }
    }
    config.masquerade_all = args.masquerade_all.unwrap_or(config.masquerade_all);
    config.masquerade_bit = args.iptables_masquerade_bit.unwrap_or(config.masquerade_bit);
    config.localhost_node_ports = args.iptables_localhost_nodeports.unwrap_or(config.localhost_node_ports);
    Ok(())
}

/// An interface name, or the beginning of one: at most 15 bytes, nothing that a rule file could not carry.
fn interface_name(name: String, option: &str) -> Result<String, Error> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '"' | '\'' | '\\' | '!' | '+');
    if name.is_empty() || name.len() > 15 || name.contains(bad) {
        return Err(Error::usage(format!("{option} `{}` is no interface name", name.escape_default())));
    }
    Ok(name)
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
            return Err(Error::input(format!("node `{}` is not in the input", name.escape_default())).hint(hint));
        }
        let message = format!("this host, `{name}`, is not a Node of the input: no endpoint counts as local");
        diagnostics.push(Diagnostic::warning("unknown-node", message).hint(format!("give --node; {hint}")));
    }
    let mut node = known.unwrap_or_else(|| Node {
        name: name.clone(),
        zone: None,
        addresses: Vec::new(),
        pod_cidrs: Vec::new(),
    });
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
    if config.detect_local == DetectLocal::NodeCidr && node.pod_cidrs.is_empty() {
        let message = format!("node `{name}` has no pod CIDRs: traffic of pods cannot be told from other traffic");
        diagnostics.push(Diagnostic::warning("no-pod-cidr", message).hint("give --pod-cidr"));
    }
    Ok(node)
}
