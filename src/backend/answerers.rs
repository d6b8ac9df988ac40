//! Who may answer UDP flows to Services when rules send them straight to endpoints (reference section 6.1).

use std::net::IpAddr;

use crate::net::{AddrPort, Protocol};
use crate::program::conntrack::{Answerers, Asked};
use crate::resolve::{Frontend, NodePortScope, NodeView, Vip};

/// The endpoints of each VIP of a UDP Service port. Of one without endpoints nothing is said: as kube-proxy does, its flows
/// are left to what the endpoints that went were told.
pub fn answerers(view: &NodeView) -> Answerers {
    let mut answerers = Answerers::default();
    for (port, frontend) in view.frontends() {
        if port.name.protocol == Protocol::Udp && !port.flow_endpoints.is_empty() {
            for asked in asked(view, frontend) {
                answerers.add(Protocol::Udp, asked, port.flow_endpoints.iter().copied());
            }
        }
    }
    answerers
}

/// What clients of a frontend ask. Where every address of the node answers a node port, every address is taken for the
/// node's, as kube-proxy takes it.
pub(super) fn asked(view: &NodeView, frontend: &Frontend) -> Vec<Asked> {
    match (frontend.vip, &view.node_ports) {
        (Vip::Address(at), _) => vec![Asked::At(at)],
        (Vip::NodePort(port), NodePortScope::AllLocal { .. }) => vec![Asked::Port(view.family, port)],
        (Vip::NodePort(port), NodePortScope::Addresses(addresses)) => {
            let at = |addr: &IpAddr| Asked::At(AddrPort::new(*addr, port));
            addresses.iter().map(at).collect()
        }
    }
}
