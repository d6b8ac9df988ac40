//! What kube-proxy 1.36 programmed in IPVS mode for fourteen clusters: our virtual servers, sets, addresses and rules are the
//! same. What the kernel chooses for a set is left aside, and the order of KUBE-IPVS-OUT-FILTER, which is chance.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use svcproxy::net::{AddrPort, IpCidr, IpFamily, PerFamily, Protocol};
use svcproxy::pipeline::{self, Lowering};
use svcproxy::program::ipset::{Entry, HashType, Set, SetKind, SetName, Sets};
use svcproxy::program::ipvs::{Flags, RealServer, SchedulerName, ServiceKey, VirtualServer, VirtualServers};
use svcproxy::program::xtables::{Ruleset, emit, parse};
use svcproxy::program::{NftTable, Program};

use crate::given;

fn folders() -> Vec<PathBuf> {
    let parent = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings");
    let entries = fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert_eq!(folders.len(), 14);
    folders
}

/// `-A -t 10.96.0.1:443 -s rr -p 10800` and `-a -t 10.96.0.1:443 -r 10.0.0.1:6443 -m -w 1`.
fn recorded_servers(text: &str) -> VirtualServers {
    let mut servers = VirtualServers::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let is_server = words.next() == Some("-A");
        let protocol = match words.next().unwrap() {
            "-t" => Protocol::Tcp,
            "-u" => Protocol::Udp,
            "--sctp-service" => Protocol::Sctp,
            other => panic!("{other}"),
        };
        let at: AddrPort = words.next().unwrap().parse().unwrap();
        let key = ServiceKey::Address { protocol, at };
        let rest: Vec<&str> = words.collect();
        match (is_server, rest.as_slice()) {
            (true, ["-s", scheduler, more @ ..]) => {
                let persistence_seconds = match more {
                    [] => 0,
                    ["-p", seconds] => seconds.parse().unwrap(),
                    other => panic!("{other:?}"),
                };
                let server = VirtualServer {
                    scheduler: SchedulerName::new(scheduler).unwrap(),
                    flags: if more.is_empty() { Flags::default() } else { Flags::PERSISTENT },
                    persistence_seconds,
                    netmask: at.family().bits(),
                    engine: None,
                    real_servers: BTreeMap::new(),
                    counters: None,
                    tag: None,
                };
                assert!(servers.insert(key, server).is_none(), "{line}");
            }
            (false, ["-r", endpoint, "-m", "-w", weight]) => {
                let real = RealServer::masqueraded(weight.parse().unwrap());
                servers.get_mut(&key).unwrap().real_servers.insert(endpoint.parse().unwrap(), real);
            }
            other => panic!("{other:?}"),
        }
    }
    servers
}

/// `10.96.0.1,tcp:443` and what may follow.
fn entry(text: &str) -> Entry {
    let parts: Vec<&str> = text.split(',').collect();
    let addr = |text: &str| -> IpAddr { text.parse().unwrap() };
    let port = |text: &str| {
        let (protocol, port) = text.split_once(':').unwrap();
        (Protocol::from_name(protocol).unwrap(), port.parse().unwrap())
    };
    match parts.as_slice() {
        [one] if one.contains(['.', ':']) => Entry::Ip(addr(one)),
        [one] => Entry::Port(one.parse().unwrap()),
        [ip, at] => Entry::IpPort(addr(ip), port(at).0, port(at).1),
        [ip, at, other] if other.contains('/') => {
            Entry::IpPortNet(addr(ip), port(at).0, port(at).1, IpCidr::parse_sloppy(other).unwrap())
        }
        [ip, at, other] => Entry::IpPortIp(addr(ip), port(at).0, port(at).1, addr(other)),
        other => panic!("{other:?}"),
    }
}

