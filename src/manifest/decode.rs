//! Chunks of text to typed objects: which kind each is, and its shape. Large input is read on two threads.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::diagnostic::Diagnostic;
use crate::model::{Node, ServiceName};
use crate::net::IpCidr;

use super::endpoint_slice::{self, Slice};
use super::finding::{Finding, Findings};
use super::intern::Names;
use super::locate::Origin;
use super::mismatch::{self, Expected, decode};
use super::object::{self, Envelope};
use super::overlay;
use super::service::{self, NamedReading};
use super::source::{Chunk, Format};
use super::syntax;
use super::word::quoted;
use super::yaml::{self, Json};

/// Text below this size, in bytes, is read on one thread.
const MIN_PARALLEL_BYTES: usize = 256 << 10;
/// Lists inside lists that are looked into.
const MAX_LIST_DEPTH: usize = 4;

/// A kind that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `v1/Service`.
    Service,
    /// `discovery.k8s.io/v1/EndpointSlice`.
    EndpointSlice,
    /// `v1/Endpoints`.
    Endpoints,
    /// `v1/Node`.
    Node,
    /// `networking.k8s.io/v1/ServiceCIDR`.
    ServiceCidr,
}

/// What is read: kind, the group of its apiVersion with a slash, and the whole apiVersion.
const KINDS: [(&str, Kind, &str, &str); 5] = [
    ("Service", Kind::Service, "", "v1"),
    ("EndpointSlice", Kind::EndpointSlice, "discovery.k8s.io/", "discovery.k8s.io/v1"),
    ("Endpoints", Kind::Endpoints, "", "v1"),
    ("Node", Kind::Node, "", "v1"),
    ("ServiceCIDR", Kind::ServiceCidr, "networking.k8s.io/", "networking.k8s.io/v1"),
];

/// A Service of a manifest whose fields are to be laid over those of a snapshot.
#[derive(Debug)]
pub(super) struct Manifest {
    /// Its name.
    pub(super) name: ServiceName,
    /// Where it begins.
    pub(super) origin: Origin,
    /// It, as JSON.
    pub(super) json: String,
}

/// What is done with a Service once its shape is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Services<'o> {
    /// It is read as it is.
    Read,
    /// It is kept as JSON, for a snapshot to come under it.
    Keep,
    /// The manifest of the same name, if there is one, is laid over it.
    Overlay(&'o BTreeMap<ServiceName, Manifest>),
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) services: Vec<NamedReading>,
    pub(super) manifests: Vec<Manifest>,
    /// Names of the Services that a manifest was laid over.
    pub(super) overlaid: Vec<ServiceName>,
    pub(super) slices: Vec<Slice>,
    pub(super) endpoints: Vec<(ServiceName, Origin, Vec<Slice>)>,
    pub(super) nodes: Vec<(Node, Origin)>,
    pub(super) service_cidrs: Vec<IpCidr>,
    pub(super) findings: Vec<Finding>,
    pub(super) skipped: BTreeMap<String, usize>,
    pub(super) n_objects: usize,
    /// Indexes of chunks that have nothing but `null`.
    pub(super) empty_chunks: Vec<usize>,
}

impl Batch {
    fn append(&mut self, mut other: Batch) {
        self.services.append(&mut other.services);
        self.manifests.append(&mut other.manifests);
        self.overlaid.append(&mut other.overlaid);
        self.slices.append(&mut other.slices);
        self.endpoints.append(&mut other.endpoints);
        self.nodes.append(&mut other.nodes);
        self.service_cidrs.append(&mut other.service_cidrs);
        self.findings.append(&mut other.findings);
        for (kind, n) in other.skipped {
            *self.skipped.entry(kind).or_default() += n;
        }
        self.n_objects += other.n_objects;
        self.empty_chunks.append(&mut other.empty_chunks);
    }
}

/// How to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'o> {
    /// The namespace of objects that name none.
    pub(super) namespace: &'o str,
    /// What is done with Services.
    pub(super) services: Services<'o>,
}

