//! The endpoints of a Service port: real servers, and entries for those that may reach themselves (reference sections 3.4
//! and 3.6).

use std::collections::BTreeMap;

use crate::net::AddrPort;
use crate::program::ipset::Entry;
use crate::program::ipvs::RealServer;
use crate::resolve::{PortView, Route};

use super::names::SetId;
use super::sets::Members;

/// The share of every real server.
const WEIGHT: u32 = 1;

/// Where a route leads. A virtual server without real servers refuses.
pub(super) fn real_servers(port: &PortView, route: Route) -> BTreeMap<AddrPort, RealServer> {
    match route {
        Route::Forward { pool, .. } => {
            port.pool(pool).map(|endpoint| (endpoint, RealServer::masqueraded(WEIGHT))).collect()
        }
        Route::Reject | Route::Drop => BTreeMap::new(),
    }
}

/// Has every endpoint on this node masqueraded when it reaches itself, usable or not: connections of one that is on its
/// way out go on.
pub(super) fn loop_back(port: &PortView, members: &mut Members) {
    for endpoint in &port.endpoints_here {
        let (addr, protocol) = (endpoint.addr, port.name.protocol);
        members.insert(SetId::LoopBack, Entry::IpPortIp(addr, protocol, endpoint.port, addr));
    }
}
