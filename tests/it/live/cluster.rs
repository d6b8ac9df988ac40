//! `svcproxy run` with an API server and a real kernel: after each quiet moment of a churn with every trouble that a server can
//! make, the rules are those that the server's objects compile to. Also when it starts over after a kill, when the server is
//! gone, and when somebody flushes the rules.

use std::io::{Read, Write};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use super::*;
use crate::api_server::{ApiServer, Habits, node, service, slice, until};

/// How many events there are between two quiet moments.
const EVENTS: u32 = 60;

/// A server, a node, and a process that keeps the node in step.
struct Bench {
    namespace: Namespace,
    folder: Folder,
    server: ApiServer,
    process: Option<Child>,
    /// One that was started before it, and has not ended.
    other: Option<Child>,
    /// How many were started: each has its own log.
    started: u32,
    /// The state of the random numbers.
    seed: u64,
}

impl Bench {
    fn new(way: Way, habits: Habits) -> Option<Bench> {
        let namespace = Namespace::new("cluster")?;
        if !way.works() {
            return None;
        }
        let listener = namespace.inside(|| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let (folder, server) = (Folder::new(), ApiServer::on(listener, habits));
        server.put("nodes", node());
        let mode = way.mode();
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": mode,
            // So long that only a look at the landmarks can tell in time that rules were flushed.
            mode: {"syncPeriod": "1h", "minSyncPeriod": "20ms"},
        });
        folder.write("config.json", &config.to_string());
        Some(Bench { namespace, folder, server, process: None, other: None, started: 0, seed: 7 })
    }

    fn path(&self, name: &str) -> String {
        self.folder.0.join(name).to_str().unwrap().to_owned()
    }

    /// Starts a process. Another one that runs already goes on, beside it.
    fn start(&mut self) {
        self.other = self.process.take();
        self.started += 1;
        let (config, url) = (self.path("config.json"), self.server.url());
        let said = fs::File::create(self.log_path()).unwrap();
        let errors = said.try_clone().unwrap();
        let child = self.namespace.inside(|| {
            Command::new(PROGRAM)
                .args([
                    "run",
                    "--master",
                    &url,
                    "--hostname-override",
                    "node-1",
                    "--config",
                    &config,
                    "--family",
                    "ipv4",
                ])
                .args(["--iptables", "nft", "--log-format", "json"])
                .stdout(said)
                .stderr(errors)
                .stdin(Stdio::null())
                .spawn()
                .unwrap()
        });
        self.process = Some(child);
    }

    fn log_path(&self) -> String {
        self.path(&format!("run-{}.log", self.started))
    }

    /// What the process that was started last has said.
    fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Waits until that process has said this.
    fn says(&self, what: &str) {
        until(|| if self.log().contains(what) { Ok(()) } else { Err(self.log()) });
    }

    /// Waits until the rules are those that the server's objects compile to.
    fn is_in_step(&mut self) {
        let mut all = Vec::new();
        for (collection, kind, version) in [
            ("services", "Service", "v1"),
            ("endpointslices", "EndpointSlice", "discovery.k8s.io/v1"),
            ("nodes", "Node", "v1"),
        ] {
            for mut object in self.server.objects(collection) {
                (object["kind"], object["apiVersion"]) = (kind.into(), version.into());
                all.push(object.to_string());
            }
        }
        self.folder.write("all.json", &all.join("\n"));
        let (all, config) = (self.path("all.json"), self.path("config.json"));
        let args = [
            "diff",
            "-f",
            &all,
            "--node",
            "node-1",
            "--config",
            &config,
            "--family",
            "ipv4",
            "--iptables",
            "nft",
        ];
        until(|| {
            let ended = self.process.as_mut().map(|child| child.try_wait().unwrap());
            assert_eq!(ended, Some(None), "{}", self.log());
            let said = svcproxy(&self.namespace, &args);
            if said.status == Some(0) {
                Ok(())
            } else {
                Err(format!("{}{}\n{}", said.stdout, said.stderr, self.log()))
            }
        });
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    /// Something happens: mostly to a slice, now and then to a Service or the connection.
    fn event(&mut self) {
        let which = self.random(8);
        let name = format!("s{which}");
        match self.random(20) {
            0 => self.server.cut(),
            1 => self.server.delete("services", &format!("shop/{name}")),
            2 => self.server.delete("endpointslices", &format!("shop/{name}-0")),
            3 => self.server.forget(),
            4..=7 => {
                let mut object = service(&name, &format!("10.96.0.{}", which + 1));
                if self.random(2) == 0 {
                    object["spec"]["sessionAffinity"] = "ClientIP".into();
                }
                self.server.put("services", object);
            }
            _ => {
                let part = self.random(2);
                let n = self.random(5);
                let addresses = (0..n).map(|_| format!("10.128.1.{}", 1 + self.random(40))).collect();
                self.server.put("endpointslices", slice(&format!("{name}-{part}"), &name, &addresses));
            }
        }
    }

    /// What the process answers on loopback.
    fn ask(&self, port: u16, path: &str) -> String {
        self.namespace.inside(|| {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        })
    }

    fn kill(&mut self) {
        let mut child = self.process.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for child in [&mut self.process, &mut self.other].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Goes through all of it in one mode.
fn stays_in_step(way: Way, habits: Habits, flush: &[&str]) {
    let Some(mut bench) = Bench::new(way, habits) else { return };
    (0..EVENTS).for_each(|_| bench.event());
    bench.server.put("services", service("s0", "10.96.0.1"));
    bench.start();
    bench.is_in_step();
    for _ in 0..3 {
        (0..EVENTS).for_each(|_| bench.event());
        bench.is_in_step();
    }
    let (health, metrics) = (bench.ask(10256, "/healthz"), bench.ask(10249, "/metrics"));
    assert!(health.starts_with("HTTP/1.1 200 OK") && health.contains("\"nodeEligible\":true"), "{health}");
    assert!(metrics.contains("kubeproxy_sync_proxy_rules_duration_seconds_bucket{"), "{metrics}");
    // Somebody flushes the rules; then so, while the server is gone.
    bench.namespace.run(flush);
    bench.is_in_step();
    bench.server.set_down(true);
    bench.says("does not tell");
    bench.namespace.run(flush);
    bench.is_in_step();
    (0..EVENTS).for_each(|_| bench.event());
    bench.server.set_down(false);
    bench.is_in_step();
    // Killed at any moment and started again, it goes on.
    (0..EVENTS).for_each(|_| bench.event());
    bench.kill();
    (0..EVENTS).for_each(|_| bench.event());
    bench.start();
    bench.is_in_step();
    let mut child = bench.process.take().unwrap();
    let ended = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(ended.success());
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", bench.log());
    let last: Value = serde_json::from_str(bench.log().lines().last().unwrap()).unwrap();
    assert_eq!(last["message"], "ended; the rules stay");
}

#[test]
fn nftables_mode_stays_in_step_with_a_cluster() {
    stays_in_step(
        Way::Nftables,
        Habits { twice: true, piece: Some(100), ..Habits::default() },
        &["nft", "delete", "table", "ip", "kube-proxy"],
    );
}

#[test]
fn iptables_mode_stays_in_step_with_a_cluster() {
    let habits = Habits { no_streaming_lists: true, ..Habits::default() };
    stays_in_step(Way::Iptables(XtablesVariant::Nft), habits, &["iptables-nft", "-t", "nat", "-F"]);
}

/// How often all rules have been compared, and how often a part of them.
fn n_syncs(bench: &Bench) -> [u64; 2] {
    let metrics = bench.ask(10249, "/metrics");
    ["full", "partial"].map(|extent| {
        let name =
            format!("kubeproxy_sync_{extent}_proxy_rules_duration_seconds_count{{ip_family=\"IPv4\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
    })
}

#[test]
fn what_somebody_changes_in_nftables_is_found_and_nothing_is_read_otherwise() {
    let Some(mut bench) = Bench::new(Way::Nftables, Habits::default()) else { return };
    let config = fs::read_to_string(bench.path("config.json")).unwrap();
    bench.folder.write("config.json", &config.replace("1h", "200ms"));
    bench.server.put("services", service("s0", "10.96.0.1"));
    bench.server.put("endpointslices", slice("s0-0", "s0", &["10.128.1.1".to_owned()].into()));
    bench.start();
    bench.is_in_step();
    // The first time the table was made; the second time nothing was, and nobody else has done anything since.
    let wait_for = |bench: &Bench, n: [u64; 2]| {
        until(|| {
            let syncs = n_syncs(bench);
            if syncs[0] >= n[0] && syncs[1] >= n[1] { Ok(()) } else { Err(format!("{syncs:?}")) }
        });
    };
    let [_, before] = n_syncs(&bench);
    wait_for(&bench, [1, before + 4]);
    let [n_full, n_partial] = n_syncs(&bench);
    wait_for(&bench, [n_full, n_partial + 10]);
    assert_eq!(n_syncs(&bench)[0], n_full, "{}", bench.log());
    // No landmark: the landmarks are rules of base chains.
    bench.namespace.run(&["nft", "flush", "map", "ip", "kube-proxy", "service-ips"]);
    bench.is_in_step();
    assert!(n_syncs(&bench)[0] > n_full);
}

#[test]
fn two_at_once_do_not_undo_each_other() {
    let Some(mut bench) = Bench::new(Way::Nftables, Habits::default()) else { return };
    (0..EVENTS).for_each(|_| bench.event());
    bench.start();
    bench.says("is in step");
    bench.start();
    bench.says("is in step");
    bench.is_in_step();
    assert!(bench.log().contains("it is tried again"), "the first has the ports: {}", bench.log());
    for _ in 0..2 {
        (0..EVENTS).for_each(|_| bench.event());
        bench.is_in_step();
    }
    // The one that stays takes the ports, once it has something to do.
    let mut first = bench.other.take().unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    (0..EVENTS).for_each(|_| bench.event());
    bench.is_in_step();
    let namespace = &bench.namespace;
    let is_served = || namespace.inside(|| std::net::TcpStream::connect(("127.0.0.1", 10256)).is_ok());
    until(|| if is_served() { Ok(()) } else { Err(bench.log()) });
}
