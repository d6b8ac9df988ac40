//! Why endpoints are used or not, as JSON, in a stable schema of our own.

use std::io;

use serde::Serialize;

use crate::model::ServiceName;
use crate::packet::Fate;
use crate::resolve::{Account, AccountedPort, Reason, Treatment};

use super::explain::vip_text;

#[derive(Serialize)]
struct Document {
    service: String,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    node: String,
    family: String,
    ports: Vec<Port>,
    /// Endpoints of the Service's slices that serve no port of it.
    strays: Vec<Stray>,
}

#[derive(Serialize)]
struct Port {
    name: String,
    protocol: &'static str,
    endpoints: Vec<Endpoint>,
    vips: Vec<Vip>,
}

#[derive(Serialize)]
struct Endpoint {
    endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    ready: bool,
    serving: bool,
    terminating: bool,
    /// By policy Cluster; missing where no VIP asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<Verdict>,
    /// By policy Local; likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<Verdict>,
}

#[derive(Serialize)]
struct Verdict {
    used: bool,
    why: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Vip {
    vip: String,
    client: &'static str,
    /// In the notation of flows.
    fate: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_rewritten: Option<bool>,
}

#[derive(Serialize)]
struct Stray {
    port: String,
    protocol: &'static str,
    endpoints: Vec<String>,
    why: &'static str,
}

/// Writes the accounts of all nodes and families as one JSON object.
pub fn write(out: &mut dyn io::Write, service: &ServiceName, accounts: &[Account]) -> io::Result<()> {
    let document = Document { service: service.to_string(), nodes: accounts.iter().map(node).collect() };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}

fn node(one: &Account) -> Node {
    Node {
        node: one.node.to_string(),
        family: one.family.to_string(),
        ports: one.ports.iter().map(port).collect(),
        strays: one
            .strays
            .iter()
            .map(|strays| Stray {
                port: strays.port.port.to_string(),
                protocol: strays.port.protocol.api_name(),
                endpoints: strays.endpoints.iter().map(|one| one.addr.to_string()).collect(),
                why: strays.reason.as_str(),
            })
            .collect(),
    }
}

fn port(AccountedPort { view, endpoints, treatments }: &AccountedPort) -> Port {
    let verdict = |reason: Reason| {
        (reason != Reason::PoolUnused).then(|| Verdict { used: reason.is_in(), why: reason.as_str() })
    };
    Port {
        name: view.name.to_string(),
        protocol: view.name.protocol.api_name(),
        endpoints: endpoints
            .iter()
            .map(|judged| Endpoint {
                endpoint: judged.endpoint.addr.to_string(),
                node: judged.endpoint.node.as_deref().map(str::to_owned),
                ready: judged.endpoint.conditions.ready,
                serving: judged.endpoint.conditions.serving,
                terminating: judged.endpoint.conditions.terminating,
                cluster: verdict(judged.cluster),
                local: verdict(judged.local),
            })
            .collect(),
        vips: treatments.iter().map(vip).collect(),
    }
}

fn vip(treatment: &Treatment) -> Vip {
    let choices = if let Fate::Forwarded(choices) = &treatment.fate { Some(choices) } else { None };
    Vip {
        vip: vip_text(&treatment.frontend),
        client: treatment.client.as_str(),
        fate: treatment.fate.to_string(),
        endpoints: choices.map(Vec::len),
        source_rewritten: choices.map(|choices| choices.iter().any(|choice| choice.source_nat)),
    }
}
