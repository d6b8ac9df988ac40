//! Real packets through the virtual servers that `svcproxy apply --mode ipvs` makes: who answers, who is asked next, what
//! becomes of connections to an endpoint that leaves and of a Service that is gone.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use svcproxy::net::Protocol;

use super::super::is_inside;
use crate::live::{Folder, must, svcproxy, testdata};
use crate::rig::{Answer, At, Namespace, Rig, RigSpec};

const PATIENCE: Duration = Duration::from_secs(10);
/// Until the kernel has forgotten a connection that was reset; a slow machine has its own pace.
const FORGOTTEN: Duration = Duration::from_secs(90);

/// A Service whose connections last. Of its endpoints the second can be left out.
fn lasting(both: bool) -> String {
    let second = "- {addresses: [10.128.0.2], nodeName: node-1, conditions: {ready: true}}\n";
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: lasting}}\nspec:\n  type: ClusterIP\n  \
         clusterIP: 10.96.0.50\n  clusterIPs: [10.96.0.50]\n  ipFamilies: [IPv4]\n  ports: [{{port: 7070}}]\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  namespace: shop\n  name: lasting-1\n  \
         labels: {{kubernetes.io/service-name: lasting}}\naddressType: IPv4\nports: [{{port: 7070}}]\nendpoints:\n\
         - {{addresses: [10.128.0.1], nodeName: node-1, conditions: {{ready: true}}}}\n{}",
        if both { second } else { "" }
    )
}

struct Trial {
    rig: Rig,
    folder: Folder,
}

impl Trial {
    fn new() -> Trial {
        let rig = Rig::new(&RigSpec { pods: 3, remote_pods: 2, ports: vec![8080] }).unwrap();
        rig.node_ns().set(&[("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")]);
        let folder = Folder::new();
        folder.write("config.yaml", &testdata("config.yaml"));
        Trial { rig, folder }
    }

    fn node(&self) -> &Namespace {
        self.rig.node_ns()
    }

    fn apply(&self, manifests: &str) -> String {
        let (manifests, config) = (
            self.folder.write("cluster.yaml", manifests),
            self.folder.write("config.yaml", &testdata("config.yaml")),
        );
        let args = ["apply", "--mode=ipvs", "--iptables=legacy", "-f", &manifests, "--config", &config];
        must(self.node(), &args)
    }

    fn ask(&self, from: At, protocol: Protocol, to: &str) -> Answer {
        self.rig.ask(from, protocol, to.parse().unwrap(), PATIENCE)
    }

    /// Who answers, time after time.
    fn answers(&self, n: usize, from: At, protocol: Protocol, to: &str) -> Vec<String> {
        (0..n)
            .map(|_| match self.ask(from, protocol, to) {
                Answer::Reply { endpoint, .. } => endpoint,
                other @ (Answer::Refused | Answer::NoAnswer | Answer::Unreachable(_)) => {
                    panic!("{from:?} -> {to}/{protocol}: {other:?}")
                }
            })
            .collect()
    }

    /// Weight and connections of a real server, as ipvsadm shows them; `None` if there is none.
    fn weight(&self, at: &str) -> Option<String> {
        let shown = self.node().run(&["ipvsadm", "-Sn"]);
        let line = shown.lines().find(|line| line.contains(&format!("-r {at} ")))?;
        Some(line.rsplit(' ').next().unwrap().to_owned())
    }
}

