//! Generic netlink messages of IPVS, family [`FAMILY`] (`include/uapi/linux/ip_vs.h`): requests to bytes, replies to
//! values. What is here is what follows the header of generic netlink; sockets are the host's.
//!
//! Numbers are in the order of this machine, addresses and ports in that of the network.

use std::net::{IpAddr, Ipv4Addr};

use crate::net::{AddrPort, IpFamily, Protocol};
pub use crate::program::attributes::WireError;
use crate::program::attributes::{Attributes, nested, push, push_text};

use super::{
    Connections, Counters, Flags, Forward, RealServer, Request, SchedulerName, ServiceKey, Timeouts, Tunnel,
    VirtualServer, netmask,
};

/// The name under which the kernel tells the number of the family.
pub const FAMILY: &str = "IPVS";
/// The version of the family, for the header of generic netlink.
pub const VERSION: u8 = 1;

/// One message: the command of its header, and the attributes after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `IPVS_CMD_…`.
    pub command: u8,
    /// Its attributes.
    pub body: Vec<u8>,
}

/// `IPVS_CMD_…`
mod command {
    pub(super) const NEW_SERVICE: u8 = 1;
    pub(super) const SET_SERVICE: u8 = 2;
    pub(super) const DEL_SERVICE: u8 = 3;
    pub(super) const GET_SERVICE: u8 = 4;
    pub(super) const NEW_DEST: u8 = 5;
    pub(super) const SET_DEST: u8 = 6;
    pub(super) const DEL_DEST: u8 = 7;
    pub(super) const GET_DEST: u8 = 8;
    pub(super) const SET_CONFIG: u8 = 12;
    pub(super) const GET_CONFIG: u8 = 13;
    pub(super) const GET_INFO: u8 = 15;
}

/// `IPVS_CMD_ATTR_…`
mod attribute {
    pub(super) const SERVICE: u16 = 1;
    pub(super) const DEST: u16 = 2;
    pub(super) const TIMEOUT_TCP: u16 = 4;
    pub(super) const TIMEOUT_TCP_FIN: u16 = 5;
    pub(super) const TIMEOUT_UDP: u16 = 6;
}

/// `IPVS_SVC_ATTR_…`
mod service_attribute {
    pub(super) const AF: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
    pub(super) const ADDR: u16 = 3;
    pub(super) const PORT: u16 = 4;
    pub(super) const FWMARK: u16 = 5;
    pub(super) const SCHED_NAME: u16 = 6;
    pub(super) const FLAGS: u16 = 7;
    pub(super) const TIMEOUT: u16 = 8;
    pub(super) const NETMASK: u16 = 9;
    pub(super) const STATS: u16 = 10;
    pub(super) const PE_NAME: u16 = 11;
    pub(super) const STATS64: u16 = 12;
}

/// `IPVS_DEST_ATTR_…`
mod dest_attribute {
    pub(super) const ADDR: u16 = 1;
    pub(super) const PORT: u16 = 2;
    pub(super) const FWD_METHOD: u16 = 3;
    pub(super) const WEIGHT: u16 = 4;
    pub(super) const U_THRESH: u16 = 5;
    pub(super) const L_THRESH: u16 = 6;
    pub(super) const ACTIVE_CONNS: u16 = 7;
    pub(super) const INACT_CONNS: u16 = 8;
    pub(super) const ADDR_FAMILY: u16 = 11;
    pub(super) const TUN_TYPE: u16 = 13;
    pub(super) const TUN_PORT: u16 = 14;
    pub(super) const TUN_FLAGS: u16 = 15;
}

/// `IPVS_STATS_ATTR_…`
mod stats_attribute {
    pub(super) const CONNS: u16 = 1;
    pub(super) const INPKTS: u16 = 2;
    pub(super) const OUTPKTS: u16 = 3;
    pub(super) const INBYTES: u16 = 4;
    pub(super) const OUTBYTES: u16 = 5;
}

/// `IPVS_INFO_ATTR_VERSION`
const INFO_VERSION: u16 = 1;
/// `IP_VS_CONN_F_FWD_MASK`
const FORWARD_MASK: u32 = 0x7;
/// Forwarding methods in the order of their numbers.
const FORWARDS: [Forward; 5] =
    [Forward::Masquerade, Forward::Local, Forward::Tunnel, Forward::DirectRoute, Forward::Bypass];

