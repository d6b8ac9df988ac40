//! The machine in memory behaves as machines do.

use super::*;
use XtablesVariant::{Legacy, Nft};

#[test]
fn restores_and_saves_each_variant_apart() {
    let mut host = FakeHost::new();
    host.xtables_restore(Nft, IpFamily::V4, b"*nat\n:A - [0:0]\nCOMMIT\n", RestoreMode::Test).unwrap();
    assert_eq!(host.xtables_save(Nft, IpFamily::V4).unwrap(), "");
    host.xtables_restore(Nft, IpFamily::V4, b"*nat\n:A - [0:0]\nCOMMIT\n", RestoreMode::Commit).unwrap();
    let args = ["-m", "comment", "--comment", "a b", "-j", "A"].map(str::to_owned);
    let jump = b"*nat\n-I OUTPUT 1 -m comment --comment \"a b\" -j A\nCOMMIT\n";
    host.xtables_restore(Nft, IpFamily::V4, jump, RestoreMode::Commit).unwrap();
    assert!(host.rules(Nft, IpFamily::V4).contains("-A OUTPUT -m comment --comment \"a b\" -j A\n"));
    assert_eq!(host.rules(Legacy, IpFamily::V4), "");
    host.xtables_delete(Nft, IpFamily::V4, ("nat", "OUTPUT"), &args).unwrap();
    assert_eq!(host.calls.len(), 4);
    assert_eq!(host.calls[1], "nft IPv4 restore of 3 lines");
}

#[test]
fn lists_and_records_for_nft() {
    let mut host = FakeHost::new();
    assert_eq!(host.nft_version().unwrap(), Some((1, 0, 6)));
    assert_eq!(host.nft_list("ip", "mine").unwrap(), None);
    host.nft.insert(("ip".to_owned(), "mine".to_owned()), b"{}".to_vec());
    assert_eq!(host.nft_list("ip", "mine").unwrap().as_deref(), Some(&b"{}"[..]));
    host.fail_next_nft_run(Some(1), "no");
    host.nft_run(b"add table ip mine\n", true).unwrap();
    assert_eq!(host.nft_run(b"add table ip mine\n", false).unwrap_err().line, Some(1));
    host.nft_run(b"add table ip mine\n", false).unwrap();
    assert_eq!(host.calls, ["nft check of 1 lines", "nft run of 1 lines", "nft run of 1 lines"]);
    assert_eq!(host.documents[1], (RestoreMode::Commit, "add table ip mine\n".to_owned()));
    host.nft_installed = None;
    assert_eq!(host.nft_list("ip", "mine").unwrap_err().kind, HostErrorKind::MissingTool);
    assert_eq!(host.nft_run(b"", true).unwrap_err().error.kind, HostErrorKind::MissingTool);
}

#[test]
fn fails_on_demand() {
    let mut host = FakeHost::new();
    host.fail_next_restore(Some(2), "unknown option");
    let document = b"*nat\n:A - [0:0]\nCOMMIT\n";
    let error = host.xtables_restore(Nft, IpFamily::V4, document, RestoreMode::Commit).unwrap_err();
    assert_eq!((error.line, error.error.detail.as_str()), (Some(2), "unknown option"));
    assert!(host.xtables_restore(Nft, IpFamily::V4, document, RestoreMode::Commit).is_ok());
    host.fail_next("sysctl_write", HostError::new("set", HostErrorKind::Permission, "no"));
    assert!(host.sysctl_write("net/ipv4/conf/all/route_localnet", "1").is_err());
    host.no_ipv6 = true;
    assert_eq!(host.xtables_save(Nft, IpFamily::V6).unwrap_err().kind, HostErrorKind::Unsupported);
}

