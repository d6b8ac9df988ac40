//! `svcproxy run --mode userspace` with real sockets: the rules and the process on the small cluster, then what it does to
//! connections whose endpoints refuse, say nothing, come, go, end one direction, and to many at once.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use super::*;

/// How long something that must happen may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A running `svcproxy run`, killed when dropped.
pub(super) struct Running {
    child: Child,
    socket: String,
}

impl Running {
    /// Starts it in a namespace, and waits until it answers questions.
    pub(super) fn start(namespace: &Namespace, folder: &Folder, args: &[&str]) -> Running {
        let socket = folder.0.join("run.sock").to_str().unwrap().to_owned();
        let path = folder.0.join("run.err");
        let said = fs::File::options().create(true).append(true).open(path).unwrap();
        let child = namespace.inside(|| {
            Command::new(PROGRAM)
                .args(["run", "--socket", &socket])
                .args(args)
                .stdout(Stdio::null())
                .stderr(said)
                .spawn()
                .unwrap()
        });
        let mut running = Running { child, socket };
        // Another one may still answer there; and it tells before its rules are in.
        let process = running.child.id();
        running.wait_until(namespace, folder, |status| {
            status.process == process && !status.listeners.is_empty()
        });
        running
    }

    fn status(&self, namespace: &Namespace) -> Option<Status> {
        namespace.inside(|| LinuxHost::new().forward_status(Some(&self.socket))).ok()
    }

    /// Waits until what it tells is as it must become.
    pub(super) fn wait_until(
        &mut self,
        namespace: &Namespace,
        folder: &Folder,
        is_so: impl Fn(&Status) -> bool,
    ) -> Status {
        let began = Instant::now();
        loop {
            if let Some(status) = self.status(namespace).filter(&is_so) {
                return status;
            }
            let said = || fs::read_to_string(folder.0.join("run.err")).unwrap_or_default();
            if let Some(ended) = self.child.try_wait().unwrap() {
                panic!("it ended with {ended}: {}", said());
            }
            assert!(began.elapsed() < LIMIT, "{:#?}\n{}", self.status(namespace), said());
            std::thread::yield_now();
        }
    }

