//! A KubeProxyConfiguration to [`Config`]: defaults and validation as kube-proxy has them (reference sections 6.8 and
//! 6.9).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use crate::diagnostic::{Diagnostic, Place, Severity, Source, SourceId};
use crate::model::{Config, Conntrack, DetectLocal, Ipvs, Mode, NodePortAddresses, SyncPeriods, Userspace};
use crate::net::{IpCidr, IpFamily, PerFamily, parse_addr_sloppy, parse_port_range};

use super::config_object::{ConntrackSection, FIELDS, KubeProxyConfiguration, ModeSection};
use super::duration;
use super::finding::{self, Finding, Findings};
use super::locate::{Locator, Origin};
use super::mismatch::decode;
use super::object::Text;
use super::source::{Chunk, Format, chunks};
use super::syntax;
use super::word::{one_of, quoted};
use super::yaml;

const MODES: [(&str, Mode); 5] = [
    ("", Mode::Iptables),
    ("iptables", Mode::Iptables),
    ("ipvs", Mode::Ipvs),
    ("nftables", Mode::Nftables),
    ("userspace", Mode::Userspace),
];
/// Code of what is said about a document of another kind.
const NOT_A_CONFIG: &str = "not-a-config";
const SECOND: i64 = 1_000_000_000;

/// Reads a configuration, YAML or JSON: a KubeProxyConfiguration, or the ConfigMap that kubeadm keeps one in. No
/// configuration comes back if any diagnostic is an error. The mode is the one that was `asked` for, if one was; the
/// sections that belong to the mode are read accordingly.
pub fn load_config(source: &Source, id: SourceId, asked: Option<Mode>) -> (Option<Config>, Vec<Diagnostic>) {
    load_text(source, id, true, asked)
}

fn load_text(
    source: &Source,
    id: SourceId,
    may_be_map: bool,
    asked: Option<Mode>,
) -> (Option<Config>, Vec<Diagnostic>) {
    let chunks = chunks(id, &source.text);
    let mut list: Vec<Finding> = Vec::new();
    let mut config = None;
    for (chunk, index) in chunks.iter().zip(0..) {
        // A kubeadm file has other documents beside it.
        let mut of_chunk = Vec::new();
        config = read_chunk(chunk, index, may_be_map, asked, &mut of_chunk);
        let is_other = of_chunk.iter().any(|finding| finding.diagnostic.code == NOT_A_CONFIG);
        if !is_other || list.is_empty() {
            list = of_chunk;
        }
        if !is_other {
            break;
        }
    }
    if config.is_none() && list.is_empty() {
        let place = Place { source: id, span: 0..0 };
        let diagnostic = Diagnostic::error("empty-input", format!("`{}` has no configuration", source.name));
        list.push(diagnostic.at(Some(place)).into());
    }
    let diagnostics = finding::locate(list, &mut Locator::new(&chunks, Vec::new()));
    let failed = diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    (config.filter(|_| !failed), diagnostics)
}

