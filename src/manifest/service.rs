//! A Service of the API to one of the model: the API server's defaults, and which Services have no rules
//! (reference sections 1.1 to 1.5).

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::diagnostic::Diagnostic;
use crate::model::{Placeholders, Service, ServiceName, ServicePort, ServiceType, TrafficPolicy};
use crate::net::{IpCidr, IpFamily, PerFamily, Port, parse_addr_sloppy};

use super::finding::Findings;
use super::intern::Names;
use super::locate::Origin;
use super::object;
use super::word::{PROTOCOLS, bad_name, is_dns_label, no_name, one_of, quoted};

/// Session affinity that is not told how long to last, in seconds.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;
/// Longest session affinity, in seconds: a day.
const MAX_AFFINITY_SECONDS: i64 = 86_400;

/// A Service that was read, with what is still to be chosen for it.
#[derive(Debug)]
pub(super) struct Draft {
    /// The Service.
    pub(super) service: Service,
    /// Where it begins.
    pub(super) origin: Origin,
    /// What it has not got yet.
    pub(super) wants: Wants,
}

/// Values that the API server would choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wants {
    /// It has no cluster IP at all.
    pub(super) any_cluster_ip: bool,
    /// It does not say which family it wants: one is enough.
    pub(super) one_family: bool,
    /// Cluster IPs of these families, if there is a range for them.
    pub(super) cluster_ips: PerFamily<bool>,
    /// A node port for every port that has none.
    pub(super) node_ports: bool,
    /// A health-check node port.
    pub(super) health_check_node_port: bool,
}

/// What became of a Service.
#[derive(Debug)]
pub(super) enum Reading {
    /// It has rules.
    Served(Box<Draft>),
    /// It is as it should be, and has no rules.
    Unserved,
    /// It is left out for an error.
    Failed,
}

/// A Service that was read, with its name.
#[derive(Debug)]
pub(super) struct NamedReading {
    /// Its name.
    pub(super) name: ServiceName,
    /// Where it begins.
    pub(super) origin: Origin,
    /// Whether `spec.selector` is empty.
    pub(super) selectorless: bool,
    /// What became of it.
    pub(super) reading: Reading,
}

/// The `spec.type` of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ApiType {
    Served(ServiceType),
    ExternalName,
}

const TYPES: [(&str, ApiType); 5] = [
    ("", ApiType::Served(ServiceType::ClusterIp)),
    ("ClusterIP", ApiType::Served(ServiceType::ClusterIp)),
    ("NodePort", ApiType::Served(ServiceType::NodePort)),
    ("LoadBalancer", ApiType::Served(ServiceType::LoadBalancer)),
    ("ExternalName", ApiType::ExternalName),
];
const POLICIES: [(&str, TrafficPolicy); 3] =
    [("", TrafficPolicy::Cluster), ("Cluster", TrafficPolicy::Cluster), ("Local", TrafficPolicy::Local)];
const AFFINITIES: [(&str, bool); 3] = [("", false), ("None", false), ("ClientIP", true)];
const FAMILIES: [(&str, IpFamily); 2] = [("IPv4", IpFamily::V4), ("IPv6", IpFamily::V6)];

/// Namespace and name of a Service or another namespaced object, checked. `None` is an error that was said.
pub(super) fn read_name(
    kind: &str,
    metadata: &object::Metadata<'_>,
    default_namespace: &str,
    names: &mut Names,
    findings: &mut Findings<'_>,
) -> Option<ServiceName> {
    let namespace: &str = if metadata.namespace.is_empty() { default_namespace } else { &metadata.namespace };
    let good_namespace = is_dns_label(namespace);
    let good_name = is_dns_label(&metadata.name);
    if good_namespace && good_name {
        findings.object = format!("{kind} {namespace}/{}", &*metadata.name);
        return Some(ServiceName {
            namespace: names.namespaces.get(namespace),
            name: (*metadata.name).into(),
        });
    }
    findings.object = kind.to_owned();
    if metadata.name.is_empty() {
        no_name(kind, metadata, findings);
    } else if !good_name {
        findings.add("metadata.name", bad_name("the name", &metadata.name));
    }
    if !good_namespace {
        findings.add("metadata.namespace", bad_name("the namespace", namespace));
    }
    None
}

