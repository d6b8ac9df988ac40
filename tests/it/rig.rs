//! A small cluster made of network namespaces: a node, a client outside, pods on the node and pods behind the client's side of
//! the network, with real packets between them. Needs root and the `ip` tool.
//!
//! ```text
//!  pod1 10.128.0.1 ──veth1┐                                        ┌── remote 10.128.1.1 …
//!  pod2 10.128.0.2 ──veth2┤ node 192.168.77.10 ──── 192.168.77.100 client
//! ```
//! All have IPv6 as well: fd00:128::N, fd00:77::10, fd00:77::100, fd00:128:1::N. The client's default route is the node, the
//! node's is the client, which swallows what it gets for strangers.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests make namespaces and sockets")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests may")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use svcproxy::net::Protocol;

/// All namespaces of this file are called so, then the process, a number and their part.
const PREFIX: &str = "svcproxy-it";
const NAMESPACES: &str = "/run/netns";
/// How soon a server notices that it is to end.
const SERVER_PAUSE: Duration = Duration::from_millis(200);

/// Says loudly why a test does not run; in CI that is a failure.
pub(crate) fn skip(reason: &str) {
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        panic!("CI must run this test: {reason}");
    }
    eprintln!("SKIPPED: {reason}");
}

/// A network namespace of its own, gone when dropped.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// A new one with loopback up, or `None`, said out loud, where that cannot be.
    pub(crate) fn new(part: &str) -> Option<Namespace> {
        static SWEEP: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            skip("needs root");
            return None;
        }
        SWEEP.call_once(sweep);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}-{part}", std::process::id());
        match Command::new("ip").args(["netns", "add", &name]).output() {
            Ok(done) if done.status.success() => {}
            Ok(done) => {
                skip(&format!("cannot make a network namespace: {}", String::from_utf8_lossy(&done.stderr)));
                return None;
            }
            Err(error) => {
                skip(&format!("needs the program `ip`: {error}"));
                return None;
            }
        }
        let namespace = Namespace { name };
        namespace.ip(&["link set lo up".to_owned()]);
        Some(namespace)
    }

    /// Its name for `ip netns exec`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs a closure in a thread that is inside. Sockets and child processes that it makes stay there.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                enter(&self.name);
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a program inside, `input` being its standard input.
    pub(crate) fn run_with(&self, argv: &[&str], input: &[u8]) -> Output {
        self.inside(|| {
            let mut child = Command::new(argv[0])
                .args(&argv[1..])
                .env("LC_ALL", "C")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("{argv:?}: {error}"));
            let mut stdin = child.stdin.take().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(move || stdin.write_all(input));
                child.wait_with_output().unwrap()
            })
        })
    }

    /// Runs a program inside that must succeed; what it printed.
    pub(crate) fn run(&self, argv: &[&str]) -> String {
        let done = self.run_with(argv, b"");
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{argv:?} in {}: {stderr}", self.name);
        String::from_utf8(done.stdout).unwrap()
    }

    fn ip(&self, lines: &[String]) {
        self.ip_with(&["ip", "-batch", "-"], lines);
    }

    fn ip_with(&self, argv: &[&str], lines: &[String]) {
        let done = self.run_with(argv, lines.join("\n").as_bytes());
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "ip in {}: {stderr}\n{}", self.name, lines.join("\n"));
    }

    /// Sets kernel settings below `net`.
    pub(crate) fn set(&self, settings: &[(&str, &str)]) {
        self.inside(|| {
            for (key, value) in settings {
                // Without IPv6 there are no settings of it.
                if let Err(error) = fs::write(format!("/proc/sys/net/{key}"), value) {
                    assert!(key.starts_with("ipv6/"), "{key}: {error}");
                }
            }
        });
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

fn enter(name: &str) {
    let file = fs::File::open(format!("{NAMESPACES}/{name}")).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

fn delete(name: &str) {
    let _ = Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status();
}

/// Deletes what test processes left that were killed.
fn sweep() {
    let Ok(entries) = fs::read_dir(NAMESPACES) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1)).map(str::to_owned);
        if process.is_some_and(|process| !fs::exists(format!("/proc/{process}")).unwrap_or(true)) {
            delete(&name);
        }
    }
}

