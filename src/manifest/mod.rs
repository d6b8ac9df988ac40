//! Text to cluster: Kubernetes manifests and `kubectl get` output, YAML or JSON, to [`Cluster`]. The only place that
//! knows YAML and the shapes of the API. Nothing here fails: what is wrong is reported and left out.

mod config;
mod config_object;
mod conflict;
mod decode;
mod duration;
mod endpoint_slice;
mod finding;
mod intern;
mod locate;
mod mismatch;
mod node;
mod object;
mod overlay;
mod placeholder;
mod service;
mod source;
mod store;
mod syntax;
#[cfg(test)]
mod tests;
mod word;
mod yaml;

pub use config::load_config;
pub use decode::Kind;
pub use source::decode_text;
pub use store::{ObjectKey, ObjectStore, Touched};

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Place, Severity, Source, SourceId};
use crate::model::{Cluster, EndpointGroups, ServiceName};
use crate::net::{IpCidr, IpFamily, PerFamily};

use self::decode::{Batch, Manifest, Reader, Services};
use self::endpoint_slice::Slice;
use self::finding::Finding;
use self::intern::Names;
use self::locate::{Locator, Origin};
use self::placeholder::Taken;
use self::service::{Draft, NamedReading, Reading};
use self::source::Chunk;

/// Reads a duration as configurations write it: `30s`, `1h2m`, `1.5s`. `None` if it is none, or less than zero.
pub fn parse_duration(text: &str) -> Option<std::time::Duration> {
    duration::parse(text).filter(|nanoseconds| *nanoseconds >= 0).map(duration::from_nanoseconds)
}

/// How to load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The namespace of objects that name none, as kubectl's `--namespace`.
    pub namespace: String,
    /// Where to take cluster IPs and node ports from for Services that have none; `None` leaves such Services out.
    pub placeholders: Option<PlaceholderRanges>,
    /// Whether warnings count as errors.
    pub strict: bool,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions { namespace: "default".to_owned(), placeholders: None, strict: false }
    }
}

/// Ranges that the API server would choose from.
#[derive(Debug, Clone)]
pub struct PlaceholderRanges {
    /// The service CIDR of each family.
    pub service_cidrs: PerFamily<Option<IpCidr>>,
    /// The node port range.
    pub node_ports: RangeInclusive<u16>,
}

/// What was loaded, and what is to be said about it.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The cluster.
    pub cluster: Cluster,
    /// Where each Service begins, for messages about its rules.
    pub places: BTreeMap<ServiceName, Place>,
    /// What is to be said, in order of places.
    pub diagnostics: Vec<Diagnostic>,
    /// Objects of kinds that mean nothing here, counted by kind.
    pub skipped: BTreeMap<String, usize>,
    /// Objects in the input, of any kind.
    pub n_objects: usize,
}

/// Loads manifests or dumps. Total: bad objects are left out and reported.
pub fn load(sources: &[Source], options: &LoadOptions) -> Loaded {
    load_layers(sources, &[], options)
}

/// Loads manifests laid over a snapshot of a cluster, as the API server would on an apply. Sources count manifests
/// first, then those of the snapshot.
pub fn load_over(sources: &[Source], snapshot: &[Source], options: &LoadOptions) -> Loaded {
    load_layers(sources, snapshot, options)
}

fn load_layers(sources: &[Source], snapshot: &[Source], options: &LoadOptions) -> Loaded {
    let all: Vec<&Source> = sources.iter().chain(snapshot).collect();
    let mut chunks: Vec<Chunk<'_>> = Vec::new();
    let mut n_manifest_chunks = 0;
    for ((i, source), id) in all.iter().enumerate().zip((0..).map(SourceId)) {
        chunks.extend(source::chunks(id, &source.text));
        if i < sources.len() {
            n_manifest_chunks = chunks.len();
        }
    }
    let (manifest_chunks, snapshot_chunks) = chunks.split_at(n_manifest_chunks);
    let reader = Reader { namespace: &options.namespace, services: Services::Read };
    let mut loading = Loading::default();
    if snapshot.is_empty() {
        loading.add(reader.read(manifest_chunks, 0));
    } else {
        let keep = Reader { services: Services::Keep, ..reader };
        let mut manifests = keep.read(manifest_chunks, 0);
        let by_name = loading.unique_manifests(std::mem::take(&mut manifests.manifests));
        let over = Reader { services: Services::Overlay(&by_name), ..reader };
        let mut under = over.read(snapshot_chunks, n_manifest_chunks);
        let overlaid: BTreeSet<ServiceName> = std::mem::take(&mut under.overlaid).into_iter().collect();
        let mut names = Names::default();
        for (_, manifest) in by_name.iter().filter(|(name, _)| !overlaid.contains(*name)) {
            reader.read_manifest(manifest, &mut names, &mut manifests);
        }
        loading.add(manifests);
        loading.n_manifest_chunks = n_manifest_chunks;
        loading.has_snapshot = true;
        loading.add(under);
    }
    loading.say_empty(&chunks, &all);
    loading.finish(&chunks, all, options)
}