fn read_chunk(
    chunk: &Chunk<'_>,
    index: u32,
    may_be_map: bool,
    asked: Option<Mode>,
    list: &mut Vec<Finding>,
) -> Option<Config> {
    let json: Cow<'_, str> = match chunk.format {
        Format::Json => chunk.text.into(),
        Format::Yaml => {
            let (json, error) = yaml::to_json(chunk.text, false, chunk.alias_nodes);
            if let Some(error) = error {
                list.push(syntax::yaml_error(chunk, &error).into());
                return None;
            }
            json.text.into()
        }
    };
    let mut findings = Findings::new(list, Origin { chunk: index, offset: 0, begin: 0 });
    let mut values = serde_json::Deserializer::from_str(&json).into_iter::<Value>();
    let value = match values.next() {
        Some(Ok(value)) => value,
        Some(Err(error)) => {
            list.push(syntax::json_error(chunk, &json, 0, &error).1.into());
            return None;
        }
        None => return None,
    };
    let json = &json[..values.byte_offset()];
    let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    match (word("apiVersion"), word("kind")) {
        ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration") => {
            find_unknown_fields(&value, &mut findings);
            let object = decode::<KubeProxyConfiguration<'_>>("", json, &mut findings).ok()?;
            read(&object, asked, &mut findings)
        }
        ("v1", "ConfigMap") if may_be_map => match value.pointer("/data/config.conf").and_then(Value::as_str)
        {
            Some(text) => read_inner(text, asked, &mut findings),
            None => {
                findings
                    .add("data", Diagnostic::error("no-config", "the ConfigMap has no key `config.conf`"));
                None
            }
        },
        (version, kind) => {
            let message = match (version, kind) {
                ("", _) | (_, "") => "apiVersion or kind is missing".to_owned(),
                _ => format!("{} of {} is no configuration", quoted(kind), quoted(version)),
            };
            findings.add(
                if kind.is_empty() { "" } else { "kind" },
                Diagnostic::error(NOT_A_CONFIG, message).hint(
                    "write `apiVersion: kubeproxy.config.k8s.io/v1alpha1` and `kind: KubeProxyConfiguration`",
                ),
            );
            None
        }
    }
}

/// Reads the text in a ConfigMap. What is said about it stands at the key, and names the line in the text.
fn read_inner(text: &str, asked: Option<Mode>, findings: &mut Findings<'_>) -> Option<Config> {
    let inner = Source { name: "config.conf".to_owned(), text: text.to_owned() };
    let (config, diagnostics) = load_text(&inner, SourceId(0), false, asked);
    for mut diagnostic in diagnostics {
        if let Some(place) = diagnostic.place.take() {
            let (line, column) = inner.line_column(place.span.start);
            diagnostic.message = format!("line {line}, column {column}: {}", diagnostic.message);
        }
        findings.add("data.(config.conf)", diagnostic);
    }
    config
}

fn find_unknown_fields(value: &Value, findings: &mut Findings<'_>) {
    for (section, known) in FIELDS {
        let fields = if section.is_empty() { value.as_object() } else { value[section].as_object() };
        for field in fields.into_iter().flatten().map(|(field, _)| field) {
            if known.contains(&field.as_str()) {
                continue;
            }
            let path = if section.is_empty() { field.clone() } else { format!("{section}.{field}") };
            let mut diagnostic =
                Diagnostic::warning("unknown-field", format!("unknown field {}", quoted(&path)));
            if let Some(near) = known.iter().find(|known| known.eq_ignore_ascii_case(field)) {
                diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
            }
            findings.add(path, diagnostic);
        }
    }
}

