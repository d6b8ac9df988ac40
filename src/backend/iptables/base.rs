//! The fixed part of iptables mode: jumps from built-in chains and the rules that no Service changes, as tables of data
//! (reference sections 2.2, 2.4, 2.6 and 2.13).

use crate::backend::Layout;
use crate::backend::skeleton::{self, ctstate, loopback};
use crate::net::IpFamily;
use crate::program::xtables::{ChainName, ConntrackStates, Match, RejectWith, Rule, TableName, Target};
use crate::resolve::{NodePortScope, NodeView};

use super::{LowerOptions, names};

/// A jump from a built-in chain: table, built-in chain, target, only for new connections, comment.
type Jump = (TableName, &'static str, ChainName, bool, &'static str);

/// The jumps as they stand in their built-in chains, first rule first. kube-proxy inserts each at the top, so this is
/// the reverse of the order in which it makes them.
const JUMPS: [Jump; 14] = {
    use TableName::{Filter, Nat};
    use names::{EXTERNAL_SERVICES, FIREWALL, FORWARD, NODE_PORTS, POSTROUTING, PROXY_FIREWALL, SERVICES};
    const LOAD_BALANCER: &str = "kubernetes load balancer firewall";
    const EXTERNAL: &str = "kubernetes externally-visible service portals";
    const PORTALS: &str = "kubernetes service portals";
    [
        // Martians for 127.0.0.0/8 die before anything else sees them.
        (Filter, "INPUT", FIREWALL, false, ""),
        (Filter, "INPUT", PROXY_FIREWALL, true, LOAD_BALANCER),
        (Filter, "INPUT", NODE_PORTS, false, "kubernetes health check service ports"),
        (Filter, "INPUT", EXTERNAL_SERVICES, true, EXTERNAL),
        (Filter, "FORWARD", PROXY_FIREWALL, true, LOAD_BALANCER),
        (Filter, "FORWARD", FORWARD, false, "kubernetes forwarding rules"),
        (Filter, "FORWARD", SERVICES, true, PORTALS),
        (Filter, "FORWARD", EXTERNAL_SERVICES, true, EXTERNAL),
        (Filter, "OUTPUT", FIREWALL, false, ""),
        (Filter, "OUTPUT", PROXY_FIREWALL, true, LOAD_BALANCER),
        (Filter, "OUTPUT", SERVICES, true, PORTALS),
        (Nat, "PREROUTING", SERVICES, false, PORTALS),
        (Nat, "OUTPUT", SERVICES, false, PORTALS),
        (Nat, "POSTROUTING", POSTROUTING, false, "kubernetes postrouting rules"),
    ]
};

/// The fixed chains of our own.
pub(super) const FIXED_CHAINS: [(TableName, ChainName); 10] = [
    (TableName::Filter, names::SERVICES),
    (TableName::Filter, names::EXTERNAL_SERVICES),
    (TableName::Filter, names::FORWARD),
    (TableName::Filter, names::NODE_PORTS),
    (TableName::Filter, names::PROXY_FIREWALL),
    (TableName::Filter, names::FIREWALL),
    (TableName::Nat, names::SERVICES),
    (TableName::Nat, names::NODE_PORTS),
    (TableName::Nat, names::POSTROUTING),
    (TableName::Nat, names::MARK_MASQ),
];

/// Every jump with its rule.
pub(super) fn jumps() -> impl Iterator<Item = (TableName, ChainName, Rule)> {
    JUMPS.into_iter().map(|(table, built_in, target, only_new, comment)| {
        let mut rule = Rule::to(Target::Jump(target));
        if only_new {
            rule = rule.matching(ctstate(ConntrackStates::NEW, false));
        }
        if !comment.is_empty() {
            rule = rule.comment(comment);
        }
        (table, ChainName::literal(built_in), rule)
    })
}

/// filter KUBE-FORWARD.
pub(super) fn forward(options: &LowerOptions) -> Vec<Rule> {
    let mut rules = Vec::with_capacity(3);
    // Packets that conntrack cannot place would leave without their NAT, and reset the connection they belong to.
    // When the kernel is told to be liberal about them they are placed.
    if !options.tcp_be_liberal {
        let mut invalid = Rule::to(Target::Drop).matching(ctstate(ConntrackStates::INVALID, false));
        if options.nfacct {
            invalid = invalid.matching(Match::Nfacct(names::NFACCT_INVALID_DROPPED.into()));
        }
        rules.push(invalid);
    }
    rules.extend(skeleton::accept_forwarded(options.masquerade_mark));
    if options.layout == Layout::Fast {
        // In the layout of kube-proxy it bears the mark already.
        rules.push(hairpin(Target::Accept).comment("kubernetes forwarding of hairpins"));
    }
    rules
}

/// nat KUBE-POSTROUTING.
pub(super) fn postrouting(options: &LowerOptions) -> Vec<Rule> {
    let hairpins = || hairpin(Target::Jump(names::MARK_MASQ)).comment("kubernetes hairpins");
    let first = (options.layout == Layout::Fast).then(hairpins);
    let marked = skeleton::masquerade_marked(options.masquerade_mark, options.random_fully);
    first.into_iter().chain(marked).collect()
}

/// A rule for packets that were sent back to where they come from. The fast layout has no chain of each endpoint to tell them
/// by their source. Every new connection comes by: what few are is asked first. Whom the rules of others send back to himself
/// is meant too; he would get no answer otherwise.
fn hairpin(target: Target) -> Rule {
    Rule::to(target).matching(Match::ToItself).matching(ctstate(ConntrackStates::DNAT, false))
}

/// filter KUBE-FIREWALL: with route_localnet on, nobody outside may reach 127.0.0.0/8 unless by a Service.
pub(super) fn firewall(view: &NodeView) -> Vec<Rule> {
    if !view.localhost_node_ports {
        return Vec::new();
    }
    let not_answers = ConntrackStates::RELATED | ConntrackStates::ESTABLISHED | ConntrackStates::DNAT;
    let mut rule = Rule::to(Target::Drop)
        .source(loopback(IpFamily::V4), true)
        .comment("block incoming localnet connections")
        .matching(ctstate(not_answers, true));
    rule.destination = Some(super::address(loopback(IpFamily::V4), false));
    vec![rule]
}

/// The last rules of nat KUBE-SERVICES: whatever is for an address of the node may be for a node port.
pub(super) fn node_port_jumps(view: &NodeView) -> Vec<Rule> {
    let jump = || {
        Rule::to(Target::Jump(names::NODE_PORTS))
            .comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
    };
    match &view.node_ports {
        NodePortScope::AllLocal { loopback: answers } => {
            let mut rule = jump().matching(skeleton::for_this_machine());
            if !answers {
                rule.destination = Some(super::address(loopback(view.family), true));
            }
            vec![rule]
        }
        NodePortScope::Addresses(addresses) => {
            addresses.iter().map(|addr| jump().to_address(*addr)).collect()
        }
    }
}

/// The target of a refusal.
pub(super) fn reject() -> Target {
    Target::Reject(RejectWith::PortUnreachable)
}
