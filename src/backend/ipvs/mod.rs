//! IPVS mode, as kube-proxy 1.36 (reference section 3).
//!
//! ```text
//!     nat PREROUTING, OUTPUT         kube-ipvs0                 filter INPUT            filter FORWARD, OUTPUT
//!              |               makes addresses the node's             |
//!       KUBE-SERVICES ----------------------------> KUBE-IPVS-FILTER (unused ports),     KUBE-FORWARD,
//!        |  asks sets: KUBE-LOAD-BALANCER, -CLUSTER-IP,  KUBE-PROXY-FIREWALL (ranges),    KUBE-IPVS-OUT-FILTER
//!        |  -EXTERNAL-IP, -NODE-PORT-*                   KUBE-NODE-PORT (health checks)
//!   KUBE-MARK-MASQ, by KUBE-LOAD-BALANCER, KUBE-NODE-PORT             |
//!                                                        virtual server: one real server, by the scheduler
//!                                                                     |
//!                              nat POSTROUTING -> KUBE-POSTROUTING: masquerade hairpins, and what is marked
//! ```

mod base;
mod endpoint;
mod lift;
mod names;
mod owned;
mod service;
mod sets;

pub use lift::{LiftedServer, carried, lift, policies, ports};
pub use owned::{Ownership, holds_ours, scope, set_family};

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::backend::tagged_ports;
use crate::model::{Config, Ipvs};
use crate::net::IpFamily;
use crate::program::Program;
use crate::program::ipset::Sets;
use crate::program::ipvs::{SchedulerName, SchedulerNameError, Timeouts, VirtualServers};
use crate::program::xtables::{Rule, Ruleset};
use crate::resolve::NodeView;

use service::Lowering;
use sets::Members;

/// What the lowering needs to know beside the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LowerOptions {
    /// The mark that asks for source NAT: one bit.
    pub masquerade_mark: u32,
    /// Rewrite the source of all traffic to cluster IPs.
    pub masquerade_all: bool,
    /// Whether MASQUERADE knows `--random-fully` (iptables 1.6.2).
    pub random_fully: bool,
    /// Who chooses among real servers.
    pub scheduler: SchedulerName,
    /// Addresses on other interfaces than the dummy device, of both families. External IPs and load balancer addresses
    /// among them are the node's anyway.
    pub bound_elsewhere: BTreeSet<IpAddr>,
    /// Answer ARP for addresses of the interface alone that is asked, so that the dummy device's are not told around.
    pub strict_arp: bool,
    /// Major and minor version of the kernel, if it is known.
    pub kernel: Option<(u32, u32)>,
    /// For how long the kernel is to remember connections; `None` leaves that to the kernel.
    pub timeouts: Option<Timeouts>,
}

impl LowerOptions {
    /// What a configuration says, for a machine that can do everything and of which nothing else is known. An error if no
    /// scheduler can have the name that it gives; without a name it is `rr`.
    pub fn of(config: &Config) -> Result<LowerOptions, SchedulerNameError> {
        let named = Some(config.ipvs.scheduler.as_str()).filter(|name| !name.is_empty());
        Ok(LowerOptions {
            masquerade_mark: 1 << config.masquerade_bit,
            masquerade_all: config.masquerade_all,
            random_fully: true,
            scheduler: SchedulerName::new(named.unwrap_or(DEFAULT_SCHEDULER))?,
            bound_elsewhere: BTreeSet::new(),
            strict_arp: config.ipvs.strict_arp,
            kernel: None,
            timeouts: timeouts(&config.ipvs),
        })
    }
}

const DEFAULT_SCHEDULER: &str = "rr";

/// What is wanted of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lowered {
    /// Rules that ask sets.
    pub rules: Ruleset,
    /// A virtual server for each frontend.
    pub servers: VirtualServers,
    /// The sets, of this family.
    pub sets: Sets,
    /// Addresses of the dummy device.
    pub addresses: BTreeSet<IpAddr>,
}

