//! Services, chains and numbers as rules tell of them, as JSON or YAML, in a stable schema of our own.

use std::io;

use serde::Serialize;

use crate::backend::{CarryingRule, LiftedName, LiftedPolicies, LiftedVip};
use crate::inspect::{ChainOwner, ChainRow, Reading, ServiceReading};
use crate::net::AddrPort;
use crate::program::ipvs::Counters;
use crate::program::xtables::Counter;

use super::inspect::{Inspection, endpoints, kind_text, stats};
use super::yaml;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Services, with VIPs and endpoints.
    Services,
    /// Chains, sets and maps.
    Chains,
    /// Numbers.
    Stats,
}

/// The language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

#[derive(Serialize)]
struct Document {
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<Vec<Service>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chains: Option<Vec<Chain>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<Vec<Numbers>>,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    namespace: String,
    name: String,
    port: String,
    protocol: &'static str,
    mode: &'static str,
    source: String,
    family: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_ip: Option<String>,
    vips: Vec<Vip>,
    /// `null` where nothing tells.
    endpoints: Option<Vec<Endpoint>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    affinity_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    internal_traffic_policy: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_traffic_policy: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    source_ranges: Vec<String>,
    /// The rules that carry it, if one Service is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<Vec<Rule>>,
}

#[derive(Serialize)]
struct Vip {
    vip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    /// Whether what is sent there is refused or dropped.
    closed: bool,
    /// New connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    counter: Option<Counts>,
    /// What has passed through virtual servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<Traffic>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Traffic {
    connections: u64,
    packets_in: u64,
    packets_out: u64,
    bytes_in: u64,
    bytes_out: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    counter: Option<Counts>,
    /// Connections that virtual servers have with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    active_connections: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inactive_connections: Option<u32>,
    /// Whether it only keeps the connections that it has.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    draining: bool,
}

