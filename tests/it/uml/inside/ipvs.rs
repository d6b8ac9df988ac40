//! IPVS: what the host reads is what it made, and `ipvsadm` says the same; why a kernel refuses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use svcproxy::host::{Host, HostErrorKind, LinuxHost};
use svcproxy::net::{AddrPort, IpFamily, Protocol};
use svcproxy::program::ipvs::{
    Flags, RealServer, Request, SchedulerName, ServiceKey, Timeouts, VirtualServer, VirtualServers, diff,
    parse,
};

use super::{alone, as_anybody, is_inside};
use crate::rig::{Answer, At, Namespace, Rig, RigSpec, pod_addresses};

/// As `ipvsadm -R` reads them.
const SERVERS: &str = "\
    -A -t 10.96.0.10:80 -s rr\n\
    -a -t 10.96.0.10:80 -r 10.128.0.1:8080 -m -w 1\n\
    -a -t 10.96.0.10:80 -r 10.128.0.2:8080 -m -w 0\n\
    -A -u 10.96.0.10:53 -s wrr\n\
    -a -u 10.96.0.10:53 -r 10.128.0.1:5353 -m -w 3\n\
    -A --sctp-service 10.96.0.10:36412 -s lc\n\
    -a --sctp-service 10.96.0.10:36412 -r 10.128.0.1:36412 -m -w 1\n\
    -A -t 10.96.0.20:443 -s rr -p 10800\n\
    -A -t 10.96.0.30:80 -s sh -b sh-fallback,sh-port\n\
    -a -t 10.96.0.30:80 -r 10.128.0.1:8080 -m -w 1 -x 10 -y 5\n\
    -A -t 10.96.0.40:80 -s mh -b mh-port\n\
    -A -t [fd00:96::10]:80 -s rr -p 360 -M 64\n\
    -a -t [fd00:96::10]:80 -r [fd00:128::1]:8080 -m -w 1\n\
    -A -f 7 -s wlc\n\
    -a -f 7 -r 10.128.0.9:0 -g -w 2\n";

fn servers(text: &str) -> VirtualServers {
    parse::parse(text).unwrap()
}

/// Brings the virtual servers of a namespace from what they are to what is wanted.
fn bring(host: &mut LinuxHost, wanted: &VirtualServers) {
    let live = host.ipvs_read().unwrap();
    let changes = diff::diff(wanted, &live, &|_| true);
    let requests: Vec<Request> = changes.make.into_iter().chain(changes.remove).collect();
    host.ipvs_change(&requests).unwrap();
    assert_eq!(host.ipvs_read().unwrap(), *wanted);
}

/// What `ipvsadm` shows. Its order is that of a hash.
fn shown(namespace: &Namespace) -> BTreeSet<String> {
    lines(&namespace.run(&["ipvsadm", "-S", "-n"]))
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::trim_end).map(str::to_owned).collect()
}

fn server(scheduler: &str) -> VirtualServer {
    VirtualServer {
        scheduler: SchedulerName::new(scheduler).unwrap(),
        flags: Flags::default(),
        persistence_seconds: 0,
        netmask: 32,
        engine: None,
        real_servers: Default::default(),
        counters: None,
        tag: None,
    }
}

fn key(port: u16) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, at: AddrPort::new(IpAddr::from([10, 96, 0, 1]), port) }
}

fn to(last: u8) -> AddrPort {
    AddrPort::new(IpAddr::from([10, 128, 0, last]), 8080)
}

#[test]
fn reads_back_what_it_made() {
    alone(|namespace, host| {
        assert_eq!(host.ipvs_version(), Ok(Some((1, 2, 1))));
        assert_eq!(host.ipvs_read(), Ok(VirtualServers::new()));
        bring(host, &servers(SERVERS));
        // It shows no thresholds in this form.
        assert_eq!(shown(namespace), lines(&SERVERS.replace(" -x 10 -y 5", "")));
        // Some of them, in no order, and one that is not there.
        let gone = ServiceKey::Mark { family: IpFamily::V6, mark: 4711 };
        let mut asked: Vec<ServiceKey> = servers(SERVERS).into_keys().skip(1).collect();
        asked.reverse();
        let mut some = servers(SERVERS);
        some.pop_first();
        assert_eq!(host.ipvs_read_some(&[&[gone], &asked[..]].concat()), Ok(some));
        // Another namespace has others.
        assert_eq!(
            Namespace::new("other").unwrap().inside(|| LinuxHost::new().ipvs_read()),
            Ok(VirtualServers::new())
        );
    });
}