fn read(
    object: &KubeProxyConfiguration<'_>,
    asked: Option<Mode>,
    findings: &mut Findings<'_>,
) -> Option<Config> {
    let mode = one_of(findings, "mode", &object.mode, &MODES).map(|said| asked.unwrap_or(said));
    let bind_address = read_bind_address(&object.bind_address, findings);
    let wildcard = match bind_address {
        Some(IpAddr::V6(_)) => ("[::]:10256", "[::1]:10249"),
        Some(IpAddr::V4(_)) | None => ("0.0.0.0:10256", "127.0.0.1:10249"),
    };
    let hostname = object.hostname_override.trim().to_lowercase();
    if hostname.is_empty() && !object.hostname_override.is_empty() {
        findings.add("hostnameOverride", Diagnostic::error("bad-name", "hostnameOverride is blank"));
    }
    check_ranges(object, findings);
    let mode_for_rest = mode.unwrap_or(Mode::Iptables);
    let (of_mode, section) = match mode_for_rest {
        Mode::Nftables => (&object.nftables, "nftables"),
        Mode::Iptables | Mode::Ipvs | Mode::Userspace => (&object.iptables, "iptables"),
    };
    let config = Config {
        mode: mode_for_rest,
        kubeconfig: Some(object.client_connection.kubeconfig.to_string()).filter(|path| !path.is_empty()),
        hostname_override: Some(hostname).filter(|name| !name.is_empty()),
        bind_address: bind_address.filter(|addr| !addr.is_unspecified()),
        detect_local: read_detect_local(object, findings)?,
        cluster_cidrs: read_cluster_cidrs(object, findings),
        node_port_addresses: read_node_port_addresses(&object.node_port_addresses, findings),
        masquerade_bit: read_masquerade_bit(of_mode, section, findings),
        masquerade_all: of_mode.masquerade_all,
        localhost_node_ports: object.iptables.localhost_node_ports.unwrap_or(true),
        sync_periods: read_sync_periods(object, mode_for_rest, findings),
        ipvs: read_ipvs(object, mode_for_rest, findings),
        userspace: read_userspace(object, mode_for_rest, findings),
        conntrack: read_conntrack(&object.conntrack, findings),
        healthz_bind_address: read_listen(
            &object.healthz_bind_address,
            "healthzBindAddress",
            wildcard.0,
            findings,
        ),
        metrics_bind_address: read_listen(
            &object.metrics_bind_address,
            "metricsBindAddress",
            wildcard.1,
            findings,
        ),
        feature_gates: BTreeMap::clone(&object.feature_gates),
    };
    mode.map(|_| config)
}

fn out_of_range(field: &str, value: impl std::fmt::Display, range: &str) -> Diagnostic {
    Diagnostic::error("out-of-range", format!("{field} `{value}` is not {range}"))
}

fn read_bind_address(text: &str, findings: &mut Findings<'_>) -> Option<IpAddr> {
    if text.is_empty() {
        return None;
    }
    let addr = parse_addr_sloppy(text);
    if addr.is_none() {
        let message = format!("bindAddress {} is not an IP address", quoted(text));
        findings.add("bindAddress", Diagnostic::error("bad-address", message));
    }
    addr
}

/// Rules about fields that are not kept.
fn check_ranges(object: &KubeProxyConfiguration<'_>, findings: &mut Findings<'_>) {
    if let Some(bit) = object.iptables.masquerade_bit.filter(|bit| !(0..=31).contains(bit)) {
        findings
            .add("iptables.masqueradeBit", out_of_range("iptables.masqueradeBit", bit, "between 0 and 31"));
    }
    if let Some(score) = object.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
        findings.add("oomScoreAdj", out_of_range("oomScoreAdj", score, "between -1000 and 1000"));
    }
    if object.client_connection.burst < 0 {
        let diagnostic = out_of_range("clientConnection.burst", object.client_connection.burst, "0 or more");
        findings.add("clientConnection.burst", diagnostic);
    }
    if read_duration(&object.config_sync_period, "configSyncPeriod", 900 * SECOND, findings) < 0 {
        let diagnostic = out_of_range("configSyncPeriod", &*object.config_sync_period, "more than 0");
        findings.add("configSyncPeriod", diagnostic);
    }
}

fn read_masquerade_bit(section: &ModeSection<'_>, name: &str, findings: &mut Findings<'_>) -> u8 {
    match u8::try_from(section.masquerade_bit.unwrap_or(14)) {
        Ok(bit @ 0..=31) => bit,
        Ok(_) | Err(_) => {
            if name == "nftables" {
                let bit = section.masquerade_bit.unwrap_or_default();
                findings.add(
                    "nftables.masqueradeBit",
                    out_of_range("nftables.masqueradeBit", bit, "between 0 and 31"),
                );
            }
            14
        }
    }
}

/// Nanoseconds; the default if it is left out or zero, as in the API.
fn read_duration(text: &Text<'_>, path: &str, default: i64, findings: &mut Findings<'_>) -> i64 {
    if text.is_empty() {
        return default;
    }
    match duration::parse(text) {
        Some(0) => default,
        Some(nanoseconds) => nanoseconds,
        None => {
            let field = path.rsplit('.').next().unwrap_or(path);
            let message = format!("{field} {} is not a duration", quoted(text));
            findings
                .add(path, Diagnostic::error("bad-duration", message).hint("write it as `30s` or `1h2m`"));
            default
        }
    }
}