impl Lowered {
    /// Adds it to a program. Both families share the sets, by names of their own, and the dummy device.
    pub fn add_to(self, program: &mut Program, family: IpFamily) {
        let Lowered { rules, servers, sets, addresses } = self;
        *program.xtables.get_mut(family) = Some(rules);
        *program.ipvs.get_mut(family) = Some(servers);
        program.ipset.get_or_insert_default().extend(sets);
        let devices = program.dummies.get_or_insert_default();
        let device = devices.entry(names::DUMMY.into()).or_default();
        *device.addresses.get_mut(family) = Some(addresses);
    }
}

/// What the Service ports come to, one after the other.
#[derive(Default)]
struct Parts {
    servers: VirtualServers,
    members: Members,
    addresses: BTreeSet<IpAddr>,
    /// filter KUBE-IPVS-OUT-FILTER.
    out_filter: Vec<Rule>,
}

/// Lowers the view of one family. The tag of a rule or a virtual server is the index of its Service port in `view.ports`.
pub fn lower(view: &NodeView, options: &LowerOptions) -> Lowered {
    let mut parts = Parts::default();
    let all = || tagged_ports(view).map(|(tag, port)| Lowering { view, options, port, tag });
    // Node ports come last: an address that a Service has is not taken for the node port of another.
    all().for_each(|port| port.lower_vips(&mut parts));
    all().for_each(|port| port.lower_node_port(&mut parts));
    for addr in &parts.addresses {
        parts.members.insert(names::SetId::IpvsIps, crate::program::ipset::Entry::Ip(*addr));
    }
    let rules = base::ruleset(view, options, &mut parts);
    Lowered {
        rules,
        servers: parts.servers,
        sets: parts.members.into_sets(view.family),
        addresses: parts.addresses,
    }
}

/// The dummy device that bears the addresses of Services.
pub fn device() -> &'static str {
    names::DUMMY
}

/// Kernel settings that this mode may depend on.
pub const SYSCTLS: [&str; 7] = [
    CONNTRACK,
    CONN_REUSE_MODE,
    EXPIRE_NODEST_CONN,
    EXPIRE_QUIESCENT_TEMPLATE,
    IP_FORWARD,
    ARP_IGNORE,
    ARP_ANNOUNCE,
];

const CONNTRACK: &str = "net/ipv4/vs/conntrack";
const CONN_REUSE_MODE: &str = "net/ipv4/vs/conn_reuse_mode";
const EXPIRE_NODEST_CONN: &str = "net/ipv4/vs/expire_nodest_conn";
const EXPIRE_QUIESCENT_TEMPLATE: &str = "net/ipv4/vs/expire_quiescent_template";
const IP_FORWARD: &str = "net/ipv4/ip_forward";
const ARP_IGNORE: &str = "net/ipv4/conf/all/arp_ignore";
const ARP_ANNOUNCE: &str = "net/ipv4/conf/all/arp_announce";

/// Kernels, by major and minor version, that reuse connections in a way which loses the first packets of new ones, and
/// can be told not to: the first that can, and the first that need not.
const REUSES_CONNECTIONS: [(u32, u32); 2] = [(4, 1), (5, 9)];

/// Kernel settings that virtual servers depend on (reference section 3.1). Those of `vs` are for both families.
pub fn sysctls(options: &LowerOptions) -> Vec<(String, String)> {
    let [first, fixed] = REUSES_CONNECTIONS;
    let mut settings = vec![(CONNTRACK, "1")];
    if options.kernel.is_some_and(|kernel| first <= kernel && kernel < fixed) {
        settings.push((CONN_REUSE_MODE, "0"));
    }
    settings.extend([(EXPIRE_NODEST_CONN, "1"), (EXPIRE_QUIESCENT_TEMPLATE, "1"), (IP_FORWARD, "1")]);
    if options.strict_arp {
        settings.extend([(ARP_IGNORE, "1"), (ARP_ANNOUNCE, "2")]);
    }
    settings.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// For how long the kernel is to remember connections; `None` if the configuration leaves that to the kernel (reference
/// section 3.1).
fn timeouts(config: &Ipvs) -> Option<Timeouts> {
    let seconds = |timeout: Duration| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
    let timeouts = Timeouts {
        tcp: seconds(config.tcp_timeout),
        tcp_fin: seconds(config.tcp_fin_timeout),
        udp: seconds(config.udp_timeout),
    };
    (timeouts != Timeouts::default()).then_some(timeouts)
}

#[cfg(test)]
mod tests;
