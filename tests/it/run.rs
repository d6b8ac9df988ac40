//! `svcproxy run` and `inspect` on a machine in memory: what is opened before which rule, what a change does, what broken
//! input and taken ports do not.

use std::collections::BTreeMap;

use svcproxy::host::{Event, FakeHost, HostError, HostErrorKind, XtablesVariant};
use svcproxy::net::{IpFamily, Protocol};
use svcproxy::program::listener::{ListenerStatus, Status};

use crate::cli::{machine, run};

const RUN: &str = "run -f shop --node node-1 --mode userspace";

/// The quickstart's Services with a change.
fn changed(change: impl Fn(&str) -> String) -> BTreeMap<String, Vec<u8>> {
    let files = machine().files.into_iter();
    files.map(|(name, text)| (name, change(std::str::from_utf8(&text).unwrap()).into_bytes())).collect()
}

fn position(host: &FakeHost, what: &str) -> usize {
    let found = host.calls.iter().position(|call| call.contains(what));
    found.unwrap_or_else(|| panic!("no `{what}` in {:#?}", host.calls))
}

#[test]
fn listeners_are_open_before_rules_lead_to_them() {
    let mut host = machine();
    let ran = run(&mut host, &format!("{RUN} --max-connections 7 --drain 5")).ok(0);
    assert_eq!(
        ran.out,
        "synced userspace in 0.000 s: +8 -0 ~0 Service ports (+ default/kubernetes:https, + kube-system/kube-dns:dns, \
         + kube-system/kube-dns:dns-tcp, + shop/api:grpc, + shop/cart and 3 more), 2 steps, 58 rules\n\
         listening on 14 proxy ports; SIGTERM ends it\nended\n"
    );
    let order = [
        "watch shop",
        "forward at most Some(7)",
        "lock",
        "listen on 14 ports",
        "restore of",
        "drain for 5 s",
    ];
    let places: Vec<usize> = order.iter().map(|what| position(&host, what)).collect();
    assert!(places.is_sorted(), "{places:?} {:#?}", host.calls);
    let rules = host.rules(XtablesVariant::Nft, IpFamily::V4);
    assert!(rules.contains("shop/api:grpc"), "the rules stay: {rules}");
    // A second run finds them, and the same ports.
    let n_calls = host.calls.len();
    let again = run(&mut host, RUN).ok(0);
    assert!(again.out.starts_with("listening on 14 proxy ports"), "{}", again.out);
    assert!(!host.calls[n_calls..].iter().any(|call| call.contains("restore")), "{:#?}", host.calls);
}

#[test]
fn a_change_is_carried_out_and_a_broken_one_is_not() {
    let mut host = machine();
    let without =
        changed(|text| text.replace("10.128.2.31", "10.128.2.32").replace("10.96.90.9", "10.96.90.8"));
    let broken = changed(|text| text.replace("protocol: TCP", "protocol: tcp"));
    host.events.extend([
        (Event::TimeUp, BTreeMap::new()),
        (Event::Changed, BTreeMap::new()),
        (Event::Changed, without),
        (Event::Changed, broken),
        (Event::Changed, changed(str::to_owned)),
    ]);
    let ran = run(&mut host, RUN);
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(
        ran.out.contains("+0 -0 ~2 Service ports (~ shop/api:grpc, ~ shop/search:http), 1 step, 35 rules"),
        "{}",
        ran.out
    );
    assert!(ran.err.contains("protocol cannot be `tcp`"), "{}", ran.err);
    assert_eq!(ran.err.matches("what was there before goes on").count(), 1, "{}", ran.err);
    // At the start, twice; at the change and back, before and after the rules; when the time was up.
    let listens = host.calls.iter().filter(|call| call.starts_with("listen on")).count();
    assert_eq!(listens, 2 * 4, "{:#?}", host.calls);
}

