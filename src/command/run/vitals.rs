//! What `run` tells of itself: fills the record that `telemetry` answers from, and says where it is answered.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::host::Host;
use crate::host::serve::Sites;
use crate::manifest::Touched;
use crate::net::Port;
use crate::resolve::HealthCheck;
use crate::telemetry::{Extent, HealthSite, MetricsSite, ServiceCheckSite, SharedRecord};

use super::super::Error;
use super::log::{Log, Synced};
use super::source::Source;

/// Where it is asked how it is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Health, metrics and log")]
pub struct ServeArgs {
    /// Where /healthz and /livez are answered, nowhere if empty [default: healthzBindAddress of --config, else 0.0.0.0:10256]
    #[arg(long, value_name = "ADDRESS")]
    pub healthz_bind_address: Option<String>,

    /// Where /metrics is answered, nowhere if empty [default: metricsBindAddress of --config, else 127.0.0.1:10249]
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_bind_address: Option<String>,
}

/// The port of an address that is given without one (reference section 6.8).
const HEALTHZ_PORT: Port = 10256;
/// The same for metrics.
const METRICS_PORT: Port = 10249;

/// What it tells, and where.
pub(super) struct Vitals {
    record: SharedRecord,
    /// When it began, since 1970 began.
    began: Duration,
    /// What is always answered.
    fixed: Sites,
    /// What load balancers may ask.
    checks: Vec<HealthCheck>,
    /// Addresses that could not be had the last time.
    failing: BTreeSet<SocketAddr>,
}

impl Vitals {
    /// Begins to answer, with nothing done yet.
    pub(super) fn start(
        args: &ServeArgs,
        source: &Source<'_>,
        host: &mut dyn Host,
        log: &mut Log<'_, '_>,
    ) -> Result<Vitals, Error> {
        let config = &source.input.config;
        let record = SharedRecord::default();
        let now = host.unix_time();
        record.with(|record| {
            record.health.begin(source.input.families.iter().copied(), config.sync_periods.sync, now);
            record.health.set_node_eligible(source.is_node_eligible());
            record.metrics.mode = config.mode.name();
            record.metrics.families = source.input.families.iter().copied().collect();
        });
        let healthz = args.healthz_bind_address.as_ref().unwrap_or(&config.healthz_bind_address);
        let metrics = args.metrics_bind_address.as_ref().unwrap_or(&config.metrics_bind_address);
        let mut fixed = Sites::new();
        if let Some(address) = address(metrics, METRICS_PORT, "--metrics-bind-address")? {
            fixed.insert(address, Arc::new(MetricsSite(record.clone())));
        }
        if let Some(address) = address(healthz, HEALTHZ_PORT, "--healthz-bind-address")? {
            fixed.insert(address, Arc::new(HealthSite(record.clone())));
        }
        let mut vitals = Vitals { record, began: now, fixed, checks: Vec::new(), failing: BTreeSet::new() };
        vitals.serve(host, log)?;
        Ok(vitals)
    }

    /// Something has changed that is to be carried out.
    pub(super) fn changed(&self, news: &Touched, source: &Source<'_>, now: Duration) {
        self.record.with(|record| {
            record.health.queued(now);
            record.health.set_node_eligible(source.is_node_eligible());
            record.metrics.queued(news.services.len(), news.endpoints.len(), now);
        });
    }

    /// A sync has succeeded, which was for these changes.
    pub(super) fn synced(&mut self, synced: Synced, touched: &Touched, n_set_aside: usize, now: Duration) {
        self.record.with(|record| {
            // What happened before this process began is no fault of its.
            for trigger in touched.triggers.iter().filter(|trigger| **trigger >= self.began) {
                record.metrics.programmed(*trigger, now);
            }
            record.health.updated(now);
            let extent = if synced.services.is_some() { Extent::Partial } else { Extent::Full };
            record.metrics.synced(synced.took, extent, true, now);
            record.metrics.mode = synced.mode;
            record.metrics.set_aside = n_set_aside;
            record.metrics.no_local_endpoints = synced.no_local_endpoints;
            record.metrics.iptables_rules = synced.iptables_rules;
        });
        match synced.services {
            Some(names) => self.checks.retain(|check| !names.contains(&check.service)),
            None => self.checks.clear(),
        }
        self.checks.extend(synced.checks);
    }

    /// A sync has failed.
    pub(super) fn failed(&self, took: Duration, now: Duration) {
        self.record.with(|record| record.metrics.synced(took, Extent::Full, false, now));
    }

    /// Answers what there now is to answer. An address that cannot be had is told once, and tried again each time.
    pub(super) fn serve(&mut self, host: &mut dyn Host, log: &mut Log<'_, '_>) -> Result<(), Error> {
        let mut sites = Sites::new();
        for check in &self.checks {
            let site = Arc::new(ServiceCheckSite {
                namespace: check.service.namespace.to_string(),
                name: check.service.name.to_string(),
                local_endpoints: check.local_endpoints,
                record: self.record.clone(),
            });
            for address in &check.at {
                sites.insert(*address, site.clone());
            }
        }
        sites.extend(self.fixed.clone());
        let mut failing = BTreeSet::new();
        for (address, error) in host.serve(&sites)? {
            if !self.failing.contains(&address) {
                log.warn(&format!("{error}; it is tried again"))?;
            }
            failing.insert(address);
        }
        self.failing = failing;
        Ok(())
    }
}

/// An address with a port, which may be left out; `None` if there is to be none.
fn address(text: &str, default_port: Port, option: &str) -> Result<Option<SocketAddr>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let with_port = text.parse::<SocketAddr>().ok();
    let found = with_port.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, default_port)));
    found.map(Some).ok_or_else(|| {
        Error::usage(format!("`{}` is no address with a port", text.escape_default()))
            .hint(format!("{option} is like 0.0.0.0:{default_port}"))
    })
}
