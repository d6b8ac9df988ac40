//! `LinuxHost` against the kernel, each test in a network namespace of its own. Needs root and the iptables tools.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use svcproxy::host::{
    Host, HostErrorKind, LinuxHost, LocalAddress, RestoreMode, XtablesVariant, unreadable_tables,
};
use svcproxy::net::{IpFamily, Protocol};

use crate::rig::{Answer, At, Namespace, Rig, RigSpec, pod_addresses, remote_addresses, skip};

/// Runs a check once for every variant and family that this machine can do, each in a fresh namespace.
fn everywhere(check: impl Fn(&mut LinuxHost, XtablesVariant, IpFamily) + Sync) {
    for variant in XtablesVariant::ALL {
        for family in IpFamily::ALL {
            let Some(namespace) = Namespace::new("host") else { return };
            let tool = match family {
                IpFamily::V4 => format!("iptables-{variant}"),
                IpFamily::V6 => format!("ip6tables-{variant}"),
            };
            if works(&tool) {
                namespace.inside(|| check(&mut LinuxHost::new(), variant, family));
            }
        }
    }
}

/// Whether this kernel has what a tool needs. Tried in a namespace that is thrown away: the asking makes tables.
fn works(tool: &str) -> bool {
    let Some(trial) = Namespace::new("trial") else { return false };
    let tried = trial.inside(|| Command::new(tool).args(["-t", "nat", "-S"]).output());
    if tried.is_ok_and(|done| done.status.success()) {
        return true;
    }
    skip(&format!("`{tool}` does not work here"));
    false
}

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|word| (*word).to_owned()).collect()
}

/// The lines of a dump that say something of ours.
fn ours(dump: &str) -> Vec<&str> {
    dump.lines().filter(|line| line.contains("MINE") || line.starts_with('*')).collect()
}

const TWO_CHAINS: &[u8] =
    b"*nat\n:MINE-A - [0:0]\n:MINE-B - [0:0]\n-A MINE-A -m comment --comment \"to b\" -j MINE-B\nCOMMIT\n";

#[test]
fn finds_the_tools() {
    let tools = LinuxHost::new().xtables_variants().unwrap();
    if tools.is_empty() {
        return skip("needs iptables");
    }
    assert!(tools.iter().all(|tools| tools.version >= (1, 4, 0)), "{tools:?}");
    assert_eq!(tools.iter().filter(|tools| tools.is_default).count(), 1, "{tools:?}");
}

#[test]
fn reading_makes_nothing() {
    everywhere(|host, variant, family| {
        assert_eq!(host.xtables_save(variant, family).unwrap(), "");
        let names = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
        assert_eq!(names, "");
    });
}

#[test]
fn restores_what_it_saves() {
    everywhere(|host, variant, family| {
        host.xtables_restore(variant, family, TWO_CHAINS, RestoreMode::Test).unwrap();
        assert!(!host.xtables_save(variant, family).unwrap().contains("MINE"));
        host.xtables_restore(variant, family, TWO_CHAINS, RestoreMode::Commit).unwrap();
        let dump = host.xtables_save(variant, family).unwrap();
        let expected = [
            "*nat",
            ":MINE-A - [0:0]",
            ":MINE-B - [0:0]",
            "-A MINE-A -m comment --comment \"to b\" -j MINE-B",
        ];
        assert_eq!(ours(&dump), expected);
        // What a document does not name stays, what it names is replaced.
        let second = b"*nat\n:MINE-A - [0:0]\n-X MINE-B\nCOMMIT\n";
        host.xtables_restore(variant, family, second, RestoreMode::Commit).unwrap();
        assert_eq!(ours(&host.xtables_save(variant, family).unwrap()), ["*nat", ":MINE-A - [0:0]"]);
    });
}

