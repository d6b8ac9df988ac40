//! What an apply makes of a Service that the cluster has.

use expect_test::{Expect, expect};

use super::*;

fn overlaid(manifest: &str) -> (Loaded, String) {
    let (manifests, snapshot) = ([source("a.yaml", manifest)], [source("snapshot.json", SNAPSHOT)]);
    let loaded = load_over(&manifests, &snapshot, &LoadOptions::default());
    let all = [manifests, snapshot].concat();
    let said = said(&all, &loaded);
    (loaded, said)
}

fn overlays(manifest: &str, expect: Expect) {
    let (loaded, said) = overlaid(manifest);
    let service = &loaded.cluster.services.get(&ServiceName::new("shop", "web"));
    let rest = service.map(|service| {
        format!(
            "external {:?} lb {:?} affinity {:?} etp {:?} health {:?}",
            service.external_ips,
            service.load_balancer_ips,
            service.affinity_seconds,
            service.external_traffic_policy,
            service.health_check_node_port
        )
    });
    expect.assert_eq(&format!("{said}{}{}\n", shown(&loaded), rest.unwrap_or_default()));
}

#[test]
fn inherits_from_the_snapshot() {
    overlays(
        &service(
            "type: LoadBalancer\nexternalTrafficPolicy: Local\nports:\n- {name: http, port: 80}\n- {name: dns, port: 5353, protocol: UDP}\n- {name: new, port: 9}",
        ),
        expect![[r#"
            note[no-node-port] 10:23 <9> Service shop/web: port `9` has no node port yet
              hint: the API server chooses one: give nodePort, or --service-cidr for placeholders
            shop/other ClusterIp 10.96.0.8 :1/tcp
            shop/web LoadBalancer 10.96.0.7,fd00::7 http:80/tcp->30080 dns:5353/udp->30053 new:9/tcp
            external [] lb [203.0.113.1] affinity None etp Local health Some(31999)
        "#]],
    );
}

#[test]
fn follows_a_change_of_type() {
    overlays(
        &service("type: ClusterIP\nports:\n- {name: http, port: 80}\n"),
        expect![[r#"
        shop/other ClusterIp 10.96.0.8 :1/tcp
        shop/web ClusterIp 10.96.0.7,fd00::7 http:80/tcp
        external [] lb [] affinity None etp Cluster health None
    "#]],
    );
    overlays(
        &service("type: NodePort\nports:\n- {name: http, port: 80, nodePort: 30053}\n"),
        expect![[r#"
        shop/other ClusterIp 10.96.0.8 :1/tcp
        shop/web NodePort 10.96.0.7,fd00::7 http:80/tcp->30053
        external [] lb [] affinity None etp Local health None
    "#]],
    );
    overlays(
        &service("type: ExternalName\nexternalName: example.org\n"),
        expect![[r#"
        shop/other ClusterIp 10.96.0.8 :1/tcp

    "#]],
    );
    overlays(
        &service("type: LoadBalancer\nipFamilyPolicy: SingleStack\nports:\n- {name: http, port: 80}\n"),
        expect![[r#"
            shop/other ClusterIp 10.96.0.8 :1/tcp
            shop/web LoadBalancer 10.96.0.7 http:80/tcp->30080
            external [] lb [203.0.113.1] affinity None etp Local health Some(31999)
        "#]],
    );
}

#[test]
fn keeps_the_snapshot_where_an_apply_would_fail() {
    overlays(
        &service(
            "clusterIP: 10.96.0.9\ntype: LoadBalancer\nhealthCheckNodePort: 5\nports:\n- {name: http, port: 80}\n",
        ),
        expect![[r#"
            error[immutable-field] 5:14 <10.96.0.9> Service shop/web: clusterIP cannot change from `10.96.0.7` to `10.96.0.9`
              hint: the API server refuses this: take the field out, or delete the Service first
            error[immutable-field] 7:24 <5> Service shop/web: healthCheckNodePort cannot change from `31999` to `5`
              hint: the API server refuses this: take the field out, or delete the Service first
            shop/other ClusterIp 10.96.0.8 :1/tcp
            shop/web LoadBalancer 10.96.0.7,fd00::7 http:80/tcp->30080 dns:53/udp->30053
            external [192.0.2.1] lb [203.0.113.1] affinity Some(10800) etp Local health Some(31999)
        "#]],
    );
    overlays(
        &service("ports:\n- {name: http, port: 0}\n"),
        expect![[r#"
        error[bad-port] 6:24 <0> Service shop/web: port `0` is not between 1 and 65535
        shop/other ClusterIp 10.96.0.8 :1/tcp
        shop/web LoadBalancer 10.96.0.7,fd00::7 http:80/tcp->30080 dns:53/udp->30053
        external [192.0.2.1] lb [203.0.113.1] affinity Some(10800) etp Local health Some(31999)
    "#]],
    );
    overlays(
        &service("ports: 5\n"),
        expect![[r#"
            error[wrong-type] 5:10 <5> Service shop/web: spec.ports must be a list of mappings, not the number `5`
            shop/other ClusterIp 10.96.0.8 :1/tcp
            shop/web LoadBalancer 10.96.0.7,fd00::7 http:80/tcp->30080 dns:53/udp->30053
            external [192.0.2.1] lb [203.0.113.1] affinity Some(10800) etp Local health Some(31999)
        "#]],
    );
}