/// The message that asks for a change. It wants an acknowledgement or none, and no other flags of netlink.
pub fn encode(request: &Request) -> Message {
    let mut body = Vec::with_capacity(256);
    let command = match request {
        Request::NewService(key, server) => {
            push_service(&mut body, key, Some(server));
            command::NEW_SERVICE
        }
        Request::SetService(key, server) => {
            push_service(&mut body, key, Some(server));
            command::SET_SERVICE
        }
        Request::DeleteService(key) => {
            push_service(&mut body, key, None);
            command::DEL_SERVICE
        }
        Request::NewDestination(key, at, real_server) => {
            push_service(&mut body, key, None);
            push_destination(&mut body, at, Some(real_server));
            command::NEW_DEST
        }
        Request::SetDestination(key, at, real_server) => {
            push_service(&mut body, key, None);
            push_destination(&mut body, at, Some(real_server));
            command::SET_DEST
        }
        Request::DeleteDestination(key, at) => {
            push_service(&mut body, key, None);
            push_destination(&mut body, at, None);
            command::DEL_DEST
        }
        Request::SetTimeouts(timeouts) => {
            push(&mut body, attribute::TIMEOUT_TCP, &timeouts.tcp.to_ne_bytes());
            push(&mut body, attribute::TIMEOUT_TCP_FIN, &timeouts.tcp_fin.to_ne_bytes());
            push(&mut body, attribute::TIMEOUT_UDP, &timeouts.udp.to_ne_bytes());
            command::SET_CONFIG
        }
    };
    Message { command, body }
}

/// Asks for all virtual servers, without their real servers: a dump, each reply one for [`service`].
pub fn get_services() -> Message {
    Message { command: command::GET_SERVICE, body: Vec::new() }
}

/// Asks for one virtual server: one reply, for [`service`].
pub fn get_service(key: &ServiceKey) -> Message {
    Message { command: command::GET_SERVICE, ..get_destinations(key) }
}

/// Asks for the real servers of a virtual server: a dump, each reply one for [`destination`].
pub fn get_destinations(key: &ServiceKey) -> Message {
    let mut body = Vec::new();
    push_service(&mut body, key, None);
    Message { command: command::GET_DEST, body }
}

/// Asks for the timeouts: one reply, for [`timeouts`].
pub fn get_timeouts() -> Message {
    Message { command: command::GET_CONFIG, body: Vec::new() }
}

/// Asks for what IPVS is: one reply, for [`version`].
pub fn get_info() -> Message {
    Message { command: command::GET_INFO, body: Vec::new() }
}

/// Reads a virtual server, without its real servers.
///
/// A netmask with a gap, which only a foreign virtual server can have, is an error: a prefix cannot say it.
pub fn service(body: &[u8]) -> Result<(ServiceKey, VirtualServer), WireError> {
    use service_attribute::{
        ADDR, AF, FLAGS, FWMARK, NETMASK, PE_NAME, PORT, PROTOCOL, SCHED_NAME, STATS, STATS64, TIMEOUT,
    };
    let found = of_service(body)?;
    let family = family_of(&found, AF, "address family")?.ok_or(WireError::Missing("address family"))?;
    let key = match found.optional(FWMARK).map(|_| found.u32(FWMARK, "mark")).transpose()? {
        Some(mark) if mark != 0 => ServiceKey::Mark { family, mark },
        Some(_) | None => {
            let number = u8::try_from(found.u16(PROTOCOL, "protocol")?).ok();
            let protocol = number.and_then(Protocol::from_number).ok_or(WireError::Value("protocol"))?;
            let addr = addr_of(&found, ADDR, family, "address")?;
            ServiceKey::Address { protocol, at: AddrPort::new(addr, found.be_u16(PORT, "port")?) }
        }
    };
    let flags = found.need(FLAGS, "flags")?.first_chunk().ok_or(WireError::Value("flags"))?;
    let netmask = found.array(NETMASK, "netmask")?;
    let server = VirtualServer {
        scheduler: name_of(&found, SCHED_NAME, "scheduler")?.ok_or(WireError::Missing("scheduler"))?,
        flags: Flags::from_bits(u32::from_ne_bytes(*flags)),
        persistence_seconds: found.u32(TIMEOUT, "persistence timeout")?,
        netmask: netmask_bits(netmask, family).ok_or(WireError::Value("netmask"))?,
        engine: name_of(&found, PE_NAME, "persistence engine")?,
        real_servers: Default::default(),
        counters: counters(&found, STATS64, STATS).ok(),
        tag: None,
    };
    Ok((key, server.normalized(family)))
}

