//! `verify`: what kube-proxy 1.36 programmed means what the manifests say; whatever changes the fate of a packet is found,
//! and nothing else.

use std::path::Path;

use svcproxy::backend::{iptables, nftables};
use svcproxy::model::Mode;
use svcproxy::net::{IpCidr, IpFamily, PerFamily};
use svcproxy::packet::NodeFacts;
use svcproxy::program::eval::Evaluator;
use svcproxy::program::{NftTable, Program, nft, xtables};
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
    let mut program = Program::default();
    match mode {
        Mode::Nftables => {
            let ruleset = nft::parse::parse(read("nft.json").as_bytes()).unwrap();
            program.nft = PerFamily::from_fn(|family| {
                NftTable::Present(ruleset.table(nft::Family::from(family), "kube-proxy").unwrap().clone())
            });
        }
        Mode::Iptables | Mode::Ipvs | Mode::Userspace => {
            let files = PerFamily { v4: "iptables-save.txt", v6: "ip6tables-save.txt" };
            program.xtables = PerFamily::from_fn(|family| {
                Some(xtables::parse::parse(&read(files.get(family)), family).unwrap())
            });
        }
    }
    Recorded { given, program }
}

pub(crate) fn facts(given: &Given) -> NodeFacts {
    NodeFacts { local_addresses: given.node.addresses.iter().copied().collect() }
}

fn verified(given: &Given, program: &Program, service_cidrs: &[IpCidr], family: IpFamily) -> Report {
    let view = resolve::resolve(&given.cluster, &given.context, family);
    let surroundings = Surroundings { service_cidrs: service_cidrs.to_vec(), strangers: None };
    let options = Options { facts: &facts(given), n_witnesses: 3 };
    verify(&view, &Evaluator::new(program, family), &surroundings, &options)
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
    for mode in [Mode::Iptables, Mode::Nftables] {
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
    for mode in [Mode::Iptables, Mode::Nftables] {
        for folder in cases::folders() {
            let given = cases::given(&folder, mode);
            for family in IpFamily::ALL {
                let view = resolve::resolve(&given.cluster, &given.context, family);
                let mut program = Program::default();
                if mode == Mode::Nftables {
                    let table = nftables::lower(&view, &given::nftables_options(&given.config));
                    *program.nft.get_mut(family) = NftTable::Present(table);
                } else {
                    *program.xtables.get_mut(family) = Some(iptables::lower(&view, &given.options()));
                }
                let name = folder.file_name().unwrap().to_string_lossy();
                let report = verified(&given, &program, &[], family);
                complaints(&format!("{name} {} {family}", mode.name()), &report, &mut problems);
            }
        }
    }
    assert!(problems.is_empty(), "{}:\n{}", problems.len(), problems.join("\n"));
}
