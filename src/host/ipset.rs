//! Sets in the kernel (nfnetlink, subsystem of ipset): its protocol, all sets, changes to them, and why it refuses one.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;

use super::error::{HostError, HostErrorKind};
use super::netlink::{Message, Netlink, is};
use crate::program::ipset::wire::{self, WireError};
use crate::program::ipset::{Change, Entry, SetKind, SetName, Sets};

/// `struct nfgenmsg`: family, version, resource.
const HEADER: [u8; 4] = [0; 4];

const NONE: &str = "this kernel has no ipset (module `ip_set`)";

/// The newest version of the protocol; `None` if the kernel has no ipset. It loads the module by itself.
pub(super) fn protocol() -> Result<Option<u8>, HostError> {
    Ok(open("ask for the protocol of ipset")?.map(|(_, protocol)| protocol))
}

/// All sets with their entries.
pub(super) fn read() -> Result<Sets, HostError> {
    let action = "read sets";
    let parts =
        need(action)?.dump(&message(wire::get_sets())).map_err(|error| failed(action, &error, false))?;
    wire::sets(parts.iter().map(attributes)).map_err(|error| unreadable(action, &error))
}

/// Takes changes in their order; the index of the first that was refused. Each message waits for the answer to the one
/// before it: what follows a refusal, as the swap after a set that could not be filled, must not be done.
pub(super) fn change(changes: &[Change]) -> Result<(), (usize, HostError)> {
    let mut netlink = need("change sets").map_err(|error| (0, error))?;
    for (index, change) in changes.iter().enumerate() {
        take(&mut netlink, change).map_err(|error| (index, error))?;
    }
    Ok(())
}

fn take(netlink: &mut Netlink, change: &Change) -> Result<(), HostError> {
    match change {
        Change::Create(name, kind) => {
            let action = format!("make the set {name}");
            let refused =
                |error: &io::Error| failed(&action, error, matches!(kind, SetKind::BitmapPort { .. }));
            let known = netlink.ask(message(wire::get_type(kind)), 0).map_err(|error| refused(&error))?;
            let body = known.first().map(attributes).unwrap_or_default();
            let revision = wire::revision(body).map_err(|error| unreadable(&action, &error))?;
            let asked = wire::create(name, kind, revision).ok_or_else(|| not_modelled(&action))?;
            netlink.ask(message(asked), 0).map_err(|error| {
                // The same set would be fine.
                if is(&error, Errno::EXIST) {
                    return HostError::new(&action, HostErrorKind::Exists, "another with that name is there");
                }
                refused(&error)
            })?;
            Ok(())
        }
        Change::Add(name, entries) => with_entries(
            netlink,
            entries,
            |entries| wire::add(name, entries),
            |what| format!("add {what} to the set {name}"),
        ),
        Change::Delete(name, entries) => with_entries(
            netlink,
            entries,
            |entries| wire::delete(name, entries),
            |what| format!("delete {what} from the set {name}"),
        ),
        Change::Swap(name, other) => {
            let done = netlink.ask(message(wire::swap(name, other)), 0);
            let action = || format!("swap the sets {name} and {other}");
            done.map(|_| ()).map_err(|error| failed(&action(), &error, false))
        }
        Change::Destroy(name) => destroy(netlink, name),
    }
}

fn with_entries(
    netlink: &mut Netlink,
    entries: &[Entry],
    encode: impl Fn(&[Entry]) -> Option<wire::Message>,
    action: impl Fn(&str) -> String,
) -> Result<(), HostError> {
    for entries in entries.chunks(wire::MOST_ENTRIES) {
        let asked = encode(entries).ok_or_else(|| not_modelled(&action("entries")))?;
        netlink.change(message(asked)).map_err(|(error, sent_back)| {
            let sent_back = sent_back.get(HEADER.len()..).unwrap_or_default();
            let refused = wire::refused_entry(sent_back).and_then(|place| entries.get(place));
            let what = refused.map_or_else(|| "entries".to_owned(), Entry::to_string);
            failed(&action(&what), &error, matches!(refused, Some(Entry::Port(_))))
        })?;
    }
    Ok(())
}

fn destroy(netlink: &mut Netlink, name: &SetName) -> Result<(), HostError> {
    match netlink.ask(message(wire::destroy(name)), 0) {
        Ok(_) => Ok(()),
        // Not all kernels take it for granted that it may be gone.
        Err(error) if is(&error, Errno::NOENT) => Ok(()),
        Err(error) => Err(failed(&format!("delete the set {name}"), &error, false)),
    }
}

fn need(action: &str) -> Result<Netlink, HostError> {
    let missing = || HostError::new(action, HostErrorKind::Unsupported, NONE);
    open(action)?.map(|(netlink, _)| netlink).ok_or_else(missing)
}

/// A socket, and the protocol that the kernel speaks there. That one may ask for it is asked first: without rights the
/// kernel answers the first of several messages only.
fn open(action: &str) -> Result<Option<(Netlink, u8)>, HostError> {
    let mut netlink = match Netlink::open(NETLINK_NETFILTER) {
        Ok(netlink) => netlink,
        Err(error) if is(&error, Errno::PROTONOSUPPORT) => return Ok(None),
        Err(error) => return Err(HostError::io(action, &error)),
    };
    let answers = match netlink.ask(message(wire::get_protocol()), 0) {
        Ok(answers) => answers,
        // nfnetlink says so when no module serves the subsystem.
        Err(error) if is(&error, Errno::INVAL) => return Ok(None),
        Err(error) => return Err(failed(action, &error, false)),
    };
    let body = answers.first().map(attributes).unwrap_or_default();
    let protocol = wire::protocol(body).map_err(|error| unreadable(action, &error))?;
    Ok(protocol.map(|protocol| (netlink, protocol)))
}

fn message(asked: wire::Message) -> Message {
    let mut body = HEADER.to_vec();
    body.extend_from_slice(&asked.body);
    Message { kind: u16::from(wire::SUBSYSTEM) << 8 | u16::from(asked.command), body }
}

fn attributes(message: &Message) -> &[u8] {
    message.body.get(HEADER.len()..).unwrap_or_default()
}

fn failed(action: &str, error: &io::Error, of_bitmap: bool) -> HostError {
    let errno = error.raw_os_error().unwrap_or_default();
    if let Some(words) = wire::words(errno, of_bitmap) {
        let kind = match errno {
            wire::NO_TYPE => HostErrorKind::Unsupported,
            wire::BUSY => HostErrorKind::Busy,
            wire::NO_SECOND_SET => HostErrorKind::NotFound,
            _ => HostErrorKind::Other,
        };
        return HostError::new(action, kind, words);
    }
    if is(error, Errno::NOENT) {
        return HostError::new(action, HostErrorKind::NotFound, "there is no such set");
    }
    let mut failed = HostError::io(action, error);
    if is(error, Errno::PERM) {
        failed.detail.push_str(", sets need CAP_NET_ADMIN");
    }
    failed
}

fn unreadable(action: &str, error: &WireError) -> HostError {
    HostError::new(action, HostErrorKind::Other, format!("the kernel sent what is not understood: {error}"))
}

fn not_modelled(action: &str) -> HostError {
    HostError::new(action, HostErrorKind::Unsupported, "it is not modelled")
}
