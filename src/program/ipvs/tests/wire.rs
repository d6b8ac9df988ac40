//! Bytes against what ipvsadm and a kernel said to each other (`captured.txt`), and against chance.

use super::*;
use crate::program::ipvs::wire::{
    Message, WireError, destination, encode, get_destinations, get_info, get_services, get_timeouts, service,
    timeouts, version,
};

/// A captured message by its name.
fn captured(name: &str) -> Message {
    let line =
        include_str!("captured.txt").lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let hex = line.unwrap_or_else(|| panic!("no capture {name}"));
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    assert_eq!(bytes[1..4], [1, 0, 0], "version and padding");
    Message { command: bytes[0], body: bytes[4..].to_vec() }
}

/// Cuts a body after its first attribute.
fn after_first(body: &[u8]) -> (&[u8], &[u8]) {
    body.split_at(usize::from(u16::from_ne_bytes([body[0], body[1]])).next_multiple_of(4))
}

fn mark(mark: u32) -> ServiceKey {
    ServiceKey::Mark { family: IpFamily::V6, mark }
}

fn persistent(seconds: u32, netmask: u8) -> VirtualServer {
    VirtualServer { flags: Flags::PERSISTENT, persistence_seconds: seconds, netmask, ..server(&[]) }
}

/// The settings of the servers that the captures speak of.
fn settings(name: &str) -> (ServiceKey, VirtualServer) {
    match name {
        "persistent" => (key("tcp 10.96.0.20:80"), persistent(600, 24)),
        "weighted" => {
            (key("tcp 10.96.0.20:80"), VirtualServer { scheduler: scheduler("wrr"), ..server(&[]) })
        }
        "v6" => {
            let by_port = VirtualServer {
                scheduler: scheduler("sh"),
                flags: Flags::SCHEDULER_2,
                netmask: 128,
                ..server(&[])
            };
            (key("udp [fd00::20]:53"), by_port)
        }
        "mark" => (mark(7), persistent(60, 96)),
        "sctp" => (key("sctp 10.96.0.21:132"), server(&[])),
        "engine" => {
            let with_engine = VirtualServer { engine: Some(scheduler("sip")), ..persistent(60, 32) };
            (key("udp 10.96.0.22:5060"), with_engine)
        }
        _ => panic!("{name}"),
    }
}

fn tunneled() -> RealServer {
    RealServer {
        forward: Forward::Tunnel,
        tunnel: Tunnel { kind: 1, port: 6080, flags: 1 },
        ..RealServer::masqueraded(7)
    }
}

fn routed() -> RealServer {
    RealServer { forward: Forward::DirectRoute, ..RealServer::masqueraded(1) }
}

#[test]
fn services_are_written_as_ipvsadm_writes_them() {
    for name in ["persistent", "v6", "mark", "sctp", "engine"] {
        let (key, server) = settings(name);
        let message = encode(&Request::NewService(key, server.clone()));
        assert_eq!(message, captured(&format!("new-service-{name}")), "{name}");
        assert_eq!(service(&message.body), Ok((key, server)), "{name}");
    }
    let (web, weighted) = settings("weighted");
    assert_eq!(encode(&Request::SetService(web, weighted)), captured("set-service"));
    // ipvsadm sends empty settings along.
    let delete = encode(&Request::DeleteService(mark(7)));
    assert_eq!(delete.command, captured("delete-service-mark").command);
    assert_eq!(delete.body, captured("get-destinations-mark").body);
}