    /// Sends it a signal.
    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(done.unwrap().success());
    }

    /// Waits for its end.
    fn ended(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Service with endpoints on loopback addresses of one namespace, where the process runs and its clients are.
pub(crate) struct Bench {
    namespace: Namespace,
    folder: Folder,
    variant: XtablesVariant,
}

const VIP: &str = "10.96.0.1:80";
const UDP_VIP: &str = "10.96.0.1:53";

impl Bench {
    fn new() -> Option<Bench> {
        Bench::with(XtablesVariant::Nft)
    }

    pub(crate) fn with(variant: XtablesVariant) -> Option<Bench> {
        let namespace = Namespace::new("userspace")?;
        if !has_tools(variant) {
            return None;
        }
        namespace.run(&["ip", "address", "add", "192.0.2.1/32", "dev", "lo"]);
        namespace.run(&["ip", "route", "add", "10.96.0.0/16", "dev", "lo", "src", "192.0.2.1"]);
        // What is sent to the second is swallowed.
        namespace.run(&["ip", "route", "add", "blackhole", "198.51.100.0/24"]);
        Some(Bench { namespace, folder: Folder::new(), variant })
    }

    /// Writes the Service with these endpoints, as a whole.
    fn put(&self, endpoints: &[&str], more: &str) {
        let mut text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec:\n  clusterIP: 10.96.0.1\n  \
             ports: [{{name: t, port: 80, protocol: TCP}}, {{name: u, port: 53, protocol: UDP}}]\n{more}"
        );
        for (nth, endpoint) in endpoints.iter().enumerate() {
            let (addr, port) = endpoint.split_once(':').unwrap();
            text += &format!(
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-{nth}, namespace: shop, \
                 labels: {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\nendpoints: [{{addresses: [{addr}]}}]\n\
                 ports: [{{name: t, port: {port}, protocol: TCP}}, {{name: u, port: {port}, protocol: UDP}}]\n"
            );
        }
        self.folder.write("draft", &text);
        fs::rename(self.folder.0.join("draft"), self.folder.0.join("web.yaml")).unwrap();
    }

    fn run(&self, args: &[&str]) -> Running {
        let manifests = self.folder.0.join("web.yaml");
        let fixed = [
            "--mode",
            "userspace",
            "--iptables",
            self.variant.name(),
            "--node",
            "n",
            "--node-ip",
            "192.0.2.1",
            "--family",
            "ipv4",
            "-f",
        ];
        let all = [&fixed[..], &[manifests.to_str().unwrap()], args].concat();
        let mut running = Running::start(&self.namespace, &self.folder, &all);
        // The rules are in when the last jump to them is. A packet before that would make connection tracking remember a way
        // that leads nowhere.
        let began = Instant::now();
        while !self.dump().contains("-j KUBE-NODEPORT-CONTAINER") {
            assert!(began.elapsed() < LIMIT, "no rules");
            assert!(running.child.try_wait().unwrap().is_none());
        }
        running
    }

    fn dump(&self) -> String {
        dumps(&self.namespace, self.variant).v4
    }

    /// An endpoint that says its name to everybody and counts them, until it is dropped.
    fn serve(&self, address: &str) -> Endpoint {
        let listener = self.namespace.inside(|| TcpListener::bind(address)).unwrap();
        Endpoint::start(listener, address, |mut stream, name| {
            let _ = stream.write_all(name.as_bytes());
        })
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = self.namespace.inside(|| TcpStream::connect(VIP))?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(stream)
    }

    /// Who answers at the VIP; an error if nobody does.
    fn ask(&self) -> std::io::Result<String> {
        let mut text = String::new();
        self.connect()?.read_to_string(&mut text)?;
        if text.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(text) }
    }

    /// Has this many connections open at once, one more refused, and none when they are closed.
    pub(crate) fn hold_at_once(&self, n_connections: usize) {
        self.put(&[ALIVE], "");
        let listener = self.namespace.inside(|| TcpListener::bind(ALIVE)).unwrap();
        let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
        let server = std::thread::spawn({
            let kept = Arc::clone(&kept);
            move || {
                for _ in 0..n_connections {
                    kept.lock().unwrap().push(listener.accept().unwrap().0);
                }
            }
        });
        let most = n_connections.to_string();
        let mut running = self.run(&["--max-connections", &most]);
        let mut clients: Vec<TcpStream> = self.namespace.inside(|| {
            (0..n_connections)
                .map(|nth| TcpStream::connect(VIP).unwrap_or_else(|error| panic!("{nth}: {error}")))
                .collect()
        });
        server.join().unwrap();
        let all = n_connections as u64;
        let status = running.wait_until(&self.namespace, &self.folder, |status| status.current == all);
        assert_eq!((status.max, status.turned_away), (all, 0));
        // One more is refused, at once and clearly.
        let refused = self.connect().and_then(|mut stream| stream.read(&mut [0]));
        assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        let mut served = std::mem::take(&mut *kept.lock().unwrap());
        for stream in &mut served {
            stream.write_all(b"x").unwrap();
        }
        for client in &mut clients {
            client.set_read_timeout(Some(LIMIT)).unwrap();
            client.read_exact(&mut [0]).unwrap();
        }
        drop((clients, served));
        let status = running.wait_until(&self.namespace, &self.folder, |status| status.current == 0);
        assert_eq!(status.turned_away, 1);
        let open = fs::read_dir(format!("/proc/{}/fd", running.child.id())).unwrap().count();
        assert!(open < 100, "{open} descriptors are still open");
    }
}

/// A TCP server whose connections each have a thread.
struct Endpoint {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    n_accepted: Arc<AtomicUsize>,
}