/// Notes a Service that has an address, and not the node port that its type asks for.
fn missing_node_port(draft: &Draft) -> Option<Finding> {
    let service = &draft.service;
    let i = service.ports.iter().position(|port| draft.wants.node_ports && port.node_port.is_none())?;
    let port = service.ports[i].port;
    let diagnostic = Diagnostic::note("no-node-port", format!("port `{port}` has no node port yet"))
        .about(format!("Service {}", service.name))
        .hint("the API server chooses one: give nodePort, or --service-cidr for placeholders");
    Some(Finding { diagnostic, field: Some((draft.origin, format!("spec.ports[{i}].port"))), first: None })
}

/// Notes a load balancer Service that asks for a health check, and has no port for it.
fn missing_health_check(draft: &Draft) -> Option<Finding> {
    let service = &draft.service;
    if !draft.wants.health_check_node_port || service.health_check_node_port.is_some() {
        return None;
    }
    let message = "externalTrafficPolicy is Local, and there is no health check node port yet";
    let diagnostic = Diagnostic::note("no-health-check-node-port", message)
        .about(format!("Service {}", service.name))
        .hint("the API server chooses one: give healthCheckNodePort, or --service-cidr for placeholders");
    let field = Some((draft.origin, "spec.externalTrafficPolicy".to_owned()));
    Some(Finding { diagnostic, field, first: None })
}

/// Slices for more Services than this are merged on two threads.
const MIN_PARALLEL_SLICES: usize = 1000;

/// Merges slices, which are in order of their Services, and looks for ports of Services that they do not have.
fn merge_slices(slices: &[Slice], drafts: &[Draft]) -> (PerFamily<EndpointGroups>, Vec<Finding>) {
    if slices.len() >= MIN_PARALLEL_SLICES {
        let middle = &slices[slices.len() / 2].service;
        let (left, right) = slices.split_at(slices.partition_point(|slice| slice.service < *middle));
        let (left_drafts, right_drafts) =
            drafts.split_at(drafts.partition_point(|draft| draft.service.name < *middle));
        let ((mut groups, mut findings), (mut more, mut more_findings)) =
            decode::both(|| merge_part(left, left_drafts), || merge_part(right, right_drafts));
        for family in IpFamily::ALL {
            groups.get_mut(family).append(more.get_mut(family));
        }
        findings.append(&mut more_findings);
        return (groups, findings);
    }
    merge_part(slices, drafts)
}

fn merge_part(slices: &[Slice], drafts: &[Draft]) -> (PerFamily<EndpointGroups>, Vec<Finding>) {
    let mut groups: PerFamily<EndpointGroups> = PerFamily::default();
    let mut findings = Vec::new();
    let mut rest = drafts.iter().peekable();
    for of_service in slices.chunk_by(|a, b| a.service == b.service) {
        let of_service: Vec<&Slice> = of_service.iter().collect();
        for family in IpFamily::ALL {
            endpoint_slice::merge(&of_service, family, groups.get_mut(family));
        }
        let name = &of_service[0].service;
        while rest.next_if(|draft| draft.service.name < *name).is_some() {}
        if let Some(draft) = rest.next_if(|draft| draft.service.name == *name) {
            conflict::check_ports(&draft.service, draft.origin, &of_service, &mut findings);
        }
    }
    (groups, findings)
}

