//! KubeProxyConfiguration v1alpha1, typed and valid (reference sections 6.8 and 6.9): how a proxy was told to behave.
//! Fields that change no rule and no kernel setting of ours are accepted by the reader and not kept.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::net::{IpCidr, PerFamily, Port};

/// `mode`: which kernel language carries the Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// iptables, the default.
    Iptables,
    /// IPVS.
    Ipvs,
    /// nftables.
    Nftables,
    /// A process of the node, which rules of iptables lead to.
    Userspace,
}

impl Mode {
    /// The word in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Iptables => "iptables",
            Mode::Ipvs => "ipvs",
            Mode::Nftables => "nftables",
            Mode::Userspace => "userspace",
        }
    }
}

/// `detectLocalMode` with its value: how traffic of pods is told from other traffic (reference section 1.13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DetectLocal {
    /// Source address in `clusterCIDR`, the default.
    ClusterCidr,
    /// Source address in the Node's `spec.podCIDRs`.
    NodeCidr,
    /// Came in by this bridge.
    BridgeInterface(String),
    /// Came in by an interface whose name begins so.
    InterfaceNamePrefix(String),
}

/// `nodePortAddresses` (reference section 1.12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// Nothing said: the mode's default.
    Default,
    /// `primary`: the node's own addresses.
    Primary,
    /// Local addresses in these networks.
    Cidrs(Vec<IpCidr>),
}

/// `syncPeriod` and `minSyncPeriod` of a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncPeriods {
    /// At least this often.
    pub sync: Duration,
    /// Not more often than this.
    pub min_sync: Duration,
}

/// The `ipvs` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipvs {
    /// Scheduler name; empty is `rr`.
    pub scheduler: String,
    /// Virtual servers in these networks are left alone.
    pub exclude_cidrs: Vec<IpCidr>,
    /// arp_ignore and arp_announce.
    pub strict_arp: bool,
    /// Idle time of TCP connections; zero keeps the kernel's.
    pub tcp_timeout: Duration,
    /// Idle time after FIN; zero keeps the kernel's.
    pub tcp_fin_timeout: Duration,
    /// Idle time of UDP; zero keeps the kernel's.
    pub udp_timeout: Duration,
}

/// What userspace mode alone goes by (reference section 5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Userspace {
    /// `portRange`: where proxy ports come from; `None` if nothing is said.
    pub port_range: Option<RangeInclusive<Port>>,
    /// `udpIdleTimeout`: for how long a UDP flow without a datagram is remembered.
    pub udp_idle_timeout: Duration,
}

/// The `conntrack` section (reference section 6.2). `None` is the default of kube-proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conntrack {
    /// `maxPerCore`.
    pub max_per_core: Option<u32>,
    /// `min`.
    pub min: Option<u32>,
    /// `tcpEstablishedTimeout`.
    pub tcp_established_timeout: Option<Duration>,
    /// `tcpCloseWaitTimeout`.
    pub tcp_close_wait_timeout: Option<Duration>,
    /// `tcpBeLiberal`.
    pub tcp_be_liberal: bool,
    /// `udpTimeout`.
    pub udp_timeout: Duration,
    /// `udpStreamTimeout`.
    pub udp_stream_timeout: Duration,
}

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `mode`.
    pub mode: Mode,
    /// `clientConnection.kubeconfig`; `None` if empty.
    pub kubeconfig: Option<String>,
    /// `hostnameOverride`, trimmed and lower-cased; `None` if empty.
    pub hostname_override: Option<String>,
    /// `bindAddress` if it is a particular address.
    pub bind_address: Option<IpAddr>,
    /// First `clusterCIDR` of each family.
    pub cluster_cidrs: PerFamily<Option<IpCidr>>,
    /// `detectLocalMode` and `detectLocal`.
    pub detect_local: DetectLocal,
    /// `nodePortAddresses`.
    pub node_port_addresses: NodePortAddresses,
    /// `iptables.masqueradeBit` or `nftables.masqueradeBit`, of the mode; 0 to 31.
    pub masquerade_bit: u8,
    /// `iptables.masqueradeAll` or `nftables.masqueradeAll`, of the mode.
    pub masquerade_all: bool,
    /// `iptables.localhostNodePorts`.
    pub localhost_node_ports: bool,
    /// `syncPeriod` and `minSyncPeriod` of the mode.
    pub sync_periods: SyncPeriods,
    /// `ipvs`.
    pub ipvs: Ipvs,
    /// Fields of userspace mode.
    pub userspace: Userspace,
    /// `conntrack`.
    pub conntrack: Conntrack,
    /// `healthzBindAddress`; empty is off.
    pub healthz_bind_address: String,
    /// `metricsBindAddress`.
    pub metrics_bind_address: String,
    /// `featureGates`.
    pub feature_gates: BTreeMap<String, bool>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mode: Mode::Iptables,
            kubeconfig: None,
            hostname_override: None,
            bind_address: None,
            cluster_cidrs: PerFamily::default(),
            detect_local: DetectLocal::ClusterCidr,
            node_port_addresses: NodePortAddresses::Default,
            masquerade_bit: 14,
            masquerade_all: false,
            localhost_node_ports: true,
            sync_periods: SyncPeriods { sync: Duration::from_secs(30), min_sync: Duration::from_secs(1) },
            ipvs: Ipvs {
                scheduler: String::new(),
                exclude_cidrs: Vec::new(),
                strict_arp: false,
                tcp_timeout: Duration::ZERO,
                tcp_fin_timeout: Duration::ZERO,
                udp_timeout: Duration::ZERO,
            },
            userspace: Userspace { port_range: None, udp_idle_timeout: Duration::from_millis(250) },
            conntrack: Conntrack::default(),
            healthz_bind_address: "0.0.0.0:10256".to_owned(),
            metrics_bind_address: "127.0.0.1:10249".to_owned(),
            feature_gates: BTreeMap::new(),
        }
    }
}
