//! IPVS in the kernel (generic netlink): its version, its virtual servers, changes to them, and why it refuses one.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use rustix::io::Errno;

use super::error::{HostError, HostErrorKind};
use super::genl::Genl;
use super::netlink::is;
use super::tool;
use crate::net::AddrPort;
use crate::program::ipvs::wire::{self, WireError};
use crate::program::ipvs::{RealServer, Request, ServiceKey, Timeouts, VirtualServer, VirtualServers};

/// The module, and how long loading it with its like may take.
const MODULE: &str = "ip_vs";
const MODPROBE: &str = "modprobe";
const MODPROBE_LIMIT: Duration = Duration::from_secs(60);

/// IPVS of the calling thread's network namespace.
#[derive(Debug, Default)]
pub(super) struct Ipvs {
    /// Whether loading the module was tried.
    is_asked_for: bool,
}

impl Ipvs {
    /// The version; `None` if the kernel has no IPVS.
    pub(super) fn version(&mut self) -> Result<Option<(u8, u8, u8)>, HostError> {
        let action = "ask for the version of IPVS";
        let Some(mut genl) = self.open(action)? else { return Ok(None) };
        let body = answer(&mut genl, &wire::get_info(), action)?;
        let version = wire::version(&body).map(|[major, minor, patch]| Some((major, minor, patch)));
        version.map_err(|error| unreadable(action, &error))
    }

    /// All virtual servers with their real servers.
    pub(super) fn read(&mut self) -> Result<VirtualServers, HostError> {
        let action = "read virtual servers";
        let mut genl = self.need(action)?;
        let mut servers = VirtualServers::new();
        // One list after the other: the kernel has one of a socket under way, and works on it only while it is asked.
        let wire::Message { command, body } = wire::get_services();
        for body in genl.dump(command, &body).map_err(|error| failed(action, &error))? {
            let (key, mut server) = match wire::service(&body) {
                Ok(service) => service,
                // None that Services get, and no reason to see nothing of those.
                Err(error) => {
                    tracing::warn!("a virtual server of others is passed over: {error}");
                    continue;
                }
            };
            server.real_servers = real_servers(&mut genl, &key, action)?;
            servers.insert(key, server);
        }
        Ok(servers)
    }

    /// Those of these virtual servers that are there, with their real servers.
    pub(super) fn read_some(&mut self, keys: &[ServiceKey]) -> Result<VirtualServers, HostError> {
        let action = "read virtual servers";
        let mut genl = self.need(action)?;
        let mut servers = VirtualServers::new();
        for key in keys {
            for body in find(&mut genl, key, action)?.into_iter().flatten() {
                let (key, mut server) = wire::service(&body).map_err(|error| unreadable(action, &error))?;
                server.real_servers = real_servers(&mut genl, &key, action)?;
                servers.insert(key, server);
            }
        }
        Ok(servers)
    }

    /// Whether there is a virtual server.
    pub(super) fn has(&mut self, key: &ServiceKey) -> Result<bool, HostError> {
        let action = "look for a virtual server";
        Ok(find(&mut self.need(action)?, key, action)?.is_some())
    }

    /// Takes requests in their order; the index of the first that was refused.
    pub(super) fn change(&mut self, requests: &[Request]) -> Result<(), (usize, HostError)> {
        let mut genl = self.need("change virtual servers").map_err(|error| (0, error))?;
        let messages = requests.iter().map(wire::encode).map(|message| (message.command, message.body));
        genl.change_all(messages).map_err(|(index, error)| {
            let refused = requests.get(index).map(|request| refusal(request, &error));
            (index, refused.unwrap_or_else(|| failed("change virtual servers", &error)))
        })
    }

    /// For how long connections are remembered.
    pub(super) fn timeouts(&mut self) -> Result<Timeouts, HostError> {
        let action = "read the timeouts of IPVS";
        let mut genl = self.need(action)?;
        let body = answer(&mut genl, &wire::get_timeouts(), action)?;
        wire::timeouts(&body).map_err(|error| unreadable(action, &error))
    }

