//! Random tables and random input.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::program::nft::diff::{ChainChange, SetChange, apply, diff};
use crate::program::nft::transaction::stages;

/// A table of few names, so that two have much in common; every name that is used exists.
fn table() -> impl Strategy<Value = Table> {
    let key = prop_oneof![(0..6u8).prop_map(|last| Key::exact([Scalar::Ipv4([10, 0, 0, last].into())])),];
    let to = |chain: u8| Verdict::Goto(name(&format!("chain-{chain}")));
    let verdict = prop_oneof![Just(Verdict::Drop), Just(Verdict::Accept), (0..4u8).prop_map(to)];
    let elements = btree_map(key.clone(), verdict, 0..6);
    let keys = btree_map(key, proptest::option::of(Just("note")), 0..6);
    let timeout = prop_oneof![Just(None), Just(Some(10)), Just(Some(20))];
    let rules = vec(vec(0..7u8, 1..3), 0..4);
    let chains = btree_map(4..8u8, rules.clone(), 0..4);
    let priority = prop_oneof![Just(None), Just(Some(0)), Just(Some(-10))];
    (elements, keys, timeout, chains, priority, rules, any::<bool>()).prop_map(
        |(elements, keys, timeout, chains, priority, rules, drops)| {
            let mut table = Table::new(Family::Ip, name("t"));
            let addr = || vec![ScalarType::Ipv4Addr];
            let mut map = Set { key: addr(), data: Some(DataType::Verdict), ..Set::default() };
            map.elements =
                elements.into_iter().map(|(key, to)| (key, Element::of(Data::Verdict(to)))).collect();
            table.sets.insert(name("map-a"), map);
            let flags = SetFlags { timeout: timeout.is_some(), ..SetFlags::default() };
            let mut set = Set { key: addr(), flags, timeout, ..Set::default() };
            set.elements = keys
                .into_iter()
                .map(|(key, note)| {
                    (
                        key,
                        Element {
                            comment: note.map(|note| Comment::new(note).unwrap()),
                            ..Element::default()
                        },
                    )
                })
                .collect();
            table.sets.insert(name("set-a"), set);
            if timeout == Some(20) {
                table
                    .sets
                    .insert(name("set-b"), Set { key: vec![ScalarType::InetService], ..Set::default() });
            }
            for number in 0..4 {
                table.chains.insert(name(&format!("chain-{number}")), Chain::default());
            }
            for (number, rules) in chains {
                let rules = rules.iter().map(|stmts| rule(stmts)).collect();
                table.chains.insert(name(&format!("chain-{number}")), Chain { rules, ..Chain::default() });
            }
            let policy = if drops { Policy::Drop } else { Policy::Accept };
            let base = priority.map(|priority| Base {
                kind: ChainKind::Filter,
                hook: Hook::Prerouting,
                priority,
                policy,
            });
            let mut rules: Vec<Rule> = rules.iter().map(|stmts| rule(stmts)).collect();
            rules.push(Rule::new(vec![Stmt::Vmap {
                key: Expr::source(IpFamily::V4),
                map: MapRef::Named(name("map-a")),
            }]));
            table.chains.insert(name("top"), Chain { base, rules, ..Chain::default() });
            table
        },
    )
}

fn rule(stmts: &[u8]) -> Rule {
    let stmt = |number: &u8| match number {
        0 => Stmt::in_set(Expr::source(IpFamily::V4), name("set-a")),
        1 => Stmt::SetMark { mask: 0xff, value: 0x5 },
        2 => Stmt::CtState { states: CtState::NEW | CtState::RELATED, negated: true },
        3 => Stmt::Match {
            left: Expr::destination(IpFamily::V4),
            negated: true,
            right: Right::Keys(Keys::new(vec![Key::exact([v4("1.2.3.4")]), Key::exact([v4("1.2.3.5")])])),
        },
        4 => Stmt::Counter,
        5 => Stmt::is(Expr::MARK, Scalar::Mark(7)),
        _ => Stmt::is(Expr::protocol(), Scalar::Protocol(6)),
    };
    Rule::new(stmts.iter().map(stmt).chain([Stmt::Verdict(Verdict::Goto(name("chain-1")))]).collect())
}

