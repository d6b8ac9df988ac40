//! Tells what of virtual servers the kernel or ipvsadm would refuse, or take and never do.

use std::fmt;
use std::net::IpAddr;

use crate::net::{AddrPort, IpFamily, Protocol};
use crate::program::Tag;

use super::{Flags, Forward, RealServer, ServiceKey, Tunnel, VirtualServer, VirtualServers};

/// The longest persistence, in seconds: 31 days, what ipvsadm takes. The kernel multiplies it in 32 bits.
const MAX_PERSISTENCE: u32 = 31 * 86_400;
/// The greatest weight: in the kernel it has a sign.
const MAX_WEIGHT: u32 = i32::MAX.cast_unsigned();
/// The last kind of tunnel, GRE.
const MAX_TUNNEL: u8 = 2;
/// The kind of tunnel that has a port, GUE.
const GUE: u8 = 1;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The virtual server.
    pub server: ServiceKey,
    /// The real server; `None` if it is the virtual server itself.
    pub real_server: Option<AddrPort>,
    /// What is wrong.
    pub text: String,
    /// What the virtual server was made for.
    pub tag: Option<Tag>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "virtual server {}", self.server)?;
        if let Some(real_server) = &self.real_server {
            write!(f, ", real server {real_server}")?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Everything that is wrong, in the order of the virtual servers.
pub fn check(servers: &VirtualServers) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (key, server) in servers {
        let mut report = |real_server: Option<AddrPort>, text: String| {
            problems.push(Problem { server: *key, real_server, text, tag: server.tag });
        };
        check_key(key, server, &mut |text| report(None, text));
        check_persistence(key, server, &mut |text| report(None, text));
        for (at, real_server) in &server.real_servers {
            check_real_server(key, at, real_server, &mut |text| report(Some(*at), text));
        }
    }
    problems
}

fn check_key(key: &ServiceKey, server: &VirtualServer, report: &mut dyn FnMut(String)) {
    match key {
        ServiceKey::Mark { mark: 0, .. } => report("mark 0 is no mark".to_owned()),
        ServiceKey::Address { at, .. } if at.port == 0 && !server.flags.contains(Flags::PERSISTENT) => {
            report("port 0, which is every port, needs persistence".to_owned());
        }
        ServiceKey::Address { .. } | ServiceKey::Mark { .. } => {}
    }
    if let ServiceKey::Address { protocol: Protocol::Tcp | Protocol::Sctp, .. } = key
        && server.flags.contains(Flags::ONE_PACKET)
    {
        report("only datagrams of UDP can be scheduled one by one".to_owned());
    }
}

fn check_persistence(key: &ServiceKey, server: &VirtualServer, report: &mut dyn FnMut(String)) {
    let (seconds, bits) = (server.persistence_seconds, key.family().bits());
    if server.flags.contains(Flags::PERSISTENT) {
        if !(1..=MAX_PERSISTENCE).contains(&seconds) {
            report(format!("persistence for {seconds} s is not between 1 s and {MAX_PERSISTENCE} s"));
        }
        let shortest = match key.family() {
            IpFamily::V4 => 0,
            IpFamily::V6 => 1,
        };
        if !(shortest..=bits).contains(&server.netmask) {
            report(format!("a netmask of {} bits is not between {shortest} and {bits}", server.netmask));
        }
        return;
    }
    if seconds != 0 {
        report("a persistence timeout without persistence".to_owned());
    }
    if server.netmask != bits {
        report("a netmask without persistence".to_owned());
    }
    if let Some(engine) = &server.engine {
        report(format!("persistence engine `{engine}` without persistence"));
    }
}

fn check_real_server(
    key: &ServiceKey,
    at: &AddrPort,
    real_server: &RealServer,
    report: &mut dyn FnMut(String),
) {
    if at.family() != key.family() && real_server.forward != Forward::Tunnel {
        report("only a tunnel leads to the other family".to_owned());
    }
    if !is_unicast(at.addr) {
        report(format!("{} is no address of one machine", at.addr));
    }
    if real_server.weight > MAX_WEIGHT {
        report(format!("weight {} is more than {MAX_WEIGHT}", real_server.weight));
    }
    if real_server.lower_threshold > real_server.upper_threshold {
        report(format!(
            "lower threshold {} is above upper threshold {}",
            real_server.lower_threshold, real_server.upper_threshold
        ));
    }
    let tunnel = real_server.tunnel;
    if real_server.forward != Forward::Tunnel {
        if tunnel != Tunnel::default() {
            report("settings of a tunnel without a tunnel".to_owned());
        }
        return;
    }
    if tunnel.kind > MAX_TUNNEL {
        report(format!("there is no tunnel of kind {}", tunnel.kind));
    }
    if (tunnel.kind == GUE) != (tunnel.port != 0) {
        report("a tunnel of GUE, and no other, needs a port".to_owned());
    }
}

/// Whether the kernel takes it for a real server (`ip_vs_new_dest`), as far as routes do not matter.
fn is_unicast(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => !addr.is_unspecified() && !addr.is_broadcast() && !addr.is_multicast(),
        IpAddr::V6(addr) => !addr.is_unspecified() && !addr.is_multicast() && !addr.is_unicast_link_local(),
    }
}
