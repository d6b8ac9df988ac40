//! The command line on a machine in memory: every command, its options, its exit status, what it writes where.

use clap::Parser;
use svcproxy::cli::{self, Cli};
use svcproxy::command::{Console, ErrorKind};
use svcproxy::host::{FakeHost, HostError, HostErrorKind, RestoreMode, XtablesVariant};
use svcproxy::net::{AddrPort, IpFamily};
use svcproxy::program::listener::{self, EndpointStatus, Listener, ListenerKey, ListenerStatus, Status};

/// How a command ended.
pub(crate) struct Ran {
    pub(crate) status: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command as `main` does.
pub(crate) fn run(host: &mut FakeHost, args: &str) -> Ran {
    run_with(host, &args.split_whitespace().collect::<Vec<_>>())
}

pub(crate) fn run_with(host: &mut FakeHost, args: &[&str]) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let cli = match Cli::try_parse_from(std::iter::once("svcproxy").chain(args.iter().copied())) {
        Ok(cli) => cli,
        Err(error) => return Ran { status: 2, out: String::new(), err: error.to_string() },
    };
    let mut console =
        Console { out: &mut out, err: &mut err, color_out: false, color_err: false, progress: false };
    let status = match cli::run(&cli, host, &mut console) {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            assert_ne!(error.kind, ErrorKind::Internal, "{error}");
            err.extend(format!("{error}\n").bytes());
            2
        }
    };
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { status, out: text(out), err: text(err) }
}

impl Ran {
    pub(crate) fn ok(self, status: u8) -> Ran {
        assert_eq!((self.status, self.err.as_str()), (status, ""), "stdout: {}", self.out);
        self
    }
}

const QUICKSTART: [(&str, &str); 3] = [
    ("shop/kube-system.yaml", include_str!("../../testdata/quickstart/kube-system.yaml")),
    ("shop/nodes.yaml", include_str!("../../testdata/quickstart/nodes.yaml")),
    ("shop/shop.yaml", include_str!("../../testdata/quickstart/shop.yaml")),
];

/// A machine with the quickstart's files in the folder `shop`.
pub(crate) fn machine() -> FakeHost {
    let mut host = FakeHost::new();
    for (name, text) in QUICKSTART {
        host.files.insert(name.to_owned(), text.into());
    }
    host
}

/// One whose rules IPVS mode made.
pub(crate) fn machine_in_ipvs_mode() -> FakeHost {
    let mut host = machine();
    let applied = run(&mut host, "apply -f shop --node node-1 --mode ipvs");
    assert_eq!((applied.status, applied.err.as_str()), (0, ""));
    host
}

/// One whose rules userspace mode made, with the process that carries its connections; recorded in the folder `dump`, too.
pub(crate) fn machine_in_userspace_mode() -> FakeHost {
    let mut host = machine();
    run(&mut host, "compile -f shop --node node-1 --mode userspace --output-dir dump").ok(0);
    let ran = run(&mut host, "run -f shop --node node-1 --mode userspace");
    assert_eq!(ran.status, 0, "{}", ran.err);
    let text = String::from_utf8(host.files["dump/listeners"].clone()).unwrap();
    let endpoint =
        |addr: &AddrPort| EndpointStatus { address: addr.to_string(), ..EndpointStatus::default() };
    let told = |(key, listener): (&ListenerKey, &Listener)| ListenerStatus {
        label: listener.label.to_string(),
        protocol: key.protocol.name().to_owned(),
        address: key.at.to_string(),
        affinity_seconds: listener.affinity_seconds,
        endpoints: listener.targets.iter().map(endpoint).collect(),
        ..ListenerStatus::default()
    };
    let listeners = listener::parse::parse(&text).unwrap().iter().map(told).collect();
    host.status = Some(Status { process: 7, max: 100, listeners, ..Status::default() });
    host
}

/// One with a changed copy in the folder `new`.
fn machine_with_change(change: impl Fn(&str) -> String) -> FakeHost {
    let mut host = machine();
    for (name, text) in QUICKSTART {
        host.files.insert(name.replace("shop/", "new/"), change(text).into());
    }
    host
}

fn put(host: &mut FakeHost, name: &str, text: &str) {
    host.files.insert(name.to_owned(), text.into());
}

const FINE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: fine, namespace: shop}\n\
                    spec: {clusterIP: 10.96.1.1, ports: [{name: http, port: 80}]}\n";
const BROKEN: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: broken, namespace: shop}\n\
                      spec: {clusterIP: 10.96.1.2, ports: [{name: http, port: 0}]}\n";

