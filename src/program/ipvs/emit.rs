//! Writes virtual servers as text: as `ipvsadm -S -n` (1.31) prints them and `ipvsadm -R` reads them.
//!
//! ipvsadm prints no thresholds, and marks from 2^31 on as negative numbers that it refuses to read; here both are written
//! as it reads them. It has no words for the forwarding methods `Local` and `Bypass`, and prints `-g` for them.

use std::convert::Infallible;
use std::io;

use crate::net::{AddrPort, IpFamily, Protocol};
pub use crate::program::emitted::{Emitted, LineTags};
use crate::program::text::{in_pieces, write_decimal, write_header, write_ip};

use super::{Flags, Forward, RealServer, Request, ServiceKey, VirtualServer, VirtualServers, netmask};

/// Writes a document that makes all virtual servers with their real servers. Every line of `header` becomes a comment at
/// its head; `ipvsadm -R` knows no comments.
pub fn write_document(out: &mut Vec<u8>, servers: &VirtualServers, header: &str) {
    let Ok(()) = document::<Infallible>(out, servers, header, None, |_| Ok(()));
}

/// The same document with the tags of its lines.
pub fn emit(servers: &VirtualServers, header: &str) -> Emitted {
    let mut emitted = Emitted::default();
    let Ok(()) =
        document::<Infallible>(&mut emitted.text, servers, header, Some(&mut emitted.lines), |_| Ok(()));
    emitted
}

/// Writes the same document to a writer, piece by piece.
pub fn write_document_to(out: &mut dyn io::Write, servers: &VirtualServers, header: &str) -> io::Result<()> {
    in_pieces(out, |buffer, spill| document(buffer, servers, header, None, spill))
}

fn document<E>(
    out: &mut Vec<u8>,
    servers: &VirtualServers,
    header: &str,
    mut tags: Option<&mut LineTags>,
    mut spill: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let mut line = write_header(out, header);
    for (key, server) in servers {
        write_service(out, "-A", key, server);
        for (at, real_server) in &server.real_servers {
            write_destination(out, "-a", key, at, real_server);
            spill(out)?;
        }
        if let Some(tags) = &mut tags {
            let n_lines = 1 + server.real_servers.len() as u32;
            (line + 1..=line + n_lines).for_each(|line| tags.note(line, server.tag));
            line += n_lines;
        }
        spill(out)?;
    }
    Ok(())
}

/// Writes a request as the arguments of ipvsadm, one line.
pub fn write_request(out: &mut Vec<u8>, request: &Request) {
    match request {
        Request::NewService(key, server) => write_service(out, "-A", key, server),
        Request::SetService(key, server) => write_service(out, "-E", key, server),
        Request::DeleteService(key) => {
            write_key(out, "-D", key);
            out.push(b'\n');
        }
        Request::NewDestination(key, at, real_server) => write_destination(out, "-a", key, at, real_server),
        Request::SetDestination(key, at, real_server) => write_destination(out, "-e", key, at, real_server),
        Request::DeleteDestination(key, at) => {
            write_key(out, "-d", key);
            out.extend_from_slice(b" -r ");
            write_addr_port(out, at);
            out.push(b'\n');
        }
        Request::SetTimeouts(timeouts) => {
            out.extend_from_slice(b"--set");
            for seconds in [timeouts.tcp, timeouts.tcp_fin, timeouts.udp] {
                write_number(out, " ", seconds);
            }
            out.push(b'\n');
        }
    }
}

fn write_service(out: &mut Vec<u8>, command: &str, key: &ServiceKey, server: &VirtualServer) {
    write_key(out, command, key);
    write_words(out, &[" -s ", server.scheduler.as_str()]);
    if server.flags.contains(Flags::PERSISTENT) {
        write_number(out, " -p ", server.persistence_seconds);
        if server.netmask != key.family().bits() {
            write_netmask(out, key.family(), server.netmask);
        }
    }
    if let Some(engine) = &server.engine {
        write_words(out, &[" --pe ", engine.as_str()]);
    }
    if server.flags.contains(Flags::ONE_PACKET) {
        out.extend_from_slice(b" -o");
    }
    let mut separator = " -b ";
    for (flag, name) in scheduler_flags(server.scheduler.as_str()) {
        if server.flags.contains(flag) {
            write_words(out, &[separator, name]);
            separator = ",";
        }
    }
    out.push(b'\n');
}