#[derive(Serialize)]
struct Counts {
    packets: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Rule {
    table: String,
    chain: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<usize>,
    text: String,
    does: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    counter: Option<Counts>,
}

#[derive(Serialize)]
struct Chain {
    source: String,
    family: String,
    table: String,
    name: String,
    kind: &'static str,
    length: usize,
    references: usize,
    base: bool,
    owner: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    orphan: bool,
}

#[derive(Serialize)]
struct Numbers {
    rules: String,
    chains: usize,
    length: usize,
    sets: usize,
    elements: usize,
    services: usize,
    vips: usize,
    closed: usize,
    endpoints: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<u64>,
}

#[derive(Serialize)]
struct Finding {
    kind: &'static str,
    family: String,
    text: String,
}

/// Writes a part of what was found.
pub fn write(
    out: &mut dyn io::Write,
    inspections: &[Inspection],
    part: Part,
    language: Language,
) -> io::Result<()> {
    let services = || {
        let readings = inspections.iter().flat_map(|one| &one.readings);
        readings
            .flat_map(|reading| {
                reading.services.iter().map(move |(name, one)| service(reading, name, one, None))
            })
            .collect()
    };
    let chains = || {
        let of_family = |one: &Inspection| -> Vec<Chain> {
            one.chains.iter().map(|row| chain(row, &one.family.to_string())).collect()
        };
        inspections.iter().flat_map(of_family).collect()
    };
    let document = Document {
        services: (part == Part::Services).then(services),
        chains: (part == Part::Chains).then(chains),
        stats: (part == Part::Stats).then(|| numbers(inspections)),
        findings: findings(inspections),
    };
    write_document(out, &document, language)
}

/// Writes one Service: each of its ports with the rules that carry it.
pub fn write_service(
    out: &mut dyn io::Write,
    ports: &[(&Reading, &LiftedName, Vec<CarryingRule>)],
    language: Language,
) -> io::Result<()> {
    let view = |(reading, name, rules): &(&Reading, &LiftedName, Vec<CarryingRule>)| {
        let one = reading.services.get(*name)?;
        Some(service(reading, name, one, Some(rules.iter().map(rule).collect())))
    };
    let services = ports.iter().filter_map(view).collect();
    let document = Document { services: Some(services), chains: None, stats: None, findings: Vec::new() };
    write_document(out, &document, language)
}

fn write_document(out: &mut dyn io::Write, document: &Document, language: Language) -> io::Result<()> {
    match language {
        Language::Yaml => yaml::write(out, document),
        Language::Json => {
            serde_json::to_writer_pretty(&mut *out, document)?;
            writeln!(out)
        }
    }
}

fn counts(counter: &Counter) -> Counts {
    Counts { packets: counter.packets, bytes: counter.bytes }
}

fn traffic(passed: &Counters) -> Traffic {
    let Counters { connections, packets_in, packets_out, bytes_in, bytes_out } = *passed;
    Traffic { connections, packets_in, packets_out, bytes_in, bytes_out }
}

fn endpoint(at: AddrPort, policies: &LiftedPolicies) -> Endpoint {
    let load = policies.endpoint_loads.get(&at);
    let connections = load.and_then(|load| load.connections);
    Endpoint {
        endpoint: at.to_string(),
        counter: policies.endpoint_counts.get(&at).map(counts),
        active_connections: connections.map(|held| held.active),
        inactive_connections: connections.map(|held| held.inactive),
        draining: load.is_some_and(|load| load.is_draining),
    }
}

fn service(
    reading: &Reading,
    (display, protocol): &LiftedName,
    one: &ServiceReading,
    rules: Option<Vec<Rule>>,
) -> Service {
    let (namespace, rest) = display.split_once('/').unwrap_or(("", display));
    let (name, port) = rest.split_once(':').unwrap_or((rest, ""));
    let policies = &one.policies;
    let policy = |local: Option<bool>| local.map(|local| if local { "Local" } else { "Cluster" });
    let vip = |vip: &LiftedVip| Vip {
        vip: vip.to_string(),
        kind: policies.kinds.get(vip).map(|kind| kind_text(*kind)),
        closed: one.port.closed.contains(vip),
        counter: policies.vip_counts.get(vip).map(counts),
        traffic: policies.vip_traffic.get(vip).map(traffic),
    };
    Service {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        port: port.to_owned(),
        protocol: protocol.api_name(),
        mode: reading.mode.name(),
        source: reading.source.to_string(),
        family: reading.family.to_string(),
        cluster_ip: one.port.cluster_ip.map(|vip| vip.addr.to_string()),
        vips: one.port.vips.iter().map(vip).collect(),
        endpoints: reading
            .knows_endpoints
            .then(|| endpoints(one).into_iter().map(|at| endpoint(*at, policies)).collect()),
        affinity_seconds: policies.affinity_seconds,
        internal_traffic_policy: policy(policies.internal_local),
        external_traffic_policy: policy(policies.external_local),
        source_ranges: policies.source_ranges.clone(),
        rules,
    }
}

fn rule(rule: &CarryingRule) -> Rule {
    Rule {
        table: rule.table.clone(),
        chain: rule.chain.clone(),
        number: rule.place.number(),
        text: rule.text.clone(),
        does: rule.word.clone(),
        counter: rule.counter.as_ref().map(counts),
    }
}

fn chain(row: &ChainRow, family: &str) -> Chain {
    let (owner, service) = match &row.owner {
        ChainOwner::Service(name) => ("service", name.clone()),
        ChainOwner::Skeleton => ("all services", None),
        ChainOwner::BuiltIn => ("netfilter", None),
        ChainOwner::Other => ("others", None),
    };
    Chain {
        source: row.source.to_string(),
        family: family.to_owned(),
        table: row.table.clone(),
        name: row.name.clone(),
        kind: row.kind,
        length: row.len,
        references: row.references,
        base: row.is_base,
        owner,
        service,
        orphan: row.is_orphan(),
    }
}

fn numbers(inspections: &[Inspection]) -> Vec<Numbers> {
    stats(inspections)
        .into_iter()
        .map(|one| Numbers {
            rules: one.rules_of,
            chains: one.n_chains,
            length: one.n_rules,
            sets: one.n_sets,
            elements: one.n_elements,
            services: one.n_services,
            vips: one.n_vips,
            closed: one.n_closed,
            endpoints: one.n_endpoints,
            connections: one.connections,
        })
        .collect()
}

fn findings(inspections: &[Inspection]) -> Vec<Finding> {
    let of_family = |one: &Inspection| -> Vec<Finding> {
        let finding = |finding: &crate::inspect::Finding| Finding {
            kind: finding.kind.as_str(),
            family: one.family.to_string(),
            text: finding.text.clone(),
        };
        one.findings.iter().map(finding).collect()
    };
    inspections.iter().flat_map(of_family).collect()
}