/// What the cluster is to have.
#[derive(Debug, Clone)]
pub(crate) struct RigSpec {
    /// Pods on the node.
    pub(crate) pods: u8,
    /// Pods elsewhere.
    pub(crate) remote_pods: u8,
    /// Ports on which every pod answers, TCP and UDP.
    pub(crate) ports: Vec<u16>,
}

impl Default for RigSpec {
    fn default() -> RigSpec {
        RigSpec { pods: 2, remote_pods: 1, ports: vec![8080] }
    }
}

/// A place in the cluster. Pods count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// The node itself.
    Node,
    /// The client outside.
    Client,
    /// A pod on the node.
    Pod(u8),
    /// Where the remote pods are; traffic leaves with the address of the first.
    Remote,
}

/// What came back.
#[allow(clippy::enum_variant_names, reason = "no answer is one, too")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A pod answered.
    Reply {
        /// `pod1`, `remote1`, …
        endpoint: String,
        /// The address that it saw the question come from.
        seen_source: IpAddr,
    },
    /// A reset or an ICMP "port unreachable".
    Refused,
    /// Nothing, for as long as was waited.
    NoAnswer,
    /// There is no way there: another ICMP message, or no route.
    Unreachable(String),
}

impl Answer {
    /// The pod that answered.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        match self {
            Answer::Reply { endpoint, .. } => Some(endpoint),
            Answer::Refused | Answer::NoAnswer | Answer::Unreachable(_) => None,
        }
    }
}

/// The cluster.
pub(crate) struct Rig {
    node: Namespace,
    client: Namespace,
    remote: Namespace,
    pods: Vec<Namespace>,
    has_ipv6: bool,
    stop: Arc<AtomicBool>,
}

impl Rig {
    /// Builds it, or `None`, said out loud, where that cannot be.
    pub(crate) fn new(spec: &RigSpec) -> Option<Rig> {
        let pods = (1..=spec.pods).map(|n| Namespace::new(&format!("pod{n}"))).collect::<Option<Vec<_>>>()?;
        let rig = Rig {
            node: Namespace::new("node")?,
            client: Namespace::new("client")?,
            remote: Namespace::new("remote")?,
            pods,
            has_ipv6: fs::exists("/proc/net/if_inet6").unwrap_or(false),
            stop: Arc::new(AtomicBool::new(false)),
        };
        rig.connect(spec);
        for n in 1..=spec.pods {
            rig.serve_all(At::Pod(n), &format!("pod{n}"), pod_addresses(n), &spec.ports);
        }
        for n in 1..=spec.remote_pods {
            rig.serve_all(At::Remote, &format!("remote{n}"), remote_addresses(n), &spec.ports);
        }
        Some(rig)
    }