/// Reads a real server of a virtual server of this family.
pub fn destination(body: &[u8], family: IpFamily) -> Result<(AddrPort, RealServer), WireError> {
    use dest_attribute::{
        ACTIVE_CONNS, ADDR, ADDR_FAMILY, FWD_METHOD, INACT_CONNS, L_THRESH, PORT, TUN_FLAGS, TUN_PORT,
        TUN_TYPE, U_THRESH, WEIGHT,
    };
    let found = of_destination(body)?;
    // Kernels before 3.18 do not tell it: there all are of one family.
    let own_family = family_of(&found, ADDR_FAMILY, "address family of the real server")?;
    let addr = addr_of(&found, ADDR, own_family.unwrap_or(family), "address of the real server")?;
    let at = AddrPort::new(addr, found.be_u16(PORT, "port of the real server")?);
    let method = found.u32(FWD_METHOD, "forwarding method")? & FORWARD_MASK;
    let forward = usize::try_from(method).ok().and_then(|method| FORWARDS.get(method));
    // Kernels before 5.3 have tunnels of one kind.
    let tunnel = match found.optional(TUN_TYPE) {
        None => Tunnel::default(),
        Some(kind) => Tunnel {
            kind: kind.first().copied().ok_or(WireError::Value("type of the tunnel"))?,
            port: found.be_u16(TUN_PORT, "port of the tunnel")?,
            flags: found.u16(TUN_FLAGS, "flags of the tunnel")?,
        },
    };
    let real_server = RealServer {
        forward: *forward.ok_or(WireError::Value("forwarding method"))?,
        weight: found.u32(WEIGHT, "weight")?,
        upper_threshold: found.u32(U_THRESH, "upper threshold")?,
        lower_threshold: found.u32(L_THRESH, "lower threshold")?,
        tunnel,
        connections: Connections {
            active: found.u32(ACTIVE_CONNS, "number of active connections")?,
            inactive: found.u32(INACT_CONNS, "number of inactive connections")?,
        },
    };
    Ok((at, real_server.normalized()))
}

/// Reads the timeouts.
pub fn timeouts(body: &[u8]) -> Result<Timeouts, WireError> {
    let found = Attributes::new(body, "timeouts")?;
    Ok(Timeouts {
        tcp: found.u32(attribute::TIMEOUT_TCP, "timeout of TCP")?,
        tcp_fin: found.u32(attribute::TIMEOUT_TCP_FIN, "timeout of TCP after FIN")?,
        udp: found.u32(attribute::TIMEOUT_UDP, "timeout of UDP")?,
    })
}

/// Reads the version of IPVS: `[1, 2, 1]`.
pub fn version(body: &[u8]) -> Result<[u8; 3], WireError> {
    let number = Attributes::new(body, "description of IPVS")?.u32(INFO_VERSION, "version")?;
    let [_, major, minor, patch] = number.to_be_bytes();
    Ok([major, minor, patch])
}

/// What names a virtual server, and its settings unless they do not matter.
fn push_service(body: &mut Vec<u8>, key: &ServiceKey, settings: Option<&VirtualServer>) {
    use service_attribute::{ADDR, AF, FLAGS, FWMARK, NETMASK, PE_NAME, PORT, PROTOCOL, SCHED_NAME, TIMEOUT};
    nested(body, attribute::SERVICE, |body| {
        push(body, AF, &family_number(key.family()).to_ne_bytes());
        match key {
            ServiceKey::Address { protocol, at } => {
                push(body, PROTOCOL, &u16::from(protocol.number()).to_ne_bytes());
                push(body, ADDR, &octets(at.addr));
                push(body, PORT, &at.port.to_be_bytes());
            }
            ServiceKey::Mark { mark, .. } => push(body, FWMARK, &mark.to_ne_bytes()),
        }
        let Some(server) = settings else { return };
        push_name(body, SCHED_NAME, &server.scheduler);
        if let Some(engine) = &server.engine {
            push_name(body, PE_NAME, engine);
        }
        let [flags, mask] = [server.flags.bits(), u32::MAX].map(u32::to_ne_bytes);
        push(body, FLAGS, [flags, mask].as_flattened());
        push(body, TIMEOUT, &server.persistence_seconds.to_ne_bytes());
        push(body, NETMASK, &netmask_bytes(server.netmask, key.family()));
    });
}