/// The flags that a scheduler gives a meaning to, by the names that they have with it.
pub(super) fn scheduler_flags(scheduler: &str) -> [(Flags, &'static str); 3] {
    let [first, second] = match scheduler {
        "sh" => ["sh-fallback", "sh-port"],
        "mh" => ["mh-fallback", "mh-port"],
        _ => ["flag-1", "flag-2"],
    };
    [(Flags::SCHEDULER_1, first), (Flags::SCHEDULER_2, second), (Flags::SCHEDULER_3, "flag-3")]
}

fn write_destination(
    out: &mut Vec<u8>,
    command: &str,
    key: &ServiceKey,
    at: &AddrPort,
    real_server: &RealServer,
) {
    write_key(out, command, key);
    out.extend_from_slice(b" -r ");
    write_addr_port(out, at);
    out.extend_from_slice(match real_server.forward {
        Forward::Masquerade => b" -m",
        Forward::Tunnel => b" -i",
        Forward::DirectRoute | Forward::Local | Forward::Bypass => b" -g",
    });
    write_number(out, " -w ", real_server.weight);
    if real_server.forward == Forward::Tunnel {
        write_tunnel(out, real_server);
    }
    if real_server.upper_threshold > 0 {
        write_number(out, " -x ", real_server.upper_threshold);
    }
    if real_server.lower_threshold > 0 {
        write_number(out, " -y ", real_server.lower_threshold);
    }
    out.push(b'\n');
}

fn write_tunnel(out: &mut Vec<u8>, real_server: &RealServer) {
    let tunnel = real_server.tunnel;
    match tunnel.kind {
        0 => return write_words(out, &[" --tun-type ipip"]),
        1 => write_number(out, " --tun-type gue --tun-port ", u32::from(tunnel.port)),
        _ => write_words(out, &[" --tun-type gre"]),
    }
    if let Some((_, option)) = TUNNEL_FLAGS.iter().find(|(flags, _)| *flags == tunnel.flags) {
        write_words(out, &[" ", option]);
    }
}

/// Checksum flags of a tunnel (`IP_VS_TUNNEL_ENCAP_FLAG_…`) and their options, of which ipvsadm takes one.
pub(super) const TUNNEL_FLAGS: [(u16, &str); 3] =
    [(0, "--tun-nocsum"), (1, "--tun-csum"), (2, "--tun-remcsum")];

fn write_key(out: &mut Vec<u8>, command: &str, key: &ServiceKey) {
    out.extend_from_slice(command.as_bytes());
    match key {
        ServiceKey::Address { protocol, at } => {
            out.extend_from_slice(match protocol {
                Protocol::Tcp => b" -t ".as_slice(),
                Protocol::Udp => b" -u ",
                Protocol::Sctp => b" --sctp-service ",
            });
            write_addr_port(out, at);
        }
        ServiceKey::Mark { family, mark } => {
            write_number(out, " -f ", *mark);
            if *family == IpFamily::V6 {
                out.extend_from_slice(b" -6");
            }
        }
    }
}

fn write_addr_port(out: &mut Vec<u8>, at: &AddrPort) {
    match at.family() {
        IpFamily::V4 => write_ip(out, at.addr),
        IpFamily::V6 => {
            out.push(b'[');
            write_ip(out, at.addr);
            out.push(b']');
        }
    }
    write_number(out, ":", u32::from(at.port));
}

/// As a mask for IPv4, as the length of a prefix for IPv6.
fn write_netmask(out: &mut Vec<u8>, family: IpFamily, bits: u8) {
    match family {
        IpFamily::V4 => {
            out.extend_from_slice(b" -M ");
            write_ip(out, netmask::of_bits(bits).into());
        }
        IpFamily::V6 => write_number(out, " -M ", u32::from(bits)),
    }
}

fn write_words(out: &mut Vec<u8>, words: &[&str]) {
    words.iter().for_each(|word| out.extend_from_slice(word.as_bytes()));
}

fn write_number(out: &mut Vec<u8>, option: &str, number: u32) {
    out.extend_from_slice(option.as_bytes());
    write_decimal(out, u64::from(number));
}