/// Objects by name while they come in, and then what is made of all of them.
#[derive(Default)]
struct Loading {
    services: BTreeMap<ServiceName, NamedReading>,
    slices: Vec<Slice>,
    endpoints: BTreeMap<ServiceName, (Origin, Vec<Slice>)>,
    nodes: BTreeMap<Arc<str>, (crate::model::Node, Origin)>,
    service_cidrs: BTreeSet<IpCidr>,
    findings: Vec<Finding>,
    skipped: BTreeMap<String, usize>,
    n_objects: usize,
    /// Indexes of chunks that have nothing but `null`.
    empty_chunks: BTreeSet<usize>,
    /// Objects of chunks from here on give way to those before, without a word.
    n_manifest_chunks: usize,
    /// Whether there is a snapshot.
    has_snapshot: bool,
}

impl Loading {
    fn is_same_layer(&self, a: Origin, b: Origin) -> bool {
        let is_manifest = |origin: Origin| (origin.chunk as usize) < self.n_manifest_chunks;
        is_manifest(a) == is_manifest(b)
    }

    /// Says that an object has the name of an earlier one, if one layer has both.
    fn say_duplicate(&mut self, kind: &str, name: &str, first: Origin, second: Origin) {
        if self.is_same_layer(first, second) {
            let diagnostic =
                Diagnostic::error("duplicate-object", format!("there is another {kind} `{name}`"));
            self.findings.push(Finding {
                diagnostic: diagnostic.about(format!("{kind} {name}")),
                field: Some((second, "metadata.name".to_owned())),
                first: Some(first),
            });
        }
    }

    fn unique_manifests(&mut self, manifests: Vec<Manifest>) -> BTreeMap<ServiceName, Manifest> {
        let mut by_name: BTreeMap<ServiceName, Manifest> = BTreeMap::new();
        for manifest in manifests {
            match by_name.get(&manifest.name).map(|first| first.origin) {
                Some(first) => {
                    self.say_duplicate("Service", &manifest.name.to_string(), first, manifest.origin);
                }
                None => {
                    by_name.insert(manifest.name.clone(), manifest);
                }
            }
        }
        by_name
    }

