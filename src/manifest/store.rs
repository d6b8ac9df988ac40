//! Objects of an API server, one after the other, to the cluster that they make: each is decoded as a manifest would be, and
//! changes what depends on it alone. What came to nothing (a repeated event, a change of no interest) is not told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::model::{Cluster, EndpointGroups, ServiceName, ServicePortName};
use crate::net::{IpCidr, IpFamily, PerFamily};

use super::decode::{Batch, Kind, Reader, Services};
use super::endpoint_slice::{self, Slice};
use super::finding;
use super::intern::Names;
use super::service::Reading;

/// Namespace (empty where the kind has none) and name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

/// Times of changes that are kept, if nobody takes them.
const MAX_TRIGGERS: usize = 10_000;

/// What has changed in a cluster since somebody asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Services whose own object is another.
    pub services: BTreeSet<ServiceName>,
    /// Services whose endpoints are others.
    pub endpoints: BTreeSet<ServiceName>,
    /// When that happened which changed endpoints, since 1970 began, as far as their slices tell.
    pub triggers: Vec<Duration>,
    /// Whether a Node or a ServiceCIDR is another: every Service may depend on it.
    pub everything: bool,
}

impl Touched {
    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.endpoints.is_empty() && !self.everything
    }

    /// The Services whose rules may be others, unless `everything` may be.
    pub fn names(&self) -> BTreeSet<&ServiceName> {
        self.services.iter().chain(&self.endpoints).collect()
    }

    /// What differs between two clusters.
    pub fn between(before: &Cluster, after: &Cluster) -> Touched {
        let mut touched = Touched {
            everything: before.nodes != after.nodes || before.service_cidrs != after.service_cidrs,
            ..Touched::default()
        };
        touched.services.extend(differing(&before.services, &after.services).cloned());
        for family in IpFamily::ALL {
            let ports = differing(before.endpoints.get(family), after.endpoints.get(family));
            touched.endpoints.extend(ports.map(|port| port.service.clone()));
        }
        touched
    }

    /// Adds what has changed since.
    pub fn append(&mut self, mut later: Touched) {
        // One by one: `append` goes through all that there is, and mostly one is added to many.
        self.services.extend(later.services);
        self.endpoints.extend(later.endpoints);
        self.triggers.append(&mut later.triggers);
        self.triggers.truncate(MAX_TRIGGERS);
        self.everything |= later.everything;
    }
}

/// Keys that only one of two maps has, or both with different values.
fn differing<'a, K: Ord, V: PartialEq>(
    before: &'a BTreeMap<K, V>,
    after: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = &'a K> {
    let gone = before.keys().filter(|key| !after.contains_key(key));
    let others = after.iter().filter(|(key, value)| before.get(key) != Some(value));
    gone.chain(others.map(|(key, _)| key))
}

/// What is kept of an API server's objects beside the cluster that they make.
#[derive(Debug, Default)]
pub struct ObjectStore {
    names: Names,
    /// The slices of each Service by their names.
    slices: BTreeMap<ServiceName, BTreeMap<Arc<str>, Slice>>,
    /// Which Service a slice is for.
    owners: BTreeMap<ObjectKey, ServiceName>,
    service_cidrs: BTreeMap<ObjectKey, Vec<IpCidr>>,
    /// The kinds that are being listed anew, with what has been listed.
    listings: BTreeMap<Kind, BTreeSet<ObjectKey>>,
    touched: Touched,
}

impl ObjectStore {
    /// What has changed since this was asked last.
    pub fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// A list of a kind begins: what is not in it will be gone at its end, and not before.
    pub fn begin_list(&mut self, kind: Kind) {
        self.listings.insert(kind, BTreeSet::new());
    }

