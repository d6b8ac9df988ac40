//! An endpoint of a Service port, as EndpointSlices tell (reference section 1.6).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::net::AddrPort;

/// `conditions` of an endpoint, with the API's meaning of what is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// Takes new connections. Left out: true.
    pub ready: bool,
    /// Able to answer, also while it terminates. Left out: true.
    pub serving: bool,
    /// On its way out. Left out: false.
    pub terminating: bool,
}

impl Default for Conditions {
    fn default() -> Conditions {
        Conditions { ready: true, serving: true, terminating: false }
    }
}

/// `hints` of an endpoint: who should use it (reference section 1.8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// `forZones[].name`.
    pub zones: BTreeSet<Arc<str>>,
    /// `forNodes[].name`.
    pub nodes: BTreeSet<Arc<str>>,
}

/// One endpoint of one Service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub addr: AddrPort,
    /// The node that it runs on.
    pub node: Option<Arc<str>>,
    /// Its conditions.
    pub conditions: Conditions,
    /// Its hints, if it has any.
    pub hints: Option<Box<Hints>>,
}
