//! What IPVS does with the first packet of a connection, in the long run: to which real servers, and how often to each.

use crate::net::{AddrPort, IpFamily, Port, Protocol};

use super::{Flags, Forward, RealServer, ServiceKey, VirtualServer, VirtualServers};

/// A real server that may get a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Where it is. Masquerading makes this the destination of the packet; all else sends the packet there as it is.
    pub endpoint: AddrPort,
    /// How packets reach it.
    pub forward: Forward,
    /// Its part of all connections, 0 to 1; the shares of an outcome add up to 1.
    pub probability: f64,
}

/// What becomes of a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// No virtual server takes it: IPVS lets the packet pass.
    NotOurs,
    /// The virtual server takes it and has no real server for it: the kernel refuses with an ICMP error, port unreachable.
    NoDestination(ServiceKey),
    /// It goes to one of these.
    Choose {
        /// The virtual server.
        server: ServiceKey,
        /// Real servers with a share, by address.
        shares: Vec<Share>,
        /// For how many seconds further connections of the client go to the same one, if they do.
        persistence_seconds: Option<u32>,
    },
    /// Not to be told: the scheduler goes by something that is not known. The text says what.
    Unknown(ServiceKey, String),
}

/// How a scheduler parts connections among real servers that have a weight above 0.
enum Sharing {
    /// The same for each, whatever its weight.
    Equal,
    /// By weight.
    Weighted,
    /// All at a time to one of them, which the text says more about.
    OneOf(&'static str),
    /// None to anyone: the virtual server has no scheduler.
    Nobody,
    /// In a way that is not modelled.
    Unmodelled,
}

impl Sharing {
    fn of(scheduler: &str) -> Sharing {
        match scheduler {
            "rr" | "lc" => Sharing::Equal,
            // `sh` and `mh` choose by the client; many clients are spread by weight.
            "wrr" | "wlc" | "sh" | "mh" => Sharing::Weighted,
            // Connections that have ended do not count: short ones all go to the greatest weight.
            "sed" | "nq" => Sharing::OneOf("goes by how busy real servers are"),
            "dh" | "lblc" | "lblcr" => Sharing::OneOf("chooses one for all packets to an address"),
            "fo" | "ovf" => Sharing::OneOf("chooses by weight until one is full"),
            "none" => Sharing::Nobody,
            _ => Sharing::Unmodelled,
        }
    }
}

/// Asks the virtual server of an address and port, or the one of all its ports, which does its work only if it is
/// persistent and refuses otherwise. Virtual servers of marks, which the kernel asks before, are a matter of
/// [`eval_mark`]. Thresholds are not looked at: no server is full.
pub fn eval(servers: &VirtualServers, protocol: Protocol, destination: AddrPort) -> Outcome {
    let find = |port| {
        let key = ServiceKey::Address { protocol, at: AddrPort::new(destination.addr, port) };
        servers.get(&key).map(|server| (key, server))
    };
    match find(destination.port).or_else(|| find(0)) {
        Some((key @ ServiceKey::Address { at: AddrPort { port: 0, .. }, .. }, server))
            if destination.port != 0 && !server.flags.contains(Flags::PERSISTENT) =>
        {
            Outcome::NoDestination(key)
        }
        Some((key, server)) => choose(key, server, destination.port),
        None => Outcome::NotOurs,
    }
}

/// Asks the virtual server of a mark.
pub fn eval_mark(servers: &VirtualServers, family: IpFamily, mark: u32, port: Port) -> Outcome {
    let key = ServiceKey::Mark { family, mark };
    servers.get(&key).map_or(Outcome::NotOurs, |server| choose(key, server, port))
}

/// `port` is the one that the packet is for.
fn choose(key: ServiceKey, server: &VirtualServer, port: Port) -> Outcome {
    let takes_more = |(_, real_server): &(&AddrPort, &RealServer)| real_server.weight > 0;
    let able: Vec<_> = server.real_servers.iter().filter(takes_more).collect();
    if able.is_empty() {
        return Outcome::NoDestination(key);
    }
    let scheduler = &server.scheduler;
    let weight = match Sharing::of(scheduler.as_str()) {
        Sharing::Equal => |_: &RealServer| 1.0,
        Sharing::Weighted => |real_server: &RealServer| f64::from(real_server.weight),
        Sharing::OneOf(_) if able.len() == 1 => |_: &RealServer| 1.0,
        Sharing::OneOf(why) => return Outcome::Unknown(key, format!("scheduler `{scheduler}` {why}")),
        Sharing::Nobody => return Outcome::NoDestination(key),
        Sharing::Unmodelled => {
            return Outcome::Unknown(key, format!("scheduler `{scheduler}` is not modelled"));
        }
    };
    let total: f64 = able.iter().map(|(_, real_server)| weight(real_server)).sum();
    // A real server without a port gets packets to the port that they are for, as those of a virtual server of every port.
    let keeps_port = matches!(key, ServiceKey::Address { at: AddrPort { port: 0, .. }, .. });
    let share = |(at, real_server): (&AddrPort, &RealServer)| Share {
        endpoint: if keeps_port || at.port == 0 { AddrPort::new(at.addr, port) } else { *at },
        forward: real_server.forward,
        probability: weight(real_server) / total,
    };
    Outcome::Choose {
        server: key,
        shares: able.into_iter().map(share).collect(),
        persistence_seconds: server.flags.contains(Flags::PERSISTENT).then_some(server.persistence_seconds),
    }
}
