//! A change of a few Services without a look at the others: what they and those that share something with them were, beside
//! what they are to be. What it costs does not grow with the cluster.
//!
//! In nftables mode every Service has objects and elements of its own, and what the table has is remembered. In iptables mode it
//! has chains of its own; a change that touches chains of all, as that of a VIP does, is compared with everything. In IPVS mode
//! that is so of all but real servers and entries of sets, in userspace mode of all but where listeners lead. Of the kernel
//! nothing is asked but what the virtual servers of these Services have to do, since one that leaves keeps its connections:
//! whether somebody else has changed something shows when all is compared again, or when the kernel refuses a change.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::{iptables, nftables};
use crate::host::{Host, XtablesTools};
use crate::model::{Cluster, Mode, ServiceName, ServicePortName};
use crate::net::{IpFamily, PerFamily};
use crate::pipeline::{Compiler, Wanted};
use crate::program::ipset::{SetKind, SetName};
use crate::program::ipvs::ServiceKey;
use crate::program::listener::ListenerKey;
use crate::program::xtables::{Chain, ChainName, Ruleset, TableName};
use crate::program::{NftTable, Program, nft};
use crate::resolve::{Claims, NodeView, PortView};

use super::super::comparison::Comparison;
use super::super::live::Live;
use super::super::virtual_servers;

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
    /// How many endpoints all have together.
    n_endpoints: PerFamily<usize>,
    rules: Rules,
}

/// What is remembered of the rules.
enum Rules {
    /// The tables of nftables mode.
    Nft(Box<PerFamily<Option<nft::Table>>>),
    /// With which tools those of iptables mode were made.
    Xtables(Option<XtablesTools>),
    /// The same of IPVS mode.
    Ipvs(Option<XtablesTools>),
    /// The same of userspace mode.
    Userspace(Option<XtablesTools>),
}

impl Followed {
    /// The node after all steps of a comparison of everything. `None` for one that was made without a compiler.
    pub(super) fn after(compared: Comparison, mode: Mode) -> Option<Followed> {
        let mut compiler = compared.compiler?;
        let Wanted { views, program, .. } = compared.wanted;
        let table = |table| if let NftTable::Present(table) = table { Some(table) } else { None };
        let rules = match mode {
            Mode::Nftables => {
                let PerFamily { v4, v6 } = program.nft;
                Rules::Nft(Box::new(PerFamily { v4: table(v4), v6: table(v6) }))
            }
            Mode::Iptables => Rules::Xtables(compared.live.tools),
            Mode::Ipvs => Rules::Ipvs(compared.live.tools),
            Mode::Userspace => {
                compiler.keep_proxy_ports(&program);
                Rules::Userspace(compared.live.tools)
            }
        };
        let mut followed = Followed {
            compiler,
            ports: PerFamily::default(),
            claims: PerFamily::default(),
            n_endpoints: PerFamily::default(),
            rules,
        };
        let PerFamily { v4, v6 } = views;
        for (family, view) in [(IpFamily::V4, v4), (IpFamily::V6, v6)] {
            followed.insert(family, view);
        }
        Some(followed)
    }

