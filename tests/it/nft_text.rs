//! The language of nftables against the real tool and kernel: what we write is taken and listed again, differences carried
//! out in a network namespace give what is wanted, and recorded rules do what the oracle says.

use std::fs;
use std::path::{Path, PathBuf};

use svcproxy::backend::{Layout, nftables};
use svcproxy::net::{AddrPort, IpFamily, Protocol};
use svcproxy::packet::{NodeFacts, Origin, Packet};
use svcproxy::program::Emitted;
use svcproxy::program::nft::diff::{TableDiff, diff};
use svcproxy::program::nft::eval::{Memory, eval};
use svcproxy::program::nft::transaction::{delete_table, stages};
use svcproxy::program::nft::{Chain, Family, Ruleset, Scalar, Table, emit, parse};
use svcproxy::resolve;

use crate::given;
use crate::rig::Namespace;

fn folders() -> Vec<PathBuf> {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn recorded(folder: &Path) -> Ruleset {
    parse::parse(&fs::read(folder.join("nft.json")).unwrap()).unwrap()
}

fn load(namespace: &Namespace, document: &Emitted) {
    let done = namespace.run_with(&["nft", "-f", "-"], &document.text);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&document.text));
}

fn list(namespace: &Namespace) -> Ruleset {
    parse::parse(namespace.run(&["nft", "-j", "list", "ruleset"]).as_bytes()).unwrap()
}

/// Takes all documents of a difference.
fn take(namespace: &Namespace, change: &TableDiff, table: &Table) {
    let documents = stages(change, table);
    documents.load.iter().chain(&documents.sweep).for_each(|one| load(namespace, &one.document));
}

/// Brings what is in a namespace to what is wanted, and looks.
fn bring(namespace: &Namespace, wanted: &Ruleset, what: &str) {
    let live = list(namespace);
    for (place, table) in &wanted.tables {
        let change = diff(table, live.tables.get(place));
        take(namespace, &change, table);
    }
    let after = list(namespace);
    for (place, table) in &wanted.tables {
        let live = after.tables.get(place).unwrap();
        assert!(diff(table, Some(live)).is_empty(), "{what}: {:?}", diff(table, Some(live)));
        assert_eq!(live.chains, table.chains, "{what}");
        assert_eq!(live.n_elements(), table.n_elements(), "{what}");
    }
}

#[test]
fn recorded_tables_are_taken_and_listed_as_they_were() {
    for folder in folders() {
        let Some(namespace) = Namespace::new("nft") else { return };
        let wanted = recorded(&folder);
        for table in wanted.tables.values() {
            load(&namespace, &emit::emit(table, "written by a test"));
        }
        assert_eq!(list(&namespace), wanted, "{}", folder.display());
        // What the tool prints for people is the same, too, but for the order of objects and comments that JSON leaves out.
        let lines = |text: &str| {
            let mut lines: Vec<String> = text
                .lines()
                .map(|line| line.trim().trim_start_matches("elements = { ").trim_end_matches([',', ' ', '}']))
                .flat_map(|line| line.split(", "))
                .map(str::to_owned)
                .filter(|line| !line.starts_with("comment "))
                .collect();
            lines.sort();
            lines
        };
        let text = namespace.run(&["nft", "list", "ruleset"]);
        let recorded = fs::read_to_string(folder.join("nft.txt")).unwrap();
        assert_eq!(lines(&text), lines(&recorded), "{}", folder.display());
    }
}

#[test]
fn a_transaction_takes_one_recording_to_the_next() {
    let Some(namespace) = Namespace::new("nft") else { return };
    for folder in folders() {
        bring(&namespace, &recorded(&folder), &folder.display().to_string());
    }
}

/// A recorded cluster as a layout says it.
fn lowered(folder: &Path, layout: Layout) -> Ruleset {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let given = given::given(&read("cluster.json"), &read("config-nftables.json"));
    // nft 1.0.6 does not list the comments of chains.
    let options =
        nftables::LowerOptions { layout, object_comments: false, ..given::nftables_options(&given.config) };
    let mut ruleset = Ruleset::default();
    for family in IpFamily::ALL {
        let view = resolve::resolve(&given.cluster, &given.context, family);
        let table = nftables::lower(&view, &options);
        ruleset.tables.insert((table.family, table.name.clone()), table);
    }
    ruleset
}

