//! The language of ipset against the real tool and kernel: what we write is taken and saved again, changes sent to the kernel
//! of a network namespace give what is wanted, what is read there is what the tool prints, and the kernel in memory takes and
//! refuses what the real one does.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use svcproxy::host::{Host, HostError, LinuxHost};
use svcproxy::net::{IpCidr, IpFamily, Protocol};
use svcproxy::program::ipset::change::{Change, apply};
use svcproxy::program::ipset::diff::{diff, drain, fill};
use svcproxy::program::ipset::{Entry, HashType, SetKind, SetName, Sets, emit, parse};

use crate::rig::{Namespace, skip};

/// The recorded sets, by cluster.
fn recordings() -> Vec<(String, Sets)> {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let read = |folder: &PathBuf| {
        let text = fs::read_to_string(folder.join("ipset-save.txt")).unwrap();
        (folder.display().to_string(), parse::parse(&text).unwrap())
    };
    folders.iter().map(read).collect()
}

/// A namespace in which ipset works, or `None`, said out loud.
fn namespace() -> Option<Namespace> {
    let namespace = Namespace::new("ipset")?;
    let works = namespace.run_with(&["sh", "-c", "ipset save"], b"");
    if !works.status.success() {
        skip(&format!("ipset does not work here: {}", String::from_utf8_lossy(&works.stderr)));
        return None;
    }
    Some(namespace)
}

/// Lets the tool make sets.
fn load(namespace: &Namespace, document: &[u8]) {
    let done = namespace.run_with(&["ipset", "restore"], document);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(document));
}

/// What the tool prints of all sets.
fn save(namespace: &Namespace) -> Sets {
    parse::parse(&namespace.run(&["ipset", "save"])).unwrap()
}

/// What is read without it.
fn read(namespace: &Namespace) -> Sets {
    namespace.inside(|| LinuxHost::new().ipset_read().unwrap())
}

fn change(namespace: &Namespace, changes: &[Change]) -> Result<(), (usize, HostError)> {
    namespace.inside(|| LinuxHost::new().ipset_change(changes))
}

/// Brings what is in a namespace to what is wanted, and looks.
fn bring(namespace: &Namespace, wanted: &Sets, what: &str) {
    let difference = diff(wanted, &read(namespace), &|_| true);
    change(namespace, &fill(&difference, wanted)).unwrap();
    change(namespace, &drain(&difference)).unwrap();
    let after = read(namespace);
    assert_eq!(&after, wanted, "{what}");
    assert_eq!(save(namespace), after, "{what}");
    assert!(diff(wanted, &after, &|_| true).is_empty(), "{what}");
}

#[test]
fn recorded_sets_are_taken_and_saved_as_they_were() {
    let Some(namespace) = namespace() else { return };
    let (what, wanted) = recordings().swap_remove(5);
    load(&namespace, &emit::emit(&wanted, "written by a test").text);
    assert_eq!(save(&namespace), wanted, "{what}");
    assert_eq!(read(&namespace), wanted, "{what}");
}

#[test]
fn changes_take_one_recording_to_the_next() {
    let Some(namespace) = namespace() else { return };
    for (what, wanted) in recordings() {
        bring(&namespace, &wanted, &what);
    }
    bring(&namespace, &Sets::new(), "nothing");
}

#[test]
fn what_cannot_be_changed_is_made_again() {
    let Some(namespace) = namespace() else { return };
    let (_, wanted) = recordings().swap_remove(5);
    bring(&namespace, &wanted, "at first");
    let mut changed = wanted.clone();
    for set in changed.values_mut() {
        match &mut set.kind {
            SetKind::Hash { max_entries, .. } => *max_entries = 1000,
            SetKind::BitmapPort { first, .. } => *first = 1,
            SetKind::Unmodelled(text) => panic!("{text}"),
        }
    }
    bring(&namespace, &changed, "other options");
    // One of two sets stands where the other stood, of another family.
    let names: Vec<&SetName> = wanted.keys().collect();
    let mut turned = Sets::new();
    for (name, set) in names.iter().rev().zip(wanted.values()) {
        turned.insert((*name).clone(), set.clone());
    }
    bring(&namespace, &turned, "other types and families");
    // As a replacement leaves it that was cut short before its last word.
    let set = wanted.first_key_value().unwrap();
    let spare = Sets::from([(set.0.spare(), set.1.clone())]);
    load(&namespace, &emit::emit(&spare, "").text);
    let nobody = |_: &SetName| false;
    change(&namespace, &drain(&diff(&turned, &read(&namespace), &nobody))).unwrap();
    assert_eq!(save(&namespace), turned);
}

