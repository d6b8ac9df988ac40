//! The same results as JSON, for programs: a stable schema of our own, apart from the core's types.

use std::io;

use serde::Serialize;

use crate::backend::{Changes, LiftedName, LiftedVip, ObjectChange, PortChange};
use crate::net::IpFamily;

use super::diff::IsPlaceholder;

#[derive(Serialize)]
struct Diff<'a> {
    /// Whether nothing differs.
    same: bool,
    families: Vec<Family<'a>>,
    /// What is to be set apart from rules, in words.
    settings: &'a [String],
}

#[derive(Serialize)]
struct Family<'a> {
    family: &'static str,
    services: Vec<Service<'a>>,
    chains: Vec<Chain<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Service<'a> {
    change: &'static str,
    namespace: &'a str,
    name: &'a str,
    port: &'a str,
    protocol: &'static str,
    cluster_ip: Option<String>,
    placeholder: bool,
    vips: Vec<String>,
    vips_added: Vec<String>,
    vips_removed: Vec<String>,
    refused: Vec<String>,
    endpoints: Vec<String>,
    endpoints_added: Vec<String>,
    endpoints_removed: Vec<String>,
}

#[derive(Serialize)]
struct Chain<'a> {
    table: &'a str,
    chain: &'a str,
    change: &'static str,
    live: &'a [String],
    wanted: &'a [String],
}

fn texts<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

fn service<'a>(name: &'a LiftedName, change: &PortChange, placeholder: &IsPlaceholder<'_>) -> Service<'a> {
    let (display, protocol) = name;
    let (namespace, rest) = display.split_once('/').unwrap_or(("", display));
    let (service, port) = rest.split_once(':').unwrap_or((rest, ""));
    let ((vips_added, vips_removed), (endpoints_added, endpoints_removed)) =
        (change.vips(), change.endpoints());
    let side = change.port();
    Service {
        change: match change {
            PortChange::Added(_) => "add",
            PortChange::Removed(_) => "remove",
            PortChange::Changed { .. } => "change",
        },
        namespace,
        name: service,
        port,
        protocol: protocol.api_name(),
        cluster_ip: side.cluster_ip.map(|vip| vip.addr.to_string()),
        placeholder: placeholder(name),
        vips: texts(&side.vips),
        vips_added: texts::<LiftedVip>(vips_added),
        vips_removed: texts::<LiftedVip>(vips_removed),
        refused: texts(&side.closed),
        endpoints: texts(&side.endpoints),
        endpoints_added: texts(endpoints_added),
        endpoints_removed: texts(endpoints_removed),
    }
}

/// Writes the difference of all families as one JSON object.
pub fn write_diff(
    out: &mut dyn io::Write,
    changes: &[(IpFamily, Changes)],
    settings: &[String],
    same: bool,
    placeholder: &IsPlaceholder<'_>,
) -> io::Result<()> {
    let families = changes
        .iter()
        .map(|(family, changes)| Family {
            family: match family {
                IpFamily::V4 => "IPv4",
                IpFamily::V6 => "IPv6",
            },
            services: changes.ports.iter().map(|(name, change)| service(name, change, placeholder)).collect(),
            chains: changes
                .chains
                .iter()
                .map(|delta| Chain {
                    table: &delta.table,
                    chain: &delta.chain,
                    change: match delta.change {
                        ObjectChange::Create => "create",
                        ObjectChange::Rewrite => "rewrite",
                        ObjectChange::Delete => "delete",
                        ObjectChange::Jumps => "jumps",
                    },
                    live: &delta.live,
                    wanted: &delta.wanted,
                })
                .collect(),
        })
        .collect();
    serde_json::to_writer_pretty(&mut *out, &Diff { same, families, settings })?;
    writeln!(out)
}
