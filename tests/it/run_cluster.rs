//! `svcproxy run` with an API server, on a machine in memory: when the first sync is, what a change does, what is left out, what
//! goes on when the server is gone. The server is the list of events here; of the watch itself `cluster.rs` tells.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use svcproxy::host::cluster::{ClusterEvent, ClusterOptions, ClusterResource};
use svcproxy::host::{
    Event, FakeDevice, FakeHost, Host, HostError, HostErrorKind, RestoreMode, XtablesVariant,
};
use svcproxy::net::{IpFamily, Protocol};

use crate::api_server::{node, service, slice};
use crate::cli::{Ran, machine, run};

const RUN: &str = "run --master http://192.0.2.9 --node node-1 --family ipv4";

use ClusterResource::{EndpointSlices, Nodes, Services};

fn applied(resource: ClusterResource, object: &Value) -> ClusterEvent {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().into();
    let json = object.to_string().into();
    ClusterEvent::Applied { resource, namespace: text("namespace"), name: text("name"), json }
}

fn list(resource: ClusterResource, objects: &[Value]) -> Vec<ClusterEvent> {
    let mut events = vec![ClusterEvent::ListBegins(resource)];
    events.extend(objects.iter().map(|object| applied(resource, object)));
    events.push(ClusterEvent::ListEnds(resource));
    events
}

fn addresses(last: &[u8]) -> BTreeSet<String> {
    last.iter().map(|last| format!("10.128.1.{last}")).collect()
}

fn services() -> Vec<Value> {
    vec![service("web", "10.96.0.1"), service("api", "10.96.0.2")]
}

fn slices() -> Vec<Value> {
    vec![slice("web-1", "web", &addresses(&[1, 2])), slice("api-1", "api", &addresses(&[3]))]
}

/// Has something be told.
fn tell(host: &mut FakeHost, events: Vec<ClusterEvent>) {
    host.events.push_back((Event::Cluster(events), BTreeMap::new()));
}

/// One that is told all of these at once, and of the Node.
fn told(services: &[Value], slices: &[Value]) -> FakeHost {
    let mut host = FakeHost::new();
    tell(
        &mut host,
        [list(Services, services), list(EndpointSlices, slices), list(Nodes, &[node()])].concat(),
    );
    host
}

fn rules(host: &FakeHost) -> String {
    host.rules(XtablesVariant::Nft, IpFamily::V4)
}

/// The rules that the same objects give as manifests.
fn compiled(services: &[Value], slices: &[Value]) -> String {
    rules(&applied_as_manifests(services, slices, ""))
}

/// A machine to which the same objects have been applied as manifests.
fn applied_as_manifests(services: &[Value], slices: &[Value], options: &str) -> FakeHost {
    let mut host = FakeHost::new();
    let typed = |kind: &str, version: &str, objects: &[Value]| -> Vec<Value> {
        let typed = |object: &Value| {
            let mut object = object.clone();
            (object["kind"], object["apiVersion"]) = (kind.into(), version.into());
            object
        };
        objects.iter().map(typed).collect()
    };
    let all = [
        typed("Service", "v1", services),
        typed("EndpointSlice", "discovery.k8s.io/v1", slices),
        typed("Node", "v1", &[node()]),
    ];
    let text: Vec<String> = all.concat().iter().map(Value::to_string).collect();
    host.files.insert("all.json".to_owned(), text.join("\n").into_bytes());
    run(&mut host, &format!("apply -f all.json --node node-1 --family ipv4 {options}")).ok(0);
    host
}

fn synced(ran: &Ran) -> Vec<&str> {
    ran.out.lines().filter(|line| line.starts_with("synced")).collect()
}

#[test]
fn the_first_sync_waits_for_both_lists_and_gives_what_manifests_give() {
    let mut host = FakeHost::new();
    tell(&mut host, list(Services, &services()));
    tell(&mut host, list(Nodes, &[node()]));
    let half = run(&mut host.clone(), RUN).ok(0);
    assert_eq!((synced(&half).len(), half.out.as_str()), (0, "ended; the rules stay\n"));
    tell(&mut host, list(EndpointSlices, &slices()));
    let ran = run(&mut host, RUN).ok(0);
    assert_eq!(
        ran.out,
        "synced iptables in 0.000 s: +2 -0 ~0 Service ports (+ shop/api:http, + shop/web:http), 4 steps, 34 rules\n\
         the node is in step, in iptables mode; SIGTERM ends it\nended; the rules stay\n"
    );
    assert_eq!(rules(&host), compiled(&services(), &slices()));
    let options = ClusterOptions {
        kubeconfig: None,
        master: Some("http://192.0.2.9".to_owned()),
        node: "node-1".to_owned(),
    };
    assert_eq!(host.cluster, Some(options));
}

