//! Check and eval.

use super::*;
use crate::program::Tag;
use crate::program::ipvs::check::check;
use crate::program::ipvs::eval::{Outcome, Share, eval, eval_mark};
use crate::program::ipvs::parse::parse;

fn problems(text: &str) -> Vec<String> {
    check(&parse(text).unwrap()).iter().map(ToString::to_string).collect()
}

#[test]
fn what_ipvsadm_makes_is_right() {
    let text = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 2147483647 -x 2 -y 2\n\
        -a -t 10.0.0.1:80 -r [fd00::1]:80 -i --tun-type gue --tun-port 1\n-A -u 10.0.0.1:0 -s rr -p 2678400 -M 0.0.0.0 -o\n\
        -A -f 1 -s wlc -o\n-A -t [fd00::1]:80 -s rr -p 1 -M 1 --pe sip\n-a -t [fd00::1]:80 -r [fd00::2]:0 -m\n";
    assert_eq!(problems(text), [""; 0]);
}

#[test]
fn mistakes_are_found() {
    let text = "-A -t 10.0.0.1:0 -s rr -o --pe sip\n\
        -a -t 10.0.0.1:0 -r [fd00::1]:80 -m\n-a -t 10.0.0.1:0 -r 0.0.0.0:80 -m\n-a -t 10.0.0.1:0 -r 224.0.0.1:80 -m\n\
        -a -t 10.0.0.1:0 -r 10.1.0.1:80 -m -w 2147483648\n-a -t 10.0.0.1:0 -r 10.1.0.2:80 -m -x 5 -y 10\n\
        -a -t 10.0.0.1:0 -r 10.1.0.3:80 -i --tun-type gue\n-a -t 10.0.0.1:0 -r 10.1.0.4:80 -i --tun-type gre --tun-port 1\n\
        -A -t 10.0.0.2:80 -s rr -p 2678401\n-A -t [fd00::1]:80 -s rr -p 0\n-a -t [fd00::1]:80 -r [fe80::1]:80 -m\n";
    assert_eq!(
        problems(text),
        [
            "virtual server 10.0.0.1:0/TCP: port 0, which is every port, needs persistence",
            "virtual server 10.0.0.1:0/TCP: only datagrams of UDP can be scheduled one by one",
            "virtual server 10.0.0.1:0/TCP: persistence engine `sip` without persistence",
            "virtual server 10.0.0.1:0/TCP, real server 0.0.0.0:80: 0.0.0.0 is no address of one machine",
            "virtual server 10.0.0.1:0/TCP, real server 10.1.0.1:80: weight 2147483648 is more than 2147483647",
            "virtual server 10.0.0.1:0/TCP, real server 10.1.0.2:80: lower threshold 10 is above upper threshold 5",
            "virtual server 10.0.0.1:0/TCP, real server 10.1.0.3:80: a tunnel of GUE, and no other, needs a port",
            "virtual server 10.0.0.1:0/TCP, real server 10.1.0.4:80: a tunnel of GUE, and no other, needs a port",
            "virtual server 10.0.0.1:0/TCP, real server 224.0.0.1:80: 224.0.0.1 is no address of one machine",
            "virtual server 10.0.0.1:0/TCP, real server [fd00::1]:80: only a tunnel leads to the other family",
            "virtual server 10.0.0.2:80/TCP: persistence for 2678401 s is not between 1 s and 2678400 s",
            "virtual server [fd00::1]:80/TCP: persistence for 0 s is not between 1 s and 2678400 s",
            "virtual server [fd00::1]:80/TCP, real server [fe80::1]:80: fe80::1 is no address of one machine",
        ]
    );
}

#[test]
fn what_no_text_can_say_is_found_too() {
    let mut odd = VirtualServer { netmask: 24, persistence_seconds: 3, tag: Some(Tag(4)), ..server(&[]) };
    let tunnel = Tunnel { kind: 1, port: 7, flags: 0 };
    odd.real_servers.insert(at("10.1.0.1:80"), RealServer { tunnel, ..RealServer::masqueraded(1) });
    let kind = RealServer {
        forward: Forward::Tunnel,
        tunnel: Tunnel { kind: 3, port: 0, flags: 0 },
        ..RealServer::masqueraded(1)
    };
    odd.real_servers.insert(at("10.1.0.2:80"), kind);
    let mark = ServiceKey::Mark { family: IpFamily::V4, mark: 0 };
    let wide = VirtualServer { flags: Flags::PERSISTENT, persistence_seconds: 1, netmask: 33, ..server(&[]) };
    let found = check(&VirtualServers::from([(key("tcp 10.0.0.1:80"), odd), (mark, wide)]));
    assert_eq!(found[0].tag, Some(Tag(4)));
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "virtual server 10.0.0.1:80/TCP: a persistence timeout without persistence",
            "virtual server 10.0.0.1:80/TCP: a netmask without persistence",
            "virtual server 10.0.0.1:80/TCP, real server 10.1.0.1:80: settings of a tunnel without a tunnel",
            "virtual server 10.0.0.1:80/TCP, real server 10.1.0.2:80: there is no tunnel of kind 3",
            "virtual server mark 0 of IPv4: mark 0 is no mark",
            "virtual server mark 0 of IPv4: a netmask of 33 bits is not between 0 and 32",
        ]
    );
}

