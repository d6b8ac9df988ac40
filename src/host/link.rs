//! Network devices and their addresses (rtnetlink): reading them, dummy devices, addresses of a host.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_ROUTE;

use super::LocalAddress;
use super::error::HostError;
use super::netlink::{Message, Netlink, attributes};

/// linux/rtnetlink.h: RTM_NEWLINK, RTM_GETLINK; RTM_NEWADDR, RTM_GETADDR.
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
/// linux/if_link.h: IFLA_IFNAME.
const NAME: u16 = 3;
/// IFA_ADDRESS and IFA_LOCAL of linux/if_addr.h. They differ on point-to-point links: the first is the peer's.
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
/// `struct ifinfomsg`: family, padding, type; index, flags, mask.
const LINK_HEADER: usize = 16;
/// `struct ifaddrmsg`: family, prefix length, flags, scope; index.
const ADDRESS_HEADER: usize = 8;
/// Where both have the index of the device.
const INDEX: usize = 4;

/// All addresses with their devices, sorted, each pair once.
pub(super) fn local_addresses() -> Result<Vec<LocalAddress>, HostError> {
    list().map_err(|error| HostError::io("list local addresses", &error))
}

fn list() -> io::Result<Vec<LocalAddress>> {
    let mut netlink = Netlink::open(NETLINK_ROUTE)?;
    // Devices last: an address whose device has gone meanwhile has gone with it.
    let addresses = netlink.dump(&Message { kind: GET_ADDRESS, body: vec![0; ADDRESS_HEADER] })?;
    let devices = netlink.dump(&Message { kind: GET_LINK, body: vec![0; LINK_HEADER] })?;
    let names: BTreeMap<u32, Box<str>> = devices.iter().filter_map(device).collect();
    let found: BTreeSet<LocalAddress> = addresses
        .iter()
        .filter_map(|message| {
            let (index, addr) = address(message)?;
            Some(LocalAddress { device: names.get(&index)?.clone(), addr })
        })
        .collect();
    Ok(found.into_iter().collect())
}

/// Index and name of a device.
fn device(message: &Message) -> Option<(u32, Box<str>)> {
    if message.kind != NEW_LINK {
        return None;
    }
    let name = attributes(&message.body, LINK_HEADER).find(|attribute| attribute.kind() == NAME)?;
    let name = name.value().split(|byte| *byte == 0).next().unwrap_or_default();
    Some((index(&message.body)?, String::from_utf8_lossy(name).into()))
}

/// The index of the device, and the address.
fn address(message: &Message) -> Option<(u32, IpAddr)> {
    if message.kind != NEW_ADDRESS {
        return None;
    }
    let of_kind = |kind| {
        let mut all = attributes(&message.body, ADDRESS_HEADER);
        let attribute = all.find(|attribute| attribute.kind() == kind)?;
        let value = attribute.value();
        let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok()
    };
    Some((index(&message.body)?, of_kind(LOCAL).or_else(|| of_kind(ADDRESS))?))
}

fn index(body: &[u8]) -> Option<u32> {
    let bytes = body.get(INDEX..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::super::netlink::push_attribute;
    use super::*;

    fn message(attributes: &[(u16, &[u8])]) -> Message {
        let mut body = vec![2, 32, 0, 0, 7, 0, 0, 0];
        for (kind, value) in attributes {
            push_attribute(&mut body, *kind, value);
        }
        Message { kind: NEW_ADDRESS, body }
    }

    #[test]
    fn takes_the_own_address_of_a_point_to_point_link() {
        let text = |message: &Message| address(message).map(|(index, address)| format!("{index} {address}"));
        assert_eq!(
            text(&message(&[(ADDRESS, &[10, 0, 0, 2]), (LOCAL, &[10, 0, 0, 1]), (3, b"ppp0\0")])).as_deref(),
            Some("7 10.0.0.1")
        );
        let v6 = [0xfd, 0, 0, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10];
        assert_eq!(text(&message(&[(ADDRESS, &v6)])).as_deref(), Some("7 fd00:77::10"));
        assert_eq!(text(&message(&[(ADDRESS, &[1, 2, 3])])), None);
        assert_eq!(text(&Message { kind: NEW_ADDRESS, body: vec![2] }), None);
    }

    #[test]
    fn reads_this_machine() {
        // Every namespace answers, if only with an empty list.
        assert!(local_addresses().is_ok());
    }
}
