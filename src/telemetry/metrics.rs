//! What the process has done, in numbers: `/metrics` in the text format of Prometheus, under kube-proxy's names where the thing
//! exists here (reference section 6.6), and what else stands at its address (section 6.4).

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::net::IpFamily;

use super::histogram::{Buckets, Histogram, OfNetwork, OfSyncs};
use super::{Answer, SharedRecord, Site};

/// How much a sync was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Everything.
    Full,
    /// Services that had changed.
    Partial,
}

/// What the process has done. All times are those of the day, since 1970 began.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// The mode, as the configuration calls it.
    pub mode: &'static str,
    /// The families that rules are made for.
    pub families: Vec<IpFamily>,
    /// How long syncs took: all, those of everything, those of some Services.
    syncs: Histogram<OfSyncs>,
    full_syncs: Histogram<OfSyncs>,
    partial_syncs: Histogram<OfSyncs>,
    /// How long it took from changes of pods to their rules.
    network: Histogram<OfNetwork>,
    /// Syncs that failed.
    failures: u64,
    /// When the last sync succeeded, and when something changed last.
    synced: Option<Duration>,
    queued: Option<Duration>,
    /// Changes of Services: all, and those that no sync has carried out.
    service_changes: (u64, u64),
    /// The same of endpoints.
    endpoint_changes: (u64, u64),
    /// Services that are left out.
    pub set_aside: usize,
    /// Service ports without the local endpoints that their policy asks for, by policy (`internal`) and family.
    pub no_local_endpoints: BTreeMap<(&'static str, IpFamily), usize>,
    /// Rules by table and family (`nat`, IPv4) of iptables.
    pub iptables_rules: BTreeMap<(String, IpFamily), usize>,
    /// Answers by status code: of `/healthz`, and of `/livez`.
    healthz: BTreeMap<u16, u64>,
    livez: BTreeMap<u16, u64>,
}

impl Metrics {
    /// Something has changed that is to be carried out: so many Services, and the endpoints of so many.
    pub fn queued(&mut self, services: usize, endpoints: usize, now: Duration) {
        self.queued = Some(now);
        for (changes, n) in [(&mut self.service_changes, services), (&mut self.endpoint_changes, endpoints)] {
            let n = u64::try_from(n).unwrap_or(u64::MAX);
            *changes = (changes.0 + n, changes.1 + n);
        }
    }

    /// A sync has ended, of everything or of some Services.
    pub fn synced(&mut self, took: Duration, extent: Extent, succeeded: bool, now: Duration) {
        self.syncs.observe(took);
        match extent {
            Extent::Full => self.full_syncs.observe(took),
            Extent::Partial => self.partial_syncs.observe(took),
        }
        if succeeded {
            self.synced = Some(now);
            (self.service_changes.1, self.endpoint_changes.1) = (0, 0);
        } else {
            self.failures += 1;
        }
    }

    /// What happened to a pod at this time is in the rules now.
    pub fn programmed(&mut self, trigger: Duration, now: Duration) {
        self.network.observe(now.saturating_sub(trigger));
    }

    /// Somebody has asked for `/healthz`, or else for `/livez`.
    pub(super) fn asked(&mut self, healthz: bool, status: u16) {
        let counts = if healthz { &mut self.healthz } else { &mut self.livez };
        *counts.entry(status).or_default() += 1;
    }

    fn text(&self) -> String {
        let mut page = Page(String::new());
        let families: Vec<String> =
            self.families.iter().map(|family| format!("ip_family=\"{family}\"")).collect();
        let is_kernel_language = matches!(self.mode, "iptables" | "nftables");
        page.histogram("sync_proxy_rules_duration_seconds", "Duration of syncs", &families, &self.syncs);
        if is_kernel_language {
            let name = "sync_full_proxy_rules_duration_seconds";
            page.histogram(name, "Duration of syncs of all rules", &families, &self.full_syncs);
            let name = "sync_partial_proxy_rules_duration_seconds";
            page.histogram(name, "Duration of syncs of changed rules", &families, &self.partial_syncs);
        }
        let name = "network_programming_duration_seconds";
        page.histogram(name, "Time from a change of a pod to its rules", &families, &self.network);
        let stamp = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64();
        for (name, help, time) in [
            ("sync_proxy_rules_last_timestamp_seconds", "When the last sync succeeded", self.synced),
            ("sync_proxy_rules_last_queued_timestamp_seconds", "When a sync was asked for last", self.queued),
        ] {
            page.head(name, "gauge", help);
            families.iter().for_each(|family| page.sample(name, family, stamp(time)));
        }
        for (part, (all, pending)) in [("endpoint", self.endpoint_changes), ("service", self.service_changes)]
        {
            let name = format!("sync_proxy_rules_{part}_changes_pending");
            page.one(&name, "gauge", &format!("Changes of {part}s that are not carried out yet"), pending);
            let name = format!("sync_proxy_rules_{part}_changes_total");
            page.one(&name, "counter", &format!("Changes of {part}s"), all);
        }
        let name = "sync_proxy_rules_no_local_endpoints_total";
        page.head(name, "gauge", "Service ports without the local endpoints that their policy asks for");
        for ((policy, family), n) in &self.no_local_endpoints {
            page.sample(name, &format!("ip_family=\"{family}\",traffic_policy=\"{policy}\""), n);
        }
        for (name, counts) in [("proxy_healthz_total", &self.healthz), ("proxy_livez_total", &self.livez)] {
            page.head(name, "counter", "Answers by status");
            counts.iter().for_each(|(code, n)| page.sample(name, &format!("code=\"{code}\""), n));
        }
        let failures = match self.mode {
            "nftables" => "sync_proxy_rules_nftables_sync_failures_total",
            _ => "sync_proxy_rules_iptables_restore_failures_total",
        };
        page.head(failures, "counter", "Syncs that failed");
        families.iter().for_each(|family| page.sample(failures, family, self.failures));
        if self.mode == "iptables" {
            let name = "sync_proxy_rules_iptables_total";
            page.head(name, "gauge", "Rules of iptables");
            for ((table, family), n) in &self.iptables_rules {
                page.sample(name, &format!("ip_family=\"{family}\",table=\"{table}\""), n);
            }
        }
        page.one(
            "services_set_aside",
            "gauge",
            "Services that are left out until they change: broken, or refused by the machine",
            self.set_aside,
        );
        page.0
    }
}

