//! The endpoints of a Service port: the chain of each, and the chains that choose among them (reference sections 2.8, 2.11 and
//! 2.12). In the fast layout those send packets to endpoints themselves.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::backend::Layout;
use crate::net::{AddrPort, IpCidr};
use crate::program::Tag;
use crate::program::xtables::{
    ChainName, Match, PortsMatch, ProtocolMatch, Recent, RecentAction, Rule, Target,
};
use crate::resolve::{PoolKind, PortView, Vip};

use super::Chains;
use super::choice::Choice;
use super::names::{self, PortChains};

/// What the names and comments of a Service port's endpoint rules are made of.
pub(super) struct Naming<'a> {
    /// Display name.
    pub(super) name: &'a Arc<str>,
    /// Display name and protocol, written one after the other: the beginning of what is hashed.
    pub(super) hashed: Vec<u8>,
    /// The Service port's chains.
    pub(super) chains: PortChains,
    /// The tag of its rules.
    pub(super) tag: Tag,
    /// Whether comments that repeat for every endpoint are left out.
    pub(super) large: bool,
    /// The shape of the rules.
    pub(super) layout: Layout,
}

/// An endpoint with the name of its chain and the comment of jumps to it.
pub(super) struct Destination {
    /// Where it listens.
    addr: AddrPort,
    /// The name of its chain, and of the list of clients that it has by affinity; whether there is a chain or not.
    pub(super) chain: ChainName,
    comment: Option<Arc<str>>,
    /// Whether rules send packets to it themselves, not by its chain.
    is_direct: bool,
}

/// Adds the chains of both pools and of every endpoint. `masquerade` is the first rule of the chain of one pool.
pub(super) fn lower_endpoints(
    port: &PortView,
    naming: &Naming<'_>,
    masquerade: Option<(PoolKind, Rule)>,
    out: &mut Chains,
) {
    let destinations = destinations(port, naming);
    let choice = Choice { port, tag: naming.tag, layout: naming.layout };
    for (pool, chain) in
        [(PoolKind::Cluster, naming.chains.cluster()), (PoolKind::Local, naming.chains.local())]
    {
        let members = destinations.iter().zip(&port.endpoints).filter(|(_, endpoint)| match pool {
            PoolKind::Cluster => endpoint.in_cluster,
            PoolKind::Local => endpoint.in_local,
        });
        let members: Vec<&Destination> = members.map(|(destination, _)| destination).collect();
        if members.is_empty() {
            continue;
        }
        let mut rules = Vec::with_capacity(members.len() + 1);
        rules.extend(masquerade.iter().filter(|(of, _)| *of == pool).map(|(_, rule)| rule.clone()));
        rules.extend(choice.by_memory(&members));
        rules.extend(choice.by_chance(&members, &chain, 0, out));
        out.add(chain, rules);
    }
    for destination in destinations.iter().filter(|destination| !destination.is_direct) {
        out.add(destination.chain, endpoint_rules(port, naming, destination));
    }
}

fn destinations(port: &PortView, naming: &Naming<'_>) -> Vec<Destination> {
    let mut hashed = naming.hashed.clone();
    let mut text = String::with_capacity(64);
    let mut make = |addr: AddrPort| {
        text.clear();
        // Writing to a String cannot fail.
        let _ = write!(text, "{addr}");
        hashed.truncate(naming.hashed.len());
        hashed.extend_from_slice(text.as_bytes());
        let chain = names::endpoint(&hashed);
        let is_direct = naming.layout == Layout::Fast && !is_frontend(port, addr);
        let comment = (!naming.large && !is_direct).then(|| {
            text.insert_str(0, " -> ");
            text.insert_str(0, naming.name);
            Arc::from(text.as_str())
        });
        Destination { addr, chain, comment, is_direct }
    };
    port.endpoints.iter().map(|endpoint| make(endpoint.addr)).collect()
}

/// Whether an endpoint may be where packets to the Service go anyway. Connection tracking does not tell that such a packet was
/// sent there, so its chain must tell if it comes from there.
fn is_frontend(port: &PortView, addr: AddrPort) -> bool {
    port.frontends.iter().any(|frontend| match frontend.vip {
        Vip::Address(vip) => vip == addr,
        Vip::NodePort(node_port) => node_port == addr.port,
    })
}

impl Destination {
    /// A rule that sends packets to it, those that `first` lets through.
    pub(super) fn rule(&self, port: &PortView, tag: Tag, first: Option<Match>) -> Rule {
        let target = if self.is_direct { Target::Dnat(self.addr) } else { Target::Jump(self.chain) };
        let mut rule = Rule::to(target).tagged(tag);
        rule.matches.extend(self.comment.clone().map(Match::Comment));
        rule.matches.extend(first);
        if self.is_direct {
            rule.protocol = Some(ProtocolMatch { number: port.name.protocol.number(), negated: false });
            rule.matches.extend(port.affinity_seconds.map(|_| self.recent(RecentAction::Set)));
        }
        rule
    }

    /// Asks or writes its list of clients.
    pub(super) fn recent(&self, action: RecentAction) -> Match {
        Match::Recent(Box::new(Recent { list: self.chain.as_str().into(), action }))
    }
}

fn endpoint_rules(port: &PortView, naming: &Naming<'_>, destination: &Destination) -> Vec<Rule> {
    let start = |target| {
        let mut rule = Rule::to(target).tagged(naming.tag);
        if !naming.large {
            rule.matches.push(Match::Comment(naming.name.clone()));
        }
        rule
    };
    // Hairpin: an endpoint that is sent back to itself must not see its own address as the source.
    let hairpin = start(Target::Jump(names::MARK_MASQ)).source(IpCidr::host(destination.addr.addr), false);
    let protocol = port.name.protocol;
    let mut dnat = start(Target::Dnat(destination.addr));
    dnat.protocol = Some(ProtocolMatch { number: protocol.number(), negated: false });
    if port.affinity_seconds.is_some() {
        dnat.matches.push(destination.recent(RecentAction::Set));
    }
    dnat.matches.push(Match::Ports(PortsMatch { protocol, source: None, destination: None }));
    vec![hairpin, dnat]
}