#[test]
fn a_table_that_nft_filled_is_named() {
    let Some(namespace) = Namespace::new("foreign") else { return };
    if !LinuxHost::new().xtables_variants().unwrap().iter().any(|tools| tools.variant == XtablesVariant::Nft)
    {
        return skip("needs iptables-nft");
    }
    if Command::new("nft").arg("--version").output().is_err() {
        return skip("needs nft");
    }
    namespace.run(&[
        "nft",
        "add table ip nat; add chain ip nat POSTROUTING { type nat hook postrouting priority 7; }",
    ]);
    let dump = namespace.inside(|| LinuxHost::new().xtables_save(XtablesVariant::Nft, IpFamily::V4)).unwrap();
    assert_eq!(unreadable_tables(&dump).collect::<Vec<_>>(), ["nat"], "{dump}");
}

#[test]
fn puts_rules_before_others_and_deletes_them() {
    everywhere(|host, variant, family| {
        host.xtables_restore(variant, family, TWO_CHAINS, RestoreMode::Commit).unwrap();
        let blanks = words(&["-m", "comment", "--comment", "kubernetes  service portals", "-j", "MINE-A"]);
        // Crate `iptables` cannot carry these.
        let quotes = words(&["-m", "comment", "--comment", "it's \"quoted\"", "-j", "MINE-B"]);
        for rule in [
            "--comment \"kubernetes  service portals\" -j MINE-A",
            "--comment \"it\\'s \\\"quoted\\\"\" -j MINE-B",
        ] {
            let document = format!("*nat\n-I OUTPUT 1 -m comment {rule}\nCOMMIT\n");
            host.xtables_restore(variant, family, document.as_bytes(), RestoreMode::Commit).unwrap();
        }
        let dump = host.xtables_save(variant, family).unwrap();
        let rules: Vec<&str> = dump.lines().filter(|line| line.starts_with("-A OUTPUT")).collect();
        assert_eq!(
            rules,
            [
                "-A OUTPUT -m comment --comment \"it\\'s \\\"quoted\\\"\" -j MINE-B",
                "-A OUTPUT -m comment --comment \"kubernetes  service portals\" -j MINE-A",
            ]
        );
        for args in [&blanks, &quotes] {
            host.xtables_delete(variant, family, ("nat", "OUTPUT"), args).unwrap();
            let error = host.xtables_delete(variant, family, ("nat", "OUTPUT"), args).unwrap_err();
            assert_eq!(error.kind, HostErrorKind::NotFound, "{error}");
        }
        let nowhere = words(&["-j", "MINE-NOPE"]);
        let error = host.xtables_delete(variant, family, ("nat", "OUTPUT"), &nowhere).unwrap_err();
        assert_eq!(error.kind, HostErrorKind::NotFound, "{error}");
        let document = b"*nat\n-I OUTPUT 1 -j MINE-NOPE\nCOMMIT\n";
        let refused = host.xtables_restore(variant, family, document, RestoreMode::Commit);
        assert_eq!(refused.unwrap_err().error.kind, HostErrorKind::NotFound);
        assert!(!host.xtables_save(variant, family).unwrap().contains("-A OUTPUT"));
    });
}

