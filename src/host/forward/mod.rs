//! The data path of userspace mode: accepts what rules send to proxy ports and carries it to endpoints.
//!
//! One thread for each core, each with an event loop and a socket of its own for every listener, between which the kernel
//! divides connections and flows: no connection ever changes its thread, and nothing waits in a queue but in the kernel's.
//! Beside HAProxy (`benches/forward.rs`, two cores) that made 1.16 times as many new connections; one socket that the threads
//! share made 1.10 times as many, one event loop on several threads 1.02.
//! `tcp` and `udp` carry, `relay` and `pipe` move bytes, `state` has what the threads share, `limit` how much there may be,
//! `control` tells about it.
#![allow(clippy::disallowed_methods, reason = "host is the folder with IO")]

mod control;
mod counters;
mod datagram;
mod limit;
mod listen;
mod pipe;
mod relay;
mod state;
mod tcp;
mod udp;

pub(super) use control::ask;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::error::{HostError, HostErrorKind};
use crate::program::listener::diff::{ListenerChange, diff};
use crate::program::listener::{ListenerKey, Listeners, Status};
use limit::Cap;
use listen::Sockets;
use relay::IdleLimits;
use state::{ListenerState, Shared};

/// More threads than this would only cost descriptors: each has a socket for every listener.
const MAX_WORKERS: usize = 8;
/// How often is looked whether all connections have ended.
const DRAIN_STEP: Duration = Duration::from_millis(20);

/// How connections are carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardOptions {
    /// How many connections and flows there may be at once; `None` is as many as there are descriptors for.
    pub max_connections: Option<usize>,
    /// After how long without a byte a TCP connection is cut.
    pub tcp_idle: Duration,
    /// The same when one side has ended its direction.
    pub tcp_half_closed_idle: Duration,
    /// After how long without a datagram a UDP flow is forgotten.
    pub udp_idle: Duration,
}

/// A thread with an event loop.
struct Worker {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(nth: usize) -> io::Result<Worker> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("forward-{nth}")).spawn(move || {
            // Whoever sends or drops the other end wants this one to end.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Worker { handle, stop: Some(stop), thread: Some(thread) })
    }
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarder").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has ended, too.
            let _ = thread.join();
        }
    }
}

/// An open listener.
#[derive(Debug)]
struct Open {
    state: Arc<ListenerState>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// What the control socket tells from.
#[derive(Debug)]
struct Told {
    shared: Arc<Shared>,
    states: Mutex<Vec<Arc<ListenerState>>>,
    draining: AtomicBool,
}

/// A running data path. Dropping it cuts all connections.
pub(super) struct Forwarder {
    // Before the workers: it is of no use without them.
    _control: Option<control::Control>,
    shared: Arc<Shared>,
    told: Arc<Told>,
    open: BTreeMap<ListenerKey, Open>,
    wanted: Listeners,
    workers: Vec<Worker>,
}

/// Why listeners are not as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardError {
    /// These ports are somebody else's; the other listeners are as wanted.
    PortsInUse(Vec<ListenerKey>),
    /// Something else.
    Host(HostError),
}

impl Forwarder {
    /// Starts threads in the network namespace of the calling one, without listeners. They answer questions at `socket`.
    pub(super) fn start(options: &ForwardOptions, socket: Option<&Path>) -> Result<Forwarder, HostError> {
        let failed = |error: io::Error| HostError::io("start to carry connections", &error);
        let descriptors = limit::raise_descriptors();
        let room = limit::connections_within(descriptors);
        let max = options.max_connections.unwrap_or(room);
        if max > room {
            tracing::warn!(
                "{max} connections may need more than the {descriptors} file descriptors there are"
            );
        }
        let shared = Arc::new(Shared {
            started: Instant::now(),
            cap: Arc::new(Cap::new(max)),
            max_pipes: limit::pipes_within(descriptors),
            tcp_idle: IdleLimits { open: options.tcp_idle, half_closed: options.tcp_half_closed_idle },
            udp_idle: options.udp_idle,
        });
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers =
            (0..cores.min(MAX_WORKERS)).map(Worker::start).collect::<io::Result<_>>().map_err(failed)?;
        let told = Arc::new(Told {
            shared: Arc::clone(&shared),
            states: Mutex::default(),
            draining: AtomicBool::new(false),
        });
        let control = match socket {
            Some(path) => Some(control::Control::start(path, Arc::clone(&told))?),
            None => None,
        };
        let (open, wanted) = (BTreeMap::new(), Listeners::new());
        Ok(Forwarder { _control: control, shared, told, open, wanted, workers })
    }

