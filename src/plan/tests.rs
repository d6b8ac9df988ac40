//! Plans on small programs: their order, and that they end.

use std::collections::{BTreeMap, BTreeSet};

use std::net::IpAddr;

use crate::net::{AddrPort, IpFamily, PerFamily, Protocol};
use crate::program::ipset::{Entry, HashType, Set, SetKind, SetName};
use crate::program::ipvs::{Connections, RealServer, SchedulerName, ServiceKey, Timeouts, VirtualServer};
use crate::program::xtables::{ChainName, Ruleset, TableName, parse};
use crate::program::{ChainPattern, Dummy, Program, Scope};

use super::{Plan, Step, plan};

const WANTED: &str = "\
*filter
:INPUT ACCEPT [0:0]
:OURS - [0:0]
-A INPUT -m comment --comment second -j OURS
-A INPUT -j OURS
-A OURS -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:OURS - [0:0]
-A PREROUTING -j OURS
-A OUTPUT -j OURS
-A POSTROUTING -j OURS
-A OURS -j RETURN
COMMIT
";

fn rules(text: &str) -> Ruleset {
    parse::parse(text, IpFamily::V4).unwrap()
}

fn program(text: &str) -> Program {
    Program { xtables: PerFamily { v4: Some(rules(text)), v6: None }, ..Program::default() }
}

fn planned(wanted: &Program, live: &Program) -> Plan {
    let ours = ChainName::literal("OURS");
    let known = rules(WANTED);
    let jumps = known.tables.iter().flat_map(|(table, chains)| {
        let built_in = chains.chains.iter().filter(|(_, chain)| chain.policy.is_some());
        built_in
            .flat_map(|(name, chain)| chain.rules.iter().map(|rule| (*table, *name, rule.clone())))
            .collect::<Vec<_>>()
    });
    let scope = || Scope {
        chains: [TableName::Filter, TableName::Nat].map(|table| (table, ChainPattern::Name(ours))).to_vec(),
        ignored: Vec::new(),
        jumps: jumps.clone().collect(),
        ..Scope::default()
    };
    let servers = live.ipvs.v4.iter().flatten().map(|(key, _)| *key).collect();
    let sets = live.ipset.iter().flatten().map(|(name, _)| name.clone()).collect();
    let devices = BTreeSet::from(["d0".into()]);
    plan(wanted, live, &PerFamily { v4: Scope { servers, sets, devices, ..scope() }, v6: scope() })
}

fn words(plan: &Plan) -> Vec<String> {
    plan.steps
        .iter()
        .map(|step| match step {
            Step::XtablesRestore { .. } => "restore".to_owned(),
            Step::NftTransaction { what, .. } => (*what).to_owned(),
            Step::DeleteJump { table, chain, .. } => format!("delete {table} {chain}"),
            Step::AddNfacct { name } => format!("nfacct {name}"),
            Step::SetSysctl { key, .. } => format!("sysctl {key}"),
            Step::Ipset { what, .. } => format!("ipset {what}"),
            Step::Ipvs { requests, what } => format!("ipvs {what} {}", requests.len()),
            Step::HandOver { asked } => format!("hand over {}", asked.len()),
            Step::AddDummy { device } => format!("add {device}"),
            Step::DeleteDummy { device } => format!("delete {device}"),
            Step::AddAddresses { addresses, .. } => format!("add {addresses:?}"),
            Step::DeleteAddresses { addresses, .. } => format!("delete {addresses:?}"),
        })
        .collect()
}

#[test]
fn chains_come_before_jumps_and_source_nat_before_what_needs_it() {
    let mut wanted = program(WANTED);
    wanted.nfacct = BTreeSet::from(["counter".to_owned()]);
    wanted.sysctls = ["net/key", "net/all/route_localnet"].map(|key| (key.to_owned(), "1".to_owned())).into();
    let live = Program {
        xtables: PerFamily { v4: Some(Ruleset::empty(IpFamily::V4)), v6: None },
        ..Program::default()
    };
    let planned = planned(&wanted, &live);
    assert_eq!(
        words(&planned),
        ["sysctl net/key", "nfacct counter", "restore", "sysctl net/all/route_localnet",]
    );
    let restores = planned.steps.iter().find_map(|step| {
        let Step::XtablesRestore { document, .. } = step else { return None };
        Some(String::from_utf8_lossy(&document.text))
    });
    assert_eq!(
        restores.unwrap(),
        "*filter\n:OURS - [0:0]\n-A OURS -j ACCEPT\nCOMMIT\n\
         *nat\n:OURS - [0:0]\n-A OURS -j RETURN\n\
         -I PREROUTING 1 -j OURS\n-I POSTROUTING 1 -j OURS\n-I OUTPUT 1 -j OURS\nCOMMIT\n\
         *filter\n-I INPUT 1 -j OURS\n-I INPUT 1 -m comment --comment second -j OURS\nCOMMIT\n"
    );
}

