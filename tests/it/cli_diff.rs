//! `diff` names the Service of everything that a manifest can change, in every mode and layout, both ways.

use serde_json::{Value, json};
use svcproxy::host::FakeHost;

use crate::cli::run;

/// A Service with all kinds of addresses, an endpoint here and one elsewhere.
fn cluster(spec: &Value) -> String {
    let node = |name: &str, addr: &str| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
               "status": {"addresses": [{"type": "InternalIP", "address": addr}]}})
    };
    let endpoint = |addr: &str, node: &str| json!({"addresses": [addr], "nodeName": node, "conditions": {"ready": true}});
    let metadata = |name: &str| json!({"namespace": "shop", "name": name});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        node("node-1", "192.168.0.1"),
        node("node-2", "192.168.0.2"),
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata("web"), "spec": spec,
         "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
         "metadata": {"namespace": "shop", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
         "addressType": "IPv4", "ports": [{"port": 8080}],
         "endpoints": [endpoint("10.128.0.1", "node-1"), endpoint("10.128.1.1", "node-2")]},
    ]})
    .to_string()
}

fn spec() -> Value {
    json!({
        "type": "LoadBalancer", "clusterIP": "10.96.0.50", "clusterIPs": ["10.96.0.50"], "ipFamilies": ["IPv4"],
        "externalIPs": ["192.0.2.8"], "ports": [{"port": 80, "nodePort": 30080}],
        "sessionAffinity": "None", "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster",
    })
}

/// Fields of the specification that take the place of those in it, each with a name.
fn changes() -> Vec<(&'static str, Value)> {
    let affinity = |seconds: u32| json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}});
    vec![
        ("affinity", affinity(60)),
        ("a longer affinity", affinity(600)),
        ("a source range", json!({"loadBalancerSourceRanges": ["198.51.100.0/24"]})),
        ("another source range", json!({"loadBalancerSourceRanges": ["203.0.113.0/24"]})),
        ("a policy", json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 30500})),
        ("a policy within", json!({"internalTrafficPolicy": "Local"})),
        ("another external IP", json!({"externalIPs": ["192.0.2.9"]})),
        ("another port", json!({"ports": [{"port": 81, "nodePort": 30080}]})),
        ("another node port", json!({"ports": [{"port": 80, "nodePort": 30081}]})),
        ("another cluster IP", json!({"clusterIP": "10.96.0.51", "clusterIPs": ["10.96.0.51"]})),
    ]
}

#[test]
fn names_the_service_of_every_change() {
    let mut host = FakeHost::new();
    let mut files = vec![("nothing", "base.json".to_owned())];
    host.files.insert("base.json".to_owned(), cluster(&spec()).into());
    for (what, fields) in changes() {
        let mut spec = spec();
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let file = format!("{}.json", what.replace(' ', "-"));
        host.files.insert(file.clone(), cluster(&spec).into());
        files.push((what, file));
    }
    for options in [
        "--mode iptables",
        "--mode iptables --layout fast",
        "--mode nftables",
        "--mode nftables --layout fast",
        "--mode ipvs",
        "--mode userspace",
    ] {
        for (from, base) in &files {
            for (to, file) in files.iter().filter(|(_, file)| file != base) {
                let ran =
                    run(&mut host, &format!("diff -f {file} --base {base} --node node-1 {options}")).ok(1);
                assert!(ran.out.contains(" shop/web "), "{options}, from {from} to {to}: {}", ran.out);
            }
        }
    }
}
