//! The lowering in detail: the fast layout where neither recordings nor cases look.

use crate::backend::{Layout, LiftedVip};
use crate::model::{Mode, ServiceName};
use crate::net::{AddrPort, IpCidr, IpFamily, Protocol};
use crate::program::nft::diff::{ChainChange, TableDiff, diff};
use crate::program::nft::{Table, check};
use crate::resolve::{
    Frontend, FrontendKind, Habits, LocalTraffic, NodePortScope, NodeView, PoolEndpoint, PoolKind, PortView,
    Route, Routes, Vip,
};

use super::{LowerOptions, adopt, lift, lower};

fn options(layout: Layout) -> LowerOptions {
    LowerOptions {
        masquerade_mark: 0x4000,
        service_cidrs: Vec::new(),
        masquerade_all: false,
        object_comments: true,
        layout,
    }
}

fn at(text: &str) -> AddrPort {
    text.parse().unwrap()
}

/// A Service port with a cluster IP and a node port, and endpoints 10.128.0.0, 10.128.0.1 and so on, but those left out.
fn port(name: &str, vip: &str, n_endpoints: u16, left_out: &[u16]) -> PortView {
    let forward = |masquerade| Route::Forward { pool: PoolKind::Cluster, masquerade };
    let frontend = |kind, vip| Frontend { kind, vip };
    let endpoint = |n: u16| {
        let [high, low] = n.to_be_bytes();
        let addr = AddrPort::new([10, 128, high, low].into(), 8080);
        PoolEndpoint { addr, in_cluster: true, in_local: false, on_this_node: false }
    };
    let is_in = |n: &u16| !left_out.contains(n);
    PortView {
        frontends: vec![
            frontend(FrontendKind::ClusterIp, Vip::Address(at(vip))),
            frontend(FrontendKind::NodePort, Vip::NodePort(30080)),
        ],
        external: Some(Routes { pods: forward(true), node: forward(true), outside: forward(true) }),
        endpoints: (0..n_endpoints).filter(is_in).map(endpoint).collect(),
        ..PortView::bare(
            ServiceName::new("shop", name),
            "http",
            Routes { pods: forward(false), node: forward(true), outside: forward(true) },
        )
    }
}

fn view(ports: Vec<PortView>) -> NodeView {
    NodeView {
        family: IpFamily::V4,
        n_endpoints: ports.iter().map(|port| port.endpoints.len()).sum(),
        ports,
        node_ports: NodePortScope::AllLocal { loopback: false },
        localhost_node_ports: false,
        habits: Habits::of(Mode::Nftables),
        local_traffic: IpCidr::parse_sloppy("10.128.0.0/16").map(LocalTraffic::Source),
    }
}

fn table(ports: Vec<PortView>) -> Table {
    lower(&view(ports), &options(Layout::Fast))
}

/// The change from a live table, which the wanted one adopts what it can from.
fn change(wanted: &mut Table, live: &Table) -> TableDiff {
    adopt(wanted, live);
    assert_eq!(check::check(wanted), []);
    diff(wanted, Some(live))
}

fn n_operations(change: &TableDiff) -> usize {
    change.elements.values().map(|elements| elements.delete.len() + elements.add.len()).sum()
}

#[test]
fn an_endpoint_less_or_more_is_a_handful_of_elements() {
    const VIP: &str = "10.96.0.10:80";
    for n in [3, 1000] {
        let full = table(vec![port("web", VIP, n, &[])]);
        let mut fewer = table(vec![port("web", VIP, n, &[1])]);
        let less = change(&mut fewer, &full);
        // Of each of two lists two elements go and one comes, and two verdicts change.
        assert_eq!(n_operations(&less), 2 * 3 + 2 * 2, "{n}");
        assert_eq!(less.chains.values().filter(|change| **change != ChainChange::Create).count(), 0);
        let mut again = table(vec![port("web", VIP, n, &[])]);
        let more = change(&mut again, &fewer);
        assert_eq!(n_operations(&more), 2 + 2 * 2, "{n}");
        // The chains for this length are still there.
        assert!(more.chains.is_empty() && more.sets.is_empty(), "{more:?}");
        assert_eq!(lift(&again), lift(&full));
        assert!(change(&mut table(vec![port("web", VIP, n, &[])]), &again).is_empty());
    }
}

#[test]
fn services_add_elements_and_no_chains() {
    let ports =
        |n: u8| (0..n).map(|n| port(&format!("web-{n}"), &format!("10.96.0.{n}:80"), 4, &[])).collect();
    let (few, many) = (table(ports(2)), table(ports(200)));
    assert_eq!(few.chains, many.chains);
    assert_eq!(many.sets["service-endpoints-tcp"].elements.len(), 800);
    let slow = lower(&view(ports(200)), &options(Layout::KubeProxy));
    assert!(slow.chains.len() > 400, "{}", slow.chains.len());
    assert_eq!(lift(&many), lift(&slow));
}

#[test]
fn of_two_services_with_one_destination_the_last_has_it_whole() {
    const VIP: &str = "10.96.0.10:80";
    let alone = table(vec![port("b", VIP, 2, &[])]);
    let both = table(vec![port("a", VIP, 7, &[]), port("b", VIP, 2, &[])]);
    for (name, set) in &alone.sets {
        assert_eq!(both.sets[name].elements, set.elements, "{name}");
    }
    let lifted = lift(&both);
    assert_eq!(lifted.len(), 1);
    assert_eq!(lifted[&("shop/b:http".to_owned(), Protocol::Tcp)].endpoints.len(), 2);
}

#[test]
fn affinity_has_chains_of_its_own() {
    let with_affinity = PortView { affinity_seconds: Some(10), ..port("web", "10.96.0.10:80", 2, &[]) };
    let fast = table(vec![with_affinity.clone()]);
    assert_eq!(check::check(&fast), []);
    assert!(!fast.sets.contains_key("service-endpoints-tcp"));
    let slow = lower(&view(vec![with_affinity]), &options(Layout::KubeProxy));
    // Going from one layout to the other, clients stay where they are.
    let change = diff(&fast, Some(&slow));
    assert!(!change.sets.keys().any(|set| set.as_str().starts_with("affinity-")), "{change:?}");
    let lifted = &lift(&fast)[&("shop/web:http".to_owned(), Protocol::Tcp)];
    assert_eq!(lifted.endpoints.len(), 2);
    assert!(lifted.vips.contains(&LiftedVip::NodePort(30080)));
}