#[test]
fn without_its_node_it_goes_on_after_half_a_minute() {
    let mut host = FakeHost::new();
    tell(&mut host, [list(Services, &services()), list(EndpointSlices, &slices())].concat());
    tell(&mut host, Vec::new());
    let early = run(&mut host.clone(), RUN).ok(0);
    assert_eq!(synced(&early).len(), 0);
    tell(&mut host, Vec::new());
    let ran = run(&mut host, RUN).ok(0);
    assert_eq!(synced(&ran).len(), 1);
    assert!(host.clock >= Duration::from_secs(30));
}

#[test]
fn changes_are_carried_out_together_and_what_changes_nothing_is_not() {
    let mut host = told(&services(), &slices());
    let moved = slice("web-1", "web", &addresses(&[2, 4]));
    let gone = ClusterEvent::Deleted { resource: Services, namespace: "shop".into(), name: "api".into() };
    tell(&mut host, vec![applied(EndpointSlices, &moved), gone.clone()]);
    // The same again, and a list that has nothing new.
    tell(&mut host, vec![applied(EndpointSlices, &moved), gone]);
    tell(&mut host, list(Services, &services()[..1]));
    let ran = run(&mut host, RUN).ok(0);
    let said = synced(&ran);
    assert_eq!(said.len(), 2, "{}", ran.out);
    assert!(said[1].contains("+0 -1 ~1 Service ports (- shop/api:http, ~ shop/web:http)"), "{}", said[1]);
    let slices = [moved, slices()[1].clone()];
    assert_eq!(rules(&host), compiled(&services()[..1], &slices));
    // One look at the node for each change, and none for what changed nothing.
    let looks = host.calls.iter().filter(|call| *call == "lock").count();
    assert_eq!(looks, 2, "{:#?}", host.calls);
}

#[test]
fn in_a_large_cluster_whose_rules_have_no_comments_changes_have_names() {
    let many = |n: u16| -> Value {
        slice("web-1", "web", &(0..n).map(|i| format!("10.128.{}.{}", i / 250, i % 250 + 1)).collect())
    };
    let mut host = told(&services(), &[many(1100)]);
    tell(&mut host, vec![applied(EndpointSlices, &many(1090))]);
    let ran = run(&mut host, RUN).ok(0);
    assert!(synced(&ran)[1].contains("(~ shop/web:http)"), "{}", ran.out);
}

#[test]
fn a_broken_object_is_left_out_and_the_rest_goes_on() {
    let mut host = told(&services(), &slices());
    let mut broken = services()[0].clone();
    broken["spec"]["ports"][0]["protocol"] = "tcp".into();
    tell(&mut host, vec![applied(Services, &broken), applied(Services, &service("new", "10.96.0.7"))]);
    let ran = run(&mut host, RUN);
    assert_eq!(ran.status, 0);
    assert!(ran.err.contains("Service shop/web spec.ports[0].protocol: "), "{}", ran.err);
    assert!(synced(&ran)[1].contains("(+ shop/new:http, - shop/web:http)"), "{}", ran.out);
}

/// What the API server was told: of which Service, why.
fn told_of(host: &FakeHost) -> Vec<(&str, &str)> {
    host.notices.iter().map(|notice| (&*notice.name, notice.reason)).collect()
}

