//! Shape of a KubeProxyConfiguration v1alpha1, and the names of all its fields (reference section 6.8).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::object::{Shape, Text, null_default, null_object};

/// A KubeProxyConfiguration: the fields that mean something here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a mapping")]
pub(super) struct KubeProxyConfiguration<'a> {
    #[serde(default, deserialize_with = "null_default")]
    pub(super) feature_gates: BTreeMap<String, bool>,
    #[serde(default, deserialize_with = "null_object")]
    pub(super) client_connection: ClientConnection<'a>,
    #[serde(borrow, default)]
    pub(super) hostname_override: Text<'a>,
    #[serde(borrow, default)]
    pub(super) bind_address: Text<'a>,
    #[serde(borrow, default)]
    pub(super) healthz_bind_address: Text<'a>,
    #[serde(borrow, default)]
    pub(super) metrics_bind_address: Text<'a>,
    #[serde(borrow, default)]
    pub(super) mode: Text<'a>,
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) iptables: ModeSection<'a>,
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) nftables: ModeSection<'a>,
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) ipvs: IpvsSection<'a>,
    #[serde(borrow, default)]
    pub(super) detect_local_mode: Text<'a>,
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) detect_local: DetectLocalSection<'a>,
    #[serde(borrow, default, rename = "clusterCIDR")]
    pub(super) cluster_cidr: Text<'a>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    pub(super) node_port_addresses: Vec<Text<'a>>,
    #[serde(default)]
    pub(super) oom_score_adj: Option<i64>,
    #[serde(borrow, default, deserialize_with = "null_object")]
    pub(super) conntrack: ConntrackSection<'a>,
    #[serde(borrow, default)]
    pub(super) config_sync_period: Text<'a>,
    #[serde(borrow, default)]
    pub(super) port_range: Text<'a>,
    #[serde(borrow, default)]
    pub(super) udp_idle_timeout: Text<'a>,
}

/// `clientConnection`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ClientConnection<'a> {
    #[serde(borrow, default)]
    pub(super) kubeconfig: Text<'a>,
    #[serde(default, deserialize_with = "null_default")]
    pub(super) burst: i64,
}

/// `iptables` and `nftables`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ModeSection<'a> {
    #[serde(default)]
    pub(super) masquerade_bit: Option<i64>,
    #[serde(default, deserialize_with = "null_default")]
    pub(super) masquerade_all: bool,
    #[serde(default)]
    pub(super) localhost_node_ports: Option<bool>,
    #[serde(borrow, default)]
    pub(super) sync_period: Text<'a>,
    #[serde(borrow, default)]
    pub(super) min_sync_period: Text<'a>,
}

/// `ipvs`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IpvsSection<'a> {
    #[serde(borrow, default)]
    pub(super) sync_period: Text<'a>,
    #[serde(borrow, default)]
    pub(super) min_sync_period: Text<'a>,
    #[serde(borrow, default)]
    pub(super) scheduler: Text<'a>,
    #[serde(borrow, default, rename = "excludeCIDRs", deserialize_with = "null_default")]
    pub(super) exclude_cidrs: Vec<Text<'a>>,
    #[serde(default, rename = "strictARP", deserialize_with = "null_default")]
    pub(super) strict_arp: bool,
    #[serde(borrow, default)]
    pub(super) tcp_timeout: Text<'a>,
    #[serde(borrow, default)]
    pub(super) tcp_fin_timeout: Text<'a>,
    #[serde(borrow, default)]
    pub(super) udp_timeout: Text<'a>,
}

/// `detectLocal`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DetectLocalSection<'a> {
    #[serde(borrow, default)]
    pub(super) bridge_interface: Text<'a>,
    #[serde(borrow, default)]
    pub(super) interface_name_prefix: Text<'a>,
}

/// `conntrack`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConntrackSection<'a> {
    #[serde(default)]
    pub(super) max_per_core: Option<i64>,
    #[serde(default)]
    pub(super) min: Option<i64>,
    #[serde(borrow, default)]
    pub(super) tcp_established_timeout: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) tcp_close_wait_timeout: Option<Text<'a>>,
    #[serde(default, deserialize_with = "null_default")]
    pub(super) tcp_be_liberal: bool,
    #[serde(borrow, default)]
    pub(super) udp_timeout: Text<'a>,
    #[serde(borrow, default)]
    pub(super) udp_stream_timeout: Text<'a>,
}

/// All fields by section, also those that change nothing here. Sections that are not here are not looked into.
pub(super) const FIELDS: [(&str, &[&str]); 7] = [
    (
        "",
        &[
            "apiVersion",
            "kind",
            "metadata",
            "featureGates",
            "clientConnection",
            "logging",
            "hostnameOverride",
            "bindAddress",
            "healthzBindAddress",
            "metricsBindAddress",
            "bindAddressHardFail",
            "enableProfiling",
            "showHiddenMetricsForVersion",
            "mode",
            "iptables",
            "ipvs",
            "nftables",
            "winkernel",
            "detectLocalMode",
            "detectLocal",
            "clusterCIDR",
            "nodePortAddresses",
            "oomScoreAdj",
            "conntrack",
            "configSyncPeriod",
            "portRange",
            "udpIdleTimeout",
            "windowsRunAsService",
        ],
    ),
    ("clientConnection", &["kubeconfig", "acceptContentTypes", "contentType", "qps", "burst"]),
    ("iptables", &["masqueradeBit", "masqueradeAll", "localhostNodePorts", "syncPeriod", "minSyncPeriod"]),
    ("nftables", &["masqueradeBit", "masqueradeAll", "syncPeriod", "minSyncPeriod"]),
    (
        "ipvs",
        &[
            "syncPeriod",
            "minSyncPeriod",
            "scheduler",
            "excludeCIDRs",
            "strictARP",
            "tcpTimeout",
            "tcpFinTimeout",
            "udpTimeout",
        ],
    ),
    ("detectLocal", &["bridgeInterface", "interfaceNamePrefix"]),
    (
        "conntrack",
        &[
            "maxPerCore",
            "min",
            "tcpEstablishedTimeout",
            "tcpCloseWaitTimeout",
            "tcpBeLiberal",
            "udpTimeout",
            "udpStreamTimeout",
        ],
    ),
];

impl Shape for KubeProxyConfiguration<'_> {
    type Read<'a> = KubeProxyConfiguration<'a>;
}