/// `10.1.0.1:80@0.25`, one after the other.
fn shares(outcome: &Outcome) -> String {
    let Outcome::Choose { shares, .. } = outcome else { return format!("{outcome:?}") };
    let sum: f64 = shares.iter().map(|share| share.probability).sum();
    assert!((sum - 1.0).abs() < 1e-9);
    let shown = |share: &Share| format!("{}@{}", share.endpoint, share.probability);
    shares.iter().map(shown).collect::<Vec<_>>().join(" ")
}

#[test]
fn schedulers_part_connections_by_weight_or_not() {
    for (name, expected) in [
        ("rr", "10.1.0.1:80@0.5 10.1.0.2:80@0.5"),
        ("lc", "10.1.0.1:80@0.5 10.1.0.2:80@0.5"),
        ("wrr", "10.1.0.1:80@0.25 10.1.0.2:80@0.75"),
        ("wlc", "10.1.0.1:80@0.25 10.1.0.2:80@0.75"),
        ("sh", "10.1.0.1:80@0.25 10.1.0.2:80@0.75"),
        ("mh", "10.1.0.1:80@0.25 10.1.0.2:80@0.75"),
    ] {
        let servers = parse(&format!(
            "-A -t 10.0.0.1:80 -s {name}\n-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 1\n\
             -a -t 10.0.0.1:80 -r 10.1.0.2:80 -m -w 3\n-a -t 10.0.0.1:80 -r 10.1.0.3:80 -m -w 0\n"
        ))
        .unwrap();
        assert_eq!(shares(&eval(&servers, Protocol::Tcp, at("10.0.0.1:80"))), expected, "{name}");
    }
}

#[test]
fn nobody_and_somebody_else() {
    let servers = parse(
        "-A -t 10.0.0.1:80 -s rr\n-A -t 10.0.0.2:80 -s rr\n-a -t 10.0.0.2:80 -r 10.1.0.1:80 -m -w 0\n\
         -A -t 10.0.0.3:80 -s dh\n-a -t 10.0.0.3:80 -r 10.1.0.1:80 -m\n",
    )
    .unwrap();
    let ask = |protocol, to| eval(&servers, protocol, at(to));
    assert_eq!(ask(Protocol::Udp, "10.0.0.1:80"), Outcome::NotOurs);
    assert_eq!(ask(Protocol::Tcp, "10.0.0.1:81"), Outcome::NotOurs);
    assert_eq!(ask(Protocol::Tcp, "10.0.0.1:80"), Outcome::NoDestination(key("tcp 10.0.0.1:80")));
    assert_eq!(ask(Protocol::Tcp, "10.0.0.2:80"), Outcome::NoDestination(key("tcp 10.0.0.2:80")));
    assert_eq!(shares(&ask(Protocol::Tcp, "10.0.0.3:80")), "10.1.0.1:80@1", "there is no choice");
    let mut two = servers.clone();
    let more = (at("10.1.0.2:80"), RealServer::masqueraded(1));
    two.get_mut(&key("tcp 10.0.0.3:80")).unwrap().real_servers.extend([more]);
    assert_eq!(
        eval(&two, Protocol::Tcp, at("10.0.0.3:80")),
        Outcome::Unknown(
            key("tcp 10.0.0.3:80"),
            "scheduler `dh` chooses one for all packets to an address".to_owned()
        )
    );
}

#[test]
fn a_scheduler_may_be_missing_or_unknown() {
    let ask = |scheduler| {
        let text = format!("-A -t 10.0.0.1:80 -s {scheduler}\n-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 1\n");
        eval(&parse(&text).unwrap(), Protocol::Tcp, at("10.0.0.1:80"))
    };
    let web = key("tcp 10.0.0.1:80");
    assert_eq!(ask("none"), Outcome::NoDestination(web));
    assert_eq!(ask("new"), Outcome::Unknown(web, "scheduler `new` is not modelled".to_owned()));
}

#[test]
fn persistence_marks_and_every_port() {
    let servers = parse(
        "-A -t 10.0.0.1:0 -s rr -p 600\n-a -t 10.0.0.1:0 -r 10.1.0.1:0 -m\n-A -t 10.0.0.1:443 -s rr\n\
         -a -t 10.0.0.1:443 -r 10.1.0.2:8443 -m\n-A -t 10.0.0.2:0 -s rr\n-a -t 10.0.0.2:0 -r 10.1.0.1:0 -m\n\
         -A -f 5 -s rr\n-a -f 5 -r 10.1.0.3:0 -g\n",
    )
    .unwrap();
    let any = eval(&servers, Protocol::Tcp, at("10.0.0.1:22"));
    assert_eq!(shares(&any), "10.1.0.1:22@1");
    assert!(matches!(any, Outcome::Choose { persistence_seconds: Some(600), .. }));
    let exact = eval(&servers, Protocol::Tcp, at("10.0.0.1:443"));
    assert_eq!(shares(&exact), "10.1.0.2:8443@1");
    assert!(matches!(exact, Outcome::Choose { persistence_seconds: None, .. }));
    // A kernel refused it, though something listened on the port.
    let refused = eval(&servers, Protocol::Tcp, at("10.0.0.2:22"));
    assert_eq!(refused, Outcome::NoDestination(key("tcp 10.0.0.2:0")), "needs persistence");
    let marked = eval_mark(&servers, IpFamily::V4, 5, 80);
    assert_eq!(shares(&marked), "10.1.0.3:80@1");
    let Outcome::Choose { shares, .. } = marked else { panic!() };
    assert_eq!(shares[0].forward, Forward::DirectRoute);
    assert_eq!(eval_mark(&servers, IpFamily::V6, 5, 80), Outcome::NotOurs);
}
