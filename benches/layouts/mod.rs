//! Both layouts of the modes that have two, side by side, each in a network namespace of its own: a first `apply`, one
//! endpoint, by how much the kernel's memory grew, in nftables mode one endpoint in a process that stays, and in iptables mode
//! how long the first packet of a connection takes.

mod one_endpoint;

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect as connect_socket, socket_with};

use super::{BINARY, once_within};

pub(crate) use one_endpoint::{RUN, keep_in_step};

/// The word by which the benchmark runs itself within a namespace, to connect.
pub(crate) const CONNECT: &str = "--connect";
/// How often layouts take turns.
const TURNS: usize = 3;
/// How many connections are begun at a time.
const N_CONNECTIONS: usize = 500;
const LAYOUTS: [&str; 2] = ["kube-proxy", "fast"];

/// What is not done by then is left.
const LIMIT: Duration = Duration::from_secs(240);

/// What is measured.
struct Way {
    name: &'static str,
    /// The options that choose it.
    options: &'static [&'static str],
    n_turns: usize,
    has_packets: bool,
}

const WAYS: [Way; 3] = [
    Way { name: "nftables", options: &["--mode", "nftables"], n_turns: TURNS, has_packets: false },
    Way { name: "legacy", options: &["--iptables", "legacy"], n_turns: TURNS, has_packets: true },
    // Minutes with 10,000 Services.
    Way { name: "nft", options: &["--iptables", "nft"], n_turns: 1, has_packets: true },
];

