//! ipset: what was restored is saved, and why a line is refused.

use svcproxy::host::{Host, HostErrorKind};

use super::{alone, as_anybody};

/// The lines of a set, without what the kernel chooses.
fn entries(saved: &str, set: &str) -> Vec<String> {
    let head = format!("add {set} ");
    let mut found: Vec<String> =
        saved.lines().filter_map(|line| line.strip_prefix(&head)).map(str::to_owned).collect();
    found.sort();
    found
}

#[test]
fn saves_what_it_restored() {
    alone(|namespace, host| {
        assert!(host.ipset_version().unwrap() >= Some((6, 0)));
        assert_eq!(host.ipset_save().as_deref(), Ok(""));
        let document = b"create A hash:ip,port family inet maxelem 65536\n\
                         add A 10.0.0.1,tcp:80\nadd A 10.0.0.2,sctp:0\n\
                         create B hash:ip,port,net family inet6 maxelem 65536\nadd B fd00::1,udp:53,fd00:1::/64\n\
                         create C bitmap:port range 0-65535\nadd C 30080\n";
        host.ipset_restore(document).unwrap();
        let saved = host.ipset_save().unwrap();
        assert_eq!(saved, namespace.run(&["ipset", "save"]));
        assert_eq!(entries(&saved, "A"), ["10.0.0.1,tcp:80", "10.0.0.2,sctp:0"]);
        assert_eq!(entries(&saved, "B"), ["fd00::1,udp:53,fd00:1::/64"]);
        assert_eq!(entries(&saved, "C"), ["30080"]);
        // What is there already, or gone already, is fine.
        host.ipset_restore(document).unwrap();
        host.ipset_restore(b"del C 30080\ndel C 30080\ndestroy C\ndestroy C\n").unwrap();
        assert!(!host.ipset_save().unwrap().contains('C'));
    });
}

#[test]
fn names_the_line_that_was_refused() {
    use HostErrorKind::{Busy, Exists, NotFound, Other};
    alone(|namespace, host| {
        host.ipset_restore(b"create A hash:ip\ncreate FULL hash:ip maxelem 1\nadd FULL 10.0.0.1\n").unwrap();
        namespace.run(&["iptables-legacy", "-A", "INPUT", "-m", "set", "--match-set", "A", "src"]);
        for (command, kind, words) in [
            ("add NOPE 10.0.0.1", NotFound, "The set with the given name does not exist"),
            ("create A hash:net", Exists, "set with the same name already exists"),
            ("destroy A", Busy, "it is in use by a kernel component"),
            ("add FULL 10.0.0.2", Other, "Hash is full, cannot add more elements"),
            ("add A fd00::1", Other, "cannot parse fd00::1"),
        ] {
            let document = format!("add A 10.0.0.1\nadd A 10.0.0.2\n{command}\nadd A 10.0.0.9\n");
            let refused = host.ipset_restore(document.as_bytes()).unwrap_err();
            assert_eq!((refused.line, refused.error.kind), (Some(3), kind), "{command}: {refused}");
            assert!(refused.error.detail.contains(words), "{command}: {refused}");
            assert!(!host.ipset_save().unwrap().contains("10.0.0.9"), "{command}");
        }
    });
}

#[test]
fn needs_rights() {
    alone(|namespace, host| {
        host.ipset_restore(b"create A hash:ip\n").unwrap();
        let (saved, refused) = as_anybody(namespace, |host| {
            (host.ipset_save().unwrap_err(), host.ipset_restore(b"destroy A\n").unwrap_err())
        });
        let words = "cannot run `ipset`: Kernel error received: Operation not permitted";
        for error in [saved, refused.error] {
            assert_eq!((error.kind, error.to_string().as_str()), (HostErrorKind::Permission, words));
        }
        assert!(host.ipset_save().unwrap().contains("create A "));
    });
}
