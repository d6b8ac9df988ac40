//! Whether the process is well, and the node fit for traffic: `/healthz` and `/livez` (reference section 6.3).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::net::IpFamily;

use super::time::rfc3339;
use super::{Answer, SharedRecord, Site};

/// What of one family is known. All times are those of the day, since 1970 began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct FamilyHealth {
    /// When the oldest change came that is not carried out yet.
    queued: Option<Duration>,
    /// When the last sync succeeded.
    updated: Duration,
}

/// Whether changes are carried out in time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// For how long a change may wait.
    patience: Duration,
    families: BTreeMap<IpFamily, FamilyHealth>,
    /// Whether the node is to get traffic.
    node_eligible: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    status: BTreeMap<String, FamilyBody>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyBody {
    last_updated: String,
    healthy: bool,
}

impl Health {
    /// Begins to count, with nothing waiting: a change may wait for two sync periods.
    pub fn begin(
        &mut self,
        families: impl IntoIterator<Item = IpFamily>,
        sync_period: Duration,
        now: Duration,
    ) {
        self.patience = sync_period * 2;
        let begun = FamilyHealth { queued: None, updated: now };
        self.families = families.into_iter().map(|family| (family, begun)).collect();
    }

    /// Something has changed that is to be carried out.
    pub fn queued(&mut self, now: Duration) {
        for family in self.families.values_mut() {
            family.queued.get_or_insert(now);
        }
    }

    /// All that had changed has been carried out.
    pub fn updated(&mut self, now: Duration) {
        for family in self.families.values_mut() {
            *family = FamilyHealth { queued: None, updated: now };
        }
    }

    /// Says whether the node is to get traffic.
    pub fn set_node_eligible(&mut self, eligible: bool) {
        self.node_eligible = eligible;
    }

    fn is_family_healthy(&self, family: &FamilyHealth, now: Duration) -> bool {
        family.queued.is_none_or(|queued| now.saturating_sub(queued) < self.patience)
    }

    /// Whether no change has waited for too long.
    pub fn is_healthy(&self, now: Duration) -> bool {
        self.families.values().all(|family| self.is_family_healthy(family, now))
    }

    fn body(&self, node_eligible: Option<bool>, is_ok: bool, now: Duration) -> String {
        let newest = self.families.values().map(|family| family.updated).max().unwrap_or_default();
        let of_family = |(family, health): (&IpFamily, &FamilyHealth)| {
            let healthy = self.is_family_healthy(health, now);
            (family.to_string(), FamilyBody { last_updated: rfc3339(health.updated), healthy })
        };
        let body = Body {
            last_updated: rfc3339(if is_ok { now } else { newest }),
            current_time: rfc3339(now),
            node_eligible,
            healthy: self.is_healthy(now),
            status: self.families.iter().map(of_family).collect(),
        };
        serde_json::to_string(&body).unwrap_or_default()
    }
}

/// `/healthz` and `/livez`.
#[derive(Debug, Clone)]
pub struct HealthSite(pub SharedRecord);

impl Site for HealthSite {
    fn answer(&self, path: &str, now: Duration) -> Answer {
        self.0.with(|record| {
            let health = &record.health;
            let (eligible, is_ok) = match path {
                "/healthz" => (Some(health.node_eligible), health.is_healthy(now) && health.node_eligible),
                "/livez" => (None, health.is_healthy(now)),
                _ => return Answer::not_found(),
            };
            let status = if is_ok { 200 } else { 503 };
            let answer = Answer::json(status, health.body(eligible, is_ok, now));
            record.metrics.asked(path == "/healthz", status);
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn site() -> HealthSite {
        let record = SharedRecord::default();
        record.with(|record| {
            record.health.begin(IpFamily::ALL, at(30), at(0));
            record.health.set_node_eligible(true);
        });
        HealthSite(record)
    }

    #[test]
    fn a_change_that_waits_for_two_periods_is_unhealthy() {
        let site = site();
        let status = |seconds| site.answer("/livez", at(seconds)).status;
        assert_eq!(status(1000), 200, "without a change nothing is late");
        site.0.with(|record| {
            record.health.queued(at(1000));
            record.health.queued(at(1050));
        });
        assert_eq!((status(1059), status(1060)), (200, 503));
        site.0.with(|record| record.health.updated(at(1061)));
        assert_eq!(status(9999), 200);
    }

    #[test]
    fn the_body_is_that_of_the_reference() {
        let site = site();
        let healthy = site.answer("/healthz", at(60));
        assert_eq!(
            healthy.body,
            "{\"lastUpdated\":\"1970-01-01T00:01:00.000000000Z\",\"currentTime\":\"1970-01-01T00:01:00.000000000Z\",\
             \"nodeEligible\":true,\"healthy\":true,\"status\":{\
             \"IPv4\":{\"lastUpdated\":\"1970-01-01T00:00:00.000000000Z\",\"healthy\":true},\
             \"IPv6\":{\"lastUpdated\":\"1970-01-01T00:00:00.000000000Z\",\"healthy\":true}}}"
        );
        assert_eq!(healthy.headers[0], ("Content-Type", "application/json".to_owned()));
        assert_eq!(healthy.headers[1], ("X-Content-Type-Options", "nosniff".to_owned()));
        site.0.with(|record| record.health.set_node_eligible(false));
        let leaving = site.answer("/healthz", at(60));
        assert_eq!(leaving.status, 503);
        assert!(
            leaving.body.starts_with("{\"lastUpdated\":\"1970-01-01T00:00:00.000000000Z\","),
            "{}",
            leaving.body
        );
        assert!(leaving.body.contains("\"nodeEligible\":false,\"healthy\":true"));
        let alive = site.answer("/livez", at(60));
        assert!(alive.status == 200 && !alive.body.contains("nodeEligible"), "{}", alive.body);
        assert_eq!(site.answer("/", at(60)).status, 404);
    }
}
