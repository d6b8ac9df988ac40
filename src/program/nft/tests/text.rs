//! Names, parse and emit.

use super::*;

#[test]
fn everything_recorded_is_modelled() {
    for (folder, ruleset) in recordings() {
        assert_eq!(ruleset.tables.len(), 2, "{folder}");
        for table in ruleset.tables.values() {
            assert!(table.unmodelled.is_empty(), "{folder} {:?}", table.unmodelled);
            for (name, chain) in &table.chains {
                let unmodelled = chain.rules.iter().flat_map(|rule| &rule.stmts).find_map(Stmt::unmodelled);
                assert_eq!(unmodelled, None, "{folder} {name}");
                assert!(chain.rules.iter().all(|rule| rule.handle.is_some()));
            }
            for (name, set) in &table.sets {
                assert!(!set.has_unmodelled, "{folder} {name}");
                assert_eq!(set.flags.dynamic, name.as_str().starts_with("affinity-"), "{folder} {name}");
            }
            assert_eq!(check::check(table), [], "{folder}");
        }
    }
}

#[test]
fn names_and_comments_have_an_alphabet() {
    for good in ["a", "_x", ".x", "kube-proxy", "service-ABC-ns/name/tcp/__fd00..1/80", "services", "filter"]
    {
        assert!(Name::new(good).is_ok(), "{good}");
    }
    for bad in ["", "9a", "-a", "/a", "a b", "a;b", "a\"b", "a{", "drop", "chain", "é", "a@b", "a\nb"] {
        assert!(Name::new(bad).is_err(), "{bad}");
    }
    assert!(Name::new(&"a".repeat(255)).is_ok() && Name::new(&"a".repeat(256)).is_err());
    assert!(Comment::new(&"a".repeat(128)).is_ok() && Comment::new(&"a".repeat(129)).is_err());
    assert!(Comment::new("back\\slash $x; {}").is_ok() && Comment::new("a\"b").is_err());
    assert_eq!(Comment::lossy(&format!("\"{}", "é".repeat(80))).as_str().len(), 127);
}

