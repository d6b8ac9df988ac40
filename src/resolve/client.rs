//! Kinds of clients, and what each VIP of a Service port means to them: the oracle's answer for a packet that stands for the
//! kind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::{AddrPort, IpCidr, IpFamily, Port};
use crate::packet::{Fate, NodeFacts, Origin, Packet};

use super::fate;
use super::view::{Frontend, FrontendKind, LocalTraffic, NodePortScope, NodeView, PortView, Vip};

/// A kind of client, as a node tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// A pod of the cluster, where the node can tell.
    Pod,
    /// The node itself.
    Node,
    /// Somebody outside, in the source ranges if there are any.
    Outside,
    /// Somebody outside who is in no source range.
    OutsideRanges,
}

impl Client {
    /// All of them.
    pub const ALL: [Client; 4] = [Client::Pod, Client::Node, Client::Outside, Client::OutsideRanges];

    /// The kind in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Client::Pod => "pod",
            Client::Node => "node",
            Client::Outside => "outside",
            Client::OutsideRanges => "outside, in no range",
        }
    }
}

/// What becomes of a kind of client's packets to a VIP.
#[derive(Debug, Clone, PartialEq)]
pub struct Treatment {
    /// The VIP.
    pub frontend: Frontend,
    /// The kind of client.
    pub client: Client,
    /// Its fate, for a client that is no endpoint itself.
    pub fate: Fate,
}

/// What becomes of every kind of client at every VIP of a Service port. Kinds that the node cannot tell from another are
/// left out.
pub(super) fn treatments(view: &NodeView, port: &PortView, facts: &NodeFacts) -> Vec<Treatment> {
    let mut all = Vec::new();
    for frontend in &port.frontends {
        let Some(destination) = destination(view, frontend, facts) else { continue };
        for client in Client::ALL {
            let guarded = frontend.kind == FrontendKind::LoadBalancer && port.source_ranges.is_some();
            if client == Client::OutsideRanges && !guarded {
                continue;
            }
            let Some((addr, in_interface)) = source(view, port, client, facts, guarded) else { continue };
            let packet = Packet {
                origin: match client {
                    Client::Pod => Origin::Pod,
                    Client::Node => Origin::Node,
                    Client::Outside | Client::OutsideRanges => Origin::Outside,
                },
                source: AddrPort::new(addr, SOURCE_PORT),
                destination,
                protocol: port.name.protocol,
                in_interface,
                bridge_port: None,
            };
            all.push(Treatment { frontend: *frontend, client, fate: fate::fate(view, &packet, facts) });
        }
    }
    all
}

/// Any source port: none counts.
const SOURCE_PORT: Port = 40000;

fn destination(view: &NodeView, frontend: &Frontend, facts: &NodeFacts) -> Option<AddrPort> {
    match frontend.vip {
        Vip::Address(vip) => Some(vip),
        Vip::NodePort(port) => {
            let addr = match &view.node_ports {
                NodePortScope::Addresses(addresses) => addresses.first().copied(),
                NodePortScope::AllLocal { .. } => facts.own_address(view.family),
            };
            Some(AddrPort::new(addr?, port))
        }
    }
}

/// The source of a packet that stands for a kind, and the interface that it comes in by where that counts.
fn source(
    view: &NodeView,
    port: &PortView,
    client: Client,
    facts: &NodeFacts,
    guarded: bool,
) -> Option<(IpAddr, Option<String>)> {
    let is_stranger = |addr: &IpAddr| {
        !facts.is_local(*addr)
            && !port.endpoints.iter().any(|endpoint| endpoint.addr.addr == *addr)
            && !port.frontends.iter().any(|one| matches!(one.vip, Vip::Address(vip) if vip.addr == *addr))
    };
    let is_outside = |addr: &IpAddr| match &view.local_traffic {
        Some(LocalTraffic::Source(cidr)) => is_stranger(addr) && !cidr.contains(*addr),
        Some(LocalTraffic::Interface(_) | LocalTraffic::InterfacePrefix(_)) | None => is_stranger(addr),
    };
    let ranges = port.source_ranges.as_ref().map(|ranges| ranges.allowed.as_slice()).unwrap_or_default();
    let strangers = strangers(view.family);
    match client {
        Client::Pod => match view.local_traffic.as_ref()? {
            LocalTraffic::Source(cidr) => addresses(cidr).find(is_stranger).map(|addr| (addr, None)),
            LocalTraffic::Interface(name) => {
                strangers.into_iter().find(is_stranger).map(|addr| (addr, Some(name.to_string())))
            }
            LocalTraffic::InterfacePrefix(prefix) => {
                strangers.into_iter().find(is_stranger).map(|addr| (addr, Some(format!("{prefix}0"))))
            }
        },
        Client::Node => facts.own_address(view.family).map(|addr| (addr, None)),
        Client::Outside if guarded => {
            ranges.iter().flat_map(addresses).find(is_outside).map(|addr| (addr, None))
        }
        Client::Outside => strangers.into_iter().find(is_outside).map(|addr| (addr, None)),
        Client::OutsideRanges => {
            let in_none =
                |addr: &IpAddr| is_outside(addr) && !ranges.iter().any(|range| range.contains(*addr));
            strangers.into_iter().find(in_none).map(|addr| (addr, None))
        }
    }
}

/// Addresses that nobody has (RFC 5737, RFC 2544, RFC 3849) and some that are often nobody's.
fn strangers(family: IpFamily) -> Vec<IpAddr> {
    match family {
        IpFamily::V4 => {
            [[203, 0, 113, 77], [198, 51, 100, 77], [192, 0, 2, 77], [198, 18, 77, 77], [9, 77, 77, 77]]
                .into_iter()
                .map(|octets| IpAddr::V4(Ipv4Addr::from(octets)))
                .collect()
        }
        IpFamily::V6 => [0x2001_0db8_7777_u128, 0x2001_0db8_00ff, 0x3fff_0077_0077]
            .into_iter()
            .map(|net| IpAddr::V6(Ipv6Addr::from((net << 80) | 0x77)))
            .collect(),
    }
}

/// Addresses of a network from its second one on: as many as may be taken by endpoints, and more.
fn addresses(cidr: &IpCidr) -> impl Iterator<Item = IpAddr> + use<'_> {
    const MANY: u32 = 70_000;
    let nth = |n: u32| match cidr.network() {
        IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from(u32::from(first).wrapping_add(n))),
        IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from(u128::from(first).wrapping_add(u128::from(n)))),
    };
    let first = u32::from(!cidr.is_host());
    (first..MANY).map(nth).take_while(|addr| cidr.contains(*addr))
}