impl Endpoint {
    fn start(
        listener: TcpListener,
        name: &str,
        work: impl Fn(TcpStream, &str) + Send + Sync + 'static,
    ) -> Endpoint {
        let (stop, n_accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = std::thread::spawn({
            let (stop, n_accepted, name) = (Arc::clone(&stop), Arc::clone(&n_accepted), name.to_owned());
            let work = Arc::new(work);
            rustix::net::sockopt::set_socket_timeout(
                &listener,
                rustix::net::sockopt::Timeout::Recv,
                Some(Duration::from_millis(50)),
            )
            .unwrap();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let Ok((stream, _)) = listener.accept() else { continue };
                    // It is not that of the listener.
                    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
                    n_accepted.fetch_add(1, Ordering::Relaxed);
                    let (work, name) = (Arc::clone(&work), name.clone());
                    std::thread::spawn(move || work(stream, &name));
                }
            }
        });
        Endpoint { stop, thread: Some(thread), n_accepted }
    }

    fn n_accepted(&self) -> usize {
        self.n_accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

const DEAD: &str = "127.0.1.2:7000";
const BLACK_HOLE: &str = "198.51.100.3:7000";
const ALIVE: &str = "127.0.1.1:7000";
const OTHER: &str = "127.0.1.4:7000";

#[test]
fn a_thousand_of_a_thousand_reach_the_endpoint_that_answers() {
    let Some(bench) = Bench::new() else { return };
    // The route that swallows: connections get no answer at all.
    bench.namespace.run(&["ip", "route", "replace", "198.51.100.0/24", "dev", "lo", "src", "192.0.2.1"]);
    bench.namespace.run(&["iptables-nft", "-A", "INPUT", "-d", "198.51.100.0/24", "-j", "DROP"]);
    bench.put(&[ALIVE, DEAD, BLACK_HOLE], "");
    let alive = bench.serve(ALIVE);
    let mut running = bench.run(&[]);
    let reached = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                for _ in 0..50 {
                    match bench.ask() {
                        Ok(name) if name == ALIVE => reached.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other:?}"),
                    };
                }
            });
        }
    });
    assert_eq!(reached.load(Ordering::Relaxed), 1000);
    assert_eq!(alive.n_accepted(), 1000);
    let status = running.wait_until(&bench.namespace, &bench.folder, |status| status.current == 0);
    let tcp = status.listeners.iter().find(|one| one.protocol == "tcp").unwrap();
    assert_eq!((tcp.total, tcp.failures), (1000, 0));
    for endpoint in &tcp.endpoints {
        assert_eq!(endpoint.failures > 0, endpoint.address != ALIVE, "{endpoint:?}");
    }
}

#[test]
fn all_endpoints_dead_but_one_and_one_that_dies_and_comes_back() {
    let Some(bench) = Bench::new() else { return };
    let dead: Vec<String> = (2..=9).map(|n| format!("127.0.1.{n}:7000")).collect();
    let all: Vec<&str> = [ALIVE].into_iter().chain(dead.iter().map(String::as_str)).collect();
    bench.put(&all, "");
    let _alive = bench.serve(ALIVE);
    let _running = bench.run(&[]);
    for nth in 0..50 {
        assert_eq!(bench.ask().unwrap(), ALIVE, "connection {nth}");
    }
    // Under load an endpoint comes and dies.
    let (stop, bench) = (&AtomicBool::new(false), &bench);
    std::thread::scope(|scope| {
        let load: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    let (mut met, mut n_cut) = (BTreeSet::new(), 0);
                    while !stop.load(Ordering::Relaxed) {
                        match bench.ask() {
                            Ok(name) => drop(met.insert(name)),
                            Err(_) => n_cut += 1,
                        }
                    }
                    (met, n_cut)
                })
            })
            .collect();
        let other = bench.serve(OTHER);
        let began = Instant::now();
        while other.n_accepted() < 20 {
            assert!(began.elapsed() < Duration::from_secs(60), "it is never tried again");
            std::thread::yield_now();
        }
        drop(other);
        for _ in 0..50 {
            assert_eq!(bench.ask().unwrap(), ALIVE);
        }
        stop.store(true, Ordering::Relaxed);
        for (met, n_cut) in load.into_iter().map(|one| one.join().unwrap()) {
            assert!(met.contains(ALIVE));
            // Only the one that the endpoint had when it died.
            assert!(n_cut <= 1, "{n_cut}");
        }
    });
}