/// Runs two jobs at once; on one thread if another cannot be had.
pub(super) fn both<T: Send>(first: impl FnOnce() -> T + Send, second: impl Fn() -> T + Sync) -> (T, T) {
    std::thread::scope(|scope| match std::thread::Builder::new().spawn_scoped(scope, &second) {
        Ok(handle) => {
            let first = first();
            match handle.join() {
                Ok(second) => (first, second),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Err(_) => (first(), second()),
    })
}

impl Reader<'_> {
    /// Reads chunks, of which the first has this index among all.
    pub(super) fn read(&self, chunks: &[Chunk<'_>], first_index: usize) -> Batch {
        let total: usize = chunks.iter().map(|chunk| chunk.text.len()).sum();
        if total >= MIN_PARALLEL_BYTES && chunks.len() > 1 {
            let mut half = 0;
            let mut before = 0;
            while half + 1 < chunks.len() && (half == 0 || before + chunks[half].text.len() <= total / 2) {
                before += chunks[half].text.len();
                half += 1;
            }
            let (left, right) = chunks.split_at(half);
            let (mut batch, second) = both(
                || self.read_chunks(left, first_index, left.len() == 1),
                || self.read_chunks(right, first_index + half, right.len() == 1),
            );
            batch.append(second);
            return batch;
        }
        self.read_chunks(chunks, first_index, total >= MIN_PARALLEL_BYTES)
    }

    fn read_chunks(&self, chunks: &[Chunk<'_>], first_index: usize, parallel: bool) -> Batch {
        let mut batch = Batch::default();
        let mut names = Names::default();
        for (chunk, index) in chunks.iter().zip(first_index..) {
            let converted = (chunk.format == Format::Yaml).then(|| {
                let (json, error) = yaml::to_json(chunk.text, false, chunk.alias_nodes);
                if let Some(error) = error {
                    batch.findings.push(syntax::yaml_error(chunk, &error).into());
                } else if json.text.is_empty() {
                    batch.empty_chunks.push(index);
                }
                json
            });
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let text = converted.as_ref().map_or(chunk.text, |json| &json.text);
            let json = converted.as_ref();
            let mut items = Items { text, json, chunk, index, list: Vec::new(), batch: &mut batch };
            items.find_values();
            let list = std::mem::take(&mut items.list);
            if parallel && text.len() >= MIN_PARALLEL_BYTES && list.len() > 1 {
                let (left, right) = list.split_at(list.len() / 2);
                let (left, right) = both(
                    || self.read_items(left, &mut Names::default()),
                    || self.read_items(right, &mut Names::default()),
                );
                batch.append(left);
                batch.append(right);
            } else {
                batch.append(self.read_items(&list, &mut names));
            }
        }
        batch
    }

    fn read_items(&self, items: &[Item<'_>], names: &mut Names) -> Batch {
        let mut batch = Batch::default();
        for item in items {
            self.read_item(item, names, &mut batch, 0);
        }
        batch
    }

    fn read_item(&self, item: &Item<'_>, names: &mut Names, batch: &mut Batch, depth: usize) {
        let Batch { findings: list, .. } = batch;
        let mut findings = Findings::new(list, item.origin);
        let envelope: Envelope<'_> = match serde_json::from_str(item.json) {
            Ok(envelope) if item.json.starts_with('{') => envelope,
            Ok(_) | Err(_) => {
                batch.n_objects += 1;
                explain_envelope(item.json, &mut findings);
                return;
            }
        };
        let read_word = |raw: Option<&serde_json::value::RawValue>| {
            raw.and_then(|raw| serde_json::from_str::<Cow<'_, str>>(raw.get()).ok())
        };
        let kind = read_word(envelope.kind).or_else(|| item.kind.as_deref().map(Cow::Borrowed));
        let version = read_word(envelope.api_version).or_else(|| item.version.as_deref().map(Cow::Borrowed));
        if let (Some(kind), Some(items)) = (&kind, &envelope.items)
            && kind.ends_with("List")
            && depth < MAX_LIST_DEPTH
        {
            for item in list_items(item.json, item.origin, kind, version.as_deref(), items) {
                self.read_item(&item, names, batch, depth + 1);
            }
            return;
        }
        if envelope.items.is_none() && kind.as_deref().is_some_and(is_list_kind) {
            return;
        }
        batch.n_objects += 1;
        let (Some(kind), Some(version)) = (kind, version) else {
            findings.add("", no_kind(&envelope));
            return;
        };
        match known_kind(&kind, &version) {
            Known::Yes(kind) => self.read_known(kind, item, names, batch),
            Known::WrongVersion(supported) => {
                let message = format!("{kind} of apiVersion {} is not read", quoted(&version));
                let diagnostic = Diagnostic::error("unknown-version", message);
                findings.add("apiVersion", diagnostic.hint(format!("write it as `{supported}`")));
            }
            Known::Misspelt(near) => {
                let diagnostic =
                    Diagnostic::warning("unknown-kind", format!("kind {} is skipped", quoted(&kind)));
                findings.add("kind", diagnostic.hint(format!("did you mean `{near}`?")));
                *batch.skipped.entry(kind.into_owned()).or_default() += 1;
            }
            Known::No => *batch.skipped.entry(kind.into_owned()).or_default() += 1,
        }
    }

    /// Reads one object whose kind is known, as JSON.
    pub(super) fn read_object(&self, kind: Kind, json: &str, names: &mut Names) -> Batch {
        let mut batch = Batch { n_objects: 1, ..Batch::default() };
        let origin = Origin { chunk: 0, offset: 0, begin: 0 };
        self.read_known(kind, &Item { json, origin, kind: None, version: None }, names, &mut batch);
        batch
    }

    fn read_known(&self, kind: Kind, item: &Item<'_>, names: &mut Names, batch: &mut Batch) {
        let mut findings = Findings::new(&mut batch.findings, item.origin);
        match kind {
            Kind::Service => match decode::<object::Service<'_>>("Service", item.json, &mut findings) {
                Ok(shape) => self.read_service(&shape, item, names, batch),
                Err(rest) => {
                    findings.taken_out = rest.taken_out;
                    if let Ok(shape) = serde_json::from_str(&rest.json) {
                        service::read(&shape, self.namespace, names, &mut findings);
                    }
                }
            },
            Kind::EndpointSlice => {
                match decode::<object::EndpointSlice<'_>>("EndpointSlice", item.json, &mut findings) {
                    Ok(shape) => {
                        let read = endpoint_slice::read_slice(&shape, self.namespace, names, &mut findings);
                        batch.slices.extend(read);
                    }
                    Err(rest) => {
                        findings.taken_out = rest.taken_out;
                        if let Ok(shape) = serde_json::from_str(&rest.json) {
                            endpoint_slice::read_slice(&shape, self.namespace, names, &mut findings);
                        }
                    }
                }
            }
            Kind::Endpoints => {
                let Ok(shape) = decode::<object::Endpoints<'_>>("Endpoints", item.json, &mut findings) else {
                    return;
                };
                let read = endpoint_slice::read_endpoints(&shape, self.namespace, names, &mut findings);
                batch.endpoints.extend(read.map(|(name, slices)| (name, item.origin, slices)));
            }
            Kind::Node => {
                let Ok(shape) = decode::<object::Node<'_>>("Node", item.json, &mut findings) else {
                    return;
                };
                batch.nodes.extend(super::node::read(&shape, names, &mut findings).map(|n| (n, item.origin)));
            }
            Kind::ServiceCidr => {
                let Ok(shape) = decode::<object::ServiceCidr<'_>>("ServiceCIDR", item.json, &mut findings)
                else {
                    return;
                };
                batch.service_cidrs.extend(super::node::read_service_cidrs(&shape, &mut findings));
            }
        }
    }

    fn read_service(
        &self,
        shape: &object::Service<'_>,
        item: &Item<'_>,
        names: &mut Names,
        batch: &mut Batch,
    ) {
        let mut findings = Findings::new(&mut batch.findings, item.origin);
        match self.services {
            Services::Read => {
                batch.services.extend(service::read(shape, self.namespace, names, &mut findings));
            }
            Services::Keep => {
                let name =
                    service::read_name("Service", &shape.metadata, self.namespace, names, &mut findings);
                if let Some(name) = name {
                    batch.manifests.push(Manifest { name, origin: item.origin, json: item.json.to_owned() });
                }
            }
            Services::Overlay(manifests) => {
                let name =
                    service::read_name("Service", &shape.metadata, self.namespace, names, &mut findings);
                let manifest = name.as_ref().and_then(|name| manifests.get(name));
                let overlaid = manifest.and_then(|manifest| {
                    batch.overlaid.extend(name.clone());
                    overlay::apply(manifest, item.json, self.namespace, names, &mut batch.findings)
                });
                let reading = match (overlaid, name) {
                    (Some(reading), _) => Some(reading),
                    (None, Some(_)) => {
                        let mut findings = Findings::new(&mut batch.findings, item.origin);
                        service::read(shape, self.namespace, names, &mut findings)
                    }
                    (None, None) => None,
                };
                batch.services.extend(reading);
            }
        }
    }

    /// Reads the manifests that no snapshot came under.
    pub(super) fn read_manifest(&self, manifest: &Manifest, names: &mut Names, batch: &mut Batch) {
        let mut findings = Findings::new(&mut batch.findings, manifest.origin);
        if let Ok(shape) = decode::<object::Service<'_>>("Service", &manifest.json, &mut findings) {
            batch.services.extend(service::read(&shape, self.namespace, names, &mut findings));
        }
    }
}