/// Reads a Service. `None` if it has no proper name.
pub(super) fn read(
    service: &object::Service<'_>,
    default_namespace: &str,
    names: &mut Names,
    findings: &mut Findings<'_>,
) -> Option<NamedReading> {
    let name = read_name("Service", &service.metadata, default_namespace, names, findings)?;
    let reading = match convert(service, &name, names, findings) {
        _ if findings.failed => Reading::Failed,
        Some(draft) => Reading::Served(Box::new(draft)),
        None => Reading::Unserved,
    };
    Some(NamedReading { name, origin: findings.origin, selectorless: !service.spec.selector.is_set, reading })
}

fn convert(
    service: &object::Service<'_>,
    name: &ServiceName,
    names: &mut Names,
    findings: &mut Findings<'_>,
) -> Option<Draft> {
    let spec = &service.spec;
    // A type that was misspelt fails the Service; the rest of it is still looked through.
    let kind = one_of(findings, "spec.type", &spec.kind, &TYPES);
    let ApiType::Served(kind) = kind.unwrap_or(TYPES[0].1) else { return None };
    if service.metadata.labels.has_service_proxy_name || &*spec.cluster_ip == "None" {
        return None;
    }
    let mut wants = Wants::default();
    let cluster_ips = read_cluster_ips(spec, &mut wants, findings);
    let ports = read_ports(&spec.ports, names, findings);
    let external_traffic_policy =
        one_of(findings, "spec.externalTrafficPolicy", &spec.external_traffic_policy, &POLICIES)
            .unwrap_or(TrafficPolicy::Cluster);
    let may_allocate = match kind {
        ServiceType::ClusterIp => false,
        ServiceType::NodePort => true,
        ServiceType::LoadBalancer => spec.allocate_load_balancer_node_ports != Some(false),
    };
    wants.node_ports = may_allocate && ports.iter().any(|port| port.node_port.is_none());
    let health_check_node_port =
        read_port(findings, "spec.healthCheckNodePort", spec.health_check_node_port, true);
    wants.health_check_node_port = kind == ServiceType::LoadBalancer
        && external_traffic_policy == TrafficPolicy::Local
        && health_check_node_port.is_none();
    let draft = Service {
        name: name.clone(),
        kind,
        cluster_ips,
        external_ips: read_external_ips(&spec.external_ips, findings),
        has_external_ips: !spec.external_ips.is_empty(),
        load_balancer_ips: read_ingress(&service.status.load_balancer.ingress, findings),
        source_ranges: read_source_ranges(&spec.load_balancer_source_ranges, findings),
        affinity_seconds: read_affinity(spec, findings),
        internal_traffic_policy: one_of(
            findings,
            "spec.internalTrafficPolicy",
            &spec.internal_traffic_policy,
            &POLICIES,
        )
        .unwrap_or(TrafficPolicy::Cluster),
        external_traffic_policy,
        health_check_node_port,
        ports,
        placeholders: Placeholders::default(),
    };
    Some(Draft { service: draft, origin: findings.origin, wants })
}