#[test]
fn each_direction_ends_by_itself() {
    let Some(bench) = Bench::new() else { return };
    bench.put(&[ALIVE], "");
    // Says something, ends its direction, and then tells how much it still got.
    let listener = bench.namespace.inside(|| TcpListener::bind(ALIVE)).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let _endpoint = Endpoint::start(listener, ALIVE, move |mut stream, _| {
        let mut first = [0; 5];
        stream.read_exact(&mut first).unwrap();
        stream.write_all(b"hello").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        tell.send(rest.len()).unwrap();
    });
    let mut running = bench.run(&[]);
    // The endpoint ends first, the client goes on with much more than any buffer holds.
    let mut client = bench.connect().unwrap();
    client.write_all(b"hello").unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"hello");
    let much = vec![7; 8 << 20];
    client.write_all(&much).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(told.recv_timeout(LIMIT).unwrap(), much.len());
    // The client ends first, and still gets everything.
    drop(_endpoint);
    let listener = bench.namespace.inside(|| TcpListener::bind(ALIVE)).unwrap();
    let _endpoint = Endpoint::start(listener, ALIVE, |mut stream, _| {
        let mut question = Vec::new();
        stream.read_to_end(&mut question).unwrap();
        stream.write_all(&question.repeat(2)).unwrap();
    });
    let mut client = bench.connect().unwrap();
    let text: Vec<u8> = (0..3_000_001_u32).map(|n| (n % 251) as u8).collect();
    client.write_all(&text).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(answer == text.repeat(2), "{} of {} bytes came back as they were", answer.len(), 2 * text.len());
    drop(client);
    let status = running.wait_until(&bench.namespace, &bench.folder, |status| status.current == 0);
    let tcp = status.listeners.iter().find(|one| one.protocol == "tcp").unwrap();
    assert_eq!(tcp.bytes_to, 5 + (8 << 20) + 3_000_001);
    assert_eq!(tcp.bytes_from, 5 + 2 * 3_000_001);
}

#[test]
fn what_a_client_says_at_once_arrives_once_whichever_endpoint_is_found() {
    let Some(bench) = Bench::new() else { return };
    bench.put(&[DEAD, ALIVE], "");
    let listener = bench.namespace.inside(|| TcpListener::bind(ALIVE)).unwrap();
    let _endpoint = Endpoint::start(listener, ALIVE, |mut stream, _| {
        let mut question = Vec::new();
        stream.read_to_end(&mut question).unwrap();
        stream.write_all(&question).unwrap();
    });
    let mut running = bench.run(&[]);
    let mut n_bytes = 0;
    for length in (0..40).map(|nth| nth * 300) {
        let question: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let mut client = bench.connect().unwrap();
        client.write_all(&question).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert!(answer == question, "{} of {length} bytes came back as they were", answer.len());
        n_bytes += length as u64;
    }
    let status = running.wait_until(&bench.namespace, &bench.folder, |status| status.current == 0);
    let tcp = status.listeners.iter().find(|one| one.protocol == "tcp").unwrap();
    assert_eq!((tcp.total, tcp.bytes_to, tcp.bytes_from), (40, n_bytes, n_bytes));
}

