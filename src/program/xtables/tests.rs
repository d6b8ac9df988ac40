//! Tests of the language as a whole: recorded texts, and properties over random rule sets.

use std::net::IpAddr;

use proptest::prelude::*;

use crate::net::{AddrPort, IpCidr, IpFamily, Protocol};
use crate::program::scope::{ChainPattern, Scope};

use super::*;

/// A recorded text of each kind, of each cluster.
macro_rules! recordings {
    ($($cluster:literal)*) => {
        [$(
            (IpFamily::V4, include_str!(concat!("../../../testdata/recordings/", $cluster, "/iptables-save.txt"))),
            (IpFamily::V6, include_str!(concat!("../../../testdata/recordings/", $cluster, "/ip6tables-save.txt"))),
            (IpFamily::V4, include_str!(concat!("../../../testdata/recordings/", $cluster, "/ipvs-iptables-save.txt"))),
            (IpFamily::V6, include_str!(concat!("../../../testdata/recordings/", $cluster, "/ipvs-ip6tables-save.txt"))),
        )*]
    };
}

pub(super) const RECORDINGS: [(IpFamily, &str); 48] =
    recordings!("c01" "c02" "c03" "c04" "c05" "c06" "c07" "c08" "c09" "c10" "c11" "c12");

pub(super) fn emitted(ruleset: &Ruleset) -> String {
    let mut text = Vec::new();
    emit::write_document(&mut text, ruleset, "");
    String::from_utf8(text).unwrap()
}

#[test]
fn recorded_texts_come_back_to_the_byte() {
    for (family, text) in RECORDINGS {
        let ruleset = parse::parse(text, family).unwrap();
        let expected: String = text
            .split_inclusive('\n')
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.replace("--nfacct-name  ", "--nfacct-name "))
            .collect();
        for (line, wanted) in emitted(&ruleset).lines().zip(expected.lines()) {
            assert_eq!(line, wanted);
        }
        let mut pieces = Vec::new();
        emit::write_document_to(&mut pieces, &ruleset, "").unwrap();
        assert_eq!(pieces, expected.into_bytes());
    }
}

fn cidr(family: IpFamily) -> BoxedStrategy<IpCidr> {
    (address(family), 0..=family.bits()).prop_map(|(addr, len)| IpCidr::new(addr, len).unwrap()).boxed()
}

fn address(family: IpFamily) -> BoxedStrategy<IpAddr> {
    match family {
        IpFamily::V4 => any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())).boxed(),
        // Many zeros, for the short form.
        IpFamily::V6 => prop::array::uniform8(prop_oneof![Just(0_u16), Just(0xffff), any::<u16>()])
            .prop_map(|groups| IpAddr::V6(groups.into()))
            .boxed(),
    }
}

fn address_match(family: IpFamily) -> BoxedStrategy<Option<AddrMatch>> {
    let matched = (cidr(family), any::<bool>()).prop_map(|(cidr, negated)| AddrMatch { cidr, negated });
    prop::option::of(matched.prop_filter("no match at all", |one| one.negated || !one.cidr.is_any())).boxed()
}

fn ports() -> BoxedStrategy<Option<PortRange>> {
    prop::option::of((any::<u16>(), any::<u16>(), any::<bool>(), any::<bool>()).prop_filter_map(
        "all ports",
        |(one, other, negated, single)| {
            let (first, last) = if single { (one, one) } else { (one.min(other), one.max(other)) };
            ((first, last) != (0, u16::MAX)).then_some(PortRange { first, last, negated })
        },
    ))
    .boxed()
}

fn protocol() -> BoxedStrategy<Protocol> {
    prop::sample::select(Protocol::ALL.to_vec()).boxed()
}

