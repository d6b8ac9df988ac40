//! Connections through `svcproxy run`, as many as the limit of descriptors of other machines may not let be tried.

use rustix::process::{Resource, Rlimit, setrlimit};
use svcproxy::host::XtablesVariant;

use crate::live::userspace::Bench;
use crate::uml::is_inside;

#[test]
fn ten_thousand_are_open_at_once() {
    if !is_inside() {
        return;
    }
    // For this process and those that it starts: two descriptors a connection, and some for everything else.
    let limit = Some(32_768);
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
    let bench = Bench::with(XtablesVariant::Legacy).unwrap();
    // Two are tracked for each; a kernel with little memory tracks fewer.
    std::fs::write("/proc/sys/net/netfilter/nf_conntrack_max", "65536").unwrap();
    bench.hold_at_once(10_000);
}