/// Sets by name; of the parameters of a hash only those that its maker chose.
fn recorded_sets(text: &str) -> Sets {
    let mut sets = Sets::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["create", name, "bitmap:port", "range", "0-65535"] => {
                let kind = SetKind::BitmapPort { first: 0, last: 65_535 };
                sets.insert(SetName::new(name).unwrap(), Set { kind, entries: BTreeSet::new() });
            }
            ["create", name, hash, "family", family, "hashsize", _, "maxelem", max_entries, ..] => {
                let hash = HashType::ALL.into_iter().find(|one| one.as_str() == *hash).unwrap();
                let family = if *family == "inet" { IpFamily::V4 } else { IpFamily::V6 };
                let kind = SetKind::Hash { hash, family, max_entries: max_entries.parse().unwrap() };
                sets.insert(SetName::new(name).unwrap(), Set { kind, entries: BTreeSet::new() });
            }
            ["add", name, text] => {
                let set = sets.get_mut(&SetName::new(name).unwrap()).unwrap();
                let entry = match (&set.kind, entry(text)) {
                    // ipset leaves the length of a single address out.
                    (
                        SetKind::Hash { hash: HashType::IpPortNet, .. },
                        Entry::IpPortIp(ip, protocol, port, one),
                    ) => Entry::IpPortNet(ip, protocol, port, IpCidr::host(one)),
                    (_, entry) => entry,
                };
                assert!(set.entries.insert(entry), "{line}");
            }
            other => panic!("{other:?}"),
        }
    }
    sets
}

/// Lines of each chain as iptables-save prints them.
fn lines(ruleset: &Ruleset) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for (table, chains) in &ruleset.tables {
        for (name, chain) in &chains.chains {
            let line = |rule| {
                let mut text = Vec::new();
                emit::write_rule(&mut text, ruleset.family, name, rule);
                String::from_utf8(text).unwrap()
            };
            let mut lines: Vec<String> = chain.rules.iter().map(line).collect();
            if name.as_str() == "KUBE-IPVS-OUT-FILTER" {
                lines.sort();
            }
            all.insert(format!("{table} {name}"), lines);
        }
    }
    all
}

#[test]
fn what_is_compiled_is_what_was_recorded() {
    for folder in folders() {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let given = given::given(&read("cluster.json"), &read("config-ipvs.json"));
        let lowering = Lowering::Ipvs(Box::new(given::ipvs_options(&given)));
        let families = IpFamily::ALL.into();
        let wanted = pipeline::wanted(&given.cluster, &given.context, &families, &lowering);
        assert_eq!(pipeline::check(&wanted.program), Ok(()));
        let Program { xtables, nft, ipvs, ipset, dummies, nfacct, sysctls, ipvs_timeouts, listeners } =
            wanted.program;
        assert_eq!((ipvs_timeouts, listeners), (None, None));
        let at = folder.display();

        let servers: VirtualServers = [ipvs.v4, ipvs.v6].into_iter().flat_map(Option::unwrap).collect();
        let recorded = recorded_servers(&read("ipvs-save.txt"));
        for key in servers.keys().chain(recorded.keys()) {
            assert_eq!(servers.get(key), recorded.get(key), "{at} {key}");
            let tag = servers[key].tag.unwrap();
            let port = wanted.views.get(key.family()).as_ref().unwrap().ports.get(tag.0 as usize);
            assert!(port.is_some(), "{at} {key} was made for somebody");
        }

        let (sets, recorded) = (ipset.unwrap(), recorded_sets(&read("ipset-save.txt")));
        assert_eq!(recorded.len(), 34, "{at}");
        for name in sets.keys().chain(recorded.keys()) {
            assert_eq!(sets.get(name), recorded.get(name), "{at} {name}");
        }

        let dummies = dummies.unwrap();
        assert_eq!(dummies.keys().map(AsRef::as_ref).collect::<Vec<_>>(), ["kube-ipvs0"], "{at}");
        let PerFamily { v4, v6 } = &dummies["kube-ipvs0"].addresses;
        let bound = [v4, v6].into_iter().flat_map(|addresses| addresses.as_ref().unwrap());
        let bound: BTreeSet<String> = bound.map(|addr| IpCidr::host(*addr).to_string()).collect();
        let text = read("ipvs-addr.txt");
        assert_eq!(bound, text.lines().map(str::to_owned).collect::<BTreeSet<_>>(), "{at}");

        for (rules, file) in [(xtables.v4, "ipvs-iptables-save.txt"), (xtables.v6, "ipvs-ip6tables-save.txt")]
        {
            let rules = rules.unwrap();
            let recorded = parse::parse(&read(file), rules.family).unwrap();
            assert_eq!(lines(&rules), lines(&recorded), "{at} {file}");
        }
        assert_eq!((nft.v4, nft.v6, nfacct.len()), (NftTable::Unspoken, NftTable::Unspoken, 0), "{at}");
        assert_eq!(sysctls["net/ipv4/vs/conntrack"], "1", "{at}");
    }
}