#[test]
fn jumps_go_before_chains() {
    let nothing = program("");
    assert_eq!(
        words(&planned(&nothing, &program(WANTED))),
        [
            "delete filter INPUT",
            "delete filter INPUT",
            "delete nat PREROUTING",
            "delete nat OUTPUT",
            // Sources are rewritten for as long as traffic is sent elsewhere.
            "delete nat POSTROUTING",
            "restore",
        ]
    );
}

#[test]
fn what_is_as_wanted_needs_no_step() {
    assert!(planned(&program(WANTED), &program(WANTED)).is_empty());
    assert!(planned(&program(""), &program("")).is_empty());
}

#[test]
fn a_family_that_is_left_alone_is_left_alone() {
    let live = program(WANTED);
    assert!(planned(&Program::default(), &live).is_empty());
}

const VIP: &str = "10.96.0.1";

fn key() -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, at: format!("{VIP}:80").parse().unwrap() }
}

fn endpoint(n: u8) -> AddrPort {
    AddrPort::new([10, 128, 0, n].into(), 8080)
}

/// Rules, and what IPVS needs for one Service with these endpoints; none: all of it is there, and empty.
fn with_ipvs(text: &str, endpoints: Option<&[u8]>) -> Program {
    let vip: IpAddr = VIP.parse().unwrap();
    let server = |endpoints: &[u8]| VirtualServer {
        scheduler: SchedulerName::new("rr").unwrap(),
        flags: crate::program::ipvs::Flags::default(),
        persistence_seconds: 0,
        netmask: 32,
        engine: None,
        real_servers: endpoints.iter().map(|n| (endpoint(*n), RealServer::masqueraded(1))).collect(),
        counters: None,
        tag: None,
    };
    let kind = SetKind::Hash { hash: HashType::IpPort, family: IpFamily::V4, max_entries: 65536 };
    let entry = Entry::IpPort(vip, Protocol::Tcp, 80);
    let set = Set { kind, entries: endpoints.map(|_| entry).into_iter().collect() };
    let addresses = endpoints.map(|_| vip).into_iter().collect();
    Program {
        ipvs: PerFamily {
            v4: Some(endpoints.map(|ends| (key(), server(ends))).into_iter().collect()),
            v6: None,
        },
        ipset: Some([(SetName::new("VIPS").unwrap(), set)].into()),
        dummies: Some(
            [("d0".into(), Dummy { addresses: PerFamily { v4: Some(addresses), v6: None } })].into(),
        ),
        ipvs_timeouts: Some(Timeouts::default()),
        ..program(text)
    }
}

/// A machine where IPVS was never used.
fn without_ipvs(text: &str) -> Program {
    let nothing = Some(BTreeMap::new());
    let dummies = Some(BTreeMap::new());
    Program {
        ipvs: PerFamily { v4: nothing, v6: None },
        ipset: Some(BTreeMap::new()),
        dummies,
        ..program(text)
    }
}

const NAT: &str =
    "*nat\n:POSTROUTING ACCEPT [0:0]\n:OURS - [0:0]\n-A POSTROUTING -j OURS\n-A OURS -j RETURN\nCOMMIT\n";

#[test]
fn an_address_comes_last_and_goes_first() {
    let wanted = with_ipvs(NAT, Some(&[1, 2]));
    assert_eq!(
        words(&planned(&wanted, &without_ipvs(""))),
        ["ipset fill", "restore", "add d0", "ipvs make and change 3", "add [10.96.0.1]"]
    );
    assert!(planned(&wanted, &wanted).is_empty());
    let none = with_ipvs(NAT, None);
    assert_eq!(
        words(&planned(&none, &wanted)),
        ["delete [10.96.0.1]", "ipvs remove and drain 1", "ipset empty"]
    );
    let nothing = without_ipvs("");
    let mut live = wanted;
    // Both families are read: the device can go as a whole.
    live.dummies.as_mut().unwrap().get_mut("d0").unwrap().addresses.v6 = Some(BTreeSet::new());
    assert_eq!(
        words(&planned(&nothing, &live)),
        [
            "delete [10.96.0.1]",
            "ipvs remove and drain 1",
            "delete d0",
            "delete nat POSTROUTING",
            "restore",
            "ipset empty"
        ]
    );
}

