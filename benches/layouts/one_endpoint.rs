//! One changed endpoint in a process that stays and watches an API server, in the fast layout by netlink, beside what
//! kube-proxy has the tool `nft` do in its own layout: a transaction that rewrites one chain, before which nft reads the table.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use serde_json::Value;

use super::{Namespace, median};
use crate::BINARY;
use crate::api_server::{ApiServer, Habits};

/// The word by which the benchmark runs itself within a namespace, to keep it in step.
pub(crate) const RUN: &str = "--keep-in-step";
/// How often the endpoint changes, there and back.
const CHANGES: usize = 21;

/// The last namespace has the fast layout, the one before it, if there is one, that of kube-proxy.
pub(super) fn measure(services: usize, namespaces: &[Namespace], before: &Path, after: &Path) -> Option<()> {
    let slow = match namespaces {
        [slow, _] => Some(by_nft(slow, before, after)),
        _ => None,
    };
    let namespace = Namespace::new("run")?;
    let words =
        [env::current_exe().unwrap().to_str().unwrap(), RUN, path(before), path(after)].map(str::to_owned);
    let printed = namespace.run(&words);
    let times: Vec<f64> = printed.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let (sync, until_told) = (times[0] * 1000.0, times[1] * 1000.0);
    println!(
        "{services:>7}  nftables, fast: run makes one endpoint so in {sync:.2} ms, {until_told:.2} ms after the server has it"
    );
    if let Some(slow) = slow {
        let slow = slow.as_secs_f64() * 1000.0;
        println!(
            "{services:>7}  nftables, kube-proxy: nft makes one endpoint so in {slow:.1} ms; run is {:.0} times faster",
            slow / sync
        );
    }
    Some(())
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// How long `nft -f` takes with the transaction that kube-proxy would send. The namespace is as `after` says.
fn by_nft(namespace: &Namespace, before: &Path, after: &Path) -> Duration {
    let [before, after] = [before, after].map(|manifests| {
        let words = [
            BINARY,
            "compile",
            "--mode",
            "nftables",
            "--family",
            "ipv4",
            "--node",
            "node-1",
            "-f",
            path(manifests),
        ];
        String::from_utf8(Command::new(words[0]).args(&words[1..]).output().unwrap().stdout).unwrap()
    });
    let document = env::temp_dir().join(format!("svcproxy-bench-{}.nft", std::process::id()));
    let mut times = Vec::new();
    for (from, to) in [(&after, &before), (&before, &after), (&after, &before)] {
        let changed = from.lines().zip(to.lines()).filter(|(one, other)| one != other);
        let rules = changed.filter_map(|(_, rule)| rule.strip_prefix("add rule ").map(|rest| (rule, rest)));
        let mut text = String::new();
        for (rule, rest) in rules {
            // Family, table and chain; then the rule.
            let chain: Vec<&str> = rest.splitn(4, ' ').take(3).collect();
            text += &format!("flush chain {}\n{rule}\n", chain.join(" "));
        }
        assert!(text.lines().count() == 2, "one chain is rewritten: {text}");
        fs::write(&document, text).unwrap();
        let words = namespace.within(&["nft", "-f", path(&document)].map(str::to_owned));
        let began = Instant::now();
        assert!(Command::new(&words[0]).args(&words[1..]).status().unwrap().success());
        times.push(began.elapsed());
    }
    fs::remove_file(&document).unwrap();
    median(times)
}

/// Serves the objects of one file to `svcproxy run`, and then by turns the endpoints of Service 0 as the other file has them.
/// Prints in seconds how long a sync took as the process says, and until the process said so.
pub(crate) fn keep_in_step(arguments: &[String]) {
    let items = |path: &String| -> Vec<Value> {
        let mut list: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        list["items"].as_array_mut().unwrap().drain(..).collect()
    };
    let server = ApiServer::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), Habits::default());
    let is_of_service_0 = |object: &Value| object["metadata"]["name"] == "service-0-x";
    let mut slices = Vec::new();
    for object in items(&arguments[0]) {
        slices.extend(Some(object.clone()).filter(is_of_service_0));
        let collection = match object["kind"].as_str() {
            Some("Service") => "services",
            Some("EndpointSlice") => "endpointslices",
            _ => "nodes",
        };
        server.put(collection, object);
    }
    slices.extend(items(&arguments[1]).into_iter().filter(is_of_service_0));
    let words = ["run", "--master", &server.url(), "--hostname-override", "node-1", "--family", "ipv4"];
    let mut child = Command::new(BINARY)
        .args(words)
        .args(["--mode", "nftables", "--layout", "fast", "--log-format", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut wait = |n_changed: u64| loop {
        let line = lines.next().expect("it goes on").unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        if said["message"] == "synced" && said["changed"] == n_changed {
            return said["seconds"].as_f64().unwrap();
        }
    };
    wait(0);
    let (mut syncs, mut waits) = (Vec::new(), Vec::new());
    for slice in slices.iter().rev().cycle().take(CHANGES) {
        let began = Instant::now();
        server.put("endpointslices", slice.clone());
        syncs.push(Duration::from_secs_f64(wait(1)));
        waits.push(began.elapsed());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    println!("{} {}", median(syncs).as_secs_f64(), median(waits).as_secs_f64());
}
