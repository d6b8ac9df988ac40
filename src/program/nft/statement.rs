//! Writes one statement of a rule as nft text.

use std::net::IpAddr;

use crate::net::IpFamily;
use crate::program::text::write_decimal;

use super::emit::{write_addr, write_data, write_key, write_mark, write_verdict};
use super::{
    CtState, Data, Expr, Family, Keys, MapRef, NatFlags, NatTarget, NumgenMode, Payload, RejectWith, Right,
    Scalar, SetOp, Stmt, Transport,
};

/// Names of transport protocols that nft prints; others are numbers.
pub(super) const PROTOCOLS: [(u8, &str); 13] = [
    (1, "icmp"),
    (2, "igmp"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "ipv6-icmp"),
    (89, "ospf"),
    (108, "ipcomp"),
    (132, "sctp"),
    (136, "udplite"),
];

/// Writes a statement, without spaces around it. One that is not modelled has no text.
pub(super) fn write_stmt(out: &mut Vec<u8>, family: Family, stmt: &Stmt) {
    match stmt {
        Stmt::Match { left, negated, right } => write_match(out, left, *negated, right),
        Stmt::CtState { states, negated } => write_ct_state(out, *states, *negated),
        Stmt::CtNat { snat, dnat } => {
            out.extend_from_slice(b"ct status ");
            out.extend_from_slice(match (snat, dnat) {
                (true, true) => b"snat,dnat",
                (true, false) => b"snat",
                (false, _) => b"dnat",
            });
        }
        Stmt::Vmap { key, map } => {
            write_expr(out, key);
            out.extend_from_slice(b" vmap ");
            write_map(out, map);
        }
        Stmt::Verdict(verdict) => write_verdict(out, verdict),
        Stmt::SetMark { mask, value } => write_set_mark(out, *mask, *value),
        Stmt::Dnat { to, flags } => {
            write_dnat(out, family, to);
            write_flags(out, *flags);
        }
        Stmt::Masquerade(flags) => {
            out.extend_from_slice(b"masquerade");
            write_flags(out, *flags);
        }
        Stmt::Reject(with) => {
            out.extend_from_slice(b"reject");
            write_reject_with(out, family, *with);
        }
        Stmt::UpdateSet { op, set, key, timeout } => {
            out.extend_from_slice(match op {
                SetOp::Add => b"add @",
                SetOp::Update => b"update @",
                SetOp::Delete => b"delete @",
            });
            out.extend_from_slice(set.as_bytes());
            out.extend_from_slice(b" { ");
            write_expr(out, key);
            if let Some(seconds) = timeout {
                out.extend_from_slice(b" timeout ");
                write_decimal(out, u64::from(*seconds));
                out.push(b's');
            }
            out.extend_from_slice(b" }");
        }
        Stmt::Counter => out.extend_from_slice(b"counter"),
        Stmt::Notrack => out.extend_from_slice(b"notrack"),
        Stmt::Unmodelled(_) => {}
    }
}

fn write_match(out: &mut Vec<u8>, left: &Expr, negated: bool, right: &Right) {
    write_expr(out, left);
    let masked = matches!(left, Expr::Mark { mask } if *mask != u32::MAX);
    out.extend_from_slice(match (negated, masked) {
        (true, _) => b" != ".as_slice(),
        (false, true) => b" == ",
        (false, false) => b" ",
    });
    match right {
        Right::Set(name) => {
            out.push(b'@');
            out.extend_from_slice(name.as_bytes());
        }
        Right::Keys(keys) => write_keys(out, masked, keys),
    }
}

fn write_keys(out: &mut Vec<u8>, masked: bool, keys: &Keys) {
    match keys.as_slice() {
        [key] if masked && key.is_exact() && key.first() == [Scalar::Mark(0)] => out.push(b'0'),
        [key] if key.first().len() == 1 => write_key(out, key),
        keys => {
            for (nth, key) in keys.iter().enumerate() {
                out.extend_from_slice(if nth == 0 { b"{ " } else { b" , " });
                write_key(out, key);
            }
            out.extend_from_slice(b" }");
        }
    }
}