fn one_match() -> BoxedStrategy<Match> {
    let unmodelled = [
        "-m set ! --match-set A src,dst",
        "-m tcp --tcp-flags SYN,RST SYN",
        "-m tcp --dport 80 --tcp-flags SYN,RST SYN",
        "-m statistic --mode nth --every 3 --packet 0",
        "-m statistic --mode random ! --probability 0.50000000000",
        "-m string --string \"a -j \\\" b\" --algo bm --to 65535",
        "-m conntrack --ctstate NEW --ctproto 6",
        "-m physdev ! --physdev-is-in",
        "-m multiport --dports 80,443",
        "-m state --state NEW",
        "-m recent --update --seconds 5 --name x --mask 255.255.255.255 --rsource",
    ];
    let recent = ("[A-Za-z0-9_.-]{1,20}", any::<u32>(), any::<bool>(), any::<bool>()).prop_map(
        |(list, seconds, reap, sets)| {
            let action = if sets { RecentAction::Set } else { RecentAction::Check { seconds, reap } };
            Match::Recent(Box::new(Recent { list: list.into(), action }))
        },
    );
    prop_oneof![
        prop_oneof!["[ -~]{0,40}", "\\PC{0,40}", "[a-z]{1,8}", "[!-]"].prop_map(|text| Match::Comment(text.into())),
        (protocol(), ports(), ports()).prop_map(|(protocol, source, destination)| Match::Ports(PortsMatch {
            protocol,
            source,
            destination
        })),
        (0..=1_u32 << 31).prop_map(Match::Probability),
        (any::<u32>(), any::<u32>(), any::<bool>())
            .prop_map(|(value, mask, negated)| Match::Mark(MarkMatch { value, mask, negated })),
        (1..128_u8, any::<bool>())
            .prop_map(|(bits, negated)| Match::Conntrack(ConntrackStates { bits, negated })),
        prop::sample::select(vec![
            (Some(false), None),
            (Some(true), None),
            (None, Some(false)),
            (None, Some(true)),
            (Some(true), Some(false)),
        ])
        .prop_map(|(source_local, destination_local)| Match::AddrType(AddrType { source_local, destination_local })),
        recent,
        "[a-zA-Z_ /\"]{1,31}".prop_map(|name| Match::Nfacct(name.into())),
        prop::sample::select(unmodelled.to_vec()).prop_map(|text| Match::Unmodelled(text.into())),
    ]
    .boxed()
}

const CHAINS: [&str; 6] = ["ONE", "TWO", "OURS-A", "OURS-B", "OURS-C", "FIXED"];

fn chain_name() -> BoxedStrategy<ChainName> {
    prop::sample::select(CHAINS.to_vec()).prop_map(ChainName::literal).boxed()
}

fn target(family: IpFamily) -> BoxedStrategy<Target> {
    let unmodelled = ["-j LOG --log-prefix \"a \\\"b\"", "-j NOTRACK", "-j DNAT --to-destination 1.2.3.4:80-90"];
    prop_oneof![
        4 => chain_name().prop_map(Target::Jump),
        1 => chain_name().prop_map(Target::Goto),
        1 => prop::sample::select(vec![
            Target::Accept,
            Target::Drop,
            Target::Return,
            Target::Reject(RejectWith::PortUnreachable),
            Target::Reject(RejectWith::TcpReset),
            Target::Reject(RejectWith::HostUnreachable),
            Target::Reject(RejectWith::NetUnreachable),
            Target::Reject(RejectWith::AdminProhibited),
            Target::Masquerade { random_fully: true },
            Target::Masquerade { random_fully: false },
        ]),
        1 => (any::<u32>(), any::<u32>()).prop_map(|(value, mask)| Target::Mark { value, mask }),
        1 => (address(family), any::<u16>()).prop_map(|(addr, port)| Target::Dnat(AddrPort::new(addr, port))),
        1 => prop::sample::select(unmodelled.to_vec()).prop_map(|text| Target::Unmodelled(text.into())),
    ]
    .boxed()
}

fn interfaces() -> BoxedStrategy<Option<Box<Interfaces>>> {
    let one = || {
        let matched = ("[a-z]{1,8}[0-9]?\\+?", any::<bool>());
        prop::option::of(matched.prop_map(|(name, negated)| InterfaceMatch { name: name.into(), negated }))
    };
    (one(), one())
        .prop_map(|(input, output)| {
            (input.is_some() || output.is_some()).then(|| Box::new(Interfaces { input, output }))
        })
        .boxed()
}

