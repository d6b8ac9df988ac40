//! The addresses of all interfaces, from the kernel (rtnetlink, RTM_GETADDR).

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_ROUTE;

use super::error::HostError;
use super::netlink::{Message, Netlink, attributes};

/// RTM_NEWADDR and RTM_GETADDR of linux/rtnetlink.h.
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
/// IFA_ADDRESS and IFA_LOCAL of linux/if_addr.h. They differ on point-to-point links: the first is the peer's.
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
/// `struct ifaddrmsg`: family, prefix length, flags, scope, interface index.
const HEADER_LEN: usize = 8;

/// All of them, sorted, each once.
pub(super) fn list() -> Result<Vec<IpAddr>, HostError> {
    dump().map_err(|error| HostError::io("list local addresses", &error))
}

fn dump() -> io::Result<Vec<IpAddr>> {
    let request = Message { kind: GET_ADDRESS, body: vec![0; HEADER_LEN] };
    let messages = Netlink::open(NETLINK_ROUTE)?.dump(&request)?;
    let found: BTreeSet<IpAddr> = messages.iter().filter_map(address).collect();
    Ok(found.into_iter().collect())
}

fn address(message: &Message) -> Option<IpAddr> {
    if message.kind != NEW_ADDRESS {
        return None;
    }
    let of_kind = |kind| {
        attributes(&message.body, HEADER_LEN).find(|attribute| attribute.kind() == kind).and_then(
            |attribute| {
                let value = attribute.value();
                let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
                v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok()
            },
        )
    };
    of_kind(LOCAL).or_else(|| of_kind(ADDRESS))
}

#[cfg(test)]
mod tests {
    use super::super::netlink::push_attribute;
    use super::*;

    fn message(attributes: &[(u16, &[u8])]) -> Message {
        let mut body = vec![2, 32, 0, 0, 1, 0, 0, 0];
        for (kind, value) in attributes {
            push_attribute(&mut body, *kind, value);
        }
        Message { kind: NEW_ADDRESS, body }
    }

    #[test]
    fn takes_the_own_address_of_a_point_to_point_link() {
        let text = |message: &Message| address(message).map(|address| address.to_string());
        assert_eq!(
            text(&message(&[(ADDRESS, &[10, 0, 0, 2]), (LOCAL, &[10, 0, 0, 1]), (3, b"ppp0\0")])).as_deref(),
            Some("10.0.0.1")
        );
        let v6 = [0xfd, 0, 0, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10];
        assert_eq!(text(&message(&[(ADDRESS, &v6)])).as_deref(), Some("fd00:77::10"));
        assert_eq!(text(&message(&[(ADDRESS, &[1, 2, 3])])), None);
        assert_eq!(text(&Message { kind: NEW_ADDRESS, body: vec![2] }), None);
    }

    #[test]
    fn reads_this_machine() {
        // Every namespace answers, if only with an empty list.
        assert!(list().is_ok());
    }
}
