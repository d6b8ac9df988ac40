//! A Node of the API to one of the model (reference section 1.11), and the ServiceCIDRs.

use crate::diagnostic::Diagnostic;
use crate::model::Node;
use crate::net::{IpCidr, parse_addr_sloppy};

use super::finding::Findings;
use super::intern::Names;
use super::object;
use super::word::{is_dns_subdomain, no_name, quoted};

/// The taint of nodes that the autoscaler takes away (reference section 6.3).
const LEAVING: &str = "ToBeDeletedByClusterAutoscaler";

/// Reads a Node. `None` if it has no proper name.
pub(super) fn read(node: &object::Node<'_>, names: &mut Names, findings: &mut Findings<'_>) -> Option<Node> {
    let name = &*node.metadata.name;
    if !is_dns_subdomain(name) {
        if name.is_empty() {
            no_name("Node", &node.metadata, findings);
            return None;
        }
        findings.object = "Node".to_owned();
        let message = format!("the name {} is not a DNS name", quoted(name));
        findings.add("metadata.name", Diagnostic::error("bad-name", message));
        return None;
    }
    findings.object = format!("Node {name}");
    let mut addresses = Vec::new();
    for kind in ["InternalIP", "ExternalIP"] {
        for (i, address) in node.status.addresses.iter().enumerate().filter(|(_, a)| &*a.kind == kind) {
            match parse_addr_sloppy(&address.address) {
                Some(addr) => addresses.push(addr),
                None => {
                    let message = format!("{kind} {} is not an IP address", quoted(&address.address));
                    findings.add(
                        format!("status.addresses[{i}].address"),
                        Diagnostic::warning("bad-address", message).hint("the address is left out"),
                    );
                }
            }
        }
    }
    let only = [node.spec.pod_cidr.clone()];
    let (texts, is_list) = match node.spec.pod_cidrs.as_slice() {
        [] if node.spec.pod_cidr.is_empty() => ([].as_slice(), true),
        [] => (only.as_slice(), false),
        texts => (texts, true),
    };
    let mut pod_cidrs = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        match IpCidr::parse_sloppy(text) {
            Some(cidr) => pod_cidrs.push(cidr),
            None => {
                let path = if is_list { format!("spec.podCIDRs[{i}]") } else { "spec.podCIDR".to_owned() };
                let message = format!("pod CIDR {} is not a CIDR", quoted(text));
                findings.add(path, Diagnostic::warning("bad-cidr", message).hint("it is left out"));
            }
        }
    }
    Some(Node {
        name: names.nodes.get(name),
        zone: node.metadata.labels.zone.as_deref().map(|zone| names.words.get(zone)),
        addresses,
        pod_cidrs,
        is_leaving: node.metadata.is_being_deleted
            || node.spec.taints.iter().any(|taint| &*taint.key == LEAVING),
    })
}

/// The networks of a ServiceCIDR: where cluster IPs come from.
pub(super) fn read_service_cidrs(
    shape: &object::ServiceCidr<'_>,
    findings: &mut Findings<'_>,
) -> Vec<IpCidr> {
    let mut cidrs = Vec::new();
    for (i, text) in shape.spec.cidrs.iter().enumerate() {
        match IpCidr::parse_sloppy(text) {
            Some(cidr) => cidrs.push(cidr),
            None => {
                let message = format!("{} is not a CIDR", quoted(text));
                findings.add(
                    format!("spec.cidrs[{i}]"),
                    Diagnostic::warning("bad-cidr", message).hint("it is left out"),
                );
            }
        }
    }
    cidrs
}
