//! Services, endpoints, chains and numbers as rules tell of them, as tables.

use std::collections::BTreeSet;
use std::io;

use crate::backend::{CarryingRule, EndpointLoad, LiftedName, LiftedPolicies, LiftedVip};
use crate::inspect::{ChainOwner, ChainRow, Finding, Reading, ServiceReading};
use crate::net::{AddrPort, IpFamily};
use crate::program::ipvs::{Connections, Counters};
use crate::program::xtables::Counter;
use crate::resolve::FrontendKind;

use super::table;

/// What was found in one family.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// The family.
    pub family: IpFamily,
    /// Services, for each set of rules that serves any.
    pub readings: Vec<Reading>,
    /// Chains, sets and maps.
    pub chains: Vec<ChainRow>,
    /// What is odd.
    pub findings: Vec<Finding>,
}

/// How much a table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detail {
    /// Everything, however wide.
    pub wide: bool,
    /// The columns of the terminal, if it is to fit one.
    pub width: Option<u16>,
}

/// Every Service port with the reading that it is of, by name.
fn services(inspections: &[Inspection]) -> impl Iterator<Item = (&Reading, &LiftedName, &ServiceReading)> {
    let readings = inspections.iter().flat_map(|one| &one.readings);
    let mut all: Vec<_> = readings
        .flat_map(|reading| reading.services.iter().map(move |(name, service)| (reading, name, service)))
        .collect();
    all.sort_by_key(|(reading, name, _)| (*name, reading.family, reading.source));
    all.into_iter()
}

/// Endpoints as a table has them: a text, if they are known.
fn known(reading: &Reading, text: impl FnOnce() -> String) -> String {
    if reading.knows_endpoints { text() } else { "?".to_owned() }
}

/// Whether it must be said whose rules a row is of.
fn has_several_sources(inspections: &[Inspection]) -> bool {
    let readings = inspections.iter().flat_map(|one| &one.readings);
    let holders: BTreeSet<_> = readings.map(Reading::holder).collect();
    holders.len() > 1
}

/// Writes a line for each Service port.
pub fn write_services(out: &mut dyn io::Write, inspections: &[Inspection], detail: Detail) -> io::Result<()> {
    let sources = detail.wide || has_several_sources(inspections);
    let mut head = vec!["SERVICE", "PROTOCOL", "VIPS", "ENDPOINTS"];
    if detail.wide {
        head.extend(["AFFINITY", "INTERNAL", "EXTERNAL", "RANGES", "CONNECTIONS"]);
    }
    if sources {
        head.push("RULES");
    }
    let rows = services(inspections).map(|(reading, (name, protocol), service)| {
        let vips: Vec<String> = service.port.vips.iter().map(|vip| vip_text(service, *vip)).collect();
        let endpoints = known(reading, || {
            let all = &service.port.endpoints;
            if detail.wide {
                listed(all.iter().map(ToString::to_string).collect())
            } else {
                all.len().to_string()
            }
        });
        let mut row = vec![name.clone(), protocol.to_string(), vips.join(" "), endpoints];
        if detail.wide {
            let policies = &service.policies;
            row.push(affinity(policies));
            row.push(policy(policies.internal_local).to_owned());
            row.push(policy(policies.external_local).to_owned());
            row.push(listed(policies.source_ranges.clone()));
            row.push(connections(reading, policies));
        }
        if sources {
            row.push(format!("{} {}", reading.holder(), reading.family));
        }
        row
    });
    table::write_wide(out, &head.into_iter().map(str::to_owned).collect::<Vec<_>>(), rows, detail.width)
}

