//! What the tasks of a listener share, and what all listeners share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::counters::Counters;
use super::limit::Cap;
use super::relay::IdleLimits;
use crate::net::AddrPort;
use crate::program::listener::balance::Balancer;
use crate::program::listener::{EndpointStatus, Listener, ListenerKey, ListenerStatus};

/// What all listeners share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) started: Instant,
    pub(super) cap: Arc<Cap>,
    pub(super) max_pipes: usize,
    pub(super) tcp_idle: IdleLimits,
    pub(super) udp_idle: Duration,
}

impl Shared {
    /// Time since the start.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// One listener.
#[derive(Debug)]
pub(super) struct ListenerState {
    pub(super) key: ListenerKey,
    pub(super) counters: Arc<Counters>,
    balance: Mutex<Balance>,
}

/// What changes with its targets.
#[derive(Debug)]
struct Balance {
    listener: Listener,
    balancer: Balancer,
    /// Targets, and those that have left with connections still to them.
    targets: BTreeMap<AddrPort, Arc<Counters>>,
}

impl Balance {
    fn forget_left(&mut self) {
        let wanted = &self.listener.targets;
        self.targets.retain(|target, counters| wanted.contains(target) || counters.read().current > 0);
    }
}

impl ListenerState {
    /// One whose balancer begins at the `start`th target.
    pub(super) fn new(key: ListenerKey, start: usize) -> ListenerState {
        let balance = Balance {
            listener: Listener::default(),
            balancer: Balancer::new(start),
            targets: BTreeMap::new(),
        };
        ListenerState { key, counters: Arc::default(), balance: Mutex::new(balance) }
    }

    fn balance(&self) -> MutexGuard<'_, Balance> {
        self.balance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes new targets. Connections to those that leave go on.
    pub(super) fn set(&self, listener: &Listener) {
        let mut balance = self.balance();
        balance.listener = listener.clone();
        balance.balancer.set(listener);
        for target in &listener.targets {
            balance.targets.entry(*target).or_default();
        }
        balance.forget_left();
    }

    /// How many targets there are, and the one for a connection of `client`.
    pub(super) fn choose(
        &self,
        client: IpAddr,
        tried: &BTreeSet<AddrPort>,
        now: Duration,
    ) -> (usize, Option<(AddrPort, Arc<Counters>)>) {
        let mut balance = self.balance();
        let chosen = balance.balancer.choose(client, tried, now);
        let with_counters =
            chosen.map(|target| (target, Arc::clone(balance.targets.entry(target).or_default())));
        (balance.balancer.n_targets(), with_counters)
    }

    pub(super) fn failed(&self, target: AddrPort, now: Duration) {
        self.balance().balancer.failed(target, now);
    }

    pub(super) fn reached(&self, target: AddrPort) {
        self.balance().balancer.reached(target);
    }

    pub(super) fn status(&self, now: Duration) -> ListenerStatus {
        let mut balance = self.balance();
        balance.forget_left();
        let set_aside = balance.balancer.set_aside(now);
        let of_listener = self.counters.read();
        let endpoints = balance.targets.iter().map(|(target, counters)| {
            let counted = counters.read();
            EndpointStatus {
                address: target.to_string(),
                current: counted.current,
                total: counted.total,
                bytes_to: counted.bytes_to,
                bytes_from: counted.bytes_from,
                failures: counted.failures,
                set_aside_seconds: set_aside.get(target).map(Duration::as_secs_f64),
                leaving: !balance.listener.targets.contains(target),
            }
        });
        ListenerStatus {
            label: balance.listener.label.to_string(),
            protocol: self.key.protocol.name().to_owned(),
            address: self.key.at.to_string(),
            affinity_seconds: balance.listener.affinity_seconds,
            current: of_listener.current,
            total: of_listener.total,
            bytes_to: of_listener.bytes_to,
            bytes_from: of_listener.bytes_from,
            failures: of_listener.failures,
            endpoints: endpoints.collect(),
        }
    }
}
