//! Whole processes on large clusters: wall time and peak memory of `svcproxy compile`, and as root, in a network namespace
//! of its own, of `iptables-save` beside `svcproxy diff` and `svcproxy verify`, of a one-endpoint `apply`, and in nftables mode
//! of `nft -f` with the compiled document beside a first `svcproxy apply`, taking turns, and of both ways to reach nftables.
//! `layouts` has both layouts side by side.
//!
//! `cargo bench --bench process` runs 1,000 to 30,000 Services; `cargo bench --bench process -- 10000` one size (as words
//! before it `iptables`, `nftables` or `layouts`: that alone); `-- layouts 10000 44000x2` says how many endpoints, too
//! (after it `--only nftables`, `legacy` or `nft`, and `--no-baseline`: the fast layout alone);
//! `cargo bench --bench process -- --write DIR 10000` only writes the cluster, to measure by other means.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark runs programs, takes the time and prints it"
)]

#[path = "../tests/it/api_server.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod api_server;
mod cluster;
#[path = "../tests/it/http.rs"]
mod http;
mod layouts;
#[path = "../tests/it/replay.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod replay;

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cluster::Size;
use rustix::process::{Pid, Signal};

const RUNS: usize = 5;
const BINARY: &str = env!("CARGO_BIN_EXE_svcproxy");

fn main() {
    // `cargo bench` adds --bench.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some(at) = arguments.iter().position(|argument| argument == layouts::CONNECT) {
        return layouts::connect(&arguments[at + 1..]);
    }
    if let Some(at) = arguments.iter().position(|argument| argument == layouts::RUN) {
        return layouts::keep_in_step(&arguments[at + 1..]);
    }
    let write_only = arguments.iter().position(|argument| argument == "--write");
    let folder = match write_only {
        Some(at) => PathBuf::from(arguments.get(at + 1).expect("--write DIR")),
        None => std::env::temp_dir().join(format!("svcproxy-bench-{}", std::process::id())),
    };
    let given: Vec<(usize, usize)> = arguments.iter().filter_map(|argument| size(argument)).collect();
    let sizes = if given.is_empty() { vec![(1_000, 10), (10_000, 10), (30_000, 10)] } else { given };
    let parts = ["iptables", "nftables", "ipvs", "layouts"];
    // What `--only` says is no part.
    let only = arguments.iter().position(|argument| argument == "--only");
    let words = || arguments.iter().enumerate().filter(|(at, _)| only.is_none_or(|only| *at != only + 1));
    let given_parts = words().any(|(_, argument)| parts.contains(&argument.as_str()));
    fs::create_dir_all(&folder).unwrap();
    for (services, endpoints) in sizes {
        let write = |moved: bool, name: &str| {
            let path = folder.join(format!("{name}-{services}x{endpoints}.json"));
            fs::write(&path, cluster::list(Size { services, endpoints, moved })).unwrap();
            path
        };
        let (before, after) = (write(false, "cluster"), write(true, "moved"));
        if write_only.is_none() {
            let wanted = |part: &str| !given_parts || words().any(|(_, argument)| argument == part);
            if wanted("iptables") {
                measure(services, &before, &after);
            }
            // Needs a kernel with IPVS: `tests/uml-run -m 3G -t 3000 -- PROGRAM ipvs 5000`, PROGRAM being what
            // `cargo bench --no-run --bench process` names.
            if arguments.iter().any(|argument| argument == "ipvs") {
                measure_ipvs(services, &before, &after, &folder);
            }
            if wanted("nftables") {
                measure_nftables(services, &before, &after, &folder);
            }
            if wanted("layouts") {
                layouts::measure(services, &before, &after);
            }
        }
    }
    if write_only.is_none() {
        fs::remove_dir_all(&folder).unwrap();
    }
}

/// `10000`, or `44000x2`: Services, and endpoints of each.
fn size(argument: &str) -> Option<(usize, usize)> {
    let (services, endpoints) = argument.split_once('x').unwrap_or((argument, "10"));
    Some((services.parse().ok()?, endpoints.parse().ok()?))
}

