//! The elements and chains of one Service port (reference sections 4.7 and 4.8).

use crate::net::{AddrPort, Port};
use crate::program::Tag;
use crate::program::nft::{
    Data, Element, Expr, FibType, Key, Keys, Right, Rule, Scalar, Stmt, Table, Verdict,
};
use crate::resolve::{FrontendKind, NodeView, PoolKind, PortView, Route, Vip};

use super::names::{self, PortNames};
use super::{LowerOptions, base, comment, commented, endpoint, insert};

/// One Service port on its way down: what all its objects share.
pub(super) struct Lowering<'a> {
    view: &'a NodeView,
    options: &'a LowerOptions,
    port: &'a PortView,
    tag: Tag,
    names: PortNames,
}

/// Adds all objects of a Service port.
pub(super) fn add(table: &mut Table, view: &NodeView, options: &LowerOptions, port: &PortView, tag: Tag) {
    let one = Lowering::new(view, options, port, tag);
    for frontend in &port.frontends {
        match frontend.vip {
            Vip::Address(vip) => one.vip(frontend.kind, vip, table),
            Vip::NodePort(node_port) => one.node_port(node_port, table),
        }
    }
    if port.external.is_some_and(|routes| routes.outside != Route::Reject) {
        super::add_chain(table, one.names.chain(names::EXTERNAL_PREFIX), one.external_rules());
    }
    if let Some(rule) = one.firewall_rule() {
        super::add_chain(table, one.names.chain(names::FIREWALL_PREFIX), vec![rule]);
    }
    endpoint::add(table, view.family, port, &one.names, tag);
}

