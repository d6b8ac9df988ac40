//! Why endpoints of a Service are used or not, and what each VIP means to each kind of client: tables, a column a node.

use std::collections::BTreeSet;
use std::io;

use crate::model::{Endpoint, ServiceName};
use crate::packet::Fate;
use crate::resolve::{
    Account, AccountedPort, Client, Frontend, FrontendKind, JudgedEndpoint, Reason, Treatment, Vip,
};

use super::table;

/// Writes the accounts of one family: they have the same ports.
pub fn write(
    out: &mut dyn io::Write,
    service: &ServiceName,
    accounts: &[Account],
    width: Option<u16>,
) -> io::Result<()> {
    let Some(first) = accounts.first() else { return Ok(()) };
    for (nth, port) in first.ports.iter().enumerate() {
        let AccountedPort { view: port, endpoints, .. } = port;
        writeln!(out, "{} {} in {}", port.name, port.name.protocol, first.family)?;
        if endpoints.is_empty() {
            writeln!(out, "no EndpointSlice of {service} has an endpoint for this port")?;
        } else {
            write_endpoints(out, accounts, nth, endpoints, width)?;
        }
        writeln!(out)?;
        write_treatments(out, accounts, nth, width)?;
        writeln!(out)?;
    }
    for strays in &first.strays {
        let name = if strays.port.port.is_empty() { "without name" } else { &strays.port.port };
        let addresses: Vec<String> = strays.endpoints.iter().map(|one| one.addr.to_string()).collect();
        writeln!(
            out,
            "not used: port {name} {} of its EndpointSlices, {}: {}",
            strays.port.protocol,
            addresses.join(" "),
            strays.reason.as_str()
        )?;
    }
    Ok(())
}

fn write_endpoints(
    out: &mut dyn io::Write,
    accounts: &[Account],
    nth: usize,
    endpoints: &[JudgedEndpoint],
    width: Option<u16>,
) -> io::Result<()> {
    let mut head = ["ENDPOINT", "NODE", "CONDITIONS", "HINTS"].map(str::to_owned).to_vec();
    head.extend(accounts.iter().map(|one| format!("USED ON {}", one.node)));
    let rows = endpoints.iter().enumerate().map(|(at, judged)| {
        let endpoint = &judged.endpoint;
        let mut row = vec![
            endpoint.addr.to_string(),
            endpoint.node.as_deref().unwrap_or("-").to_owned(),
            conditions(endpoint),
            hints(endpoint),
        ];
        row.extend(accounts.iter().map(|one| {
            let judged = one.ports.get(nth).and_then(|port| port.endpoints.get(at));
            judged.map(used).unwrap_or_default()
        }));
        row
    });
    table::write_wide(out, &head, rows, width)
}

fn write_treatments(
    out: &mut dyn io::Write,
    accounts: &[Account],
    nth: usize,
    width: Option<u16>,
) -> io::Result<()> {
    let mut head = ["VIP", "CLIENT"].map(str::to_owned).to_vec();
    head.extend(accounts.iter().map(|one| one.node.to_uppercase()));
    let of = |one| -> &[Treatment] { treatments(one, nth) };
    let all: Vec<&[Treatment]> = accounts.iter().map(of).collect();
    // A node may have no address for a VIP, or be unable to tell a kind of client: its column is empty there.
    let mut keys = Vec::new();
    let mut seen = BTreeSet::new();
    for treatment in all.iter().copied().flatten() {
        let key = (treatment.frontend, treatment.client);
        if seen.insert((vip_text(&key.0), key.1)) {
            keys.push(key);
        }
    }
    let rows = keys.into_iter().map(|(frontend, client)| {
        let mut row = vec![vip_text(&frontend), client.as_str().to_owned()];
        row.extend(all.iter().map(|treatments| {
            let same = |one: &&Treatment| one.frontend == frontend && one.client == client;
            treatments.iter().find(same).map_or_else(|| "-".to_owned(), |one| fate_text(&one.fate))
        }));
        row
    });
    table::write_wide(out, &head, rows, width)?;
    if !all.iter().copied().flatten().any(|one| one.client == Client::Pod) {
        writeln!(out, "pods cannot be told from others (no --cluster-cidr): they count as outside")?;
    }
    Ok(())
}

fn treatments(account: &Account, nth: usize) -> &[Treatment] {
    account.ports.get(nth).map_or(&[], |port| &port.treatments)
}

/// A VIP with its kind.
pub(super) fn vip_text(frontend: &Frontend) -> String {
    match (frontend.kind, frontend.vip) {
        (_, Vip::NodePort(port)) => format!("node port {port}"),
        (FrontendKind::ClusterIp, Vip::Address(vip)) => format!("cluster IP {vip}"),
        (FrontendKind::ExternalIp, Vip::Address(vip)) => format!("external IP {vip}"),
        (FrontendKind::LoadBalancer, Vip::Address(vip)) => format!("load balancer {vip}"),
        (FrontendKind::NodePort, Vip::Address(vip)) => format!("node port {vip}"),
    }
}

/// `3 endpoints, source kept`, `refused`, `dropped`.
fn fate_text(fate: &Fate) -> String {
    match fate {
        Fate::Forwarded(choices) => {
            let n_rewritten = choices.iter().filter(|choice| choice.source_nat).count();
            let source = match n_rewritten {
                0 => "source kept",
                n if n == choices.len() => "source rewritten",
                _ => "source rewritten to some",
            };
            format!("{} endpoint{}, {source}", choices.len(), if choices.len() == 1 { "" } else { "s" })
        }
        Fate::Rejected => "refused".to_owned(),
        Fate::Dropped => "dropped".to_owned(),
        Fate::Untouched => "not served".to_owned(),
        Fate::Unknown(why) => format!("unknown: {why}"),
    }
}

pub(super) fn conditions(endpoint: &Endpoint) -> String {
    let conditions = endpoint.conditions;
    let words = [
        (conditions.ready, "ready"),
        (!conditions.ready, "not ready"),
        (conditions.terminating, "terminating"),
        (conditions.terminating && conditions.serving, "serving"),
    ];
    words.into_iter().filter_map(|(holds, word)| holds.then_some(word)).collect::<Vec<_>>().join(", ")
}

fn hints(endpoint: &Endpoint) -> String {
    let Some(hints) = &endpoint.hints else { return "-".to_owned() };
    let zones = hints.zones.iter().map(|zone| format!("zone {zone}"));
    let nodes = hints.nodes.iter().map(|node| format!("node {node}"));
    zones.chain(nodes).collect::<Vec<_>>().join(", ")
}

/// The answers of both pools, or of the one that counts.
fn used(judged: &JudgedEndpoint) -> String {
    let answer = |reason: Reason| {
        let verdict = if reason.is_in() { "yes" } else { "no" };
        format!("{verdict}, {}", reason.as_str())
    };
    match (judged.cluster, judged.local) {
        (Reason::PoolUnused, local) => answer(local),
        (cluster, Reason::PoolUnused) => answer(cluster),
        (cluster, local) if cluster == local => answer(cluster),
        (cluster, local) => format!("Cluster: {}; Local: {}", answer(cluster), answer(local)),
    }
}
