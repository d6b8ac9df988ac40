//! The whole program on a small cluster of network namespaces: apply, real packets, diff, a change, cleanup; with iptables-legacy,
//! iptables-nft and nftables. What each packet must meet is written (`testdata/live/flows*.txt`), and the oracle and the rules
//! that the kernel then has must say the same.

#[cfg(feature = "kube")]
mod cluster;
mod conflict;
mod flows;
mod kill;
mod kill_nft;
mod modes;
pub(crate) mod userspace;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use svcproxy::backend::userspace as lowering;
use svcproxy::host::{Host, LinuxHost, XtablesVariant};
use svcproxy::net::{IpFamily, PerFamily, Protocol};
use svcproxy::packet::{self, Choice, Fate, Flow, NodeFacts, Origin, Packet, PacketContext};
use svcproxy::program::listener::{self, Listeners, Status};
use svcproxy::program::nft;
use svcproxy::program::xtables::eval::{Memory, eval};
use svcproxy::program::xtables::{Ruleset, parse};
use svcproxy::resolve::{self, NodeContext, NodeView};

use crate::given;
use crate::rig::{Answer, At, Namespace, Rig, RigSpec, pod_addresses, remote_addresses, skip};

const PROGRAM: &str = env!("CARGO_BIN_EXE_svcproxy");
/// How long an answer that must come may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long none must come.
const SILENCE: Duration = Duration::from_millis(300);
/// After so many questions every one of four endpoints has answered: one in ten million tests meets another luck.
const MANY: usize = 60;

/// How rules get into the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// With one of the iptables tools.
    Iptables(XtablesVariant),
    /// The same in the fast layout.
    IptablesFast(XtablesVariant),
    /// With `nft`.
    Nftables,
    /// With `iptables-nft`, to a process that carries the connections.
    Userspace,
    /// With `nft`, in the fast layout.
    NftablesFast,
}

impl Way {
    /// The options that choose it.
    fn options(self) -> Vec<String> {
        let words: &[&str] = match self {
            Way::Iptables(XtablesVariant::Legacy) => &["--iptables=legacy"],
            Way::Iptables(XtablesVariant::Nft) => &["--iptables=nft"],
            Way::IptablesFast(XtablesVariant::Legacy) => &["--iptables=legacy", "--layout=fast"],
            Way::IptablesFast(XtablesVariant::Nft) => &["--iptables=nft", "--layout=fast"],
            Way::Nftables => &["--mode=nftables"],
            Way::Userspace => &["--mode=userspace"],
            Way::NftablesFast => &["--mode=nftables", "--layout=fast"],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn uses_nft(self) -> bool {
        matches!(self, Way::Nftables | Way::NftablesFast)
    }

    /// The mode, as exceptions of flows name it.
    fn mode(self) -> &'static str {
        match self {
            Way::Iptables(_) | Way::IptablesFast(_) => "iptables",
            Way::Nftables | Way::NftablesFast => "nftables",
            Way::Userspace => "userspace",
        }
    }

    /// The iptables tools that others use beside it.
    fn neighbour(self) -> XtablesVariant {
        match self {
            Way::Iptables(variant) | Way::IptablesFast(variant) => variant,
            Way::Nftables | Way::NftablesFast | Way::Userspace => XtablesVariant::Nft,
        }
    }

    /// Whether the tools are there and this kernel has what they need.
    fn works(self) -> bool {
        has_tools(self.neighbour()) && (!self.uses_nft() || has_nft())
    }

    /// Everything that others have in a namespace where this is used.
    fn others(self, namespace: &Namespace) -> Vec<String> {
        let mut found = lines(&dumps(namespace, self.neighbour()));
        if self.uses_nft() {
            found.extend(namespace.run(&["nft", "list", "table", "inet", "mine"]).lines().map(str::to_owned));
        }
        found
    }

    fn put_others(self, namespace: &Namespace) {
        put_foreign(namespace, self.neighbour());
        if self.uses_nft() {
            let done = namespace.run_with(&["nft", "-f", "-"], FOREIGN_TABLE);
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
    }

    /// Whether nothing is left of us where `others` does not look.
    fn is_gone(self, namespace: &Namespace) -> bool {
        !self.uses_nft()
            || namespace.inside(|| {
                let mut host = LinuxHost::new();
                ["ip", "ip6"].iter().all(|family| host.nft_list(family, "kube-proxy").unwrap().is_none())
            })
    }
}

/// A table of nftables that somebody else has.
const FOREIGN_TABLE: &[u8] = b"table inet mine {\n\
    set strangers { type ipv4_addr; flags interval; elements = { 198.18.0.0/15 }; }\n\
    chain forward { type filter hook forward priority 5; policy accept; ip saddr @strangers drop; }\n\
    chain output { type nat hook output priority -100; tcp dport 25 ip daddr @strangers dnat ip to 10.128.0.1; }\n}\n";

/// What a program said, and how it ended.
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs svcproxy in a namespace.
pub(crate) fn svcproxy(namespace: &Namespace, args: &[&str]) -> Said {
    let argv: Vec<&str> = [PROGRAM].into_iter().chain(args.iter().copied()).collect();
    said(namespace.run_with(&argv, b""))
}

fn said(done: Output) -> Said {
    Said {
        status: done.status.code(),
        stdout: String::from_utf8(done.stdout).unwrap(),
        stderr: String::from_utf8(done.stderr).unwrap(),
    }
}

/// Runs svcproxy in a namespace, where it must end well and say nothing against it; what it printed.
pub(crate) fn must(namespace: &Namespace, args: &[&str]) -> String {
    let said = svcproxy(namespace, args);
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""), "{args:?}\n{}", said.stdout);
    said.stdout
}

