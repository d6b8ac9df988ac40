//! Which target a connection goes to: in turn, with the affinity of clients, past those that have failed. Time and
//! chance come from outside, so that it can be tried without either.
//!
//! A target that could not be reached is *set aside*: new connections pass it by, for longer each time it fails again.
//! When its time is over one connection tries it, while the others still pass it by. If all are set aside, all count.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::net::AddrPort;

use super::Listener;

/// For how long a target is set aside after its first failure; twice as long after each further one.
const SET_ASIDE_FIRST: Duration = Duration::from_secs(1);
/// The longest that a target is set aside.
const SET_ASIDE_MOST: Duration = Duration::from_secs(30);
/// How many clients are remembered at most: an address range that somebody walks through must not fill the memory.
const MAX_CLIENTS: usize = 65_536;

/// How a target has fared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Health {
    /// Failures without a success since.
    n_failures: u32,
    /// Until when it is passed by.
    until: Option<Duration>,
}

/// Chooses among the targets of one listener. All times are since one and the same moment.
#[derive(Debug, Clone, Default)]
pub struct Balancer {
    targets: Vec<AddrPort>,
    next: usize,
    health: BTreeMap<AddrPort, Health>,
    affinity: Option<Duration>,
    clients: BTreeMap<IpAddr, (AddrPort, Duration)>,
}

impl Balancer {
    /// One without targets that will begin at the `start`th: hosts that began at the same one would keep step.
    pub fn new(start: usize) -> Balancer {
        Balancer { next: start, ..Balancer::default() }
    }

    /// Takes the targets and the affinity of a listener. Targets that stay keep their place in turn and what is known of
    /// them; clients of targets that go are forgotten.
    pub fn set(&mut self, listener: &Listener) {
        self.affinity = listener.affinity_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        self.targets = listener.targets.iter().copied().collect();
        self.health.retain(|target, _| listener.targets.contains(target));
        if self.affinity.is_none() {
            self.clients.clear();
        }
        self.clients.retain(|_, (target, _)| listener.targets.contains(target));
    }

    /// How many targets there are.
    pub fn n_targets(&self) -> usize {
        self.targets.len()
    }

    /// The target for a connection of `client` that has failed at those in `tried`. `None` if there is none left. A target
    /// that is tried again after its time set aside is passed by others until its outcome is told.
    pub fn choose(&mut self, client: IpAddr, tried: &BTreeSet<AddrPort>, now: Duration) -> Option<AddrPort> {
        if tried.is_empty()
            && let Some(kept) = self.remembered(client, now)
        {
            self.clients.insert(client, (kept, now));
            return Some(kept);
        }
        let n_targets = self.targets.len();
        if n_targets == 0 {
            return None;
        }
        let start = self.next % n_targets;
        let mut spare = None;
        for step in 0..n_targets {
            let place = (start + step) % n_targets;
            let target = self.targets[place];
            if tried.contains(&target) {
                continue;
            }
            if self.admits(target, now) {
                self.next = place + 1;
                return Some(self.remember(client, target, now));
            }
            spare = spare.or(Some((place, target)));
        }
        // All that are left have failed of late: better one of them than none.
        let (place, target) = spare?;
        self.next = place + 1;
        Some(self.remember(client, target, now))
    }

    /// Notes that a target could not be reached.
    pub fn failed(&mut self, target: AddrPort, now: Duration) {
        if !self.targets.contains(&target) {
            return;
        }
        let health = self.health.entry(target).or_default();
        // Connections that were already on their way say nothing new, and one that tried it has been counted.
        if health.n_failures > 0 && health.until.is_some_and(|until| now < until) {
            return;
        }
        health.n_failures = health.n_failures.saturating_add(1);
        health.until = Some(now + set_aside_for(health.n_failures));
        self.clients.retain(|_, (kept, _)| *kept != target);
    }

    /// Notes that a target was reached.
    pub fn reached(&mut self, target: AddrPort) {
        if !self.health.is_empty() {
            self.health.remove(&target);
        }
    }

    /// The targets that are set aside, with the time that is left.
    pub fn set_aside(&self, now: Duration) -> BTreeMap<AddrPort, Duration> {
        let left = |health: &Health| health.until.and_then(|until| until.checked_sub(now));
        let left = self.health.iter().filter_map(|(target, health)| Some((*target, left(health)?)));
        left.filter(|(_, left)| !left.is_zero()).collect()
    }

    /// How many clients are remembered.
    pub fn n_clients(&self) -> usize {
        self.clients.len()
    }

    fn admits(&mut self, target: AddrPort, now: Duration) -> bool {
        let Some(health) = self.health.get_mut(&target) else { return true };
        match health.until {
            Some(until) if now < until => false,
            Some(_) | None => {
                // This connection tries it. Until it tells, it counts as failed once more.
                health.n_failures = health.n_failures.saturating_add(1);
                health.until = Some(now + set_aside_for(health.n_failures));
                true
            }
        }
    }

    fn remembered(&self, client: IpAddr, now: Duration) -> Option<AddrPort> {
        let (kept, last) = self.clients.get(&client)?;
        (now.saturating_sub(*last) < self.affinity?).then_some(*kept)
    }

    fn remember(&mut self, client: IpAddr, target: AddrPort, now: Duration) -> AddrPort {
        let Some(affinity) = self.affinity else { return target };
        if self.clients.len() >= MAX_CLIENTS && !self.clients.contains_key(&client) {
            self.clients.retain(|_, (_, last)| now.saturating_sub(*last) < affinity);
            self.forget_oldest();
        }
        self.clients.insert(client, (target, now));
        target
    }

    /// Makes room for an eighth, so that it is not done for each client.
    fn forget_oldest(&mut self) {
        if self.clients.len() < MAX_CLIENTS {
            return;
        }
        let mut times: Vec<Duration> = self.clients.values().map(|(_, last)| *last).collect();
        let (_, bound, _) = times.select_nth_unstable(MAX_CLIENTS / 8);
        let bound = *bound;
        self.clients.retain(|_, (_, last)| *last > bound);
    }
}

fn set_aside_for(n_failures: u32) -> Duration {
    let doubled = SET_ASIDE_FIRST.saturating_mul(1 << n_failures.saturating_sub(1).min(16));
    doubled.min(SET_ASIDE_MOST)
}
