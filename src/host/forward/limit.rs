//! How much the process may hold: file descriptors, connections, pipes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for listeners and everything else that is no connection.
const RESERVED: u64 = 256;
/// What is assumed where there is no limit.
const PLENTY: u64 = 1 << 20;
/// The most pipes that are open at once.
const MAX_PIPES: u64 = 512;

/// Raises the limit on file descriptors as far as it goes; what it then is.
pub(super) fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Whoever may not keeps what there is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(PLENTY)
}

/// How many pipes of two descriptors each may be open.
pub(super) fn pipes_within(descriptors: u64) -> usize {
    usize::try_from((descriptors / 64).min(MAX_PIPES)).unwrap_or_default()
}

/// How many connections of two descriptors each there is room for.
pub(super) fn connections_within(descriptors: u64) -> usize {
    let pipes = 2 * pipes_within(descriptors) as u64;
    usize::try_from(descriptors.saturating_sub(RESERVED + pipes) / 2).unwrap_or(usize::MAX).max(1)
}

/// The cap on connections and flows.
#[derive(Debug)]
pub(super) struct Cap {
    max: usize,
    open: AtomicUsize,
    turned_away: AtomicU64,
}

impl Cap {
    pub(super) fn new(max: usize) -> Cap {
        Cap { max, open: AtomicUsize::new(0), turned_away: AtomicU64::new(0) }
    }

    /// A place for one more; `None`, and counted, if there is none.
    pub(super) fn enter(self: &Arc<Cap>) -> Option<Place> {
        let more = |open: usize| (open < self.max).then_some(open + 1);
        if self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok() {
            return Some(Place(Arc::clone(self)));
        }
        if self.turned_away.fetch_add(1, Ordering::Relaxed).is_power_of_two() {
            tracing::warn!("all {} places for connections are taken: the next are refused", self.max);
        }
        None
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }
}

/// A place under the cap, free again when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Cap>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again() {
        let cap = Arc::new(Cap::new(2));
        let first = cap.enter().unwrap();
        let second = cap.enter().unwrap();
        assert!(cap.enter().is_none());
        assert_eq!((cap.open(), cap.turned_away()), (2, 1));
        drop(first);
        assert!(cap.enter().is_some());
        drop(second);
        assert_eq!(cap.open(), 0);
    }

    #[test]
    fn descriptors_are_divided() {
        for descriptors in [1024, 20_000, 1 << 20] {
            let (pipes, connections) = (pipes_within(descriptors), connections_within(descriptors));
            assert!(2 * (pipes + connections) as u64 <= descriptors, "{descriptors}");
            assert!(connections as u64 > descriptors / 3, "{descriptors}");
        }
        assert_eq!(connections_within(10), 1);
    }
}
