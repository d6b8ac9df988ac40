//! What virtual servers tell apart, and where packets go on from them.

use crate::net::{AddrPort, IpFamily, Port, Protocol};
use crate::program::question::{Destination, Destinations, Questions};

use super::{Flags, ServiceKey, VirtualServer, VirtualServers};

/// Destinations that have a virtual server.
pub fn destinations(servers: &VirtualServers, found: &mut Destinations) {
    for key in servers.keys() {
        if let ServiceKey::Address { at, .. } = key {
            found.hosts.insert(at.addr);
        }
    }
}

/// What virtual servers ask of packets to a destination; where they send them comes back.
pub fn questions(
    servers: &VirtualServers,
    destination: &Destination,
    found: &mut Questions,
) -> Vec<Destination> {
    let mut sent_to = Vec::new();
    for protocol in Protocol::ALL {
        if destination.service.is_some_and(|(known, _)| known != protocol) {
            continue;
        }
        let at = |port| ServiceKey::Address { protocol, at: AddrPort::new(destination.addr, port) };
        for (key, server) in servers.range(at(Port::MIN)..=at(Port::MAX)) {
            let ServiceKey::Address { at: AddrPort { port, .. }, .. } = *key else { continue };
            let keeps_port = port == 0;
            match destination.service {
                None => {
                    found.protocols.insert(protocol);
                    if !keeps_port {
                        found.ports.insert((Some(protocol), port, port));
                    }
                }
                Some((_, known)) if known == port || keeps_port => {}
                Some(_) => continue,
            }
            // Where packets to a port that is not known yet go is asked when it is.
            if keeps_port || destination.service.is_some() {
                follow(server, keeps_port, destination, found, &mut sent_to);
            }
        }
    }
    let family = IpFamily::of(destination.addr);
    let of_mark = |mark| ServiceKey::Mark { family, mark };
    for server in servers.range(of_mark(u32::MIN)..=of_mark(u32::MAX)).map(|(_, server)| server) {
        follow(server, false, destination, found, &mut sent_to);
    }
    sent_to
}

fn follow(
    server: &VirtualServer,
    keeps_port: bool,
    destination: &Destination,
    found: &mut Questions,
    sent_to: &mut Vec<Destination>,
) {
    if server.flags.contains(Flags::PERSISTENT) {
        found.lifetimes.insert(server.persistence_seconds);
    }
    sent_to.extend(server.real_servers.keys().map(|at| {
        let to = |(protocol, port)| (protocol, if keeps_port || at.port == 0 { port } else { at.port });
        Destination { addr: at.addr, service: destination.service.map(to) }
    }));
}
