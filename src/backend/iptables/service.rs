//! The rules of one Service port: dispatch on its VIPs, its refusals, and its KUBE-EXT and KUBE-FW chains (reference
//! sections 2.7 to 2.10).

use std::net::IpAddr;
use std::sync::Arc;

use crate::backend::skeleton;
use crate::net::{AddrPort, IpFamily, Port, Protocol};
use crate::program::Tag;
use crate::program::xtables::{
    AddrType, ChainName, Match, PortRange, PortsMatch, ProtocolMatch, Rule, Target,
};
use crate::resolve::{FrontendKind, NodeView, PoolKind, PortView, Route, Routes, SourceRanges, Vip};

use super::names::{self, PortChains};
use super::{Chains, LowerOptions, address, base, endpoint};

/// One Service port on its way down: what all its rules share.
struct Lowering<'a> {
    view: &'a NodeView,
    options: &'a LowerOptions,
    port: &'a PortView,
    tag: Tag,
    name: Arc<str>,
    chains: PortChains,
}

/// Adds all rules of a Service port.
pub(super) fn lower_port(
    view: &NodeView,
    options: &LowerOptions,
    port: &PortView,
    tag: Tag,
    large: bool,
    out: &mut Chains,
) {
    let name: Arc<str> = port.name.to_string().into();
    let mut hashed = Vec::with_capacity(name.len() + 64);
    hashed.extend_from_slice(name.as_bytes());
    hashed.extend_from_slice(port.name.protocol.name().as_bytes());
    let one = Lowering { view, options, port, tag, chains: PortChains::new(&hashed), name };

    for frontend in &port.frontends {
        match (frontend.kind, frontend.vip) {
            (FrontendKind::ClusterIp, Vip::Address(vip)) => one.cluster_ip(vip, out),
            (FrontendKind::ExternalIp, Vip::Address(vip)) => one.external_ip(vip, out),
            (FrontendKind::LoadBalancer, Vip::Address(vip)) => one.load_balancer(vip, out),
            (FrontendKind::NodePort, Vip::NodePort(node_port)) => one.node_port(node_port, out),
            // No other pair is made.
            (_, Vip::NodePort(_)) | (FrontendKind::NodePort, Vip::Address(_)) => {}
        }
    }
    one.load_balancer_refusals(out);
    one.health_check(out);
    if one.uses_external_chain() {
        out.add(one.chains.external(), one.external_rules());
    }
    if let Some(ranges) = one.firewall() {
        out.add(one.chains.firewall(), one.firewall_rules(ranges));
    }
    endpoint::lower_endpoints(
        port,
        &endpoint::Naming { name: &one.name, hashed, chains: one.chains, tag, large, layout: options.layout },
        one.off_cluster_masquerade(),
        out,
    );
}