#[test]
fn what_means_the_same_is_the_same() {
    let mark = |value: &str| {
        stmts(&format!(r#"[{{"mangle": {{"key": {{"meta": {{"key": "mark"}}}}, "value": {value}}}}}]"#))
    };
    let or = mark(r#"{"|": [{"meta": {"key": "mark"}}, 16384]}"#);
    assert_eq!(or, [Stmt::SetMark { mask: 0x4000, value: 0x4000 }]);
    assert_eq!(or, mark(r#"{"|": [{"&": [{"meta": {"key": "mark"}}, 4294950911]}, 16384]}"#));
    assert_eq!(or, mark(r#"{"^": [{"&": [{"meta": {"key": "mark"}}, 4294950911]}, 16384]}"#));
    let saddr = |right: &str| {
        stmts(&format!(
            r#"[{{"match": {{"op": "==", "left": {{"payload": {{"protocol": "ip", "field": "saddr"}}}}, "right": {right}}}}}]"#
        ))
    };
    let merged = saddr(
        r#"{"set": [{"prefix": {"addr": "11.0.0.0", "len": 8}}, {"prefix": {"addr": "10.0.0.0", "len": 8}}]}"#,
    );
    assert_eq!(merged, saddr(r#"{"prefix": {"addr": "10.0.0.0", "len": 7}}"#));
    assert_eq!(merged, saddr(r#"{"range": ["10.0.0.0", "11.255.255.255"]}"#));
    assert_eq!(
        stmts(r#"[{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["new", "related"]}}]"#),
        stmts(
            r#"[{"match": {"op": "==", "left": {"ct": {"key": "state"}}, "right": {"set": ["related", "new"]}}}]"#
        )
    );
    assert_eq!(
        stmts(r#"[{"reject": null}]"#),
        stmts(r#"[{"reject": {"type": "icmp", "expr": "port-unreachable"}}]"#)
    );
}

#[test]
fn other_spellings_are_read() {
    let set = listing(
        r#"{"map": {"family": "ip", "name": "m", "table": "t", "type": {"typeof": {"numgen": {"mode": "random", "mod": 1}}},
        "map": ["ipv4_addr", "inet_service"], "flags": "timeout", "comment": "x",
        "elem": [[{"elem": {"val": 1, "timeout": 5, "expires": 4, "comment": "c"}}, {"concat": ["1.2.3.4", 80]}]]}}"#,
    );
    let set = &set.table(Family::Ip, "t").unwrap().sets["m"];
    assert_eq!(set.key, [ScalarType::Integer]);
    assert_eq!(set.data, Some(DataType::Values(vec![ScalarType::Ipv4Addr, ScalarType::InetService])));
    assert!(set.flags.timeout && !set.has_unmodelled);
    let element = &set.elements[&Key::exact([Scalar::Integer(1)])];
    assert_eq!((element.timeout, element.comment.as_ref().map(Comment::as_str)), (Some(5), Some("c")));
    assert_eq!(
        stmts(r#"[{"masquerade": {"flags": ["random", "persistent"]}}]"#),
        [Stmt::Masquerade(NatFlags { random: true, fully_random: false, persistent: true })]
    );
}

#[test]
fn what_is_not_modelled_is_kept() {
    for text in [
        r#"{"limit":{"burst":5,"per":"second","rate":3}}"#,
        r#"{"match":{"left":{"payload":{"field":"flags","protocol":"tcp"}},"op":"in","right":"syn"}}"#,
        r#"{"dnat":{"addr":{"range":["1.2.3.4","1.2.3.9"]}}}"#,
        r#"{"jump":{"target":"no name"}}"#,
        r#"{"masquerade":{"port":80}}"#,
    ] {
        assert_eq!(stmts(&format!("[{text}]")), [Stmt::Unmodelled(text.into())]);
    }
    let ruleset = listing(
        r#"{"counter": {"family": "ip", "table": "t", "name": "n", "packets": 1}},
        {"chain": {"family": "ip", "table": "t", "name": "a b"}},
        {"set": {"family": "ip", "table": "t", "name": "s", "type": "ether_addr", "elem": ["00:11:22:33:44:55"]}},
        {"table": {"family": "ip", "name": "a;b"}}, 7, {"x": 1}"#,
    );
    let table = ruleset.table(Family::Ip, "t").unwrap();
    assert_eq!(table.unmodelled, ["counter n".into(), Box::<str>::from("chain a b")]);
    assert!(table.sets["s"].has_unmodelled);
    assert_eq!(ruleset.unmodelled.len(), 2);
}

#[test]
fn text_is_as_kube_proxy_writes_it() {
    let mut table = Table::new(Family::Ip, name("t"));
    table.comment = Some(Comment::new("rules").unwrap());
    let base = Base { kind: ChainKind::Nat, hook: Hook::Output, priority: -100, policy: Policy::Drop };
    table.chains.insert(name("b"), Chain { base: Some(base), ..Chain::default() });
    let rules = [
        vec![Stmt::CtState { states: CtState::NEW, negated: false }, Stmt::Verdict(Verdict::Jump(name("d")))],
        vec![
            Stmt::Match {
                left: Expr::Mark { mask: 0x4000 },
                negated: true,
                right: Right::Keys(Keys::one(Key::exact([Scalar::Mark(0)]))),
            },
            Stmt::SetMark { mask: 0, value: 0x4000 },
            Stmt::Masquerade(NatFlags { fully_random: true, ..NatFlags::default() }),
        ],
        vec![
            Stmt::is(Expr::protocol(), Scalar::Protocol(6)),
            Stmt::Dnat {
                to: NatTarget::Map {
                    family: IpFamily::V4,
                    key: Expr::random(1),
                    map: MapRef::numbered([Data::values([v4("10.0.0.1"), Scalar::Port(80)])]),
                },
                flags: NatFlags::default(),
            },
        ],
        vec![Stmt::UpdateSet {
            op: SetOp::Update,
            set: name("s"),
            key: Expr::source(IpFamily::V4),
            timeout: None,
        }],
        vec![Stmt::SetMark { mask: 0x4000, value: 0x4000 }],
        vec![Stmt::Unmodelled(r#"{"x":1}"#.into())],
    ];
    let rules = rules.into_iter().map(Rule::new).collect();
    table.chains.insert(name("d"), Chain { rules, ..Chain::default() });
    let flags = SetFlags { timeout: true, dynamic: true, ..SetFlags::default() };
    let set = Set { key: vec![ScalarType::Ipv4Addr], flags, timeout: Some(10), ..Set::default() };
    table.sets.insert(name("s"), set);
    let key = vec![ScalarType::Ipv4Addr, ScalarType::InetProto, ScalarType::InetService];
    let mut map = Set { key, data: Some(DataType::Verdict), ..Set::default() };
    let element =
        Element { comment: Some(Comment::new("ns/a").unwrap()), ..Element::of(Data::Verdict(Verdict::Drop)) };
    map.elements.insert(Key::exact([v4("10.0.0.1"), Scalar::Protocol(17), Scalar::Port(53)]), element);
    table.sets.insert(name("m"), map);
    let text = String::from_utf8(emit::emit(&table, "# head\nmore").text).unwrap();
    assert_eq!(
        text,
        "# head\n# more\nadd table ip t { comment \"rules\" ; }\n\
         add chain ip t b { type nat hook output priority -100 ; policy drop ; }\n\
         add chain ip t d\n\
         add map ip t m { type ipv4_addr . inet_proto . inet_service : verdict ; }\n\
         add set ip t s { type ipv4_addr ; flags dynamic,timeout ; timeout 10s ; }\n\
         add rule ip t d ct state new jump d\n\
         add rule ip t d mark and 0x00004000 != 0 mark set mark xor 0x00004000 masquerade fully-random\n\
         add rule ip t d meta l4proto tcp dnat ip addr . port to numgen random mod 1 map { 0 : 10.0.0.1 . 80 }\n\
         add rule ip t d update @s { ip saddr }\n\
         add rule ip t d mark set mark or 0x00004000\n\
         # not modelled: rule of ip t d {\"x\":1}\n\
         add element ip t m {\n10.0.0.1 . udp . 53 comment \"ns/a\" : drop ,\n}\n"
    );
    let problems: Vec<String> = check::check(&table).iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        ["table t, d, rule 6: `{\"x\":1}` is not modelled", "table t, d: leads back to chain `d`: a loop"]
    );
}

#[test]
fn mistakes_are_found() {
    let ruleset = listing(
        r#"{"set": {"family": "ip", "name": "s", "table": "t", "type": "ipv4_addr", "elem": [{"prefix": {"addr": "10.0.0.0", "len": 8}}]}},
        {"map": {"family": "ip", "name": "m", "table": "t", "type": "inet_service", "map": "verdict",
          "elem": [[80, {"goto": {"target": "gone"}}]]}},
        {"chain": {"family": "ip", "table": "t", "name": "b", "type": "nat", "hook": "forward", "prio": -300, "policy": "accept"}},
        {"rule": {"family": "ip", "table": "t", "chain": "b", "expr": [{"masquerade": null}]}},
        {"rule": {"family": "ip", "table": "t", "chain": "c", "expr": [{"dnat": {"addr": "1.2.3.4", "port": 80}}]}},
        {"rule": {"family": "ip", "table": "t", "chain": "c", "expr": [{"jump": {"target": "nowhere"}}]}},
        {"rule": {"family": "ip", "table": "t", "chain": "c", "expr": [{"vmap": {"key": {"payload": {"protocol": "ip", "field": "saddr"}}, "data": "@m"}}]}},
        {"rule": {"family": "ip", "table": "t", "chain": "c", "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip6", "field": "saddr"}}, "right": "@s"}}]}},
        {"rule": {"family": "ip", "table": "t", "chain": "c", "expr": []}}"#,
    );
    let problems: Vec<String> =
        check::check(ruleset.table(Family::Ip, "t").unwrap()).iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "table t, m: leads to chain `gone`, which does not exist",
            "table t, s: key Key { first: [10.0.0.0], last: Some([10.255.255.255]) } needs the flag `interval`",
            "table t, b: type nat has no hook forward",
            "table t, b: priority -300 comes before connection tracking",
            "table t, b, rule 1: masquerade is not allowed in this base chain",
            "table t, c, rule 1: dnat to a port needs a match on the protocol before it",
            "table t, c, rule 2: leads to chain `nowhere`, which does not exist",
            "table t, c, rule 3: `m` has keys of another type",
            "table t, c, rule 4: no IPv6 packet comes to a table ip",
            "table t, c, rule 4: `s` has keys of another type",
            "table t, c, rule 5: it has no statements",
        ]
    );
}

#[test]
fn an_example_has_the_ports_of_those_who_look_it_up() {
    let mut table = Table::new(Family::Ip, name("t"));
    let types = || vec![ScalarType::Ipv4Addr, ScalarType::InetService];
    for (ports, map) in [(Transport::Tcp, "a"), (Transport::Udp, "b"), (Transport::Sctp, "c")] {
        let mut key = types();
        key.push(ScalarType::Integer);
        let set = Set { key, data: Some(DataType::Values(types())), ..Set::default() };
        table.sets.insert(name(map), set);
        let port = Expr::Payload(Payload::DestinationPort(ports));
        let key = Expr::concat([Expr::destination(IpFamily::V4), port, Expr::random(3)]);
        let to = NatTarget::Map { family: IpFamily::V4, key, map: MapRef::Named(name(map)) };
        let rules = vec![Rule::new(vec![Stmt::Dnat { to, flags: NatFlags::default() }])];
        table.chains.insert(name(&format!("to-{map}")), Chain { rules, ..Chain::default() });
    }
    // Whoever looks up a port of TCP has told the protocol.
    assert_eq!(check::check(&table), []);
    let mut text = Vec::new();
    emit::write_document(&mut text, &table, "");
    let text = String::from_utf8(text).unwrap();
    for (map, ports) in [("a", "tcp"), ("b", "udp"), ("c", "sctp")] {
        let example = format!(
            "add map ip t {map} {{ typeof ip daddr . {ports} dport . numgen random mod 1 : ip daddr . {ports} dport ; }}"
        );
        assert!(text.contains(&example), "{text}");
        let rule = format!("to-{map} dnat ip to ip daddr . {ports} dport . numgen random mod 3 map @{map}");
        assert!(text.contains(&rule), "{text}");
    }
}