#[test]
fn reads_what_others_made() {
    alone(|namespace, host| {
        let done = namespace.run_with(&["ipvsadm", "-R"], SERVERS.as_bytes());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(host.ipvs_read().unwrap(), servers(SERVERS));
    });
}

#[test]
fn changes_and_deletes() {
    alone(|namespace, host| {
        bring(host, &servers(SERVERS));
        let changed = "\
            -A -t 10.96.0.10:80 -s lc\n\
            -a -t 10.96.0.10:80 -r 10.128.0.2:8080 -m -w 5\n\
            -a -t 10.96.0.10:80 -r 10.128.0.3:8080 -m -w 1\n\
            -A -t 10.96.0.20:443 -s rr\n\
            -A -t 10.96.0.30:80 -s mh -b mh-fallback\n\
            -A -u [fd00:96::11]:53 -s rr\n";
        bring(host, &servers(changed));
        assert_eq!(shown(namespace), lines(changed));
        bring(host, &VirtualServers::new());
        assert_eq!(shown(namespace), BTreeSet::new());
    });
}

#[test]
fn says_which_scheduler_is_missing_and_leaves_nothing() {
    alone(|namespace, host| {
        let requests = [
            Request::NewService(key(80), server("nope")),
            Request::NewDestination(key(80), to(1), RealServer::masqueraded(1)),
        ];
        let (index, error) = host.ipvs_change(&requests).unwrap_err();
        assert_eq!((index, error.kind), (0, HostErrorKind::Unsupported));
        assert_eq!(
            error.to_string(),
            "cannot add the virtual server 10.96.0.1:80/TCP: the kernel has no IPVS scheduler `nope` (module `ip_vs_nope`)"
        );
        assert_eq!(shown(namespace), BTreeSet::new());
        // One that is there keeps its own.
        host.ipvs_change(&[Request::NewService(key(80), server("rr"))]).unwrap();
        let (_, error) = host.ipvs_change(&[Request::SetService(key(80), server("nope"))]).unwrap_err();
        assert_eq!(error.kind, HostErrorKind::Unsupported);
        assert_eq!(shown(namespace), lines("-A -t 10.96.0.1:80 -s rr"));
    });
}

#[test]
fn names_the_request_that_was_refused() {
    use HostErrorKind::{Exists, NotFound};
    alone(|namespace, host| {
        let one = RealServer::masqueraded(1);
        let base = [Request::NewService(key(80), server("rr")), Request::NewDestination(key(80), to(1), one)];
        host.ipvs_change(&base).unwrap();
        let before = shown(namespace);
        for (request, kind, words) in [
            (
                Request::NewService(key(80), server("lc")),
                Exists,
                "cannot add the virtual server 10.96.0.1:80/TCP: there is such a virtual server already",
            ),
            (
                Request::SetService(key(81), server("rr")),
                NotFound,
                "cannot change the virtual server 10.96.0.1:81/TCP: there is no such virtual server",
            ),
            (
                Request::DeleteService(key(81)),
                NotFound,
                "cannot delete the virtual server 10.96.0.1:81/TCP: there is no such virtual server",
            ),
            (
                Request::NewDestination(key(80), to(1), one),
                Exists,
                "cannot add the real server 10.128.0.1:8080 to 10.96.0.1:80/TCP: it is there already",
            ),
            (
                Request::NewDestination(key(81), to(1), one),
                NotFound,
                "cannot add the real server 10.128.0.1:8080 to 10.96.0.1:81/TCP: there is no such virtual server",
            ),
            (
                Request::SetDestination(key(80), to(2), one),
                NotFound,
                "cannot change the real server 10.128.0.2:8080 of 10.96.0.1:80/TCP: there is no such real server",
            ),
            (
                Request::DeleteDestination(key(80), to(2)),
                NotFound,
                "cannot delete the real server 10.128.0.2:8080 of 10.96.0.1:80/TCP: there is no such real server",
            ),
        ] {
            // Between others of a long list: those before it are done.
            let mut requests: Vec<Request> =
                (1000..1700).map(|port| Request::NewService(key(port), server("rr"))).collect();
            requests.insert(600, request);
            let (index, error) = host.ipvs_change(&requests).unwrap_err();
            assert_eq!((index, error.kind, error.to_string().as_str()), (600, kind, words));
            let made = host.ipvs_read().unwrap();
            assert!((1000..1600).all(|port| made.contains_key(&key(port))), "{words}");
            let delete =
                made.keys().filter(|made| **made != key(80)).map(|made| Request::DeleteService(*made));
            host.ipvs_change(&delete.collect::<Vec<_>>()).unwrap();
            assert_eq!(shown(namespace), before, "{words}");
        }
    });
}