#[test]
fn names_the_line_that_was_refused() {
    use HostErrorKind::{Busy, NotFound, Other};
    everywhere(|host, variant, family| {
        let legacy = variant == XtablesVariant::Legacy;
        host.xtables_restore(variant, family, TWO_CHAINS, RestoreMode::Commit).unwrap();
        for (document, line, kind) in [
            ("*nat\n:MINE-C - [0:0]\n-A MINE-C --bogus 1 -j RETURN\n-A MINE-C -j RETURN\nCOMMIT\n", 3, Other),
            (
                "*nat\n:MINE-C - [0:0]\n-A MINE-D -j RETURN\nCOMMIT\n",
                3,
                if legacy { Other } else { NotFound },
            ),
            ("*nat\n:MINE-C - [0:0]\n-A MINE-C -j MINE-D\n-A MINE-C -j RETURN\nCOMMIT\n", 3, NotFound),
            ("*nat\n:MINE-C - [0:0]\n-A MINE-C -m bogus -j RETURN\nCOMMIT\n", 3, NotFound),
            ("*nat\n-X MINE-D\nCOMMIT\n", 2, if legacy { Other } else { NotFound }),
            ("*bogus\nCOMMIT\n", 1, Other),
            ("*nat\n:MINE-C - [0:0]\n", 3, Other),
            // The kernel refuses these: legacy says so at COMMIT, or in its own way at -X.
            ("*nat\n-X MINE-B\nCOMMIT\n", 2, if legacy { Other } else { Busy }),
            (
                "*filter\n:MINE-C - [0:0]\n-A MINE-C -j MASQUERADE\n-A MINE-C -j RETURN\nCOMMIT\n",
                if legacy { 5 } else { 3 },
                Other,
            ),
        ] {
            let error =
                host.xtables_restore(variant, family, document.as_bytes(), RestoreMode::Commit).unwrap_err();
            let got = (error.line, error.error.kind);
            assert_eq!(got, (Some(line), kind), "{variant} {family}: {document}{error}");
        }
        // Each table by itself: the first is loaded, the second not.
        let document =
            b"*filter\n:MINE-F - [0:0]\nCOMMIT\n*nat\n:MINE-C - [0:0]\n-A MINE-D -j RETURN\nCOMMIT\n";
        host.xtables_restore(variant, family, document, RestoreMode::Commit).unwrap_err();
        let dump = host.xtables_save(variant, family).unwrap();
        assert!(dump.contains(":MINE-F") && !dump.contains(":MINE-C"), "{dump}");
    });
}

#[test]
fn counts_into_accounting_objects() {
    let Some(namespace) = Namespace::new("nfacct") else { return };
    namespace.inside(|| {
        let mut host = LinuxHost::new();
        match host.nfacct_list() {
            Err(error) if error.kind == HostErrorKind::Unsupported => return skip(&error.to_string()),
            list => assert_eq!(list.unwrap(), []),
        }
        host.nfacct_add("ct_state_invalid_dropped_pkts").unwrap();
        host.nfacct_add("ct_state_invalid_dropped_pkts").unwrap();
        host.nfacct_add("another").unwrap();
        let names: Vec<String> = host.nfacct_list().unwrap().into_iter().map(|object| object.name).collect();
        assert_eq!(names, ["another", "ct_state_invalid_dropped_pkts"]);
        host.nfacct_delete("another").unwrap();
        assert_eq!(host.nfacct_delete("another").unwrap_err().kind, HostErrorKind::NotFound);
    });
    everywhere(|host, variant, family| {
        let document = b"*filter\n:MINE - [0:0]\n-A MINE -m nfacct --nfacct-name counted -j DROP\nCOMMIT\n";
        let error = host.xtables_restore(variant, family, document, RestoreMode::Commit).unwrap_err();
        let line = if variant == XtablesVariant::Legacy { 4 } else { 3 };
        assert_eq!(error.line, Some(line), "{error}");
        host.nfacct_add("counted").unwrap();
        host.xtables_restore(variant, family, document, RestoreMode::Commit).unwrap();
        assert_eq!(host.nfacct_delete("counted").unwrap_err().kind, HostErrorKind::Busy);
    });
}

#[test]
fn forgets_the_flows_that_it_is_told() {
    let Some(namespace) = Namespace::new("conntrack") else { return };
    if !works("iptables-nft") {
        return;
    }
    // Only where a rule asks does the kernel track connections.
    for tool in ["iptables-nft", "ip6tables-nft"] {
        namespace.run(&[tool, "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW"]);
    }
    namespace.inside(|| {
        let mut host = LinuxHost::new();
        for (family, loopback) in [(IpFamily::V4, "127.0.0.1"), (IpFamily::V6, "::1")] {
            let clients: Vec<UdpSocket> = (1..=600)
                .map(|port| {
                    let client = UdpSocket::bind((loopback, 0)).unwrap();
                    client.send_to(b"x", (loopback, port)).unwrap();
                    client
                })
                .collect();
            let server = TcpListener::bind((loopback, 0)).unwrap();
            let _stream = TcpStream::connect(server.local_addr().unwrap()).unwrap();
            let flows = host.conntrack_flows(family, Protocol::Udp).unwrap();
            assert_eq!(flows.len(), clients.len());
            assert_eq!(host.conntrack_flows(family, Protocol::Tcp).unwrap().len(), 1);
            let (kept, gone): (Vec<_>, Vec<_>) =
                flows.into_iter().partition(|flow| flow.original.to.port == 7);
            host.conntrack_forget(&gone).unwrap();
            host.conntrack_forget(&gone).unwrap();
            assert_eq!(host.conntrack_flows(family, Protocol::Udp).unwrap(), kept);
            // A later one in its place is another one.
            clients[0].send_to(b"x", (loopback, 1)).unwrap();
            let first = gone.iter().find(|flow| flow.original.to.port == 1).unwrap();
            host.conntrack_forget(&[*first]).unwrap();
            assert_eq!(host.conntrack_flows(family, Protocol::Udp).unwrap().len(), 2);
            assert_eq!(host.conntrack_flows(family, Protocol::Tcp).unwrap().len(), 1);
        }
    });
}