proptest! {
    #[test]
    fn a_difference_applied_gives_what_is_wanted(wanted in table(), live in table()) {
        prop_assert_eq!(check::check(&wanted), []);
        let change = diff(&wanted, Some(&live));
        let after = apply(Some(&live), &change, &wanted);
        prop_assert!(diff(&wanted, Some(&after)).is_empty(), "{:?}", diff(&wanted, Some(&after)));
        prop_assert_eq!(&after.chains, &wanted.chains);
        prop_assert!(diff(&wanted, Some(&wanted)).is_empty());
        let nothing = stages(&diff(&wanted, Some(&wanted)), &wanted);
        prop_assert!(nothing.load.iter().all(|one| one.document.text.is_empty()) && nothing.sweep.is_none());
        // What goes is not deleted by the transaction that takes its last use away.
        let documents = stages(&change, &wanted);
        // Nor is a chain made by one that puts something in the place of something else, unless an object is made anew.
        let replaces = change.chains.values().any(|change| *change == ChainChange::Replace)
            || change.sets.values().any(|change| *change == SetChange::Replace);
        let is_made = |line: &str| {
            line.strip_prefix("add chain ip t ").is_some_and(|name| {
                change.chains.get(name.trim_end()).is_some_and(|change| *change == ChainChange::Create)
            })
        };
        let goes_by = |line: &str| {
            ["flush chain ", "delete element ", "delete set "].iter().any(|command| line.starts_with(command))
        };
        for one in &documents.load {
            let text = std::str::from_utf8(&one.document.text).unwrap();
            prop_assert!(!text.contains("delete chain ") || replaces);
            prop_assert!(replaces || !(text.lines().any(is_made) && text.lines().any(goes_by)), "{text}");
        }
        let goes = change.chains.iter().filter(|(_, change)| **change == ChainChange::Delete).count();
        let sweep = documents.sweep.map_or_else(String::new, |it| String::from_utf8(it.document.text).unwrap());
        prop_assert_eq!(sweep.lines().filter(|line| line.starts_with("delete chain ")).count(), goes);
        prop_assert_eq!(apply(None, &diff(&wanted, None), &wanted), wanted);
    }

    #[test]
    fn any_text_gives_an_answer(text in "\\PC*") {
        let _ = parse(text.as_bytes());
    }

    #[test]
    fn any_json_gives_an_answer(objects in vec(json(), 0..4)) {
        let text = serde_json::json!({"nftables": objects}).to_string();
        let ruleset = parse(text.as_bytes()).unwrap();
        for table in ruleset.tables.values() {
            check::check(table);
            emit::emit(table, "");
        }
    }
}

/// JSON of nft's words in any order.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let word = proptest::sample::select(vec![
        "table",
        "chain",
        "set",
        "map",
        "rule",
        "ip",
        "t",
        "c",
        "@s",
        "expr",
        "family",
        "name",
        "match",
        "left",
        "right",
        "op",
        "==",
        "in",
        "!=",
        "payload",
        "protocol",
        "field",
        "saddr",
        "th",
        "dport",
        "meta",
        "key",
        "mark",
        "&",
        "|",
        "^",
        "concat",
        "numgen",
        "mode",
        "random",
        "mod",
        "vmap",
        "data",
        "goto",
        "target",
        "dnat",
        "addr",
        "port",
        "prefix",
        "len",
        "range",
        "10.0.0.1",
        "elem",
        "val",
        "type",
        "ipv4_addr",
        "verdict",
        "flags",
        "ct",
        "state",
        "mangle",
        "value",
        "update",
        "reject",
        "masquerade",
        "hook",
        "prio",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<u32>().prop_map(Into::into),
        (-5i64..70).prop_map(Into::into),
        word.clone().prop_map(Into::into),
    ];
    let tree = leaf.prop_recursive(6, 48, 6, move |inner| {
        let members = vec((word.clone(), inner.clone()), 1..5);
        prop_oneof![
            vec(inner, 0..4).prop_map(serde_json::Value::Array),
            members.prop_map(|members| {
                members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            }),
        ]
    });
    (proptest::sample::select(vec!["chain", "set", "map", "rule"]), vec(tree, 3)).prop_map(|(kind, parts)| {
        let [a, b, c] = parts.try_into().unwrap();
        serde_json::json!({kind: {"family": "ip", "table": "t", "name": "c", "chain": "c", "type": a, "elem": b,
            "expr": [c], "map": "verdict"}})
    })
}
