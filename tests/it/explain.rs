//! `explain`: the reasons are those of the choice, all of them occur, and what it prints.

use std::collections::BTreeSet;

use expect_test::expect;
use svcproxy::model::Mode;
use svcproxy::net::IpFamily;
use svcproxy::packet::{Fate, NodeFacts};
use svcproxy::resolve::{self, NodeContext, Reason, StrayReason};

use crate::cases;
use crate::cli::{machine, run_with};

#[test]
fn reasons_are_those_of_the_choice() {
    let (mut reasons, mut strays) = (BTreeSet::new(), BTreeSet::new());
    for folder in cases::folders() {
        let given = cases::given(&folder, Mode::Iptables);
        let facts = NodeFacts { local_addresses: given.node.addresses.iter().copied().collect() };
        let mut nodes: Vec<NodeContext> = vec![given.context.clone()];
        let others = given.cluster.nodes.values();
        nodes.extend(others.map(|node| NodeContext::new(&given.config, node, &node.addresses)));
        for node in &nodes {
            for service in given.cluster.services.values() {
                for family in IpFamily::ALL {
                    let account = resolve::account(&given.cluster, node, &facts, family, service);
                    for port in &account.ports {
                        for judged in &port.endpoints {
                            let chosen =
                                port.view.endpoints.iter().find(|one| one.addr == judged.endpoint.addr);
                            let pools = chosen.map_or((false, false), |one| (one.in_cluster, one.in_local));
                            let said = (judged.cluster.is_in(), judged.local.is_in());
                            assert_eq!(said, pools, "{}: {} {judged:?}", folder.display(), node.name);
                            reasons.extend([judged.cluster, judged.local]);
                        }
                    }
                    strays.extend(account.strays.iter().map(|one| one.reason));
                }
            }
        }
    }
    for reason in [
        Reason::Ready,
        Reason::ReadyForNode,
        Reason::ReadyForZone,
        Reason::Fallback,
        Reason::PoolUnused,
        Reason::OtherNode,
        Reason::HintsOtherNode,
        Reason::HintsOtherZone,
        Reason::NotReady,
        Reason::Terminating,
        Reason::NotServing,
    ] {
        assert!(reasons.contains(&reason), "no case has {reason:?}");
    }
    assert!(strays.contains(&StrayReason::NoSuchPort));
}

#[test]
fn every_vip_has_an_answer_for_every_client_that_is_told_apart() {
    let mut n_answers = 0;
    for folder in cases::folders() {
        for mode in [Mode::Iptables, Mode::Nftables] {
            let given = cases::given(&folder, mode);
            let facts = NodeFacts { local_addresses: given.node.addresses.iter().copied().collect() };
            for (service, family) in
                given.cluster.services.values().flat_map(|one| IpFamily::ALL.map(|family| (one, family)))
            {
                let account = resolve::account(&given.cluster, &given.context, &facts, family, service);
                for one in account.ports.iter().flat_map(|port| &port.treatments) {
                    n_answers += 1;
                    assert!(!matches!(one.fate, Fate::Unknown(_)), "{}: {one:?}", folder.display());
                }
            }
        }
    }
    assert!(n_answers > 300, "{n_answers}");
}

/// Runs `explain` on the quickstart; what it prints.
fn printed(args: &[&str]) -> String {
    let ran = run_with(&mut machine(), &[&["explain", "endpoints", "-f", "shop"], args].concat());
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    ran.out
}

