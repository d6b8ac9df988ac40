//! What is wanted beside what the node has, and the node made so. In userspace mode the process' own listeners are a part of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::Host;
use crate::host::forward::ForwardError;
use crate::manifest::Touched;
use crate::model::{Cluster, Mode, Service, ServiceName};
use crate::net::IpFamily;
use crate::pipeline::{self, Wanted};
use crate::plan::Step;
use crate::program::Program;
use crate::program::listener::{Listener, ListenerKey, Listeners};
use crate::resolve::{self, HealthCheck};

use super::super::comparison::Comparison;
use super::super::input::Input;
use super::super::{Error, lock, steps, virtual_servers};
use super::RunArgs;
use super::log::{Log, Synced};

/// How often other ports are tried when somebody else has those that were chosen.
const MAX_PORT_ROUNDS: usize = 8;

/// Makes the node as it is wanted, and keeps what lasts from one time to the next.
pub(super) struct Reconciler<'a> {
    args: &'a RunArgs,
    /// Ports that somebody else has.
    taken: BTreeSet<ListenerKey>,
    /// The listeners that are open.
    pub(super) listeners: Listeners,
    /// Services that the machine has refused, until they change.
    set_aside: BTreeSet<ServiceName>,
}

impl<'a> Reconciler<'a> {
    /// One that has done nothing yet.
    pub(super) fn new(args: &'a RunArgs) -> Reconciler<'a> {
        Reconciler { args, taken: BTreeSet::new(), listeners: Listeners::new(), set_aside: BTreeSet::new() }
    }

    /// Makes the node as it is wanted. A Service that the machine refuses does not stop the others: it is left out until it
    /// changes.
    pub(super) fn sync(
        &mut self,
        input: &mut Input,
        touched: &Touched,
        host: &mut dyn Host,
        log: &mut Log<'_, '_>,
    ) -> Result<Synced, Error> {
        let names = touched.names();
        self.set_aside.retain(|name| !touched.everything && !names.contains(name));
        loop {
            let held = take_out(&self.set_aside, &mut input.loaded.cluster);
            let synced = self.make_so(input, host, log);
            input.loaded.cluster.services.extend(held);
            match synced {
                Err(error) => match error.culprit.clone() {
                    Some(name) if self.set_aside.insert(name.clone()) => {
                        log.error(&error, &format!("Service {name} is set aside until it changes"))?;
                    }
                    Some(_) | None => return Err(error),
                },
                Ok(synced) => return Ok(synced),
            }
        }
    }

    /// Compares what is wanted with what there is, and makes it so: listeners that rules will lead to come first, those that no
    /// rule leads to any more go last.
    fn make_so(
        &mut self,
        input: &Input,
        host: &mut dyn Host,
        log: &mut Log<'_, '_>,
    ) -> Result<Synced, Error> {
        let began = host.now();
        let RunArgs { lock, iptables, input: options, .. } = self.args;
        let _lock = lock::take(*lock, host, log.console)?;
        let mut compared = Comparison::of_input(&options.0, input, *iptables, host, log.console)?;
        let is_userspace = input.config.mode == Mode::Userspace;
        if is_userspace {
            compared = self.open_listeners(compared.avoiding(&self.taken), input, host, log)?;
        }
        let (wanted, live) = (&compared.wanted.program, &compared.live.program);
        pipeline::check(wanted).map_err(Error::internal)?;
        for warning in &compared.live.warnings {
            log.warn(warning)?;
        }
        if input.config.mode == Mode::Ipvs && !compared.plan.steps.is_empty() {
            virtual_servers::rehearse(host, wanted, live)?;
        }
        steps::take(&compared, input, host, log.console)?;
        let mut ports = compared.changed_ports(input);
        if is_userspace {
            ports.extend(changed_targets(&self.listeners, wanted.listeners.as_ref()));
            ports.sort_by(|a, b| a[1..].cmp(&b[1..]));
            ports.dedup_by(|a, b| a[1..] == b[1..]);
            self.listeners = wanted.listeners.clone().unwrap_or_default();
            set_listeners(&self.listeners, host)?.map_err(|in_use| no_ports(&in_use))?;
        }
        let planned = &compared.plan.steps;
        Ok(Synced {
            mode: input.config.mode.name(),
            ports,
            n_steps: planned.len(),
            n_rules: planned.iter().map(Step::n_rules).sum(),
            took: host.now().saturating_sub(began),
            checks: health_checks(&compared.wanted, input),
            no_local_endpoints: no_local_endpoints(&compared.wanted),
            iptables_rules: iptables_rules(wanted),
        })
    }

    /// How many Services are left out.
    pub(super) fn n_set_aside(&self) -> usize {
        self.set_aside.len()
    }

    /// Opens what is wanted beside what there is. Where somebody else has a port, another one is wanted instead.
    fn open_listeners(
        &mut self,
        mut compared: Comparison,
        input: &Input,
        host: &mut dyn Host,
        log: &mut Log<'_, '_>,
    ) -> Result<Comparison, Error> {
        let mut in_use = Vec::new();
        for _ in 0..MAX_PORT_ROUNDS {
            input.refuse_small_port_range(&compared.wanted)?;
            let mut both = self.listeners.clone();
            both.extend(compared.wanted.program.listeners.clone().unwrap_or_default());
            in_use = match set_listeners(&both, host)? {
                Ok(()) => return Ok(compared),
                Err(in_use) => in_use,
            };
            for key in &in_use {
                log.warn(&format!("{key} is in use by another program: another proxy port is taken"))?;
                self.taken.insert(*key);
                self.listeners.remove(key);
            }
            compared = compared.avoiding(&self.taken);
        }
        Err(no_ports(&in_use))
    }
}

/// What load balancers may ask of this node, in all families.
fn health_checks(wanted: &Wanted, input: &Input) -> Vec<HealthCheck> {
    let views = input.families.iter().filter_map(|family| wanted.views.get(*family).as_ref());
    views.flat_map(|view| resolve::health_checks(&input.loaded.cluster, &input.node.name, view)).collect()
}

/// The Service ports that only lead elsewhere than before: no rule tells of it in userspace mode.
fn changed_targets(before: &Listeners, wanted: Option<&Listeners>) -> BTreeSet<String> {
    let differs = |(key, listener): &(&ListenerKey, &Listener)| {
        before.get(key).is_some_and(|before| before != *listener)
    };
    let changed = wanted.into_iter().flatten().filter(differs);
    changed.map(|(_, listener)| format!("~ {}", listener.label)).collect()
}

/// Service ports without the local endpoints that their policy asks for, by policy and family.
fn no_local_endpoints(wanted: &Wanted) -> BTreeMap<(&'static str, IpFamily), usize> {
    let mut counts = BTreeMap::new();
    for family in IpFamily::ALL {
        let Some(view) = wanted.views.get(family) else { continue };
        let (internal, external) = view.without_local_endpoints();
        counts.extend([(("internal", family), internal), (("external", family), external)]);
    }
    counts
}

fn iptables_rules(wanted: &Program) -> BTreeMap<(String, IpFamily), usize> {
    let mut counts = BTreeMap::new();
    for family in IpFamily::ALL {
        for (name, table) in wanted.xtables.get(family).iter().flat_map(|ruleset| &ruleset.tables) {
            let n_rules = table.chains.values().map(|chain| chain.rules.len()).sum();
            counts.insert((name.to_string(), family), n_rules);
        }
    }
    counts
}

/// Takes Services out of a cluster.
fn take_out(names: &BTreeSet<ServiceName>, cluster: &mut Cluster) -> Vec<(ServiceName, Service)> {
    names.iter().filter_map(|name| cluster.services.remove_entry(name)).collect()
}

fn no_ports(in_use: &[ListenerKey]) -> Error {
    let listed: Vec<String> = in_use.iter().take(4).map(ListenerKey::to_string).collect();
    Error::host(format!("proxy ports are in use by other programs: {}", listed.join(", ")))
        .hint("give another --proxy-port-range")
}

fn set_listeners(listeners: &Listeners, host: &mut dyn Host) -> Result<Result<(), Vec<ListenerKey>>, Error> {
    match host.forward_set(listeners) {
        Ok(()) => Ok(Ok(())),
        Err(ForwardError::PortsInUse(in_use)) => Ok(Err(in_use)),
        Err(ForwardError::Host(error)) => Err(error.into()),
    }
}
