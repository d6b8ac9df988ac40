//! Rules → Services: which VIPs lead to which proxy port, and with the listeners to which endpoints. Names come from the
//! comments, as kube-proxy writes them.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::{LiftedName, LiftedPort, LiftedVip};
use crate::net::{AddrPort, IpFamily, Port, Protocol};
use crate::program::listener::Listeners;
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
    let targets_of = listeners.map(|listeners| targets_by_port(listeners, ruleset.family));
    for chain in [names::PORTALS_CONTAINER, names::NODE_PORT_CONTAINER] {
        for found in portals(ruleset, chain) {
            if only.is_some_and(|only| !only.contains(&found.name)) {
                continue;
            }
            let proxy_port = (found.name.1, found.proxy_port);
            let port = ports.entry(found.name).or_default();
            port.vips.insert(found.vip);
            if let Some(targets_of) = &targets_of {
                let targets = targets_of.get(&proxy_port).filter(|targets| !targets.is_empty());
                if targets.is_none() && found.role != Role::NotLetIn {
                    port.closed.insert(found.vip);
                }
                port.endpoints.extend(targets.into_iter().flatten());
            }
        }
    }
    ports
}

/// Where the listeners of a family lead, by protocol and port, whatever their address.
fn targets_by_port(
    listeners: &Listeners,
    family: IpFamily,
) -> BTreeMap<(Protocol, Port), BTreeSet<AddrPort>> {
    let mut targets: BTreeMap<(Protocol, Port), BTreeSet<AddrPort>> = BTreeMap::new();
    for (key, listener) in listeners.iter().filter(|(key, _)| key.family() == family) {
        targets.entry((key.protocol, key.at.port)).or_default().extend(&listener.targets);
    }
    targets
}

/// The proxy ports that the rules lead to, by owner. Of several to one owner the lowest counts.
pub fn proxy_ports(ruleset: &Ruleset) -> ProxyPorts {
    let mut ports = ProxyPorts::new();
    for chain in [names::PORTALS_CONTAINER, names::NODE_PORT_CONTAINER] {
        for found in portals(ruleset, chain) {
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
struct Portal {
    name: LiftedName,
    role: Role,
    vip: LiftedVip,
    proxy_port: Port,
}

fn portals(ruleset: &Ruleset, chain: ChainName) -> impl Iterator<Item = Portal> + '_ {
    let rules = ruleset.chain(TableName::Nat, &chain).map_or(&[][..], |chain| &chain.rules);
    rules.iter().filter_map(portal)
}

fn portal(rule: &Rule) -> Option<Portal> {
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
    let vip = LiftedVip::of_rule(rule)?;
    Some(Portal { name: (name.to_owned(), protocol), role, vip, proxy_port })
}
