//! The rules of one Service port: from each of its VIPs to the proxy port of its listener (reference section 5.4).

use crate::backend::skeleton;
use crate::net::{AddrPort, IpCidr, Port};
use crate::program::Tag;
use crate::program::xtables::{
    AddrMatch, ConntrackStates, Match, PortRange, PortsMatch, ProtocolMatch, Rule, Target,
};
use crate::resolve::{
    FrontendKind, LocalTraffic, NodePortScope, NodeView, PortView, Routes, SourceRanges, Vip,
};

use super::ports::{ProxyPorts, Role};
use super::{Chains, LowerOptions, endpoint, names};

/// One Service port on its way down.
struct Lowering<'a> {
    view: &'a NodeView,
    options: &'a LowerOptions,
    port: &'a PortView,
    tag: Tag,
    ports: &'a ProxyPorts,
}

/// Adds all rules of a Service port. One that lacks a proxy port for a role has no rules to it.
pub(super) fn lower_port(
    view: &NodeView,
    options: &LowerOptions,
    (tag, port): (Tag, &PortView),
    ports: &ProxyPorts,
    out: &mut Chains,
) {
    let one = Lowering { view, options, port, tag, ports };
    for frontend in &port.frontends {
        let routes = port.routes(frontend.kind);
        match (frontend.kind, frontend.vip) {
            (FrontendKind::ClusterIp, Vip::Address(vip)) => one.address(vip, routes, None, out),
            (FrontendKind::LoadBalancer, Vip::Address(vip)) => {
                one.address(vip, routes, port.source_ranges.as_ref(), out);
            }
            (FrontendKind::ExternalIp, Vip::Address(vip)) => one.external_ip(vip, routes, out),
            (FrontendKind::NodePort, Vip::NodePort(node_port)) => one.node_port(node_port, routes, out),
            // No other pair is made.
            (_, Vip::NodePort(_)) | (FrontendKind::NodePort, Vip::Address(_)) => {}
        }
    }
}

/// Where a packet comes from, as far as a rule can tell: pods, or anywhere.
type From<'a> = Option<&'a LocalTraffic>;