/// A folder that is gone when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("svcproxy-live-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    /// Writes a file; its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn testdata(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/live").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether the tools of a variant are there and this kernel has what they need.
fn has_tools(variant: XtablesVariant) -> bool {
    let Some(trial) = Namespace::new("trial") else { return false };
    for tool in ["iptables", "ip6tables"] {
        let tool = format!("{tool}-{variant}");
        let tried = trial.inside(|| Command::new(&tool).args(["-t", "nat", "-S"]).output());
        if !tried.is_ok_and(|done| done.status.success()) {
            skip(&format!("`{tool}` does not work here"));
            return false;
        }
    }
    true
}

/// Whether `nft` is there and this kernel has what it needs.
fn has_nft() -> bool {
    let Some(trial) = Namespace::new("trial") else { return false };
    let tried = trial.inside(|| LinuxHost::new().nft_run(b"add table ip trial\n", true));
    if let Err(error) = &tried {
        skip(&format!("`nft` does not work here: {error}"));
    }
    tried.is_ok()
}

/// What `iptables-save` and `ip6tables-save` print in a namespace.
fn dumps(namespace: &Namespace, variant: XtablesVariant) -> PerFamily<String> {
    namespace.inside(|| {
        let mut host = LinuxHost::new();
        PerFamily::from_fn(|family| host.xtables_save(variant, family).unwrap())
    })
}

fn rulesets(namespace: &Namespace, variant: XtablesVariant) -> PerFamily<Ruleset> {
    let dumps = dumps(namespace, variant);
    PerFamily::from_fn(|family| parse::parse(dumps.get(family), family).unwrap())
}

/// The lines of dumps that make a difference: own chains and rules, with family and table, without counters.
fn lines(dumps: &PerFamily<String>) -> Vec<String> {
    let mut found = Vec::new();
    for family in IpFamily::ALL {
        let mut table = "";
        for line in dumps.get(family).lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            } else if line.starts_with("-A ") || line.ends_with(" - [0:0]") {
                found.push(format!("{family} {table} {line}"));
            } else if let Some((chain, _)) = line.split_once(" - [") {
                found.push(format!("{family} {table} {chain} - [0:0]"));
            }
        }
    }
    found
}