fn rule(family: IpFamily) -> BoxedStrategy<Rule> {
    let protocol = prop::option::of((1..=u8::MAX, any::<bool>()));
    let matches = prop::collection::vec(one_match(), 0..4);
    let header = (address_match(family), address_match(family), interfaces(), protocol);
    (header, matches, prop::option::of(target(family)))
        .prop_map(|((source, destination, interfaces, protocol), matches, target)| Rule {
            source,
            destination,
            interfaces,
            protocol: protocol.map(|(number, negated)| ProtocolMatch { number, negated }),
            matches: matches.into(),
            target,
            tag: None,
        })
        .boxed()
}

/// Few different rules, so that two rule sets have some in common.
fn plain_rule() -> BoxedStrategy<Rule> {
    (chain_name(), prop::option::of("[ab]"))
        .prop_map(|(chain, comment)| {
            let rule = Rule::to(Target::Jump(chain));
            comment.map_or(rule.clone(), |text| rule.comment(text))
        })
        .boxed()
}

fn table(name: TableName, rule: BoxedStrategy<Rule>) -> BoxedStrategy<Table> {
    let chains = prop::collection::btree_map(chain_name(), prop::collection::vec(rule.clone(), 0..5), 0..5);
    let built_in = prop::collection::vec(prop::collection::vec(rule, 0..3), name.built_in_chains().len());
    (chains, built_in, prop::sample::select(vec![Policy::Accept, Policy::Drop]))
        .prop_map(move |(chains, built_in, policy)| {
            let built_in = name.built_in_chains().iter().zip(built_in).map(|(chain, rules)| {
                (ChainName::literal(chain), Chain { policy: Some(policy), rules, order: RuleOrder::Exact })
            });
            let own = chains
                .into_iter()
                .map(|(chain, rules)| (chain, Chain { policy: None, rules, order: RuleOrder::Exact }));
            Table { chains: own.chain(built_in).collect() }
        })
        .boxed()
}

fn ruleset(family: IpFamily, rule: fn(IpFamily) -> BoxedStrategy<Rule>) -> BoxedStrategy<Ruleset> {
    let tables: Vec<_> = TableName::ALL.map(|name| prop::option::of(table(name, rule(family)))).into();
    tables
        .prop_map(move |tables| Ruleset {
            family,
            tables: TableName::ALL
                .into_iter()
                .zip(tables)
                .filter_map(|(name, table)| Some((name, table?)))
                .collect(),
        })
        .boxed()
}

fn either_family() -> BoxedStrategy<Ruleset> {
    prop_oneof![ruleset(IpFamily::V4, rule), ruleset(IpFamily::V6, rule)].boxed()
}

/// Only chains that a scope owns, and jumps in built-in chains.
fn only_ours(mut ruleset: Ruleset, scope: &Scope, n_commuting: usize) -> Ruleset {
    for (name, table) in &mut ruleset.tables {
        table.chains.retain(|chain, content| content.policy.is_some() || scope.owns(*name, chain));
        let chains: Vec<ChainName> = table.chains.keys().copied().collect();
        for content in table.chains.values_mut() {
            content.rules.retain(|rule| rule.chain().is_none_or(|chain| chains.contains(chain)));
            if content.policy.is_none() {
                content.order = RuleOrder::FirstCommute(n_commuting);
            }
        }
    }
    ruleset
}

fn scope() -> Scope {
    let table = TableName::ALL.into_iter();
    let jump = Rule::to(Target::Jump(ChainName::literal("OURS-A"))).comment("a");
    Scope {
        chains: table.clone().map(|table| (table, ChainPattern::Prefix("OURS-"))).collect(),
        ignored: vec![(TableName::Nat, ChainName::literal("OURS-C"))],
        jumps: table
            .flat_map(|table| table.built_in_chains().iter().map(move |chain| (table, ChainName::literal(chain))))
            .map(|(table, chain)| (table, chain, jump.clone()))
            .collect(),
    }
}