/// A page of metrics, growing.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP kubeproxy_{name} {help}\n# TYPE kubeproxy_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "kubeproxy_{name}{{{labels}}} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "kubeproxy_{name} {value}");
    }

    fn histogram<B: Buckets>(
        &mut self,
        name: &str,
        help: &str,
        families: &[String],
        histogram: &Histogram<B>,
    ) {
        self.head(name, "histogram", help);
        families.iter().for_each(|family| histogram.write(&mut self.0, &format!("kubeproxy_{name}"), family));
    }
}

/// `/metrics`, and beside it `/healthz` and `/proxyMode`.
#[derive(Debug, Clone)]
pub struct MetricsSite(pub SharedRecord);

impl Site for MetricsSite {
    fn answer(&self, path: &str, _now: Duration) -> Answer {
        match path {
            "/metrics" => {
                let kind = "text/plain; version=0.0.4; charset=utf-8".to_owned();
                let body = self.0.with(|record| record.metrics.text());
                Answer { headers: vec![("Content-Type", kind)], ..Answer::text(200, body) }
            }
            "/healthz" => Answer::text(200, "ok"),
            "/proxyMode" => Answer::text(200, self.0.with(|record| record.metrics.mode)),
            _ => Answer::not_found(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_page_counts_what_happened() {
        let mut metrics = Metrics { mode: "iptables", families: vec![IpFamily::V4], ..Metrics::default() };
        metrics.iptables_rules.insert(("nat".to_owned(), IpFamily::V4), 42);
        metrics.queued(2, 1, at(10));
        metrics.synced(at(1), Extent::Full, false, at(11));
        metrics.queued(1, 0, at(12));
        let before = metrics.text();
        assert!(before.contains("\nkubeproxy_sync_proxy_rules_service_changes_pending 3\n"), "{before}");
        metrics.synced(at(2), Extent::Partial, true, at(14));
        metrics.programmed(at(11), at(14));
        metrics.asked(true, 200);
        metrics.asked(false, 503);
        let text = metrics.text();
        for line in [
            "# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram",
            "kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family=\"IPv4\"} 3",
            "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 14",
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv4\"} 12",
            "kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"2\"} 0",
            "kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"3\"} 1",
            "kubeproxy_sync_proxy_rules_service_changes_pending 0",
            "kubeproxy_sync_proxy_rules_service_changes_total 3",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 1",
            "kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_proxy_rules_iptables_total{ip_family=\"IPv4\",table=\"nat\"} 42",
            "kubeproxy_proxy_healthz_total{code=\"200\"} 1",
            "kubeproxy_proxy_livez_total{code=\"503\"} 1",
            "kubeproxy_services_set_aside 0",
        ] {
            assert!(text.lines().any(|is| is == line), "{line} is not in\n{text}");
        }
        metrics.mode = "nftables";
        assert!(metrics.text().contains("kubeproxy_sync_proxy_rules_nftables_sync_failures_total{"));
    }

    #[test]
    fn the_site_has_three_pages() {
        let site = MetricsSite(SharedRecord::default());
        site.0.with(|record| record.metrics.mode = "ipvs");
        let page = |path| site.answer(path, at(0));
        assert_eq!((page("/healthz").body.as_str(), page("/proxyMode").body.as_str()), ("ok", "ipvs"));
        assert_eq!((page("/metrics").status, page("/configz").status), (200, 404));
        assert!(page("/metrics").headers[0].1.contains("version=0.0.4"));
    }
}
