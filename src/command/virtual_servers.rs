//! What IPVS mode needs of a machine, and what of it is there: virtual servers, sets, the dummy device.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::backend::ipvs;
use crate::host::{Host, HostError, HostErrorKind};
use crate::net::{AddrPort, IpFamily, PerFamily, Protocol};
use crate::program::ipset::Sets;
use crate::program::ipvs::{Flags, Request, SchedulerName, ServiceKey, VirtualServer, VirtualServers};
use crate::program::{Dummy, Program};

use super::Error;

/// Where nobody has a virtual server: a scheduler is tried there, as kube-proxy does (reference section 3.1).
const TRIAL: (Protocol, [u8; 4], u16) = (Protocol::Tcp, [198, 51, 100, 0], 20000);

/// An error unless the machine has all that IPVS mode needs but what can only be found out by trying.
pub(super) fn require(host: &mut dyn Host) -> Result<(), Error> {
    if host.ipset_protocol()?.is_none() {
        return Err(Error::host("this kernel has no ipset (module ip_set)")
            .hint("load the module, or use --mode nftables or iptables"));
    }
    if host.ipvs_version()?.is_none() {
        return Err(Error::host("this kernel has no IPVS (module ip_vs)")
            .hint("load the module, or use --mode nftables or iptables"));
    }
    Ok(())
}

/// Tries what a kernel may lack, before the first step: the scheduler, dummy devices. What was tried is gone after.
pub(super) fn rehearse(host: &mut dyn Host, wanted: &Program, live: &Program) -> Result<(), Error> {
    let used: BTreeSet<&SchedulerName> = schedulers(live).collect();
    if let Some(scheduler) = schedulers(wanted).find(|scheduler| !used.contains(scheduler)) {
        try_scheduler(host, scheduler)?;
    }
    let device = ipvs::device();
    let is_wanted = wanted.dummies.as_ref().is_some_and(|dummies| dummies.contains_key(device));
    if is_wanted && host.dummy_addresses(device)?.is_none() {
        host.dummy_add(device)?;
        host.dummy_delete(device)?;
    }
    Ok(())
}

/// The scheduler of each virtual server.
fn schedulers(program: &Program) -> impl Iterator<Item = &SchedulerName> {
    let families = [&program.ipvs.v4, &program.ipvs.v6].into_iter().flatten();
    families.flat_map(VirtualServers::values).map(|server| &server.scheduler)
}

fn try_scheduler(host: &mut dyn Host, scheduler: &SchedulerName) -> Result<(), Error> {
    let (protocol, addr, port) = TRIAL;
    let key = ServiceKey::Address { protocol, at: AddrPort::new(addr.into(), port) };
    let server = VirtualServer {
        scheduler: scheduler.clone(),
        flags: Flags::default(),
        persistence_seconds: 0,
        netmask: IpFamily::V4.bits(),
        engine: None,
        real_servers: BTreeMap::new(),
        counters: None,
        tag: None,
    };
    match host.ipvs_change(&[Request::NewService(key, server)]) {
        Ok(()) => {}
        // One that a killed run left says nothing about this scheduler, and is no reason to stop.
        Err((_, error)) if error.kind == HostErrorKind::Exists => {}
        Err((_, error)) => return Err(error.into()),
    }
    host.ipvs_change(&[Request::DeleteService(key)]).map_err(|(_, error)| error.into())
}

/// Whether the kernel has IPVS, as far as settings and the dummy device tell. Asking loads no module.
pub(super) fn is_loaded(host: &mut dyn Host) -> Result<bool, Error> {
    let has_device = matches!(host.dummy_addresses(ipvs::device()), Ok(Some(_)));
    let [of_servers, ..] = ipvs::SYSCTLS;
    Ok(has_device || host.sysctl_read(of_servers)?.is_some())
}

/// Whether IPVS mode left anything that its rules or its device tell of. Asking loads no module.
pub(super) fn has_leftovers(host: &mut dyn Host, live: &Program) -> bool {
    matches!(host.dummy_addresses(ipvs::device()), Ok(Some(_)))
        || [&live.xtables.v4, &live.xtables.v6].into_iter().flatten().any(ipvs::holds_ours)
}

/// Whether there are sets of IPVS mode. Asking loads no module but that of ipset.
pub(super) fn has_sets(host: &mut dyn Host) -> Result<bool, Error> {
    let sets = read_sets(host)?;
    Ok(sets.iter().flat_map(Sets::keys).any(|name| ipvs::set_family(name).is_some()))
}