#[test]
fn compile_prints_rules_and_nothing_else() {
    let ran = run(&mut machine(), "compile -f shop --node node-1").ok(0);
    assert!(ran.out.starts_with("# For iptables-restore: the IPv4 rules of node node-1\n"), "{}", ran.out);
    assert!(ran.out.contains("# For ip6tables-restore: the IPv6 rules of node node-1\n"));
    assert!(ran.out.contains("-d 10.96.12.7/32") && ran.out.contains("-d fd00:96::a/128"));
    assert!(ran.out.contains("Needs sysctl net.ipv4.conf.all.route_localnet=1"));
}

#[test]
fn compile_takes_its_options() {
    let mut host = machine();
    let one = run(&mut host, "compile -f shop --node node-1 --family ipv4").ok(0).out;
    assert!(!one.contains("ip6tables"));
    let bare = run(&mut host, "compile -f shop --node node-1 --no-nfacct --no-random-fully").ok(0).out;
    assert!(one.contains("nfacct") && one.contains("--random-fully"));
    assert!(!bare.contains("nfacct") && !bare.contains("--random-fully"));
    run(&mut host, "compile -f shop --node node-1 --output-dir rules/").ok(0);
    assert_eq!(host.files["rules/iptables.rules"], one.into_bytes());
    assert!(host.files["rules/ip6tables.rules"].starts_with(b"# For ip6tables-restore"));
    let masquerade = run(&mut host, "compile -f shop --node node-1 --masquerade-all").ok(0).out;
    assert!(masquerade.contains("cluster IP\" -m tcp --dport 80 -j KUBE-MARK-MASQ"), "{masquerade}");
    let bit = run(&mut host, "compile -f shop --node node-1 --iptables-masquerade-bit 10").ok(0).out;
    assert!(bit.contains("0x400/0x400"), "{bit}");
    let stdin = host.files["shop/shop.yaml"].clone();
    host.files.insert("-".to_owned(), stdin);
    let ran = run(&mut host, "compile -f - --node node-1 --cluster-cidr 10.128.0.0/16,fd00:128::/48").ok(0);
    assert!(ran.out.contains("# From <stdin>: ") && ran.out.contains("! -s 10.128.0.0/16"), "{}", ran.out);
}