#[test]
fn destinations_are_written_as_ipvsadm_writes_them() {
    let web = key("tcp 10.96.0.20:80");
    let thresholds = RealServer { upper_threshold: 100, lower_threshold: 50, ..RealServer::masqueraded(1) };
    let new = Request::NewDestination;
    let masqueraded = at("10.244.1.5:8080");
    for (name, request) in [
        ("new-destination-masquerade", new(web, masqueraded, thresholds)),
        ("new-destination-tunnel", new(web, at("10.244.1.6:80"), tunneled())),
        (
            "new-destination-v6",
            new(key("udp [fd00::20]:53"), at("[fd00:1::5]:5353"), RealServer::masqueraded(2)),
        ),
        ("new-destination-mark", new(mark(7), at("[fd00:1::5]:0"), routed())),
        ("set-destination", Request::SetDestination(web, masqueraded, RealServer::masqueraded(0))),
    ] {
        let (ours, theirs) = (encode(&request), captured(name));
        assert_eq!(ours.command, theirs.command, "{name}");
        assert_eq!(after_first(&ours.body).1, after_first(&theirs.body).1, "{name}");
        let (Request::NewDestination(key, ..) | Request::SetDestination(key, ..)) = request else { continue };
        assert_eq!(after_first(&ours.body).0, get_destinations(&key).body, "{name}");
    }
    // ipvsadm sends settings along.
    let (ours, theirs) =
        (encode(&Request::DeleteDestination(web, at("10.244.1.6:80"))), captured("delete-destination"));
    assert_eq!(ours.command, theirs.command);
    let (ours, theirs) = (after_first(&ours.body).1, after_first(&theirs.body).1);
    assert_eq!(ours[2..4], theirs[2..4]);
    assert_eq!(ours[4..], theirs[4..ours.len()]);
}

#[test]
fn questions_are_those_of_ipvsadm() {
    assert_eq!(get_services(), captured("get-services"));
    assert_eq!(get_destinations(&key("tcp 10.96.0.20:80")), captured("get-destinations"));
    assert_eq!(get_destinations(&mark(7)), captured("get-destinations-mark"));
    assert_eq!(get_timeouts(), captured("get-timeouts"));
    assert_eq!(get_info(), captured("get-info"));
    let wanted = Timeouts { tcp: 900, tcp_fin: 120, udp: 300 };
    assert_eq!(encode(&Request::SetTimeouts(wanted)), captured("set-timeouts"));
    assert_eq!(timeouts(&captured("timeouts").body), Ok(wanted));
    assert_eq!(version(&captured("version").body), Ok([1, 2, 1]));
}

#[test]
fn replies_of_a_kernel_are_read() {
    for name in ["weighted", "v6", "mark", "sctp", "engine"] {
        let reply = captured(&format!("service-{name}"));
        let read = service(&reply.body).unwrap();
        assert_eq!(read.1.counters, Some(Counters::default()), "{name}");
        assert_eq!(read, settings(name), "{name}");
    }
    let without = service(&captured("service-without-scheduler").body).unwrap();
    assert_eq!((without.0, without.1.scheduler.as_str()), (key("tcp 10.96.0.20:81"), "none"));
    for (name, family, expected) in [
        ("tunnel", IpFamily::V4, (at("10.244.1.6:80"), tunneled())),
        ("drained", IpFamily::V4, (at("10.244.1.5:8080"), RealServer::masqueraded(0))),
        ("v6", IpFamily::V6, (at("[fd00:1::5]:5353"), RealServer::masqueraded(2))),
        ("mark", IpFamily::V6, (at("[fd00:1::5]:0"), routed())),
    ] {
        let reply = captured(&format!("destination-{name}"));
        assert_eq!(destination(&reply.body, family), Ok(expected), "{name}");
    }
}

#[test]
fn counters_and_connections_are_read() {
    let counters =
        Counters { connections: 3, packets_in: 14, packets_out: 10, bytes_in: 1052, bytes_out: 3544 };
    assert_eq!(service(&captured("service-busy").body).unwrap().1.counters, Some(counters));
    let reply = captured("destination-busy");
    let (_, busy) = destination(&reply.body, IpFamily::V4).unwrap();
    assert_eq!(busy.connections, Connections { active: 2, inactive: 1 });
    assert_eq!((busy.weight, busy.upper_threshold, busy.lower_threshold), (3, 9, 8));
}

/// The body with another kind for the first attribute within its first attribute that has this one.
fn renumbered(body: &[u8], from: u8) -> Vec<u8> {
    let mut body = body.to_vec();
    let mut at = 4;
    while body[at + 2] != from {
        at += usize::from(body[at]).next_multiple_of(4);
    }
    body[at + 2] = 99;
    body
}

