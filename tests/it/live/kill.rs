//! `kill -9` at many moments of an apply and of a cleanup: what is left works, each table as before or as wanted, and the next
//! run gets there.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use svcproxy::host::XtablesVariant;
use svcproxy::net::{IpFamily, PerFamily};
use svcproxy::packet::{self, Fate, NodeFacts, Packet, PacketContext};
use svcproxy::program::xtables::eval::{Memory, eval};
use svcproxy::program::xtables::{ChainName, Rule, Ruleset, Table, TableName};

use super::{Folder, PROGRAM, has_tools, must, put_foreign, rulesets, testdata};
use crate::rig::Namespace;

const N_SERVICES: usize = 60;
const N_ENDPOINTS: usize = 5;
/// Whatever a killed program has started has ended after this.
const CHILDREN_LIMIT: Duration = Duration::from_secs(20);

/// One of two clusters, which have most Services in common, but many endpoints not.
pub(super) fn cluster(second: bool) -> String {
    let mut text = "apiVersion: v1\nkind: Node\nmetadata: {name: node-1}\nstatus:\n  addresses:\n  \
                    - {type: InternalIP, address: 192.168.77.10}\n  \
                    - {type: InternalIP, address: \"fd00:77::10\"}\n"
        .to_owned();
    for n in 0..N_SERVICES {
        let only_in_one = if second { 40..50 } else { 50..60 };
        if only_in_one.contains(&n) {
            continue;
        }
        let (kind, more) = match n % 4 {
            0 => ("ClusterIP", String::new()),
            1 => ("NodePort", "\n  sessionAffinity: ClientIP".to_owned()),
            2 => (
                "LoadBalancer",
                "\n  loadBalancerSourceRanges: [203.0.113.0/24, \"fd00:77::/64\"]".to_owned(),
            ),
            _ => ("LoadBalancer", "\n  externalTrafficPolicy: Local".to_owned()),
        };
        let ingress = if kind == "LoadBalancer" {
            format!(
                "\nstatus: {{loadBalancer: {{ingress: [{{ip: 198.51.100.{n}}}, {{ip: \"2001:db8::{n:x}\"}}]}}}}"
            )
        } else {
            String::new()
        };
        write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: s{n}}}\nspec:\n  type: {kind}\n  \
             clusterIP: 10.96.0.{n}\n  clusterIPs: [10.96.0.{n}, \"fd00:10::{n:x}\"]\n  ipFamilies: [IPv4, IPv6]\n  \
             ipFamilyPolicy: RequireDualStack{more}\n  ports:\n  - {{port: 80{}}}{ingress}\n",
            if kind == "ClusterIP" { String::new() } else { format!(", nodePort: {}", 30000 + n) },
        )
        .unwrap();
        for (family, prefix) in [(4, "10.128."), (6, "fd00:128::")] {
            let separator = if family == 4 { "." } else { ":" };
            write!(
                text,
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  namespace: shop\n  \
                 name: s{n}-{family}\n  labels: {{kubernetes.io/service-name: s{n}}}\naddressType: IPv{family}\n\
                 ports: [{{port: 8080}}]\nendpoints:\n"
            )
            .unwrap();
            for endpoint in 0..N_ENDPOINTS {
                let at = endpoint + usize::from(second && n % 2 == 0);
                let node = 1 + at % 2;
                writeln!(
                    text,
                    "- {{addresses: [\"{prefix}{}{separator}{}\"], nodeName: node-{node}, conditions: {{ready: true}}}}",
                    n + 1,
                    at + 1
                )
                .unwrap();
            }
        }
    }
    text
}

/// Packets of all kinds to some of the Services.
pub(super) fn packets() -> Vec<Packet> {
    let context = PacketContext {
        node_addresses: PerFamily {
            v4: Some("192.168.77.10".parse().unwrap()),
            v6: Some("fd00:77::10".parse().unwrap()),
        },
        pod_interface: Some("veth1".to_owned()),
        uplink: Some("eth0".to_owned()),
    };
    let mut packets = Vec::new();
    for n in [0, 1, 2, 3, 21, 38, 44, 45, 47, 50, 51, 53, 55] {
        for (pod, outside, service, balancer, node) in [
            ("10.128.9.9", "203.0.113.9", format!("10.96.0.{n}"), format!("198.51.100.{n}"), "192.168.77.10"),
            (
                "fd00:128::9:9",
                "fd00:77::100",
                format!("[fd00:10::{n:x}]"),
                format!("[2001:db8::{n:x}]"),
                "[fd00:77::10]",
            ),
        ] {
            let source = node.trim_matches(['[', ']']);
            for to in [format!("{service}:80"), format!("{balancer}:80"), format!("{node}:{}", 30000 + n)] {
                for from in [format!("pod {pod}"), format!("outside {outside}"), format!("node {source}")] {
                    packets.push(packet::parse_packet(&format!("{from} -> {to}/tcp"), &context).unwrap());
                }
            }
        }
    }
    packets
}

