//! Reads the values of options: numbers, marks, ports, networks, probabilities.

use std::net::IpAddr;

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::{char, digit1, hex_digit1, oct_digit1};
use nom::combinator::{all_consuming, map, map_opt, map_res, opt};
use nom::multi::separated_list1;
use nom::sequence::preceded;
use nom::{IResult, Parser};

use crate::net::{IpCidr, IpFamily, Port};

use super::super::{ConntrackStates, Side};

fn whole<'a, T>(
    parser: impl Parser<&'a str, Output = T, Error = nom::error::Error<&'a str>>,
    text: &'a str,
) -> Option<T> {
    all_consuming(parser).parse(text).ok().map(|(_, value)| value)
}

/// A number as the C library reads it in base 0: hexadecimal after `0x`, octal after `0`.
fn number(text: &str) -> IResult<&str, u32> {
    alt((
        map_res(preceded(alt((tag("0x"), tag("0X"))), hex_digit1), |digits| u32::from_str_radix(digits, 16)),
        map_res(preceded(char('0'), oct_digit1), |digits| u32::from_str_radix(digits, 8)),
        map_res(digit1, str::parse),
    ))
    .parse(text)
}

/// `value` or `value/mask`.
pub(super) fn mark(text: &str) -> Option<(u32, Option<u32>)> {
    whole((number, opt(preceded(char('/'), number))), text)
}

/// A decimal number of seconds.
pub(super) fn seconds(text: &str) -> Option<u32> {
    whole(map_res(digit1, str::parse), text)
}

/// `80`, `80:90`, `:90`, `80:`.
pub(super) fn ports(text: &str) -> Option<(Port, Port)> {
    fn port(text: &str) -> IResult<&str, Port> {
        map_res(digit1, str::parse).parse(text)
    }
    let range = |text| match (opt(port), opt(preceded(char(':'), opt(port)))).parse(text)? {
        (rest, (Some(first), None)) => Ok((rest, Some((first, first)))),
        (rest, (None, None)) => Ok((rest, None)),
        (rest, (first, Some(last))) => Ok((rest, Some((first.unwrap_or(0), last.unwrap_or(Port::MAX))))),
    };
    whole(range, text).flatten().filter(|(first, last)| first <= last)
}

/// A probability in 1/2^31, rounded as iptables does: `lround(0x80000000 * x)`.
pub(super) fn probability(text: &str) -> Option<u32> {
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    (value <= 1.0).then(|| (value * f64::from(1_u32 << 31)).round() as u32)
}

/// Connection states, separated by commas.
pub(super) fn states(text: &str) -> Option<u8> {
    let state = map_opt(take_while1(|c: char| c.is_ascii_alphabetic()), |name: &str| {
        ConntrackStates::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(bit, _)| *bit)
    });
    whole(separated_list1(char(','), state), text)
        .map(|bits: Vec<u8>| bits.into_iter().fold(0, |all, bit| all | bit))
}

/// The most dimensions that a set has.
const MAX_DIMENSIONS: usize = 6;

/// Sides of a packet, separated by commas.
pub(super) fn directions(text: &str) -> Option<Box<[Side]>> {
    let direction =
        |text| alt((map(tag("src"), |_| Side::Source), map(tag("dst"), |_| Side::Destination))).parse(text);
    whole(separated_list1(char(','), direction), text)
        .filter(|directions: &Vec<Side>| directions.len() <= MAX_DIMENSIONS)
        .map(Vec::into_boxed_slice)
}

/// An address, or a network with its length or its mask.
pub(super) fn cidr(text: &str, family: IpFamily) -> Option<IpCidr> {
    let (addr, mask) = match text.split_once('/') {
        Some((addr, mask)) => (addr, Some(mask)),
        None => (text, None),
    };
    let addr = address(addr, family)?;
    match mask {
        None => Some(IpCidr::host(addr)),
        Some(mask) => IpCidr::new(addr, prefix_len(mask, family)?),
    }
}

fn prefix_len(mask: &str, family: IpFamily) -> Option<u8> {
    if let Some(len) = whole(map_res(digit1, str::parse), mask) {
        return Some(len);
    }
    let (ones, zeros) = match address(mask, family)? {
        IpAddr::V4(mask) => (mask.to_bits().leading_ones(), mask.to_bits().trailing_zeros()),
        IpAddr::V6(mask) => (mask.to_bits().leading_ones(), mask.to_bits().trailing_zeros()),
    };
    u8::try_from(ones).ok().filter(|len| u32::from(*len) + zeros >= u32::from(family.bits()))
}

/// An address of the family.
pub(super) fn address(text: &str, family: IpFamily) -> Option<IpAddr> {
    match family {
        IpFamily::V4 => text.parse().ok().map(IpAddr::V4),
        IpFamily::V6 => text.parse().ok().map(IpAddr::V6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_as_iptables_does() {
        assert_eq!(mark("0x00004000/0x4000"), Some((0x4000, Some(0x4000))));
        assert_eq!(mark("010"), Some((8, None)));
        assert_eq!(mark("0"), Some((0, None)));
        assert_eq!(mark("0xfffffffff"), None);
        assert_eq!(ports("80"), Some((80, 80)));
        assert_eq!(ports(":80"), Some((0, 80)));
        assert_eq!(ports("80:"), Some((80, 65535)));
        assert_eq!(ports("90:80"), None);
        assert_eq!(ports("http"), None);
        assert_eq!(ports(""), None);
        assert_eq!(probability("0.3333333333"), Some(715_827_883));
        assert_eq!(probability("0.33333333349"), Some(715_827_883));
        assert_eq!(probability("1"), Some(1 << 31));
        assert_eq!(probability("1.1"), None);
        assert_eq!(states("NEW,dnat"), Some(ConntrackStates::NEW | ConntrackStates::DNAT));
        assert_eq!(states("NEW,"), None);
        let (from, to) = (Side::Source, Side::Destination);
        assert_eq!(directions("dst,dst,src").as_deref(), Some(&[to, to, from][..]));
        assert_eq!(directions("src,"), None);
        assert_eq!(directions("source"), None);
        assert_eq!(directions("src,src,src,src,src,src").map(|all| all.len()), Some(6));
        assert_eq!(directions("src,src,src,src,src,src,src"), None);
    }

    #[test]
    fn reads_networks() {
        let text = |text: &str, family| cidr(text, family).map(|cidr| cidr.to_string());
        assert_eq!(text("10.0.0.1", IpFamily::V4).as_deref(), Some("10.0.0.1/32"));
        assert_eq!(text("10.1.2.3/255.255.0.0", IpFamily::V4).as_deref(), Some("10.1.0.0/16"));
        assert_eq!(text("10.1.2.3/0.0.0.0", IpFamily::V4).as_deref(), Some("0.0.0.0/0"));
        assert_eq!(text("10.1.2.3/255.0.255.0", IpFamily::V4), None);
        assert_eq!(text("10.1.2.3/33", IpFamily::V4), None);
        assert_eq!(text("::1", IpFamily::V6).as_deref(), Some("::1/128"));
        assert_eq!(text("fd00::1/64", IpFamily::V6).as_deref(), Some("fd00::/64"));
        assert_eq!(text("::1", IpFamily::V4), None);
    }
}