    /// Whether the kernel has IPv6.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.has_ipv6
    }

    /// The node's namespace, where svcproxy is to work.
    pub(crate) fn node_ns(&self) -> &Namespace {
        &self.node
    }

    /// The namespace of a place.
    pub(crate) fn ns(&self, at: At) -> &Namespace {
        match at {
            At::Node => &self.node,
            At::Client => &self.client,
            At::Remote => &self.remote,
            At::Pod(n) => &self.pods[usize::from(n) - 1],
        }
    }

    /// Runs a program at a place; it must succeed. What it printed.
    pub(crate) fn run_in(&self, at: At, argv: &[&str]) -> String {
        self.ns(at).run(argv)
    }

    /// Lets a place answer on one more address and port, until the end of the rig.
    pub(crate) fn serve(&self, at: At, name: &str, protocol: Protocol, listen: SocketAddr) {
        let (name, stop) = (name.to_owned(), Arc::clone(&self.stop));
        match protocol {
            Protocol::Tcp => {
                let socket = self.ns(at).inside(|| TcpListener::bind(listen)).unwrap();
                set_socket_timeout(&socket, Timeout::Recv, Some(SERVER_PAUSE)).unwrap();
                std::thread::spawn(move || serve_tcp(&socket, &name, &stop));
            }
            Protocol::Udp => {
                let socket = self.ns(at).inside(|| UdpSocket::bind(listen)).unwrap();
                socket.set_read_timeout(Some(SERVER_PAUSE)).unwrap();
                std::thread::spawn(move || serve_udp(&socket, &name, &stop));
            }
            Protocol::Sctp => panic!("std has no SCTP sockets"),
        }
    }

    /// Asks an address and port from a place, with a new socket.
    pub(crate) fn ask(&self, from: At, protocol: Protocol, to: SocketAddr, limit: Duration) -> Answer {
        self.ns(from).inside(|| match protocol {
            Protocol::Tcp => answer(ask_tcp(to, limit)),
            Protocol::Udp => {
                let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
                answer(UdpSocket::bind((any, 0)).and_then(|socket| {
                    socket.connect(to)?;
                    ask_udp(&socket, limit)
                }))
            }
            Protocol::Sctp => panic!("std has no SCTP sockets"),
        })
    }

    /// A UDP socket at a place, connected to an address: a flow that lasts.
    pub(crate) fn udp_flow(&self, from: At, to: SocketAddr) -> UdpFlow {
        self.udp_flow_from(from, 0, to)
    }

    /// The same from a port of one's own choice.
    pub(crate) fn udp_flow_from(&self, from: At, port: u16, to: SocketAddr) -> UdpFlow {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
        let socket = self.ns(from).inside(|| {
            let socket = UdpSocket::bind((any, port)).unwrap();
            socket.connect(to).unwrap();
            socket
        });
        UdpFlow(socket)
    }

    fn connect(&self, spec: &RigSpec) {
        let all = [&self.node, &self.client, &self.remote].into_iter().chain(&self.pods);
        for namespace in all {
            // Before there are interfaces: no duplicate address detection, which takes a second.
            namespace.set(&[("ipv6/conf/default/accept_dad", "0"), ("ipv6/conf/all/accept_dad", "0")]);
            namespace.set(&[("ipv4/conf/all/rp_filter", "0"), ("ipv4/conf/default/rp_filter", "0")]);
        }
        for router in [&self.node, &self.client] {
            router.set(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")]);
            router.set(&[("ipv4/conf/all/send_redirects", "0"), ("ipv4/conf/default/send_redirects", "0")]);
        }
        let (node, client, remote) = (self.node.name(), self.client.name(), self.remote.name());
        let mut links = vec![
            format!("link add eth0 netns {node} type veth peer name eth0 netns {client}"),
            format!("link add remote0 netns {client} type veth peer name eth0 netns {remote}"),
        ];
        let mut on_node = vec![
            "link set eth0 up".to_owned(),
            "address add 192.168.77.10/24 dev eth0".to_owned(),
            "route add 10.128.1.0/24 via 192.168.77.100".to_owned(),
            "route add default via 192.168.77.100".to_owned(),
        ];
        let mut on_node_6 = vec![
            "address add fd00:77::10/64 dev eth0 nodad".to_owned(),
            "route add fd00:128:1::/64 via fd00:77::100".to_owned(),
            "route add default via fd00:77::100".to_owned(),
        ];
        for (n, pod) in (1..).zip(&self.pods) {
            links
                .push(format!("link add veth{n} netns {node} type veth peer name eth0 netns {}", pod.name()));
            on_node.push(format!("link set veth{n} up"));
            on_node.push(format!("address add 10.128.0.254/32 dev veth{n}"));
            on_node.push(format!("route add 10.128.0.{n}/32 dev veth{n}"));
            on_node_6.push(format!("address add fe80::1/64 dev veth{n} nodad"));
            on_node_6.push(format!("route add fd00:128::{n:x}/128 dev veth{n}"));
        }
        self.node.ip(&links);
        self.configure(&self.node, &on_node, &on_node_6);
        for (n, pod) in (1..).zip(&self.pods) {
            let (v4, v6) = leaf(&[pod_addresses(n)], "10.128.0.254");
            self.configure(pod, &v4, &v6);
        }
        let remotes: Vec<_> = (1..=spec.remote_pods).map(remote_addresses).collect();
        let (v4, v6) = leaf(&remotes, "10.128.1.254");
        self.configure(&self.remote, &v4, &v6);
        let v4 = [
            "link set eth0 up",
            "link set remote0 up",
            "address add 192.168.77.100/24 dev eth0",
            "address add 10.128.1.254/32 dev remote0",
            "route add 10.128.1.0/24 dev remote0",
            "route add default via 192.168.77.10",
            "rule add iif eth0 lookup 100",
            "route add 10.128.1.0/24 dev remote0 table 100",
            "route add blackhole default table 100",
        ];
        let v6 = [
            "address add fd00:77::100/64 dev eth0 nodad",
            "address add fe80::1/64 dev remote0 nodad",
            "route add fd00:128:1::/64 dev remote0",
            "route add default via fd00:77::10",
            "rule add iif eth0 lookup 100",
            "route add fd00:128:1::/64 dev remote0 table 100",
            "route add blackhole default table 100",
        ];
        self.configure(&self.client, &v4.map(str::to_owned), &v6.map(str::to_owned));
    }

    fn configure(&self, namespace: &Namespace, v4: &[String], v6: &[String]) {
        namespace.ip(v4);
        if self.has_ipv6 {
            namespace.ip_with(&["ip", "-6", "-batch", "-"], v6);
        }
    }

    fn serve_all(&self, at: At, name: &str, (v4, v6): (IpAddr, IpAddr), ports: &[u16]) {
        for address in [Some(v4), self.has_ipv6.then_some(v6)].into_iter().flatten() {
            for port in ports {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    self.serve(at, name, protocol, SocketAddr::new(address, *port));
                }
            }
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A UDP socket that keeps its port: all its questions are one flow.
pub(crate) struct UdpFlow(UdpSocket);

impl UdpFlow {
    /// Asks once more.
    pub(crate) fn ask(&self, limit: Duration) -> Answer {
        answer(ask_udp(&self.0, limit))
    }
}

/// IPv4 and IPv6 address of a pod on the node.
pub(crate) fn pod_addresses(n: u8) -> (IpAddr, IpAddr) {
    (IpAddr::from([10, 128, 0, n]), IpAddr::from([0xfd00, 0x128, 0, 0, 0, 0, 0, u16::from(n)]))
}

/// IPv4 and IPv6 address of a pod elsewhere.
pub(crate) fn remote_addresses(n: u8) -> (IpAddr, IpAddr) {
    (IpAddr::from([10, 128, 1, n]), IpAddr::from([0xfd00, 0x128, 1, 0, 0, 0, 0, u16::from(n)]))
}

/// The commands for a namespace at the end of one link.
fn leaf(addresses: &[(IpAddr, IpAddr)], gateway: &str) -> (Vec<String>, Vec<String>) {
    let mut v4 = vec!["link set eth0 up".to_owned()];
    v4.extend(addresses.iter().map(|(v4, _)| format!("address add {v4}/32 dev eth0")));
    v4.push(format!("route add {gateway}/32 dev eth0"));
    v4.push(format!("route add default via {gateway}"));
    let mut v6: Vec<String> =
        addresses.iter().map(|(_, v6)| format!("address add {v6}/128 dev eth0 nodad")).collect();
    v6.push("route add default via fe80::1 dev eth0".to_owned());
    (v4, v6)
}

fn serve_tcp(socket: &TcpListener, name: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if let Ok((mut stream, peer)) = socket.accept() {
            let _ = stream.write_all(format!("{name} {}", peer.ip()).as_bytes());
        }
    }
}

fn serve_udp(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut question = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((_, peer)) = socket.recv_from(&mut question) {
            let _ = socket.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer);
        }
    }
}