#[test]
fn tables_of_the_fast_layout_are_taken_and_listed_as_they_were() {
    let Some(namespace) = Namespace::new("nft") else { return };
    for folder in folders() {
        let at = folder.display().to_string();
        let wanted = lowered(&folder, Layout::Fast);
        for table in wanted.tables.values() {
            load(&namespace, &emit::emit(table, "written by a test"));
        }
        for (place, live) in &list(&namespace).tables {
            let wanted = &wanted.tables[place];
            assert!(diff(wanted, Some(live)).is_empty(), "{at}: {:?}", diff(wanted, Some(live)));
            assert_eq!((&live.chains.len(), live.unmodelled.len()), (&wanted.chains.len(), 0), "{at}");
            for (name, set) in &wanted.sets {
                assert_eq!(live.sets[name].elements, set.elements, "{at} {name}");
            }
            assert_eq!(nftables::lift(live), nftables::lift(wanted), "{at}");
            load(&namespace, &delete_table(live).document);
        }
    }
}

#[test]
fn a_transaction_takes_one_layout_to_the_other() {
    let Some(namespace) = Namespace::new("nft") else { return };
    for folder in folders() {
        for layout in [Layout::Fast, Layout::KubeProxy, Layout::Fast] {
            bring(&namespace, &lowered(&folder, layout), &format!("{} {layout:?}", folder.display()));
        }
    }
}

#[test]
fn what_cannot_be_changed_is_made_again() {
    let Some(namespace) = Namespace::new("nft") else { return };
    let wanted = recorded(&folders()[3]);
    bring(&namespace, &wanted, "at first");
    let mut changed = wanted.clone();
    for table in changed.tables.values_mut() {
        for chain in table.chains.values_mut() {
            if let Some(base) = &mut chain.base {
                base.priority += 1;
            }
        }
        for set in table.sets.values_mut().filter(|set| set.timeout.is_some()) {
            set.timeout = Some(7);
        }
        let verdicts = table.sets.iter_mut().find(|(name, _)| name.as_str() == "service-ips").unwrap().1;
        verdicts.size = Some(5000);
    }
    bring(&namespace, &changed, "other properties");
    bring(&namespace, &wanted, "back again");
    let live = list(&namespace);
    for table in wanted.tables.values() {
        load(&namespace, &delete_table(table).document);
        let emptied = Table::new(table.family, table.name.clone());
        take(&namespace, &diff(&emptied, None), &emptied);
        take(&namespace, &diff(table, Some(&emptied)), table);
        let nothing = diff(&emptied, live.tables.get(&(table.family, table.name.clone())));
        take(&namespace, &nothing, &emptied);
    }
    assert!(list(&namespace).tables.values().all(|table| table.chains.is_empty() && table.sets.is_empty()));
}

/// A recorded table with every regular chain that belongs to a Service many times over.
fn multiplied(table: &Table, times: usize) -> Table {
    let mut large = table.clone();
    let service = |name: &str| name.contains('/');
    for (name, chain) in table.chains.iter().filter(|(name, _)| service(name.as_str())) {
        for number in 0..times {
            let copy = svcproxy::program::nft::Name::new(&format!("{name}-{number}")).unwrap();
            large.chains.insert(copy, Chain { base: None, ..chain.clone() });
        }
    }
    large
}

