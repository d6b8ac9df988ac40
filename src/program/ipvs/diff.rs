//! Tells what must change in live virtual servers to make them the wanted ones, as requests in order.
//!
//! A real server that goes while it has connections is drained, not deleted: with weight 0 it keeps them and gets no new
//! ones, and a later comparison deletes it once they are gone (reference section 3.4). Datagrams have no connections to
//! wait for, nor has a virtual server that goes as a whole.

use std::collections::BTreeMap;

use crate::net::{AddrPort, Protocol};
use crate::program::sides::{Sides, side_by_side};

use super::{RealServer, Request, ServiceKey, VirtualServer, VirtualServers};

/// What happens to a virtual server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerChange {
    /// It is not there yet.
    Create,
    /// It has other settings or other real servers.
    Change,
    /// It is not wanted.
    Delete,
}

/// What changes in a virtual server. Real servers are listed if it is made or changed; with one that goes they go, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerChanges {
    /// What happens to it.
    pub change: ServerChange,
    /// Whether settings of a changed one differ, apart from its real servers.
    pub settings: bool,
    /// Real servers that come.
    pub added: Vec<AddrPort>,
    /// Real servers that get other settings, among them drained ones that are wanted again.
    pub changed: Vec<AddrPort>,
    /// Real servers that are deleted.
    pub deleted: Vec<AddrPort>,
    /// Real servers that get weight 0 because they have connections.
    pub drained: Vec<AddrPort>,
}

impl ServerChanges {
    fn new(change: ServerChange) -> ServerChanges {
        ServerChanges {
            change,
            settings: false,
            added: Vec::new(),
            changed: Vec::new(),
            deleted: Vec::new(),
            drained: Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.change == ServerChange::Change
            && !self.settings
            && self.added.is_empty()
            && self.changed.is_empty()
            && self.deleted.is_empty()
            && self.drained.is_empty()
    }
}

/// What changes in virtual servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServersDiff {
    /// Virtual servers that change. One that is left out is as it should be.
    pub servers: BTreeMap<ServiceKey, ServerChanges>,
    /// Requests that make and change, in their order: a virtual server, then its real servers.
    pub make: Vec<Request>,
    /// Requests that take away, in their order; to be done when nothing leads there any more.
    pub remove: Vec<Request>,
    /// Real servers that are not wanted and stay until their connections are gone, whether they have weight 0 already or
    /// get it now.
    pub draining: Vec<(ServiceKey, AddrPort)>,
}

impl ServersDiff {
    /// Whether there is nothing to do. Waiting for connections to end is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.make.is_empty() && self.remove.is_empty()
    }
}

/// Compares. Live virtual servers that are not wanted go if they are `ours`.
pub fn diff(
    wanted: &VirtualServers,
    live: &VirtualServers,
    ours: &dyn Fn(&ServiceKey) -> bool,
) -> ServersDiff {
    let mut diff = ServersDiff::default();
    for (key, sides) in side_by_side(wanted, live) {
        match sides {
            Sides::Wanted(server) => diff.create(*key, server),
            Sides::Both(wanted, live) => diff.change(*key, wanted, live),
            Sides::Live(_) if ours(key) => {
                diff.servers.insert(*key, ServerChanges::new(ServerChange::Delete));
                diff.remove.push(Request::DeleteService(*key));
            }
            Sides::Live(_) => {}
        }
    }
    diff
}

impl ServersDiff {
    fn create(&mut self, key: ServiceKey, server: &VirtualServer) {
        let mut changes = ServerChanges::new(ServerChange::Create);
        self.make.push(Request::NewService(key, settings_of(server)));
        for (at, real_server) in &server.real_servers {
            changes.added.push(*at);
            self.make.push(Request::NewDestination(key, *at, *real_server));
        }
        self.servers.insert(key, changes);
    }

    fn change(&mut self, key: ServiceKey, wanted: &VirtualServer, live: &VirtualServer) {
        let mut changes = ServerChanges::new(ServerChange::Change);
        if !wanted.has_settings_of(live) {
            changes.settings = true;
            self.make.push(Request::SetService(key, settings_of(wanted)));
        }
        for (at, sides) in side_by_side(&wanted.real_servers, &live.real_servers) {
            match sides {
                Sides::Wanted(real_server) => {
                    changes.added.push(*at);
                    self.make.push(Request::NewDestination(key, *at, *real_server));
                }
                Sides::Both(wanted, live) if wanted != live => {
                    changes.changed.push(*at);
                    self.make.push(Request::SetDestination(key, *at, *wanted));
                }
                Sides::Both(_, _) => {}
                Sides::Live(real_server) if is_drained(&key, real_server) => {
                    self.draining.push((key, *at));
                    if real_server.weight > 0 {
                        changes.drained.push(*at);
                        let without_share = RealServer { weight: 0, ..*real_server };
                        self.remove.push(Request::SetDestination(key, *at, without_share));
                    }
                }
                Sides::Live(_) => {
                    changes.deleted.push(*at);
                    self.remove.push(Request::DeleteDestination(key, *at));
                }
            }
        }
        if !changes.is_empty() {
            self.servers.insert(key, changes);
        }
    }
}

/// Without its real servers, which are requests of their own.
fn settings_of(server: &VirtualServer) -> VirtualServer {
    VirtualServer {
        scheduler: server.scheduler.clone(),
        flags: server.flags,
        persistence_seconds: server.persistence_seconds,
        netmask: server.netmask,
        engine: server.engine.clone(),
        real_servers: BTreeMap::new(),
        counters: None,
        tag: server.tag,
    }
}

/// Whether a real server that goes may keep its connections until they end. A mark may stand for any protocol.
fn is_drained(key: &ServiceKey, real_server: &RealServer) -> bool {
    let has_connections = !real_server.connections.is_none();
    match key {
        ServiceKey::Address { protocol: Protocol::Tcp, .. } | ServiceKey::Mark { .. } => has_connections,
        ServiceKey::Address { protocol: Protocol::Udp | Protocol::Sctp, .. } => false,
    }
}
