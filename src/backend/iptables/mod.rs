//! iptables mode, rule for rule as kube-proxy 1.36 (reference section 2), or in the fast layout: the same with fewer rules and
//! chains.
//!
//! ```text
//!             nat PREROUTING, OUTPUT                          filter INPUT, FORWARD, OUTPUT
//!                      |                                                  |
//!               KUBE-SERVICES ---- last: KUBE-NODEPORTS      KUBE-FIREWALL, KUBE-PROXY-FIREWALL, KUBE-NODEPORTS,
//!    cluster IP /      | external, LB IP     | node port     KUBE-FORWARD, KUBE-SERVICES, KUBE-EXTERNAL-SERVICES
//!              |  KUBE-FW- (LB with ranges)  |
//!              |       |                     |               refuse what has no endpoint, drop what nobody let in
//!              |   KUBE-EXT- <---------------+
//!              v       v
//!     KUBE-SVC- (policy Cluster), KUBE-SVL- (policy Local)   one choice by probability
//!                      |
//!                  KUBE-SEP-   DNAT to one endpoint          nat POSTROUTING -> KUBE-POSTROUTING: masquerade if marked
//! ```
//!
//! In the fast layout the chains with a rule for each VIP or node port are trees of KUBE-IP- and KUBE-PORTS- chains; KUBE-SVC-
//! and KUBE-SVL- themselves do the DNAT, or by KUBE-SEPS- chains if the endpoints are many; KUBE-POSTROUTING and KUBE-FORWARD
//! tell who is sent back to itself.

mod base;
mod carried;
mod choice;
mod endpoint;
mod lift;
pub mod names;
mod owned;
mod policy;
mod service;

pub use carried::carried;
pub use lift::{lift, name_of, service_of};
pub use owned::{
    Traits, holds_kubelet_chains, holds_ours, holds_services, is_branch, is_hashed, scope, uses_table,
};
pub use policy::policies;

use std::collections::BTreeMap;

use crate::backend::skeleton::{self, user_chain};
use crate::backend::{Layout, tagged_ports};
use crate::net::IpCidr;
use crate::program::xtables::{
    AddrMatch, Chain, ChainName, Rule, RuleOrder, Ruleset, Table, TableName, prefix_tree,
};
use crate::resolve::NodeView;

/// What the lowering needs to know beside the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowerOptions {
    /// The mark that asks for source NAT: one bit.
    pub masquerade_mark: u32,
    /// Whether MASQUERADE knows `--random-fully` (iptables 1.6.2).
    pub random_fully: bool,
    /// Whether the nfacct objects of [`names`] exist, so that rules may count with them.
    pub nfacct: bool,
    /// Whether the kernel takes out-of-window packets as valid (nf_conntrack_tcp_be_liberal).
    pub tcp_be_liberal: bool,
    /// The shape of the rules.
    pub layout: Layout,
}

/// Above this many endpoints, comments that repeat for every endpoint are left out (reference section 2.17).
const LARGE_CLUSTER_ENDPOINTS: usize = 1000;

/// Whether a cluster with so many endpoints is a large one, whose rules have fewer comments.
pub fn is_large(n_endpoints: usize) -> bool {
    n_endpoints > LARGE_CLUSTER_ENDPOINTS
}

/// Lowers the view of one family. The tag of a rule is the index of its Service port in `view.ports`.
pub fn lower(view: &NodeView, options: &LowerOptions) -> Ruleset {
    let mut chains = Chains::default();
    let large = is_large(view.n_endpoints);
    for (tag, port) in tagged_ports(view) {
        service::lower_port(view, options, port, tag, large, &mut chains);
    }
    let mut ruleset = chains.into_ruleset(view, options);
    if options.layout == Layout::Fast {
        for (table, root) in DISPATCH {
            if let Some(table) = ruleset.tables.get_mut(&table) {
                prefix_tree::grow(table, &root, &|branch| names::branch(&root, branch));
            }
        }
    }
    ruleset
}