#[test]
fn endpoints_and_services_come_and_go_while_connections_stay() {
    let Some(bench) = Bench::new() else { return };
    bench.put(&[ALIVE], "");
    let echo = |address: &str| {
        let listener = bench.namespace.inside(|| TcpListener::bind(address)).unwrap();
        Endpoint::start(listener, address, |mut stream, name| {
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() && stream.write_all(name.as_bytes()).is_ok() {}
        })
    };
    let _endpoints = [echo(ALIVE), echo(OTHER)];
    let mut running = bench.run(&[]);
    let ask = |stream: &mut TcpStream| {
        stream.write_all(b"?").unwrap();
        let mut name = [0; ALIVE.len()];
        stream.read_exact(&mut name).unwrap();
        String::from_utf8(name.to_vec()).unwrap()
    };
    let mut old = bench.connect().unwrap();
    assert_eq!(ask(&mut old), ALIVE);
    let ports = running.status(&bench.namespace).unwrap().listeners;
    bench.put(&[OTHER], "");
    let has = |status: &Status, address: &str, leaving: bool| {
        status.listeners.iter().any(|one| {
            one.endpoints.iter().any(|endpoint| endpoint.address == address && endpoint.leaving == leaving)
        })
    };
    let status = running.wait_until(&bench.namespace, &bench.folder, |status| has(status, OTHER, false));
    assert!(has(&status, ALIVE, true), "{status:#?}");
    assert_eq!(ask(&mut bench.connect().unwrap()), OTHER);
    assert_eq!(ask(&mut old), ALIVE);
    // What is broken changes nothing.
    bench.folder.write("web.yaml", "kind: {");
    let said = || fs::read_to_string(bench.folder.0.join("run.err")).unwrap();
    let began = Instant::now();
    while !said().contains("what was there before goes on") {
        assert!(began.elapsed() < LIMIT, "{}", said());
    }
    assert_eq!(ask(&mut bench.connect().unwrap()), OTHER);
    // The Service goes; its connections stay. Another has come, so that there is something left.
    let other = "apiVersion: v1\nkind: Service\nmetadata: {name: b, namespace: shop}\n\
                 spec: {clusterIP: 10.96.0.2, ports: [{port: 80}]}\n";
    bench.folder.write("web.yaml", other);
    running.wait_until(&bench.namespace, &bench.folder, |status| {
        status.listeners.len() == 1 && status.listeners[0].label == "shop/b"
    });
    let began = Instant::now();
    while bench.dump().contains("shop/web") {
        assert!(began.elapsed() < LIMIT);
    }
    assert_eq!(ask(&mut old), ALIVE);
    let old_port: SocketAddr = ports[0].address.parse().unwrap();
    let to_port = SocketAddr::new("192.0.2.1".parse().unwrap(), old_port.port());
    assert!(bench.namespace.inside(|| TcpStream::connect(to_port)).is_err(), "its listener is closed");
    // And it comes again, on the ports that its name has.
    bench.put(&[OTHER], "");
    let status = running.wait_until(&bench.namespace, &bench.folder, |status| has(status, OTHER, false));
    assert_eq!(status.listeners[0].address, ports[0].address);
}

#[test]
fn ten_thousand_connections_are_open_at_once() {
    let Some(bench) = Bench::new() else { return };
    // Two descriptors a connection for the process, one for the client and one for the endpoint here. Where the limit is too
    // low, the kernel of our own has all ten thousand.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let room = limit.maximum.map_or(10_000, |max| usize::try_from(max).unwrap().saturating_sub(1500) / 2);
    let n_connections = room.min(10_000);
    if n_connections < 10_000 {
        eprintln!("the limit of file descriptors lets {n_connections} connections be tried instead of 10000");
    }
    bench.hold_at_once(n_connections);
}

