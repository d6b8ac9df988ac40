//! Messages of ipset, subsystem [`SUBSYSTEM`] of nfnetlink (`include/uapi/linux/netfilter/ipset/ip_set.h`): questions,
//! what is answered, and what its refusals mean. What is here follows the header of nfnetlink; sockets are the host's.

mod change;
mod listing;
mod unmodelled;

pub use change::{MOST_ENTRIES, add, create, delete, destroy, refused_entry, swap};
pub use listing::sets;

pub use crate::program::attributes::WireError;

use crate::net::IpFamily;
use crate::program::attributes::{Attributes, push, push_text};

use super::{SetKind, SetName};

/// `NFNL_SUBSYS_IPSET`
pub const SUBSYSTEM: u8 = 6;
/// The protocol that is spoken here: kernels from 2.6.39 on take it. Version 7 adds nothing that is used.
pub const PROTOCOL: u8 = 6;

/// One message: its command, and the attributes after the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `IPSET_CMD_…`
    pub command: u8,
    /// Its attributes.
    pub body: Vec<u8>,
}

/// `IPSET_CMD_…`
mod command {
    pub(super) const PROTOCOL: u8 = 1;
    pub(super) const CREATE: u8 = 2;
    pub(super) const DESTROY: u8 = 3;
    pub(super) const SWAP: u8 = 6;
    pub(super) const SAVE: u8 = 8;
    pub(super) const ADD: u8 = 9;
    pub(super) const DEL: u8 = 10;
    pub(super) const TYPE: u8 = 13;
}

/// `IPSET_ATTR_…` of a message.
mod attribute {
    pub(super) const PROTOCOL: u16 = 1;
    pub(super) const SETNAME: u16 = 2;
    pub(super) const TYPENAME: u16 = 3;
    /// The same number means a second set where two are named.
    pub(super) const SETNAME2: u16 = TYPENAME;
    pub(super) const REVISION: u16 = 4;
    pub(super) const FAMILY: u16 = 5;
    pub(super) const DATA: u16 = 7;
    pub(super) const ADT: u16 = 8;
    pub(super) const LINENO: u16 = 9;
    pub(super) const PROTOCOL_MIN: u16 = 10;
}

/// `IPSET_ATTR_…` of a set or of an entry.
mod data {
    pub(super) const IP: u16 = 1;
    pub(super) const IP_TO: u16 = 2;
    pub(super) const CIDR: u16 = 3;
    pub(super) const PORT: u16 = 4;
    pub(super) const PORT_TO: u16 = 5;
    pub(super) const TIMEOUT: u16 = 6;
    pub(super) const PROTO: u16 = 7;
    pub(super) const FLAGS: u16 = 8;
    pub(super) const LINENO: u16 = 9;
    pub(super) const MARK: u16 = 10;
    pub(super) const MARKMASK: u16 = 11;
}

/// `IPSET_ATTR_…` of a set alone.
mod set_data {
    pub(super) const INITVAL: u16 = 17;
    pub(super) const HASHSIZE: u16 = 18;
    pub(super) const MAXELEM: u16 = 19;
    pub(super) const NETMASK: u16 = 20;
    pub(super) const BUCKETSIZE: u16 = 21;
    pub(super) const SIZE: u16 = 23;
    pub(super) const ELEMENTS: u16 = 24;
    pub(super) const REFERENCES: u16 = 25;
    pub(super) const MEMSIZE: u16 = 26;
}

/// `IPSET_ATTR_…` of an entry alone.
mod entry_data {
    pub(super) const ETHER: u16 = 17;
    pub(super) const NAME: u16 = 18;
    pub(super) const IP2: u16 = 20;
    pub(super) const CIDR2: u16 = 21;
    pub(super) const IFACE: u16 = 23;
    pub(super) const BYTES: u16 = 24;
    pub(super) const PACKETS: u16 = 25;
    pub(super) const COMMENT: u16 = 26;
}

