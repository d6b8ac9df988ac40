//! ipset: what was sent is what the tool prints, what the tool made is what is read, and why a change is refused.

use svcproxy::host::{Host, HostErrorKind};
use svcproxy::net::IpFamily;
use svcproxy::program::ipset::{Change, Entry, HashType, SetKind, SetName, Sets, parse};

use super::{alone, as_anybody};

fn name(name: &str) -> SetName {
    SetName::new(name).unwrap()
}

fn hash(max_entries: u32) -> SetKind {
    SetKind::Hash { hash: HashType::Ip, family: IpFamily::V4, max_entries }
}

fn ip(text: &str) -> Entry {
    Entry::Ip(text.parse().unwrap())
}

const DOCUMENT: &str = "create A hash:ip,port family inet maxelem 65536\nadd A 10.0.0.1,tcp:80\nadd A 10.0.0.2,sctp:0\n\
    create B hash:ip,port,net family inet6 maxelem 65536\nadd B fd00::1,udp:53,fd00:1::/64\n\
    create C bitmap:port range 0-65535\nadd C 30080\n\
    create D hash:ip,port,ip family inet maxelem 7\nadd D 10.0.0.1,udp:1,10.0.0.2\n";

/// Changes that make all that sets hold.
fn making(sets: &Sets) -> Vec<Change> {
    let one = |(name, set): (&SetName, &svcproxy::program::ipset::Set)| {
        let entries = set.entries.iter().cloned().collect();
        [Change::Create(name.clone(), set.kind.clone()), Change::Add(name.clone(), entries)]
    };
    sets.iter().flat_map(one).collect()
}

#[test]
fn the_tool_prints_what_was_sent() {
    alone(|namespace, host| {
        assert_eq!(host.ipset_protocol(), Ok(Some(7)));
        assert_eq!(host.ipset_read(), Ok(Sets::new()));
        let sets = parse::parse(DOCUMENT).unwrap();
        host.ipset_change(&making(&sets)).unwrap();
        assert_eq!(parse::parse(&namespace.run(&["ipset", "save"])).as_ref(), Ok(&sets));
        assert_eq!(host.ipset_read().as_ref(), Ok(&sets));
        // What is there already, or gone already, is fine.
        host.ipset_change(&making(&sets)).unwrap();
        let port = || Change::Delete(name("C"), vec![Entry::Port(30080), Entry::Port(30080)]);
        host.ipset_change(&[port(), port(), Change::Destroy(name("C")), Change::Destroy(name("C"))]).unwrap();
        assert!(!host.ipset_read().unwrap().contains_key(&name("C")));
    });
}

#[test]
fn sets_of_the_tool_are_read_and_swapped() {
    alone(|namespace, host| {
        assert!(namespace.run_with(&["ipset", "restore"], DOCUMENT.as_bytes()).status.success());
        let sets = parse::parse(DOCUMENT).unwrap();
        assert_eq!(host.ipset_read().as_ref(), Ok(&sets));
        for (set, held) in &sets {
            let spare = Change::Create(set.spare(), held.kind.clone());
            host.ipset_change(&[spare, Change::Swap(set.spare(), set.clone()), Change::Destroy(set.spare())])
                .unwrap();
        }
        assert!(!namespace.run(&["ipset", "save"]).contains("add "));
    });
}

/// What the tool can make and no Service needs.
const FOREIGN: &str = "create a hash:ip,port family inet maxelem 65536\nadd a 10.0.0.3,gre:0\nadd a 10.0.0.1,tcp:0\n\
    create b hash:ip,port,net family inet maxelem 65536\nadd b 10.0.0.1,tcp:80,10.9.0.0/16 nomatch\n\
    create e hash:ip family inet maxelem 65536 timeout 0 counters comment\n\
    add e 10.0.0.1 timeout 0 packets 3 bytes 4 comment \"x y\"\n\
    create h hash:ip family inet maxelem 65536 netmask 24\nadd h 10.0.0.0\n\
    create i bitmap:ip range 10.0.0.0-10.0.0.255\nadd i 10.0.0.7\n\
    create j bitmap:ip,mac range 10.0.0.0-10.0.0.255\nadd j 10.0.0.7,02:00:00:00:0A:01\n\
    create k hash:net,iface family inet6 maxelem 65536\nadd k fd00::/64,eth0\nadd k fd00::1,physdev:eth1\n\
    create l hash:net,port,net family inet maxelem 65536\nadd l 10.0.0.0/8,udp:53,10.1.0.0/16\n\
    create m hash:mac maxelem 65536\nadd m 02:00:00:00:0A:01\n\
    create n hash:ip,mark family inet markmask 0x0000ffff maxelem 65536\nadd n 10.0.0.1,0x00000007\n\
    create o hash:net family inet maxelem 65536\nadd o 10.0.0.0/9\nadd o 10.0.0.1\n\
    create p list:set size 8\nadd p a\nadd p e\n";