/// Writes a line for each endpoint of each Service port.
pub fn write_endpoints(
    out: &mut dyn io::Write,
    inspections: &[Inspection],
    detail: Detail,
) -> io::Result<()> {
    let policies = || services(inspections).map(|(.., service)| &service.policies);
    let counted = policies().any(|policies| !policies.endpoint_counts.is_empty());
    let is_worth_telling = |load: &EndpointLoad| load.connections.is_some() || load.is_draining;
    let loaded = policies().any(|policies| policies.endpoint_loads.values().any(is_worth_telling));
    let sources = detail.wide || has_several_sources(inspections);
    let mut head = vec!["SERVICE", "PROTOCOL", "ENDPOINT"];
    if counted {
        head.extend(["CONNECTIONS", "BYTES"]);
    }
    if loaded {
        head.extend(["ACTIVE", "INACTIVE", "STATE"]);
    }
    if sources {
        head.push("RULES");
    }
    let rows = services(inspections).flat_map(|(reading, (name, protocol), service)| {
        endpoints(service).into_iter().map(move |endpoint| {
            let mut row = vec![name.clone(), protocol.to_string(), endpoint.to_string()];
            if counted {
                let counter = service.policies.endpoint_counts.get(endpoint).copied();
                let number = |part: fn(Counter) -> u64| {
                    counter.map_or_else(|| "-".to_owned(), |counter| part(counter).to_string())
                };
                row.extend([number(|counter| counter.packets), number(|counter| counter.bytes)]);
            }
            if loaded {
                let load = service.policies.endpoint_loads.get(endpoint);
                let connections = load.and_then(|load| load.connections);
                let number = |part: fn(Connections) -> u32| {
                    connections.map_or_else(|| "-".to_owned(), |connections| part(connections).to_string())
                };
                row.extend([number(|held| held.active), number(|held| held.inactive)]);
                let is_draining = load.is_some_and(|load| load.is_draining);
                row.push(if is_draining { "draining" } else { "-" }.to_owned());
            }
            if sources {
                row.push(format!("{} {}", reading.holder(), reading.family));
            }
            row
        })
    });
    table::write_wide(out, &head.into_iter().map(str::to_owned).collect::<Vec<_>>(), rows, detail.width)
}

/// Writes a line for each chain, set and map; of those of Services only with `wide`.
pub fn write_chains(out: &mut dyn io::Write, inspections: &[Inspection], detail: Detail) -> io::Result<()> {
    let shown =
        |row: &&ChainRow| detail.wide || row.is_orphan() || !matches!(row.owner, ChainOwner::Service(_));
    let rows = inspections.iter().flat_map(|one| {
        let row = |row: &ChainRow| {
            [
                format!("{} {}", row.source, one.family),
                row.table.clone(),
                row.name.clone(),
                row.kind.to_owned(),
                row.len.to_string(),
                if row.is_base { "hook".to_owned() } else { row.references.to_string() },
                owner(row),
            ]
        };
        one.chains.iter().filter(shown).map(row).collect::<Vec<_>>()
    });
    let head = ["RULES", "TABLE", "NAME", "KIND", "LENGTH", "REFERENCES", "OWNER"];
    table::write(out, head, rows, detail.width)?;
    let n_hidden: usize =
        inspections.iter().map(|one| one.chains.iter().filter(|row| !shown(row)).count()).sum();
    if n_hidden > 0 {
        writeln!(out, "\n{n_hidden} chains and sets of Services are not shown: `-o wide` shows them")?;
    }
    Ok(())
}

/// Writes numbers, a line for each set of rules.
pub fn write_stats(out: &mut dyn io::Write, inspections: &[Inspection], detail: Detail) -> io::Result<()> {
    let rows = stats(inspections).into_iter().map(|stats| {
        [
            stats.rules_of,
            stats.n_chains.to_string(),
            stats.n_rules.to_string(),
            stats.n_sets.to_string(),
            stats.n_elements.to_string(),
            stats.n_services.to_string(),
            stats.n_vips.to_string(),
            stats.n_closed.to_string(),
            stats.n_endpoints.to_string(),
            stats.connections.map_or_else(|| "-".to_owned(), |n| n.to_string()),
        ]
    });
    let head = [
        "RULES",
        "CHAINS",
        "LENGTH",
        "SETS",
        "ELEMENTS",
        "SERVICES",
        "VIPS",
        "CLOSED",
        "ENDPOINTS",
        "CONNECTIONS",
    ];
    table::write(out, head, rows, detail.width)
}

