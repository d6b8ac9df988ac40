//! Accepts TCP connections, and makes one to an endpoint for each: past those that refuse or do not answer.
//!
//! What a client has said already when it is accepted goes out with the last packet of the handshake with the endpoint.

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with, sockopt,
};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};

use super::counters::{Counting, Way};
use super::relay::{self, relay};
use super::state::{ListenerState, Shared};
use crate::net::AddrPort;

/// How long each attempt to reach an endpoint may take (reference section 5.7); further ones as long as the last.
const SCHEDULE: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// How long a client is kept waiting altogether.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much of what a client says at once goes out with the handshake. It is held while an endpoint is sought, so it is not
/// much: the head of a request.
const FIRST_WORDS: usize = 4096;
/// How long accepting rests when the machine has no more descriptors or memory.
const REST: Duration = Duration::from_millis(20);

/// Accepts connections until it is aborted. They live on.
pub(super) async fn accept(listener: std::net::TcpListener, state: Arc<ListenerState>, shared: Arc<Shared>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("{}: cannot accept: {error}", state.key),
    };
    loop {
        match listener.accept().await {
            Ok((client, peer)) => {
                let Some(place) = shared.cap.enter() else {
                    relay::reset(&client);
                    continue;
                };
                let (state, shared) = (Arc::clone(&state), Arc::clone(&shared));
                tokio::spawn(async move {
                    carry(client, peer, &state, &shared).await;
                    drop(place);
                });
            }
            Err(error) if is_exhaustion(&error) => {
                tracing::warn!("{}: cannot accept: {error}", state.key);
                tokio::time::sleep(REST).await;
            }
            // A connection that was gone before it was taken.
            Err(_) => {}
        }
    }
}

/// Whether the machine, not the other side, is why something failed.
fn is_exhaustion(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

async fn carry(client: TcpStream, peer: SocketAddr, state: &ListenerState, shared: &Shared) {
    let mut said = first_words(&client);
    let Some((endpoint, counting)) = dial(peer.ip().to_canonical(), &mut said, state, shared).await else {
        relay::reset(&client);
        return;
    };
    relay((client, said), endpoint, &counting, shared.tcp_idle, shared.max_pipes).await;
}

/// What a client that was just accepted has said already. Neither its end nor a break is taken note of: both stay to be
/// found.
fn first_words(client: &TcpStream) -> Vec<u8> {
    let mut words = [MaybeUninit::uninit(); FIRST_WORDS];
    // It may not be ready in the eyes of the event loop, which has not asked the kernel yet.
    match recv(client, &mut words, RecvFlags::DONTWAIT) {
        Ok(((words, _), _)) => words.to_vec(),
        Err(_) => Vec::new(),
    }
}

/// A connection to an endpoint, which is told what the client has `said`; what it does not take stays there. Every
/// endpoint is tried before the client is turned away.
async fn dial(
    client: IpAddr,
    said: &mut Vec<u8>,
    state: &ListenerState,
    shared: &Shared,
) -> Option<(TcpStream, Counting)> {
    let began = shared.now();
    let mut tried = BTreeSet::new();
    let mut attempt = 0;
    loop {
        let now = shared.now();
        let (n_targets, chosen) = state.choose(client, &tried, now);
        let Some((target, counters)) = chosen else {
            // All have been tried once: from the beginning, as often as kube-proxy would.
            if tried.is_empty() || attempt >= SCHEDULE.len() {
                state.counters.failed();
                return None;
            }
            tried.clear();
            continue;
        };
        let limit = SCHEDULE[attempt.min(SCHEDULE.len() - 1)];
        match tokio::time::timeout(limit, connect(target, said)).await {
            Ok(Ok((stream, n_told))) => {
                state.reached(target);
                let counting = Counting::of(&state.counters, &counters);
                counting.bytes(Way::ToEndpoint, said.len());
                said.drain(..n_told);
                return Some((stream, counting));
            }
            Ok(Err(error)) if is_local(&error) => {
                tracing::warn!("{}: cannot connect to {target}: {error}", state.key);
            }
            Ok(Err(_)) | Err(_) => {
                counters.failed();
                state.failed(target, shared.now());
            }
        }
        tried.insert(target);
        attempt += 1;
        let is_over = attempt >= SCHEDULE.len().max(n_targets);
        if is_over || shared.now().saturating_sub(began) > PATIENCE {
            state.counters.failed();
            return None;
        }
    }
}

/// Whether a connection failed before it left this machine: no fault of the endpoint.
fn is_local(error: &io::Error) -> bool {
    is_exhaustion(error) || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// A connection to an endpoint, and how much of what is to be `said` it has taken with the handshake.
async fn connect(target: AddrPort, said: &[u8]) -> io::Result<(TcpStream, usize)> {
    let family = match target.addr {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if !said.is_empty() {
        // What is said acknowledges the handshake: a packet for that alone need not go first.
        sockopt::set_tcp_quickack(&socket, false)?;
    }
    match rustix::net::connect(&socket, &SocketAddr::new(target.addr, target.port)) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from_std(std::net::TcpStream::from(socket))?;
    loop {
        stream.writable().await?;
        if said.is_empty() {
            return match stream.take_error()? {
                Some(error) => Err(error),
                None => Ok((stream, 0)),
            };
        }
        // Sending tells whether it was refused.
        match stream.try_io(Interest::WRITABLE, || Ok(send(&stream, said, SendFlags::NOSIGNAL)?)) {
            Ok(n_told) => return Ok((stream, n_told)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