#[test]
fn one_node_is_explained() {
    let cidr = ["--cluster-cidr", "10.128.0.0/16"];
    expect![[r#"
        shop/api:grpc tcp in IPv4
        ENDPOINT          NODE    CONDITIONS  HINTS  USED ON node-2
        10.128.0.31:9090  node-1  ready       -      yes, ready
        10.128.1.31:9090  node-2  ready       -      yes, ready
        10.128.2.31:9090  node-3  ready       -      yes, ready

        VIP                          CLIENT   NODE-2
        cluster IP 10.96.40.3:9090   pod      3 endpoints, source kept
        cluster IP 10.96.40.3:9090   node     3 endpoints, source rewritten
        cluster IP 10.96.40.3:9090   outside  3 endpoints, source rewritten
        external IP 192.0.2.40:9090  pod      3 endpoints, source rewritten
        external IP 192.0.2.40:9090  node     3 endpoints, source rewritten
        external IP 192.0.2.40:9090  outside  3 endpoints, source rewritten
        node port 30909              pod      3 endpoints, source rewritten
        node port 30909              node     3 endpoints, source rewritten
        node port 30909              outside  3 endpoints, source rewritten

    "#]]
    .assert_eq(&printed(&[&["shop/api", "--node", "node-2"], &cidr[..]].concat()));
}

#[test]
fn all_nodes_are_explained() {
    expect![[r#"
        shop/web:http tcp in IPv4
        ENDPOINT          NODE    CONDITIONS                       HINTS  USED ON node-1                                                              USED ON node-2                                                              USED ON node-3
        10.128.0.20:8080  node-1  ready                            -      yes, ready                                                                  Cluster: yes, ready; Local: no, on another node                             Cluster: yes, ready; Local: no, on another node
        10.128.1.20:8080  node-2  ready                            -      Cluster: yes, ready; Local: no, on another node                             yes, ready                                                                  Cluster: yes, ready; Local: no, on another node
        10.128.2.20:8080  node-3  not ready, terminating, serving  -      Cluster: no, terminating, and others are ready; Local: no, on another node  Cluster: no, terminating, and others are ready; Local: no, on another node  Cluster: no, terminating, and others are ready; Local: yes, terminating but serving, and none is ready

        VIP                            CLIENT                NODE-1                         NODE-2                         NODE-3
        cluster IP 10.96.12.7:80       node                  2 endpoints, source kept       2 endpoints, source kept       2 endpoints, source kept
        cluster IP 10.96.12.7:80       outside               2 endpoints, source kept       2 endpoints, source kept       2 endpoints, source kept
        load balancer 203.0.113.10:80  node                  2 endpoints, source rewritten  2 endpoints, source rewritten  2 endpoints, source rewritten
        load balancer 203.0.113.10:80  outside               1 endpoint, source kept        1 endpoint, source kept        1 endpoint, source kept
        load balancer 203.0.113.10:80  outside, in no range  dropped                        dropped                        dropped
        node port 30080                node                  2 endpoints, source rewritten  2 endpoints, source rewritten  2 endpoints, source rewritten
        node port 30080                outside               1 endpoint, source kept        1 endpoint, source kept        1 endpoint, source kept
        pods cannot be told from others (no --cluster-cidr): they count as outside

        shop/web:https tcp in IPv4
        ENDPOINT          NODE    CONDITIONS                       HINTS  USED ON node-1                                                              USED ON node-2                                                              USED ON node-3
        10.128.0.20:8443  node-1  ready                            -      yes, ready                                                                  Cluster: yes, ready; Local: no, on another node                             Cluster: yes, ready; Local: no, on another node
        10.128.1.20:8443  node-2  ready                            -      Cluster: yes, ready; Local: no, on another node                             yes, ready                                                                  Cluster: yes, ready; Local: no, on another node
        10.128.2.20:8443  node-3  not ready, terminating, serving  -      Cluster: no, terminating, and others are ready; Local: no, on another node  Cluster: no, terminating, and others are ready; Local: no, on another node  Cluster: no, terminating, and others are ready; Local: yes, terminating but serving, and none is ready

        VIP                             CLIENT                NODE-1                         NODE-2                         NODE-3
        cluster IP 10.96.12.7:443       node                  2 endpoints, source kept       2 endpoints, source kept       2 endpoints, source kept
        cluster IP 10.96.12.7:443       outside               2 endpoints, source kept       2 endpoints, source kept       2 endpoints, source kept
        load balancer 203.0.113.10:443  node                  2 endpoints, source rewritten  2 endpoints, source rewritten  2 endpoints, source rewritten
        load balancer 203.0.113.10:443  outside               1 endpoint, source kept        1 endpoint, source kept        1 endpoint, source kept
        load balancer 203.0.113.10:443  outside, in no range  dropped                        dropped                        dropped
        node port 30443                 node                  2 endpoints, source rewritten  2 endpoints, source rewritten  2 endpoints, source rewritten
        node port 30443                 outside               1 endpoint, source kept        1 endpoint, source kept        1 endpoint, source kept
        pods cannot be told from others (no --cluster-cidr): they count as outside

    "#]].assert_eq(&printed(&["web", "-n", "shop", "--all-nodes"]));
}

#[test]
fn json_says_the_same() {
    expect![[r#"
        {
          "service": "shop/search",
          "nodes": [
            {
              "node": "node-1",
              "family": "IPv4",
              "ports": [
                {
                  "name": "shop/search:http",
                  "protocol": "TCP",
                  "endpoints": [],
                  "vips": [
                    {
                      "vip": "cluster IP 10.96.90.9:80",
                      "client": "node",
                      "fate": "reject"
                    },
                    {
                      "vip": "cluster IP 10.96.90.9:80",
                      "client": "outside",
                      "fate": "reject"
                    }
                  ]
                }
              ],
              "strays": []
            }
          ]
        }
    "#]]
    .assert_eq(&printed(&["shop/search", "--node", "node-1", "-o", "json"]));
}

#[test]
fn endpoints_that_serve_no_port_are_told() {
    let mut host = machine();
    let text = String::from_utf8(host.files["shop/shop.yaml"].clone()).unwrap();
    let text = text
        .replace("- {name: grpc, port: 9090, protocol: TCP}", "- {name: other, port: 9090, protocol: TCP}");
    host.files.insert("shop/shop.yaml".to_owned(), text.into());
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
        metadata: {name: six, namespace: shop, labels: {kubernetes.io/service-name: api}}\naddressType: IPv6\n\
        ports: [{name: grpc, port: 9090}]\nendpoints: [{addresses: ['fd00:128::31']}]\n";
    host.files.insert("shop/six.yaml".to_owned(), slice.into());
    let ran = run_with(&mut host, &["explain", "endpoints", "shop/api", "-f", "shop", "--node", "node-1"]);
    assert_eq!(ran.status, 0, "{}", ran.err);
    let told: Vec<&str> = ran.out.lines().filter(|line| line.starts_with("not used")).collect();
    expect![[r#"
        not used: port other tcp of its EndpointSlices, 10.128.0.31:9090 10.128.1.31:9090 10.128.2.31:9090: the Service has no port of this name and protocol
        not used: port grpc tcp of its EndpointSlices, [fd00:128::31]:9090: the Service has no cluster IP of this family"#]].assert_eq(&told.join("\n"));
}

#[test]
fn a_service_without_rules_is_told() {
    let ran =
        run_with(&mut machine(), &["explain", "endpoints", "shop/nix", "-f", "shop", "--node", "node-1"]);
    assert_eq!((ran.status, ran.out.as_str()), (2, ""));
    expect![[r#"
        error: no Service `shop/nix` that gets rules
          headless and ExternalName Services have none
        hint: the input has shop/api, shop/cart, shop/search, shop/web
    "#]]
    .assert_eq(&ran.err);
}
