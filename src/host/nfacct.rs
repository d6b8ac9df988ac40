//! Accounting objects that iptables rules count into (nfnetlink, subsystem 7): codec and calls.

use std::io;

use netlink_packet_core::NLM_F_CREATE;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::NfacctObject;
use super::error::{HostError, HostErrorKind};
use super::netlink::{Message, Netlink};
use crate::program::attributes;

/// linux/netfilter/nfnetlink.h: NFNL_SUBSYS_ACCT.
const SUBSYSTEM: u16 = 7;
/// linux/netfilter/nfnetlink_acct.h: NFNL_MSG_ACCT_NEW, _GET, _DEL.
const NEW: u16 = SUBSYSTEM << 8;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 3;
/// The same header: NFACCT_NAME, NFACCT_PKTS, NFACCT_BYTES; NFACCT_NAME_MAX with its NUL.
const NAME: u16 = 1;
const PACKETS: u16 = 2;
const BYTES: u16 = 3;
const NAME_MAX: usize = 32;
/// `struct nfgenmsg`: family, version, resource.
const HEADER: [u8; 4] = [0; 4];

/// All objects, sorted by name.
pub(super) fn list() -> Result<Vec<NfacctObject>, HostError> {
    let request = Message { kind: GET, body: HEADER.to_vec() };
    let messages = Netlink::open(NETLINK_NETFILTER)
        .and_then(|mut netlink| netlink.dump(&request))
        .map_err(|error| failed("list accounting objects".to_owned(), &error))?;
    let mut objects: Vec<NfacctObject> = messages.iter().filter_map(decode).collect();
    objects.sort();
    Ok(objects)
}

/// Makes one. One of that name that is there already is fine; the kernel then says "busy" and keeps its counts.
pub(super) fn add(name: &str) -> Result<(), HostError> {
    match change(NEW, NLM_F_CREATE, name, "add") {
        Err(error) if matches!(error.kind, HostErrorKind::Busy | HostErrorKind::Exists) => Ok(()),
        other => other,
    }
}

/// Deletes one.
pub(super) fn delete(name: &str) -> Result<(), HostError> {
    change(DELETE, 0, name, "delete")
}

fn change(kind: u16, flags: u16, name: &str, verb: &str) -> Result<(), HostError> {
    let action = || format!("{verb} accounting object `{name}`");
    let message = encode(kind, name).ok_or_else(|| {
        HostError::new(action(), HostErrorKind::Other, "a name has 1 to 31 bytes, none of them NUL")
    })?;
    Netlink::open(NETLINK_NETFILTER)
        .and_then(|mut netlink| netlink.ask(message, flags))
        .map(|_| ())
        .map_err(|error| failed(action(), &error))
}

/// nfnetlink answers EINVAL when no module serves the subsystem.
fn failed(action: String, error: &io::Error) -> HostError {
    let mut error = HostError::io(action, error);
    if error.detail == "Invalid argument" {
        error.kind = HostErrorKind::Unsupported;
        error.detail = "this kernel has no accounting objects (module `nfnetlink_acct`)".to_owned();
    }
    error
}

fn encode(kind: u16, name: &str) -> Option<Message> {
    if name.is_empty() || name.len() >= NAME_MAX || name.contains('\0') {
        return None;
    }
    let mut body = HEADER.to_vec();
    attributes::push_text(&mut body, NAME, name);
    Some(Message { kind, body })
}

fn decode(message: &Message) -> Option<NfacctObject> {
    if message.kind != NEW {
        return None;
    }
    let mut object = NfacctObject { name: String::new(), packets: 0, bytes: 0 };
    for (kind, value) in attributes::after(&message.body, HEADER.len()) {
        let number = || <[u8; 8]>::try_from(value).map_or(0, u64::from_be_bytes);
        match kind {
            NAME => {
                let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
                object.name = String::from_utf8_lossy(name).into_owned();
            }
            PACKETS => object.packets = number(),
            BYTES => object.bytes = number(),
            _ => {}
        }
    }
    (!object.name.is_empty()).then_some(object)
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    #[test]
    fn writes_the_name_with_its_end_and_padding() {
        let message = encode(NEW, "ct_inv").unwrap();
        assert_eq!(message.kind, 0x0700);
        assert_eq!(message.body, b"\0\0\0\0\x0b\0\x01\0ct_inv\0\0");
        assert_eq!(encode(DELETE, "abc").unwrap().body, b"\0\0\0\0\x08\0\x01\0abc\0");
        assert_eq!(encode(NEW, ""), None);
        assert_eq!(encode(NEW, "a\0b"), None);
        assert_eq!(encode(NEW, &"x".repeat(32)), None);
        assert!(encode(NEW, &"x".repeat(31)).is_some());
    }

    #[test]
    fn reads_what_a_kernel_sent() {
        // Linux 6.18: an object "abc" with 1 packet of 84 bytes, used by one rule.
        let body = b"\0\0\0\0\x08\0\x01\0abc\0\
            \x0c\0\x02\0\0\0\0\0\0\0\0\x01\
            \x0c\0\x03\0\0\0\0\0\0\0\0\x54\
            \x08\0\x04\0\0\0\0\x02";
        let object = decode(&Message { kind: NEW, body: body.to_vec() });
        assert_eq!(object, Some(NfacctObject { name: "abc".to_owned(), packets: 1, bytes: 84 }));
        assert_eq!(decode(&Message { kind: NEW, body: body[..10].to_vec() }), None);
        assert_eq!(decode(&Message { kind: GET, body: body.to_vec() }), None);
    }

    #[test]
    fn a_kernel_without_them_is_told_apart() {
        let einval = io::Error::from_raw_os_error(22);
        assert_eq!(failed(String::new(), &einval).kind, HostErrorKind::Unsupported);
        let eperm = io::Error::from_raw_os_error(1);
        assert_eq!(failed(String::new(), &eperm).kind, HostErrorKind::Permission);
    }
}