/// A network namespace that goes with the value.
struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Option<Namespace> {
        let name = format!("svcproxy-bench-{}-{name}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).stderr(Stdio::null()).status();
        if !made.is_ok_and(|status| status.success()) {
            return None;
        }
        let namespace = Namespace(name);
        // Packets leave by a device, to a gateway that is never asked for its address.
        for words in [
            "link set lo up",
            "link add out type veth peer name peer",
            "address add 192.168.0.1/24 dev out",
            "link set out up",
            "link set peer up",
            "route add default via 192.168.0.254",
            "neighbour add 192.168.0.254 lladdr 02:00:00:00:00:01 dev out",
        ] {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            namespace.run(&[vec!["ip".to_owned()], words].concat());
        }
        Some(namespace)
    }

    fn within(&self, words: &[String]) -> Vec<String> {
        let enter = ["ip", "netns", "exec", &self.0].map(str::to_owned);
        [&enter[..], words].concat()
    }

    fn run(&self, words: &[String]) -> String {
        let words = self.within(words);
        let done = Command::new(&words[0]).args(&words[1..]).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What is left of a benchmark is looked after by who ran it.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Measures all of it, or what `--only` says; with `--no-baseline` the fast layout alone.
pub(crate) fn measure(services: usize, before: &Path, after: &Path) {
    let arguments: Vec<String> = std::env::args().collect();
    let only = arguments.iter().position(|argument| argument == "--only").map(|at| &arguments[at + 1]);
    let layouts =
        if arguments.iter().any(|argument| argument == "--no-baseline") { &LAYOUTS[1..] } else { &LAYOUTS };
    for way in WAYS {
        if only.is_none_or(|only| only == way.name) && way.measure(services, layouts, before, after).is_none()
        {
            println!("{services:>7}  layouts: SKIPPED, network namespaces need root and iproute2");
        }
    }
}

/// Says how many times faster the last of several is than the first. What was not done in time took longer than that.
fn compare(services: usize, what: &str, times: &[Option<Duration>]) {
    match times {
        [Some(slow), Some(fast)] => {
            println!("{services:>7}  {what} is {:.1} times faster", slow.as_secs_f64() / fast.as_secs_f64());
        }
        [None, Some(fast)] => println!(
            "{services:>7}  {what} is more than {:.1} times faster: the other was not done after {} s",
            LIMIT.as_secs_f64() / fast.as_secs_f64(),
            LIMIT.as_secs(),
        ),
        _ => {}
    }
}

impl Way {
    fn apply(&self, layout: &str, manifests: &Path) -> Vec<String> {
        let words = [BINARY, "apply", "--family", "ipv4", "--node", "node-1", "--layout", layout, "-f"];
        let all =
            words.iter().copied().chain([manifests.to_str().unwrap()]).chain(self.options.iter().copied());
        all.map(str::to_owned).collect()
    }

    fn measure(&self, services: usize, layouts: &[&str], before: &Path, after: &Path) -> Option<()> {
        let name = self.name;
        let mut firsts = vec![Vec::new(); layouts.len()];
        let mut grown = firsts.iter().map(|_| f64::INFINITY).collect::<Vec<_>>();
        let mut namespaces = Vec::new();
        for _ in 0..self.n_turns {
            namespaces.clear();
            for (at, layout) in layouts.iter().enumerate() {
                let kernel_before = settled_kernel_memory();
                let namespace = Namespace::new(layout)?;
                let words = namespace.within(&self.apply(layout, before));
                firsts[at].push(once_within(LIMIT, services, &format!("{name}, {layout}: first"), &words));
                grown[at] = grown[at].min(kernel_memory() - kernel_before);
                namespaces.push(namespace);
            }
        }
        // What was not done in time took longest.
        let firsts: Vec<Option<Duration>> = firsts
            .into_iter()
            .map(|all| median(all.into_iter().map(|one| one.unwrap_or(Duration::MAX)).collect()))
            .map(|one| Some(one).filter(|one| *one < Duration::MAX))
            .collect();
        compare(services, &format!("{name}: the first apply"), &firsts);
        let is_loaded: Vec<bool> = firsts.iter().map(Option::is_some).collect();
        for (layout, grown) in
            layouts.iter().zip(&grown).zip(&is_loaded).filter_map(|(one, loaded)| loaded.then_some(one))
        {
            println!("{services:>7}  {name}, {layout}: the kernel's memory grows by {grown:.1} MB");
        }
        if is_loaded.contains(&false) {
            return Some(());
        }
        let changes: Vec<Option<Duration>> = layouts
            .iter()
            .zip(&namespaces)
            .map(|(layout, namespace)| {
                let words = namespace.within(&self.apply(layout, after));
                once_within(LIMIT, services, &format!("{name}, {layout}: one endpoint"), &words)
            })
            .collect();
        compare(services, &format!("{name}: an apply of one endpoint"), &changes);
        if name == "nftables" {
            one_endpoint::measure(services, &namespaces, before, after)?;
        }
        if let (true, [_, _]) = (self.has_packets, &*namespaces) {
            measure_packets(services, name, &namespaces);
        }
        Some(())
    }
}

/// How long it takes to begin a connection to the Service that the list of kube-proxy has first, and last.
fn measure_packets(services: usize, way: &str, namespaces: &[Namespace]) {
    let exe = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    // The list goes by names: service-0 is first, team-99 has the last.
    let last =
        (0..services).max_by_key(|index| (format!("team-{}", index % 100), format!("service-{index}")));
    let vip = |index: usize| Ipv4Addr::from(0x0a60_000a + u32::try_from(index).unwrap()).to_string();
    for (place, index) in [("first", 0), ("last", last.unwrap_or_default())] {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..TURNS {
            for (namespace, times) in namespaces.iter().zip(&mut times) {
                let printed = namespace.run(&[exe.clone(), CONNECT.to_owned(), vip(index)]);
                times.push(printed.trim().parse::<u64>().unwrap());
            }
        }
        let [slow, fast] = times.map(median);
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one connection")]
        let ratio = slow as f64 / fast as f64;
        println!(
            "{services:>7}  {way}: first packet to the {place} Service: {slow} ns and {fast} ns, {ratio:.1} times faster"
        );
    }
}

/// Begins connections to an address, and prints the median time of one in nanoseconds.
pub(crate) fn connect(arguments: &[String]) {
    let to = SocketAddrV4::new(arguments[0].parse().unwrap(), 80);
    let mut times = Vec::new();
    for _ in 0..N_CONNECTIONS {
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
        let began = Instant::now();
        // Nobody answers: the first packet has left when the call comes back.
        assert!(connect_socket(&socket, &to).is_err());
        times.push(u64::try_from(began.elapsed().as_nanos()).unwrap());
    }
    println!("{}", median(times));
}

fn median<T: Ord + Copy>(mut all: Vec<T>) -> T {
    all.sort();
    all[all.len() / 2]
}

/// Slab and vmalloc of the kernel, in MB.
fn kernel_memory() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let kilobytes = |line: &str| {
        let rest = line.strip_prefix("Slab:").or_else(|| line.strip_prefix("VmallocUsed:"))?;
        rest.split_whitespace().next()?.parse::<f64>().ok()
    };
    text.lines().filter_map(kilobytes).sum::<f64>() / 1000.0
}

/// The same once the kernel has given back what was in former namespaces.
fn settled_kernel_memory() -> f64 {
    let mut last = kernel_memory();
    loop {
        std::thread::sleep(Duration::from_secs(2));
        let now = kernel_memory();
        if now > last - 1.0 {
            return now;
        }
        last = now;
    }
}
