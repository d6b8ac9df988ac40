//! Tells what must change for the live listeners to become the wanted ones.

use super::{ListenerKey, Listeners};

/// What happens to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListenerChange {
    /// It is opened.
    Open,
    /// It gets other targets or another affinity; its connections stay.
    Change,
    /// It is closed; its connections stay.
    Close,
}

/// What changes, by listener.
pub fn diff(wanted: &Listeners, live: &Listeners) -> Vec<(ListenerKey, ListenerChange)> {
    let mut changes: Vec<(ListenerKey, ListenerChange)> = Vec::new();
    for (key, listener) in wanted {
        match live.get(key) {
            None => changes.push((*key, ListenerChange::Open)),
            Some(live) if live != listener => changes.push((*key, ListenerChange::Change)),
            Some(_) => {}
        }
    }
    let unwanted = live.keys().filter(|key| !wanted.contains_key(key));
    changes.extend(unwanted.map(|key| (*key, ListenerChange::Close)));
    changes.sort();
    changes
}
