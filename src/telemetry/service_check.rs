//! What load balancers are told that ask whether this node has endpoints of a Service (`healthCheckNodePort`, reference section
//! 6.5).

use std::time::Duration;

use serde::Serialize;

use super::{Answer, SharedRecord, Site};

/// What is told of one Service.
#[derive(Debug, Clone)]
pub struct ServiceCheckSite {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How many addresses of this node are ready endpoints of it.
    pub local_endpoints: usize,
    /// Whether the proxy itself is well.
    pub record: SharedRecord,
}

#[derive(Serialize)]
struct ServiceBody<'s> {
    namespace: &'s str,
    name: &'s str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'s> {
    service: ServiceBody<'s>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

impl Site for ServiceCheckSite {
    /// Every path is the same.
    fn answer(&self, _path: &str, now: Duration) -> Answer {
        let healthy = self.record.with(|record| record.health.is_healthy(now));
        let body = Body {
            service: ServiceBody { namespace: &self.namespace, name: &self.name },
            local_endpoints: self.local_endpoints,
            service_proxy_healthy: healthy,
        };
        let mut text = Vec::new();
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        // A buffer takes everything.
        let _ = body.serialize(&mut serde_json::Serializer::with_formatter(&mut text, tabs));
        let status = if healthy && self.local_endpoints > 0 { 200 } else { 503 };
        let mut answer = Answer::json(status, String::from_utf8(text).unwrap_or_default());
        answer.headers.push(("X-Load-Balancing-Endpoint-Weight", self.local_endpoints.to_string()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::IpFamily;

    #[test]
    fn a_service_with_endpoints_here_is_served_while_the_proxy_is_well() {
        let record = SharedRecord::default();
        let mut site = ServiceCheckSite {
            namespace: "ns".to_owned(),
            name: "svc".to_owned(),
            local_endpoints: 1,
            record: record.clone(),
        };
        let at = Duration::from_secs;
        let answer = site.answer("/any", at(0));
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.body,
            "{\n\t\"service\": {\n\t\t\"namespace\": \"ns\",\n\t\t\"name\": \"svc\"\n\t},\n\t\"localEndpoints\": 1,\n\t\
             \"serviceProxyHealthy\": true\n}"
        );
        assert!(answer.headers.contains(&("X-Load-Balancing-Endpoint-Weight", "1".to_owned())));
        record.with(|record| {
            record.health.begin(IpFamily::ALL, at(30), at(0));
            record.health.queued(at(0));
        });
        assert_eq!(site.answer("/", at(60)).status, 503);
        record.with(|record| record.health.updated(at(60)));
        site.local_endpoints = 0;
        assert_eq!(site.answer("/", at(60)).status, 503);
    }
}
