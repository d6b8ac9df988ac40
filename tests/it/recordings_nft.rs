//! What kube-proxy 1.36 programmed in nftables mode for fourteen clusters: our table is the same, object by object.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use svcproxy::backend::Layout;
use svcproxy::backend::nftables::{self, LowerOptions};
use svcproxy::net::{IpCidr, IpFamily};
use svcproxy::program::nft::{Family, Table, parse};
use svcproxy::resolve;

use crate::given;

fn folders() -> Vec<PathBuf> {
    let parent = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings");
    let entries = fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert_eq!(folders.len(), 14);
    folders
}

/// Drops what nft 1.0.6 does not print in JSON, and what the kernel adds.
fn comparable(mut table: Table) -> Table {
    table.comment = None;
    table.chains.values_mut().for_each(|chain| chain.comment = None);
    for set in table.sets.values_mut() {
        set.size = None;
        set.flags.dynamic = false;
        set.elements.values_mut().for_each(|element| element.tag = None);
    }
    table
}

#[test]
fn compiled_tables_are_the_recorded_ones() {
    for folder in folders() {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let given = given::given(&read("cluster.json"), &read("config-nftables.json"));
        // The recorded clusters had these ServiceCIDRs, which are no part of what kubectl was asked for.
        let service_cidrs =
            ["10.96.0.0/12", "fd00:10:96::/112"].map(|cidr| IpCidr::parse_sloppy(cidr).unwrap());
        let options = LowerOptions {
            masquerade_mark: 1 << given.config.masquerade_bit,
            masquerade_all: given.config.masquerade_all,
            object_comments: true,
            layout: Layout::KubeProxy,
            service_cidrs: service_cidrs.to_vec(),
        };
        let recorded = parse::parse(read("nft.json").as_bytes()).unwrap();
        for family in IpFamily::ALL {
            let view = resolve::resolve(&given.cluster, &given.context, family);
            let compiled = comparable(nftables::lower(&view, &options));
            let recorded = comparable(recorded.table(Family::from(family), "kube-proxy").unwrap().clone());
            let at = format!("{} {family}", folder.display());
            let names = |table: &Table| -> (BTreeSet<String>, BTreeSet<String>) {
                let text = |name: &svcproxy::program::nft::Name| name.as_str().to_owned();
                (table.chains.keys().map(text).collect(), table.sets.keys().map(text).collect())
            };
            assert_eq!(names(&compiled), names(&recorded), "{at}");
            for (name, chain) in &recorded.chains {
                assert_eq!(compiled.chains.get(name), Some(chain), "{at} chain {name}");
            }
            for (name, set) in &recorded.sets {
                assert_eq!(compiled.sets.get(name), Some(set), "{at} set {name}");
            }
        }
    }
}