/// Numbers of one set of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stats {
    pub(super) rules_of: String,
    pub(super) n_chains: usize,
    pub(super) n_rules: usize,
    pub(super) n_sets: usize,
    pub(super) n_elements: usize,
    pub(super) n_services: usize,
    pub(super) n_vips: usize,
    pub(super) n_closed: usize,
    pub(super) n_endpoints: usize,
    pub(super) connections: Option<u64>,
}

pub(super) fn stats(inspections: &[Inspection]) -> Vec<Stats> {
    let mut all = Vec::new();
    for one in inspections {
        let sources: BTreeSet<_> = one.chains.iter().map(|row| row.source).collect();
        for source in sources {
            let rows = || one.chains.iter().filter(move |row| row.source == source);
            let chains = || rows().filter(|row| row.kind == "chain");
            let sets = || rows().filter(|row| matches!(row.kind, "set" | "map"));
            let readings = || one.readings.iter().filter(move |reading| reading.source == source);
            let services = || readings().flat_map(|reading| reading.services.values());
            let counted = readings().any(|reading| reading.counted);
            all.push(Stats {
                rules_of: format!("{source} {}", one.family),
                n_chains: chains().count(),
                n_rules: chains().map(|row| row.len).sum(),
                n_sets: sets().count(),
                n_elements: sets().map(|row| row.len).sum(),
                n_services: services().count(),
                n_vips: services().map(|service| service.port.vips.len()).sum(),
                n_closed: services().map(|service| service.port.closed.len()).sum(),
                n_endpoints: services().map(|service| service.port.endpoints.len()).sum(),
                connections: counted
                    .then(|| services().map(|service| n_connections(&service.policies)).sum()),
            });
        }
    }
    all
}

/// Writes all that is known of one Service port, and the rules that carry it.
pub fn write_service(
    out: &mut dyn io::Write,
    reading: &Reading,
    (name, protocol): &LiftedName,
    rules: &[CarryingRule],
    detail: Detail,
) -> io::Result<()> {
    let Some(service) = reading.services.get(&(name.clone(), *protocol)) else { return Ok(()) };
    let policies = &service.policies;
    writeln!(out, "{name} {protocol} in {} {}", reading.holder(), reading.family)?;
    for vip in &service.port.vips {
        let kind = match (policies.kinds.get(vip), vip) {
            (Some(kind), _) => format!("{} ", kind_text(*kind)),
            (None, LiftedVip::HealthCheck(_)) => String::new(),
            (None, LiftedVip::Address(_) | LiftedVip::NodePort(_)) => "VIP ".to_owned(),
        };
        let counted = policies.vip_counts.get(vip);
        let counted = counted.map(|counter| format!(", {} connections", counter.packets)).unwrap_or_default();
        let passed = policies.vip_traffic.get(vip).map(traffic_text).unwrap_or_default();
        writeln!(out, "  {kind}{}{counted}{passed}", vip_text(service, *vip))?;
    }
    if !reading.knows_endpoints {
        writeln!(out, "  endpoints are not known")?;
    }
    for endpoint in endpoints(service) {
        let counted = policies.endpoint_counts.get(endpoint);
        let counted = counted.map(|counter| format!(", {} connections", counter.packets)).unwrap_or_default();
        let load = policies.endpoint_loads.get(endpoint).map(load_text).unwrap_or_default();
        writeln!(out, "  endpoint {endpoint}{counted}{load}")?;
    }
    writeln!(out, "  affinity {}", affinity(policies))?;
    writeln!(
        out,
        "  traffic policies: internal {}, external {}",
        policy(policies.internal_local),
        policy(policies.external_local)
    )?;
    if !policies.source_ranges.is_empty() {
        writeln!(out, "  load balancer for {} only", policies.source_ranges.join(", "))?;
    }
    writeln!(out)?;
    let counted = rules.iter().any(|rule| rule.counter.is_some());
    let mut head = vec!["TABLE", "CHAIN", "RULE", "WHAT IT DOES"];
    if counted {
        head.push("PACKETS");
    }
    if detail.wide {
        head.push("TEXT");
    }
    let rows = rules.iter().map(|rule| {
        let word = match rule.vip {
            Some(vip) => format!("{vip}: {}", rule.word),
            None => rule.word.clone(),
        };
        let mut row = vec![rule.table.clone(), rule.chain.clone(), rule.place.to_string(), word];
        if counted {
            row.push(rule.counter.map(|counter| counter.packets.to_string()).unwrap_or_default());
        }
        if detail.wide {
            row.push(rule.text.clone());
        }
        row
    });
    let head: Vec<String> = head.into_iter().map(str::to_owned).collect();
    table::write_wide(out, &head, rows, detail.width)?;
    writeln!(out)
}