/// A duration that must not be negative.
fn read_timeout(text: &Text<'_>, path: &str, findings: &mut Findings<'_>) -> Duration {
    let nanoseconds = read_duration(text, path, 0, findings);
    if nanoseconds < 0 {
        findings.add(path, out_of_range(path, &**text, "0 or more"));
    }
    duration::from_nanoseconds(nanoseconds)
}

fn read_sync_periods(
    object: &KubeProxyConfiguration<'_>,
    mode: Mode,
    findings: &mut Findings<'_>,
) -> SyncPeriods {
    let (name, sync, min_sync, default_min) = match mode {
        // Userspace mode has the periods of the iptables section, as it had the section's beginnings.
        Mode::Iptables | Mode::Userspace => {
            ("iptables", &object.iptables.sync_period, &object.iptables.min_sync_period, SECOND)
        }
        Mode::Ipvs => ("ipvs", &object.ipvs.sync_period, &object.ipvs.min_sync_period, 0),
        Mode::Nftables => {
            ("nftables", &object.nftables.sync_period, &object.nftables.min_sync_period, SECOND)
        }
    };
    let (sync_path, min_path) = (format!("{name}.syncPeriod"), format!("{name}.minSyncPeriod"));
    let sync_ns = read_duration(sync, &sync_path, 30 * SECOND, findings);
    let min_ns = read_duration(min_sync, &min_path, default_min, findings);
    if sync_ns <= 0 {
        findings.add(sync_path.as_str(), out_of_range(&sync_path, &**sync, "more than 0"));
    }
    if min_ns < 0 {
        findings.add(min_path.as_str(), out_of_range(&min_path, &**min_sync, "0 or more"));
    } else if min_ns > sync_ns {
        let message = format!("{min_path} is longer than {sync_path}");
        findings.add(min_path, Diagnostic::error("out-of-range", message));
    }
    SyncPeriods { sync: duration::from_nanoseconds(sync_ns), min_sync: duration::from_nanoseconds(min_ns) }
}

fn read_ipvs(object: &KubeProxyConfiguration<'_>, mode: Mode, findings: &mut Findings<'_>) -> Ipvs {
    let section = &object.ipvs;
    let mut exclude_cidrs = Vec::new();
    for (i, text) in section.exclude_cidrs.iter().enumerate() {
        match IpCidr::parse_sloppy(text) {
            Some(cidr) => exclude_cidrs.push(cidr),
            None if mode == Mode::Ipvs => {
                let message = format!("excludeCIDRs has {}, which is not a CIDR", quoted(text));
                findings.add(format!("ipvs.excludeCIDRs[{i}]"), Diagnostic::error("bad-cidr", message));
            }
            None => {}
        }
    }
    if mode == Mode::Ipvs && !is_scheduler_name(&section.scheduler) {
        let message = format!("scheduler {} is no name of a scheduler", quoted(&section.scheduler));
        let hint = "it has at most 15 of `a-z`, `0-9`, `_` and `-`, as `rr` and `lc` do";
        findings.add("ipvs.scheduler", Diagnostic::error("bad-name", message).hint(hint));
    }
    Ipvs {
        scheduler: section.scheduler.to_string(),
        exclude_cidrs,
        strict_arp: section.strict_arp,
        tcp_timeout: read_timeout(&section.tcp_timeout, "ipvs.tcpTimeout", findings),
        tcp_fin_timeout: read_timeout(&section.tcp_fin_timeout, "ipvs.tcpFinTimeout", findings),
        udp_timeout: read_timeout(&section.udp_timeout, "ipvs.udpTimeout", findings),
    }
}