#[test]
fn every_kind_of_client_reaches_every_kind_of_service() {
    if !is_inside() {
        return;
    }
    let trial = Trial::new();
    let manifests = testdata("cluster.yaml");
    assert!(trial.apply(&manifests).contains("taken"));
    assert!(trial.apply(&manifests).starts_with("nothing to do"));
    let all: BTreeSet<String> = ["pod1", "pod2", "remote1"].map(str::to_owned).into();
    for (from, protocol, to) in [
        (At::Pod(3), Protocol::Tcp, "10.96.0.10:80"),
        (At::Pod(3), Protocol::Udp, "10.96.0.10:53"),
        (At::Pod(3), Protocol::Tcp, "[fd00:10::10]:80"),
        (At::Pod(3), Protocol::Udp, "[fd00:10::10]:53"),
        (At::Node, Protocol::Tcp, "10.96.0.10:80"),
        (At::Client, Protocol::Tcp, "10.96.0.10:80"),
    ] {
        // One after the other: three questions meet three endpoints.
        let met: BTreeSet<String> = trial.answers(3, from, protocol, to).into_iter().collect();
        assert_eq!(met, all, "{from:?} -> {to}/{protocol}");
    }
    // Node ports, from outside and with another family.
    for (protocol, to) in [
        (Protocol::Tcp, "192.168.77.10:30080"),
        (Protocol::Udp, "192.168.77.10:30053"),
        (Protocol::Tcp, "[fd00:77::10]:30080"),
    ] {
        assert!(!trial.answers(2, At::Client, protocol, to).is_empty());
    }
    // Affinity: a client stays with its endpoint.
    let sticky: BTreeSet<String> =
        trial.answers(8, At::Pod(3), Protocol::Tcp, "10.96.0.15:80").into_iter().collect();
    assert_eq!(sticky.len(), 1, "{sticky:?}");
    // Hairpin: who meets himself sees the node.
    let own = (0..4).find_map(|_| match trial.ask(At::Pod(1), Protocol::Tcp, "10.96.0.11:80") {
        Answer::Reply { endpoint, seen_source } if endpoint == "pod1" => Some(seen_source.to_string()),
        Answer::Reply { .. } | Answer::Refused | Answer::NoAnswer | Answer::Unreachable(_) => None,
    });
    assert_eq!(own.as_deref(), Some("10.128.0.254"));
    // A port that the Service does not have.
    assert_eq!(trial.ask(At::Pod(3), Protocol::Tcp, "10.96.0.10:81"), Answer::Refused);
    assert_eq!(trial.ask(At::Pod(3), Protocol::Udp, "10.96.0.10:80"), Answer::Refused);
    // A Service that is gone: nobody is at its node port any more.
    let without = |manifests: &str, service: &str| -> String {
        let is_of = |document: &&str| {
            !document.contains(&format!("name: {service}}}"))
                && !document.contains(&format!("service-name: {service}}}"))
        };
        manifests.split("---\n").filter(is_of).collect::<Vec<_>>().join("---\n")
    };
    assert!(trial.apply(&without(&manifests, "open")).contains("taken"));
    assert_eq!(trial.ask(At::Client, Protocol::Tcp, "192.168.77.10:30080"), Answer::Refused);
    assert_eq!(trial.answers(1, At::Pod(3), Protocol::Tcp, "10.96.0.10:80").len(), 1);
}