#[test]
fn the_server_is_told_of_a_broken_object_when_what_is_wrong_changes() {
    let mut host = told(&services(), &slices());
    let with_protocol = |protocol: &str| {
        let mut broken = services()[0].clone();
        broken["spec"]["ports"][0]["protocol"] = protocol.into();
        broken
    };
    let broken = with_protocol("tcp");
    tell(&mut host, vec![applied(Services, &broken)]);
    // The same again, also in a list; then it is wrong in another way; then it is right.
    tell(&mut host, vec![applied(Services, &broken)]);
    tell(&mut host, list(Services, &[broken, services()[1].clone()]));
    tell(&mut host, vec![applied(Services, &with_protocol("udp"))]);
    let wrong = host.clone();
    tell(&mut host, vec![applied(Services, &services()[0])]);
    for (mut host, n_left_out) in [(wrong, 1), (host, 0)] {
        // There is something to sync, after which it is told how many are left out.
        tell(&mut host, vec![applied(Services, &service("new", "10.96.0.7"))]);
        assert_eq!(run(&mut host, RUN).status, 0);
        assert_eq!(told_of(&host), [("web", "Invalid"), ("web", "Invalid")]);
        let said = &host.notices[0].note;
        assert!(said.starts_with("left out: Service shop/web spec.ports[0].protocol: "), "{said}");
        let metrics = ask(&host, "127.0.0.1:10249", "/metrics").1;
        assert!(metrics.contains(&format!("\nkubeproxy_services_set_aside {n_left_out}\n")), "{metrics}");
    }
}

#[test]
fn why_the_server_is_not_told_is_said() {
    let mut host = told(&services(), &slices());
    tell(&mut host, vec![ClusterEvent::NotTaken("events is forbidden".to_owned())]);
    let ran = run(&mut host, RUN);
    let said = "warning: the API server is not told what is wrong with objects: events is forbidden\n";
    assert_eq!((ran.status, ran.err.as_str()), (0, said));
}

#[test]
fn when_the_server_is_gone_everything_stays() {
    let mut host = told(&services(), &slices());
    let failed = |resource| ClusterEvent::Failed(resource, "connection refused".to_owned());
    tell(&mut host, vec![failed(Services), failed(EndpointSlices)]);
    tell(&mut host, vec![ClusterEvent::Recovered(Services)]);
    tell(&mut host, vec![ClusterEvent::Recovered(EndpointSlices)]);
    tell(&mut host, vec![failed(EndpointSlices)]);
    let ran = run(&mut host, RUN);
    let said = |resource| {
        format!(
            "warning: the API server does not tell {resource}: connection refused; what it told goes on\n"
        )
    };
    assert_eq!(ran.err, said("services") + &said("endpointslices"));
    assert_eq!(ran.out.matches("the API server answers again\n").count(), 1, "{}", ran.out);
    assert_eq!(rules(&host), compiled(&services(), &slices()));
}

#[test]
fn a_failure_is_told_and_tried_again() {
    let mut host = told(&services(), &slices());
    for _ in 0..3 {
        host.fail_next("lock", HostError::new("lock", HostErrorKind::Busy, "somebody has it"));
    }
    let ran = run(&mut host, RUN);
    assert_eq!((ran.status, ran.err.matches("somebody has it").count()), (0, 3), "{}", ran.err);
    assert_eq!(ran.err.matches("what was there before goes on").count(), 3);
    assert_eq!(synced(&ran).len(), 1, "{}", ran.out);
    // One second, two, four.
    assert!((Duration::from_secs(7)..Duration::from_secs(30)).contains(&host.clock), "{:?}", host.clock);
    assert_eq!(rules(&host), compiled(&services(), &slices()));
}

#[test]
fn drift_is_repaired() {
    let mut host = told(&services(), &slices());
    host.events.push_back((Event::TimeUp, BTreeMap::new()));
    let before = host.clone();
    let ran = run(&mut host, RUN).ok(0);
    assert_eq!(synced(&ran).len(), 1, "nothing to repair: {}", ran.out);
    assert!(host.calls.iter().filter(|call| *call == "lock").count() >= 2, "{:#?}", host.calls);
    // A second process finds rules that somebody has taken a part of.
    let mut damaged = before;
    damaged.nfacct = host.nfacct.clone();
    let rules_then: String = rules(&host)
        .lines()
        .filter(|line| !line.contains("10.96.0.2/32"))
        .map(|line| format!("{line}\n"))
        .collect();
    damaged.put_rules(XtablesVariant::Nft, IpFamily::V4, &rules_then).unwrap();
    let ran = run(&mut damaged, RUN).ok(0);
    assert!(synced(&ran)[0].contains("shop/api:http"), "{}", ran.out);
    assert_eq!(rules(&damaged), rules(&host));
}