/// Whether a kernel module `ip_vs_NAME` could be asked for; nothing said is the default.
fn is_scheduler_name(name: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    name.len() <= 15 && name.bytes().all(is_allowed)
}

/// Fields that other modes do not look at, as kube-proxy does not any more.
fn read_userspace(object: &KubeProxyConfiguration<'_>, mode: Mode, findings: &mut Findings<'_>) -> Userspace {
    let default = Config::default().userspace;
    if mode != Mode::Userspace {
        return default;
    }
    let text: &str = &object.port_range;
    let port_range = parse_port_range(text);
    if port_range.is_none() && !matches!(text, "" | "0-0") {
        let message = format!("portRange {} is not a range of ports", quoted(text));
        let diagnostic = Diagnostic::error("bad-port-range", message);
        findings.add("portRange", diagnostic.hint("write it as `20000-29999`"));
    }
    let udp = &object.udp_idle_timeout;
    let nanoseconds = read_duration(udp, "udpIdleTimeout", 250_000_000, findings);
    if nanoseconds <= 0 {
        findings.add("udpIdleTimeout", out_of_range("udpIdleTimeout", &**udp, "more than 0"));
    }
    Userspace { port_range, udp_idle_timeout: duration::from_nanoseconds(nanoseconds) }
}

fn read_conntrack(section: &ConntrackSection<'_>, findings: &mut Findings<'_>) -> Conntrack {
    let mut count = |number: Option<i64>, path: &str| {
        let number = number?;
        let count = u32::try_from(number).ok();
        if count.is_none() {
            findings.add(path, out_of_range(path, number, "0 or more"));
        }
        count
    };
    let max_per_core = count(section.max_per_core, "conntrack.maxPerCore");
    let min = count(section.min, "conntrack.min");
    let mut timeout = |text: &Option<Text<'_>>, path: &str| {
        text.as_ref().filter(|text| !text.is_empty()).map(|text| read_timeout(text, path, findings))
    };
    let tcp_established_timeout =
        timeout(&section.tcp_established_timeout, "conntrack.tcpEstablishedTimeout");
    let tcp_close_wait_timeout = timeout(&section.tcp_close_wait_timeout, "conntrack.tcpCloseWaitTimeout");
    Conntrack {
        max_per_core,
        min,
        tcp_established_timeout,
        tcp_close_wait_timeout,
        tcp_be_liberal: section.tcp_be_liberal,
        udp_timeout: read_timeout(&section.udp_timeout, "conntrack.udpTimeout", findings),
        udp_stream_timeout: read_timeout(&section.udp_stream_timeout, "conntrack.udpStreamTimeout", findings),
    }
}

fn read_detect_local(
    object: &KubeProxyConfiguration<'_>,
    findings: &mut Findings<'_>,
) -> Option<DetectLocal> {
    let section = &object.detect_local;
    let bridge = DetectLocal::BridgeInterface(section.bridge_interface.to_string());
    let prefix = DetectLocal::InterfaceNamePrefix(section.interface_name_prefix.to_string());
    let words =
        [("", 0), ("ClusterCIDR", 0), ("NodeCIDR", 1), ("BridgeInterface", 2), ("InterfaceNamePrefix", 3)];
    let (detect, field) = match one_of(findings, "detectLocalMode", &object.detect_local_mode, &words)? {
        0 => return Some(DetectLocal::ClusterCidr),
        1 => return Some(DetectLocal::NodeCidr),
        2 => (bridge, "bridgeInterface"),
        _ => (prefix, "interfaceNamePrefix"),
    };
    let (DetectLocal::BridgeInterface(name) | DetectLocal::InterfaceNamePrefix(name)) = &detect else {
        return None;
    };
    let path = format!("detectLocal.{field}");
    if name.is_empty() {
        let message = format!("detectLocalMode `{}` needs {path}", &*object.detect_local_mode);
        findings.add("detectLocalMode", Diagnostic::error("missing-field", message));
        return None;
    }
    // An interface name of Linux: 15 bytes, no slash, colon or white space; a prefix has a `+` after it. It goes into rules as
    // it is, where `!` and a `+` of its own would mean something else.
    let max = if field == "bridgeInterface" { 15 } else { 14 };
    if name.len() > max || !name.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:!+\"'\\".contains(&byte))
    {
        let message = format!("{field} {} is no name of an interface", quoted(name));
        let hint =
            format!("it has at most {max} characters, and no white space, `/`, `:`, `!`, `+` or quotes");
        findings.add(path, Diagnostic::error("bad-name", message).hint(hint));
        return None;
    }
    Some(detect)
}