/// Rules that somebody else has, in both families. None of them touches a packet of the tests but the DNAT.
fn foreign(family: IpFamily) -> String {
    let (net, vip, to) = match family {
        IpFamily::V4 => ("198.18.0.0/15", "203.0.113.250/32", "10.128.0.1:8080"),
        IpFamily::V6 => ("2001:db8:f::/48", "2001:db8:f::250/128", "[fd00:128::1]:8080"),
    };
    format!(
        "*mangle\n-A PREROUTING -s {net} -j MARK --set-xmark 0x8/0x8\nCOMMIT\n\
         *filter\n:MINE - [0:0]\n:KUBE-FOO - [0:0]\n\
         -A INPUT -s {net} -m comment --comment \"it's \\\"quoted\\\", \\\\ and -j DROP\" -j MINE\n\
         -A FORWARD -s {net} -j LOG --log-prefix \"from: there \" --log-level 5\n\
         -A FORWARD -s {net} -m comment --comment kubernetes -j KUBE-FOO\n\
         -A OUTPUT -d {net} -p tcp -m tcp --dport 25 -j REJECT\n\
         -A MINE -m limit --limit 5/min -j RETURN\n-A KUBE-FOO -s {net} -p udp -m udp --sport 68 -j ACCEPT\n\
         -A KUBE-FOO -j MINE\nCOMMIT\n\
         *nat\n:MINE-NAT - [0:0]\n\
         -A PREROUTING -d {vip} -p tcp -m tcp --dport 443 -j MINE-NAT\n\
         -A POSTROUTING -s {net} -m comment --comment \"not ours\" -j MASQUERADE\n\
         -A MINE-NAT -p tcp -m comment --comment \"a 'DNAT' of others\" -j DNAT --to-destination {to}\n\
         -A MINE-NAT -j RETURN\nCOMMIT\n"
    )
}