/// Answers each byte with itself, until the connection ends.
fn echo(socket: TcpListener) {
    std::thread::spawn(move || {
        for stream in socket.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
}

fn says_back(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok() && byte == *b"x"
}

#[test]
fn an_endpoint_that_leaves_keeps_its_connections_and_gets_no_new_ones() {
    if !is_inside() {
        return;
    }
    let trial = Trial::new();
    for n in 1..=2 {
        let at: SocketAddr = format!("10.128.0.{n}:7070").parse().unwrap();
        echo(trial.rig.ns(At::Pod(n)).inside(|| TcpListener::bind(at)).unwrap());
    }
    trial.apply(&(testdata("cluster.yaml") + &lasting(true)));
    trial.node().run(&["ipvsadm", "--set", "900", "1", "1"]);
    let vip: SocketAddr = "10.96.0.50:7070".parse().unwrap();
    let connect = || {
        let stream = trial.rig.ns(At::Pod(3)).inside(|| TcpStream::connect_timeout(&vip, PATIENCE)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    // One to each.
    let mut streams: Vec<TcpStream> = (0..2).map(|_| connect()).collect();
    assert!(streams.iter_mut().all(says_back));
    let fewer = testdata("cluster.yaml") + &lasting(false);
    assert!(trial.apply(&fewer).contains("taken"));
    assert_eq!(trial.weight("10.128.0.2:7070").as_deref(), Some("0"), "it is drained");
    assert!(streams.iter_mut().all(says_back), "both connections go on");
    assert!(trial.apply(&fewer).starts_with("nothing to do"), "there is nothing to do but to wait");
    let mut more: Vec<TcpStream> = (0..4).map(|_| connect()).collect();
    assert!(more.iter_mut().all(says_back));
    let shown = trial.node().run(&["ipvsadm", "-Ln"]);
    let drained = shown.lines().find(|line| line.contains("10.128.0.2:7070")).unwrap();
    assert_eq!(drained.split_whitespace().nth(4), Some("1"), "no new one went there: {shown}");
    // Wanted again: it takes connections again.
    trial.apply(&(testdata("cluster.yaml") + &lasting(true)));
    assert_eq!(trial.weight("10.128.0.2:7070").as_deref(), Some("1"));
    trial.apply(&fewer);
    for stream in streams.iter().chain(&more) {
        // Ended by a reset: the kernel forgets it in seconds.
        set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
    }
    drop((streams, more));
    let deadline = Instant::now() + FORGOTTEN;
    while trial.weight("10.128.0.2:7070").is_some() {
        assert!(Instant::now() < deadline, "{}", trial.node().run(&["ipvsadm", "-Lnc"]));
        std::thread::sleep(Duration::from_secs(1));
        trial.apply(&fewer);
    }
}

#[test]
fn virtual_servers_of_others_stay_unless_told() {
    if !is_inside() {
        return;
    }
    let trial = Trial::new();
    for args in [
        "-A -t 192.0.2.200:80 -s rr",
        "-a -t 192.0.2.200:80 -r 192.0.2.201:80 -m",
        "-A -f 7 -s rr",
        "-A -t 192.0.2.210:80 -s rr",
    ] {
        trial.node().run(&[&["ipvsadm"], &args.split(' ').collect::<Vec<_>>()[..]].concat());
    }
    let manifests = trial.folder.write("cluster.yaml", &testdata("cluster.yaml"));
    let config = trial.folder.write("config.yaml", &testdata("config.yaml"));
    assert!(Path::new(&manifests).exists());
    let input = ["--mode=ipvs", "--iptables=legacy", "-f", &manifests, "--config", &config];
    let run = |verb: &str, more: &[&str]| svcproxy(trial.node(), &[&[verb], &input[..], more].concat());
    let said = run("apply", &[]);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    assert!(
        said.stderr.contains("192.0.2.200:80/TCP") && said.stderr.contains("--exclusive"),
        "{}",
        said.stderr
    );
    let shown = || trial.node().run(&["ipvsadm", "-Sn"]);
    assert!(shown().contains("192.0.2.200:80 -r 192.0.2.201:80") && shown().contains("-f 7"));
    let excluded = run("apply", &["--exclusive", "--ipvs-exclude-cidrs=192.0.2.208/28"]);
    assert_eq!((excluded.status, excluded.stderr.as_str()), (Some(0), ""));
    assert!(!shown().contains("192.0.2.200:80"), "{}", shown());
    assert!(shown().contains("192.0.2.210:80"), "{}", shown());
    must(trial.node(), &["cleanup"]);
    assert!(shown().contains("192.0.2.210:80") && !shown().contains("10.96.0."), "{}", shown());
}

/// How long a question of a flow that lasts waits for its answer, until it is asked again.
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Asks from a port that no flow had before, again and again. How many were asked, and how many got no answer.
fn ask_from_new_ports(trial: &Trial, vip: SocketAddr, stop: &AtomicBool) -> (usize, usize) {
    let (mut n, mut lost) = (0, 0);
    // Below those that the kernel chooses.
    for port in 2_000..32_000 {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let answer = trial.rig.udp_flow_from(At::Pod(3), port, vip).ask(PATIENCE);
        n += 1;
        lost += usize::from(answer.endpoint().is_none());
    }
    (n, lost)
}

/// Asks by flows that last, of which there is one more every moment: one question at a time in all. The flows and turns that got
/// no answer.
fn ask_by_flows(trial: &Trial, vip: SocketAddr, stop: &AtomicBool) -> Vec<(usize, usize)> {
    let (mut flows, mut lost) = (Vec::new(), Vec::new());
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        flows.push(trial.rig.udp_flow(At::Pod(3), vip));
        for (nth, flow) in flows.iter().enumerate() {
            if flow.ask(ASKED_AGAIN_AFTER).endpoint().is_none() {
                lost.push((nth, turn));
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(flows.len() > 10);
    lost
}

#[test]
fn from_iptables_to_ipvs_and_back_without_a_gap() {
    if !is_inside() {
        return;
    }
    let trial = Trial::new();
    let manifests = trial.folder.write("cluster.yaml", &testdata("cluster.yaml"));
    let config = trial.folder.write("config.yaml", &testdata("config.yaml"));
    let apply = |mode: &str| {
        let args = ["apply", mode, "--iptables=legacy", "-f", &manifests, "--config", &config];
        must(trial.node(), &args)
    };
    apply("--mode=iptables");
    let stop = AtomicBool::new(false);
    let vip: SocketAddr = "10.96.0.10:53".parse().unwrap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask_from_new_ports(&trial, vip, &stop));
        let lasting = scope.spawn(|| ask_by_flows(&trial, vip, &stop));
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // Whether the kernel has its connections forgotten with a virtual server, which `apply` sets, or keeps them.
            for forgets in ["0", "1"] {
                assert!(apply("--mode=ipvs").contains("taken"));
                trial.node().set(&[("ipv4/vs/expire_nodest_conn", forgets)]);
                std::thread::sleep(Duration::from_secs(1));
                assert!(apply("--mode=iptables").contains("taken"));
                std::thread::sleep(Duration::from_secs(1));
            }
        }));
        stop.store(true, Ordering::Relaxed);
        let (asked, lost) = asking.join().unwrap();
        let lost_by_flows = lasting.join().unwrap();
        changed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(asked > 10 && lost == 0, "{lost} of {asked}");
        // With its last virtual server IPVS has the kernel forget all flows that began there, and who is asking at that very
        // moment has to ask again.
        assert!(lost_by_flows.len() <= 2, "{lost_by_flows:?}");
        println!("lost: {lost} of {asked} from new ports, {lost_by_flows:?} of flows that last");
    });
    // Nothing of IPVS mode is left.
    assert_eq!(trial.node().run(&["ipvsadm", "-Sn"]) + &trial.node().run(&["ipset", "save"]), "");
    assert!(!trial.node().run(&["iptables-legacy-save"]).contains("KUBE-IPVS"));
    apply("--mode=ipvs");
    assert!(!trial.node().run(&["iptables-legacy-save"]).contains("KUBE-SVC-"));
}
