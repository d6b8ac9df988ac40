//! A manifest laid over the Service that a cluster has, as kubectl and the API server do on an apply.

use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;

use super::decode::Manifest;
use super::finding::{Finding, Findings};
use super::intern::Names;
use super::mismatch::decode;
use super::object;
use super::service::{self, NamedReading, Reading};
use super::word::quoted;

/// Where kubectl keeps the manifest of the last apply.
const LAST_APPLIED: &str = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";

/// The Service as it would be after the apply. `None` if the apply would be refused: then what is wrong was said.
pub(super) fn apply(
    manifest: &Manifest,
    current: &str,
    namespace: &str,
    names: &mut Names,
    list: &mut Vec<Finding>,
) -> Option<NamedReading> {
    let mut findings = Findings::new(list, manifest.origin);
    // The manifest has to be a Service by itself, before anything is inherited.
    decode::<object::Service<'_>>("Service", &manifest.json, &mut findings).ok()?;
    findings.object = format!("Service {}", manifest.name);
    let wanted: Value = serde_json::from_str(&manifest.json).ok()?;
    let current: Value = serde_json::from_str(current).ok()?;
    let merged = merge_service(&wanted, &current, &mut findings);
    if findings.failed {
        return None;
    }
    let merged = serde_json::to_string(&merged).ok()?;
    let shape = decode::<object::Service<'_>>("Service", &merged, &mut findings).ok()?;
    let reading = service::read(&shape, namespace, names, &mut findings)?;
    (!matches!(reading.reading, Reading::Failed)).then_some(reading)
}

/// A string field of `spec`, empty if it is not there.
fn text<'v>(object: &'v Value, field: &str) -> &'v str {
    object["spec"][field].as_str().unwrap_or_default()
}

fn type_of(object: &Value) -> &str {
    match text(object, "type") {
        "" => "ClusterIP",
        kind => kind,
    }
}

fn merge_service(wanted: &Value, current: &Value, findings: &mut Findings<'_>) -> Value {
    let last: Value = current
        .pointer(LAST_APPLIED)
        .and_then(Value::as_str)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(Value::Null);
    let mut merged = current.clone();
    for section in ["metadata", "spec"] {
        merge(&mut merged[section], &wanted[section], &last[section]);
    }
    check_immutable(wanted, current, type_of(&merged), findings);
    let Value::Object(spec) = &mut merged["spec"] else { return merged };
    inherit_cluster_ips(spec, current);
    inherit_node_ports(spec, current);
    drop_by_type(spec, wanted, current);
    if type_of(&merged) != "LoadBalancer"
        && type_of(current) == "LoadBalancer"
        && let Value::Object(fields) = &mut merged
    {
        fields.remove("status");
    }
    merged
}