    /// Adds the ports of a view, which knows how many endpoints all have with these.
    fn insert(&mut self, family: IpFamily, view: Option<NodeView>) {
        let Some(NodeView { ports, n_endpoints, .. }) = view else { return };
        *self.n_endpoints.get_mut(family) = n_endpoints;
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
    /// these. `None` if a comparison of everything is cheaper, or needed.
    pub(super) fn compare(
        &self,
        cluster: &Cluster,
        changed: &BTreeSet<&ServiceName>,
        host: &mut dyn Host,
    ) -> Option<Part> {
        let (names, views) = self.sharing(cluster, changed)?;
        let old_views = PerFamily::from_fn(|family| {
            let view = views.get(family).as_ref()?;
            let ports = names.iter().flat_map(|name| self.ports_of(family, name)).cloned().collect();
            Some(NodeView { ports, n_endpoints: *self.n_endpoints.get(family), ..view.clone() })
        });
        let before = self.compiler.lowered(old_views);
        let mut wanted = self.compiler.lowered(views);
        let live = match &self.rules {
            Rules::Nft(tables) => live_tables(tables, &before.program, &mut wanted.program),
            Rules::Xtables(tools) => live_chains(&before, &wanted, tools.as_ref())?,
            Rules::Ipvs(tools) => live_servers(&before.program, &wanted.program, tools.as_ref(), host)?,
            Rules::Userspace(tools) => live_listeners(&before.program, &wanted.program, tools.as_ref())?,
        };
        Some(Part { names, before, compared: Comparison::of(wanted, live) })
    }

    /// The Services that have changed and all that share something with them, with what is decided for them. `None` if they
    /// are too many.
    fn sharing(
        &self,
        cluster: &Cluster,
        changed: &BTreeSet<&ServiceName>,
    ) -> Option<(BTreeSet<ServiceName>, PerFamily<Option<NodeView>>)> {
        let mut names: BTreeSet<ServiceName> = BTreeSet::new();
        let mut next: BTreeSet<ServiceName> = changed.iter().map(|name| (*name).clone()).collect();
        let mut views = PerFamily::default();
        while !next.is_empty() {
            names.append(&mut next);
            if names.len() * MAX_SHARE > cluster.services.len() + MAX_SHARE {
                return None;
            }
            views = self.compiler.views(&cluster.part(&names));
            for family in IpFamily::ALL {
                let claims = self.claims.get(family);
                let before = names.iter().flat_map(|name| self.ports_of(family, name));
                let after = views.get(family).iter().flat_map(|view: &NodeView| &view.ports);
                let others = before.chain(after).flat_map(|port| claims.others(port));
                next.extend(others.filter(|name| !names.contains(*name)).cloned());
            }
        }
        for family in IpFamily::ALL {
            if let Some(view) = views.get_mut(family) {
                let before = names.iter().flat_map(|name| self.ports_of(family, name));
                let n_before: usize = before.map(|port| port.n_endpoints).sum();
                view.n_endpoints = (self.n_endpoints.get(family) + view.n_endpoints).saturating_sub(n_before);
            }
        }
        Some((names, views))
    }

    /// The node after all steps of a comparison of some Services.
    pub(super) fn take(&mut self, part: Part) {
        let Part { names, compared, .. } = part;
        if let Rules::Nft(tables) = &mut self.rules {
            for family in IpFamily::ALL {
                let (Some(table), Some(difference), Some(wanted)) = (
                    tables.get_mut(family),
                    compared.plan.tables.get(family),
                    compared.wanted.program.nft.get(family).table(),
                ) else {
                    continue;
                };
                nft::diff::apply_to(table, difference, wanted);
            }
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
            self.insert(family, view);
        }
    }
}

/// What tables have of these Services. What others need of what is wanted stays.
fn live_tables(tables: &PerFamily<Option<nft::Table>>, before: &Program, wanted: &mut Program) -> Live {
    let mut live = Program::default();
    for family in IpFamily::ALL {
        let (Some(table), NftTable::Present(before), NftTable::Present(wanted)) =
            (tables.get(family), before.nft.get(family), wanted.nft.get_mut(family))
        else {
            continue;
        };
        let part = table.part(&[before, &*wanted]);
        // Others need what is shared, even if these do not any more.
        wanted.keep(&part, |name| !nftables::is_hashed(name));
        *live.nft.get_mut(family) = NftTable::Present(part);
    }
    Live::of_program(live)
}

/// What iptables has of these Services. `None` if more differs than chains that are theirs alone.
fn live_chains(before: &Wanted, wanted: &Wanted, tools: Option<&XtablesTools>) -> Option<Live> {
    for family in IpFamily::ALL {
        let is_large =
            |side: &Wanted| side.views.get(family).as_ref().map(|view| iptables::is_large(view.n_endpoints));
        let (old, new) = (before.program.xtables.get(family), wanted.program.xtables.get(family));
        if is_large(before) != is_large(wanted) || shared(old.as_ref()) != shared(new.as_ref()) {
            return None;
        }
    }
    Some(Live { tools: tools.cloned(), ..Live::of_program(before.program.clone()) })
}

/// What IPVS has of these Services: their sets as they were made, their virtual servers as they are now. `None` if more differs
/// than how these are set and what they lead to, and which entries sets have; or if the kernel has others.
fn live_servers(
    before: &Program,
    wanted: &Program,
    tools: Option<&XtablesTools>,
    host: &mut dyn Host,
) -> Option<Live> {
    fn keys(program: &Program, family: IpFamily) -> impl Iterator<Item = &ServiceKey> {
        program.ipvs.get(family).iter().flat_map(|servers| servers.keys())
    }
    fn kinds(program: &Program) -> impl Iterator<Item = (&SetName, &SetKind)> {
        program.ipset.iter().flatten().map(|(name, set)| (name, &set.kind))
    }
    let same_servers = IpFamily::ALL.into_iter().all(|family| keys(before, family).eq(keys(wanted, family)));
    if !same_servers
        || before.xtables != wanted.xtables
        || before.dummies != wanted.dummies
        || !kinds(before).eq(kinds(wanted))
    {
        return None;
    }
    let families: BTreeSet<IpFamily> =
        IpFamily::ALL.into_iter().filter(|family| wanted.ipvs.get(*family).is_some()).collect();
    let asked: Vec<ServiceKey> = families.iter().flat_map(|family| keys(wanted, *family)).copied().collect();
    let are = host.ipvs_read_some(&asked).ok().filter(|are| are.len() == asked.len())?;
    let live = Program { ipvs: virtual_servers::split(are, &families), ..before.clone() };
    Some(Live { tools: tools.cloned(), ..Live::of_program(live) })
}

/// What userspace mode has of these Services. `None` if more differs than where their listeners lead.
fn live_listeners(before: &Program, wanted: &Program, tools: Option<&XtablesTools>) -> Option<Live> {
    fn keys(program: &Program) -> impl Iterator<Item = &ListenerKey> {
        program.listeners.iter().flat_map(|listeners| listeners.keys())
    }
    let is_same = before.xtables == wanted.xtables && keys(before).eq(keys(wanted));
    is_same.then(|| Live { tools: tools.cloned(), ..Live::of_program(before.clone()) })
}

/// The chains that several Services share, and the built-in ones.
fn shared(rules: Option<&Ruleset>) -> Vec<(TableName, &ChainName, &Chain)> {
    let tables = rules.into_iter().flat_map(|rules| &rules.tables);
    let chains = tables.flat_map(|(name, table)| table.chains.iter().map(|(chain, its)| (*name, chain, its)));
    chains.filter(|(_, chain, _)| !iptables::is_hashed(chain)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::backend::{Layout, ipvs, userspace};
    use crate::host::{FakeHost, XtablesVariant, execute};
    use crate::model::{
        Conditions, Config, Endpoint, Placeholders, Service, ServicePort, ServiceType, TrafficPolicy,
    };
    use crate::net::{AddrPort, Protocol};
    use crate::pipeline::Lowering;
    use crate::plan;
    use crate::program::ipvs::{Connections, RealServer};
    use crate::program::nft::diff::{ChainChange, SetChange, TableDiff};
    use crate::program::xtables;
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

    /// Nothing but other endpoints.
    fn moves(event: &Event, cluster: &mut Cluster) -> ServiceName {
        let name = ServiceName::new("shop", &format!("s{}", event.service));
        for (port, group) in &mut cluster.endpoints.v4 {
            if port.service == name {
                group.iter_mut().zip(&event.endpoints).for_each(|(endpoint, host)| {
                    endpoint.addr.addr = Ipv4Addr::new(10, 129, 0, *host).into();
                });
                group.truncate(event.endpoints.len().max(1));
            }
        }
        name
    }

    /// A Service with so many endpoints that all together are one more than those of a cluster with all comments.
    fn crowd(cluster: &mut Cluster) {
        let n_others: usize = cluster.endpoints.v4.values().map(Vec::len).sum();
        let n = u16::try_from(1001 - n_others).unwrap();
        let name = ServiceName::new("shop", "crowd");
        let Some(mut service) = cluster.services.values().next().cloned() else { return };
        service.name = name.clone();
        service.cluster_ips.v4 = Some(Ipv4Addr::new(10, 97, 0, 1).into());
        service.external_ips.clear();
        service.load_balancer_ips.clear();
        service.ports[0].node_port = None;
        let group = (0..n).map(|host| {
            let [high, low] = host.to_be_bytes();
            Endpoint {
                addr: AddrPort::new(Ipv4Addr::new(10, 130, high, low).into(), 8080),
                node: Some("node-1".into()),
                conditions: Conditions { ready: true, serving: true, terminating: false },
                hints: None,
            }
        });
        cluster.endpoints.v4.insert(service.port_name(&service.ports[0]), group.collect());
        cluster.services.insert(name, service);
    }

    fn compiler(mode: Mode, layout: Layout) -> Compiler {
        let config = Config { mode, ..Config::default() };
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
            lowering: match mode {
                Mode::Nftables => Lowering::Nftables(nftables::LowerOptions {
                    masquerade_mark: 0x4000,
                    masquerade_all: false,
                    object_comments: true,
                    layout,
                    service_cidrs: Vec::new(),
                }),
                Mode::Iptables => Lowering::Iptables(PerFamily::from_fn(|_| iptables::LowerOptions {
                    masquerade_mark: 0x4000,
                    random_fully: true,
                    nfacct: false,
                    tcp_be_liberal: false,
                    layout,
                })),
                Mode::Ipvs => Lowering::Ipvs(Box::new(ipvs::LowerOptions::of(&config).unwrap())),
                Mode::Userspace => Lowering::Userspace(PerFamily::from_fn(|_| userspace::LowerOptions {
                    listen: None,
                    host: None,
                    // So few that hashes meet: what a Service had it must keep.
                    ports: 20000..=20063,
                    taken: BTreeSet::new(),
                    previous: Arc::default(),
                })),
            },
        }
    }

    fn table(program: &Program) -> &nft::Table {
        program.nft.v4.table().unwrap()
    }

    impl Followed {
        fn table(&self) -> &nft::Table {
            let Rules::Nft(tables) = &self.rules else { unreachable!() };
            tables.v4.as_ref().unwrap()
        }
    }

    fn rules(program: &Program) -> &Ruleset {
        program.xtables.v4.as_ref().unwrap()
    }

    /// A comparison of everything with nothing.
    fn whole(compiler: &Compiler, cluster: &Cluster) -> Comparison {
        let all = Comparison::of(compiler.wanted(cluster), Live::of_program(Program::default()));
        Comparison { compiler: Some(compiler.clone()), ..all }
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
            let compiler = compiler(Mode::Nftables, layout);
            let mut followed = Followed::after(whole(&compiler, &cluster), Mode::Nftables).unwrap();
            for events in &later {
                let changed: BTreeSet<ServiceName> =
                    events.iter().map(|event| happens(event, &mut cluster)).collect();
                let Some(part) = followed.compare(&cluster, &changed.iter().collect(), &mut FakeHost::new()) else {
                    followed = Followed::after(whole(&compiler, &cluster), Mode::Nftables).unwrap();
                    continue;
                };
                let difference = part.compared.plan.tables.v4.clone().unwrap();
                fits(&difference, followed.table());
                followed.take(part);
                let reached = followed.table().clone();
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

        #[test]
        fn chains_of_a_part_lead_where_those_of_the_whole_lead(
            first in prop::collection::vec(event(), 40),
            later in prop::collection::vec((event(), prop::bool::weighted(0.9)), 1..16),
            layout in prop::sample::select(vec![Layout::KubeProxy, Layout::Fast]),
            is_crowded in any::<bool>(),
        ) {
            let mut cluster = Cluster::default();
            first.iter().for_each(|event| drop(happens(event, &mut cluster)));
            if is_crowded {
                crowd(&mut cluster);
            }
            let compiler = compiler(Mode::Iptables, layout);
            let all = whole(&compiler, &cluster);
            let mut reached = rules(&all.wanted.program).clone();
            let mut followed = Followed::after(all, Mode::Iptables).unwrap();
            for (event, is_move) in &later {
                let name = if *is_move { moves(event, &mut cluster) } else { happens(event, &mut cluster) };
                match followed.compare(&cluster, &[&name].into(), &mut FakeHost::new()) {
                    Some(part) => {
                        let difference = part.compared.plan.rules.v4.clone().unwrap();
                        let wanted = rules(&part.compared.wanted.program);
                        reached = xtables::diff::apply(&reached, &difference, wanted);
                        followed.take(part);
                    }
                    None => {
                        let all = whole(&compiler, &cluster);
                        reached = rules(&all.wanted.program).clone();
                        followed = Followed::after(all, Mode::Iptables).unwrap();
                    }
                }
                let wanted = compiler.wanted(&cluster);
                let scope = crate::backend::chain_scope(&reached);
                let left = xtables::diff::diff(rules(&wanted.program), &reached, &scope);
                prop_assert!(left.tables.is_empty(), "{:?}", left.tables);
            }
        }

        #[test]
        fn virtual_servers_of_a_part_lead_where_those_of_the_whole_lead(
            first in prop::collection::vec(event(), 40),
            later in prop::collection::vec((event(), prop::bool::weighted(0.9)), 1..16),
        ) {
            let mut cluster = Cluster::default();
            first.iter().for_each(|event| drop(happens(event, &mut cluster)));
            let compiler = compiler(Mode::Ipvs, Layout::KubeProxy);
            let mut host = FakeHost::new();
            let begin = |host: &mut FakeHost, cluster: &Cluster| {
                let all = whole(&compiler, cluster);
                host.virtual_servers = all.wanted.program.ipvs.v4.clone().unwrap();
                host.sets = all.wanted.program.ipset.clone().unwrap();
                Followed::after(all, Mode::Ipvs).unwrap()
            };
            let mut followed = begin(&mut host, &cluster);
            for (event, is_move) in &later {
                let name = if *is_move { moves(event, &mut cluster) } else { happens(event, &mut cluster) };
                match followed.compare(&cluster, &[&name].into(), &mut host) {
                    Some(part) => {
                        for step in &part.compared.plan.steps {
                            execute::execute(&mut host, XtablesVariant::Legacy, step).unwrap();
                        }
                        followed.take(part);
                    }
                    None => followed = begin(&mut host, &cluster),
                }
                let wanted = compiler.wanted(&cluster);
                prop_assert_eq!(&host.virtual_servers, wanted.program.ipvs.v4.as_ref().unwrap());
                prop_assert_eq!(&host.sets, wanted.program.ipset.as_ref().unwrap());
            }
        }

        #[test]
        fn listeners_of_a_part_lead_where_those_of_the_whole_lead(
            first in prop::collection::vec(event(), 40),
            later in prop::collection::vec((event(), prop::bool::weighted(0.9)), 1..16),
        ) {
            let mut cluster = Cluster::default();
            first.iter().for_each(|event| drop(happens(event, &mut cluster)));
            let mut compiler = compiler(Mode::Userspace, Layout::KubeProxy);
            let mut host = FakeHost::new();
            let begin = |host: &mut FakeHost, compiler: &mut Compiler, cluster: &Cluster| {
                let all = whole(compiler, cluster);
                compiler.keep_proxy_ports(&all.wanted.program);
                host.listeners = all.wanted.program.listeners.clone();
                Followed::after(all, Mode::Userspace).unwrap()
            };
            let mut followed = begin(&mut host, &mut compiler, &cluster);
            for (event, is_move) in &later {
                let name = if *is_move { moves(event, &mut cluster) } else { happens(event, &mut cluster) };
                let wanted = compiler.wanted(&cluster).program;
                match followed.compare(&cluster, &[&name].into(), &mut host) {
                    Some(part) => {
                        prop_assert!(part.compared.plan.steps.is_empty());
                        host.forward_retarget(part.compared.wanted.program.listeners.as_ref().unwrap()).unwrap();
                        followed.take(part);
                        prop_assert_eq!(host.listeners.as_ref(), wanted.listeners.as_ref());
                    }
                    None => followed = begin(&mut host, &mut compiler, &cluster),
                }
            }
        }
    }

    /// A Service with these endpoints and nothing else.
    fn at(service: u8, vip: u8, endpoints: &[u8]) -> Event {
        Event {
            service,
            is_gone: false,
            vip,
            external: None,
            node_port: None,
            is_udp: false,
            is_local: false,
            has_affinity: false,
            ranges: false,
            endpoints: endpoints.to_vec(),
        }
    }

    /// Twenty of two endpoints each.
    fn twenty() -> Cluster {
        let mut cluster = Cluster::default();
        (0..20).for_each(|n| drop(happens(&at(n, n, &[n, n + 20]), &mut cluster)));
        cluster
    }

    #[test]
    fn a_part_of_ipvs_mode_is_its_real_servers_and_nothing_else() {
        let mut cluster = twenty();
        let compiler = compiler(Mode::Ipvs, Layout::KubeProxy);
        let all = whole(&compiler, &cluster);
        let mut host = FakeHost::new();
        host.virtual_servers = all.wanted.program.ipvs.v4.clone().unwrap();
        let followed = Followed::after(all, Mode::Ipvs).unwrap();
        // Endpoints with odd numbers are not this node's, and in no set: 3 stays, 23 goes, 51 comes.
        let moved = happens(&at(3, 3, &[3, 51]), &mut cluster);
        let steps = |host: &mut FakeHost, cluster: &Cluster| -> Option<Vec<String>> {
            let part = followed.compare(cluster, &[&moved].into(), host)?;
            Some(part.compared.plan.steps.iter().map(ToString::to_string).collect())
        };
        assert_eq!(steps(&mut host, &cluster), Some(vec!["ipvs: change, 2 requests".to_owned()]));
        // One that still has connections is there after it was asked to go, and when it has none is not.
        let vip = *host.virtual_servers.keys().nth(3).unwrap();
        let server = host.virtual_servers.get_mut(&vip).unwrap();
        let gone: AddrPort = "10.128.0.23:8080".parse().unwrap();
        server.real_servers.insert("10.128.0.51:8080".parse().unwrap(), RealServer::masqueraded(1));
        let draining = Connections { active: 1, ..Connections::default() };
        server.real_servers.insert(gone, RealServer { connections: draining, ..RealServer::masqueraded(0) });
        assert_eq!(steps(&mut host, &cluster), Some(Vec::new()));
        host.virtual_servers.get_mut(&vip).unwrap().real_servers.get_mut(&gone).unwrap().connections.active =
            0;
        assert_eq!(steps(&mut host, &cluster), Some(vec!["ipvs: remove and drain, 1 request".to_owned()]));
        // Another address stands in more places than virtual servers; and one that somebody has deleted is to be made.
        let mut elsewhere = cluster.clone();
        happens(&at(3, 77, &[3, 51]), &mut elsewhere);
        assert_eq!(steps(&mut host, &elsewhere), None);
        host.virtual_servers.remove(&vip);
        assert_eq!(steps(&mut host, &cluster), None);
    }

    #[test]
    fn a_part_of_iptables_mode_is_its_own_chains_and_nothing_else() {
        let mut cluster = twenty();
        let compiler = compiler(Mode::Iptables, Layout::KubeProxy);
        let followed = Followed::after(whole(&compiler, &cluster), Mode::Iptables).unwrap();
        let moved = happens(&at(3, 3, &[50, 51]), &mut cluster);
        let part = followed.compare(&cluster, &[&moved].into(), &mut FakeHost::new()).unwrap();
        let difference = part.compared.plan.rules.v4.clone().unwrap();
        let chains = &difference.tables[&TableName::Nat].chains;
        // One chain of the Service, two endpoints that come, two that go.
        assert_eq!((difference.tables.len(), chains.len()), (1, 5), "{chains:?}");
        // What leads to another VIP, or nowhere, stands in chains of all.
        for event in [at(3, 77, &[50, 51]), at(3, 3, &[])] {
            let mut cluster = cluster.clone();
            let changed = happens(&event, &mut cluster);
            assert!(followed.compare(&cluster, &[&changed].into(), &mut FakeHost::new()).is_none());
        }
    }
    #[test]
    fn a_part_of_userspace_mode_is_where_its_listeners_lead_and_nothing_else() {
        let mut cluster = twenty();
        let compiler = compiler(Mode::Userspace, Layout::KubeProxy);
        let followed = Followed::after(whole(&compiler, &cluster), Mode::Userspace).unwrap();
        let moved = happens(&at(3, 3, &[50, 51]), &mut cluster);
        let part = followed.compare(&cluster, &[&moved].into(), &mut FakeHost::new()).unwrap();
        assert_eq!((part.compared.plan.steps.len(), part.compared.plan.listeners.len()), (0, 1));
        // A listener stays open when all endpoints go; another VIP needs other rules.
        for (event, is_part) in [(at(3, 3, &[]), true), (at(3, 77, &[50, 51]), false)] {
            let mut cluster = cluster.clone();
            let changed = happens(&event, &mut cluster);
            let part = followed.compare(&cluster, &[&changed].into(), &mut FakeHost::new());
            assert_eq!(part.is_some(), is_part);
        }
    }
}