#[test]
fn a_service_that_the_machine_refuses_is_set_aside_until_it_changes() {
    let mut host = told(&services(), &slices());
    let document = {
        let mut host = host.clone();
        run(&mut host, RUN).ok(0);
        let is_restore = |(mode, text): &&(RestoreMode, String)| {
            *mode == RestoreMode::Commit && text.contains("10.96.0.2/32")
        };
        host.documents.iter().find(is_restore).unwrap().1.clone()
    };
    let line = document.lines().position(|line| line.contains("-d 10.96.0.2/32")).unwrap() + 1;
    host.fail_next_restore(Some(line), "no such thing");
    let mut changed = services()[1].clone();
    changed["spec"]["ports"][0]["port"] = 81.into();
    tell(&mut host, vec![applied(Services, &service("other", "10.96.0.8"))]);
    tell(&mut host, vec![applied(Services, &changed)]);
    let ran = run(&mut host, RUN);
    assert!(ran.err.contains("Service shop/api is set aside until it changes"), "{}", ran.err);
    let said = synced(&ran);
    assert!(said[0].contains("(+ shop/web:http)"), "{}", ran.out);
    assert!(said[1].contains("(+ shop/other:http)"), "{}", ran.out);
    assert!(said[2].contains("(+ shop/api:http)"), "{}", ran.out);
    assert_eq!(told_of(&host), [("api", "Refused")]);
}

#[test]
fn json_lines_say_the_same() {
    let mut host = told(&services(), &slices());
    host.fail_next("lock", HostError::new("lock", HostErrorKind::Busy, "somebody has it"));
    let ran = run(&mut host, &format!("{RUN} --log-format json")).ok(0);
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["level"], "error");
    assert_eq!(lines[0]["time"], "2027-01-15T08:00:10.000000000Z");
    let synced = &lines[1];
    assert_eq!(
        (&synced["message"], &synced["added"], &synced["mode"]),
        (&"synced".into(), &2.into(), &"iptables".into())
    );
    assert_eq!(synced["ports"], serde_json::json!(["+ shop/api:http", "+ shop/web:http"]));
    assert!(synced["steps"].as_u64() > Some(3) && synced["seconds"].is_number(), "{synced}");
}

/// What is answered at an address.
fn ask(host: &FakeHost, address: &str, path: &str) -> (u16, String) {
    let site = host.sites.get(&address.parse().unwrap()).unwrap_or_else(|| panic!("nothing at {address}"));
    let answer = site.answer(path, host.unix_time());
    (answer.status, answer.body)
}

#[test]
fn health_and_metrics_tell_what_was_done() {
    let mut host = told(&services(), &slices());
    let ran = run(&mut host, RUN).ok(0);
    assert_eq!(synced(&ran).len(), 1);
    let (status, body) = ask(&host, "0.0.0.0:10256", "/healthz");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"nodeEligible\":true,\"healthy\":true"), "{body}");
    assert_eq!(ask(&host, "127.0.0.1:10249", "/proxyMode"), (200, "iptables".to_owned()));
    let metrics = ask(&host, "127.0.0.1:10249", "/metrics").1;
    for line in [
        "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
        "kubeproxy_sync_proxy_rules_service_changes_total 2",
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0",
        "kubeproxy_proxy_healthz_total{code=\"200\"} 1",
    ] {
        assert!(metrics.lines().any(|is| is == line), "{line} is not in\n{metrics}");
    }
    let text = rules(&host);
    let n_rules = text.split("*nat").nth(1).unwrap().lines().take_while(|line| *line != "COMMIT");
    let n_rules = n_rules.filter(|line| line.starts_with("-A KUBE")).count();
    let line = metrics.lines().find(|line| line.contains("iptables_total{ip_family=\"IPv4\",table=\"nat\"}"));
    let counted: usize = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!((n_rules..n_rules + 4).contains(&counted), "{n_rules} and some jumps, not {counted}");
    // A node that is about to go gets no traffic from load balancers, though all is well.
    let mut leaving = node();
    leaving["spec"]["taints"] =
        serde_json::json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]);
    let mut host = told(&services(), &slices());
    tell(&mut host, vec![applied(Nodes, &leaving)]);
    run(&mut host, RUN).ok(0);
    assert_eq!(
        (ask(&host, "0.0.0.0:10256", "/healthz").0, ask(&host, "0.0.0.0:10256", "/livez").0),
        (503, 200)
    );
}

