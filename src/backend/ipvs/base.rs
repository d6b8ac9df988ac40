//! The rules that stand beside the virtual servers: they mark what is masqueraded, filter, and refuse. No rule is made for
//! a single Service but those of KUBE-IPVS-OUT-FILTER; all others ask sets (reference sections 3.7 and 3.8).

use std::collections::BTreeMap;

use crate::backend::skeleton::{self, ctstate, loopback, user_chain};
use crate::net::{IpFamily, Protocol};
use crate::program::xtables::{
    AddrType, ChainName, ConntrackStates, Match, ProtocolMatch, RejectWith, Rule, RuleOrder, Ruleset,
    SetMatch, Side, Table, TableName, Target,
};
use crate::resolve::NodeView;

use super::names::{self, SetId};
use super::sets::{self, Members};
use super::{LowerOptions, Parts};

/// A jump from a built-in chain: table, built-in chain, target, comment.
type Jump = (TableName, &'static str, ChainName, &'static str);

/// The jumps as they stand in their built-in chains, first rule first. kube-proxy inserts each at the top, so this is
/// the reverse of the order in which it makes them.
const JUMPS: [Jump; 9] = {
    use TableName::{Filter, Nat};
    use names::{
        FIREWALL_COMMENT as FIREWALL, FORWARD, IPVS_FILTER, IPVS_OUT_FILTER, NODE_PORT, POSTROUTING,
        PROXY_FIREWALL, SERVICES,
    };
    const ACCESS: &str = "kubernetes ipvs access filter";
    const PORTALS: &str = "kubernetes service portals";
    [
        (Filter, "INPUT", IPVS_FILTER, ACCESS),
        (Filter, "INPUT", PROXY_FIREWALL, FIREWALL),
        (Filter, "INPUT", NODE_PORT, "kubernetes health check rules"),
        (Filter, "FORWARD", PROXY_FIREWALL, FIREWALL),
        (Filter, "FORWARD", FORWARD, "kubernetes forwarding rules"),
        (Filter, "OUTPUT", IPVS_OUT_FILTER, ACCESS),
        (Nat, "PREROUTING", SERVICES, PORTALS),
        (Nat, "OUTPUT", SERVICES, PORTALS),
        (Nat, "POSTROUTING", POSTROUTING, "kubernetes postrouting rules"),
    ]
};

/// The chains of our own.
pub(super) const CHAINS: [(TableName, ChainName); 11] = [
    (TableName::Nat, names::SERVICES),
    (TableName::Nat, names::POSTROUTING),
    (TableName::Nat, names::NODE_PORT),
    (TableName::Nat, names::LOAD_BALANCER),
    (TableName::Nat, names::MARK_MASQ),
    (TableName::Filter, names::FORWARD),
    (TableName::Filter, names::NODE_PORT),
    (TableName::Filter, names::PROXY_FIREWALL),
    (TableName::Filter, names::SOURCE_RANGES),
    (TableName::Filter, names::IPVS_FILTER),
    (TableName::Filter, names::IPVS_OUT_FILTER),
];

/// Every jump with its rule.
pub(super) fn jumps() -> impl Iterator<Item = (TableName, ChainName, Rule)> {
    JUMPS.into_iter().map(|(table, built_in, target, comment)| {
        (table, ChainName::literal(built_in), Rule::to(Target::Jump(target)).comment(comment))
    })
}

/// Destination address and port.
const VIP: &[Side] = &[Side::Destination, Side::Destination];
/// Destination address or port alone.
const DESTINATION: &[Side] = &[Side::Destination];
/// Destination address and port, source address.
const VIP_AND_SOURCE: &[Side] = &[Side::Destination, Side::Destination, Side::Source];
/// Source address, destination port.
const FROM_VIP: &[Side] = &[Side::Source, Side::Destination];