#[test]
fn lists_the_addresses_of_this_namespace() {
    let Some(namespace) = Namespace::new("addresses") else { return };
    namespace.run(&["ip", "address", "add", "10.1.2.3/24", "dev", "lo"]);
    namespace.run(&["ip", "address", "add", "10.1.2.4", "peer", "10.9.9.9", "dev", "lo"]);
    let mut expected = vec!["lo 10.1.2.3", "lo 10.1.2.4", "lo 127.0.0.1"];
    if std::fs::exists("/proc/net/if_inet6").unwrap() {
        namespace.run(&["ip", "address", "add", "fd00:77::10/64", "dev", "lo", "nodad"]);
        expected.extend(["lo ::1", "lo fd00:77::10"]);
    }
    let addresses = namespace.inside(|| LinuxHost::new().local_addresses()).unwrap();
    let text = |local: &LocalAddress| format!("{} {}", local.device, local.addr);
    assert_eq!(addresses.iter().map(text).collect::<Vec<_>>(), expected);
}

#[test]
fn sets_the_settings_of_this_namespace() {
    let Some(namespace) = Namespace::new("sysctl") else { return };
    let key = "net/ipv4/conf/all/route_localnet";
    let before = LinuxHost::new().sysctl_read(key).unwrap();
    namespace.inside(|| {
        let mut host = LinuxHost::new();
        assert_eq!(host.sysctl_read(key).unwrap().as_deref(), Some("0"));
        host.sysctl_write(key, "1").unwrap();
        assert_eq!(host.sysctl_read(key).unwrap().as_deref(), Some("1"));
        assert!(host.sysctl_write(key, "x").is_err());
    });
    assert_eq!(LinuxHost::new().sysctl_read(key).unwrap(), before);
}

#[test]
fn one_at_a_time_in_a_namespace() {
    let (Some(here), Some(there)) = (Namespace::new("lock"), Namespace::new("lock")) else { return };
    let lock = |limit| LinuxHost::new().lock(Duration::from_millis(limit), &mut |_| {});
    let first = here.inside(|| lock(0)).unwrap();
    assert_eq!(here.inside(|| lock(30)).unwrap_err().kind, HostErrorKind::Busy);
    let _elsewhere = there.inside(|| lock(0)).unwrap();
    let waited = std::thread::scope(|scope| {
        let second = scope.spawn(|| here.inside(|| lock(30_000)));
        std::thread::sleep(Duration::from_millis(50));
        drop(first);
        second.join().unwrap()
    });
    assert!(waited.is_ok());
}

