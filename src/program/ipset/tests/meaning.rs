//! Check and eval.

use super::*;
use crate::net::AddrPort;
use crate::program::ipset::check::check;
use crate::program::ipset::eval::{Side, Tuple, contains};

#[test]
fn mistakes_are_found() {
    let mut sets = sets_of(
        "create A hash:ip family inet maxelem 1\nadd A 10.0.0.1\nadd A 10.0.0.2\nadd A fd00::1\n\
         create A~ hash:ip,port family inet6\nadd A~ fd00::1,tcp:80\nadd A~ fd00::1,icmpv6:128/0\n\
         create B bitmap:port range 5-9\nadd B 5\nadd B 10\n\
         create C hash:ip,port,net family inet\nadd C 10.0.0.1,tcp:80,0.0.0.0/0\nadd C 10.0.0.1,tcp:80,fd00::/64\n\
         create D list:set size 8\nadd D A\n",
    );
    sets.get_mut(&name("B")).unwrap().entries.insert(Entry::Ip([10, 0, 0, 1].into()));
    let backwards = SetKind::BitmapPort { first: 9, last: 5 };
    sets.insert(name("E"), Set { kind: backwards, entries: [].into() });
    let problems: Vec<String> = check(&sets).iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "set A: set A~ bears the name under which its successor would be made",
            "set A: 3 entries are more than the 1 it holds",
            "set A: fd00::1 is of the other family",
            "set A~: fd00::1,icmpv6:128/0 is no entry of its type",
            "set B: 10.0.0.1 is no entry of its type",
            "set B: 10 is out of its range",
            "set C: 10.0.0.1,tcp:80,0.0.0.0/0 holds a network of length 0, which no hash can",
            "set C: 10.0.0.1,tcp:80,fd00::/64 is of the other family",
            "set D: kind `list:set size 8` is not modelled",
            "set E: first port 9 is after last port 5",
        ]
    );
}

/// `tcp 10.0.0.9:1234 10.0.0.1:80`: protocol, source, destination.
fn tuple(text: &str) -> Tuple {
    let [protocol, source, destination] = text.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let at = |text: &str| text.parse::<AddrPort>().unwrap();
    let protocol = Protocol::from_name(protocol).unwrap();
    Tuple { source: at(source), destination: at(destination), protocol }
}

/// Whether a set of a text has a packet, asked with `dst,dst`.
fn answer(set: &str, packet: &str, sides: &str) -> Option<bool> {
    let sets = sets_of(set);
    let sides: Vec<Side> = sides.split(',').map(|side| Side::from_name(side).unwrap()).collect();
    contains(sets.values().next().unwrap(), &tuple(packet), &sides)
}

#[test]
fn each_part_is_taken_from_its_side() {
    let packet = "tcp 10.0.0.9:1234 10.0.0.1:80";
    for (set, sides, expected) in [
        ("create A hash:ip\nadd A 10.0.0.1", "dst", true),
        ("create A hash:ip\nadd A 10.0.0.1", "src", false),
        ("create A hash:ip\nadd A 10.0.0.1", "dst,src", true),
        ("create A hash:ip,port\nadd A 10.0.0.1,tcp:80", "dst,dst", true),
        ("create A hash:ip,port\nadd A 10.0.0.1,tcp:80", "dst,src", false),
        ("create A hash:ip,port\nadd A 10.0.0.1,tcp:80", "dst", false),
        ("create A hash:ip,port\nadd A 10.0.0.1,udp:80", "dst,dst", false),
        ("create A hash:ip,port,ip\nadd A 10.0.0.1,tcp:80,10.0.0.9", "dst,dst,src", true),
        ("create A hash:ip,port,ip\nadd A 10.0.0.1,tcp:80,10.0.0.1", "dst,dst,src", false),
        ("create A hash:ip,port,net\nadd A 10.0.0.1,tcp:80,10.0.0.0/29", "dst,dst,src", false),
        ("create A hash:ip,port,net\nadd A 10.0.0.1,tcp:80,10.0.0.8/29", "dst,dst,src", true),
        ("create A hash:ip,port,net\nadd A 10.0.0.1,tcp:80,10.0.0.9", "dst,dst,src", true),
        ("create A hash:ip,port,net\nadd A 10.0.0.1,tcp:80,0.0.0.0/1", "dst,dst,src", true),
        ("create A hash:ip,port,net\nadd A 10.0.0.1,tcp:81,0.0.0.0/1", "dst,dst,src", false),
        ("create A bitmap:port range 0-65535\nadd A 80", "dst", true),
        ("create A bitmap:port range 0-65535\nadd A 80", "src", false),
        ("create A hash:ip family inet6\nadd A fd00::1", "dst", false),
    ] {
        assert_eq!(answer(set, packet, sides), Some(expected), "{set} {sides}");
    }
    let packet = "udp [fd00::9]:1234 [fd00::1]:53";
    assert_eq!(
        answer("create A hash:ip,port family inet6\nadd A fd00::1,udp:53", packet, "dst,dst"),
        Some(true)
    );
}

/// Seen in a kernel: it counted the packets that a rule matched.
#[test]
fn what_a_kernel_did() {
    let sctp = "sctp 127.0.0.1:1234 127.0.0.1:7777";
    let udp = "udp 127.0.0.1:1234 127.0.0.1:7777";
    let ports = "create p bitmap:port range 0-65535\nadd p 7777";
    assert_eq!(answer(ports, sctp, "dst"), Some(false));
    assert_eq!(answer(ports, udp, "dst,dst"), Some(true));
    let hash = "create h hash:ip,port\nadd h 127.0.0.1,sctp:7777";
    assert_eq!(answer(hash, sctp, "dst,dst"), Some(true));
    assert_eq!(answer(hash, sctp, "dst"), Some(false));
    let nets = "create n hash:ip,port,net\nadd n 127.0.0.1,udp:7777,127.0.0.0/8";
    assert_eq!(answer(nets, udp, "dst,dst,src"), Some(true));
    // It did not match this one, which is not modelled.
    let exception = format!("{nets}\nadd n 127.0.0.1,udp:7777,127.0.0.0/16 nomatch");
    assert_eq!(answer(&exception, udp, "dst,dst,src"), None);
}

#[test]
fn what_is_not_modelled_may_be_anything() {
    let packet = "tcp 10.0.0.9:1234 10.0.0.1:80";
    assert_eq!(answer("create A hash:net family inet\nadd A 10.0.0.0/8", packet, "dst"), None);
    let some = "create A hash:ip,port\nadd A 10.0.0.1,tcp:80\nadd A 10.0.0.2,gre:0";
    assert_eq!(answer(some, packet, "dst,dst"), Some(true));
    assert_eq!(answer(some, packet, "src,dst"), None);
}
