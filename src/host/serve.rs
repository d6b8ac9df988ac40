//! HTTP: listeners at addresses, and answers that somebody else knows. One thread serves all of them.
#![allow(clippy::disallowed_methods, reason = "host is the folder with IO")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::runtime::{Builder, Handle};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::error::HostError;
use crate::telemetry::{Answer, Site};

/// Who has not said by then what he wants is hung up on.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections at one address at the same time; more wait.
const MAX_CONNECTIONS: usize = 64;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// What is to answer where.
pub type Sites = BTreeMap<SocketAddr, Arc<dyn Site>>;

/// The listeners that are open.
#[derive(Debug)]
pub(super) struct Server {
    handle: Handle,
    open: BTreeMap<SocketAddr, Open>,
    /// The runtime lasts for as long as this.
    _running: tokio::sync::oneshot::Sender<()>,
}

#[derive(Debug)]
struct Open {
    /// What answers; whoever is being served has the old one.
    site: tokio::sync::watch::Sender<Arc<dyn Site>>,
    task: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Begins to serve, nothing yet.
    pub(super) fn start() -> Result<Server, HostError> {
        let failed = |error: io::Error| HostError::io("serve HTTP", &error);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (running, ended) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("serve".to_owned())
            .spawn(move || {
                // It ends when the server is dropped.
                let _ = runtime.block_on(ended);
            })
            .map_err(failed)?;
        Ok(Server { handle, open: BTreeMap::new(), _running: running })
    }

    /// Opens, changes and closes listeners until they are as wanted; which of them could not be opened, and why.
    pub(super) fn set(&mut self, wanted: &Sites) -> Vec<(SocketAddr, HostError)> {
        self.open.retain(|address, _| wanted.contains_key(address));
        let mut failed = Vec::new();
        for (address, site) in wanted {
            if let Some(open) = self.open.get(address) {
                open.site.send_replace(site.clone());
                continue;
            }
            match listen(*address) {
                Ok(listener) => {
                    let (sender, receiver) = tokio::sync::watch::channel(site.clone());
                    let task = self.handle.spawn(accept(listener, receiver)).abort_handle();
                    self.open.insert(*address, Open { site: sender, task });
                }
                Err(error) => failed.push((*address, HostError::io(format!("listen at {address}"), &error))),
            }
        }
        failed
    }
}

/// A listener. One for all IPv6 addresses leaves IPv4 to another.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

async fn accept(listener: TcpListener, site: tokio::sync::watch::Receiver<Arc<dyn Site>>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptors are left, or the client has gone again.
            tokio::time::sleep(PATIENCE).await;
            continue;
        };
        let site = site.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let site = site.borrow().clone();
                async move { Ok::<_, Infallible>(response(site.answer(request.uri().path(), now()))) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), answer)
                .await;
            if let Err(error) = served {
                tracing::debug!("a client of HTTP: {error}");
            }
            drop(permit);
        });
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    response.body(Full::new(Bytes::from(answer.body))).unwrap_or_else(|_| {
        let mut broken = Response::new(Full::new(Bytes::new()));
        *broken.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        broken
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};

    use super::*;

    #[derive(Debug)]
    struct Echo(&'static str);

    impl Site for Echo {
        fn answer(&self, path: &str, now: Duration) -> Answer {
            assert!(now > Duration::from_secs(1_700_000_000));
            let headers = vec![("X-Echo", path.to_owned())];
            Answer { status: 503, headers, body: self.0.to_owned() }
        }
    }

    fn ask(address: SocketAddr) -> io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET /a?b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Loopback addresses of both families, and of one family if there is but one, with a port that nobody has.
    fn addresses() -> Vec<SocketAddr> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let all = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        let has = |addr: &IpAddr| TcpListener::bind((*addr, 0)).is_ok();
        all.into_iter().filter(has).map(|addr| SocketAddr::new(addr, port)).collect()
    }

    #[test]
    fn answers_come_where_they_are_wanted_and_as_they_are_last() {
        let addresses = addresses();
        let site = |text| -> Sites {
            addresses.iter().map(|address| (*address, Arc::new(Echo(text)) as Arc<dyn Site>)).collect()
        };
        let mut server = Server::start().unwrap();
        assert_eq!(server.set(&site("one")), []);
        for text in ["one", "two"] {
            assert_eq!(server.set(&site(text)), []);
            for address in &addresses {
                let answer = ask(*address).unwrap();
                assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
                assert!(
                    answer.contains("x-echo: /a\r\n") && answer.ends_with(&format!("\r\n\r\n{text}")),
                    "{answer}"
                );
            }
        }
        let mut other = Server::start().unwrap();
        let refused = other.set(&site("three"));
        assert_eq!(refused.len(), addresses.len());
        assert!(refused[0].1.to_string().starts_with("cannot listen at 127.0.0.1:"), "{refused:?}");
        // What is closed is free at last, though not at once.
        server.set(&Sites::new());
        while !other.set(&site("three")).is_empty() {
            std::thread::yield_now();
        }
        assert!(ask(addresses[0]).unwrap().ends_with("three"));
    }
}