fn put_foreign(namespace: &Namespace, variant: XtablesVariant) {
    for (family, tool) in [(IpFamily::V4, "iptables"), (IpFamily::V6, "ip6tables")] {
        let tool = format!("{tool}-{variant}-restore");
        let done = namespace.run_with(&[&tool, "--noflush"], foreign(family).as_bytes());
        assert!(done.status.success(), "{tool}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// What all rows of a file are checked against.
struct Table<'a> {
    rig: &'a Rig,
    way: Way,
    facts: NodeFacts,
    views: PerFamily<NodeView>,
    /// The rules that the kernel has.
    rules: Rules,
    /// What they lead to in userspace mode.
    listeners: Listeners,
    flows: Vec<Flow>,
}

/// Rules as the kernel has them.
enum Rules {
    Xtables(PerFamily<Ruleset>),
    Nft(nft::Ruleset),
}

/// The tables of nftables mode.
fn tables(namespace: &Namespace) -> nft::Ruleset {
    let mut all = nft::Ruleset::default();
    for family in ["ip", "ip6"] {
        let json = namespace.inside(|| LinuxHost::new().nft_list(family, "kube-proxy")).unwrap().unwrap();
        all.tables.extend(nft::parse::parse(&json).unwrap().tables);
    }
    all
}
impl<'a> Table<'a> {
    fn new(rig: &'a Rig, way: Way, manifests: &str, flows: &str) -> Table<'a> {
        let config = format!("{}mode: {}\n", testdata("config.yaml"), way.mode());
        let given = given::given(manifests, &config);
        let on_devices = rig.node_ns().inside(|| LinuxHost::new().local_addresses()).unwrap();
        let addresses: Vec<IpAddr> = on_devices.into_iter().map(|local| local.addr).collect();
        let context = NodeContext::new(&given.config, &given.node, &addresses);
        let first = |family| given.node.addresses.iter().copied().find(|addr| IpFamily::of(*addr) == family);
        let notation = PacketContext {
            node_addresses: PerFamily::from_fn(first),
            pod_interface: None,
            uplink: Some("eth0".to_owned()),
        };
        let mut flows = packet::parse_flows(&testdata(flows), &notation).unwrap();
        flows.retain(|flow| rig.has_ipv6() || flow.packet.family() == IpFamily::V4);
        for flow in &mut flows {
            if let At::Pod(n) = sender(&flow.packet) {
                flow.packet.in_interface = Some(format!("veth{n}"));
            }
        }
        let rules = match way {
            Way::Iptables(variant) | Way::IptablesFast(variant) => {
                Rules::Xtables(rulesets(rig.node_ns(), variant))
            }
            Way::Nftables | Way::NftablesFast => Rules::Nft(tables(rig.node_ns())),
            Way::Userspace => Rules::Xtables(rulesets(rig.node_ns(), XtablesVariant::Nft)),
        };
        let views = PerFamily::from_fn(|family| resolve::resolve(&given.cluster, &context, family));
        let mut listeners = Listeners::new();
        if let (Way::Userspace, Rules::Xtables(rules)) = (way, &rules) {
            // Those that the live rules lead to.
            for family in IpFamily::ALL {
                let previous = lowering::proxy_ports(rules.get(family)).into();
                let options = lowering::LowerOptions { previous, ..given::userspace_options(&given, family) };
                listeners.extend(lowering::lower(views.get(family), &options).listeners);
            }
        }
        let facts = NodeFacts { local_addresses: addresses.into_iter().collect() };
        Table { rig, way, facts, views, rules, listeners, flows }
    }

    /// Every row: what is written, the oracle, the live rules, the packet.
    fn check(&self) {
        let mut problems = Vec::new();
        for flow in &self.flows {
            let family = flow.packet.family();
            let fate = match self.way {
                Way::Userspace => given::carried(flow),
                Way::Iptables(_) | Way::IptablesFast(_) | Way::Nftables | Way::NftablesFast => {
                    flow.fate_in(self.way.mode()).clone()
                }
            };
            let oracle = resolve::fate(self.views.get(family), &flow.packet, &self.facts);
            if self.way == Way::Userspace && matches!(oracle, Fate::Unknown(_)) {
                // Whether a pod is on a bridge is not known to it.
                continue;
            }
            let fate = &fate;
            for (who, said) in [("oracle", oracle), ("rules", self.fate_by_rules(&flow.packet))] {
                if !said.is_same(fate) {
                    problems.push(format!("line {}: {}: {who}: {said}", flow.line, flow.packet));
                }
            }
            // In userspace mode the rules lead to a local port: where that leads no rule tells.
            if self.way != Way::Userspace {
                let foretold = self.fate_by_trace(&flow.packet);
                if foretold != fate.to_string() {
                    problems.push(format!("line {}: {}: trace: {foretold}", flow.line, flow.packet));
                }
            }
            if let Err(got) = self.send(&flow.packet, fate) {
                problems.push(format!("line {}: {} = {fate}\n      {got}", flow.line, flow.packet));
            }
        }
        assert!(problems.is_empty(), "{} are wrong:\n  {}", problems.len(), problems.join("\n  "));
    }

    /// What the rules that the kernel has do to a packet.
    fn fate_by_rules(&self, packet: &Packet) -> Fate {
        match &self.rules {
            Rules::Xtables(rules) => {
                let fate = eval(rules.get(packet.family()), packet, &self.facts, &Memory::default()).fate;
                listener::eval::follow(&self.listeners, packet, fate, &self.facts, &|_, _| false).fate
            }
            Rules::Nft(rules) => {
                nft::eval::eval(rules, packet, &self.facts, &nft::eval::Memory::default()).fate
            }
        }
    }

    /// What `svcproxy trace` says of all rules of the machine, those of others among them.
    fn fate_by_trace(&self, packet: &Packet) -> String {
        let said = svcproxy(self.rig.node_ns(), &["trace", &packet.to_string(), "-o", "json"]);
        assert!(matches!(said.status, Some(0 | 1)), "{packet}: {}", said.stderr);
        let document: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
        document["fate"].as_str().unwrap().to_owned()
    }

    /// Sends real packets, as many as it takes to meet all endpoints.
    fn send(&self, packet: &Packet, fate: &Fate) -> Result<(), String> {
        let to = SocketAddr::new(packet.destination.addr, packet.destination.port);
        let ask = |limit| self.rig.ask(sender(packet), packet.protocol, to, limit);
        let expect = |wanted: Answer, got: Answer| {
            if got == wanted { Ok(()) } else { Err(format!("{got:?} instead of {wanted:?}")) }
        };
        let choices = match fate {
            Fate::Forwarded(choices) => choices,
            Fate::Rejected => return expect(Answer::Refused, ask(PATIENCE)),
            Fate::Dropped => return expect(Answer::NoAnswer, ask(SILENCE)),
            // Nobody listens on the node, and the network behind it swallows what is for strangers.
            Fate::Untouched if self.facts.is_local(to.ip()) => return expect(Answer::Refused, ask(PATIENCE)),
            Fate::Untouched => return expect(Answer::NoAnswer, ask(SILENCE)),
            Fate::Unknown(why) => return Err(format!("unknown: {why}")),
        };
        let mut expected: BTreeMap<String, IpAddr> =
            choices.iter().map(|choice| (endpoint_name(choice), source_seen(packet, choice))).collect();
        // Nobody takes a packet from elsewhere that has his own address as its source.
        let returned = choices.iter().find(|one| one.endpoint.addr == packet.source.addr && !one.source_nat);
        let patience = if returned.is_some() { SILENCE } else { PATIENCE };
        let mut met = BTreeSet::new();
        for _ in 0..MANY {
            let (endpoint, seen) = match (ask(patience), returned) {
                (Answer::Reply { endpoint, seen_source }, _) => (endpoint, seen_source),
                (Answer::NoAnswer, Some(choice)) => (endpoint_name(choice), packet.source.addr),
                (none @ (Answer::Refused | Answer::NoAnswer | Answer::Unreachable(_)), _) => {
                    return Err(format!("{none:?} after {met:?}"));
                }
            };
            if expected.get(&endpoint) != Some(&seen) {
                return Err(format!("{endpoint} saw {seen}, expected is {expected:?}"));
            }
            if met.insert(endpoint.clone()) && met.len() == 1 {
                // With affinity it must be the same one from now on, even if others are possible at first.
                self.narrow(packet, &endpoint, choices, &mut expected);
            }
            if met.len() == expected.len() && expected.len() == choices.len() {
                return Ok(());
            }
        }
        let missing: Vec<&String> = expected.keys().filter(|name| !met.contains(*name)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} never answered {MANY} times")) }
    }

    fn narrow(
        &self,
        packet: &Packet,
        met: &str,
        choices: &[Choice],
        expected: &mut BTreeMap<String, IpAddr>,
    ) {
        let Some(first) = choices.iter().find(|choice| endpoint_name(choice) == met) else { return };
        let view = self.views.get(packet.family());
        if let Fate::Forwarded(left) = resolve::fate_remembered(view, packet, &self.facts, first.endpoint) {
            expected.retain(|name, _| left.iter().any(|choice| endpoint_name(choice) == *name));
        }
    }
}

/// Who sends a packet.
fn sender(packet: &Packet) -> At {
    let source = packet.source.addr;
    let is = |(v4, v6): (IpAddr, IpAddr)| source == v4 || source == v6;
    match packet.origin {
        Origin::Node => At::Node,
        Origin::Outside if is(remote_addresses(1)) => At::Remote,
        Origin::Outside => At::Client,
        Origin::Pod => {
            At::Pod((1..=9).find(|n| is(pod_addresses(*n))).unwrap_or_else(|| panic!("{source} is no pod")))
        }
    }
}

/// What an endpoint calls itself: with its port unless that is the usual one.
fn endpoint_name(choice: &Choice) -> String {
    let is = |(v4, v6): (IpAddr, IpAddr)| choice.endpoint.addr == v4 || choice.endpoint.addr == v6;
    let pod = (1..=9).find(|n| is(pod_addresses(*n))).map(|n| format!("pod{n}"));
    let remote = || (1..=9).find(|n| is(remote_addresses(*n))).map(|n| format!("remote{n}"));
    let name = pod.or_else(remote).unwrap_or_else(|| panic!("{} is no endpoint", choice.endpoint));
    if choice.endpoint.port == 8080 { name } else { format!("{name}:{}", choice.endpoint.port) }
}

/// The source that an endpoint sees: the sender's, or the node's on the way to it.
fn source_seen(packet: &Packet, choice: &Choice) -> IpAddr {
    let to_pod = endpoint_name(choice).starts_with("pod");
    let node: &str = match (choice.endpoint.family(), to_pod) {
        (IpFamily::V4, true) => "10.128.0.254",
        (IpFamily::V4, false) => "192.168.77.10",
        (IpFamily::V6, _) => "fd00:77::10",
    };
    if choice.source_nat { node.parse().unwrap() } else { packet.source.addr }
}

/// The cluster after a change: an endpoint less, a Service less, a Service more.
fn changed(manifests: &str) -> String {
    let documents = manifests
        .split("---\n")
        .filter(|document| !document.contains("name: gone}") && !document.contains("service-name: gone}"));
    let is_of_web = |document: &str| document.contains("service-name: web}");
    let without_remote = |document: &str| -> String {
        let lines = document.lines().filter(|line| !line.contains("node-2"));
        lines.flat_map(|line| [line, "\n"]).collect()
    };
    let mut kept: Vec<String> = documents
        .map(|document| if is_of_web(document) { without_remote(document) } else { document.to_owned() })
        .collect();
    kept.push(testdata("added.yaml"));
    kept.join("---\n")
}

fn live(way: Way) {
    if !way.works() {
        return;
    }
    let Some(rig) = Rig::new(&RigSpec { pods: 3, remote_pods: 2, ports: vec![8080] }) else { return };
    for n in 1..=2 {
        let (v4, _) = pod_addresses(n);
        rig.serve(At::Pod(n), &format!("pod{n}:9090"), Protocol::Tcp, SocketAddr::new(v4, 9090));
    }
    // All refusals are to arrive, more than one a second.
    rig.node_ns().set(&[("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")]);
    let node = rig.node_ns();
    way.put_others(node);
    let before = way.others(node);
    assert!(before.len() >= 26, "{before:#?}");

    let folder = Folder::new();
    let (first, config) = (testdata("cluster.yaml"), folder.write("config.yaml", &testdata("config.yaml")));
    let manifests = folder.write("cluster.yaml", &first);
    let which = way.options();
    let which: Vec<&str> = which.iter().map(String::as_str).collect();
    let input = [&["-f", &manifests, "--config", &config], &which[..]].concat();
    let run = |command: &str| must(node, &[&[command], &input[..]].concat());

    assert!(run("apply").contains("taken"));
    let after = way.others(node);
    let mut rest = after.iter();
    for line in &before {
        assert!(rest.any(|one| one == line), "`{line}` is gone or has moved:\n{after:#?}");
    }
    assert_eq!(run("diff"), "");
    assert!(run("apply").starts_with("nothing to do"), "a second apply has nothing to do");
    Table::new(&rig, way, &first, "flows.txt").check();
    let dnat = rig.ask(At::Client, Protocol::Tcp, "203.0.113.250:443".parse().unwrap(), PATIENCE);
    assert_eq!(dnat.endpoint(), Some("pod1"), "the DNAT of others");

    let second = changed(&first);
    folder.write("cluster.yaml", &second);
    let differs = svcproxy(node, &[&["diff"], &input[..]].concat());
    assert_eq!(differs.status, Some(1), "{}", differs.stderr);
    for name in ["shop/web:", "shop/gone:", "shop/new:"] {
        assert!(differs.stdout.contains(name), "{name}\n{}", differs.stdout);
    }
    assert!(run("apply").contains("taken"));
    assert_eq!(run("diff"), "");
    Table::new(&rig, way, &second, "flows-after.txt").check();

    // Without an option it takes what is left of any mode.
    let cleanup = match way {
        // Whichever the layout.
        Way::Iptables(_) | Way::IptablesFast(_) => vec!["cleanup", which[0]],
        Way::Nftables | Way::NftablesFast | Way::Userspace => vec!["cleanup"],
    };
    assert!(must(node, &cleanup).contains("taken"));
    assert_eq!(way.others(node), before);
    assert!(way.is_gone(node));
    assert!(must(node, &cleanup).starts_with("nothing to remove"));
}

#[test]
fn real_packets_with_iptables_legacy() {
    live(Way::Iptables(XtablesVariant::Legacy));
}

#[test]
fn real_packets_with_iptables_legacy_in_the_fast_layout() {
    live(Way::IptablesFast(XtablesVariant::Legacy));
}

#[test]
fn real_packets_with_iptables_nft_in_the_fast_layout() {
    live(Way::IptablesFast(XtablesVariant::Nft));
}

#[test]
fn real_packets_with_iptables_nft() {
    live(Way::Iptables(XtablesVariant::Nft));
}

#[test]
fn real_packets_with_nftables() {
    live(Way::Nftables);
}

#[test]
fn real_packets_with_nftables_in_the_fast_layout() {
    live(Way::NftablesFast);
}