#[test]
fn clients_keep_their_endpoint_and_datagrams_find_theirs() {
    let Some(bench) = Bench::new() else { return };
    bench.put(&[ALIVE, OTHER, DEAD], "  sessionAffinity: ClientIP\n");
    let _endpoints = [bench.serve(ALIVE), bench.serve(OTHER)];
    let mut udp = Vec::new();
    for address in [ALIVE, OTHER] {
        let socket = bench.namespace.inside(|| std::net::UdpSocket::bind(address)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        udp.push(std::thread::spawn(move || {
            let mut question = vec![0; 65_536];
            while let Ok((n, from)) = socket.recv_from(&mut question) {
                if n == 4 && &question[..4] == b"end!" {
                    return;
                }
                let _ = socket.send_to(&question[..n], from);
            }
        }));
    }
    let _running = bench.run(&["--udp-timeout", "5000"]);
    let first = bench.ask().unwrap();
    for _ in 0..20 {
        assert_eq!(bench.ask().unwrap(), first, "with affinity");
    }
    // The one that has nobody refuses; nothing is lost but time. Long datagrams and empty ones come through whole.
    for nth in 0..30_usize {
        let client = bench.namespace.inside(|| std::net::UdpSocket::bind("192.0.2.1:0")).unwrap();
        client.connect(UDP_VIP).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        for length in [nth, 60_000, 0, 5_000] {
            let question: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            client.send(&question).unwrap();
            let mut answer = vec![0; 65_536];
            let n = client.recv(&mut answer).unwrap_or_else(|error| panic!("{nth}, {length}: {error}"));
            assert!(answer[..n] == question, "{length} bytes");
        }
    }
    for (address, server) in [ALIVE, OTHER].into_iter().zip(udp) {
        let ender = bench.namespace.inside(|| std::net::UdpSocket::bind("127.0.0.1:0")).unwrap();
        ender.send_to(b"end!", address).unwrap();
        server.join().unwrap();
    }
}

#[test]
fn on_sigterm_connections_go_on_until_the_time_is_over() {
    let Some(bench) = Bench::new() else { return };
    bench.put(&[ALIVE], "");
    let listener = bench.namespace.inside(|| TcpListener::bind(ALIVE)).unwrap();
    let _echo = Endpoint::start(listener, ALIVE, |mut stream, _| {
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
    });
    let echo = |stream: &mut TcpStream| stream.write_all(b"x").and_then(|()| stream.read_exact(&mut [0]));
    let mut running = bench.run(&["--drain", "120"]);
    let mut client = bench.connect().unwrap();
    echo(&mut client).unwrap();
    let rules = bench.dump();
    running.signal("TERM");
    running.wait_until(&bench.namespace, &bench.folder, |status| status.draining);
    let began = Instant::now();
    while bench.connect().is_ok() {
        assert!(began.elapsed() < LIMIT, "it still takes new ones");
    }
    echo(&mut client).unwrap();
    drop(client);
    assert_eq!(running.ended(), Some(0));
    assert_eq!(
        lines(&PerFamily { v4: rules, v6: String::new() }),
        lines(&PerFamily { v4: bench.dump(), v6: String::new() })
    );
    // A second time with the same rules: there is nothing to change. While it ends a third takes its place.
    let mut old = bench.run(&["--drain", "120"]);
    let mut of_old = bench.connect().unwrap();
    echo(&mut of_old).unwrap();
    old.signal("TERM");
    old.wait_until(&bench.namespace, &bench.folder, |status| status.draining);
    let mut running = bench.run(&["--drain", "1"]);
    let mut client = bench.connect().unwrap();
    echo(&mut client).unwrap();
    echo(&mut of_old).unwrap();
    drop(of_old);
    assert_eq!(old.ended(), Some(0));
    // Its time is short, and who stays is cut.
    running.signal("TERM");
    assert_eq!(running.ended(), Some(0));
    assert!(echo(&mut client).is_err());
}

#[test]
fn churn_leaves_memory_and_descriptors_where_they_were() {
    let Some(bench) = Bench::new() else { return };
    bench.put(&[ALIVE, DEAD], "");
    let _endpoints = [bench.serve(ALIVE), bench.serve(OTHER)];
    let mut running = bench.run(&[]);
    let process = running.child.id();
    let held = || {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kilobytes: usize = line.split_whitespace().next().unwrap().parse().unwrap();
        (kilobytes, fs::read_dir(format!("/proc/{process}/fd")).unwrap().count())
    };
    // CI has seconds; `SVCPROXY_CHURN_SECONDS=600` is the long one.
    let seconds =
        std::env::var("SVCPROXY_CHURN_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let churn = |limit: Duration, running: &mut Running| {
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while began.elapsed() < limit {
                        bench.ask().unwrap();
                    }
                });
            }
            let mut odd = false;
            while began.elapsed() < limit {
                odd = !odd;
                let kept = if odd { OTHER } else { ALIVE };
                bench.put(&[kept, DEAD], "");
                running.wait_until(&bench.namespace, &bench.folder, |status| {
                    let mut endpoints = status.listeners.iter().flat_map(|one| &one.endpoints);
                    endpoints.any(|one| one.address == kept && !one.leaving)
                });
            }
        });
        running.wait_until(&bench.namespace, &bench.folder, |status| status.current == 0);
        held()
    };
    // What is filled once and kept is there after the first part.
    let (memory, descriptors) = churn(Duration::from_secs(seconds).div_f64(3.0), &mut running);
    let (memory_after, descriptors_after) =
        churn(Duration::from_secs(seconds).mul_f64(2.0 / 3.0), &mut running);
    eprintln!(
        "churn of {seconds} s: {memory} kB and {descriptors} descriptors after a third of it, {memory_after} kB and \
         {descriptors_after} at its end"
    );
    assert!(descriptors_after <= descriptors + 8, "{descriptors} descriptors became {descriptors_after}");
    assert!(memory_after <= memory + 8192, "{memory} kB became {memory_after} kB");
}

