//! Tests of the language as a whole: recorded texts, and properties over random rule sets.

use std::net::IpAddr;

use proptest::prelude::*;

use crate::net::{AddrPort, IpCidr, IpFamily, Protocol};
use crate::program::ipset::SetName;
use crate::program::scope::{ChainPattern, Scope};

use super::diff::ChainChange;
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

pub(super) const RECORDINGS: [(IpFamily, &str); 56] =
    recordings!("c01" "c02" "c03" "c04" "c05" "c06" "c07" "c08" "c09" "c10" "c11" "c12" "c13" "c14");

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

#[test]
fn nothing_recorded_is_kept_as_mere_text() {
    for (family, text) in RECORDINGS {
        let ruleset = parse::parse(text, family).unwrap();
        for (table, chain, rule) in ruleset.tables.iter().flat_map(|(name, table)| {
            let chains = table.chains.iter();
            chains.flat_map(move |(chain, content)| content.rules.iter().map(move |rule| (name, chain, rule)))
        }) {
            let text = rule.matches.iter().any(|one| matches!(one, Match::Unmodelled(_)))
                || matches!(rule.target, Some(Target::Unmodelled(_)));
            assert!(!text, "{table} {chain}: {rule:?}");
        }
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

fn directions() -> BoxedStrategy<Vec<Side>> {
    prop::collection::vec(prop::sample::select(vec![Side::Source, Side::Destination]), 1..=6).boxed()
}

fn ipvs_match(family: IpFamily) -> BoxedStrategy<Match> {
    let protocol =
        (1..=u8::MAX, any::<bool>()).prop_map(|(number, negated)| ProtocolMatch { number, negated });
    let address = (cidr(family), any::<bool>()).prop_map(|(cidr, negated)| AddrMatch { cidr, negated });
    (prop::option::of(protocol), prop::option::of(address), prop::option::of(any::<(u16, bool)>()))
        .prop_filter_map("no option at all", |(protocol, address, port)| {
            let any = protocol.is_some() || address.is_some() || port.is_some();
            any.then(|| Match::Ipvs(Box::new(IpvsMatch { protocol, address, port })))
        })
        .boxed()
}

fn one_match(family: IpFamily) -> BoxedStrategy<Match> {
    let unmodelled = [
        "-m set --match-set A src,dst --return-nomatch",
        "-m set --match-set A source",
        "-m ipvs --ipvs",
        "-m ipvs --vaddr 10.0.0.1 --vdir REPLY",
        "-m tcp --tcp-flags SYN,RST SYN",
        "-m tcp --dport 80 --tcp-flags SYN,RST SYN",
        "-m statistic --mode nth --every 3 --packet 0",
        "-m statistic --mode random ! --probability 0.50000000000",
        "-m string --string \"a -j \\\" b\" --algo bm --to 65535",
        "-m conntrack --ctstate NEW --ctproto 6",
        "-m physdev --physdev-in veth+",
        "-m physdev ! --physdev-is-in --physdev-is-bridged",
        "-m multiport --dports 80,443",
        "-m bpf --bytecode \"1,6 0 0 65535\"",
        "-m recent --update --seconds 5 --name x --mask 255.255.255.255 --rsource",
    ];
    let recent = ("[A-Za-z0-9_.-]{1,20}", any::<u32>(), any::<bool>(), any::<bool>()).prop_map(
        |(list, seconds, reap, sets)| {
            let action = if sets { RecentAction::Set } else { RecentAction::Check { seconds, reap } };
            Match::Recent(Box::new(Recent { list: list.into(), action }))
        },
    );
    prop_oneof![
        prop_oneof!["[ -~]{0,40}", "\\PC{0,40}", "[a-z]{1,8}", "[!-]"]
            .prop_map(|text| Match::Comment(text.into())),
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
        .prop_map(|(source_local, destination_local)| Match::AddrType(AddrType {
            source_local,
            destination_local
        })),
        recent,
        "[a-zA-Z_ /\"]{1,31}".prop_map(|name| Match::Nfacct(name.into())),
        ("[A-Za-z][A-Za-z0-9:.-]{0,30}", directions(), any::<bool>()).prop_map(
            |(set, directions, negated)| {
                let set = SetName::new(&set).unwrap();
                Match::Set(Box::new(SetMatch { set, directions: directions.into(), negated }))
            }
        ),
        any::<bool>().prop_map(|negated| Match::PhysdevIsIn { negated }),
        Just(Match::ToItself),
        ipvs_match(family),
        prop::sample::select(unmodelled.to_vec()).prop_map(|text| Match::Unmodelled(text.into())),
    ]
    .boxed()
}

const CHAINS: [&str; 6] = ["ONE", "TWO", "OURS-A", "OURS-B", "OURS-C", "FIXED"];

fn chain_name() -> BoxedStrategy<ChainName> {
    prop::sample::select(CHAINS.to_vec()).prop_map(ChainName::literal).boxed()
}

fn target(family: IpFamily) -> BoxedStrategy<Target> {
    let unmodelled =
        ["-j LOG --log-prefix \"a \\\"b\"", "-j NOTRACK", "-j DNAT --to-destination 1.2.3.4:80-90"];
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
        1 => any::<u16>().prop_map(Target::Redirect),
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
    let matches = prop::collection::vec(one_match(family), 0..4);
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
            .flat_map(|table| {
                table.built_in_chains().iter().map(move |chain| (table, ChainName::literal(chain)))
            })
            .map(|(table, chain)| (table, chain, jump.clone()))
            .collect(),
        ..Scope::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_emitted_is_parsed(ruleset in either_family()) {
        let text = emitted(&ruleset);
        let again = parse::parse(&text, ruleset.family);
        prop_assert_eq!(again.as_ref(), Ok(&ruleset), "{}", text);
        prop_assert_eq!(emitted(&again.unwrap()), text);
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
            // A listing tells the chains that are always there, and has no rule that is put before others.
            let listed = |line: &str| match line.strip_prefix('*').and_then(TableName::from_name) {
                Some(table) => {
                    let chains = table.built_in_chains().iter().map(|chain| format!(":{chain} ACCEPT [0:0]\n"));
                    format!("{line}\n{}", chains.collect::<String>())
                }
                None => line.replace("-I ", "-A ").replace(" 1 -", " -") + "\n",
            };
            let text: String = String::from_utf8(restored.text).unwrap().lines().map(listed).collect();
            // A table may be there twice: with its chains, and with jumps that come after those of others.
            for table in text.split_inclusive("COMMIT\n") {
                prop_assert!(parse::parse(table, IpFamily::V4).is_ok(), "{}", text);
            }
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
            let again = parse::parse(&emitted(&ruleset), family).unwrap();
            for (line, again) in emitted(&ruleset).lines().zip(emitted(&again).lines()) {
                prop_assert_eq!(line, again);
            }
            prop_assert!(again == ruleset);
        }
    }
}

fn one(body: &str, family: IpFamily) -> Rule {
    let text = format!("*nat\n:ONE - [0:0]\n-A ONE {body}\nCOMMIT\n");
    parse::parse(&text, family).unwrap().tables[&TableName::Nat].chains[&ChainName::literal("ONE")].rules[0]
        .clone()
}

fn saved(body: &str, family: IpFamily) -> String {
    let mut text = Vec::new();
    emit::write_rule(&mut text, family, &ChainName::literal("ONE"), &one(body, family));
    String::from_utf8(text).unwrap().trim_end().trim_start_matches("-A ONE").trim_start().to_owned()
}

#[test]
fn forms_that_mean_the_same_are_one() {
    let cases = [
        (
            "-m comment --comment \"a/b cluster IP\" -m tcp -p tcp -d 10.0.0.1 --dport 80 ! -s 10.0.0.9/8 -j X",
            "! -s 10.0.0.0/8 -d 10.0.0.1/32 -p tcp -m comment --comment \"a/b cluster IP\" -m tcp --dport 80 -j X",
        ),
        (
            "-m comment --comment a/b:c -m recent --name X --set",
            "-m comment --comment \"a/b:c\" -m recent --set --name X --mask 255.255.255.255 --rsource",
        ),
        (
            "-m recent --name X --rcheck --seconds 10 --reap -j X",
            "-m recent --rcheck --seconds 10 --reap --name X --mask 255.255.255.255 --rsource -j X",
        ),
        ("-m mark ! --mark 0x00004000/0x00004000 -j RETURN", "-m mark ! --mark 0x4000/0x4000 -j RETURN"),
        ("-m mark --mark 5", "-m mark --mark 0x5"),
        ("-j MARK --or-mark 0x00004000", "-j MARK --set-xmark 0x4000/0x4000"),
        ("-j MARK --xor-mark 0x00004000", "-j MARK --set-xmark 0x4000/0x0"),
        ("-j MARK --set-mark 0x1/0x2", "-j MARK --set-xmark 0x1/0x3"),
        ("-j MARK --and-mark 1", "-j MARK --set-xmark 0x0/0xfffffffe"),
        (
            "-m statistic --mode random --probability 0.3333333333",
            "-m statistic --mode random --probability 0.33333333349",
        ),
        (
            "-m statistic --mode random --probability 1",
            "-m statistic --mode random --probability 1.00000000000",
        ),
        ("-j REJECT", "-j REJECT --reject-with icmp-port-unreachable"),
        ("-m nfacct --nfacct-name  a_b", "-m nfacct --nfacct-name a_b"),
        ("-p tcp --dport :80", "-p tcp -m tcp --dport 0:80"),
        ("-p 47 -i + -s 0.0.0.0/0", "-p gre"),
        ("-p 200 ! -s 0/0 -j ACCEPT", "-p 200 ! -s 0/0 -j ACCEPT"),
        ("-p all -j ACCEPT", "-j ACCEPT"),
        ("-s 10.1.2.3/255.255.0.0", "-s 10.1.0.0/16"),
        (
            "-m addrtype ! --dst-type LOCAL --src-type LOCAL",
            "-m addrtype --src-type LOCAL ! --dst-type LOCAL",
        ),
        (
            "-m ipvs --vport 53 --vproto udp ! --vaddr 10.0.0.1/32 -j DROP",
            "-m ipvs --vproto 17 ! --vaddr 10.0.0.1 --vport 53 -j DROP",
        ),
        ("-m ipvs --vaddr 10.0.0.1/255.0.0.0", "-m ipvs --vaddr 10.0.0.0/8"),
        ("-m set ! --match-set \"A\" dst,src", "-m set ! --match-set A dst,src"),
        ("-m conntrack --ctstate ESTABLISHED,RELATED", "-m conntrack --ctstate RELATED,ESTABLISHED"),
        ("-m comment --comment \"a\\\"b\\\\c'd $x\"", "-m comment --comment \"a\\\"b\\\\c\\'d $x\""),
    ];
    for (written, read) in cases {
        assert_eq!(saved(written, IpFamily::V4), read);
        assert_eq!(saved(read, IpFamily::V4), read);
    }
    let cases = [
        ("-s ::1.2.3.4 -p icmpv6", "-s ::1.2.3.4/128 -p ipv6-icmp"),
        ("-d ::ffff:1.2.3.4/128", "-d ::ffff:1.2.3.4/128"),
        ("! -d ::1/128 -s ::/0", "! -d ::1/128"),
        ("-s fd00:0:0:1::/64", "-s fd00:0:0:1::/64"),
        (
            "-p tcp -m tcp -j DNAT --to-destination [fd00::1:0:0:1]:80",
            "-p tcp -m tcp -j DNAT --to-destination [fd00::1:0:0:1]:80",
        ),
        ("-j REJECT --reject-with icmp6-no-route", "-j REJECT --reject-with icmp6-no-route"),
    ];
    for (written, read) in cases {
        assert_eq!(saved(written, IpFamily::V6), read);
    }
}

#[test]
fn what_is_not_modelled_stays_as_it_is() {
    for body in [
        "-f -j ACCEPT",
        "-s 10.0.0.0/255.0.255.0 -p tcp -m tcp --dport 80 -j ACCEPT",
        "-p tcp -m tcp --dport 80 --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT",
        "-d 10.0.0.1/32 ! -i br+ -p tcp -m set ! --match-set A dst -m conntrack --ctstate NEW --ctdir REPLY -j LOG --log-prefix \"hi -j there\" --log-level 4",
        "-p icmp -m icmp --icmp-type 8 -j NFLOG",
        "-j DNAT --to-destination 1.2.3.4",
        "-j MASQUERADE --to-ports 1024-65535",
        "-m comment --comment -j -j RETURN",
    ] {
        assert_eq!(saved(body, IpFamily::V4), body);
    }
    assert_eq!(one("-f -j ONE", IpFamily::V4).chain(), Some(&ChainName::literal("ONE")));
}

#[test]
fn arguments_are_single_words() {
    let rule = one(
        "-m comment --comment \"a \\\"b\\\" ! c\" ! -s 10.0.0.0/8 -j LOG --log-prefix \"x y\"",
        IpFamily::V4,
    );
    let words = [
        "!",
        "-s",
        "10.0.0.0/8",
        "-m",
        "comment",
        "--comment",
        "a \"b\" ! c",
        "-j",
        "LOG",
        "--log-prefix",
        "x y",
    ];
    assert_eq!(emit::rule_args(&rule, IpFamily::V4), words);
}

#[test]
fn errors_say_where() {
    let error = |text: &str| parse::parse(text, IpFamily::V4).unwrap_err().to_string();
    assert_eq!(
        error("*nat\n:A - [0:0]\n-A B -j A\nCOMMIT\n"),
        "line 3, column 4: expected a chain that was declared, not `B`"
    );
    assert_eq!(
        error("*nat\n:A - [0:0]\n:A - [0:0]\nCOMMIT\n"),
        "line 3, column 1: expected another chain: `A` is there twice"
    );
    assert_eq!(
        error("*nat\nCOMMIT\n*nat\nCOMMIT"),
        "line 3, column 2: expected another table: `nat` is there twice"
    );
    assert_eq!(
        error("*nat\n:A - [0:0]\n-A A -m comment --comment \"ö\" -j\nCOMMIT"),
        "line 3, column 33: expected a target"
    );
    assert_eq!(error("*nat\n:A - [0:0]\n-A A \"b\nCOMMIT"), "line 3, column 6: expected a closing quote");
    assert_eq!(error("*nat\n:A - [0:0]\n-A A hello"), "line 3, column 6: expected an option");
    assert_eq!(error("*nat\n:A MAYBE [0:0]\n"), "line 2, column 4: expected a policy: ACCEPT, DROP or -");
    assert_eq!(error("*nat\n"), "line 2, column 1: expected COMMIT");
    assert_eq!(error("hello"), "line 1, column 1: expected a table, a chain, a rule, COMMIT or a comment");
}

#[test]
fn reads_counters_comments_and_commands() {
    let text = "# Generated by iptables-save\n# Warning: iptables-legacy tables present\r\n*nat\r\n:A - [12:34]\n:B -\n-N C\n\
                [5:6] -A A -j B\n-A C -m comment --comment \"two\nlines\" -j A\n-X B\nCOMMIT\n";
    let ruleset = parse::parse(text, IpFamily::V4).unwrap();
    assert_eq!(
        emitted(&ruleset),
        "*nat\n:A - [0:0]\n:C - [0:0]\n-A A -j B\n-A C -m comment --comment \"two\nlines\" -j A\nCOMMIT\n"
    );
}

#[test]
fn lines_know_what_they_were_made_for() {
    let chain = ChainName::literal("ONE");
    let rules = vec![Rule::to(Target::Accept), Rule::to(Target::Drop).tagged(crate::program::Tag(7))];
    let table = Table { chains: [(chain, Chain { rules, ..Chain::default() })].into() };
    let ruleset = Ruleset { family: IpFamily::V4, tables: [(TableName::Raw, table)].into() };
    let emitted = emit::emit(&ruleset, "made by a test\n");
    assert_eq!(
        String::from_utf8(emitted.text).unwrap(),
        "# made by a test\n*raw\n:ONE - [0:0]\n-A ONE -j ACCEPT\n-A ONE -j DROP\nCOMMIT\n"
    );
    assert_eq!(emitted.lines.tag_at(5), Some(crate::program::Tag(7)));
    assert_eq!(emitted.lines.tag_at(4), None);
    let change = diff::diff(&ruleset, &Ruleset::empty(IpFamily::V4), &Scope::default());
    assert_eq!(
        diff::restore_document(&change, &ruleset).unwrap().lines.tag_at(4),
        Some(crate::program::Tag(7))
    );
}

#[test]
fn recorded_texts_have_no_problems() {
    for (family, text) in RECORDINGS {
        let problems = check::check(&parse::parse(text, family).unwrap());
        assert!(problems.is_empty(), "{}", problems[0]);
    }
}

#[test]
fn problems_are_found() {
    let text = "*filter\n:INPUT ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n:C DROP [0:0]\n\
                -A A -j B\n-A B -j A\n-A A -g NONE\n-A A -j INPUT\n-A A -m tcp --dport 80 -j ACCEPT\n\
                -A A -p tcp -j DNAT --to-destination 1.2.3.4:80\n-A INPUT -o lo\n-A A -j REJECT --reject-with tcp-reset\n\
                -A INPUT -m ipvs --vport 80\nCOMMIT\n";
    let mut ruleset = parse::parse(text, IpFamily::V4).unwrap();
    let input = ruleset.tables.get_mut(&TableName::Filter).unwrap();
    let input = &mut input.chains.get_mut(&ChainName::literal("INPUT")).unwrap().rules;
    let ask = |set: SetMatch| Rule::default().matching(Match::Set(Box::new(set)));
    let set = SetName::new("A").unwrap();
    input.push(ask(SetMatch { set: set.clone(), directions: Box::default(), negated: false }));
    input.push(ask(SetMatch { set, directions: [Side::Source; 6].into(), negated: true }));
    let other = AddrMatch { cidr: IpCidr::parse_sloppy("fd00::/8").unwrap(), negated: false };
    let ask = |address| Match::Ipvs(Box::new(IpvsMatch { protocol: None, address, port: None }));
    input.push(Rule::default().matching(ask(None)).matching(ask(Some(other))));
    let found: Vec<String> = check::check(&ruleset).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "table filter, chain A, rule 2: jumps to chain `NONE`, which does not exist",
            "table filter, chain A, rule 3: jumps to built-in chain `INPUT`",
            "table filter, chain A, rule 4: -m tcp without -p tcp",
            "table filter, chain A, rule 5: DNAT is allowed in table nat alone",
            "table filter, chain A, rule 6: --reject-with tcp-reset needs -p tcp",
            "table filter, chain C: table filter has no built-in chain of this name",
            "table filter, chain INPUT, rule 1: -o has no meaning in this chain",
            "table filter, chain INPUT, rule 3: --match-set has 1 to 6 directions, not 0",
            "table filter, chain INPUT, rule 5: -m ipvs without an option",
            "table filter, chain INPUT, rule 5: --vaddr fd00::/8 is no IPv4 network",
            "table filter, chain B, rule 1: jumps back to chain `A`: a loop",
        ]
    );
}

