//! Makes the sockets of a listener: one for each worker, between which the kernel divides connections and flows.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use nix::sys::socket::{setsockopt, sockopt as nix_sockopt};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use crate::net::{IpFamily, Protocol};
use crate::program::listener::ListenerKey;

/// How many connections may wait to be accepted, if the kernel lets them (net.core.somaxconn).
const BACKLOG: i32 = 4096;

/// The sockets of one listener.
#[derive(Debug)]
pub(super) enum Sockets {
    Tcp(Vec<TcpListener>),
    Udp(Vec<UdpSocket>),
}

/// Makes `n` sockets for a listener. `AddrInUse` if somebody else has the port.
pub(super) fn open(key: &ListenerKey, n: usize) -> io::Result<Sockets> {
    match key.protocol {
        Protocol::Tcp => (0..n).map(|_| tcp(key)).collect::<io::Result<_>>().map(Sockets::Tcp),
        Protocol::Udp => (0..n).map(|_| udp(key)).collect::<io::Result<_>>().map(Sockets::Udp),
        Protocol::Sctp => Err(io::Error::new(io::ErrorKind::Unsupported, "SCTP cannot be carried")),
    }
}

fn bound(key: &ListenerKey, kind: SocketType) -> io::Result<OwnedFd> {
    let family = match key.family() {
        IpFamily::V4 => AddressFamily::INET,
        IpFamily::V6 => AddressFamily::INET6,
    };
    let socket = socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    if key.family() == IpFamily::V6 {
        // IPv4 has a listener of its own.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if kind == SocketType::STREAM {
        // A port whose last connections are still in TIME_WAIT is free for this.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &SocketAddr::new(key.at.addr, key.at.port))?;
    Ok(socket)
}

fn tcp(key: &ListenerKey) -> io::Result<TcpListener> {
    let socket = bound(key, SocketType::STREAM)?;
    // Accepted connections inherit it.
    sockopt::set_tcp_nodelay(&socket, true)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

fn udp(key: &ListenerKey) -> io::Result<UdpSocket> {
    let socket = bound(key, SocketType::DGRAM)?;
    // Tells which address of the node a datagram came to: the reply must come from there.
    match key.family() {
        IpFamily::V4 => setsockopt(&socket, nix_sockopt::Ipv4PacketInfo, &true)?,
        IpFamily::V6 => setsockopt(&socket, nix_sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(UdpSocket::from(socket))
}