#[test]
fn a_configuration_is_read_and_options_win() {
    let mut host = machine();
    let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    put(
        &mut host,
        "config.yaml",
        &format!("{head}hostnameOverride: node-1\niptables: {{masqueradeBit: 4}}\n"),
    );
    let ran = run(&mut host, "compile -f shop --config config.yaml").ok(0);
    assert!(ran.out.contains("of node node-1\n") && ran.out.contains("0x10/0x10"), "{}", ran.out);
    let ran =
        run(&mut host, "compile -f shop --config config.yaml --iptables-masquerade-bit 5 --node node-2")
            .ok(0);
    assert!(ran.out.contains("of node node-2\n") && ran.out.contains("0x20/0x20"), "{}", ran.out);

    put(&mut host, "config.yaml", &format!("{head}mode: bogus\n"));
    let ran = run(&mut host, "compile -f shop --config config.yaml --node node-1");
    assert_eq!((ran.status, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("--> config.yaml:3:7\n"), "{}", ran.err);
    assert!(ran.err.ends_with("error: the configuration cannot be used\n"), "{}", ran.err);
    put(&mut host, "config.yaml", &format!("{head}mode: ipvs\n"));
    let ran = run(&mut host, "compile -f shop --config config.yaml --node node-1").ok(0);
    assert!(ran.out.contains("# For ipvsadm -R (ipvs.rules): node node-1\n-A -t "), "{}", ran.out);
    let ran = run(&mut host, "compile -f shop --config config.yaml --node node-1 --mode iptables").ok(0);
    assert!(!ran.out.contains("ipvsadm"));
    run(&mut host, "compile -f shop --config config.yaml --node node-1 --mode iptables").ok(0);
}

#[test]
fn what_is_broken_is_left_out_and_said() {
    let mut host = machine();
    put(&mut host, "in.yaml", &format!("{FINE}{BROKEN}"));
    let ran = run(&mut host, "compile -f in.yaml --node node-1");
    assert_eq!(ran.status, 2);
    assert!(ran.out.contains("shop/fine:http") && !ran.out.contains("shop/broken"));
    let end = "error: 1 error: what is broken is left out, the result is that of the rest\n";
    assert!(ran.err.contains("--> in.yaml:9:") && ran.err.ends_with(end), "{}", ran.err);
    let ran = run(&mut host, "compile -f in.yaml --node node-1 --keep-going");
    assert_eq!(ran.status, 0);
    assert!(ran.err.ends_with(&end.replace("error: 1", "warning: 1")), "{}", ran.err);

    put(&mut host, "dump/iptables-save.txt", "*filter\nCOMMIT\n");
    put(&mut host, "dump/ip6tables-save.txt", "*filter\nCOMMIT\n");
    for (options, status) in [("", 2), ("--keep-going", 1)] {
        let ran = run(&mut host, &format!("diff -f in.yaml --node node-1 --against dump {options}"));
        assert_eq!(ran.status, status, "{}", ran.err);
        assert!(ran.out.starts_with("+ shop/fine:http 10.96.1.1:80/tcp → refused, no usable endpoint\n"));
        let ran = run(&mut host, &format!("diff -f shop --base in.yaml --node node-1 {options}"));
        assert_eq!(ran.status, status, "{}", ran.err);
    }
}

#[test]
fn strict_makes_warnings_errors() {
    let mut host = machine();
    put(&mut host, "in.yaml", &FINE.replace("ports:", "externalIPs: [nowhere], ports:"));
    let ran = run(&mut host, "compile -f in.yaml --node node-1");
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(ran.err.starts_with("warning[bad-address]: Service shop/fine: "), "{}", ran.err);
    let ran = run(&mut host, "compile -f in.yaml --node node-1 --strict");
    assert!(ran.status == 2 && ran.err.starts_with("error[bad-address]"), "{}", ran.err);
}

#[test]
fn the_node_must_be_known() {
    let mut host = machine();
    let ran = run(&mut host, "compile -f shop --node node-9");
    assert_eq!(ran.status, 2);
    assert_eq!(
        ran.err,
        "error: node `node-9` is not in the input\nhint: the input has node-1, node-2, node-3\n"
    );
    let ran = run(&mut host, "compile -f shop");
    assert_eq!(ran.status, 0);
    assert!(ran.err.contains("this host, `node1`, is not a Node of the input"), "{}", ran.err);
    let ran = run(&mut host, "apply -f shop");
    assert!(ran.status == 2 && ran.err.contains("nothing was applied"), "{}", ran.err);
    assert!(host.calls.is_empty() && host.tables.is_empty());
    put(&mut host, "in.yaml", FINE);
    let ran = run_with(&mut host, &["compile", "-f", "in.yaml", "--node", "x\n-A INPUT -j DROP"]);
    assert_eq!((ran.status, ran.out.as_str()), (2, ""));
    assert!(ran.err.starts_with("error: `x\\n-a input"), "{}", ran.err);
}

#[test]
fn diff_against_recorded_rules() {
    let mut host = machine();
    run(&mut host, "compile -f shop --node node-1 --output-dir dump").ok(0);
    assert_eq!(run(&mut host, "diff -f shop --node node-1 --against dump").ok(0).out, "");
    assert_eq!(run(&mut host, "diff -f shop --node node-1 --against dump/ --rules").ok(0).out, "");
    // One file, and standard input.
    run(&mut host, "diff -f shop --node node-1 --family ipv4 --against dump/iptables.rules").ok(0);
    let ran = run(&mut host, "diff -f shop --node node-1 --against dump/ip6tables.rules");
    assert_eq!((ran.status, ran.out.as_str()), (0, ""));
    assert!(ran.err.contains("is taken for IPv6 rules"), "{}", ran.err);
    let rules = host.files["dump/iptables.rules"].clone();
    host.files.insert("-".to_owned(), rules);
    run(&mut host, "diff -f shop --node node-1 --family ipv4 --against -").ok(0);

    let mut host = machine_with_change(|text| text.replace("10.128.2.31", "10.128.2.99"));
    run(&mut host, "compile -f shop --node node-1 --output-dir dump").ok(0);
    let ran = run(&mut host, "diff -f new --node node-1 --against dump").ok(1);
    let line = "~ shop/api:grpc 10.96.40.3:9090/tcp: +10.128.2.99:9090 -10.128.2.31:9090 → 3 endpoints\n";
    assert_eq!(ran.out, line);
    let ran = run(&mut host, "diff -f new --node node-1 --against dump --rules").ok(1);
    assert!(
        ran.out.starts_with(&format!("{line}--- recorded iptables\n+++ wanted iptables\n@@ ")),
        "{}",
        ran.out
    );
    assert!(host.calls.iter().all(|call| call.starts_with("write dump/")), "{:?}", host.calls);
}

#[test]
fn a_recording_that_is_not_there_or_not_one() {
    let mut host = machine();
    let diff =
        |host: &mut FakeHost, path: &str| run(host, &format!("diff -f shop --node node-1 --against {path}"));
    assert_eq!(diff(&mut host, "nowhere").err, "error: cannot read `nowhere`: No such file or directory\n");
    let ran = diff(&mut host, "shop");
    assert!(
        ran.status == 2 && ran.err.contains("`shop` has no recorded rules\nhint: record them"),
        "{}",
        ran.err
    );
    put(&mut host, "bad.txt", "*nat\nrubbish\n");
    let ran = diff(&mut host, "bad.txt");
    assert!(ran.status == 2 && ran.err.contains("bad.txt: line 2"), "{}", ran.err);
    host.files.insert("latin".to_owned(), b"*nat\n# \xe9\n".to_vec());
    assert_eq!(diff(&mut host, "latin").err, "error: `latin` is not UTF-8 text\n");
    let ran = run(&mut host, "diff -f - --against - --node node-1");
    assert!(ran.status == 2 && ran.err.contains("can be read once only"), "{}", ran.err);
    let ran = run(&mut host, "diff -f shop --base shop --against shop --node node-1");
    assert!(ran.status == 2 && ran.err.contains("cannot be used with"), "{}", ran.err);
}

#[test]
fn diff_of_manifests() {
    let mut host = machine_with_change(|text| {
        text.replace("10.96.77.1", "10.96.77.2").replace("  name: search\n", "  name: find\n")
    });
    run(&mut host, "diff -f shop --base shop --node node-1").ok(0);
    let ran = run(&mut host, "diff -f new --base shop --node node-1").ok(1);
    assert_eq!(
        ran.out,
        "~ shop/cart 10.96.77.2:6379/tcp: answers on 10.96.77.2:6379; no longer answers on 10.96.77.1:6379\n\
         + shop/find:http 10.96.90.9:80/tcp → refused, no usable endpoint\n\
         - shop/search:http 10.96.90.9:80/tcp\n"
    );
    let rules = run(&mut host, "diff -f new --base shop --node node-1 --rules").ok(1).out;
    assert!(rules.contains("\n--- base iptables\n+++ wanted iptables\n"), "{rules}");
    assert!(host.calls.is_empty(), "{:?}", host.calls);
}

#[test]
fn json_is_for_programs() {
    let mut host = machine_with_change(|text| text.replace("10.128.2.31", "10.128.2.99"));
    let same: serde_json::Value =
        serde_json::from_str(&run(&mut host, "diff -f shop --base shop --node node-1 -o json").ok(0).out)
            .unwrap();
    assert_eq!(same["same"], true);
    let text = run(&mut host, "diff -f new --base shop --node node-1 -o json").ok(1).out;
    assert_eq!(text, run(&mut host, "diff -f new --base shop --node node-1 -o json").ok(1).out, "stable");
    let diff: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(diff["same"], false);
    let service = &diff["families"][0]["services"][0];
    let expected = serde_json::json!({
        "change": "change", "namespace": "shop", "name": "api", "port": "grpc", "protocol": "TCP",
        "clusterIp": "10.96.40.3", "placeholder": false,
        "vips": ["10.96.40.3:9090", "192.0.2.40:9090", "node:30909"], "vipsAdded": [], "vipsRemoved": [],
        "refused": [], "endpoints": ["10.128.0.31:9090", "10.128.1.31:9090", "10.128.2.99:9090"],
        "endpointsAdded": ["10.128.2.99:9090"], "endpointsRemoved": ["10.128.2.31:9090"],
    });
    assert_eq!(*service, expected);
    let chain = &diff["families"][0]["chains"][0];
    assert!(chain["chain"].is_string() && chain["live"].is_array() && chain["wanted"].is_array(), "{chain}");
}

#[test]
fn manifests_over_a_snapshot() {
    let mut host = machine();
    let new = "apiVersion: v1\nkind: Service\nmetadata: {name: new, namespace: shop}\n\
               spec: {type: NodePort, selector: {app: new}, ports: [{name: http, port: 80}]}\n";
    put(&mut host, "git/new.yaml", new);
    let ran = run(&mut host, "diff -f git --snapshot shop --base shop --node node-1");
    assert_eq!(ran.status, 1, "{}", ran.err);
    assert!(ran.out.starts_with("+ shop/new:http 10."), "{}", ran.out);
    assert!(ran.out.contains("/tcp (placeholder) and node:3"), "{}", ran.out);
    let ran = run(&mut host, "compile -f git --snapshot shop --node node-1");
    assert!(
        ran.out.contains("# Placeholders of shop/new, for what the API server will choose: cluster IP 10."),
        "{}",
        ran.out
    );
    let ran = run(&mut host, "diff -f git --snapshot shop --base shop --node node-1 -o json");
    let diff: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(diff["families"][0]["services"][0]["placeholder"], true);
    let ran = run(&mut host, "apply -f git --snapshot shop --node node-1");
    assert_eq!(ran.status, 2);
    assert!(
        ran.err.contains("nothing was applied, since shop/new would get placeholder addresses"),
        "{}",
        ran.err
    );
    assert!(host.calls.is_empty() && host.tables.is_empty());
    // Without one, there is nothing to take an address from.
    let ran = run(&mut host, "compile -f git -f shop --node node-1");
    assert!(
        ran.status == 0 && ran.err.starts_with("warning[no-cluster-ip]: Service shop/new"),
        "{}",
        ran.err
    );
}

#[test]
fn apply_makes_it_so_and_a_second_time_does_nothing() {
    let mut host = machine();
    let ran = run(&mut host, "apply -f shop --node node-1").ok(0);
    assert!(
        ran.out.contains("+ shop/web:http 10.96.12.7:80/tcp and 203.0.113.10:80, node:30080"),
        "{}",
        ran.out
    );
    let last = ran.out.lines().last().unwrap();
    assert!(
        last.contains(" steps taken, ") && last.ends_with(" rules with iptables-nft in 0.00 s"),
        "{last}"
    );
    assert!(host.rules(XtablesVariant::Nft, IpFamily::V4).contains("shop/web:http"));
    assert_eq!(host.rules(XtablesVariant::Legacy, IpFamily::V4), "");
    assert_eq!(host.sysctls["net/ipv4/conf/all/route_localnet"], "1");
    assert_eq!(run(&mut host, "diff -f shop --node node-1").ok(0).out, "");
    host.calls.clear();
    let ran = run(&mut host, "apply -f shop --node node-1").ok(0);
    assert_eq!(ran.out, "nothing to do with iptables-nft in 0.00 s\n");
    assert_eq!(host.calls, ["lock"]);
    // What `diff` says beforehand is what `apply` says.
    let mut host = machine();
    let diff = run(&mut host, "diff -f shop --node node-1").ok(1).out;
    assert!(run(&mut host, "apply -f shop --node node-1").ok(0).out.starts_with(&diff));
}

#[test]
fn a_dry_run_takes_no_step_and_lists_those_that_are_taken() {
    let mut host = machine();
    let dry = run(&mut host, "apply -f shop --node node-1 --dry-run").ok(0);
    assert!(host.tables.is_empty() && host.nfacct.as_ref().unwrap().is_empty());
    assert_eq!(host.sysctls["net/ipv4/conf/all/route_localnet"], "0");
    assert!(host.documents.iter().all(|(mode, _)| *mode == RestoreMode::Test));
    let tested: Vec<String> = host.documents.drain(..).map(|(_, text)| text).collect();
    let steps: Vec<&str> = dry.out.lines().skip_while(|line| !line.contains("STEP")).skip(1).collect();
    let (last, steps) = steps.split_last().unwrap();
    assert!(last.contains(" steps would be taken, "), "{last}");
    host.calls.clear();
    run(&mut host, "apply -f shop --node node-1").ok(0);
    let taken: Vec<String> = host.documents.iter().map(|(_, text)| text.clone()).collect();
    assert_eq!(tested, taken, "the documents that were tested are those that were loaded");
    let calls: Vec<&String> = host.calls.iter().filter(|call| *call != "lock").collect();
    assert_eq!(calls.len(), steps.len(), "{calls:#?}\n{steps:#?}");
    for (call, step) in calls.iter().zip(steps) {
        let kind =
            ["nfacct", "restore", "sysctl"].into_iter().find(|kind| step.contains(kind)).unwrap_or("-I ");
        let chain = step.rsplit(' ').next().unwrap();
        assert!(call.contains(kind), "{call} is not {step}");
        assert!(kind != "-I " || call.ends_with(&format!("-j {chain}")), "{call} is not {step}");
        assert_eq!(call.contains("IPv6"), step.contains("ip6tables"), "{call} is not {step}");
    }
}

#[test]
fn apply_refuses_broken_input_unless_told() {
    let mut host = machine();
    put(&mut host, "in.yaml", &format!("{FINE}{BROKEN}"));
    let ran = run(&mut host, "apply -f in.yaml --node node-1");
    assert_eq!((ran.status, ran.out.as_str()), (2, ""));
    assert!(
        ran.err.ends_with(
            "error: nothing was applied, since some of the input is broken\n\
         hint: mend it, or give --keep-going to apply the rest\n"
        ),
        "{}",
        ran.err
    );
    assert!(host.calls.is_empty() && host.tables.is_empty());
    let ran = run(&mut host, "apply -f in.yaml --node node-1 --keep-going");
    assert_eq!(ran.status, 0, "{}", ran.err);
    let rules = host.rules(XtablesVariant::Nft, IpFamily::V4);
    assert!(rules.contains("shop/fine:http") && !rules.contains("shop/broken"));
}

#[test]
fn a_refused_restore_names_the_service_its_manifest_and_the_rule() {
    let mut host = machine();
    run(&mut host, "apply -f shop --node node-1 --dry-run").ok(0);
    let document = &host.documents[0].1;
    let line =
        document.lines().position(|line| line.contains("-j DNAT") && line.contains("shop/cart")).unwrap() + 1;
    let rule = document.lines().nth(line - 1).unwrap().to_owned();
    let before = host.clone();
    host.fail_next_restore(Some(line), "iptables-restore: line failed");
    let ran = run(&mut host, "apply -f shop --node node-1");
    assert_eq!(ran.status, 2);
    assert!(
        ran.err.starts_with("error: cannot run `iptables-restore`: iptables-restore: line failed\n"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains(&format!("\n  line {line}: {rule}\n")), "{}", ran.err);
    assert!(ran.err.contains("\n  rule for: shop/cart (shop/shop.yaml:"), "{}", ran.err);
    assert!(ran.err.ends_with(" steps were taken before it\n"), "{}", ran.err);
    assert_eq!(
        host.rules(XtablesVariant::Nft, IpFamily::V4),
        before.rules(XtablesVariant::Nft, IpFamily::V4)
    );
    // The next one does all of it.
    run(&mut host, "apply -f shop --node node-1").ok(0);
    run(&mut host, "diff -f shop --node node-1").ok(0);
}

#[test]
fn a_machine_that_cannot() {
    let mut host = machine();
    host.variants.clear();
    host.nft_installed = None;
    let none = "error: no iptables on this machine\nhint: Debian: apt-get install iptables\n";
    for command in ["diff -f shop --node node-1", "apply -f shop --node node-1", "cleanup --nft-tool"] {
        let ran = run(&mut host, command);
        assert_eq!((ran.status, ran.err.as_str()), (2, none));
    }
    assert!(run(&mut host, "cleanup").ok(0).out.starts_with("nothing to remove with nft in "));
    run(&mut host, "compile -f shop --node node-1").ok(0);

    let mut host = machine();
    host.fail_next(
        "xtables_save",
        HostError::new("run `iptables-save`", HostErrorKind::Permission, "you must be root"),
    );
    let ran = run(&mut host, "diff -f shop --node node-1");
    assert_eq!(
        ran.err,
        "error: cannot run `iptables-save`: you must be root\n\
         hint: it needs root (CAP_NET_ADMIN); `diff --against` and `compile` do without\n"
    );

    let mut host = machine();
    host.lock_holder = Some("process 17".to_owned());
    let ran = run(&mut host, "apply -f shop --node node-1 --lock-timeout 1");
    assert_eq!(ran.status, 2);
    assert!(ran.err.starts_with("waiting for another svcproxy: process 17\nerror: "), "{}", ran.err);
    assert!(host.tables.is_empty());

    let mut host = machine();
    host.no_ipv6 = true;
    run(&mut host, "apply -f shop --node node-1").ok(0);
    let ran = run(&mut host, "apply -f shop --node node-1 --family ipv6");
    assert!(ran.status == 2 && ran.err.contains("IPv6 is off in this kernel"), "{}", ran.err);
}

#[test]
fn both_iptables_with_rules_of_ours_are_warned_of() {
    let mut host = machine();
    run(&mut host, "apply -f shop --node node-1 --iptables legacy").ok(0);
    assert!(host.rules(XtablesVariant::Legacy, IpFamily::V4).contains("shop/web"));
    let ran = run(&mut host, "diff -f shop --node node-1 --iptables nft");
    assert_eq!(ran.status, 1);
    assert!(ran.err.starts_with("warning: iptables-legacy holds Service rules too"), "{}", ran.err);
    run(&mut host, "diff -f shop --node node-1").ok(0);
}

#[test]
fn cleanup_takes_all_of_ours_and_nothing_else() {
    let mut host = machine();
    let theirs = "*nat\n:MINE - [0:0]\n-A MINE -j RETURN\n-A OUTPUT -j MINE\nCOMMIT\n";
    host.put_rules(XtablesVariant::Nft, IpFamily::V4, theirs).unwrap();
    let before = host.rules(XtablesVariant::Nft, IpFamily::V4);
    run(&mut host, "apply -f shop --node node-1").ok(0);
    let applied = host.clone();
    let dry = run(&mut host, "cleanup --dry-run").ok(0).out;
    assert!(dry.contains(" steps would be taken with iptables-legacy, iptables-nft and nft in"), "{dry}");
    assert_eq!(host.tables, applied.tables);
    let ran = run(&mut host, "cleanup").ok(0);
    assert!(ran.out.contains(" steps taken with iptables-legacy, iptables-nft and nft in"), "{}", ran.out);
    let left = host.rules(XtablesVariant::Nft, IpFamily::V4);
    assert!(!left.contains("KUBE-") && before.lines().all(|line| left.contains(line)), "{left}");
    assert!(host.nfacct.as_ref().unwrap().is_empty());
    assert_eq!(
        run(&mut host, "cleanup").ok(0).out,
        "nothing to remove with iptables-legacy, iptables-nft and nft in 0.00 s\n"
    );
    host.variants.retain(|tools| tools.variant == XtablesVariant::Nft);
    let ran = run(&mut host, "cleanup --iptables legacy");
    assert_eq!(ran.err, "error: the iptables that is to be cleaned is not on this machine\n");
}

#[test]
fn completions_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(&mut FakeHost::new(), &format!("completions {shell}")).ok(0);
        assert!(ran.out.contains("svcproxy"), "{shell}");
    }
    assert_eq!(run(&mut FakeHost::new(), "completions ksh").status, 2);
}

