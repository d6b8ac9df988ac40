//! Datagrams with the local address that they come to or go out from: a socket that listens on all addresses must answer
//! from the one that was asked, or connection tracking does not know the answer.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use nix::cmsg_space;
use nix::libc;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg};

/// What is known of a datagram that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) length: usize,
    pub(super) from: SocketAddr,
    /// The address of the node that it came to.
    pub(super) to: Option<IpAddr>,
}

/// Receives one. `WouldBlock` if there is none.
pub(super) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let fd = socket.as_fd().as_raw_fd();
    let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let from = message.address.as_ref().and_then(address);
    let from = from.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a datagram from nowhere"))?;
    let mut to = None;
    for one in message.cmsgs()? {
        match one {
            // ipi_spec_dst is the local address even where the packet was for another (broadcast).
            ControlMessageOwned::Ipv4PacketInfo(it) => {
                to = Some(IpAddr::V4(Ipv4Addr::from(it.ipi_spec_dst.s_addr.to_ne_bytes())));
            }
            ControlMessageOwned::Ipv6PacketInfo(it) => {
                to = Some(IpAddr::V6(Ipv6Addr::from(it.ipi6_addr.s6_addr)));
            }
            _ => {}
        }
    }
    Ok(Received { length: message.bytes, from, to })
}

/// Sends one, from a local address if one is given.
pub(super) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    to: SocketAddr,
    from: Option<IpAddr>,
) -> io::Result<usize> {
    let fd = socket.as_fd().as_raw_fd();
    let parts = [IoSlice::new(bytes)];
    let to = SockaddrStorage::from(to);
    let flags = MsgFlags::MSG_DONTWAIT;
    let sent = match from {
        None => sendmsg(fd, &parts, &[], flags, Some(&to))?,
        Some(IpAddr::V4(from)) => {
            let from = libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
            let any = libc::in_addr { s_addr: 0 };
            let source = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: any };
            sendmsg(fd, &parts, &[ControlMessage::Ipv4PacketInfo(&source)], flags, Some(&to))?
        }
        Some(IpAddr::V6(from)) => {
            let from = libc::in6_addr { s6_addr: from.octets() };
            let source = libc::in6_pktinfo { ipi6_addr: from, ipi6_ifindex: 0 };
            sendmsg(fd, &parts, &[ControlMessage::Ipv6PacketInfo(&source)], flags, Some(&to))?
        }
    };
    Ok(sent)
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|it| SocketAddr::V4((*it).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|it| SocketAddr::V6((*it).into())))
}