#[test]
fn sets_the_timeouts() {
    alone(|namespace, host| {
        let kernels_own = host.ipvs_timeouts().unwrap();
        assert_eq!(kernels_own, Timeouts { tcp: 900, tcp_fin: 120, udp: 300 });
        let asked = Timeouts { tcp: 600, tcp_fin: 0, udp: 17 };
        host.ipvs_change(&[Request::SetTimeouts(asked)]).unwrap();
        assert_eq!(host.ipvs_timeouts(), Ok(Timeouts { tcp: 600, tcp_fin: 120, udp: 17 }));
        let shown = namespace.run(&["ipvsadm", "-L", "--timeout"]);
        assert!(shown.contains("(tcp tcpfin udp): 600 120 17"), "{shown}");
    });
}

#[test]
fn needs_rights() {
    alone(|namespace, host| {
        host.ipvs_change(&[Request::NewService(key(80), server("rr"))]).unwrap();
        let (read, changed) = as_anybody(namespace, |host| {
            (host.ipvs_read().unwrap_err(), host.ipvs_change(&[Request::DeleteService(key(80))]).unwrap_err())
        });
        for (error, words) in [
            (read, "cannot read virtual servers: Operation not permitted, IPVS needs CAP_NET_ADMIN"),
            (
                changed.1,
                "cannot delete the virtual server 10.96.0.1:80/TCP: Operation not permitted, IPVS needs CAP_NET_ADMIN",
            ),
        ] {
            assert_eq!((error.kind, error.to_string().as_str()), (HostErrorKind::Permission, words));
        }
        assert_eq!(changed.0, 0);
        assert_eq!(shown(namespace), lines("-A -t 10.96.0.1:80 -s rr"));
    });
}

/// How many seconds the last step took, for those who read the output.
fn tell(what: &str, since: Instant) {
    eprintln!("{what}: {:.2} s", since.elapsed().as_secs_f64());
}

#[test]
fn ten_thousand_with_ten_each() {
    alone(|_, host| {
        let mut wanted = VirtualServers::new();
        for n in 0..10_000_u16 {
            let [high, low] = n.to_be_bytes();
            let mut made = server("rr");
            for last in 1..=10 {
                let at = AddrPort::new(IpAddr::from([10, 128 + high, low, last]), 8080);
                made.real_servers.insert(at, RealServer::masqueraded(1));
            }
            let at = AddrPort::new(IpAddr::from([10, 96, high, low]), 80);
            wanted.insert(ServiceKey::Address { protocol: Protocol::Tcp, at }, made);
        }
        let requests = diff::diff(&wanted, &VirtualServers::new(), &|_| true).make;
        let since = Instant::now();
        host.ipvs_change(&requests).unwrap();
        tell("made 10,000 virtual servers with 10 real servers each", since);
        let since = Instant::now();
        let read = host.ipvs_read().unwrap();
        tell("read them back", since);
        assert!(read == wanted, "{} of them", read.len());
        let since = Instant::now();
        let delete: Vec<Request> = read.keys().map(|key| Request::DeleteService(*key)).collect();
        host.ipvs_change(&delete).unwrap();
        tell("deleted them", since);
    });
}