    /// Opens, changes and closes listeners until they are as wanted. Connections stay.
    pub(super) fn set(&mut self, wanted: &Listeners) -> Result<(), ForwardError> {
        let mut in_use = Vec::new();
        for (key, change) in diff(wanted, &self.wanted) {
            match (change, wanted.get(&key)) {
                (ListenerChange::Close, _) | (_, None) => {
                    self.close(&key);
                    self.wanted.remove(&key);
                }
                (ListenerChange::Open, Some(listener)) => {
                    match listen::open(&key, self.workers.len()) {
                        Ok(sockets) => self.serve(key, sockets),
                        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                            in_use.push(key);
                            continue;
                        }
                        Err(error) => {
                            let error = HostError::io(format!("listen on {key}"), &error);
                            return Err(ForwardError::Host(error));
                        }
                    }
                    self.wanted.insert(key, listener.clone());
                }
                (ListenerChange::Change, Some(listener)) => {
                    self.wanted.insert(key, listener.clone());
                }
            }
        }
        // A label may have changed where nothing else has.
        for (key, open) in &self.open {
            if let Some(listener) = wanted.get(key) {
                open.state.set(listener);
            }
        }
        let states = self.open.values().map(|open| Arc::clone(&open.state)).collect();
        *self.told.states.lock().unwrap_or_else(PoisonError::into_inner) = states;
        if in_use.is_empty() { Ok(()) } else { Err(ForwardError::PortsInUse(in_use)) }
    }

    /// Has open listeners lead elsewhere, whatever the others do.
    pub(super) fn retarget(&mut self, listeners: &Listeners) -> Result<(), HostError> {
        if let Some(key) = listeners.keys().find(|key| !self.open.contains_key(key)) {
            let action = format!("lead {key} elsewhere");
            return Err(HostError::new(action, HostErrorKind::NotFound, "it is not open"));
        }
        for (key, listener) in listeners {
            if let Some(open) = self.open.get(key) {
                open.state.set(listener);
                self.wanted.insert(*key, listener.clone());
            }
        }
        Ok(())
    }

    fn serve(&mut self, key: ListenerKey, sockets: Sockets) {
        // Hosts that all began with the first endpoint would fall upon it together.
        let start = usize::from(key.at.port) ^ usize::try_from(std::process::id()).unwrap_or_default();
        let state = Arc::new(ListenerState::new(key, start));
        let spawn_on = |worker: &Worker, task: Task| match task {
            Task::Tcp(socket) => {
                worker.handle.spawn(tcp::accept(socket, Arc::clone(&state), Arc::clone(&self.shared)))
            }
            Task::Udp(socket) => {
                worker.handle.spawn(udp::carry(socket, Arc::clone(&state), Arc::clone(&self.shared)))
            }
        };
        let tasks: Vec<Task> = match sockets {
            Sockets::Tcp(sockets) => sockets.into_iter().map(Task::Tcp).collect(),
            Sockets::Udp(sockets) => sockets.into_iter().map(Task::Udp).collect(),
        };
        let tasks = self.workers.iter().zip(tasks).map(|(worker, task)| spawn_on(worker, task)).collect();
        self.open.insert(key, Open { state, tasks });
    }

    fn close(&mut self, key: &ListenerKey) {
        let Some(open) = self.open.remove(key) else { return };
        for task in &open.tasks {
            task.abort();
        }
        for (task, worker) in open.tasks.into_iter().zip(&self.workers) {
            // Its socket is closed when it has ended: the port is free then.
            let _ = worker.handle.block_on(task);
        }
    }

    /// How many connections and flows there are.
    pub(super) fn n_connections(&self) -> usize {
        self.shared.cap.open()
    }

    /// Closes all listeners and waits until the connections have ended, up to a limit, or until `is_urged`. How many are
    /// left.
    pub(super) fn drain(&mut self, limit: Duration, mut is_urged: impl FnMut() -> bool) -> usize {
        self.told.draining.store(true, Ordering::Relaxed);
        for key in self.open.keys().copied().collect::<Vec<_>>() {
            self.close(&key);
        }
        let deadline = Instant::now() + limit;
        while self.n_connections() > 0 && Instant::now() < deadline && !is_urged() {
            std::thread::sleep(DRAIN_STEP);
        }
        self.n_connections()
    }
}

/// A socket for a worker.
enum Task {
    Tcp(std::net::TcpListener),
    Udp(std::net::UdpSocket),
}

impl Told {
    fn status(&self) -> Status {
        let now = self.shared.now();
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Status {
            process: std::process::id(),
            seconds: now.as_secs(),
            current: self.shared.cap.open() as u64,
            max: self.shared.cap.max() as u64,
            turned_away: self.shared.cap.turned_away(),
            draining: self.draining.load(Ordering::Relaxed),
            listeners: states.iter().map(|state| state.status(now)).collect(),
        }
    }
}

/// No `svcproxy run` is there to be asked.
fn nobody(path: &Path) -> HostError {
    let detail = "no `svcproxy run` answers there";
    HostError::new(format!("ask at `{}`", path.display()), HostErrorKind::NotFound, detail)
}
