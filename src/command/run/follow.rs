//! A change of a few Services without a look at the others: what they and those that share something with them were, beside
//! what they are to be. What it costs does not grow with the cluster.
//!
//! Of nftables mode alone, where every Service has objects and elements of its own. What the table has is remembered from the
//! last comparison of all; nobody asks the kernel. Whether somebody else has changed it shows when all is compared again, or
//! when the kernel refuses a change.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::nftables;
use crate::model::{Cluster, Mode, ServiceName, ServicePortName};
use crate::net::{IpFamily, PerFamily};
use crate::pipeline::{Compiler, Wanted};
use crate::program::{NftTable, Program, nft};
use crate::resolve::{Claims, NodeView, PortView};

use super::super::comparison::Comparison;
use super::super::live::Live;

/// More Services than one in so many of the cluster are compared with all of it.
const MAX_SHARE: usize = 4;

/// Some Services: what is wanted of them beside what the node has.
pub(super) struct Part {
    /// Which.
    pub(super) names: BTreeSet<ServiceName>,
    /// What was decided and made of them before.
    pub(super) before: Wanted,
    /// The two sides, and the steps from one to the other.
    pub(super) compared: Comparison,
}

/// What the node has, and what was decided for every Service.
pub(super) struct Followed {
    compiler: Compiler,
    ports: PerFamily<BTreeMap<ServicePortName, PortView>>,
    claims: PerFamily<Claims>,
    tables: PerFamily<Option<nft::Table>>,
}

impl Followed {
    /// The node after all steps of a comparison of everything. `None` where a part cannot be told from the whole.
    pub(super) fn after(compared: Comparison, mode: Mode) -> Option<Followed> {
        let compiler = compared.compiler.filter(|_| mode == Mode::Nftables)?;
        let Wanted { views, program, .. } = compared.wanted;
        let PerFamily { v4, v6 } = program.nft;
        let table = |table| if let NftTable::Present(table) = table { Some(table) } else { None };
        let mut followed = Followed {
            compiler,
            ports: PerFamily::default(),
            claims: PerFamily::default(),
            tables: PerFamily { v4: table(v4), v6: table(v6) },
        };
        let PerFamily { v4, v6 } = views;
        for (family, view) in [(IpFamily::V4, v4), (IpFamily::V6, v6)] {
            followed.insert(family, view.map(|view| view.ports).unwrap_or_default());
        }
        Some(followed)
    }

    fn insert(&mut self, family: IpFamily, ports: Vec<PortView>) {
        for port in ports {
            self.claims.get_mut(family).add(&port);
            self.ports.get_mut(family).insert(port.name.clone(), port);
        }
    }

    /// The ports of a Service as they were.
    fn ports_of(&self, family: IpFamily, name: &ServiceName) -> impl Iterator<Item = &PortView> {
        ServicePortName::of_service(self.ports.get(family), name).map(|(_, port)| port)
    }

    /// What is wanted of Services that have changed, and of all that share something with them, beside what the node has of
    /// these. `None` if they are so many that a comparison of everything is cheaper.
    pub(super) fn compare(&self, cluster: &Cluster, changed: &BTreeSet<&ServiceName>) -> Option<Part> {
        let mut names: BTreeSet<ServiceName> = BTreeSet::new();
        let mut next: BTreeSet<ServiceName> = changed.iter().map(|name| (*name).clone()).collect();
        let mut wanted = Wanted::default();
        while !next.is_empty() {
            names.append(&mut next);
            if names.len() * MAX_SHARE > cluster.services.len() + MAX_SHARE {
                return None;
            }
            wanted = self.compiler.wanted(&cluster.part(&names));
            for family in IpFamily::ALL {
                let claims = self.claims.get(family);
                let before = names.iter().flat_map(|name| self.ports_of(family, name));
                let after = wanted.views.get(family).iter().flat_map(|view| &view.ports);
                let others = before.chain(after).flat_map(|port| claims.others(port));
                next.extend(others.filter(|name| !names.contains(*name)).cloned());
            }
        }
        let views = PerFamily::from_fn(|family| {
            let view = wanted.views.get(family).as_ref()?;
            let ports = names.iter().flat_map(|name| self.ports_of(family, name)).cloned().collect();
            Some(NodeView { ports, ..view.clone() })
        });
        let before = self.compiler.lowered(views);
        let mut live = Program::default();
        for family in IpFamily::ALL {
            let (Some(table), NftTable::Present(before), NftTable::Present(wanted)) =
                (self.tables.get(family), before.program.nft.get(family), wanted.program.nft.get_mut(family))
            else {
                continue;
            };
            let part = table.part(&[before, &*wanted]);
            // Others need what is shared, even if these do not any more.
            wanted.keep(&part, |name| !nftables::is_hashed(name));
            *live.nft.get_mut(family) = NftTable::Present(part);
        }
        Some(Part { names, before, compared: Comparison::of(wanted, Live::of_program(live)) })
    }

