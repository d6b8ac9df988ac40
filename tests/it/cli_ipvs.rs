//! IPVS mode on a machine in memory: compile, diff, apply, cleanup, and what is said when the machine lacks something.

use svcproxy::host::{FakeHost, HostError, HostErrorKind};
use svcproxy::program::ipvs::Request;

use crate::cli::{machine, run};

const APPLY: &str = "apply -f shop --node node-1 --mode ipvs";
const DIFF: &str = "diff -f shop --node node-1 --mode ipvs";

/// All that a change would show in.
fn state(host: &FakeHost) -> String {
    format!("{:?}{:?}{:?}{:?}{:?}", host.virtual_servers, host.sets, host.devices, host.tables, host.sysctls)
}

#[test]
fn apply_then_nothing_to_do_then_cleanup() {
    let mut host = machine();
    let before = state(&host);
    let first = run(&mut host, DIFF).ok(1);
    assert!(first.out.contains("+ kube-system/kube-dns:dns 10.96.0.10:53/udp"), "{}", first.out);
    let dry = run(&mut host, &format!("{APPLY} --dry-run")).ok(0);
    assert!(
        dry.out.contains("link: add dummy kube-ipvs0") && dry.out.contains("ipset: fill, "),
        "{}",
        dry.out
    );
    assert_eq!(state(&host), before, "nothing is done");
    let applied = run(&mut host, APPLY).ok(0);
    assert!(applied.out.contains("taken, ") && applied.out.contains("with IPVS, ipset and iptables-nft"));
    assert!(!host.virtual_servers.is_empty() && host.devices.contains_key("kube-ipvs0"));
    assert_eq!(run(&mut host, DIFF).ok(0).out, "");
    assert!(run(&mut host, APPLY).ok(0).out.starts_with("nothing to do"));
    // Another mode takes its place.
    let other = run(&mut host, "apply -f shop --node node-1").ok(0);
    assert!(other.out.contains("taken"), "{}", other.out);
    assert!(
        host.virtual_servers.is_empty() && host.sets.is_empty() && !host.devices.contains_key("kube-ipvs0")
    );
    run(&mut host, APPLY).ok(0);
    run(&mut host, "cleanup").ok(0);
    assert!(
        host.virtual_servers.is_empty() && host.sets.is_empty() && !host.devices.contains_key("kube-ipvs0")
    );
    assert!(run(&mut host, "cleanup").ok(0).out.starts_with("nothing to remove"));
}

#[test]
fn one_changed_endpoint_is_two_requests() {
    let mut host = machine();
    run(&mut host, APPLY).ok(0);
    host.requests.clear();
    let moved = String::from_utf8(host.files["shop/shop.yaml"].clone())
        .unwrap()
        .replace("10.128.2.31", "10.128.2.32");
    host.files.insert("shop/shop.yaml".to_owned(), moved.into());
    let told = run(&mut host, DIFF).ok(1);
    assert_eq!(
        told.out,
        "~ shop/api:grpc 10.96.40.3:9090/tcp: +10.128.2.32:9090 -10.128.2.31:9090 → 3 endpoints\n"
    );
    run(&mut host, APPLY).ok(0);
    // One that comes and one that goes, on each address of the Service.
    let n_addresses = told.out.lines().count();
    let kinds =
        |request: &Request| matches!(request, Request::NewDestination(..) | Request::DeleteDestination(..));
    assert!(host.requests.iter().all(kinds), "{:?}", host.requests);
    assert!(host.requests.len() >= 2 * n_addresses && host.requests.len() <= 6, "{:?}", host.requests);
}

#[test]
fn what_a_machine_lacks_is_one_clear_line_and_nothing_is_done() {
    type Change = fn(&mut FakeHost);
    let cases: [(Change, &str); 4] = [
        (|host| host.ipvs_version = None, "error: this kernel has no IPVS (module ip_vs)\n"),
        (|host| host.ipset_protocol = None, "error: this kernel has no ipset (module ip_set)\n"),
        (
            |host| {
                let refused = HostError::new(
                    "add device `kube-ipvs0`",
                    HostErrorKind::Unsupported,
                    "Operation not supported",
                );
                host.fail_next("dummy_add", refused);
            },
            "error: cannot add device `kube-ipvs0`: Operation not supported\n",
        ),
        (
            |host| {
                let refused = HostError::new(
                    "read virtual servers",
                    HostErrorKind::Permission,
                    "Operation not permitted",
                );
                host.fail_next("ipvs_read", refused);
            },
            "error: cannot read virtual servers: Operation not permitted",
        ),
    ];
    for (lack, said) in cases {
        let mut host = machine();
        lack(&mut host);
        let before = state(&host);
        let ran = run(&mut host, APPLY);
        assert_eq!(ran.status, 2, "{said}");
        assert!(ran.err.starts_with(said), "{}", ran.err);
        assert_eq!(state(&host), before, "{said}");
    }
    let mut host = machine();
    let before = state(&host);
    let ran = run(&mut host, &format!("{APPLY} --ipvs-scheduler nope"));
    assert!(ran.status == 2 && ran.err.contains("`nope`"), "{}", ran.err);
    assert_eq!(state(&host), before);
    let ran = run(&mut host, &format!("{APPLY} --ipvs-scheduler NO"));
    assert!(ran.status == 2 && ran.err.starts_with("error: `NO` is no name of a scheduler"), "{}", ran.err);
}

#[test]
fn compile_writes_a_file_for_each_tool_or_netlink_as_json() {
    let mut host = machine();
    run(&mut host, "compile -f shop --node node-1 --mode ipvs --output-dir out").ok(0);
    let files = host.files.clone();
    let text = |name: &str| String::from_utf8(files[&format!("out/{name}")].clone()).unwrap();
    for (name, line) in [
        ("ipvs.rules", "-A -u 10.96.0.10:53 -s rr"),
        ("ipset.rules", "add KUBE-CLUSTER-IP 10.96.0.10,udp:53"),
        ("addresses.batch", "address add 10.96.0.10/32 dev kube-ipvs0"),
        ("sysctl.conf", "net.ipv4.vs.conntrack = 1"),
        ("iptables.rules", "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT"),
    ] {
        assert!(text(name).lines().any(|one| one == line), "{name}: {}", text(name));
    }
    assert!(!text("ipvs.rules").contains('#'), "ipvsadm knows no comments");
    // What was compiled is what a recording of it says.
    assert_eq!(run(&mut host, &format!("{DIFF} --against out")).ok(0).out, "");
    let json = run(&mut host, "compile -f shop --node node-1 --mode ipvs -o json").ok(0).out;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let operations = value["operations"].as_array().unwrap();
    assert_eq!(operations[0]["command"], "RTM_NEWLINK");
    let made = operations.iter().filter(|one| one["command"] == "IPVS_CMD_NEW_SERVICE").count();
    assert_eq!(made, text("ipvs.rules").lines().filter(|line| line.starts_with("-A")).count());
    let ran = run(&mut host, "compile -f shop --node node-1 -o json");
    assert!(ran.status == 2 && ran.err.starts_with("error: -o json is of IPVS mode\n"), "{}", ran.err);
}