/// All rules.
pub(super) fn ruleset(view: &NodeView, options: &LowerOptions, parts: &mut Parts) -> Ruleset {
    let asking = Asking { family: view.family, members: &parts.members };
    let exact = |rules| user_chain(rules, RuleOrder::Exact);
    // What different Services put there may stand in any order: no packet is for two of them.
    let out_filter = std::mem::take(&mut parts.out_filter);
    let commuting = RuleOrder::FirstCommute(out_filter.len());
    let filter = [
        (names::FORWARD, exact(skeleton::accept_forwarded(options.masquerade_mark).to_vec())),
        (names::NODE_PORT, exact(health_checks(&asking))),
        (names::PROXY_FIREWALL, exact(guarded(&asking))),
        (names::SOURCE_RANGES, exact(source_ranges(&asking))),
        (names::IPVS_FILTER, exact(refusals(&asking))),
        (names::IPVS_OUT_FILTER, user_chain(out_filter, commuting)),
    ];
    let nat = [
        (names::SERVICES, exact(services(&asking, view, options))),
        (names::POSTROUTING, exact(postrouting(&asking, options))),
        (names::NODE_PORT, exact(node_ports(&asking))),
        (names::LOAD_BALANCER, exact(load_balancer(&asking))),
        (names::MARK_MASQ, exact(vec![skeleton::set_mark(options.masquerade_mark)])),
    ];
    let tables = BTreeMap::from([
        (TableName::Filter, Table { chains: BTreeMap::from(filter) }),
        (TableName::Nat, Table { chains: BTreeMap::from(nat) }),
    ]);
    skeleton::ruleset(view.family, tables, jumps())
}

/// Makes rules that ask sets.
struct Asking<'a> {
    family: IpFamily,
    members: &'a Members,
}

impl Asking<'_> {
    fn in_set(&self, set: SetId, directions: &[Side]) -> Match {
        let asked = SetMatch { set: set.name(self.family), directions: directions.into(), negated: false };
        Match::Set(Box::new(asked))
    }

    /// A rule for what a set holds.
    fn plain(&self, set: SetId, directions: &[Side], target: Target) -> Rule {
        Rule::to(target).matching(self.in_set(set, directions))
    }

    /// The same with a comment on the set.
    fn commented(&self, set: SetId, directions: &[Side], target: Target) -> Rule {
        Rule::to(target).comment(sets::comment(set)).matching(self.in_set(set, directions))
    }

    /// The rule with a comment, if the set holds anything.
    fn if_any(&self, set: SetId, directions: &[Side], target: Target) -> Option<Rule> {
        self.members.has(set).then(|| self.commented(set, directions, target))
    }
}

fn local(negated_source: Option<bool>, negated_destination: Option<bool>) -> Match {
    Match::AddrType(AddrType { source_local: negated_source, destination_local: negated_destination })
}

/// nat KUBE-SERVICES.
fn services(asking: &Asking<'_>, view: &NodeView, options: &LowerOptions) -> Vec<Rule> {
    let mark_masq = || Target::Jump(names::MARK_MASQ);
    let mut rules = vec![Rule::to(Target::Return).source(loopback(view.family), false)];
    rules.extend(asking.if_any(SetId::LoadBalancer, VIP, Target::Jump(names::LOAD_BALANCER)));
    rules.extend(masquerade_cluster_ips(asking, view, options));
    rules.extend(asking.if_any(SetId::ExternalIp, VIP, mark_masq()));
    for set in [SetId::ExternalIp, SetId::ExternalIpLocal] {
        // What comes from elsewhere is not taken for a node port; what comes by a bridge is, unless the address is here.
        let from_elsewhere = |rule: Rule| {
            rule.matching(Match::PhysdevIsIn { negated: true }).matching(local(Some(true), None))
        };
        rules.extend(asking.if_any(set, VIP, Target::Accept).map(from_elsewhere));
        let bound_here = |rule: Rule| rule.matching(local(None, Some(false)));
        rules.extend(asking.if_any(set, VIP, Target::Accept).map(bound_here));
    }
    rules.push(Rule::to(Target::Jump(names::NODE_PORT)).matching(local(None, Some(false))));
    for set in [SetId::ClusterIp, SetId::LoadBalancer] {
        rules.extend(asking.members.has(set).then(|| asking.plain(set, VIP, Target::Accept)));
    }
    rules
}

