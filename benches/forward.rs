//! The data path of userspace mode beside HAProxy in TCP mode: large transfers and new connections, in one network
//! namespace, on the same cores, by turns, and the ratios of the two.
//!
//! `cargo bench --bench forward` needs root, `ip` and `haproxy`; `-- 9` says how many rounds. Clients discard what they
//! get inside the kernel and endpoints send from a file in memory, so that what is measured is mostly the proxies.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark runs programs, takes the time and prints it"
)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create, sendfile};
use rustix::net::{RecvFlags, recv};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const BINARY: &str = env!("CARGO_BIN_EXE_svcproxy");
const ROUNDS: usize = 9;
/// How long each measurement lasts.
const TIME: Duration = Duration::from_secs(1);
/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections at once in large transfers.
const STREAMS: usize = 4;
/// Clients that connect, ask, read to the end and begin again.
const CLIENTS: usize = 16;
/// Threads that answer them.
const ANSWERERS: usize = 4;
/// Endpoints: those of large transfers, and those of new connections.
const BULK: [&str; 3] = ["127.0.1.1:7001", "127.0.1.2:7001", "127.0.1.3:7001"];
const SHORT: [&str; 3] = ["127.0.1.1:7002", "127.0.1.2:7002", "127.0.1.3:7002"];
const ADDRESS: &str = "127.0.0.1";
/// An address of the node that is not loopback.
const NODE: &str = "192.0.2.1";
/// Ports of HAProxy: copying, as it comes, and with splicing.
const HAPROXY: [(&str, u16, u16); 2] = [("haproxy", 8001, 8002), ("haproxy, splice-auto", 8003, 8004)];

fn main() {
    let rounds = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(ROUNDS);
    let name = format!("svcproxy-bench-{}", std::process::id());
    let ip = |words: &[&str]| Command::new("ip").args(words).stderr(Stdio::null()).status();
    let has_haproxy = Command::new("haproxy").arg("-v").stdout(Stdio::null()).status().is_ok();
    if !has_haproxy || !ip(&["netns", "add", &name]).is_ok_and(|status| status.success()) {
        println!("SKIPPED: needs root, ip and haproxy (Debian: apt-get install iproute2 haproxy)");
        return;
    }
    let namespace = File::open(format!("/run/netns/{name}")).unwrap();
    let folder = std::env::temp_dir().join(&name);
    fs::create_dir_all(&folder).unwrap();
    let measured = std::thread::spawn({
        let folder = folder.clone();
        move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            measure(&folder, rounds);
        }
    })
    .join();
    let _ = fs::remove_dir_all(&folder);
    ip(&["netns", "delete", &name]).unwrap();
    measured.unwrap();
}

/// A program that ends with the benchmark.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A way to the endpoints: its name, and its addresses for large transfers and for new connections.
struct Contender {
    name: &'static str,
    bulk: SocketAddr,
    short: SocketAddr,
}