    fn need(&mut self, action: &str) -> Result<Genl, HostError> {
        let missing = || HostError::new(action, HostErrorKind::Unsupported, NONE);
        self.open(action)?.ok_or_else(missing)
    }

    /// The kernel's IPVS. If it has none, the module is loaded, once.
    fn open(&mut self, action: &str) -> Result<Option<Genl>, HostError> {
        let open = || Genl::open(wire::FAMILY, wire::VERSION).map_err(|error| HostError::io(action, &error));
        match open()? {
            None if !std::mem::replace(&mut self.is_asked_for, true) => {
                load_module();
                open()
            }
            found => Ok(found),
        }
    }
}

const NONE: &str = "this kernel has no IPVS (module `ip_vs`)";

/// What comes of it shows when the family is asked for again.
fn load_module() {
    let Some(program) = tool::find(MODPROBE) else { return };
    match tool::run(&program, &[MODULE], b"", MODPROBE_LIMIT) {
        Ok(done) if done.status.success() => tracing::info!("loaded the module {MODULE}"),
        Ok(done) => tracing::info!("cannot load the module {MODULE}: {}", done.stderr.trim()),
        Err(error) => tracing::info!("{error}"),
    }
}

/// What the kernel tells of a virtual server; `None` if there is none.
fn find(genl: &mut Genl, key: &ServiceKey, action: &str) -> Result<Option<Vec<Vec<u8>>>, HostError> {
    let wire::Message { command, body } = wire::get_service(key);
    match genl.ask(command, &body) {
        Ok(told) => Ok(Some(told)),
        Err(error) if is(&error, Errno::SRCH) => Ok(None),
        Err(error) => Err(failed(action, &error)),
    }
}

fn real_servers(
    genl: &mut Genl,
    key: &ServiceKey,
    action: &str,
) -> Result<BTreeMap<AddrPort, RealServer>, HostError> {
    let wire::Message { command, body } = wire::get_destinations(key);
    let bodies = genl.dump(command, &body).map_err(|error| failed(action, &error))?;
    let read = |body: Vec<u8>| wire::destination(&body, key.family());
    bodies.into_iter().map(read).collect::<Result<_, _>>().map_err(|error| unreadable(action, &error))
}

fn answer(genl: &mut Genl, asked: &wire::Message, action: &str) -> Result<Vec<u8>, HostError> {
    let answers = genl.ask(asked.command, &asked.body).map_err(|error| failed(action, &error))?;
    let none = || HostError::new(action, HostErrorKind::Other, "the kernel gave no answer");
    answers.into_iter().next().ok_or_else(none)
}

fn failed(action: &str, error: &io::Error) -> HostError {
    let mut failed = HostError::io(action, error);
    if is(error, Errno::PERM) {
        failed.detail.push_str(", IPVS needs CAP_NET_ADMIN");
    }
    failed
}

fn unreadable(action: &str, error: &WireError) -> HostError {
    HostError::new(action, HostErrorKind::Other, format!("the kernel sent what is not understood: {error}"))
}

/// What the kernel means with the number of an error depends on what it was asked.
fn refusal(request: &Request, error: &io::Error) -> HostError {
    use HostErrorKind::{Exists, NotFound, Unsupported};
    let action = action(request);
    let not_there = |words: &str| HostError::new(&action, NotFound, words);
    let is_there = |words: &str| HostError::new(&action, Exists, words);
    match request {
        _ if is(error, Errno::SRCH) => not_there("there is no such virtual server"),
        Request::NewService(_, server) | Request::SetService(_, server) if is(error, Errno::NOENT) => {
            HostError::new(&action, Unsupported, missing_module(server))
        }
        Request::NewService(..) if is(error, Errno::EXIST) => {
            is_there("there is such a virtual server already")
        }
        Request::NewDestination(..) if is(error, Errno::EXIST) => is_there("it is there already"),
        Request::SetDestination(..) | Request::DeleteDestination(..) if is(error, Errno::NOENT) => {
            not_there("there is no such real server")
        }
        Request::NewService(..)
        | Request::SetService(..)
        | Request::DeleteService(_)
        | Request::NewDestination(..)
        | Request::SetDestination(..)
        | Request::DeleteDestination(..)
        | Request::SetTimeouts(_) => failed(&action, error),
    }
}

