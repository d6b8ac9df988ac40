//! EndpointSlices, and Endpoints that would be mirrored to them, to the endpoints behind every Service port
//! (reference sections 1.6 and 1.7).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::model::{Conditions, Endpoint, EndpointGroups, Hints, ServiceName, ServicePortName};
use crate::net::{AddrPort, IpFamily, PerFamily, Port, Protocol, parse_addr_sloppy};

use super::duration;
use super::finding::Findings;
use super::intern::Names;
use super::locate::Origin;
use super::object;
use super::service::read_name;
use super::word::{PROTOCOLS, is_dns_label, is_dns_subdomain, no_name, one_of, quoted};

/// Addresses of one subset of Endpoints that are mirrored.
const MAX_MIRRORED: usize = 1000;

/// An EndpointSlice that counts, before it is merged with others.
#[derive(Debug)]
pub(super) struct Slice {
    /// The Service that it is for.
    pub(super) service: ServiceName,
    /// `metadata.name`.
    pub(super) name: Arc<str>,
    /// Where it begins.
    pub(super) origin: Origin,
    /// The family of its addresses.
    pub(super) family: IpFamily,
    /// When that happened which made it what it is, since 1970 began, if it tells.
    pub(super) changed: Option<Duration>,
    /// Its ports.
    pub(super) ports: Vec<SlicePort>,
    /// Its endpoints.
    pub(super) backends: Vec<Backend>,
}

/// A port of a slice.
#[derive(Debug, Clone)]
pub(super) struct SlicePort {
    pub(super) name: Arc<str>,
    pub(super) protocol: Protocol,
    pub(super) port: Port,
}

/// An endpoint of a slice: the same for every port.
#[derive(Debug, Clone)]
pub(super) struct Backend {
    addr: IpAddr,
    node: Option<Arc<str>>,
    conditions: Conditions,
    hints: Option<Box<Hints>>,
}

/// Which addresses a slice has; `None` is FQDN, which a proxy has no use for.
const ADDRESS_TYPES: [(&str, Option<IpFamily>); 3] =
    [("IPv4", Some(IpFamily::V4)), ("IPv6", Some(IpFamily::V6)), ("FQDN", None)];

/// Reads an EndpointSlice. `None` if it does not count.
pub(super) fn read_slice(
    slice: &object::EndpointSlice<'_>,
    default_namespace: &str,
    names: &mut Names,
    findings: &mut Findings<'_>,
) -> Option<Slice> {
    let metadata = &slice.metadata;
    let namespace: &str = if metadata.namespace.is_empty() { default_namespace } else { &metadata.namespace };
    findings.object = format!("EndpointSlice {}", if is_dns_label(namespace) { namespace } else { "" });
    if !is_dns_subdomain(&metadata.name) || !is_dns_label(namespace) {
        let (field, text) = if is_dns_label(namespace) {
            ("metadata.name", &*metadata.name)
        } else {
            ("metadata.namespace", namespace)
        };
        if text.is_empty() {
            no_name("EndpointSlice", metadata, findings);
            return None;
        }
        let what = field.trim_start_matches("metadata.");
        let message = format!("the {what} {} is not a DNS name", quoted(text));
        findings.object = "EndpointSlice".to_owned();
        findings.add(field, Diagnostic::error("bad-name", message));
        return None;
    }
    findings.object = format!("EndpointSlice {namespace}/{}", &*metadata.name);
    if metadata.labels.has_headless {
        return None;
    }
    let family = one_of(findings, "addressType", &slice.address_type, &ADDRESS_TYPES)??;
    let service = metadata.labels.service_name.as_deref().unwrap_or_default();
    if !is_dns_label(service) {
        let message = match service {
            "" => "the label `kubernetes.io/service-name` is missing".to_owned(),
            _ => format!(
                "the label `kubernetes.io/service-name` names {}, which no Service can be",
                quoted(service)
            ),
        };
        let path = match (service, metadata.labels.are_there) {
            ("", false) => "metadata.name",
            ("", true) => "metadata.{labels}",
            _ => "metadata.labels.(kubernetes.io/service-name)",
        };
        findings.add(
            path,
            Diagnostic::warning("slice-without-service", message)
                .hint("kube-proxy does not look at this slice"),
        );
        return None;
    }
    let ports = read_ports(&slice.ports, "ports", names, findings);
    let mut backends = Vec::with_capacity(slice.endpoints.len());
    for (i, endpoint) in slice.endpoints.iter().enumerate() {
        let Some(text) = &endpoint.addresses.0 else { continue };
        let Some(addr) = read_addr(text, family, &|| format!("endpoints[{i}].addresses[0]"), findings) else {
            continue;
        };
        backends.push(Backend {
            addr,
            node: endpoint.node_name.as_deref().filter(|n| !n.is_empty()).map(|n| names.nodes.get(n)),
            conditions: Conditions {
                ready: endpoint.conditions.ready.unwrap_or(true),
                serving: endpoint.conditions.serving.unwrap_or(true),
                terminating: endpoint.conditions.terminating.unwrap_or(false),
            },
            hints: read_hints(&endpoint.hints, names),
        });
    }
    if findings.failed {
        return None;
    }
    Some(Slice {
        service: ServiceName { namespace: names.namespaces.get(namespace), name: service.into() },
        name: (*metadata.name).into(),
        origin: findings.origin,
        family,
        changed: metadata.annotations.last_change.as_deref().and_then(duration::parse_time),
        ports,
        backends,
    })
}