#[test]
fn load_balancers_are_told_of_endpoints_here() {
    let mut balanced = service("web", "10.96.0.1");
    let more = [
        ("type", "LoadBalancer".into()),
        ("externalTrafficPolicy", "Local".into()),
        ("healthCheckNodePort", 32100.into()),
    ];
    for (field, value) in more {
        balanced["spec"][field] = value;
    }
    // Without an external address nobody from outside could ask.
    balanced["spec"]["ports"][0]["nodePort"] = 30080.into();
    let mut here = slice("web-1", "web", &addresses(&[1, 2, 3]));
    here["endpoints"][2]["nodeName"] = "node-2".into();
    let mut host = told(&[balanced.clone()], &[here]);
    let before = host.clone();
    run(&mut host, RUN).ok(0);
    let (status, body) = ask(&host, "0.0.0.0:32100", "/");
    assert!(status == 200 && body.contains("\"localEndpoints\": 2"), "{status} {body}");
    // In nftables mode the node's own address is asked, as node ports are.
    let mut nft = before.clone();
    let device = FakeDevice { is_dummy: false, addresses: ["192.0.2.1".parse().unwrap()].into() };
    nft.devices.insert("eth0".into(), device);
    run(&mut nft, &RUN.replace("--family", "--mode nftables --family"));
    assert_eq!(ask(&nft, "192.0.2.1:32100", "/").0, 200);
    assert!(!nft.sites.contains_key(&"0.0.0.0:32100".parse().unwrap()));
    // Without endpoints it says so; without the Service it says nothing.
    let mut host = before.clone();
    let mut elsewhere = slice("web-1", "web", &addresses(&[9]));
    elsewhere["endpoints"][0]["nodeName"] = "node-2".into();
    tell(&mut host, list(EndpointSlices, &[elsewhere]));
    run(&mut host, RUN).ok(0);
    assert_eq!(ask(&host, "0.0.0.0:32100", "/").0, 503);
    let metrics = ask(&host, "127.0.0.1:10249", "/metrics").1;
    for (policy, n) in [("internal", 0), ("external", 1)] {
        let labels = format!("ip_family=\"IPv4\",traffic_policy=\"{policy}\"");
        let line = format!("kubeproxy_sync_proxy_rules_no_local_endpoints_total{{{labels}}} {n}");
        assert!(metrics.lines().any(|is| is == line), "{line} is not in\n{metrics}");
    }
    let mut host = before;
    tell(&mut host, list(Services, &[]));
    run(&mut host, RUN).ok(0);
    assert!(!host.sites.contains_key(&"0.0.0.0:32100".parse().unwrap()));
}

#[test]
fn addresses_are_chosen_and_those_that_are_taken_are_told_once() {
    let mut host = told(&services(), &slices());
    host.ports_in_use.insert((Protocol::Tcp, 7000));
    tell(&mut host, vec![applied(Services, &service("new", "10.96.0.7"))]);
    let ran = run(
        &mut host,
        &format!("{RUN} --healthz-bind-address 127.0.0.1:7000 --metrics-bind-address 127.0.0.2"),
    );
    assert_eq!(
        ran.err,
        "warning: cannot listen at 127.0.0.1:7000: address already in use; it is tried again\n"
    );
    let at: Vec<String> = host.sites.keys().map(|address| address.to_string()).collect();
    assert_eq!(at, ["127.0.0.1:7000", "127.0.0.2:10249"]);
    let mut host = told(&services(), &slices());
    run(&mut host, &format!("{RUN} --healthz-bind-address= --metrics-bind-address=")).ok(0);
    assert!(host.sites.is_empty());
    let ran = run(&mut host, &format!("{RUN} --healthz-bind-address nowhere"));
    assert!(ran.err.contains("`nowhere` is no address with a port"), "{}", ran.err);
}

#[test]
fn a_service_manager_is_told_when_it_is_ready() {
    let mut host = told(&services(), &slices());
    run(&mut host, RUN).ok(0);
    let told: Vec<&String> = host.calls.iter().filter(|call| call.starts_with("notify")).collect();
    assert_eq!(told, ["notify READY=1", "notify STOPPING=1"]);
    let ready = host.calls.iter().position(|call| call == "notify READY=1");
    assert!(host.calls.iter().rposition(|call| call.contains("restore")) < ready, "{:#?}", host.calls);
}