fn ask_tcp(to: SocketAddr, limit: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn ask_udp(socket: &UdpSocket, limit: Duration) -> io::Result<String> {
    socket.set_read_timeout(Some(limit))?;
    match socket.send(b"who?") {
        // What filters the sender's own packets tells it at once; whether it refused them too is still to come.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        sent => sent.map(|_| ())?,
    }
    let mut text = [0; 128];
    let length = socket.recv(&mut text)?;
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}

fn answer(result: io::Result<String>) -> Answer {
    match result {
        Ok(text) => {
            let (endpoint, source) =
                text.split_once(' ').unwrap_or_else(|| panic!("strange answer {text:?}"));
            Answer::Reply { endpoint: endpoint.to_owned(), seen_source: source.parse().unwrap() }
        }
        Err(error)
            if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset) =>
        {
            Answer::Refused
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
            Answer::NoAnswer
        }
        Err(error) => Answer::Unreachable(error.to_string()),
    }
}

const LIMIT: Duration = Duration::from_secs(3);

#[test]
fn the_rig_carries_packets_between_all_places() {
    let Some(rig) = Rig::new(&RigSpec::default()) else { return };
    let families =
        |(v4, v6): (IpAddr, IpAddr)| [Some(v4), rig.has_ipv6().then_some(v6)].into_iter().flatten();
    let mut wrong = Vec::new();
    for from in [At::Client, At::Node, At::Pod(1), At::Remote] {
        for (name, addresses) in
            [("pod1", pod_addresses(1)), ("pod2", pod_addresses(2)), ("remote1", remote_addresses(1))]
        {
            for address in families(addresses) {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let got = rig.ask(from, protocol, SocketAddr::new(address, 8080), LIMIT);
                    if got.endpoint() != Some(name) {
                        wrong.push(format!("{from:?} {protocol} {address}: {got:?}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_rig_tells_refusal_from_silence() {
    let Some(rig) = Rig::new(&RigSpec { pods: 1, remote_pods: 0, ..RigSpec::default() }) else { return };
    let short = Duration::from_millis(300);
    let pod = |port| SocketAddr::new(pod_addresses(1).0, port);
    let source = Answer::Reply { endpoint: "pod1".to_owned(), seen_source: [192, 168, 77, 100].into() };
    assert_eq!(rig.ask(At::Client, Protocol::Tcp, pod(8080), LIMIT), source);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        assert_eq!(rig.ask(At::Client, protocol, pod(81), LIMIT), Answer::Refused);
    }
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let nobody = "172.30.0.1:80".parse().unwrap();
        assert_eq!(rig.ask(At::Client, protocol, nobody, short), Answer::NoAnswer);
        assert_eq!(rig.ask(At::Node, protocol, nobody, short), Answer::NoAnswer);
    }
    rig.run_in(At::Node, &["ip", "route", "replace", "blackhole", "10.128.0.1/32"]);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        assert_eq!(rig.ask(At::Client, protocol, pod(8080), short), Answer::NoAnswer);
    }
    rig.serve(At::Node, "node", Protocol::Udp, "192.168.77.10:53".parse().unwrap());
    let flow = rig.udp_flow(At::Client, "192.168.77.10:53".parse().unwrap());
    assert_eq!(flow.ask(LIMIT).endpoint(), Some("node"));
    assert_eq!(flow.ask(LIMIT).endpoint(), Some("node"));
}
