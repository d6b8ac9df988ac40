//! The store against the loader: whatever the order and the detours, the same objects make the same cluster.

use std::time::Duration;

use super::*;
use crate::model::Cluster;

fn service(name: &str, ip: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"shop"}},"spec":{{"clusterIP":"{ip}","clusterIPs":["{ip}"],
        "ports":[{{"name":"http","protocol":"TCP","port":80}}]}}}}"#
    )
}

fn slice(service: &str, addresses: &[&str]) -> String {
    let endpoints: Vec<String> =
        addresses.iter().map(|addr| format!(r#"{{"addresses":["{addr}"],"nodeName":"node-1"}}"#)).collect();
    format!(
        r#"{{"addressType":"IPv4","metadata":{{"namespace":"shop","labels":{{"kubernetes.io/service-name":"{service}"}}}},
        "ports":[{{"name":"http","port":8080,"protocol":"TCP"}}],"endpoints":[{}]}}"#,
        endpoints.join(",")
    )
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "shop".into(), name: name.into() }
}

/// A store with its cluster.
#[derive(Default)]
struct Kept {
    store: ObjectStore,
    cluster: Cluster,
}

impl Kept {
    fn put(&mut self, kind: Kind, name: &str, json: &str) -> Vec<Diagnostic> {
        let named = json.replacen(
            r#""metadata":{"namespace""#,
            &format!(r#""metadata":{{"name":"{name}","namespace""#),
            1,
        );
        self.store.apply(kind, &key(name), &named, &mut self.cluster)
    }

    fn touched(&mut self) -> String {
        let touched = self.store.take_touched();
        let join = |names: &BTreeSet<ServiceName>| {
            names.iter().map(|name| &*name.name).collect::<Vec<_>>().join(",")
        };
        format!("{}/{}/{}", join(&touched.services), join(&touched.endpoints), touched.everything)
    }
}

/// What the loader makes of the same objects.
fn loaded(objects: &[(&str, &str, String)]) -> Cluster {
    let items: Vec<String> = objects
        .iter()
        .map(|(kind, name, json)| {
            let version = if *kind == "Service" { "v1" } else { "discovery.k8s.io/v1" };
            let json = json.replacen(
                r#""metadata":{"namespace""#,
                &format!(r#""metadata":{{"name":"{name}","namespace""#),
                1,
            );
            json.replacen('{', &format!(r#"{{"kind":"{kind}","apiVersion":"{version}","#), 1)
        })
        .collect();
    let sources = [Source { name: "list".to_owned(), text: items.join("\n") }];
    load(&sources, &LoadOptions::default()).cluster
}

#[test]
fn detours_leave_no_trace() {
    let mut kept = Kept::default();
    kept.put(Kind::EndpointSlice, "web-2", &slice("web", &["10.0.0.3"]));
    kept.put(Kind::EndpointSlice, "web-1", &slice("api", &["10.0.0.9"]));
    kept.put(Kind::Service, "web", &service("web", "10.96.0.9"));
    kept.put(Kind::Service, "gone", &service("gone", "10.96.0.7"));
    assert_eq!(kept.touched(), "gone,web/api,web/false");
    // The slice goes from one Service to another.
    kept.put(Kind::EndpointSlice, "web-1", &slice("web", &["10.0.0.2", "10.0.0.1"]));
    kept.put(Kind::Service, "web", &service("web", "10.96.0.1"));
    kept.store.remove(Kind::Service, &key("gone"), &mut kept.cluster);
    assert_eq!(kept.touched(), "gone,web/api,web/false");
    let same = loaded(&[
        ("Service", "web", service("web", "10.96.0.1")),
        ("EndpointSlice", "web-1", slice("web", &["10.0.0.2", "10.0.0.1"])),
        ("EndpointSlice", "web-2", slice("web", &["10.0.0.3"])),
    ]);
    assert_eq!(kept.cluster.services, same.services);
    assert_eq!(kept.cluster.endpoints, same.endpoints);
    assert_eq!(same.endpoints.v4.values().map(Vec::len).sum::<usize>(), 3);
    // Once more the same is no change.
    kept.put(Kind::EndpointSlice, "web-2", &slice("web", &["10.0.0.3"]));
    kept.put(Kind::Service, "web", &service("web", "10.96.0.1"));
    kept.store.remove(Kind::EndpointSlice, &key("never-was"), &mut kept.cluster);
    assert_eq!(kept.touched(), "//false");
}

#[test]
fn a_list_takes_away_what_it_does_not_name_at_its_end() {
    let mut kept = Kept::default();
    for name in ["a", "b", "c"] {
        kept.put(Kind::Service, name, &service(name, "10.96.0.1"));
        kept.put(Kind::EndpointSlice, name, &slice(name, &["10.0.0.1"]));
    }
    kept.touched();
    kept.store.begin_list(Kind::Service);
    kept.store.begin_list(Kind::EndpointSlice);
    kept.put(Kind::Service, "b", &service("b", "10.96.0.1"));
    kept.put(Kind::EndpointSlice, "a", &slice("a", &["10.0.0.1"]));
    assert_eq!((kept.touched().as_str(), kept.cluster.services.len()), ("//false", 3));
    kept.store.end_list(Kind::Service, &mut kept.cluster);
    assert_eq!(kept.touched(), "a,c//false");
    kept.store.end_list(Kind::EndpointSlice, &mut kept.cluster);
    assert_eq!(kept.touched(), "/b,c/false");
    assert_eq!((kept.cluster.services.len(), kept.cluster.endpoints.v4.len()), (1, 1));
}

#[test]
fn a_broken_object_is_left_out_and_named_by_its_field() {
    let mut kept = Kept::default();
    kept.put(Kind::Service, "web", &service("web", "10.96.0.1"));
    kept.touched();
    let said = kept.put(Kind::Service, "web", &service("web", "10.96.0.1").replace("TCP", "tcp"));
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].object.as_deref(), Some("Service shop/web spec.ports[0].protocol"));
    assert!(said[0].place.is_none() && said[0].message.contains("cannot be `tcp`"), "{said:?}");
    assert_eq!(kept.touched(), "web//false");
    assert!(kept.cluster.services.is_empty());
    assert!(kept.put(Kind::Service, "web", &service("web", "10.96.0.1")).is_empty());
    assert_eq!(kept.touched(), "web//false");
}

#[test]
fn what_changed_endpoints_is_dated() {
    let mut kept = Kept::default();
    let dated = |second: u8, addresses: &[&str]| {
        let annotation = format!(
            r#""annotations":{{"endpoints.kubernetes.io/last-change-trigger-time":"1970-01-01T00:00:0{second}Z"}},"labels""#
        );
        slice("web", addresses).replacen(r#""labels""#, &annotation, 1)
    };
    let mut triggers = |json: &str| {
        kept.put(Kind::EndpointSlice, "web-1", json);
        kept.store.take_touched().triggers.iter().map(Duration::as_secs).collect::<Vec<_>>()
    };
    assert_eq!(triggers(&dated(3, &["10.0.0.1"])), [3]);
    assert_eq!(triggers(&dated(4, &["10.0.0.1"])), Vec::<u64>::new(), "the endpoints are the same");
    assert_eq!(triggers(&dated(5, &["10.0.0.2"])), [5]);
    assert_eq!(triggers(&slice("web", &[])), Vec::<u64>::new());
}

#[test]
fn nodes_and_networks_concern_everything() {
    let mut kept = Kept::default();
    let node = |zone: &str| {
        format!(
            r#"{{"metadata":{{"name":"n","labels":{{"topology.kubernetes.io/zone":"{zone}"}}}},
            "status":{{"addresses":[{{"type":"InternalIP","address":"192.0.2.1"}}]}}}}"#
        )
    };
    let whole = ObjectKey { namespace: "".into(), name: "n".into() };
    let Kept { store, cluster } = &mut kept;
    store.apply(Kind::Node, &whole, &node("a"), cluster);
    assert!(store.take_touched().everything);
    store.apply(Kind::Node, &whole, &node("a"), cluster);
    assert!(store.take_touched().is_empty());
    let networks = r#"{"metadata":{"name":"n"},"spec":{"cidrs":["10.96.0.0/12"]}}"#;
    store.apply(Kind::ServiceCidr, &whole, networks, cluster);
    assert_eq!((store.take_touched().everything, cluster.service_cidrs.len()), (true, 1));
    store.begin_list(Kind::Node);
    store.begin_list(Kind::ServiceCidr);
    store.end_list(Kind::Node, cluster);
    store.end_list(Kind::ServiceCidr, cluster);
    assert!(cluster.nodes.is_empty() && cluster.service_cidrs.is_empty());
}