/// `IPSET_ATTR_IPADDR_…`
mod address {
    pub(super) const IPV4: u16 = 1;
    pub(super) const IPV6: u16 = 2;
}

/// `NFPROTO_UNSPEC`, of a type that holds no addresses.
const NO_FAMILY: u8 = 0;
/// `NFPROTO_IPV4`
const IPV4: u8 = 2;
/// `NFPROTO_IPV6`
const IPV6: u8 = 10;

/// Asks for the versions of the protocol: one reply, for [`protocol`].
pub fn get_protocol() -> Message {
    message(command::PROTOCOL)
}

/// The newest version of the protocol that a kernel speaks, `None` if it does not speak [`PROTOCOL`].
pub fn protocol(body: &[u8]) -> Result<Option<u8>, WireError> {
    let found = Attributes::new(body, "description of ipset")?;
    let newest = found.u8(attribute::PROTOCOL, "version of the protocol")?;
    // Kernels before 4.20 know one version.
    let oldest = found.optional(attribute::PROTOCOL_MIN).and_then(|value| value.first().copied());
    Ok((oldest.unwrap_or(newest)..=newest).contains(&PROTOCOL).then_some(newest))
}

/// Asks which revisions of a type of set there are: one reply, for [`revision`]. It loads the module of the type.
pub fn get_type(kind: &SetKind) -> Message {
    let mut asked = message(command::TYPE);
    push_text(&mut asked.body, attribute::TYPENAME, kind.type_name());
    push(&mut asked.body, attribute::FAMILY, &[family_number(kind)]);
    asked
}

/// The newest revision of a type. A revision adds options, and takes everything that those before it take.
pub fn revision(body: &[u8]) -> Result<u8, WireError> {
    Attributes::new(body, "description of a type")?.u8(attribute::REVISION, "revision of the type")
}

/// Asks for all sets with their entries: a dump, all parts of which are for [`sets`].
pub fn get_sets() -> Message {
    message(command::SAVE)
}

/// What the kernel means with the number of an error, beside those of the system: `IPSET_ERR_…`. From 4352 on a number means
/// another thing for a bitmap than for a hash.
pub fn words(errno: i32, of_bitmap: bool) -> Option<&'static str> {
    Some(match errno {
        4097 => "it does not fit the set",
        4098 => "this kernel has no sets of this type",
        4099 => "there are as many sets as there may be",
        4100 => "it is in use by a kernel component",
        4101 => "the second set does not exist",
        4102 => "their types differ",
        4103 => "it is there already, or not there",
        4104 => "the length of the network is not allowed",
        4106 => "the address family is not allowed",
        4109 => "an IPv4 address is expected",
        4110 => "an IPv6 address is expected",
        4352 if of_bitmap => "it is out of the range of the set",
        4352 => "the hash is full, it takes no more entries",
        4353 if of_bitmap => "the range is larger than a set can be",
        4353 => "it cannot be put into a hash",
        _ => return None,
    })
}

/// `IPSET_ERR_FIND_TYPE`
pub const NO_TYPE: i32 = 4098;
/// `IPSET_ERR_BUSY`
pub const BUSY: i32 = 4100;
/// `IPSET_ERR_EXIST_SETNAME2`; when sets are swapped it is missing.
pub const NO_SECOND_SET: i32 = 4101;

fn message(command: u8) -> Message {
    let mut body = Vec::new();
    push(&mut body, attribute::PROTOCOL, &[PROTOCOL]);
    Message { command, body }
}

fn named(command: u8, set: &SetName) -> Message {
    let mut message = message(command);
    push_text(&mut message.body, attribute::SETNAME, set.as_str());
    message
}

fn family_number(kind: &SetKind) -> u8 {
    match kind.family() {
        None => NO_FAMILY,
        Some(IpFamily::V4) => IPV4,
        Some(IpFamily::V6) => IPV6,
    }
}
