//! What a kernel does with requests, in memory. It looks at what is there, as the kernel does; whether values make sense
//! is a matter of `check`.

use crate::net::AddrPort;

use super::{RealServer, Request, ServiceKey, VirtualServer, VirtualServers};

/// Why the kernel refuses a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// EEXIST.
    #[error("virtual server {0} is there already")]
    ServerExists(ServiceKey),
    /// ESRCH.
    #[error("there is no virtual server {0}")]
    NoServer(ServiceKey),
    /// EEXIST.
    #[error("virtual server {0} has real server {1} already")]
    RealServerExists(ServiceKey, AddrPort),
    /// ENOENT.
    #[error("virtual server {0} has no real server {1}")]
    NoRealServer(ServiceKey, AddrPort),
}

impl ApplyError {
    /// Whether something was there already; otherwise something was missing.
    pub fn is_exists(&self) -> bool {
        matches!(self, ApplyError::ServerExists(_) | ApplyError::RealServerExists(_, _))
    }
}

/// Does what a request asks for, or nothing. Timeouts belong to no virtual server: setting them changes nothing here.
pub fn apply(servers: &mut VirtualServers, request: &Request) -> Result<(), ApplyError> {
    match request {
        Request::NewService(key, wanted) => {
            if servers.contains_key(key) {
                return Err(ApplyError::ServerExists(*key));
            }
            servers.insert(*key, VirtualServer { real_servers: Default::default(), ..wanted.clone() });
        }
        Request::SetService(key, wanted) => {
            let server = find(servers, key)?;
            let real_servers = std::mem::take(&mut server.real_servers);
            *server = VirtualServer { real_servers, ..wanted.clone() };
        }
        Request::DeleteService(key) => {
            servers.remove(key).ok_or(ApplyError::NoServer(*key))?;
        }
        Request::NewDestination(key, at, wanted) => {
            let server = find(servers, key)?;
            if server.real_servers.contains_key(at) {
                return Err(ApplyError::RealServerExists(*key, *at));
            }
            server.real_servers.insert(*at, RealServer { connections: Default::default(), ..*wanted });
        }
        Request::SetDestination(key, at, wanted) => {
            let found = find(servers, key)?.real_servers.get_mut(at);
            let real_server = found.ok_or(ApplyError::NoRealServer(*key, *at))?;
            *real_server = RealServer { connections: real_server.connections, ..*wanted };
        }
        Request::DeleteDestination(key, at) => {
            let found = find(servers, key)?.real_servers.remove(at);
            found.ok_or(ApplyError::NoRealServer(*key, *at))?;
        }
        Request::SetTimeouts(_) => {}
    }
    Ok(())
}

fn find<'a>(servers: &'a mut VirtualServers, key: &ServiceKey) -> Result<&'a mut VirtualServer, ApplyError> {
    servers.get_mut(key).ok_or(ApplyError::NoServer(*key))
}
