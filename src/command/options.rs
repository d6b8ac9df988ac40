//! Options that several commands have, and what they say over a configuration.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use clap::{Args, FromArgMatches, ValueEnum};

use crate::backend::{Layout, ipvs, nftables, userspace};
use crate::manifest::PlaceholderRanges;
use crate::model::{Cluster, Config, DetectLocal, Mode, NodePortAddresses};
use crate::net::{IpCidr, IpFamily, PerFamily, parse_port_range};
use crate::pipeline::Lowering;

use super::Error;

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
    /// nft
    Nftables,
    /// Virtual servers in the kernel, with ipset and iptables
    Ipvs,
    /// A process (`svcproxy run`) that iptables and ip6tables lead to
    Userspace,
}

impl ModeArg {
    /// The mode that is meant.
    pub fn mode(self) -> Mode {
        match self {
            ModeArg::Iptables => Mode::Iptables,
            ModeArg::Nftables => Mode::Nftables,
            ModeArg::Ipvs => Mode::Ipvs,
            ModeArg::Userspace => Mode::Userspace,
        }
    }
}

/// `--layout`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LayoutArg {
    /// Rule for rule what kube-proxy makes
    #[default]
    KubeProxy,
    /// The same to every packet with far fewer kernel objects
    Fast,
}

impl LayoutArg {
    /// The layout that is meant.
    pub fn layout(self) -> Layout {
        match self {
            LayoutArg::KubeProxy => Layout::KubeProxy,
            LayoutArg::Fast => Layout::Fast,
        }
    }

    /// Nothing, if a mode has this layout.
    pub(super) fn check(self, mode: Mode) -> Result<(), Error> {
        if self == LayoutArg::Fast && !matches!(mode, Mode::Iptables | Mode::Nftables) {
            let said = format!("--layout fast: {} mode has no such layout", mode.name());
            return Err(Error::usage(said)
                .hint("iptables mode and nftables mode have: --mode nftables --layout fast"));
        }
        Ok(())
    }
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
    for end in [first, last] {
        end.parse::<u16>().map_err(|_| format!("`{end}` is no port"))?;
    }
    parse_port_range(text).ok_or_else(|| "the range is empty".to_owned())
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
    #[arg(long, value_name = "NAME", alias = "hostname-override")]
    pub node: Option<String>,

    /// KubeProxyConfiguration (YAML or JSON); options given here win over it
    #[arg(long, value_name = "PATH")]
    pub config: Option<String>,

    /// How the rules are made [default: `mode` of --config, else iptables]
    #[arg(long, value_name = "MODE", alias = "proxy-mode")]
    pub mode: Option<ModeArg>,

    /// The shape of the rules
    ///
    /// `kube-proxy` is rule for rule what kube-proxy makes. `fast`, which iptables and nftables mode have, means the same to
    /// every packet. In iptables mode addresses are told by a tree of their prefixes, and no endpoint has a chain of its own; it
    /// needs the bpf match (xt_bpf). In nftables mode no Service has chains of its own unless it has session affinity, only
    /// elements of maps that all share. Going from one to the other is an apply like any other.
    #[arg(long, value_name = "LAYOUT", value_enum, default_value_t)]
    pub layout: LayoutArg,

    /// One IP family alone [default: both]
    #[arg(long, value_name = "FAMILY")]
    pub family: Option<FamilyArg>,

    /// Treat warnings as errors
    #[arg(long)]
    pub strict: bool,

    /// Leave the rules of other modes on this machine
    ///
    /// iptables mode and IPVS mode share chains: of these one always takes the place of the other.
    #[arg(long)]
    pub keep_other_modes: bool,

    /// In IPVS mode, delete every virtual server that is not wanted, also those that somebody else made, as kube-proxy does
    ///
    /// Those in --ipvs-exclude-cidrs stay all the same.
    #[arg(long)]
    pub exclusive: bool,

    /// Do not let broken objects count: go on, and end as if they were not there
    #[arg(long)]
    pub keep_going: bool,

    /// What is said of the node here.
    #[command(flatten)]
    pub node_options: NodeArgs,
}

/// The same where no manifest need be given.
#[derive(Debug, Clone)]
pub struct OptionalInput(pub InputArgs);

impl Args for OptionalInput {
    fn augment_args(command: clap::Command) -> clap::Command {
        InputArgs::augment_args(command).mut_arg("filenames", |filenames| filenames.required(false))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        InputArgs::augment_args_for_update(command)
    }
}

impl FromArgMatches for OptionalInput {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<OptionalInput, clap::Error> {
        InputArgs::from_arg_matches(matches).map(OptionalInput)
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
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

    /// Where cluster IPs come from (ServiceCIDRs of the cluster)
    ///
    /// A Service that is in no snapshot and has no cluster IP gets a placeholder address from here, the same one each time. In
    /// nftables mode packets to addresses of these networks that no Service has are discarded. May be given several times.
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    pub service_cidr: Vec<IpCidr>,

    /// Where placeholder node ports of new Services come from
    #[arg(long, value_name = "FIRST-LAST", value_parser = port_range, default_value = "30000-32767")]
    pub node_port_range: std::ops::RangeInclusive<u16>,

    /// Where the proxy ports of userspace mode come from (portRange) [default: 20000-29999]
    #[arg(long, value_name = "FIRST-LAST", value_parser = port_range)]
    pub proxy_port_range: Option<std::ops::RangeInclusive<u16>>,

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

    /// Who chooses among endpoints in IPVS mode: rr, wrr, lc, wlc, sh, mh, … (ipvs.scheduler)
    #[arg(long, value_name = "NAME")]
    pub ipvs_scheduler: Option<String>,