/// The cluster IP of each family (reference section 1.4), and those that are missing.
fn read_cluster_ips(
    spec: &object::ServiceSpec<'_>,
    wants: &mut Wants,
    findings: &mut Findings<'_>,
) -> PerFamily<Option<IpAddr>> {
    let mut cluster_ips = PerFamily::default();
    let mut families = Vec::with_capacity(2);
    for (i, family) in spec.ip_families.iter().enumerate() {
        if let Some(family) = one_of(findings, &format!("spec.ipFamilies[{i}]"), family, &FAMILIES) {
            families.push(family);
        }
    }
    let dual = matches!(&*spec.ip_family_policy, "PreferDualStack" | "RequireDualStack");
    if spec.cluster_ip.is_empty() {
        wants.any_cluster_ip = true;
        wants.one_family = families.is_empty() && !dual;
        for family in IpFamily::ALL {
            *wants.cluster_ips.get_mut(family) = dual || families.is_empty() || families.contains(&family);
        }
        return cluster_ips;
    }
    let only = [spec.cluster_ip.clone()];
    let (texts, field) = if spec.cluster_ips.is_empty() {
        (only.as_slice(), "spec.clusterIP")
    } else {
        (spec.cluster_ips.as_slice(), "spec.clusterIPs")
    };
    let mut addrs = Vec::with_capacity(2);
    for (i, text) in texts.iter().enumerate() {
        let path = if spec.cluster_ips.is_empty() { field.to_owned() } else { format!("{field}[{i}]") };
        match parse_addr_sloppy(text) {
            Some(addr) => addrs.push(addr),
            None => findings.add(path, bad_address("cluster IP", text)),
        }
    }
    if addrs.len() != texts.len() {
        return cluster_ips;
    }
    let primary = parse_addr_sloppy(&spec.cluster_ip);
    if primary != addrs.first().copied() {
        let message = format!(
            "clusterIP {} is not the first of clusterIPs, {}",
            quoted(&spec.cluster_ip),
            texts.first().map_or_else(String::new, |text| quoted(text))
        );
        findings.add("spec.clusterIP", Diagnostic::error("cluster-ip-mismatch", message));
        return cluster_ips;
    }
    let of_families: BTreeSet<IpFamily> = addrs.iter().map(|addr| IpFamily::of(*addr)).collect();
    if of_families.len() < addrs.len() {
        let shown: Vec<String> = addrs.iter().take(4).map(|addr| format!("`{addr}`")).collect();
        let message = format!("clusterIPs has more than one address of a family: {}", shown.join(", "));
        let diagnostic = Diagnostic::error("family-mismatch", message);
        findings.add("spec.clusterIPs[1]", diagnostic.hint("it takes one IPv4 and one IPv6 address at most"));
        return cluster_ips;
    }
    if spec.ip_families.is_empty() {
        if let Some(addr) = primary {
            *cluster_ips.get_mut(IpFamily::of(addr)) = Some(addr);
        }
        return cluster_ips;
    }
    for (i, family) in families.iter().enumerate() {
        match addrs.get(i) {
            Some(addr) if IpFamily::of(*addr) == *family => *cluster_ips.get_mut(*family) = Some(*addr),
            Some(addr) => {
                let message = format!("cluster IP `{addr}` is not {family}, as ipFamilies says");
                findings.add(format!("spec.ipFamilies[{i}]"), Diagnostic::error("family-mismatch", message));
            }
            None => *wants.cluster_ips.get_mut(*family) = true,
        }
    }
    cluster_ips
}

pub(super) fn bad_address(what: &str, text: &str) -> Diagnostic {
    Diagnostic::error("bad-address", format!("{what} {} is not an IP address", quoted(text)))
}

fn ignored_address(what: &str, text: &str) -> Diagnostic {
    let message = format!("{what} {} is not an IP address", quoted(text));
    Diagnostic::warning("bad-address", message).hint("kube-proxy leaves it out, and so is done here")
}

fn read_external_ips(texts: &[object::Text<'_>], findings: &mut Findings<'_>) -> Vec<IpAddr> {
    let mut addrs = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        match parse_addr_sloppy(text) {
            Some(addr) => addrs.push(addr),
            None => findings.add(format!("spec.externalIPs[{i}]"), ignored_address("external IP", text)),
        }
    }
    addrs
}