#[test]
fn a_large_table_is_loaded_in_stages() {
    let Some(namespace) = Namespace::new("nft") else { return };
    let recorded = recorded(&folders()[3]);
    let wanted = multiplied(recorded.tables.values().next().unwrap(), 60);
    let documents = stages(&diff(&wanted, None), &wanted).load;
    assert!(documents.len() > 3);
    let last = documents.len() - 1;
    for (nth, document) in documents.iter().enumerate() {
        load(&namespace, &document.document);
        if nth < last {
            let live = list(&namespace);
            let live = live.tables.values().next().unwrap();
            assert!(live.chains.values().all(|chain| chain.base.is_none()), "no packet meets it yet");
            assert_eq!(live.n_elements(), 0);
        }
    }
    let live = list(&namespace);
    assert!(diff(&wanted, live.tables.values().next()).is_empty());
    // Where the table and its sets are there, no stage makes them.
    let chains_alone = stages(&diff(&wanted, recorded.tables.values().next()), &wanted).load;
    assert!(chains_alone.len() > 1 && chains_alone.iter().all(|stage| !stage.document.text.is_empty()));
}

/// A port that no Service has.
const CLOSED: u16 = 9999;

/// Packets to all addresses and ports that a table knows.
fn packets(table: &Table, family: IpFamily, node: &[std::net::IpAddr]) -> Vec<Packet> {
    let of = |all: [&str; 2]| all[usize::from(family == IpFamily::V6)].parse().unwrap();
    let own = node.iter().copied().find(|addr| IpFamily::of(*addr) == family).unwrap();
    let mut sources = vec![
        (Origin::Pod, of(["10.128.0.250", "fd00:128::fa"])),
        (Origin::Outside, of(["203.0.113.200", "2001:db8:99::1"])),
        (Origin::Outside, of(["198.51.100.1", "2001:db8:1b::1"])),
        (Origin::Node, own),
    ];
    let mut destinations = Vec::new();
    for (name, set) in &table.sets {
        for key in set.elements.keys() {
            match (name.as_str(), key.first()) {
                (_, [addr, Scalar::Protocol(protocol), Scalar::Port(port)]) => {
                    destinations.push((addr.addr().unwrap(), *protocol, *port));
                }
                (_, [Scalar::Protocol(protocol), Scalar::Port(port)]) => {
                    destinations.push((own, *protocol, *port));
                }
                ("cluster-ips", [addr]) => destinations.push((addr.addr().unwrap(), 6, CLOSED)),
                ("hairpin-connections", [addr, ..]) => sources.push((Origin::Pod, addr.addr().unwrap())),
                _ => {}
            }
        }
    }
    sources.retain(|(origin, addr)| *origin != Origin::Pod || !node.contains(addr));
    destinations.sort();
    destinations.dedup();
    let mut packets = Vec::new();
    for (origin, source) in sources {
        for (addr, protocol, port) in &destinations {
            packets.push(Packet {
                origin,
                source: AddrPort::new(source, 40000),
                destination: AddrPort::new(*addr, *port),
                protocol: Protocol::from_number(*protocol).unwrap(),
                in_interface: match origin {
                    Origin::Pod => Some("veth1".to_owned()),
                    Origin::Outside => Some("eth0".to_owned()),
                    Origin::Node => None,
                },
                bridge_port: None,
            });
        }
    }
    packets
}

#[test]
fn recorded_rules_do_what_the_oracle_says() {
    let (mut n_packets, mut problems) = (0, Vec::new());
    for folder in folders() {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let given = given::given(&read("cluster.json"), &read("config-nftables.json"));
        let facts = NodeFacts { local_addresses: given.node.addresses.iter().copied().collect() };
        let ruleset = recorded(&folder);
        for family in IpFamily::ALL {
            let view = resolve::resolve(&given.cluster, &given.context, family);
            let table = ruleset.tables.values().find(|table| table.family == Family::from(family)).unwrap();
            for packet in packets(table, family, &given.node.addresses) {
                n_packets += 1;
                let oracle = resolve::fate(&view, &packet, &facts);
                let rules = eval(&ruleset, &packet, &facts, &Memory::default()).fate;
                if !oracle.is_same(&rules) {
                    problems.push(format!("{} {packet:?}: {oracle}, but {rules}", folder.display()));
                }
            }
        }
    }
    assert!(n_packets > 5000, "{n_packets}");
    assert!(problems.is_empty(), "{} of {n_packets}:\n{}", problems.len(), problems.join("\n"));
}