fn no_kind(envelope: &Envelope<'_>) -> Diagnostic {
    let missing = match (envelope.kind, envelope.api_version) {
        (None, None) => "apiVersion and kind are missing",
        (None, Some(_)) => "kind is missing",
        (Some(_), None) => "apiVersion is missing",
        (Some(_), Some(_)) => "apiVersion and kind must be strings",
    };
    Diagnostic::error("no-kind", missing).hint("a Service begins with `apiVersion: v1` and `kind: Service`")
}

enum Known {
    Yes(Kind),
    /// Of a known kind, in another version than this one.
    WrongVersion(&'static str),
    /// Only case or a plural is between it and this kind.
    Misspelt(&'static str),
    No,
}

fn known_kind(kind: &str, version: &str) -> Known {
    let is_of_group =
        |group: &str| !version.contains('/') || (!group.is_empty() && version.starts_with(group));
    let Some((_, known, group, supported)) = KINDS.iter().find(|(name, ..)| *name == kind) else {
        let near = KINDS
            .iter()
            .filter(|(.., group, _)| is_of_group(group))
            .map(|(name, ..)| *name)
            .chain((version == "v1").then_some("List"))
            .find(|name| is_near(kind, name));
        return near.map_or(Known::No, Known::Misspelt);
    };
    if version == *supported {
        Known::Yes(*known)
    } else if is_of_group(group) {
        Known::WrongVersion(supported)
    } else {
        Known::No
    }
}

/// Whether only case or a plural is between two words.
fn is_near(a: &str, b: &str) -> bool {
    let singular = |word: &str| {
        let word = word.to_ascii_lowercase();
        word.trim_end_matches('s').to_owned()
    };
    a.len() <= b.len() + 2 && singular(a) == singular(b)
}

/// Whether this is `List`, or the list of a kind that is read.
fn is_list_kind(kind: &str) -> bool {
    kind.strip_suffix("List").is_some_and(|of| of.is_empty() || KINDS.iter().any(|(name, ..)| *name == of))
}

/// An object, not read yet.
struct Item<'t> {
    json: &'t str,
    origin: Origin,
    /// Its kind, if the list that it is in says so.
    kind: Option<Cow<'t, str>>,
    /// Its apiVersion, if the list that it is in says so.
    version: Option<Cow<'t, str>>,
}

/// The items of a list. Those of a typed list need not say what they are.
fn list_items<'t>(
    json: &'t str,
    origin: Origin,
    kind: &str,
    version: Option<&str>,
    items: &[&'t serde_json::value::RawValue],
) -> Vec<Item<'t>> {
    let item_kind = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
    let base = json.as_ptr() as usize;
    let item = |raw: &&'t serde_json::value::RawValue| Item {
        json: raw.get(),
        origin: Origin { offset: origin.offset + (raw.get().as_ptr() as usize - base), ..origin },
        kind: item_kind.map(|kind| kind.to_owned().into()),
        version: item_kind.and(version).map(|version| version.to_owned().into()),
    };
    items.iter().map(item).collect()
}