/// Three-way merge: what the manifest says goes in, what only the last manifest said goes out, the rest stays. Lists
/// are taken whole.
fn merge(current: &mut Value, wanted: &Value, last: &Value) {
    let Value::Object(wanted) = wanted else { return };
    if !current.is_object() {
        *current = Value::Object(Map::new());
    }
    let Value::Object(current) = current else { return };
    if let Value::Object(last) = last {
        current.retain(|key, _| wanted.contains_key(key) || !last.contains_key(key));
    }
    for (key, value) in wanted {
        match value {
            Value::Null => {
                current.remove(key);
            }
            Value::Object(_) => merge(current.entry(key.as_str()).or_insert(Value::Null), value, &last[key]),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                current.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Fields that the API server lets no one change, and that a manifest names. `new_type` is the type after the apply.
fn check_immutable(wanted: &Value, current: &Value, new_type: &str, findings: &mut Findings<'_>) {
    let mut refuse = |path: &str, wanted: &Value, current: &Value| {
        let shown = |value: &Value| match value.as_str() {
            Some(text) => quoted(text),
            None => quoted(&value.to_string()),
        };
        let field = path.trim_start_matches("spec.");
        let message = format!("{field} cannot change from {} to {}", shown(current), shown(wanted));
        let hint = "the API server refuses this: take the field out, or delete the Service first";
        findings.add(path, Diagnostic::error("immutable-field", message).hint(hint));
    };
    let has_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let (had_ip, has_ip) = (type_of(current) != "ExternalName", new_type != "ExternalName");
    let (want, have) = (&wanted["spec"], &current["spec"]);
    if had_ip && has_ip {
        for (path, want, have) in [
            ("spec.clusterIP", &want["clusterIP"], &have["clusterIP"]),
            ("spec.clusterIPs[0]", &want["clusterIPs"][0], &have["clusterIPs"][0]),
            ("spec.ipFamilies[0]", &want["ipFamilies"][0], &have["ipFamilies"][0]),
        ] {
            if has_text(want) && has_text(have) && !same_address(want, have) {
                refuse(path, want, have);
            }
        }
    }
    let (want_port, have_port) = (&want["healthCheckNodePort"], &have["healthCheckNodePort"]);
    let number = |value: &Value| value.as_i64().filter(|number| *number != 0);
    if let (Some(a), Some(b)) = (number(want_port), number(have_port))
        && a != b
    {
        refuse("spec.healthCheckNodePort", want_port, have_port);
    }
    let (want_class, have_class) = (&want["loadBalancerClass"], &have["loadBalancerClass"]);
    let stays = new_type == "LoadBalancer" && type_of(current) == "LoadBalancer";
    if stays && has_text(want_class) && has_text(have_class) && want_class != have_class {
        refuse("spec.loadBalancerClass", want_class, have_class);
    }
}

/// Whether two texts are equal, or the same address in two notations.
fn same_address(a: &Value, b: &Value) -> bool {
    let parse = |value: &Value| value.as_str().and_then(crate::net::parse_addr_sloppy);
    a == b || parse(a).is_some_and(|addr| Some(addr) == parse(b))
}

/// Cluster IPs and families stay as the cluster has them, however little the manifest says. A Service that becomes
/// single-stack loses its second ones.
fn inherit_cluster_ips(spec: &mut Map<String, Value>, current: &Value) {
    if spec.get("type").and_then(Value::as_str) == Some("ExternalName") {
        for field in ["clusterIP", "clusterIPs", "ipFamilies"] {
            spec.remove(field);
        }
        return;
    }
    let have = &current["spec"];
    let is_unset = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    };
    for field in ["clusterIP", "clusterIPs", "ipFamilies"] {
        if is_unset(spec.get(field)) && !have[field].is_null() {
            spec.insert(field.to_owned(), have[field].clone());
        }
    }
    // A manifest that gives the first of two addresses does not take the second away.
    let (ips, had) = (spec.get("clusterIPs").and_then(Value::as_array), have["clusterIPs"].as_array());
    if let (Some(ips), Some(had)) = (ips, had)
        && ips.len() < had.len()
        && ips.iter().zip(had).all(|(a, b)| same_address(a, b))
    {
        spec.insert("clusterIPs".to_owned(), Value::Array(had.clone()));
    }
    let is_single = spec.get("ipFamilyPolicy").and_then(Value::as_str) == Some("SingleStack");
    let n_families = spec.get("ipFamilies").and_then(Value::as_array).map_or(0, Vec::len);
    for field in ["clusterIPs", "ipFamilies"] {
        if let Some(Value::Array(items)) = spec.get_mut(field) {
            items.truncate(if is_single { 1 } else { n_families.max(1) });
        }
    }
}

/// A port without a node port gets the one of the same port and protocol, or else of the same name, if it is still
/// free.
fn inherit_node_ports(spec: &mut Map<String, Value>, current: &Value) {
    let has_node_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or_default();
    if !has_node_ports(kind) || !has_node_ports(type_of(current)) {
        return;
    }
    let (Some(Value::Array(ports)), Some(old)) = (spec.get_mut("ports"), current["spec"]["ports"].as_array())
    else {
        return;
    };
    let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_owned();
    let node_port = |port: &Value| port["nodePort"].as_i64().filter(|number| *number != 0);
    let same_number = |a: &Value, b: &Value| a["port"] == b["port"] && protocol(a) == protocol(b);
    let same_name = |a: &Value, b: &Value| {
        a["name"].as_str().is_some_and(|name| !name.is_empty())
            && a["name"] == b["name"]
            && protocol(a) == protocol(b)
    };
    let mut used: Vec<(i64, String)> =
        ports.iter().filter_map(|port| Some((node_port(port)?, protocol(port)))).collect();
    for by_name in [false, true] {
        for port in ports.iter_mut().filter(|port| node_port(port).is_none()) {
            let inherited = old
                .iter()
                .filter(|old| if by_name { same_name(port, old) } else { same_number(port, old) })
                .find_map(node_port);
            if let Some(number) = inherited.filter(|number| !used.contains(&(*number, protocol(port))))
                && let Value::Object(fields) = port
            {
                fields.insert("nodePort".to_owned(), number.into());
                used.push((number, protocol(port)));
            }
        }
    }
}

/// What a Service of another type must not have, unless the manifest says it.
fn drop_by_type(spec: &mut Map<String, Value>, wanted: &Value, current: &Value) {
    let said = |field: &str| !wanted["spec"][field].is_null();
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let policy = spec.get("externalTrafficPolicy").and_then(Value::as_str).unwrap_or_default();
    let has_health_check = kind == "LoadBalancer" && policy == "Local";
    if !has_health_check && !said("healthCheckNodePort") {
        spec.remove("healthCheckNodePort");
    }
    if kind != "LoadBalancer" && !said("allocateLoadBalancerNodePorts") {
        spec.remove("allocateLoadBalancerNodePorts");
    }
    let has_external_ips =
        spec.get("externalIPs").and_then(Value::as_array).is_some_and(|addrs| !addrs.is_empty());
    let is_external = matches!(&*kind, "NodePort" | "LoadBalancer") || has_external_ips;
    if !is_external && !said("externalTrafficPolicy") {
        spec.remove("externalTrafficPolicy");
    }
    let lost_node_ports = matches!(type_of(current), "NodePort" | "LoadBalancer")
        && !matches!(&*kind, "NodePort" | "LoadBalancer");
    if lost_node_ports
        && !said("ports")
        && let Some(Value::Array(ports)) = spec.get_mut("ports")
    {
        ports.iter_mut().filter_map(Value::as_object_mut).for_each(|port| {
            port.remove("nodePort");
        });
    }
}