/// The chains with a rule for each VIP or node port, or for each that has no endpoint or asks who comes.
const DISPATCH: [(TableName, ChainName); 6] = [
    (TableName::Nat, names::SERVICES),
    (TableName::Nat, names::NODE_PORTS),
    (TableName::Filter, names::NODE_PORTS),
    (TableName::Filter, names::SERVICES),
    (TableName::Filter, names::EXTERNAL_SERVICES),
    (TableName::Filter, names::PROXY_FIREWALL),
];

/// Rules in the making: the chains that all Services share, and those that belong to one.
#[derive(Default)]
struct Chains {
    /// nat KUBE-SERVICES.
    nat_services: Vec<Rule>,
    /// nat KUBE-NODEPORTS.
    nat_node_ports: Vec<Rule>,
    /// filter KUBE-SERVICES.
    filter_services: Vec<Rule>,
    /// filter KUBE-EXTERNAL-SERVICES.
    filter_external: Vec<Rule>,
    /// filter KUBE-PROXY-FIREWALL.
    filter_firewall: Vec<Rule>,
    /// filter KUBE-NODEPORTS.
    filter_node_ports: Vec<Rule>,
    /// nat chains of Services and endpoints.
    nat_own: Vec<(ChainName, Chain)>,
}

impl Chains {
    /// Adds a chain of a Service or an endpoint.
    fn add(&mut self, name: ChainName, rules: Vec<Rule>) {
        self.nat_own.push((name, user_chain(rules, RuleOrder::Exact)));
    }

    fn into_ruleset(self, view: &NodeView, options: &LowerOptions) -> Ruleset {
        // What different Services put into a shared chain may stand in any order: no packet is for two of them.
        let commuting = |rules: Vec<Rule>, last: Vec<Rule>| {
            let order = RuleOrder::FirstCommute(rules.len());
            let mut all = rules;
            all.extend(last);
            user_chain(all, order)
        };
        let exact = |rules| user_chain(rules, RuleOrder::Exact);
        let filter = [
            (names::SERVICES, commuting(self.filter_services, Vec::new())),
            (names::EXTERNAL_SERVICES, commuting(self.filter_external, Vec::new())),
            (names::NODE_PORTS, commuting(self.filter_node_ports, Vec::new())),
            (names::PROXY_FIREWALL, commuting(self.filter_firewall, Vec::new())),
            (names::FORWARD, exact(base::forward(options))),
            (names::FIREWALL, exact(base::firewall(view))),
        ];
        let mut nat = self.nat_own;
        nat.push((names::SERVICES, commuting(self.nat_services, base::node_port_jumps(view))));
        nat.push((names::NODE_PORTS, commuting(self.nat_node_ports, Vec::new())));
        nat.push((names::POSTROUTING, exact(base::postrouting(options))));
        nat.push((names::MARK_MASQ, exact(vec![skeleton::set_mark(options.masquerade_mark)])));

        let tables = BTreeMap::from([
            (TableName::Filter, Table { chains: BTreeMap::from(filter) }),
            (TableName::Nat, Table { chains: BTreeMap::from_iter(nat) }),
        ]);
        skeleton::ruleset(view.family, tables, base::jumps())
    }
}

/// Kernel settings that this mode may depend on.
pub const SYSCTLS: [&str; 1] = [ROUTE_LOCALNET];

const ROUTE_LOCALNET: &str = "net/ipv4/conf/all/route_localnet";

/// Kernel settings that the rules of a view depend on.
pub fn sysctls(view: &NodeView) -> Vec<(String, String)> {
    // Node ports on 127.0.0.0/8 leave the loopback interface after DNAT (reference section 2.14).
    let setting = (ROUTE_LOCALNET.to_owned(), "1".to_owned());
    view.localhost_node_ports.then_some(setting).into_iter().collect()
}

/// nfacct objects that the rules of a view count with. kube-proxy makes both, used or not.
pub fn nfacct_objects(options: &LowerOptions) -> Vec<String> {
    let objects = [names::NFACCT_INVALID_DROPPED, names::NFACCT_LOCALHOST_ACCEPTED];
    objects.into_iter().filter(|_| options.nfacct).map(str::to_owned).collect()
}

fn address(cidr: IpCidr, negated: bool) -> AddrMatch {
    AddrMatch { cidr, negated }
}

#[cfg(test)]
mod tests;