/// `clusterCIDR`, split at commas without trimming, as kube-proxy does.
fn read_cluster_cidrs(
    object: &KubeProxyConfiguration<'_>,
    findings: &mut Findings<'_>,
) -> PerFamily<Option<IpCidr>> {
    let mut cidrs = PerFamily::default();
    if object.cluster_cidr.is_empty() {
        return cidrs;
    }
    let is_used = matches!(&*object.detect_local_mode, "" | "ClusterCIDR");
    let texts: Vec<&str> = object.cluster_cidr.split(',').collect();
    for text in &texts {
        match IpCidr::parse_sloppy(text) {
            Some(cidr) => {
                cidrs.get_mut(cidr.family()).get_or_insert(cidr);
            }
            None if is_used => {
                let message = format!("clusterCIDR has {}, which is not a CIDR", quoted(text));
                let mut diagnostic = Diagnostic::error("bad-cidr", message);
                if IpCidr::parse_sloppy(text.trim()).is_some() {
                    diagnostic = diagnostic.hint("kube-proxy takes no space around the comma");
                }
                findings.add("clusterCIDR", diagnostic);
            }
            None => {}
        }
    }
    let both = IpFamily::ALL.iter().all(|family| cidrs.get(*family).is_some());
    if is_used && !findings.failed && (texts.len() > 2 || (texts.len() == 2 && !both)) {
        let message =
            format!("clusterCIDR {} is not one CIDR or one of each family", quoted(&object.cluster_cidr));
        findings.add("clusterCIDR", Diagnostic::error("bad-cidr", message));
    }
    cidrs
}

fn read_node_port_addresses(texts: &[Text<'_>], findings: &mut Findings<'_>) -> NodePortAddresses {
    match texts {
        [] => return NodePortAddresses::Default,
        [only] if &**only == "primary" => return NodePortAddresses::Primary,
        _ => {}
    }
    let mut cidrs = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        match IpCidr::parse_sloppy(text) {
            Some(cidr) => cidrs.push(cidr),
            None => {
                let message = match &**text {
                    "primary" => "nodePortAddresses has `primary` among others".to_owned(),
                    text => format!("nodePortAddresses has {}, which is not a CIDR", quoted(text)),
                };
                let diagnostic = Diagnostic::error("bad-cidr", message);
                findings.add(
                    format!("nodePortAddresses[{i}]"),
                    diagnostic.hint("give CIDRs, or `primary` and nothing else"),
                );
            }
        }
    }
    NodePortAddresses::Cidrs(cidrs)
}

