//! What modes on iptables share: the rules of source NAT and of forwarding, pods told from others, and built-in chains
//! with jumps around the chains of a mode (reference section 2.6).

use std::collections::BTreeMap;

use crate::net::{IpCidr, IpFamily};
use crate::program::xtables::{
    AddrType, Chain, ChainName, ConntrackStates, InterfaceMatch, Interfaces, MarkMatch, Match, Policy, Rule,
    RuleOrder, Ruleset, Table, TableName, Target,
};
use crate::resolve::LocalTraffic;

/// Adds built-in chains to the chains of tables, and the jumps in them, in their order.
pub(super) fn ruleset(
    family: IpFamily,
    mut tables: BTreeMap<TableName, Table>,
    jumps: impl Iterator<Item = (TableName, ChainName, Rule)>,
) -> Ruleset {
    for (name, table) in &mut tables {
        for built_in in name.built_in_chains() {
            let chain = Chain { policy: Some(Policy::Accept), ..Chain::default() };
            table.chains.insert(ChainName::literal(built_in), chain);
        }
    }
    for (table, built_in, rule) in jumps {
        if let Some(chain) = tables.get_mut(&table).and_then(|table| table.chains.get_mut(&built_in)) {
            chain.rules.push(rule);
        }
    }
    Ruleset { family, tables }
}

/// A chain of a mode's own.
pub(super) fn user_chain(rules: Vec<Rule>, order: RuleOrder) -> Chain {
    Chain { policy: None, rules, order }
}

/// `--ctstate`.
pub(super) fn ctstate(bits: u8, negated: bool) -> Match {
    Match::Conntrack(ConntrackStates { bits, negated })
}

/// What is for an address of this machine: `--dst-type LOCAL`.
pub(super) fn for_this_machine() -> Match {
    Match::AddrType(AddrType { source_local: None, destination_local: Some(false) })
}

/// Whether a packet bears a mark.
fn marked(mark: u32, negated: bool) -> Match {
    Match::Mark(MarkMatch { value: mark, mask: mark, negated })
}

/// Asks for source NAT.
pub(super) fn set_mark(mark: u32) -> Rule {
    Rule::to(Target::Mark { value: mark, mask: mark })
}

/// What bears the mark leaves with the node's address.
pub(super) fn masquerade_marked(mark: u32, random_fully: bool) -> Vec<Rule> {
    vec![
        Rule::to(Target::Return).matching(marked(mark, true)),
        // The mark is cleared, so that a packet that is routed once more is not masqueraded twice.
        Rule::to(Target::Mark { value: mark, mask: 0 }),
        Rule::to(Target::Masquerade { random_fully }).comment("kubernetes service traffic requiring SNAT"),
    ]
}

/// A default-drop FORWARD policy must not stop Services.
pub(super) fn accept_forwarded(mark: u32) -> [Rule; 2] {
    let known = ConntrackStates::RELATED | ConntrackStates::ESTABLISHED;
    [
        Rule::to(Target::Accept).comment("kubernetes forwarding rules").matching(marked(mark, false)),
        Rule::to(Target::Accept)
            .comment("kubernetes forwarding conntrack rule")
            .matching(ctstate(known, false)),
    ]
}

/// Narrows a rule to traffic of pods, or to all other traffic.
pub(super) fn limited_to_pods(rule: Rule, pods: &LocalTraffic, negated: bool) -> Rule {
    let by_interface = |rule: Rule, name: Box<str>| {
        let input = Some(InterfaceMatch { name, negated });
        Rule { interfaces: Some(Box::new(Interfaces { input, output: None })), ..rule }
    };
    match pods {
        LocalTraffic::Source(cidr) => rule.source(*cidr, negated),
        LocalTraffic::Interface(name) => by_interface(rule, name.as_ref().into()),
        LocalTraffic::InterfacePrefix(prefix) => by_interface(rule, format!("{prefix}+").into()),
    }
}

/// 127.0.0.0/8 or ::1/128.
pub(super) fn loopback(family: IpFamily) -> IpCidr {
    match family {
        IpFamily::V4 => {
            IpCidr::new(std::net::Ipv4Addr::new(127, 0, 0, 0).into(), 8).unwrap_or(IpCidr::any(IpFamily::V4))
        }
        IpFamily::V6 => IpCidr::host(std::net::Ipv6Addr::LOCALHOST.into()),
    }
}
