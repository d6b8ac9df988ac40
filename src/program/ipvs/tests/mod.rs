//! Tests of the language on recordings, small tables and random ones.

mod diff;
mod meaning;
mod text;
mod wire;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn scheduler(name: &str) -> SchedulerName {
    SchedulerName::new(name).unwrap()
}

fn at(text: &str) -> AddrPort {
    text.parse().unwrap()
}

/// `tcp 10.0.0.1:80`.
fn key(text: &str) -> ServiceKey {
    let (protocol, address) = text.split_once(' ').unwrap();
    ServiceKey::Address { protocol: Protocol::from_name(protocol).unwrap(), at: at(address) }
}

/// A virtual server with real servers of these weights and numbers of connections.
fn server(real_servers: &[(&str, u32, u32)]) -> VirtualServer {
    let real_server = |&(address, weight, active): &(&str, u32, u32)| {
        let connections = Connections { active, inactive: 0 };
        (at(address), RealServer { connections, ..RealServer::masqueraded(weight) })
    };
    VirtualServer {
        scheduler: scheduler("rr"),
        flags: Flags::default(),
        persistence_seconds: 0,
        netmask: 32,
        engine: None,
        real_servers: real_servers.iter().map(real_server).collect(),
        counters: None,
        tag: None,
    }
}

/// Virtual servers of one family with few addresses, so that two of them have much in common; all that `ipvsadm` can say.
fn servers(family: IpFamily) -> BoxedStrategy<VirtualServers> {
    let addr = move |last: u8| match family {
        IpFamily::V4 => std::net::IpAddr::from([10, 0, 0, last]),
        IpFamily::V6 => std::net::IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)]),
    };
    let address = (0..3usize, 1..3u8, 0..2u16).prop_map(move |(protocol, last, port)| ServiceKey::Address {
        protocol: Protocol::ALL[protocol],
        at: AddrPort::new(addr(last), port * 80),
    });
    let mark = prop_oneof![Just(1), Just(u32::MAX)].prop_map(move |mark| ServiceKey::Mark { family, mark });
    let key = prop_oneof![6 => address, 1 => mark];
    let real_server = (0..3u8, 0..3u32, 0..2u32, 0..6u8, 0..3u32).prop_map(
        |(forward, weight, active, tunnel, threshold)| {
            let forward = [Forward::Masquerade, Forward::DirectRoute, Forward::Tunnel][usize::from(forward)];
            let tunnel = match (forward, tunnel) {
                (Forward::Tunnel, 0..3) => Tunnel { kind: 1, port: 6080, flags: u16::from(tunnel) },
                (Forward::Tunnel, 3..5) => Tunnel { kind: 2, port: 0, flags: u16::from(tunnel) - 3 },
                _ => Tunnel::default(),
            };
            RealServer {
                forward,
                tunnel,
                upper_threshold: threshold,
                lower_threshold: threshold / 2,
                connections: Connections { active, inactive: 0 },
                ..RealServer::masqueraded(weight)
            }
        },
    );
    let at = (0..4u8, 0..2u16).prop_map(move |(last, port)| AddrPort::new(addr(100 + last), 8080 * port));
    let real_servers = proptest::collection::btree_map(at, real_server, 0..4);
    let scheduler = proptest::sample::select(vec!["rr", "wlc", "sh", "mh"]);
    let settings = (scheduler, 0..16u32, 1..3u32, any::<bool>(), any::<bool>());
    let server = (settings, real_servers).prop_map(
        move |((scheduler, flags, seconds, is_whole, has_engine), real_servers)| {
            // Bit 0 is persistence, bit 1 the kernel's own.
            let flags = Flags::from_bits(flags << 2 | u32::from(flags & 2 != 0));
            let is_persistent = flags.contains(Flags::PERSISTENT);
            VirtualServer {
                scheduler: super::SchedulerName::new(scheduler).unwrap(),
                flags,
                persistence_seconds: if is_persistent { seconds } else { 0 },
                netmask: if is_persistent && !is_whole { 24 } else { family.bits() },
                engine: (is_persistent && has_engine).then(|| SchedulerName::new("sip").unwrap()),
                real_servers,
                counters: None,
                tag: None,
            }
        },
    );
    proptest::collection::btree_map(key, server, 0..5).boxed()
}

/// The keys that a test calls its own.
fn all(_: &ServiceKey) -> bool {
    true
}

/// Without real servers that only wait for their connections to end.
fn without_draining(mut servers: VirtualServers, draining: &[(ServiceKey, AddrPort)]) -> VirtualServers {
    for (key, at) in draining {
        let real_server = servers.get_mut(key).unwrap().real_servers.remove(at).unwrap();
        assert_eq!(real_server.weight, 0, "{key} {at}");
    }
    servers
}

/// A kernel's servers after these requests.
fn after(live: &VirtualServers, requests: &[Request]) -> VirtualServers {
    let mut servers: BTreeMap<ServiceKey, VirtualServer> = live.clone();
    for request in requests {
        apply::apply(&mut servers, request).unwrap();
    }
    servers
}
