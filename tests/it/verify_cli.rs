//! `svcproxy verify` on a machine in memory: live rules and dumps, its formats, its exit status.

use svcproxy::host::FakeHost;

use crate::cli::{machine, machine_in_ipvs_mode, machine_in_userspace_mode, run};

/// A machine with the rules of the quickstart in the folder `dump`.
fn recorded() -> FakeHost {
    let mut host = machine();
    assert_eq!(run(&mut host, "compile -f shop --node node-1 --output-dir dump").status, 0);
    host
}

fn change(host: &mut FakeHost, from: &str, to: &str) {
    let text = String::from_utf8(host.files["dump/iptables.rules"].clone()).unwrap();
    assert!(text.contains(from), "{text}");
    host.files.insert("dump/iptables.rules".to_owned(), text.replacen(from, to, 1).into_bytes());
}

const VERIFY: &str = "verify -f shop --node node-1 --from-dump dump";

#[test]
fn rules_that_mean_what_the_manifests_say() {
    let ran = run(&mut recorded(), VERIFY);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert!(ran.out.ends_with(" destinations compared: none differs\n"), "{}", ran.out);
    assert_eq!(ran.out.lines().count(), 1, "{}", ran.out);
}

#[test]
fn the_rules_of_this_machine() {
    let mut host = machine();
    let before = run(&mut host, "verify -f shop --node node-1");
    assert_eq!(before.status, 1, "{}", before.err);
    assert!(before.out.contains("~ shop/api:grpc IPv4\n"), "{}", before.out);
    assert_eq!(run(&mut host, "apply -f shop --node node-1").status, 0);
    let after = run(&mut host, "verify -f shop --node node-1");
    assert_eq!((after.status, after.err.as_str()), (0, ""), "{}", after.out);
    // Not those of the other mode.
    let other = run(&mut host, "verify -f shop --node node-1 --mode nftables");
    assert_eq!(other.status, 1);
    assert!(
        other.err.starts_with("warning: this machine has Service rules of iptables mode too"),
        "{}",
        other.err
    );
}

#[test]
fn the_table_of_this_machine_and_a_recorded_one() {
    const TABLE: &str = include_str!("../../testdata/recordings/c02/nft.json");
    let mut host = FakeHost::new();
    for (name, text) in [
        ("cluster.json", include_str!("../../testdata/recordings/c02/cluster.json")),
        ("config.json", include_str!("../../testdata/recordings/c02/config-nftables.json")),
        ("nft.json", TABLE),
    ] {
        host.files.insert(name.to_owned(), text.into());
    }
    let addresses = ["192.168.77.10", "fd00:77::10"].map(|addr| addr.parse().unwrap());
    host.devices.get_mut("lo").unwrap().addresses.extend::<[std::net::IpAddr; 2]>(addresses);
    for family in ["ip", "ip6"] {
        host.nft.insert((family.to_owned(), "kube-proxy".to_owned()), TABLE.into());
    }
    for from in ["", "--from-dump nft.json"] {
        let ran = run(&mut host, &format!("verify -f cluster.json --config config.json {from}"));
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
        // Where cluster IPs come from is taken from the rules; who says another network is not believed.
        let other = run(
            &mut host,
            &format!("verify -f cluster.json --config config.json --service-cidr 10.96.0.0/16 {from}"),
        );
        assert_eq!((other.status, other.err.as_str()), (1, ""), "{}", other.out);
    }
}