/// Not a test by itself: the process that `a_killed_process_frees_its_lock` starts and kills.
#[test]
fn holds_the_lock_until_killed() {
    if std::env::var("SVCPROXY_TEST_HOLD_LOCK").is_err() {
        return;
    }
    let _guard = LinuxHost::new().lock(Duration::ZERO, &mut |_| {}).unwrap();
    eprintln!("locked");
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_killed_process_frees_its_lock() {
    let Some(namespace) = Namespace::new("killed") else { return };
    namespace.inside(|| {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "host_live::holds_the_lock_until_killed", "--nocapture"])
            .env("SVCPROXY_TEST_HOLD_LOCK", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap() == "locked"));
        let mut holders = Vec::new();
        let mut lock = |limit| {
            LinuxHost::new().lock(Duration::from_millis(limit), &mut |holder| holders.push(holder.to_owned()))
        };
        let busy = lock(20).map(|_| ()).unwrap_err();
        child.kill().unwrap();
        child.wait().unwrap();
        drop(lock(0).unwrap());
        assert_eq!(busy.kind, HostErrorKind::Busy);
        assert_eq!(holders.len(), 1);
        assert!(holders[0].starts_with(&format!("process {} (`", child.id())), "{holders:?}");
    });
}

/// Runs a check in a fresh namespace, if `nft` is there and this kernel has what it needs.
fn with_nft(check: impl Fn(&mut LinuxHost) + Sync) {
    let Some(namespace) = Namespace::new("nft") else { return };
    namespace.inside(|| {
        let mut host = LinuxHost::new();
        if host.nft_version().unwrap().is_none() {
            return skip("needs nft");
        }
        if let Err(error) = host.nft_run(b"add table ip trial\n", true) {
            return skip(&format!("`nft` does not work here: {error}"));
        }
        check(&mut host);
    });
}

#[test]
fn lists_what_nft_took() {
    with_nft(|host| {
        assert!(host.nft_version().unwrap() >= Some((0, 9, 0)));
        for family in ["ip", "ip6"] {
            let document =
                format!("add table {family} mine {{ comment \"m\" ; }}\nadd chain {family} mine a\n");
            assert_eq!(host.nft_list(family, "mine").unwrap(), None);
            host.nft_run(document.as_bytes(), true).unwrap();
            assert_eq!(host.nft_list(family, "mine").unwrap(), None, "a check makes nothing");
            host.nft_run(document.as_bytes(), false).unwrap();
            let listed = String::from_utf8(host.nft_list(family, "mine").unwrap().unwrap()).unwrap();
            assert!(listed.starts_with("{\"nftables\"") && listed.contains("\"name\": \"a\""), "{listed}");
            assert_eq!(host.nft_list(family, "other").unwrap(), None);
        }
    });
}

#[test]
fn nft_names_the_line_and_takes_nothing() {
    with_nft(|host| {
        let base = b"add table ip b\nadd chain ip b c\nadd map ip b m { type ipv4_addr : verdict ; }\n\
                     add map ip b d { type ipv4_addr : ipv4_addr ; }\nadd element ip b m { 10.0.0.1 : goto c }\n\
                     add element ip b d { 10.0.0.1 : 10.0.0.2 }\n";
        host.nft_run(base, false).unwrap();
        let before = host.nft_list("ip", "b").unwrap();
        let comment = format!("add rule ip b c accept comment \"{}\"", "x".repeat(129));
        let name = format!("add set ip b {} {{ type ipv4_addr ; }}", "x".repeat(300));
        for (command, kind, words) in [
            ("add rule ip b", HostErrorKind::Other, "syntax error, unexpected newline"),
            ("add rule ip b c jump nope", HostErrorKind::NotFound, "No such file or directory"),
            ("add rule ip b c ip saddr @nope accept", HostErrorKind::NotFound, "No such file or directory"),
            ("add element ip b m { 10.0.0.2 : goto nope }", HostErrorKind::NotFound, "No such file"),
            ("add element ip b d { 10.0.0.1 : 10.0.0.3 }", HostErrorKind::Exists, "File exists"),
            ("delete element ip b m { 10.0.0.9 }", HostErrorKind::NotFound, "No such file or directory"),
            ("delete chain ip b nope", HostErrorKind::NotFound, "No such file or directory"),
            ("delete chain ip b c", HostErrorKind::Busy, "Device or resource busy (still in use)"),
            ("delete table ip nope", HostErrorKind::NotFound, "No such file or directory"),
            (&comment, HostErrorKind::Other, "comment too long, 128 characters maximum allowed"),
            (&name, HostErrorKind::Other, "name too long, 256 characters maximum allowed"),
        ] {
            for check in [true, false] {
                let document = format!("add chain ip b new\n\n{command}\nadd chain ip b newer\n");
                let refused = host.nft_run(document.as_bytes(), check).unwrap_err();
                assert_eq!((refused.line, refused.error.kind), (Some(3), kind), "{command}: {refused}");
                assert!(refused.error.detail.contains(words), "{command}: {refused}");
                assert!(!refused.error.detail.contains("stdin"), "{command}: {refused}");
            }
        }
        assert_eq!(host.nft_list("ip", "b").unwrap(), before);
    });
}

