//! The elements of one Service port in the flat layout.

use crate::net::AddrPort;
use crate::program::Tag;
use crate::program::nft::{Element, Key, Keys, Table, Verdict};
use crate::resolve::{FrontendKind, NodeView, PoolKind, PortView, Route, Routes, Vip};

use super::super::service::{self, Lowering};
use super::super::{LowerOptions, comment, endpoint, insert, names};
use super::choice::{self, Collected, Lists};
use super::{Destinations, NODE_PORTS, VIPS};

/// Adds all elements of a Service port; what these cannot say, as chains of its own.
pub(super) fn add<'v>(
    (table, lists): (&mut Table, &mut Collected<'v>),
    view: &'v NodeView,
    options: &LowerOptions,
    port: &'v PortView,
    tag: Tag,
) {
    if port.affinity_seconds.is_some() || !port.external.is_none_or(has_chain) {
        return service::add(table, view, options, port, tag);
    }
    let mut one = Flat { lists, view, port, tag, lowering: Lowering::new(view, options, port, tag) };
    for frontend in &port.frontends {
        match frontend.vip {
            Vip::Address(vip) => one.vip(frontend.kind, vip, table),
            Vip::NodePort(node_port) => {
                let key = one.lowering.port_key(node_port);
                one.external(table, &NODE_PORTS, &key);
                one.lowering.refuse_node_port(node_port, table);
            }
        }
    }
    endpoint::add_hairpins(table, port, tag);
}

/// Whether one of the chains of external traffic does what these routes ask: all with their source rewritten, or policy Local
/// with its short circuit.
fn has_chain(routes: Routes) -> bool {
    let anywhere = |masquerade| Route::Forward { pool: PoolKind::Cluster, masquerade };
    let is_local = match routes.outside {
        Route::Forward { pool, masquerade } => pool == PoolKind::Local && !masquerade,
        Route::Drop => true,
        Route::Reject => false,
    };
    let is_same = routes.pods == routes.outside && routes.node == routes.outside;
    (is_same && (routes.outside == Route::Reject || routes.outside == anywhere(true)))
        || (is_local
            && routes.node == anywhere(true)
            && (routes.pods == anywhere(false) || routes.pods == routes.outside))
}

/// One Service port on its way down.
struct Flat<'a, 'v> {
    lists: &'a mut Collected<'v>,
    view: &'v NodeView,
    port: &'v PortView,
    tag: Tag,
    lowering: Lowering<'a>,
}

impl Flat<'_, '_> {
    /// An element that names its Service: no chain does.
    fn element(&self, verdict: Verdict) -> Element {
        Element { comment: comment(&self.port.name.to_string()), ..self.lowering.element(verdict) }
    }

    /// Adds the list of a pool for a destination.
    fn list(
        &mut self,
        table: &mut Table,
        destinations: &Destinations,
        pool: PoolKind,
        key: &Key,
    ) -> Option<Verdict> {
        let lists = Lists::new(destinations, pool, self.port.name.protocol);
        self.lists.add(table, (self.view.family, lists), key, (self.port, self.tag))
    }

    fn vip(&mut self, kind: FrontendKind, vip: AddrPort, table: &mut Table) {
        let key = self.lowering.vip_key(vip);
        if kind == FrontendKind::ClusterIp {
            self.lowering.add_cluster_ip(vip, table);
            if let Route::Forward { pool, .. } = self.port.internal.outside
                && let Some(to) = self.list(table, &VIPS, pool, &key)
            {
                insert(table, VIPS.dispatch, key, self.element(to));
            }
        } else {
            self.external(table, &VIPS, &key);
        }
        self.lowering.refuse_vip(kind, vip, table);
        if kind == FrontendKind::LoadBalancer {
            self.source_ranges(vip, table);
        }
    }

    /// External traffic to a destination.
    fn external(&mut self, table: &mut Table, destinations: &Destinations, key: &Key) {
        let Some(routes) = self.port.external else { return };
        let (chain, outside) = match routes.outside {
            Route::Reject => return,
            Route::Forward { pool: PoolKind::Cluster, .. } => (destinations.external, None),
            Route::Forward { pool: PoolKind::Local, .. } | Route::Drop => {
                (destinations.external_local, self.list(table, destinations, PoolKind::Local, key))
            }
        };
        let anywhere = self.list(table, destinations, PoolKind::Cluster, key);
        for (map, verdict) in [(destinations.anywhere, anywhere), (destinations.outside, outside)] {
            match verdict {
                Some(verdict) => insert(table, map, key.clone(), self.lowering.element(verdict)),
                // Another Service may have claimed the same destination.
                None => drop(table.sets.get_mut(map).and_then(|set| set.elements.remove(key))),
            }
        }
        insert(table, destinations.dispatch, key.clone(), self.element(Verdict::Goto(names::fixed(chain))));
    }

    /// Source ranges. Unlike in iptables mode they hold without endpoints too.
    fn source_ranges(&self, vip: AddrPort, table: &mut Table) {
        let Some(allowed) = self.lowering.allowed_sources() else { return };
        let key = self.lowering.vip_key(vip);
        let Some(set) = table.sets.get_mut(names::SOURCE_RANGES) else { return };
        choice::remove(set, key.first());
        // Sorted and joined: the kernel takes no two intervals that overlap.
        for range in Keys::new(allowed).as_slice() {
            let ends = |values: &[_]| key.first().iter().chain(values).copied().collect::<Vec<_>>();
            let ranges = ends(range.first()).into_iter().zip(ends(range.last()));
            let element = Element { tag: Some(self.tag), ..Element::default() };
            set.elements.insert(Key::intervals(ranges), element);
        }
        let check = Verdict::Goto(names::fixed(names::SOURCE_RANGES_CHECK));
        insert(table, names::FIREWALL_IPS, key, self.element(check));
    }
}