    /// The node after all steps of a comparison of some Services.
    pub(super) fn take(&mut self, part: Part) {
        let Part { names, compared, .. } = part;
        for family in IpFamily::ALL {
            let (Some(table), Some(difference), Some(wanted)) = (
                self.tables.get_mut(family),
                compared.plan.tables.get(family),
                compared.wanted.program.nft.get(family).table(),
            ) else {
                continue;
            };
            nft::diff::apply_to(table, difference, wanted);
        }
        let PerFamily { v4, v6 } = compared.wanted.views;
        for (family, view) in [(IpFamily::V4, v4), (IpFamily::V6, v6)] {
            let gone: Vec<ServicePortName> = names
                .iter()
                .flat_map(|name| self.ports_of(family, name))
                .map(|port| port.name.clone())
                .collect();
            let ports = self.ports.get_mut(family);
            let gone: Vec<PortView> = gone.iter().filter_map(|name| ports.remove(name)).collect();
            self.claims.get_mut(family).remove(gone.iter());
            self.insert(family, view.map(|view| view.ports).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::backend::Layout;
    use crate::model::{
        Conditions, Config, Endpoint, Placeholders, Service, ServicePort, ServiceType, TrafficPolicy,
    };
    use crate::net::{AddrPort, Protocol};
    use crate::pipeline::Lowering;
    use crate::plan;
    use crate::program::nft::diff::{ChainChange, SetChange, TableDiff};
    use crate::resolve::NodeContext;

    const N_SERVICES: u8 = 24;

    /// What becomes of a Service: all of it out of small numbers, so that they meet each other.
    #[derive(Debug, Clone)]
    struct Event {
        service: u8,
        is_gone: bool,
        vip: u8,
        external: Option<u8>,
        node_port: Option<u16>,
        is_udp: bool,
        is_local: bool,
        has_affinity: bool,
        ranges: bool,
        endpoints: Vec<u8>,
    }

    fn event() -> impl Strategy<Value = Event> {
        let sizes =
            (0..N_SERVICES, prop::bool::weighted(0.2), prop::bool::weighted(0.1), prop::bool::weighted(0.2));
        let ports = (prop::option::weighted(0.3, 0..12u8), prop::option::weighted(0.3, 30000..30012u16));
        let more = (any::<bool>(), prop::bool::weighted(0.2), any::<bool>());
        let endpoints = prop::collection::vec(0..80u8, 0..4);
        (sizes, ports, more, endpoints).prop_map(
            |(
                (service, is_gone, shares_vip, is_udp),
                (external, node_port),
                (is_local, has_affinity, ranges),
                endpoints,
            )| {
                let vip = if shares_vip { 0 } else { service };
                Event {
                    service,
                    is_gone,
                    vip,
                    external,
                    node_port,
                    is_udp,
                    is_local,
                    has_affinity,
                    ranges,
                    endpoints,
                }
            },
        )
    }

    fn happens(event: &Event, cluster: &mut Cluster) -> ServiceName {
        let name = ServiceName::new("shop", &format!("s{}", event.service));
        let port = ServicePort {
            name: "p".into(),
            protocol: if event.is_udp { Protocol::Udp } else { Protocol::Tcp },
            port: 80,
            node_port: event.node_port,
        };
        let addr = |net: u8, host: u8| Ipv4Addr::new(10, net, 0, host).into();
        cluster.services.remove(&name);
        cluster.endpoints.v4.retain(|port, _| port.service != name);
        if event.is_gone {
            return name;
        }
        let policy = if event.is_local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
        let service = Service {
            name: name.clone(),
            kind: ServiceType::LoadBalancer,
            cluster_ips: PerFamily { v4: Some(addr(96, event.vip)), v6: None },
            external_ips: event.external.map(|host| addr(50, host)).into_iter().collect(),
            has_external_ips: event.external.is_some(),
            load_balancer_ips: event.external.map(|host| addr(51, host)).into_iter().collect(),
            source_ranges: if event.ranges {
                vec![crate::net::IpCidr::parse_sloppy("10.0.0.0/9").unwrap()]
            } else {
                Vec::new()
            },
            ports: vec![port.clone()],
            affinity_seconds: event.has_affinity.then_some(60),
            internal_traffic_policy: TrafficPolicy::Cluster,
            external_traffic_policy: policy,
            health_check_node_port: None,
            placeholders: Placeholders::default(),
        };
        let endpoint = |host: &u8| Endpoint {
            addr: AddrPort::new(addr(128, *host), 8080),
            node: Some(if host.is_multiple_of(2) { "node-0" } else { "node-1" }.into()),
            conditions: Conditions { ready: true, serving: true, terminating: false },
            hints: None,
        };
        let hosts: BTreeSet<u8> = event.endpoints.iter().copied().collect();
        let group: Vec<Endpoint> = hosts.iter().map(endpoint).collect();
        if !group.is_empty() {
            cluster.endpoints.v4.insert(service.port_name(&port), group);
        }
        cluster.services.insert(name.clone(), service);
        name
    }

    fn compiler(layout: Layout) -> Compiler {
        let config = Config { mode: Mode::Nftables, ..Config::default() };
        let addresses = vec![Ipv4Addr::new(10, 77, 0, 1).into()];
        let node = crate::model::Node {
            name: "node-0".into(),
            zone: None,
            addresses: addresses.clone(),
            pod_cidrs: Vec::new(),
            is_leaving: false,
        };
        Compiler {
            node: NodeContext::new(&config, &node, &addresses),
            families: [IpFamily::V4].into(),
            lowering: Lowering::Nftables(nftables::LowerOptions {
                masquerade_mark: 0x4000,
                masquerade_all: false,
                object_comments: true,
                layout,
                service_cidrs: Vec::new(),
            }),
        }
    }

    fn table(program: &Program) -> &nft::Table {
        program.nft.v4.table().unwrap()
    }

    /// The kernel takes a difference only if what it makes is not there, and what it takes away is.
    fn fits(difference: &TableDiff, table: &nft::Table) {
        for (name, change) in &difference.chains {
            assert_eq!(table.chains.contains_key(name), *change != ChainChange::Create, "{name} {change:?}");
        }
        for (name, change) in &difference.sets {
            assert_eq!(table.sets.contains_key(name), *change != SetChange::Create, "{name} {change:?}");
        }
        for (name, changes) in &difference.elements {
            let Some(set) = table.sets.get(name) else { continue };
            assert!(changes.delete.iter().all(|key| set.elements.contains_key(key)), "{name} {changes:?}");
            let comes = |key: &&nft::Key| set.elements.contains_key(*key) && !changes.delete.contains(key);
            assert_eq!(changes.add.iter().find(comes), None, "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn parts_lead_where_the_whole_leads(
            first in prop::collection::vec(event(), 40),
            later in prop::collection::vec(prop::collection::vec(event(), 1..3), 1..12),
            layout in prop::sample::select(vec![Layout::KubeProxy, Layout::Fast]),
        ) {
            let mut cluster = Cluster::default();
            first.iter().for_each(|event| drop(happens(event, &mut cluster)));
            let compiler = compiler(layout);
            let all = Comparison::of(compiler.wanted(&cluster), Live::of_program(Program::default()));
            let all = Comparison { compiler: Some(compiler.clone()), ..all };
            let mut followed = Followed::after(all, Mode::Nftables).unwrap();
            for events in &later {
                let changed: BTreeSet<ServiceName> =
                    events.iter().map(|event| happens(event, &mut cluster)).collect();
                let Some(part) = followed.compare(&cluster, &changed.iter().collect()) else {
                    let whole = Comparison::of(compiler.wanted(&cluster), Live::of_program(Program::default()));
                    let whole = Comparison { compiler: Some(compiler.clone()), ..whole };
                    followed = Followed::after(whole, Mode::Nftables).unwrap();
                    continue;
                };
                let difference = part.compared.plan.tables.v4.clone().unwrap();
                fits(&difference, followed.tables.v4.as_ref().unwrap());
                followed.take(part);
                let reached = followed.tables.v4.clone().unwrap();
                let mut wanted = compiler.wanted(&cluster);
                let NftTable::Present(whole) = &mut wanted.program.nft.v4 else { unreachable!() };
                nftables::adopt(whole, &reached);
                let left = plan::plan(&wanted.program, &Program {
                    nft: PerFamily { v4: NftTable::Present(reached.clone()), ..PerFamily::default() },
                    ..Program::default()
                }, &PerFamily::default());
                let left = left.tables.v4.unwrap();
                // What several Services can share may be left, empty.
                for (name, change) in &left.chains {
                    prop_assert!(*change == ChainChange::Delete && !nftables::is_hashed(name), "{name} {change:?}");
                }
                for (name, change) in &left.sets {
                    prop_assert!(*change == SetChange::Delete && reached.sets[name].elements.is_empty(), "{name}");
                }
                prop_assert!(left.elements.is_empty(), "{:?}", left.elements);
                prop_assert_eq!(&followed.ports.v4.values().cloned().collect::<Vec<_>>(),
                    &wanted.views.v4.as_ref().unwrap().ports);
                prop_assert_eq!(nftables::lift(&reached), nftables::lift(table(&wanted.program)));
            }
        }
    }
}