impl<'a> Lowering<'a> {
    /// A Service port that is about to be lowered.
    pub(super) fn new(
        view: &'a NodeView,
        options: &'a LowerOptions,
        port: &'a PortView,
        tag: Tag,
    ) -> Lowering<'a> {
        Lowering { view, options, port, tag, names: PortNames::new(&port.name) }
    }

    /// An element of a verdict map.
    pub(super) fn element(&self, verdict: Verdict) -> Element {
        Element { tag: Some(self.tag), ..Element::of(Data::Verdict(verdict)) }
    }

    /// What packets to a VIP are looked up by.
    pub(super) fn vip_key(&self, vip: AddrPort) -> Key {
        Key::exact([Scalar::from(vip.addr), Scalar::from(self.port.name.protocol), Scalar::Port(vip.port)])
    }

    /// What packets to a node port are looked up by.
    pub(super) fn port_key(&self, port: Port) -> Key {
        Key::exact([Scalar::from(self.port.name.protocol), Scalar::Port(port)])
    }

    fn pool_prefix(pool: PoolKind) -> &'static str {
        match pool {
            PoolKind::Cluster => names::SERVICE_PREFIX,
            PoolKind::Local => names::LOCAL_PREFIX,
        }
    }

    fn goto(&self, prefix: &str) -> Verdict {
        Verdict::Goto(self.names.chain(prefix))
    }

    /// Refusal of a route that leads nowhere, as an element that names its Service.
    fn refusal(&self, route: Route) -> Option<Element> {
        let verdict = match route {
            Route::Forward { .. } => return None,
            Route::Reject => Verdict::Goto(names::fixed(names::REJECT)),
            Route::Drop => Verdict::Drop,
        };
        Some(Element { comment: comment(&self.port.name.to_string()), ..self.element(verdict) })
    }

    fn vip(&self, kind: FrontendKind, vip: AddrPort, table: &mut Table) {
        let routes = self.port.routes(kind);
        if kind == FrontendKind::ClusterIp {
            self.add_cluster_ip(vip, table);
            if let Route::Forward { pool, .. } = routes.outside {
                let verdict = self.goto(Lowering::pool_prefix(pool));
                insert(table, names::SERVICE_IPS, self.vip_key(vip), self.element(verdict));
            }
        } else if routes.outside != Route::Reject {
            let verdict = self.goto(names::EXTERNAL_PREFIX);
            insert(table, names::SERVICE_IPS, self.vip_key(vip), self.element(verdict));
        }
        self.refuse_vip(kind, vip, table);
        if kind == FrontendKind::LoadBalancer && self.port.source_ranges.is_some() {
            let verdict = self.goto(names::FIREWALL_PREFIX);
            insert(table, names::FIREWALL_IPS, self.vip_key(vip), self.element(verdict));
        }
    }

    fn node_port(&self, node_port: Port, table: &mut Table) {
        let routes = self.port.routes(FrontendKind::NodePort);
        let key = self.port_key(node_port);
        if routes.outside != Route::Reject {
            let element = self.element(self.goto(names::EXTERNAL_PREFIX));
            insert(table, names::SERVICE_NODE_PORTS, key, element);
        }
        self.refuse_node_port(node_port, table);
    }

    /// Adds a cluster IP to all others.
    pub(super) fn add_cluster_ip(&self, vip: AddrPort, table: &mut Table) {
        let key = Key::exact([Scalar::from(vip.addr)]);
        insert(table, names::CLUSTER_IPS, key, Element { tag: Some(self.tag), ..Element::default() });
    }

    /// Refuses what comes to a VIP, if nothing answers there.
    pub(super) fn refuse_vip(&self, kind: FrontendKind, vip: AddrPort, table: &mut Table) {
        if let Some(refusal) = self.refusal(self.port.routes(kind).outside) {
            insert(table, names::NO_ENDPOINT_SERVICES, self.vip_key(vip), refusal);
        }
    }

    /// Refuses what comes to a node port, if nothing answers there.
    pub(super) fn refuse_node_port(&self, node_port: Port, table: &mut Table) {
        if let Some(refusal) = self.refusal(self.port.routes(FrontendKind::NodePort).outside) {
            insert(table, names::NO_ENDPOINT_NODE_PORTS, self.port_key(node_port), refusal);
        }
    }

    fn rule(&self, stmts: Vec<Stmt>) -> Rule {
        Rule::new(stmts).with_tag(Some(self.tag))
    }

    fn external_rules(&self) -> Vec<Rule> {
        let Some(routes) = self.port.external else { return Vec::new() };
        let goto = |pool| Stmt::Verdict(self.goto(Lowering::pool_prefix(pool)));
        let mut rules = Vec::with_capacity(4);
        if routes.node == routes.outside {
            if let Route::Forward { masquerade: true, .. } = routes.outside {
                rules.push(commented(self.rule(vec![base::set_mark(self.options)]), "masquerade"));
            }
        } else {
            // The short circuit: pods and the node itself do not need an endpoint on this node.
            if let Route::Forward { pool, .. } = routes.pods
                && let Some(of_pods) = base::from_pods(self.view, false)
            {
                rules.push(commented(self.rule(vec![of_pods, goto(pool)]), "short-circuit pod traffic"));
            }
            if let Route::Forward { pool, masquerade } = routes.node {
                let local = || Stmt::is(Expr::FibType { source: true }, Scalar::FibType(FibType::Local));
                if masquerade {
                    let rule = self.rule(vec![local(), base::set_mark(self.options)]);
                    rules.push(commented(rule, "masquerade local traffic"));
                }
                rules.push(commented(self.rule(vec![local(), goto(pool)]), "short-circuit local traffic"));
            }
        }
        if let Route::Forward { pool, .. } = routes.outside {
            rules.push(self.rule(vec![goto(pool)]));
        }
        rules
    }

    /// Discards what no source range lets in. Unlike in iptables mode it stands without endpoints too.
    fn firewall_rule(&self) -> Option<Rule> {
        let left = Expr::source(self.view.family);
        let right = Right::Keys(Keys::new(self.allowed_sources()?));
        let others = Stmt::Match { left, negated: true, right };
        Some(self.rule(vec![others, Stmt::Verdict(Verdict::Drop)]))
    }

    /// Who may use the load balancer's VIPs, if not anyone may.
    pub(super) fn allowed_sources(&self) -> Option<Vec<Key>> {
        let ranges = self.port.source_ranges.as_ref()?;
        let vips: Vec<AddrPort> = self.load_balancer_vips().collect();
        if vips.is_empty() {
            return None;
        }
        let mut keys: Vec<Key> = ranges.allowed.iter().map(Key::cidr).collect();
        if ranges.allow_vips {
            keys.extend(vips.iter().map(|vip| Key::exact([Scalar::from(vip.addr)])));
        }
        Some(keys)
    }

    fn load_balancer_vips(&self) -> impl Iterator<Item = AddrPort> + '_ {
        self.port.frontends.iter().filter_map(|frontend| match (frontend.kind, frontend.vip) {
            (FrontendKind::LoadBalancer, Vip::Address(vip)) => Some(vip),
            (FrontendKind::LoadBalancer, Vip::NodePort(_))
            | (FrontendKind::ClusterIp | FrontendKind::ExternalIp | FrontendKind::NodePort, _) => None,
        })
    }
}
