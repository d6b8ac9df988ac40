//! `verify`: what kube-proxy 1.36 programmed means what the manifests say; whatever changes the fate of a packet is found,
//! and nothing else.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use svcproxy::model::Mode;
use svcproxy::net::{IpCidr, IpFamily, PerFamily};
use svcproxy::packet::NodeFacts;
use svcproxy::program::eval::Evaluator;
use svcproxy::program::{Dummy, NftTable, Program, ipset, ipvs, nft, xtables};
use svcproxy::resolve;
use svcproxy::verify::{Options, Report, Surroundings, verify};

use crate::given::{self, Given};
use crate::{cases, recordings};

/// The recorded clusters had these ServiceCIDRs.
pub(crate) fn service_cidrs() -> Vec<IpCidr> {
    ["10.96.0.0/12", "fd00:10:96::/112"].map(|cidr| IpCidr::parse_sloppy(cidr).unwrap()).to_vec()
}

/// What a node of a recording was told, and what it had.
pub(crate) struct Recorded {
    pub(crate) given: Given,
    pub(crate) program: Program,
}

pub(crate) fn recorded(folder: &Path, mode: Mode) -> Recorded {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let given = given::given(&read("cluster.json"), &read(&format!("config-{}.json", mode.name())));
    let rules = |[v4, v6]: [&str; 2]| {
        let files = PerFamily { v4, v6 };
        PerFamily::from_fn(|family| Some(xtables::parse::parse(&read(files.get(family)), family).unwrap()))
    };
    let mut program = Program::default();
    match mode {
        Mode::Nftables => {
            let ruleset = nft::parse::parse(read("nft.json").as_bytes()).unwrap();
            program.nft = PerFamily::from_fn(|family| {
                NftTable::Present(ruleset.table(nft::Family::from(family), "kube-proxy").unwrap().clone())
            });
        }
        Mode::Userspace => panic!("its listeners are in no recording"),
        Mode::Iptables => program.xtables = rules(["iptables-save.txt", "ip6tables-save.txt"]),
        Mode::Ipvs => {
            program.xtables = rules(["ipvs-iptables-save.txt", "ipvs-ip6tables-save.txt"]);
            let servers = ipvs::parse::parse(&read("ipvs-save.txt")).unwrap();
            program.ipvs = PerFamily::from_fn(|family| {
                let of_family = servers.iter().filter(|(server, _)| server.family() == family);
                Some(of_family.map(|(key, server)| (*key, server.clone())).collect())
            });
            program.ipset = Some(ipset::parse::parse(&read("ipset-save.txt")).unwrap());
            let addresses: BTreeSet<IpAddr> = read("ipvs-addr.txt")
                .lines()
                .map(|line| line.trim().split('/').next().unwrap().parse().unwrap())
                .collect();
            let of_family =
                |family| addresses.iter().copied().filter(|addr| IpFamily::of(*addr) == family).collect();
            let dummy = Dummy { addresses: PerFamily::from_fn(|family| Some(of_family(family))) };
            program.dummies = Some([("kube-ipvs0".into(), dummy)].into());
        }
    }
    Recorded { given, program }
}

pub(crate) fn facts(given: &Given) -> NodeFacts {
    NodeFacts { local_addresses: given.node.addresses.iter().copied().collect() }
}

fn verified(given: &Given, program: &Program, service_cidrs: &[IpCidr], family: IpFamily) -> Report {
    let view = resolve::resolve(&given.cluster, &given.context, family);
    let surroundings = Surroundings { service_cidrs: service_cidrs.to_vec(), ..Surroundings::default() };
    let options = Options { facts: &facts(given), n_witnesses: 3 };
    verify(&view, &Evaluator::new(program, family, &facts(given)), &surroundings, &options)
}

fn complaints(name: &str, report: &Report, problems: &mut Vec<String>) {
    for (subject, tally) in &report.subjects {
        for one in &tally.witnesses {
            problems.push(format!(
                "{name} {subject:?} ({} packets): {} {:?}\n    wanted {}\n    found  {}\n    {}",
                tally.n_packets,
                one.packet,
                one.remembered,
                one.wanted,
                one.found,
                one.path.join("\n    ")
            ));
        }
    }
}

#[test]
fn recordings_are_what_the_manifests_say() {
    let mut problems = Vec::new();
    for mode in [Mode::Iptables, Mode::Ipvs, Mode::Nftables] {
        let mut n_packets = 0;
        for folder in recordings::folders() {
            let Recorded { given, program } = recorded(&folder, mode);
            for family in IpFamily::ALL {
                let report = verified(&given, &program, &service_cidrs(), family);
                assert!(report.n_packets > 10, "{}", report.n_packets);
                n_packets += report.n_packets;
                let name = folder.file_name().unwrap().to_string_lossy();
                complaints(&format!("{name} {} {family}", mode.name()), &report, &mut problems);
            }
        }
        eprintln!("{}: {n_packets} packets", mode.name());
    }
    assert!(problems.is_empty(), "{}:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn cases_are_what_their_manifests_say() {
    let mut problems = Vec::new();
    for mode in [Mode::Iptables, Mode::Ipvs, Mode::Nftables, Mode::Userspace] {
        for folder in cases::folders() {
            let given = cases::given(&folder, mode);
            for family in IpFamily::ALL {
                let view = resolve::resolve(&given.cluster, &given.context, family);
                let program = given::lowered(&given, &view);
                let name = folder.file_name().unwrap().to_string_lossy();
                let report = verified(&given, &program, &[], family);
                complaints(&format!("{name} {} {family}", mode.name()), &report, &mut problems);
            }
        }
    }
    assert!(problems.is_empty(), "{}:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn both_layouts_do_the_same_to_every_class_of_packets() {
    for mode in [Mode::Iptables, Mode::Nftables] {
        for folder in recordings::folders() {
            let given = recorded(&folder, mode).given;
            for family in IpFamily::ALL {
                let report = given::compared_layouts(&given, family);
                assert!(report.is_same(), "{}: {mode:?}: {report:#?}", folder.display());
            }
        }
        for folder in cases::folders() {
            let given = cases::given(&folder, mode);
            for family in IpFamily::ALL {
                let report = given::compared_layouts(&given, family);
                assert!(report.is_same(), "{}: {mode:?}: {report:#?}", folder.display());
            }
        }
    }
}