#[test]
fn keeps_virtual_servers() {
    let key = |port| ipvs::ServiceKey::Mark { family: IpFamily::V4, mark: port };
    let server = |scheduler| ipvs::VirtualServer {
        scheduler: ipvs::SchedulerName::new(scheduler).unwrap(),
        flags: ipvs::Flags::default(),
        persistence_seconds: 0,
        netmask: 32,
        engine: None,
        real_servers: BTreeMap::new(),
        counters: None,
        tag: None,
    };
    let new = |port, scheduler| ipvs::Request::NewService(key(port), server(scheduler));
    let mut host = FakeHost::new();
    host.ipvs_change(&[new(1, "rr"), new(2, "mh")]).unwrap();
    assert_eq!(host.ipvs_read().unwrap().len(), 2);
    let (index, error) = host.ipvs_change(&[new(3, "rr"), new(4, "nope")]).unwrap_err();
    assert_eq!((index, error.kind), (1, HostErrorKind::Unsupported));
    assert_eq!(error.detail, "the kernel has no IPVS scheduler `nope`");
    let (index, error) = host.ipvs_change(&[new(3, "rr")]).unwrap_err();
    assert_eq!((index, error.kind), (0, HostErrorKind::Exists));
    host.fail_next_ipvs_change(1, HostError::new("try", HostErrorKind::Other, "no"));
    let timeouts = ipvs::Request::SetTimeouts(ipvs::Timeouts { tcp: 1, tcp_fin: 0, udp: 3 });
    assert_eq!(host.ipvs_change(&[timeouts, new(5, "rr")]).unwrap_err().0, 1);
    assert_eq!(host.ipvs_timeouts().unwrap(), ipvs::Timeouts { tcp: 1, tcp_fin: 120, udp: 3 });
    assert_eq!((host.virtual_servers.len(), host.requests.len()), (3, 4));
    host.ipvs_version = None;
    assert_eq!(host.ipvs_read().unwrap_err().kind, HostErrorKind::Unsupported);
}

#[test]
fn keeps_sets_as_long_as_rules_ask_them() {
    let mut host = FakeHost::new();
    let rules = b"*filter\n:A - [0:0]\n-A A -m set --match-set S src -j ACCEPT\nCOMMIT\n";
    let error = host.xtables_restore(Nft, IpFamily::V4, rules, RestoreMode::Test).unwrap_err();
    assert_eq!((error.line, error.error.detail.as_str()), (Some(3), "Set S doesn't exist."));
    let name = ipset::SetName::literal;
    let kind = ipset::SetKind::Hash { hash: ipset::HashType::Ip, family: IpFamily::V4, max_entries: 65536 };
    let at = |last: u8| ipset::Entry::Ip([10, 0, 0, last].into());
    let add = |set, last| ipset::Change::Add(name(set), vec![at(last)]);
    host.ipset_change(&[ipset::Change::Create(name("S"), kind), add("S", 1)]).unwrap();
    let (index, error) = host.ipset_change(&[add("S", 2), add("T", 1), add("S", 3)]).unwrap_err();
    assert_eq!((index, error.kind), (1, HostErrorKind::NotFound));
    assert_eq!(host.ipset_read().unwrap()[&name("S")].entries, [at(1), at(2)].into());
    host.fail_next_ipset_change(1, HostError::new("try", HostErrorKind::Other, "no"));
    assert_eq!(host.ipset_change(&[add("S", 1), add("S", 1)]).unwrap_err().0, 1);
    host.xtables_restore(Nft, IpFamily::V4, rules, RestoreMode::Commit).unwrap();
    let destroy = [ipset::Change::Destroy(name("S"))];
    let (index, error) = host.ipset_change(&destroy).unwrap_err();
    assert_eq!((index, error.kind), (0, HostErrorKind::Busy));
    host.xtables_restore(Nft, IpFamily::V4, b"*filter\n:A - [0:0]\nCOMMIT\n", RestoreMode::Commit).unwrap();
    host.ipset_change(&destroy).unwrap();
    host.ipset_protocol = None;
    assert_eq!(host.ipset_read().unwrap_err().kind, HostErrorKind::Unsupported);
}

#[test]
fn keeps_dummies_and_their_addresses() {
    let mut host = FakeHost::new();
    let addresses = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
    assert_eq!(host.dummy_addresses("d0"), Ok(None));
    assert_eq!(host.addresses_add("d0", &addresses).unwrap_err().kind, HostErrorKind::NotFound);
    host.dummy_add("d0").unwrap();
    assert_eq!(host.dummy_add("d0").unwrap_err().kind, HostErrorKind::Exists);
    host.addresses_add("d0", &addresses).unwrap();
    host.addresses_add("d0", &addresses[..1]).unwrap();
    host.addresses_delete("d0", &addresses[1..]).unwrap();
    assert_eq!(host.dummy_addresses("d0"), Ok(Some(BTreeSet::from([addresses[0]]))));
    let local = LocalAddress { device: "d0".into(), addr: addresses[0] };
    assert!(host.local_addresses().unwrap().contains(&local));
    assert_eq!(host.dummy_delete("lo").unwrap_err().kind, HostErrorKind::Exists);
    host.dummy_delete("d0").unwrap();
    assert_eq!(host.dummy_delete("d0").unwrap_err().kind, HostErrorKind::NotFound);
    assert!(host.calls.contains(&"address delete 10.0.0.2 from d0".to_owned()), "{:?}", host.calls);
}
