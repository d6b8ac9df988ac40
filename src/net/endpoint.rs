//! An address with a port, written as `10.0.0.1:80` or `[fd00::1]:80`.

use std::fmt;
use std::net::IpAddr;

use super::{IpFamily, Port};

/// An address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddrPort {
    /// The address.
    pub addr: IpAddr,
    /// The port.
    pub port: Port,
}

impl AddrPort {
    /// Joins the two.
    pub fn new(addr: IpAddr, port: Port) -> AddrPort {
        AddrPort { addr, port }
    }

    /// The family of the address.
    pub fn family(&self) -> IpFamily {
        IpFamily::of(self.addr)
    }
}

impl fmt::Display for AddrPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            IpAddr::V4(addr) => write!(f, "{addr}:{}", self.port),
            IpAddr::V6(addr) => write!(f, "[{addr}]:{}", self.port),
        }
    }
}

impl std::str::FromStr for AddrPort {
    type Err = ();

    fn from_str(text: &str) -> Result<AddrPort, ()> {
        let parsed: std::net::SocketAddr = text.parse().map_err(|_| ())?;
        Ok(AddrPort::new(parsed.ip(), parsed.port()))
    }
}