#[test]
fn a_report_that_nobody_reads_does_not_stop_apply() {
    struct Gone;
    impl std::io::Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }
    let mut host = machine();
    let cli = Cli::try_parse_from("svcproxy apply -f shop --node node-1".split(' ')).unwrap();
    let mut err = Vec::new();
    let mut console =
        Console { out: &mut Gone, err: &mut err, color_out: false, color_err: false, progress: false };
    let error = cli::run(&cli, &mut host, &mut console).unwrap_err();
    assert_eq!(error.kind, ErrorKind::BrokenPipe);
    run(&mut host, "diff -f shop --node node-1").ok(0);
}

#[test]
fn a_refused_transaction_names_the_service_its_manifest_and_the_rule() {
    let mut host = machine();
    run(&mut host, "apply -f shop --node node-1 --mode nftables --dry-run").ok(0);
    let document = &host.documents[0].1;
    let line =
        document.lines().position(|line| line.starts_with("add rule") && line.contains("shop/cart")).unwrap()
            + 1;
    let rule = document.lines().nth(line - 1).unwrap().to_owned();
    let apply = "apply -f shop --node node-1 --mode nftables --family ipv4";
    for (args, said) in [
        ("", "error: cannot change nftables: No such file or directory"),
        (" --nft-tool", "error: cannot run `nft`: Could not process rule"),
    ] {
        host.fail_next_nft_change(Some(line), "No such file or directory");
        host.fail_next_nft_run(Some(line), "Could not process rule: No such file or directory");
        let ran = run(&mut host, &format!("{apply}{args}"));
        assert_eq!(ran.status, 2);
        assert!(ran.err.starts_with(said), "{}", ran.err);
        assert!(ran.err.contains(&format!("\n  line {line}: {rule}\n")), "{}", ran.err);
        assert!(ran.err.contains("\n  rule for: shop/cart (shop/shop.yaml:"), "{}", ran.err);
    }
}