#[test]
fn a_difference_says_what_changes() {
    let live = "*nat\n:PREROUTING ACCEPT [0:0]\n:OURS-A - [0:0]\n:OURS-B - [0:0]\n:OURS-C - [0:0]\n:OURS-D - [0:0]\n:OURS-E - [0:0]\n:THEIRS - [0:0]\n\
                -A PREROUTING -j THEIRS\n-A PREROUTING -m comment --comment a -j OURS-A\n\
                -A OURS-A -j OURS-B\n-A OURS-D -s 10.0.0.2/32 -j RETURN\n-A OURS-D -s 10.0.0.1/32 -j RETURN\n-A OURS-D -j DROP\n\
                -A THEIRS -j OURS-B\n-A OURS-B -j RETURN\nCOMMIT\n";
    let wanted = "*nat\n:PREROUTING ACCEPT [0:0]\n:OURS-D - [0:0]\n:OURS-E - [0:0]\n:OURS-F - [0:0]\n-A PREROUTING -j OURS-D\n\
                  -A OURS-D -s 10.0.0.1/32 -j RETURN\n-A OURS-D -s 10.0.0.2/32 -j RETURN\n-A OURS-D -j DROP\n-A OURS-E -j OURS-F\nCOMMIT\n";
    let live = parse::parse(live, IpFamily::V4).unwrap();
    let mut wanted = parse::parse(wanted, IpFamily::V4).unwrap();
    let chains = &mut wanted.tables.get_mut(&TableName::Nat).unwrap().chains;
    chains.get_mut(&ChainName::literal("OURS-D")).unwrap().order = RuleOrder::FirstCommute(2);
    let change = diff::diff(&wanted, &live, &scope());
    let table = &change.tables[&TableName::Nat];
    let chain = ChainName::literal;
    assert_eq!(
        table.chains,
        [
            (chain("OURS-A"), ChainChange::Delete),
            (chain("OURS-B"), ChainChange::Rewrite),
            (chain("OURS-E"), ChainChange::Rewrite),
            (chain("OURS-F"), ChainChange::Create),
        ]
        .into()
    );
    assert_eq!(table.kept, [chain("OURS-B")]);
    assert_eq!(
        table.jumps_stale,
        [(chain("PREROUTING"), Rule::to(Target::Jump(chain("OURS-A"))).comment("a"))]
    );
    assert_eq!(table.jumps_missing, [(chain("PREROUTING"), Rule::to(Target::Jump(chain("OURS-D"))))]);
    assert_eq!(
        String::from_utf8(diff::restore_document(&change, &wanted).unwrap().text).unwrap(),
        "*nat\n:OURS-A - [0:0]\n:OURS-B - [0:0]\n:OURS-E - [0:0]\n:OURS-F - [0:0]\n-A OURS-E -j OURS-F\n-X OURS-A\n-I PREROUTING 1 -j OURS-D\nCOMMIT\n"
    );
    // A rule of the tail that moves is a change.
    let chains = &mut wanted.tables.get_mut(&TableName::Nat).unwrap().chains;
    chains.get_mut(&ChainName::literal("OURS-D")).unwrap().rules.swap(1, 2);
    let change = diff::diff(&wanted, &live, &scope());
    assert_eq!(change.tables[&TableName::Nat].chains[&chain("OURS-D")], ChainChange::Rewrite);
}