fn read_ingress(ingress: &[object::Ingress<'_>], findings: &mut Findings<'_>) -> Vec<IpAddr> {
    let mut addrs = Vec::new();
    for (i, entry) in ingress.iter().enumerate() {
        let is_vip = match entry.ip_mode.as_deref() {
            None | Some("VIP") => true,
            Some("Proxy") => false,
            Some(mode) => {
                let message = format!("ipMode cannot be {}", quoted(mode));
                findings.add(
                    format!("status.loadBalancer.ingress[{i}].ipMode"),
                    Diagnostic::warning("unknown-word", message)
                        .hint("it can be `VIP`, `Proxy`; the address is left out"),
                );
                false
            }
        };
        if !is_vip || entry.ip.is_empty() {
            continue;
        }
        match parse_addr_sloppy(&entry.ip) {
            Some(addr) => addrs.push(addr),
            None => findings.add(
                format!("status.loadBalancer.ingress[{i}].ip"),
                ignored_address("load balancer IP", &entry.ip),
            ),
        }
    }
    addrs
}

fn read_source_ranges(texts: &[object::Text<'_>], findings: &mut Findings<'_>) -> Vec<IpCidr> {
    let mut ranges = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        match IpCidr::parse_sloppy(text.trim()) {
            Some(range) => ranges.push(range),
            None => {
                let message = format!("source range {} is not a CIDR", quoted(text));
                findings.add(
                    format!("spec.loadBalancerSourceRanges[{i}]"),
                    Diagnostic::warning("bad-cidr", message)
                        .hint("write it as `192.0.2.0/24`; kube-proxy leaves it out, and so is done here"),
                );
            }
        }
    }
    ranges
}

fn read_affinity(spec: &object::ServiceSpec<'_>, findings: &mut Findings<'_>) -> Option<u32> {
    if !one_of(findings, "spec.sessionAffinity", &spec.session_affinity, &AFFINITIES)? {
        return None;
    }
    match spec.session_affinity_config.client_ip.timeout_seconds {
        None => Some(DEFAULT_AFFINITY_SECONDS),
        Some(seconds @ 1..=MAX_AFFINITY_SECONDS) => u32::try_from(seconds).ok(),
        Some(seconds) => {
            let message = format!("timeoutSeconds `{seconds}` is not between 1 and {MAX_AFFINITY_SECONDS}");
            findings.add(
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                Diagnostic::error("bad-timeout", message),
            );
            None
        }
    }
}

/// A port number; 0 is none. Says so if it is out of range.
fn read_port(findings: &mut Findings<'_>, path: &str, number: i64, zero_is_none: bool) -> Option<Port> {
    if number == 0 && zero_is_none {
        return None;
    }
    match Port::try_from(number) {
        Ok(port) if port > 0 => Some(port),
        Ok(_) | Err(_) => {
            let field = path.rsplit('.').next().unwrap_or(path);
            let message = format!("{field} `{number}` is not between 1 and 65535");
            findings.add(path, Diagnostic::error("bad-port", message));
            None
        }
    }
}

fn read_ports(
    ports: &[object::ServicePort<'_>],
    names: &mut Names,
    findings: &mut Findings<'_>,
) -> Vec<ServicePort> {
    if ports.is_empty() {
        findings.add("spec", Diagnostic::error("no-ports", "the Service has no ports"));
    }
    let mut read: Vec<ServicePort> = Vec::with_capacity(ports.len());
    let mut port_names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        if port.name.is_empty() && ports.len() > 1 {
            let message = format!("port {} of {} has no name", i + 1, ports.len());
            let diagnostic = Diagnostic::error("unnamed-port", message);
            findings.add(
                format!("spec.ports[{i}]"),
                diagnostic.hint("with more than one port, every port needs a name"),
            );
        } else if !port.name.is_empty() && !is_dns_label(&port.name) {
            findings.add(format!("spec.ports[{i}].name"), bad_name("the port name", &port.name));
        }
        let known =
            PROTOCOLS.iter().find(|(word, _)| *word == &*port.protocol).map(|(_, protocol)| *protocol);
        let protocol = known
            .or_else(|| one_of(findings, &format!("spec.ports[{i}].protocol"), &port.protocol, &PROTOCOLS));
        let number = match port.port {
            1..=65535 => Port::try_from(port.port).ok(),
            _ => read_port(findings, &format!("spec.ports[{i}].port"), port.port, false),
        };
        let node_port = match port.node_port {
            0 => None,
            number => read_port(findings, &format!("spec.ports[{i}].nodePort"), number, true),
        };
        let (Some(protocol), Some(number)) = (protocol, number) else { continue };
        if ports.len() > 1 && !port.name.is_empty() && !port_names.insert(&*port.name) {
            let message = format!("there is another port named {}", quoted(&port.name));
            findings.add(format!("spec.ports[{i}].name"), Diagnostic::error("duplicate-port", message));
        }
        if ports.len() > 1 && !numbers.insert((number, protocol)) {
            let message = format!("there is another port `{number}` with protocol {}", protocol.api_name());
            findings.add(format!("spec.ports[{i}].port"), Diagnostic::error("duplicate-port", message));
        }
        read.push(ServicePort { name: names.words.get(&port.name), protocol, port: number, node_port });
    }
    read
}
