//! The listeners of one Service port: one for each pool of endpoints that a route leads to, and one without endpoints for
//! clients that are not let in.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::net::{AddrPort, IpFamily};
use crate::program::listener::{Listener, ListenerKey};
use crate::resolve::{FrontendKind, PoolKind, PortView, Route, Routes};

use super::ports::{PortOwner, ProxyPorts, Role};

/// The role of the listener that a route leads to. Where it leads nowhere, the listener is there all the same: it hangs
/// up, and the rules stay as they are when endpoints come.
pub(super) fn role(route: Route) -> Role {
    match route {
        Route::Forward { pool: PoolKind::Cluster, .. } | Route::Reject => Role::Cluster,
        Route::Forward { pool: PoolKind::Local, .. } | Route::Drop => Role::Local,
    }
}

/// What owns the listener of a role.
pub(super) fn owner(port: &PortView, role: Role) -> PortOwner {
    ((port.name.to_string(), port.name.protocol), role)
}

/// Whether some clients of a Service port are not let in.
pub(super) fn is_guarded(port: &PortView) -> bool {
    let is_balanced = port.frontends.iter().any(|frontend| frontend.kind == FrontendKind::LoadBalancer);
    port.source_ranges.is_some() && is_balanced
}

fn roles(port: &PortView) -> BTreeSet<Role> {
    let of_routes = |routes: Routes| [routes.pods, routes.node, routes.outside].map(role);
    let mut roles: BTreeSet<Role> =
        port.frontends.iter().flat_map(|frontend| of_routes(port.routes(frontend.kind))).collect();
    if is_guarded(port) {
        roles.insert(Role::NotLetIn);
    }
    roles
}

/// Everything of a Service port that needs a proxy port.
pub(super) fn owners(port: &PortView) -> impl Iterator<Item = PortOwner> + '_ {
    roles(port).into_iter().map(|role| owner(port, role))
}

/// The listeners of a Service port, at one address or at all.
pub(super) fn listeners<'a>(
    family: IpFamily,
    listen: Option<IpAddr>,
    port: &'a PortView,
    ports: &'a ProxyPorts,
) -> impl Iterator<Item = (ListenerKey, Listener)> + 'a {
    let listen = listen.unwrap_or(family.unspecified());
    roles(port).into_iter().filter_map(move |role| {
        let proxy_port = *ports.get(&owner(port, role))?;
        let at = AddrPort::new(listen, proxy_port);
        let targets = match role {
            Role::Cluster => port.pool(PoolKind::Cluster).collect(),
            Role::Local => port.pool(PoolKind::Local).collect(),
            Role::NotLetIn => BTreeSet::new(),
        };
        let listener = Listener {
            targets,
            affinity_seconds: port.affinity_seconds.filter(|seconds| *seconds > 0),
            label: role.label(&port.name.to_string()).into(),
        };
        Some((ListenerKey { protocol: port.name.protocol, at }, listener))
    })
}