#[test]
fn sets_of_others_are_read_as_the_tool_prints_them() {
    alone(|namespace, host| {
        assert!(namespace.run_with(&["ipset", "restore"], FOREIGN.as_bytes()).status.success());
        let saved = parse::parse(&namespace.run(&["ipset", "save"])).unwrap();
        assert_eq!(saved.len(), FOREIGN.matches("create ").count());
        assert_eq!(host.ipset_read(), Ok(saved));
    });
}

#[test]
fn names_the_change_that_was_refused() {
    use HostErrorKind::{Busy, Exists, NotFound, Other};
    alone(|namespace, host| {
        let add = |set: &str, entries: &[Entry]| Change::Add(name(set), entries.to_vec());
        let ports = SetKind::BitmapPort { first: 5, last: 9 };
        host.ipset_change(&[
            Change::Create(name("A"), hash(65536)),
            Change::Create(name("FULL"), hash(1)),
            add("FULL", &[ip("10.0.0.1")]),
            Change::Create(name("PORTS"), ports.clone()),
        ])
        .unwrap();
        namespace.run(&["iptables-legacy", "-A", "INPUT", "-m", "set", "--match-set", "A", "src"]);
        let far: Vec<Entry> = (1..=254).map(|last| Entry::Ip([10, 0, 1, last].into())).collect();
        for (change, kind, words) in [
            (
                add("NOPE", &[ip("10.0.0.1")]),
                NotFound,
                "cannot add entries to the set NOPE: there is no such set",
            ),
            (
                Change::Create(name("A"), hash(7)),
                Exists,
                "cannot make the set A: another with that name is there",
            ),
            (Change::Destroy(name("A")), Busy, "cannot delete the set A: it is in use by a kernel component"),
            (
                add("FULL", &[ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3")]),
                Other,
                "cannot add 10.0.0.2 to the set FULL: the hash is full, it takes no more entries",
            ),
            (
                add("FULL", &[&[ip("10.0.0.1")], &far[..]].concat()),
                Other,
                "cannot add 10.0.1.1 to the set FULL: the hash is full, it takes no more entries",
            ),
            (
                add("A", &[&far[..], &[ip("fd00::1")]].concat()),
                Other,
                "cannot add fd00::1 to the set A: it does not fit the set",
            ),
            (
                add("PORTS", &[Entry::Port(5), Entry::Port(10)]),
                Other,
                "cannot add 10 to the set PORTS: it is out of the range of the set",
            ),
            (
                Change::Swap(name("A"), name("NOPE")),
                NotFound,
                "cannot swap the sets A and NOPE: the second set does not exist",
            ),
            (
                Change::Swap(name("A"), name("PORTS")),
                Other,
                "cannot swap the sets A and PORTS: their types differ",
            ),
            (
                Change::Delete(name("A"), vec![ip("10.0.0.1"), ip("::1")]),
                Other,
                "cannot delete ::1 from the set A: it does not fit the set",
            ),
        ] {
            let changes = [add("A", &[ip("10.0.0.1")]), change.clone(), add("A", &[ip("10.0.0.9")])];
            let (index, error) = host.ipset_change(&changes).unwrap_err();
            assert_eq!((index, error.kind, error.to_string().as_str()), (1, kind, words));
            assert!(!host.ipset_read().unwrap()[&name("A")].entries.contains(&ip("10.0.0.9")), "{words}");
        }
    });
}

#[test]
fn needs_rights() {
    alone(|namespace, host| {
        host.ipset_change(&[Change::Create(name("A"), hash(1))]).unwrap();
        let (read, (index, refused)) = as_anybody(namespace, |host| {
            let changes = [Change::Destroy(name("A")), Change::Destroy(name("A"))];
            (host.ipset_read().unwrap_err(), host.ipset_change(&changes).unwrap_err())
        });
        assert_eq!(index, 0);
        let words = "Operation not permitted, sets need CAP_NET_ADMIN";
        for (error, action) in [(read, "read sets"), (refused, "change sets")] {
            assert_eq!(
                (error.kind, error.to_string()),
                (HostErrorKind::Permission, format!("cannot {action}: {words}"))
            );
        }
        assert!(host.ipset_read().unwrap().contains_key(&name("A")));
    });
}
