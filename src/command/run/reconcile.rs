//! What is wanted beside what the node has, and the node made so. In userspace mode the process' own listeners are a part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::host::forward::ForwardError;
use crate::host::{Host, XtablesVariant};
use crate::manifest::Touched;
use crate::model::{Cluster, Mode, Service, ServiceName};
use crate::net::IpFamily;
use crate::pipeline::{self, Wanted};
use crate::plan::{self, Landmark, Step};
use crate::program::Program;
use crate::program::conntrack::Answerers;
use crate::program::listener::{Listener, ListenerKey, Listeners};
use crate::resolve::{self, HealthCheck};

use super::super::comparison::Comparison;
use super::super::flows::{self, Forgotten};
use super::super::input::Input;
use super::super::{Error, lock, steps, virtual_servers};
use super::RunArgs;
use super::drift::Drift;
use super::follow::{Followed, Part};
use super::log::{Log, Synced};
use super::schedule::IDLE_SHARE;

/// How often other ports are tried when somebody else has those that were chosen.
const MAX_PORT_ROUNDS: usize = 8;

/// Makes the node as it is wanted, and keeps what lasts from one time to the next.
pub(super) struct Reconciler<'a> {
    args: &'a RunArgs,
    /// Ports that somebody else has.
    taken: BTreeSet<ListenerKey>,
    /// The listeners that are open.
    pub(super) listeners: Listeners,
    /// Services that the machine has refused, and in which words, until they change.
    set_aside: BTreeMap<ServiceName, String>,
    /// Who may answer UDP flows, as of the last time that everything was compared.
    answerers: Answerers,
    /// What the node has, if the next change of some Services can be told from it.
    followed: Option<Followed>,
    /// Service ports without the local endpoints that their policy asks for.
    no_local_endpoints: BTreeMap<(&'static str, IpFamily), usize>,
    /// Rules of iptables by table and family.
    iptables_rules: BTreeMap<(String, IpFamily), usize>,
    /// What stands as long as nobody has flushed the rules, and where they were made.
    landmarks: (XtablesVariant, Vec<Landmark>),
    /// When everything is to be compared again, whatever has changed.
    drift: Drift,
}