impl Lowering<'_> {
    fn protocol(&self) -> Protocol {
        self.port.name.protocol
    }

    /// A rule for packets to `port`, with comment, protocol and port matches in kube-proxy's order. `first` stands
    /// between the comment and the protocol.
    fn rule(&self, comment: impl Into<Arc<str>>, first: Option<Match>, port: Port, target: Target) -> Rule {
        let mut rule = Rule::to(target).comment(comment).tagged(self.tag);
        rule.matches.extend(first);
        rule.protocol = Some(ProtocolMatch { number: self.protocol().number(), negated: false });
        rule.matching(Match::Ports(PortsMatch {
            protocol: self.protocol(),
            source: None,
            destination: Some(PortRange::single(port)),
        }))
    }

    fn to_vip(&self, comment: impl Into<Arc<str>>, vip: AddrPort, target: Target) -> Rule {
        self.rule(comment, None, vip.port, target).to_address(vip.addr)
    }

    fn cluster_ip_comment(&self) -> String {
        format!("{} cluster IP", self.name)
    }

    fn pool_chain(&self, pool: PoolKind) -> ChainName {
        match pool {
            PoolKind::Cluster => self.chains.cluster(),
            PoolKind::Local => self.chains.local(),
        }
    }

    /// Refusal of a route that leads nowhere: its reason and its target.
    fn refusal(&self, route: Route) -> Option<(String, Target)> {
        match route {
            Route::Forward { .. } => None,
            Route::Reject => Some((format!("{} has no endpoints", self.name), base::reject())),
            Route::Drop => Some((format!("{} has no local endpoints", self.name), Target::Drop)),
        }
    }

    /// External routes, if external traffic gets anywhere at all. A KUBE-EXT chain exists even when outsiders are
    /// dropped: pods and the node go through it.
    fn external_routes(&self) -> Option<Routes> {
        self.port.external.filter(|routes| routes.outside != Route::Reject)
    }

    fn uses_external_chain(&self) -> bool {
        self.external_routes().is_some()
    }

    /// The source ranges, if there is a load balancer frontend for them to guard.
    fn firewall(&self) -> Option<&SourceRanges> {
        let guarded = self.load_balancer_vips().next().is_some() && self.uses_external_chain();
        self.port.source_ranges.as_ref().filter(|_| guarded)
    }

    fn load_balancer_vips(&self) -> impl Iterator<Item = AddrPort> + '_ {
        self.port.frontends.iter().filter_map(|frontend| match (frontend.kind, frontend.vip) {
            (FrontendKind::LoadBalancer, Vip::Address(vip)) => Some(vip),
            (FrontendKind::LoadBalancer, Vip::NodePort(_))
            | (FrontendKind::ClusterIp | FrontendKind::ExternalIp | FrontendKind::NodePort, _) => None,
        })
    }

    fn cluster_ip(&self, vip: AddrPort, out: &mut Chains) {
        match self.port.internal.outside {
            Route::Forward { pool, .. } => {
                let jump = Target::Jump(self.pool_chain(pool));
                out.nat_services.push(self.to_vip(self.cluster_ip_comment(), vip, jump));
            }
            route @ (Route::Reject | Route::Drop) => {
                if let Some((reason, target)) = self.refusal(route) {
                    out.filter_services.push(self.to_vip(reason, vip, target));
                }
            }
        }
    }

    fn external_ip(&self, vip: AddrPort, out: &mut Chains) {
        if self.uses_external_chain() {
            let jump = Target::Jump(self.chains.external());
            out.nat_services.push(self.to_vip(format!("{} external IP", self.name), vip, jump));
        }
        self.refuse_external(vip, out);
    }

    fn refuse_external(&self, vip: AddrPort, out: &mut Chains) {
        if let Some((reason, target)) = self.port.external.and_then(|routes| self.refusal(routes.outside)) {
            out.filter_external.push(self.to_vip(reason, vip, target));
        }
    }

    fn load_balancer(&self, vip: AddrPort, out: &mut Chains) {
        if !self.uses_external_chain() {
            return;
        }
        let guarded = self.firewall().is_some();
        let chain = if guarded { self.chains.firewall() } else { self.chains.external() };
        let comment = format!("{} loadbalancer IP", self.name);
        out.nat_services.push(self.to_vip(comment, vip, Target::Jump(chain)));
        if guarded {
            // What the KUBE-FW chain did not pass on still has the load balancer's address here.
            let comment = format!("{} traffic not accepted by {chain}", self.name);
            out.filter_firewall.push(self.to_vip(comment, vip, Target::Drop));
        }
    }

    /// Refusals of load balancer IPs come after all their dispatch rules.
    fn load_balancer_refusals(&self, out: &mut Chains) {
        for vip in self.load_balancer_vips() {
            self.refuse_external(vip, out);
        }
    }

    fn node_port(&self, node_port: Port, out: &mut Chains) {
        if self.uses_external_chain() {
            let jump = || Target::Jump(self.chains.external());
            if self.view.localhost_node_ports && self.options.nfacct {
                // Counts who still depends on node ports of localhost; the next rule would do without it.
                let mut counted = self
                    .rule(self.name.clone(), None, node_port, jump())
                    .matching(Match::Nfacct(names::NFACCT_LOCALHOST_ACCEPTED.into()));
                counted.destination = Some(address(skeleton::loopback(IpFamily::V4), false));
                out.nat_node_ports.push(counted);
            }
            out.nat_node_ports.push(self.rule(self.name.clone(), None, node_port, jump()));
        }
        if let Some((reason, target)) = self.port.external.and_then(|routes| self.refusal(routes.outside)) {
            let asked = Some(skeleton::for_this_machine());
            out.filter_external.push(self.rule(reason, asked, node_port, target));
        }
    }

    fn health_check(&self, out: &mut Chains) {
        let Some(port) = self.port.health_check_node_port else { return };
        let mut rule = Rule::to(Target::Accept)
            .comment(format!("{} health check node port", self.name))
            .tagged(self.tag)
            .matching(Match::Ports(PortsMatch {
                protocol: Protocol::Tcp,
                source: None,
                destination: Some(PortRange::single(port)),
            }));
        rule.protocol = Some(ProtocolMatch { number: Protocol::Tcp.number(), negated: false });
        out.filter_node_ports.push(rule);
    }

    /// The first rule of the chain that the cluster IP leads to: masquerade what does not come from pods. It asks for
    /// the cluster IP again, since traffic to external addresses passes through the same chain.
    fn off_cluster_masquerade(&self) -> Option<(PoolKind, Rule)> {
        let (pool, pods) = match (self.port.internal.outside, self.port.internal.pods) {
            (Route::Forward { pool, masquerade: true }, Route::Forward { masquerade, .. }) => {
                (pool, masquerade)
            }
            (Route::Forward { .. } | Route::Reject | Route::Drop, _) => return None,
        };
        let vip = self.port.frontends.iter().find_map(|frontend| match (frontend.kind, frontend.vip) {
            (FrontendKind::ClusterIp, Vip::Address(vip)) => Some(vip),
            (_, Vip::Address(_) | Vip::NodePort(_)) => None,
        })?;
        let rule = self.to_vip(self.cluster_ip_comment(), vip, Target::Jump(names::MARK_MASQ));
        Some((pool, if pods { rule } else { self.limited_to_pods(rule, true)? }))
    }

    /// Narrows a rule to traffic of pods, or to all other traffic; `None` if the two cannot be told apart.
    fn limited_to_pods(&self, rule: Rule, negated: bool) -> Option<Rule> {
        let pods = self.view.local_traffic.as_ref()?;
        Some(skeleton::limited_to_pods(rule, pods, negated))
    }

    fn external_rules(&self) -> Vec<Rule> {
        let Some(routes) = self.external_routes() else { return Vec::new() };
        let name = &self.name;
        let to = |target| Rule::to(Target::Jump(target)).tagged(self.tag);
        let mut rules = Vec::with_capacity(4);
        if routes.node == routes.outside {
            if let Route::Forward { masquerade: true, .. } = routes.outside {
                let comment = format!("masquerade traffic for {name} external destinations");
                rules.push(to(names::MARK_MASQ).comment(comment));
            }
        } else {
            // The short circuit: pods and the node itself do not need an endpoint on this node.
            if let Route::Forward { pool, .. } = routes.pods {
                let comment = format!("pod traffic for {name} external destinations");
                rules.extend(self.limited_to_pods(to(self.pool_chain(pool)).comment(comment), false));
            }
            if let Route::Forward { pool, masquerade } = routes.node {
                let local =
                    || Match::AddrType(AddrType { source_local: Some(false), destination_local: None });
                if masquerade {
                    let comment = format!("masquerade LOCAL traffic for {name} external destinations");
                    rules.push(to(names::MARK_MASQ).comment(comment).matching(local()));
                }
                let comment = format!("route LOCAL traffic for {name} external destinations");
                rules.push(to(self.pool_chain(pool)).comment(comment).matching(local()));
            }
        }
        if let Route::Forward { pool, .. } = routes.outside {
            rules.push(to(self.pool_chain(pool)));
        }
        rules
    }

    fn firewall_rules(&self, ranges: &SourceRanges) -> Vec<Rule> {
        let comment: Arc<str> = format!("{} loadbalancer IP", self.name).into();
        let pass =
            || Rule::to(Target::Jump(self.chains.external())).comment(comment.clone()).tagged(self.tag);
        let mut rules: Vec<Rule> = ranges.allowed.iter().map(|range| pass().source(*range, false)).collect();
        if ranges.allow_vips {
            // The node reaches a load balancer address from that very address when it is bound to it.
            let host = |addr: IpAddr| crate::net::IpCidr::host(addr);
            rules.extend(self.load_balancer_vips().map(|vip| pass().source(host(vip.addr), false)));
        }
        let last = format!("other traffic to {} will be dropped by {}", self.name, names::PROXY_FIREWALL);
        rules.push(Rule { tag: Some(self.tag), ..Rule::default() }.comment(last));
        rules
    }
}