/// Writes what is odd, a line each.
pub fn write_findings(out: &mut dyn io::Write, inspections: &[Inspection]) -> io::Result<()> {
    let mut first = true;
    for one in inspections {
        for finding in &one.findings {
            if std::mem::take(&mut first) {
                writeln!(out)?;
            }
            writeln!(out, "{} ({}): {}", finding.kind.as_str(), one.family, super::one_line(&finding.text))?;
        }
    }
    Ok(())
}

/// The endpoints, with those that only keep the connections that they have.
pub(super) fn endpoints(service: &ServiceReading) -> BTreeSet<&AddrPort> {
    service.port.endpoints.iter().chain(service.policies.endpoint_loads.keys()).collect()
}

fn traffic_text(passed: &Counters) -> String {
    let Counters { connections, packets_in, packets_out, bytes_in, bytes_out } = passed;
    format!(
        ", {connections} connections, in {packets_in} packets of {bytes_in} bytes, \
         out {packets_out} packets of {bytes_out} bytes"
    )
}

fn load_text(load: &EndpointLoad) -> String {
    let connections = load.connections.map(|Connections { active, inactive }| {
        format!(", {active} active and {inactive} inactive connections")
    });
    let state = if load.is_draining { ", draining" } else { "" };
    connections.unwrap_or_default() + state
}

fn vip_text(service: &ServiceReading, vip: LiftedVip) -> String {
    if service.port.closed.contains(&vip) { format!("{vip} (closed)") } else { vip.to_string() }
}

/// The kind of a VIP in words.
pub(super) fn kind_text(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp => "cluster IP",
        FrontendKind::ExternalIp => "external IP",
        FrontendKind::LoadBalancer => "load balancer",
        FrontendKind::NodePort => "node port",
    }
}

fn affinity(policies: &LiftedPolicies) -> String {
    policies.affinity_seconds.map_or_else(|| "none".to_owned(), |seconds| format!("ClientIP {seconds} s"))
}

fn policy(local: Option<bool>) -> &'static str {
    match local {
        Some(true) => "Local",
        Some(false) => "Cluster",
        None => "-",
    }
}

fn listed(items: Vec<String>) -> String {
    if items.is_empty() { "-".to_owned() } else { items.join(" ") }
}

fn connections(reading: &Reading, policies: &LiftedPolicies) -> String {
    if !reading.counted {
        return "-".to_owned();
    }
    n_connections(policies).to_string()
}

/// New connections to all VIPs.
fn n_connections(policies: &LiftedPolicies) -> u64 {
    let of_rules = policies.vip_counts.values().map(|counter| counter.packets);
    of_rules.chain(policies.vip_traffic.values().map(|passed| passed.connections)).sum()
}

fn owner(row: &ChainRow) -> String {
    let owner = match &row.owner {
        ChainOwner::Service(Some(name)) => name.as_str(),
        ChainOwner::Service(None) => "a Service",
        ChainOwner::Skeleton => "all Services",
        ChainOwner::BuiltIn => "netfilter",
        ChainOwner::Other => "others",
    };
    if row.is_orphan() { format!("{owner} (nothing leads here)") } else { owner.to_owned() }
}