/// Where a real server is, and its settings unless they do not matter.
fn push_destination(body: &mut Vec<u8>, at: &AddrPort, settings: Option<&RealServer>) {
    use dest_attribute::{
        ADDR, ADDR_FAMILY, FWD_METHOD, L_THRESH, PORT, TUN_FLAGS, TUN_PORT, TUN_TYPE, U_THRESH, WEIGHT,
    };
    nested(body, attribute::DEST, |body| {
        push(body, ADDR_FAMILY, &family_number(at.family()).to_ne_bytes());
        push(body, ADDR, &octets(at.addr));
        push(body, PORT, &at.port.to_be_bytes());
        let Some(real_server) = settings else { return };
        push(body, FWD_METHOD, &forward_number(real_server.forward).to_ne_bytes());
        push(body, WEIGHT, &real_server.weight.to_ne_bytes());
        push(body, TUN_TYPE, &[real_server.tunnel.kind]);
        push(body, TUN_PORT, &real_server.tunnel.port.to_be_bytes());
        push(body, TUN_FLAGS, &real_server.tunnel.flags.to_ne_bytes());
        push(body, U_THRESH, &real_server.upper_threshold.to_ne_bytes());
        push(body, L_THRESH, &real_server.lower_threshold.to_ne_bytes());
    });
}

fn push_name(body: &mut Vec<u8>, kind: u16, name: &SchedulerName) {
    push_text(body, kind, name.as_str());
}

fn family_number(family: IpFamily) -> u16 {
    family.number().into()
}

fn forward_number(forward: Forward) -> u32 {
    match forward {
        Forward::Masquerade => 0,
        Forward::Local => 1,
        Forward::Tunnel => 2,
        Forward::DirectRoute => 3,
        Forward::Bypass => 4,
    }
}

/// An address in the field for both families: IPv4 in the first four bytes.
fn octets(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&addr.octets());
            octets
        }
        IpAddr::V6(addr) => addr.octets(),
    }
}

/// A mask for IPv4, the length of a prefix for IPv6.
fn netmask_bytes(bits: u8, family: IpFamily) -> [u8; 4] {
    match family {
        IpFamily::V4 => netmask::of_bits(bits).octets(),
        IpFamily::V6 => u32::from(bits).to_ne_bytes(),
    }
}

fn netmask_bits(bytes: [u8; 4], family: IpFamily) -> Option<u8> {
    match family {
        IpFamily::V4 => netmask::bits(bytes.into()),
        IpFamily::V6 => u8::try_from(u32::from_ne_bytes(bytes)).ok().filter(|bits| *bits <= family.bits()),
    }
}

fn of_service(body: &[u8]) -> Result<Attributes<'_>, WireError> {
    let message = Attributes::new(body, "message")?;
    Attributes::new(message.need(attribute::SERVICE, "virtual server")?, "virtual server")
}

fn of_destination(body: &[u8]) -> Result<Attributes<'_>, WireError> {
    let message = Attributes::new(body, "message")?;
    Attributes::new(message.need(attribute::DEST, "real server")?, "real server")
}

fn family_of(found: &Attributes<'_>, kind: u16, what: &'static str) -> Result<Option<IpFamily>, WireError> {
    match found.optional(kind).map(|_| found.u16(kind, what)).transpose()? {
        None => Ok(None),
        Some(number) => {
            let family = u8::try_from(number).ok().and_then(IpFamily::from_number);
            family.map(Some).ok_or(WireError::Value(what))
        }
    }
}

fn addr_of(
    found: &Attributes<'_>,
    kind: u16,
    family: IpFamily,
    what: &'static str,
) -> Result<IpAddr, WireError> {
    let octets: [u8; 16] = found.array(kind, what)?;
    let [a, b, c, d, ..] = octets;
    Ok(match family {
        IpFamily::V4 => Ipv4Addr::new(a, b, c, d).into(),
        IpFamily::V6 => octets.into(),
    })
}

fn name_of(
    found: &Attributes<'_>,
    kind: u16,
    what: &'static str,
) -> Result<Option<SchedulerName>, WireError> {
    let Some(text) = found.text(kind, what)? else { return Ok(None) };
    SchedulerName::new(text).map(Some).map_err(|_| WireError::Value(what))
}

/// Counters of 64 bits, or those that kernels before 4.1 have.
fn counters(of: &Attributes<'_>, wide: u16, narrow: u16) -> Result<Counters, WireError> {
    use stats_attribute::{CONNS, INBYTES, INPKTS, OUTBYTES, OUTPKTS};
    let bytes = of.optional(wide).map_or_else(|| of.need(narrow, "counters"), Ok)?;
    let found = Attributes::new(bytes, "counters")?;
    let number = |kind| match found.need(kind, "counter")? {
        bytes if bytes.len() == 4 => found.u32(kind, "counter").map(u64::from),
        _ => found.array(kind, "counter").map(u64::from_ne_bytes),
    };
    Ok(Counters {
        connections: number(CONNS)?,
        packets_in: number(INPKTS)?,
        packets_out: number(OUTPKTS)?,
        bytes_in: number(INBYTES)?,
        bytes_out: number(OUTBYTES)?,
    })
}
