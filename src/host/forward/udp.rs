//! Carries UDP: a flow is a client address and port with an endpoint of its own, forgotten when nothing has come for a
//! while.
//!
//! A flow whose endpoint says that nobody is there goes to another one, with its first datagram if that is all there has
//! been. Endpoints that say nothing cannot be told from such as have nothing to say.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use super::counters::{Counters, Counting, Way};
use super::datagram::{self, Local, Received};
use super::limit::Place;
use super::state::{ListenerState, Shared};
use crate::net::AddrPort;

/// No datagram is larger.
const LARGEST: usize = 65_536;
/// The longest first datagram that is kept in case it must go elsewhere.
const KEPT: usize = 4096;
/// Into how many parts the idle limit is divided: it is kept up to one of them.
const IDLE_PARTS: u32 = 4;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; LARGEST]);
}

/// What a worker knows of one listener.
struct Exchange {
    /// Datagrams of clients come in and replies go out here.
    socket: UdpSocket,
    state: Arc<ListenerState>,
    shared: Arc<Shared>,
    flows: Mutex<BTreeMap<SocketAddr, (Arc<Flow>, AbortHandle)>>,
}

/// A client's flow to an endpoint.
struct Flow {
    /// Connected to the endpoint.
    socket: UdpSocket,
    client: SocketAddr,
    /// The address of the node that the client sends to.
    local: Option<Local>,
    target: AddrPort,
    of_target: Arc<Counters>,
    /// Targets that said that nobody is there.
    refused_by: BTreeSet<AddrPort>,
    counting: Counting,
    is_active: AtomicBool,
    /// The first datagram, until an answer comes.
    first: Mutex<Option<Vec<u8>>>,
    _place: Place,
}