fn read_addr(
    text: &str,
    family: IpFamily,
    path: &dyn Fn() -> String,
    findings: &mut Findings<'_>,
) -> Option<IpAddr> {
    let message = match parse_addr_sloppy(text) {
        Some(addr) if IpFamily::of(addr) == family => return Some(addr),
        Some(_) => format!("address {} is not {family}, as addressType says", quoted(text)),
        None => format!("address {} is not an IP address", quoted(text)),
    };
    findings.add(path(), Diagnostic::warning("bad-address", message).hint("the endpoint is left out"));
    None
}

fn read_hints(hints: &object::EndpointHints<'_>, names: &mut Names) -> Option<Box<Hints>> {
    if hints.for_zones.is_empty() && hints.for_nodes.is_empty() {
        return None;
    }
    Some(Box::new(Hints {
        zones: hints.for_zones.iter().map(|zone| names.words.get(&zone.name)).collect(),
        nodes: hints.for_nodes.iter().map(|node| names.nodes.get(&node.name)).collect(),
    }))
}

/// Ports of a slice; those without a number stand for all ports, which no proxy mode has.
fn read_ports(
    ports: &[object::SlicePort<'_>],
    path: &str,
    names: &mut Names,
    findings: &mut Findings<'_>,
) -> Vec<SlicePort> {
    let mut read = Vec::with_capacity(ports.len());
    for (i, port) in ports.iter().enumerate() {
        let known =
            PROTOCOLS.iter().find(|(word, _)| *word == &*port.protocol).map(|(_, protocol)| *protocol);
        let Some(protocol) =
            known.or_else(|| one_of(findings, &format!("{path}[{i}].protocol"), &port.protocol, &PROTOCOLS))
        else {
            continue;
        };
        if !port.name.is_empty() && !is_dns_label(&port.name) {
            let message = format!("the port name {} is not a DNS label", quoted(&port.name));
            findings.add(format!("{path}[{i}].name"), Diagnostic::error("bad-name", message));
            continue;
        }
        match Port::try_from(port.port) {
            Ok(0) => {}
            Ok(number) => read.push(SlicePort { name: names.words.get(&port.name), protocol, port: number }),
            Err(_) => {
                let message = format!("port `{}` is not between 1 and 65535", port.port);
                findings.add(format!("{path}[{i}].port"), Diagnostic::error("bad-port", message));
            }
        }
    }
    read
}

/// Reads Endpoints as the slices that the EndpointSliceMirroring controller would make of them. Whether the Service
/// lets it is for the merge to see.
pub(super) fn read_endpoints(
    endpoints: &object::Endpoints<'_>,
    default_namespace: &str,
    names: &mut Names,
    findings: &mut Findings<'_>,
) -> Option<(ServiceName, Vec<Slice>)> {
    let metadata = &endpoints.metadata;
    if is_dns_subdomain(&metadata.name) && !is_dns_label(&metadata.name) {
        // Names with dots are allowed here, but no Service can have one.
        return None;
    }
    let service = read_name("Endpoints", metadata, default_namespace, names, findings)?;
    if metadata.annotations.has_leader || metadata.labels.skip_mirror.as_deref() == Some("true") {
        return Some((service, Vec::new()));
    }
    let mut slices = Vec::new();
    for (n, subset) in endpoints.subsets.iter().enumerate() {
        let ports = read_ports(&subset.ports, &format!("subsets[{n}].ports"), names, findings);
        let mut backends: PerFamily<Vec<Backend>> = PerFamily::default();
        // Ready ones come first, so that one that is listed as both ends up not ready.
        let all = subset.addresses.iter().map(|address| (address, true));
        let all = all.chain(subset.not_ready_addresses.iter().map(|address| (address, false)));
        for (i, (address, ready)) in all.enumerate().take(MAX_MIRRORED) {
            let Some(addr) = parse_addr_sloppy(&address.ip) else {
                let path = match i.checked_sub(subset.addresses.len()) {
                    None => format!("subsets[{n}].addresses[{i}].ip"),
                    Some(i) => format!("subsets[{n}].notReadyAddresses[{i}].ip"),
                };
                let message = format!("address {} is not an IP address", quoted(&address.ip));
                let diagnostic = Diagnostic::warning("bad-address", message);
                findings.add(path, diagnostic.hint("the endpoint is left out"));
                continue;
            };
            backends.get_mut(IpFamily::of(addr)).push(Backend {
                addr,
                node: address.node_name.as_deref().filter(|n| !n.is_empty()).map(|n| names.nodes.get(n)),
                conditions: Conditions { ready, serving: true, terminating: false },
                hints: None,
            });
        }
        for family in IpFamily::ALL {
            slices.push(Slice {
                service: service.clone(),
                name: service.name.clone(),
                origin: findings.origin,
                family,
                changed: None,
                ports: ports.clone(),
                backends: std::mem::take(backends.get_mut(family)),
            });
        }
    }
    (!findings.failed).then_some((service, slices))
}

/// Merges the slices of one family of one Service, which are in order of their names, into groups by port.
pub(super) fn merge(slices: &[&Slice], family: IpFamily, groups: &mut EndpointGroups) {
    let of_family: Vec<&&Slice> = slices.iter().filter(|slice| slice.family == family).collect();
    let mut keys: BTreeSet<(Arc<str>, Protocol)> = BTreeSet::new();
    for slice in &of_family {
        keys.extend(slice.ports.iter().map(|port| (port.name.clone(), port.protocol)));
    }
    for (port, protocol) in keys {
        let mut entries: Vec<(&Backend, Port)> = Vec::new();
        for slice in &of_family {
            for of_slice in slice.ports.iter().filter(|p| p.name == port && p.protocol == protocol) {
                entries.extend(slice.backends.iter().map(|backend| (backend, of_slice.port)));
            }
        }
        let endpoints = match family {
            IpFamily::V4 => merge_group::<24>(&entries),
            IpFamily::V6 => merge_group::<48>(&entries),
        };
        if let (Some(slice), false) = (of_family.first(), endpoints.is_empty()) {
            groups.insert(ServicePortName { service: slice.service.clone(), port, protocol }, endpoints);
        }
    }
}

/// Sorts by the text `ip:port`; of equal ones the last wins, but a terminating one only over nothing. `N` holds the
/// longest text, and is padded with zeros, which sort before all of it.
fn merge_group<const N: usize>(entries: &[(&Backend, Port)]) -> Vec<Endpoint> {
    let mut order: Vec<([u8; N], u32)> = entries
        .iter()
        .zip(0..)
        .map(|((backend, port), i)| {
            let mut text = Padded { bytes: [0; N], len: 0 };
            text.write_endpoint(AddrPort::new(backend.addr, *port));
            (text.bytes, i)
        })
        .collect();
    order.sort_unstable();
    let mut endpoints: Vec<Endpoint> = Vec::with_capacity(order.len());
    for (_, i) in order {
        let (backend, port) = entries[i as usize];
        let endpoint = Endpoint {
            addr: AddrPort::new(backend.addr, port),
            node: backend.node.clone(),
            conditions: backend.conditions,
            hints: backend.hints.clone(),
        };
        match endpoints.last_mut() {
            Some(last) if last.addr == endpoint.addr => {
                if !endpoint.conditions.terminating {
                    *last = endpoint;
                }
            }
            Some(_) | None => endpoints.push(endpoint),
        }
    }
    endpoints
}

/// A text of at most `N` bytes, on the stack.
struct Padded<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Padded<N> {
    fn write_endpoint(&mut self, endpoint: AddrPort) {
        match endpoint.addr {
            IpAddr::V4(addr) => {
                for (i, octet) in addr.octets().into_iter().enumerate() {
                    if i > 0 {
                        self.push(b'.');
                    }
                    self.write_number(u16::from(octet));
                }
                self.push(b':');
                self.write_number(endpoint.port);
            }
            IpAddr::V6(_) => {
                // A text that does not fit is cut: it still sorts, and 48 bytes hold every address with a port.
                let _ = write!(self, "{endpoint}");
            }
        }
    }

    fn write_number(&mut self, number: u16) {
        let mut unit = 10_000;
        while unit > 1 && number < unit {
            unit /= 10;
        }
        while unit > 0 {
            self.push(b'0' + (number / unit % 10) as u8);
            unit /= 10;
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }
}

impl<const N: usize> std::fmt::Write for Padded<N> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}