/// Takes the module away, its schedulers first. Namespaces that are gone let go of it some time later.
fn unload() {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let loaded = std::fs::read_to_string("/proc/modules").unwrap();
        let mut names: Vec<&str> = loaded.lines().filter_map(|line| line.split(' ').next()).collect();
        names.retain(|name| name.starts_with("ip_vs") || *name == "xt_ipvs");
        // The module itself comes last.
        names.sort_by_key(|name| *name == "ip_vs");
        let refused = names.into_iter().find_map(|name| {
            let done = Command::new("rmmod").arg(name).output().unwrap();
            (!done.status.success()).then(|| String::from_utf8_lossy(&done.stderr).into_owned())
        });
        match refused {
            None => return,
            Some(words) => assert!(Instant::now() < deadline, "{words}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A kernel without the module, as most kernels of nodes in other modes.
#[test]
fn says_when_the_kernel_has_none() {
    struct Hidden;
    impl Drop for Hidden {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("/lib/modules").status();
        }
    }
    alone(|_, host| {
        unload();
        assert!(
            Command::new("mount").args(["-t", "tmpfs", "none", "/lib/modules"]).status().unwrap().success()
        );
        let hidden = Hidden;
        assert_eq!(host.ipvs_version(), Ok(None));
        let error = host.ipvs_read().unwrap_err();
        assert_eq!(error.kind, HostErrorKind::Unsupported);
        assert_eq!(
            error.to_string(),
            "cannot read virtual servers: this kernel has no IPVS (module `ip_vs`)"
        );
        let (index, error) = host.ipvs_change(&[Request::DeleteService(key(80))]).unwrap_err();
        assert_eq!((index, error.kind), (0, HostErrorKind::Unsupported));
        drop(hidden);
        // It is loaded when somebody asks for the first time.
        assert_eq!(LinuxHost::new().ipvs_version(), Ok(Some((1, 2, 1))));
    });
}

#[test]
fn knows_marks_of_both_families() {
    alone(|namespace, host| {
        let mark = |family| ServiceKey::Mark { family, mark: 9 };
        let of_v6 = VirtualServer { netmask: 128, ..server("rr") };
        let wanted = VirtualServers::from([(mark(IpFamily::V4), server("rr")), (mark(IpFamily::V6), of_v6)]);
        bring(host, &wanted);
        assert_eq!(shown(namespace), lines("-A -f 9 -s rr\n-A -f 9 -6 -s rr\n"));
    });
}

/// The calls together: who asks an address that only the dummy device bears is answered by each of the pods.
#[test]
fn virtual_servers_carry_packets() {
    if !is_inside() {
        return;
    }
    let rig = Rig::new(&RigSpec { pods: 3, ..RigSpec::default() }).unwrap();
    let vips: [IpAddr; 2] = [[10, 96, 0, 10].into(), "fd00:96::10".parse().unwrap()];
    let mut wanted = VirtualServers::new();
    for vip in vips {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut made = server("rr");
            made.netmask = IpFamily::of(vip).bits();
            for (n, weight) in [(1, 1), (2, 0), (3, 1)] {
                let (v4, v6) = pod_addresses(n);
                let at = AddrPort::new(if vip.is_ipv4() { v4 } else { v6 }, 8080);
                made.real_servers.insert(at, RealServer::masqueraded(weight));
            }
            wanted.insert(ServiceKey::Address { protocol, at: AddrPort::new(vip, 80) }, made);
        }
    }
    rig.node_ns().inside(|| {
        let mut host = LinuxHost::new();
        host.dummy_add("d0").unwrap();
        host.addresses_add("d0", &vips).unwrap();
        bring(&mut host, &wanted);
    });
    for vip in vips {
        let target = std::net::SocketAddr::new(vip, 80);
        for (from, protocol) in
            [(At::Client, Protocol::Tcp), (At::Client, Protocol::Udp), (At::Node, Protocol::Tcp)]
        {
            let mut answered: Vec<Answer> =
                (0..4).map(|_| rig.ask(from, protocol, target, Duration::from_secs(3))).collect();
            let endpoints: BTreeSet<Option<String>> =
                answered.iter().map(|answer| answer.endpoint().map(str::to_owned)).collect();
            answered.dedup();
            let expected = ["pod1", "pod3"].map(|name| Some(name.to_owned()));
            assert_eq!(endpoints, expected.into(), "{from:?} {protocol} {target}: {answered:?}");
        }
    }
    // Real servers of TCP that still have connections get no new ones, those of UDP go. Then whoever asks is refused.
    let left = rig.node_ns().inside(|| {
        let mut host = LinuxHost::new();
        let live = host.ipvs_read().unwrap();
        wanted.values_mut().for_each(|made| made.real_servers.clear());
        let changes = diff::diff(&wanted, &live, &|_| true);
        host.ipvs_change(&changes.remove).unwrap();
        host.ipvs_read().unwrap()
    });
    for (key, made) in &left {
        let expected = if matches!(key, ServiceKey::Address { protocol: Protocol::Tcp, .. }) { 2 } else { 0 };
        assert_eq!(made.real_servers.len(), expected, "{key}");
        let drains = |to: &RealServer| to.weight == 0 && !to.connections.is_none();
        assert!(made.real_servers.values().all(drains), "{key}: {made:?}");
    }
    for vip in vips {
        let target = std::net::SocketAddr::new(vip, 80);
        let answer = rig.ask(At::Client, Protocol::Udp, target, Duration::from_secs(3));
        assert_eq!(answer, Answer::Refused, "{target}");
    }
}
