//! nftables mode with as few objects as there can be: no chain of a Service or an endpoint, only elements of maps that all
//! share. Base chains, refusals, hairpins and masquerading are those of the other layout.
//!
//! ```text
//!               services                                       firewall-check
//!      @service-ips  @service-nodeports                         @firewall-ips
//!       |        |        |                                          |
//!       |        |    nodeport, nodeport-local                source-ranges-check: @source-ranges, drop
//!       |     external, external-local
//!       |        |        |    mark; @external-ips, @external-nodeports
//!       |        |        |    the short circuit, then @external-local-ips, @external-local-nodeports
//!       v        v        v
//!  service-endpoints-tcp-N, local-endpoints-tcp-N, nodeport-endpoints-udp-N, …
//!       dnat to daddr . tcp dport . numgen random mod N map @service-endpoints-tcp, …
//! ```
//!
//! The endpoints of a destination (address, protocol and port; of a node port protocol and port) are a list in the map of its
//! protocol, numbered from 0. A chain chooses among the first N of such a list, so there is one for each length that lists have, and a
//! destination's verdict says how long its list is.
//!
//! Session affinity cannot be had in this way: nft has no lookup of an endpoint that some client was sent to. A Service port
//! with affinity has the chains and sets that it has in the other layout.

mod base;
mod choice;
mod lift;
mod service;

pub(super) use choice::adopt;
pub(super) use lift::{EndpointLists, SharedChain, elements, endpoint, shared_chain, source_ranges};

use crate::net::IpFamily;
use crate::program::nft::{Expr, ScalarType, Table};
use crate::resolve::{NodeView, PoolKind};

use super::{LowerOptions, names};
use choice::Collected;

/// The objects for one kind of destination.
pub(super) struct Destinations {
    /// Whether their keys have an address before protocol and port.
    has_addr: bool,
    /// The map that says what becomes of them.
    dispatch: &'static str,
    /// How the maps of lists for policy Cluster begin.
    cluster_lists: &'static str,
    /// How the maps of lists for policy Local begin.
    local_lists: &'static str,
    /// Where external traffic goes whose source is rewritten.
    external: &'static str,
    /// Where external traffic goes of policy Local.
    external_local: &'static str,
    /// The map of the lists for external traffic: of any with policy Cluster, of pods and the node with policy Local.
    anywhere: &'static str,
    /// The map of the lists for all other external traffic with policy Local.
    outside: &'static str,
}

/// VIPs.
const VIPS: Destinations = Destinations {
    has_addr: true,
    dispatch: names::SERVICE_IPS,
    cluster_lists: names::SERVICE_ENDPOINTS,
    local_lists: names::LOCAL_ENDPOINTS,
    external: names::EXTERNAL,
    external_local: names::EXTERNAL_LOCAL,
    anywhere: names::EXTERNAL_IPS,
    outside: names::EXTERNAL_LOCAL_IPS,
};

/// Node ports.
const NODE_PORTS: Destinations = Destinations {
    has_addr: false,
    dispatch: names::SERVICE_NODE_PORTS,
    cluster_lists: names::NODE_PORT_ENDPOINTS,
    local_lists: names::NODE_PORT_LOCAL_ENDPOINTS,
    external: names::NODE_PORT,
    external_local: names::NODE_PORT_LOCAL,
    anywhere: names::EXTERNAL_NODE_PORTS,
    outside: names::EXTERNAL_LOCAL_NODE_PORTS,
};

/// Both.
const ALL: [&Destinations; 2] = [&VIPS, &NODE_PORTS];

impl Destinations {
    /// How the maps of lists of one pool begin.
    fn lists(&self, pool: PoolKind) -> &'static str {
        match pool {
            PoolKind::Cluster => self.cluster_lists,
            PoolKind::Local => self.local_lists,
        }
    }

    /// What a packet is looked up by.
    fn key(&self, family: IpFamily) -> Vec<Expr> {
        let addr = self.has_addr.then(|| Expr::destination(family));
        addr.into_iter().chain([Expr::protocol(), Expr::port()]).collect()
    }

    /// The types of that.
    fn types(&self, family: IpFamily) -> Vec<ScalarType> {
        Expr::concat(self.key(family)).types()
    }
}

/// Adds what the other layout has not, and all Service ports.
pub(super) fn add(table: &mut Table, view: &NodeView, options: &LowerOptions) {
    base::add(table, view, options);
    let mut lists = Collected::default();
    for (tag, port) in crate::backend::tagged_ports(view) {
        service::add((table, &mut lists), view, options, port, tag);
    }
    lists.fill(table, view.family);
}