#[test]
fn real_packets_reach_what_is_written() {
    if !has_tools(XtablesVariant::Nft) {
        return;
    }
    let Some(rig) = Rig::new(&RigSpec { pods: 3, remote_pods: 2, ports: vec![8080] }) else { return };
    for n in 1..=2 {
        let (v4, _) = pod_addresses(n);
        rig.serve(At::Pod(n), &format!("pod{n}:9090"), Protocol::Tcp, SocketAddr::new(v4, 9090));
    }
    rig.node_ns().set(&[("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")]);
    let node = rig.node_ns();
    Way::Userspace.put_others(node);
    let before = Way::Userspace.others(node);
    let (folder, manifests) = (Folder::new(), Folder::new());
    let first = testdata("cluster.yaml");
    let config = manifests.write("config.yaml", &format!("{}mode: userspace\n", testdata("config.yaml")));
    let cluster = manifests.write("cluster.yaml", &first);
    let input = ["-f", cluster.as_str(), "--config", config.as_str(), "--iptables", "nft"];
    let mut running = Running::start(node, &folder, &input);
    let settled = |running: &mut Running| {
        let began = Instant::now();
        while svcproxy(node, &[&["diff"], &input[..]].concat()).status != Some(0) {
            assert!(began.elapsed() < LIMIT, "the rules do not become as wanted");
            assert!(running.child.try_wait().unwrap().is_none());
        }
    };
    settled(&mut running);
    Table::new(&rig, Way::Userspace, &first, "flows.txt").check();

    let second = changed(&first);
    manifests.write("draft", &second);
    fs::rename(manifests.0.join("draft"), &cluster).unwrap();
    running.wait_until(node, &folder, |status| {
        status.listeners.iter().all(|one| !one.label.starts_with("shop/gone"))
    });
    settled(&mut running);
    Table::new(&rig, Way::Userspace, &second, "flows-after.txt").check();

    running.signal("TERM");
    assert_eq!(running.ended(), Some(0));
    assert!(must(node, &["cleanup"]).contains("taken"));
    assert_eq!(Way::Userspace.others(node), before);
}
