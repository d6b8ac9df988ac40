//! The steps of IPVS: sets, virtual servers, and the dummy devices that bear their addresses.
//!
//! A set is filled before rules ask it and emptied after. An address comes when its virtual server has all its real
//! servers, and goes first: without it nothing from outside reaches the virtual server.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::net::{AddrPort, IpFamily, PerFamily, Protocol};
use crate::program::ipset::diff::{self as sets_diff, SetsDiff};
use crate::program::ipvs::diff::{self as servers_diff, ServersDiff};
use crate::program::ipvs::{Request, ServiceKey, Timeouts};
use crate::program::{Dummy, Program, Scope};

use super::Step;

/// What differs in all that IPVS needs.
pub(super) struct Differences {
    pub(super) servers: PerFamily<Option<ServersDiff>>,
    pub(super) sets: Option<SetsDiff>,
    timeouts: Option<Timeouts>,
    devices: Vec<DeviceDiff>,
}

/// What differs in a dummy device.
struct DeviceDiff {
    device: Box<str>,
    create: bool,
    delete: bool,
    add: Vec<IpAddr>,
    remove: Vec<IpAddr>,
}

impl Differences {
    /// Compares. What either side says nothing of is left alone.
    pub(super) fn new(wanted: &Program, live: &Program, scopes: &PerFamily<Scope>) -> Differences {
        let servers = PerFamily::from_fn(|family| {
            let ours = &scopes.get(family).servers;
            let (wanted, live) = (wanted.ipvs.get(family).as_ref()?, live.ipvs.get(family).as_ref()?);
            Some(servers_diff::diff(wanted, live, &|key| ours.contains(key)))
        });
        let sets = wanted.ipset.as_ref().zip(live.ipset.as_ref()).map(|(wanted, live)| {
            let is_ours = |name: &_| scopes.v4.sets.contains(name) || scopes.v6.sets.contains(name);
            sets_diff::diff(wanted, live, &is_ours)
        });
        Differences {
            servers,
            sets,
            timeouts: timeouts(wanted, live),
            devices: devices(wanted, live, scopes),
        }
    }

    /// What must be there before rules ask it.
    pub(super) fn fill(&self, wanted: &Program) -> Option<Step> {
        let changes = sets_diff::fill(self.sets.as_ref()?, wanted.ipset.as_ref()?);
        (!changes.is_empty()).then_some(Step::Ipset { changes, what: "fill" })
    }

    /// What makes packets meet new virtual servers.
    pub(super) fn switch_on(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = self
            .devices
            .iter()
            .filter(|device| device.create)
            .map(|device| Step::AddDummy { device: device.device.clone() })
            .collect();
        let mut requests: Vec<Request> = self.timeouts.map(Request::SetTimeouts).into_iter().collect();
        let servers = [&self.servers.v4, &self.servers.v6].into_iter().flatten();
        requests.extend(servers.flat_map(|servers| servers.make.iter().cloned()));
        if !requests.is_empty() {
            steps.push(Step::Ipvs { requests, what: "make and change" });
        }
        for DeviceDiff { device, add, .. } in self.devices.iter().filter(|device| !device.add.is_empty()) {
            steps.push(Step::AddAddresses { device: device.clone(), addresses: add.clone() });
        }
        steps
    }

    /// Has flows that began at virtual servers go on by the rules of the mode that has taken over: all that leads packets to
    /// virtual servers goes, and there are rules.
    pub(super) fn hand_over(&self, wanted: &Program) -> Option<Step> {
        let has_rules = |family| {
            wanted.xtables.get(family).as_ref().is_some_and(|rules| !rules.tables.is_empty())
                || wanted.nft.get(family).table().is_some()
        };
        if wanted.dummies.as_ref().is_none_or(|wanted| !wanted.is_empty()) {
            return None;
        }
        let families = IpFamily::ALL.into_iter().filter(|family| has_rules(*family));
        let servers = families.filter_map(|family| self.servers.get(family).as_ref());
        let asked: BTreeSet<AddrPort> = servers
            .flat_map(|servers| &servers.remove)
            .filter_map(|request| {
                let Request::DeleteService(key) = request else { return None };
                let ServiceKey::Address { protocol: Protocol::Udp, at } = key else { return None };
                Some(*at)
            })
            .collect();
        (!asked.is_empty()).then_some(Step::HandOver { asked })
    }

    /// What keeps packets from virtual servers that go, and takes these.
    pub(super) fn switch_off(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for DeviceDiff { device, remove, .. } in
            self.devices.iter().filter(|device| !device.remove.is_empty())
        {
            steps.push(Step::DeleteAddresses { device: device.clone(), addresses: remove.clone() });
        }
        let servers = [&self.servers.v4, &self.servers.v6].into_iter().flatten();
        let requests: Vec<Request> = servers.flat_map(|servers| servers.remove.iter().cloned()).collect();
        if !requests.is_empty() {
            steps.push(Step::Ipvs { requests, what: "remove and drain" });
        }
        for device in self.devices.iter().filter(|device| device.delete) {
            steps.push(Step::DeleteDummy { device: device.device.clone() });
        }
        steps
    }

    /// What no rule asks any more.
    pub(super) fn drain(&self) -> Option<Step> {
        let changes = sets_diff::drain(self.sets.as_ref()?);
        (!changes.is_empty()).then_some(Step::Ipset { changes, what: "empty" })
    }
}

/// The timeouts to set: those that are wanted, and what the kernel has for the others.
fn timeouts(wanted: &Program, live: &Program) -> Option<Timeouts> {
    let (wanted, live) = (wanted.ipvs_timeouts?, live.ipvs_timeouts?);
    let differs = |wanted: u32, live: u32| wanted != 0 && wanted != live;
    let any = differs(wanted.tcp, live.tcp)
        || differs(wanted.tcp_fin, live.tcp_fin)
        || differs(wanted.udp, live.udp);
    any.then_some(wanted)
}

fn devices(wanted: &Program, live: &Program, scopes: &PerFamily<Scope>) -> Vec<DeviceDiff> {
    let (Some(wanted), Some(live)) = (&wanted.dummies, &live.dummies) else { return Vec::new() };
    let is_ours = |name: &str| scopes.v4.devices.contains(name) || scopes.v6.devices.contains(name);
    let names: BTreeSet<&Box<str>> = wanted.keys().chain(live.keys().filter(|name| is_ours(name))).collect();
    let nothing = Dummy::default();
    let mut devices = Vec::new();
    for name in names {
        let (wanted, live) = (wanted.get(name), live.get(name));
        let mut device = DeviceDiff {
            device: name.clone(),
            create: live.is_none(),
            // It goes as a whole, unless it has addresses of a family that is left alone.
            delete: wanted.is_none()
                && live.is_some_and(|live| live.addresses.v4.is_some() && live.addresses.v6.is_some()),
            add: Vec::new(),
            remove: Vec::new(),
        };
        for family in IpFamily::ALL {
            let of = |dummy: Option<&Dummy>| dummy.unwrap_or(&nothing).addresses.get(family).clone();
            let (wanted_ones, live_ones) = (of(wanted), of(live));
            if wanted.is_some() && wanted_ones.is_none() {
                continue;
            }
            let (wanted_ones, live_ones) = (wanted_ones.unwrap_or_default(), live_ones.unwrap_or_default());
            device.add.extend(wanted_ones.difference(&live_ones));
            device.remove.extend(live_ones.difference(&wanted_ones));
        }
        if device.create || device.delete || !device.add.is_empty() || !device.remove.is_empty() {
            devices.push(device);
        }
    }
    devices
}