/// One state of the rules and what it does with the packets.
struct State {
    rules: PerFamily<Ruleset>,
    fates: Vec<Fate>,
}

/// A namespace with two clusters.
struct Trial {
    namespace: Namespace,
    variant: XtablesVariant,
    folder: Folder,
    packets: Vec<Packet>,
}

impl Trial {
    fn new(variant: XtablesVariant) -> Option<Trial> {
        if !has_tools(variant) {
            return None;
        }
        let namespace = Namespace::new("kill")?;
        let folder = Folder::new();
        folder.write("config.yaml", &testdata("config.yaml"));
        folder.write("first.yaml", &cluster(false));
        folder.write("second.yaml", &cluster(true));
        put_foreign(&namespace, variant);
        Some(Trial { namespace, variant, folder, packets: packets() })
    }

    fn command(&self, verb: &str, manifests: Option<&str>) -> Vec<String> {
        let path = |name: &str| self.folder.0.join(name).to_str().unwrap().to_owned();
        let mut args = vec![verb.to_owned(), format!("--iptables={}", self.variant)];
        if let Some(name) = manifests {
            args.extend(["-f".to_owned(), path(name), "--config".to_owned(), path("config.yaml")]);
        }
        args
    }

    fn run(&self, verb: &str, manifests: Option<&str>) -> String {
        let args = self.command(verb, manifests);
        must(&self.namespace, &args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn rules(&self) -> PerFamily<Ruleset> {
        rulesets(&self.namespace, self.variant)
    }

    fn state(&self) -> State {
        let facts = NodeFacts {
            local_addresses: ["192.168.77.10", "fd00:77::10"].map(|addr| addr.parse().unwrap()).into(),
        };
        let rules = self.rules();
        let fate =
            |packet: &Packet| eval(rules.get(packet.family()), packet, &facts, &Memory::default()).fate;
        let fates = self.packets.iter().map(fate).collect();
        State { rules, fates }
    }

    fn kill(&self, args: &[String], after: Duration, whole_group: bool) {
        start_and_kill(&self.namespace, args, after, whole_group);
    }

    fn measure(&self, args: &[String]) -> Duration {
        measure(&self.namespace, args)
    }
}

/// Starts svcproxy, kills it after a while, with or without what it has started, and waits for the rest to end.
pub(super) fn start_and_kill(namespace: &Namespace, args: &[String], after: Duration, whole_group: bool) {
    let mut child = namespace.inside(|| spawn(args));
    std::thread::sleep(after);
    let pid = Pid::from_child(&child);
    // Ended already: so be it.
    let _ = if whole_group { kill_process_group(pid, Signal::KILL) } else { kill_process(pid, Signal::KILL) };
    child.wait().unwrap();
    wait_for_group(pid);
}

/// How long a run of svcproxy takes that ends well.
pub(super) fn measure(namespace: &Namespace, args: &[String]) -> Duration {
    let began = Instant::now();
    let mut child = namespace.inside(|| spawn(args));
    assert!(child.wait().unwrap().success());
    began.elapsed()
}

fn spawn(args: &[String]) -> Child {
    Command::new(PROGRAM)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Waits until no process of a group works any more.
fn wait_for_group(group: Pid) {
    let deadline = Instant::now() + CHILDREN_LIMIT;
    while works(group) {
        assert!(Instant::now() < deadline, "process group {} does not end", group.as_raw_nonzero());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn works(group: Pid) -> bool {
    let group = group.as_raw_nonzero().to_string();
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // `1 (name) S parent group …`: a name may have blanks and brackets.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let mut fields = rest.split(' ');
        fields.next().is_some_and(|state| !matches!(state, "Z" | "X" | "")) && fields.nth(1) == Some(&group)
    })
}

/// The chains of a table that are not the kernel's.
fn chains(rules: &Ruleset, table: TableName) -> BTreeMap<&ChainName, &Vec<Rule>> {
    let chains = rules.tables.get(&table).into_iter().flat_map(|table: &Table| &table.chains);
    chains.filter(|(_, chain)| chain.policy.is_none()).map(|(name, chain)| (name, &chain.rules)).collect()
}

/// The rules of the kernel's chains.
fn hooks(rules: &Ruleset, table: TableName) -> BTreeMap<&ChainName, &Vec<Rule>> {
    let chains = rules.tables.get(&table).into_iter().flat_map(|table: &Table| &table.chains);
    let hooks = chains.filter(|(_, chain)| chain.policy.is_some() && !chain.rules.is_empty());
    hooks.map(|(name, chain)| (name, &chain.rules)).collect()
}

/// Whether some rules are others with some left out.
fn is_part(rules: &[Rule], of: &[Rule]) -> bool {
    let mut rest = of.iter();
    rules.iter().all(|rule| rest.any(|other| other == rule))
}

/// Whether a fate is one of two. A Service that comes or goes is not reached for a moment, in whichever way.
fn is_either(now: &Fate, old: &Fate, new: &Fate) -> bool {
    let reaches_nobody = |fate: &Fate| matches!(fate, Fate::Untouched | Fate::Rejected | Fate::Dropped);
    let is_same = |other: &Fate| now.is_same(other) || (reaches_nobody(now) && reaches_nobody(other));
    is_same(old) || is_same(new)
}

/// What is wrong with a state between two others: a table that is neither, a jump twice or to nowhere, a packet that
/// meets something else than before and after.
fn problems(between: &State, before: &State, after: &State, packets: &[Packet]) -> Vec<String> {
    let mut problems = Vec::new();
    for family in IpFamily::ALL {
        let rules = [between, before, after].map(|state| state.rules.get(family));
        for table in TableName::ALL {
            let [now, old, new] = rules.map(|rules| chains(rules, table));
            if now != old && now != new {
                problems.push(format!("{family} {table}: {} chains, neither old nor new", now.len()));
            }
            let [hooked, old, new] = rules.map(|rules| hooks(rules, table));
            let none = Vec::new();
            for (hook, content) in &hooked {
                let of = |all: &BTreeMap<&ChainName, &Vec<Rule>>| {
                    all.get(hook).map_or(&none[..], |rules| rules).to_vec()
                };
                if !is_part(content, &of(&old)) && !is_part(content, &of(&new)) {
                    problems.push(format!("{family} {table} {hook}: {content:?}"));
                }
                for target in
                    content.iter().filter_map(Rule::chain).filter(|target| !now.contains_key(target))
                {
                    problems.push(format!("{family} {table} {hook}: {target} is not there"));
                }
            }
        }
    }
    let fates = between.fates.iter().zip(&before.fates).zip(&after.fates);
    for (packet, ((now, old), new)) in packets.iter().zip(fates) {
        if !is_either(now, old, new) {
            problems.push(format!("{packet}: {now}; before {old}, after {new}"));
        }
    }
    problems
}

/// When to kill: half of the times spread over the whole run, the others over the part of it in which rules change.
struct Aim {
    took: Duration,
    n_points: u32,
    /// The latest that was too early, the earliest that was too late.
    changing: (Duration, Duration),
    before: u32,
    between: u32,
    after: u32,
}

impl Aim {
    fn new(took: Duration, n_points: u32) -> Aim {
        Aim { took, n_points, changing: (Duration::ZERO, took * 2), before: 0, between: 0, after: 0 }
    }

    /// The time of a point.
    fn at(&self, point: u32) -> Duration {
        let half = self.n_points / 2;
        if point < half {
            return self.took.mul_f64(0.1 + f64::from(point) / f64::from(half));
        }
        let (one, other) = self.changing;
        let (first, last) = (one.min(other), one.max(other));
        first + (last - first).mul_f64(f64::from(point - half) / f64::from(half.max(2) - 1))
    }

    /// Learns what was hit.
    fn hit(&mut self, at: Duration, state: &State, before: &State, after: &State) {
        if state.rules == before.rules {
            self.before += 1;
            self.changing.0 = self.changing.0.max(at);
        } else if state.rules == after.rules {
            self.after += 1;
            self.changing.1 = self.changing.1.min(at);
        } else {
            self.between += 1;
        }
    }

    /// Says where the kills were, and whether they were everywhere.
    fn judge(&self, what: &str) {
        let Aim { took, before, between, after, .. } = self;
        eprintln!(
            "{what} in {took:?} killed {before} times before, {between} amid, {after} after the changes"
        );
        assert!(
            *before > 0 && *before + *between + *after == self.n_points && *after + *between > 0,
            "{what}"
        );
    }
}

/// Kills applies of one cluster over the other.
fn killed_changes(variant: XtablesVariant, n_points: u32) {
    let Some(trial) = Trial::new(variant) else { return };
    let names = ["first.yaml", "second.yaml"];
    trial.run("apply", Some(names[1]));
    let second = trial.state();
    let mut took = trial.measure(&trial.command("apply", Some(names[0])));
    let first = trial.state();
    took = took.max(trial.measure(&trial.command("apply", Some(names[1]))));
    assert!(trial.rules() == second.rules, "an apply does not depend on what was before");
    let states = [&first, &second];
    let (mut aim, mut all) = (Aim::new(took, n_points), Vec::new());
    for point in 0..n_points {
        let (to, from) = if point % 2 == 0 { (0, 1) } else { (1, 0) };
        let wait = aim.at(point);
        trial.kill(&trial.command("apply", Some(names[to])), wait, point % 4 < 2);
        let state = trial.state();
        aim.hit(wait, &state, states[from], states[to]);
        let found = problems(&state, states[from], states[to], &trial.packets);
        all.extend(found.into_iter().map(|problem| format!("killed after {wait:?}: {problem}")));
        trial.run("apply", Some(names[to]));
        // Once says all: where the rules are the same, so is what is made of them.
        let has_difference = point == 0 && !trial.run("diff", Some(names[to])).is_empty();
        if has_difference || trial.rules() != states[to].rules {
            all.push(format!("killed after {wait:?}: the next apply does not get there"));
        }
    }
    assert!(all.is_empty(), "{} are wrong:\n  {}", all.len(), all.join("\n  "));
    aim.judge(&format!("a change with iptables-{variant}"));
}

/// Kills first applies, which put in jump after jump, and cleanups, which take them out.
fn killed_firsts(variant: XtablesVariant, n_points: u32) {
    let Some(trial) = Trial::new(variant) else { return };
    let empty = trial.state();
    let commands = [trial.command("apply", Some("first.yaml")), trial.command("cleanup", None)];
    let apply_took = trial.measure(&commands[0]);
    let full = trial.state();
    let cleanup_took = trial.measure(&commands[1]);
    assert!(trial.rules() == empty.rules, "a cleanup leaves what was there before");
    let mut aims = [Aim::new(apply_took, n_points), Aim::new(cleanup_took, n_points)];
    let mut all = Vec::new();
    for point in 0..n_points {
        for (index, before, after) in [(0, &empty, &full), (1, &full, &empty)] {
            let (args, aim) = (&commands[index], &mut aims[index]);
            let wait = aim.at(point);
            trial.kill(args, wait, point % 2 == 0);
            let state = trial.state();
            aim.hit(wait, &state, before, after);
            let found = problems(&state, before, after, &trial.packets);
            all.extend(
                found.into_iter().map(|problem| format!("{} killed after {wait:?}: {problem}", args[0])),
            );
            trial.measure(args);
            if trial.rules() != after.rules {
                all.push(format!("{} killed after {wait:?}: the next one does not get there", args[0]));
            }
        }
    }
    assert!(all.is_empty(), "{} are wrong:\n  {}", all.len(), all.join("\n  "));
    aims[0].judge(&format!("a first apply with iptables-{variant}"));
    aims[1].judge(&format!("a cleanup with iptables-{variant}"));
}

#[test]
fn a_killed_change_leaves_rules_that_work_with_iptables_legacy() {
    killed_changes(XtablesVariant::Legacy, 24);
}

#[test]
fn a_killed_change_leaves_rules_that_work_with_iptables_nft() {
    killed_changes(XtablesVariant::Nft, 12);
}

#[test]
fn a_killed_first_apply_or_cleanup_leaves_rules_that_work_with_iptables_legacy() {
    killed_firsts(XtablesVariant::Legacy, 12);
}

#[test]
fn a_killed_first_apply_or_cleanup_leaves_rules_that_work_with_iptables_nft() {
    killed_firsts(XtablesVariant::Nft, 8);
}