impl<'a> Reconciler<'a> {
    /// One that has done nothing yet.
    pub(super) fn new(args: &'a RunArgs) -> Reconciler<'a> {
        Reconciler {
            args,
            taken: BTreeSet::new(),
            listeners: Listeners::new(),
            set_aside: BTreeMap::new(),
            answerers: Answerers::default(),
            followed: None,
            no_local_endpoints: BTreeMap::new(),
            iptables_rules: BTreeMap::new(),
            landmarks: (XtablesVariant::Legacy, Vec::new()),
            drift: Drift::default(),
        }
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
        self.set_aside.retain(|name, _| !touched.everything && !names.contains(name));
        loop {
            let held = take_out(&self.set_aside, &mut input.loaded.cluster);
            let synced = match self.follow(input, touched, host, log) {
                Some(Ok(synced)) => Ok(synced),
                Some(Err(error)) => {
                    // The node may have changed behind our back, and whoever is named be blamed for it.
                    tracing::info!("everything is compared again, since a change was refused: {error:?}");
                    self.make_so(input, host, log)
                }
                None => self.make_so(input, host, log),
            };
            input.loaded.cluster.services.extend(held);
            match synced {
                Err(error) => match error.culprit.clone() {
                    Some(name) if self.set_aside.insert(name.clone(), error.message.clone()).is_none() => {
                        log.error(&error, &format!("Service {name} is set aside until it changes"))?;
                    }
                    Some(_) | None => return Err(error),
                },
                Ok(synced) => return Ok(synced),
            }
        }
    }

    /// Makes the node as it is wanted of the Services that have changed, without a look at the others. `None` if that cannot
    /// be: everything is to be compared.
    fn follow(
        &mut self,
        input: &Input,
        touched: &Touched,
        host: &mut dyn Host,
        log: &mut Log<'_, '_>,
    ) -> Option<Result<Synced, Error>> {
        let began = host.now();
        let mut followed = self.followed.take()?;
        if touched.everything || self.drift.is_due(began, host) {
            return None;
        }
        let part = followed.compare(&input.loaded.cluster, &touched.names(), host)?;
        if let Err(error) = self.make_part_so(&part, input, host, log) {
            return Some(Err(error));
        }
        self.drift.changed(&part.compared.plan.steps, host);
        let (before, after) = (&part.before, &part.compared.wanted);
        adjust(&mut self.no_local_endpoints, &no_local_endpoints(before), &no_local_endpoints(after));
        let (before, after) = (iptables_rules(&before.program), iptables_rules(&after.program));
        adjust(&mut self.iptables_rules, &before, &after);
        if let Some(listeners) = &part.compared.wanted.program.listeners {
            self.listeners.extend(listeners.clone());
        }
        let ports = part.compared.changed_ports(input);
        let mut synced = self.told(&part.compared, ports, input, host.now().saturating_sub(began));
        synced.services = Some(part.names.clone());
        followed.take(part);
        self.followed = Some(followed);
        Some(Ok(synced))
    }

    fn make_part_so(
        &self,
        part: &Part,
        input: &Input,
        host: &mut dyn Host,
        log: &mut Log<'_, '_>,
    ) -> Result<(), Error> {
        let _lock = lock::take(self.args.lock, host, log.console)?;
        pipeline::check(&part.compared.wanted.program).map_err(Error::internal)?;
        steps::take(&part.compared, input, host, log.console)?;
        if let Some(listeners) = &part.compared.wanted.program.listeners {
            host.forward_retarget(listeners)?;
        }
        let (before, after) = (&part.before.answerers, &part.compared.wanted.answerers);
        if before != after {
            forget_stale(after, before, host, log)?;
        }
        Ok(())
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
        let generation = Drift::generation(input.config.mode, host);
        let mut compared = Comparison::by_turns(&options.0, input, *iptables, host)?;
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
        if compared.wanted.answerers != self.answerers {
            forget_stale(&compared.wanted.answerers, &self.answerers, host, log)?;
            self.answerers = compared.wanted.answerers.clone();
        }
        let mut ports = compared.changed_ports(input);
        if is_userspace {
            ports.extend(changed_targets(&self.listeners, wanted.listeners.as_ref()));
            ports.sort_by(|a, b| a[1..].cmp(&b[1..]));
            ports.dedup_by(|a, b| a[1..] == b[1..]);
            self.listeners = wanted.listeners.clone().unwrap_or_default();
            set_listeners(&self.listeners, host)?.map_err(|in_use| no_ports(&in_use))?;
        }
        self.no_local_endpoints = no_local_endpoints(&compared.wanted);
        self.iptables_rules = iptables_rules(&compared.wanted.program);
        let synced = self.told(&compared, ports, input, host.now().saturating_sub(began));
        let period = input.config.sync_periods.sync.max(synced.took * IDLE_SHARE);
        self.drift.compared(generation, &compared.plan.steps, period, host);
        self.landmarks = (steps::variant_of(&compared), plan::landmarks(&compared.wanted.program));
        self.followed = Followed::after(compared, input.config.mode);
        Ok(synced)
    }

    /// Whether what was made is there, as far as a short look tells. Where it cannot be looked, the next comparison tells.
    pub(super) fn stands(&self, host: &mut dyn Host) -> bool {
        let (variant, landmarks) = &self.landmarks;
        landmarks.iter().all(|landmark| {
            host.stands(*variant, landmark).unwrap_or_else(|error| {
                tracing::debug!("it cannot be looked whether {landmark:?} stands: {error}");
                true
            })
        })
    }

    /// What a sync did, to these Service ports.
    fn told(&self, compared: &Comparison, ports: Vec<String>, input: &Input, took: Duration) -> Synced {
        let planned = &compared.plan.steps;
        Synced {
            mode: input.config.mode.name(),
            ports,
            n_steps: planned.len(),
            n_rules: planned.iter().map(Step::n_rules).sum(),
            took,
            services: None,
            no_local_endpoints: self.no_local_endpoints.clone(),
            checks: health_checks(&compared.wanted, input),
            iptables_rules: self.iptables_rules.clone(),
        }
    }

    /// The Services that are left out, each with why.
    pub(super) fn set_aside(&self) -> &BTreeMap<ServiceName, String> {
        &self.set_aside
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

/// Has UDP flows be forgotten that go where rules would not send them any more.
fn forget_stale(
    wanted: &Answerers,
    before: &Answerers,
    host: &mut dyn Host,
    log: &mut Log<'_, '_>,
) -> Result<(), Error> {
    match flows::forget_stale(wanted, before, host) {
        Forgotten::None => Ok(()),
        Forgotten::Told(words) => log.say(&words),
        Forgotten::Refused(words) => log.warn(&words),
    }
}

/// Counts of all, when those of a part have changed.
fn adjust<K: Ord>(all: &mut BTreeMap<K, usize>, before: &BTreeMap<K, usize>, after: &BTreeMap<K, usize>) {
    for (which, n) in all {
        let of = |counts: &BTreeMap<K, usize>| counts.get(which).copied().unwrap_or_default();
        *n = (*n + of(after)).saturating_sub(of(before));
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

/// Rules of iptables by table and family.
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
fn take_out(services: &BTreeMap<ServiceName, String>, cluster: &mut Cluster) -> Vec<(ServiceName, Service)> {
    services.keys().filter_map(|name| cluster.services.remove_entry(name)).collect()
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