impl Flow {
    fn first(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries datagrams until it is aborted; then all flows of the listener end.
pub(super) async fn carry(socket: std::net::UdpSocket, state: Arc<ListenerState>, shared: Arc<Shared>) {
    let socket = match UdpSocket::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!("{}: cannot receive: {error}", state.key),
    };
    let exchange = Closing(Arc::new(Exchange { socket, state, shared, flows: Mutex::default() }));
    let exchange = &exchange.0;
    loop {
        // What fails here fails again below, and is told there.
        let _ = exchange.socket.readable().await;
        let arrived = exchange.socket.try_io(Interest::READABLE, || {
            SCRATCH.with_borrow_mut(|buffer| {
                let received = datagram::receive(&exchange.socket, buffer)?;
                exchange.deliver(&received, &buffer[..received.length]);
                Ok(())
            })
        });
        match arrived {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // An ICMP error about an answer that a client did not wait for, or one datagram that could not be read.
            Err(error) => tracing::debug!("{}: {error}", exchange.state.key),
        }
        tokio::task::consume_budget().await;
    }
}

/// Ends the flows of a listener that is closed.
struct Closing(Arc<Exchange>);

impl Drop for Closing {
    fn drop(&mut self) {
        for (_, task) in self.0.flows().values() {
            task.abort();
        }
    }
}

impl Exchange {
    fn flows(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, (Arc<Flow>, AbortHandle)>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a client's datagram on. One that cannot be sent is lost, as datagrams are.
    fn deliver(self: &Arc<Exchange>, received: &Received, bytes: &[u8]) {
        let flow = self.flows().get(&received.from).map(|(flow, _)| Arc::clone(flow));
        let Some(flow) = flow else {
            return self.open(received.from, received.to, bytes, BTreeSet::new());
        };
        match rustix::net::send(&flow.socket, bytes, SendFlags::DONTWAIT) {
            Ok(n) => {
                flow.is_active.store(true, Ordering::Relaxed);
                flow.counting.bytes(Way::ToEndpoint, n);
            }
            // What came back for an earlier one.
            Err(rustix::io::Errno::CONNREFUSED) => {
                let refused_by = self.refused(&flow);
                self.open(received.from, received.to, bytes, refused_by);
            }
            Err(_) => {}
        }
    }

    /// Opens a flow to an endpoint with its first datagram. Tries them all before it gives up.
    fn open(
        self: &Arc<Exchange>,
        client: SocketAddr,
        local: Option<Local>,
        bytes: &[u8],
        mut refused_by: BTreeSet<AddrPort>,
    ) {
        let Some(place) = self.shared.cap.enter() else { return };
        loop {
            let now = self.shared.now();
            let (_, chosen) = self.state.choose(client.ip().to_canonical(), &refused_by, now);
            let Some((target, of_target)) = chosen else {
                self.state.counters.failed();
                return;
            };
            let sent =
                dial(target).and_then(|socket| Ok((socket.send(bytes)?, UdpSocket::from_std(socket)?)));
            let (n, socket) = match sent {
                Ok(sent) => sent,
                Err(error) => {
                    tracing::debug!("{}: cannot send to {target}: {error}", self.state.key);
                    refused_by.insert(target);
                    continue;
                }
            };
            let counting = Counting::of(&self.state.counters, &of_target);
            counting.bytes(Way::ToEndpoint, n);
            let flow = Arc::new(Flow {
                socket,
                client,
                local,
                target,
                of_target,
                refused_by,
                counting,
                is_active: AtomicBool::new(true),
                first: Mutex::new((bytes.len() <= KEPT).then(|| bytes.to_vec())),
                _place: place,
            });
            // Before the task can look for it.
            let mut flows = self.flows();
            let task = tokio::spawn(answer(Arc::clone(self), Arc::clone(&flow)));
            flows.insert(client, (flow, task.abort_handle()));
            return;
        }
    }

    /// Sets the endpoint of a flow aside and forgets the flow; all that have refused it.
    fn refused(&self, flow: &Arc<Flow>) -> BTreeSet<AddrPort> {
        flow.of_target.failed();
        self.state.failed(flow.target, self.shared.now());
        self.forget(flow);
        let mut refused_by = flow.refused_by.clone();
        refused_by.insert(flow.target);
        refused_by
    }

    /// Forgets a flow, unless its client has another one by now.
    fn forget(&self, flow: &Arc<Flow>) {
        let mut flows = self.flows();
        if flows.get(&flow.client).is_some_and(|(its, _)| Arc::ptr_eq(its, flow)) {
            flows.remove(&flow.client);
        }
    }
}

fn dial(target: AddrPort) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind((target.family().unspecified(), 0))?;
    socket.set_nonblocking(true)?;
    socket.connect((target.addr, target.port))?;
    Ok(socket)
}

/// Sends what the endpoint of a flow answers to its client, until nothing has come either way for long enough.
async fn answer(exchange: Arc<Exchange>, flow: Arc<Flow>) {
    let limit = exchange.shared.udp_idle;
    let part = limit / IDLE_PARTS;
    let mut quiet = Duration::ZERO;
    while quiet < limit {
        // A refusal is nothing to read: it waits as an error.
        let interest = Interest::READABLE | Interest::ERROR;
        let Ok(ready) = tokio::time::timeout(part, flow.socket.ready(interest)).await else {
            quiet = if flow.is_active.swap(false, Ordering::Relaxed) { Duration::ZERO } else { quiet + part };
            continue;
        };
        // Either is asked for alone. What fails here fails again below.
        let is_error = ready.is_ok_and(|ready| ready.is_error());
        let interest = if is_error { Interest::ERROR } else { Interest::READABLE };
        let answered = flow.socket.try_io(interest, || {
            SCRATCH.with_borrow_mut(|buffer| {
                let (n, _) = rustix::net::recv(&flow.socket, &mut buffer[..], RecvFlags::DONTWAIT)?;
                // A client that has gone does not want it.
                let _ = datagram::send(&exchange.socket, &buffer[..n], flow.client, flow.local);
                Ok(n)
            })
        });
        match answered {
            Ok(n) => {
                quiet = Duration::ZERO;
                flow.counting.bytes(Way::ToClient, n);
                if flow.first().take().is_some() {
                    exchange.state.reached(flow.target);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                let refused_by = exchange.refused(&flow);
                if let Some(first) = flow.first().take() {
                    exchange.open(flow.client, flow.local, &first, refused_by);
                }
                return;
            }
            Err(_) => {}
        }
    }
    exchange.forget(&flow);
}
