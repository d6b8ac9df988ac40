//! What is counted of connections and flows: without locks, each number for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of a listener, or of one of its targets.
#[derive(Debug, Default)]
pub(super) struct Counters {
    current: AtomicU64,
    total: AtomicU64,
    bytes_to: AtomicU64,
    bytes_from: AtomicU64,
    failures: AtomicU64,
}

/// Their values at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) current: u64,
    pub(super) total: u64,
    pub(super) bytes_to: u64,
    pub(super) bytes_from: u64,
    pub(super) failures: u64,
}

impl Counters {
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Counted {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Counted {
            current: read(&self.current),
            total: read(&self.total),
            bytes_to: read(&self.bytes_to),
            bytes_from: read(&self.bytes_from),
            failures: read(&self.failures),
        }
    }
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the client to the endpoint.
    ToEndpoint,
    /// From the endpoint to the client.
    ToClient,
}

/// One connection or flow that is counted, as long as it lives, for its listener and its target.
#[derive(Debug)]
pub(super) struct Counting([Arc<Counters>; 2]);

impl Counting {
    pub(super) fn of(listener: &Arc<Counters>, target: &Arc<Counters>) -> Counting {
        let both = [Arc::clone(listener), Arc::clone(target)];
        for counters in &both {
            counters.current.fetch_add(1, Ordering::Relaxed);
            counters.total.fetch_add(1, Ordering::Relaxed);
        }
        Counting(both)
    }

    pub(super) fn bytes(&self, way: Way, n: usize) {
        for counters in &self.0 {
            let number = match way {
                Way::ToEndpoint => &counters.bytes_to,
                Way::ToClient => &counters.bytes_from,
            };
            number.fetch_add(n as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        for counters in &self.0 {
            counters.current.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
