//! Which live chains, jumps, sets, virtual servers and devices are ours (reference sections 3.5, 3.7 and 11, ownership).

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::net::{AddrPort, IpCidr, IpFamily, Protocol};
use crate::program::ipset::{Entry, SetName, Sets};
use crate::program::ipvs::ServiceKey;
use crate::program::xtables::Ruleset;
use crate::program::{ChainPattern, Program, Scope};

use super::base;
use super::names::{self, SetId};

/// Sets of addresses that virtual servers of Services have. The others hold parts of these.
const VIP_SETS: [SetId; 4] =
    [SetId::ClusterIp, SetId::ExternalIp, SetId::ExternalIpLocal, SetId::LoadBalancer];

/// By what virtual servers are told to be ours: the kernel keeps no mark of their maker.
#[derive(Debug, Clone, Copy)]
pub struct Ownership<'a> {
    /// Addresses on the node's interfaces, those of the dummy device apart.
    pub node_addresses: &'a BTreeSet<IpAddr>,
    /// Networks in which no virtual server is ours (`ipvs.excludeCIDRs`).
    pub exclude_cidrs: &'a [IpCidr],
    /// Every other one is ours, as kube-proxy takes it. If not, those alone are whose address is on the dummy device or in
    /// a set of ours.
    pub exclusive: bool,
}

/// What belongs to IPVS mode in one family of a live program. Virtual servers for marks are nobody's but their maker's.
pub fn scope(live: &Program, family: IpFamily, ownership: &Ownership<'_>) -> Scope {
    let servers = live.ipvs.get(family).iter().flat_map(|servers| servers.keys()).copied();
    Scope {
        chains: base::CHAINS.map(|(table, chain)| (table, ChainPattern::Name(chain))).to_vec(),
        ignored: Vec::new(),
        jumps: base::jumps().collect(),
        sets: SetId::ALL.into_iter().map(|set| set.name(family)).collect(),
        servers: servers.filter(|server| owns(live, family, ownership, server)).collect(),
        devices: BTreeSet::from([names::DUMMY.into()]),
    }
}

fn owns(live: &Program, family: IpFamily, ownership: &Ownership<'_>, server: &ServiceKey) -> bool {
    let ServiceKey::Address { protocol, at } = server else { return false };
    if ownership.exclude_cidrs.iter().any(|cidr| cidr.contains(at.addr)) {
        return false;
    }
    let is_bound = || {
        let device = live.dummies.as_ref().and_then(|devices| devices.get(names::DUMMY));
        let addresses = device.and_then(|device| device.addresses.get(family).as_ref());
        addresses.is_some_and(|addresses| addresses.contains(&at.addr))
    };
    let is_named = |sets: &Sets| {
        VIP_SETS.into_iter().any(|set| holds_vip(sets, set, family, *protocol, *at))
            || (ownership.node_addresses.contains(&at.addr) && holds_node_port(sets, family, *protocol, *at))
    };
    ownership.exclusive || is_bound() || live.ipset.as_ref().is_some_and(is_named)
}

/// The family that a set of ours is for; `None` if it is not ours.
pub fn set_family(name: &SetName) -> Option<IpFamily> {
    IpFamily::ALL.into_iter().find(|family| SetId::ALL.into_iter().any(|set| set.name(*family) == *name))
}

/// Whether a set holds an address with its port.
pub(super) fn holds_vip(sets: &Sets, set: SetId, family: IpFamily, protocol: Protocol, at: AddrPort) -> bool {
    holds(sets, set, family, &Entry::IpPort(at.addr, protocol, at.port))
}

/// Whether a set of node ports holds a port, for SCTP with its address.
pub(super) fn holds_node_port(sets: &Sets, family: IpFamily, protocol: Protocol, at: AddrPort) -> bool {
    holds(sets, SetId::of_node_ports(protocol, false), family, &node_port(protocol, at))
}

/// Whether the set of node ports whose packets keep their source holds a port.
pub(super) fn holds_local_node_port(sets: &Sets, family: IpFamily, protocol: Protocol, at: AddrPort) -> bool {
    holds(sets, SetId::of_node_ports(protocol, true), family, &node_port(protocol, at))
}

fn node_port(protocol: Protocol, at: AddrPort) -> Entry {
    match protocol {
        Protocol::Tcp | Protocol::Udp => Entry::Port(at.port),
        Protocol::Sctp => Entry::IpPort(at.addr, protocol, at.port),
    }
}

fn holds(sets: &Sets, set: SetId, family: IpFamily, entry: &Entry) -> bool {
    sets.get(&set.name(family)).is_some_and(|set| set.entries.contains(entry))
}

/// Whether a live ruleset holds chains that IPVS mode alone has.
pub fn holds_ours(live: &Ruleset) -> bool {
    let own = [
        names::NODE_PORT,
        names::LOAD_BALANCER,
        names::SOURCE_RANGES,
        names::IPVS_FILTER,
        names::IPVS_OUT_FILTER,
    ];
    let fixed = base::CHAINS.into_iter().filter(|(_, chain)| own.contains(chain));
    fixed.into_iter().any(|(table, chain)| live.chain(table, &chain).is_some())
}