#[test]
fn nftables_is_changed_by_netlink_unless_the_tool_is_asked_for() {
    let taken = |args: &str| {
        let mut host = machine();
        run(&mut host, &format!("apply -f shop --node node-1 --mode nftables --family ipv4{args}")).ok(0);
        let calls = host.calls.iter().filter(|call| call.starts_with("nft ")).count();
        (calls, host.batches.len(), host.documents.len())
    };
    let (steps, batches, documents) = taken("");
    assert!(steps > 0 && (batches, documents) == (steps, 0), "{steps} {batches} {documents}");
    assert_eq!(taken(" --nft-tool"), (steps, 0, steps));
    // Without nft there is nobody to ask, and nothing is lost.
    let mut host = machine();
    host.nft_installed = None;
    run(&mut host, "apply -f shop --node node-1 --mode nftables --dry-run").ok(0);
    assert!(host.calls.is_empty());
    run(&mut host, "apply -f shop --node node-1 --mode nftables").ok(0);
    assert!(!host.batches.is_empty() && host.documents.is_empty());
}

#[test]
fn nftables_mode_needs_an_nft_that_can() {
    for (version, said) in [
        (None, "error: no nft on this machine\nhint: Debian: apt-get install nftables\n"),
        (Some((0, 9, 8)), "error: nft 0.9.8 is too old for nftables mode\nhint: it needs 1.0.1 or newer\n"),
    ] {
        let mut host = machine();
        host.nft_installed = version;
        for command in ["diff", "apply"] {
            let ran = run(&mut host, &format!("{command} -f shop --node node-1 --mode nftables --nft-tool"));
            assert_eq!((ran.status, ran.err.as_str()), (2, said));
        }
        run(&mut host, "compile -f shop --node node-1 --mode nftables").ok(0);
    }
}