fn measure(folder: &Path, rounds: usize) {
    // Without a way there nothing is sent that a rule could send elsewhere.
    for words in [
        "link set lo up".to_owned(),
        format!("address add {NODE}/32 dev lo"),
        format!("route add 10.96.0.0/16 dev lo src {NODE}"),
    ] {
        Command::new("ip").args(words.split(' ')).status().unwrap();
    }
    // Closed connections are forgotten before there are too many.
    let _ = fs::write("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1");
    serve_bulk();
    serve_short();
    let haproxy = Running(Command::new("haproxy").arg("-f").arg(haproxy_config(folder)).spawn().unwrap());
    let (svcproxy, bulk, short) = start_svcproxy(folder);
    let address = |port: u16| SocketAddr::new(ADDRESS.parse().unwrap(), port);
    let mut contenders = vec![Contender { name: "svcproxy", bulk: address(bulk), short: address(short) }];
    contenders.extend(HAPROXY.map(|(name, bulk, short)| Contender {
        name,
        bulk: address(bulk),
        short: address(short),
    }));
    contenders.push(Contender {
        name: "svcproxy, by its VIP",
        bulk: "10.96.0.1:80".parse().unwrap(),
        short: "10.96.0.2:80".parse().unwrap(),
    });
    contenders.push(Contender {
        name: "no proxy",
        bulk: BULK[0].parse().unwrap(),
        short: SHORT[0].parse().unwrap(),
    });
    for contender in &contenders {
        wait_for(contender.bulk);
        wait_for(contender.short);
    }
    let mut transfers = vec![Vec::new(); contenders.len()];
    let mut connections = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds {
        // By turns: what else the machine does meets all of them.
        for (nth, contender) in contenders.iter().enumerate() {
            transfers[nth].push(transfer(contender.bulk) * 8.0 / 1e9);
            connections[nth].push(connect(contender.short));
        }
    }
    drop((haproxy, svcproxy));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{rounds} rounds of {} s by turns, {cores} cores shared with clients and endpoints; medians",
        TIME.as_secs()
    );
    println!("{:<22} {:>16} {:>18}", "", "transfer", "new connections");
    for (nth, contender) in contenders.iter().enumerate() {
        let (transfer, connect) = (median(&transfers[nth]), median(&connections[nth]));
        println!("{:<22} {transfer:>9.2} Gbit/s {connect:>14.0} /s", contender.name);
    }
    for (nth, contender) in contenders.iter().enumerate().skip(1).take(HAPROXY.len()) {
        println!(
            "ratio to {:<22} {:>6.2} {:>21.2}",
            contender.name,
            ratio(&transfers, nth),
            ratio(&connections, nth),
        );
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How the first fares against another one: the median over the rounds, in each of which the machine was the same for both.
fn ratio(measured: &[Vec<f64>], nth: usize) -> f64 {
    let of_round: Vec<f64> =
        measured[0].iter().zip(&measured[nth]).map(|(ours, theirs)| ours / theirs).collect();
    median(&of_round)
}

fn wait_for(address: SocketAddr) {
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "nobody answers at {address}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn haproxy_config(folder: &Path) -> PathBuf {
    let mut text =
        "global\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  \
                    timeout server 60s\n"
            .to_owned();
    for (nth, (_, bulk, short)) in HAPROXY.iter().enumerate() {
        for (what, port, servers) in [("bulk", bulk, BULK), ("short", short, SHORT)] {
            text += &format!("listen {what}{nth}\n  bind {ADDRESS}:{port}\n");
            if nth > 0 {
                text += "  option splice-auto\n";
            }
            for (nth, server) in servers.iter().enumerate() {
                text += &format!("  server s{nth} {server}\n");
            }
        }
    }
    let path = folder.join("haproxy.cfg");
    fs::write(&path, text).unwrap();
    path
}

/// Starts it; the proxy ports of the two Services.
fn start_svcproxy(folder: &Path) -> (Running, u16, u16) {
    let mut manifest = String::new();
    for (name, vip, endpoints) in [("bulk", "10.96.0.1", BULK), ("short", "10.96.0.2", SHORT)] {
        manifest += &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: bench}}\nspec: {{clusterIP: {vip}, \
             ports: [{{port: 80}}]}}\n---\n"
        );
        for (nth, endpoint) in endpoints.iter().enumerate() {
            let (addr, port) = endpoint.split_once(':').unwrap();
            manifest += &format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-{nth}, namespace: bench, \
                 labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\nendpoints: [{{addresses: [{addr}]}}]\n\
                 ports: [{{port: {port}, name: ''}}]\n---\n"
            );
        }
    }
    fs::write(folder.join("bench.yaml"), manifest).unwrap();
    let socket = folder.join("svcproxy.sock");
    let mut running = Running(
        Command::new(BINARY)
            .args([
                "run",
                "--mode",
                "userspace",
                "--node",
                "bench",
                "--family",
                "ipv4",
                "--node-ip",
                NODE,
                "-f",
            ])
            .arg(folder.join("bench.yaml"))
            .arg("--socket")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let began = Instant::now();
    let ports = loop {
        let said = Command::new(BINARY)
            .args(["inspect", "listeners", "-o", "json", "--socket"])
            .arg(&socket)
            .output()
            .unwrap();
        if let Ok(status) = serde_json::from_slice::<serde_json::Value>(&said.stdout) {
            let listeners = status["listeners"].as_array().cloned().unwrap_or_default();
            let port = |label: &str| -> Option<u16> {
                let one = listeners.iter().find(|one| one["label"] == label)?;
                one["address"].as_str()?.rsplit_once(':')?.1.parse().ok()
            };
            if let (Some(bulk), Some(short)) = (port("bench/bulk"), port("bench/short")) {
                break (bulk, short);
            }
        }
        assert!(
            running.0.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(10),
            "it does not run"
        );
        std::thread::sleep(Duration::from_millis(20));
    };
    (running, ports.0, ports.1)
}

/// Endpoints that send for as long as somebody takes it.
fn serve_bulk() {
    let memory = Arc::new(memfd_create("bulk", MemfdFlags::CLOEXEC).unwrap());
    rustix::fs::ftruncate(&*memory, 64 << 20).unwrap();
    for address in BULK {
        let listener = TcpListener::bind(address).unwrap();
        let memory = Arc::clone(&memory);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let memory = Arc::clone(&memory);
                std::thread::spawn(move || {
                    let mut offset = 0;
                    while let Ok(sent) = sendfile(&stream, &*memory, Some(&mut offset), 1 << 20) {
                        if sent == 0 {
                            offset = 0;
                        }
                    }
                });
            }
        });
    }
}

/// Endpoints that answer one question with a few bytes and the end.
fn serve_short() {
    for address in SHORT {
        let listener = Arc::new(TcpListener::bind(address).unwrap());
        for _ in 0..ANSWERERS {
            let listener = Arc::clone(&listener);
            std::thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    let mut question = [0; 64];
                    if stream.read(&mut question).is_ok_and(|read| read > 0) {
                        let _ = stream.write_all(&[1; 256]);
                    }
                }
            });
        }
    }
}

/// Bytes a second.
fn transfer(from: SocketAddr) -> f64 {
    let (stop, bytes) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..STREAMS {
            scope.spawn(|| {
                let stream = TcpStream::connect(from).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut nothing = vec![0; 1 << 20];
                while !stop.load(Ordering::Relaxed) {
                    // TRUNC: the kernel throws away what has come, and only says how much.
                    let (_, n) = recv(&stream, &mut nothing[..], RecvFlags::TRUNC).unwrap();
                    assert!(n > 0, "the transfer through {from} broke off");
                    bytes.fetch_add(n as u64, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(TIME);
        stop.store(true, Ordering::Relaxed);
    });
    bytes.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}

/// Whole connections a second.
fn connect(to: SocketAddr) -> f64 {
    let (stop, connections) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut answer = Vec::with_capacity(512);
                while !stop.load(Ordering::Relaxed) {
                    let mut stream = TcpStream::connect(to).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.write_all(b"who?").unwrap();
                    answer.clear();
                    stream.read_to_end(&mut answer).unwrap();
                    assert_eq!(answer.len(), 256, "half an answer from {to}");
                    connections.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(TIME);
        stop.store(true, Ordering::Relaxed);
    });
    connections.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}
