//! Network devices and their addresses (rtnetlink): reading them, dummy devices, addresses of a host.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::io::Errno;

use super::LocalAddress;
use super::error::{HostError, HostErrorKind};
use super::netlink::{Message, Netlink, is};
use crate::net::IpFamily;
use crate::program::attributes;

/// linux/rtnetlink.h: RTM_NEWLINK, _DELLINK, _GETLINK; RTM_NEWADDR, _DELADDR, _GETADDR.
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
/// linux/if_link.h: IFLA_IFNAME; IFLA_LINKINFO, and in it IFLA_INFO_KIND. IFNAMSIZ of linux/if.h, with its NUL.
const NAME: u16 = 3;
const LINK_INFO: u16 = 18;
const KIND: u16 = 1;
const NAME_MAX: usize = 16;
/// IFA_ADDRESS and IFA_LOCAL of linux/if_addr.h. They differ on point-to-point links: the first is the peer's.
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
/// `struct ifinfomsg`: family, padding, type; index, flags, mask.
const LINK_HEADER: usize = 16;
/// `struct ifaddrmsg`: family, prefix length, flags, scope; index.
const ADDRESS_HEADER: usize = 8;
/// Where both have the index of the device.
const INDEX: usize = 4;
/// What the kernel calls a dummy device.
const DUMMY: &[u8] = b"dummy";

/// A network device.
#[derive(Debug, PartialEq, Eq)]
struct Device {
    index: u32,
    name: Box<str>,
    /// Empty for one that nobody made: loopback, and network cards.
    kind: Vec<u8>,
}

/// All addresses with their devices, sorted, each pair once.
pub(super) fn local_addresses() -> Result<Vec<LocalAddress>, HostError> {
    list().map_err(|error| HostError::io("list local addresses", &error))
}

fn list() -> io::Result<Vec<LocalAddress>> {
    let mut netlink = Netlink::open(NETLINK_ROUTE)?;
    // Devices last: an address whose device has gone meanwhile has gone with it.
    let addresses = netlink.dump(&Message { kind: GET_ADDRESS, body: vec![0; ADDRESS_HEADER] })?;
    let devices = netlink.dump(&Message { kind: GET_LINK, body: vec![0; LINK_HEADER] })?;
    let names: BTreeMap<u32, Box<str>> =
        devices.iter().filter_map(decode_device).map(|device| (device.index, device.name)).collect();
    let found: BTreeSet<LocalAddress> = addresses
        .iter()
        .filter_map(|message| {
            let (index, addr) = decode_address(message)?;
            Some(LocalAddress { device: names.get(&index)?.clone(), addr })
        })
        .collect();
    Ok(found.into_iter().collect())
}

/// The addresses of a dummy device, without the link-local ones that the kernel makes; `None` if there is no such device.
pub(super) fn dummy_addresses(name: &str) -> Result<Option<BTreeSet<IpAddr>>, HostError> {
    let action = format!("read the addresses of `{name}`");
    let mut netlink = open(&action)?;
    let Some(device) = find_dummy(&mut netlink, name, &action)? else { return Ok(None) };
    let messages = netlink
        .dump(&Message { kind: GET_ADDRESS, body: vec![0; ADDRESS_HEADER] })
        .map_err(|error| HostError::io(action, &error))?;
    let is_made = |addr: &IpAddr| match addr {
        IpAddr::V4(_) => false,
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    };
    let of_device = messages.iter().filter_map(decode_address).filter(|(index, _)| *index == device.index);
    Ok(Some(of_device.map(|(_, addr)| addr).filter(|addr| !is_made(addr)).collect()))
}

/// Makes a dummy device, and leaves it down.
pub(super) fn dummy_add(name: &str) -> Result<(), HostError> {
    let action = format!("add the dummy device `{name}`");
    let mut body = named(name, &action)?;
    let mut kind = Vec::new();
    attributes::push(&mut kind, KIND, DUMMY);
    attributes::push(&mut body, LINK_INFO, &kind);
    let done = open(&action)?.ask(Message { kind: NEW_LINK, body }, NLM_F_CREATE | NLM_F_EXCL);
    done.map(|_| ()).map_err(|error| {
        if is(&error, Errno::OPNOTSUPP) {
            let words = "this kernel has no dummy devices (module `dummy`)";
            return HostError::new(action, HostErrorKind::Unsupported, words);
        }
        HostError::io(action, &error)
    })
}