#[test]
fn older_kernels_are_understood() {
    let reply = captured("destination-busy").body;
    let old = renumbered(&renumbered(&renumbered(&reply, 13), 12), 11);
    assert_eq!(destination(&old, IpFamily::V4), destination(&reply, IpFamily::V4));
    let busy = captured("service-busy").body;
    let counters = |body: &[u8]| service(body).unwrap().1.counters;
    assert!(counters(&busy).is_some());
    assert_eq!(counters(&renumbered(&busy, 12)), counters(&busy));
}

#[test]
fn what_is_not_understood_is_named() {
    let reply = captured("new-service-persistent");
    let without = |kind| service(&renumbered(&reply.body, kind));
    assert_eq!(without(1), Err(WireError::Missing("address family")));
    assert_eq!(without(6), Err(WireError::Missing("scheduler")));
    assert_eq!(without(6).unwrap_err().to_string(), "the scheduler is missing");
    let changed = |at: usize, byte: u8| {
        let mut body = reply.body.clone();
        body[at] = byte;
        service(&body)
    };
    let last = reply.body.len() - 1;
    assert_eq!(changed(last, 1), Err(WireError::Value("netmask")), "255.255.255.1");
    assert_eq!(changed(8, 3), Err(WireError::Value("address family")));
    assert_eq!(changed(16, 1), Err(WireError::Value("protocol")), "ICMP");
    assert_eq!(changed(4, 0xff), Err(WireError::Malformed("virtual server")));
    assert_eq!(service(&reply.body[..10]), Err(WireError::Malformed("message")));
    assert_eq!(service(&[]), Err(WireError::Missing("virtual server")));
    assert_eq!(destination(&reply.body, IpFamily::V4), Err(WireError::Missing("real server")));
}

/// The body of a request for a new real server with what a reply has besides: 1 active connection, 2 inactive ones.
fn as_reply(mut body: Vec<u8>) -> Vec<u8> {
    body.extend([8, 0, 7, 0, 1, 0, 0, 0, 8, 0, 8, 0, 2, 0, 0, 0]);
    let start = after_first(&body).0.len();
    let length = u16::try_from(body.len() - start).unwrap();
    body[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    body
}

#[test]
fn settings_that_the_kernel_never_looks_at_do_not_count() {
    let (web, server) = settings("sctp");
    let odd = VirtualServer { netmask: 24, persistence_seconds: 5, ..server.clone() };
    assert_eq!(service(&encode(&Request::NewService(web, odd)).body), Ok((web, server)));
    let request = |real_server| encode(&Request::NewDestination(web, at("10.0.0.9:1"), real_server)).body;
    let read = |real_server| destination(&as_reply(request(real_server)), IpFamily::V4).unwrap().1;
    assert_eq!(read(RealServer { forward: Forward::DirectRoute, ..tunneled() }).tunnel, Tunnel::default());
    assert_eq!(read(tunneled()).tunnel, tunneled().tunnel);
}

proptest! {
    #[test]
    fn what_is_written_is_read(v4 in servers(IpFamily::V4), v6 in servers(IpFamily::V6)) {
        for (key, server) in v4.iter().chain(&v6) {
            let body = encode(&Request::NewService(*key, server.clone())).body;
            let settings = VirtualServer { real_servers: BTreeMap::new(), ..server.clone() };
            prop_assert_eq!(service(&body), Ok((*key, settings)));
            for (at, real_server) in &server.real_servers {
                let body = encode(&Request::NewDestination(*key, *at, *real_server)).body;
                let read = destination(&as_reply(body), key.family());
                prop_assert_eq!(read.clone(), Ok((*at, *real_server)));
                prop_assert_eq!(read.unwrap().1.connections, Connections { active: 1, inactive: 2 });
            }
        }
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = (service(&bytes), timeouts(&bytes), version(&bytes));
        let _ = destination(&bytes, IpFamily::V6);
    }

    #[test]
    fn any_damage_gives_an_answer(at in 0..400usize, byte in any::<u8>(), cut in 0..400usize) {
        for name in ["service-busy", "service-mark", "destination-busy", "timeouts", "version"] {
            let mut bytes = captured(name).body;
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut);
            let _ = (service(&bytes), timeouts(&bytes), version(&bytes));
            let _ = destination(&bytes, IpFamily::V4);
        }
    }
}