fn write_ct_state(out: &mut Vec<u8>, states: u8, negated: bool) {
    // A connection is in one state; that it is in none of several must be said with a set.
    let as_set = negated && states.count_ones() > 1;
    out.extend_from_slice(if negated { b"ct state != " } else { b"ct state " });
    let mut separator: &[u8] = if as_set { b"{ " } else { b"" };
    for (_, name) in CtState::NAMES.iter().filter(|(bit, _)| states & bit != 0) {
        out.extend_from_slice(separator);
        out.extend_from_slice(name.as_bytes());
        separator = if as_set { b" , " } else { b"," };
    }
    if as_set {
        out.extend_from_slice(b" }");
    }
}

fn write_map(out: &mut Vec<u8>, map: &MapRef) {
    match map {
        MapRef::Named(name) => {
            out.push(b'@');
            out.extend_from_slice(name.as_bytes());
        }
        MapRef::Anonymous(entries) => {
            for (nth, (key, data)) in entries.iter().enumerate() {
                out.extend_from_slice(if nth == 0 { b"{ " } else { b" , " });
                write_key(out, key);
                out.extend_from_slice(b" : ");
                write_data(out, data);
            }
            out.extend_from_slice(b" }");
        }
    }
}

fn write_set_mark(out: &mut Vec<u8>, mask: u32, value: u32) {
    let (word, operand): (&[u8], u32) = match (mask, value) {
        (u32::MAX, value) => (b"mark set ", value),
        (mask, 0) => (b"mark set mark and ", !mask),
        (0, value) => (b"mark set mark xor ", value),
        (mask, value) if mask == value => (b"mark set mark or ", value),
        (mask, _) => (b"mark set mark and ", !mask),
    };
    out.extend_from_slice(word);
    write_mark(out, operand);
    if mask != u32::MAX && mask != 0 && value != 0 && mask != value {
        out.extend_from_slice(b" xor ");
        write_mark(out, value);
    }
}

fn write_dnat(out: &mut Vec<u8>, family: Family, to: &NatTarget) {
    out.extend_from_slice(b"dnat ");
    match to {
        NatTarget::Addr(addr, port) => {
            if family.ip().is_none() {
                out.extend_from_slice(ip_word(IpFamily::of(*addr)));
                out.push(b' ');
            }
            out.extend_from_slice(b"to ");
            match (addr, port) {
                (IpAddr::V6(_), Some(_)) => {
                    out.push(b'[');
                    write_addr(out, *addr);
                    out.push(b']');
                }
                (IpAddr::V4(_), _) | (IpAddr::V6(_), None) => write_addr(out, *addr),
            }
            if let Some(port) = port {
                out.push(b':');
                write_decimal(out, u64::from(*port));
            }
        }
        NatTarget::Port(port) => {
            out.extend_from_slice(b"to :");
            write_decimal(out, u64::from(*port));
        }
        NatTarget::Map { family, key, map } => {
            out.extend_from_slice(ip_word(*family));
            let both = match map {
                MapRef::Anonymous(entries) => {
                    entries.iter().any(|(_, data)| matches!(data, Data::Values(values) if values.len() > 1))
                }
                MapRef::Named(_) => false,
            };
            out.extend_from_slice(if both { b" addr . port to " } else { b" to " });
            write_expr(out, key);
            out.extend_from_slice(b" map ");
            write_map(out, map);
        }
    }
}

fn ip_word(family: IpFamily) -> &'static [u8] {
    match family {
        IpFamily::V4 => b"ip",
        IpFamily::V6 => b"ip6",
    }
}

fn write_flags(out: &mut Vec<u8>, flags: NatFlags) {
    let words =
        [(flags.random, "random"), (flags.fully_random, "fully-random"), (flags.persistent, "persistent")];
    let mut separator = b' ';
    for (_, word) in words.iter().filter(|(is_set, _)| *is_set) {
        out.push(separator);
        out.extend_from_slice(word.as_bytes());
        separator = b',';
    }
}

