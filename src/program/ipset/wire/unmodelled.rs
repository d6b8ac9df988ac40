//! What is not modelled of sets, as `ipset save` prints it: no rule of ours asks it, but it is shown, and told apart.

use std::fmt::Write;
use std::net::IpAddr;

use crate::net::IpFamily;
use crate::program::attributes::Attributes;

use super::{data, entry_data, listing::addr, set_data};

/// `IPSET_FLAG_…` of a set, with its word.
const SET_FLAGS: [(u32, &str); 4] = [(8, "counters"), (16, "comment"), (64, "skbinfo"), (32, "forceadd")];
/// `IPSET_FLAG_PHYSDEV`, `IPSET_FLAG_NOMATCH`
const PHYSDEV: u32 = 2;
const NOMATCH: u32 = 4;
/// Protocols that tell ports or their like.
const PROTOCOLS: [(u8, &str); 8] = [
    (1, "icmp"),
    (2, "igmp"),
    (6, "tcp"),
    (17, "udp"),
    (47, "gre"),
    (58, "ipv6-icmp"),
    (132, "sctp"),
    (136, "udplite"),
];

/// What follows the name of a set, without what the kernel chooses.
pub(super) fn kind(type_name: &str, family: Option<IpFamily>, settings: &Attributes<'_>) -> String {
    let mut text = type_name.to_owned();
    if type_name.starts_with("hash:") {
        match family {
            Some(IpFamily::V4) => text.push_str(" family inet"),
            Some(IpFamily::V6) => text.push_str(" family inet6"),
            None => {}
        }
    }
    let port = |kind| settings.be_u16(kind, "port").ok();
    if let (Some(first), Some(last)) = (port(data::PORT), port(data::PORT_TO)) {
        put(&mut text, format_args!(" range {first}-{last}"));
    } else if let (Some(first), Some(last)) = (addr(settings, data::IP), addr(settings, data::IP_TO)) {
        put(&mut text, format_args!(" range {first}-{last}"));
    }
    let number = |kind| settings.be_u32(kind, "number").ok();
    if let Ok(mask) = settings.u32(data::MARKMASK, "mask") {
        put(&mut text, format_args!(" markmask 0x{mask:08x}"));
    }
    for (kind, word) in [(set_data::MAXELEM, "maxelem"), (set_data::SIZE, "size"), (data::TIMEOUT, "timeout")]
    {
        if let Some(number) = number(kind) {
            put(&mut text, format_args!(" {word} {number}"));
        }
    }
    if let Ok(length) = settings.u8(set_data::NETMASK, "netmask") {
        put(&mut text, format_args!(" netmask {length}"));
    }
    let flags = number(data::FLAGS).unwrap_or_default();
    for (_, word) in SET_FLAGS.iter().filter(|(flag, _)| flags & flag != 0) {
        put(&mut text, format_args!(" {word}"));
    }
    text
}

/// What follows the name of a set that an entry is added to.
pub(super) fn entry(type_name: &str, found: &Attributes<'_>) -> String {
    let flags = found.be_u32(data::FLAGS, "flags").unwrap_or_default();
    let mut text = String::new();
    let mut n_addresses = 0;
    let is_bitmap = type_name.starts_with("bitmap:");
    for part in type_name.split_once(':').map_or("", |(_, parts)| parts).split(',') {
        let written = match part {
            "ip" | "net" => {
                n_addresses += 1;
                let second = n_addresses > 1;
                network(
                    found,
                    if second { entry_data::IP2 } else { data::IP },
                    if second { entry_data::CIDR2 } else { data::CIDR },
                )
            }
            "port" if is_bitmap => found.be_u16(data::PORT, "port").ok().map(|port| port.to_string()),
            "port" => protocol_port(found),
            "mac" => found.optional(entry_data::ETHER).map(|address| {
                address.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
            }),
            "iface" => word(found, entry_data::IFACE)
                .map(|name| format!("{}{name}", if flags & PHYSDEV == 0 { "" } else { "physdev:" })),
            "mark" => found.be_u32(data::MARK, "mark").ok().map(|mark| format!("0x{mark:08x}")),
            "set" => word(found, entry_data::NAME).map(str::to_owned),
            _ => None,
        };
        if let Some(written) = written {
            let comma = if text.is_empty() { "" } else { "," };
            put(&mut text, format_args!("{comma}{written}"));
        }
    }
    if let Ok(seconds) = found.be_u32(data::TIMEOUT, "timeout") {
        put(&mut text, format_args!(" timeout {seconds}"));
    }
    if flags & NOMATCH != 0 {
        text.push_str(" nomatch");
    }
    let count = |kind| found.array(kind, "counter").map(u64::from_be_bytes).ok();
    if let (Some(packets), Some(bytes)) = (count(entry_data::PACKETS), count(entry_data::BYTES)) {
        put(&mut text, format_args!(" packets {packets} bytes {bytes}"));
    }
    if let Some(comment) = word(found, entry_data::COMMENT) {
        put(&mut text, format_args!(" comment \"{comment}\""));
    }
    text
}

fn network(found: &Attributes<'_>, ip: u16, length: u16) -> Option<String> {
    let addr = addr(found, ip)?;
    let host = match addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    match found.u8(length, "length") {
        Ok(length) if length != host => Some(format!("{addr}/{length}")),
        Ok(_) | Err(_) => Some(addr.to_string()),
    }
}

fn protocol_port(found: &Attributes<'_>) -> Option<String> {
    let port = found.be_u16(data::PORT, "port").ok()?;
    let number = found.u8(data::PROTO, "protocol").ok()?;
    let name = PROTOCOLS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name);
    let name = name.map_or_else(|| number.to_string(), str::to_owned);
    // Type and code of ICMP stand in the place of the port.
    Some(match number {
        1 | 58 => format!("{name}:{}/{}", port >> 8, port & 0xff),
        _ => format!("{name}:{port}"),
    })
}

fn word<'a>(found: &Attributes<'a>, kind: u16) -> Option<&'a str> {
    found.text(kind, "text").ok().flatten()
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    let Ok(()) = text.write_fmt(what) else { return };
}
