//! The language of ipset against the real tool and kernel: what we write is taken and saved again, differences carried out in
//! a network namespace give what is wanted, and the kernel in memory takes and refuses what the real one does.

use std::fs;
use std::path::{Path, PathBuf};

use svcproxy::program::Emitted;
use svcproxy::program::ipset::diff::{diff, drain_document, fill_document};
use svcproxy::program::ipset::restore::{RestoreError, restore};
use svcproxy::program::ipset::{SetKind, SetName, Sets, emit, parse};

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

fn load(namespace: &Namespace, document: Option<Emitted>) {
    let document = document.unwrap_or_default();
    let done = namespace.run_with(&["ipset", "restore"], &document.text);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&document.text));
}

fn save(namespace: &Namespace) -> Sets {
    parse::parse(&namespace.run(&["ipset", "save"])).unwrap()
}

/// Brings what is in a namespace to what is wanted, and looks.
fn bring(namespace: &Namespace, wanted: &Sets, what: &str) {
    let change = diff(wanted, &save(namespace), &|_| true);
    load(namespace, fill_document(&change, wanted));
    load(namespace, drain_document(&change));
    let after = save(namespace);
    assert_eq!(&after, wanted, "{what}");
    assert!(diff(wanted, &after, &|_| true).is_empty(), "{what}");
}

#[test]
fn recorded_sets_are_taken_and_saved_as_they_were() {
    let Some(namespace) = namespace() else { return };
    let (what, wanted) = recordings().swap_remove(5);
    load(&namespace, Some(emit::emit(&wanted, "written by a test")));
    assert_eq!(save(&namespace), wanted, "{what}");
}

#[test]
fn documents_take_one_recording_to_the_next() {
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
    load(&namespace, Some(emit::emit(&spare, "")));
    let nobody = |_: &SetName| false;
    let live = save(&namespace);
    let change = diff(&turned, &live, &nobody);
    load(&namespace, drain_document(&change));
    assert_eq!(save(&namespace), turned);
}

/// How far a document was done: all of it, or up to a line.
fn refused_line(text: &str) -> Option<u32> {
    let rest = text.split_once("Error in line ")?.1;
    rest.split(':').next()?.parse().ok()
}

#[test]
fn the_kernel_in_memory_does_what_the_real_one_does() {
    let start = "create A hash:ip family inet maxelem 3\nadd A 10.0.0.1\ncreate B hash:ip,port\nadd B 10.0.0.1,sctp:80\n\
        create C hash:ip family inet maxelem 65536 timeout 60\ncreate D hash:ip family inet6\ncreate E hash:ip,port,net family inet6\n\
        add E fd00::1,udp:53,fd00::/64\ncreate P bitmap:port range 0-65535\nadd P 80\n";
    for document in [
        "create A hash:ip maxelem 3\n",
        "create A hash:ip\n",
        "add A 10.0.0.1\n",
        "\n# a comment\nadd A 10.0.0.2\nadd A 10.0.0.2\n",
        "del A 10.0.0.2\n",
        "destroy NONE\n",
        "flush NONE\n",
        "add NONE 10.0.0.1\n",
        "del NONE 10.0.0.1\n",
        "swap A NONE\n",
        "swap A B\n",
        "swap A D\n",
        "swap A C\n",
        "add B 10.0.0.1,80\nadd B 10.0.0.1,udp:0\ndel B 10.0.0.1,tcp:80\n",
        "add E fd00::1,udp:53,fd00::9/64\n",
        "add E fd00::1,udp:53,fd00::9/128\nadd E fd00::1,udp:53,fd00::9\n",
        "add P 65535\nadd P 0\nadd P 80\n",
        "create P~ bitmap:port range 5-9\nadd P~ 7\nswap P~ P\ndestroy P~\n",
        "create A~ hash:ip\nadd A~ 10.0.0.9\nswap A~ A\ndestroy A~\nadd A 10.0.0.1\n",
        "flush A\nadd A 10.0.0.7\ndestroy B\n",
        "add A fd00::1\n",
        "add A what\n",
        "add D 10.0.0.1\n",
        "create P1 bitmap:port range 5-9\nadd P1 10\n",
        "add E fd00::1,udp:53,::/0\n",
        "add E fd00::1,udp:53\n",
    ] {
        for exist in [false, true] {
            let Some(namespace) = namespace() else { return };
            load(&namespace, Some(Emitted { text: start.into(), ..Emitted::default() }));
            let mut sets = parse::parse(start).unwrap();
            let ours = match restore(&mut sets, document, exist) {
                Ok(()) => None,
                Err(RestoreError::Parse(error)) => Some(error.line),
                Err(RestoreError::Apply { line, .. }) => Some(line),
            };
            let argv: &[&str] = if exist { &["ipset", "restore", "-exist"] } else { &["ipset", "restore"] };
            let done = namespace.run_with(argv, document.as_bytes());
            let said = String::from_utf8_lossy(&done.stderr);
            assert_eq!(ours.is_none(), done.status.success(), "{document}, exist: {exist}: {said}");
            assert_eq!(ours, refused_line(&said), "{document}, exist: {exist}: {said}");
            assert_eq!(sets, save(&namespace), "{document}, exist: {exist}");
        }
    }
}