/// An address with a port to listen on. An address alone gets the port of the default.
fn read_listen(text: &Text<'_>, field: &str, default: &str, findings: &mut Findings<'_>) -> String {
    if text.is_empty() {
        return default.to_owned();
    }
    let default_port = default.rsplit(':').next().unwrap_or_default();
    match parse_addr_sloppy(text) {
        Some(IpAddr::V4(addr)) => return format!("{addr}:{default_port}"),
        Some(IpAddr::V6(addr)) => return format!("[{addr}]:{default_port}"),
        None => {}
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_good = parse_addr_sloppy(host).is_some() && port.parse::<u16>().is_ok_and(|port| port > 0);
    if !is_good {
        let message = format!("{field} {} is not an address and a port", quoted(text));
        findings
            .add(field, Diagnostic::error("bad-address", message).hint(format!("write it as `{default}`")));
    }
    text.to_string()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

    fn load(text: &str) -> (Option<Config>, String) {
        let source = Source { name: "config.yaml".to_owned(), text: text.to_owned() };
        let (config, diagnostics) = load_config(&source, SourceId(0), None);
        let mut said = String::new();
        for diagnostic in diagnostics {
            let (line, column) =
                diagnostic.place.map_or((0, 0), |place| source.line_column(place.span.start));
            said.push_str(&format!("{line}:{column} {}: {}\n", diagnostic.code, diagnostic.message));
        }
        (config, said)
    }

    fn good(fields: &str) -> Config {
        let (config, said) = load(&format!("{HEAD}{fields}"));
        assert_eq!(said, "");
        config.unwrap()
    }

    fn bad(fields: &str, expect: Expect) {
        let (config, said) = load(&format!("{HEAD}{fields}"));
        expect.assert_eq(&format!("{said}{}", if config.is_some() { "(still read)\n" } else { "" }));
    }

    #[test]
    fn lets_no_odd_interface_name_into_rules() {
        for (mode, field, names) in [
            (
                "BridgeInterface",
                "bridgeInterface",
                ["br 0", "br\\n-F", "br\\\"0", "br+", "!br", "br/0", "br:0", "sixteen-letters0"],
            ),
            (
                "InterfaceNamePrefix",
                "interfaceNamePrefix",
                ["a b", "a\\t", "a'", "a+", "!", "a/", "a\\0", "fifteen-letters"],
            ),
        ] {
            for name in names {
                let text = format!("{HEAD}detectLocalMode: {mode}\ndetectLocal: {{{field}: \"{name}\"}}\n");
                let (config, said) = load(&text);
                assert!(config.is_none() && said.contains("bad-name"), "{name}: {said}");
            }
        }
        good("detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: fifteen-letters}\n");
        good("detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: fourteen-chars}\n");
    }

    #[test]
    fn has_the_defaults() {
        assert_eq!(good(""), Config::default());
        assert_eq!(good("mode: \nipvs: null\nbindAddress: 0.0.0.0\n"), Config::default());
    }

    #[test]
    fn says_that_there_is_nothing() {
        for text in ["", "# only this\n", "null\n", "---\n...\n"] {
            assert_eq!(
                load(text),
                (None, "1:1 empty-input: `config.yaml` has no configuration\n".to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn takes_the_section_of_the_mode() {
        let sections = "iptables: {masqueradeBit: 3, syncPeriod: 1h2m, minSyncPeriod: 0s}\n\
                        nftables: {masqueradeBit: 4, masqueradeAll: true}\nipvs: {syncPeriod: 10s}\n";
        let seconds = |config: &Config| {
            (
                config.sync_periods.sync.as_secs(),
                config.sync_periods.min_sync.as_secs(),
                config.masquerade_bit,
            )
        };
        assert_eq!(seconds(&good(sections)), (3720, 1, 3));
        assert_eq!(seconds(&good(&format!("mode: ipvs\n{sections}"))), (10, 0, 3));
        let nftables = good(&format!("mode: nftables\n{sections}"));
        assert_eq!(seconds(&nftables), (30, 1, 4));
        assert!(nftables.masquerade_all);
    }

    #[test]
    fn reads_addresses() {
        let config = good(
            "bindAddress: fd00::1\nclusterCIDR: 10.128.0.0/16,fd00:128::/48\nhostnameOverride: ' Node-1 '\n\
             nodePortAddresses: [primary]\nmetricsBindAddress: 1.2.3.4\n",
        );
        assert_eq!(config.bind_address.unwrap().to_string(), "fd00::1");
        assert_eq!(config.healthz_bind_address, "[::]:10256");
        assert_eq!(config.metrics_bind_address, "1.2.3.4:10249");
        assert_eq!(config.hostname_override.as_deref(), Some("node-1"));
        assert_eq!(config.cluster_cidrs.v6.unwrap().to_string(), "fd00:128::/48");
        assert_eq!(config.node_port_addresses, NodePortAddresses::Primary);
    }

    #[test]
    fn reads_the_config_map_of_kubeadm() {
        let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kube-proxy, namespace: kube-system}\n\
                   data:\n  config.conf: |\n    apiVersion: kubeproxy.config.k8s.io/v1alpha1\n    \
                   kind: KubeProxyConfiguration\n    mode: ipvs\n";
        let (config, said) = load(map);
        assert_eq!((config.unwrap().mode, said.as_str()), (Mode::Ipvs, ""));
        let (config, said) = load(&map.replace("ipvs", "ipsv"));
        assert!(config.is_none());
        expect![[r#"
            6:5 unknown-word: line 3, column 7: mode cannot be `ipsv`
        "#]]
        .assert_eq(&said);
    }

    #[test]
    fn says_what_is_wrong() {
        bad(
            "mode: IPVS\niptables:\n  masqueradeBit: 32\n  syncPeriod: 30\n  minSyncPeriod: 1x\n",
            expect![[r#"
                6:15 wrong-type: iptables.syncPeriod must be a string, not the number `30`
            "#]],
        );
        bad(
            "mode: IPVS\niptables:\n  masqueradeBit: 32\n  syncPeriod: 1s\n  minSyncPeriod: 2s\nudp: 1\n",
            expect![[r#"
                3:7 unknown-word: mode cannot be `IPVS`
                5:18 out-of-range: iptables.masqueradeBit `32` is not between 0 and 31
                7:18 out-of-range: iptables.minSyncPeriod is longer than iptables.syncPeriod
                8:6 unknown-field: unknown field `udp`
            "#]],
        );
        bad(
            "clusterCIDR: 10.0.0.0/8, fd00::/8\nnodePortAddresses: [primary, 10.0.0.0/8]\n\
             detectLocalMode: ClusterCIDR\noomScoreAdj: -1001\nmetricsBindAddress: nowhere\n",
            expect![[r#"
                3:14 bad-cidr: clusterCIDR has ` fd00::/8`, which is not a CIDR
                4:21 bad-cidr: nodePortAddresses has `primary` among others
                6:14 out-of-range: oomScoreAdj `-1001` is not between -1000 and 1000
                7:21 bad-address: metricsBindAddress `nowhere` is not an address and a port
            "#]],
        );
        bad(
            "detectLocalMode: BridgeInterface\niptables: {masqueradebit: 1}\n",
            expect![[r#"
                3:18 missing-field: detectLocalMode `BridgeInterface` needs detectLocal.bridgeInterface
                4:27 unknown-field: unknown field `iptables.masqueradebit`
            "#]],
        );
        bad(
            "mode: ipvs\nipvs:\n  scheduler: Round Robin\n  excludeCIDRs: [10.0.0.0]\n",
            expect![[r#"
                5:14 bad-name: scheduler `Round Robin` is no name of a scheduler
                6:18 bad-cidr: excludeCIDRs has `10.0.0.0`, which is not a CIDR
            "#]],
        );
        good("ipvs: {scheduler: Round Robin}\n");
        assert_eq!(good("mode: ipvs\nipvs: {scheduler: mh}\n").ipvs.scheduler, "mh");
        let kubeadm = format!(
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n---\n{HEAD}mode: ipvs\n"
        );
        assert_eq!(load(&kubeadm).0.unwrap().mode, Mode::Ipvs);
        expect![[r#"
            2:7 not-a-config: `Pod` of `v1` is no configuration
        "#]]
        .assert_eq(&load("apiVersion: v1\nkind: Pod\n---\nkind: Pod\n").1);
        bad(
            "portRange: ''\nnonsense: {a: 1}\n",
            expect![[r#"
                4:11 unknown-field: unknown field `nonsense`
                (still read)
            "#]],
        );
    }
}
