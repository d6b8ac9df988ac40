//! Numbers and addresses as the kernel's tools print them, written without intermediate strings; and large texts, written piece
//! by piece.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How much is gathered before it goes to a writer.
const PIECE: usize = 256 * 1024;

/// Hands on what was gathered, if it is enough by now.
type Spill<'a> = dyn FnMut(&mut Vec<u8>) -> io::Result<()> + 'a;

/// Writes a text piece by piece. What gathers it calls its second argument between lines.
pub(super) fn in_pieces(
    out: &mut dyn io::Write,
    gather: impl FnOnce(&mut Vec<u8>, &mut Spill<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(PIECE + PIECE / 4);
    gather(&mut buffer, &mut |buffer| {
        if buffer.len() >= PIECE {
            out.write_all(buffer)?;
            buffer.clear();
        }
        Ok(())
    })?;
    out.write_all(&buffer)
}

/// Writes every line of a header as a comment; how many they are.
pub(super) fn write_header(out: &mut Vec<u8>, header: &str) -> u32 {
    let mut n_lines = 0;
    for line in header.lines() {
        out.extend_from_slice(if line.starts_with('#') { b"" } else { b"# " });
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
        n_lines += 1;
    }
    n_lines
}

/// In decimal.
pub(super) fn write_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// In lower-case hexadecimal, without leading zeros.
pub(super) fn write_hex(out: &mut Vec<u8>, number: u32) {
    let n_digits = (32 - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..n_digits).rev() {
        out.push(b"0123456789abcdef"[(number >> (4 * digit) & 0xf) as usize]);
    }
}

/// An address.
pub(super) fn write_ip(out: &mut Vec<u8>, addr: IpAddr) {
    match addr {
        IpAddr::V4(addr) => write_ipv4(out, addr),
        IpAddr::V6(addr) => write_ipv6(out, addr),
    }
}

/// In dotted decimal.
pub(super) fn write_ipv4(out: &mut Vec<u8>, addr: Ipv4Addr) {
    let mut text = [0; 15];
    let mut len = 0;
    for (nth, octet) in addr.octets().into_iter().enumerate() {
        if nth > 0 {
            text[len] = b'.';
            len += 1;
        }
        if octet >= 100 {
            text[len] = b'0' + octet / 100;
            len += 1;
        }
        if octet >= 10 {
            text[len] = b'0' + octet / 10 % 10;
            len += 1;
        }
        text[len] = b'0' + octet % 10;
        len += 1;
    }
    out.extend_from_slice(&text[..len]);
}

/// As the C library does: the longest run of two or more zero groups is left out, and an address that holds an IPv4 one
/// in its last four bytes shows it.
pub(super) fn write_ipv6(out: &mut Vec<u8>, addr: Ipv6Addr) {
    let groups = addr.segments();
    let embeds_ipv4 = match groups {
        [0, 0, 0, 0, 0, 0, high, _] => high != 0,
        [0, 0, 0, 0, 0, 0xffff, _, _] => true,
        _ => false,
    };
    let shown = if embeds_ipv4 { &groups[..6] } else { &groups[..] };
    let (gap, gap_len) = longest_zero_run(shown);
    let mut nth = 0;
    while nth < shown.len() {
        if gap_len >= 2 && nth == gap {
            out.push(b':');
            nth += gap_len;
            if nth == groups.len() {
                out.push(b':');
            }
            continue;
        }
        if nth > 0 {
            out.push(b':');
        }
        write_hex(out, u32::from(shown[nth]));
        nth += 1;
    }
    if embeds_ipv4 {
        let [.., a, b, c, d] = addr.octets();
        out.push(b':');
        write_ipv4(out, Ipv4Addr::new(a, b, c, d));
    }
}

fn longest_zero_run(groups: &[u16]) -> (usize, usize) {
    let (mut best, mut best_len, mut len) = (0, 0, 0);
    for (nth, group) in groups.iter().enumerate() {
        len = if *group == 0 { len + 1 } else { 0 };
        if len > best_len {
            (best, best_len) = (nth + 1 - len, len);
        }
    }
    (best, best_len)
}