/// A machine with connection tracking.
fn with_conntrack(mut host: FakeHost) -> FakeHost {
    for (name, value) in [
        ("nf_conntrack_max", "65536"),
        ("nf_conntrack_buckets", "262144"),
        ("nf_conntrack_tcp_timeout_established", "432000"),
        ("nf_conntrack_tcp_timeout_close_wait", "3600"),
    ] {
        host.sysctls.insert(format!("net/netfilter/{name}"), value.to_owned());
    }
    host
}

#[test]
fn connection_tracking_is_set_as_kube_proxy_sets_it() {
    let mut host = with_conntrack(told(&services(), &slices()));
    run(&mut host, RUN).ok(0);
    let set: Vec<&String> =
        host.calls.iter().filter(|call| call.starts_with("sysctl net/netfilter")).collect();
    assert_eq!(
        set,
        [
            "sysctl net/netfilter/nf_conntrack_max=262144",
            "sysctl net/netfilter/nf_conntrack_tcp_timeout_established=86400"
        ]
    );
    // What cannot be set is told, and stops nothing.
    let mut host = with_conntrack(told(&services(), &slices()));
    host.fail_next(
        "sysctl_write",
        HostError::new("set it", HostErrorKind::Permission, "read-only file system"),
    );
    let ran = run(&mut host, RUN);
    assert_eq!((ran.status, ran.err.as_str()), (0, "warning: cannot set it: read-only file system\n"));
    assert_eq!(synced(&ran).len(), 1);
}

#[test]
fn init_only_makes_the_kernel_settings_and_nothing_else() {
    let mut host = with_conntrack(FakeHost::new());
    let ran = run(&mut host, &format!("{RUN} --init-only")).ok(0);
    assert_eq!(ran.out, "the kernel settings are made\n");
    assert_eq!((rules(&host).as_str(), host.cluster), ("", None));
    assert_eq!(host.sysctls["net/netfilter/nf_conntrack_max"], "262144");
    assert_eq!(host.sysctls["net/ipv4/conf/all/route_localnet"], "1");
    assert!(host.calls.iter().all(|call| call.starts_with("sysctl ")), "{:#?}", host.calls);
}

#[test]
fn the_flags_of_kube_proxy_are_taken() {
    let mut host = told(&services(), &slices());
    let config = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n\
                  clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf}\n";
    host.files.insert("config.conf".to_owned(), config.into());
    let flags = "run --config config.conf --hostname-override NODE-1 --proxy-mode iptables --iptables-min-sync-period 2s \
                 --iptables-sync-period 4s --family ipv4";
    run(&mut host, flags).ok(0);
    let watched = host.cluster.clone().unwrap();
    assert_eq!(watched.kubeconfig.as_deref(), Some("/var/lib/kube-proxy/kubeconfig.conf"));
    assert_eq!((watched.node.as_str(), watched.master), ("node-1", None));
    // Ten seconds have two looks at the node in them beside the first.
    assert_eq!(host.calls.iter().filter(|call| *call == "lock").count(), 1 + 2, "{:#?}", host.calls);
    assert!(rules(&host).contains("shop/web:http"));
    run(&mut host, "run --cleanup --family ipv4").ok(0);
    assert!(!rules(&host).contains("shop/web:http"), "{}", rules(&host));
    for (args, said) in [
        ("--sync-period 1s --min-sync-period 2s", "must not be longer than the sync period"),
        ("--sync-period 0s", "the sync period must be more than 0"),
        ("--sync-period 5", "not a duration like 30s"),
        ("--init-only --cleanup", "cannot be used with"),
    ] {
        let ran = run(&mut told(&services(), &slices()), &format!("{RUN} {args}"));
        assert!(ran.status == 2 && ran.err.contains(said), "{args}: {}", ran.err);
    }
}

#[test]
fn every_mode_is_kept_in_step() {
    for mode in ["iptables", "ipvs", "userspace"] {
        let mut host = told(&services(), &slices());
        let moved = slice("web-1", "web", &addresses(&[2, 4]));
        tell(
            &mut host,
            vec![applied(EndpointSlices, &moved), applied(Services, &service("new", "10.96.0.7"))],
        );
        // After the change it looks once more, and finds nothing to do.
        host.events.push_back((Event::TimeUp, BTreeMap::new()));
        let ran = run(&mut host, &RUN.replace("--family", &format!("--mode {mode} --family")));
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{mode}");
        let said = synced(&ran);
        assert_eq!(said.len(), 2, "{mode}: {}", ran.out);
        assert!(said[0].contains("+2 -0 ~0 Service ports (+ shop/api:http, + shop/web:http)"), "{}", said[0]);
        assert!(said[1].contains("+1 -0 ~1 Service ports (+ shop/new:http, ~ shop/web:http)"), "{}", said[1]);
        assert!(host.calls.iter().filter(|call| *call == "lock").count() > 2, "{mode}: {:#?}", host.calls);
    }
}