/// All sets; `None` if the kernel can have none.
pub(super) fn read_sets(host: &mut dyn Host) -> Result<Option<Sets>, Error> {
    if_supported(host.ipset_read())
}

/// What was read, `None` if the kernel has no such thing.
fn if_supported<T>(read: Result<T, HostError>) -> Result<Option<T>, Error> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind == HostErrorKind::Unsupported => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Addresses of the node: those of Services are not among them.
pub(super) fn node_addresses(host: &mut dyn Host) -> Result<BTreeSet<IpAddr>, Error> {
    let all = host.local_addresses()?.into_iter();
    Ok(all.filter(|local| *local.device != *ipvs::device()).map(|local| local.addr).collect())
}

/// Reads what of IPVS mode is there. What the machine cannot have is not spoken of.
pub(super) fn read(
    host: &mut dyn Host,
    live: &mut Program,
    families: &BTreeSet<IpFamily>,
) -> Result<(), Error> {
    if let Some(servers) = if_supported(host.ipvs_read())? {
        live.ipvs = split(servers, families);
        live.ipvs_timeouts = Some(host.ipvs_timeouts()?);
    }
    live.ipset = read_sets(host)?;
    let device = ipvs::device();
    let mut dummies = BTreeMap::new();
    if let Some(addresses) = host.dummy_addresses(device)? {
        dummies.insert(device.into(), dummy(&addresses, families));
    }
    live.dummies = Some(dummies);
    for key in ipvs::SYSCTLS {
        if let Some(value) = host.sysctl_read(key)? {
            live.sysctls.insert(key.to_owned(), value);
        }
    }
    Ok(())
}

/// Virtual servers by family.
pub(super) fn split(
    servers: VirtualServers,
    families: &BTreeSet<IpFamily>,
) -> PerFamily<Option<VirtualServers>> {
    let mut split = PerFamily::from_fn(|family| families.contains(&family).then(VirtualServers::new));
    for (key, server) in servers {
        if let Some(of_family) = split.get_mut(key.family()) {
            of_family.insert(key, server);
        }
    }
    split
}

/// A device with those of its addresses that are spoken of.
pub(super) fn dummy(addresses: &BTreeSet<IpAddr>, families: &BTreeSet<IpFamily>) -> Dummy {
    Dummy {
        addresses: PerFamily::from_fn(|family| {
            let of_family = addresses.iter().copied().filter(|addr| IpFamily::of(*addr) == family);
            families.contains(&family).then(|| of_family.collect())
        }),
    }
}

/// Leaves out a family that the machine does not have, as its rules are left out.
pub(super) fn leave_out(wanted: &mut Program, family: IpFamily) {
    *wanted.ipvs.get_mut(family) = None;
    if let Some(sets) = &mut wanted.ipset {
        sets.retain(|name, _| ipvs::set_family(name) != Some(family));
    }
    for dummy in wanted.dummies.iter_mut().flat_map(BTreeMap::values_mut) {
        *dummy.addresses.get_mut(family) = None;
    }
}

/// Nothing of IPVS mode, where it is to go. What was not read is not spoken of.
pub(super) fn want_nothing(wanted: &mut Program, families: &BTreeSet<IpFamily>) {
    wanted.ipvs = PerFamily::from_fn(|family| families.contains(&family).then(VirtualServers::new));
    wanted.ipset = Some(Sets::new());
    wanted.dummies = Some(BTreeMap::new());
}

/// Virtual servers of others that kube-proxy would delete, in a sentence; `None` if there are none.
pub(super) fn foreign(
    wanted: &Program,
    live: &Program,
    is_left: &dyn Fn(&ServiceKey) -> bool,
) -> Option<String> {
    const SHOWN: usize = 3;
    let of_family = |family| {
        let (live, wanted) = (live.ipvs.get(family).as_ref()?, wanted.ipvs.get(family).as_ref()?);
        Some(live.keys().filter(|key| !wanted.contains_key(key) && is_left(key)))
    };
    let left: Vec<&ServiceKey> = IpFamily::ALL.into_iter().filter_map(of_family).flatten().collect();
    if left.is_empty() {
        return None;
    }
    let mut named: Vec<String> = left.iter().take(SHOWN).map(ToString::to_string).collect();
    if left.len() > SHOWN {
        named.push(format!("{} more", left.len() - SHOWN));
    }
    Some(format!(
        "virtual servers that are not of Services stay: {}; kube-proxy would delete them, and so does --exclusive",
        named.join(", ")
    ))
}