    /// Networks whose virtual servers are left alone, comma-separated (ipvs.excludeCIDRs)
    #[arg(long, value_name = "CIDR", value_parser = cidr, value_delimiter = ',')]
    pub ipvs_exclude_cidrs: Vec<IpCidr>,

    /// Do not answer ARP for addresses of Services (ipvs.strictARP)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub ipvs_strict_arp: Option<bool>,

    /// Whether node ports answer on 127.0.0.1 (iptables.localhostNodePorts)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub iptables_localhost_nodeports: Option<bool>,
}

impl InputArgs {
    /// How nftables mode makes rules.
    pub(super) fn nftables_options(
        &self,
        config: &Config,
        cluster: &Cluster,
        object_comments: bool,
    ) -> nftables::LowerOptions {
        nftables::LowerOptions {
            object_comments,
            layout: self.layout.layout(),
            masquerade_mark: 1 << config.masquerade_bit,
            masquerade_all: config.masquerade_all,
            service_cidrs: self
                .node_options
                .service_cidr
                .iter()
                .chain(&cluster.service_cidrs)
                .copied()
                .collect(),
        }
    }

    /// How IPVS mode makes virtual servers. `bound_elsewhere`: addresses on other interfaces than the dummy device; `kernel`:
    /// major and minor version, if known.
    pub(super) fn ipvs_lowering(
        config: &Config,
        random_fully: bool,
        bound_elsewhere: BTreeSet<IpAddr>,
        kernel: Option<(u32, u32)>,
    ) -> Result<Lowering, Error> {
        let all = ipvs::LowerOptions::of(config).map_err(|error| Error::usage(error.to_string()))?;
        Ok(Lowering::Ipvs(Box::new(ipvs::LowerOptions { random_fully, bound_elsewhere, kernel, ..all })))
    }

    /// How userspace mode makes rules, `host` being addresses that the node's own packets can be sent to.
    pub(super) fn userspace_options(
        &self,
        config: &Config,
        host: PerFamily<Option<IpAddr>>,
    ) -> PerFamily<userspace::LowerOptions> {
        PerFamily::from_fn(|family| userspace::LowerOptions {
            listen: config.bind_address.filter(|addr| IpFamily::of(*addr) == family),
            host: *host.get(family),
            ports: config.userspace.port_range.clone().unwrap_or(userspace::DEFAULT_RANGE),
            taken: BTreeSet::new(),
            previous: Arc::default(),
        })
    }

    /// Every path that is read.
    pub(super) fn paths(&self) -> impl Iterator<Item = &String> {
        self.filenames.iter().chain(&self.snapshot).chain(&self.config)
    }
}

/// Where a running process tells of its listeners.
#[derive(Debug, Clone, Default, Args)]
pub struct SocketArgs {
    /// Where to ask `svcproxy run` for the listeners of userspace mode [default: /run/svcproxy/, by network namespace]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<String>,
}

/// What the machine that will load the rules can do.
#[derive(Debug, Clone, Copy, Default, Args)]
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

    /// Leave out the comments of nft tables, chains and sets, for kernels before 5.10
    ///
    /// Rules and elements keep theirs. `apply` asks the kernel.
    #[arg(long)]
    pub no_object_comments: bool,
}

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputArg {
    /// For people
    Text,
    /// For programs
    Json,
}

/// `--iptables`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VariantArg {
    /// The one that holds rules of ours, else the one that holds the kubelet's or the most, else plain `iptables`
    Auto,
    /// iptables-legacy
    Legacy,
    /// iptables-nft
    Nft,
}

/// How nftables is reached.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct NftArgs {
    /// Read and change nftables through the tool nft, not by netlink
    ///
    /// The result is the same. Through the tool one changed element of a large table takes as long as the table is read.
    #[arg(long)]
    pub nft_tool: bool,
}

/// Two at once would undo each other's work.
#[derive(Debug, Clone, Copy, Args)]
pub struct LockArgs {
    /// How long to wait for another svcproxy to finish
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub lock_timeout: u64,
}

/// Lets options win over a configuration.
pub(super) fn lay_options_over(args: &NodeArgs, config: &mut Config) -> Result<(), Error> {
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
            config.detect_local =
                DetectLocal::BridgeInterface(interface_name(name, "--pod-bridge-interface")?);
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
    if let Some(range) = &args.proxy_port_range {
        config.userspace.port_range = Some(range.clone());
    }
    config.masquerade_all = args.masquerade_all.unwrap_or(config.masquerade_all);
    config.masquerade_bit = args.iptables_masquerade_bit.unwrap_or(config.masquerade_bit);
    if let Some(scheduler) = &args.ipvs_scheduler {
        config.ipvs.scheduler.clone_from(scheduler);
    }
    if !args.ipvs_exclude_cidrs.is_empty() {
        config.ipvs.exclude_cidrs.clone_from(&args.ipvs_exclude_cidrs);
    }
    config.ipvs.strict_arp = args.ipvs_strict_arp.unwrap_or(config.ipvs.strict_arp);
    config.localhost_node_ports = args.iptables_localhost_nodeports.unwrap_or(config.localhost_node_ports);
    Ok(())
}

/// An interface name, or the beginning of one: at most 15 bytes, nothing that a rule file could not carry.
fn interface_name(name: String, option: &str) -> Result<String, Error> {
    let bad =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '"' | '\'' | '\\' | '!' | '+');
    if name.is_empty() || name.len() > 15 || name.contains(bad) {
        return Err(Error::usage(format!("{option} `{}` is no interface name", name.escape_default())));
    }
    Ok(name)
}

/// Where placeholders come from, if there may be any.
pub(super) fn placeholders(args: &InputArgs) -> Option<PlaceholderRanges> {
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