#[test]
fn nftables_mode_needs_a_kernel_that_can_and_asks_an_old_one_what_it_takes() {
    let skip = "KUBE_PROXY_NFTABLES_SKIP_KERNEL_VERSION_CHECK";
    let mut host = machine();
    host.kernel_release = "5.10.0-9-amd64".to_owned();
    for command in ["diff", "apply"] {
        let ran = run(&mut host, &format!("{command} -f shop --node node-1 --mode nftables"));
        let said = format!(
            "error: kernel 5.10.0-9-amd64 is too old for nftables mode\nhint: it needs 5.13 or newer; {skip}=1 tries \
             all the same\n"
        );
        assert_eq!((ran.status, ran.err), (2, said));
    }
    // iptables mode has no need of it.
    run(&mut host, "diff -f shop --node node-1").ok(1);
    host.env.insert(skip.to_owned(), "1".to_owned());
    host.documents.clear();
    run(&mut host, "apply -f shop --node node-1 --mode nftables --dry-run").ok(0);
    let asked = |host: &FakeHost, nth: usize| host.documents[nth].1.clone();
    assert_eq!(asked(&host, 0), "add table ip kube-proxy { comment \"rules for kube-proxy\" ; }\n");
    assert!(asked(&host, 1).contains("{ comment "), "it takes comments: {}", asked(&host, 1));
    let no = || HostError::new("run `nft`", HostErrorKind::Unsupported, "Operation not supported");
    host.fail_next("nft_check", no());
    host.documents.clear();
    run(&mut host, "apply -f shop --node node-1 --mode nftables --dry-run").ok(0);
    assert_eq!(asked(&host, 1), "add table ip kube-proxy\n");
    let objects =
        |line: &str| line.starts_with("add ") && !line.starts_with("add rule") && line.contains("comment");
    let document = asked(&host, 2);
    assert!(!document.lines().any(objects), "{document}");
    assert!(document.lines().any(|line| line.starts_with("add rule") && line.contains("comment")));
    let compiled = run(&mut host, "compile -f shop --node node-1 --mode nftables --no-object-comments").ok(0);
    assert!(!compiled.out.lines().any(objects) && compiled.out.contains("comment"));
}

