//! Names of Services and their ports.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::net::Protocol;

/// Namespace and name of a Service; prints `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl ServiceName {
    /// Joins the two.
    pub fn new(namespace: &str, name: &str) -> ServiceName {
        ServiceName { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What identifies a Service port (reference section 1.5). Prints `namespace/name:port`, or `namespace/name` when the
/// port has no name; the protocol is part of the identity, not of the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    /// The Service.
    pub service: ServiceName,
    /// Name of the port, empty if it has none.
    pub port: Arc<str>,
    /// Protocol of the port.
    pub protocol: Protocol,
}

impl ServicePortName {
    /// The ports of one Service in a map of them.
    pub fn of_service<'m, T>(
        map: &'m BTreeMap<ServicePortName, T>,
        service: &ServiceName,
    ) -> impl Iterator<Item = (&'m ServicePortName, &'m T)> {
        let first = ServicePortName { service: service.clone(), port: "".into(), protocol: Protocol::ALL[0] };
        map.range(first..).take_while(move |(name, _)| name.service == *service)
    }
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.service.fmt(f)?;
        if !self.port.is_empty() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}