    /// The list is complete.
    pub fn end_list(&mut self, kind: Kind, cluster: &mut Cluster) {
        let Some(listed) = self.listings.remove(&kind) else { return };
        let of_name =
            |name: &ServiceName| ObjectKey { namespace: name.namespace.clone(), name: name.name.clone() };
        let known: Vec<ObjectKey> = match kind {
            Kind::Service => cluster.services.keys().map(of_name).collect(),
            Kind::EndpointSlice => self.owners.keys().cloned().collect(),
            Kind::Node => cluster
                .nodes
                .keys()
                .map(|name| ObjectKey { namespace: "".into(), name: name.clone() })
                .collect(),
            Kind::ServiceCidr => self.service_cidrs.keys().cloned().collect(),
            Kind::Endpoints => Vec::new(),
        };
        for key in known.iter().filter(|key| !listed.contains(*key)) {
            self.remove(kind, key, cluster);
        }
    }

    /// An object is there, or is another: `json` is all of it. What is wrong with it is told; an object that is broken is left
    /// out until it changes.
    pub fn apply(
        &mut self,
        kind: Kind,
        key: &ObjectKey,
        json: &str,
        cluster: &mut Cluster,
    ) -> Vec<Diagnostic> {
        if let Some(listed) = self.listings.get_mut(&kind) {
            listed.insert(key.clone());
        }
        let reader = Reader { namespace: "default", services: Services::Read };
        let mut batch = reader.read_object(kind, json, &mut self.names);
        let findings = std::mem::take(&mut batch.findings);
        match kind {
            Kind::Service => self.put_service(key, batch, cluster),
            Kind::EndpointSlice => self.put_slice(key, batch.slices.pop(), cluster),
            Kind::Node => match batch.nodes.pop() {
                Some((node, _)) if cluster.nodes.get(&node.name) != Some(&node) => {
                    cluster.nodes.insert(node.name.clone(), node);
                    self.touched.everything = true;
                }
                Some(_) | None => {}
            },
            Kind::ServiceCidr => {
                self.service_cidrs.insert(key.clone(), batch.service_cidrs);
                self.gather_cidrs(cluster);
            }
            Kind::Endpoints => {}
        }
        finding::without_places(findings)
    }

    /// An object is gone.
    pub fn remove(&mut self, kind: Kind, key: &ObjectKey, cluster: &mut Cluster) {
        match kind {
            Kind::Service => self.put_service(key, Batch::default(), cluster),
            Kind::EndpointSlice => self.put_slice(key, None, cluster),
            Kind::Node => self.touched.everything |= cluster.nodes.remove(&key.name).is_some(),
            Kind::ServiceCidr => {
                self.service_cidrs.remove(key);
                self.gather_cidrs(cluster);
            }
            Kind::Endpoints => {}
        }
    }

    fn put_service(&mut self, key: &ObjectKey, mut batch: Batch, cluster: &mut Cluster) {
        let name = ServiceName { namespace: key.namespace.clone(), name: key.name.clone() };
        let served = batch.services.pop().and_then(|named| match named.reading {
            Reading::Served(draft) => Some(draft.service),
            Reading::Unserved | Reading::Failed => None,
        });
        // One that waits for its address has no rules yet.
        let served = served.filter(|service| service.cluster_ips != PerFamily::default());
        if cluster.services.get(&name) == served.as_ref() {
            return;
        }
        match served {
            Some(service) => cluster.services.insert(name.clone(), service),
            None => cluster.services.remove(&name),
        };
        self.touched.services.insert(name);
    }

    fn put_slice(&mut self, key: &ObjectKey, slice: Option<Slice>, cluster: &mut Cluster) {
        let before = self.owners.remove(key);
        let after = slice.as_ref().map(|slice| slice.service.clone());
        let trigger = slice.as_ref().and_then(|slice| slice.changed);
        if let Some(owner) = &before
            && let Some(of_owner) = self.slices.get_mut(owner)
        {
            of_owner.remove(&key.name);
            if of_owner.is_empty() {
                self.slices.remove(owner);
            }
        }
        if let Some(slice) = slice {
            self.owners.insert(key.clone(), slice.service.clone());
            self.slices.entry(slice.service.clone()).or_default().insert(key.name.clone(), slice);
        }
        let both = [before, after];
        let owners: BTreeSet<&ServiceName> = both.iter().flatten().collect();
        let mut has_changed = false;
        for owner in owners {
            has_changed |= self.merge(owner, cluster);
        }
        self.touched.triggers.extend(trigger.filter(|_| has_changed));
    }