#[test]
fn the_kernel_in_memory_does_what_the_real_one_does() {
    let start = "create A hash:ip family inet maxelem 3\nadd A 10.0.0.1\ncreate B hash:ip,port\nadd B 10.0.0.1,sctp:80\n\
        create C hash:ip family inet maxelem 65536 timeout 60\ncreate D hash:ip family inet6\ncreate E hash:ip,port,net family inet6\n\
        add E fd00::1,udp:53,fd00::/64\ncreate P bitmap:port range 0-65535\nadd P 80\n";
    let name = |name: &str| SetName::new(name).unwrap();
    let ip = |text: &str| Entry::Ip(text.parse().unwrap());
    let (v4, v6) = (ip("10.0.0.2"), ip("fd00::1"));
    let to = |text: &str| {
        let (addr, length) = text.split_once('/').unwrap();
        let net = IpCidr::new(addr.parse().unwrap(), length.parse().unwrap()).unwrap();
        Entry::IpPortNet("fd00::1".parse().unwrap(), Protocol::Udp, 53, net)
    };
    let port = |protocol, port| Entry::IpPort("10.0.0.1".parse().unwrap(), protocol, port);
    let hash = |max_entries| SetKind::Hash { hash: HashType::Ip, family: IpFamily::V4, max_entries };
    let ports = SetKind::BitmapPort { first: 5, last: 9 };
    let create = |set: &str, kind: &SetKind| Change::Create(name(set), kind.clone());
    let add = |set: &str, entries: &[&Entry]| {
        Change::Add(name(set), entries.iter().map(|entry| (*entry).clone()).collect())
    };
    let delete = |set: &str, entries: &[&Entry]| {
        Change::Delete(name(set), entries.iter().map(|entry| (*entry).clone()).collect())
    };
    let swap = |set: &str, other: &str| Change::Swap(name(set), name(other));
    let destroy = |set: &str| Change::Destroy(name(set));
    let many: Vec<Entry> = (0..2000_u32).map(|n| Entry::Ip(Ipv4Addr::from(0x0a01_0000 + n).into())).collect();
    let many: Vec<&Entry> = many.iter().collect();
    for changes in [
        vec![create("A", &hash(3))],
        vec![create("A", &hash(65536))],
        vec![create("A", &ports)],
        vec![add("A", &[&v4, &v4]), add("A", &[&v4])],
        vec![delete("A", &[&v4, &v4])],
        vec![destroy("NONE")],
        vec![add("NONE", &[&v4])],
        vec![delete("NONE", &[&v4])],
        vec![swap("A", "NONE")],
        vec![swap("A", "B")],
        vec![swap("A", "D")],
        vec![swap("A", "C")],
        vec![
            add("B", &[&port(Protocol::Tcp, 80), &port(Protocol::Udp, 0)]),
            delete("B", &[&port(Protocol::Tcp, 80)]),
        ],
        vec![add("E", &[&to("fd00::/64"), &to("fd00::9/128"), &to("fd00::9/128")])],
        vec![add("P", &[&Entry::Port(65535), &Entry::Port(0), &Entry::Port(80)])],
        vec![create("P~", &ports), add("P~", &[&Entry::Port(7)]), swap("P~", "P"), destroy("P~")],
        vec![
            create("A~", &hash(9)),
            add("A~", &[&ip("10.0.0.9")]),
            swap("A~", "A"),
            destroy("A~"),
            add("A", &[&v4]),
        ],
        vec![destroy("B"), destroy("B")],
        vec![add("A", &[&v6])],
        vec![add("A", &[&v4, &v6, &ip("10.0.0.3")])],
        vec![add("D", &[&v4])],
        vec![create("P1", &ports), add("P1", &[&Entry::Port(5), &Entry::Port(10), &Entry::Port(9)])],
        vec![add("E", &[&to("::/0")])],
        vec![add("E", &[&port(Protocol::Tcp, 1)])],
        // More than fit into one message; the one that does not fit is in a later one.
        vec![create("M", &hash(2000)), add("M", &many), delete("M", &many[..1500])],
        vec![create("M", &hash(1234)), add("M", &many), destroy("A")],
    ] {
        let Some(namespace) = namespace() else { return };
        load(&namespace, start.as_bytes());
        let mut sets = parse::parse(start).unwrap();
        let refused = changes.iter().position(|change| apply(&mut sets, change).is_err());
        let done = change(&namespace, &changes);
        assert_eq!(done.as_ref().err().map(|(index, _)| *index), refused, "{changes:?}: {done:?}");
        assert_eq!(save(&namespace), sets, "{changes:?}: {done:?}");
        assert_eq!(read(&namespace), sets, "{changes:?}: {done:?}");
    }
}
