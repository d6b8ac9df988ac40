//! Datagrams with the local address that they come to or go out from: a socket that listens on all addresses must answer
//! from the one that was asked, or connection tracking does not know the answer.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use nix::cmsg_space;
use nix::libc;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg};

/// An address of the node, as a datagram came to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Local {
    addr: IpAddr,
    /// The interface that it is an address of, if it is link-local; 0 otherwise.
    interface: u32,
}

impl Local {
    fn v6(addr: Ipv6Addr, interface: u32) -> Local {
        // REDIRECT takes the first address of an interface, which may mean nothing without it.
        let interface = if addr.is_unicast_link_local() { interface } else { 0 };
        Local { addr: IpAddr::V6(addr), interface }
    }
}

/// What is known of a datagram that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) length: usize,
    pub(super) from: SocketAddr,
    /// The address of the node that it came to.
    pub(super) to: Option<Local>,
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
        // The local address even where the packet was for another (broadcast).
        if let ControlMessageOwned::Ipv4PacketInfo(it) = one {
            let addr = Ipv4Addr::from(it.ipi_spec_dst.s_addr.to_ne_bytes());
            to = Some(Local { addr: IpAddr::V4(addr), interface: 0 });
        } else if let ControlMessageOwned::Ipv6PacketInfo(it) = one {
            to = Some(Local::v6(Ipv6Addr::from(it.ipi6_addr.s6_addr), it.ipi6_ifindex));
        }
    }
    Ok(Received { length: message.bytes, from, to })
}

/// Sends one, from a local address if one is given.
pub(super) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    to: SocketAddr,
    from: Option<Local>,
) -> io::Result<usize> {
    let fd = socket.as_fd().as_raw_fd();
    let parts = [IoSlice::new(bytes)];
    let to = SockaddrStorage::from(to);
    let flags = MsgFlags::MSG_DONTWAIT;
    let sent = match from {
        None => sendmsg(fd, &parts, &[], flags, Some(&to))?,
        Some(Local { addr: IpAddr::V4(from), .. }) => {
            let from = libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
            let any = libc::in_addr { s_addr: 0 };
            let source = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: any };
            sendmsg(fd, &parts, &[ControlMessage::Ipv4PacketInfo(&source)], flags, Some(&to))?
        }
        Some(Local { addr: IpAddr::V6(from), interface }) => {
            let from = libc::in6_addr { s6_addr: from.octets() };
            let source = libc::in6_pktinfo { ipi6_addr: from, ipi6_ifindex: interface };
            sendmsg(fd, &parts, &[ControlMessage::Ipv6PacketInfo(&source)], flags, Some(&to))?
        }
    };
    Ok(sent)
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|it| SocketAddr::V4((*it).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|it| SocketAddr::V6((*it).into())))
}