#[test]
fn other_endpoints_change_their_listener_and_nothing_else() {
    let mut host = machine();
    let moved = changed(|text| text.replace("10.128.2.31", "10.128.2.32"));
    host.events.extend([(Event::Changed, moved), (Event::Changed, changed(str::to_owned))]);
    let ran = run(&mut host, RUN);
    assert_eq!(ran.status, 0, "{}", ran.err);
    let told = "+0 -0 ~1 Service ports (~ shop/api:grpc), 0 steps, 0 rules";
    assert_eq!(ran.out.matches(told).count(), 2, "{}", ran.out);
    let n_calls = |what: &str| host.calls.iter().filter(|call| call.starts_with(what)).count();
    // At the start the ports are opened, before the rules and after; the rules are never read again.
    assert_eq!((n_calls("listen on"), n_calls("lead 1 ports elsewhere")), (2, 2), "{:#?}", host.calls);
}

#[test]
fn flows_that_cannot_be_forgotten_stop_nobody() {
    let mut host = machine();
    let detail = "this kernel does not tell of connection tracking";
    host.fail_next(
        "conntrack_flows",
        HostError::new("list remembered flows", HostErrorKind::Unsupported, detail),
    );
    host.files.insert("dns.yaml".to_owned(), DNS.as_bytes().to_vec());
    let ran = run(&mut host, "run -f dns.yaml --node node-1 --mode userspace --family ipv4");
    assert_eq!(
        (ran.status, ran.err),
        (
            0,
            format!(
                "warning: UDP flows may go on to endpoints that are gone: cannot list remembered flows: {detail}\n"
            )
        )
    );
    assert!(ran.out.ends_with("listening on 1 proxy ports; SIGTERM ends it\nended\n"), "{}", ran.out);
}

const DNS: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: dns, namespace: shop}\n\
                   spec: {clusterIP: 10.96.0.10, ports: [{port: 53, protocol: UDP}]}\n";

#[test]
fn a_port_of_somebody_else_is_not_taken() {
    let mut host = machine();
    let compiled =
        run(&mut machine(), "compile -f shop --node node-1 --mode userspace --family ipv4").ok(0).out;
    let line = compiled.lines().find(|line| line.ends_with("# shop/api:grpc")).unwrap();
    let port: u16 =
        line.split([':', ' ']).find_map(|word| word.parse().ok().filter(|port| *port > 1000)).unwrap();
    host.ports_in_use.insert((Protocol::Tcp, port));
    let ran = run(&mut host, &format!("{RUN} --family ipv4"));
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert_eq!(
        ran.err,
        format!("warning: tcp 0.0.0.0:{port} is in use by another program: another proxy port is taken\n")
    );
    let rules = host.rules(XtablesVariant::Nft, IpFamily::V4);
    assert!(rules.contains("shop/api:grpc") && !rules.contains(&format!("--to-ports {port}")), "{rules}");
    // Where there is no other one it says so.
    let mut host = machine();
    host.ports_in_use.extend((20000..=20011).map(|port| (Protocol::Tcp, port)));
    let ran = run(&mut host, &format!("{RUN} --family ipv4 --proxy-port-range 20000-20012"));
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("the proxy ports 20000-20012 are too few: none is left for"), "{}", ran.err);
    assert_eq!(host.rules(XtablesVariant::Nft, IpFamily::V4), "", "no rule leads nowhere");
}

#[test]
fn what_cannot_be_is_said() {
    for (args, said) in [
        ("run -f shop --node node-1 --master http://h", "(--kubeconfig, --master) exclude each other"),
        ("run --snapshot shop --node node-1", "--snapshot is for manifests (-f), not for an API server"),
        ("run -f - --mode userspace", "error: standard input (`-`) cannot be watched\n"),
        ("run -f shop --mode userspace --node node-1 --proxy-port-range 9-1", "the range is empty"),
        ("run -f shop --mode userspace --node node-1 --proxy-port-range 1-70000", "`70000` is no port"),
        (
            "run -f shop --mode userspace --node node-1 --proxy-port-range 5-6",
            "the proxy ports 5-6 are too few: none is left for",
        ),
        ("run -f shop --mode userspace --node node-1 --max-connections 0", "0 is not in 1.."),
        ("run -f nowhere --mode userspace", "error: cannot read `nowhere`"),
    ] {
        let mut host = machine();
        let ran = run(&mut host, args);
        assert_eq!(ran.status, 2, "{args}");
        assert!(ran.err.contains(said), "{args}: {}", ran.err);
        assert_eq!(host.rules(XtablesVariant::Nft, IpFamily::V4), "", "{args}");
    }
    let mut host = machine();
    let busy = HostError::new(
        "listen at `x`",
        HostErrorKind::Busy,
        "another `svcproxy run` is at work in this network namespace",
    );
    host.fail_next("forward_start", busy);
    let ran = run(&mut host, RUN);
    assert!(ran.status == 2 && ran.err.contains("another `svcproxy run` is at work"), "{}", ran.err);
    let mut host = machine();
    host.variants.clear();
    let ran = run(&mut host, RUN);
    assert!(ran.status == 2 && ran.err.contains("no iptables on this machine"), "{}", ran.err);
    host.files.insert(
        "lo.yaml".to_owned(),
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
        mode: userspace\nbindAddress: 127.0.0.1\n"
            .into(),
    );
    let ran = run(&mut host, "compile -f shop --node node-1 --config lo.yaml");
    assert!(
        ran.status == 2 && ran.err.contains("cannot listen on loopback address 127.0.0.1"),
        "{}",
        ran.err
    );
}

