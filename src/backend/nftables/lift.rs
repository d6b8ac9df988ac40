//! Table → Services: which VIPs a table serves and which endpoints they lead to. Names come from the names of chains
//! and the comments of elements.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::backend::{LiftedName, LiftedPort, LiftedVip};
use crate::net::{AddrPort, Port, Protocol};
use crate::program::nft::{Data, Element, Key, MapRef, Name, NatTarget, Scalar, Stmt, Table};

use super::{flat, names};

/// The Service ports that a table serves, by name.
pub fn lift(table: &Table) -> BTreeMap<LiftedName, LiftedPort> {
    let mut ports: BTreeMap<LiftedName, LiftedPort> = BTreeMap::new();
    let cluster_ips: BTreeSet<IpAddr> = addresses(table, names::CLUSTER_IPS);
    let lists = flat::EndpointLists::of(table);
    for map in [names::SERVICE_IPS, names::SERVICE_NODE_PORTS] {
        for (key, element, chain) in destinations_of(table, map) {
            let Some((vip, protocol)) = vip(key) else { continue };
            let Some(name) = name_of(element, protocol) else { continue };
            let port = ports.entry(name).or_default();
            if super::owned::is_hashed(chain) {
                collect_endpoints(table, chain, 0, &mut port.endpoints);
            } else {
                port.endpoints.extend(lists.endpoints(key));
            }
            add_vip(port, vip, &cluster_ips);
        }
    }
    for map in [names::NO_ENDPOINT_SERVICES, names::NO_ENDPOINT_NODE_PORTS] {
        let Some(set) = table.sets.get(map) else { continue };
        for (key, element) in &set.elements {
            let (Some((vip, protocol)), Some(comment)) = (vip(key), &element.comment) else { continue };
            let port = ports.entry((comment.as_str().to_owned(), protocol)).or_default();
            add_vip(port, vip, &cluster_ips);
            port.closed.insert(vip);
        }
    }
    ports
}

fn add_vip(port: &mut LiftedPort, vip: LiftedVip, cluster_ips: &BTreeSet<IpAddr>) {
    port.vips.insert(vip);
    if let LiftedVip::Address(addr) = vip
        && cluster_ips.contains(&addr.addr)
    {
        port.cluster_ip = Some(addr);
    }
}

/// The addresses in a set.
pub(super) fn addresses(table: &Table, set: &str) -> BTreeSet<IpAddr> {
    let keys = table.sets.get(set).into_iter().flat_map(|set| set.elements.keys());
    keys.filter_map(|key| key.first().first()?.addr()).collect()
}

/// The Service port that an element of a dispatch map is for: a chain of its own bears the name, else the element does.
pub(super) fn name_of(element: &Element, protocol: Protocol) -> Option<LiftedName> {
    let chain = element.data.as_ref()?.chain()?;
    if super::owned::is_hashed(chain) {
        return name_of_chain(chain);
    }
    element.comment.as_ref().map(|comment| (comment.as_str().to_owned(), protocol))
}

/// What a map has, with the chain that each element leads to.
pub(super) fn destinations_of<'a>(
    table: &'a Table,
    map: &str,
) -> impl Iterator<Item = (&'a Key, &'a Element, &'a Name)> {
    let elements = table.sets.get(map).into_iter().flat_map(|set| &set.elements);
    elements.filter_map(|(key, element)| Some((key, element, element.data.as_ref()?.chain()?)))
}

/// What an element is for: address, protocol and port, or protocol and port.
pub(super) fn vip(key: &Key) -> Option<(LiftedVip, Protocol)> {
    let (addr, protocol, port) = match key.first() {
        [addr, Scalar::Protocol(protocol), Scalar::Port(port)] => (Some(addr.addr()?), *protocol, *port),
        [Scalar::Protocol(protocol), Scalar::Port(port)] => (None, *protocol, *port),
        _ => return None,
    };
    let node_port = |port: Port| LiftedVip::NodePort(port);
    let vip = addr.map_or_else(|| node_port(port), |addr| LiftedVip::Address(AddrPort::new(addr, port)));
    Some((vip, Protocol::from_number(protocol)?))
}

/// The Service port (`namespace/name:port`) that a rule was made for, as the name of its chain, of the chain that it calls, or
/// the comment of the element of a map that it found tells.
pub fn service_of(chain: &str, called: Option<&str>, comment: Option<&str>) -> Option<String> {
    let named = [Some(chain), called].into_iter().flatten().find_map(display_of);
    let (named, commented) = (named.map(|(display, _)| display), comment.filter(|text| text.contains('/')));
    named.or_else(|| commented.map(str::to_owned))
}

/// `service-HASH-namespace/name/protocol/port` → `namespace/name:port`. A name that was cut tells no more than it has.
pub(super) fn name_of_chain(chain: &Name) -> Option<LiftedName> {
    display_of(chain.as_str())
}

fn display_of(chain: &str) -> Option<LiftedName> {
    let (_, rest) = chain.split_once('-')?;
    let (_, base) = rest.split_once('-')?;
    let mut parts = base.split('/');
    let (namespace, name, protocol) = (parts.next()?, parts.next()?, Protocol::from_name(parts.next()?)?);
    let port = parts.next().unwrap_or_default();
    let display =
        if port.is_empty() { format!("{namespace}/{name}") } else { format!("{namespace}/{name}:{port}") };
    Some((display, protocol))
}

/// Deeper than external-, service-, endpoint- no verdict of ours leads; the bound stops loops of others.
const MAX_DEPTH: usize = 8;

fn collect_endpoints(table: &Table, chain: &Name, depth: usize, found: &mut BTreeSet<AddrPort>) {
    let Some(chain) = table.chains.get(chain) else { return };
    if depth == MAX_DEPTH {
        return;
    }
    for stmt in chain.rules.iter().flat_map(|rule| &rule.stmts) {
        if let Stmt::Dnat { to, .. } = stmt {
            found.extend(destinations(to));
        }
        let mut next = Vec::new();
        stmt.references(|chain| next.push(chain.clone()), |_| {});
        for chain in next.iter().filter(|chain| super::owned::is_hashed(chain)) {
            collect_endpoints(table, chain, depth + 1, found);
        }
    }
}

/// The endpoints that a translation names.
pub(super) fn destinations(to: &NatTarget) -> Vec<AddrPort> {
    match to {
        NatTarget::Addr(addr, Some(port)) => vec![AddrPort::new(*addr, *port)],
        NatTarget::Map { map: MapRef::Anonymous(entries), .. } => {
            entries.iter().filter_map(|(_, data)| endpoint(data)).collect()
        }
        NatTarget::Addr(_, None) | NatTarget::Port(_) | NatTarget::Map { map: MapRef::Named(_), .. } => {
            Vec::new()
        }
    }
}

fn endpoint(data: &Data) -> Option<AddrPort> {
    match data {
        Data::Values(values) => match values.as_slice() {
            [addr, Scalar::Port(port)] => Some(AddrPort::new(addr.addr()?, *port)),
            _ => None,
        },
        Data::Verdict(_) => None,
    }
}
