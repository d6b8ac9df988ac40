//! Messages of nfnetlink about connection tracking (`include/uapi/linux/netfilter/nfnetlink_conntrack.h`): requests to
//! bytes, replies to values. What is here is what follows the header of netlink; sockets are the host's.
//!
//! All numbers in attributes are in the order of the network, the flags of a filter in that of this machine.

use std::net::IpAddr;

use crate::net::{AddrPort, IpFamily, Port, Protocol};
use crate::program::attributes::{nested, push, well_formed};

use super::conntrack::{Flow, Tuple};

/// `NFNL_SUBSYS_CTNETLINK`, in the upper byte of `IPCTNL_MSG_CT_NEW`, `_GET` and `_DELETE`.
const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;

/// `struct nfgenmsg`: family, version, resource.
const HEADER: usize = 4;

/// `CTA_…`
mod attribute {
    pub(super) const TUPLE_ORIG: u16 = 1;
    pub(super) const TUPLE_REPLY: u16 = 2;
    pub(super) const STATUS: u16 = 3;
    pub(super) const ID: u16 = 12;
    pub(super) const ZONE: u16 = 18;
    pub(super) const FILTER: u16 = 25;
}

/// `CTA_TUPLE_…`
mod tuple_attribute {
    pub(super) const IP: u16 = 1;
    pub(super) const PROTO: u16 = 2;
}

/// `CTA_IP_…`
mod ip_attribute {
    pub(super) const V4_SRC: u16 = 1;
    pub(super) const V4_DST: u16 = 2;
    pub(super) const V6_SRC: u16 = 3;
    pub(super) const V6_DST: u16 = 4;
}

/// `CTA_PROTO_…`
mod proto_attribute {
    pub(super) const NUM: u16 = 1;
    pub(super) const SRC_PORT: u16 = 2;
    pub(super) const DST_PORT: u16 = 3;
}

/// `IPS_DST_NAT`
const STATUS_DST_NAT: u32 = 1 << 5;
/// `CTA_FILTER_ORIG_FLAGS`
const FILTER_ORIG_FLAGS: u16 = 1;
/// What of the tuple in the request counts: its protocol (`CTA_FILTER_F_CTA_PROTO_NUM` of the kernel's own headers).
const FILTER_PROTOCOL: u32 = 1 << 3;

/// One message: the type of its header, and what follows that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `IPCTNL_MSG_CT_…` with its subsystem.
    pub kind: u16,
    /// `struct nfgenmsg` and attributes.
    pub body: Vec<u8>,
}

/// Asks for the flows of a family and a protocol: a dump, each reply one for [`flow`]. Kernels before 5.8 do not know the
/// filter, and tell of all protocols.
pub fn get_flows(family: IpFamily, protocol: Protocol) -> Message {
    let mut body = header(family);
    nested(&mut body, attribute::TUPLE_ORIG, |body| {
        nested(body, tuple_attribute::PROTO, |body| {
            push(body, proto_attribute::NUM, &[protocol.number()]);
        });
    });
    nested(&mut body, attribute::FILTER, |body| {
        push(body, FILTER_ORIG_FLAGS, &FILTER_PROTOCOL.to_ne_bytes());
    });
    Message { kind: GET, body }
}

/// Asks to forget a flow, and no later one in its place.
pub fn delete(flow: &Flow) -> Message {
    let mut body = header(flow.family());
    push_tuple(&mut body, attribute::TUPLE_ORIG, flow.protocol, &flow.original);
    if flow.zone != 0 {
        push(&mut body, attribute::ZONE, &flow.zone.to_be_bytes());
    }
    push(&mut body, attribute::ID, &flow.id.to_be_bytes());
    Message { kind: DELETE, body }
}

/// Reads a flow. `None` if it is of a protocol without ports, or not understood.
pub fn flow(message: &Message) -> Option<Flow> {
    if message.kind != NEW {
        return None;
    }
    let (mut original, mut reply, mut zone, mut id) = (None, None, 0, 0);
    let mut by_rule = false;
    for (kind, value) in well_formed(message.body.get(HEADER..)?) {
        match kind {
            attribute::TUPLE_ORIG => original = tuple(value),
            attribute::TUPLE_REPLY => reply = tuple(value),
            attribute::STATUS => {
                by_rule = u32::from_be_bytes(value.try_into().ok()?) & STATUS_DST_NAT != 0;
            }
            attribute::ZONE => zone = u16::from_be_bytes(value.try_into().ok()?),
            attribute::ID => id = u32::from_be_bytes(value.try_into().ok()?),
            _ => {}
        }
    }
    let ((protocol, original), (_, reply)) = (original?, reply?);
    Some(Flow { protocol, original, reply, by_rule, zone, id })
}

fn header(family: IpFamily) -> Vec<u8> {
    vec![family.number(), 0, 0, 0]
}