#[test]
fn a_difference_is_shown_with_its_service_and_a_packet() {
    let mut host = recorded();
    change(&mut host, "--to-destination 10.128.1.31:9090", "--to-destination 10.128.1.77:9090");
    let ran = run(&mut host, VERIFY);
    assert_eq!((ran.status, ran.err.as_str()), (1, ""));
    assert!(
        ran.out
            .starts_with("~ shop/api:grpc IPv4\n    outside 198.51.100.77 via eth0 -> 10.96.40.3:9090/tcp\n")
    );
    assert!(
        ran.out.contains("      manifests: 10.128.0.31:9090|10.128.1.31:9090|10.128.2.31:9090\n"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("      rules:     10.128.0.31:9090|10.128.1.77:9090|10.128.2.31:9090\n"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("    and "), "{}", ran.out);
    assert_eq!(ran.out.matches('~').count(), 1, "{}", ran.out);

    let json: serde_json::Value =
        serde_json::from_str(&run(&mut host, &format!("{VERIFY} -o json")).out).unwrap();
    let service = &json["families"][0]["services"][0];
    assert_eq!((&json["same"], &service["name"]), (&false.into(), &"api".into()));
    assert!(service["witnesses"][0]["path"].as_array().unwrap().len() > 5, "{service}");
    assert!(json["known"].as_array().unwrap().len() > 2);
    let sarif: serde_json::Value =
        serde_json::from_str(&run(&mut host, &format!("{VERIFY} -o sarif")).out).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"], "shop/api:grpc");
    let junit = run(&mut host, &format!("{VERIFY} -o junit")).out;
    assert!(junit.contains(r#"<testcase classname="verify" name="shop/api:grpc TCP">"#), "{junit}");
    assert_eq!(junit.matches("<failure ").count(), 1, "{junit}");
    assert!(junit.contains("-&gt; 10.96.40.3:9090/tcp: wanted "), "{junit}");
}

#[test]
fn what_the_rules_of_others_do_with_other_packets_is_theirs() {
    let mut host = recorded();
    change(&mut host, ":INPUT ACCEPT", ":INPUT DROP");
    change(&mut host, "-A OUTPUT ", "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n-A OUTPUT ");
    let ran = run(&mut host, VERIFY);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    // Yet a Service packet that they discard is a difference.
    change(&mut host, "-A FORWARD ", "-A FORWARD -d 10.128.1.31/32 -j DROP\n-A FORWARD ");
    let ran = run(&mut host, VERIFY);
    assert_eq!(ran.status, 1);
    assert!(ran.out.contains("~ shop/api:grpc IPv4"), "{}", ran.out);
}

#[test]
fn a_service_that_only_the_rules_know_is_named() {
    let mut host = recorded();
    change(&mut host, "-A KUBE-SERVICES -d 10.96.40.3/32", "-A KUBE-SERVICES -d 10.96.40.99/32");
    let ran = run(&mut host, VERIFY);
    assert_eq!(ran.status, 1);
    assert!(ran.out.contains("~ shop/api:grpc IPv4\n"), "{}", ran.out);
    assert!(ran.out.contains("~ 10.96.40.99 (shop/api:grpc, as the rules say) IPv4\n"), "{}", ran.out);
}

#[test]
fn rulesets_are_compared_with_each_other() {
    let mut host = recorded();
    let same = run(&mut host, "verify --equivalent dump dump/ --node-ip 192.168.10.11");
    assert_eq!((same.status, same.err.as_str()), (0, ""), "{}", same.out);
    let compiled = run(&mut host, "verify -f shop --node node-1 --equivalent dump iptables");
    assert_eq!((compiled.status, compiled.err.as_str()), (0, ""), "{}", compiled.out);
    let modes = run(&mut host, "verify -f shop --node node-1 --equivalent iptables nftables");
    assert_eq!((modes.status, modes.err.as_str()), (1, ""), "{}", modes.out);
    assert!(modes.out.contains("      iptables: none\n      nftables: reject\n"), "{}", modes.out);
    change(&mut host, "--probability 0.5", "--probability 0.4");
    let layouts = run(&mut host, "verify -f shop --node node-1 --equivalent nftables nftables:fast");
    assert_eq!(layouts.status, 0, "{}{}", layouts.out, layouts.err);
    let changed = run(&mut host, "verify -f shop --node node-1 --equivalent dump iptables");
    assert_eq!(changed.status, 1);
    assert!(changed.out.contains("@0.4"), "{}", changed.out);
}

#[test]
fn what_cannot_be_verified_is_an_error() {
    let mut host = recorded();
    let mut error = |args: &str, text: &str| {
        let ran = run(&mut host, args);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{args}");
        assert!(ran.err.contains(text), "{args}: {}", ran.err);
    };
    error("verify", "no manifests: give -f");
    error("verify -f shop --node node-1 --from-dump nowhere", "nowhere");
    error("verify -f shop --node node-1 --mode nftables --from-dump dump", "`dump` has no recorded table");
    error("verify --equivalent iptables dump", "needs manifests");
    error("verify -f shop --equivalent nftables nftables:slow", "there is no layout `slow`");
    error("verify -f shop --from-dump dump --equivalent dump dump", "cannot be used with");
}

/// A machine with what IPVS mode makes of the quickstart in the folder `dump`.
fn recorded_in_ipvs_mode() -> FakeHost {
    let mut host = machine();
    assert_eq!(run(&mut host, "compile -f shop --node node-1 --mode ipvs --output-dir dump").status, 0);
    host
}

#[test]
fn virtual_servers_mean_what_the_manifests_say() {
    let mut host = recorded_in_ipvs_mode();
    let verify = format!("{VERIFY} --mode ipvs");
    let ran = run(&mut host, &verify);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    let same = run(&mut host, "verify -f shop --node node-1 --equivalent dump ipvs");
    assert_eq!((same.status, same.err.as_str()), (0, ""), "{}", same.out);
    let modes = run(&mut host, "verify -f shop --node node-1 --equivalent iptables ipvs");
    assert_eq!((modes.status, modes.err.as_str()), (1, ""), "{}", modes.out);
    for (name, from, to) in [
        ("ipvs.rules", "-r 10.128.1.31:9090", "-r 10.128.1.77:9090"),
        ("ipset.rules", "KUBE-CLUSTER-IP 10.96.40.3,tcp:9090", "KUBE-CLUSTER-IP 10.96.40.3,tcp:9091"),
        ("addresses.batch", "address add 10.96.40.3/32", "address add 10.96.40.4/32"),
    ] {
        let path = format!("dump/{name}");
        let text = String::from_utf8(host.files[&path].clone()).unwrap();
        assert!(text.contains(from), "{text}");
        host.files.insert(path.clone(), text.replacen(from, to, 1).into_bytes());
        let ran = run(&mut host, &verify);
        assert_eq!((ran.status, ran.err.as_str()), (1, ""), "{name}");
        assert!(ran.out.contains("~ shop/api:grpc IPv4\n"), "{name}: {}", ran.out);
        host.files.insert(path, text.into_bytes());
    }
}

#[test]
fn the_virtual_servers_of_this_machine() {
    let mut host = machine_in_ipvs_mode();
    let ran = run(&mut host, "verify -f shop --node node-1 --mode ipvs");
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    let other = run(&mut host, "verify -f shop --node node-1");
    assert_eq!(other.status, 1);
    assert!(
        other.err.starts_with("warning: this machine has Service rules of ipvs mode too"),
        "{}",
        other.err
    );
}

#[test]
fn rules_and_listeners_mean_what_the_manifests_say() {
    let mut host = machine_in_userspace_mode();
    let same = |host: &mut FakeHost, args: &str| {
        let ran = run(host, args);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{args}: {}", ran.out);
        assert!(ran.out.ends_with(" destinations compared: none differs\n"), "{args}: {}", ran.out);
    };
    let recorded = format!("{VERIFY} --mode userspace");
    same(&mut host, &recorded);
    same(&mut host, "verify -f shop --node node-1 --mode userspace");
    same(&mut host, "verify -f shop --node node-1 --equivalent dump userspace");
    // What a process tells can be recorded beside the rules.
    let told = run(&mut host, "inspect listeners -o json").ok(0).out;
    let listeners = String::from_utf8(host.files.remove("dump/listeners").unwrap()).unwrap();
    host.files.insert("dump/listeners.json".to_owned(), told.into());
    same(&mut host, &recorded);
    host.files.remove("dump/listeners.json");
    let known = run(&mut host, "verify -f shop --node node-1 --mode userspace -o json").ok(0).out;
    assert!(known.contains("\"SCTP is not carried\""), "{known}");
    // Whoever carries nothing else is found: an endpoint that is missing, another one, a port that nobody listens at.
    let line = listeners.lines().find(|line| line.contains("shop/api:grpc")).unwrap();
    let (at, _) = line.split_once(" to ").unwrap();
    for broken in [
        line.replace(",10.128.1.31:9090", ""),
        line.replace("10.128.1.31:9090", "10.128.1.31:9091"),
        format!("{at} to none"),
        String::new(),
    ] {
        host.files.insert("dump/listeners".to_owned(), listeners.replace(line, &broken).into());
        let ran = run(&mut host, &recorded);
        assert_eq!((ran.status, ran.err.as_str()), (1, ""), "{broken}");
        assert!(
            ran.out.starts_with("~ shop/api:grpc IPv4\n") && ran.out.matches('~').count() == 1,
            "{}",
            ran.out
        );
    }
    let status = host.status.as_mut().unwrap();
    let of_api = status.listeners.iter_mut().find(|one| one.label == "shop/api:grpc").unwrap();
    of_api.endpoints[1].leaving = true;
    let ran = run(&mut host, "verify -f shop --node node-1 --mode userspace -o json");
    assert_eq!((ran.status, ran.out.matches("\"name\": \"api\"").count()), (1, 1), "{}", ran.out);
    assert!(ran.out.contains("\"listener: tcp 0.0.0.0:"), "{}", ran.out);
}

#[test]
fn without_listeners_the_rules_alone_are_compared() {
    const ASSUMED: &str = "where connections go from the proxy ports: no listeners are known";
    let mut host = machine_in_userspace_mode();
    host.files.remove("dump/listeners");
    host.status = None;
    let recorded = format!("{VERIFY} --mode userspace");
    for args in [recorded.as_str(), "verify -f shop --node node-1 --mode userspace"] {
        let ran = run(&mut host, args);
        assert_eq!((ran.status, ran.err.as_str()), (1, ""), "{args}");
        assert!(ran.out.starts_with(&format!("not compared, IPv4: {ASSUMED}\n")), "{args}: {}", ran.out);
        assert!(ran.out.ends_with(" destinations compared: none differs\n"), "{args}: {}", ran.out);
        let json: serde_json::Value =
            serde_json::from_str(&run(&mut host, &format!("{args} -o json")).out).unwrap();
        assert_eq!((&json["same"], &json["families"][0]["assumed"]), (&false.into(), &ASSUMED.into()));
    }
    let sarif = run(&mut host, &format!("{recorded} -o sarif")).out;
    assert!(sarif.contains("\"ruleId\": \"not-compared\""), "{sarif}");
    let junit = run(&mut host, &format!("{recorded} -o junit")).out;
    assert_eq!((junit.matches("<error ").count(), junit.matches("<failure ").count()), (2, 0), "{junit}");
    // Ports of kube-proxy's are the kernel's choice.
    let text = String::from_utf8(host.files["dump/iptables.rules"].clone()).unwrap();
    let rule = text.lines().find(|line| line.starts_with("-A") && line.contains("shop/cart")).unwrap();
    let port = rule.rsplit([' ', ':']).next().unwrap();
    host.files.insert("dump/iptables.rules".to_owned(), text.replace(port, "41234").into());
    let ran = run(&mut host, &recorded);
    assert!(ran.out.contains("none differs"), "{}", ran.out);
    // A rule that leads to another Service's port is still found.
    change(&mut host, "--to-ports 41234", "--to-ports 41235");
    let ran = run(&mut host, &recorded);
    assert!(ran.out.starts_with("~ shop/cart"), "{}", ran.out);
    let pair = run(&mut host, "verify --equivalent dump dump --node-ip 192.168.10.11");
    assert_eq!(pair.status, 2);
    assert!(pair.err.contains("`dump` has rules of userspace mode, but not the listeners"), "{}", pair.err);
}