#[test]
fn many_change_nftables_at_once() {
    with_nft(|host| {
        let document = |n: usize| {
            let start = format!("add table ip mine\nadd chain ip mine c{n}\nflush chain ip mine c{n}\n");
            let rule = |i: u8| format!("add rule ip mine c{n} ip saddr 10.0.0.{i} accept\n");
            start + &(0..=255).map(rule).collect::<String>()
        };
        host.nft_run(document(0).as_bytes(), false).unwrap();
        std::thread::scope(|scope| {
            for n in 1..=3 {
                let document = document(n);
                scope.spawn(move || {
                    let mut host = LinuxHost::new();
                    for _ in 0..5 {
                        host.nft_run(document.as_bytes(), false).unwrap();
                        assert!(host.nft_list("ip", "mine").unwrap().is_some());
                    }
                });
            }
        });
    });
}

/// The calls together: a client outside reaches pods through an address that only rules know.
#[test]
fn rules_carry_packets() {
    for variant in XtablesVariant::ALL {
        let Some(rig) = Rig::new(&RigSpec::default()) else { return };
        if !works(&format!("iptables-{variant}")) {
            continue;
        }
        let families = if rig.has_ipv6() { &IpFamily::ALL[..] } else { &[IpFamily::V4] };
        for family in families {
            let pick = |(v4, v6)| if *family == IpFamily::V4 { v4 } else { v6 };
            let vip: std::net::IpAddr = pick(("172.30.0.1".parse().unwrap(), "fd00:172::1".parse().unwrap()));
            let target = |port| std::net::SocketAddr::new(vip, port);
            let to = |address| std::net::SocketAddr::new(pick(address), 8080);
            let document = format!(
                "*nat\n:MINE - [0:0]\n:MINE-POST - [0:0]\n\
                 -A MINE -d {vip} -p tcp --dport 80 -j DNAT --to-destination {}\n\
                 -A MINE -d {vip} -p udp --dport 80 -j DNAT --to-destination {}\n\
                 -A MINE-POST -p udp --dport 8080 -j MASQUERADE\n\
                 -I PREROUTING 1 -j MINE\n-I OUTPUT 1 -j MINE\n-I POSTROUTING 1 -j MINE-POST\nCOMMIT\n",
                to(pod_addresses(2)),
                to(remote_addresses(1)),
            );
            rig.node_ns().inside(|| {
                let mut host = LinuxHost::new();
                host.xtables_restore(variant, *family, document.as_bytes(), RestoreMode::Commit).unwrap();
            });
            let limit = Duration::from_secs(3);
            let ask = |from, protocol| rig.ask(from, protocol, target(80), limit);
            let client = pick(("192.168.77.100".parse().unwrap(), "fd00:77::100".parse().unwrap()));
            let node = pick(("192.168.77.10".parse().unwrap(), "fd00:77::10".parse().unwrap()));
            let reply =
                |endpoint: &str, seen_source| Answer::Reply { endpoint: endpoint.to_owned(), seen_source };
            assert_eq!(ask(At::Client, Protocol::Tcp), reply("pod2", client));
            assert_eq!(ask(At::Client, Protocol::Udp), reply("remote1", node));
            assert_eq!(ask(At::Pod(1), Protocol::Tcp), reply("pod2", pick(pod_addresses(1))));
            assert_eq!(ask(At::Node, Protocol::Tcp).endpoint(), Some("pod2"));
        }
    }
}