fn missing_module(server: &VirtualServer) -> String {
    let scheduler = &server.scheduler;
    let missing = format!("the kernel has no IPVS scheduler `{scheduler}` (module `ip_vs_{scheduler}`)");
    match &server.engine {
        None => missing,
        Some(engine) => {
            format!("{missing}, or no persistence engine `{engine}` (module `ip_vs_pe_{engine}`)")
        }
    }
}

fn action(request: &Request) -> String {
    match request {
        Request::NewService(key, _) => format!("add the virtual server {key}"),
        Request::SetService(key, _) => format!("change the virtual server {key}"),
        Request::DeleteService(key) => format!("delete the virtual server {key}"),
        Request::NewDestination(key, at, _) => format!("add the real server {at} to {key}"),
        Request::SetDestination(key, at, _) => format!("change the real server {at} of {key}"),
        Request::DeleteDestination(key, at) => format!("delete the real server {at} of {key}"),
        Request::SetTimeouts(_) => "set the timeouts of IPVS".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Protocol;
    use crate::program::ipvs::{Flags, RealServer, SchedulerName, ServiceKey};

    #[test]
    fn says_what_the_kernel_means() {
        let at = "10.96.0.20:80".parse().unwrap();
        let key = ServiceKey::Address { protocol: Protocol::Tcp, at };
        let to = "[fd00::1]:8080".parse().unwrap();
        let name = |name: &str| SchedulerName::new(name).unwrap();
        let server = |engine: Option<&str>| VirtualServer {
            scheduler: name("mh"),
            flags: Flags::default(),
            persistence_seconds: 0,
            netmask: 32,
            engine: engine.map(name),
            real_servers: Default::default(),
            counters: None,
            tag: None,
        };
        let real_server = RealServer::masqueraded(1);
        for (request, errno, words) in [
            (
                Request::NewService(key, server(None)),
                Errno::NOENT,
                "cannot add the virtual server 10.96.0.20:80/TCP: the kernel has no IPVS scheduler `mh` (module `ip_vs_mh`)",
            ),
            (
                Request::SetService(key, server(Some("sip"))),
                Errno::NOENT,
                "cannot change the virtual server 10.96.0.20:80/TCP: the kernel has no IPVS scheduler `mh` \
                 (module `ip_vs_mh`), or no persistence engine `sip` (module `ip_vs_pe_sip`)",
            ),
            (
                Request::NewService(key, server(None)),
                Errno::EXIST,
                "cannot add the virtual server 10.96.0.20:80/TCP: there is such a virtual server already",
            ),
            (
                Request::DeleteService(key),
                Errno::SRCH,
                "cannot delete the virtual server 10.96.0.20:80/TCP: there is no such virtual server",
            ),
            (
                Request::NewDestination(key, to, real_server),
                Errno::EXIST,
                "cannot add the real server [fd00::1]:8080 to 10.96.0.20:80/TCP: it is there already",
            ),
            (
                Request::SetDestination(key, to, real_server),
                Errno::NOENT,
                "cannot change the real server [fd00::1]:8080 of 10.96.0.20:80/TCP: there is no such real server",
            ),
            (
                Request::DeleteDestination(key, to),
                Errno::INVAL,
                "cannot delete the real server [fd00::1]:8080 of 10.96.0.20:80/TCP: Invalid argument",
            ),
            (
                Request::SetTimeouts(Timeouts::default()),
                Errno::PERM,
                "cannot set the timeouts of IPVS: Operation not permitted, IPVS needs CAP_NET_ADMIN",
            ),
        ] {
            assert_eq!(refusal(&request, &errno.into()).to_string(), words);
        }
    }
}