/// Masquerades what does not come from pods. Where pods cannot be told, at least what the node sends to itself: it
/// reaches a cluster IP from that very address.
fn masquerade_cluster_ips(asking: &Asking<'_>, view: &NodeView, options: &LowerOptions) -> Option<Rule> {
    let rule = |directions| asking.if_any(SetId::ClusterIp, directions, Target::Jump(names::MARK_MASQ));
    match &view.local_traffic {
        _ if options.masquerade_all => rule(VIP),
        Some(pods) => rule(VIP).map(|rule| skeleton::limited_to_pods(rule, pods, true)),
        None => rule(FROM_VIP),
    }
}

/// nat KUBE-LOAD-BALANCER.
fn load_balancer(asking: &Asking<'_>) -> Vec<Rule> {
    let keeps_source = asking.if_any(SetId::LoadBalancerLocal, VIP, Target::Return);
    keeps_source.into_iter().chain([Rule::to(Target::Jump(names::MARK_MASQ))]).collect()
}

/// nat KUBE-NODE-PORT.
fn node_ports(asking: &Asking<'_>) -> Vec<Rule> {
    let mut rules = Vec::with_capacity(6);
    for protocol in Protocol::ALL {
        let directions = match protocol {
            Protocol::Tcp | Protocol::Udp => DESTINATION,
            // There is no bitmap that knows SCTP.
            Protocol::Sctp => VIP,
        };
        for (keeps_source, target) in [(true, Target::Return), (false, Target::Jump(names::MARK_MASQ))] {
            let rule = asking.if_any(SetId::of_node_ports(protocol, keeps_source), directions, target);
            let matched = ProtocolMatch { number: protocol.number(), negated: false };
            rules.extend(rule.map(|rule| Rule { protocol: Some(matched), ..rule }));
        }
    }
    rules
}

/// nat KUBE-POSTROUTING: an endpoint that reaches itself comes with its own address, marked or not.
fn postrouting(asking: &Asking<'_>, options: &LowerOptions) -> Vec<Rule> {
    let masquerade = Target::Masquerade { random_fully: false };
    let hairpin = asking.if_any(SetId::LoopBack, VIP_AND_SOURCE, masquerade);
    let marked = skeleton::masquerade_marked(options.masquerade_mark, options.random_fully);
    hairpin.into_iter().chain(marked).collect()
}

/// filter KUBE-NODE-PORT.
fn health_checks(asking: &Asking<'_>) -> Vec<Rule> {
    vec![asking.commented(SetId::HealthCheckNodePort, DESTINATION, Target::Accept)]
}

/// filter KUBE-PROXY-FIREWALL.
fn guarded(asking: &Asking<'_>) -> Vec<Rule> {
    let to_ranges = Target::Jump(names::SOURCE_RANGES);
    asking.if_any(SetId::LoadBalancerFirewall, VIP, to_ranges).into_iter().collect()
}

/// filter KUBE-SOURCE-RANGES-FIREWALL.
fn source_ranges(asking: &Asking<'_>) -> Vec<Rule> {
    let allowed = [SetId::LoadBalancerSourceCidr, SetId::LoadBalancerSourceIp]
        .into_iter()
        .filter_map(|set| asking.if_any(set, VIP_AND_SOURCE, Target::Return));
    allowed.chain([Rule::to(Target::Drop)]).collect()
}

/// filter KUBE-IPVS-FILTER: the dummy device makes every port of an address of Services the node's own.
fn refusals(asking: &Asking<'_>) -> Vec<Rule> {
    let used = [SetId::LoadBalancer, SetId::ClusterIp, SetId::ExternalIp, SetId::ExternalIpLocal]
        .map(|set| asking.plain(set, VIP, Target::Return));
    let health_checks = asking.plain(SetId::HealthCheckNodePort, DESTINATION, Target::Return);
    let unused = Rule::to(Target::Reject(RejectWith::PortUnreachable))
        .matching(ctstate(ConntrackStates::NEW, false))
        .matching(asking.in_set(SetId::IpvsIps, DESTINATION));
    used.into_iter().chain([health_checks, unused]).collect()
}
