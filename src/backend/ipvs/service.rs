//! One Service port: a virtual server for each of its frontends, and what sets hold for it (reference sections 3.3 and
//! 3.6).

use crate::net::{AddrPort, IpCidr, Port, Protocol};
use crate::program::Tag;
use crate::program::ipset::Entry;
use crate::program::ipvs::{Flags, ServiceKey, VirtualServer};
use crate::program::xtables::{AddrMatch, IpvsMatch, Match, ProtocolMatch, Rule, Target};
use crate::resolve::{FrontendKind, NodePortScope, NodeView, PortView, Vip};

use super::names::SetId;
use super::{LowerOptions, Parts, endpoint};

/// The scheduler that knows flags by which it looks at source ports too.
const MAGLEV: &str = "mh";

/// One Service port on its way down.
pub(super) struct Lowering<'a> {
    pub(super) view: &'a NodeView,
    pub(super) options: &'a LowerOptions,
    pub(super) port: &'a PortView,
    pub(super) tag: Tag,
}

impl Lowering<'_> {
    fn protocol(&self) -> Protocol {
        self.port.name.protocol
    }

    /// Adds all but the node port.
    pub(super) fn lower_vips(&self, parts: &mut Parts) {
        for frontend in &self.port.frontends {
            let Vip::Address(vip) = frontend.vip else { continue };
            self.serve(vip, frontend.kind, parts);
            match frontend.kind {
                FrontendKind::ClusterIp => self.cluster_ip(vip, parts),
                FrontendKind::ExternalIp => self.external_ip(vip, parts),
                FrontendKind::LoadBalancer => self.load_balancer(vip, parts),
                // No such pair is made.
                FrontendKind::NodePort => {}
            }
        }
        endpoint::loop_back(self.port, &mut parts.members);
        if let Some(port) = self.port.health_check_node_port {
            parts.members.insert(SetId::HealthCheckNodePort, Entry::Port(port));
        }
    }

    /// Adds the node port, on every address that answers.
    pub(super) fn lower_node_port(&self, parts: &mut Parts) {
        let NodePortScope::Addresses(addresses) = &self.view.node_ports else { return };
        for frontend in &self.port.frontends {
            let Vip::NodePort(node_port) = frontend.vip else { continue };
            for addr in addresses {
                let at = AddrPort::new(*addr, node_port);
                self.serve(at, FrontendKind::NodePort, parts);
                self.node_port(at, parts);
            }
        }
    }

    /// Adds a virtual server. Of two Service ports that claim one address, the first has it.
    fn serve(&self, at: AddrPort, kind: FrontendKind, parts: &mut Parts) {
        let scheduler = &self.options.scheduler;
        let flags = if scheduler.as_str() == MAGLEV { Flags::SCHEDULER_2 } else { Flags::default() };
        let flags = match self.port.affinity_seconds {
            Some(_) => flags.with(Flags::PERSISTENT),
            None => flags,
        };
        let key = ServiceKey::Address { protocol: self.protocol(), at };
        parts.servers.entry(key).or_insert_with(|| VirtualServer {
            scheduler: scheduler.clone(),
            flags,
            persistence_seconds: self.port.affinity_seconds.unwrap_or(0),
            netmask: self.view.family.bits(),
            engine: None,
            // Here it makes no difference to routes where a packet comes from.
            real_servers: endpoint::real_servers(self.port, self.port.routes(kind).outside),
            counters: None,
            tag: Some(self.tag),
        });
    }

    fn entry(&self, vip: AddrPort) -> Entry {
        Entry::IpPort(vip.addr, self.protocol(), vip.port)
    }

    fn cluster_ip(&self, vip: AddrPort, parts: &mut Parts) {
        parts.addresses.insert(vip.addr);
        parts.members.insert(SetId::ClusterIp, self.entry(vip));
    }

    fn external_ip(&self, vip: AddrPort, parts: &mut Parts) {
        self.bind(vip, parts);
        let keeps_source = self.port.external_keeps_source;
        let set = if keeps_source { SetId::ExternalIpLocal } else { SetId::ExternalIp };
        parts.members.insert(set, self.entry(vip));
    }

    /// Binds an address, unless it is on another interface anyway.
    fn bind(&self, vip: AddrPort, parts: &mut Parts) {
        if !self.options.bound_elsewhere.contains(&vip.addr) {
            parts.addresses.insert(vip.addr);
        }
    }

    fn load_balancer(&self, vip: AddrPort, parts: &mut Parts) {
        self.bind(vip, parts);
        parts.members.insert(SetId::LoadBalancer, self.entry(vip));
        if self.port.external_keeps_source {
            parts.members.insert(SetId::LoadBalancerLocal, self.entry(vip));
        }
        let Some(ranges) = &self.port.source_ranges else { return };
        parts.members.insert(SetId::LoadBalancerFirewall, self.entry(vip));
        for range in &ranges.allowed {
            let entry = Entry::IpPortNet(vip.addr, self.protocol(), vip.port, *range);
            parts.members.insert(SetId::LoadBalancerSourceCidr, entry);
        }
        if ranges.allow_vips {
            let entry = Entry::IpPortIp(vip.addr, self.protocol(), vip.port, vip.addr);
            parts.members.insert(SetId::LoadBalancerSourceIp, entry);
        } else {
            parts.out_filter.push(self.keep_out(vip));
        }
    }

    /// Stops the node's own packets, which come from the address that they go to.
    fn keep_out(&self, vip: AddrPort) -> Rule {
        let cidr = IpCidr::host(vip.addr);
        let server = IpvsMatch {
            protocol: Some(ProtocolMatch { number: self.protocol().number(), negated: false }),
            address: Some(AddrMatch { cidr, negated: false }),
            port: Some((vip.port, false)),
        };
        let rule = Rule::to(Target::Drop).source(cidr, false).tagged(self.tag);
        rule.matching(Match::Ipvs(Box::new(server)))
    }

    fn node_port(&self, at: AddrPort, parts: &mut Parts) {
        let entry = |port: Port| match self.protocol() {
            Protocol::Tcp | Protocol::Udp => Entry::Port(port),
            Protocol::Sctp => self.entry(at),
        };
        parts.members.insert(SetId::of_node_ports(self.protocol(), false), entry(at.port));
        if self.port.external_keeps_source {
            parts.members.insert(SetId::of_node_ports(self.protocol(), true), entry(at.port));
        }
    }
}