/// Finds the objects of a chunk.
struct Items<'t, 'b> {
    text: &'t str,
    /// What `text` is of, if it was converted.
    json: Option<&'b Json>,
    chunk: &'b Chunk<'b>,
    index: u32,
    list: Vec<Item<'t>>,
    batch: &'b mut Batch,
}

impl<'t> Items<'t, '_> {
    fn find_values(&mut self) {
        let text: &'t str = self.text;
        let mut at = 0;
        while at < text.len() {
            let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Envelope<'_>>();
            let mut start = at;
            loop {
                start += text[start..].len() - text[start..].trim_start().len();
                match values.next() {
                    None => return,
                    Some(Ok(_)) if !text[start..].starts_with('{') => {
                        let origin = self.origin(start, start);
                        self.batch.n_objects += 1;
                        Findings::new(&mut self.batch.findings, origin)
                            .add("", not_an_object(&text[start..]));
                        start = at + values.byte_offset();
                    }
                    Some(Ok(envelope)) => {
                        let end = at + values.byte_offset();
                        self.add(start..end, envelope);
                        start = end;
                    }
                    Some(Err(_)) => break,
                }
            }
            match self.after_error(start) {
                Some(next) => at = next,
                None => return,
            }
        }
    }

    /// The origin of the value at a byte; a value that has no span of its own begins where one around it does.
    fn origin(&self, offset: usize, around: usize) -> Origin {
        let begin = match self.json {
            None => offset,
            Some(json) => json.span_of(offset).or_else(|| json.span_of(around)).unwrap_or_default().start,
        };
        Origin { chunk: self.index, offset, begin }
    }

    fn add(&mut self, span: std::ops::Range<usize>, envelope: Envelope<'t>) {
        let origin = self.origin(span.start, span.start);
        let json = &self.text[span];
        let word = |raw: Option<&serde_json::value::RawValue>| {
            raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
        };
        if let Some(items) = envelope.items
            && let Some(kind) = word(envelope.kind).filter(|kind| kind.ends_with("List"))
        {
            let version = word(envelope.api_version);
            let items: Vec<&serde_json::value::RawValue> = items;
            let start = origin.offset;
            let mut list = list_items(json, origin, &kind, version.as_deref(), &items);
            list.iter_mut().for_each(|item| item.origin = self.origin(item.origin.offset, start));
            self.list.append(&mut list);
        } else {
            self.list.push(Item { json, origin, kind: None, version: None });
        }
    }

    /// Says what is wrong with the value at `start`. Where to read on, if there is anything to read.
    fn after_error(&mut self, start: usize) -> Option<usize> {
        let origin = self.origin(start, start);
        let rest = self.text.get(start..)?;
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&serde_json::value::RawValue>();
        match values.next()? {
            Ok(raw) => {
                self.batch.n_objects += 1;
                let mut findings = Findings::new(&mut self.batch.findings, origin);
                if raw.get().starts_with('{') {
                    explain_envelope(raw.get(), &mut findings);
                } else {
                    findings.add("", not_an_object(raw.get()));
                }
                Some(start + values.byte_offset())
            }
            Err(error) => {
                let (byte, diagnostic) = syntax::json_error(self.chunk, self.text, start, &error);
                self.batch.findings.push(diagnostic.into());
                // The next value that begins at the begin of a line may be whole.
                let next = self.text.get(byte..)?.find("\n{")?;
                Some(byte + next + 1)
            }
        }
    }
}

/// Says why an item has no kind that could be read.
fn explain_envelope(json: &str, findings: &mut Findings<'_>) {
    if json.starts_with('{') {
        mismatch::explain::<Envelope<'_>>(json, findings);
    } else {
        findings.add("", mismatch::wrong_type("", Expected::Mapping, json));
    }
}

fn not_an_object(json: &str) -> Diagnostic {
    let diagnostic = Diagnostic::error("not-an-object", "this is not a Kubernetes object");
    if json.starts_with('[') {
        return diagnostic.hint(
            "objects follow one another, in YAML with `---` between them, or are the `items` of a List",
        );
    }
    diagnostic
}
