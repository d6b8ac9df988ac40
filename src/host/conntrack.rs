//! Flows that the kernel remembers (nfnetlink, ctnetlink): which there are, and forgetting some.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;

use super::error::{HostError, HostErrorKind};
use super::netlink::{Message, Netlink, is};
use crate::net::{IpFamily, Protocol};
use crate::program::conntrack::Flow;
use crate::program::conntrack_wire as wire;

/// The flows of a family and a protocol.
pub(super) fn flows(family: IpFamily, protocol: Protocol) -> Result<Vec<Flow>, HostError> {
    let messages = Netlink::open(NETLINK_NETFILTER)
        .and_then(|mut netlink| netlink.dump(&message(wire::get_flows(family, protocol))))
        .map_err(|error| failed("list remembered flows", &error))?;
    let read = |message: Message| wire::flow(&wire::Message { kind: message.kind, body: message.body });
    Ok(messages.into_iter().filter_map(read).filter(|flow| flow.protocol == protocol).collect())
}

/// Forgets flows. Those that are gone already are fine.
pub(super) fn forget(flows: &[Flow]) -> Result<(), HostError> {
    let messages = flows.iter().map(|flow| message(wire::delete(flow)));
    let is_gone = |error: &io::Error| is(error, Errno::NOENT);
    Netlink::open(NETLINK_NETFILTER)
        .and_then(|mut netlink| netlink.change_all(messages, 0, is_gone).map_err(|(_, error)| error))
        .map_err(|error| failed("forget flows", &error))
}

fn message(message: wire::Message) -> Message {
    Message { kind: message.kind, body: message.body }
}

/// nfnetlink answers EINVAL when no module serves the subsystem.
fn failed(action: &str, error: &io::Error) -> HostError {
    if is(error, Errno::INVAL) {
        let detail = "this kernel does not tell of connection tracking (module `nf_conntrack_netlink`)";
        return HostError::new(action, HostErrorKind::Unsupported, detail);
    }
    HostError::io(action, error)
}
