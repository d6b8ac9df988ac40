//! What `verify` found, as JSON: a stable schema of our own; and as SARIF 2.1.0, for code scanning.

use std::io;

use serde::Serialize;

use crate::net::IpFamily;
use crate::verify::{Difference, Report, Subject, Tally};

use super::verify::{NameOf, packet_text, subject_name};

#[derive(Serialize)]
struct Verification<'a> {
    /// Whether nothing differs, and nothing had to be assumed.
    same: bool,
    families: Vec<Family<'a>>,
    /// What the mode does otherwise than others, which is no difference.
    known: &'a [&'a str],
}

#[derive(Serialize)]
struct Family<'a> {
    family: &'static str,
    packets: usize,
    destinations: usize,
    services: Vec<Service<'a>>,
    /// What could not be compared, and was taken to be as it must.
    assumed: Option<&'a str>,
}

#[derive(Serialize)]
struct Service<'a> {
    /// The address of packets that no Service of the manifests has, else `null`; then the four below are.
    address: Option<String>,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
    port: Option<&'a str>,
    protocol: Option<&'static str>,
    /// How many packets differ.
    differing: usize,
    witnesses: Vec<Witness<'a>>,
}

#[derive(Serialize)]
struct Witness<'a> {
    packet: String,
    remembered: Option<Remembered>,
    wanted: String,
    found: String,
    path: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Remembered {
    endpoint: String,
    age_seconds: f64,
}

fn family_name(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "IPv4",
        IpFamily::V6 => "IPv6",
    }
}

fn witness(difference: &Difference) -> Witness<'_> {
    Witness {
        packet: difference.packet.to_string(),
        remembered: difference.remembered.map(|(endpoint, age)| Remembered {
            endpoint: endpoint.to_string(),
            age_seconds: age.as_secs_f64(),
        }),
        wanted: difference.wanted.to_string(),
        found: difference.found.to_string(),
        path: &difference.path,
    }
}

fn service<'a>((subject, tally): (&'a Subject, &'a Tally)) -> Service<'a> {
    let (port, addr) = match subject {
        Subject::Service(port) => (Some(port), None),
        Subject::Address(addr) => (None, Some(addr)),
    };
    Service {
        address: addr.map(ToString::to_string),
        namespace: port.map(|port| port.service.namespace.as_ref()),
        name: port.map(|port| port.service.name.as_ref()),
        port: port.map(|port| port.port.as_ref()),
        protocol: port.map(|port| port.protocol.api_name()),
        differing: tally.n_packets,
        witnesses: tally.witnesses.iter().map(witness).collect(),
    }
}

/// Writes it as one JSON object.
pub fn write(out: &mut dyn io::Write, reports: &[Report], known: &[&str]) -> io::Result<()> {
    let family = |report: &'_ Report| family_name(report.family);
    let families = reports
        .iter()
        .map(|report| Family {
            family: family(report),
            packets: report.n_packets,
            destinations: report.n_destinations,
            services: report.subjects.iter().map(service).collect(),
            assumed: report.assumed.as_deref(),
        })
        .collect();
    let verification = Verification { same: reports.iter().all(Report::is_same), families, known };
    serde_json::to_writer_pretty(&mut *out, &verification)?;
    writeln!(out)
}

/// The rule of SARIF that every result of a packet is of.
const RULE: &str = "packet-fate";
/// That of what could not be compared.
const ASSUMED: &str = "not-compared";

/// Writes it as SARIF: a result for each Service port and family that differs.
pub fn write_sarif(out: &mut dyn io::Write, reports: &[Report], name_of: &NameOf<'_>) -> io::Result<()> {
    let mut results = Vec::new();
    for report in reports {
        for (subject, tally) in &report.subjects {
            let name = subject_name(subject, tally, name_of);
            let packets: Vec<String> = tally
                .witnesses
                .iter()
                .map(|one| format!("{}: wanted {}, found {}", packet_text(one), one.wanted, one.found))
                .collect();
            results.push(serde_json::json!({
                "ruleId": RULE,
                "level": "error",
                "message": {
                    "text": format!("{name}, {}: {} packets differ\n{}", report.family, tally.n_packets, packets.join("\n")),
                },
                "locations": [{ "logicalLocations": [{ "fullyQualifiedName": name, "kind": "resource" }] }],
            }));
        }
        if let Some(assumed) = &report.assumed {
            results.push(serde_json::json!({
                "ruleId": ASSUMED,
                "level": "error",
                "message": { "text": format!("{}: {assumed}", report.family) },
            }));
        }
    }
    let rule = serde_json::json!({
        "id": RULE,
        "shortDescription": { "text": "The rules of the node do with a packet what the manifests do not say" },
    });
    let assumed = serde_json::json!({
        "id": ASSUMED,
        "shortDescription": { "text": "Something that decides about packets could not be compared" },
    });
    let driver = serde_json::json!({
        "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION"), "rules": [rule, assumed],
    });
    let log = serde_json::json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{ "tool": { "driver": driver }, "results": results }],
    });
    serde_json::to_writer_pretty(&mut *out, &log)?;
    writeln!(out)
}