    /// Says which sources have no objects, good or bad.
    fn say_empty(&mut self, chunks: &[Chunk<'_>], sources: &[&Source]) {
        let full: BTreeSet<SourceId> = chunks
            .iter()
            .enumerate()
            .filter(|(i, _)| !self.empty_chunks.contains(i))
            .map(|(_, chunk)| chunk.source)
            .collect();
        for (source, id) in sources.iter().zip((0..).map(SourceId)).filter(|(_, id)| !full.contains(id)) {
            let place = Place { source: id, span: 0..0 };
            let diagnostic = Diagnostic::error("empty-input", format!("`{}` has no objects", source.name));
            self.findings.push(diagnostic.at(Some(place)).into());
        }
    }

    fn add(&mut self, batch: Batch) {
        self.findings.extend(batch.findings);
        self.empty_chunks.extend(batch.empty_chunks);
        for (kind, n) in batch.skipped {
            *self.skipped.entry(kind).or_default() += n;
        }
        self.n_objects += batch.n_objects;
        for service in batch.services {
            match self.services.get(&service.name) {
                Some(first) if !matches!(first.reading, Reading::Failed) => {
                    let (first, name) = (first.origin, service.name.to_string());
                    self.say_duplicate("Service", &name, first, service.origin);
                }
                Some(_) | None => {
                    self.services.insert(service.name.clone(), service);
                }
            }
        }
        self.service_cidrs.extend(batch.service_cidrs);
        for (node, origin) in batch.nodes {
            match self.nodes.get(&node.name) {
                Some((_, first)) => self.say_duplicate("Node", &node.name.clone(), *first, origin),
                None => {
                    self.nodes.insert(node.name.clone(), (node, origin));
                }
            }
        }
        for (name, origin, slices) in batch.endpoints {
            match self.endpoints.get(&name) {
                Some((first, _)) => self.say_duplicate("Endpoints", &name.to_string(), *first, origin),
                None => {
                    self.endpoints.insert(name, (origin, slices));
                }
            }
        }
        self.slices.extend(batch.slices);
    }

    /// Slices in order of Service, then name: those of Endpoints only for Services without a selector that have no
    /// others, and one of each name.
    fn sorted_slices(&mut self) -> Vec<Slice> {
        let mut slices = std::mem::take(&mut self.slices);
        let by_name = |a: &Slice, b: &Slice| {
            (&a.service.namespace, &a.name, a.origin).cmp(&(&b.service.namespace, &b.name, b.origin))
        };
        // A slice is known by its namespace and name, whichever Service it is for.
        slices.sort_unstable_by(by_name);
        let mut unique: Vec<Slice> = Vec::with_capacity(slices.len());
        for slice in slices {
            match unique.last() {
                Some(first)
                    if first.service.namespace == slice.service.namespace && first.name == slice.name =>
                {
                    let name = format!("{}/{}", slice.service.namespace, slice.name);
                    self.say_duplicate("EndpointSlice", &name, first.origin, slice.origin);
                }
                Some(_) | None => unique.push(slice),
            }
        }
        let sliced: BTreeSet<ServiceName> = unique.iter().map(|slice| slice.service.clone()).collect();
        for (name, (_, mirrored)) in std::mem::take(&mut self.endpoints) {
            let is_mirrored = self.services.get(&name).is_some_and(|service| service.selectorless);
            if is_mirrored && !sliced.contains(&name) {
                unique.extend(mirrored);
            }
        }
        unique.sort_by(|a, b| (&a.service, &a.name).cmp(&(&b.service, &b.name)));
        unique
    }

    fn finish(mut self, chunks: &[Chunk<'_>], sources: Vec<&Source>, options: &LoadOptions) -> Loaded {
        let slices = self.sorted_slices();
        let drafts = self.serve(options);
        let mut cluster = Cluster::default();
        let (endpoints, mut findings) = merge_slices(&slices, &drafts);
        cluster.endpoints = endpoints;
        self.findings.append(&mut findings);
        let services: Vec<_> = drafts.iter().map(|draft| (&draft.service, draft.origin)).collect();
        conflict::check_claims(&services, &mut self.findings);

        let mut locator = Locator::new(chunks, sources);
        let places = services
            .iter()
            .filter_map(|(service, origin)| Some((service.name.clone(), locator.begin(*origin)?)))
            .collect();
        let mut diagnostics = finding::locate(self.findings, &mut locator);
        if options.strict {
            for diagnostic in diagnostics.iter_mut().filter(|d| d.severity == Severity::Warning) {
                diagnostic.severity = Severity::Error;
            }
        }
        cluster.services =
            drafts.into_iter().map(|draft| (draft.service.name.clone(), draft.service)).collect();
        cluster.service_cidrs = self.service_cidrs;
        cluster.nodes = self.nodes.into_iter().map(|(name, (node, _))| (name, node)).collect();
        let diagnostics = finding::cap(diagnostics);
        Loaded { cluster, places, diagnostics, skipped: self.skipped, n_objects: self.n_objects }
    }

    /// The Services that have rules, in order of their names, with placeholders for what they lack.
    fn serve(&mut self, options: &LoadOptions) -> Vec<Draft> {
        let mut drafts: Vec<Draft> = Vec::with_capacity(self.services.len());
        for (_, named) in std::mem::take(&mut self.services) {
            if let Reading::Served(draft) = named.reading {
                drafts.push(*draft);
            }
        }
        if let Some(ranges) = &options.placeholders {
            let mut taken = Taken::default();
            drafts.iter().for_each(|draft| taken.add(&draft.service));
            drafts.iter_mut().for_each(|draft| placeholder::assign(draft, ranges, &mut taken));
        }
        let hint = if self.has_snapshot {
            "it is not in the snapshot: give --service-cidr for placeholder addresses"
        } else {
            "give --snapshot with what kubectl printed from the cluster, or --service-cidr for placeholder addresses"
        };
        drafts.retain(|draft| {
            let service = &draft.service;
            if service.cluster_ips != PerFamily::default() {
                self.findings.extend(missing_node_port(draft));
                self.findings.extend(missing_health_check(draft));
                return true;
            }
            let diagnostic =
                Diagnostic::warning("no-cluster-ip", "the Service has no cluster IP and is left out")
                    .about(format!("Service {}", service.name))
                    .hint(hint);
            let field = Some((draft.origin, "metadata.name".to_owned()));
            self.findings.push(Finding { diagnostic, field, first: None });
            false
        });
        drafts
    }
}