#[test]
fn what_takes_over_from_rules_that_rewrite_destinations_stands_before_they_go() {
    let old = NAT.replace(":OURS - [0:0]\n", ":OURS - [0:0]\n:OURS-OLD - [0:0]\n");
    let mut live = without_ipvs(&old);
    let wanted = with_ipvs(NAT, Some(&[1]));
    let pattern = ChainPattern::Prefix("OURS");
    let devices = || BTreeSet::from(["d0".into()]);
    let scope = || Scope { chains: vec![(TableName::Nat, pattern)], devices: devices(), ..Scope::default() };
    let plan = |wanted: &Program, live: &Program| {
        let servers = live.ipvs.v4.iter().flatten().map(|(key, _)| *key).collect();
        words(&super::plan(wanted, live, &PerFamily { v4: Scope { servers, ..scope() }, v6: scope() }))
    };
    assert_eq!(
        plan(&wanted, &live),
        ["ipset fill", "add d0", "ipvs make and change 2", "add [10.96.0.1]", "restore"]
    );
    // And back: the rules are in before the virtual servers go.
    live.ipvs.v4 = Some(BTreeMap::new());
    assert_eq!(
        plan(&live, &with_ipvs(NAT, Some(&[1]))),
        ["restore", "delete [10.96.0.1]", "ipvs remove and drain 1"]
    );
    // All of them: flows that began there go on by the rules.
    live.dummies = Some(BTreeMap::new());
    let udp = |text| {
        let mut program = with_ipvs(text, Some(&[1]));
        let servers = program.ipvs.v4.as_mut().unwrap();
        let server = servers.values().next().unwrap().clone();
        let at = AddrPort::new(VIP.parse().unwrap(), 53);
        servers.insert(ServiceKey::Address { protocol: Protocol::Udp, at }, server);
        program
    };
    let handed_over = ["hand over 1", "delete [10.96.0.1]", "ipvs remove and drain 2"];
    assert_eq!(plan(&live, &udp(NAT)), [&["restore"], &handed_over[..]].concat());
    assert_eq!(plan(&live, &udp(&old)), handed_over, "the rules were in before");
}

#[test]
fn timeouts_are_set_if_any_that_is_wanted_differs() {
    let mut live = with_ipvs(NAT, Some(&[1]));
    live.ipvs_timeouts = Some(Timeouts { tcp: 900, tcp_fin: 120, udp: 300 });
    let mut wanted = with_ipvs(NAT, Some(&[1]));
    assert!(planned(&wanted, &live).is_empty());
    wanted.ipvs_timeouts = Some(Timeouts { tcp: 900, tcp_fin: 0, udp: 0 });
    assert!(planned(&wanted, &live).is_empty());
    wanted.ipvs_timeouts = Some(Timeouts { tcp: 900, tcp_fin: 30, udp: 0 });
    assert_eq!(words(&planned(&wanted, &live)), ["ipvs make and change 1"]);
}

#[test]
fn an_endpoint_that_takes_the_place_of_another_is_one_change() {
    let (live, wanted) = (with_ipvs(NAT, Some(&[1, 2])), with_ipvs(NAT, Some(&[1, 3])));
    assert_eq!(words(&planned(&wanted, &live)), ["ipvs change 2"]);
}

#[test]
fn a_real_server_with_connections_is_drained_and_waited_for() {
    let mut live = with_ipvs(NAT, Some(&[1, 2]));
    let busy = Connections { active: 3, inactive: 0 };
    let server = live.ipvs.v4.as_mut().unwrap().get_mut(&key()).unwrap();
    server.real_servers.get_mut(&endpoint(2)).unwrap().connections = busy;
    let wanted = with_ipvs(NAT, Some(&[1]));
    let first = planned(&wanted, &live);
    assert_eq!(words(&first), ["ipvs remove and drain 1"]);
    assert_eq!(first.servers.v4.unwrap().draining, [(key(), endpoint(2))]);
    let server = live.ipvs.v4.as_mut().unwrap().get_mut(&key()).unwrap();
    server.real_servers.get_mut(&endpoint(2)).unwrap().weight = 0;
    assert!(planned(&wanted, &live).is_empty(), "there is nothing to do but to wait");
}