fn write_reject_with(out: &mut Vec<u8>, family: Family, with: RejectWith) {
    let (kind, code) = match (family.ip(), with) {
        (_, RejectWith::PortUnreachable) => return,
        (_, RejectWith::TcpReset) => ("tcp", "reset"),
        (Some(IpFamily::V4), RejectWith::AdminProhibited) => ("icmp", "admin-prohibited"),
        (Some(IpFamily::V4), RejectWith::HostUnreachable) => ("icmp", "host-unreachable"),
        (Some(IpFamily::V4), RejectWith::NetUnreachable) => ("icmp", "net-unreachable"),
        (Some(IpFamily::V6), RejectWith::AdminProhibited) => ("icmpv6", "admin-prohibited"),
        (Some(IpFamily::V6), RejectWith::HostUnreachable) => ("icmpv6", "addr-unreachable"),
        (Some(IpFamily::V6), RejectWith::NetUnreachable) => ("icmpv6", "no-route"),
        (None, RejectWith::AdminProhibited) => ("icmpx", "admin-prohibited"),
        (None, RejectWith::HostUnreachable) => ("icmpx", "host-unreachable"),
        (None, RejectWith::NetUnreachable) => ("icmpx", "no-route"),
    };
    for part in [" with ", kind, if kind == "tcp" { " " } else { " type " }, code] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn write_expr(out: &mut Vec<u8>, expr: &Expr) {
    match expr {
        Expr::Payload(payload) => write_payload(out, *payload),
        Expr::Meta(meta) => {
            // kube-proxy says `iifname`, but `meta l4proto`.
            out.extend_from_slice(match meta {
                super::Meta::L4Proto | super::Meta::NfProto => b"meta ",
                super::Meta::InputName
                | super::Meta::OutputName
                | super::Meta::Input
                | super::Meta::Output => b"",
            });
            out.extend_from_slice(meta.as_str().as_bytes());
        }
        Expr::Mark { mask: u32::MAX } => out.extend_from_slice(b"mark"),
        Expr::Mark { mask } => {
            out.extend_from_slice(b"mark and ");
            write_mark(out, *mask);
        }
        Expr::FibType { source } => {
            out.extend_from_slice(if *source { b"fib saddr type" } else { b"fib daddr type" });
        }
        Expr::Numgen { mode, modulus, offset } => {
            out.extend_from_slice(match mode {
                NumgenMode::Random => b"numgen random mod ",
                NumgenMode::Increment => b"numgen inc mod ",
            });
            write_decimal(out, u64::from(*modulus));
            if *offset > 0 {
                out.extend_from_slice(b" offset ");
                write_decimal(out, u64::from(*offset));
            }
        }
        Expr::Concat(parts) => {
            for (nth, part) in parts.iter().enumerate() {
                if nth > 0 {
                    out.extend_from_slice(b" . ");
                }
                write_expr(out, part);
            }
        }
    }
}

fn write_payload(out: &mut Vec<u8>, payload: Payload) {
    let (header, field): (&[u8], &[u8]) = match payload {
        Payload::SourceAddr(family) => (ip_word(family), b" saddr"),
        Payload::DestinationAddr(family) => (ip_word(family), b" daddr"),
        Payload::NextProtocol(IpFamily::V4) => (b"ip", b" protocol"),
        Payload::NextProtocol(IpFamily::V6) => (b"ip6", b" nexthdr"),
        Payload::SourcePort(transport) => (transport_word(transport), b" sport"),
        Payload::DestinationPort(transport) => (transport_word(transport), b" dport"),
    };
    out.extend_from_slice(header);
    out.extend_from_slice(field);
}

fn transport_word(transport: Transport) -> &'static [u8] {
    transport.as_str().as_bytes()
}

/// Writes one value.
pub(super) fn write_scalar(out: &mut Vec<u8>, scalar: &Scalar) {
    match scalar {
        Scalar::Ipv4(addr) => write_addr(out, IpAddr::V4(*addr)),
        Scalar::Ipv6(addr) => write_addr(out, IpAddr::V6(*addr)),
        Scalar::Protocol(number) => match PROTOCOLS.iter().find(|(its, _)| its == number) {
            // Others have names in /etc/protocols only.
            Some((6 | 17 | 132, name)) => out.extend_from_slice(name.as_bytes()),
            Some(_) | None => write_decimal(out, u64::from(*number)),
        },
        Scalar::Port(port) => write_decimal(out, u64::from(*port)),
        Scalar::Mark(mark) => write_mark(out, *mark),
        Scalar::Integer(number) => write_decimal(out, u64::from(*number)),
        Scalar::Interface(name) => {
            out.push(b'"');
            out.extend_from_slice(name.as_str().as_bytes());
            out.push(b'"');
        }
        Scalar::FibType(kind) => out.extend_from_slice(kind.as_str().as_bytes()),
        Scalar::NfProto(IpFamily::V4) => out.extend_from_slice(b"ipv4"),
        Scalar::NfProto(IpFamily::V6) => out.extend_from_slice(b"ipv6"),
    }
}