#[test]
fn inspect_prints_what_a_process_tells() {
    let mut host = machine();
    let nobody = run(&mut host, "inspect listeners");
    assert_eq!(nobody.status, 2);
    assert!(nobody.err.contains("no `svcproxy run` answers there"), "{}", nobody.err);
    let listener = ListenerStatus { label: "shop/api:grpc".to_owned(), ..ListenerStatus::default() };
    host.status = Some(Status { process: 7, max: 100, listeners: vec![listener], ..Status::default() });
    let text = run(&mut host, "inspect listeners").ok(0).out;
    assert!(
        text.starts_with("process 7 for 0 s: 0 of 100 connections\n") && text.contains("no endpoint"),
        "{text}"
    );
    let json: Status = serde_json::from_str(&run(&mut host, "inspect listeners -o json").ok(0).out).unwrap();
    assert_eq!(Some(json), host.status);
}

#[test]
fn userspace_rules_are_compiled_compared_and_recorded() {
    let mut host = machine();
    run(&mut host, "compile -f shop --node node-1 --mode userspace --output-dir dump").ok(0);
    for file in ["dump/iptables.rules", "dump/ip6tables.rules", "dump/listeners"] {
        assert!(host.files.contains_key(file), "{file}");
    }
    assert_eq!(run(&mut host, "diff -f shop --node node-1 --mode userspace --against dump").ok(0).out, "");
    // An endpoint moves: no rule differs, a listener does.
    host.files.extend(changed(|text| text.replace("10.128.2.31", "10.128.2.32")));
    let ran = run(&mut host, "diff -f shop --node node-1 --mode userspace --against dump");
    assert_eq!(ran.status, 1, "{}{}", ran.out, ran.err);
    assert_eq!(
        ran.out,
        "~ shop/api:grpc 10.96.40.3:9090/tcp: +10.128.2.32:9090 -10.128.2.31:9090 → 3 endpoints\n"
    );
    // Ports that were recorded are kept, whatever the names would give.
    let moved = String::from_utf8(host.files["dump/iptables.rules"].clone()).unwrap();
    let rule = moved.lines().find(|line| line.starts_with("-A") && line.contains("shop/cart")).unwrap();
    let port = rule.rsplit([' ', ':']).next().unwrap();
    host.files.insert("dump/iptables.rules".to_owned(), moved.replace(port, "29999").into_bytes());
    host.files.remove("dump/listeners");
    assert_eq!(run(&mut host, "diff -f shop --node node-1 --mode userspace --against dump").ok(0).out, "");
}

#[test]
fn rules_that_somebody_takes_away_are_missed_at_once() {
    let mut host = machine();
    host.events.extend([(Event::TimeUp, BTreeMap::new()), (Event::TimeUp, BTreeMap::new())]);
    host.fail_next("stands", HostError::new("look for a jump", HostErrorKind::Unsupported, "no such tool"));
    host.fail_next("stands", HostError::new("look for a jump", HostErrorKind::NotFound, "it is gone"));
    let ran = run(&mut host, "run -f shop --node node-1 --mode iptables --sync-period 1h");
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert_eq!(ran.err, "warning: somebody else has taken rules away: everything is compared\n");
    // At the start, and when they were missed.
    assert_eq!(host.calls.iter().filter(|call| *call == "lock").count(), 2, "{:#?}", host.calls);
}
