//! What the kernel of the machine in memory does with requests to IPVS and changes of sets.

use super::FakeHost;
use crate::host::error::{HostError, HostErrorKind};
use crate::program::{ipset, ipvs};

impl FakeHost {
    /// Carries out a request to IPVS.
    pub(super) fn take(&mut self, request: &ipvs::Request) -> Result<(), HostError> {
        use ipvs::Request::{NewService, SetService, SetTimeouts};
        let refused = |kind, words: String| HostError::new("change virtual servers", kind, words);
        if let NewService(_, server) | SetService(_, server) = request
            && !self.schedulers.contains(server.scheduler.as_str())
        {
            let words = format!("the kernel has no IPVS scheduler `{}`", server.scheduler);
            return Err(refused(HostErrorKind::Unsupported, words));
        }
        if let SetTimeouts(timeouts) = request {
            let changed = |held: u32, asked: u32| if asked == 0 { held } else { asked };
            self.timeouts = ipvs::Timeouts {
                tcp: changed(self.timeouts.tcp, timeouts.tcp),
                tcp_fin: changed(self.timeouts.tcp_fin, timeouts.tcp_fin),
                udp: changed(self.timeouts.udp, timeouts.udp),
            };
        }
        ipvs::apply::apply(&mut self.virtual_servers, request).map_err(|error| {
            let kind = if error.is_exists() { HostErrorKind::Exists } else { HostErrorKind::NotFound };
            refused(kind, error.to_string())
        })?;
        self.requests.push(request.clone());
        Ok(())
    }

    /// Carries out a change of sets.
    pub(super) fn change_sets(&mut self, change: &ipset::Change) -> Result<(), HostError> {
        use ipset::change::ApplyError::{BadEntry, Full, NoSet, SetExists, TypesDiffer};
        let refused = |kind, words: String| HostError::new("change sets", kind, words);
        if let ipset::Change::Destroy(name) = change
            && self.tables.values().any(|tables| tables.asks_set(name.as_str()))
        {
            return Err(refused(HostErrorKind::Busy, format!("set {name} is in use by a kernel component")));
        }
        ipset::change::apply(&mut self.sets, change).map_err(|error| {
            let kind = match &error {
                SetExists(_) => HostErrorKind::Exists,
                NoSet(_) => HostErrorKind::NotFound,
                BadEntry(..) | Full(_) | TypesDiffer(..) => HostErrorKind::Other,
            };
            refused(kind, error.to_string())
        })
    }
}
