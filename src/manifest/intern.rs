//! One allocation for each string that occurs many times: node names, namespaces, port names, zones.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Strings that were seen, shared.
#[derive(Debug, Default)]
pub(super) struct Interner {
    seen: BTreeSet<Arc<str>>,
    last: Option<Arc<str>>,
}

impl Interner {
    /// The shared copy of a string.
    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(last) = &self.last
            && **last == *text
        {
            return last.clone();
        }
        let shared = match self.seen.get(text) {
            Some(shared) => shared.clone(),
            None => {
                let shared: Arc<str> = text.into();
                self.seen.insert(shared.clone());
                shared
            }
        };
        self.last = Some(shared.clone());
        shared
    }
}

/// The strings of a load. Node names are apart, since there is one for every endpoint.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Names of nodes.
    pub(super) nodes: Interner,
    /// Namespaces.
    pub(super) namespaces: Interner,
    /// Names of ports, and zones.
    pub(super) words: Interner,
}