proptest! {
    #[test]
    fn what_is_emitted_is_parsed(ruleset in either_family()) {
        let text = emitted(&ruleset);
        let again = parse::parse(&text, ruleset.family);
        prop_assert_eq!(again.as_ref(), Ok(&ruleset), "{}", text);
        prop_assert_eq!(emitted(&again.unwrap()), text);
    }

    #[test]
    fn arguments_are_the_words_of_the_line(rule in rule(IpFamily::V4)) {
        let quoted: Vec<String> = emit::rule_args(&rule, IpFamily::V4)
            .into_iter()
            .map(|word| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")))
            .map(|word| if word.contains(' ') || word.len() < 3 { word } else { word.trim_matches('"').to_owned() })
            .collect();
        // A word with neither blank nor quote reads as itself.
        if quoted.iter().all(|word| word.starts_with('"') || !word.contains(['"', '\\'])) {
            let text = format!("*raw\n{}-A ONE {}\nCOMMIT\n", ":ONE - [0:0]\n", quoted.join(" "));
            let parsed = parse::parse(&text, IpFamily::V4).unwrap();
            let one = &parsed.chain(TableName::Raw, &ChainName::literal("ONE")).unwrap().rules[0];
            prop_assert_eq!(one.target.is_some(), rule.target.is_some());
        }
    }

    #[test]
    fn a_difference_that_is_applied_is_gone(
        wanted in ruleset(IpFamily::V4, |_| plain_rule()),
        live in ruleset(IpFamily::V4, |_| plain_rule()),
        n_commuting in 0..4_usize,
    ) {
        let scope = scope();
        let wanted = only_ours(wanted, &scope, n_commuting);
        let change = diff::diff(&wanted, &live, &scope);
        let after = diff::apply(&live, &change, &wanted);
        let rest = diff::diff(&wanted, &after, &scope);
        prop_assert!(rest.is_empty(), "{rest:?} is left of {change:?}");
        for (name, table) in &live.tables {
            for (chain, content) in &table.chains {
                if content.policy.is_none() && !scope.owns(*name, chain) {
                    prop_assert_eq!(after.chain(*name, chain), Some(content));
                }
            }
        }
        let restored = diff::restore_document(&change, &wanted);
        if let Some(restored) = restored {
            let text = String::from_utf8(restored.text).unwrap();
            prop_assert!(parse::parse(&text, IpFamily::V4).is_ok(), "{}", text);
        }
        // Nothing of others jumps to a chain that is gone.
        for (name, table) in &after.tables {
            for content in table.chains.values() {
                for target in content.rules.iter().filter_map(Rule::chain) {
                    let was = live.chain(*name, target).is_some() || wanted.chain(*name, target).is_some();
                    prop_assert!(!was || table.chains.contains_key(target), "{target} is gone from {name}");
                }
            }
        }
        let removal = diff::diff(&Ruleset::empty(IpFamily::V4), &live, &scope);
        let cleaned = diff::apply(&live, &removal, &Ruleset::empty(IpFamily::V4));
        prop_assert!(diff::diff(&Ruleset::empty(IpFamily::V4), &cleaned, &scope).is_empty());
    }

    #[test]
    fn the_parser_survives_anything(text in "\\PC{0,200}", lines in prop::collection::vec("[-:*\\[#A-Z\"\\\\! 0-9a-z/]{0,30}", 0..8)) {
        let _ = parse::parse(&text, IpFamily::V4);
        let _ = parse::parse(&format!("*nat\n:ONE - [0:0]\n-A ONE {}\nCOMMIT", lines.join("\n")), IpFamily::V6);
    }

    #[test]
    fn the_parser_survives_damage(which in 0..RECORDINGS.len(), cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let (family, text) = RECORDINGS[which];
        let mut bytes = text.as_bytes().to_vec();
        for (at, byte) in cuts {
            let at = at.index(bytes.len());
            match byte % 3 {
                0 => { bytes.remove(at); }
                1 => bytes.insert(at, byte),
                _ => bytes[at] = byte,
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(ruleset) = parse::parse(&text, family) {
            let _ = check::check(&ruleset);
            prop_assert_eq!(parse::parse(&emitted(&ruleset), family), Ok(ruleset));
        }
    }
}