#[test]
fn in_nftables_mode_too_a_refused_service_is_set_aside() {
    let run_nft = RUN.replace("--family", "--mode nftables --family");
    let mut host = told(&services(), &slices());
    // What is sent by netlink is told by the lines of the document that would go to the tool.
    let by_tool = applied_as_manifests(&services(), &slices(), "--mode nftables --nft-tool");
    let is_load =
        |(mode, text): &&(RestoreMode, String)| *mode == RestoreMode::Commit && text.contains("shop/api");
    let (_, document) = by_tool.documents.iter().find(is_load).unwrap();
    let line =
        document.lines().position(|line| line.contains("shop/api") && line.starts_with("add rule")).unwrap()
            + 1;
    host.fail_next_nft_change(Some(line), "no such thing");
    let ran = run(&mut host, &run_nft);
    assert!(ran.err.contains("Service shop/api is set aside until it changes"), "{}", ran.err);
    let metrics = ask(&host, "127.0.0.1:10249", "/metrics").1;
    assert!(metrics.contains("\nkubeproxy_services_set_aside 1\n"), "{metrics}");
}

#[test]
fn a_service_of_manifests_that_is_refused_is_counted_and_no_server_is_told() {
    let run_files = "run -f shop --node node-1 --mode iptables --family ipv4";
    let mut host = machine();
    run(&mut host, run_files).ok(0);
    let is_load = |(mode, text): &&(RestoreMode, String)| {
        *mode == RestoreMode::Commit && text.contains("-A KUBE-SERVICES")
    };
    let (_, document) = host.documents.iter().find(is_load).unwrap();
    let line = document.lines().position(|line| line.contains("shop/api:grpc")).unwrap() + 1;
    let mut host = machine();
    host.fail_next_restore(Some(line), "no such thing");
    let ran = run(&mut host, run_files);
    assert!(ran.err.contains("Service shop/api is set aside until it changes"), "{}", ran.err);
    let metrics = ask(&host, "127.0.0.1:10249", "/metrics").1;
    assert!(metrics.contains("\nkubeproxy_services_set_aside 1\n"), "{metrics}");
    assert_eq!(host.notices, []);
}

#[test]
fn the_configuration_may_change_but_not_what_cannot_while_it_runs() {
    let config = |more: &str| {
        let text =
            format!("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{more}\n");
        BTreeMap::from([("config.conf".to_owned(), text.into_bytes())])
    };
    let mut host = told(&services(), &slices());
    host.files.extend(config("mode: iptables"));
    for more in ["iptables: {masqueradeBit: 15}", "mode: userspace", "mode: bogus", "mode: ipvs"] {
        host.events.push_back((Event::Changed, config(more)));
    }
    // A signal alone changes nothing.
    host.events.push_back((Event::Changed, BTreeMap::new()));
    let ran = run(&mut host, "run --master http://h --node node-1 --family ipv4 --config config.conf");
    let modes: Vec<&str> = synced(&ran).iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(modes, ["iptables", "iptables", "ipvs"], "{}", ran.out);
    assert!(ran.err.contains("neither the node nor userspace mode can change while it runs"), "{}", ran.err);
    assert!(ran.err.contains("the configuration cannot be used"), "{}", ran.err);
    assert_eq!(ran.err.matches("what was there before goes on").count(), 2, "{}", ran.err);
    let masked = host.documents.iter().any(|(_, text)| text.contains("0x8000/0x8000"));
    assert!(masked && !host.virtual_servers.is_empty());
    assert_eq!(ask(&host, "127.0.0.1:10249", "/proxyMode").1, "ipvs");
    // Of the Services none has changed since they were listed.
    let metrics = ask(&host, "127.0.0.1:10249", "/metrics").1;
    assert!(metrics.contains("\nkubeproxy_sync_proxy_rules_service_changes_total 2\n"), "{metrics}");
}
