//! CIDRs in canonical form: the address is always masked to its network, so equal sets are equal values.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::IpFamily;

/// A network: a masked address and a prefix length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpCidr(IpNet);

impl IpCidr {
    /// The network of `addr` with `prefix_len` bits, masked. `None` if the prefix is longer than the address.
    pub fn new(addr: IpAddr, prefix_len: u8) -> Option<IpCidr> {
        IpNet::new(addr, prefix_len).ok().map(|net| IpCidr(net.trunc()))
    }

    /// The network of exactly one address (/32 or /128).
    pub fn host(addr: IpAddr) -> IpCidr {
        IpCidr(IpNet::from(addr))
    }

    /// The network of all addresses of a family (0.0.0.0/0 or ::/0).
    pub fn any(family: IpFamily) -> IpCidr {
        match family {
            IpFamily::V4 => IpCidr(IpNet::V4(ipnet::Ipv4Net::default())),
            IpFamily::V6 => IpCidr(IpNet::V6(ipnet::Ipv6Net::default())),
        }
    }

    /// First address of the network.
    pub fn network(&self) -> IpAddr {
        self.0.addr()
    }

    /// Last address of the network.
    pub fn last(&self) -> IpAddr {
        self.0.broadcast()
    }

    /// Prefix length in bits.
    pub fn prefix_len(&self) -> u8 {
        self.0.prefix_len()
    }

    /// The family of its addresses.
    pub fn family(&self) -> IpFamily {
        IpFamily::of(self.0.addr())
    }

    /// Whether it holds exactly one address.
    pub fn is_host(&self) -> bool {
        self.prefix_len() == self.family().bits()
    }

    /// Whether it holds every address of its family.
    pub fn is_any(&self) -> bool {
        self.prefix_len() == 0
    }

    /// Whether it holds `addr`. An address of the other family is never held.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (&self.0, addr) {
            (IpNet::V4(net), IpAddr::V4(addr)) => net.contains(&addr),
            (IpNet::V6(net), IpAddr::V6(addr)) => net.contains(&addr),
            (IpNet::V4(_), IpAddr::V6(_)) | (IpNet::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Reads `address/length` as kube-proxy does: leading zeros are decimal, host bits are masked off
    /// (reference section 1.3). A bare address is refused.
    pub fn parse_sloppy(text: &str) -> Option<IpCidr> {
        let (addr, len) = text.split_once('/')?;
        if len.is_empty() || len.len() > 4 || !len.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        // The length counts in the notation it was written in, also when a mapped address becomes IPv4.
        let parsed = parse_addr_raw(addr)?;
        let prefix_len: u8 = len.parse().ok()?;
        match parsed {
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => IpCidr::new(IpAddr::V4(v4), prefix_len.checked_sub(96)?),
                None => IpCidr::new(parsed, prefix_len),
            },
            IpAddr::V4(_) => IpCidr::new(parsed, prefix_len),
        }
    }
}

impl fmt::Display for IpCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for IpCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads an address as kube-proxy does: leading zeros in IPv4 octets are decimal, an IPv4-mapped IPv6 address
/// counts as IPv4 (reference section 1.3).
pub fn parse_addr_sloppy(text: &str) -> Option<IpAddr> {
    Some(match parse_addr_raw(text)? {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 @ IpAddr::V4(_) => v4,
    })
}

fn parse_addr_raw(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 16 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse::<u64>().ok()?.try_into().ok()?;
    }
    parts.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_leading_zeros_as_decimal_and_masks() {
        let text = |input: &str| IpCidr::parse_sloppy(input).map(|cidr| cidr.to_string());
        assert_eq!(text("203.0.113.000/025").as_deref(), Some("203.0.113.0/25"));
        assert_eq!(text("203.0.113.5/25").as_deref(), Some("203.0.113.0/25"));
        assert_eq!(text("FD00:0::1/64").as_deref(), Some("fd00::/64"));
        for bad in
            ["10.0.0.1", "10.0.0/8", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "::/129", "a/8", "/8", ""]
        {
            assert_eq!(text(bad), None, "{bad}");
        }
        assert_eq!(parse_addr_sloppy("172.30.0.041").map(|a| a.to_string()).as_deref(), Some("172.30.0.41"));
        assert_eq!(parse_addr_sloppy("::ffff:10.0.0.1").map(|a| a.to_string()).as_deref(), Some("10.0.0.1"));
        assert_eq!(parse_addr_sloppy("10.0.0.256"), None);
    }
}
