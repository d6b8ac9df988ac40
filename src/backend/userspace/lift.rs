//! Rules → Services: which VIPs lead to which proxy port, and with the listeners to which endpoints. Names come from the
//! comments, as kube-proxy writes them.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::{LiftedName, LiftedPort, LiftedVip};
use crate::net::{AddrPort, IpFamily, Port, Protocol};
use crate::program::listener::{Listener, ListenerKey, Listeners};
use crate::program::xtables::{ChainName, Rule, Ruleset, TableName, Target};

use super::ports::{ProxyPorts, Role};
use super::{base, names};

/// The Service ports that a ruleset serves, by name. Without listeners nothing is known of endpoints. With `only`, no
/// others are looked at.
pub fn lift(
    ruleset: &Ruleset,
    listeners: Option<&Listeners>,
    only: Option<&BTreeSet<LiftedName>>,
) -> BTreeMap<LiftedName, LiftedPort> {
    let mut ports: BTreeMap<LiftedName, LiftedPort> = BTreeMap::new();
    let behind = Behind::new(listeners, ruleset.family);
    for chain in PORTAL_CHAINS {
        for (.., found) in portals(ruleset, chain) {
            if only.is_some_and(|only| !only.contains(&found.name)) {
                continue;
            }
            let targets = behind.targets(found.name.1, found.proxy_port);
            let port = ports.entry(found.name).or_default();
            port.vips.insert(found.vip);
            // Whether the node itself is served does not tell whether others are.
            let is_for_all = chain != names::PORTALS_HOST && chain != names::NODE_PORT_HOST;
            if is_for_all && behind.are_known() && targets.is_empty() && found.role != Role::NotLetIn {
                port.closed.insert(found.vip);
            }
            port.endpoints.extend(targets);
        }
    }
    ports
}

/// Listeners by protocol and port.
type ByPort<'a> = BTreeMap<(Protocol, Port), Vec<(ListenerKey, &'a Listener)>>;

/// The listeners of one family by protocol and port, whatever their address; `None` if nothing is known of any.
pub(super) struct Behind<'a>(Option<ByPort<'a>>);

impl<'a> Behind<'a> {
    /// Those of some listeners.
    pub(super) fn new(listeners: Option<&'a Listeners>, family: IpFamily) -> Behind<'a> {
        Behind(listeners.map(|listeners| {
            let mut by_port = ByPort::new();
            for (key, listener) in listeners.iter().filter(|(key, _)| key.family() == family) {
                by_port.entry((key.protocol, key.at.port)).or_default().push((*key, listener));
            }
            by_port
        }))
    }

    /// Whether anything is known of listeners.
    pub(super) fn are_known(&self) -> bool {
        self.0.is_some()
    }

    /// Those at a proxy port.
    pub(super) fn at(&self, protocol: Protocol, port: Port) -> &[(ListenerKey, &'a Listener)] {
        self.0.as_ref().and_then(|by_port| by_port.get(&(protocol, port))).map_or(&[], Vec::as_slice)
    }

    /// Where they lead.
    pub(super) fn targets(&self, protocol: Protocol, port: Port) -> BTreeSet<AddrPort> {
        self.at(protocol, port).iter().flat_map(|(_, listener)| listener.targets.iter().copied()).collect()
    }
}

/// The proxy ports that the rules lead to, by owner. Of several to one owner the lowest counts.
pub fn proxy_ports(ruleset: &Ruleset) -> ProxyPorts {
    let mut ports = ProxyPorts::new();
    for chain in PORTAL_CHAINS {
        for (.., found) in portals(ruleset, chain) {
            let port = ports.entry((found.name, found.role)).or_insert(found.proxy_port);
            *port = found.proxy_port.min(*port);
        }
    }
    ports
}

/// The Service port that a listener is for, by its label.
pub fn name_of_label(label: &str, protocol: Protocol) -> LiftedName {
    (Role::of_label(label).0.to_owned(), protocol)
}

/// The Service port that a rule of a chain was made for (`namespace/name:port`), by its comment.
pub fn service_of(chain: &str, comment: Option<&str>) -> Option<String> {
    let is_ours = base::CHAINS.iter().any(|(_, ours)| ours.as_str() == chain);
    comment.filter(|_| is_ours).map(|comment| Role::of_label(comment).0.to_owned())
}

/// A rule that leads from a VIP to a proxy port.
pub(super) struct Portal {
    pub(super) name: LiftedName,
    pub(super) role: Role,
    pub(super) vip: LiftedVip,
    pub(super) proxy_port: Port,
}

/// The chains of nat with such rules.
pub(super) const PORTAL_CHAINS: [ChainName; 4] =
    [names::PORTALS_CONTAINER, names::PORTALS_HOST, names::NODE_PORT_CONTAINER, names::NODE_PORT_HOST];

/// Those of a chain, with their places in it.
pub(super) fn portals(
    ruleset: &Ruleset,
    chain: ChainName,
) -> impl Iterator<Item = (usize, &Rule, Portal)> + '_ {
    let rules = ruleset.chain(TableName::Nat, &chain).map_or(&[][..], |chain| &chain.rules);
    rules.iter().enumerate().filter_map(move |(index, rule)| Some((index, rule, portal(rule, chain)?)))
}

/// What a rule leads to, if it is one of these.
pub(super) fn portal(rule: &Rule, chain: ChainName) -> Option<Portal> {
    let proxy_port = match rule.target.as_ref()? {
        Target::Redirect(port) => *port,
        Target::Dnat(to) => to.port,
        Target::Jump(_)
        | Target::Goto(_)
        | Target::Accept
        | Target::Drop
        | Target::Return
        | Target::Reject(_)
        | Target::Mark { .. }
        | Target::Masquerade { .. }
        | Target::Unmodelled(_) => return None,
    };
    let protocol = rule.protocol.and_then(|protocol| Protocol::from_number(protocol.number))?;
    let (name, role) = Role::of_label(rule.comment_text()?);
    // A node port may be told by the addresses that it answers on.
    let is_node_port = [names::NODE_PORT_CONTAINER, names::NODE_PORT_HOST].contains(&chain);
    let vip = match rule.destination_port() {
        Some(port) if is_node_port => LiftedVip::NodePort(port),
        Some(_) | None => LiftedVip::of_rule(rule)?,
    };
    Some(Portal { name: (name.to_owned(), protocol), role, vip, proxy_port })
}