impl Lowering<'_> {
    fn proxy_port(&self, role: Role) -> Option<Port> {
        self.ports.get(&endpoint::owner(self.port, role)).copied()
    }

    /// A rule for packets to a port, its matches in kube-proxy's order, without a target.
    fn to_port(&self, role: Role, port: Port) -> Rule {
        let protocol = self.port.name.protocol;
        let name = self.port.name.to_string();
        let mut rule = Rule::default().comment(role.label(&name)).tagged(self.tag);
        rule.protocol = Some(ProtocolMatch { number: protocol.number(), negated: false });
        rule.matching(Match::Ports(PortsMatch {
            protocol,
            source: None,
            destination: Some(PortRange::single(port)),
        }))
    }

    /// Target of packets that come in: whatever address of the node they came to is as good.
    fn container_target(&self, proxy_port: Port) -> Target {
        match self.options.listen {
            None => Target::Redirect(proxy_port),
            Some(listen) => Target::Dnat(AddrPort::new(listen, proxy_port)),
        }
    }

    /// Target of the node's own packets: an address of the node, so that replies do not come from 127.0.0.1.
    fn host_target(&self, proxy_port: Port) -> Target {
        match self.options.listen.or(self.options.host) {
            Some(addr) => Target::Dnat(AddrPort::new(addr, proxy_port)),
            None => Target::Redirect(proxy_port),
        }
    }

    /// Pods first, if they are sent elsewhere than others and can be told; then everybody.
    fn incoming(&self, routes: Routes) -> Vec<(From<'_>, Role)> {
        let everyone = (None, endpoint::role(routes.outside));
        let pods = endpoint::role(routes.pods);
        match &self.view.local_traffic {
            Some(from) if pods != everyone.1 => vec![(Some(from), pods), everyone],
            Some(_) | None => vec![everyone],
        }
    }

    fn own(&self, routes: Routes) -> Vec<(From<'_>, Role)> {
        vec![(None, endpoint::role(routes.node))]
    }

    /// The rules to one VIP, `base` making each from its role, first those of clients that are let in.
    fn rules(
        &self,
        ways: &[(From<'_>, Role)],
        ranges: Option<&SourceRanges>,
        vip: Option<AddrPort>,
        base: impl Fn(Role) -> Rule,
        target: impl Fn(Port) -> Target,
    ) -> Vec<Rule> {
        let mut rules = Vec::with_capacity(ways.len());
        let mut add = |from: From<'_>, range: Option<IpCidr>, role: Role| {
            let (Some(proxy_port), Some(narrowed)) =
                (self.proxy_port(role), narrowed(base(role), from, range))
            else {
                return;
            };
            rules.push(Rule { target: Some(target(proxy_port)), ..narrowed });
        };
        match ranges {
            None => ways.iter().for_each(|(from, role)| add(*from, None, *role)),
            Some(ranges) => {
                // The node reaches a load balancer address from that very address when it is bound to it.
                let own = vip.filter(|_| ranges.allow_vips).map(|vip| IpCidr::host(vip.addr));
                for (from, role) in ways {
                    let allowed = ranges.allowed.iter().copied().chain(own);
                    allowed.for_each(|range| add(*from, Some(range), *role));
                }
                add(None, None, Role::NotLetIn);
            }
        }
        rules
    }

    /// A cluster IP or a load balancer's address.
    fn address(&self, vip: AddrPort, routes: Routes, ranges: Option<&SourceRanges>, out: &mut Chains) {
        let base = |role| self.to_port(role, vip.port).to_address(vip.addr);
        let incoming = self.incoming(routes);
        let container = |port| self.container_target(port);
        out.add(names::PORTALS_CONTAINER, self.rules(&incoming, ranges, Some(vip), base, container));
        let own = self.own(routes);
        out.add(
            names::PORTALS_HOST,
            self.rules(&own, ranges, Some(vip), base, |port| self.host_target(port)),
        );
    }

    /// An external IP: what did not come by a bridge, since an external machine may be behind one, and in any case what is
    /// for an address that the node has.
    fn external_ip(&self, vip: AddrPort, routes: Routes, out: &mut Chains) {
        let base = |role| self.to_port(role, vip.port).to_address(vip.addr);
        let local = skeleton::for_this_machine;
        let incoming = self.incoming(routes);
        let container = |port| self.container_target(port);
        for one in [Match::PhysdevIsIn { negated: true }, local()] {
            let base = |role| base(role).matching(one.clone());
            out.add(names::PORTALS_CONTAINER, self.rules(&incoming, None, None, base, container));
        }
        let base = |role| base(role).matching(local());
        let own = self.own(routes);
        out.add(names::PORTALS_HOST, self.rules(&own, None, None, base, |port| self.host_target(port)));
    }

    fn node_port(&self, node_port: Port, routes: Routes, out: &mut Chains) {
        let addresses = match &self.view.node_ports {
            NodePortScope::AllLocal { .. } => vec![None],
            NodePortScope::Addresses(addresses) => addresses.iter().copied().map(Some).collect(),
        };
        let (incoming, own) = (self.incoming(routes), self.own(routes));
        for addr in addresses {
            let base = |role| {
                let rule = self.to_port(role, node_port);
                if let Some(addr) = addr { rule.to_address(addr) } else { rule }
            };
            let container = |port| self.container_target(port);
            out.add(names::NODE_PORT_CONTAINER, self.rules(&incoming, None, None, base, container));
            let host = |port| self.host_target(port);
            out.add(names::NODE_PORT_HOST, self.rules(&own, None, None, base, host));
        }
        for (_, role) in &incoming {
            let Some(proxy_port) = self.proxy_port(*role) else { continue };
            let new = skeleton::ctstate(ConntrackStates::NEW, false);
            let rule = self.to_port(*role, proxy_port).matching(new);
            out.add(names::NODE_PORT_NON_LOCAL, vec![Rule { target: Some(Target::Accept), ..rule }]);
        }
    }
}

/// Narrows a rule to packets from somewhere that are within a range; `None` if there are none.
fn narrowed(mut rule: Rule, from: From<'_>, range: Option<IpCidr>) -> Option<Rule> {
    if let Some(pods) = from {
        rule = skeleton::limited_to_pods(rule, pods, false);
    }
    let source = match (rule.source, range) {
        (Some(pods), Some(range)) => Some(overlap(pods.cidr, range)?),
        (pods, range) => pods.map(|pods| pods.cidr).or(range),
    };
    rule.source = source.filter(|cidr| !cidr.is_any()).map(|cidr| AddrMatch { cidr, negated: false });
    Some(rule)
}

/// The addresses that two networks have in common: those of the smaller one, or none.
fn overlap(one: IpCidr, other: IpCidr) -> Option<IpCidr> {
    let (small, large) = if one.prefix_len() >= other.prefix_len() { (one, other) } else { (other, one) };
    large.contains(small.network()).then_some(small)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::Route;

    #[test]
    fn networks_overlap_in_the_smaller_one_or_not_at_all() {
        let cidr = |text| IpCidr::parse_sloppy(text).unwrap();
        assert_eq!(overlap(cidr("10.0.0.0/8"), cidr("10.1.0.0/16")), Some(cidr("10.1.0.0/16")));
        assert_eq!(overlap(cidr("10.1.0.0/16"), cidr("10.0.0.0/8")), Some(cidr("10.1.0.0/16")));
        assert_eq!(overlap(cidr("10.1.0.0/16"), cidr("10.2.0.0/16")), None);
    }

    #[test]
    fn a_route_that_leads_nowhere_has_a_listener() {
        assert_eq!(endpoint::role(Route::Reject), Role::Cluster);
        assert_eq!(endpoint::role(Route::Drop), Role::Local);
    }
}