/// Deletes a dummy device.
pub(super) fn dummy_delete(name: &str) -> Result<(), HostError> {
    let action = format!("delete the dummy device `{name}`");
    let mut netlink = open(&action)?;
    let device = find_dummy(&mut netlink, name, &action)?.ok_or_else(|| not_there(&action))?;
    let mut body = vec![0; LINK_HEADER];
    body[INDEX..INDEX + 4].copy_from_slice(&device.index.to_ne_bytes());
    let done = netlink.ask(Message { kind: DELETE_LINK, body }, 0);
    done.map(|_| ()).map_err(|error| HostError::io(action, &error))
}

/// Gives a device addresses, each as a host's. Those that it bears already are passed over.
pub(super) fn addresses_add(name: &str, addresses: &[IpAddr]) -> Result<(), HostError> {
    let words = |what: &str| format!("add {what} to `{name}`");
    let is_there = |error: &io::Error| is(error, Errno::EXIST);
    change(NEW_ADDRESS, NLM_F_CREATE | NLM_F_EXCL, (name, addresses), words, is_there)
}

/// Takes addresses from a device. Those that are gone already are passed over.
pub(super) fn addresses_delete(name: &str, addresses: &[IpAddr]) -> Result<(), HostError> {
    let words = |what: &str| format!("delete {what} from `{name}`");
    let is_gone = |error: &io::Error| is(error, Errno::ADDRNOTAVAIL);
    change(DELETE_ADDRESS, 0, (name, addresses), words, is_gone)
}

fn change(
    kind: u16,
    flags: u16,
    (name, addresses): (&str, &[IpAddr]),
    words: impl Fn(&str) -> String,
    is_fine: impl Fn(&io::Error) -> bool,
) -> Result<(), HostError> {
    let action = words("addresses");
    let mut netlink = open(&action)?;
    let device = find(&mut netlink, name, &action)?.ok_or_else(|| not_there(&action))?;
    let messages = addresses.iter().map(|addr| Message { kind, body: encode_address(device.index, *addr) });
    netlink.change_all(messages, flags, is_fine).map_err(|(index, error)| {
        let addr = addresses.get(index).map(IpAddr::to_string).unwrap_or_default();
        HostError::io(words(&format!("the address {addr}")), &error)
    })
}

fn open(action: &str) -> Result<Netlink, HostError> {
    Netlink::open(NETLINK_ROUTE).map_err(|error| HostError::io(action, &error))
}

/// A device that must be a dummy, if there is one of that name.
fn find_dummy(netlink: &mut Netlink, name: &str, action: &str) -> Result<Option<Device>, HostError> {
    let device = find(netlink, name, action)?;
    if device.as_ref().is_some_and(|device| device.kind != DUMMY) {
        let words = format!("`{name}` is there, and is no dummy device");
        return Err(HostError::new(action, HostErrorKind::Exists, words));
    }
    Ok(device)
}

fn find(netlink: &mut Netlink, name: &str, action: &str) -> Result<Option<Device>, HostError> {
    match netlink.ask(Message { kind: GET_LINK, body: named(name, action)? }, 0) {
        Ok(messages) => Ok(messages.iter().find_map(decode_device)),
        Err(error) if is(&error, Errno::NODEV) => Ok(None),
        Err(error) => Err(HostError::io(action, &error)),
    }
}

fn not_there(action: &str) -> HostError {
    HostError::new(action, HostErrorKind::NotFound, "there is no such device")
}

/// The body of a message about the device of a name.
fn named(name: &str, action: &str) -> Result<Vec<u8>, HostError> {
    if name.is_empty() || name.len() >= NAME_MAX || name.contains('\0') {
        let words = "a device's name has 1 to 15 bytes, none of them NUL";
        return Err(HostError::new(action, HostErrorKind::Other, words));
    }
    let mut body = vec![0; LINK_HEADER];
    attributes::push_text(&mut body, NAME, name);
    Ok(body)
}

