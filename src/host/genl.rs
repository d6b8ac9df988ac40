//! Generic netlink: families of commands that the kernel finds by name, on top of a netlink socket.

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;
use rustix::io::Errno;

use super::netlink::{Message, Netlink, is};
use crate::program::attributes;

/// linux/genetlink.h: GENL_ID_CTRL, the family that knows the others; CTRL_CMD_GETFAMILY.
const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
/// The same header: CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME.
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// The version of the controller's commands.
const CONTROLLER_VERSION: u8 = 1;
/// `struct genlmsghdr`: command, version, reserved.
const HEADER: usize = 4;

/// A socket for the commands of one family.
#[derive(Debug)]
pub(super) struct Genl {
    netlink: Netlink,
    family: u16,
    version: u8,
}

impl Genl {
    /// Opens one for a version of its commands. `None` if the kernel has no family of this name, or has not loaded it.
    pub(super) fn open(name: &str, version: u8) -> io::Result<Option<Genl>> {
        let mut netlink = Netlink::open(NETLINK_GENERIC)?;
        let mut body = Vec::new();
        attributes::push_text(&mut body, FAMILY_NAME, name);
        let found = match netlink.ask(message((CONTROLLER, CONTROLLER_VERSION), GET_FAMILY, &body), 0) {
            Ok(messages) => messages.iter().find_map(family_id),
            Err(error) if is(&error, Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        let family = found.ok_or_else(|| io::Error::other("the kernel does not number the family"))?;
        Ok(Some(Genl { netlink, family, version }))
    }

    /// Asks for something that is no list; the attributes of each answer.
    pub(super) fn ask(&mut self, command: u8, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        Ok(bodies(self.netlink.ask(message((self.family, self.version), command, body), 0)?))
    }

    /// Asks for changes, each a command with its attributes. The error has the index of the first that was refused.
    pub(super) fn change_all(
        &mut self,
        changes: impl Iterator<Item = (u8, Vec<u8>)>,
    ) -> Result<(), (usize, io::Error)> {
        let family = (self.family, self.version);
        let messages = changes.map(|(command, body)| message(family, command, &body));
        self.netlink.change_all(messages, 0, |_| false)
    }

    /// Asks for a list; the attributes of each of its elements.
    pub(super) fn dump(&mut self, command: u8, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        Ok(bodies(self.netlink.dump(&message((self.family, self.version), command, body))?))
    }
}

fn message((family, version): (u16, u8), command: u8, attributes: &[u8]) -> Message {
    let mut body = vec![command, version, 0, 0];
    body.extend_from_slice(attributes);
    Message { kind: family, body }
}

fn bodies(messages: Vec<Message>) -> Vec<Vec<u8>> {
    let without_header = |message: Message| message.body.get(HEADER..).unwrap_or_default().to_vec();
    messages.into_iter().map(without_header).collect()
}

fn family_id(message: &Message) -> Option<u16> {
    let (_, id) = attributes::after(&message.body, HEADER).find(|(kind, _)| *kind == FAMILY_ID)?;
    id.try_into().map(u16::from_ne_bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_families_by_name() {
        assert!(Genl::open("no-such-family", 1).unwrap().is_none());
        let mut controller = Genl::open("nlctrl", CONTROLLER_VERSION).unwrap().unwrap();
        assert_eq!(controller.family, CONTROLLER);
        let families = controller.dump(GET_FAMILY, &[]).unwrap();
        let name = |body: &Vec<u8>| {
            let (_, name) = attributes::well_formed(body).find(|(kind, _)| *kind == FAMILY_NAME).unwrap();
            name.to_vec()
        };
        assert!(families.iter().any(|family| name(family) == b"nlctrl\0"));
    }

    #[test]
    fn puts_the_header_before_the_attributes() {
        let asked = message((0x1c, 1), 5, b"\x05\0\x01\0x\0\0\0");
        assert_eq!(asked, Message { kind: 0x1c, body: b"\x05\x01\0\0\x05\0\x01\0x\0\0\0".to_vec() });
        assert_eq!(
            bodies(vec![asked, Message { kind: 0x1c, body: vec![1] }]),
            [b"\x05\0\x01\0x\0\0\0".to_vec(), vec![]]
        );
    }
}