fn rules(text: &str) -> Ruleset {
    parse::parse(text, IpFamily::V4).unwrap()
}

#[test]
fn what_stands_behind_others_is_appended() {
    let mut wanted = rules(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:OURS-A - [0:0]\n:OURS-B - [0:0]\n\
        -A PREROUTING -j OURS-A\n-A PREROUTING -j OURS-B\nCOMMIT\n",
    );
    let live = rules("*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j ACCEPT\nCOMMIT\n");
    let chain = |name| ChainName::literal(name);
    let chains = &mut wanted.tables.get_mut(&TableName::Nat).unwrap().chains;
    chains.get_mut(&chain("PREROUTING")).unwrap().order = RuleOrder::LastBehindOthers(1);
    let change = diff::diff(&wanted, &live, &scope());
    let table = &change.tables[&TableName::Nat];
    assert_eq!(table.jumps_missing, [(chain("PREROUTING"), Rule::to(Target::Jump(chain("OURS-A"))))]);
    assert_eq!(table.jumps_behind, [(chain("PREROUTING"), Rule::to(Target::Jump(chain("OURS-B"))))]);
    let after = diff::apply(&live, &change, &wanted);
    let targets: Vec<_> = after.chain(TableName::Nat, &chain("PREROUTING")).unwrap().rules.iter().collect();
    assert_eq!(targets[1].target, Some(Target::Accept));
    assert_eq!(targets[2].chain(), Some(&chain("OURS-B")));
    assert!(diff::diff(&wanted, &after, &scope()).is_empty());
}

#[test]
fn the_old_name_of_conntrack_is_the_same_match() {
    let old = rules("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m state --state NEW -j ACCEPT\nCOMMIT\n");
    let new = rules("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT\n");
    assert_eq!(old, new);
}