fn encode_address(index: u32, addr: IpAddr) -> Vec<u8> {
    let octets = match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    let family = IpFamily::of(addr);
    let mut body = vec![family.number(), family.bits(), 0, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    // With both, deleting is exact: an address with a shorter prefix is another.
    attributes::push(&mut body, LOCAL, &octets);
    attributes::push(&mut body, ADDRESS, &octets);
    body
}

fn decode_device(message: &Message) -> Option<Device> {
    if message.kind != NEW_LINK {
        return None;
    }
    let body = &message.body;
    let value =
        |kind| attributes::after(body, LINK_HEADER).find(|(its, _)| *its == kind).map(|(_, value)| value);
    let name = value(NAME)?;
    let kind = value(LINK_INFO).and_then(|made| {
        let (_, kind) = attributes::well_formed(made).find(|(its, _)| *its == KIND)?;
        Some(without_end(kind).to_vec())
    });
    Some(Device {
        index: index(body)?,
        name: String::from_utf8_lossy(without_end(name)).into(),
        kind: kind.unwrap_or_default(),
    })
}

/// The index of the device, and the address.
fn decode_address(message: &Message) -> Option<(u32, IpAddr)> {
    if message.kind != NEW_ADDRESS {
        return None;
    }
    let of_kind = |kind| {
        let mut all = attributes::after(&message.body, ADDRESS_HEADER);
        let (_, value) = all.find(|(its, _)| *its == kind)?;
        let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok()
    };
    Some((index(&message.body)?, of_kind(LOCAL).or_else(|| of_kind(ADDRESS))?))
}

fn index(body: &[u8]) -> Option<u32> {
    let bytes = body.get(INDEX..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// Up to the NUL at the end of a text.
fn without_end(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    fn message(attributes: &[(u16, &[u8])]) -> Message {
        let mut body = vec![2, 32, 0, 0, 7, 0, 0, 0];
        for (kind, value) in attributes {
            attributes::push(&mut body, *kind, value);
        }
        Message { kind: NEW_ADDRESS, body }
    }

    #[test]
    fn takes_the_own_address_of_a_point_to_point_link() {
        let text =
            |message: &Message| decode_address(message).map(|(index, address)| format!("{index} {address}"));
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
    fn tells_a_dummy_from_others() {
        let mut body = vec![0; LINK_HEADER];
        body[INDEX] = 3;
        attributes::push(&mut body, NAME, b"d0\0");
        let device = |body: &[u8]| decode_device(&Message { kind: NEW_LINK, body: body.to_vec() });
        let kind = |body: &[u8]| device(body).map(|device| device.kind);
        assert_eq!(device(&body), Some(Device { index: 3, name: "d0".into(), kind: Vec::new() }));
        // Kernels end the word or not.
        for (attribute, expected) in [
            (&b"\x0a\0\x01\0dummy\0\0\0"[..], &b"dummy"[..]),
            (b"\x09\0\x01\0dummy\0\0\0", b"dummy"),
            (b"\x0b\0\x01\0bridge\0\0", b"bridge"),
            (b"\xff\0\x01\0dummy", b""),
        ] {
            let mut body = body.clone();
            attributes::push(&mut body, LINK_INFO, attribute);
            assert_eq!(kind(&body).as_deref(), Some(expected));
        }
        assert_eq!(device(&body[..LINK_HEADER]), None);
        assert_eq!(device(&[]), None);
    }

    #[test]
    fn writes_an_address_as_that_of_a_host() {
        let v4 = b"\x02\x20\0\0\x07\0\0\0\x08\0\x02\0\x0a\0\0\x01\x08\0\x01\0\x0a\0\0\x01";
        assert_eq!(encode_address(7, IpAddr::from([10, 0, 0, 1])), v4);
        let v6 = encode_address(258, "fd00::1".parse().unwrap());
        assert_eq!(v6[..12], *b"\x0a\x80\0\0\x02\x01\0\0\x14\0\x02\0");
        assert_eq!(v6.len(), ADDRESS_HEADER + 2 * 20);
    }

    #[test]
    fn takes_names_that_a_device_can_have() {
        let named = |name: &str| named(name, "try").map(|body| body[LINK_HEADER..].to_vec());
        assert_eq!(named("d0").unwrap(), b"\x07\0\x03\0d0\0\0");
        assert!(named(&"x".repeat(15)).is_ok());
        for bad in ["", "a\0b", &"x".repeat(16)] {
            assert_eq!(named(bad).unwrap_err().kind, HostErrorKind::Other, "{bad}");
        }
    }

    #[test]
    fn reads_this_machine() {
        // Every namespace answers, if only with an empty list.
        assert!(local_addresses().is_ok());
        assert_eq!(dummy_addresses("no-such-device"), Ok(None));
        let error = dummy_addresses("lo").unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read the addresses of `lo`: `lo` is there, and is no dummy device"
        );
        assert_eq!(dummy_delete("no-such-device").unwrap_err().kind, HostErrorKind::NotFound);
        let error = addresses_add("no-such-device", &[IpAddr::from([10, 0, 0, 1])]).unwrap_err();
        assert_eq!(error.to_string(), "cannot add addresses to `no-such-device`: there is no such device");
    }
}
