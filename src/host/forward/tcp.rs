//! Accepts TCP connections, and makes one to an endpoint for each: past those that refuse or do not answer.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::counters::Counting;
use super::relay::{self, relay};
use super::state::{ListenerState, Shared};
use crate::net::AddrPort;

/// How long each attempt to reach an endpoint may take (reference section 5.7); further ones as long as the last.
const SCHEDULE: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// How long a client is kept waiting altogether.
const PATIENCE: Duration = Duration::from_secs(20);
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
    let Some((endpoint, counting)) = dial(peer.ip().to_canonical(), state, shared).await else {
        relay::reset(&client);
        return;
    };
    relay(client, endpoint, &counting, shared.tcp_idle, shared.max_pipes).await;
}

/// A connection to an endpoint. Every one is tried before the client is turned away.
async fn dial(client: IpAddr, state: &ListenerState, shared: &Shared) -> Option<(TcpStream, Counting)> {
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
        match tokio::time::timeout(limit, connect(target)).await {
            Ok(Ok(stream)) => {
                state.reached(target);
                return Some((stream, Counting::of(&state.counters, &counters)));
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

async fn connect(target: AddrPort) -> io::Result<TcpStream> {
    let socket = match target.addr {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_nodelay(true)?;
    socket.connect(SocketAddr::new(target.addr, target.port)).await
}
