//! The stages of a compile and of a diff, each on its own, at three sizes.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark runs programs, takes the time and prints it"
)]

mod cluster;

use divan::{Bencher, black_box};
use svcproxy::backend::Layout;
use svcproxy::backend::iptables::{self, LowerOptions};
use svcproxy::diagnostic::Source;
use svcproxy::manifest::{self, LoadOptions, Loaded};
use svcproxy::model::{Config, Node};
use svcproxy::net::IpFamily;
use svcproxy::program::xtables::{Ruleset, diff, emit, parse};
use svcproxy::resolve::{self, NodeContext, NodeView};

const SERVICES: [usize; 3] = [1_000, 10_000, 30_000];
const OPTIONS: LowerOptions = LowerOptions {
    masquerade_mark: 0x4000,
    random_fully: true,
    nfacct: true,
    tcp_be_liberal: false,
    layout: Layout::KubeProxy,
};

fn main() {
    divan::main();
}

fn source(services: usize) -> Source {
    let size = cluster::Size { services, endpoints: 10, moved: false };
    Source { name: "cluster.json".to_owned(), text: cluster::list(size) }
}

fn load(source: &Source) -> Loaded {
    let options = LoadOptions { namespace: "default".to_owned(), placeholders: None, strict: false };
    manifest::load(std::slice::from_ref(source), &options)
}

fn view(loaded: &Loaded) -> NodeView {
    let node = Node {
        name: "node-1".into(),
        zone: None,
        addresses: Vec::new(),
        pod_cidrs: Vec::new(),
        is_leaving: false,
    };
    let context = NodeContext::new(&Config::default(), &node, &[]);
    resolve::resolve(&loaded.cluster, &context, IpFamily::V4)
}

fn ruleset(services: usize) -> Ruleset {
    iptables::lower(&view(&load(&source(services))), &OPTIONS)
}

#[divan::bench(args = SERVICES)]
fn load_json(bencher: Bencher<'_, '_>, services: usize) {
    let source = source(services);
    bencher.bench_local(|| load(black_box(&source)));
}

#[divan::bench(args = SERVICES)]
fn resolve_view(bencher: Bencher<'_, '_>, services: usize) {
    let loaded = load(&source(services));
    bencher.bench_local(|| view(black_box(&loaded)));
}

#[divan::bench(args = SERVICES)]
fn lower(bencher: Bencher<'_, '_>, services: usize) {
    let view = view(&load(&source(services)));
    bencher.bench_local(|| iptables::lower(black_box(&view), &OPTIONS));
}

#[divan::bench(args = SERVICES)]
fn emit_document(bencher: Bencher<'_, '_>, services: usize) {
    let ruleset = ruleset(services);
    bencher.bench_local(|| {
        let mut text = Vec::new();
        emit::write_document(&mut text, black_box(&ruleset), "");
        text
    });
}

#[divan::bench(args = SERVICES)]
fn parse_document(bencher: Bencher<'_, '_>, services: usize) {
    let mut text = Vec::new();
    emit::write_document(&mut text, &ruleset(services), "");
    let text = String::from_utf8(text).unwrap();
    bencher.bench_local(|| parse::parse(black_box(&text), IpFamily::V4));
}

#[divan::bench(args = SERVICES)]
fn diff_equal(bencher: Bencher<'_, '_>, services: usize) {
    let (wanted, live) = (ruleset(services), ruleset(services));
    let scope = iptables::scope(&live);
    bencher.bench_local(|| diff::diff(black_box(&wanted), black_box(&live), &scope));
}

#[divan::bench(args = SERVICES)]
fn check(bencher: Bencher<'_, '_>, services: usize) {
    let ruleset = ruleset(services);
    bencher.bench_local(|| svcproxy::program::xtables::check::check(black_box(&ruleset)));
}