fn push_tuple(body: &mut Vec<u8>, kind: u16, protocol: Protocol, tuple: &Tuple) {
    nested(body, kind, |body| {
        nested(body, tuple_attribute::IP, |body| {
            for (addr, v4, v6) in [
                (tuple.from.addr, ip_attribute::V4_SRC, ip_attribute::V6_SRC),
                (tuple.to.addr, ip_attribute::V4_DST, ip_attribute::V6_DST),
            ] {
                match addr {
                    IpAddr::V4(addr) => push(body, v4, &addr.octets()),
                    IpAddr::V6(addr) => push(body, v6, &addr.octets()),
                }
            }
        });
        nested(body, tuple_attribute::PROTO, |body| {
            push(body, proto_attribute::NUM, &[protocol.number()]);
            push(body, proto_attribute::SRC_PORT, &tuple.from.port.to_be_bytes());
            push(body, proto_attribute::DST_PORT, &tuple.to.port.to_be_bytes());
        });
    });
}

fn tuple(body: &[u8]) -> Option<(Protocol, Tuple)> {
    let (mut source, mut destination) = (None, None);
    let (mut protocol, mut source_port, mut destination_port) = (None, None, None);
    for (kind, value) in well_formed(body) {
        match kind {
            tuple_attribute::IP => {
                for (kind, value) in well_formed(value) {
                    match kind {
                        ip_attribute::V4_SRC | ip_attribute::V6_SRC => source = addr(value),
                        ip_attribute::V4_DST | ip_attribute::V6_DST => destination = addr(value),
                        _ => {}
                    }
                }
            }
            tuple_attribute::PROTO => {
                for (kind, value) in well_formed(value) {
                    match kind {
                        proto_attribute::NUM => protocol = Protocol::from_number(*value.first()?),
                        proto_attribute::SRC_PORT => source_port = port(value),
                        proto_attribute::DST_PORT => destination_port = port(value),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let from = AddrPort::new(source?, source_port?);
    Some((protocol?, Tuple { from, to: AddrPort::new(destination?, destination_port?) }))
}

fn addr(value: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(value).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(value).ok().map(IpAddr::from))
}

fn port(value: &[u8]) -> Option<Port> {
    value.try_into().ok().map(Port::from_be_bytes)
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may")]

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    fn at(text: &str) -> AddrPort {
        text.parse().unwrap()
    }

    /// Linux 6.18: a datagram from 127.0.0.1:4000 to 10.9.9.9:53, which is sent to 127.0.0.1:5353.
    const TOLD: &str = "02000000
        34000180 14000180 080001007f000001 080002000a090909
                 1c000280 0500010011000000 060002000fa00000 0600030000350000
        34000280 14000180 080001007f000001 080002007f000001
                 1c000280 0500010011000000 0600020014e90000 060003000fa00000
        08000300000001a8 0800080000000000 08000c00acfc63d1 08000b0000000001 080007000000001d";

    #[test]
    fn reads_what_a_kernel_sent() {
        let told = Message { kind: NEW, body: bytes(TOLD) };
        let expected = Flow {
            protocol: Protocol::Udp,
            original: Tuple { from: at("127.0.0.1:4000"), to: at("10.9.9.9:53") },
            reply: Tuple { from: at("127.0.0.1:5353"), to: at("127.0.0.1:4000") },
            by_rule: true,
            zone: 0,
            id: 0xacfc_63d1,
        };
        assert_eq!(flow(&told), Some(expected));
        assert_eq!(flow(&Message { kind: GET, ..told.clone() }), None);
        let status = Message { kind: NEW, body: bytes(&TOLD.replace("000001a8", "00000188")) };
        assert_eq!(flow(&status), Some(Flow { by_rule: false, ..expected }));
        // Nothing of what is cut off is made up.
        for length in 0..60 {
            assert_eq!(flow(&Message { kind: NEW, body: told.body[..length].to_vec() }), None, "{length}");
        }
        // ICMP has no ports.
        let icmp = bytes(&TOLD.replace("0500010011000000", "0500010001000000"));
        assert_eq!(flow(&Message { kind: NEW, body: icmp }), None);
    }

    #[test]
    fn asks_for_one_protocol() {
        let asked = get_flows(IpFamily::V6, Protocol::Udp);
        let body = "0a000000 10000180 0c000280 0500010011000000 0c001980 0800010008000000";
        assert_eq!(asked, Message { kind: GET, body: bytes(body) });
    }

    #[test]
    fn forgets_the_very_flow() {
        let v4 = flow(&Message { kind: NEW, body: bytes(TOLD) }).unwrap();
        let original = &bytes(TOLD)[HEADER..HEADER + 0x34];
        let id = bytes("08000c00acfc63d1");
        assert_eq!(delete(&v4), Message { kind: DELETE, body: [&[2, 0, 0, 0], original, &id].concat() });
        let v6 = Flow {
            original: Tuple { from: at("[fd00::1]:4000"), to: at("[fd00::2]:53") },
            zone: 258,
            by_rule: false,
            ..v4
        };
        let told = Message { kind: NEW, body: [delete(&v6).body, reply_of(&v6)].concat() };
        assert_eq!(flow(&told), Some(v6));
    }

    fn reply_of(flow: &Flow) -> Vec<u8> {
        let mut body = Vec::new();
        push_tuple(&mut body, attribute::TUPLE_REPLY, flow.protocol, &flow.reply);
        body
    }
}