#[test]
fn service_cidrs_of_the_input_and_the_command_line_count_in_nftables_mode() {
    let mut host = machine();
    let without = run(&mut host, "compile -f shop --node node-1 --mode nftables --family ipv4").ok(0);
    assert!(without.out.contains("no ServiceCIDR in the input") && !without.out.contains("unallocated"));
    let text = "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: kubernetes}\n\
                spec: {cidrs: [10.96.0.0/12]}\n";
    put(&mut host, "shop/cidr.yaml", text);
    let compile = "compile -f shop --node node-1 --mode nftables --family ipv4";
    let ran = run(&mut host, compile).ok(0);
    assert!(!ran.out.contains("no ServiceCIDR in the input"));
    assert!(
        ran.out.contains("ip daddr 10.96.0.0/12 drop comment \"Drop traffic to unallocated ClusterIPs\"")
    );
    let ran = run(&mut host, &format!("{compile} --service-cidr 10.200.0.0/16")).ok(0);
    assert!(ran.out.contains("ip daddr { 10.96.0.0/12 , 10.200.0.0/16 } drop"), "{}", ran.out);
}

#[test]
fn two_modes_have_the_fast_layout() {
    let mut host = machine();
    let compile = "compile -f shop --node node-1 --family ipv4";
    let slow = run(&mut host, &format!("{compile} --mode nftables")).ok(0).out;
    let fast = run(&mut host, &format!("{compile} --mode nftables --layout fast")).ok(0).out;
    assert!(fast.contains("nftables mode, layout fast") && slow.contains("as kube-proxy 1.36 would"));
    let n_chains =
        |text: &str| text.lines().filter(|line| line.contains("add chain") && line.contains('/')).count();
    // Those of a Service with affinity.
    assert!(n_chains(&fast) > 0 && n_chains(&fast) < n_chains(&slow), "{fast}");
    assert!(fast.contains(" map @service-endpoints-tcp\n"), "{fast}");
    assert_eq!(run(&mut host, &format!("{compile} --mode nftables --layout kube-proxy")).ok(0).out, slow);
    let slow = run(&mut host, compile).ok(0).out;
    let fast = run(&mut host, &format!("{compile} --layout fast")).ok(0).out;
    assert!(fast.contains("iptables mode, layout fast") && fast.contains("-m bpf --bytecode"), "{fast}");
    assert!(slow.contains("-j KUBE-SEP-") && !fast.contains("-j KUBE-SEP-"), "{fast}");
    for mode in ["ipvs", "userspace"] {
        let ran = run(&mut host, &format!("{compile} --layout fast --mode {mode}"));
        let said = format!(
            "error: --layout fast: {mode} mode has no such layout\n\
             hint: iptables mode and nftables mode have: --mode nftables --layout fast\n"
        );
        assert_eq!((ran.status, ran.err), (2, said));
    }
}