fn measure(services: usize, before: &Path, after: &Path) {
    let compile = [BINARY, "compile", "-f", before.to_str().unwrap(), "--node", "node-1", "--family", "ipv4"];
    row(services, "compile", &compile);
    let namespace = format!("svcproxy-bench-{}", std::process::id());
    let ip = |verb: &str| Command::new("ip").args(["netns", verb, &namespace]).stderr(Stdio::null()).status();
    if !ip("add").is_ok_and(|status| status.success()) {
        println!("{services:>7}  apply and diff: SKIPPED, network namespaces need root and iproute2");
        return;
    }
    let within = |words: &[&str]| -> Vec<String> {
        ["ip", "netns", "exec", &namespace].iter().chain(words).map(|word| (*word).to_owned()).collect()
    };
    let svcproxy = |verb: &str, path: &Path| {
        let path = path.to_str().unwrap();
        within(&[BINARY, verb, "-f", path, "--node", "node-1", "--family", "ipv4", "--iptables", "legacy"])
    };
    let run = |name: &str, words: Vec<String>| {
        row(services, name, &words.iter().map(String::as_str).collect::<Vec<_>>());
    };
    once(services, "apply (first)", &svcproxy("apply", before));
    run("iptables-save", within(&["iptables-legacy-save"]));
    run("diff (same)", svcproxy("diff", before));
    run("verify (same)", svcproxy("verify", before));
    once(services, "apply (one endpoint)", &svcproxy("apply", after));
    ip("del").unwrap();
}

/// How often `nft -f` and `apply` take turns.
const TURNS: usize = 3;

