//! Userspace mode, the oldest of kube-proxy's (reference section 5): rules send each VIP to a local port, and a process
//! carries the connections. What it did not have it has here: traffic policies, readiness, source ranges and both
//! families, as `resolve` decides them.
//!
//! ```text
//!      nat PREROUTING                nat OUTPUT                         filter INPUT
//!   first |      | last, to LOCAL  first |     | last, to LOCAL               |
//!         v      v                       v     v                              v
//!   KUBE-PORTALS-    KUBE-NODEPORT-  KUBE-PORTALS-  KUBE-NODEPORT-    KUBE-NODEPORT-NON-LOCAL
//!   CONTAINER        CONTAINER       HOST           HOST              lets proxy ports of node ports in
//!         |      |                       |     |
//!         +------+--- REDIRECT           +-----+--- DNAT to the node's address
//!                          \                   /
//!                        proxy port: a listener, which makes a connection to an endpoint
//! ```
//!
//! A Service port has one listener for each pool of endpoints that some route leads to: nearly always one. One more,
//! without endpoints, hangs up on those that no source range lets in.

mod base;
mod carried;
mod endpoint;
mod lift;
pub mod names;
mod owned;
mod policy;
mod ports;
mod service;

pub use carried::carried;
pub use lift::{lift, name_of_label, proxy_ports, service_of};
pub use owned::{holds_ours, scope};
pub use policy::policies;
pub use ports::{DEFAULT_RANGE, PortOwner, ProxyPorts, Role, assign};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::backend::answerers::asked;
use crate::backend::{skeleton, tagged_ports};
use crate::net::{IpFamily, Port, Protocol};
use crate::program::Program;
use crate::program::conntrack::Answerers;
use crate::program::listener::Listeners;
use crate::program::xtables::{ChainName, Rule, RuleOrder, Ruleset, Table, TableName};
use crate::resolve::NodeView;

/// What the lowering needs to know beside the view, for one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LowerOptions {
    /// The one address that proxy ports listen on (`bindAddress`); `None` is all of them.
    pub listen: Option<IpAddr>,
    /// An address of the node, which its own packets are sent to; `None` if none is known.
    pub host: Option<IpAddr>,
    /// Where proxy ports come from.
    pub ports: RangeInclusive<Port>,
    /// Ports of the range that somebody else has.
    pub taken: BTreeSet<(Protocol, Port)>,
    /// The proxy ports that owners had before.
    pub previous: Arc<ProxyPorts>,
}

/// The rules of one family with the listeners that they lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lowered {
    /// The rules. The tag of a rule is the index of its Service port in the view.
    pub ruleset: Ruleset,
    /// The listeners.
    pub listeners: Listeners,
    /// Who may answer UDP flows: the listeners.
    pub answerers: Answerers,
    /// Owners for which the range had no port left: they have no rules.
    pub without_port: Vec<PortOwner>,
}

impl Lowered {
    /// Adds it to a program. Both families share the listeners, by their addresses.
    pub fn add_to(self, program: &mut Program, family: IpFamily) {
        *program.xtables.get_mut(family) = Some(self.ruleset);
        program.listeners.get_or_insert_default().extend(self.listeners);
    }
}

/// Lowers the view of one family.
pub fn lower(view: &NodeView, options: &LowerOptions) -> Lowered {
    let owners: BTreeSet<PortOwner> = view.ports.iter().flat_map(endpoint::owners).collect();
    let ports = assign(&owners, &options.previous, &options.ports, &options.taken);
    let mut chains = Chains::default();
    let mut listeners = Listeners::new();
    let mut answerers = Answerers::default();
    for (tag, port) in tagged_ports(view) {
        service::lower_port(view, options, (tag, port), &ports, &mut chains);
        let of_port: Listeners = endpoint::listeners(view.family, options.listen, port, &ports).collect();
        if port.name.protocol == Protocol::Udp && !of_port.is_empty() {
            for asked in port.frontends.iter().flat_map(|frontend| asked(view, frontend)) {
                answerers.add(Protocol::Udp, asked, of_port.keys().map(|key| key.at));
            }
        }
        listeners.extend(of_port);
    }
    let without_port = owners.into_iter().filter(|owner| !ports.contains_key(owner)).collect();
    Lowered { ruleset: chains.into_ruleset(view), listeners, answerers, without_port }
}

/// The listeners that must be at the proxy ports that rules lead to, wherever these ports come from: `listen` is the one
/// address that they have, if it is not all.
pub fn listeners_behind(view: &NodeView, rules: &Ruleset, listen: Option<IpAddr>) -> Listeners {
    let ports = proxy_ports(rules);
    view.ports.iter().flat_map(|port| endpoint::listeners(view.family, listen, port, &ports)).collect()
}

/// Rules in the making.
#[derive(Default)]
struct Chains {
    rules: BTreeMap<ChainName, Vec<Rule>>,
    /// Chains in which one packet may meet two rules that lead to different places.
    ordered: BTreeSet<ChainName>,
}

impl Chains {
    /// Adds rules that stand together: if there are several, a packet may meet more than one of them.
    fn add(&mut self, chain: ChainName, rules: Vec<Rule>) {
        if rules.windows(2).any(|pair| pair[0].target != pair[1].target) {
            self.ordered.insert(chain);
        }
        self.rules.entry(chain).or_default().extend(rules);
    }

    fn into_ruleset(mut self, view: &NodeView) -> Ruleset {
        let mut tables: BTreeMap<TableName, Table> = BTreeMap::new();
        for (table, chain) in base::CHAINS {
            let rules = self.rules.remove(&chain).unwrap_or_default();
            // What different Services put into a chain may stand in any order: no packet is for two of them.
            let order = if self.ordered.contains(&chain) {
                RuleOrder::Exact
            } else {
                RuleOrder::FirstCommute(rules.len())
            };
            tables.entry(table).or_default().chains.insert(chain, skeleton::user_chain(rules, order));
        }
        let jumps = base::jumps().map(|(table, built_in, _, rule)| (table, built_in, rule));
        let mut ruleset = skeleton::ruleset(view.family, tables, jumps);
        for (table, built_in, place, _) in base::jumps() {
            let chain = ruleset.tables.get_mut(&table).and_then(|table| table.chains.get_mut(&built_in));
            if let Some(chain) = chain.filter(|_| place == base::Place::LastAndLocal) {
                chain.order = RuleOrder::LastBehindOthers(1);
            }
        }
        ruleset
    }
}

#[cfg(test)]
mod tests;