    /// Merges the slices of one Service anew; whether that makes a difference.
    fn merge(&mut self, service: &ServiceName, cluster: &mut Cluster) -> bool {
        let mut has_changed = false;
        let slices: Vec<&Slice> =
            self.slices.get(service).map(|of| of.values().collect()).unwrap_or_default();
        for family in IpFamily::ALL {
            let mut merged = EndpointGroups::new();
            endpoint_slice::merge(&slices, family, &mut merged);
            let groups = cluster.endpoints.get_mut(family);
            let old: Vec<ServicePortName> =
                ServicePortName::of_service(groups, service).map(|(name, _)| name.clone()).collect();
            let is_same =
                old.len() == merged.len() && old.iter().all(|name| groups.get(name) == merged.get(name));
            if is_same {
                continue;
            }
            for name in &old {
                groups.remove(name);
            }
            groups.extend(merged);
            self.touched.endpoints.insert(service.clone());
            has_changed = true;
        }
        has_changed
    }

    fn gather_cidrs(&mut self, cluster: &mut Cluster) {
        let cidrs: BTreeSet<IpCidr> = self.service_cidrs.values().flatten().copied().collect();
        if cluster.service_cidrs != cidrs {
            cluster.service_cidrs = cidrs;
            self.touched.everything = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::manifest::{self, LoadOptions};

    fn cluster(cidr: &str, services: &[(&str, u16)], endpoints: &[(&str, u8)]) -> Cluster {
        let mut text = format!(
            "{{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {{name: c}}, spec: {{cidrs: [{cidr}]}}}}\n"
        );
        for (index, (name, port)) in services.iter().enumerate() {
            text += &format!(
                "---\n{{apiVersion: v1, kind: Service, metadata: {{namespace: n, name: {name}}}, \
                 spec: {{clusterIP: 10.96.0.{index}, ports: [{{port: {port}}}]}}}}\n"
            );
        }
        for (name, host) in endpoints {
            text += &format!(
                "---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{namespace: n, name: {name}, \
                 labels: {{kubernetes.io/service-name: {name}}}}}, addressType: IPv4, ports: [{{port: 80}}], \
                 endpoints: [{{addresses: [10.128.0.{host}]}}]}}\n"
            );
        }
        let source = Source { name: "cluster.yaml".to_owned(), text };
        let options = LoadOptions { namespace: "default".to_owned(), placeholders: None, strict: false };
        let loaded = manifest::load(&[source], &options);
        assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
        loaded.cluster
    }

    #[test]
    fn tells_what_differs_between_two_clusters() {
        let before = cluster("10.96.0.0/16", &[("a", 80), ("b", 80), ("c", 80)], &[("a", 1), ("b", 2)]);
        assert!(Touched::between(&before, &before).is_empty());
        let after = cluster("10.96.0.0/16", &[("a", 80), ("b", 81), ("d", 80)], &[("a", 1), ("c", 2)]);
        let names = |names: &[&str]| names.iter().map(|name| ServiceName::new("n", name)).collect();
        let touched = Touched::between(&before, &after);
        assert_eq!(touched.services, names(&["b", "c", "d"]));
        assert_eq!((touched.endpoints, touched.everything), (names(&["b", "c"]), false));
        let elsewhere = cluster("10.97.0.0/16", &[], &[]);
        assert!(Touched::between(&cluster("10.96.0.0/16", &[], &[]), &elsewhere).everything);
    }
}