fn measure_nftables(services: usize, before: &Path, after: &Path, folder: &Path) {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let common = ["--node", "node-1", "--family", "ipv4", "--mode", "nftables"].map(str::to_owned);
    let svcproxy = |verb: &str, manifests: &Path| {
        let mut words = [BINARY, verb, "-f", &path(manifests)].map(str::to_owned).to_vec();
        words.extend(common.clone());
        words
    };
    let compile = svcproxy("compile", before);
    row(services, "compile (nftables)", &compile.iter().map(String::as_str).collect::<Vec<_>>());
    let document = folder.join(format!("ip-{services}.nft"));
    let compiled = Command::new(&compile[0]).args(&compile[1..]).output().unwrap();
    fs::write(&document, compiled.stdout).unwrap();
    let namespace = format!("svcproxy-bench-{}", std::process::id());
    let ip = |verb: &str| Command::new("ip").args(["netns", verb, &namespace]).stderr(Stdio::null()).status();
    let within = |words: Vec<String>| -> Vec<String> {
        let enter = ["ip", "netns", "exec", &namespace].map(str::to_owned);
        enter.into_iter().chain(words).collect()
    };
    let load = || within(["nft", "-f", &path(&document)].map(str::to_owned).to_vec());
    let mut ratios = Vec::new();
    for _ in 0..TURNS {
        let mut walls = Vec::new();
        for (name, words) in
            [("nft -f (first)", load()), ("apply (first)", within(svcproxy("apply", before)))]
        {
            if !ip("add").is_ok_and(|status| status.success()) {
                println!("{services:>7}  nft and apply: SKIPPED, network namespaces need root and iproute2");
                return;
            }
            walls.push(once(services, name, &words));
            if name == "apply (first)" && ratios.len() + 1 == TURNS {
                once(services, "verify (nftables)", &within(svcproxy("verify", before)));
                by_netlink_and_by_nft(services, before, after, |verb, path, nft_tool| {
                    let mut words = svcproxy(verb, path);
                    words.extend(nft_tool.then(|| "--nft-tool".to_owned()));
                    within(words)
                });
            }
            ip("del").unwrap();
        }
        ratios.push(walls[0].as_secs_f64() / walls[1].as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    println!("{services:>7}  apply is {:.2} times faster than nft -f ({ratios:.2?})", ratios[TURNS / 2]);
}

/// `ipset restore`, `iptables-restore`, `ipvsadm -R` and `ip -batch` with compiled files beside a first `svcproxy apply`.
fn measure_ipvs(services: usize, before: &Path, after: &Path, folder: &Path) {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let common = ["--node", "node-1", "--family", "ipv4", "--mode", "ipvs"].map(str::to_owned);
    let svcproxy = |verb: &str, manifests: &Path, more: &[&str]| {
        let mut words = [BINARY, verb, "-f", &path(manifests)].map(str::to_owned).to_vec();
        words.extend(common.iter().cloned().chain(more.iter().map(|word| (*word).to_owned())));
        words
    };
    let rules = path(&folder.join(format!("ipvs-{services}")));
    once(services, "compile (ipvs)", &svcproxy("compile", before, &["--output-dir", &rules]));
    let namespace = format!("svcproxy-bench-{}", std::process::id());
    let ip = |verb: &str| Command::new("ip").args(["netns", verb, &namespace]).status();
    let within = |words: Vec<String>| -> Vec<String> {
        let enter = ["ip", "netns", "exec", &namespace].map(str::to_owned);
        enter.into_iter().chain(words).collect()
    };
    let shell = |command: String| within(["sh", "-c", &command].map(str::to_owned).to_vec());
    let fresh = || {
        assert!(ip("add").is_ok_and(|status| status.success()), "needs root and iproute2");
        // Without an address of its own a namespace takes no other one for unicast.
        Command::new("ip").args(["-n", &namespace, "link", "set", "lo", "up"]).status().unwrap();
    };
    fresh();
    let mut tools = Duration::ZERO;
    for (name, command) in [
        ("ipset restore", format!("ipset -exist restore < {rules}/ipset.rules")),
        ("iptables-restore", format!("iptables-legacy-restore -n < {rules}/iptables.rules")),
        ("ipvsadm -R", format!("ipvsadm -R < {rules}/ipvs.rules")),
        ("ip -batch", format!("ip -force -batch {rules}/addresses.batch")),
    ] {
        tools += once(services, name, &shell(command));
    }
    ip("del").unwrap();
    fresh();
    let legacy = ["--iptables", "legacy"];
    let apply = once(services, "apply (first, ipvs)", &within(svcproxy("apply", before, &legacy)));
    println!(
        "{services:>7}  apply is {:.1} times faster than the tools",
        tools.as_secs_f64() / apply.as_secs_f64()
    );
    once(services, "diff (same, ipvs)", &within(svcproxy("diff", before, &legacy)));
    let dry = within(svcproxy("apply", after, &[&legacy[..], &["--dry-run"]].concat()));
    let steps = Command::new(&dry[0]).args(&dry[1..]).output().unwrap();
    print!("{}", String::from_utf8_lossy(&steps.stdout));
    once(services, "apply (one endpoint)", &within(svcproxy("apply", after, &legacy)));
    ip("del").unwrap();
}

/// One changed endpoint, there and back, and a comparison: by netlink, and through the tool nft.
fn by_netlink_and_by_nft(
    services: usize,
    before: &Path,
    after: &Path,
    svcproxy: impl Fn(&str, &Path, bool) -> Vec<String>,
) {
    for (path, nft_tool) in [(after, false), (before, true)] {
        let way = if nft_tool { "nft" } else { "netlink" };
        once(services, &format!("apply (one, {way})"), &svcproxy("apply", path, nft_tool));
        once(services, &format!("diff (same, {way})"), &svcproxy("diff", path, nft_tool));
    }
}

fn once(services: usize, name: &str, words: &[String]) -> Duration {
    once_within(Duration::MAX, services, name, words).expect("it is done")
}

/// How long it took; `None` if it failed, or was not done within a limit.
fn once_within(limit: Duration, services: usize, name: &str, words: &[String]) -> Option<Duration> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (wall, peak, is_done) = run(&words, limit);
    let ended = if is_done { "" } else { "  NOT DONE" };
    println!("{services:>7}  {name:<22} {:>8.3} s          {:>8.1} MB{ended}", wall.as_secs_f64(), peak);
    is_done.then_some(wall)
}

fn row(services: usize, name: &str, words: &[&str]) {
    run(words, Duration::MAX);
    let mut runs: Vec<(Duration, f64, bool)> = (0..RUNS).map(|_| run(words, Duration::MAX)).collect();
    runs.sort_by_key(|(wall, ..)| *wall);
    let peak = runs.iter().map(|(_, peak, _)| *peak).fold(0.0, f64::max);
    println!(
        "{services:>7}  {name:<22} {:>8.3} s median  {:>8.1} MB peak  ({:.3} to {:.3} s)",
        runs[RUNS / 2].0.as_secs_f64(),
        peak,
        runs[0].0.as_secs_f64(),
        runs[RUNS - 1].0.as_secs_f64(),
    );
}

/// Wall time, peak resident memory in MB of the process itself as the kernel last told it, and whether it ended well within a
/// limit.
fn run(words: &[&str], limit: Duration) -> (Duration, f64, bool) {
    let began = Instant::now();
    let mut command = Command::new(words[0]);
    let mut child = command.args(&words[1..]).stdout(Stdio::null()).process_group(0).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0_f64;
    loop {
        if let Ok(text) = fs::read_to_string(&status) {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            peak = peak.max(kilobytes.unwrap_or(0.0) / 1000.0);
        }
        if let Some(ended) = child.try_wait().unwrap() {
            // A comparison that finds a difference has ended well, too.
            return (began.elapsed(), peak, ended.code().is_some_and(|code| code < 2));
        }
        if began.elapsed() > limit {
            // The tools that it has called, too.
            rustix::process::kill_process_group(Pid::from_child(&child), Signal::KILL).unwrap();
            child.wait().unwrap();
            return (began.elapsed(), peak, false);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
